//! How long a slow peer lasts.

use crate::lab::{GET, Lab, MINUTE, OK, SECOND, drink, hear, say, sip};
use hp_core::rt::net::Rx;
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::Face;

facts! {
    a_slow_reader_that_reads_on_gets_all,
    a_reader_below_the_rate_is_cut,
    a_client_that_sends_all_and_takes_nothing_is_cut,
    a_client_that_sends_on_and_takes_nothing_is_cut,
    a_reader_below_the_rate_is_served_where_there_is_no_rate,
    a_slow_sender_above_the_rate_is_answered,
    a_sender_below_the_rate_is_408,
    a_backend_that_reads_on_may_pause_in_its_answer,
    a_backend_that_says_little_for_an_hour_is_passed_on,
    content_that_need_not_come_does_not_end_the_answer,
    both_bodies_may_be_on_their_way_for_an_hour,
    continue_is_said_in_the_backends_stead,
    continue_is_not_said_into_an_answer_that_has_begun,
    who_never_says_continue_is_504_where_the_proxy_says_none,
    a_client_that_was_told_to_go_on_and_does_not_is_408,
    a_tunnel_in_which_a_slow_end_takes_bytes_is_not_silent,
    a_tunnel_is_silent_from_its_last_byte_on,
}

/// A socket of a megabyte says that there is room when a third of it is free, which this client takes longer for than any
/// pause may be; it was cut.
fn a_slow_reader_that_reads_on_gets_all(face: Face) {
    let lab = Lab::new(face, |_plan, hosts| hosts.proxy.set_buffer_bytes(1 << 20));
    lab.play(
        1,
        async |conn| {
            say(&conn, GET).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 4096, BODY_BYTES).await, BODY_BYTES);
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, answer_of(BODY_BYTES)).await.unwrap();
            assert!(say(&conn, vec![b'x'; BODY_LEN]).await.is_ok());
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

fn a_reader_below_the_rate_is_cut(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            let begun = conn.rt().now();
            say(&conn, GET).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert!(sip(&conn, 100, BODY_BYTES).await < BODY_BYTES);
            // What its own socket holds it takes at its leisure, until the reset takes that away.
            assert!(conn.rt().now() - begun < 30 * MINUTE);
        },
        async |conn| {
            let begun = conn.rt().now();
            hear(&conn, "\r\n\r\n").await;
            say(&conn, answer_of(BODY_BYTES)).await.unwrap();
            assert!(say(&conn, vec![b'x'; BODY_LEN]).await.is_err());
            let served_for = conn.rt().now() - begun;
            assert!(served_for < 2 * MINUTE, "{served_for:?}");
        },
    );
}

/// The end of its content used to take away the deadline for its taking the answer.
fn a_client_that_sends_all_and_takes_nothing_is_cut(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, post(1)).await.unwrap();
            conn.rt().sleep(5 * SECOND).await; // The answer fills every buffer on its way.
            say(&conn, "x").await.unwrap();
            conn.rt().sleep(10 * MINUTE).await;
            assert!(!drink(&conn).await.1);
        },
        async |conn| {
            let begun = conn.rt().now();
            hear(&conn, "\r\n\r\n").await;
            say(&conn, answer_of(BODY_BYTES)).await.unwrap();
            assert!(say(&conn, vec![b'x'; BODY_LEN]).await.is_err());
            let served_for = conn.rt().now() - begun;
            assert!(served_for < 2 * MINUTE, "{served_for:?}");
        },
    );
}

/// What it sends must not pay for what it does not take.
fn a_client_that_sends_on_and_takes_nothing_is_cut(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, post(10_000_000)).await.unwrap();
            for _ in 0..600 {
                conn.rt().sleep(SECOND).await;
                if say(&conn, [b'x'; 2048]).await.is_err() {
                    return;
                }
            }
            panic!("it holds its exchange for as long as it sends");
        },
        async |conn| {
            let begun = conn.rt().now();
            hear(&conn, "\r\n\r\n").await;
            say(&conn, answer_of(BODY_BYTES)).await.unwrap();
            assert!(say(&conn, vec![b'x'; BODY_LEN]).await.is_err());
            let served_for = conn.rt().now() - begun;
            assert!(served_for < 2 * MINUTE, "{served_for:?}");
        },
    );
}

