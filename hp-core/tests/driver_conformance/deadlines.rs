//! Time ends waiting, and only waiting.

use crate::closing::FullListener;
use crate::lab::{Chance, PATIENCE, check, exactly, goes_quiet, once, options, pair, soon, until};
use hp_core::rt::net::{Conn, listen};
use hp_core::rt::race::join;
use hp_core::rt::{Engine, Instant, Rt};
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

pub(crate) fn a_refused_connection_says_so(engine: Engine) {
    check(&options(engine), async |rt| {
        let socket = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).unwrap();
        let addr = socket.local_addr().unwrap();
        let met = rt.connect(addr, soon(&rt)).await.unwrap();
        assert_eq!(met.peer_addr(), Some(addr));
        drop((met, socket));
        for _ in 0..10 {
            let error = rt.connect(addr, soon(&rt)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        goes_quiet(&rt).await;
    });
}

pub(crate) fn a_connection_attempt_ends_at_its_deadline(engine: Engine) {
    check(&options(engine), async |rt| {
        let full = FullListener::new();
        let deadline = after(&rt, 30);
        let error = rt.connect(full.addr, deadline).await.unwrap_err();
        check_timed_out(&rt, &error, deadline);
        goes_quiet(&rt).await;
        let over = rt.connect(full.addr, Instant::START).await.unwrap_err();
        assert_eq!(over.kind(), io::ErrorKind::TimedOut);
    });
}

pub(crate) fn a_receive_ends_at_its_deadline(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, _peer) = pair(&rt).await;
        let deadline = after(&rt, 20);
        conn.set_deadline(Some(deadline));
        check_timed_out(&rt, &conn.recv().await.unwrap_err(), deadline);
        check_timed_out(&rt, &conn.recv().await.unwrap_err(), deadline);
        check_timed_out(&rt, &conn.readable().await.unwrap_err(), deadline);
    });
}

pub(crate) fn a_deadline_moved_later_holds_the_later_one(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, _peer) = pair(&rt).await;
        for later in [21, 40, 60] {
            conn.set_deadline(Some(after(&rt, 20)));
            assert!(once(conn.recv()).await.is_none());
            let deadline = after(&rt, later);
            conn.set_deadline(Some(deadline));
            check_timed_out(&rt, &conn.recv().await.unwrap_err(), deadline);
        }
    });
}

pub(crate) fn a_deadline_moved_earlier_holds_the_earlier_one(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, _peer) = pair(&rt).await;
        conn.set_deadline(Some(rt.precise_now() + PATIENCE * 10));
        assert!(once(conn.recv()).await.is_none());
        for earlier in [60, 20] {
            let deadline = after(&rt, earlier);
            conn.set_deadline(Some(deadline));
            check_timed_out(&rt, &conn.recv().await.unwrap_err(), deadline);
        }
    });
}

pub(crate) fn a_deadline_taken_back_never_comes(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        conn.set_deadline(Some(after(&rt, 5)));
        assert!(once(conn.recv()).await.is_none());
        conn.set_deadline(None);
        rt.sleep(Duration::from_millis(20)).await;
        assert!(once(conn.recv()).await.is_none());
        peer.write_all(b"late but welcome").unwrap();
        assert_eq!(exactly(&conn, 16).await, b"late but welcome");
    });
}

/// A turn takes note of so many only, and the deadlines of all others came first: their connections were given up, though they stood.
pub(crate) fn attempts_that_were_decided_before_their_deadline_have_their_outcome(engine: Engine) {
    check(&options(engine), async |rt| {
        let socket = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 4096).unwrap();
        let addr = socket.local_addr().unwrap();
        let deadline = after(&rt, 10);
        let mut attempts = Vec::new();
        for _ in 0..ATTEMPTS {
            let mut attempt = Box::pin(rt.connect(addr, deadline));
            assert!(once(attempt.as_mut()).await.is_none());
            attempts.push(attempt);
        }
        while rt.precise_now() < deadline + Duration::from_millis(20) {} // The worker is held up.
        let mut failed = Vec::new();
        for attempt in attempts {
            failed.extend(attempt.await.err());
        }
        assert!(
            failed.is_empty(),
            "{} of {ATTEMPTS}: {:?}",
            failed.len(),
            failed.first()
        );
    });
}

