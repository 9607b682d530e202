//! A table whose keys go stale: an index with the generation of its occupant.
//!
//! Kernel answers and wakers arrive after their owner may have gone; a key whose generation is old finds nothing.

/// Names one occupant of a [`Slab`]; never valid for a later occupant of the same place (until 2^32 reuses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Place in the table.
    pub index: u32,
    /// How many occupants the place had before this one.
    pub generation: u32,
}

/// A growable table with O(1) insert and remove and generational keys.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free_head: u32,
    len: u32,
    /// Of places that are made anew: no place that was given back had a later one.
    first_generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    /// Neighbours in the list of free places.
    Free {
        previous: u32,
        next: u32,
    },
    Occupied(T),
}

/// How much room a table takes.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Places that have an occupant.
    pub occupied: usize,
    /// Places that there is memory for: a table that grows doubles it.
    pub reserved: usize,
    /// Bytes of a place, without what its occupant has elsewhere.
    pub bytes_each: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty table; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free_head: NO_INDEX,
            len: 0,
            first_generation: 0,
        }
    }

    /// How much room it takes now.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            occupied: self.len as usize,
            reserved: self.entries.capacity(),
            bytes_each: size_of::<Entry<T>>(),
        }
    }

    /// Puts a value in and names it.
    ///
    /// # Panics
    /// When 2^32 - 1 places are occupied.
    pub fn insert(&mut self, value: T) -> Key {
        self.len += 1;
        if self.free_head != NO_INDEX {
            let index = self.free_head;
            let entry = &mut self.entries[index as usize];
            let State::Free { next, .. } = entry.state else {
                unreachable!("the free list names free places only")
            };
            entry.state = State::Occupied(value);
            let generation = entry.generation;
            self.join(NO_INDEX, next);
            return Key { index, generation };
        }
        let index =
            u32::try_from(self.entries.len()).expect("the table holds fewer than 2^32 values");
        assert!(index != NO_INDEX);
        let generation = self.first_generation;
        self.entries.push(Entry {
            generation,
            state: State::Occupied(value),
        });
        Key { index, generation }
    }

    /// Takes a value out; `None` when the key is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation || matches!(entry.state, State::Free { .. }) {
            return None;
        }
        let old = std::mem::replace(
            &mut entry.state,
            State::Free {
                previous: NO_INDEX,
                next: NO_INDEX,
            },
        );
        entry.generation = entry.generation.wrapping_add(1);
        self.join(key.index, self.free_head);
        self.free_head = key.index;
        self.len -= 1;
        let places = self.entries.len();
        if places > PLACES_KEPT && (self.len as usize) < places / 4 {
            self.give_back();
        }
        match old {
            State::Occupied(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// After a crowd has left: gives back the room behind the last occupant. Each place was made once for each time that it is given
    /// back, so that this takes no more time than making them did.
    #[cold]
    fn give_back(&mut self) {
        while self.entries.len() > PLACES_KEPT
            && let Some(Entry {
                generation,
                state: State::Free { previous, next },
            }) = self.entries.last()
        {
            let (generation, previous, next) = (*generation, *previous, *next);
            self.first_generation = self.first_generation.max(generation);
            self.entries.pop();
            self.join(previous, next);
        }
        let places = self.entries.len();
        if self.entries.capacity() / 4 > places {
            self.entries.shrink_to(places * 2);
        }
    }

    /// Makes neighbours of two free places; no place before the first one.
    fn join(&mut self, before: u32, after: u32) {
        match self.entries.get_mut(before as usize) {
            Some(Entry {
                state: State::Free { next, .. },
                ..
            }) => *next = after,
            _ => self.free_head = after,
        }
        if let Some(Entry {
            state: State::Free { previous, .. },
            ..
        }) = self.entries.get_mut(after as usize)
        {
            *previous = before;
        }
    }

    /// The value of a key; `None` when the key is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some(Entry {
                generation,
                state: State::Occupied(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value of a key; `None` when the key is stale.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some(Entry {
                generation,
                state: State::Occupied(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value at a place, whoever it is; `None` when nobody is there.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.entries.get_mut(index as usize) {
            Some(Entry {
                state: State::Occupied(value),
                ..
            }) => Some(value),
            _ => None,
        }
    }

    /// Completes a key of which only the low 24 bits of the generation travelled (through the kernel).
    #[must_use]
    pub fn key_from_low_bits(&self, index: u32, generation_low: u32) -> Option<Key> {
        let entry = self.entries.get(index as usize)?;
        let matches = entry.generation & GENERATION_LOW_MASK == generation_low;
        (matches && matches!(entry.state, State::Occupied(_))).then_some(Key {
            index,
            generation: entry.generation,
        })
    }

    /// The key of whoever is at a place now.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let entry = self.entries.get(index as usize)?;
        let is_occupied = matches!(entry.state, State::Occupied(_));
        is_occupied.then_some(Key {
            index,
            generation: entry.generation,
        })
    }

    /// Whoever is at a place now, with its key.
    #[inline]
    pub fn occupant_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let entry = self.entries.get_mut(index as usize)?;
        let generation = entry.generation;
        match &mut entry.state {
            State::Occupied(value) => Some((Key { index, generation }, value)),
            State::Free { .. } => None,
        }
    }

    /// Where a place lies in memory, for whoever wants it brought near; null when there is no such place.
    #[must_use]
    pub fn address_of(&self, index: u32) -> *const u8 {
        self.entries
            .get(index as usize)
            .map_or(std::ptr::null(), |entry| std::ptr::from_ref(entry).cast())
    }

    /// All occupants with their keys, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..)
            .zip(&self.entries)
            .filter_map(|(index, entry)| match &entry.state {
                State::Occupied(value) => Some((
                    Key {
                        index,
                        generation: entry.generation,
                    },
                    value,
                )),
                State::Free { .. } => None,
            })
    }

    /// Keys of all occupants, in the order of their places.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let occupied = |(index, entry): (usize, &Entry<T>)| match entry.state {
            State::Occupied(_) => Some(Key {
                index: u32::try_from(index).ok()?,
                generation: entry.generation,
            }),
            State::Free { .. } => None,
        };
        self.entries
            .iter()
            .enumerate()
            .filter_map(occupied)
            .collect()
    }

    /// How many values are in.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no value is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The bits of a generation that travel through the kernel beside an index and a kind.
