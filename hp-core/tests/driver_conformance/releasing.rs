//! A connection leaves its runtime whole, or it stays with what kept it; nothing that comes meanwhile is lost.

use crate::lab::{Chance, check, conns_fall_to, exactly, once, options, pair, scarce, seeds, soon};
use crate::lab::{tiny, within_turns};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::{Engine, Rt};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A ring has a receive armed for it by then, and lets go of it all the same.
pub(crate) fn an_idle_connection_is_released_by_every_engine(engine: Engine) {
    for options in [options(engine), tiny(engine), scarce(engine)] {
        let other = options.clone();
        check(&options, async |rt| {
            let (conn, mut peer) = pair(&rt).await;
            let addr = conn.peer_addr();
            let key = conn.park(1, soon(&rt));
            assert!(within_turns(&rt, 5, rt.next_unparked()).await.is_none());
            let conn = rt.unpark(key).unwrap();
            let released = conn.release_idle().await.unwrap();
            assert_eq!(rt.holdings().conns, 0);
            assert_eq!(rt.holdings().lent_buffers, 0);
            assert!(!released.has_news());
            peer.write_all(b"meanwhile").unwrap();
            assert!(released.has_news());
            let thread = peer::thread(move || {
                check(&other, async |rt| {
                    let conn = rt.adopt_released(released).unwrap();
                    assert_eq!(conn.peer_addr(), addr);
                    assert_eq!(exactly(&conn, 9).await, b"meanwhile");
                    conn.write(b"answered elsewhere").unwrap();
                    conn.finish().await.unwrap();
                });
            });
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"answered elsewhere");
            thread.join().unwrap();
        });
    }
}

/// Whether the receive is called back before, while or after something comes for it is up to the machine and to chance.
pub(crate) fn what_comes_as_a_connection_is_released_is_lost_to_nobody(engine: Engine) {
    for seed in seeds() {
        check(&options(engine), async |rt| {
            let mut chance = Chance::new(seed);
            for round in 0..ROUNDS {
                let (conn, peer) = pair(&rt).await;
                assert!(once(conn.recv()).await.is_none());
                for _ in 0..chance.below(3) {
                    rt.yield_now().await; // Armed in the kernel, or about to be.
                }
                let kind = chance.below(4);
                let text = Text(seed ^ round);
                let spins = chance.below(2000);
                let acts = move || act(kind, peer, text, spins);
                let peer = if chance.below(2) == 0 {
                    peer::thread(acts)
                } else {
                    let acted = acts();
                    peer::thread(move || acted)
                };
                let conn = match conn.release_idle().await {
                    Ok(released) => rt.adopt_released(released).unwrap(),
                    Err(conn) => conn,
                };
                hear(&rt, conn, kind, text, peer.join().unwrap()).await;
                conns_fall_to(&rt, 0).await;
            }
        });
    }
}

/// What the peer does as the connection leaves; gives what it has left of it.
fn act(kind: u64, mut peer: TcpStream, text: Text, spins: u64) -> Option<TcpStream> {
    (0..spins).for_each(|_| std::hint::spin_loop());
    match kind {
        0 => Some(peer),
        1 => {
            peer.write_all(&text.bytes(0, LEN)).unwrap();
            Some(peer)
        }
        2 => {
            peer.shutdown(Shutdown::Write).unwrap();
            Some(peer)
        }
        _ => {
            peer::reset(peer);
            None
        }
    }
}

/// Whoever has the connection now is told what the peer did, and the connection goes on as far as the peer lets it.
async fn hear(rt: &Rt, conn: Conn, kind: u64, text: Text, peer: Option<TcpStream>) {
    match (kind, peer) {
        (0, Some(mut peer)) => {
            assert!(within_turns(rt, 3, conn.recv()).await.is_none());
            peer.write_all(&text.bytes(0, LEN)).unwrap();
            text.check(0, &exactly(&conn, LEN).await);
        }
        (1, Some(_open)) => text.check(0, &exactly(&conn, LEN).await),
        (2, Some(mut peer)) => {
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            conn.write(b"answer").unwrap();
            conn.finish().await.unwrap();
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"answer");
        }
        _ => {
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

/// Its bytes are received by who could not release it, and a second try finds it idle again.
pub(crate) fn a_connection_that_could_not_be_released_goes_on(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"unread").unwrap();
        conn.readable().await.unwrap();
        let conn = conn.release_idle().await.unwrap_err();
        assert_eq!(exactly(&conn, 6).await, b"unread");
        assert!(once(conn.recv()).await.is_none());
        let released = conn.release_idle().await.unwrap();
        let conn = rt.adopt_released(released).unwrap();
        conn.write(b"still here").unwrap();
        conn.finish().await.unwrap();
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"still here");
    });
}

pub(crate) fn a_release_that_is_dropped_closes_its_connection(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        assert!(once(conn.recv()).await.is_none());
        rt.yield_now().await;
        let polled = once(conn.release_idle()).await;
        assert_eq!(polled.is_none(), engine == Engine::Uring);
        drop(polled);
        conns_fall_to(&rt, 0).await;
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    });
}

const ROUNDS: u64 = 60;
/// More than one small buffer takes.
const LEN: usize = 10_000;
