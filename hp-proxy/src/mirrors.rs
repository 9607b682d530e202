//! Which requests a worker copies to mirrors, and how many copies it makes at a time. Knows no request.

use crate::config::plan::Mirror;
use crate::route::split::Draws;
use std::cell::Cell;
use std::rc::Rc;

/// The copies of one worker, or of one thread that serves a connection.
///
/// `running <= max`
#[derive(Debug)]
pub(crate) struct Mirrors {
    draws: Cell<Draws>,
    running: Cell<u32>,
    max: u32,
}

impl Mirrors {
    /// None as yet. `number` is the worker's; at most `max` copies are made at a time.
    pub(crate) fn new(number: u32, max: u32) -> Rc<Self> {
        Rc::new(Self {
            draws: Cell::new(Draws::of_mirrors(number)),
            running: Cell::new(0),
            max,
        })
    }

    /// Whether the next request of a route is among those to be copied.
    pub(crate) fn takes(&self, mirror: &Mirror) -> bool {
        let (draw, next) = self.draws.get().next();
        self.draws.set(next);
        mirror.takes(draw)
    }

    /// A place for one more copy, if there is one.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Place> {
        let running = self.running.get();
        (running < self.max).then(|| {
            self.running.set(running + 1);
            Place(Rc::clone(self))
        })
    }
}

/// One copy's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place(Rc<Mirrors>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// Copies that a thread with one connection makes at a time: its client asks one after the other.
pub(crate) const OF_A_THREAD_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_copies_are_made_than_there_are_places() {
        let mirrors = Mirrors::new(0, 2);
        let (one, other) = (mirrors.enter(), mirrors.enter());
        assert!(one.is_some() && other.is_some() && mirrors.enter().is_none());
        drop(one);
        assert!(mirrors.enter().is_some());
        assert_eq!(mirrors.running.get(), 1);
    }
}
