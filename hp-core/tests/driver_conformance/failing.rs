//! Whoever works on behalf of a peer learns that it has gone, whatever of it lies unread, and is told of nothing else.

use crate::lab::{
    PATIENCE, check, conns_fall_to, exactly, once, options, pair, soon, tiny, within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Rx, Unparked};
use hp_core::rt::race::{First, race};
use hp_core::rt::{Engine, Rt};
use std::future::pending;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A ring receives into large buffers by calls, and while something was unread there was nothing in the ring that would have told.
pub(crate) fn a_failure_is_noticed_behind_unread_bytes_in_a_large_buffer(engine: Engine) {
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            let (conn, peer) = watched_over_unread(&rt, MUCH).await;
            peer::reset(peer);
            check_noticed(&rt, &conn).await;
            assert_eq!(exactly(&conn, UNREAD.len()).await, UNREAD);
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}

/// A ring's receive ends by itself after so much, and whoever has that unread armed no other one.
pub(crate) fn a_failure_is_noticed_behind_more_than_is_received_ahead(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        for _ in 0..40 {
            // Little at a time earns no large buffers.
            peer.write_all(&[7; 1000]).unwrap();
            assert!(within_turns(&rt, 3, conn.failure()).await.is_none());
        }
        peer::reset(peer);
        check_noticed(&rt, &conn).await;
    });
}

/// A ring was told of the peer's end, and then of nothing more.
pub(crate) fn a_failure_is_noticed_behind_an_end_behind_much_unread(engine: Engine) {
    check(&options(engine), async |rt| {
        for much in [0, MUCH] {
            let (conn, mut peer) = pair(&rt).await;
            peer.write_all(&Text(5).bytes(0, much)).unwrap();
            Text(5).check(0, &exactly(&conn, much).await);
            assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
            peer.write_all(&[7; BEHIND]).unwrap();
            assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
            peer.shutdown(Shutdown::Write).unwrap();
            assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
            peer::reset(peer);
            // Behind an end, Linux calls it so.
            check_noticed_as(&rt, &conn, io::ErrorKind::BrokenPipe).await;
        }
    });
}

/// A task that had received as often as it may in one turn, and no more often, was not woken for what it then did not look for.
pub(crate) fn a_failure_is_noticed_by_who_has_used_its_turn_up(engine: Engine) {
    check(&options(engine), async |rt| {
        for received in RECEIVES_A_TURN - 1..=RECEIVES_A_TURN + 1 {
            let mut busy = Vec::new();
            for _ in 0..received {
                let (conn, mut peer) = pair(&rt).await;
                peer.write_all(b"x").unwrap();
                busy.push((conn, peer));
            }
            let (conn, peer) = watched_over_unread(&rt, 0).await;
            peer::reset(peer);
            assert!(within_turns(&rt, 3, pending::<()>()).await.is_none()); // Everything is told by now.
            for (conn, _peer) in &busy {
                let _now_or_later = once(conn.recv()).await;
            }
            check_noticed(&rt, &conn).await;
        }
    });
}

/// Neither while it lies behind bytes, nor when both sides have said all: what is there unread can still be answered, or thrown away.
pub(crate) fn an_end_behind_unread_bytes_is_no_failure_and_costs_no_turns(engine: Engine) {
    check(&options(engine), async |rt| {
        for (much, has_finished) in [(0, false), (0, true), (MUCH, false), (MUCH, true)] {
            let (conn, peer) = watched_over_unread(&rt, much).await;
            let end = || peer.shutdown(Shutdown::Write).unwrap();
            check_end_is_no_failure(&rt, (&conn, UNREAD), has_finished, end).await;
        }
    });
}

