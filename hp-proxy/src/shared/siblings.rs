//! What the upstreams of sibling workers tell each other, on its way between mailboxes and upstreams (decision 0027).

use super::{Generation, Home, Message, Worker};
use crate::upstream::{Letter, Siblings, Upstream};
use hp_core::rt::mesh::WorkerId;
use std::rc::Rc;

/// The way from one worker to the others; `None` where threads share their connections.
pub(super) fn of(home: &Home, me: WorkerId) -> Option<Rc<Siblings>> {
    let Home::Worker(mesh) = home else {
        return None;
    };
    let mesh = mesh.clone();
    let workers = mesh.workers();
    let send = move |to, letter| {
        let sent = mesh.send(WorkerId(to), Message::Lend(letter));
        sent.map_err(|message| match message {
            Message::Lend(letter) => letter,
            _ => unreachable!("what comes back is what was sent"),
        })
    };
    Some(Rc::new(Siblings::new(me.0, workers, send)))
}

impl Worker {
    /// A sibling's letter. An upstream that nobody has asked for here begins now: its share of the limit is unused.
    pub(crate) fn hear(&self, letter: Letter) {
        let generation = self.current();
        let Some(siblings) = &self.siblings else {
            return;
        };
        self.idle_credit.set(0); // A connection that comes begins to idle, too: see `shared::idle`.
        match generation.numbered(letter.upstream()) {
            Some(upstream) => upstream.hear(letter),
            None => letter.decline(siblings),
        }
    }

    /// This worker ends: what it may open of each limit goes to siblings, for requests may wait with them.
    #[cold]
    pub(crate) fn leave_shares(&self) {
        if self.siblings.is_none() {
            return;
        }
        let generation = self.current();
        let upstreams = (0..).zip(&generation.plan().upstreams);
        for (place, _) in upstreams.filter(|(_, upstream)| upstream.conns_max > 0) {
            // One that nobody has asked for here begins now, with the share that the plan gives it.
            if let Some(upstream) = generation.upstream(place) {
                upstream.leave_shares();
            }
        }
    }
}

impl Generation {
    /// The upstream that has a number in all workers.
    fn numbered(&self, number: u32) -> Option<&Rc<Upstream>> {
        let mut upstreams = (0..).zip(self.shared_plan().shared_upstreams());
        let (place, _) = upstreams.find(|(_, upstream)| upstream.number == number)?;
        self.upstream(place)
    }
}
