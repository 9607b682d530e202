//! What a worker counts, and how it is summed up. Each worker writes its own row and nobody else's; so does each thread that
//! serves one connection after another, from which the next thread of that number takes it over.

use crossbeam_utils::CachePadded;
#[expect(
    clippy::disallowed_types,
    reason = "rows are shared once, when the workers start"
)]
use hp_core::base::sync::Arc;
use hp_core::base::sync::{AtomicBool, AtomicU32, Ordering};
use hp_core::obs::metrics::Counter;
use std::fmt;
use std::time::Duration;

/// One worker's row.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client connections taken.
    pub conns_accepted: Counter,
    /// Client connections open now, those included that idle.
    pub conns_open: Counter,
    /// Client connections handed to a worker with fewer.
    pub conns_moved: Counter,
    /// Request heads that were understood.
    pub requests: Counter,
    /// Answers that came from a backend and went out whole.
    pub responses: Counter,
    /// Answers with 200 that the proxy made itself: OPTIONS and TRACE at their last hop.
    pub answered_here: Counter,
    /// Answers that the proxy made itself, by the first digit of their status: 4, 5.
    pub refused_by_client_fault: Counter,
    /// See [`Counters::refused_by_client_fault`].
    pub failed_by_backend_fault: Counter,
    /// Clients that left, or stalled, before their answer was whole, or their tunnel had ended.
    pub client_aborts: Counter,
    /// Answers, and tunnels, cut short because the backend's was.
    pub responses_truncated: Counter,
    /// Connections made to backends.
    pub upstream_connects: Counter,
    /// Connection attempts that failed.
    pub upstream_connect_errors: Counter,
    /// Connection attempts given up undecided, to be made again at once or later: the backend's backlog seemed full.
    pub upstream_redials: Counter,
    /// Requests that went over a kept connection.
    pub upstream_reuses: Counter,
    /// Connections made before anybody asked for them.
    pub upstream_prewarmed: Counter,
    /// Connections ended for their age or the number of their uses.
    pub upstream_retired: Counter,
    /// Idle connections ended because too many idled, of all upstreams together.
    pub upstream_evicted: Counter,
    /// Idle connections that came from sibling workers.
    pub upstream_borrowed: Counter,
    /// Idle connections that could not be lent, or were of no use when they came.
    pub upstream_borrow_refused: Counter,
    /// Requests that were put on a connection which others share.
    pub multiplexed: Counter,
    /// Those of them that wait there now.
    pub multiplexed_waiting: Counter,
    /// Those that were sent again elsewhere, for an answer before theirs stayed away.
    pub multiplexed_moved: Counter,
    /// Requests sent again because a kept connection had died.
    pub retries: Counter,
    /// Requests that waited for a backend connection.
    pub queued: Counter,
    /// Connections that became tunnels.
    pub tunnels: Counter,
    /// Those of them that were ended because nothing moved for too long; neither side broke off.
    pub tunnels_timed_out: Counter,
    /// Copies of requests that went to mirrors.
    pub mirrors: Counter,
    /// Copies that got no whole answer.
    pub mirror_failures: Counter,
    /// Copies that were left out: as many were under way as may be.
    pub mirrors_left_out: Counter,
    /// Requests that were not copied for the length of their content.
    pub mirrors_too_large: Counter,
    /// Times that accepting stopped, or a connection waited, for want of descriptors, memory or threads.
    pub accept_stalls: Counter,
    /// Connections that a drain had no more time for; counted where each has a thread of its own.
    pub conns_cut: Counter,
}

/// What the main thread counts.
#[derive(Debug, Default)]
pub struct OfProcess {
    /// Plans that followed another, those included in which nothing had changed.
    pub reloads: Counter,
    /// Configurations that could not be followed; nothing has changed by them.
    pub reloads_failed: Counter,
}

/// All workers' rows.
#[derive(Clone, Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "rows are shared once, when the workers start"
)]
pub struct Rows {
    /// Those of the workers come first.
    rows: Arc<[CachePadded<Counters>]>,
    workers: u32,
    readiness: Arc<Readiness>,
    of_process: Arc<OfProcess>,
}

/// Whether requests may be sent to the process, as the main thread says it to all threads; read when operators ask, and when a drain
/// begins.
#[derive(Debug, Default)]
pub struct Readiness {
    is_leaving: AtomicBool,
    idle_kept_millis: AtomicU32,
}

