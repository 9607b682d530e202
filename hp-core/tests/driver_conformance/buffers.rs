//! Receive buffers: lent, few, shared, and nobody waits for one that is free.

use crate::lab::{
    Chance, check, data, exactly, listener, pair, pair_from, scarce, seeds, soon, tiny, until,
    within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Lent, Listener, Rx, Unparked};
use hp_core::rt::race::{First, join, race};
use hp_core::rt::{Engine, Rt, RtOptions};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

pub(crate) fn lent_bytes_never_change_while_held(engine: Engine) {
    const LEN: usize = 3 * 1024 * 1024;
    const HELD_MAX: usize = 24; // Fewer than the 32 large buffers that there can be.
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(seed), LEN, seed);
            let mut chance = Chance::new(seed + 1);
            let mut held: Vec<(usize, Lent)> = Vec::new();
            let mut heard = 0;
            while let Rx::Data(mut lent) = conn.recv().await.unwrap() {
                let at = heard;
                heard += lent.len();
                let cut = usize::try_from(chance.below(lent.len() as u64)).unwrap();
                held.push((at, lent.split_to(cut)));
                held.push((at + cut, lent));
                while held.len() > HELD_MAX {
                    let pick = usize::try_from(chance.below(held.len() as u64)).unwrap();
                    let (at, lent) = held.swap_remove(pick);
                    Text(seed).check(at, &lent);
                }
            }
            assert_eq!(heard, LEN);
            for (at, lent) in held {
                Text(seed).check(at, &lent);
            }
            says.join().unwrap();
        });
    }
}

pub(crate) fn a_hundred_connections_share_eight_buffers_and_a_tiny_ring(engine: Engine) {
    const CONNS: u64 = 120;
    const LEN: usize = 32 * 1024;
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let peers = peer::thread(move || {
                let mut peers: Vec<TcpStream> = (0..CONNS).map(|_| peer::connect(addr)).collect();
                let mut chance = Chance::new(seed);
                let mut said = 0;
                while said < LEN {
                    let size = chance.size(8192).min(LEN - said);
                    for (name, peer) in (0..).zip(&mut peers) {
                        peer.write_all(&Text(seed ^ name << 32).bytes(said, size))
                            .unwrap();
                    }
                    said += size;
                }
                for (name, peer) in (0..).zip(&mut peers) {
                    peer.shutdown(Shutdown::Write).unwrap();
                    let mut echo = Vec::new();
                    peer.read_to_end(&mut echo).unwrap();
                    assert_eq!(echo.len(), LEN);
                    Text(seed ^ name << 32).check(0, &echo);
                }
            });
            for _ in 0..CONNS {
                let conn = listener.accept().await.unwrap();
                rt.spawn(async move { echo(&conn).await });
            }
            until(&rt, || rt.tasks() == 0).await;
            peers.join().unwrap();
        });
    }
}

pub(crate) fn connections_that_found_no_buffer_go_on_when_one_returns(engine: Engine) {
    const CONNS: u8 = 100;
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut crowd = Vec::new();
        for name in 0..CONNS {
            let (conn, mut peer) = pair_from(&listener, addr).await;
            peer.write_all(&[name]).unwrap();
            crowd.push((name, conn, peer));
        }
        let mut held = Vec::new();
        let mut waiting = Vec::new();
        for (name, conn, peer) in crowd {
            match within_turns(&rt, TURNS, data(&conn)).await {
                Some(lent) => held.push((name, conn, peer, lent)),
                None => waiting.push((name, conn, peer)),
            }
        }
        assert!(held.len() >= 32, "a pool of one buffer grows to 32");
        assert!(
            !waiting.is_empty(),
            "a hundred held buffers are more than the bound"
        );
        assert!(rt.stats().buffer_shortages > 0);
        assert_eq!(rt.holdings().lent_buffers as usize, held.len());
        let waiting_len = waiting.len();
        let served = Rc::new(Cell::new(0));
        for (name, conn, mut peer) in waiting {
            let served = Rc::clone(&served);
            rt.spawn(async move {
                assert_eq!(*data(&conn).await, [name]);
                served.set(served.get() + 1);
                peer.write_all(b"again").unwrap();
                assert_eq!(exactly(&conn, 5).await, b"again");
            });
        }
        for _ in 0..TURNS {
            rt.yield_now().await;
        }
        assert_eq!(served.get(), 0, "there is no buffer to be had");
        drop(held.pop()); // One returns: it goes round.
        until(&rt, || rt.tasks() == 0).await;
        assert_eq!(served.get(), waiting_len);
        for (name, _, _, lent) in held {
            assert_eq!(*lent, [name]);
        }
    });
}

