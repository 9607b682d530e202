//! What workers may open of each limit, when nothing of it is on its way between them: it adds up to the limit, whoever has lent to whom.

use hp_core::rt::Rt;
use hp_proxy::config::plan::Plan;
use hp_proxy::live::{Conns, Live};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Becomes true after a while.
pub(crate) fn quiet(rt: &Rt) -> Rc<Cell<bool>> {
    let is_quiet = Rc::new(Cell::new(false));
    let (told, clock) = (Rc::clone(&is_quiet), rt.clone());
    rt.spawn(async move {
        clock.sleep(QUIET).await;
        told.set(true);
    });
    is_quiet
}

/// What does not add up, by what each worker has told; the order is theirs. Nobody has a request under way.
pub(crate) fn judge(plan: &Plan, told: &[Live]) -> Vec<String> {
    let mut found = Vec::new();
    for upstream in &plan.upstreams {
        for endpoint in &upstream.endpoints {
            let of = |live: &Live| -> Option<Conns> {
                live.upstreams
                    .get(&upstream.name)?
                    .get(&endpoint.name)
                    .copied()
            };
            let shares = (0..).zip(told).map(|(worker, live)| match of(live) {
                Some(conns) => conns.share,
                // It has not begun with this upstream.
                None => upstream.conns_of(worker, plan.workers).map_or(0, u64::from),
            });
            let sum: u64 = shares.sum();
            let name = &endpoint.name;
            if sum != u64::from(upstream.conns_max) {
                let max = upstream.conns_max;
                found.push(format!("the shares of {name} add up to {sum}, not {max}"));
            }
            let in_use: u64 = told.iter().filter_map(of).map(|conns| conns.in_use).sum();
            if in_use > 0 {
                found.push(format!(
                    "{in_use} connections to {name} are counted as in use, and nobody asks"
                ));
            }
        }
    }
    found
}

/// Longer than anything takes that is under way between workers, or between them and backends.
const QUIET: Duration = Duration::from_secs(10);
/// How often it is waited for so long before what does not add up counts.
pub(crate) const LOOKS_MAX: u32 = 6;
