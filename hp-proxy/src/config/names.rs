//! Names in the place of addresses: what a plan says of them, and the endpoints that they lead to (decision 0024).

use super::address::Where;
use super::plan::{Endpoint, PRIORITY_MAX, Plan, Upstream};
use crate::upstream::balance::member::WEIGHT_MAX;
use crate::upstream::discovery::book::{Bounds, host_of};
use crate::upstream::discovery::system::Resolution;
use crate::upstream::discovery::{Answers, Host, Target};
use hp_core::rt::net::Address;
use hp_core::wire::dns::{Name, Service};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask, in this order; nobody: those of resolv.conf, whose domains are searched then, too.
    pub servers: Vec<SocketAddr>,
    /// How long one server has for one answer; `None`: what resolv.conf says, or 5 s.
    pub timeout: Option<Duration>,
    /// How often each server is asked; `None`: what resolv.conf says, or twice.
    pub attempts: Option<u32>,
    /// How long answers hold: what they say, within these.
    pub bounds: Bounds,
    /// Names and addresses that are believed before any server.
    pub hosts_file: PathBuf,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: None,
            attempts: None,
            bounds: Bounds {
                ttl_min: Duration::from_secs(1),
                ttl_max: Duration::from_secs(3600),
            },
            hosts_file: PathBuf::from("/etc/hosts"),
        }
    }
}

impl Dns {
    /// Whom to ask and how, beside the text of resolv.conf, of which nothing holds where servers are given.
    #[must_use]
    pub fn resolution(&self, resolv_conf: &str) -> Resolution {
        let mut resolution = Resolution::default();
        if self.servers.is_empty() {
            resolution = Resolution::parse(resolv_conf);
        } else {
            resolution.servers.clone_from(&self.servers);
        }
        resolution.timeout = self.timeout.unwrap_or(resolution.timeout);
        resolution.attempts = self.attempts.unwrap_or(resolution.attempts);
        resolution
    }
}

/// One entry of an upstream's endpoints, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it leads to.
    pub place: Place,
    /// What its endpoints are like. Of a name, its name is what was written, and its address means nothing.
    pub like: Endpoint,
}

/// Where an entry leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To one endpoint, whose address is given.
    Address,
    /// To the addresses of a host.
    Host {
        /// The host.
        host: Host,
        /// Their port.
        port: u16,
        /// What they are.
        resolve: Resolve,
    },
    /// To the hosts and ports of a service.
    Service(Name),
}

/// What several addresses of one name are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolve {
    /// Ways to one endpoint: whichever answers first is used (RFC 8305).
    #[default]
    Happy,
    /// An endpoint each.
    Each,
}

impl Source {
    /// An entry that says where it leads to, and nothing else.
    #[must_use]
    pub fn written(text: &str, at: Where) -> Self {
        let (place, addr) = match at {
            Where::At(addr) => (Place::Address, addr),
            Where::Named(place) => (place, Address::Tcp(NOWHERE)),
        };
        Self {
            place,
            like: Endpoint::new(text.to_owned(), addr),
        }
    }

    /// Whether its address is given, so that nothing has to be looked up.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.place == Place::Address
    }

    /// What has to be known for it.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match &self.place {
            Place::Address => None,
            Place::Host { host, .. } => Some(Target::Host(host.clone())),
            Place::Service(name) => Some(Target::Service(name.clone())),
        }
    }

    fn expand(&self, answers: &Answers, known: &[Endpoint], into: &mut Vec<Endpoint>) {
        match &self.place {
            Place::Address => into.push(self.like.clone()),
            Place::Host {
                host,
                port,
                resolve: Resolve::Happy,
            } => {
                let addrs = sockets(answers.host(host), *port);
                into.extend(one_of(&self.like, &addrs, known));
            }
            Place::Host {
                host,
                port,
                resolve: Resolve::Each,
            } => into.extend(
                sockets(answers.host(host), *port)
                    .into_iter()
                    .map(|addr| Endpoint {
                        name: addr.to_string(),
                        addr: Address::Tcp(addr),
                        ..self.like.clone()
                    }),
            ),
            Place::Service(name) => {
                self.expand_services(answers.service(name), answers, known, into)
            }
        }
    }

    fn expand_services(
        &self,
        services: &[Service],
        answers: &Answers,
        known: &[Endpoint],
        into: &mut Vec<Endpoint>,
    ) {
        let priorities: BTreeSet<u16> = services.iter().map(|service| service.priority).collect();
        for service in services {
            let like = Endpoint {
                name: format!("{}:{}", service.target, service.port),
                weight: weight_of(service, services),
                priority: (self.like.priority + rank_of(service.priority, &priorities))
                    .min(PRIORITY_MAX),
                ..self.like.clone()
            };
            let addrs = sockets(answers.host(&host_of(service)), service.port);
            into.extend(one_of(&like, &addrs, known));
        }
    }
}

