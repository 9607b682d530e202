//! What every algorithm must do, whichever it is.

use super::member::{Member, Standing};
use super::{Ask, Balancer, Balancing, Method, hash};
use hp_core::rt::Instant;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::time::Duration;

/// A balancer with counts of what is in flight.
pub(super) struct Bench {
    pub(super) balancer: Balancer,
    pub(super) loads: Vec<u32>,
    /// Members without room.
    pub(super) full: Vec<usize>,
    /// Requests end as they begin.
    pub(super) ends_at_once: bool,
    pub(super) now: Instant,
    rng: StdRng,
}

impl Bench {
    pub(super) fn new(balancer: Balancer) -> Self {
        Self {
            loads: vec![0; balancer.members().len()],
            balancer,
            full: Vec::new(),
            ends_at_once: false,
            now: Instant::START,
            rng: StdRng::seed_from_u64(1),
        }
    }

    pub(super) fn peek(&mut self) -> Option<usize> {
        self.peek_for(None, None)
    }

    fn peek_for(&mut self, key: Option<u64>, stuck_to: Option<usize>) -> Option<usize> {
        let ask = Ask {
            now: self.now,
            key,
            stuck_to,
        };
        let (loads, full) = (&self.loads, &self.full);
        let has_room = |member: usize| !full.contains(&member);
        self.balancer
            .peek(ask, |member| loads[member], has_room, &mut self.rng)
    }

    /// A request that is picked for, and stays in flight unless requests end at once.
    pub(super) fn serve(&mut self) -> Option<usize> {
        self.serve_key(None)
    }

    fn serve_key(&mut self, key: Option<u64>) -> Option<usize> {
        let picked = self.peek_for(key, None)?;
        self.balancer.commit(picked, self.now);
        if !self.ends_at_once {
            self.loads[picked] += 1;
        }
        Some(picked)
    }

    fn stand(&mut self, member: usize, standing: Standing) {
        let now = self.now;
        self.balancer
            .member_mut(member)
            .unwrap()
            .stand(standing, now);
    }
}

/// One of a ledger that counts alone.
pub(super) fn balancer(method: Method, members: Vec<Member>, first: usize) -> Balancer {
    Balancer::of(&Balancing::new(method, members, 1, 0), first)
}

/// In service, in one group.
pub(super) fn weighted(weights: &[u32]) -> Vec<Member> {
    let grouped: Vec<_> = weights.iter().map(|weight| (*weight, 0)).collect();
    grouped_members(&grouped)
}

fn grouped_members(grouped: &[(u32, u32)]) -> Vec<Member> {
    let members = grouped.iter().enumerate();
    members
        .map(|(idx, (weight, group))| {
            let name = format!("192.0.2.{idx}:80");
            Member::new(hash(name.as_bytes()), *weight, *group, None)
        })
        .collect()
}

const ALL: [Method; 8] = [
    Method::RoundRobin,
    Method::LeastConn,
    Method::LeastTime,
    Method::Random,
    Method::P2c,
    Method::First,
    Method::Maglev,
    Method::Rendezvous,
];

/// Those that promise shares by weight, whatever is in flight.
const BY_WEIGHT: [Method; 4] = [
    Method::RoundRobin,
    Method::Random,
    Method::Maglev,
    Method::Rendezvous,
];
const BY_KEY: [Method; 2] = [Method::Maglev, Method::Rendezvous];

fn keys(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|number| hash(&number.to_le_bytes()))
}

#[test]
fn shares_follow_weights_within_one_per_cent() {
    for method in BY_WEIGHT {
        for weights in [
            vec![1, 1],
            vec![3, 1],
            vec![1, 2, 3, 4],
            vec![10, 1, 1, 7, 5],
        ] {
            let mut bench = Bench::new(balancer(method, weighted(&weights), 1));
            bench.ends_at_once = true;
            let mut counts = vec![0_u32; weights.len()];
            let requests = 100_000;
            for key in keys(requests) {
                counts[bench.serve_key(Some(key)).unwrap()] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*count) / requests as f64;
                let fair = f64::from(*weight) / f64::from(total);
                assert!(
                    (share - fair).abs() < 0.01,
                    "{method:?} {weights:?} {counts:?}"
                );
            }
        }
    }
}

