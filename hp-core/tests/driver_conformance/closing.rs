//! Giving up: what was armed ends once, what was said is said, and no slot is used again too early.

use crate::lab::{
    NOTHING, Watchdog, check, conns_fall_to, data, exactly, goes_quiet, listener, once, options,
    pair, pair_from, run, scarce, soon, start, tiny, within_turns,
};
use crate::peer::{self, Text};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::{Engine, Rt, RtOptions};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) fn every_armed_operation_ends_exactly_once(engine: Engine) {
    for options in [options(engine), tiny(engine), scarce(engine)] {
        check(&options, async |rt| {
            let (listener, addr) = listener(&rt);
            for state in STATES {
                for give_up in [drop::<Conn>, Conn::close, Conn::reset] {
                    let (conn, peer) = pair_from(&listener, addr).await;
                    state(&rt, &conn, &peer).await;
                    give_up(conn);
                    conns_fall_to(&rt, 0).await;
                    assert_eq!(rt.holdings().lent_buffers, 0);
                }
            }
            // Many at once, in slots that were used before, and with fewer unread bytes than there are buffers.
            let mut crowd = Vec::new();
            for state in STATES.iter().cycle().take(2 * STATES.len()) {
                let (conn, peer) = pair_from(&listener, addr).await;
                state(&rt, &conn, &peer).await;
                crowd.push((conn, peer));
            }
            drop(crowd);
            conns_fall_to(&rt, 0).await;
            let (conn, mut peer) = pair_from(&listener, addr).await;
            peer.write_all(b"a fresh start").unwrap();
            assert_eq!(exactly(&conn, 13).await, b"a fresh start");
        });
    }
}

/// What a connection may be in the middle of when it is given up.
const STATES: [AsyncState; 9] = [
    |_, _, _| Box::pin(async {}),
    |_, conn, _| Box::pin(async { assert!(once(conn.recv()).await.is_none()) }),
    |rt, conn, _| {
        Box::pin(async {
            assert!(within_turns(rt, 3, conn.recv()).await.is_none());
        })
    },
    |rt, conn, peer| {
        Box::pin(async {
            assert!(once(conn.recv()).await.is_none());
            write(peer, &[1; 10_000]);
            give_turns(rt).await; // Received and taken by nobody.
        })
    },
    |rt, conn, peer| {
        Box::pin(async {
            assert!(once(conn.recv()).await.is_none());
            give_turns(rt).await;
            write(peer, &[1; 10_000]); // On its way while the connection is given up.
        })
    },
    |rt, conn, _| {
        Box::pin(async {
            conn.write(&vec![2; 8 * 1024 * 1024]).unwrap();
            assert!(within_turns(rt, 3, conn.flush()).await.is_none());
        })
    },
    |rt, conn, _| {
        Box::pin(async {
            assert!(once(conn.recv()).await.is_none());
            conn.write(&vec![2; 8 * 1024 * 1024]).unwrap();
            give_turns(rt).await;
        })
    },
    |_, conn, peer| {
        Box::pin(async {
            peer.shutdown(Shutdown::Write).unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        })
    },
    |rt, conn, peer| {
        Box::pin(async {
            assert!(once(conn.recv()).await.is_none());
            give_turns(rt).await;
            peer::reset(peer.try_clone().unwrap());
            peer.shutdown(Shutdown::Both).unwrap();
        })
    },
];

type AsyncState = for<'a> fn(&'a Rt, &'a Conn, &'a TcpStream) -> Pending<'a>;
type Pending<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

pub(crate) fn a_connection_attempt_given_up_leaves_nothing(engine: Engine) {
    check(&tiny(engine), async |rt| {
        let full = FullListener::new();
        assert!(once(rt.connect(full.addr, soon(&rt))).await.is_none());
        goes_quiet(&rt).await;
        assert!(
            within_turns(&rt, 20, rt.connect(full.addr, soon(&rt)))
                .await
                .is_none()
        );
        goes_quiet(&rt).await;
    });
}

