//! What the proxy tells backends about clients, and whom it believes.

use hp_core::wire::forwarding::Via;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What is said about whom a request comes from.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Under what name we stand in Via; a request that has been at this name before is refused.
    pub via: Via,
    /// Nobody chose that name: a plan that follows, and has none either, goes on with it.
    pub via_is_made_up: bool,
    /// Peers whose Forwarded and X-Forwarded-* are believed, and appended to, on listeners that say nothing else; those of all
    /// others are dropped.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether Forwarded (RFC 7239) is written besides X-Forwarded-*.
    pub writes_forwarded: bool,
    /// What becomes of fields with an underscore in their name.
    pub underscores: Underscores,
    /// What becomes of requests in HTTP/1.0.
    pub http10: Http10,
}

/// What becomes of a request's fields with an underscore in their name: to many a backend (CGI, WSGI) it is a hyphen, and the
/// name that of another field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are dropped.
    #[default]
    Drop,
    /// They are passed on.
    Keep,
    /// The request is refused with 400.
    Refuse,
}

/// What becomes of requests in HTTP/1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http10 {
    /// They are served.
    #[default]
    Serve,
    /// They are refused with 426.
    Refuse,
}

impl Default for Forwarding {
    /// The name `hp-proxy`; nobody is believed.
    fn default() -> Self {
        Self {
            via: Via::new("hp-proxy").expect("a token"),
            via_is_made_up: false,
            trusted_proxies: Vec::new(),
            writes_forwarded: false,
            underscores: Underscores::default(),
            http10: Http10::default(),
        }
    }
}

impl Forwarding {
    /// Goes on with the name of the plan before, where neither has one that somebody chose.
    pub fn keep_name(&mut self, before: &Self) {
        if self.via_is_made_up && before.via_is_made_up {
            self.via = before.via.clone();
        }
    }
}

/// Whether what this peer says of others is believed.
#[must_use]
#[inline]
pub fn trusts(networks: &[IpNet], peer: Option<SocketAddr>) -> bool {
    !networks.is_empty() && peer.is_some_and(|peer| contains(networks, peer.ip()))
}

/// Whether an address lies in one of the networks.
#[must_use]
pub fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical(); // An IPv4 peer of an IPv6 listener.
    networks.iter().any(|net| net.contains(&ip))
}

/// Reads a network, `10.0.0.0/8`, or one address.
///
/// # Errors
/// A line that says what to write.
pub fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc() != net => Err(format!(
            "{text:?} has bits beyond its prefix; write {}",
            net.trunc()
        )),
        Ok(net) => Ok(net),
        Err(_no_prefix) => address().map_err(|_no_address| {
            format!("{text:?} is no network; write one such as 10.0.0.0/8, ::1/128 or 192.0.2.1")
        }),
    }
}

/// Reads a name for Via.
///
/// # Errors
/// A line that says what to write.
pub fn via(text: &str) -> Result<Via, String> {
    Via::new(text).ok_or_else(|| {
        format!("{text:?} is no name for Via; write a word or HOST:PORT of at most 255 bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(net: &str, peer: &str, expected: bool) {
        let networks = [network(net).unwrap()];
        let peer = peer.parse().unwrap();
        assert_eq!(trusts(&networks, Some(peer)), expected, "{net} {peer}");
    }

    #[test]
    fn a_peer_is_trusted_by_its_network() {
        check("127.0.0.0/8", "127.9.9.9:1", true);
        check("127.0.0.0/8", "128.0.0.1:1", false);
        check("192.0.2.1", "192.0.2.1:1", true);
        check("192.0.2.1", "192.0.2.2:1", false);
        check("10.0.0.0/8", "[::ffff:10.1.2.3]:1", true);
        check("2001:db8::/32", "[2001:db8::5]:1", true);
        check("0.0.0.0/0", "[::1]:1", false);
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let networks = Forwarding::default().trusted_proxies;
        assert!(!trusts(&networks, Some("127.0.0.1:1".parse().unwrap())));
        assert!(!trusts(&networks, None));
    }

    #[test]
    fn bad_networks_are_told_what_to_write() {
        assert_eq!(
            network("10.0.0.1/8").unwrap_err(),
            "\"10.0.0.1/8\" has bits beyond its prefix; write 10.0.0.0/8"
        );
        for bad in ["", "10.0.0.0/33", "ten", "10.0.0.0/", "::1/129"] {
            assert!(network(bad).unwrap_err().contains("is no network"), "{bad}");
        }
    }
}
