//! Answers that a query orders, and the faults in them.

use std::time::{Duration, Instant};

use crate::server::{Client, field, on_each_engine};

#[test]
fn size_status_and_chunks_are_the_ones_ordered() {
    on_each_engine(&["--body", "5"], |server| {
        let mut client = server.connect();
        for size in [0, 1, 16_384, 16_385, 65_536, 65_537, 1_000_000] {
            for chunked in [0, 1] {
                let answer = client.get(&format!("/a/b?s={size}&r=503&c={chunked}"));
                assert_eq!(answer.status, 503);
                assert!(answer.body == vec![b'x'; size], "{size}");
                let is_chunked = field(&answer.head, "Transfer-Encoding") == Some("chunked");
                assert_eq!(is_chunked, chunked == 1, "{}", answer.head);
                let length = field(&answer.head, "Content-Length").map(str::to_owned);
                assert_eq!(length, (chunked == 0).then(|| size.to_string()));
            }
        }
        assert_eq!(client.get("/?s=3k").body.len(), 3072);
        assert_eq!(client.get("/?r=404").body, b"xxxxx");
    });
}

#[test]
fn neutral_orders_change_no_byte_of_the_answer() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let plain = client.get("/");
        for query in ["q", "c", "a=b", "k=1", "c=0", "R=0", "s=13", "r=200", "t=0"] {
            let answer = client.get(&format!("/?{query}"));
            assert_eq!((&answer.head, &answer.body), (&plain.head, &plain.body));
        }
    });
}

#[test]
fn orders_are_pipelined_with_other_requests() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let paths = [
            "/",
            "/?s=1",
            "/?s=100k",
            "/?s=2&c=1",
            "/?t=1&s=3",
            "/",
            "/?s=9",
        ];
        let request = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(paths.iter().map(request).collect::<String>());
        let lengths = paths.map(|_path| client.answer().body.len());
        assert_eq!(lengths, [13, 1, 102_400, 2, 3, 13, 9]);
    });
}

#[test]
fn random_bodies_have_their_length_and_no_pattern() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let one = client.get("/?R=1&s=200k").body;
        let other = client.get("/?s=200k&R=1&c=1").body;
        assert_eq!((one.len(), other.len()), (204_800, 204_800));
        assert!(one != other);
        let zeroes = one.iter().filter(|&&byte| byte == 0).count();
        assert!((400..1200).contains(&zeroes), "{zeroes}");
    });
}

#[test]
fn order_to_close_closes() {
    on_each_engine(&[], |server| {
        for path in ["/?k=0", "/?s=100k&k=0", "/?k=0&c=1&s=5"] {
            let mut client = server.connect();
            let answer = client.get(path);
            assert_eq!(field(&answer.head, "Connection"), Some("close"));
            assert_eq!(client.rest(), b"");
        }
    });
}

#[test]
fn delay_is_waited_for() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let begun = Instant::now();
        assert_eq!(client.get("/?t=100&s=5").body.len(), 5);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        client.send("POST /?t=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.answer().body, b"hi");
    });
}

#[test]
fn wrong_values_are_refused_by_name_and_the_connection_stays() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for (query, text) in [
            ("s=x&t=1", "s takes bytes"),
            ("t=60001", "t takes milliseconds"),
            ("r=99", "r takes a status"),
            ("c=yes", "c takes 0 or 1"),
            ("drip=0", "drip takes bytes from 1 to 64k"),
        ] {
            let answer = client.get(&format!("/?{query}"));
            assert_eq!(answer.status, 400, "{query}");
            let body = String::from_utf8(answer.body).unwrap();
            assert!(body.starts_with(text), "{body}");
        }
        assert_eq!(client.get("/").status, 200);
    });
}

#[test]
fn head_of_an_order_has_its_length() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for path in ["/?s=5", "/?s=100k", "/?s=7&R=1", "/?s=7&truncate=7"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let (status, head) = client.head();
            assert_eq!(status, 200);
            assert!(field(&head, "Content-Length").is_some_and(|length| length != "0"));
            if path.contains("truncate") {
                assert_eq!(client.rest(), b"");
                return;
            }
        }
    });
}