pub const GENERATION_LOW_MASK: u32 = 0x00ff_ffff;

const NO_INDEX: u32 = u32::MAX;
/// A table is not made smaller than this.
const PLACES_KEPT: usize = if cfg!(test) { 4 } else { 1024 };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_removed_key_finds_nothing_even_after_its_place_is_taken_again() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.occupant_mut(0), Some((second, &mut "second")));
        assert_eq!(slab.occupant_mut(1), None);
        slab.remove(second);
        assert_eq!(slab.occupant_mut(0), None);
    }

    #[test]
    fn a_crowd_that_has_left_leaves_no_room_behind_and_no_key_of_it_finds_anybody() {
        let mut slab = Slab::new();
        let stays = slab.insert(0);
        let crowd: Vec<Key> = (1..10_000).map(|number| slab.insert(number)).collect();
        for key in &crowd {
            assert!(slab.remove(*key).is_some());
        }
        let capacity = slab.entries.capacity();
        assert!(capacity <= 4 * PLACES_KEPT, "{capacity}");
        let others: Vec<Key> = (1..10_000).map(|number| slab.insert(number)).collect();
        assert!(crowd.iter().all(|key| slab.get(*key).is_none()));
        for (number, key) in (1..).zip(&others) {
            assert_eq!(slab.get(*key), Some(&number));
        }
        assert_eq!(slab.get(stays), Some(&0));
    }

    #[test]
    fn one_who_stays_at_the_end_keeps_the_room_until_he_leaves() {
        let mut slab = Slab::new();
        let mut crowd: Vec<Key> = (0..10_000).map(|number| slab.insert(number)).collect();
        let last = crowd.pop().expect("it is a crowd");
        let first = crowd.remove(0);
        for key in crowd {
            slab.remove(key);
        }
        assert_eq!(slab.entries.len(), 10_000);
        assert_eq!(slab.remove(last), Some(9_999));
        assert_eq!(slab.entries.len(), PLACES_KEPT);
        assert_eq!(slab.get(first), Some(&0));
    }

    proptest! {
        #[test]
        fn a_slab_answers_like_a_map(ops in proptest::collection::vec((0u8..12, 0usize..400), 0..400)) {
            let mut slab = Slab::new();
            let mut model = BTreeMap::new();
            let mut keys: Vec<Key> = Vec::new();
            let mut grows = true;
            for (step, (op, pick)) in ops.into_iter().enumerate() {
                let present = model.keys().copied().nth(pick % model.len().max(1));
                let key = match op {
                    0 => {
                        grows = !grows;
                        None
                    }
                    1 if !keys.is_empty() => Some(keys[pick % keys.len()]), // Perhaps a stale one.
                    _ if grows => {
                        let key = slab.insert(step);
                        prop_assert!(model.insert((key.index, key.generation), step).is_none());
                        prop_assert!(!keys.contains(&key));
                        keys.push(key);
                        None
                    }
                    _ => present.map(|(index, generation)| Key { index, generation }),
                };
                if let Some(key) = key {
                    prop_assert_eq!(slab.remove(key), model.remove(&(key.index, key.generation)));
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                for key in &keys {
                    prop_assert_eq!(slab.get(*key), model.get(&(key.index, key.generation)));
                }
                let places = slab.entries.len();
                if places > PLACES_KEPT && model.len() < places / 4 {
                    let ends_occupied = matches!(slab.entries.last(), Some(Entry { state: State::Occupied(_), .. }));
                    prop_assert!(ends_occupied, "{} of {places} are occupied", model.len());
                }
            }
        }
    }
}
