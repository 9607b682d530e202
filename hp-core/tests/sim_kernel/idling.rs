//! What becomes of connections that are parked for a moment, and for long.

use crate::scene::{Scene, exactly};
use hp_core::rt::net::{Conn, Rx, Unparked};
use hp_core::rt::sim::{Face, Fault, Frequency, Profile};
use std::io;
use std::time::Duration;

/// An armed receive takes more of the kernel's memory than all that the program keeps of an idle connection, and a second poll as much as the first.
pub(crate) fn what_idles_for_long_holds_one_poll_in_the_kernel(face: Face) {
    let scene = Scene::calm(1, face);
    let client = scene.client.clone();
    scene.play(
        async |conn| tell_news(&conn, MINUTE).await,
        async move |mut conn| {
            let rt = conn.rt().clone();
            for _ in 0..ROUNDS {
                let parked_at = rt.now();
                let _key = conn.park(42, parked_at + MINUTE * 2);
                rt.yield_now().await;
                rt.yield_now().await;
                let at_once = usize::from(face == Face::Completion);
                assert_eq!(client.armed_receives(), at_once, "for a moment it does");
                rt.sleep(LONG).await;
                assert_eq!(client.armed_receives(), 0);
                assert_eq!(client.armed_polls(), at_once);
                let why;
                (conn, _, why) = rt.next_unparked().await;
                assert_eq!(why, Unparked::News);
                assert!(
                    rt.now() < parked_at + MINUTE + MOMENT,
                    "not by its deadline"
                );
                assert_eq!(exactly(&conn, 4).await, b"news");
                conn.write(b"thanks").unwrap();
            }
        },
    );
}

/// Whatever the kernel does first: the last answer of the receive that is called back, the bytes, or that of the poll.
pub(crate) fn news_and_deadlines_of_what_idles_reach_its_owner_at_any_time(face: Face) {
    for (seed, pause) in (0..).zip(pauses()) {
        let scene = Scene::new(seed, &unruly(), face);
        scene.play(
            async move |conn| tell_news(&conn, pause).await,
            async move |mut conn| {
                let rt = conn.rt().clone();
                for round in 0..ROUNDS {
                    // Every other time it expires first, if that is before the news.
                    let until = if round % 2 == 0 { MINUTE } else { pause };
                    let parked_at = rt.now();
                    let _key = conn.park(round, parked_at + until);
                    let (back, tag, why) = rt.next_unparked().await;
                    assert!(rt.now() < parked_at + pause + MOMENT);
                    assert_eq!(tag, round);
                    assert!(round % 2 == 1 || why == Unparked::News);
                    assert_eq!(exactly(&back, 4).await, b"news");
                    back.write(b"thanks").unwrap();
                    conn = back;
                }
            },
        );
    }
}

/// As connections to backends are, between any two requests.
pub(crate) fn what_is_parked_for_a_moment_asks_nothing_of_the_kernel(face: Face) {
    let entries = |pause: Duration| {
        let scene = Scene::calm(1, face);
        let host = scene.client.clone();
        scene.play(echo, async move |mut conn| {
            let rt = conn.rt().clone();
            for round in 0..ROUNDS * 4 {
                let key = conn.park(round, rt.now() + MINUTE);
                rt.sleep(pause).await;
                conn = rt.unpark(key).unwrap();
                conn.write(b"request").unwrap();
                assert_eq!(exactly(&conn, 7).await, b"request");
            }
        });
        host.calls().entries
    };
    let without_pauses = entries(Duration::from_millis(1));
    assert_eq!(entries(Duration::from_millis(900)), without_pauses);
}

/// The looks at whether it idles are made by the same timer.
pub(crate) fn deadlines_of_what_idles_are_kept(face: Face) {
    for pause in pauses() {
        let scene = Scene::calm(1, face);
        scene.play(
            async |conn| assert!(matches!(conn.recv().await, Ok(Rx::Eof))),
            async move |conn| {
                let rt = conn.rt().clone();
                let deadline = rt.now() + pause;
                let _key = conn.park(7, deadline);
                let (_conn, tag, why) = rt.next_unparked().await;
                assert_eq!((tag, why), (7, Unparked::Expired));
                assert!(deadline <= rt.now() && rt.now() < deadline + Duration::from_millis(3));
            },
        );
    }
}

