//! Which lines of memory are written and read by whom, as far as atomics, locks and counted references go: safe code has no other way
//! to write where another thread looks. For simulations, in which the workers of a program take turns on one thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

/// Who writes or reads: a number that whoever gives turns tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor(pub u32);

impl Actor {
    /// Whoever has no turn of his own, such as a main thread.
    pub const NOBODY: Self = Self(u32::MAX);
}

/// What one actor has done to one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touches {
    /// Loads.
    pub reads: u64,
    /// Stores, operations that load and store, locks taken, references counted up or down: one each.
    pub writes: u64,
}

/// What all actors have done to all lines, between two points.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<usize, BTreeMap<Actor, Touches>>);

/// From now on, this actor has the turn on this thread; answers who had it.
pub fn act_as(actor: Actor) -> Actor {
    ACTING.replace(actor)
}

/// Begins a tally for this thread, anew where one had begun.
pub fn watch() {
    SEEN.set(Some(Tally::default()));
}

/// Ends the tally of this thread; empty where none had begun.
#[must_use]
pub fn seen() -> Tally {
    SEEN.take().unwrap_or_default()
}

/// Does something of which nothing is noted: what a simulation looks at, and no program would.
pub(crate) fn unseen<T>(act: impl FnOnce() -> T) -> T {
    let seen = SEEN.take();
    let output = act();
    SEEN.set(seen);
    output
}

pub(super) fn note_read(address: usize) {
    note(address, |touches| touches.reads += 1);
}

pub(super) fn note_write(address: usize) {
    note(address, |touches| touches.writes += 1);
}

fn note(address: usize, count: impl FnOnce(&mut Touches)) {
    // A thread that is ending has no tally.
    let noted = SEEN.try_with(|seen| {
        if let Some(Tally(lines)) = &mut *seen.borrow_mut() {
            let line = lines.entry(address / LINE_BYTES).or_default();
            count(line.entry(ACTING.get()).or_default());
        }
    });
    match noted {
        Ok(()) | Err(_) => (),
    }
}

impl Tally {
    /// What these actors did to lines that they share: that one of them wrote to, and another one read or wrote.
    #[must_use]
    pub fn shared(&self, actors: &[Actor]) -> Touches {
        self.sum(actors, |line, actor| {
            let others = line
                .iter()
                .filter(|(other, _)| *other != actor && actors.contains(other));
            let (mut is_touched, mut is_written) = (false, false);
            for (_, touches) in others {
                is_touched = true;
                is_written |= touches.writes > 0;
            }
            let writes_itself = line.get(actor).is_some_and(|own| own.writes > 0);
            is_written || (is_touched && writes_itself)
        })
    }

    /// What they did to lines that nobody else wrote to or read, of them or of others.
    #[must_use]
    pub fn own(&self, actors: &[Actor]) -> Touches {
        self.sum(actors, |line, _| line.len() == 1)
    }

    /// What they did to lines that none of the other of them touched, and somebody who is not one of them did.
    #[must_use]
    pub fn told(&self, actors: &[Actor]) -> Touches {
        self.sum(actors, |line, actor| {
            line.len() > 1
                && !line
                    .keys()
                    .any(|other| other != actor && actors.contains(other))
        })
    }

    /// What they did to lines that all of them only read.
    #[must_use]
    pub fn only_read(&self, actors: &[Actor]) -> Touches {
        self.sum(actors, |line, _| {
            line.len() > 1 && line.values().all(|touches| touches.writes == 0)
        })
    }

    /// What one actor did to the lines of a piece of memory.
    #[must_use]
    pub fn within(&self, addresses: &Range<usize>, actor: Actor) -> Touches {
        let lines = addresses.start / LINE_BYTES..addresses.end.div_ceil(LINE_BYTES);
        let touched = self.0.range(lines);
        add(touched.filter_map(|(_, line)| line.get(&actor)))
    }

    fn sum(
        &self,
        actors: &[Actor],
        takes: impl Fn(&BTreeMap<Actor, Touches>, &Actor) -> bool,
    ) -> Touches {
        let lines = self.0.values();
        let touched = lines.flat_map(|line| line.iter().map(move |touched| (line, touched)));
        add(touched.filter_map(|(line, (actor, touches))| {
            (actors.contains(actor) && takes(line, actor)).then_some(touches)
        }))
    }
}

fn add<'a>(all: impl Iterator<Item = &'a Touches>) -> Touches {
    all.fold(Touches::default(), |sum, more| Touches {
        reads: sum.reads + more.reads,
        writes: sum.writes + more.writes,
    })
}

thread_local! {
    static ACTING: Cell<Actor> = const { Cell::new(Actor::NOBODY) };
    static SEEN: RefCell<Option<Tally>> = const { RefCell::new(None) };
}

