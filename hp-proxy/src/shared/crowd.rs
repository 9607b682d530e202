//! When the heap has room to give back: tasks come and go with their connections, and a block that stays behind many that are freed
//! keeps the C library from giving their pages back by itself.

use std::cell::Cell;

/// The tasks of a worker, counted against the most that there were since room was last given back.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    most: Cell<u32>,
    is_settling: Cell<bool>,
}

impl Crowd {
    /// One has begun: with it there are so many.
    #[inline]
    pub(crate) fn grew(&self, tasks: u32) {
        if tasks > self.most.get() {
            self.most.set(tasks);
        }
    }

    /// One ends, of so many. Whether a crowd is about to have left, and nobody waits for that yet: who is told so does.
    #[inline]
    pub(crate) fn is_leaving(&self, tasks: u32) -> bool {
        let is_new = !self.is_settling.get() && self.has_left(tasks);
        if is_new {
            self.is_settling.set(true);
        }
        is_new
    }

    /// After a while: whether the crowd has left indeed, and its room is to be given back. False ends the wait.
    pub(crate) fn settles(&self, tasks: u32) -> bool {
        let has_left = self.has_left(tasks);
        if has_left {
            self.most.set(tasks);
        } else {
            self.is_settling.set(false);
        }
        has_left
    }

    fn has_left(&self, tasks: u32) -> bool {
        self.most.get().saturating_sub(tasks) >= LEFT_MIN
    }
}

/// So many tasks held about a megabyte.
const LEFT_MIN: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_once_a_crowd_has_left() {
        let crowd = Crowd::default();
        for tasks in 1..=1_000 {
            crowd.grew(tasks);
        }
        let told: Vec<u32> = (10..=1_000)
            .rev()
            .filter(|&tasks| crowd.is_leaving(tasks))
            .collect();
        assert_eq!(told, [1_000 - LEFT_MIN], "one waits, however many leave");
        assert!(crowd.settles(10));
        assert!(!crowd.settles(10), "once");
        assert!(!crowd.is_leaving(9), "nobody came since");
    }

    #[test]
    fn a_crowd_that_comes_back_keeps_its_room() {
        let crowd = Crowd::default();
        crowd.grew(1_000);
        assert!(crowd.is_leaving(500));
        crowd.grew(1_000);
        assert!(!crowd.settles(1_000));
        assert!(
            crowd.is_leaving(500),
            "the next one that leaves is told again"
        );
    }
}
