//! What goes through a pipe arrives as if it had been received and sent.

use crate::lab::{check, conns_fall_to, exactly, listener, once, options, pair, pair_from, seeds};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Rx, Unparked};
use hp_core::rt::race::join;
use hp_core::rt::{Engine, Instant};
use std::io::{self, Write};
use std::net::Shutdown;
use std::time::Duration;

const LEN: usize = 8 * 1024 * 1024;

pub(crate) fn spliced_bytes_arrive_whole_in_both_directions_at_once(engine: Engine) {
    for seed in seeds() {
        check(&options(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let (one, one_peer) = pair_from(&listener, addr).await;
            let (other, other_peer) = pair_from(&listener, addr).await;
            let hears = [&one_peer, &other_peer].map(|peer| peer.try_clone().unwrap());
            let [one_hears, other_hears] = hears;
            let says = [
                peer::say(one_peer, Text(seed), LEN, seed),
                peer::say(other_peer, Text(seed + 1), LEN, seed),
            ];
            let hears = [
                peer::hear(one_hears, Text(seed + 1), seed),
                peer::hear(other_hears, Text(seed), seed + 2),
            ];
            let (forth, back) = join(splice_all(&one, &other), splice_all(&other, &one)).await;
            assert_eq!((forth.unwrap(), back.unwrap()), (LEN, LEN));
            for hears in hears {
                assert_eq!(hears.join().unwrap(), LEN);
            }
            for says in says {
                says.join().unwrap();
            }
        });
    }
}

pub(crate) fn what_was_written_before_leaves_before_what_is_spliced(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        let text = Text(4);
        to.write(&text.bytes(0, LEN)).unwrap();
        (&from_peer).write_all(&text.bytes(LEN, 1000)).unwrap();
        from_peer.shutdown(Shutdown::Write).unwrap();
        let hears = peer::hear(to_peer, text, 5);
        assert_eq!(splice_all(&from, &to).await.unwrap(), 1000);
        assert_eq!(hears.join().unwrap(), LEN + 1000);
    });
}

pub(crate) fn a_splice_that_waits_ends_with_the_deadline_and_with_a_reset(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        assert!(once(conn.splice_in(LEN)).await.is_none());
        conn.set_deadline(Some(rt.now() + Duration::from_millis(1)));
        let error = conn.splice_in(LEN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        conn.set_deadline(None);
        (&peer).write_all(b"late").unwrap();
        let piped = conn.splice_in(LEN).await.unwrap().unwrap();
        assert_eq!((piped.len(), piped.is_empty()), (4, false));
        drop(piped);
        peer::reset(peer);
        let error = conn.splice_in(LEN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

pub(crate) fn a_connection_given_up_while_it_splices_leaves_nothing(engine: Engine) {
    check(&options(engine), async |rt| {
        let (closed, _peer) = pair(&rt).await;
        let (reset, _other_peer) = pair(&rt).await;
        for conn in [&closed, &reset] {
            assert!(once(conn.splice_in(LEN)).await.is_none());
        }
        rt.yield_now().await; // What waits is in the kernel now.
        closed.close();
        reset.reset();
        conns_fall_to(&rt, 0).await;
    });
}

pub(crate) fn a_connection_that_received_is_not_spliced(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        (&peer).write_all(b"head").unwrap();
        let Rx::Data(lent) = conn.recv().await.unwrap() else {
            panic!("the peer has not ended")
        };
        conn.unread(lent);
        let error = conn.splice_in(LEN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    });
}

pub(crate) fn no_more_is_spliced_than_was_asked_for_and_what_follows_is_received(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        let text = Text(6);
        let says = peer::say(from_peer, text, LEN + 5, 6);
        let hears = peer::hear(to_peer, text, 7);
        let mut left = LEN;
        while left > 0 {
            let mut piped = from.splice_in(left).await.unwrap().unwrap();
            assert!(piped.len() <= left);
            left -= piped.len();
            to.splice_out(&mut piped).await.unwrap();
            assert!(piped.is_empty());
        }
        from.end_splicing();
        assert_eq!(exactly(&from, 5).await, text.bytes(LEN, 5));
        to.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
        says.join().unwrap();
    });
}