#[test]
fn bodies_that_no_echo_takes_are_read_and_dropped() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let body = "z".repeat(300_000);
        for path in ["/discard", "/?s=13", "/?r=201&s=13"] {
            let fields = format!("Host: a\r\nContent-Length: {}\r\n", body.len());
            client.send(format!("POST {path} HTTP/1.1\r\n{fields}\r\n{body}"));
            assert_eq!(client.answer().body, b"xxxxxxxxxxxxx");
            client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\n"));
            client.send("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            assert_eq!(client.answer().body, b"xxxxxxxxxxxxx");
        }
        assert_eq!(client.get("/").status, 200);
    });
}

#[test]
fn old_clients_get_chunks_as_bytes_until_the_end() {
    on_each_engine(&[], |server| {
        for (size, keep_alive) in [(5, ""), (5, "Connection: keep-alive\r\n"), (100_000, "")] {
            let mut client = server.connect();
            client.send(format!("GET /?c=1&s={size} HTTP/1.0\r\n{keep_alive}\r\n"));
            let (_status, head) = client.head();
            assert_eq!(field(&head, "Connection"), Some("close"));
            assert_eq!(field(&head, "Transfer-Encoding"), None);
            assert_eq!(client.rest().len(), size);
        }
    });
}

#[test]
fn truncated_bodies_end_early_and_in_order() {
    on_each_engine(&[], |server| {
        for (query, seen) in [
            ("s=100&truncate=30", 30),
            ("s=100&truncate=0", 0),
            ("s=1m&truncate=200k", 204_800),
            ("s=100k&truncate=100k", 102_400),
        ] {
            let mut client = server.connect();
            let (_status, head) = head_of(&mut client, query);
            assert_eq!(field(&head, "Connection"), None, "the head promises more");
            assert_eq!(client.rest().len(), seen, "{query}");
        }
        let mut client = server.connect();
        head_of(&mut client, "s=100&truncate=30&c=1");
        assert_eq!(
            client.rest(),
            format!("1e\r\n{}\r\n", "x".repeat(30)).into_bytes()
        );
    });
}

#[test]
fn reset_bodies_end_with_a_reset() {
    on_each_engine(&[], |server| {
        for query in [
            "s=100&reset=30",
            "s=100&reset=0",
            "s=1m&reset=100k&c=1",
            "s=5&reset=5",
        ] {
            let mut client = server.connect();
            client.send(request(query));
            let (seen, error) = client.rest_and_failure();
            let error = error.expect("a reset is no end");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{query}");
            assert!(seen.len() < 600_000, "{query}");
        }
    });
}

#[test]
fn garbage_and_hanging_up_come_instead_of_an_answer() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        client.send(request("garbage=1"));
        let garbage = client.rest();
        assert!(!garbage.is_empty() && !garbage.starts_with(b"HTTP/"));
        let mut client = server.connect();
        client.send(request("hangup=1"));
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn silence_lasts_until_a_drain() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut silent = server.connect();
        silent.send(request("silent=1"));
        // Its request came before this one, which is answered.
        assert_eq!(server.connect().get("/").status, 200);
        server.signal("TERM");
        assert_eq!(silent.rest(), b"");
    });
}

#[test]
fn drops_come_one_after_another() {
    on_each_engine(&[], |server| {
        for query in ["s=50&drip=10&every=20", "every=20&s=50&drip=10&c=1"] {
            let mut client = server.connect();
            let begun = Instant::now();
            assert_eq!(client.get(&format!("/?{query}")).body, vec![b'x'; 50]);
            assert!(begun.elapsed() >= Duration::from_millis(80), "{query}");
            assert_eq!(client.get("/").status, 200);
        }
    });
}

#[test]
fn interim_answers_come_first_and_old_clients_get_none() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        client.send(request("interims=1000&s=5"));
        for _ in 0..1000 {
            assert_eq!(client.head().0, 103);
        }
        assert_eq!(client.answer().body.len(), 5);
        client.send("GET /?interims=10&s=5 HTTP/1.0\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    });
}

fn request(query: &str) -> String {
    format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn head_of(client: &mut Client, query: &str) -> (u16, String) {
    client.send(request(query));
    client.head()
}
