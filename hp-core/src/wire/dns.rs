//! Questions to name servers, and the judgement of what they answer (RFC 1035, RFC 2181, RFC 2782, RFC 3596).
//!
//! Whoever asks knows the question; an answer to another one is none. What an answer says beside it is not believed: only
//! the answer section is read, from the name that was asked, along its aliases.

use simple_dns::rdata::{A, AAAA, CNAME, RData, SRV};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, TYPE};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A domain name: 1 to 253 bytes, without the final dot, in lower case; labels of 1 to 63 letters, digits, hyphens and
/// underscores, which neither begin nor end with a hyphen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Reads a name, with or without its final dot. A name that ends in a label of digits only is none: it would be a
    /// mistyped address.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_usable = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.split('.').all(|label| is_label(label.as_bytes()));
        let last = text.rsplit('.').next().unwrap_or(text);
        if !is_usable || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadName);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// This name below another one.
    ///
    /// # Errors
    /// [`BadName`] when it becomes too long.
    pub fn below(&self, parent: &Self) -> Result<Self, BadName> {
        Self::parse(&format!("{self}.{parent}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many dots it has.
    #[must_use]
    pub fn dots(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'.').count()
    }

    /// The name of an answer; `None` for the root, and for what no server of ours can have.
    fn of_answer(name: &simple_dns::Name<'_>) -> Option<Self> {
        let mut text = String::new();
        for label in name.as_bytes() {
            if !is_label(label) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(str::from_utf8(label).ok()?);
        }
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return None;
        }
        text.make_ascii_lowercase();
        Some(Self(text))
    }
}

fn is_label(label: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.iter().all(is_letter)
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a name has labels of 1 to 63 letters, digits, hyphens and underscores between dots, 253 bytes together, and does \
             not end in digits only",
        )
    }
}

impl std::error::Error for BadName {}

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Where a service is: ports and the names of hosts.
    Srv,
}

impl Kind {
    const fn code(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Srv => TYPE::SRV,
        }
    }
}

/// One question. The identifier is drawn by chance for each, so that nobody who does not see the question can answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The message's identifier.
    pub id: u16,
    /// What is asked about.
    pub name: Name,
    /// What is asked.
    pub kind: Kind,
}

impl Question {
    /// The question as a message, with recursion desired; at most 512 bytes.
    ///
    /// # Panics
    /// Never: every [`Name`] fits a message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(simple_dns::Question::new(
            simple_dns::Name::new_unchecked(self.name.as_str()), // Its letters and lengths are held by `Name`.
            QTYPE::TYPE(self.kind.code()),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet
            .build_bytes_vec()
            .expect("a name within its limits can be written to memory")
    }
}

/// What a name server says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// There is what was asked for.
    Found(Found),
    /// The name exists, but has nothing of the kind.
    Nothing,
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The answer did not fit its datagram: ask again over a stream.
    Truncated,
    /// The server cannot or will not answer; its response code.
    Failed(u16),
}

/// Records that answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one; sorted, none twice.
    pub records: Records,
    /// How long it holds, aliases included.
    pub ttl: Duration,
}

/// Records of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Answers to [`Kind::A`].
    V4(Vec<Ipv4Addr>),
    /// Answers to [`Kind::Aaaa`].
    V6(Vec<Ipv6Addr>),
    /// Answers to [`Kind::Srv`].
    Services(Vec<Service>),
}

impl Records {
    fn none(kind: Kind) -> Self {
        match kind {
            Kind::A => Self::V4(Vec::new()),
            Kind::Aaaa => Self::V6(Vec::new()),
            Kind::Srv => Self::Services(Vec::new()),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::V4(addrs) => addrs.is_empty(),
            Self::V6(addrs) => addrs.is_empty(),
            Self::Services(services) => services.is_empty(),
        }
    }

    /// Whatever order servers rotate records into, and however many they send, the same ones stay.
    fn settle(&mut self) {
        match self {
            Self::V4(addrs) => settle(addrs),
            Self::V6(addrs) => settle(addrs),
            Self::Services(services) => settle(services),
        }
    }
}

fn settle<T: Ord>(records: &mut Vec<T>) {
    records.sort_unstable();
    records.dedup();
    records.truncate(RECORDS_MAX);
}

/// One place where a service is (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Lower ones are used first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// The port; not 0.
    pub port: u16,
    /// The host.
    pub target: Name,
}

/// Why a message is no answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAnswer {
    /// Another identifier or another question, or no response at all: somebody else's, late, or forged. The true one may still
    /// come.
    Foreign,
    /// It is one, but cannot be understood.
    Broken,
}

impl fmt::Display for NotAnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "a message that answers another question",
            Self::Broken => "an answer that cannot be understood",
        })
    }
}

impl std::error::Error for NotAnAnswer {}

