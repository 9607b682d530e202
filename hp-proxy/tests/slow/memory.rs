//! How much a greedy peer makes the proxy hold.

use crate::lab::{GET, Lab, MINUTE, OK, SECOND, drink, hear, say, sip};
use hp_core::rt::RtOptions;
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::Face;
use std::cell::Cell;

facts! {
    a_backend_that_does_not_read_stops_its_client,
    a_client_that_does_not_read_stops_its_backend,
    a_thousand_slow_readers_hold_a_bound_each,
    readers_and_senders_beyond_all_buffers_take_turns,
    idle_connections_hold_nothing,
    interim_answers_that_nobody_reads_are_bounded,
}

fn a_backend_that_does_not_read_stops_its_client(face: Face) {
    let lab = Lab::new(face, |plan, _| plan.timeouts.body = 10 * MINUTE);
    let lent_bytes_max = lab.play(
        1,
        async |conn| {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
            say(&conn, head).await.unwrap();
            assert!(took_part_only(&conn).await);
            conn.reset();
        },
        async |conn| {
            conn.rt().sleep(5 * MINUTE).await;
            drink(&conn).await;
        },
    );
    assert!(lent_bytes_max <= HELD_MAX, "{lent_bytes_max}");
}

fn a_client_that_does_not_read_stops_its_backend(face: Face) {
    let lab = Lab::new(face, |plan, _| plan.timeouts.body = 10 * MINUTE);
    let lent_bytes_max = lab.play(
        1,
        async |conn| {
            say(&conn, GET).await.unwrap();
            conn.rt().sleep(5 * MINUTE).await;
            conn.reset();
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
            say(&conn, head).await.unwrap();
            assert!(took_part_only(&conn).await);
            drink(&conn).await;
        },
    );
    assert!(lent_bytes_max <= HELD_MAX, "{lent_bytes_max}");
}

fn a_thousand_slow_readers_hold_a_bound_each(face: Face) {
    const READERS: usize = 1000;
    const LEN: usize = 60_000;
    let lab = Lab::new(face, |_, hosts| {
        hosts.clients.set_buffer_bytes(16 << 10);
        hosts.proxy.set_buffer_bytes(16 << 10);
    });
    let lent_bytes_max = lab.play(
        READERS,
        async |conn| {
            say(&conn, GET).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 2000, LEN as u64).await, LEN as u64);
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
            say(&conn, head).await.unwrap();
            say(&conn, vec![b'x'; LEN]).await.unwrap();
            drink(&conn).await;
        },
    );
    assert!(
        lent_bytes_max <= READERS as u64 * HELD_MAX,
        "{lent_bytes_max}"
    );
}

/// All readers stop at once, which takes what buffers there are; the senders wait for them, and nobody waits for good.
fn readers_and_senders_beyond_all_buffers_take_turns(face: Face) {
    const PEERS: usize = 128;
    const LEN: usize = 300_000;
    let options = RtOptions {
        head_buffers: 4,
        bulk_buffers: 1,
        aside_buffers: 0,
        ..RtOptions::default()
    };
    let lab = Lab::with(&options, face, |plan, hosts| {
        plan.limits.detour.content_bytes_min = u64::MAX; // It needs no buffers.
        for host in [&hosts.clients, &hosts.proxy, &hosts.backends] {
            host.set_buffer_bytes(16 << 10);
        }
    });
    let clients = Cell::new(0);
    let lent_bytes_max = lab.play(
        PEERS,
        async move |conn| {
            clients.set(clients.get() + 1);
            if clients.get() % 2 == 0 {
                say(&conn, GET).await.unwrap();
                hear(&conn, "\r\n\r\n").await;
                conn.rt().sleep(20 * SECOND).await;
                assert!(hears_pattern(&conn, LEN).await);
            } else {
                let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\n\r\n");
                say(&conn, head).await.unwrap();
                say(&conn, pattern(LEN)).await.unwrap();
                hear(&conn, "\r\n\r\nhi").await;
            }
        },
        async |conn| {
            let close = "Connection: close\r\n"; // Each request has a connection of its own.
            if hear(&conn, "\r\n\r\n").await.starts_with("GET") {
                let head = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {LEN}\r\n\r\n");
                say(&conn, head).await.unwrap();
                say(&conn, pattern(LEN)).await.unwrap();
            } else {
                assert!(hears_pattern(&conn, LEN).await);
                say(&conn, OK.replace("\r\n\r\n", &format!("\r\n{close}\r\n")))
                    .await
                    .unwrap();
            }
            drink(&conn).await;
        },
    );
    let large = 32 * (68 << 10);
    assert!(lent_bytes_max > large, "{lent_bytes_max} of {large}"); // All of these, and some of the small ones.
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Whether so many bytes of the pattern come next.
async fn hears_pattern(conn: &Conn, len: usize) -> bool {
    let expected = pattern(len);
    let mut rest = expected.as_slice();
    while !rest.is_empty() {
        let Ok(Rx::Data(lent)) = conn.recv().await else {
            return false;
        };
        let Some(after) = rest.strip_prefix(&lent[..]) else {
            return false;
        };
        rest = after;
    }
    true
}

fn idle_connections_hold_nothing(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    let proxy = lab.proxy.clone();
    lab.play(
        8,
        async move |conn| {
            for _ in 0..2 {
                say(&conn, GET).await.unwrap();
                hear(&conn, "\r\n\r\nhi").await;
                conn.rt().sleep(10 * SECOND).await; // Both its connection and the backend's are parked by now.
                assert_eq!(proxy.holdings().lent_buffers, 0);
            }
        },
        async |conn| {
            // The proxy may take this connection for both requests of a client, or for many requests, or for none.
            while let Ok(Rx::Data(request)) = conn.recv().await {
                let asked = request.windows(4).filter(|end| *end == b"\r\n\r\n").count();
                drop(request);
                say(&conn, OK.repeat(asked)).await.unwrap();
            }
        },
    );
}

/// Sixty-four heads of half a kilobyte are no storm, but two megabytes of them are.
fn interim_answers_that_nobody_reads_are_bounded(face: Face) {
    let lab = Lab::new(face, |_, hosts| {
        hosts.clients.set_buffer_bytes(1024);
        hosts.proxy.set_buffer_bytes(1024);
    });
    lab.play(
        1,
        async |conn| {
            say(&conn, GET).await.unwrap();
            conn.rt().sleep(5 * SECOND).await;
            let said = drink(&conn).await.0;
            assert!(said < 70_000, "{said}");
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            let hint = format!("HTTP/1.1 103 Hints\r\nLink: {}\r\n\r\n", "x".repeat(30_000));
            for _ in 0..60 {
                if say(&conn, &hint).await.is_err() {
                    break;
                }
            }
            drink(&conn).await;
        },
    );
}

/// Offers ten million bytes for a while; whether the proxy has not taken them all by then.
async fn took_part_only(conn: &Conn) -> bool {
    let body = vec![b'x'; 10_000_000];
    let moment = conn.rt().sleep(MINUTE);
    matches!(race(say(conn, body), moment).await, First::Other(()))
}

/// In buffers of one exchange: 64 KiB for each of its connections.
const HELD_MAX: u64 = 128 << 10;
