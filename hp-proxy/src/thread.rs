//! One thread of the crew: it serves one connection after another, each to its end.

use crate::counters::Rows;
use crate::downstream::Downstream;
use crate::shared::{Arrived, Home, Latest, SharedPlan, Worker};
use hp_core::obs::notice::say;
use hp_core::rt::crew::{Crew, CrewOptions, Seat};
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::WorkerId;
use hp_core::rt::{Instant, RtOptions};
use std::rc::Rc;
use std::time::Duration;

/// The crew that a plan asks for; it has no thread yet.
pub(crate) fn crew(plan: &SharedPlan, rows: &Rows, latest: &Latest) -> Crew<Arrived> {
    let options = CrewOptions {
        threads_max: plan.limits.threads_max,
        idle_timeout: IDLE_TIMEOUT,
        rest_begins_after: REST_BEGINS_AFTER,
        queue_len_max: QUEUE_LEN_MAX,
        stack_bytes: STACK_BYTES,
        rt: RtOptions {
            engine: plan.engine,
            head_buffers: HEAD_BUFFERS,
            bulk_buffers: BULK_BUFFERS,
            ..RtOptions::default()
        },
        name: "hp-conn",
        on_failure: |error| {
            say(format_args!(
                "hp-proxy: a thread for a connection: {error}; it waits for another thread"
            ));
        },
    };
    let (rows, latest) = (rows.clone(), latest.clone());
    Crew::new(options, move |seat| {
        main(seat, rows.clone(), latest.clone())
    })
}

/// A thread's main function: serves until there is nothing to do, or a drain has ended.
async fn main(seat: Seat<Arrived>, rows: Rows, latest: Latest) {
    let plan = latest.plan();
    let seat = Rc::new(seat);
    let rt = seat.rt().clone();
    let id = WorkerId(plan.workers + seat.number());
    let home = Home::Thread(Rc::clone(&seat), latest);
    let worker = Worker::new(&rt, id, home, plan, rows);
    let downstream = Downstream::of(&worker);
    let mut drain_deadline: Option<Instant> = None;
    while let Some(arrived) = seat.next().await {
        downstream.adopt(arrived);
        match race(worker.all_closed(), seat.end_begun()).await {
            First::One(()) => continue,
            First::Other(()) => worker.start_drain(),
        }
        let drain_ends = || rt.now() + worker.current().plan().timeouts.drain;
        let deadline = *drain_deadline.get_or_insert_with(drain_ends);
        let finished = rt.timeout_at(deadline, worker.all_closed());
        if !matches!(race(finished, seat.cut_begun()).await, First::One(Ok(()))) {
            // What waits would have another thread, and that a deadline anew.
            let waiting = seat.crew().cut();
            let cut = worker.open_conns() + waiting;
            worker.row().conns_cut.add(u64::from(cut));
            rt.reset_all(); // The end of an answer may be the end of its connection: FIN would make a part look whole.
            return;
        }
    }
}

/// How long a thread is kept that has no connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection idles before it may be closed for one that waits: a fraction of the second in which that is served,
/// and long enough that a busy client's next request is not met by a close.
const REST_BEGINS_AFTER: Duration = Duration::from_millis(250);
/// Connections that may wait for a thread; more wait in the listening sockets.
const QUEUE_LEN_MAX: u32 = 1024;
/// Tasks live on the heap: the stack holds no more than one poll.
const STACK_BYTES: usize = 256 * 1024;
/// One for each end of an exchange; one more of each size is had on demand.
const HEAD_BUFFERS: u16 = 2;
const BULK_BUFFERS: u16 = 1;