/// Reads what came back for a question, of at most 65,535 bytes.
///
/// # Errors
/// [`NotAnAnswer`]. A compressed name that does not point backwards, a chain of more than [`ALIASES_MAX`] aliases, and one
/// that comes back to itself are broken.
pub fn read(bytes: &[u8], question: &Question) -> Result<Reply, NotAnAnswer> {
    // Of the header first: whoever forges blindly costs no more.
    let number = |at: usize| {
        let pair = bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes(pair.try_into().ok()?))
    };
    let (Some(id), Some(flags), Some(questions)) = (number(0), number(2), number(4)) else {
        return Err(NotAnAnswer::Foreign);
    };
    if id != question.id || flags & RESPONSE_BIT == 0 {
        return Err(NotAnAnswer::Foreign);
    }
    // The codec reserves room for as many records as the header promises: no more than can be there.
    let promised = [6, 8, 10].map(|at| number(at).unwrap_or(u16::MAX));
    let promised: usize = promised.into_iter().map(usize::from).sum();
    if questions != 1 || promised * RECORD_BYTES_MIN > bytes.len() {
        return Err(NotAnAnswer::Broken);
    }
    let Ok(packet) = Packet::parse(bytes) else {
        return if flags & TRUNCATION_BIT == 0 {
            Err(NotAnAnswer::Broken)
        } else {
            Ok(Reply::Truncated) // It may have been cut within a record.
        };
    };
    judge(&packet, question)
}

fn judge(packet: &Packet<'_>, question: &Question) -> Result<Reply, NotAnAnswer> {
    let [asked] = packet.questions.as_slice() else {
        return Err(NotAnAnswer::Broken);
    };
    let is_ours = Name::of_answer(&asked.qname).as_ref() == Some(&question.name)
        && asked.qtype == QTYPE::TYPE(question.kind.code())
        && asked.qclass == QCLASS::CLASS(CLASS::IN)
        && packet.opcode() == OPCODE::StandardQuery;
    if !is_ours {
        return Err(NotAnAnswer::Foreign);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Reply::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError => follow(packet, question),
        RCODE::NameError => Ok(Reply::NoName),
        code => Ok(Reply::Failed(code as u16)),
    }
}

/// Collects records from the name that was asked, along its aliases.
fn follow(packet: &Packet<'_>, question: &Question) -> Result<Reply, NotAnAnswer> {
    let mut name = question.name.clone();
    let mut ttl = TTL_CEILING;
    for _ in 0..=ALIASES_MAX {
        let mut records = Records::none(question.kind);
        let mut alias = None;
        let here = |record: &&simple_dns::ResourceRecord<'_>| {
            record.class == CLASS::IN && Name::of_answer(&record.name).as_ref() == Some(&name)
        };
        for record in packet.answers.iter().filter(here) {
            let is_taken = match (&record.rdata, &mut records) {
                (RData::A(A { address }), Records::V4(addrs)) => {
                    addrs.push(Ipv4Addr::from(*address));
                    true
                }
                (RData::AAAA(AAAA { address }), Records::V6(addrs)) => {
                    addrs.push(Ipv6Addr::from(*address));
                    true
                }
                (RData::SRV(service), Records::Services(services)) => {
                    services.extend(service_of(service));
                    true
                }
                (RData::CNAME(CNAME(target)), _) => {
                    alias = Some(Name::of_answer(target).ok_or(NotAnAnswer::Broken)?);
                    true
                }
                _ => false,
            };
            if is_taken {
                ttl = ttl.min(ttl_of(record.ttl));
            }
        }
        if !records.is_empty() {
            records.settle();
            return Ok(Reply::Found(Found { records, ttl }));
        }
        match alias {
            Some(alias) => name = alias,
            None => return Ok(Reply::Nothing),
        }
    }
    Err(NotAnAnswer::Broken)
}

/// A host and its port; `None` where the service says that it is nowhere (a target of "."), or has no port.
fn service_of(service: &SRV<'_>) -> Option<Service> {
    let target = Name::of_answer(&service.target)?;
    (service.port != 0).then_some(Service {
        priority: service.priority,
        weight: service.weight,
        port: service.port,
        target,
    })
}

/// A length with its first bit set counts as zero. RFC 2181 §8.
fn ttl_of(seconds: u32) -> Duration {
    let seconds = i32::try_from(seconds).map_or(0, i32::unsigned_abs);
    Duration::from_secs(u64::from(seconds))
}

/// Aliases that an answer may lead over.
pub const ALIASES_MAX: u32 = 16;
/// Records of one answer that are used: the first ones of them, sorted.
pub const RECORDS_MAX: usize = 256;
/// The port of name servers.
pub const PORT: u16 = 53;
/// Of a name as text, without the final dot.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Of a record: a name of one byte, type, class, time and length.
const RECORD_BYTES_MIN: usize = 11;
const RESPONSE_BIT: u16 = 1 << 15;
const TRUNCATION_BIT: u16 = 1 << 9;
/// The longest that a time in a record can be.
const TTL_CEILING: Duration = Duration::from_secs(i32::MAX as u64);

#[cfg(test)]
mod tests;