/// Processors fetch lines of 64 bytes in pairs: what is closer than two of them is not apart.
pub const LINE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};
    use crossbeam_utils::CachePadded;

    const ONE: Actor = Actor(1);
    const OTHER: Actor = Actor(2);
    const BOTH: [Actor; 2] = [ONE, OTHER];

    fn touches(reads: u64, writes: u64) -> Touches {
        Touches { reads, writes }
    }

    fn as_actor<T>(actor: Actor, act: impl FnOnce() -> T) -> T {
        let before = act_as(actor);
        let output = act();
        act_as(before);
        output
    }

    #[test]
    fn a_line_that_two_actors_write_to_is_shared() {
        let count = CachePadded::new(AtomicU32::new(0));
        watch();
        as_actor(ONE, || count.fetch_add(1, Ordering::Relaxed));
        as_actor(OTHER, || count.fetch_add(1, Ordering::Relaxed));
        let seen = seen();
        assert_eq!(seen.shared(&BOTH), touches(0, 2));
        assert_eq!(seen.own(&BOTH), touches(0, 0));
    }

    #[test]
    fn a_line_that_another_actor_reads_is_shared() {
        let count = CachePadded::new(AtomicU64::new(0));
        watch();
        as_actor(ONE, || count.store(1, Ordering::Relaxed));
        as_actor(OTHER, || count.load(Ordering::Relaxed));
        assert_eq!(seen().shared(&BOTH), touches(1, 1));
    }

    #[test]
    fn two_counts_of_two_actors_in_one_line_are_shared() {
        let counts = CachePadded::new([AtomicBool::new(false), AtomicBool::new(false)]);
        watch();
        as_actor(ONE, || counts[0].store(true, Ordering::Relaxed));
        as_actor(OTHER, || counts[1].store(true, Ordering::Relaxed));
        assert_eq!(seen().shared(&BOTH), touches(0, 2));
    }

    #[test]
    fn what_nobody_else_touches_is_an_actor_s_own() {
        let counts = [1, 2].map(|start| CachePadded::new(AtomicU32::new(start)));
        watch();
        as_actor(ONE, || counts[0].fetch_sub(1, Ordering::Relaxed));
        as_actor(OTHER, || counts[1].fetch_sub(1, Ordering::Relaxed));
        let seen = seen();
        assert_eq!(seen.shared(&BOTH), touches(0, 0));
        assert_eq!(seen.own(&BOTH), touches(0, 2));
        let first = std::ptr::from_ref(&counts[0]).addr();
        assert_eq!(seen.within(&(first..first + 4), ONE), touches(0, 1));
        assert_eq!(seen.within(&(first..first + 4), OTHER), touches(0, 0));
    }

    #[test]
    fn what_somebody_else_reads_is_told_and_not_shared() {
        let count = CachePadded::new(AtomicU64::new(0));
        watch();
        as_actor(ONE, || count.store(1, Ordering::Relaxed));
        let _ = count.load(Ordering::Relaxed);
        let seen = seen();
        assert_eq!(seen.shared(&BOTH), touches(0, 0));
        assert_eq!(seen.told(&BOTH), touches(0, 1));
        assert_eq!(seen.own(&BOTH), touches(0, 0));
    }

    #[test]
    fn what_all_only_read_is_not_shared() {
        let count = CachePadded::new(AtomicU32::new(7));
        watch();
        for actor in BOTH {
            as_actor(actor, || count.load(Ordering::Relaxed));
        }
        let seen = seen();
        assert_eq!(seen.shared(&BOTH), touches(0, 0));
        assert_eq!(seen.only_read(&BOTH), touches(2, 0));
    }

    #[test]
    fn locks_and_counted_references_are_writes() {
        let shared = Arc::new(CachePadded::new(Mutex::new(0)));
        watch();
        let clone = as_actor(ONE, || Arc::clone(&shared));
        as_actor(OTHER, || drop(clone));
        as_actor(ONE, || *shared.lock().unwrap() += 1);
        as_actor(OTHER, || *shared.lock().unwrap() += 1);
        assert_eq!(seen().shared(&BOTH), touches(0, 4));
    }

    #[test]
    fn what_is_done_unseen_is_not_noted() {
        let count = CachePadded::new(AtomicU32::new(0));
        watch();
        unseen(|| count.store(1, Ordering::Relaxed));
        count.store(2, Ordering::Relaxed);
        assert_eq!(seen().own(&[Actor::NOBODY]), touches(0, 1));
    }

    #[test]
    fn nothing_is_noted_unless_somebody_watches() {
        let _ = seen();
        AtomicU32::new(0).store(1, Ordering::Relaxed);
        assert_eq!(seen().own(&[Actor::NOBODY]), touches(0, 0));
    }
}
