//! From what the files say to the plan: names are looked up, defaults filled in, and everything that is wrong is told at once.

mod dns;
mod routes;
mod sticky;
mod upstreams;

use super::address;
use super::file::{File, Section, Value};
use super::forwarding::{self, Forwarding, Http10, Underscores};
use super::paths;
use super::plan::{Limits, Listener, Plan, Serves, Timeouts};
use super::problem::{Place, Report};
use crate::route::table::Table;
use crate::upstream::sticky::Secret;
use hp_core::rt::net::{Address, PortUse, parse_socket_mode};
use hp_core::rt::{Engine, worker};
use hp_core::wire::forwarding::Via;
use hp_core::wire::http1::head::HeadLimits;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{self, PathBuf};
use std::time::Duration;

/// Makes the plan; `None` when the report has errors.
pub fn resolve(file: &File, report: &mut Report) -> Option<Plan> {
    let mut resolver = Resolver { file, report };
    let engine = resolver.engine();
    let workers = resolver.once("workers", Section::count);
    let workers = workers.unwrap_or_else(worker::count_for_this_process);
    let spin = resolver.spin(engine);
    let timeouts = resolver.timeouts();
    let limits = resolver.limits();
    let dns = resolver.dns();
    let forwarding = resolver.forwarding();
    let listeners = resolver.listeners(&forwarding.trusted_proxies);
    let defaults = upstreams::Defaults {
        timeouts: &timeouts,
        limits: &limits,
        workers: (engine != Engine::Threads).then_some(workers), // Threads have one limit together.
    };
    let upstreams = resolver.upstreams(&defaults);
    let is_closed = resolver.once("maintenance", |root, key| Some(root.flag(key)));
    let pid_file = resolver.pid_file();
    let resolved = resolver.routes(&upstreams, (timeouts.response, is_closed.unwrap_or(false)));
    resolver.warn_of_unused(&upstreams);
    report.is_clean().then(|| Plan {
        listeners,
        upstreams: upstreams.into_plan(),
        routes: resolved.routes,
        table: Table::new(resolved.rules),
        workers,
        engine,
        spin,
        forwarding,
        timeouts,
        limits,
        process_key: Secret::random(),
        pid_file,
        dns,
    })
}

struct Resolver<'r> {
    file: &'r File,
    report: &'r mut Report,
}

