//! Tasks and workers around the connections.

use crate::lab::{
    Watchdog, check, check_with_panics, data, exactly, listener, options, pair, pair_from, run,
    soon, start, tiny, until,
};
use crate::peer::{self, Text};
use hp_core::rt::net::Rx;
use hp_core::rt::worker::{self, Pin, WorkerId, WorkersOptions};
use hp_core::rt::{Engine, RtOptions};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

/// The task's connection was dropped, so its peer saw an orderly end after half an answer.
pub(crate) fn a_panic_costs_its_own_connection_which_is_reset(engine: Engine) {
    check_with_panics(&options(engine), 1, async |rt| {
        let (listener, addr) = listener(&rt);
        let (conn, mut peer) = pair_from(&listener, addr).await;
        rt.spawn(async move {
            conn.write(b"half an ans").unwrap();
            let _held = exactly(&conn, 1).await;
            panic!("planted: this fact wants the task to die");
        });
        let (other, mut other_peer) = pair_from(&listener, addr).await;
        peer.write_all(b"x").unwrap();
        until(&rt, || rt.panics() == 1).await;
        let mut rest = Vec::new();
        let error = peer.read_to_end(&mut rest).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        other_peer.write_all(b"well").unwrap();
        assert_eq!(exactly(&other, 4).await, b"well");
    });
}

pub(crate) fn a_flood_starves_nobody(engine: Engine) {
    const ROUNDS: u32 = 200;
    for options in [options(engine), tiny(engine)] {
        check(&options, async |rt| {
            let (listener, addr) = listener(&rt);
            let (flooded, mut flood) = pair_from(&listener, addr).await;
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let floods = peer::thread(move || {
                let bytes = vec![0; 256 * 1024];
                while !stopped.load(Ordering::Relaxed) {
                    flood.write_all(&bytes).unwrap();
                }
            });
            let flooded_bytes = Rc::new(Cell::new(0));
            let count = Rc::clone(&flooded_bytes);
            rt.spawn(async move {
                while let Rx::Data(lent) = flooded.recv().await.unwrap() {
                    count.set(count.get() + lent.len());
                }
            });
            until(&rt, || flooded_bytes.get() > 1024 * 1024).await;
            let (conn, peer) = pair_from(&listener, addr).await;
            let plays = peer::thread(move || ping(peer, ROUNDS));
            for _ in 0..ROUNDS {
                let ball = exactly(&conn, 4).await;
                conn.write(&ball).unwrap();
            }
            conn.flush().await.unwrap(); // The join holds the loop up.
            plays.join().unwrap();
            stop.store(true, Ordering::Relaxed);
            until(&rt, || rt.tasks() == 0).await;
            floods.join().unwrap();
        });
    }
}

pub(crate) fn a_task_that_always_finds_data_lets_others_run(engine: Engine) {
    check(&options(engine), async |rt| {
        let (listener, addr) = listener(&rt);
        let mut crowd = Vec::new();
        for _ in 0..300 {
            let (conn, mut peer) = pair_from(&listener, addr).await;
            peer.write_all(b"x").unwrap();
            crowd.push((conn, peer));
        }
        rt.yield_now().await; // Every byte is known to the engine.
        let ticks = Rc::new(Cell::new(0));
        let (ticking, rt2) = (Rc::clone(&ticks), rt.clone());
        rt.spawn(async move {
            while ticking.get() < u64::MAX / 2 {
                ticking.set(ticking.get() + 1);
                rt2.yield_now().await;
            }
        });
        let mut received_in_tick = (ticks.get(), 0);
        for (conn, _peer) in &crowd {
            assert_eq!(*data(conn).await, *b"x");
            let (tick, received) = received_in_tick;
            received_in_tick = if tick == ticks.get() {
                (tick, received + 1)
            } else {
                (ticks.get(), 1)
            };
            assert!(
                received_in_tick.1 <= 65,
                "one poll received from more connections than that"
            );
        }
        ticks.set(u64::MAX / 2);
    });
}

/// A task woken in the last turn of a loop was forgotten, and slept through all later ones.
pub(crate) fn a_wake_made_while_leaving_the_loop_is_kept(engine: Engine) {
    let _watchdog = Watchdog::start();
    let Some(rt) = start(&options(engine)) else {
        return;
    };
    let bell = Bell::default();
    let rung = bell.clone();
    rt.spawn(async move { rung.wait().await });
    run(&rt, async {
        while bell.waiter.borrow().is_none() {
            rt.yield_now().await;
        }
    });
    run(&rt, async { bell.ring() });
    run(&rt, until(&rt, || rt.tasks() == 0));
    rt.shut_down();
}

/// The simulator runs many runtimes on one thread; the wakes of the outer one were taken for the inner one's.
pub(crate) fn a_wake_survives_a_loop_run_inside_a_task(engine: Engine) {
    let _watchdog = Watchdog::start();
    let (Some(outer), Some(inner)) = (start(&options(engine)), start(&options(engine))) else {
        return;
    };
    let bell = Bell::default();
    let rung = bell.clone();
    outer.spawn(async move { rung.wait().await });
    run(&outer, async {
        while bell.waiter.borrow().is_none() {
            outer.yield_now().await;
        }
        bell.ring();
        run(&inner, inner.yield_now());
        until(&outer, || outer.tasks() == 0).await;
    });
    inner.shut_down();
    outer.shut_down();
}

