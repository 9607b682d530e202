//! The descriptors of one host's programs: numbers that name sockets, the lowest free one first.

use super::calls::Answer;
use crate::base::slab::Key;
use std::collections::{BTreeMap, BTreeSet};

/// Who has each number. Whatever is asked takes no longer when many are open.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// The first of them are taken in every process, and name nothing here.
    places: Vec<Option<Key>>,
    /// Places behind those that are free.
    free: BTreeSet<usize>,
    open: usize,
    open_max: usize,
    /// Places of sockets that listen.
    listening: BTreeSet<usize>,
    /// Numbers beyond the first of sockets that have several; never 0.
    further: BTreeMap<(u32, u32), u32>,
}

/// What a number is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Conn,
    Listener,
}

impl Descriptors {
    /// None but the standard streams; at most so many may be open besides these.
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            places: vec![None; STANDARD_STREAMS],
            free: BTreeSet::new(),
            open: 0,
            open_max,
            listening: BTreeSet::new(),
            further: BTreeMap::new(),
        }
    }

    pub(super) fn set_max(&mut self, open_max: usize) {
        self.open_max = open_max;
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// The socket of a number.
    pub(super) fn at(&self, fd: i32) -> Answer<Key> {
        let place = usize::try_from(fd).map_err(|_negative| libc::EBADF)?;
        let known = self.places.get(place).copied();
        known.flatten().ok_or(libc::EBADF)
    }

    /// Sockets that listen, in the order of their numbers; one that has several numbers comes once for each.
    pub(super) fn listening(&self) -> impl Iterator<Item = Key> {
        let places = self.listening.iter();
        places.filter_map(|place| self.places.get(*place).copied().flatten())
    }

    /// The lowest free number, so that a number that is kept too long soon names something else.
    pub(super) fn give(&mut self, key: Key, names: Names) -> Answer<i32> {
        if self.open >= self.open_max {
            return Err(libc::EMFILE);
        }
        let place = match self.free.pop_first() {
            Some(place) => place,
            None => {
                self.places.push(None);
                self.places.len() - 1
            }
        };
        let fd = i32::try_from(place).map_err(|_too_many| libc::EMFILE)?;
        self.places[place] = Some(key);
        self.open += 1;
        if names == Names::Listener {
            self.listening.insert(place);
        }
        Ok(fd)
    }

    /// A further number for a socket that has one.
    pub(super) fn give_further(&mut self, key: Key, names: Names) -> Answer<i32> {
        let fd = self.give(key, names)?;
        *self.further.entry(name_of(key)).or_default() += 1;
        Ok(fd)
    }

    /// Takes a number away. Answers the socket, if that was its last one.
    ///
    /// # Panics
    /// When the number names nothing: a program closed it twice.
    pub(super) fn take(&mut self, fd: i32) -> Option<Key> {
        let Ok(key) = self.at(fd) else {
            panic!("descriptor {fd} is closed twice, or was never open");
        };
        let place = usize::try_from(fd).expect("an open descriptor is not negative");
        self.places[place] = None;
        self.free.insert(place);
        self.listening.remove(&place);
        self.open -= 1;
        match self.further.get_mut(&name_of(key)) {
            None => return Some(key),
            Some(1) => drop(self.further.remove(&name_of(key))),
            Some(further) => *further -= 1,
        }
        None
    }
}

fn name_of(key: Key) -> (u32, u32) {
    (key.index, key.generation)
}

/// These numbers are taken in every process.
const STANDARD_STREAMS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key {
            index,
            generation: 0,
        }
    }

    #[test]
    fn the_lowest_free_number_is_given_first() {
        let mut numbers = Descriptors::new(10);
        let given = [0, 1, 2].map(|index| numbers.give(key(index), Names::Conn));
        assert_eq!(given, [Ok(3), Ok(4), Ok(5)]);
        assert_eq!(numbers.take(4), Some(key(1)));
        assert_eq!(numbers.take(3), Some(key(0)));
        let given = [3, 4, 5].map(|index| numbers.give(key(index), Names::Conn));
        assert_eq!(given, [Ok(3), Ok(4), Ok(6)]);
        assert_eq!((numbers.at(3), numbers.at(5)), (Ok(key(3)), Ok(key(2))));
        assert_eq!(
            (numbers.at(2), numbers.at(7)),
            (Err(libc::EBADF), Err(libc::EBADF))
        );
        assert_eq!((numbers.at(-1), numbers.len()), (Err(libc::EBADF), 4));
    }

    #[test]
    fn there_are_no_more_than_may_be() {
        let mut numbers = Descriptors::new(1);
        assert_eq!(numbers.give(key(0), Names::Conn), Ok(3));
        assert_eq!(numbers.give(key(1), Names::Conn), Err(libc::EMFILE));
        assert_eq!(numbers.give_further(key(0), Names::Conn), Err(libc::EMFILE));
        numbers.set_max(2);
        assert_eq!(numbers.give(key(1), Names::Conn), Ok(4));
    }

    #[test]
    fn a_socket_with_several_numbers_lasts_until_the_last_is_closed() {
        let mut numbers = Descriptors::new(10);
        assert_eq!(numbers.give(key(7), Names::Listener), Ok(3));
        assert_eq!(numbers.give_further(key(7), Names::Listener), Ok(4));
        assert_eq!(numbers.give_further(key(7), Names::Listener), Ok(5));
        assert_eq!(numbers.listening().count(), 3);
        assert_eq!([3, 5].map(|fd| numbers.take(fd)), [None, None]);
        assert_eq!(numbers.listening().collect::<Vec<_>>(), [key(7)]);
        assert_eq!(numbers.take(4), Some(key(7)));
        assert_eq!((numbers.listening().count(), numbers.len()), (0, 0));
    }
}
