//! Plans that follow one another in the middle of a run: the same servers, shared out among upstreams in other ways. A request may
//! not notice.

use hp_core::rt::sim::Chance;
use hp_proxy::config::plan::{Action, Endpoint, Plan, Route, Upstream};
use hp_proxy::route::RouteId;
use hp_proxy::route::rule::{HostRule, PathRule, Rule};
use hp_proxy::route::split::Split;
use hp_proxy::route::table::Table;
use hp_proxy::upstream::Borrow;
use hp_proxy::upstream::balance::Method;
use hp_proxy::upstream::balance::member::Standing;
use std::time::Duration;

/// When plans follow in a run, and which.
pub(crate) struct Reloads {
    chance: Chance,
    /// For what operators change of endpoints; of its own, so that plans are what they were without it.
    orders: Chance,
    /// After so many requests of all clients; in order, the next one last.
    after: Vec<u64>,
    has_servers: bool,
    has_routes: bool,
}

impl Reloads {
    /// Those of a seed; half of the seeds have none, and none where there is no server to share out. Not drawn from the run's own
    /// chance, whose other choices stay as they were.
    pub(crate) fn of(seed: u64, has_servers: bool, has_routes: bool) -> Self {
        let mut chance = Chance::new(seed ^ SALT);
        let count = if has_servers && seed % 4 >= 2 {
            1 + chance.below(12)
        } else {
            0
        };
        let mut after: Vec<u64> = (0..count).map(|_| chance.below(60)).collect();
        after.sort_unstable_by_key(|after| std::cmp::Reverse(*after));
        Self {
            chance,
            orders: Chance::new(seed ^ ORDERS_SALT),
            after,
            has_servers,
            has_routes,
        }
    }

    /// Whether there can be other plans.
    pub(crate) fn has_servers(&self) -> bool {
        self.has_servers
    }

    /// After how many requests the next plan follows; `u64::MAX`: none does.
    pub(crate) fn next_after(&self) -> u64 {
        self.after.last().copied().unwrap_or(u64::MAX)
    }

    /// The next one is no more to come.
    pub(crate) fn pass(&mut self) {
        self.after.pop();
    }

    /// Another plan: what the first one says, with other upstreams.
    pub(crate) fn plan(&mut self, first: &Plan) -> Plan {
        let mut plan = first.clone();
        let all = plan.upstreams.remove(0);
        let mut left = self.some_of(&all.endpoints);
        let groups = if self.has_routes { 3 } else { 1 };
        let mut shares = Vec::new();
        while !left.is_empty() && shares.len() < groups {
            let taken = if shares.len() + 1 == groups {
                left.len()
            } else {
                1 + self.chance.index(left.len())
            };
            let endpoints = left.drain(..taken).collect();
            let place = u32::try_from(shares.len()).expect("at most 3");
            shares.push((place, 1 + u32::from(self.chance.one_in(2))));
            let upstream = self.upstream(place, endpoints, &all);
            plan.upstreams.push(upstream);
        }
        if self.chance.one_in(2) {
            // Others at the places where some were.
            plan.upstreams.reverse();
        }
        if self.has_routes {
            lead(&mut plan, &shares);
        }
        plan
    }

    /// At least one of the servers, in any order.
    fn some_of(&mut self, servers: &[Endpoint]) -> Vec<Endpoint> {
        let mut some = servers.to_vec();
        while some.len() > 1 && self.chance.one_in(3) {
            some.remove(self.chance.index(some.len()));
        }
        let turned = self.chance.index(some.len());
        some.rotate_left(turned);
        some
    }

    fn upstream(&mut self, place: u32, endpoints: Vec<Endpoint>, all: &Upstream) -> Upstream {
        // Sometimes the same name for the same place, so that some go, some come, and some stay and change.
        let name = match self.chance.below(4) {
            0 => format!("new {}", self.chance.below(1000)),
            _ => format!("{} {place}", all.name),
        };
        let mut upstream = Upstream {
            name,
            endpoints,
            ..all.clone()
        };
        upstream.balance.method = METHODS[self.chance.index(METHODS.len())];
        if self.chance.one_in(2) {
            upstream.conns_max = [0, 3, 6][self.chance.index(3)];
            if upstream.borrow != Borrow::BeforeDial {
                upstream.borrow = Upstream::borrow_by_default(upstream.conns_max);
            }
            upstream.idle_conns_max = [1, 1024][self.chance.index(2)];
        }
        self.order(&mut upstream.endpoints);
        upstream
    }

    /// Weighs, groups, drains and takes out some of the endpoints as operators do; one always takes requests.
    fn order(&mut self, endpoints: &mut [Endpoint]) {
        if self.orders.one_in(2) {
            return;
        }
        let kept = self.orders.index(endpoints.len());
        for (index, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.weight = 1 + u32::from(self.orders.one_in(2)) * 4;
            endpoint.priority = u32::from(self.orders.one_in(3));
            let seconds = self.orders.one_in(2).then_some(Duration::from_secs(2));
            endpoint.slow_start = seconds;
            if index != kept {
                endpoint.standing = STANDINGS[self.orders.index(STANDINGS.len())];
            }
        }
    }
}

/// A route for the host that all requests are for, whose upstreams have these shares, and one that is closed.
pub(crate) fn lead(plan: &mut Plan, shares: &[(u32, u32)]) {
    let mut open = plan.routes.swap_remove(0);
    open.action = Action::Forward(Split::new(shares).expect("one has a share"));
    let closed = Route {
        name: String::from("closed"),
        action: Action::Maintenance,
        ..open.clone()
    };
    plan.routes = vec![open, closed];
    let rule = |host: &str, path| Rule {
        host: HostRule::Is(host.to_owned()),
        path,
        ..Rule::default()
    };
    plan.table = Table::new(vec![
        (RouteId(0), rule("sim", PathRule::Prefix(String::from("/")))),
        (RouteId(1), rule("closed", PathRule::Any)),
    ]);
}

pub(crate) const METHODS: [Method; 6] = [
    Method::RoundRobin,
    Method::LeastConn,
    Method::LeastTime,
    Method::Random,
    Method::P2c,
    Method::First,
];
const STANDINGS: [Standing; 4] = [
    Standing::Serving,
    Standing::Serving,
    Standing::Draining,
    Standing::Out,
];
const ORDERS_SALT: u64 = 0x0DD5_0F0D_2A1B_0003;
const SALT: u64 = 0x5EED_0F4E_10AD_0001;
