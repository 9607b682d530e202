//! What clients get to see, on real sockets and on every engine.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::server::{Client, field, on_each_engine};

#[test]
fn get_has_the_fixed_body_under_any_path() {
    on_each_engine(&["--body", "5"], |server| {
        let mut client = server.connect();
        for path in ["/", "/a/b?c", "/"] {
            let answer = client.get(path);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n";
            assert_eq!(
                (answer.head.as_str(), answer.body.as_slice()),
                (head, &b"xxxxx"[..])
            );
        }
    });
}

#[test]
fn long_fixed_body_is_whole() {
    on_each_engine(&["--body", "3000000"], |server| {
        let mut client = server.connect();
        for _ in 0..2 {
            assert_eq!(client.get("/").body, vec![b'x'; 3_000_000]);
        }
    });
}

#[test]
fn head_has_the_length_and_no_body() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for path in ["/", "/", "/status/404", "/delay/1"] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let (_status, head) = client.head();
            assert_ne!(field(&head, "Content-Length"), Some("0"), "{head}");
        }
        assert_eq!(client.get("/").body.len(), 13);
    });
}

#[test]
fn echo_by_length_does_not_depend_on_the_cut() {
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for cut in 0..=request.len() {
            check_cut(&mut client, request, cut, b"hello");
        }
    });
}

#[test]
fn chunked_echo_does_not_depend_on_the_cut() {
    let request = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: t\r\n\r\n";
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for cut in 0..=request.len() {
            check_cut(&mut client, request, cut, b"hello");
        }
    });
}

#[test]
fn chunks_that_are_all_here_are_answered_by_their_length() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for (chunks, body) in [("3\r\nhel\r\n2\r\nlo\r\n", "hello"), ("", "")] {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.send(format!("{head}{chunks}0\r\n\r\n"));
            let answer = client.answer();
            let length = body.len().to_string();
            assert_eq!(field(&answer.head, "Content-Length"), Some(length.as_str()));
            assert_eq!(answer.body, body.as_bytes());
        }
    });
}

#[test]
fn empty_bodies_are_echoed_as_such() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for fields in ["", "Content-Length: 0\r\n"] {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            let answer = client.answer();
            assert_eq!(field(&answer.head, "Content-Length"), Some("0"));
        }
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(client.answer().body, b"");
        assert_eq!(client.get("/").status, 200);
    });
}

#[test]
fn long_echoes_stream() {
    let body: Vec<u8> = (0..8_000_000_u32)
        .map(|i| i.to_le_bytes()[i as usize % 3])
        .collect();
    let mut chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for (piece, size) in body.chunks(70_001).zip(1..) {
        let (one, rest) = piece.split_at(size % 9 + 1);
        for part in [one, rest] {
            chunked.extend(format!("{:x}\r\n", part.len()).bytes());
            chunked.extend(part);
            chunked.extend(b"\r\n");
        }
    }
    chunked.extend(b"0\r\n\r\n");
    let mut by_length = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    by_length.extend(&body);
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for request in [&by_length, &chunked] {
            let mut sender = client.twin();
            std::thread::scope(|scope| {
                scope.spawn(move || sender.send(request));
                assert!(client.answer().body == body, "the body came back changed");
            });
        }
    });
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    let (mut requests, mut statuses) = (String::new(), Vec::new());
    for i in 0..50 {
        let status = if i % 7 == 3 { 200 } else { 400 + i };
        let (path, body) = if status == 200 {
            (String::from("/"), "Content-Length: 1\r\n\r\ny")
        } else {
            (format!("/status/{status}"), "\r\n")
        };
        let method = if status == 200 && i % 2 == 0 {
            "POST"
        } else {
            "GET"
        };
        let _infallible = write!(requests, "{method} {path} HTTP/1.1\r\nHost: a\r\n{body}");
        statuses.push(status);
    }
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        client.send(&requests);
        let got: Vec<u16> = statuses.iter().map(|_| client.answer().status).collect();
        assert_eq!(got, statuses);
    });
}

#[test]
fn flood_of_pipelined_requests_is_answered_though_nobody_reads_at_first() {
    let flood = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20_000);
    on_each_engine(&["--body", "1000"], |server| {
        let mut client = server.connect();
        let mut sender = client.twin();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&flood));
            for _ in 0..20_000 {
                assert_eq!(client.answer().body.len(), 1000);
            }
        });
    });
}

#[test]
fn old_clients_keep_the_connection_only_when_they_ask() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let answer = client.answer();
            assert_eq!(field(&answer.head, "Connection"), Some("keep-alive"));
        }
        client.send("GET / HTTP/1.0\r\n\r\n");
        let answer = client.answer();
        assert_eq!(field(&answer.head, "Connection"), Some("close"));
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn status_is_the_one_asked_for() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for status in [200, 204, 304, 404, 503, 599] {
            assert_eq!(client.get(&format!("/status/{status}")).status, status);
        }
        assert_eq!(client.get("/status/199").status, 400);
        client.send("POST /status/503 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.answer().status, 503);
        client.send("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        assert_eq!(
            (answer.status, field(&answer.head, "Allow").is_some()),
            (405, true)
        );
    });
}

#[test]
fn delay_comes_before_the_answer_and_keeps_the_order() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let begun = Instant::now();
        let requests = ["/delay/100", "/status/404"]
            .map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.send(requests.concat());
        assert_eq!(client.answer().status, 200);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert_eq!(client.answer().status, 404);
    });
}

#[test]
fn close_says_so_and_closes() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let answer = client.get("/close");
        assert_eq!(answer.body.len(), 13);
        assert_eq!(field(&answer.head, "Connection"), Some("close"));
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn expectation_is_met_before_the_body_is_read() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        for path in ["/", "/status/201"] {
            let fields = "Host: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
            client.send(format!("POST {path} HTTP/1.1\r\n{fields}\r\n"));
            assert_eq!(client.head().0, 100);
            client.send("hello");
            assert!(matches!(client.answer().status, 200 | 201));
        }
    });
}

#[test]
fn bad_request_is_told_even_to_those_who_go_on_sending() {
    let check = |request: &str, status: u16| {
        on_each_engine(&[], |server| {
            let mut client = server.connect();
            assert_eq!(client.get("/").status, 200);
            client.send(format!("{request}{}", "z".repeat(20_000)));
            let answer = client.answer();
            assert_eq!(answer.status, status, "{request}");
            assert_eq!(field(&answer.head, "Connection"), Some("close"));
        });
    };
    check("GET / HTTP/1.1\r\n\r\n", 400);
    check("GET / HTTP/1.1\nHost: a\n\n", 400);
    check("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505);
    check(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        400,
    );
    check("POST / HTTP/1.1\r\nHost: a\r\nExpect: luck\r\n\r\n", 417);
}

/// Sends a request in two parts and expects its body back.
fn check_cut(client: &mut Client, request: &[u8], cut: usize, body: &[u8]) {
    let (front, back) = request.split_at(cut);
    client.send(front);
    client.send(back);
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, body),
        "cut at {cut}"
    );
}
