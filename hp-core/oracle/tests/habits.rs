//! A reader that never differs proves nothing: each habit is seen on a message that shows it, and none on a plain one.

use hp_oracle::choices::Choices;
use hp_oracle::hostile;
use hp_oracle::reading::{End, Reading};
use hp_oracle::sloppy::{PLAIN, READERS};
use hp_oracle::strict;

/// A habit, and what shows it.
const SHOWN: [(&str, &str); 31] = [
    (
        "the last length wins",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "the first length of a list wins",
        "Content-Length: 5, 3\r\n\r\nhello",
    ),
    (
        "the last length of a list wins",
        "Content-Length: 3, 5\r\n\r\nhello",
    ),
    (
        "lengths are added",
        "Content-Length: 3\r\nContent-Length: 2\r\n\r\nhello",
    ),
    (
        "the largest length wins",
        "Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "a length beats chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked anywhere in the list",
        "Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked first in the list",
        "Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
    ),
    (
        "whatever begins with chunked",
        "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    ),
    (
        "whatever contains chunked",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "any coding is chunked",
        "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked has a case",
        "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    ),
    ("LF ends lines", "X: y\nContent-Length: 5\r\n\r\nhello"),
    ("CR ends lines", "X: y\rContent-Length: 5\r\n\r\nhello"),
    (
        "folded lines are joined",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "folded lines are joined, LF ends them",
        "X: y\nContent-Length:\n 5\r\n\r\nhello",
    ),
    (
        "white space around names does not count",
        "Content-Length : 5\r\n\r\nhello",
    ),
    ("underscores are hyphens", "Content_Length: 5\r\n\r\nhello"),
    ("names have a case", "content-length: 5\r\n\r\nhello"),
    (
        "odd bytes in names do not count",
        "Content-Length\x0b: 5\r\n\r\nhello",
    ),
    (
        "NUL ends values",
        "Transfer-Encoding: chunked\0x\r\n\r\n0\r\n\r\n",
    ),
    (
        "quotes do not count",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "numbers end at the first odd byte",
        "Content-Length: 5abc\r\n\r\nhello",
    ),
    ("numbers have signs", "Content-Length: +5\r\n\r\nhello"),
    ("numbers have a base", "Content-Length: 010\r\n\r\nhello678"),
    (
        "numbers wrap at 32 bits",
        "Content-Length: 4294967301\r\n\r\nhello",
    ),
    (
        "numbers wrap at 64 bits",
        "Content-Length: 18446744073709551621x\r\n\r\nhello",
    ),
    (
        "chunk sizes may be dressed",
        "Transfer-Encoding: chunked\r\n\r\n 0x5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "two bytes are skipped behind a chunk",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ),
    (
        "fields named in Connection are dropped",
        "Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("everything at once", "Content_Length: 0x5\r\n\r\nhello"),
];

#[test]
fn every_habit_shows() {
    assert_eq!(SHOWN.len() + 1, READERS.len());
    for (name, text) in SHOWN {
        let reader = READERS.iter().find(|reader| reader.name == name);
        let reader = reader.unwrap_or_else(|| panic!("no reader is called {name}"));
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{text}");
        let read = reader.requests(request.as_bytes());
        assert_ne!(read, PLAIN.requests(request.as_bytes()), "{name}");
        let response = format!("HTTP/1.1 200 OK\r\n{text}");
        let read = reader.responses(response.as_bytes(), &[]);
        assert_ne!(read, PLAIN.responses(response.as_bytes(), &[]), "{name}");
    }
}

/// A relay that copied what it got would be found out: the generator meets every habit with bytes that show it.
#[test]
fn hostile_messages_meet_every_habit() {
    let mut unmet: Vec<_> = READERS
        .iter()
        .filter(|reader| reader.name != PLAIN.name)
        .collect();
    for seed in 0..30_000 {
        let mut bytes = Vec::new();
        hostile::requests(&mut Choices::from_seed(seed), &mut bytes);
        let plain = PLAIN.requests(&bytes);
        unmet.retain(|reader| reader.requests(&bytes) == plain);
        if unmet.is_empty() {
            return;
        }
    }
    panic!("no seed meets {unmet:?}");
}

#[test]
fn plain_messages_are_read_alike() {
    let requests = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
        PUT /b?c HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let read = strict::requests(requests);
    let bodies: Vec<&[u8]> = read
        .messages
        .iter()
        .map(|message| &message.body[..])
        .collect();
    assert_eq!(bodies, [&b"hello"[..], b"abcde", b""]);
    assert_eq!(
        (read.end, read.messages[2].end),
        (End::Between, requests.len())
    );
    for reader in READERS {
        assert_eq!(reader.requests(requests), read, "{}", reader.name);
    }
    let responses =
        b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello";
    let asked = [&b"HEAD"[..]];
    let read = strict::responses(responses, &asked);
    assert_eq!((read.end, read.messages.len()), (End::UntilClose, 4));
    assert_eq!(&read.messages[3].body[..], b"hello");
    for reader in READERS {
        assert_eq!(reader.responses(responses, &asked), read, "{}", reader.name);
    }
}

/// RFC 9112 §2.2, §3, §5, §6.1 to §6.3, §7.1.
#[test]
fn the_strict_reader_refuses() {
    let is_refused = |read: Reading<'_>| matches!(read.end, End::Refused(_));
    for (name, text) in SHOWN {
        let is_legal = [
            "chunked has a case",
            "names have a case",
            "numbers wrap at 32 bits",
            "numbers have a base",
            "fields named in Connection are dropped",
            "underscores are hyphens",
            "everything at once",
        ]
        .contains(&name);
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{text}");
        assert_eq!(
            is_refused(strict::requests(request.as_bytes())),
            !is_legal,
            "{name}"
        );
        let response = format!("HTTP/1.1 200 OK\r\n{text}");
        assert_eq!(
            is_refused(strict::responses(response.as_bytes(), &[])),
            !is_legal,
            "{name}"
        );
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "G@T / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET a HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
    ] {
        assert!(
            is_refused(strict::requests(
                format!("{line}\r\nHost: a\r\n\r\n").as_bytes()
            )),
            "{line}"
        );
    }
    for host in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: \r\n",
        "Host: u@a\r\n",
        "Host: a b\r\n",
        "Host: a:66000\r\n",
        "Host: [::1\r\n",
    ] {
        assert!(
            is_refused(strict::requests(
                format!("GET / HTTP/1.1\r\n{host}\r\n").as_bytes()
            )),
            "{host}"
        );
    }
    for body in [
        "5;\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "8000000000000000\r\n",
    ] {
        assert!(
            matches!(strict::chunked(body.as_bytes()), Err(Some(_))),
            "{body}"
        );
    }
}
