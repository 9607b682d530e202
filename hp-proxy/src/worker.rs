//! One worker: it serves until a drain has ended.

use crate::counters::Rows;
use crate::downstream::Downstream;
use crate::listener;
use crate::live::Live;
use crate::shared::{Home, Message, Next, SharedPlan, Threads, Worker};
use crate::upstream::SharedLedger;
use hp_core::obs::notice::say;
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::{Context, Mailbox, WorkerId};
use hp_core::rt::{Instant, Rt};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::Duration;

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
    rt.spin_before_sleep(plan.spin);
    let worker = Worker::new(&rt, id, home, plan, rows);
    let downstream = Downstream::of(&worker);
    rt.spawn(Rc::clone(&downstream).receive_parked());
    warm_up(&worker);
    serve(&downstream, &mailbox).await;
    worker.start_drain();
    let deadline = rt.now() + worker.current().plan().timeouts.drain;
    // Threads look at the deadline themselves.
    let late = match worker.home() {
        Home::Listener(_) => deadline + CREW_SETTLES * 2,
        Home::Worker(_) | Home::Thread(..) => deadline,
    };
    let ends = race(
        end(&downstream, &mailbox, deadline),
        adopt_rest(&downstream, &mailbox),
    );
    match rt.timeout_at(late, ends).await {
        Ok(First::One(())) => (),
        Ok(First::Other(())) => rt.reset_all(),
        Err(_late) => {
            say(format_args!(
                "hp-proxy: worker {}: {} connections did not finish within --drain-timeout and are cut",
                id.0,
                worker.open_conns()
            ));
            rt.reset_all(); // The end of an answer may be the end of its connection: FIN would make a part look whole.
        }
    }
}

/// Does as it is told until a drain begins.
async fn serve(downstream: &Rc<Downstream>, mailbox: &Mailbox<Message>) {
    let worker = downstream.worker();
    let rt = worker.rt();
    loop {
        match mailbox.recv().await {
            Message::Listen(socket, listener) => {
                rt.spawn(listener::serve(Rc::clone(downstream), socket, listener));
            }
            Message::Adopt(arrived) => downstream.adopt(arrived),
            Message::Follow(next) => {
                follow(worker, *next);
                warm_up(worker);
            }
            Message::Tell(who_asks) => tell(worker, &who_asks),
            Message::Lend(letter) => worker.hear(*letter),
            Message::Report(to) => {
                rt.yield_now().await; // Listeners that were given before have had a turn then.
                match to.send(worker.accepting().registered()) {
                    Ok(()) => (),
                    Err(_nobody_waits) => (),
                }
            }
            Message::Pause(settled) => {
                worker.accepting().pause(settled);
                rt.wake_all();
            }
            Message::Resume => {
                worker.accepting().resume();
                rt.wake_all();
            }
            Message::HandOver(listeners) => {
                worker.accepting().pass_on(listeners);
                return;
            }
            Message::Drain | Message::Cut => return,
        }
    }
}

fn follow(worker: &Worker, next: Next) {
    let before = worker.current();
    let new = next.plan.new_ledgers(before.shared_plan());
    look_after(worker.rt(), worker.id(), new);
    drop(before);
    worker.rt().spin_before_sleep(next.plan.spin);
    worker.follow(next);
}

/// Connections that were on their way to us when the drain began are served, too; ends when they shall be cut.
async fn adopt_rest(downstream: &Rc<Downstream>, mailbox: &Mailbox<Message>) {
    loop {
        match mailbox.recv().await {
            Message::Cut => return,
            message => take_in_drain(downstream, message),
        }
    }
}

fn take_in_drain(downstream: &Rc<Downstream>, message: Message) {
    let worker = downstream.worker();
    match message {
        Message::Adopt(arrived) => downstream.adopt(arrived),
        Message::Tell(who_asks) => tell(worker, &who_asks),
        Message::Lend(letter) => worker.hear(*letter),
        // Clients may be served for long yet, by servers whose names lead elsewhere meanwhile.
        Message::Follow(next) => follow(worker, *next),
        // The drain has begun.
        Message::Listen(..)
        | Message::Report(_)
        | Message::Pause(_)
        | Message::Resume
        | Message::HandOver(_)
        | Message::Drain
        | Message::Cut => (),
    }
}

/// Ready when no connection is left and none can come any more; what this worker might open of limits is its siblings' then.
async fn end(downstream: &Rc<Downstream>, mailbox: &Mailbox<Message>, deadline: Instant) {
    let worker = downstream.worker();
    quiet(worker, deadline).await;
    // What was left here in time is not lost; whoever comes later keeps what he has.
    let rest = mailbox.close();
    let is_cut = rest.iter().any(|message| matches!(message, Message::Cut));
    rest.into_iter()
        .for_each(|message| take_in_drain(downstream, message));
    if is_cut {
        worker.rt().reset_all();
    }
    worker.all_closed().await;
    worker.leave_shares();
}

/// Ready when no connection is left; operators are served until nobody else is.
async fn quiet(worker: &Worker, deadline: Instant) {
    worker.all_closed().await;
    if let Home::Listener(threads) = worker.home() {
        crew_ends(worker, threads, deadline).await;
    }
    worker.end_listeners().await;
    worker.all_closed().await;
}

/// Returns when the crew has no connection any more, for which this worker waits as long as operators may ask; cuts them at the
/// deadline, and returns a moment after it.
async fn crew_ends(worker: &Worker, threads: &Threads, deadline: Instant) {
    let rt = worker.rt();
    threads.brings_no_more();
    while threads.crew.threads() > 0 && rt.now() < deadline {
        rt.sleep(LOOK_AT_CREW).await;
    }
    let waiting = threads.crew.cut();
    worker.row().conns_cut.add(waiting.into());
    while threads.crew.threads() > 0 && rt.now() < deadline + CREW_SETTLES {
        rt.sleep(LOOK_AT_CREW).await;
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
            // A drain wakes every task.
            let drain_begun = poll_fn(|_cx| {
                if drained.is_draining() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            match race(upstream.keep_warm(), drain_begun).await {
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

/// How often it is looked whether the crew has gone.
const LOOK_AT_CREW: Duration = Duration::from_millis(20);
/// How long threads take to go when their time is up.
const CREW_SETTLES: Duration = Duration::from_secs(1);
/// The worker that looks after idle connections to backends that threads share.
const KEEPER: WorkerId = WorkerId(0);
