//! Copies of requests, in a program that is run from a file.

use crate::Engine;
use crate::routes::with_file;
use crate::support::{Backend, GET, OK, Peer, Proxy, refusing};

/// A proxy whose only route is mirrored as these words say; `@1` stands for the mirror's address.
fn mirrored(engine: Engine, backends: &[&Backend], words: &str) -> Proxy {
    let text = format!(
        "mirrors_max = 2\n[[route]]\nupstream = \"web\"\nmirror = {{ upstream = \"shadow\"{words} }}\n\
         [upstream.web]\nendpoints = [\"@0\"]\n[upstream.shadow]\nendpoints = [\"@1\"]\n"
    );
    with_file(engine, backends, &text)
}

fn get(target: &str) -> String {
    GET.replace("/path?q=1", target)
}

/// One request that the first backend answers.
fn exchanged(client: &mut Peer, peer: &mut Peer, request: impl AsRef<[u8]>) {
    client.send(request);
    peer.request();
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn a_copy_goes_to_the_mirror_and_its_answer_to_nobody(engine: Engine) {
    let (web, shadow) = (Backend::new(), Backend::new());
    let proxy = mirrored(engine, &[&web, &shadow], "");
    let mut client = proxy.asked(GET);
    let (mut copied, copy) = shadow.request();
    let (mut peer, original) = web.request();
    assert_eq!(original.field("X-Mirror"), None);
    let unmarked = copy.head.replace("X-Mirror: true\r\n", "");
    assert_ne!(unmarked, copy.head);
    assert_eq!(unmarked, original.head);
    copied.send("HTTP/1.1 500 Oh No\r\nContent-Length: 5\r\n\r\nwrong");
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    proxy.fence();
    // The mirror's connection is kept, as any other.
    client.send(get("/second"));
    assert!(copied.request().head.starts_with("GET /second "));
    peer.request();
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    proxy.counts_to("mirrors", 2);
    proxy.counts_to("responses", 2);
}

pub(crate) fn content_is_copied_whole_up_to_a_length(engine: Engine) {
    let (web, shadow) = (Backend::new(), Backend::new());
    let proxy = mirrored(engine, &[&web, &shadow], ", body_max = 8");
    let post = |framing: &str| format!("POST /p HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let mut client = proxy.asked(post("Content-Length: 8"));
    client.send("1234");
    let mut peer = web.accept();
    assert!(peer.until("1234").contains("\r\n\r\n1234"));
    shadow.has_nobody();
    client.send("5678");
    assert_eq!(peer.exactly(4), b"5678");
    let (mut copied, copy) = shadow.request();
    assert_eq!(
        (copy.body.as_slice(), copy.field("Content-Length")),
        (&b"12345678"[..], Some("8"))
    );
    copied.send(OK);
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    proxy.fence();
    client.send(post("Transfer-Encoding: chunked\r\nTrailer: X-T"));
    client.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n");
    let copy = copied.request();
    assert_eq!(
        (copy.body.as_slice(), copy.trailers.as_str()),
        (&b"abcdefg"[..], "X-T: 1\r\n")
    );
    copied.send(OK);
    assert_eq!(peer.request().body, b"abcdefg");
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    for too_long in [
        post("Content-Length: 9") + "123456789",
        post("Transfer-Encoding: chunked") + "9\r\n123456789\r\n0\r\n\r\n",
    ] {
        exchanged(&mut client, &mut peer, too_long);
    }
    proxy.counts_to("mirrors too large", 2);
    proxy.counts_to("mirrors", 2);
}

pub(crate) fn a_mirror_that_is_gone_or_silent_costs_the_client_nothing(engine: Engine) {
    let web = Backend::new();
    let (_socket, gone) = refusing();
    let text = format!(
        "[[route]]\nupstream = \"web\"\nmirror = {{ upstream = \"shadow\" }}\n\
         [upstream.web]\nendpoints = [\"@0\"]\n[upstream.shadow]\nendpoints = [\"{gone}\"]\n"
    );
    let proxy = with_file(engine, &[&web], &text);
    let mut client = proxy.asked(GET);
    let mut peer = web.answers(OK);
    assert_eq!(client.response().body, b"hi");
    exchanged(&mut client, &mut peer, GET);
    proxy.counts_to("mirror failures", 2);

    let (web, shadow) = (Backend::new(), Backend::new());
    let proxy = mirrored(engine, &[&web, &shadow], "");
    let mut client = proxy.asked(GET);
    let (_silent, _copy) = shadow.request();
    let mut peer = web.answers(OK);
    assert_eq!(client.response().body, b"hi");
    for _ in 0..5 {
        exchanged(&mut client, &mut peer, GET);
    }
    // Two are under way, and no more may be.
    proxy.counts_to("mirrors left out", 4);
    proxy.counts_to("mirrors", 2);
    proxy.counts_to("responses", 6);
}

pub(crate) fn some_requests_are_never_copied(engine: Engine) {
    let (web, shadow) = (Backend::new(), Backend::new());
    let proxy = mirrored(engine, &[&web, &shadow], ", share = 50");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let (mut peer, _request) = web.request();
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    peer.until("\r\n\r\n");
    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.until("\r\n\r\n");
    client.send("x");
    assert_eq!(peer.exactly(1), b"x");
    peer.send(OK);
    assert_eq!(client.response().body, b"hi");
    for _ in 0..20 {
        exchanged(&mut client, &mut peer, GET);
    }
    proxy.counts_to("responses", 22);
    let counts = proxy.counts();
    let count = |name: &str| counts[name].parse::<u32>().unwrap();
    assert_eq!(count("mirrors"), 2, "nobody answers them");
    let drawn = count("mirrors") + count("mirrors left out");
    assert!((9..=11).contains(&drawn), "{drawn} of 20");
}
