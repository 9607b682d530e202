//! What is discarded is counted to the byte, and what follows it is not touched.

use crate::lab::{
    Chance, check, data, exactly, once, options, pair, scarce, seeds, soon, tiny, within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::Engine;
use hp_core::rt::net::{Conn, Rx, Unparked};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Discarding and receiving take turns at random places: each byte that is received must be the one of its place.
pub(crate) fn discarded_bytes_are_counted_and_what_follows_them_is_received(engine: Engine) {
    const LEN: usize = 4 * 1024 * 1024;
    for options in [options(engine), tiny(engine)] {
        for seed in seeds() {
            check(&options, async |rt| {
                let (conn, peer) = pair(&rt).await;
                let says = peer::say(peer, Text(seed), LEN, seed);
                let mut chance = Chance::new(seed + 1);
                let mut place = 0;
                while place < LEN {
                    let part = chance.size(512 * 1024).min(LEN - place);
                    place += if chance.below(2) == 0 {
                        discard_exactly(&conn, part).await;
                        part
                    } else {
                        let received = exactly(&conn, part.min(64 * 1024)).await;
                        Text(seed).check(place, &received);
                        received.len()
                    };
                }
                assert!(matches!(conn.discard(1).await, Ok(0)));
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
                says.join().unwrap();
            });
        }
    }
}

pub(crate) fn received_and_put_back_bytes_are_discarded_first(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"head and body").unwrap();
        let mut lent = data(&conn).await;
        drop(lent.split_to(5));
        conn.unread(lent);
        assert_eq!(conn.discard(4).await.unwrap(), 4);
        assert_eq!(exactly(&conn, 4).await, b"body");
        // A receive is armed now, and must not bring what was to go as something to read.
        assert!(once(conn.recv()).await.is_none());
        rt.yield_now().await;
        peer.write_all(b"one more body and its end").unwrap();
        discard_exactly(&conn, 13).await;
        assert_eq!(exactly(&conn, 12).await, b" and its end");
    });
}

pub(crate) fn an_end_in_the_middle_of_what_is_discarded_is_told_after_it(engine: Engine) {
    check(&options(engine), async |rt| {
        for len in [0, 1, 4096, 100_000, 2_000_000] {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(5), len, 5);
            let mut gone = 0;
            loop {
                match conn.discard(usize::MAX).await.unwrap() {
                    0 => break,
                    count => gone += count,
                }
            }
            assert_eq!(gone, len);
            says.join().unwrap();
            for _ in 0..3 {
                assert!(matches!(conn.discard(7).await, Ok(0)));
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            }
        }
    });
}

pub(crate) fn a_reset_is_told_after_what_could_be_discarded(engine: Engine) {
    check(&options(engine), async |rt| {
        for len in [0, 1, 4096, 20_000] {
            let (conn, mut peer) = pair(&rt).await;
            assert!(once(conn.discard(usize::MAX)).await.is_none());
            rt.yield_now().await; // The discard is with the kernel now.
            peer.write_all(&Text(3).bytes(0, len)).unwrap();
            peer::reset(peer);
            discard_exactly(&conn, len).await;
            for _ in 0..3 {
                let error = conn.discard(1).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    });
}

pub(crate) fn a_discard_ends_at_its_deadline_and_goes_on_with_a_new_one(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"some").unwrap();
        let deadline = rt.precise_now() + Duration::from_millis(20);
        conn.set_deadline(Some(deadline));
        discard_exactly(&conn, 4).await;
        let error = conn.discard(100).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(rt.precise_now() >= deadline);
        conn.set_deadline(Some(soon(&rt)));
        peer.write_all(&[b'x'; 100]).unwrap();
        discard_exactly(&conn, 100).await;
        peer.write_all(b"kept").unwrap();
        assert_eq!(exactly(&conn, 4).await, b"kept");
    });
}