fn sockets(addrs: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addrs.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

/// The endpoint that several addresses lead to. One that is known already keeps the address that it is known by for as long
/// as its name has it, whatever else comes and goes.
fn one_of(like: &Endpoint, addrs: &[SocketAddr], known: &[Endpoint]) -> Option<Endpoint> {
    let by_name = known.iter().filter(|endpoint| endpoint.name == like.name);
    let mut known = by_name.filter_map(|endpoint| endpoint.addr.tcp());
    let kept = known.find(|addr| addrs.contains(addr));
    let addr = kept.or_else(|| addrs.first().copied())?;
    Some(Endpoint {
        addr: Address::Tcp(addr),
        others: addrs
            .iter()
            .copied()
            .filter(|other| *other != addr)
            .collect(),
        ..like.clone()
    })
}

/// A service's place among the priorities that there are: ours are few, and begin at 0.
fn rank_of(priority: u16, all: &BTreeSet<u16>) -> u32 {
    let before = all.range(..priority).count();
    u32::try_from(before).unwrap_or(PRIORITY_MAX)
}

/// A service's share in our weights. 0 means hardly any (RFC 2782), where others of the priority have more.
fn weight_of(service: &Service, services: &[Service]) -> u32 {
    let equals = services
        .iter()
        .filter(|other| other.priority == service.priority);
    let weights: Vec<u32> = equals.map(|other| other.weight.into()).collect();
    let (largest, smallest) = (weights.iter().max(), weights.iter().min());
    let largest = largest.copied().unwrap_or(0);
    let weight = u32::from(service.weight);
    if largest == 0 {
        return 1;
    }
    if largest <= WEIGHT_MAX && smallest.is_none_or(|smallest| *smallest > 0) {
        return weight;
    }
    (weight * WEIGHT_MAX / largest).max(1)
}

impl Upstream {
    /// Has these entries, of which those with an address are endpoints already.
    pub fn come_from(&mut self, sources: Vec<Source>) {
        let given = sources.iter().filter(|source| source.is_given());
        self.endpoints = given.map(|source| source.like.clone()).collect();
        self.sources = sources;
        if self.sources.iter().all(Source::is_given) {
            self.sources.clear(); // Nothing will change.
        }
    }

    /// What its sources come to. Two endpoints with one address are one.
    fn expand(&self, answers: &Answers) -> Vec<Endpoint> {
        let mut all = Vec::new();
        for source in &self.sources {
            source.expand(answers, &self.endpoints, &mut all);
        }
        let mut taken: BTreeSet<String> = BTreeSet::new();
        all.retain(|endpoint| taken.insert(endpoint.addr.to_string()));
        all.truncate(ENDPOINTS_MAX);
        all
    }

    /// Goes from what was known to what is known: endpoints come and go, and what did not change stays as it is, also where
    /// operators have changed it. Whether anything changed.
    pub fn follow(&mut self, old: &Answers, new: &Answers) -> bool {
        if self.sources.iter().all(Source::is_given) {
            return false;
        }
        let (before, after) = (self.expand(old), self.expand(new));
        let mut endpoints = self.endpoints.clone();
        endpoints.retain(|endpoint| {
            find(&before, endpoint).is_none() || find(&after, endpoint).is_some()
        });
        for endpoint in &mut endpoints {
            if let (Some(was), Some(is)) = (find(&before, endpoint), find(&after, endpoint)) {
                endpoint.others.clone_from(&is.others);
                if was.weight != is.weight {
                    endpoint.weight = is.weight;
                }
                if was.priority != is.priority {
                    endpoint.priority = is.priority;
                }
            }
        }
        let come = after.iter().filter(|endpoint| {
            find(&before, endpoint).is_none()
                && endpoints.iter().all(|other| other.addr != endpoint.addr)
        });
        let come: Vec<Endpoint> = come.cloned().collect();
        endpoints.extend(come);
        // In the order of the file, and behind it what operators have added.
        let place = |endpoint: &Endpoint| {
            let mut order = after.iter();
            order
                .position(|other| is_same(other, endpoint))
                .unwrap_or(usize::MAX)
        };
        endpoints.sort_by_cached_key(place);
        let has_changed = endpoints != self.endpoints;
        self.endpoints = endpoints;
        has_changed
    }
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    one.name == other.name && one.addr == other.addr
}

fn find<'a>(among: &'a [Endpoint], endpoint: &Endpoint) -> Option<&'a Endpoint> {
    among.iter().find(|other| is_same(other, endpoint))
}

