//! One question on its way: over servers and their failures to an outcome; and a host's questions over the names that it may
//! stand for.
//!
//! ```text
//! Ask(server, datagram) ─found, no such name, nothing of the kind→ Done
//!   │ ├─truncated→ Ask(the same server, stream)
//!   │ └─silent, refused, broken→ the next server, each as often as it may be asked ─none left→ Done
//! ```

use super::system::Resolution;
use hp_core::wire::dns::{Found, Kind, Name, Question, Reply};
use rand::Rng;
use std::fmt;

/// A question that is being asked.
#[derive(Clone, Debug)]
pub struct Lookup {
    name: Name,
    kind: Kind,
    servers: usize,
    /// How often servers may be asked, all together.
    tries_max: usize,
    /// How often they have been.
    tries: usize,
    transport: Transport,
}

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram (UDP).
    Datagram,
    /// Over a connection (TCP), as long as it likes to be.
    Stream,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the server of this number.
    Ask(usize, Transport, Question),
    /// Nothing more.
    Done(Outcome),
}

/// What comes of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer to the question.
    Reply(Reply),
    /// None, for this reason.
    Failed(Failure),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not come in time.
    Silent,
    /// The server cannot be reached.
    Unreachable,
    /// What came cannot be understood, or did not fit where it must.
    Broken,
    /// The server says that it cannot answer (SERVFAIL, REFUSED, ...); its code.
    Code(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no name server answered in time"),
            Self::Unreachable => f.write_str("no name server can be reached"),
            Self::Broken => f.write_str("a name server's answer cannot be understood"),
            Self::Code(2) => f.write_str("a name server failed (SERVFAIL)"),
            Self::Code(5) => f.write_str("a name server refused to answer (REFUSED)"),
            Self::Code(code) => write!(f, "a name server answered with code {code}"),
        }
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Records.
    Found(Found),
    /// The name exists, with nothing of the kind.
    Nothing,
    /// No server knows the name.
    NoName,
    /// Nobody could tell.
    Failed(Failure),
}

impl Lookup {
    /// A question about a name.
    #[must_use]
    pub fn new(name: Name, kind: Kind, resolution: &Resolution) -> Self {
        let servers = resolution.servers.len();
        Self {
            name,
            kind,
            servers,
            tries_max: servers * resolution.attempts as usize,
            tries: 0,
            transport: Transport::Datagram,
        }
    }

    /// What to do now; the question's identifier is drawn anew for each time that it is asked.
    pub fn step(&self, rng: &mut impl Rng) -> Step {
        let Some(server) = self.tries.checked_rem(self.servers) else {
            return Step::Done(Outcome::Failed(Failure::Unreachable)); // There is no server.
        };
        let question = Question {
            id: u16::try_from(rng.next_u32() >> u16::BITS).unwrap_or(0),
            name: self.name.clone(),
            kind: self.kind,
        };
        Step::Ask(server, self.transport, question)
    }

    /// Takes note of what came of the last [`Step::Ask`]; `Some` when that decides everything.
    pub fn hear(&mut self, heard: Heard) -> Option<Outcome> {
        let failure = match heard {
            Heard::Reply(Reply::Found(found)) => return Some(Outcome::Found(found)),
            Heard::Reply(Reply::Nothing) => return Some(Outcome::Nothing),
            Heard::Reply(Reply::NoName) => return Some(Outcome::NoName),
            Heard::Reply(Reply::Truncated) if self.transport == Transport::Datagram => {
                self.transport = Transport::Stream;
                return None;
            }
            Heard::Reply(Reply::Truncated) => Failure::Broken,
            Heard::Reply(Reply::Failed(code)) => Failure::Code(code),
            Heard::Failed(failure) => failure,
        };
        self.tries += 1;
        self.transport = Transport::Datagram;
        (self.tries >= self.tries_max).then_some(Outcome::Failed(failure))
    }
}

/// A host's names, of which the first that exists is the one. Both families of a name are asked for before the next name is: they
/// are of one host, or of none.
#[derive(Clone, Debug)]
pub struct Search {
    /// Those that were not asked about, in their order.
    left: std::vec::IntoIter<Name>,
    /// Whether one of them exists, without any address.
    has_nothing: bool,
}

impl Search {
    /// Names in the order in which they are tried.
    #[must_use]
    pub fn new(names: Vec<Name>) -> Self {
        Self {
            left: names.into_iter(),
            has_nothing: false,
        }
    }

    /// The name that is to be asked about; `None`: the last one was.
    pub fn next_name(&mut self) -> Option<Name> {
        self.left.next()
    }

    /// Whether what was heard of a name, its IPv4 and its IPv6 addresses, ends the search. A name that nobody could tell about
    /// ends it, too: it may exist, and a later one would be another host.
    pub fn ends_with(&mut self, v4: &Outcome, v6: &Outcome) -> bool {
        let both = [v4, v6];
        self.has_nothing |= both.contains(&&Outcome::Nothing);
        let is_decided =
            |outcome: &&Outcome| matches!(outcome, Outcome::Found(_) | Outcome::Failed(_));
        both.iter().any(is_decided)
    }

