//! What is sent arrives once, whole and in order, whoever stops waiting for it.

use crate::lab::{
    Chance, PATIENCE, check, data, exactly, once, options, pair, seeds, tiny, until, within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::race::{First, join, race};
use hp_core::rt::{Engine, Rt};
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

pub(crate) fn both_directions_at_once_are_complete_and_in_order(engine: Engine) {
    const LEN: usize = 4 * 1024 * 1024;
    for options in [options(engine), tiny(engine)] {
        for seed in seeds() {
            check(&options, async |rt| {
                let (conn, peer) = pair(&rt).await;
                let (to_us, to_peer) = (Text(seed), Text(!seed));
                let says = peer::say(peer.try_clone().unwrap(), to_us, LEN, seed);
                let hears = peer::hear(peer, to_peer, seed + 1);
                let (heard, ()) =
                    join(hear(&conn, to_us), say(&conn, to_peer, LEN, seed + 2)).await;
                assert_eq!(heard, LEN);
                says.join().unwrap();
                assert_eq!(hears.join().unwrap(), LEN);
            });
        }
    }
}

pub(crate) fn a_dropped_receive_loses_nothing(engine: Engine) {
    const LEN: usize = 2 * 1024 * 1024;
    for seed in seeds() {
        check(&options(engine), async |rt| {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(seed), LEN, seed);
            let mut chance = Chance::new(seed + 1);
            let mut heard = 0;
            loop {
                let gives_up = give_up(&rt, chance.below(3));
                match race(conn.recv(), gives_up).await {
                    First::One(Ok(Rx::Data(lent))) => {
                        Text(seed).check(heard, &lent);
                        heard += lent.len();
                    }
                    First::One(Ok(Rx::Eof)) => break,
                    First::One(Err(error)) => panic!("{error}"),
                    First::Other(()) => (), // Dropped, perhaps in the very turn in which data came.
                }
            }
            assert_eq!(heard, LEN);
            says.join().unwrap();
        });
    }
}

pub(crate) fn a_receive_dropped_after_every_poll_loses_nothing(engine: Engine) {
    const LEN: usize = 512 * 1024;
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(seed), LEN, seed);
            let mut heard = 0;
            loop {
                match once(conn.recv()).await {
                    Some(Ok(Rx::Data(lent))) => {
                        Text(seed).check(heard, &lent);
                        heard += lent.len();
                    }
                    Some(Ok(Rx::Eof)) => break,
                    Some(Err(error)) => panic!("{error}"),
                    None => rt.yield_now().await,
                }
            }
            assert_eq!(heard, LEN);
            says.join().unwrap();
        });
    }
}

pub(crate) fn the_end_comes_once_after_all_data_and_again_if_asked_again(engine: Engine) {
    check(&options(engine), async |rt| {
        for len in [0, 1, 4095, 4096, 4097, 16_384, 100_000] {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(7), len, 7);
            says.join().unwrap(); // Data and FIN are there together.
            assert_eq!(hear(&conn, Text(7)).await, len);
            for _ in 0..5 {
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
                assert!(conn.has_news());
            }
        }
    });
}

pub(crate) fn an_error_comes_after_all_data(engine: Engine) {
    check(&options(engine), async |rt| {
        for len in [0, 1, 4096, 20_000] {
            let (conn, mut peer) = pair(&rt).await;
            assert!(once(conn.recv()).await.is_none());
            rt.yield_now().await; // The receive is with the kernel now.
            peer.write_all(&Text(3).bytes(0, len)).unwrap();
            peer::reset(peer);
            Text(3).check(0, &exactly(&conn, len).await);
            for _ in 0..3 {
                let error = conn.recv().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    });
}

/// On io_uring the kernel tells of everything that is there when a receive is armed as one event: the multishot receive took the
/// bytes and then waited for another event, which never came.
pub(crate) fn an_error_is_found_behind_data_that_came_before_the_receive(engine: Engine) {
    check(&options(engine), async |rt| {
        for len in [1, 5000, 20_000] {
            let (conn, mut peer) = pair(&rt).await;
            peer.write_all(&Text(3).bytes(0, len)).unwrap();
            peer::reset(peer);
            conn.set_deadline(Some(rt.precise_now() + PATIENCE / 4)); // Reached by the mistake only.
            Text(3).check(0, &exactly(&conn, len).await);
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{len}");
        }
    });
}

pub(crate) fn the_end_stays_the_end_when_a_reset_follows(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"all").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(exactly(&conn, 3).await, b"all");
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        peer::reset(peer);
        for _ in 0..5 {
            rt.yield_now().await;
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        }
        conn.write(b"too late").unwrap();
        let error = conn.send_now().unwrap_err();
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
    });
}

