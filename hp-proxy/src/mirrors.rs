//! Which requests a worker copies to mirrors, and how many copies it makes at a time. Knows no request.

use crate::config::plan::Mirror;
use crate::route::split::Draws;
use std::cell::Cell;
use std::rc::Rc;

/// The copies of one worker, or of one thread that serves a connection.
///
#[derive(Debug)]
pub(crate) struct Mirrors {
    draws: Cell<Draws>,
    running: Cell<u32>,
    /// Whatever the plan says.
    max: u32,
}

impl Mirrors {
    /// None as yet, of the worker of a number.
    pub(crate) fn of_worker(number: u32) -> Rc<Self> {
        Self::with(number, u32::MAX)
    }

    /// None as yet, of the thread of a number.
    pub(crate) fn of_thread(number: u32) -> Rc<Self> {
        Self::with(number, OF_A_THREAD_MAX)
    }

    fn with(number: u32, max: u32) -> Rc<Self> {
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

    /// A place for one more copy, if there is one; the plan has `max`.
    pub(crate) fn enter(self: &Rc<Self>, max: u32) -> Option<Place> {
        let running = self.running.get();
        (running < max.min(self.max)).then(|| {
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
const OF_A_THREAD_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_copies_are_made_than_there_are_places() {
        let mirrors = Mirrors::of_worker(0);
        let (one, other) = (mirrors.enter(2), mirrors.enter(2));
        assert!(one.is_some() && other.is_some() && mirrors.enter(2).is_none());
        assert!(mirrors.enter(3).is_some(), "a plan may change");
        drop(one);
        assert!(mirrors.enter(2).is_some());
        assert_eq!(mirrors.running.get(), 1);
        let few = Mirrors::of_thread(0);
        let places: Vec<Place> = (0..64).map_while(|_| few.enter(64)).collect();
        assert_eq!(places.len(), OF_A_THREAD_MAX as usize);
    }
}
