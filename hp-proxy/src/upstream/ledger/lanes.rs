//! Connections that requests share, and the requests on them: endpoints are picked by requests, and bounded by connections.

use super::Ledger;
use crate::upstream::Aim;
use hp_core::rt::Instant;

impl Ledger {
    /// The slot of who should take a request, if it is one whose lanes take it by `takes`; it is counted then, and its turn is used.
    pub(in crate::upstream) fn enter_lane(
        &mut self,
        aim: Aim,
        now: Instant,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let endpoint = self.peek(aim, now, &takes)?;
        if !takes(endpoint) {
            return None; // Its turn stays: the request gets a connection of its own there.
        }
        self.commit(endpoint, now);
        self.count_on_lanes(endpoint, |count| count + 1);
        Some(endpoint)
    }

    /// A request is on no lane any more.
    pub(in crate::upstream) fn leave_lane(&mut self, endpoint: usize) {
        self.count_on_lanes(endpoint, |count| count.saturating_sub(1));
    }

    /// A connection is shared from now on.
    pub(in crate::upstream) fn begin_lane(&mut self, endpoint: usize) {
        self.endpoints[endpoint].lanes += 1;
        self.publish(endpoint);
    }

    /// A connection is shared no more.
    pub(in crate::upstream) fn end_lane(&mut self, endpoint: usize) {
        self.endpoints[endpoint].lanes -= 1;
        self.publish(endpoint);
    }

    /// How many connections an endpoint may have, if any of them may become a lane; `None` when it is gone, or the upstream.
    pub(in crate::upstream) fn conns_for_lanes(&self, endpoint: usize) -> Option<Option<u32>> {
        let one = self.endpoints.get(endpoint)?;
        let may_share = !self.is_closing && one.member.is_some();
        may_share.then(|| self.conns_max.map(|max| one.share(max)))
    }

    /// Whether requests wait for a connection while lanes have all that their endpoint may have: what was left to those was lent since.
    pub(in crate::upstream) fn wants_lanes_back(&self, endpoint: usize) -> bool {
        let conns = self.conns_for_lanes(endpoint).flatten();
        let lanes = self.endpoints.get(endpoint).map_or(0, |one| one.lanes);
        self.queue.len() > 0 && conns.is_some_and(|conns| lanes >= conns)
    }

    fn count_on_lanes(&mut self, endpoint: usize, change: impl FnOnce(u32) -> u32) {
        let on_lanes = &mut self.endpoints[endpoint].on_lanes;
        *on_lanes = change(*on_lanes);
        self.publish(endpoint);
    }
}