    /// What holds for both families when no name has an address.
    #[must_use]
    pub fn in_vain(&self) -> Outcome {
        if self.has_nothing {
            Outcome::Nothing
        } else {
            Outcome::NoName
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::wire::dns::Records;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn found() -> Found {
        Found {
            records: Records::V4(vec![Ipv4Addr::LOCALHOST]),
            ttl: Duration::from_secs(5),
        }
    }

    /// Plays answers in their order; gives what was asked, and what came of it.
    fn check(resolv_conf: &str, answers: &[Heard]) -> (Vec<String>, Option<Outcome>) {
        let resolution = Resolution::parse(resolv_conf);
        let mut lookup = Lookup::new(Name::parse("a.test").unwrap(), Kind::A, &resolution);
        let mut rng = StdRng::seed_from_u64(1);
        let mut asked = Vec::new();
        for answer in answers {
            match lookup.step(&mut rng) {
                Step::Done(outcome) => return (asked, Some(outcome)),
                Step::Ask(server, transport, question) => {
                    assert_eq!(question.name.as_str(), "a.test");
                    let is_stream = transport == Transport::Stream;
                    asked.push(format!("{server}{}", if is_stream { "+" } else { "" }));
                }
            }
            if let Some(outcome) = lookup.hear(answer.clone()) {
                return (asked, Some(outcome));
            }
        }
        (asked, None)
    }

    const TWO: &str = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions attempts:2\n";

    #[test]
    fn servers_are_asked_in_turn_until_one_answers() {
        let answers = [
            Heard::Failed(Failure::Silent),
            Heard::Reply(Reply::Failed(2)),
            Heard::Failed(Failure::Broken),
            Heard::Reply(Reply::Found(found())),
        ];
        let (asked, outcome) = check(TWO, &answers);
        assert_eq!(asked, ["0", "1", "0", "1"]);
        assert_eq!(outcome, Some(Outcome::Found(found())));
    }

    #[test]
    fn nobody_is_asked_for_ever() {
        for failure in [
            Failure::Silent,
            Failure::Unreachable,
            Failure::Broken,
            Failure::Code(5),
        ] {
            let (asked, outcome) = check(TWO, &vec![Heard::Failed(failure); 100]);
            assert_eq!((asked.len(), outcome), (4, Some(Outcome::Failed(failure))));
        }
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_asked_again_over_a_stream() {
        let answers = [
            Heard::Reply(Reply::Truncated),
            Heard::Reply(Reply::Truncated), // A stream has no end; so it is the server that is broken.
            Heard::Reply(Reply::Truncated),
            Heard::Reply(Reply::Found(found())),
        ];
        let (asked, outcome) = check(TWO, &answers);
        assert_eq!(asked, ["0", "0+", "1", "1+"]);
        assert_eq!(outcome, Some(Outcome::Found(found())));
    }

    #[test]
    fn one_server_s_word_is_enough() {
        for (reply, outcome) in [
            (Reply::NoName, Outcome::NoName),
            (Reply::Nothing, Outcome::Nothing),
        ] {
            let (asked, heard) = check(TWO, &[Heard::Reply(reply)]);
            assert_eq!((asked.len(), heard), (1, Some(outcome)));
        }
    }

    /// Plays what is heard of each name, and tells how many were asked about.
    fn check_search(heard: &[(Outcome, Outcome)]) -> (usize, Option<Outcome>) {
        let names = ["a.x.test", "a.y.test", "a"].map(|name| Name::parse(name).unwrap());
        let mut search = Search::new(names.to_vec());
        let mut asked = 0;
        for (v4, v6) in heard {
            if search.next_name().is_none() {
                break;
            }
            asked += 1;
            if search.ends_with(v4, v6) {
                return (asked, None);
            }
        }
        assert_eq!(search.next_name(), None);
        (asked, Some(search.in_vain()))
    }

    #[test]
    fn domains_are_searched_until_a_name_has_an_address_of_either_family() {
        let found = || Outcome::Found(found());
        let (gone, empty) = (
            (Outcome::NoName, Outcome::NoName),
            (Outcome::Nothing, Outcome::Nothing),
        );
        assert_eq!(
            check_search(&[gone.clone(), (found(), Outcome::Nothing)]),
            (2, None)
        );
        assert_eq!(
            check_search(&[empty.clone(), (Outcome::NoName, found())]),
            (2, None)
        );
        assert_eq!(
            check_search(&[gone.clone(), gone.clone(), gone.clone()]),
            (3, Some(Outcome::NoName))
        );
        assert_eq!(
            check_search(&[gone.clone(), empty, gone]),
            (3, Some(Outcome::Nothing))
        );
    }

    #[test]
    fn a_failure_is_no_proof_that_a_name_does_not_exist() {
        let failed = Outcome::Failed(Failure::Code(2));
        assert_eq!(check_search(&[(Outcome::NoName, failed)]), (1, None));
    }

    #[test]
    fn identifiers_are_drawn_anew_each_time() {
        let resolution = Resolution::default();
        let lookup = Lookup::new(Name::parse("a.test").unwrap(), Kind::A, &resolution);
        let mut rng = StdRng::seed_from_u64(7);
        let drawn: BTreeSet<u16> = (0..64)
            .map(|_| match lookup.step(&mut rng) {
                Step::Ask(_, _, question) => question.id,
                Step::Done(outcome) => panic!("{outcome:?}"),
            })
            .collect();
        assert!(drawn.len() > 60, "{drawn:?}");
    }
}