/// Connections whose bytes nobody took held every buffer, and all others waited.
pub(crate) fn bytes_that_nobody_takes_leave_buffers_to_the_others(engine: Engine) {
    const CROWD: u8 = 100;
    let options = RtOptions {
        aside_buffers: 1024,
        ..scarce(engine)
    };
    check(&options, async |rt| {
        let (listener, addr) = listener(&rt);
        let mut crowd = Vec::new();
        for name in 0..CROWD {
            let (conn, mut peer) = pair_from(&listener, addr).await;
            peer.write_all(&[name; 3000]).unwrap();
            conn.readable().await.unwrap();
            crowd.push((name, conn, peer));
        }
        let (conn, mut peer) = pair_from(&listener, addr).await;
        peer.write_all(b"heard").unwrap();
        assert_eq!(exactly(&conn, 5).await, b"heard");
        for (name, conn, _peer) in &crowd {
            assert_eq!(exactly(conn, 3000).await, [*name; 3000]);
        }
        drop(crowd);
        until(&rt, || rt.holdings().lent_buffers == 0).await;
    });
}

/// A connection that was closed while it waited kept its place in the queue and used up the returned buffer that
/// the next one could have had.
pub(crate) fn a_connection_that_leaves_the_queue_for_buffers_takes_no_ones_place(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust(&rt, &listener, addr).await;
        let (leaver, _leaver_peer) = starved(&rt, &listener, addr, b"leaver").await;
        let (stayer, _stayer_peer) = starved(&rt, &listener, addr, b"stayer").await;
        drop(leaver);
        held.pop().unwrap();
        assert_eq!(exactly(&stayer, 6).await, b"stayer");
    });
}

/// The same in the queue for large buffers, and there the next one went on only when something else gave the worker a turn.
pub(crate) fn a_connection_that_leaves_the_queue_for_large_buffers_takes_no_ones_place(
    engine: Engine,
) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust_large(&rt).await;
        let (leaver, _leaver_peer, _) = starved_of_large(&rt, &listener, addr).await;
        let (stayer, _stayer_peer, heard) = starved_of_large(&rt, &listener, addr).await;
        drop(leaver);
        held.pop().unwrap();
        assert_eq!(exactly(&stayer, MANY - heard).await, [7; MANY][heard..]);
    });
}

/// A receive that waited for a buffer only to learn of the peer's end gives the buffer back unused, and nobody told the
/// next one.
pub(crate) fn an_end_that_waited_for_a_buffer_takes_no_ones_place(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust(&rt, &listener, addr).await;
        let (ender, ender_peer) = pair_from(&listener, addr).await;
        ender_peer.shutdown(Shutdown::Write).unwrap();
        assert!(
            within_turns(&rt, TURNS, ender.recv())
                .await
                .is_none_or(|rx| matches!(rx, Ok(Rx::Eof)))
        );
        let (stayer, _stayer_peer) = starved(&rt, &listener, addr, b"stayer").await;
        held.pop().unwrap();
        assert_eq!(exactly(&stayer, 6).await, b"stayer");
        assert!(matches!(ender.recv().await, Ok(Rx::Eof)));
    });
}

/// With all large buffers held and small ones free, the readiness engine woke the connection that waited for a large one
/// in every turn, for nothing.
pub(crate) fn waiting_for_a_buffer_costs_no_turns(engine: Engine) {
    const LEN: usize = 16 * 1024 * 1024;
    check(&scarce(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        let said = vec![0; LEN];
        let says = peer::thread(move || peer.write_all(&said).unwrap());
        conn.readable().await.unwrap();
        let mut held = Vec::new();
        let mut heard = 0;
        let turns = loop {
            let turns_before = rt.stats().turns;
            match race(data(&conn), rt.sleep(Duration::from_millis(50))).await {
                First::One(lent) => {
                    heard += lent.len();
                    held.extend(Some(lent).filter(|lent| lent.len() == LARGE));
                }
                First::Other(()) if held.len() == 32 => break rt.stats().turns - turns_before,
                First::Other(()) => (), // The peer was slow.
            }
        };
        assert!(turns < 30, "{turns} turns in 50 ms");
        drop(held);
        while heard < LEN {
            heard += data(&conn).await.len();
        }
        says.join().unwrap();
    });
}

