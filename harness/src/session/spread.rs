//! The order in which the rounds of several workloads are made.

/// For so many rounds of each workload, whose round comes next, by the workload's place: the rounds of each are spread evenly over the
/// whole, so that what the machine does in some minutes meets a part of every workload, and not all of one.
///
/// The r-th of R rounds stands at (r - 1/2)/R of the whole; of two at one point the first workload's comes first.
pub(super) fn spread(rounds: &[u32]) -> Vec<usize> {
    let mut points: Vec<(u64, u64, usize)> = Vec::new();
    for (place, &count) in rounds.iter().enumerate() {
        let halves = (0..u64::from(count)).map(|round| 2 * round + 1);
        points.extend(halves.map(|half| (half, u64::from(count), place)));
    }
    // Stable: those of one point stay in the order of their workloads.
    points.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
    points.into_iter().map(|(.., place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_with_as_many_rounds_take_turns() {
        assert_eq!(spread(&[3, 3]), [0, 1, 0, 1, 0, 1]);
        assert_eq!(spread(&[1]), [0]);
        assert_eq!(spread(&[]), [0; 0]);
        assert_eq!(spread(&[0, 1]), [1]);
    }

    #[test]
    fn fewer_rounds_stand_evenly_among_many() {
        assert_eq!(spread(&[4, 1]), [0, 0, 1, 0, 0]);
        assert_eq!(spread(&[2, 6]), [1, 0, 1, 1, 1, 0, 1, 1]);
        assert_eq!(spread(&[2, 4]), [1, 0, 1, 1, 0, 1]);
    }

    #[test]
    fn each_half_has_half_of_every_workload() {
        let rounds = [20, 10, 18, 9, 1, 1_000];
        let order = spread(&rounds);
        let half = order.len() / 2;
        for (place, &count) in rounds.iter().enumerate() {
            let early = order[..half].iter().filter(|&&next| next == place).count();
            let all = order.iter().filter(|&&next| next == place).count();
            assert_eq!(all, count as usize);
            assert!(early.abs_diff(all / 2) <= 1, "{place}: {early} of {all}");
        }
    }
}
