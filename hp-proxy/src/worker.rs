//! One worker: it serves until a drain has ended.

use crate::counters::Rows;
use crate::live::Live;
use crate::shared::{Home, Message, SharedPlan, Threads, Worker};
use crate::upstream::SharedLedger;
use crate::{downstream, listener};
use hp_core::rt::Rt;
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::{Context, WorkerId};
use std::rc::Rc;
use std::sync::mpsc::Sender;

/// A worker's main function: serves until a drain has ended. With threads for the connections, it only accepts.
pub async fn main(
    context: Context<Message>,
    plan: SharedPlan,
    rows: Rows,
    threads: Option<Threads>,
) {
    let Context {
        rt,
        id,
        mailbox,
        mesh,
    } = context;
    let home = match threads {
        None => Home::Worker(mesh),
        Some(threads) => {
            look_after(&rt, id, plan.ledgers());
            Home::Listener(threads)
        }
    };
    let worker = Worker::new(&rt, id, home, plan, rows);
    rt.spawn(downstream::receive_parked(Rc::clone(&worker)));
    warm_up(&worker);
    loop {
        match mailbox.recv().await {
            Message::Listen(socket, listener) => {
                rt.spawn(listener::serve(Rc::clone(&worker), socket, listener));
            }
            Message::Adopt(arrived) => downstream::adopt(&worker, arrived),
            Message::Follow(next) => {
                let before = worker.current();
                look_after(&rt, id, next.plan.new_ledgers(before.shared_plan()));
                drop(before);
                worker.follow(*next);
                warm_up(&worker);
            }
            Message::Tell(who_asks) => tell(&worker, &who_asks),
            Message::Drain | Message::Cut => break,
        }
    }
    worker.start_drain();
    let deadline = rt.now() + worker.current().plan().timeouts.drain;
    let quiet = worker.all_closed();
    // Connections that were on their way to us when the drain began are served, too.
    let adopt_rest = async {
        loop {
            match mailbox.recv().await {
                Message::Adopt(arrived) => downstream::adopt(&worker, arrived),
                Message::Cut => return,
                Message::Tell(who_asks) => tell(&worker, &who_asks),
                Message::Listen(..) | Message::Follow(_) | Message::Drain => (), // The drain has begun.
            }
        }
    };
    match rt.timeout_at(deadline, race(quiet, adopt_rest)).await {
        Ok(First::One(())) => (),
        Ok(First::Other(())) => rt.reset_all(),
        Err(_late) => {
            eprintln!(
                "hp-proxy: worker {}: {} connections did not finish within --drain-timeout and are cut",
                id.0,
                worker.open_conns()
            );
            rt.reset_all(); // The end of an answer may be the end of its connection: FIN would make a part look whole.
        }
    }
}

/// Begins to look after idle connections to backends that threads share.
fn look_after<'a>(rt: &Rt, id: WorkerId, ledgers: impl Iterator<Item = &'a SharedLedger>) {
    if id != KEEPER {
        return;
    }
    for ledger in ledgers {
        let (keeper, ledger) = (rt.clone(), ledger.clone());
        rt.spawn(async move { ledger.keep(&keeper).await });
    }
}

/// Begins to keep connections open that nobody has asked for, where the plan wants such; a drain ends it.
fn warm_up(worker: &Rc<Worker>) {
    for upstream in worker.current().to_be_warmed(worker.id() == KEEPER) {
        let drained = Rc::clone(worker);
        worker.rt().spawn(async move {
            match race(upstream.keep_warm(), drained.drain_begun()).await {
                First::One(()) | First::Other(()) => (),
            }
        });
    }
}

fn tell(worker: &Worker, who_asks: &Sender<Live>) {
    match who_asks.send(worker.live()) {
        Ok(()) => (),
        Err(_gone) => (), // It waited long enough.
    }
}

/// The worker that looks after idle connections to backends that threads share.
const KEEPER: WorkerId = WorkerId(0);