const ATTEMPTS: usize = 200;

/// Whether a receive had been tried before made a difference, and so did a worker that was held up.
pub(crate) fn data_that_came_before_the_deadline_is_delivered_after_it(engine: Engine) {
    check(&options(engine), async |rt| {
        let ways = [(true, false), (false, false), (true, true), (false, true)];
        for ((armed, held_up), much) in ways.into_iter().flat_map(|way| [(way, 0), (way, MUCH)]) {
            let (conn, mut peer) = pair(&rt).await;
            hear(&conn, &mut peer, much).await;
            if armed {
                assert!(once(conn.recv()).await.is_none());
            }
            let deadline = after(&rt, 10);
            conn.set_deadline(Some(deadline));
            peer.write_all(b"in time").unwrap();
            let holds_up = async {
                while held_up && rt.precise_now() < deadline + Duration::from_millis(20) {}
            };
            join(rt.sleep(Duration::from_millis(20)), holds_up).await;
            assert_eq!(exactly(&conn, 7).await, b"in time");
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    });
}

/// A worker that was held up finds data and deadline in the same turn. The readiness engine had not read yet and let the
/// deadline win.
pub(crate) fn data_noticed_together_with_the_deadline_is_delivered(engine: Engine) {
    check_noticed_together(engine, 0);
}

/// A ring polls for those and receives by a call, which let the deadline win.
pub(crate) fn data_noticed_together_with_the_deadline_is_delivered_in_large_buffers(
    engine: Engine,
) {
    check_noticed_together(engine, MUCH);
}

fn check_noticed_together(engine: Engine, heard_before: usize) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        hear(&conn, &mut peer, heard_before).await;
        let deadline = after(&rt, 5);
        conn.set_deadline(Some(deadline));
        let came = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&came);
        rt.spawn(async move {
            let got = conn.recv().await;
            *seen.borrow_mut() = Some(got.is_ok());
        });
        rt.yield_now().await;
        rt.yield_now().await; // The task waits now.
        peer.write_all(b"in time").unwrap();
        while rt.precise_now() < deadline + Duration::from_millis(2) {}
        until(&rt, || came.borrow().is_some()).await;
        assert_eq!(*came.borrow(), Some(true));
    });
}

/// A turn tells only so many of what came for them, and a ring looks for no more before all of these are told: the deadline struck the others, whose bytes had
/// come, and were here.
pub(crate) fn data_of_many_noticed_together_with_the_deadline_is_delivered(engine: Engine) {
    for heard_before in [0, MUCH] {
        check(&options(engine), async |rt| {
            let mut peers = Vec::new();
            let heard = Rc::new(RefCell::new(Vec::new()));
            for _ in 0..MORE_THAN_A_TURN_TELLS {
                let (conn, mut peer) = pair(&rt).await;
                hear(&conn, &mut peer, heard_before).await;
                let conn = Rc::new(conn);
                let (waits, heard) = (Rc::clone(&conn), Rc::clone(&heard));
                rt.spawn(async move {
                    let got = waits.recv().await;
                    heard
                        .borrow_mut()
                        .push(got.map(drop).map_err(|error| error.kind()));
                });
                peers.push((conn, peer));
            }
            rt.yield_now().await;
            rt.yield_now().await; // All wait now.
            let deadline = after(&rt, 5);
            for (conn, peer) in &mut peers {
                conn.set_deadline(Some(deadline));
                peer.write_all(b"in time").unwrap();
            }
            while rt.precise_now() < deadline + Duration::from_millis(2) {}
            until(&rt, || heard.borrow().len() == peers.len()).await;
            assert_eq!(*heard.borrow(), vec![Ok(()); MORE_THAN_A_TURN_TELLS]);
        });
    }
}

