//! What `/counters` tells is what was served.

use serde_json::Value;

use crate::server::{Client, field, on_each_engine};

#[test]
fn every_request_is_counted_once() {
    on_each_engine(&["--workers", "2"], |server| {
        let mut asking = server.connect();
        let before = counters(&mut asking);
        assert_eq!(number(&before, "requests"), 0);
        let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(9));
            (0..9).for_each(|_| assert_eq!(client.answer().status, 200));
            for path in [
                "/",
                "/status/404",
                "/?s=5",
                "/?s=1m",
                "/?t=1",
                "/?r=x",
                "/?c=1&r=503",
            ] {
                client.get(path);
            }
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(client.answer().body, b"hi");
        }
        let after = counters(&mut asking);
        assert_eq!(number(&after, "requests"), 10 * 17);
        assert_eq!(number(&after, "connections_accepted"), 11);
        assert_eq!(number(&after, "connections_open"), 11);
        let statuses = serde_json::json!({"200": 140, "400": 10, "404": 10, "503": 10});
        assert_eq!(after["statuses"], statuses);
        assert!(number(&after, "bytes_out") > 10 * (1 << 20));
    });
}

#[test]
fn bytes_are_those_on_the_wire() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut client = server.connect();
        let asked = ask(&mut client);
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        client.send(request);
        let answer = client.answer();
        let again = ask(&mut client);
        let sent = answer.head.len() + answer.body.len();
        let asking = "GET /counters HTTP/1.1\r\nHost: a\r\n\r\n".len();
        let difference = |name| number(&again.0, name) - number(&asked.0, name);
        assert_eq!(difference("bytes_in"), (request.len() + asking) as u64);
        assert_eq!(difference("bytes_out"), (sent + asked.1) as u64);
    });
}

#[test]
fn connections_that_ended_are_not_open() {
    on_each_engine(&[], |server| {
        for _ in 0..5 {
            let mut client = server.connect();
            client.get("/?k=0");
            assert_eq!(client.rest(), b"");
        }
        let mut asking = server.connect();
        // The last of them may not have been told yet that its client is gone.
        let open = (0..1000).map(|_| number(&counters(&mut asking), "connections_open"));
        assert!(open.into_iter().any(|open| open == 1));
        assert_eq!(number(&counters(&mut asking), "connections_accepted"), 6);
    });
}

#[test]
fn counters_are_json_that_nobody_keeps() {
    on_each_engine(&[], |server| {
        let mut client = server.connect();
        let answer = client.get("/counters");
        assert_eq!(
            field(&answer.head, "Content-Type"),
            Some("application/json")
        );
        assert_eq!(field(&answer.head, "Cache-Control"), Some("no-store"));
        client.send("HEAD /counters HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(field(&client.head().1, "Content-Length").is_some_and(|length| length != "0"));
        assert_eq!(number(&counters(&mut client), "requests"), 0);
    });
}

/// The counters, and the length of the answer that told them.
fn ask(client: &mut Client) -> (Value, usize) {
    let answer = client.get("/counters");
    let value = serde_json::from_slice(&answer.body).unwrap();
    (value, answer.head.len() + answer.body.len())
}

fn counters(client: &mut Client) -> Value {
    ask(client).0
}

fn number(counters: &Value, name: &str) -> u64 {
    counters[name].as_u64().unwrap()
}
