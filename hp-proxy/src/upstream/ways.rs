//! The addresses of one endpoint, and the order in which they are dialled (RFC 8305 §4, §5). Pure: no clock, no socket.

use hp_core::rt::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// Ways to one endpoint, if there are several.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    /// None, or at least two.
    all: Box<[SocketAddr]>,
    /// Which one connected last, and when.
    won: Option<(SocketAddr, Instant)>,
}

impl Ways {
    /// The ways to an endpoint. One address alone needs no order.
    pub(super) fn new(first: Option<SocketAddr>, others: &[SocketAddr]) -> Self {
        let all: Box<[SocketAddr]> = match first {
            Some(first) if !others.is_empty() => [first]
                .iter()
                .chain(others)
                .copied()
                .take(WAYS_MAX)
                .collect(),
            _ => Box::default(),
        };
        Self { all, won: None }
    }

    /// Other ways from now on, or the first one alone; what won goes on winning while it is one of them. Whether a way is gone.
    pub(super) fn follow(&mut self, next: Self, first: Option<SocketAddr>) -> bool {
        let is_gone = |addr: &SocketAddr| !next.has(*addr) && Some(*addr) != first;
        let some_are_gone = self.all.iter().any(is_gone);
        self.won = self.won.filter(|(addr, _)| next.has(*addr));
        self.all = next.all;
        some_are_gone
    }

    /// Whether an address is one of several.
    pub(super) fn has(&self, addr: SocketAddr) -> bool {
        self.all.contains(&addr)
    }

    /// In which order to dial; nothing where there is one way only. What won not long ago comes first; then the families take
    /// turns, IPv6 first, or the other one than the winner's.
    pub(super) fn order(&self, now: Instant) -> Vec<SocketAddr> {
        let won = self.won.filter(|(_, when)| now - *when < WINNER_HOLDS);
        let won = won.map(|(addr, _)| addr);
        let left = || self.all.iter().copied().filter(|addr| Some(*addr) != won);
        let mut v4 = left().filter(SocketAddr::is_ipv4);
        let mut v6 = left().filter(SocketAddr::is_ipv6);
        let mut is_v6_next = won.is_none_or(|addr| addr.is_ipv4());
        let mut order: Vec<SocketAddr> = won.into_iter().collect();
        while order.len() < self.all.len() {
            let next = if is_v6_next {
                v6.next().or_else(|| v4.next())
            } else {
                v4.next().or_else(|| v6.next())
            };
            is_v6_next = !is_v6_next;
            match next {
                Some(next) => order.push(next),
                None => break, // One of them stands there twice.
            }
        }
        order
    }

    /// A way led to the endpoint.
    pub(super) fn win(&mut self, addr: SocketAddr, now: Instant) {
        if self.has(addr) {
            self.won = Some((addr, now));
        }
    }

    /// A way did not.
    pub(super) fn lose(&mut self, addr: SocketAddr) {
        self.won = self.won.filter(|(won, _)| *won != addr);
    }
}

/// How long one attempt is waited for before the next way is tried beside it. RFC 8305 §5.
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long the way that won is tried first.
pub(super) const WINNER_HOLDS: Duration = Duration::from_secs(600);
/// Addresses of one endpoint that are dialled.
const WAYS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ways(all: &[&str]) -> Ways {
        let others: Vec<SocketAddr> = all[1..].iter().map(|text| addr(text)).collect();
        Ways::new(Some(addr(all[0])), &others)
    }

    fn order(ways: &Ways, seconds: u64) -> String {
        let order = ways.order(Instant::START + Duration::from_secs(seconds));
        let ips: Vec<String> = order.iter().map(|addr| addr.ip().to_string()).collect();
        ips.join(" ")
    }

    const FOUR: &[&str] = &["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "[::2]:1"];

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        assert_eq!(order(&ways(FOUR), 0), "::1 1.0.0.1 ::2 1.0.0.2");
        assert_eq!(
            order(
                &ways(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[::1]:1"]),
                0
            ),
            "::1 1.0.0.1 1.0.0.2 1.0.0.3"
        );
    }

    #[test]
    fn one_address_has_no_order() {
        let one = Ways::new(Some(addr("1.0.0.1:1")), &[]);
        assert_eq!(order(&one, 0), "");
        assert_eq!(order(&Ways::default(), 0), "");
    }

    #[test]
    fn the_winner_comes_first_for_ten_minutes() {
        let mut ways = ways(FOUR);
        ways.win(addr("1.0.0.2:1"), Instant::START);
        assert_eq!(order(&ways, 599), "1.0.0.2 ::1 1.0.0.1 ::2");
        assert_eq!(order(&ways, 600), "::1 1.0.0.1 ::2 1.0.0.2");
        ways.win(addr("[::2]:1"), Instant::START);
        assert_eq!(order(&ways, 0), "::2 1.0.0.1 ::1 1.0.0.2");
    }

    #[test]
    fn a_winner_that_fails_is_one_among_others() {
        let mut ways = ways(FOUR);
        ways.win(addr("1.0.0.2:1"), Instant::START);
        ways.lose(addr("1.0.0.1:1"));
        assert_eq!(order(&ways, 0), "1.0.0.2 ::1 1.0.0.1 ::2");
        ways.lose(addr("1.0.0.2:1"));
        assert_eq!(order(&ways, 0), "::1 1.0.0.1 ::2 1.0.0.2");
    }

    #[test]
    fn what_won_goes_on_winning_while_it_is_a_way() {
        let mut of = ways(FOUR);
        of.win(addr("1.0.0.2:1"), Instant::START);
        let first = Some(addr("1.0.0.2:1"));
        assert!(of.follow(ways(&["1.0.0.2:1", "[::9]:1"]), first));
        assert_eq!(order(&of, 0), "1.0.0.2 ::9");
        assert!(!of.follow(ways(&["1.0.0.2:1", "[::9]:1", "[::8]:1"]), first));
        assert!(of.follow(ways(&["1.0.0.3:1", "[::9]:1"]), Some(addr("1.0.0.3:1"))));
        assert_eq!(order(&of, 0), "::9 1.0.0.3");
        of.win(addr("1.0.0.2:1"), Instant::START);
        assert_eq!(order(&of, 0), "::9 1.0.0.3", "it is no way any more");
        assert!(
            of.follow(Ways::default(), Some(addr("[::9]:1"))),
            "one is left"
        );
    }
}
