//! A parked connection has no task and comes back once, with a reason.

use crate::lab::{
    check, conns_fall_to, exactly, listener, once, options, pair, pair_from, soon, tiny,
    within_turns,
};
use crate::peer;
use hp_core::rt::net::{Rx, Unparked};
use hp_core::rt::{Engine, Instant};
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

pub(crate) fn a_parked_connection_returns_with_its_news_and_its_tag(engine: Engine) {
    check(&options(engine), async |rt| {
        let (mut conn, mut peer) = pair(&rt).await;
        for round in 0..5 {
            let addr = conn.peer_addr();
            let key = conn.park(round, soon(&rt));
            assert!(within_turns(&rt, 20, rt.next_unparked()).await.is_none());
            assert_eq!(rt.holdings().lent_buffers, 0);
            peer.write_all(b"news").unwrap();
            let (back, tag, why) = rt.next_unparked().await;
            assert_eq!((tag, why), (round, Unparked::News));
            assert_eq!(back.peer_addr(), addr);
            assert!(rt.unpark(key).is_none(), "it came back already");
            assert_eq!(exactly(&back, 4).await, b"news");
            conn = back;
        }
        conn.write(b"and it still speaks").unwrap();
    });
}

pub(crate) fn a_parked_connection_returns_at_its_deadline(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        let deadline = rt.precise_now() + Duration::from_millis(20);
        let key = conn.park(u64::MAX, deadline);
        let (conn, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (u64::MAX, Unparked::Expired));
        assert!(rt.precise_now() >= deadline);
        assert!(rt.unpark(key).is_none());
        // Its deadline is over and done with.
        assert!(once(conn.recv()).await.is_none());
        peer.write_all(b"more").unwrap();
        assert_eq!(exactly(&conn, 4).await, b"more");
        let _key = conn.park(3, Instant::START);
        let (_conn, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (3, Unparked::Expired));
    });
}

/// What a turn does not tell of, or no ring has brought yet, lost to the deadline: a client whose next request had come was closed on.
pub(crate) fn news_of_many_parked_noticed_together_with_the_deadline_are_news(engine: Engine) {
    for (heard_before, says) in [(0, b"in time".as_slice()), (MUCH, b"in time"), (0, b"")] {
        check(&options(engine), async |rt| {
            let mut peers = Vec::new();
            for tag in 0..MORE_THAN_A_TURN_TELLS {
                let (conn, mut peer) = pair(&rt).await;
                peer.write_all(&vec![7; heard_before]).unwrap();
                exactly(&conn, heard_before).await;
                let _key = conn.park(tag, soon(&rt));
                peers.push(peer);
            }
            rt.yield_now().await;
            rt.yield_now().await; // The kernel knows that all are waited for.
            for peer in &mut peers {
                peer.write_all(says).unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
            }
            let deadline = rt.precise_now() + Duration::from_millis(5);
            rt.hasten_parked(|_place, _tag| Some(deadline));
            while rt.precise_now() < deadline + Duration::from_millis(2) {}
            for _ in &peers {
                let (conn, tag, why) = rt.next_unparked().await;
                assert_eq!(why, Unparked::News, "{tag}");
                assert_eq!(exactly(&conn, says.len()).await, says);
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            }
        });
    }
}

/// In a ring these have given their receive back by now. The one that expires first shows that time passed.
pub(crate) fn what_idled_for_long_returns_with_its_news_and_can_be_taken_back(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let (until, later) = (rt.precise_now() + LONG, soon(&rt));
        let (clock, _peer) = pair_from(&listener, addr).await;
        let _key = clock.park(0, until);
        let (speaks, mut speaker) = pair_from(&listener, addr).await;
        let _key = speaks.park(1, later);
        let (ends, ender) = pair_from(&listener, addr).await;
        let _key = ends.park(2, later);
        let (taken, mut taker) = pair_from(&listener, addr).await;
        let key = taken.park(3, later);
        let (moves, mut mover) = pair_from(&listener, addr).await;
        let moving = moves.park(4, later);

        let (_clock, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (0, Unparked::Expired));
        speaker.write_all(b"news").unwrap();
        let (speaks, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (1, Unparked::News));
        assert_eq!(exactly(&speaks, 4).await, b"news");
        drop(ender);
        let (ends, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (2, Unparked::News));
        assert!(matches!(ends.recv().await, Ok(Rx::Eof)));
        let taken = rt.unpark(key).unwrap();
        taken.write(b"request").unwrap();
        assert!(once(taken.recv()).await.is_none());
        taker.write_all(b"response").unwrap();
        assert_eq!(exactly(&taken, 8).await, b"response");
        let released = rt.unpark(moving).unwrap().release_idle().await.unwrap();
        let moved = rt.adopt_released(released).unwrap();
        mover.write_all(b"here").unwrap();
        assert_eq!(exactly(&moved, 4).await, b"here");
    });
}