impl Plan {
    /// What has to be known of names for all of its endpoints.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<Target> {
        let sources = self.upstreams.iter().flat_map(|upstream| &upstream.sources);
        sources.filter_map(Source::target).collect()
    }

    /// See [`Upstream::follow`].
    pub fn follow(&mut self, old: &Answers, new: &Answers) -> bool {
        let followed = self
            .upstreams
            .iter_mut()
            .map(|upstream| upstream.follow(old, new));
        followed.filter(|has_changed| *has_changed).count() > 0
    }
}

/// In the place of an address that is not known yet.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Endpoints that names may lead to, of one upstream.
const ENDPOINTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn host(text: &str) -> Host {
        Host {
            name: name(text),
            is_absolute: false,
        }
    }

    fn like(text: &str) -> Endpoint {
        Endpoint::new(text.to_owned(), SocketAddr::from(([0; 4], 0)).into())
    }

    fn named(text: &str, resolve: Resolve) -> Source {
        let (host_name, port) = text.split_once(':').unwrap();
        Source {
            place: Place::Host {
                host: host(host_name),
                port: port.parse().unwrap(),
                resolve,
            },
            like: like(text),
        }
    }

    fn fixed(text: &str) -> Source {
        let addr: SocketAddr = text.parse().unwrap();
        Source {
            place: Place::Address,
            like: Endpoint::new(text.to_owned(), addr.into()),
        }
    }

    fn upstream(sources: Vec<Source>) -> Upstream {
        let fixed = sources.iter().filter(|source| source.is_given());
        Upstream {
            name: String::from("web"),
            endpoints: fixed.map(|source| source.like.clone()).collect(),
            sticky: None,
            sources,
            balance: crate::config::plan::Balance::default(),
            idle_conns_max: 1,
            conns_max: 0,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            conn_age_max: None,
            conn_uses_max: 0,
            prewarm: 0,
            borrow: crate::upstream::Borrow::Never,
        }
    }

    fn answers(hosts: &[(&str, &[&str])]) -> Answers {
        let of = |addrs: &[&str]| addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        Answers {
            hosts: hosts
                .iter()
                .map(|(name, addrs)| (host(name), of(addrs)))
                .collect(),
            ..Answers::default()
        }
    }

    fn shown(upstream: &Upstream) -> Vec<String> {
        let show = |endpoint: &Endpoint| {
            let others: String = endpoint
                .others
                .iter()
                .map(|addr| format!("+{addr}"))
                .collect();
            format!("{}@{}{others}", endpoint.name, endpoint.addr)
        };
        upstream.endpoints.iter().map(show).collect()
    }

    #[test]
    fn the_addresses_of_a_name_are_ways_to_one_endpoint() {
        let mut web = upstream(vec![named("a:80", Resolve::Happy), fixed("192.0.2.9:80")]);
        assert_eq!(shown(&web), ["192.0.2.9:80@192.0.2.9:80"]);
        let none = Answers::default();
        let some = answers(&[("a", &["192.0.2.1", "2001:db8::1"])]);
        assert!(web.follow(&none, &some));
        assert_eq!(
            shown(&web),
            [
                "a:80@192.0.2.1:80+[2001:db8::1]:80",
                "192.0.2.9:80@192.0.2.9:80"
            ]
        );
        assert!(!web.follow(&some, &some));
    }

    #[test]
    fn an_endpoint_keeps_the_address_that_it_is_known_by() {
        let mut web = upstream(vec![named("a:80", Resolve::Happy)]);
        let (mut was, steps) = (
            Answers::default(),
            [
                (&["192.0.2.5"][..], "a:80@192.0.2.5:80"),
                (
                    &["192.0.2.1", "192.0.2.5"][..],
                    "a:80@192.0.2.5:80+192.0.2.1:80",
                ),
                (&["192.0.2.1"][..], "a:80@192.0.2.1:80"),
            ],
        );
        for (addrs, expected) in steps {
            let is = answers(&[("a", addrs)]);
            assert!(web.follow(&was, &is));
            assert_eq!(shown(&web), [expected]);
            was = is;
        }
    }

    #[test]
    fn each_address_is_an_endpoint_where_that_is_asked_for() {
        let mut web = upstream(vec![named("a:80", Resolve::Each)]);
        let one = answers(&[("a", &["192.0.2.1", "192.0.2.2"])]);
        assert!(web.follow(&Answers::default(), &one));
        assert_eq!(
            shown(&web),
            ["192.0.2.1:80@192.0.2.1:80", "192.0.2.2:80@192.0.2.2:80"]
        );
        let other = answers(&[("a", &["192.0.2.2", "192.0.2.3"])]);
        assert!(web.follow(&one, &other));
        assert_eq!(
            shown(&web),
            ["192.0.2.2:80@192.0.2.2:80", "192.0.2.3:80@192.0.2.3:80"]
        );
    }

    #[test]
    fn two_names_of_one_address_are_one_endpoint_until_both_leave_it() {
        let mut web = upstream(vec![
            named("a:80", Resolve::Each),
            named("b:80", Resolve::Each),
        ]);
        let both = answers(&[("a", &["192.0.2.1"]), ("b", &["192.0.2.1"])]);
        assert!(web.follow(&Answers::default(), &both));
        let one = answers(&[("a", &["192.0.2.2"]), ("b", &["192.0.2.1"])]);
        assert!(web.follow(&both, &one));
        assert_eq!(
            shown(&web),
            ["192.0.2.2:80@192.0.2.2:80", "192.0.2.1:80@192.0.2.1:80"]
        );
    }

    #[test]
    fn what_operators_changed_stays_changed() {
        let mut web = upstream(vec![named("a:80", Resolve::Each)]);
        let one = answers(&[("a", &["192.0.2.1", "192.0.2.2", "192.0.2.3"])]);
        web.follow(&Answers::default(), &one);
        web.endpoints.remove(1);
        web.endpoints[0].weight = 7;
        let added: SocketAddr = "192.0.2.77:80".parse().unwrap();
        web.endpoints
            .insert(0, Endpoint::new(added.to_string(), added.into()));
        let other = answers(&[("a", &["192.0.2.1", "192.0.2.2", "192.0.2.4"])]);
        assert!(web.follow(&one, &other));
        assert_eq!(
            shown(&web),
            [
                "192.0.2.1:80@192.0.2.1:80",
                "192.0.2.4:80@192.0.2.4:80",
                "192.0.2.77:80@192.0.2.77:80"
            ]
        );
        assert_eq!(web.endpoints[0].weight, 7);
    }

    #[test]
    fn a_service_gives_hosts_ports_weights_and_priorities() {
        let service = |priority, weight, port, target: &str| Service {
            priority,
            weight,
            port,
            target: name(target),
        };
        let places = vec![
            service(1, 0, 81, "c.test"),
            service(1, 3000, 80, "b.test"),
            service(7, 0, 80, "d.test"),
            service(9, 0, 80, "e.test"),
        ];
        let absolute = |text: &str| Host {
            name: name(text),
            is_absolute: true,
        };
        let addr = |text: &str| vec![text.parse().unwrap()];
        let is = Answers {
            hosts: [
                (absolute("b.test"), addr("192.0.2.1")),
                (absolute("c.test"), addr("192.0.2.2")),
                (absolute("d.test"), addr("192.0.2.3")),
                (absolute("e.test"), addr("192.0.2.4")),
            ]
            .into(),
            services: [(name("_http._tcp.test"), places)].into(),
        };
        let mut web = upstream(vec![Source {
            place: Place::Service(name("_http._tcp.test")),
            like: like("srv:_http._tcp.test"),
        }]);
        assert!(web.follow(&Answers::default(), &is));
        let seen: Vec<(String, u32, u32)> = web
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint.weight, endpoint.priority))
            .collect();
        assert_eq!(
            seen,
            [
                (String::from("c.test:81"), 1, 0),
                (String::from("b.test:80"), 1000, 0),
                (String::from("d.test:80"), 1, 1),
                (String::from("e.test:80"), 1, 2),
            ]
        );
    }

    #[test]
    fn weights_of_services_keep_their_proportions() {
        let shares = |weights: &[u16]| {
            let service = |weight: &u16| Service {
                priority: 0,
                weight: *weight,
                port: 80,
                target: name("a.test"),
            };
            let services: Vec<Service> = weights.iter().map(service).collect();
            let weights = services.iter().map(|service| weight_of(service, &services));
            weights.collect::<Vec<_>>()
        };
        assert_eq!(shares(&[0, 0]), [1, 1]);
        assert_eq!(shares(&[1, 3]), [1, 3]);
        assert_eq!(shares(&[65_535, 32_768, 1]), [1000, 500, 1]);
        assert_eq!(shares(&[0, 1]), [1, 1000]);
    }
}
