//! A table from keys to endpoints (Eisenbud and others, Maglev, NSDI 2016, §3.4): one look-up a pick, shares by weight, and
//! few keys move when the set of endpoints changes. Built once for all workers, never changed.

use super::Choice;
use super::bounded::Bounds;
use super::member::Member;
use super::mix;

/// The table. `slots.len()` is prime.
#[derive(Clone, Debug)]
pub struct Maglev {
    slots: Vec<u16>,
}

impl Maglev {
    /// For these members, in or out of service: who goes out is passed over, and only its keys move. At most 65,535; those
    /// beyond get no key.
    #[must_use]
    pub fn of(members: &[Member]) -> Self {
        // Groups have tables of their own inside the one: a key of a group that rests is passed on to the next slot.
        let weighted = members.iter().zip(0_u16..);
        let mut fillers: Vec<Filler> = weighted
            .filter(|(member, _)| member.weight() > 0)
            .map(|(member, idx)| Filler::of(member, idx))
            .collect();
        let size = size_for(fillers.len());
        let mut slots = vec![EMPTY; size];
        let heaviest = fillers.iter().map(|filler| filler.weight).max();
        let Some(heaviest) = heaviest else {
            return Self { slots: Vec::new() };
        };
        let mut left = size;
        while left > 0 {
            for filler in &mut fillers {
                filler.gained += filler.weight;
                if filler.gained >= heaviest {
                    filler.gained -= heaviest;
                    filler.take_slot(&mut slots);
                    left -= 1;
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        Self { slots }
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
        key: u64,
    ) -> Option<usize> {
        let size = self.slots.len() as u64;
        let bounds = Bounds::of(choice)?;
        let start = key.checked_rem(size)?;
        // From slot to slot in steps of the key's own, so that the keys of one who is passed over spread over all others.
        let step = 1 + mix(key ^ STEP_SALT) % (size - 1);
        let slot = |turn: u64| (start + turn * step) % size;
        let looked = (0..LOOKS_MAX.min(size)).map(slot);
        let owners = looked.filter_map(|slot| self.slots.get(usize::try_from(slot).ok()?));
        let mut owners = owners.map(|owner| usize::from(*owner));
        let owner = owners.find(|owner| bounds.lets(choice, *owner));
        // Nearly everybody is full or out: whoever is not, from the key's place on.
        owner.or_else(|| {
            let first = usize::try_from(key % (choice.len() as u64)).ok()?;
            let allowed = |taker: &usize| bounds.lets(choice, *taker);
            let mut takers = choice.takers_from(first);
            takers
                .find(allowed)
                .or_else(|| choice.takers_from(first).next())
        })
    }
}

/// A member that fills the table: every slot in an order of its own.
struct Filler {
    member: u16,
    name_hash: u64,
    weight: u64,
    gained: u64,
    /// How many slots of its order it has looked at.
    looked: u64,
}

impl Filler {
    fn of(member: &Member, idx: u16) -> Self {
        Self {
            member: idx,
            name_hash: member.name_hash(),
            weight: u64::from(member.weight()),
            gained: 0,
            looked: 0,
        }
    }

    /// Takes the first slot of its order that is free; there is one.
    fn take_slot(&mut self, slots: &mut [u16]) {
        let size = slots.len() as u64;
        let offset = mix(self.name_hash) % size;
        let skip = 1 + mix(self.name_hash ^ STEP_SALT) % (size - 1);
        while self.looked < size {
            let place = (offset + self.looked * skip) % size;
            self.looked += 1;
            let slot = usize::try_from(place)
                .ok()
                .and_then(|place| slots.get_mut(place));
            if let Some(slot) = slot.filter(|slot| **slot == EMPTY) {
                *slot = self.member;
                return;
            }
        }
    }
}

/// A prime, one for small sets and one for large ones: in a table of another size every key would move.
const fn size_for(members: usize) -> usize {
    if members > MEMBERS_MANY {
        SIZE_LARGE
    } else {
        SIZE
    }
}

/// No member; it gets no slot.
const EMPTY: u16 = u16::MAX;
const STEP_SALT: u64 = 0x9E37_79B9_7F4A_7C15;
/// After so many slots that are of no use, members are asked in order.
const LOOKS_MAX: u64 = 64;
/// 128 KiB.
const SIZE: usize = 65_537;
/// 2 MiB. With few slots for each, a member that goes costs others keys as well: at 1,310 slots for each of 50 members, 1.23
/// times its own keys move.
const SIZE_LARGE: usize = 1_048_573;
const MEMBERS_MANY: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::suite::weighted;
    use super::*;

    #[test]
    fn sizes_are_primes() {
        for size in [SIZE, SIZE_LARGE] {
            let root = (1..).find(|root| root * root > size).unwrap();
            assert!(
                (2..root).all(|divisor| !size.is_multiple_of(divisor)),
                "{size}"
            );
        }
    }

    #[test]
    fn slots_follow_weights_within_a_per_cent() {
        let members = weighted(&[1, 2, 5, 100]);
        let table = Maglev::of(&members);
        for (member, weight) in [1.0, 2.0, 5.0, 100.0].into_iter().enumerate() {
            let owned = table
                .slots
                .iter()
                .filter(|slot| usize::from(**slot) == member)
                .count();
            let share = owned as f64 / table.slots.len() as f64;
            assert!(
                (share - weight / 108.0).abs() < 0.01 * weight / 108.0 + 1e-3,
                "{member}: {share}"
            );
        }
    }
}