fn a_reader_below_the_rate_is_served_where_there_is_no_rate(face: Face) {
    let lab = Lab::new(face, |plan, hosts| {
        plan.limits.body_rate_min = 0;
        hosts.clients.set_buffer_bytes(1024);
    });
    lab.play(
        1,
        async |conn| {
            say(&conn, GET).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 100, 100_000).await, 100_000);
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, answer_of(100_000)).await.unwrap();
            say(&conn, vec![b'x'; 100_000]).await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

fn a_slow_sender_above_the_rate_is_answered(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, post(200 * 1100)).await.unwrap();
            for _ in 0..200 {
                conn.rt().sleep(SECOND).await;
                say(&conn, [b'x'; 1100]).await.unwrap();
            }
            hear(&conn, "hi").await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 1 << 20, 200 * 1100).await, 200 * 1100);
            say(&conn, OK).await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

/// No pause is long, and yet it would take a day.
fn a_sender_below_the_rate_is_408(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            let begun = conn.rt().now();
            say(&conn, post(10_000)).await.unwrap();
            while let First::Other(()) = race(conn.readable(), conn.rt().sleep(9 * SECOND)).await {
                say(&conn, "x").await.unwrap();
            }
            assert!(conn.rt().now() - begun < MINUTE);
            let told = hear(
                &conn,
                "408 Request Timeout: the request's content stopped coming\n",
            );
            assert!(told.await.contains("\r\nConnection: close\r\n"));
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            assert!(drink(&conn).await.0 < 10);
        },
    );
}

/// It has begun to answer, and goes on when it has the rest of the request: minutes in which it is busy, and says nothing.
fn a_backend_that_reads_on_may_pause_in_its_answer(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, post(120 * 1100)).await.unwrap();
            for _ in 0..120 {
                conn.rt().sleep(SECOND).await;
                say(&conn, [b'x'; 1100]).await.unwrap();
            }
            hear(&conn, "hi").await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, OK.strip_suffix('i').unwrap()).await.unwrap();
            assert_eq!(sip(&conn, 1 << 20, 120 * 1100).await, 120 * 1100);
            say(&conn, "i").await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

fn a_backend_that_says_little_for_an_hour_is_passed_on(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, GET).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            for _ in 0..EVENTS {
                hear(&conn, "1\r\n!\r\n").await;
            }
            hear(&conn, "0\r\n\r\n").await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, CHUNKED_OK).await.unwrap();
            for _ in 0..EVENTS {
                conn.rt().sleep(25 * SECOND).await;
                say(&conn, "1\r\n!\r\n").await.unwrap();
            }
            say(&conn, "0\r\n\r\n").await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

/// The content was not sent for as long as content may pause, which ended the answer as well.
fn content_that_need_not_come_does_not_end_the_answer(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, expectant(1000)).await.unwrap();
            let head = hear(&conn, "\r\n\r\n").await;
            assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
            for _ in 0..EVENTS {
                hear(&conn, "1\r\n!\r\n").await;
            }
            hear(&conn, "0\r\n\r\n").await;
            assert_eq!(drink(&conn).await, (0, true));
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, CHUNKED_OK).await.unwrap();
            for _ in 0..EVENTS {
                conn.rt().sleep(25 * SECOND).await;
                say(&conn, "1\r\n!\r\n").await.unwrap();
            }
            say(&conn, "0\r\n\r\n").await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

