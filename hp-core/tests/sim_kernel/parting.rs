//! Who gives a connection up, or would have, while something comes for it.

use super::scene::{Scene, everything, exactly};
use hp_core::rt::net::Conn;
use hp_core::rt::sim::{Chance, Face, Fault, Frequency, Profile};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What tells of a Unix socket's end was called back with the rest, and whoever went on relied on it.
pub(crate) fn a_connection_that_was_to_be_released_and_stayed_hears_of_its_end(face: Face) {
    let stayed = Rc::new(Cell::new(0));
    for seed in 0..SEEDS {
        let scene = Scene::new(seed, &late(), face);
        let mut chance = Chance::new(seed);
        let (before, until) = (chance.below(MOMENT), chance.below(MOMENT));
        let count = Rc::clone(&stayed);
        scene.play(
            async move |conn| {
                let conn = hear_twice(conn, before).await;
                let rt = conn.rt().clone();
                let conn = match conn.release_idle().await {
                    Ok(released) => rt.adopt_released(released).unwrap(),
                    Err(stays) => {
                        count.set(count.get() + 1);
                        stays
                    }
                };
                assert_eq!(everything(&conn).await.unwrap(), b"meanwhilelast");
            },
            async move |conn| {
                speak_twice(&conn).await;
                conn.rt().sleep(Duration::from_nanos(until)).await;
                conn.write(b"meanwhile").unwrap();
                conn.flush().await.unwrap();
                conn.rt().sleep(SECOND).await;
                conn.write(b"last").unwrap();
                conn.finish().await.unwrap();
            },
        );
    }
    assert!(stayed.get() > 20, "{} stayed", stayed.get());
}

/// What came for it was dropped, and its receive, which went on, was ended as that of a connection that closes in order.
pub(crate) fn a_reset_is_no_end_in_order_whatever_comes_meanwhile(face: Face) {
    for seed in 0..SEEDS {
        let scene = Scene::new(seed, &late(), face);
        let mut chance = Chance::new(seed);
        let (before, until) = (chance.below(MOMENT), chance.below(MOMENT));
        scene.play(
            async move |conn| {
                let conn = hear_twice(conn, before).await;
                conn.write(b"half of it").unwrap();
                conn.reset();
            },
            async move |conn| {
                speak_twice(&conn).await;
                conn.rt().sleep(Duration::from_nanos(until)).await;
                conn.write(b"meanwhile").unwrap();
                let heard = everything(&conn).await;
                assert!(heard.is_err(), "{heard:?}");
            },
        );
    }
}

/// Says two things, between which its peer listens anew.
async fn speak_twice(conn: &Conn) {
    conn.write(b"1").unwrap();
    assert_eq!(exactly(conn, 1).await, b"1");
    conn.write(b"2").unwrap();
    assert_eq!(exactly(conn, 1).await, b"2");
}

/// The other side of it: listens for a while longer, and for nothing.
async fn hear_twice(conn: Conn, nanos: u64) -> Conn {
    let rt = conn.rt().clone();
    for heard in [b"1", b"2"] {
        assert_eq!(exactly(&conn, 1).await, heard);
        conn.write(heard).unwrap();
        conn.flush().await.unwrap();
    }
    let until = rt.now() + Duration::from_nanos(nanos);
    match rt.timeout_at(until, conn.readable()).await {
        Ok(news) => news.unwrap(),
        Err(_nothing_yet) => (),
    }
    conn
}

fn late() -> Profile {
    Profile::calm()
        .with(Fault::LateCancel, Frequency::Storm)
        .with(Fault::LateSegment, Frequency::Storm)
}

const SEEDS: u64 = 300;
const MOMENT: u64 = 3_000_000;
const SECOND: Duration = Duration::from_secs(1);