/// What the kernel dropped for a future that is gone is told to the next one.
pub(crate) fn a_discard_dropped_after_every_poll_still_counts_every_byte(engine: Engine) {
    const LEN: usize = 2 * 1024 * 1024;
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (conn, peer) = pair(&rt).await;
            let says = peer::say(peer, Text(seed), LEN + 9, seed);
            let mut gone = 0;
            while gone < LEN {
                match once(conn.discard(LEN - gone)).await {
                    Some(count) => gone += count.unwrap(),
                    None => rt.yield_now().await,
                }
            }
            assert_eq!(gone, LEN);
            Text(seed).check(LEN, &exactly(&conn, 9).await);
            says.join().unwrap();
        });
    }
}

/// No more than was asked for is dropped, even by a future that nobody polls any more.
pub(crate) fn a_receive_after_a_dropped_discard_gets_what_lies_behind_it(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert!(once(conn.discard(4)).await.is_none());
        rt.yield_now().await;
        assert!(once(conn.recv()).await.is_none());
        rt.yield_now().await;
        peer.write_all(b"gonestays").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        while let Rx::Data(lent) = conn.recv().await.unwrap() {
            received.extend_from_slice(&lent);
        }
        assert!(
            received == b"stays" || received == b"gonestays",
            "{received:?}"
        );
    });
}

pub(crate) fn a_connection_parked_while_it_discards_returns_with_what_lies_behind(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert!(once(conn.discard(4)).await.is_none());
        rt.yield_now().await;
        let _key = conn.park(1, soon(&rt));
        assert!(within_turns(&rt, 10, rt.next_unparked()).await.is_none());
        peer.write_all(b"gonenews").unwrap();
        let (conn, _tag, why) = rt.next_unparked().await;
        assert_eq!(why, Unparked::News);
        let received = data(&conn).await;
        assert!(received.ends_with(b"news"), "{received:?}");
    });
}

/// A kernel that copied would have nowhere to copy to.
pub(crate) fn discarding_needs_no_buffer(engine: Engine) {
    const BUFFERS: usize = 32; // Of each size, once they have grown.
    check(&scarce(engine), async |rt| {
        let (holder, mut fills) = pair(&rt).await;
        let (conn, peer) = pair(&rt).await;
        let mut held = Vec::new();
        while held.len() < BUFFERS {
            fills.write_all(b"x").unwrap();
            held.push(data(&holder).await);
        }
        assert_eq!(rt.holdings().lent_buffers, 32);
        let says = peer::say(peer, Text(1), 1 << 20, 1);
        discard_exactly(&conn, 1 << 20).await;
        says.join().unwrap();
        assert_eq!(rt.holdings().lent_buffers, 32);
    });
}

pub(crate) fn stamps_tell_when_bytes_were_discarded(engine: Engine) {
    check(&options(engine), async |rt| {
        rt.keep_stamps();
        let (conn, mut peer) = pair(&rt).await;
        let before = rt.precise_now();
        peer.write_all(b"body").unwrap();
        discard_exactly(&conn, 4).await;
        let came = conn.received_at().unwrap();
        assert!(before <= came && came <= rt.precise_now());
    });
}

/// `MSG_TRUNC` means something else there, so they copy.
pub(crate) fn bytes_of_a_unix_socket_are_discarded_as_well(engine: Engine) {
    const LEN: usize = 1024 * 1024;
    check(&options(engine), async |rt| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let conn = rt.adopt(OwnedFd::from(ours)).unwrap();
        let says = peer::thread(move || theirs.write_all(&Text(2).bytes(0, LEN + 5)).unwrap());
        discard_exactly(&conn, LEN).await;
        Text(2).check(LEN, &exactly(&conn, 5).await);
        assert!(matches!(conn.discard(1).await, Ok(0)));
        says.join().unwrap();
    });
}

async fn discard_exactly(conn: &Conn, len: usize) {
    let mut left = len;
    while left > 0 {
        let count = conn.discard(left).await.unwrap();
        assert!(count > 0, "the end came {left} bytes too early");
        assert!(count <= left, "{count} bytes were dropped, not {left}");
        left -= count;
    }
}