/// Where nobody has been told of its end yet, the next request would be written to it, and be lost.
pub(crate) fn what_idled_and_has_ended_is_not_taken_back(engine: Engine) {
    for idles in [Duration::from_millis(20), LONG] {
        check(&options(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let until = rt.precise_now() + idles;
            let (clock, _peer) = pair_from(&listener, addr).await;
            let _key = clock.park(0, until);
            let (conn, peer) = pair_from(&listener, addr).await;
            let key = conn.park(1, soon(&rt));
            let (_clock, tag, _why) = rt.next_unparked().await;
            assert_eq!(tag, 0);
            drop(peer);
            rt.yield_now().await;
            assert!(rt.unpark(key).is_none(), "after {idles:?}");
            let (conn, tag, why) = rt.next_unparked().await;
            assert_eq!((tag, why), (1, Unparked::News));
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        });
    }
}

pub(crate) fn a_parked_connection_can_be_taken_back(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        let key = conn.park(1, rt.precise_now() + Duration::from_millis(5));
        rt.yield_now().await;
        let conn = rt.unpark(key).unwrap();
        assert!(rt.unpark(key).is_none(), "one handle at a time");
        rt.sleep(Duration::from_millis(10)).await; // The parking's deadline is gone with it.
        conn.write(b"request").unwrap();
        assert!(once(conn.recv()).await.is_none());
        peer.write_all(b"response").unwrap();
        assert_eq!(exactly(&conn, 8).await, b"response");
        assert!(once(rt.next_unparked()).await.is_none());
        drop(conn);
        conns_fall_to(&rt, 0).await;
        assert!(rt.unpark(key).is_none());
    });
}

pub(crate) fn the_end_of_a_parked_connection_is_news(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let _key = conn.park(1, soon(&rt));
        rt.yield_now().await;
        drop(peer);
        let (conn, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (1, Unparked::News));
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));

        let (conn, peer) = pair(&rt).await;
        let _key = conn.park(2, soon(&rt));
        rt.yield_now().await;
        peer::reset(peer);
        let (conn, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (2, Unparked::News));
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

pub(crate) fn a_connection_parked_with_data_returns_at_once(engine: Engine) {
    check(&options(engine), async |rt| {
        for looked in [true, false] {
            let (conn, mut peer) = pair(&rt).await;
            if looked {
                assert!(once(conn.recv()).await.is_none());
            }
            peer.write_all(b"early").unwrap();
            if looked {
                conn.readable().await.unwrap();
            }
            let _key = conn.park(4, soon(&rt));
            let (conn, tag, why) = within_turns(&rt, 20, rt.next_unparked()).await.unwrap();
            assert_eq!((tag, why), (4, Unparked::News));
            assert_eq!(exactly(&conn, 5).await, b"early");
        }
    });
}

pub(crate) fn all_parked_connections_can_be_brought_back_at_once(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut peers = Vec::new();
        for tag in 0..10 {
            let (conn, mut peer) = pair_from(&listener, addr).await;
            if tag == 3 {
                peer.write_all(b"three").unwrap();
                conn.readable().await.unwrap();
            }
            let key = conn.park(tag, soon(&rt));
            if tag == 4 {
                drop(rt.unpark(key));
            }
            peers.push(peer);
        }
        rt.unpark_all();
        rt.unpark_all();
        let mut seen = Vec::new();
        for _ in 0..9 {
            let (_conn, tag, why) = rt.next_unparked().await;
            let news = tag == 3;
            assert_eq!(
                why,
                if news {
                    Unparked::News
                } else {
                    Unparked::Expired
                }
            );
            seen.push(tag);
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
        assert!(once(rt.next_unparked()).await.is_none());
    });
}

