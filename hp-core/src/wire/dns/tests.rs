//! Answers, as bytes: written by hand, so that no mistake of the codec is in both.

use super::*;

const ID: u16 = 0x1234;

fn question(name: &str, kind: Kind) -> Question {
    Question {
        id: ID,
        name: Name::parse(name).unwrap(),
        kind,
    }
}

/// A name without compression.
fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1u16.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const RESPONSE: u16 = 0x8180;

fn message(flags: u16, asked: (&str, u16), answers: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = u16::try_from(answers.len()).unwrap();
    for number in [ID, flags, 1, count, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(wire(asked.0));
    bytes.extend(asked.1.to_be_bytes());
    bytes.extend(1u16.to_be_bytes());
    answers.iter().for_each(|answer| bytes.extend(answer));
    bytes
}

fn check(bytes: &[u8], name: &str, kind: Kind) -> Result<Reply, NotAnAnswer> {
    read(bytes, &question(name, kind))
}

fn v4(ttl: u64, addrs: &[[u8; 4]]) -> Result<Reply, NotAnAnswer> {
    Ok(Reply::Found(Found {
        records: Records::V4(addrs.iter().map(|addr| Ipv4Addr::from(*addr)).collect()),
        ttl: Duration::from_secs(ttl),
    }))
}

#[test]
fn a_question_is_written_as_the_rfc_says() {
    let bytes = question("Web.Example.Test.", Kind::Aaaa).to_bytes();
    let mut expected = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    expected.extend(b"\x03web\x07example\x04test\x00\x00\x1c\x00\x01");
    assert_eq!(bytes, expected);
}

#[test]
fn names_that_no_host_can_have_are_refused() {
    let long = format!("{}test", "a.".repeat(125)); // 254 bytes.
    let label = "a".repeat(64);
    for text in [
        "",
        ".",
        "a..b",
        ".a",
        "-a.test",
        "a-.test",
        "a b.test",
        "ä.test",
        "127.0.0.1",
        "a.1",
        "1",
        &long,
        &label,
    ] {
        assert_eq!(Name::parse(text), Err(BadName), "{text:?}");
    }
    for text in [
        "a",
        "A.test.",
        "_http._tcp.a.test",
        "1.a",
        "xn--4ca.test",
        long[1..].trim_start_matches('.'),
    ] {
        assert!(Name::parse(text).is_ok(), "{text:?}");
    }
}

#[test]
fn addresses_are_found_sorted_and_once() {
    let name = wire("a.test");
    let answers =
        [[3, 3, 3, 3], [1, 1, 1, 1], [3, 3, 3, 3]].map(|addr| record(&name, A, 60, &addr));
    let bytes = message(RESPONSE, ("A.TEST", A), &answers);
    assert_eq!(check(&bytes, "a.test", Kind::A), v4(60, &[[1; 4], [3; 4]]));
}

#[test]
fn a_message_cut_anywhere_is_no_answer() {
    let answers = [record(&wire("a.test"), A, 60, &[1; 4])];
    let bytes = message(RESPONSE, ("a.test", A), &answers);
    assert!(check(&bytes, "a.test", Kind::A).is_ok());
    for end in 0..bytes.len() {
        assert!(check(&bytes[..end], "a.test", Kind::A).is_err(), "{end}");
    }
}

#[test]
fn answers_to_other_questions_are_foreign() {
    let good = message(
        RESPONSE,
        ("a.test", A),
        &[record(&wire("a.test"), A, 60, &[1; 4])],
    );
    let mut other_id = good.clone();
    other_id[1] ^= 1;
    let mut query = good.clone();
    query[2] &= 0x7F;
    for (bytes, name, kind) in [
        (&other_id, "a.test", Kind::A),
        (&query, "a.test", Kind::A),
        (&good, "b.test", Kind::A),
        (&good, "a.test", Kind::Aaaa),
    ] {
        assert_eq!(
            check(bytes, name, kind),
            Err(NotAnAnswer::Foreign),
            "{name} {kind:?}"
        );
    }
    assert_eq!(check(&good, "a.test", Kind::A), v4(60, &[[1; 4]]));
}

#[test]
fn records_of_other_names_are_not_believed() {
    let answers = [
        record(&wire("bank.test"), A, 60, &[6; 4]),
        record(&wire("a.test"), A, 60, &[1; 4]),
        record(&wire("a.test"), AAAA, 60, &[2; 16]),
    ];
    let bytes = message(RESPONSE, ("a.test", A), &answers);
    assert_eq!(check(&bytes, "a.test", Kind::A), v4(60, &[[1; 4]]));
}

#[test]
fn aliases_are_followed_in_any_order_and_the_shortest_time_holds() {
    let answers = [
        record(&wire("c.test"), A, 60, &[1; 4]),
        record(&wire("b.test"), CNAME, 7, &wire("c.test")),
        record(&wire("a.test"), CNAME, 30, &wire("b.test")),
    ];
    let bytes = message(RESPONSE, ("a.test", A), &answers);
    assert_eq!(check(&bytes, "a.test", Kind::A), v4(7, &[[1; 4]]));
}

#[test]
fn aliases_that_lead_nowhere_are_broken_or_nothing() {
    let round = [
        record(&wire("a.test"), CNAME, 30, &wire("b.test")),
        record(&wire("b.test"), CNAME, 30, &wire("a.test")),
    ];
    let bytes = message(RESPONSE, ("a.test", A), &round);
    assert_eq!(check(&bytes, "a.test", Kind::A), Err(NotAnAnswer::Broken));
    let chain = |length: u32| {
        let alias = |number: u32| {
            let (from, to) = (format!("n{number}.test"), format!("n{}.test", number + 1));
            record(&wire(&from), CNAME, 30, &wire(&to))
        };
        let mut answers: Vec<Vec<u8>> = (0..length).map(alias).collect();
        answers.push(record(&wire(&format!("n{length}.test")), A, 30, &[1; 4]));
        let bytes = message(RESPONSE, ("n0.test", A), &answers);
        check(&bytes, "n0.test", Kind::A)
    };
    assert_eq!(chain(ALIASES_MAX), v4(30, &[[1; 4]]));
    assert_eq!(chain(ALIASES_MAX + 1), Err(NotAnAnswer::Broken));
    let loose = [record(&wire("a.test"), CNAME, 30, &wire("b.test"))];
    let bytes = message(RESPONSE, ("a.test", A), &loose);
    assert_eq!(check(&bytes, "a.test", Kind::A), Ok(Reply::Nothing));
}

#[test]
fn compressed_names_are_read_and_loops_are_refused() {
    // The question's name begins at 12.
    let bytes = message(
        RESPONSE,
        ("a.test", A),
        &[record(&[0xC0, 12], A, 60, &[1; 4])],
    );
    assert_eq!(check(&bytes, "a.test", Kind::A), v4(60, &[[1; 4]]));
    let at = u8::try_from(12 + wire("a.test").len() + 4).unwrap();
    for pointer in [
        vec![0xC0, at],               // To itself.
        vec![0xC0, at + 2],           // Forwards.
        vec![1, b'x', 0xC0, at],      // To its own label.
        vec![0xC0, at + 2, 0xC0, at], // To and fro.
        vec![0xFF, 0xFF],             // Beyond the message.
        vec![0x80, 0],                // A length of a kind that does not exist.
    ] {
        let bytes = message(RESPONSE, ("a.test", A), &[record(&pointer, A, 60, &[1; 4])]);
        assert_eq!(
            check(&bytes, "a.test", Kind::A),
            Err(NotAnAnswer::Broken),
            "{pointer:?}"
        );
    }
}

#[test]
fn what_a_server_says_in_its_code_is_told_apart() {
    let told = |flags| check(&message(flags, ("a.test", A), &[]), "a.test", Kind::A);
    assert_eq!(told(RESPONSE), Ok(Reply::Nothing));
    assert_eq!(told(RESPONSE | 2), Ok(Reply::Failed(2)));
    assert_eq!(told(RESPONSE | 3), Ok(Reply::NoName));
    assert_eq!(told(RESPONSE | 5), Ok(Reply::Failed(5)));
    assert_eq!(told(RESPONSE | 0x0200), Ok(Reply::Truncated));
}

#[test]
fn a_truncated_answer_may_end_within_a_record() {
    let answers = [record(&wire("a.test"), A, 60, &[1; 4])];
    let bytes = message(RESPONSE | 0x0200, ("a.test", A), &answers);
    assert_eq!(
        check(&bytes[..bytes.len() - 1], "a.test", Kind::A),
        Ok(Reply::Truncated)
    );
}

#[test]
fn headers_that_promise_more_than_is_there_cost_nothing() {
    let mut bytes = message(RESPONSE, ("a.test", A), &[]);
    for at in [6, 8, 10] {
        bytes[at] = 0xFF;
        bytes[at + 1] = 0xFF;
    }
    assert_eq!(check(&bytes, "a.test", Kind::A), Err(NotAnAnswer::Broken));
}

#[test]
fn ten_thousand_answers_are_as_many_as_are_used() {
    let name = [0xC0, 12];
    let addr = |number: u16| {
        let [high, low] = number.to_be_bytes();
        record(&name, A, 60, &[10, 0, high, low])
    };
    // As many as a message of 65,535 bytes holds, and none of them alike.
    let answers: Vec<Vec<u8>> = (0..4000).rev().map(addr).collect();
    let bytes = message(RESPONSE, ("a.test", A), &answers);
    assert!(bytes.len() < 65_536);
    let Ok(Reply::Found(Found {
        records: Records::V4(addrs),
        ..
    })) = check(&bytes, "a.test", Kind::A)
    else {
        panic!("found nothing")
    };
    assert_eq!(addrs.len(), RECORDS_MAX);
    assert_eq!(addrs[0], Ipv4Addr::new(10, 0, 0, 0));
    // Longer ones fit no stream's length, and no promise is believed.
    let mut promising = message(RESPONSE, ("a.test", A), &answers);
    promising[6..8].copy_from_slice(&10_000u16.to_be_bytes());
    assert_eq!(
        check(&promising, "a.test", Kind::A),
        Err(NotAnAnswer::Broken)
    );
}

#[test]
fn services_have_a_host_and_a_port() {
    let service = |priority: u16, weight: u16, port: u16, target: &str| {
        let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
        data.extend(wire(target));
        record(&wire("_http._tcp.a.test"), SRV, 60, &data)
    };
    let answers = [
        service(10, 5, 8080, "B.test"),
        service(0, 0, 0, "c.test"),
        service(0, 0, 80, "."),
        service(1, 7, 80, "b.test"),
    ];
    let bytes = message(RESPONSE, ("_http._tcp.a.test", SRV), &answers);
    let target = Name::parse("b.test").unwrap();
    let expected = [(1, 7, 80), (10, 5, 8080)].map(|(priority, weight, port)| Service {
        priority,
        weight,
        port,
        target: target.clone(),
    });
    let found = Found {
        records: Records::Services(expected.to_vec()),
        ttl: Duration::from_secs(60),
    };
    assert_eq!(
        check(&bytes, "_http._tcp.a.test", Kind::Srv),
        Ok(Reply::Found(found))
    );
}

#[test]
fn a_time_with_its_first_bit_set_is_none() {
    let answers = [record(&wire("a.test"), A, 0x8000_0001, &[1; 4])];
    let bytes = message(RESPONSE, ("a.test", A), &answers);
    assert_eq!(check(&bytes, "a.test", Kind::A), v4(0, &[[1; 4]]));
}

#[test]
fn no_bytes_panic_the_reader() {
    use proptest::prelude::*;
    let good = message(
        RESPONSE,
        ("a.test", A),
        &[
            record(&[0xC0, 12], CNAME, 60, &wire("b.test")),
            record(&wire("b.test"), A, 60, &[1; 4]),
        ],
    );
    let changes = prop::collection::vec((0..good.len(), any::<u8>()), 0..6);
    proptest!(|(changes in changes, tail in prop::collection::vec(any::<u8>(), 0..32))| {
        let mut bytes = good.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.extend(tail);
        for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
            let _judged = check(&bytes, "a.test", kind);
        }
    });
}