impl Readiness {
    /// Whoever asks whether requests may be sent here is told no from now on.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// Whether requests may be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_leaving.load(Ordering::Acquire)
    }

    /// Clients have somewhere else to go when a drain begins: each is told at a moment of its own, and its connection is kept for so
    /// long after that, up to an hour, if it idles; to close one at once may cross a request on its way. Without this, all leave at once.
    pub fn keep_idle(&self, time: Duration) {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self.idle_kept_millis
            .store(millis.min(IDLE_KEPT_MILLIS_MAX), Ordering::Release);
    }

    /// See [`Readiness::keep_idle`].
    #[must_use]
    pub fn idle_kept(&self) -> Duration {
        Duration::from_millis(self.idle_kept_millis.load(Ordering::Acquire).into())
    }
}

const IDLE_KEPT_MILLIS_MAX: u32 = 3_600_000;

impl Rows {
    /// Rows of zeroes for so many workers, and so many threads that serve one connection each.
    #[must_use]
    #[expect(
        clippy::disallowed_types,
        reason = "rows are shared once, when the workers start"
    )]
    pub fn new(workers: u32, threads: u32) -> Self {
        let rows = (0..workers + threads).map(|_| CachePadded::new(Counters::default()));
        Self {
            rows: rows.collect(),
            workers,
            readiness: Arc::default(),
            of_process: OfProcess::default().into(),
        }
    }

    /// Whether requests may be sent to the process.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The row of one worker or thread.
    ///
    /// # Panics
    /// When there is no such worker.
    #[must_use]
    pub fn of(&self, worker: u32) -> &Counters {
        &self.rows[worker as usize]
    }

    /// What the main thread counts; nobody else writes there.
    #[must_use]
    pub fn of_process(&self) -> &OfProcess {
        &self.of_process
    }

    /// One number, summed over all workers.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.rows
            .iter()
            .map(|row| counter(row).value())
            .fold(0, u64::wrapping_add)
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, counter: fn(&Counters) -> &Counter| {
            writeln!(f, "  {name:<24} {}", self.sum(counter))
        };
        line("connections accepted", |c| &c.conns_accepted)?;
        line("connections open", |c| &c.conns_open)?;
        line("connections moved", |c| &c.conns_moved)?;
        line("requests", |c| &c.requests)?;
        line("responses", |c| &c.responses)?;
        line("answered 2xx by proxy", |c| &c.answered_here)?;
        line("answered 4xx by proxy", |c| &c.refused_by_client_fault)?;
        line("answered 5xx by proxy", |c| &c.failed_by_backend_fault)?;
        line("client aborts", |c| &c.client_aborts)?;
        line("responses truncated", |c| &c.responses_truncated)?;
        line("upstream connects", |c| &c.upstream_connects)?;
        line("upstream connect errors", |c| &c.upstream_connect_errors)?;
        line("upstream redials", |c| &c.upstream_redials)?;
        line("upstream reuses", |c| &c.upstream_reuses)?;
        line("upstream prewarmed", |c| &c.upstream_prewarmed)?;
        line("upstream retired", |c| &c.upstream_retired)?;
        line("upstream evicted", |c| &c.upstream_evicted)?;
        line("upstream borrowed", |c| &c.upstream_borrowed)?;
        line("upstream borrow refused", |c| &c.upstream_borrow_refused)?;
        line("multiplexed", |c| &c.multiplexed)?;
        line("multiplexed waiting", |c| &c.multiplexed_waiting)?;
        line("multiplexed moved", |c| &c.multiplexed_moved)?;
        line("retries", |c| &c.retries)?;
        line("queued", |c| &c.queued)?;
        line("tunnels", |c| &c.tunnels)?;
        line("tunnels timed out", |c| &c.tunnels_timed_out)?;
        line("mirrors", |c| &c.mirrors)?;
        line("mirror failures", |c| &c.mirror_failures)?;
        line("mirrors left out", |c| &c.mirrors_left_out)?;
        line("mirrors too large", |c| &c.mirrors_too_large)?;
        line("accept stalls", |c| &c.accept_stalls)?;
        let OfProcess {
            reloads,
            reloads_failed,
        } = &*self.of_process;
        writeln!(f, "  {:<24} {}", "reloads", reloads.value())?;
        writeln!(f, "  {:<24} {}", "reloads failed", reloads_failed.value())?;
        write!(f, "  {:<24}", "accepted by each worker")?;
        for row in self.rows.iter().take(self.workers as usize) {
            write!(f, " {}", row.conns_accepted.value())?;
        }
        writeln!(f)
    }
}