#[test]
fn load_follows_weights_where_load_decides() {
    for method in [Method::LeastConn, Method::P2c, Method::LeastTime] {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 2, 4]), 0));
        for member in 0..3 {
            bench
                .balancer
                .observe(member, bench.now, Duration::from_millis(1));
        }
        for _ in 0..7000 {
            bench.serve().unwrap();
        }
        for (load, fair) in bench.loads.iter().zip([1000.0, 2000.0, 4000.0]) {
            assert!(
                (f64::from(*load) - fair).abs() < 0.02 * fair,
                "{method:?} {:?}",
                bench.loads
            );
        }
    }
}

#[test]
fn shares_follow_weights_where_load_decides_and_there_is_none() {
    for method in [Method::LeastConn, Method::P2c] {
        let mut bench = Bench::new(balancer(method, weighted(&[3, 1]), 0));
        bench.ends_at_once = true;
        let heavy = (0..20_000).filter(|_| bench.serve() == Some(0)).count();
        let share = heavy as f64 / 20_000.0;
        assert!((share - 0.75).abs() < 0.01, "{method:?} {share}");
    }
}

#[test]
fn nobody_starves() {
    for method in ALL {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 1, 50]), 0));
        let mut counts = [0_u32; 3];
        for key in keys(20_000) {
            counts[bench.serve_key(Some(key)).unwrap()] += 1;
            // As much ends as began, the oldest first, but for `first`, whose endpoints fill up one by one.
            bench.full = if method == Method::First && bench.loads[0] >= 10 {
                vec![0]
            } else {
                Vec::new()
            };
            if method == Method::First && bench.loads[1] >= 10 {
                bench.full.push(1);
            }
            bench.now = bench.now + Duration::from_millis(1);
            if method == Method::LeastTime {
                (0..3).for_each(|member| {
                    bench
                        .balancer
                        .observe(member, bench.now, Duration::from_millis(2))
                });
            }
        }
        assert!(
            counts.iter().all(|count| *count > 0),
            "{method:?} {counts:?}"
        );
    }
}

#[test]
fn whoever_is_out_or_has_no_room_or_no_weight_is_not_picked() {
    for method in ALL {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 1, 0, 1, 1]), 0));
        bench.ends_at_once = true;
        bench.stand(0, Standing::Out);
        bench.stand(4, Standing::Draining);
        bench.full = vec![1];
        for key in keys(500) {
            assert_eq!(bench.serve_key(Some(key)), Some(3), "{method:?}");
        }
        bench.full.push(3);
        assert_eq!(bench.serve_key(Some(7)), None, "{method:?}");
    }
}

#[test]
fn backups_serve_only_while_no_primary_does() {
    for method in ALL {
        let members = grouped_members(&[(1, 1), (1, 0), (1, 0), (1, 2)]);
        let mut bench = Bench::new(balancer(method, members, 0));
        bench.ends_at_once = true;
        let served_by = |bench: &mut Bench| {
            let mut picked: Vec<_> = keys(500)
                .filter_map(|key| bench.serve_key(Some(key)))
                .collect();
            picked.sort_unstable();
            picked.dedup();
            picked
        };
        let nobody = Vec::<usize>::new();
        let primaries = served_by(&mut bench);
        assert!(
            primaries.iter().all(|picked| [1, 2].contains(picked)),
            "{method:?}"
        );
        bench.full = vec![1, 2];
        assert_eq!(
            served_by(&mut bench),
            nobody,
            "{method:?}: requests wait for the primaries"
        );
        bench.full.clear();
        bench.stand(1, Standing::Out);
        bench.stand(2, Standing::Draining);
        assert_eq!(served_by(&mut bench), [0], "{method:?}");
        bench.stand(0, Standing::Out);
        assert_eq!(served_by(&mut bench), [3], "{method:?}");
        bench.stand(3, Standing::Out);
        assert_eq!(served_by(&mut bench), nobody, "{method:?}");
    }
}

#[test]
fn what_is_bound_stays_while_its_endpoint_serves_or_drains() {
    for method in ALL {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 1, 1]), 0));
        for standing in [Standing::Serving, Standing::Draining] {
            bench.stand(2, standing);
            for key in keys(50) {
                assert_eq!(bench.peek_for(Some(key), Some(2)), Some(2), "{method:?}");
            }
        }
        bench.stand(2, Standing::Out);
        assert_ne!(bench.peek_for(Some(1), Some(2)), Some(2), "{method:?}");
        assert!(bench.peek_for(Some(1), Some(99)).is_some(), "{method:?}");
    }
}