pub(crate) fn parked_connections_can_be_brought_back_earlier_one_by_one(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut peers = Vec::new();
        let mut places = Vec::new();
        let near = rt.precise_now() + Duration::from_millis(20);
        for tag in 0..6 {
            let (conn, peer) = pair_from(&listener, addr).await;
            places.push((conn.name().place(), tag));
            let deadline = if tag == 5 { near } else { soon(&rt) };
            let _key = conn.park(tag, deadline);
            peers.push(peer);
        }
        let (open, _peer) = pair_from(&listener, addr).await;
        let mut asked = Vec::new();
        rt.hasten_parked(|place, tag| {
            asked.push((place, tag));
            match tag {
                0 => Some(near + Duration::from_millis(20)),
                1 => Some(near + Duration::from_millis(10)),
                2 => Some(Instant::START),
                3 => Some(Instant::NEVER), // Later than it has: nothing changes.
                _ => None,
            }
        });
        asked.sort_unstable();
        places.sort_unstable();
        assert_eq!(asked, places, "who is not parked is not asked for");
        for (expected, at) in [(2, 0), (5, 0), (1, 10), (0, 20)] {
            let (_conn, tag, why) = rt.next_unparked().await;
            assert_eq!((tag, why), (expected, Unparked::Expired));
            let deadline = near + Duration::from_millis(at);
            assert!(tag == 2 || rt.precise_now() >= deadline);
        }
        assert!(once(rt.next_unparked()).await.is_none());
        assert!(
            once(open.recv()).await.is_none(),
            "it has no deadline still"
        );
        rt.unpark_all();
        let mut left = [rt.next_unparked().await.1, rt.next_unparked().await.1];
        left.sort_unstable();
        assert_eq!(left, [3, 4], "they were left alone");
    });
}

pub(crate) fn many_parked_connections_return_once_each(engine: Engine) {
    const CONNS: u64 = 200;
    check(&tiny(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut peers = Vec::new();
        let mut keys = Vec::new();
        for tag in 0..CONNS {
            let (conn, peer) = pair_from(&listener, addr).await;
            // A third speaks, a third ends, a third stays until its deadline.
            let short = rt.precise_now() + Duration::from_millis(30);
            let deadline = if tag % 3 == 2 { short } else { soon(&rt) };
            keys.push(conn.park(tag, deadline));
            peers.push(Some(peer));
        }
        for (tag, peer) in peers.iter_mut().enumerate() {
            match tag % 3 {
                0 => peer.as_mut().unwrap().write_all(&[7]).unwrap(),
                1 => *peer = None,
                _ => (),
            }
        }
        let mut seen = vec![false; usize::try_from(CONNS).unwrap()];
        for _ in 0..CONNS {
            let (conn, tag, why) = rt.next_unparked().await;
            assert_eq!(
                why,
                if tag % 3 == 2 {
                    Unparked::Expired
                } else {
                    Unparked::News
                }
            );
            let place = &mut seen[usize::try_from(tag).unwrap()];
            assert!(!std::mem::replace(place, true));
            match tag % 3 {
                0 => assert_eq!(exactly(&conn, 1).await, [7]),
                1 => assert!(matches!(conn.recv().await, Ok(Rx::Eof))),
                _ => assert!(once(conn.recv()).await.is_none()),
            }
        }
        assert!(once(rt.next_unparked()).await.is_none());
        assert!(keys.into_iter().all(|key| rt.unpark(key).is_none()));
    });
}

/// Longer than it takes to see that a connection idles.
const LONG: Duration = Duration::from_millis(2_200);
const MORE_THAN_A_TURN_TELLS: u64 = 100;
/// After this what comes is received into large buffers.
const MUCH: usize = 64 * 1024;