pub(crate) fn a_parked_connection_that_found_no_buffer_still_has_news(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust(&rt, &listener, addr).await;
        let _peer = park_with_news(&rt, &listener, addr).await;
        held.clear();
        expect_news(&rt).await;
    });
}

/// It had spoken in time, and was closed on for want of a buffer of ours.
pub(crate) fn a_parked_connection_that_found_no_buffer_has_news_after_its_deadline(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust(&rt, &listener, addr).await;
        let (silent, _silent_peer) = pair_from(&listener, addr).await;
        let _key = silent.park(6, soon(&rt));
        let _peer = park_with_news(&rt, &listener, addr).await;
        let deadline = rt.precise_now() + Duration::from_millis(5);
        rt.hasten_parked(|_place, _tag| Some(deadline));
        let (_silent, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (6, Unparked::Expired), "it said nothing");
        assert!(
            within_turns(&rt, TURNS, rt.next_unparked()).await.is_none(),
            "without a buffer nothing can be told of the other one"
        );
        held.clear();
        expect_news(&rt).await;
    });
}

/// It was looked at anew in every millisecond, and so was each of thousands.
pub(crate) fn a_parked_connection_waits_for_a_buffer_past_its_deadline_and_costs_no_turns(
    engine: Engine,
) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let held = exhaust(&rt, &listener, addr).await;
        let _peer = park_with_news(&rt, &listener, addr).await;
        let now = rt.precise_now();
        rt.hasten_parked(|_place, _tag| Some(now));
        rt.sleep(Duration::from_millis(10)).await;
        let turns_before = rt.stats().turns;
        rt.sleep(Duration::from_millis(100)).await;
        let turns = rt.stats().turns - turns_before;
        assert!(turns < 30, "{turns} turns in 100 ms");
        drop(held);
        expect_news(&rt).await;
    });
}

/// A ring told nobody that the receive which was armed before had found no buffer.
pub(crate) fn a_discard_that_finds_a_receive_armed_needs_no_buffer_either(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let _held = exhaust(&rt, &listener, addr).await;
        let (conn, mut peer) = pair_from(&listener, addr).await;
        assert!(within_turns(&rt, TURNS, conn.recv()).await.is_none());
        let says = async {
            for _ in 0..TURNS {
                rt.yield_now().await;
            }
            peer.write_all(b"dropped").unwrap();
        };
        let (gone, ()) = join(conn.discard(100), says).await;
        assert_eq!(gone.unwrap(), 7);
    });
}