pub(crate) fn what_has_arrived_is_known_before_anything_is_received(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert_eq!(conn.arrived(), 0);
        peer.write_all(b"early").unwrap();
        until(&rt, || conn.arrived() == 5).await;
        assert_eq!(exactly(&conn, 2).await, b"ea");
        assert_eq!(conn.arrived(), 3, "they were put back");
        assert_eq!(exactly(&conn, 3).await, b"rly");
        assert_eq!(conn.arrived(), 0);
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        assert_eq!(conn.arrived(), 0, "an end is no byte");
        // Whoever asks does not take the failure away from whoever receives.
        let (conn, peer) = pair(&rt).await;
        peer::reset(peer);
        assert_eq!(conn.arrived(), 0);
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

pub(crate) fn bytes_put_back_come_first(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"GET / one").unwrap();
        let mut lent = data(&conn).await;
        assert!(once(conn.recv()).await.is_none()); // A receive is armed behind the bytes put back.
        let front = lent.split_to(4);
        assert_eq!(&*front, b"GET ");
        conn.unread(lent);
        peer.write_all(b" and two").unwrap();
        rt.yield_now().await;
        conn.unread(front);
        assert_eq!(exactly(&conn, 17).await, b"GET / one and two");
        assert!(once(conn.recv()).await.is_none());
        conn.unread({
            let mut nothing = {
                peer.write_all(b"x").unwrap();
                data(&conn).await
            };
            nothing.advance(1);
            nothing
        });
        assert!(
            once(conn.recv()).await.is_none(),
            "an empty piece is not news"
        );
    });
}

pub(crate) fn readable_takes_nothing(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert!(once(conn.readable()).await.is_none());
        peer.write_all(b"ab").unwrap();
        for _ in 0..3 {
            conn.readable().await.unwrap();
        }
        assert_eq!(exactly(&conn, 2).await, b"ab");
        drop(peer);
        conn.readable().await.unwrap();
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        conn.readable().await.unwrap();
    });
}

/// The readiness engine did not look any further once there were bytes that nobody had taken.
pub(crate) fn a_failure_is_noticed_and_neither_bytes_nor_an_end_is_one(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
        peer.write_all(b"a pipelined request").unwrap();
        assert!(within_turns(&rt, 10, conn.failure()).await.is_none());
        peer::reset(peer);
        let error = conn.failure().await;
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(exactly(&conn, 19).await, b"a pipelined request");
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let (conn, peer) = pair(&rt).await;
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(within_turns(&rt, 50, conn.failure()).await.is_none());
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
    });
}

/// Bytes, an end and a reset that nobody takes: each is noticed once, and then ends no wait.
pub(crate) fn news_that_nobody_takes_costs_no_turns(engine: Engine) {
    check(&options(engine), async |rt| {
        let (_said, mut says) = pair(&rt).await;
        says.write_all(b"not now").unwrap();
        let (_ended, ends) = pair(&rt).await;
        ends.shutdown(Shutdown::Write).unwrap();
        let (both, leaves) = pair(&rt).await;
        both.finish().await.unwrap();
        drop(leaves);
        let (_failed, fails) = pair(&rt).await;
        peer::reset(fails);
        let (watched, mut hangs) = pair(&rt).await;
        hangs.write_all(b"first this").unwrap();
        hangs.shutdown(Shutdown::Write).unwrap();
        let pause = || rt.sleep(Duration::from_millis(50));
        assert!(matches!(
            race(watched.failure(), pause()).await,
            First::Other(())
        ));
        let turns_before = rt.stats().turns;
        assert!(matches!(
            race(watched.failure(), pause()).await,
            First::Other(())
        ));
        let turns = rt.stats().turns - turns_before;
        assert!(turns < 10, "{turns} turns in 50 ms");
        drop(both);
    });
}

/// Checks what comes against a text until its end; returns the length.
async fn hear(conn: &Conn, text: Text) -> usize {
    let mut heard = 0;
    loop {
        match conn.recv().await.unwrap() {
            Rx::Data(lent) => {
                text.check(heard, &lent);
                heard += lent.len();
            }
            Rx::Eof => return heard,
        }
    }
}

async fn say(conn: &Conn, text: Text, len: usize, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut said = 0;
    while said < len {
        let size = chance.size(1024 * 1024).min(len - said);
        conn.write(&text.bytes(said, size)).unwrap();
        said += size;
        if conn.queued() > 256 * 1024 || chance.below(8) == 0 {
            conn.flush().await.unwrap();
        }
    }
    conn.finish().await.unwrap();
}

async fn give_up(rt: &Rt, turns: u64) {
    for _ in 0..turns {
        rt.yield_now().await;
    }
}
