//! Connections that are open before anybody asks: made at the start, and again when they are lost.

use super::dial::Dialled;
use super::lease::Opening;
use super::ledger::Ledger;
use super::pool::Upstream;
use super::wish::{Aim, Wish};
use hp_core::rt::Instant;
use hp_core::rt::race::{First, race};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

impl Upstream {
    /// From now on each endpoint shall have as many connections as the settings say. Whether [`Upstream::keep_warm`] is to be run for
    /// that, which it is not yet.
    pub fn begin_warming(&self) -> bool {
        let prewarm = self.settings().prewarm;
        self.books.with(|ledger| ledger.warm_to(prewarm))
    }

    /// Opens connections to endpoints that have too few, one at a time, whenever there are such. An endpoint to which that fails is left
    /// alone for a while, longer with each failure in a row. Ends when the upstream is gone.
    pub async fn keep_warm(self: &Rc<Self>) {
        let mut failed: Vec<usize> = Vec::new();
        let mut retry_at = Instant::NEVER;
        let mut pause = PAUSE_MIN;
        loop {
            match race(self.colder(&failed), self.rt.sleep_until(retry_at)).await {
                First::One(None) => return,
                First::One(Some(opening)) => {
                    let endpoint = opening.endpoint;
                    if !self.warm(opening).await {
                        failed.push(endpoint);
                        retry_at = retry_at.min(self.rt.now() + pause);
                    } else if failed.is_empty() {
                        pause = PAUSE_MIN;
                    }
                }
                First::Other(()) => {
                    failed.clear();
                    retry_at = Instant::NEVER;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Waits until an endpoint has too few connections, those aside that failed; one to it is counted already. `None` when the
    /// upstream is gone.
    async fn colder(self: &Rc<Self>, failed: &[usize]) -> Option<Opening> {
        let begin = |cx: &mut Context<'_>| {
            self.books
                .with(|ledger| ledger.begin_cold(failed, cx.waker()))
        };
        let endpoint = poll_fn(begin).await?;
        Some(Opening::of(self, endpoint))
    }

    /// Makes a connection that nobody has asked for. Whether it was made.
    async fn warm(self: &Rc<Self>, opening: Opening) -> bool {
        let mut wish = Wish::new(self.books.with(Ledger::number), Aim::default());
        let row = self.rows.of(self.row);
        match self.dial(opening.endpoint, &mut wish).await {
            Ok(Dialled::Connected(conn, took)) => {
                row.upstream_connects.add(1);
                row.upstream_prewarmed.add(1);
                opening.into_lease(conn, took).put_back_unused();
                true
            }
            Ok(Dialled::Stalled) => false,
            Err(_told_by_the_counter) => {
                row.upstream_connect_errors.add(1);
                false
            }
        }
    }
}

/// After the first failure.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// After many: what comes back is warm again within this.
const PAUSE_MAX: Duration = Duration::from_secs(30);