pub(crate) fn what_stands_between_two_splices_is_received_and_no_more(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        let mut line = [0; 5];
        let error = from.recv_between(&mut line).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "it receives");
        let text = Text(8);
        let says = peer::say(from_peer, text, LEN, 8);
        let hears = peer::hear(to_peer, text, 9);
        let mut at = 0;
        while at < LEN {
            let mut left = (LEN - at).min(10_000);
            while left > 0 {
                let mut piped = from.splice_in(left).await.unwrap().unwrap();
                (at, left) = (at + piped.len(), left - piped.len());
                to.splice_out(&mut piped).await.unwrap();
            }
            let wanted = (LEN - at).min(line.len());
            if wanted > 0 {
                let count = from.recv_between(&mut line[..wanted]).await.unwrap();
                assert_eq!(line[..count], text.bytes(at, count));
                to.write(&line[..count]).unwrap();
                at += count;
            }
        }
        to.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
        says.join().unwrap();
    });
}

pub(crate) fn a_receive_between_two_splices_ends_with_the_deadline_and_with_the_peer(
    engine: Engine,
) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        assert!(once(conn.splice_in(LEN)).await.is_none());
        let mut line = [0; 5];
        conn.set_deadline(Some(rt.now() + Duration::from_millis(1)));
        let error = conn.recv_between(&mut line).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        conn.set_deadline(None);
        (&peer).write_all(b"late").unwrap();
        assert_eq!(conn.recv_between(&mut line).await.unwrap(), 4);
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(conn.recv_between(&mut line).await.unwrap(), 0);
    });
}

pub(crate) fn a_splice_given_up_while_it_waits_leaves_the_bytes_to_a_receive(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        assert!(once(conn.splice_in(LEN)).await.is_none());
        rt.yield_now().await; // What waits is in the kernel now.
        conn.end_splicing();
        assert!(once(conn.recv()).await.is_none());
        (&peer).write_all(b"late").unwrap();
        assert_eq!(exactly(&conn, 4).await, b"late");
    });
}

pub(crate) fn a_connection_parked_after_a_splice_returns_with_what_comes(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        assert!(once(conn.splice_in(LEN)).await.is_none());
        rt.yield_now().await;
        conn.end_splicing();
        let _key = conn.park(7, Instant::NEVER);
        (&peer).write_all(b"late").unwrap();
        let (conn, tag, why) = rt.next_unparked().await;
        assert_eq!((tag, why), (7, Unparked::News));
        assert_eq!(exactly(&conn, 4).await, b"late");
    });
}

pub(crate) fn a_splice_to_a_peer_that_does_not_read_goes_on_where_it_was_left(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        let text = Text(8);
        let says = peer::say(from_peer, text, LEN, 8);
        let (mut moved, mut stalls) = (0, 0);
        let mut hears = None;
        let mut unread = Some(to_peer);
        while let Some(mut piped) = from.splice_in(LEN).await.unwrap() {
            moved += piped.len();
            loop {
                if to.splice_out_now(&mut piped).unwrap() {
                    break;
                }
                stalls += 1;
                let until = rt.precise_now() + Duration::from_millis(1);
                match to.splice_out_until(&mut piped, until).await {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
                }
                if let Some(peer) = unread.take() {
                    hears = Some(peer::hear(peer, text, 9));
                }
            }
        }
        to.finish().await.unwrap();
        assert_eq!(moved, LEN);
        assert!(stalls > 0, "more than a socket takes that nobody reads");
        assert_eq!(hears.unwrap().join().unwrap(), LEN);
        says.join().unwrap();
    });
}

/// A splice stops before a byte that is marked as urgent, and would wait for ever for what a poll says is there.
pub(crate) fn an_urgent_byte_is_left_to_a_receive(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let peer = socket2::Socket::from(peer);
        peer.send(b"before").unwrap();
        peer.send_out_of_band(b"!").unwrap();
        peer.send(b"behind").unwrap();
        let mut before = 0;
        let error = loop {
            match conn.splice_in(LEN).await {
                Ok(piped) => before += piped.unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!((before, error.kind()), (6, io::ErrorKind::Unsupported));
        conn.end_splicing();
        assert_eq!(exactly(&conn, 6).await, b"behind");
    });
}

/// A receive stops before it, and no edge tells of what is behind it.
pub(crate) fn a_receive_goes_on_behind_an_urgent_byte(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let peer = socket2::Socket::from(peer);
        assert!(once(conn.recv()).await.is_none());
        peer.send(b"before").unwrap();
        peer.send_out_of_band(b"!").unwrap();
        peer.send(b"behind").unwrap();
        assert_eq!(exactly(&conn, 12).await, b"beforebehind");
    });
}