/// Either direction used to move the deadline of the other, or to take it away.
fn both_bodies_may_be_on_their_way_for_an_hour(face: Face) {
    let lab = Lab::new(face, |plan, _| plan.limits.body_rate_min = 0);
    lab.play(
        1,
        async |conn| {
            say(&conn, post(EVENTS)).await.unwrap();
            for event in 0..EVENTS {
                conn.rt().sleep(25 * SECOND).await;
                say(&conn, "x").await.unwrap();
                if event == 0 {
                    hear(&conn, "\r\n\r\n").await;
                }
                hear(&conn, "1\r\n!\r\n").await;
            }
            hear(&conn, "0\r\n\r\n").await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            for event in 0..EVENTS {
                hear(&conn, "x").await;
                if event == 0 {
                    say(&conn, CHUNKED_OK).await.unwrap();
                }
                say(&conn, "1\r\n!\r\n").await.unwrap();
            }
            say(&conn, "0\r\n\r\n").await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

fn continue_is_said_in_the_backends_stead(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            let begun = conn.rt().now();
            say(&conn, expectant(5)).await.unwrap();
            assert_eq!(
                hear(&conn, "\r\n\r\n").await,
                "HTTP/1.1 100 Continue\r\n\r\n"
            );
            let waited = conn.rt().now() - begun;
            assert!(waited >= SECOND && waited < 2 * SECOND, "{waited:?}");
            say(&conn, "hello").await.unwrap();
            let head = hear(&conn, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            hear(&conn, "hi").await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\nhello").await;
            // Too late: the client was told, and must not take it for the answer to something else.
            say(&conn, ["HTTP/1.1 100 Continue\r\n\r\n", OK].concat())
                .await
                .unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

fn continue_is_not_said_into_an_answer_that_has_begun(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            say(&conn, expectant(5)).await.unwrap();
            let head = hear(&conn, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
            assert_eq!(drink(&conn).await, (0, true));
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, "HTTP/1.1 403 Forb").await.unwrap();
            conn.rt().sleep(10 * SECOND).await;
            say(&conn, "idden\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

/// It is the backend that owes a word, not the client.
fn who_never_says_continue_is_504_where_the_proxy_says_none(face: Face) {
    let lab = Lab::new(face, |plan, _| plan.timeouts.until_continue = None);
    lab.play(
        1,
        async |conn| {
            say(&conn, expectant(5)).await.unwrap();
            let head = hear(&conn, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
            drink(&conn).await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            drink(&conn).await;
        },
    );
}

fn a_client_that_was_told_to_go_on_and_does_not_is_408(face: Face) {
    let lab = Lab::new(face, |_, _| ());
    lab.play(
        1,
        async |conn| {
            let begun = conn.rt().now();
            say(&conn, expectant(5)).await.unwrap();
            hear(&conn, "HTTP/1.1 100 Continue\r\n\r\n").await;
            let head = hear(&conn, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
            let waited = conn.rt().now() - begun;
            assert!(waited >= 30 * SECOND && waited < 40 * SECOND, "{waited:?}");
            drink(&conn).await;
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            drink(&conn).await;
        },
    );
}

fn a_tunnel_in_which_a_slow_end_takes_bytes_is_not_silent(face: Face) {
    const LEN: u64 = 400_000;
    let lab = Lab::new(face, |plan, hosts| {
        plan.timeouts.tunnel = 10 * SECOND;
        hosts.clients.set_buffer_bytes(4096);
        hosts.proxy.set_buffer_bytes(4096);
    });
    lab.play(
        1,
        async |conn| {
            say(&conn, UPGRADE).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 2000, LEN).await, LEN);
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            say(&conn, SWITCH).await.unwrap();
            say(&conn, vec![b'x'; usize::try_from(LEN).unwrap()])
                .await
                .unwrap();
            conn.finish().await.unwrap();
            assert_eq!(drink(&conn).await, (0, true));
        },
    );
}

/// Found by the simulation: what an end took at once counted as news when the limit had passed, and gave it another one.
fn a_tunnel_is_silent_from_its_last_byte_on(face: Face) {
    const LEN: u64 = 20_000;
    let lab = Lab::new(face, |plan, hosts| {
        plan.timeouts.tunnel = 100 * SECOND;
        hosts.clients.set_buffer_bytes(256);
        hosts.proxy.set_buffer_bytes(4096);
    });
    lab.play(
        1,
        async |conn| {
            say(&conn, UPGRADE).await.unwrap();
            hear(&conn, "\r\n\r\n").await;
            assert_eq!(sip(&conn, 1 << 20, LEN).await, LEN);
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            conn.rt().sleep(5 * MINUTE).await; // It neither speaks nor ends.
        },
        async |conn| {
            hear(&conn, "\r\n\r\n").await;
            let begun = conn.rt().now();
            say(&conn, SWITCH).await.unwrap();
            say(&conn, vec![b'x'; usize::try_from(LEN).unwrap()])
                .await
                .unwrap();
            conn.finish().await.unwrap();
            assert!(conn.recv().await.is_err(), "reset");
            let lasted = conn.rt().now() - begun;
            assert!(lasted < 110 * SECOND, "{lasted:?}");
        },
    );
}

fn post(length: u64) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

fn expectant(length: u64) -> String {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    format!("{head}Content-Length: {length}\r\n\r\n")
}

fn answer_of(length: u64) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
}

const BODY_LEN: usize = 4 << 20;
const BODY_BYTES: u64 = BODY_LEN as u64;
/// One every 25 seconds makes an hour of them.
const EVENTS: u64 = 144;
const CHUNKED_OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