/// Of a Unix socket that its peer has closed there is no errno, and what was reported was thrown away for that: the engine that polls anew before each
/// wait was told of it in every turn, at full speed, and on none of them was anybody else.
pub(crate) fn a_peer_of_a_unix_socket_that_has_closed_behind_much_unread_has_failed(
    engine: Engine,
) {
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            for much in [0, MUCH] {
                let (conn, mut peer) = unix_pair(&rt);
                peer.write_all(&Text(5).bytes(0, much)).unwrap();
                Text(5).check(0, &exactly(&conn, much).await);
                peer.write_all(&[7; BEHIND]).unwrap();
                assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
                drop(peer);
                let bound = rt.precise_now() + PATIENCE / 4; // Reached by the mistake only.
                let turns_before = rt.stats().turns;
                let noticed = rt.timeout_at(bound, conn.failure()).await;
                let turns = rt.stats().turns - turns_before;
                assert!(turns < 50, "{turns} turns, {noticed:?}");
                let error = noticed.expect("the peer has gone and nobody was told");
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        });
    }
}

/// To the kernel both are one event, and where nothing but the end is left behind bytes of a Unix socket it does not say so: a ring's receive that goes on by
/// itself waited for another event, which never came. Answers until close, and clients that left, were waited for until their deadline.
pub(crate) fn an_end_right_behind_bytes_of_a_unix_socket_is_told(engine: Engine) {
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            for heard_before in [None, Some(0), Some(3)] {
                let (conn, mut peer) = unix_pair(&rt);
                if let Some(count) = heard_before {
                    peer.write_all(&Text(5).bytes(0, count)).unwrap();
                    Text(5).check(0, &exactly(&conn, count).await);
                    assert!(within_turns(&rt, 3, conn.recv()).await.is_none());
                }
                peer.write_all(UNREAD).unwrap();
                drop(peer);
                assert_eq!(exactly(&conn, UNREAD.len()).await, UNREAD);
                let bound = rt.precise_now() + PATIENCE / 4; // Reached by the mistake only.
                let end = rt.timeout_at(bound, conn.recv()).await;
                let end = end.expect("the peer has ended and nobody was told");
                assert!(matches!(end, Ok(Rx::Eof)), "{heard_before:?}: {end:?}");
            }
        });
    }
}

/// What is reported then stays, too, and who goes on waiting must not be told of it again and again.
pub(crate) fn an_end_of_both_sides_behind_much_unread_is_no_failure_and_costs_no_turns(
    engine: Engine,
) {
    check(&options(engine), async |rt| {
        for has_finished in [false, true] {
            let (conn, mut peer) = unix_pair(&rt);
            peer.write_all(&[7; BEHIND]).unwrap();
            let end = || peer.shutdown(Shutdown::Write).unwrap();
            check_end_is_no_failure(&rt, (&conn, &[7; BEHIND]), has_finished, end).await;
            let (conn, mut peer) = pair(&rt).await;
            peer.write_all(&[7; BEHIND]).unwrap();
            let end = || peer.shutdown(Shutdown::Write).unwrap();
            check_end_is_no_failure(&rt, (&conn, &[7; BEHIND]), has_finished, end).await;
        }
    });
}

async fn check_end_is_no_failure(
    rt: &Rt,
    (conn, unread): (&Conn, &[u8]),
    has_finished: bool,
    end: impl FnOnce(),
) {
    assert!(within_turns(rt, 10, conn.failure()).await.is_none());
    if has_finished {
        conn.finish().await.unwrap();
    }
    end();
    let pause = || rt.sleep(Duration::from_millis(50));
    let noticed = async || matches!(race(conn.failure(), pause()).await, First::One(_));
    assert!(!noticed().await, "{has_finished}");
    let turns_before = rt.stats().turns;
    assert!(!noticed().await, "{has_finished}");
    let turns = rt.stats().turns - turns_before;
    assert!(turns < 10, "{turns} turns in 50 ms, {has_finished}");
    assert_eq!(exactly(conn, unread.len()).await, unread);
    assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
}