#[test]
fn a_key_stays_with_its_endpoint() {
    for method in BY_KEY {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 2, 3]), 0));
        for key in keys(1000) {
            let picked = bench.peek_for(Some(key), None);
            assert_eq!(bench.peek_for(Some(key), None), picked);
        }
    }
}

#[test]
fn only_the_keys_of_one_that_goes_out_move() {
    for method in BY_KEY {
        let mut bench = Bench::new(balancer(method, weighted(&[1; 10]), 0));
        let before: Vec<_> = keys(20_000)
            .map(|key| bench.peek_for(Some(key), None))
            .collect();
        bench.stand(4, Standing::Out);
        let mut taken_over = [0_u32; 10];
        for (key, before) in keys(20_000).zip(before) {
            let after = bench.peek_for(Some(key), None);
            if before == Some(4) {
                taken_over[after.unwrap()] += 1;
            } else {
                assert_eq!(after, before, "{method:?}");
            }
        }
        // And they spread over all the others: 2,000 keys, 222 each.
        let others = taken_over
            .iter()
            .enumerate()
            .filter(|(member, _)| *member != 4);
        assert!(
            others.clone().all(|(_, count)| (150..300).contains(count)),
            "{method:?} {taken_over:?}"
        );
    }
}

#[test]
fn few_keys_move_when_an_endpoint_is_left_out_of_the_plan() {
    for method in BY_KEY {
        for count in [3, 10, 32, 50] {
            let members = weighted(&vec![1; count]);
            let gone = count / 2;
            let mut rest = members.clone();
            let removed = rest.remove(gone);
            let mut before = Bench::new(balancer(method, members, 0));
            let mut after = Bench::new(balancer(method, rest, 0));
            let mut moved = 0;
            for key in keys(30_000) {
                let was = before.peek_for(Some(key), None).unwrap();
                let is = after.peek_for(Some(key), None).unwrap();
                let was_name = before.balancer.members()[was].name_hash();
                moved += u32::from(was_name != after.balancer.members()[is].name_hash());
            }
            assert_ne!(removed.name_hash(), 0);
            let share = f64::from(moved) / 30_000.0;
            assert!(share <= 1.2 / count as f64, "{method:?} {count}: {share}");
        }
    }
}

#[test]
fn load_is_bounded_although_one_key_is_all_there_is() {
    for method in BY_KEY {
        let mut bench = Bench::new(balancer(method, weighted(&[1, 1, 2, 4]), 0));
        for requests in 1..=4000_u32 {
            bench.serve_key(Some(42)).unwrap();
            let loads = bench.loads.iter().zip([1.0, 1.0, 2.0, 4.0]);
            for (load, weight) in loads {
                let fair = f64::from(requests) * weight / 8.0;
                assert!(
                    f64::from(*load) <= (1.25 * fair).ceil(),
                    "{method:?} {:?}",
                    bench.loads
                );
            }
        }
    }
}

#[test]
fn nobody_at_all_is_no_panic() {
    for method in ALL {
        let mut bench = Bench::new(balancer(method, Vec::new(), 3));
        assert_eq!(bench.serve_key(Some(1)), None);
        bench.balancer.commit(0, Instant::START);
        bench.balancer.observe(9, Instant::START, Duration::ZERO);
        let mut weightless = Bench::new(balancer(method, weighted(&[0, 0]), 0));
        assert_eq!(weightless.serve_key(Some(1)), None);
    }
}

#[test]
fn failed_dials_go_on_to_the_others_of_the_group_and_then_to_the_backups() {
    let members = grouped_members(&[(1, 1), (1, 0), (1, 0), (1, 0)]);
    let mut bench = Bench::new(balancer(Method::RoundRobin, members, 0));
    bench.stand(3, Standing::Out);
    let balancer = &bench.balancer;
    assert_eq!(balancer.instead(&[2], |_| true), Some(1));
    assert_eq!(balancer.instead(&[2, 1], |_| true), Some(0));
    assert_eq!(balancer.instead(&[2, 1, 0], |_| true), None);
    assert_eq!(balancer.instead(&[2], |member| member != 1), Some(0));
}