/// Wakes one waiter.
#[derive(Clone, Default)]
struct Bell {
    waiter: Rc<RefCell<Option<Waker>>>,
    rung: Rc<Cell<bool>>,
}

impl Bell {
    fn ring(&self) {
        self.rung.set(true);
        self.waiter.borrow_mut().take().unwrap().wake();
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.rung.get() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub(crate) fn two_workers_pass_messages_and_are_joined(engine: Engine) {
    const MESSAGES: u64 = 2000;
    let _watchdog = Watchdog::start();
    if start(&tiny(engine)).is_none() {
        return;
    }
    let options = WorkersOptions {
        count: 2,
        rt: tiny(engine),
        pin: Pin::Auto,
        name: "hp-conform",
    };
    let workers = worker::start(&options, |context: worker::Context<u64>| async move {
        let other = WorkerId(1 - context.id.0);
        let (mut sum, mut passed_on) = (0, 0);
        // Every number goes to the other worker once, with a mark; both know when all have come.
        while passed_on < 2 * MESSAGES {
            let number = context.mailbox.recv().await;
            passed_on += 1;
            sum += number & !MARK;
            if number & MARK == 0 {
                context.mesh.send(other, number | MARK).unwrap();
            }
        }
        (context.id, sum)
    })
    .unwrap();
    assert!(
        workers.engine().contains(&engine.to_string()),
        "{}",
        workers.engine()
    );
    assert_eq!(workers.mesh().workers(), 2);
    for number in 0..MESSAGES {
        for worker in [WorkerId(0), WorkerId(1)] {
            workers.mesh().send(worker, number).unwrap();
        }
    }
    let sum = MESSAGES * (MESSAGES - 1);
    let mesh = workers.mesh().clone();
    assert_eq!(
        workers.join().unwrap(),
        [(WorkerId(0), sum), (WorkerId(1), sum)]
    );
    assert_eq!(
        mesh.send(WorkerId(0), 1),
        Err(1),
        "nobody reads it any more"
    );
}

pub(crate) fn sixty_four_runtimes_all_make_progress(engine: Engine) {
    const RUNTIMES: usize = 64;
    let _watchdog = Watchdog::start();
    if start(&tiny(engine)).is_none() {
        return;
    }
    let together = Arc::new(std::sync::Barrier::new(RUNTIMES));
    let threads: Vec<_> = (0..RUNTIMES)
        .map(|_| {
            let together = Arc::clone(&together);
            let rt_options = tiny(engine);
            peer::thread(move || one_of_many(&rt_options, &together))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn one_of_many(options: &RtOptions, together: &std::sync::Barrier) {
    const ROUNDS: u32 = 50;
    check(options, async |rt| {
        let (listener, addr) = listener(&rt);
        together.wait(); // All exist at once.
        let rt2 = rt.clone();
        rt.spawn(async move {
            let conn = rt2.connect(addr, soon(&rt2)).await.unwrap();
            for round in 0..ROUNDS {
                conn.write(&round.to_le_bytes()).unwrap();
                assert_eq!(exactly(&conn, 4).await, round.to_le_bytes());
            }
        });
        let conn = listener.accept().await.unwrap();
        while let Rx::Data(lent) = conn.recv().await.unwrap() {
            conn.queue(lent).unwrap();
        }
    });
}

pub(crate) fn a_load_run_starts_no_kernel_worker(engine: Engine) {
    const CONNS: u64 = 32;
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
            });
            peers.push((name, peer));
        }
        let load = peer::thread(move || {
            for round in 0..100 {
                for (name, peer) in &mut peers {
                    let request = Text(*name).bytes(round, 300);
                    peer.write_all(&request).unwrap();
                }
                for (name, peer) in &mut peers {
                    let mut echo = [0; 300];
                    peer.read_exact(&mut echo).unwrap();
                    Text(*name).check(round, &echo);
                }
            }
        });
        let (bulk, bulk_peer) = pair(&rt).await;
        let hears = peer::hear(bulk_peer, Text(0), 0);
        bulk.write(&Text(0).bytes(0, 4 * 1024 * 1024)).unwrap();
        bulk.finish().await.unwrap();
        until(&rt, || rt.tasks() == 0).await;
        load.join().unwrap();
        hears.join().unwrap();
        assert!(
            !has_kernel_worker(),
            "an operation was pushed to a thread of the kernel"
        );
    });
}

/// Whether this process has a thread that the kernel made for a ring.
fn has_kernel_worker() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| {
        // A thread of another fact may end while we look.
        std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
    });
    names.into_iter().any(|name| name.starts_with("iou-wrk"))
}

fn ping(mut peer: TcpStream, rounds: u32) {
    for round in 0..rounds {
        peer.write_all(&round.to_le_bytes()).unwrap();
        let mut ball = [0; 4];
        peer.read_exact(&mut ball).unwrap();
        assert_eq!(u32::from_le_bytes(ball), round);
    }
}

const MARK: u64 = 1 << 63;
