//! What the socket does not take waits in order; what it will never take is an error.

use crate::lab::{
    Chance, check, conns_fall_to, listener, once, options, pair, pair_from, run, seeds, start,
    tiny, until, within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::Engine;
use hp_core::rt::net::{Conn, File, FilePart, Rx};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

const LEN: usize = 8 * 1024 * 1024;

pub(crate) fn what_a_slow_peer_does_not_take_is_queued_and_arrives_whole(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let text = Text(1);
        conn.write(&text.bytes(0, LEN)).unwrap();
        assert!(conn.queued() > 0, "no socket takes 8 MB at once");
        assert!(rt.stats().short_sends > 0);
        conn.write(&text.bytes(LEN, 1000)).unwrap(); // Behind what waits, not before it.
        assert!(within_turns(&rt, 50, conn.flush()).await.is_none());
        let hears = peer::hear(peer, text, 2);
        conn.flush().await.unwrap();
        assert_eq!(conn.queued(), 0);
        conn.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN + 1000);
    });
}

pub(crate) fn what_is_gathered_in_one_turn_leaves_in_one_call_whatever_is_written_between(
    engine: Engine,
) {
    check(&options(engine), async |rt| {
        let (many, mut to_many) = pair(&rt).await;
        let (other, mut to_other) = pair(&rt).await;
        rt.yield_now().await;
        let before = rt.stats().sends;
        for _ in 0..3 {
            many.gather(b"ab").unwrap();
            other.write(b"x").unwrap();
        }
        assert_eq!((many.unsent(), rt.stats().sends), (6, before));
        rt.yield_now().await;
        assert_eq!((many.unsent(), rt.stats().sends), (0, before + 2));
        let (mut heard, mut heard_other) = ([0; 6], [0; 3]);
        to_many.read_exact(&mut heard).unwrap();
        to_other.read_exact(&mut heard_other).unwrap();
        assert_eq!((&heard, &heard_other), (b"ababab", b"xxx"));
    });
}

pub(crate) fn gathered_written_and_large_bytes_keep_their_order(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let text = Text(9);
        let mut said = 0;
        let mut say = |len: usize| {
            said += len;
            text.bytes(said - len, len)
        };
        // Each kind behind each other, in one turn and over many; some of it waits for a slow peer.
        for round in 0..400 {
            conn.gather(&say(7)).unwrap();
            conn.write(&say(5)).unwrap();
            conn.gather(&say(3)).unwrap();
            if round % 3 == 0 {
                conn.write(&say(40_000)).unwrap();
                conn.gather(&say(2)).unwrap();
            }
            if round % 5 == 0 {
                rt.yield_now().await;
            }
        }
        conn.gather(&say(70_000)).unwrap();
        let hears = peer::hear(peer, text, 4);
        conn.flush().await.unwrap();
        conn.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), said);
        assert_eq!(conn.unsent(), 0);
    });
}

pub(crate) fn more_connections_than_there_are_parcels_get_what_is_gathered(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut pairs = Vec::new();
        for _ in 0..20 {
            pairs.push(pair_from(&listener, addr).await);
        }
        for (part, unsent) in [(b"ab", 2), (b"cd", 4)] {
            for (conn, _) in &pairs {
                conn.gather(part).unwrap();
                assert_eq!(conn.unsent(), unsent); // Of the last ones it was 0.
            }
        }
        for (conn, mut peer) in pairs {
            drop(conn); // What was gathered leaves before the connection does.
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"abcd");
        }
    });
}

pub(crate) fn what_is_withdrawn_never_leaves_and_nobody_elses_bytes_go_with_it(engine: Engine) {
    check(&options(engine), async |rt| {
        for how in [Conn::write, Conn::gather] {
            let (conn, mut to_conn) = pair(&rt).await;
            let (other, mut to_other) = pair(&rt).await;
            rt.yield_now().await;
            for _ in 0..2 {
                how(&conn, b"never").unwrap();
                how(&other, b"ab").unwrap();
            }
            assert_eq!(conn.unsent(), 10);
            conn.withdraw();
            assert_eq!((conn.unsent(), other.unsent()), (0, 4));
            how(&conn, b"but this").unwrap();
            drop((conn, other));
            let (mut heard, mut heard_other) = (Vec::new(), Vec::new());
            to_conn.read_to_end(&mut heard).unwrap();
            to_other.read_to_end(&mut heard_other).unwrap();
            assert_eq!(
                (&heard[..], &heard_other[..]),
                (&b"but this"[..], &b"abab"[..])
            );
        }
    });
}