/// A listener that answers no further connection attempt: its queue of one is full.
pub(crate) struct FullListener {
    pub(crate) addr: SocketAddr,
    _socket: Socket,
    _waiting: Vec<Socket>,
}

impl FullListener {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let attempt = |_| {
            let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            waiting.set_nonblocking(true).unwrap();
            let _in_progress = waiting.connect(&addr.into());
            waiting
        };
        let waiting = (0..3).map(attempt).collect();
        Self {
            addr,
            _socket: socket,
            _waiting: waiting,
        }
    }
}

pub(crate) fn a_stale_completion_never_hits_a_new_connection(engine: Engine) {
    const CONNS: u32 = 3000;
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            let (listener, addr) = listener(&rt);
            let peers = peer::thread(move || {
                for name in 0..CONNS {
                    let mut peer = peer::connect(addr);
                    peer.write_all(&name.to_le_bytes()).unwrap();
                    if name % 3 == 0 {
                        peer::reset(peer); // Often before the other side has looked.
                    } else if name % 3 == 1 {
                        let mut echo = [0; 4];
                        peer.read_exact(&mut echo).unwrap();
                        assert_eq!(u32::from_le_bytes(echo), name);
                    }
                }
            });
            let mut names = Vec::new();
            while names.last() != Some(&(CONNS - 2)) {
                let conn = listener.accept().await.unwrap();
                let Some(name) = first_word(&conn).await else {
                    continue;
                };
                names.push(name);
                let sent = conn.write(&name.to_le_bytes());
                assert!(sent.is_ok() || name % 3 != 1);
                assert!(
                    once(conn.recv())
                        .await
                        .is_none_or(|rx| !matches!(rx, Ok(Rx::Data(_))))
                );
                if name % 2 == 0 {
                    drop(conn); // With a receive in the kernel; the descriptor's number is free at once.
                } else if name % 3 != 1 {
                    conn.reset();
                }
            }
            peers.join().unwrap();
            assert!(
                names.is_sorted_by(|one, next| one < next),
                "each name came once, in order"
            );
            let answered = names.iter().filter(|name| *name % 3 == 1).count();
            assert_eq!(answered, CONNS as usize / 3);
        });
    }
}

async fn first_word(conn: &Conn) -> Option<u32> {
    match conn.recv().await {
        Ok(Rx::Data(lent)) => Some(u32::from_le_bytes(lent[..].try_into().unwrap())),
        Ok(Rx::Eof) | Err(_) => None, // Reset before it was looked at.
    }
}

/// A ring keeps a connection for which it holds a receive; whoever could not release it goes on with it.
pub(crate) fn a_released_connection_goes_on_in_another_runtime(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"unread").unwrap();
        conn.readable().await.unwrap();
        let conn = conn.release().unwrap_err();
        assert_eq!(exactly(&conn, 6).await, b"unread");
        conn.write(b"last words").unwrap();
        conn.set_deadline(Some(rt.now() + Duration::from_secs(60)));
        match conn.release() {
            Err(conn) => {
                assert_eq!(engine, Engine::Uring);
                drop(conn);
            }
            Ok(released) => {
                assert_eq!(rt.holdings().conns, 0);
                let mut heard = [0; 10];
                peer.read_exact(&mut heard).unwrap();
                assert_eq!(&heard, b"last words");
                assert!(!released.has_news());
                peer.write_all(b"meanwhile").unwrap();
                assert!(released.has_news());
                let other = options(engine);
                let thread = peer::thread(move || {
                    check(&other, async |rt| {
                        let conn = rt.adopt_released(released).unwrap();
                        assert_eq!(exactly(&conn, 9).await, b"meanwhile");
                    });
                });
                thread.join().unwrap();
                assert_eq!(peer.read(&mut heard).unwrap(), 0);
            }
        }
    });
}

pub(crate) fn a_finished_side_still_receives(engine: Engine) {
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        conn.write(b"question").unwrap();
        conn.finish().await.unwrap();
        let answers = peer::thread(move || {
            let mut question = Vec::new();
            peer.read_to_end(&mut question).unwrap(); // Ends: the peer sees our FIN.
            assert_eq!(question, b"question");
            peer.write_all(&Text(9).bytes(0, 300_000)).unwrap();
        });
        Text(9).check(0, &exactly(&conn, 300_000).await);
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        answers.join().unwrap();
    });
}

