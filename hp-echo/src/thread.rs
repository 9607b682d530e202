//! A thread for each connection: it serves one after another, each to its end.
//!
//! Must not know: HTTP.

use std::rc::Rc;
use std::time::Duration;

use hp_core::base::units::KIB;
use hp_core::obs::notice::say;
use hp_core::rt::RtOptions;
use hp_core::rt::crew::{Crew, CrewOptions, Seat};
use hp_core::rt::net::Accepted;
use hp_core::rt::race::{First, race};

use crate::cli::Options;
use crate::drain::Drain;
use crate::handler::{Session, Site};
use crate::{DRAIN_TIMEOUT, Service};

/// The threads that the options ask for; none has been started.
pub(crate) fn crew(options: &Options, service: &Service, workers: u32) -> Crew<Accepted> {
    let crew = CrewOptions {
        threads_max: options.threads_max,
        idle_timeout: IDLE_TIMEOUT,
        rest_begins_after: REST_BEGINS_AFTER,
        queue_len_max: QUEUE_LEN_MAX,
        stack_bytes: STACK_BYTES,
        rt: RtOptions {
            engine: options.engine,
            head_buffers: 1,
            bulk_buffers: 1,
            ..RtOptions::default()
        },
        name: "hp-conn",
        on_failure: |error| {
            say(format_args!("hp-echo: a thread for a connection: {error}"));
        },
    };
    let service = service.clone();
    Crew::new(crew, move |seat| main(seat, service.clone(), workers))
}

/// A thread's whole work: serves until there is nothing to do, or a drain has ended.
async fn main(seat: Seat<Accepted>, service: Service, workers: u32) {
    let seat = Rc::new(seat);
    let rt = seat.rt().clone();
    let drain = Rc::new(Drain::default());
    // Counters of threads stand behind those of the workers, which only accept.
    let place = workers.saturating_add(seat.number());
    let site = Site::of_thread(Rc::clone(&seat), &service, place, Rc::clone(&drain));
    let site = Rc::new(site);
    while let Some(accepted) = seat.next().await {
        let conn = match rt.adopt_accepted(accepted) {
            Ok(conn) => conn,
            Err(_closed) => continue, // It left while it waited.
        };
        let site = Rc::clone(&site);
        // A task of its own, so that its panic costs this connection and no thread.
        rt.spawn(async move { Session::new(site, conn).await.serve().await });
        rt.yield_now().await; // Now it is a guest, or gone.
        match race(drain.emptied(), seat.end_begun()).await {
            First::One(()) => continue,
            First::Other(()) => drain.begin(),
        }
        match race(drain.emptied(), rt.sleep(DRAIN_TIMEOUT)).await {
            First::One(()) => (),
            First::Other(()) => return, // Who is still here after that long is cut off with the runtime.
        }
    }
}

/// How long a thread is kept that has no connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection idles before it may be closed for one that waits.
const REST_BEGINS_AFTER: Duration = Duration::from_millis(250);
/// Connections that may wait for a thread; more wait in the listening sockets.
const QUEUE_LEN_MAX: u32 = 1024;
/// Tasks live on the heap: the stack holds no more than one poll.
const STACK_BYTES: usize = 256 * KIB;