pub(crate) fn a_name_leads_to_its_connection_as_long_as_that_has_an_owner(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        let name = conn.name();
        assert_eq!(rt.peer_addr_of(name), conn.peer_addr());
        rt.write_to(name, &[IoSlice::new(b"a"), IoSlice::new(b"b")])
            .unwrap();
        conn.write(b"c").unwrap();
        conn.flush().await.unwrap();
        let mut heard = [0; 3];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"abc");
        assert!(!rt.has_news_of(name));
        peer.write_all(b"d").unwrap();
        conn.readable().await.unwrap();
        assert!(rt.has_news_of(name));
        drop(conn);
        let error = rt.write_to(name, &[IoSlice::new(b"e")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        rt.set_deadline_of(name, Some(rt.now()));
        assert!(!rt.has_news_of(name));
    });
}

pub(crate) fn stamps_tell_when_bytes_left_and_came_and_not_when_a_task_looked(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        conn.write(b"a").unwrap();
        conn.send_now().unwrap();
        assert_eq!(conn.take_sent_at(), None, "nobody had asked for stamps");
        rt.keep_stamps();
        conn.write(b"b").unwrap();
        assert_eq!(
            conn.take_sent_at(),
            None,
            "it leaves at the end of the turn"
        );
        let written = rt.precise_now();
        rt.yield_now().await;
        let gone = rt.precise_now();
        let sent = conn.take_sent_at().unwrap();
        assert!(written <= sent && sent <= gone);
        assert_eq!(conn.take_sent_at(), None, "nothing has left since");
        assert_eq!(conn.received_at(), None, "nothing has come");
        peer.write_all(b"c").unwrap();
        conn.readable().await.unwrap();
        let seen = rt.precise_now();
        let received = conn.received_at().unwrap();
        assert!(gone <= received && received <= seen);
        assert!(matches!(conn.recv().await.unwrap(), Rx::Data(lent) if *lent == *b"c"));
        assert_eq!(conn.received_at(), Some(received));
    });
}

pub(crate) fn received_pieces_queue_uncopied_and_arrive_in_order(engine: Engine) {
    for seed in seeds() {
        check(&options(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let (source, from) = pair_from(&listener, addr).await;
            let (sink, to) = pair_from(&listener, addr).await;
            let text = Text(seed);
            let says = peer::say(from, text, LEN, seed);
            let mut chance = Chance::new(seed + 1);
            let mut hears = Some(move || peer::hear(to, text, seed + 2));
            let mut hearing = None;
            while let Rx::Data(mut lent) = source.recv().await.unwrap() {
                if chance.below(4) == 0 {
                    let cut = usize::try_from(chance.below(lent.len() as u64)).unwrap();
                    let front = lent.split_to(cut);
                    sink.write(&front).unwrap(); // Copies and pieces take turns.
                }
                sink.queue(lent).unwrap();
                if rt.holdings().lent_buffers > 20 {
                    let start = hears.take();
                    hearing = hearing.or_else(|| start.map(|start| start()));
                    sink.flush().await.unwrap();
                    assert_eq!(sink.queued(), 0);
                }
            }
            assert!(
                hearing.is_some(),
                "the peer read nothing, yet no piece was kept"
            );
            sink.finish().await.unwrap();
            assert_eq!(hearing.unwrap().join().unwrap(), LEN);
            says.join().unwrap();
        });
    }
}

pub(crate) fn a_part_of_a_file_arrives_whole_and_in_its_place(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let text = Text(8);
        let file = file_of(&text.bytes(0, LEN));
        let part = |start: usize, end: usize| FilePart {
            file: Rc::clone(&file),
            offset: start as u64,
            left: (end - start) as u64,
        };
        conn.write(&text.bytes(0, 100)).unwrap();
        conn.write_file(&text.bytes(100, 50), part(150, 150))
            .unwrap();
        conn.write_file(&text.bytes(150, 50), part(200, 1000))
            .unwrap();
        conn.write_file(&[], part(1000, LEN)).unwrap();
        assert!(conn.queued() > 0, "no socket takes 8 MB at once");
        conn.write(&text.bytes(LEN, 10)).unwrap(); // Behind what waits, and the next part behind both.
        conn.write_file(&text.bytes(LEN + 10, 10), part(0, 0))
            .unwrap();
        let again = Text(8).bytes(LEN + 20, 0);
        conn.write_file(&again, part(LEN, LEN)).unwrap();
        let hears = peer::hear(peer, text, 9);
        conn.flush().await.unwrap();
        assert_eq!(conn.queued(), 0);
        conn.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN + 20);
    });
}