pub(crate) fn a_side_that_was_finished_still_sends(engine: Engine) {
    const LEN: usize = 3 * 1024 * 1024;
    check(&options(engine), async |rt| {
        let (conn, mut peer) = pair(&rt).await;
        peer.write_all(b"question").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(exactly(&conn, 8).await, b"question");
        assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        conn.write(&Text(8).bytes(0, LEN)).unwrap();
        let hears = peer::hear(peer, Text(8), 8);
        conn.finish().await.unwrap();
        assert_eq!(hears.join().unwrap(), LEN);
    });
}

pub(crate) fn dropping_a_connection_sends_its_end(engine: Engine) {
    check(&options(engine), async |rt| {
        for armed in [false, true] {
            let (conn, mut peer) = pair(&rt).await;
            if armed {
                assert!(within_turns(&rt, 3, conn.recv()).await.is_none());
            }
            conn.write(b"bye").unwrap();
            drop(conn);
            conns_fall_to(&rt, 0).await;
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"bye");
        }
    });
}

pub(crate) fn a_reset_is_seen_as_a_reset_and_not_as_an_end(engine: Engine) {
    check(&options(engine), async |rt| {
        for state in STATES.iter().take(7) {
            let (conn, mut peer) = pair(&rt).await;
            state(&rt, &conn, &peer).await;
            conn.reset();
            conns_fall_to(&rt, 0).await;
            let mut rest = Vec::new();
            let error = peer.read_to_end(&mut rest).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    });
}

/// A listener that was dropped after `shut_down` looked for its slot and panicked.
pub(crate) fn handles_may_outlive_the_shutdown(engine: Engine) {
    let _watchdog = Watchdog::start();
    let Some(rt) = start(&options(engine)) else {
        return;
    };
    let (listener, addr) = listener(&rt);
    let (conn, mut peer) = run(&rt, pair_from(&listener, addr));
    peer.write_all(b"kept").unwrap();
    let lent = run(&rt, data(&conn));
    let sleep = rt.sleep(Duration::from_secs(1));
    rt.shut_down();
    assert_eq!(rt.holdings().conns + rt.holdings().listeners, 0);
    drop(sleep);
    drop(conn);
    drop(listener);
    drop(rt);
    assert_eq!(*lent, *b"kept"); // The memory lives as long as somebody looks at it.
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

pub(crate) fn shutting_down_with_everything_in_flight_leaves_nothing(engine: Engine) {
    for options in [options(engine), tiny(engine)] {
        shut_down_in_full_flight(&options);
    }
}

fn shut_down_in_full_flight(options: &RtOptions) {
    let _watchdog = Watchdog::start();
    let Some(rt) = start(options) else { return };
    let full = FullListener::new();
    let peers = run(&rt, async {
        let (listener, addr) = listener(&rt);
        let mut peers = Vec::new();
        for state in STATES.iter().cycle().take(36) {
            let (conn, peer) = pair_from(&listener, addr).await;
            peers.push(peer.try_clone().unwrap());
            if peers.len() % 4 == 0 {
                let _key = conn.park(1, soon(&rt));
                continue;
            }
            let rt2 = rt.clone();
            rt.spawn(async move {
                state(&rt2, &conn, &peer).await;
                let _never = rt2.connect(full.addr, soon(&rt2)).await;
                drop(conn);
            });
        }
        rt.spawn(async move {
            let _waits = listener.accept().await;
        });
        give_turns(&rt).await;
        peers
    });
    assert!(rt.tasks() > 20);
    rt.shut_down();
    assert_eq!((rt.holdings(), rt.tasks()), (NOTHING, 0));
    drop(peers);
}

fn write(mut peer: &TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
}

async fn give_turns(rt: &Rt) {
    for _ in 0..3 {
        rt.yield_now().await;
    }
}
