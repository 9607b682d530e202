//! The texts of `/etc/resolv.conf` and `/etc/hosts` (resolver(5), hosts(5)). What is not understood in them is passed over,
//! as every other resolver does: neither is ours.

use hp_core::wire::dns::{Name, PORT};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Name servers in the order of asking; at least one, at most [`SERVERS_MAX`].
    pub servers: Vec<SocketAddr>,
    /// Domains that complete a host's name; at most [`SEARCH_MAX`].
    pub search: Vec<Name>,
    /// A name with at least so many dots is tried as it stands first.
    pub ndots: usize,
    /// How long one server has for one answer.
    pub timeout: Duration,
    /// How often each server is asked.
    pub attempts: u32,
}

impl Default for Resolution {
    fn default() -> Self {
        Self {
            servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

impl Resolution {
    /// What a text in the form of resolv.conf says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut this = Self::default();
        let mut servers = Vec::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().and_then(server)),
                Some("domain") => this.search = words.take(1).flat_map(Name::parse).collect(),
                Some("search") => {
                    this.search = words.flat_map(Name::parse).take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|word| this.set(word)),
                _ => (),
            }
        }
        servers.truncate(SERVERS_MAX);
        if !servers.is_empty() {
            this.servers = servers;
        }
        this
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else {
            return;
        };
        let Ok(value) = value.parse::<u32>() else {
            return;
        };
        // The bounds are those of resolver(5).
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => (),
        }
    }

    /// The names that a host may stand for, in the order in which they are tried.
    #[must_use]
    pub fn candidates(&self, name: &Name, is_absolute: bool) -> Vec<Name> {
        let as_it_stands = name.clone();
        if is_absolute {
            return vec![as_it_stands];
        }
        let mut names: Vec<Name> = self
            .search
            .iter()
            .flat_map(|parent| name.below(parent))
            .collect();
        if name.dots() >= self.ndots {
            names.insert(0, as_it_stands);
        } else {
            names.push(as_it_stands);
        }
        names
    }
}

/// `ADDRESS`, or `ADDRESS%INTERFACE` where that is a number.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, scope) = text.split_once('%')?;
    let addr = SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope.parse().ok()?);
    Some(SocketAddr::V6(addr))
}

/// What a hosts file says: addresses by name, each once, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<Name, Vec<IpAddr>>);

impl Hosts {
    /// Reads the text of a hosts file; at most [`HOSTS_MAX`] lines of it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut hosts: BTreeMap<Name, Vec<IpAddr>> = BTreeMap::new();
        for line in text.lines().take(HOSTS_MAX) {
            let said = line.split('#').next().unwrap_or(line);
            let mut words = said.split_ascii_whitespace();
            let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words.flat_map(Name::parse) {
                let addrs = hosts.entry(name).or_default();
                if !addrs.contains(&ip) {
                    addrs.push(ip);
                }
            }
        }
        Self(hosts)
    }

    /// What is known of a name without asking anybody: what the file says; of `localhost` and names below it the loopback
    /// addresses, and of `invalid` that there is nothing (RFC 6761 §6.3, §6.4).
    #[must_use]
    pub fn look_up(&self, name: &Name) -> Option<Vec<IpAddr>> {
        if let Some(addrs) = self.0.get(name) {
            let mut addrs = addrs.clone();
            addrs.sort_unstable();
            return Some(addrs);
        }
        match name.as_str().rsplit('.').next() {
            Some("localhost") => Some(vec![
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ]),
            Some("invalid") => Some(Vec::new()),
            _ => None,
        }
    }
}

/// Name servers that are asked.
pub const SERVERS_MAX: usize = 8;
/// Domains that are searched.
pub const SEARCH_MAX: usize = 8;
/// Lines of a hosts file that are read.
pub const HOSTS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_resolv_conf_says_whom_to_ask_and_how() {
        let text = "# a comment\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%2\nnameserver nonsense\n\
                    domain gone.example.test\nsearch a.example.test b.example.test\noptions ndots:3 timeout:2 attempts:9 rotate\n\
                    sortlist 1.2.3.4\n";
        let read = Resolution::parse(text);
        let servers: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]
        );
        assert_eq!(
            read.search,
            [name("a.example.test"), name("b.example.test")]
        );
        assert_eq!((read.ndots, read.attempts), (3, 5));
        assert_eq!(read.timeout, Duration::from_secs(2));
    }

    #[test]
    fn an_empty_resolv_conf_asks_this_machine() {
        assert_eq!(Resolution::parse(""), Resolution::default());
        assert_eq!(
            Resolution::parse("nameserver\noptions timeout:x timeout\n"),
            Resolution::default()
        );
    }

    #[test]
    fn servers_and_domains_are_bounded() {
        let text = format!(
            "{}search {}\n",
            "nameserver 192.0.2.1\n".repeat(100),
            "example.test ".repeat(100)
        );
        let read = Resolution::parse(&text);
        assert_eq!(
            (read.servers.len(), read.search.len()),
            (SERVERS_MAX, SEARCH_MAX)
        );
    }

    #[test]
    fn names_with_few_dots_are_searched_first() {
        let read = Resolution::parse("search a.test b.test\noptions ndots:2\n");
        let tried = |text: &str, is_absolute| {
            let names = read.candidates(&name(text), is_absolute);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(tried("api", false), ["api.a.test", "api.b.test", "api"]);
        assert_eq!(
            tried("api.x.y", false),
            ["api.x.y", "api.x.y.a.test", "api.x.y.b.test"]
        );
        assert_eq!(tried("api", true), ["api"]);
    }

    #[test]
    fn a_hosts_file_is_believed_before_any_server() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n::1 localhost # here\n192.0.2.7\tWeb web.example.test\n192.0.2.8 web\nnonsense x\n192.0.2.7 web",
        );
        let found = |text: &str| {
            let addrs = hosts.look_up(&name(text))?;
            Some(addrs.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(found("web").unwrap(), ["192.0.2.7", "192.0.2.8"]);
        assert_eq!(found("web.example.test").unwrap(), ["192.0.2.7"]);
        assert_eq!(found("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(found("x.localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(found("api.invalid").unwrap(), Vec::<String>::new());
        assert_eq!(found("x"), None);
    }
}