pub(crate) fn a_file_that_was_cut_short_fails_its_connection(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, _peer) = pair(&rt).await;
        let part = FilePart {
            file: file_of(b"short"),
            offset: 0,
            left: 6,
        };
        let error = conn.write_file(b"head", part).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "EIO");
        assert!(conn.flush().await.is_err());
        assert!(conn.write(b"more").is_err());
    });
}

fn file_of(content: &[u8]) -> Rc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Rc::new(File::from(OwnedFd::from(file)))
}

/// A vectored call takes 64 pieces at most. The 65th waited for room in a socket that had plenty, of which an
/// edge-triggered engine is never told.
pub(crate) fn more_pieces_than_one_call_takes_arrive_whole(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let bytes = Text(4).bytes(0, 1000);
        let pieces: Vec<IoSlice<'_>> = bytes.chunks(3).map(IoSlice::new).collect();
        assert!(within_turns(&rt, 5, conn.recv()).await.is_none()); // The first edges are over.
        conn.write_vectored(&pieces).unwrap();
        conn.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])])
            .unwrap();
        conn.write_vectored(&[]).unwrap();
        conn.flush().await.unwrap();
        conn.finish().await.unwrap();
        assert_eq!(peer::hear(peer, Text(4), 4).join().unwrap(), 1000);
    });
}

pub(crate) fn what_is_written_in_one_turn_leaves_in_one_call(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        let text = Text(6);
        let before = rt.stats().sends;
        (0..10).for_each(|step| conn.write(&text.bytes(step * 100, 100)).unwrap());
        assert_eq!(
            rt.stats().sends,
            before,
            "small writes wait for the turn's end"
        );
        rt.yield_now().await;
        assert_eq!(rt.stats().sends, before + 1);
        conn.write(&text.bytes(1000, 10)).unwrap();
        conn.send_now().unwrap();
        assert_eq!(rt.stats().sends, before + 2);
        conn.finish().await.unwrap();
        assert_eq!(peer::hear(peer, text, 6).join().unwrap(), 1010);
    });
}

pub(crate) fn what_is_written_last_in_a_loop_leaves_with_it(engine: Engine) {
    let Some(rt) = start(&options(engine)) else {
        return;
    };
    let (conn, peer) = run(&rt, pair(&rt));
    rt.block_on(async { conn.write(b"last").unwrap() });
    let mut word = [0; 4];
    (&peer).read_exact(&mut word).unwrap();
    assert_eq!(&word, b"last");
    drop(conn);
    rt.shut_down();
}

pub(crate) fn small_and_large_writes_received_pieces_and_the_end_keep_their_order(engine: Engine) {
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let mut chance = Chance::new(seed);
            let mut ends = Vec::new();
            for name in 0..8 {
                let (conn, peer) = pair_from(&listener, addr).await;
                let text = Text(seed << 8 | name);
                ends.push((conn, text, 0, peer::hear(peer, text, seed + name)));
            }
            for _ in 0..2000 {
                let chosen = usize::try_from(chance.below(8)).unwrap();
                let (conn, text, said, _) = &mut ends[chosen];
                let len = chance.size(8 * 1024);
                conn.write(&text.bytes(*said, len)).unwrap();
                *said += len;
                match chance.below(16) {
                    0 => rt.yield_now().await,
                    1 => conn.flush().await.unwrap(),
                    2 => conn.send_now().unwrap(),
                    _ => (),
                }
            }
            for (conn, text, said, hears) in ends {
                conn.write(&text.bytes(said, 7)).unwrap();
                conn.finish().await.unwrap();
                assert_eq!(hears.join().unwrap(), said + 7);
            }
        });
    }
}

pub(crate) fn what_was_just_written_leaves_before_its_connection_does(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let (closed, closed_peer) = pair_from(&listener, addr).await;
        closed.write(&Text(7).bytes(0, 100)).unwrap();
        closed.close();
        assert_eq!(peer::hear(closed_peer, Text(7), 7).join().unwrap(), 100);
        let (parked, parked_peer) = pair_from(&listener, addr).await;
        parked.write(&Text(8).bytes(0, 100)).unwrap();
        let key = parked.park(0, crate::lab::soon(&rt));
        let hears = peer::hear(parked_peer, Text(8), 8);
        rt.unpark(key).unwrap().finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), 100);
        conns_fall_to(&rt, 0).await;
    });
}

