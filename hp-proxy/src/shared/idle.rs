//! The bound on what idles of one worker, over all its upstreams: the connection that has idled for the longest time goes.
//!
//! Nobody counts what idles, for that would cost every request; what is open is counted when connections begin and end. While no more
//! are open than may idle, there is nothing to do. Otherwise all upstreams are asked; then, as many connections as were missing may begin to
//! idle before they are asked again.

use super::Local;
use crate::upstream::Lease;

impl Local {
    /// Keeps a connection to an upstream for a later exchange. Only for one that may be reused.
    #[inline]
    pub(crate) fn keep(&self, lease: Lease) {
        lease.put_back();
        self.bound_idle();
    }

    /// The same for a connection that has had so many exchanges.
    pub(crate) fn keep_after(&self, lease: Lease, uses: u32) {
        lease.put_back_after(uses);
        self.bound_idle();
    }

    #[inline]
    fn bound_idle(&self) {
        let max = self.idle_conns_total.get();
        if self.open_total.count() > max && max > 0 {
            self.trim_idle(max);
        }
    }

    #[cold]
    fn trim_idle(&self, max: u32) {
        let credit = self.idle_credit.get();
        if credit > 0 {
            return self.idle_credit.set(credit - 1);
        }
        let upstreams = self.upstreams.borrow();
        let all = || upstreams.iter().flatten();
        let idle: usize = all().map(|upstream| upstream.idle_conns()).sum();
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        self.idle_credit.set(max.saturating_sub(idle));
        for _ in max..idle {
            let aged = all().filter_map(|upstream| Some((upstream.oldest_idle()?, upstream)));
            let Some((_, upstream)) = aged.min_by_key(|(since, _)| *since) else {
                return;
            };
            upstream.evict_oldest();
        }
    }
}