/// Each deadline and each look may ask for an earlier one than is armed.
pub(crate) fn a_connection_has_one_timer_however_it_is_parked(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| assert!(matches!(conn.recv().await, Ok(Rx::Eof))),
        async move |mut conn| {
            let rt = conn.rt().clone();
            let before = rt.footprint().timers.occupied;
            for pause in pauses() {
                conn.set_deadline(Some(rt.now() + MINUTE * 2));
                let key = conn.park(1, rt.now() + MINUTE);
                rt.sleep(pause).await;
                rt.hasten_parked(|_place, _tag| Some(rt.now() + LONG));
                assert!(rt.footprint().timers.occupied <= before + 1);
                conn = rt.unpark(key).unwrap();
            }
        },
    );
}

pub(crate) fn what_idled_can_be_taken_back_at_any_time(face: Face) {
    for (seed, pause) in (0..).zip(pauses()) {
        let scene = Scene::new(seed, &unruly(), face);
        scene.play(echo, async move |mut conn| {
            let rt = conn.rt().clone();
            for round in 0..ROUNDS {
                let key = conn.park(round, rt.now() + MINUTE);
                rt.sleep(pause).await;
                let back = rt.unpark(key).expect("nobody said anything");
                back.write(b"request").unwrap();
                assert_eq!(exactly(&back, 7).await, b"request");
                conn = back;
            }
        });
    }
}

pub(crate) fn the_end_of_what_idled_is_news(face: Face) {
    for (seed, pause) in (0..).zip(pauses()) {
        for is_reset in [false, true] {
            let scene = Scene::new(seed, &unruly(), face);
            scene.play(
                async move |conn| {
                    conn.rt().sleep(pause).await;
                    match is_reset {
                        true => conn.reset(),
                        false => conn.close(),
                    }
                },
                async move |conn| {
                    let rt = conn.rt().clone();
                    let parked_at = rt.now();
                    let _key = conn.park(7, parked_at + MINUTE);
                    let (conn, tag, why) = rt.next_unparked().await;
                    assert!(rt.now() < parked_at + pause + MOMENT);
                    assert_eq!((tag, why), (7, Unparked::News));
                    assert_eq!(ended(&conn).await, is_reset);
                },
            );
        }
    }
}

/// Tells its peer something after each pause, and is thanked for it.
async fn tell_news(conn: &Conn, pause: Duration) {
    for _ in 0..ROUNDS {
        conn.rt().sleep(pause).await;
        conn.write(b"news").unwrap();
        assert_eq!(exactly(conn, 6).await, b"thanks");
    }
    assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
}

async fn echo(conn: Conn) {
    while let Ok(Rx::Data(lent)) = conn.recv().await {
        conn.queue(lent).unwrap();
    }
}

/// Whether a connection without bytes ends in a reset.
async fn ended(conn: &Conn) -> bool {
    match conn.recv().await {
        Ok(Rx::Eof) => false,
        Ok(Rx::Data(lent)) => panic!("nobody sent {:?}", &*lent),
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// Times around those at which it is seen whether a connection still idles.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..60_u64).map(|step| Duration::from_micros(step * 50_000 + step % 7 * 13))
}

/// Answers of a ring that come in another order, and late.
fn unruly() -> Profile {
    [
        Fault::LateCancel,
        Fault::EndedMultishot,
        Fault::ReorderedCompletions,
        Fault::SpuriousReadiness,
    ]
    .into_iter()
    .fold(Profile::calm(), |profile, fault| {
        profile.with(fault, Frequency::Storm)
    })
}

/// How long what is sent, and an answer of the kernel, may take at most.
const MOMENT: Duration = Duration::from_millis(100);
const ROUNDS: u64 = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// After this nobody expects it back soon.
const LONG: Duration = Duration::from_secs(5);