/// The writer has gone on when the send fails; the receiver found an end in its place, and took half a message for whole.
pub(crate) fn a_send_that_fails_at_the_end_of_the_turn_is_no_end_of_data(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        for _ in 0..20 {
            let (conn, peer) = pair_from(&listener, addr).await;
            peer::reset(peer);
            conn.write(b"to nobody").unwrap();
            check_gone(&conn.recv().await.unwrap_err());
        }
        conns_fall_to(&rt, 0).await;
    });
}

pub(crate) fn a_dropped_flush_loses_nothing(engine: Engine) {
    check(&tiny(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        conn.write(&Text(5).bytes(0, LEN)).unwrap();
        let hears = peer::hear(peer, Text(5), 5);
        while once(conn.flush()).await.is_none() {
            rt.yield_now().await;
        }
        conn.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
    });
}

pub(crate) fn sending_to_a_reset_connection_is_an_error_and_no_signal(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        for round in 0..20 {
            let (conn, peer) = pair_from(&listener, addr).await;
            if round % 2 == 0 {
                assert!(once(conn.recv()).await.is_none());
                rt.yield_now().await;
            }
            peer::reset(peer);
            let error = loop {
                match conn.write(b"to nobody") {
                    Ok(()) => rt.yield_now().await,
                    Err(error) => break error,
                }
            };
            check_gone(&error);
            for _ in 0..3 {
                check_gone(&conn.write(b"still nobody").unwrap_err());
                check_gone(&conn.flush().await.unwrap_err());
                check_gone(&conn.finish().await.unwrap_err());
            }
            // The failed send took the socket's error with it: the kernel says "end" from then on, and means "reset".
            check_gone(&conn.recv().await.unwrap_err());
        }
        conns_fall_to(&rt, 0).await;
    });
}

pub(crate) fn a_reset_ends_a_flush_that_waits(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, peer) = pair(&rt).await;
        conn.write(&vec![0; LEN]).unwrap();
        assert!(within_turns(&rt, 10, conn.flush()).await.is_none());
        let resets = peer::thread(move || peer::reset(peer));
        check_gone(&conn.flush().await.unwrap_err());
        assert_eq!(conn.queued(), 0, "what nobody will take is not kept");
        resets.join().unwrap();
    });
}

pub(crate) fn an_echo_stands_a_peer_that_reads_by_fits_and_starts(engine: Engine) {
    const CONNS: u64 = 4;
    const LEN: usize = 3 * 1024 * 1024;
    for seed in seeds() {
        check(&tiny(engine), async |rt| {
            let (listener, addr) = listener(&rt);
            let mut peers = Vec::new();
            for name in 0..CONNS {
                let (conn, peer) = pair_from(&listener, addr).await;
                rt.spawn(async move {
                    while let Rx::Data(lent) = conn.recv().await.unwrap() {
                        conn.queue(lent).unwrap();
                        conn.flush().await.unwrap();
                    }
                    conn.finish().await.unwrap();
                });
                let text = Text(seed << 8 | name);
                peers.push(peer::thread(move || {
                    fits_and_starts(peer, text, LEN, seed + name)
                }));
            }
            until(&rt, || rt.tasks() == 0).await;
            peers.into_iter().for_each(|peer| peer.join().unwrap());
        });
    }
}

/// Writes some, reads all of it back but for a rest that grows and shrinks.
fn fits_and_starts(mut peer: TcpStream, text: Text, len: usize, seed: u64) {
    let mut chance = Chance::new(seed);
    let (mut said, mut heard) = (0, 0);
    while heard < len {
        let size = chance.size(16 * 1024).min(len - said);
        peer.write_all(&text.bytes(said, size)).unwrap();
        said += size;
        if said == len && size > 0 {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        let rest = if said == len {
            0
        } else {
            chance.size(32 * 1024)
        };
        let due = said.saturating_sub(rest).saturating_sub(heard);
        let mut echo = vec![0; due];
        peer.read_exact(&mut echo).unwrap();
        text.check(heard, &echo);
        heard += due;
    }
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

fn check_gone(error: &io::Error) {
    let kinds = [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::NotConnected,
    ];
    assert!(kinds.contains(&error.kind()), "{error}");
}