impl Resolver<'_> {
    /// A value that only one of the files may give.
    fn once<T>(&mut self, key: &str, read: impl Fn(&Section, &str) -> Option<T>) -> Option<T> {
        let mut found: Option<(T, &Place)> = None;
        for root in &self.file.roots {
            let (Some(value), place) = (read(root, key), root.place_of(key)) else {
                continue;
            };
            if root.entry(key).is_none() {
                continue; // A flag that is missing is false.
            }
            match &found {
                None => found = Some((value, place)),
                Some((_, first)) => {
                    let at = self.report.line_of(first);
                    self.report
                        .error(place, format!("set at {at} already; set it once"));
                }
            }
        }
        found.map(|(value, _)| value)
    }

    /// The members of a list that all files add to.
    fn all(&self, key: &'static str) -> impl Iterator<Item = &Section> + use<'_> {
        let lists = self.file.roots.iter().flat_map(move |root| root.list(key));
        lists.filter_map(super::file::Entry::section)
    }

    fn time(&mut self, key: &str, default: Duration) -> Duration {
        self.once(key, Section::time).unwrap_or(default)
    }

    fn word(&mut self, key: &str) -> Option<String> {
        self.once(key, |root, key| {
            root.text(key).map(|(text, _)| text.to_owned())
        })
    }

    fn pid_file(&mut self) -> Option<PathBuf> {
        let path = self.word("pid_file").map(PathBuf::from)?;
        match paths::file(path) {
            Ok(path) => Some(path),
            Err(reason) => {
                let place = self.place("pid_file");
                self.report.error(&place, reason);
                None
            }
        }
    }

    fn engine(&mut self) -> Engine {
        let word = self.word("engine");
        word.and_then(|word| word.parse().ok())
            .unwrap_or(Engine::Auto) // Its shape has the words.
    }

    fn spin(&mut self, engine: Engine) -> Duration {
        let spin = self.time("spin", Duration::ZERO);
        if engine == Engine::Threads && !spin.is_zero() {
            let place = self.place("spin");
            let reason = "does nothing with engine threads, where each connection has a thread; leave one of them out";
            self.report.error(&place, reason);
        }
        spin
    }

    fn timeouts(&mut self) -> Timeouts {
        let default = Timeouts::default();
        let until_continue = self.once("continue_timeout", Section::time);
        let drain = self.time("drain_timeout", default.drain);
        Timeouts {
            head: self.time("head_timeout", default.head),
            body: self.time("body_timeout", default.body),
            until_continue: match until_continue {
                Some(Duration::ZERO) => None,
                Some(time) => Some(time),
                None => default.until_continue,
            },
            response: self.time("response_timeout", default.response),
            connect: self.time("connect_timeout", default.connect),
            keepalive: self.time("keepalive_timeout", default.keepalive),
            queue: self.time("queue_timeout", default.queue),
            upstream_idle: self.time("upstream_idle_timeout", default.upstream_idle),
            tunnel: self.time("tunnel_timeout", default.tunnel),
            drain,
            close_spread: self.close_spread(drain),
            ready_lead: self.time("ready_lead", default.ready_lead),
            upgrade: self.time("upgrade_timeout", default.upgrade),
        }
    }

    /// Within the drain: longer, and clients would be cut that were not told.
    fn close_spread(&mut self, drain: Duration) -> Duration {
        let written = self.once("close_spread", Section::time);
        let spread = written.unwrap_or_else(|| Timeouts::close_spread_within(drain));
        if spread > Timeouts::close_spread_max(drain) {
            let place = self.place("close_spread");
            let reason = format!(
                "{spread:?} is more than half of drain_timeout, {drain:?}: who is told last would be cut; lower it, or raise that"
            );
            self.report.error(&place, reason);
        }
        spread
    }

    fn limits(&mut self) -> Limits {
        let default = Limits::default();
        let mut head = HeadLimits::default();
        if let Some(bytes) = self.once("head_max", Section::number) {
            match u32::try_from(bytes) {
                Ok(bytes) if HEAD_RANGE.contains(&u64::from(bytes)) => {
                    head.head_bytes_max = bytes;
                    head.line_bytes_max = head.line_bytes_max.min(bytes);
                }
                _ => {
                    let place = self.place("head_max");
                    self.report
                        .error(&place, "out of range; write 1KiB to 1MiB");
                }
            }
        }
        if let Some(fields) = self.once("fields_max", Section::count) {
            head.fields_max = u16::try_from(fields).unwrap_or(head.fields_max);
        }
        let mut count = |key, default| self.once(key, Section::count).unwrap_or(default);
        let idle_conns_max = count("idle_conns_max", default.idle_conns_max);
        let idle_conns_total = count("idle_conns_total", default.idle_conns_total);
        let upstream_conns_max = count("upstream_conns_max", default.upstream_conns_max);
        let queue_len_max = count("queue_len_max", default.queue_len_max);
        let threads_max = count("threads_max", default.threads_max);
        let mirrors_max = count("mirrors_max", default.mirrors_max);
        let mut size = |key, default| self.once(key, Section::number).unwrap_or(default);
        Limits {
            head,
            body_rate_min: size("body_rate_min", default.body_rate_min),
            body_bytes_max: size("body_max", default.body_bytes_max),
            idle_conns_max,
            idle_conns_total,
            upstream_conns_max,
            queue_len_max,
            threads_max,
            mirrors_max,
            detour: default.detour,
        }
    }

    fn forwarding(&mut self) -> Forwarding {
        let via = self.word("via");
        let via = via.and_then(|name| match forwarding::via(&name) {
            Ok(via) => Some(via),
            Err(reason) => {
                let place = self.place("via");
                self.report.error(&place, reason);
                None
            }
        });
        let networks: Vec<(String, Place)> = self
            .file
            .roots
            .iter()
            .flat_map(|root| root.texts("trusted_proxies"))
            .map(|(text, place)| (text.to_owned(), place.clone()))
            .collect();
        Forwarding {
            via_is_made_up: via.is_none(),
            via: via.unwrap_or_else(own_name),
            trusted_proxies: self.networks(&networks),
            writes_forwarded: self
                .once("forwarded", |root, key| Some(root.flag(key)))
                .unwrap_or(false),
            underscores: match self.word("underscores").as_deref() {
                Some("keep") => Underscores::Keep,
                Some("refuse") => Underscores::Refuse,
                _ => Underscores::Drop,
            },
            http10: match self.word("http10").as_deref() {
                Some("refuse") => Http10::Refuse,
                _ => Http10::Serve,
            },
        }
    }

    /// Where a key of the file itself stands.
    fn place(&self, key: &str) -> Place {
        let mut roots = self.file.roots.iter();
        let root = roots.find(|root| root.entry(key).is_some());
        root.map_or_else(Place::default, |root| root.place_of(key).clone())
    }

    fn networks(&mut self, texts: &[(String, Place)]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (text, place) in texts {
            match forwarding::network(text) {
                Ok(network) => {
                    if network.prefix_len() == 0 {
                        self.report
                            .warning(place, "takes in every address: whoever asks is believed");
                    }
                    networks.push(network);
                }
                Err(reason) => self.report.error(place, reason),
            }
        }
        networks
    }

    fn address(&mut self, text: &str, place: &Place) -> Option<Address> {
        match address::resolve(text) {
            Ok(addr) => Some(addr),
            Err(error) => {
                self.report.error(place, format!("{text:?}: {error}"));
                None
            }
        }
    }

    fn listeners(&mut self, trusted: &[IpNet]) -> Vec<Listener> {
        let mut listeners = Vec::new();
        let mut taken: Vec<(Address, Place)> = Vec::new();
        let sections: Vec<Section> = self.all("listener").cloned().collect();
        if sections.is_empty() {
            let place = self
                .file
                .roots
                .first()
                .map_or_else(Place::default, |root| root.place.clone());
            if self.report.is_clean() {
                self.report.error(
                    &place,
                    "there is no listener; write [[listener]] with an address",
                );
            }
        }
        for section in &sections {
            let Some((text, place)) = section.text("address") else {
                self.missing(
                    section,
                    "address",
                    "the address to listen on, such as \"127.0.0.1:8080\"",
                );
                continue;
            };
            let own: Vec<(String, Place)> = section
                .texts("trusted_proxies")
                .map(|(text, place)| (text.to_owned(), place.clone()))
                .collect();
            let trusted_proxies = if section.entry("trusted_proxies").is_some() {
                self.networks(&own)
            } else {
                trusted.to_vec()
            };
            let socket_mode = self.socket_mode(section);
            let port = if section.flag("reuse_port") {
                PortUse::Shared
            } else {
                PortUse::Exclusive
            };
            if let Some(address) = self.free_address(text, place, &mut taken) {
                self.warn_of_useless(section, &address);
                listeners.push(Listener {
                    address,
                    port,
                    socket_mode,
                    serves: Serves::Routes,
                    trusted_proxies,
                });
            }
        }
        listeners.extend(self.admin(&mut taken));
        listeners
    }

    fn warn_of_useless(&mut self, section: &Section, address: &Address) {
        let (entry, reason) = match address {
            Address::Tcp(_) => (
                section.entry("socket_mode"),
                "does nothing for an address with a port; leave it out",
            ),
            Address::Unix(_) => (
                section.entry("reuse_port"),
                "does nothing for a Unix socket; leave it out",
            ),
        };
        if let Some(entry) = entry.filter(|entry| !matches!(entry.value, Value::Flag(false))) {
            self.report.warning(&entry.place, reason);
        }
    }

    fn socket_mode(&mut self, section: &Section) -> Option<u32> {
        let (text, place) = section.text("socket_mode")?;
        match parse_socket_mode(text) {
            Ok(mode) => Some(mode),
            Err(reason) => {
                self.report.error(place, reason);
                None
            }
        }
    }

    fn admin(&mut self, taken: &mut Vec<(Address, Place)>) -> Option<Listener> {
        let admin = self.once("admin", |root, key| root.section(key).cloned())?;
        let Some((text, place)) = admin.text("listen") else {
            self.missing(
                &admin,
                "listen",
                "the address to listen on, such as \"127.0.0.1:9900\"",
            );
            return None;
        };
        let address = self.free_address(text, place, taken)?;
        if address.tcp().is_some_and(|addr| !addr.ip().is_loopback()) {
            self.report.warning(
                place,
                "the admin listener asks for no password, and is open beyond this machine",
            );
        }
        Some(Listener {
            address,
            port: PortUse::Exclusive,
            socket_mode: None,
            serves: Serves::Admin,
            trusted_proxies: Vec::new(),
        })
    }

    /// An address that no other listener of the files has.
    fn free_address(
        &mut self,
        text: &str,
        place: &Place,
        taken: &mut Vec<(Address, Place)>,
    ) -> Option<Address> {
        let addr = self.address(text, place)?;
        if let Some((_, first)) = taken
            .iter()
            .find(|(other, _)| is_same_listener(other, &addr))
        {
            let at = self.report.line_of(first);
            self.report.error(
                place,
                format!("{text:?} is listened on already, at {at}; write it once"),
            );
            return None;
        }
        taken.push((addr.clone(), place.clone()));
        Some(addr)
    }

    /// Whether a name can stand in a field and in a line for people.
    fn check_name(&mut self, name: &str, place: &Place) {
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let reason = "a name has letters, digits, spaces and punctuation of ASCII only, and one of them at least";
            self.report.error(place, reason);
        }
    }

    fn missing(&mut self, section: &Section, key: &str, what: &str) {
        let reason = format!("{key} is missing; write {what}");
        self.report.error(&section.place, reason);
    }
}

/// Whether the kernel would refuse to listen on both.
#[must_use]
pub fn is_same_listener(one: &Address, other: &Address) -> bool {
    let (one, other) = match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => (one, other),
        (Address::Unix(one), Address::Unix(other)) => {
            return match (path::absolute(one), path::absolute(other)) {
                (Ok(one), Ok(other)) => one == other,
                _ => one == other, // There is no working directory any more.
            };
        }
        _ => return false,
    };
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || (is_any && one.is_ipv4() == other.is_ipv4()))
}

/// A name that no other proxy of a chain has: two with the same would take each other's requests for loops.
#[must_use]
pub fn own_name() -> Via {
    let number: u32 = rand::random();
    Via::new(&format!("hp-proxy-{number:08x}")).expect("a token")
}

/// Names that are taken, each with its place.
type Names = BTreeMap<String, Place>;

/// Of a head, in bytes.
pub const HEAD_RANGE: RangeInclusive<u64> = 1024..=1024 * 1024;
