//! How long the head of a request may take: from its first byte on, wherever on a connection it begins and however it is cut.

use crate::lab::{GET, Lab, OK, SECOND, hear, say};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::Face;
use std::cell::Cell;
use std::io;
use std::time::Duration;

facts! {
    the_first_head_has_its_time_from_the_connections_begin,
    a_head_soon_behind_an_answer_has_its_time_from_its_first_byte,
    a_head_on_a_connection_that_idled_for_long_has_its_time_from_its_first_byte,
    a_head_that_begins_with_the_request_before_has_its_time_from_the_answer,
    a_head_that_begins_before_the_answer_has_its_time_from_the_answer,
}

fn the_first_head_has_its_time_from_the_connections_begin(face: Face) {
    check(face, HEAD_TIME - 4 * SECOND, async |conn, begin| {
        conn.rt().sleep(4 * SECOND).await;
        say(conn, begin).await.unwrap();
    });
}

/// Its task still waits.
fn a_head_soon_behind_an_answer_has_its_time_from_its_first_byte(face: Face) {
    check(face, HEAD_TIME, async |conn, begin| {
        say(conn, GET).await.unwrap();
        hear(conn, "\r\n\r\nhi").await;
        conn.rt().sleep(SECOND / 2).await;
        say(conn, begin).await.unwrap();
    });
}

/// It has no task any more.
fn a_head_on_a_connection_that_idled_for_long_has_its_time_from_its_first_byte(face: Face) {
    check(face, HEAD_TIME, async |conn, begin| {
        say(conn, GET).await.unwrap();
        hear(conn, "\r\n\r\nhi").await;
        conn.rt().sleep(30 * SECOND).await;
        say(conn, begin).await.unwrap();
    });
}

fn a_head_that_begins_with_the_request_before_has_its_time_from_the_answer(face: Face) {
    check(face, HEAD_TIME, async |conn, begin| {
        say(conn, [GET, begin].concat()).await.unwrap();
        hear(conn, "\r\n\r\nhi").await;
    });
}

fn a_head_that_begins_before_the_answer_has_its_time_from_the_answer(face: Face) {
    check(face, HEAD_TIME, async |conn, begin| {
        say(conn, GET).await.unwrap();
        conn.rt().sleep(SECOND).await;
        say(conn, begin).await.unwrap();
        hear(conn, "\r\n\r\nhi").await;
    });
}

/// Clients that begin a head, each with one byte more than the one before, and say a byte more of it every few seconds, but never all:
/// each is answered 408 so long after its beginning.
fn check(face: Face, time: Duration, begin: impl AsyncFn(&Conn, &str) + 'static) {
    let lab = Lab::new(face, |plan, _| plan.timeouts.head = HEAD_TIME);
    let next = Cell::new(0);
    let client = async move |conn: Conn| {
        next.set(next.get() + 1);
        let (beginning, rest) = GET.split_at(next.get());
        begin(&conn, beginning).await;
        let begun = conn.rt().now();
        let mut rest = rest.bytes();
        let heard = loop {
            conn.set_deadline(Some(conn.rt().now() + PAUSE));
            match conn.recv().await {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => (),
                heard => break heard,
            }
            if rest.len() > 1 {
                let byte: Vec<u8> = rest.next().into_iter().collect();
                say(&conn, byte).await.unwrap();
            }
        };
        let took = conn.rt().now() - begun;
        match heard {
            Ok(Rx::Data(lent)) => assert!(lent.starts_with(b"HTTP/1.1 408 ")),
            other => panic!("{other:?} behind {beginning:?}"),
        }
        let early = Duration::from_millis(100);
        let range = time.saturating_sub(early)..time + early;
        assert!(range.contains(&took), "{took:?} behind {beginning:?}");
    };
    lab.play(GET.len() - 1, client, async |conn| {
        // Each head comes in one piece here.
        while let Ok(Rx::Data(_head)) = conn.recv().await {
            conn.rt().sleep(2 * SECOND).await;
            say(&conn, OK).await.unwrap();
        }
    });
}

const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between two bytes.
const PAUSE: Duration = Duration::from_secs(3);