/// The wait for its failure is called back with the receive.
pub(crate) fn a_connection_that_was_watched_is_released_when_it_idles(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = watched_over_unread(&rt, MUCH).await;
        assert_eq!(exactly(&conn, UNREAD.len()).await, UNREAD);
        let released = conn.release_idle().await.unwrap();
        assert_eq!(rt.holdings().conns, 0);
        let conn = rt.adopt_released(released).unwrap();
        peer.write_all(b"meanwhile").unwrap();
        assert_eq!(exactly(&conn, 9).await, b"meanwhile");
    });
}

/// It returns with what comes next, and with the end where that comes.
pub(crate) fn a_connection_that_was_watched_is_parked_as_any_other(engine: Engine) {
    check(&options(engine), async |rt| {
        for leaves in [false, true] {
            let (conn, mut peer) = watched_over_unread(&rt, MUCH).await;
            assert_eq!(exactly(&conn, UNREAD.len()).await, UNREAD);
            let _key = conn.park(1, soon(&rt));
            assert!(within_turns(&rt, 5, rt.next_unparked()).await.is_none());
            if leaves {
                peer::reset(peer);
            } else {
                peer.write_all(b"more").unwrap();
            }
            let (conn, _tag, why) = rt.next_unparked().await;
            assert_eq!(why, Unparked::News);
            match conn.recv().await {
                Ok(Rx::Data(lent)) => assert_eq!((&*lent, leaves), (&b"more"[..], false)),
                Ok(Rx::Eof) => panic!("a reset is no end"),
                Err(error) => {
                    assert_eq!(
                        (error.kind(), leaves),
                        (io::ErrorKind::ConnectionReset, true)
                    );
                }
            }
        }
    });
}

pub(crate) fn a_watched_connection_leaves_nothing_when_it_is_given_up(engine: Engine) {
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            for give_up in [drop::<Conn>, Conn::close, Conn::reset] {
                for leaves in [false, true] {
                    let (conn, peer) = watched_over_unread(&rt, MUCH).await;
                    let peer = if leaves {
                        peer::reset(peer); // Perhaps told, perhaps on its way.
                        None
                    } else {
                        Some(peer)
                    };
                    give_up(conn);
                    conns_fall_to(&rt, 0).await;
                    assert_eq!(rt.holdings().lent_buffers, 0);
                    drop(peer);
                }
            }
        });
    }
}

/// A connection that heard so much before, and has something unread while somebody waits for its failure.
async fn watched_over_unread(rt: &Rt, heard_before: usize) -> (Conn, TcpStream) {
    let (conn, mut peer) = pair(rt).await;
    peer.write_all(&Text(5).bytes(0, heard_before)).unwrap();
    Text(5).check(0, &exactly(&conn, heard_before).await);
    assert!(within_turns(rt, 10, conn.failure()).await.is_none());
    peer.write_all(UNREAD).unwrap();
    assert!(within_turns(rt, 10, conn.failure()).await.is_none());
    (conn, peer)
}

fn unix_pair(rt: &Rt) -> (Conn, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (rt.adopt(OwnedFd::from(ours)).unwrap(), theirs)
}

async fn check_noticed(rt: &Rt, conn: &Conn) {
    check_noticed_as(rt, conn, io::ErrorKind::ConnectionReset).await;
}

async fn check_noticed_as(rt: &Rt, conn: &Conn, kind: io::ErrorKind) {
    let bound = rt.precise_now() + PATIENCE / 4; // Reached by the mistake only.
    let noticed = rt.timeout_at(bound, conn.failure()).await;
    let error = noticed.expect("the peer has gone and nobody was told");
    // At the bound whoever waits looks once more, and would find it then.
    assert!(rt.precise_now() < bound, "nobody was told, and looked");
    assert_eq!(error.kind(), kind);
}

/// What one poll of a task receives at most.
const RECEIVES_A_TURN: usize = 64;
const UNREAD: &[u8] = b"a pipelined request";
/// More than is taken off a socket to find a failure behind it.
const BEHIND: usize = 40_000;
/// After this what comes is received into large buffers.
const MUCH: usize = 64 * 1024;
