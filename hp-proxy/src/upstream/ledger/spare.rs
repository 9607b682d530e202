//! Connections that nobody uses: which of them goes first, and which are made before anybody asks.

use super::{Idle, Ledger};
use crate::upstream::SharedLedger;
use crate::upstream::balance::member::Standing;
use crate::upstream::total::OpenTotal;
use hp_core::rt::Instant;
use std::mem;
use std::task::{Poll, Waker};

impl Ledger {
    /// Counts its connections together with those of others. Only for one that has none yet.
    pub(in crate::upstream) fn count_in(&mut self, total: &OpenTotal) {
        debug_assert_eq!(self.open(), 0, "they are counted elsewhere");
        self.total = total.clone();
    }

    /// Connections that idle.
    pub(in crate::upstream) fn idle_conns(&self) -> usize {
        self.endpoints.iter().map(|one| one.idle.len()).sum()
    }

    /// Since when the connection idles that has idled for the longest time, and whose it is.
    pub(in crate::upstream) fn oldest_idle(&self) -> Option<(Instant, usize)> {
        let endpoints = self.endpoints.iter().enumerate();
        let oldest =
            endpoints.filter_map(|(slot, one)| Some((one.idle.front()?.life().idle_since, slot)));
        oldest.min()
    }

    /// Takes out the connection that has idled for the longest time; it is still counted.
    pub(in crate::upstream) fn take_oldest(&mut self) -> Option<(usize, Idle)> {
        let (_, slot) = self.oldest_idle()?;
        let idle = self.endpoints.get_mut(slot)?.idle.pop_front()?;
        self.publish(slot);
        Some((slot, idle))
    }

    /// From now on each endpoint shall have so many connections. Whether nobody looks after that yet.
    pub(in crate::upstream) fn warm_to(&mut self, prewarm: u32) -> bool {
        self.prewarm = prewarm;
        self.wake_warmer();
        prewarm > 0 && !self.is_closing && !mem::replace(&mut self.has_warmer, true)
    }

    /// Begins a connection to an endpoint that has too few, but for those in `failed`; `None` when no more will ever be wanted.
    pub(in crate::upstream) fn begin_cold(
        &mut self,
        failed: &[usize],
        waker: &Waker,
    ) -> Poll<Option<usize>> {
        if self.is_closing {
            return Poll::Ready(None);
        }
        let members = self.balancer.members();
        let is_cold = |(member, slot): &(usize, &usize)| {
            let endpoint = &self.endpoints[**slot];
            let is_wanted = endpoint.open < self.prewarm && endpoint.has_room(self.conns_max);
            let member = members.get(*member);
            is_wanted
                && member.is_some_and(|member| member.standing() == Standing::Serving)
                && !failed.contains(slot)
        };
        let found = self.slots.iter().enumerate().find(is_cold);
        let found = found.map(|(_, slot)| *slot);
        // Requests that wait come first; each of them makes a connection of its own.
        let Some(slot) = found.filter(|_| self.queue.len() == 0) else {
            self.warmer = Some(waker.clone());
            return Poll::Pending;
        };
        self.begin(slot);
        Poll::Ready(Some(slot))
    }

    pub(super) fn wake_warmer(&mut self) {
        if let Some(warmer) = self.warmer.take() {
            warmer.wake();
        }
    }
}

impl SharedLedger {
    /// Counts its connections together with those of others. Before the first one.
    #[must_use]
    pub fn counted_in(self, total: &OpenTotal) -> Self {
        self.with(|ledger| ledger.count_in(total));
        self
    }
}
