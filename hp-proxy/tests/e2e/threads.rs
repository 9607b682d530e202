//! A thread for each connection: how many there are, and who makes room when there are too few.

use crate::Engine;
use crate::support::{Backend, GET, OK, Peer, Proxy};
use std::time::{Duration, Instant};

pub(crate) fn a_thread_serves_one_connection_after_another(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut upstream: Option<Peer> = None;
    for _ in 0..20 {
        let mut client = proxy.asked(GET);
        let upstream = upstream.get_or_insert_with(|| backend.accept());
        upstream.request();
        upstream.send(OK);
        assert_eq!(client.response().body, b"hi");
        drop(client);
        proxy.counts_to("connections open", 0);
        proxy.fence();
    }
    let threads = proxy.thread_states().len();
    assert_eq!(
        threads, 3,
        "the main one, a listener, and one for a connection"
    );
}

pub(crate) fn an_idle_client_makes_room_for_one_that_waits(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--threads-max 3");
    let mut clients = vec![proxy.asked(GET)];
    let mut upstream = backend.answers(OK);
    assert_eq!(clients[0].response().body, b"hi");
    for _ in 1..3 {
        clients.push(proxy.asked(GET));
        upstream.request();
        upstream.send(OK);
        assert_eq!(clients.last_mut().unwrap().response().body, b"hi");
    }
    for _ in 0..3 {
        let begun = Instant::now();
        let mut client = proxy.asked(GET);
        upstream.request();
        upstream.send(OK);
        assert_eq!(client.response().body, b"hi");
        assert!(begun.elapsed() < Duration::from_secs(1));
        // Which of them is for the crew's own tests: all have idled for about as long.
        let ended = clients.iter_mut().position(Peer::has_ended);
        clients.remove(ended.unwrap());
        clients.iter_mut().for_each(Peer::sees_nothing);
        clients.push(client);
    }
    assert_eq!(proxy.thread_states().len(), 2 + 3);
}

pub(crate) fn a_busy_client_makes_room_with_its_answer(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--threads-max 1");
    let mut first = proxy.asked(GET);
    let (mut upstream, _heard) = backend.request();
    let mut second = proxy.asked(GET);
    proxy.counts_to("connections accepted", 2);
    proxy.fence();
    upstream.send(OK);
    let answer = first.response();
    assert_eq!(answer.body, b"hi");
    assert_eq!(answer.field("Connection"), Some("close"));
    first.sees_end();
    upstream.request();
    upstream.send(OK);
    let answer = second.response();
    assert_eq!(answer.body, b"hi");
    assert_eq!(answer.field("Connection"), None);
    second.sees_nothing();
}

pub(crate) fn a_backend_connection_serves_the_clients_of_all_listeners(engine: Engine) {
    let backend = Backend::new();
    let flags = format!(
        "--workers 3 --upstream-conns-max 1 --backend {}",
        backend.addr
    );
    let proxy = Proxy::start(engine, &flags);
    let mut upstream: Option<Peer> = None;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = proxy.asked(GET);
        let upstream = upstream.get_or_insert_with(|| backend.accept());
        upstream.request();
        upstream.send(OK);
        assert_eq!(client.response().body, b"hi");
        clients.push(client);
    }
    backend.has_nobody();
    proxy.counts_to("upstream connects", 1);
    assert_eq!(proxy.thread_states().len(), 1 + 3 + 12);
}

pub(crate) fn what_waits_for_a_thread_when_a_drain_begins_is_answered(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::before(engine, &backend, "--threads-max 1");
    let mut first = proxy.asked(GET);
    let (mut to_first, _heard) = backend.request();
    let mut second = proxy.asked(GET);
    proxy.counts_to("connections accepted", 2);
    proxy.signal("TERM");
    proxy.says("draining");
    to_first.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(first.response().body, b"hi");
    let _to_second = backend.answers(OK);
    assert_eq!(second.response().body, b"hi");
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}

// Each that waited had a thread after the one that was cut, and that thread a deadline of its own: a drain of 30 s took minutes.
pub(crate) fn what_waits_for_a_thread_when_a_drain_ends_is_cut_with_the_rest(engine: Engine) {
    let backend = Backend::new();
    let flags = "--threads-max 1 --drain-timeout 100ms";
    let mut proxy = Proxy::before(engine, &backend, flags);
    let first = proxy.asked(GET);
    let (_upstream, _heard) = backend.request();
    let waiting = [proxy.asked(GET), proxy.asked(GET)];
    proxy.counts_to("connections accepted", 3);
    proxy.signal("TERM");
    proxy.says("3 connections did not finish within --drain-timeout");
    for mut client in std::iter::once(first).chain(waiting) {
        assert_eq!(client.rest().0, b"");
    }
    backend.has_nobody();
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}
