//! How much a greedy peer makes the proxy hold.

use crate::lab::{GET, Lab, MINUTE, OK, SECOND, drink, hear, say, sip};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::Face;

facts! {
    a_backend_that_does_not_read_stops_its_client,
    a_client_that_does_not_read_stops_its_backend,
    a_thousand_slow_readers_hold_a_bound_each,
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
