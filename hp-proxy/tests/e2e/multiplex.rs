//! Requests of many clients over one connection to the backend.

use crate::Engine;
use crate::support::{Backend, GET, Peer, Proxy, spawn};

/// Nobody is sent elsewhere, however slow the machine is.
fn start(engine: Engine, backend: &Backend) -> Proxy {
    let text = format!(
        "[[route]]\nupstream = \"u\"\n[upstream.u]\nendpoints = [\"{}\"]\nmultiplex = {{ stall = \"1h\" }}\n",
        backend.addr
    );
    Proxy::start_from_file(engine, &text)
}

fn answer(content: &str) -> String {
    let length = content.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub(crate) fn requests_of_many_clients_come_over_one_connection(engine: Engine) {
    let backend = Backend::new();
    let proxy = start(engine, &backend);
    let mut first = proxy.asked(GET);
    let mut upstream = backend.answers(answer("first"));
    assert_eq!(first.response().body, b"first");
    let paths = ["/0", "/1", "/2", "/3", "/4"];
    let mut clients: Vec<Peer> = paths.iter().map(|path| proxy.asked(get(path))).collect();
    let mut answers = String::new();
    for _ in paths {
        let head = upstream.request().head;
        answers += &answer(head.split(' ').nth(1).unwrap());
    }
    backend.has_nobody();
    // In pieces that end anywhere.
    let (one, other) = answers.split_at(answers.len() / 2 + 7);
    upstream.send(one);
    upstream.send(other);
    for (path, client) in paths.iter().zip(&mut clients) {
        assert_eq!(client.response().body, path.as_bytes());
    }
    // A request that may not be repeated has it for itself, where nobody waits on it.
    let post = "POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    first.send(post);
    upstream.until("\r\n\r\nhi");
    upstream.send(answer("posted"));
    assert_eq!(first.response().body, b"posted");
}

pub(crate) fn threads_have_nobody_to_share_with() {
    let output = spawn("--multiplex --engine threads").wait_with_output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--multiplex") && said.contains("threads"),
        "{said}"
    );
    let output = spawn("--multiplex --workers 4 --upstream-conns-max 6").wait_with_output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("each needs two"), "{said}");
}
