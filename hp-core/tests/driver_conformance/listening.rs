//! Every connection that reached the listener is claimed once or closed, whatever became of the futures.

use crate::lab::{
    PATIENCE, check, conns_fall_to, exactly, listener, once, options, tiny, until, within_turns,
};
use crate::peer;
use hp_core::rt::net::{Address, BindOptions, Listener, PortUse, bind};
use hp_core::rt::race::{First, race};
use hp_core::rt::{Engine, Rt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

pub(crate) fn a_dropped_accept_loses_no_connection(engine: Engine) {
    const CONNS: u32 = 300;
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            let (listener, addr) = listener(&rt);
            let peers = peer::thread(move || {
                let say = |name: u32| {
                    let mut peer = peer::connect(addr);
                    peer.write_all(&name.to_le_bytes()).unwrap();
                    peer
                };
                (0..CONNS).map(say).collect::<Vec<_>>()
            });
            let mut names = Vec::new();
            while names.len() < CONNS as usize {
                let accepted = match names.len() % 3 {
                    0 => once(listener.accept()).await,
                    1 => match race(listener.accept(), rt.yield_now()).await {
                        First::One(accepted) => Some(accepted),
                        First::Other(()) => None,
                    },
                    _ => Some(listener.accept().await),
                };
                let Some(accepted) = accepted else {
                    rt.yield_now().await;
                    continue;
                };
                let word = exactly(&accepted.unwrap(), 4).await;
                names.push(u32::from_le_bytes(word.try_into().unwrap()));
            }
            assert!(
                names.into_iter().eq(0..CONNS),
                "all, in the order of their arrival"
            );
            assert!(once(listener.accept()).await.is_none());
            drop(peers.join().unwrap());
        });
    }
}

pub(crate) fn a_paused_listener_accepts_nothing_until_resumed(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        give_turns(&rt).await;
        listener.pause();
        listener.pause();
        give_turns(&rt).await;
        let peers: Vec<_> = (0..5).map(|_| peer::connect(addr)).collect();
        assert!(within_turns(&rt, 50, listener.accept()).await.is_none());
        listener.resume();
        listener.resume();
        for peer in &peers {
            let conn = listener.accept().await.unwrap();
            assert_eq!(conn.peer_addr().unwrap(), peer.local_addr().unwrap());
        }
    });
}

pub(crate) fn pausing_and_resuming_in_any_order_loses_no_connection(engine: Engine) {
    check(&tiny(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut chance = crate::lab::Chance::new(3);
        for _ in 0..200 {
            for _ in 0..chance.below(5) {
                match chance.below(3) {
                    0 => listener.pause(),
                    1 => listener.resume(),
                    _ => rt.yield_now().await,
                }
            }
            let peer = peer::connect(addr);
            if chance.below(2) == 0 {
                rt.yield_now().await;
            }
            listener.resume();
            let conn = listener.accept().await.unwrap();
            assert_eq!(conn.peer_addr().unwrap(), peer.local_addr().unwrap());
        }
    });
}

/// Trying makes the socket non-blocking, on which a ring may answer EAGAIN instead of waiting.
pub(crate) fn a_listener_goes_on_after_being_tried_while_paused(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        for _ in 0..3 {
            give_turns(&rt).await;
            assert!(listener.try_accept().is_none());
            listener.pause();
            give_turns(&rt).await;
            assert!(listener.try_accept().is_none());
            let mut peers: Vec<_> = (0..3).map(|_| peer::connect(addr)).collect();
            for peer in &mut peers {
                let conn = listener.try_accept().unwrap();
                assert_eq!(conn.peer_addr().unwrap(), peer.local_addr().unwrap());
                assert!(once(conn.recv()).await.is_none());
                peer.write_all(b"tried").unwrap();
                assert_eq!(exactly(&conn, 5).await, b"tried");
            }
            assert!(listener.try_accept().is_none());
            listener.resume();
            assert!(within_turns(&rt, 20, listener.accept()).await.is_none());
            let mut peer = peer::connect(addr);
            let conn = listener.accept().await.unwrap();
            peer.write_all(b"accepted").unwrap();
            assert_eq!(exactly(&conn, 8).await, b"accepted");
        }
    });
}

/// One socket under one name, in two listeners, as workers have it.
pub(crate) fn a_unix_socket_is_accepted_from_by_all_who_have_it(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    check(&options(engine), async |rt| {
        let binding = BindOptions {
            count: 2,
            backlog: 64,
            port: PortUse::Exclusive,
            socket_mode: None,
        };
        let bound = bind(&Address::Unix(path.clone()), &binding).unwrap();
        let listener = |socket| rt.listener(socket).unwrap();
        let listeners: Vec<Listener> = bound.sockets.into_iter().map(listener).collect();
        for round in 0..20 {
            if round == 10 {
                listeners[0].pause(); // The other one goes on.
                give_turns(&rt).await;
            }
            let mut peer = UnixStream::connect(&path).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let either = race(listeners[0].accept(), listeners[1].accept()).await;
            let (First::One(conn) | First::Other(conn)) = either;
            let conn = conn.unwrap();
            assert_eq!(conn.peer_addr(), None);
            peer.write_all(b"question").unwrap();
            assert_eq!(exactly(&conn, 8).await, b"question");
            let conn = match conn.release() {
                Ok(released) => rt.adopt_released(released).unwrap(),
                Err(conn) => conn, // A ring holds a receive.
            };
            let large = vec![7; 1 << 20]; // More than the socket takes at once.
            let reader = peer::thread(move || {
                let mut got = Vec::new();
                peer.read_to_end(&mut got).unwrap();
                got
            });
            conn.write(&large).unwrap();
            conn.finish().await.unwrap();
            until(&rt, || reader.is_finished()).await;
            assert!(reader.join().unwrap() == large);
            drop(conn);
            conns_fall_to(&rt, 0).await;
        }
    });
    assert!(!path.exists(), "the name goes with the listeners");
}