/// Only who is parked, and has no task, outlasts its deadline.
pub(crate) fn a_receive_that_found_no_buffer_ends_at_its_deadline(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let _held = exhaust(&rt, &listener, addr).await;
        let (conn, _peer) = starved(&rt, &listener, addr, b"news").await;
        conn.set_deadline(Some(rt.precise_now() + Duration::from_millis(5)));
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

/// A ring that had once been told of bytes, which were received by a call, took them for unread: the next receive did not wait first, wanted a buffer at
/// once, and stood in line for nothing, where it hears of no failure.
pub(crate) fn a_connection_to_which_nothing_came_waits_for_no_buffer(engine: Engine) {
    for short_answers in 0..6 {
        check(&scarce(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let (conn, mut peer) = pair_from(&listener, addr).await;
            peer.write_all(&[7; MANY]).unwrap();
            exactly(&conn, MANY).await;
            for _ in 0..short_answers {
                peer.write_all(b"x").unwrap();
                exactly(&conn, 1).await;
            }
            let _held = exhaust(&rt, &listener, addr).await;
            let shortages = rt.stats().buffer_shortages;
            assert!(within_turns(&rt, TURNS, conn.recv()).await.is_none());
            assert_eq!(rt.stats().buffer_shortages, shortages, "{short_answers}");
        });
    }
}

/// A ring had it wait for a buffer that it would not have used.
pub(crate) fn a_connection_that_waits_for_a_buffer_discards_without_one(engine: Engine) {
    check(&scarce(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut held = exhaust(&rt, &listener, addr).await;
        let (conn, mut peer) = starved(&rt, &listener, addr, b"dropped").await;
        for _ in 0..3 {
            assert_eq!(conn.discard(100).await.unwrap(), 7);
            peer.write_all(b"dropped").unwrap();
        }
        assert_eq!(conn.discard(100).await.unwrap(), 7);
        peer.write_all(b"again").unwrap();
        assert!(within_turns(&rt, TURNS, conn.recv()).await.is_none());
        held.clear();
        assert_eq!(exactly(&conn, 5).await, b"again");
    });
}

async fn echo(conn: &Conn) {
    while let Rx::Data(lent) = conn.recv().await.unwrap() {
        conn.queue(lent).unwrap();
        conn.flush().await.unwrap();
    }
    conn.finish().await.unwrap();
}

/// Holds every buffer that can be had, each under a connection of its own.
async fn exhaust(rt: &Rt, listener: &Listener, addr: SocketAddr) -> Vec<(Lent, Conn, TcpStream)> {
    let mut held = Vec::new();
    loop {
        let (conn, mut peer) = pair_from(listener, addr).await;
        peer.write_all(b"x").unwrap();
        match within_turns(rt, TURNS, data(&conn)).await {
            Some(lent) => held.push((lent, conn, peer)),
            None => return held,
        }
    }
}

/// Holds every large buffer that can be had.
async fn exhaust_large(rt: &Rt) -> Vec<Lent> {
    let (conn, mut peer) = pair(rt).await;
    let says = peer::thread(move || while peer.write_all(&[0; 64 * 1024]).is_ok() {});
    let mut held = Vec::new();
    while held.len() < 32 {
        held.extend(Some(data(&conn).await).filter(|lent| lent.len() == LARGE));
    }
    conn.reset();
    says.join().unwrap();
    held
}

/// A connection that has earned large buffers, with bytes for which there is none, and how many it was given before them of [`MANY`].
async fn starved_of_large(
    rt: &Rt,
    listener: &Listener,
    addr: SocketAddr,
) -> (Conn, TcpStream, usize) {
    let (conn, mut peer) = pair_from(listener, addr).await;
    peer.write_all(&[7; MANY]).unwrap();
    let shortages = rt.stats().buffer_shortages;
    let mut heard = 0;
    while let Some(lent) = within_turns(rt, TURNS, data(&conn)).await {
        heard += lent.len();
    }
    assert!(heard < MANY && rt.stats().buffer_shortages > shortages);
    (conn, peer, heard)
}

/// A connection with bytes for which there is no buffer.
async fn starved(
    rt: &Rt,
    listener: &Listener,
    addr: SocketAddr,
    bytes: &[u8],
) -> (Conn, TcpStream) {
    let (conn, mut peer) = pair_from(listener, addr).await;
    peer.write_all(bytes).unwrap();
    assert!(within_turns(rt, TURNS, conn.recv()).await.is_none());
    (conn, peer)
}

/// Parks a connection, to which something comes for which there is no buffer.
async fn park_with_news(rt: &Rt, listener: &Listener, addr: SocketAddr) -> TcpStream {
    let (conn, mut peer) = pair_from(listener, addr).await;
    let _key = conn.park(5, soon(rt));
    peer.write_all(b"news").unwrap();
    for _ in 0..TURNS {
        rt.yield_now().await;
    }
    peer
}

/// What came to the connection of [`park_with_news`] reaches its owner.
async fn expect_news(rt: &Rt) {
    let (conn, tag, why) = rt.next_unparked().await;
    assert_eq!((tag, why), (5, Unparked::News));
    assert_eq!(exactly(&conn, 4).await, b"news");
}

const LARGE: usize = 68 * 1024;
/// More than is read in small buffers before a connection has earned large ones.
const MANY: usize = 32 * 1024;
/// Turns after which what is on its way through the kernel has arrived.
const TURNS: u32 = 200;