pub(crate) fn what_has_come_behind_a_splice_is_news(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        (&peer).write_all(b"contentmore").unwrap();
        let piped = conn.splice_in(7).await.unwrap().unwrap();
        assert_eq!(piped.len(), 7);
        assert!(
            !conn.has_news(),
            "nothing is said of it while it is spliced"
        );
        conn.end_splicing();
        assert!(conn.has_news());
        assert_eq!(exactly(&conn, 4).await, b"more");
        assert!(!conn.has_news());
    });
}

/// Some bytes of each stretch are received and put into the pipe, and more is spliced behind them, until either brings nothing.
pub(crate) fn what_is_put_into_a_pipe_stands_between_what_is_spliced(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        let text = Text(10);
        let mut line = [0; 16];
        assert_eq!(from.recv_more(&mut line), 0, "it receives");
        let says = peer::say(from_peer, text, LEN, 10);
        let hears = peer::hear(to_peer, text, 11);
        let (mut at, mut put, mut kept) = (0, 0, 0);
        while at < LEN {
            let left = (LEN - at).min(1_000);
            let mut piped = from.splice_in(left).await.unwrap().unwrap();
            at += piped.len();
            let behind = loop {
                let wanted = (LEN - at).min(line.len());
                let behind = from.recv_more(&mut line[..wanted]);
                assert_eq!(line[..behind], text.bytes(at, behind));
                at += behind;
                if behind == 0 || !piped.push(&line[..behind]) {
                    break behind; // It is sent behind the pipe.
                }
                put += behind;
                at += from.splice_more(&mut piped, (LEN - at).min(20_000));
            };
            to.splice_out(&mut piped).await.unwrap();
            assert!(piped.is_empty() && !piped.push(b"it is somebody else's now"));
            to.write(&line[..behind]).unwrap();
            kept += behind;
        }
        assert!(put > 0, "{put} {kept}");
        assert_eq!(from.recv_more(&mut line), 0);
        to.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
        says.join().unwrap();
    });
}

/// More of them than there are, and one by one more often than that.
pub(crate) fn a_pipe_taken_empty_gets_what_has_come_or_goes_back(engine: Engine) {
    check(&options(engine), async |rt| {
        let (from, from_peer) = pair(&rt).await;
        let (to, to_peer) = pair(&rt).await;
        assert!(!from.splices_now(), "it receives");
        let text = Text(12);
        let says = peer::say(from_peer, text, LEN, 12);
        let hears = peer::hear(to_peer, text, 13);
        let (mut at, mut taken) = (0, 0);
        while at < LEN {
            let left = (LEN - at).min(5_000);
            let mut piped = from.splice_in(left).await.unwrap().unwrap();
            at += piped.len();
            to.splice_out(&mut piped).await.unwrap();
            if !from.splices_now() {
                rt.yield_now().await; // It is the others' turn.
                continue;
            }
            taken += 1;
            let mut piped = from.empty_pipe();
            assert!(piped.is_empty());
            at += from.splice_more(&mut piped, (LEN - at).min(5_000));
            to.splice_out(&mut piped).await.unwrap();
            assert!(piped.is_empty());
        }
        assert!(taken > 200, "{taken}");
        to.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
        says.join().unwrap();
        let mut held: Vec<_> = std::iter::repeat_with(|| from.empty_pipe())
            .take(65)
            .collect();
        let taking = held.iter_mut().map(|piped| piped.push(b"a"));
        assert_eq!(taking.filter(|taken| *taken).count(), 64);
    });
}

/// The kernel tells of it only once.
pub(crate) fn a_reset_found_without_a_wait_is_told_to_who_waits(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        (&peer).write_all(b"content").unwrap();
        assert_eq!(conn.splice_in(7).await.unwrap().unwrap().len(), 7);
        peer::reset(peer);
        let mut line = [0; 5];
        while rt.precise_now() < rt.now() + Duration::from_millis(20) {
            assert_eq!(conn.recv_more(&mut line), 0);
        }
        let error = conn.splice_in(LEN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

async fn splice_all(from: &Conn, to: &Conn) -> io::Result<usize> {
    let mut bytes = 0;
    while let Some(mut piped) = from.splice_in(LEN).await? {
        bytes += piped.len();
        to.splice_out(&mut piped).await?;
    }
    to.finish().await?;
    Ok(bytes)
}