pub(crate) fn an_accepted_connection_may_live_in_another_runtime(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut peers = vec![peer::connect(addr)];
        let mut moving = vec![listener.accept_raw().await.unwrap()];
        give_turns(&rt).await;
        listener.pause();
        give_turns(&rt).await;
        peers.push(peer::connect(addr));
        moving.push(listener.try_accept_raw().unwrap());
        assert_eq!(rt.holdings().conns, 0);
        let other = options(engine);
        let worker = peer::thread(move || {
            check(&other, async |rt| {
                for accepted in moving {
                    let conn = rt.adopt_accepted(accepted).unwrap();
                    let bytes = exactly(&conn, 6).await;
                    conn.write(&bytes).unwrap();
                    conn.finish().await.unwrap();
                }
            });
        });
        for peer in &mut peers {
            peer.write_all(b"at new").unwrap();
            let mut echo = Vec::new();
            peer.read_to_end(&mut echo).unwrap();
            assert_eq!(echo, b"at new");
        }
        worker.join().unwrap();
    });
}

pub(crate) fn a_socket_of_either_mode_can_be_adopted(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        for nonblocking in [false, true] {
            let theirs = peer::connect(addr);
            theirs.set_nonblocking(nonblocking).unwrap();
            let adopted = rt.adopt(std::os::fd::OwnedFd::from(theirs)).unwrap();
            assert_eq!(adopted.peer_addr(), Some(addr));
            let conn = listener.accept().await.unwrap();
            assert!(within_turns(&rt, 5, adopted.recv()).await.is_none());
            conn.write(b"welcome").unwrap();
            assert_eq!(exactly(&adopted, 7).await, b"welcome");
            adopted.write(b"thanks").unwrap();
            assert_eq!(exactly(&conn, 6).await, b"thanks");
        }
    });
}

/// The limit belongs to a process, so the fact is proven in one of its own.
pub(crate) fn running_out_of_descriptors_is_an_error_and_accepting_goes_on(engine: Engine) {
    if std::env::var_os(CHILD).is_some() {
        return run_out_of_descriptors(engine);
    }
    let fact = format!("{engine}::running_out_of_descriptors_is_an_error_and_accepting_goes_on");
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &fact])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complained = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}{complained}");
}

fn run_out_of_descriptors(engine: Engine) {
    const CONNS: usize = 20;
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        for _ in 0..3 {
            let peers: Vec<_> = (0..CONNS).map(|_| peer::connect(addr)).collect();
            let hogs: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            for _ in 0..3 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}");
            }
            drop(hogs);
            let mut conns = Vec::new();
            while conns.len() < CONNS {
                match listener.accept().await {
                    Ok(conn) => conns.push(conn),
                    Err(error) => {
                        // Known before the descriptors were free again.
                        assert_eq!(error.raw_os_error(), Some(EMFILE), "{error}");
                        rt.sleep(std::time::Duration::from_millis(1)).await;
                    }
                }
            }
            drop(peers);
            drop(conns);
            conns_fall_to(&rt, 0).await;
        }
    });
}

// A listener whose threads were all busy went on accepting: every client in its queue cost a descriptor that those who were served lacked.
pub(crate) fn what_nobody_claims_waits_in_the_queue(engine: Engine) {
    const CONNS: usize = 100;
    if engine == Engine::Uring {
        return; // Its kernel accepts until it is told to stop; whoever uses it claims what comes.
    }
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let peers: Vec<_> = (0..CONNS).map(|_| peer::connect(addr)).collect();
        for _ in 0..CONNS {
            rt.yield_now().await;
        }
        listener.pause();
        listener.quiet().await;
        let taken: Vec<_> = std::iter::from_fn(|| listener.take_accepted()).collect();
        assert_eq!(taken.len(), 32, "those that the first report brought");
        listener.resume();
        let mut claimed = Vec::new();
        while taken.len() + claimed.len() < CONNS {
            claimed.push(listener.accept().await.unwrap());
        }
        drop((peers, taken));
    });
}

pub(crate) fn a_dropped_listener_closes_what_nobody_claimed(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        give_turns(&rt).await;
        let mut peers: Vec<_> = (0..10).map(|_| peer::connect(addr)).collect();
        give_turns(&rt).await; // Accepted by the kernel, claimed by nobody.
        drop::<Listener>(listener);
        until(&rt, || rt.holdings().listeners == 0).await;
        for peer in &mut peers {
            // FIN or RST: the connection is over either way.
            assert!(matches!(peer.read(&mut [0]), Ok(0) | Err(_)));
        }
        std::net::TcpStream::connect(addr).unwrap_err();
    });
}

async fn give_turns(rt: &Rt) {
    for _ in 0..5 {
        rt.yield_now().await;
    }
}

const CHILD: &str = "HP_CONFORMANCE_CHILD";
const EMFILE: i32 = 24;
