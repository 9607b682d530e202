//! A hierarchical timer wheel: six levels of 64 slots, one tick a millisecond.
//!
//! HTTP timeouts almost never fire, so arming and cancelling are O(1) and expiry pays. Timers fire at the tick that
//! covers their deadline, never before it. Knows no clock: time is an argument.

use super::time::Instant;
use crate::base::slab::{Key, Slab};

/// Names one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(Key);

/// Timers that carry a value of type `T` each.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// Every tick up to this one has been expired.
    elapsed: u64,
    /// No entry's tick is before this one; [`NO_TICK`] when there is none. Spares the search in most turns.
    earliest: u64,
    levels: [Level; LEVELS],
    entries: Slab<Entry<T>>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Bit `i` is set exactly when `slots[i]` is not empty.
    occupied: u64,
    /// The first entry of each list, by its place; [`NO_PLACE`] where there is none.
    slots: [u32; SLOTS],
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    tick: u64,
    level: u8,
    slot: u8,
    /// Neighbours in the list, by their places: they leave the list before they leave the table, so no generation is needed.
    previous: u32,
    next: u32,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now: Instant) -> Self {
        let empty = Level {
            occupied: 0,
            slots: [NO_PLACE; SLOTS],
        };
        Self {
            elapsed: tick_before(now),
            earliest: NO_TICK,
            levels: [empty; LEVELS],
            entries: Slab::new(),
        }
    }

    /// Arms a timer; a deadline in the past fires at the next [`Wheel::expire`].
    pub(crate) fn insert(&mut self, deadline: Instant, value: T) -> TimerKey {
        let tick = tick_after(deadline)
            .max(self.elapsed + 1)
            .min(self.elapsed + TICKS_MAX);
        let entry = Entry {
            value,
            tick,
            level: 0,
            slot: 0,
            previous: NO_PLACE,
            next: NO_PLACE,
        };
        let key = self.entries.insert(entry);
        self.earliest = self.earliest.min(tick);
        self.link(key.index);
        TimerKey(key)
    }

    /// Disarms a timer; `None` when it has fired or was disarmed before.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.entries.get(key.0)?;
        self.unlink(key.0.index);
        self.entries.remove(key.0).map(|entry| entry.value)
    }

    /// Takes out one timer whose deadline has come; `None` when there is none up to `now`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<T> {
        let now_tick = tick_before(now);
        if now_tick < self.earliest {
            return None;
        }
        loop {
            let next = self.next_slot();
            self.earliest = next.map_or(NO_TICK, |(_, _, start)| start);
            let Some((level, slot, start)) = next.filter(|(_, _, start)| *start <= now_tick) else {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            };
            self.elapsed = self.elapsed.max(start.saturating_sub(1));
            let place = self.levels[level].slots[slot];
            self.unlink(place);
            if level == 0 {
                let key = self.entries.key_at(place)?;
                return self.entries.remove(key).map(|entry| entry.value);
            }
            self.link(place); // Nearer now: to a finer level.
        }
    }

    /// A point up to which nothing fires; `None` when nothing can. Not after the first deadline's tick; before it when a timer
    /// was disarmed since.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let is_armed = self.earliest != NO_TICK;
        is_armed.then(|| Instant::from_nanos(self.earliest.saturating_mul(TICK_NANOS)))
    }

    /// How many timers are armed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> u32 {
        self.entries.len()
    }

    /// The non-empty slot that begins first, with its level and first tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let mut best: Option<(usize, usize, u64)> = None;
        for (level, Level { occupied, .. }) in self.levels.iter().enumerate() {
            if *occupied == 0 {
                continue;
            }
            let shift = level_shift(level);
            let current = (self.elapsed + 1) >> shift;
            let position = u32::try_from(current & SLOT_MASK).unwrap_or(0);
            let distance = u64::from(occupied.rotate_right(position).trailing_zeros());
            let start = (current + distance) << shift;
            if best.is_none_or(|(_, _, earliest)| start < earliest) {
                let slot = usize::try_from((start >> shift) & SLOT_MASK).unwrap_or(0);
                best = Some((level, slot, start));
            }
        }
        best
    }

    fn link(&mut self, place: u32) {
        let elapsed = self.elapsed;
        let entry = self.entry(place);
        let level = level_for(elapsed + 1, entry.tick);
        let slot = usize::try_from((entry.tick >> level_shift(level)) & SLOT_MASK).unwrap_or(0);
        entry.level = u8::try_from(level).unwrap_or(0);
        entry.slot = u8::try_from(slot).unwrap_or(0);
        entry.previous = NO_PLACE;
        let next = std::mem::replace(&mut self.levels[level].slots[slot], place);
        self.levels[level].occupied |= 1 << slot;
        self.entry(place).next = next;
        if next != NO_PLACE {
            self.entry(next).previous = place;
        }
    }

    fn unlink(&mut self, place: u32) {
        let entry = self.entry(place);
        let (previous, next) = (entry.previous, entry.next);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if next != NO_PLACE {
            self.entry(next).previous = previous;
        }
        if previous != NO_PLACE {
            self.entry(previous).next = next;
        } else {
            self.levels[level].slots[slot] = next;
            if next == NO_PLACE {
                self.levels[level].occupied &= !(1 << slot);
            }
        }
    }

    fn entry(&mut self, place: u32) -> &mut Entry<T> {
        self.entries
            .at_mut(place)
            .expect("what is in a list is in the table")
    }
}

