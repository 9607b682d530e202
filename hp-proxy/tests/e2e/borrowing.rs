//! What workers lend each other, between real processes and sockets. Two clients that come one after the other are served by different
//! workers, for each worker has as many.

use crate::Engine;
use crate::support::{Backend, GET, OK, Peer, Proxy};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

/// Two connections for two workers. One is busy all the time; the other one serves whoever asks, of both workers.
pub(crate) fn a_request_is_served_by_what_another_worker_does_not_need(engine: Engine) {
    let backend = Backend::new();
    let limits = "--upstream-conns-max 2 --queue-timeout 60s";
    let flags = format!("--workers 2 --backend {} {limits}", backend.addr);
    let proxy = Proxy::start(engine, &flags);
    let mut busy = proxy.asked(GET);
    let (mut to_busy, _heard) = backend.request();
    let mut second = proxy.asked(GET);
    let mut serving = backend.answers(OK);
    assert_eq!(second.response().body, b"hi");
    let mut clients = vec![second];
    for _ in 0..2 {
        let mut client = proxy.asked(GET);
        serving.request();
        serving.send(OK);
        assert_eq!(client.response().body, b"hi");
        clients.push(client);
    }
    for _round in 0..3 {
        for client in &mut clients {
            client.send(GET);
            serving.request();
            serving.send(OK);
            assert_eq!(client.response().body, b"hi");
        }
    }
    backend.has_nobody();
    to_busy.send(OK);
    assert_eq!(busy.response().body, b"hi");
    proxy.counts_to("upstream connects", 2);
    let borrowed = proxy.counts().remove("upstream borrowed").unwrap();
    assert!(borrowed.parse::<u64>().unwrap() > 0);
}

/// Each upstream is asked by a client of one worker, then by one of the other. A question is given a millisecond, for which a worker may be too busy: then it
/// dials, but not each time.
pub(crate) fn a_backend_has_fewer_connections_where_workers_borrow(engine: Engine) {
    let (addr, accepted) = backend();
    let connections = |borrow: &str| {
        let proxy = start(engine, addr, borrow);
        let mut clients = [proxy.client(), proxy.client()];
        for client in &mut clients {
            (0..UPSTREAMS).for_each(|upstream| ask(client, upstream));
        }
        accepted.try_iter().count()
    };
    assert_eq!(connections("never"), 2 * UPSTREAMS);
    let fewer = (0..10).map(|_| connections("before_dial"));
    let mut fewer = fewer.filter(|count| (UPSTREAMS..2 * UPSTREAMS).contains(count));
    assert!(fewer.next().is_some(), "no worker has ever borrowed");
}

fn ask(client: &mut Peer, upstream: usize) {
    client.send(format!("GET /{upstream} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().body, b"hi");
}

fn start(engine: Engine, backend: SocketAddr, borrow: &str) -> Proxy {
    let name = engine.flag().trim_start_matches("--engine ");
    let mut text =
        format!("workers = 2\nengine = \"{name}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for upstream in 0..UPSTREAMS {
        text += &format!(
            "[[route]]\npath = \"/{upstream}\"\nupstream = \"u{upstream}\"\n\
             [upstream.u{upstream}]\nendpoints = [\"{backend}\"]\nborrow = \"{borrow}\"\n"
        );
    }
    Proxy::start_from_file_as_it_is(engine, &text)
}

/// Answers every request; tells of each connection.
fn backend() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, accepted) = mpsc::channel();
    std::thread::spawn(move || {
        // Ends when the test has.
        for stream in listener.incoming().map_while(Result::ok) {
            if tell.send(()).is_err() {
                return;
            }
            std::thread::spawn(move || answer(stream));
        }
    });
    (addr, accepted)
}

fn answer(mut stream: TcpStream) {
    let mut heard = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        heard.extend_from_slice(&piece[..len]);
        if heard.ends_with(b"\r\n\r\n") {
            heard.clear();
            if stream.write_all(OK.as_bytes()).is_err() {
                return;
            }
        }
    }
}

const UPSTREAMS: usize = 30;