/// The same where the bytes come, and the deadline passes, while the last of many others are told.
pub(crate) fn data_that_came_while_others_were_told_is_delivered(engine: Engine) {
    for heard_before in [0, MUCH] {
        check(&options(engine), async |rt| {
            let (conn, mut peer) = pair(&rt).await;
            hear(&conn, &mut peer, heard_before).await;
            conn.set_deadline(Some(soon(&rt)));
            let conn = Rc::new(conn);
            let came = Rc::new(RefCell::new(None));
            let (waits, seen) = (Rc::clone(&conn), Rc::clone(&came));
            rt.spawn(async move {
                let got = waits.recv().await;
                *seen.borrow_mut() = Some(got.map(drop).map_err(|error| error.kind()));
            });
            let holds_up = Rc::new(RefCell::new(Some((conn, peer))));
            let mut others = Vec::new();
            for _ in 0..MORE_THAN_A_TURN_TELLS {
                let (other, other_peer) = pair(&rt).await;
                others.push(other_peer);
                let (rt2, holds_up) = (rt.clone(), Rc::clone(&holds_up));
                rt.spawn(async move {
                    other.recv().await.unwrap();
                    let Some((conn, mut peer)) = holds_up.borrow_mut().take() else {
                        return; // It was held up already.
                    };
                    let deadline = after(&rt2, 5);
                    conn.set_deadline(Some(deadline));
                    peer.write_all(b"in time").unwrap();
                    while rt2.precise_now() < deadline + Duration::from_millis(2) {}
                });
            }
            rt.yield_now().await;
            rt.yield_now().await; // All wait now.
            for other in &mut others {
                other.write_all(b"x").unwrap();
            }
            until(&rt, || came.borrow().is_some()).await;
            assert_eq!(*came.borrow(), Some(Ok(())));
        });
    }
}

pub(crate) fn a_connection_goes_on_with_a_new_deadline(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        conn.set_deadline(Some(after(&rt, 5)));
        assert_eq!(
            conn.recv().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        conn.set_deadline(Some(soon(&rt)));
        assert!(once(conn.recv()).await.is_none());
        peer.write_all(b"now").unwrap();
        assert_eq!(exactly(&conn, 3).await, b"now");
    });
}

pub(crate) fn a_flush_ends_at_its_deadline(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, _peer) = pair(&rt).await;
        conn.write(&vec![0; 8 * 1024 * 1024]).unwrap();
        let deadline = after(&rt, 20);
        conn.set_deadline(Some(deadline));
        check_timed_out(&rt, &conn.flush().await.unwrap_err(), deadline);
        assert!(
            conn.queued() > 0,
            "the deadline ends the waiting and drops nothing"
        );
    });
}

pub(crate) fn sleeps_end_in_the_order_of_their_deadlines(engine: Engine) {
    check(&options(engine), async |rt| {
        let mut chance = Chance::new(1);
        let ended = Rc::new(RefCell::new(Vec::new()));
        // Far enough off for every task to be asleep before the first one is to wake.
        let base = after(&rt, 300);
        for _ in 0..1500 {
            let deadline = base + Duration::from_micros(chance.below(120_000));
            let (rt2, ended) = (rt.clone(), Rc::clone(&ended));
            rt.spawn(async move {
                rt2.sleep_until(deadline).await;
                assert!(rt2.precise_now() >= deadline);
                ended.borrow_mut().push(deadline);
            });
        }
        until(&rt, || rt.tasks() == 0).await;
        let ended = ended.borrow();
        assert_eq!(ended.len(), 1500);
        // The wheel's tick is a millisecond; what falls into one tick ends in any order.
        let tick = |deadline: &Instant| deadline.as_nanos().div_ceil(1_000_000);
        let ticks: Vec<u64> = ended.iter().map(tick).collect();
        assert!(ticks.is_sorted(), "{ticks:?}");
    });
}

fn after(rt: &Rt, millis: u64) -> Instant {
    rt.precise_now() + Duration::from_millis(millis)
}

fn check_timed_out(rt: &Rt, error: &io::Error, deadline: Instant) {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let now = rt.precise_now();
    assert!(now >= deadline, "{:?} too early", deadline - now);
}

/// Receives so much first.
async fn hear(conn: &Conn, peer: &mut TcpStream, bytes: usize) {
    peer.write_all(&vec![0; bytes]).unwrap();
    exactly(conn, bytes).await;
}

const MORE_THAN_A_TURN_TELLS: usize = 100;
/// After this what comes is received into large buffers.
const MUCH: usize = 64 * 1024;
