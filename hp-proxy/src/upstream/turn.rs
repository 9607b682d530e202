//! Each endpoint in its turn.

/// A turn that goes round.
#[derive(Debug, Default)]
pub(super) struct Turn {
    next: usize,
}

impl Turn {
    /// Starts at an endpoint; workers start at different ones, so that few requests spread over all.
    #[must_use]
    pub(super) fn starting_at(first: usize) -> Self {
        Self { next: first }
    }

    /// The endpoint whose turn it is, of `count` (at least 1); it stays its turn.
    #[must_use]
    pub(super) fn next(&self, count: usize) -> usize {
        debug_assert!(count > 0);
        self.next % count
    }

    /// The same, and the turn goes on.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        let picked = self.next(count);
        self.next = picked + 1;
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_its_turn() {
        let mut turn = Turn::starting_at(4);
        let picked: Vec<usize> = (0..7).map(|_| turn.pick(3)).collect();
        assert_eq!(picked, [1, 2, 0, 1, 2, 0, 1]);
    }
}