/// The coarsest group of six bits in which the two ticks differ.
fn level_for(from: u64, tick: u64) -> usize {
    let differing = (from ^ tick) | SLOT_MASK;
    let highest_bit = 63 - differing.leading_zeros();
    (highest_bit as usize / SLOT_BITS).min(LEVELS - 1)
}

fn level_shift(level: usize) -> usize {
    level * SLOT_BITS
}

/// The last tick that is over at `now`.
fn tick_before(now: Instant) -> u64 {
    now.as_nanos() / TICK_NANOS
}

/// The first tick at or after a deadline.
fn tick_after(deadline: Instant) -> u64 {
    deadline.as_nanos().div_ceil(TICK_NANOS)
}

/// Each idle connection has one.
const _: () = assert!(size_of::<Entry<[u64; 2]>>() <= 40);

const LEVELS: usize = 6;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const TICK_NANOS: u64 = 1_000_000;
const NO_TICK: u64 = u64::MAX;
const NO_PLACE: u32 = u32::MAX;
/// A year: what lies further off is armed for then, and re-armed by whoever finds it early.
const TICKS_MAX: u64 = 365 * 24 * 3600 * 1000;
const _: () = assert!(TICKS_MAX < 1 << (LEVELS * SLOT_BITS - 1));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * TICK_NANOS)
    }

    #[test]
    fn a_timer_never_fires_before_its_deadline_and_fires_at_its_tick() {
        let mut wheel = Wheel::new(at(1000));
        wheel.insert(Instant::from_nanos(1_007_300_000), "late");
        assert_eq!(wheel.expire(Instant::from_nanos(1_007_299_999)), None);
        assert_eq!(wheel.expire(Instant::from_nanos(1_007_999_999)), None);
        assert_eq!(wheel.expire(at(1008)), Some("late"));
    }

    #[test]
    fn a_deadline_in_the_past_fires_with_the_next_tick() {
        let mut wheel = Wheel::new(at(1000));
        wheel.insert(at(3), "past");
        assert_eq!(wheel.expire(at(1001)), Some("past"));
    }

    #[test]
    fn a_disarmed_timer_does_not_fire() {
        let mut wheel = Wheel::new(at(0));
        let key = wheel.insert(at(5), "gone");
        assert_eq!(wheel.remove(key), Some("gone"));
        assert_eq!(wheel.remove(key), None);
        assert_eq!(wheel.expire(at(10)), None);
        assert_eq!(wheel.next_expiry(), None); // Found out by the search that `expire` just made.
    }

    proptest! {
        #[test]
        fn a_wheel_fires_like_a_sorted_map(
            start in 0u64..(1 << 40),
            ops in proptest::collection::vec((0u8..4, 0u64..300_000_000), 1..200),
        ) {
            let mut now = start;
            let mut wheel = Wheel::new(at(now));
            let mut model: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            let mut armed = Vec::new();
            for (id, (op, length)) in ops.into_iter().enumerate() {
                let length = if op == 1 { length % 100 } else { length };
                match op {
                    0 | 1 => {
                        let due = now + length;
                        let key = wheel.insert(at(due), id);
                        model.entry(due.max(now + 1)).or_default().push(id);
                        armed.push((key, due.max(now + 1), id));
                    }
                    2 => if let Some((key, due, id)) = armed.pop() {
                        let was_armed = model.get_mut(&due).is_some_and(|ids| {
                            let before = ids.len();
                            ids.retain(|other| *other != id);
                            ids.len() < before
                        });
                        prop_assert_eq!(wheel.remove(key).is_some(), was_armed);
                    },
                    _ => {
                        now += length / 1000;
                        let mut fired: Vec<usize> = std::iter::from_fn(|| wheel.expire(at(now))).collect();
                        let later = model.split_off(&(now + 1));
                        let mut expected: Vec<usize> = std::mem::replace(&mut model, later).into_values().flatten().collect();
                        fired.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(fired, expected);
                    }
                }
                model.retain(|_, ids| !ids.is_empty());
                prop_assert_eq!(wheel.len() as usize, model.values().map(Vec::len).sum::<usize>());
                match (wheel.next_expiry(), model.keys().next()) {
                    (Some(expiry), Some(first)) => prop_assert!(expiry <= at(*first)),
                    (_, None) => {}
                    (expiry, first) => prop_assert!(false, "{:?} but {:?}", expiry, first),
                }
            }
        }
    }
}
