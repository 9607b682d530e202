//! What the query of a request orders: the making of an answer, and the faults in it.
//!
//! A part without `=`, or with a key that is not known, orders nothing: clients put into queries what they like.
//!
//! Must not know: connections, tasks, time.

use std::time::Duration;

use hp_core::base::units::KIB;

/// All that a query orders.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Query {
    /// How long to wait before the answer: `t`.
    pub(crate) delay: Option<Duration>,
    /// Whether the answer is the last one of its connection: `k=0`.
    pub(crate) close: bool,
    /// The answer, where it is not the one that the path would get.
    pub(crate) made: Option<Made>,
}

/// An answer made to order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Made {
    /// `r`, 200 to 599.
    pub(crate) status: u16,
    /// `s`, in bytes; the fixed body's where it is not given.
    pub(crate) size: Option<u64>,
    /// `c`.
    pub(crate) chunked: bool,
    /// `R`.
    pub(crate) random: bool,
    /// Interim answers before it: `interims`.
    pub(crate) interims: u32,
    /// What comes in its place.
    pub(crate) start: Start,
    /// How its body ends.
    pub(crate) end: End,
    /// How its body is slowed down.
    pub(crate) drip: Option<Drip>,
}

/// What a made answer begins with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Start {
    /// Its head.
    #[default]
    Head,
    /// Bytes that are no head, and the end: `garbage`.
    Garbage,
    /// The end: `hangup`.
    Hangup,
    /// Nothing, until the client leaves: `silent`.
    Silence,
}

/// How the body of a made answer ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum End {
    /// As its head says.
    #[default]
    Whole,
    /// With the connection, in order, after so many bytes: `truncate`.
    Truncated(u64),
    /// With a reset after so many bytes: `reset`.
    Reset(u64),
}

/// A body in drops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Drip {
    /// Bytes of each drop: `drip`, at least 1.
    pub(crate) bytes: u32,
    /// Time between two drops: `every`.
    pub(crate) every: Duration,
}

/// A value that a key does not take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Wrong {
    /// The key.
    pub(crate) key: &'static str,
    /// What it takes.
    pub(crate) takes: &'static str,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            status: 200,
            size: None,
            chunked: false,
            random: false,
            interims: 0,
            start: Start::default(),
            end: End::default(),
            drip: None,
        }
    }
}

impl Made {
    /// Whether it takes neither time nor chance, nor ends before its end.
    pub(crate) fn is_plain(&self) -> bool {
        let has_fault = self.start != Start::Head || self.end != End::Whole || self.interims > 0;
        !has_fault && self.drip.is_none() && !self.random
    }
}

impl Query {
    /// Reads a query without its question mark. The last one of a repeated key counts.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut query = Self::default();
        let mut made = Made::default();
        let mut every = DRIP_EVERY;
        for (key, value) in text.split('&').filter_map(|part| part.split_once('=')) {
            match key {
                "t" => query.delay = Some(millis("t", value)?),
                "k" => query.close = !flag("k", value)?,
                "s" => made.size = Some(size("s", value)?),
                "r" => made.status = status(value)?,
                "c" => made.chunked = flag("c", value)?,
                "R" => made.random = flag("R", value)?,
                "interims" => made.interims = interims(value)?,
                "garbage" => made.begin(Start::Garbage, "garbage", value)?,
                "hangup" => made.begin(Start::Hangup, "hangup", value)?,
                "silent" => made.begin(Start::Silence, "silent", value)?,
                "truncate" => {
                    made.end_with(End::Truncated(size("truncate", value)?), "truncate")?
                }
                "reset" => made.end_with(End::Reset(size("reset", value)?), "reset")?,
                "every" => every = millis("every", value)?,
                "drip" => {
                    let bytes = drip_bytes(value)?;
                    made.drip = Some(Drip { bytes, every });
                }
                _ => continue,
            }
        }
        if let Some(drip) = &mut made.drip {
            drip.every = every;
        }
        query.made = (made != Made::default()).then_some(made);
        Ok(query)
    }
}

impl Made {
    fn begin(&mut self, start: Start, key: &'static str, value: &str) -> Result<(), Wrong> {
        if !flag(key, value)? {
            return Ok(());
        }
        if !matches!(self.start, Start::Head) && self.start != start {
            let takes = "1 where no other of garbage, hangup and silent is 1";
            return Err(Wrong { key, takes });
        }
        self.start = start;
        Ok(())
    }

    fn end_with(&mut self, end: End, key: &'static str) -> Result<(), Wrong> {
        if std::mem::discriminant(&self.end) == std::mem::discriminant(&end)
            || self.end == End::Whole
        {
            self.end = end;
            return Ok(());
        }
        let takes = "a length where there is not truncate and reset both";
        Err(Wrong { key, takes })
    }
}

/// Digits only: `u64::from_str` takes a plus sign as well.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// Whether an answer may have this status, as a number in decimal.
pub(crate) fn final_status(text: &str) -> Option<u16> {
    let status = number(text).and_then(|status| u16::try_from(status).ok());
    status.filter(|status| (200..=599).contains(status))
}

/// A delay in milliseconds.
pub(crate) fn delay(text: &str) -> Option<Duration> {
    let millis = number(text).filter(|&millis| millis <= DELAY_MILLIS_MAX);
    millis.map(Duration::from_millis)
}

fn status(value: &str) -> Result<u16, Wrong> {
    final_status(value).ok_or(Wrong {
        key: "r",
        takes: "a status from 200 to 599",
    })
}

fn millis(key: &'static str, value: &str) -> Result<Duration, Wrong> {
    delay(value).ok_or(Wrong {
        key,
        takes: "milliseconds from 0 to 60000",
    })
}

fn flag(key: &'static str, value: &str) -> Result<bool, Wrong> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Wrong {
            key,
            takes: "0 or 1",
        }),
    }
}

fn size(key: &'static str, value: &str) -> Result<u64, Wrong> {
    bytes(value)
        .filter(|&bytes| bytes <= SIZE_MAX)
        .ok_or(Wrong {
            key,
            takes: "bytes from 0 to 1024g, with k, m or g for 1024, 1024k or 1024m of them",
        })
}

fn bytes(value: &str) -> Option<u64> {
    let (digits, shift) = match value.as_bytes() {
        [.., b'k' | b'K'] => (&value[..value.len() - 1], 10),
        [.., b'm' | b'M'] => (&value[..value.len() - 1], 20),
        [.., b'g' | b'G'] => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn drip_bytes(value: &str) -> Result<u32, Wrong> {
    bytes(value)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| (1..=DRIP_BYTES_MAX).contains(bytes))
        .ok_or(Wrong {
            key: "drip",
            takes: "bytes from 1 to 64k",
        })
}

fn interims(value: &str) -> Result<u32, Wrong> {
    number(value)
        .and_then(|count| u32::try_from(count).ok())
        .filter(|&count| count <= INTERIMS_MAX)
        .ok_or(Wrong {
            key: "interims",
            takes: "a number from 0 to 1000000",
        })
}

/// 1 TiB: more than anybody waits for, and far from overflowing a sum.
const SIZE_MAX: u64 = 1 << 40;
const DELAY_MILLIS_MAX: u64 = 60_000;
const DRIP_EVERY: Duration = Duration::from_millis(100);
#[expect(clippy::cast_possible_truncation, reason = "65536")]
const DRIP_BYTES_MAX: u32 = 64 * KIB as u32;
const INTERIMS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Made {
        Query::parse(text).unwrap().made.unwrap_or_default()
    }

    fn check_wrong(text: &str, key: &str) {
        match Query::parse(text) {
            Err(wrong) => assert_eq!(wrong.key, key, "{text}"),
            Ok(query) => panic!("{text}: {query:?}"),
        }
    }

    #[test]
    fn keys_come_in_any_order() {
        let query = Query::parse("s=20k&t=700&r=503&c=1&k=0&R=1").unwrap();
        assert_eq!(
            query,
            Query::parse("R=1&k=0&c=1&r=503&t=700&s=20k").unwrap()
        );
        assert_eq!(query.delay, Some(Duration::from_millis(700)));
        assert!(query.close);
        let want = Made {
            status: 503,
            size: Some(20 << 10),
            chunked: true,
            random: true,
            ..Made::default()
        };
        assert_eq!(query.made, Some(want));
    }

    #[test]
    fn what_is_not_known_orders_nothing() {
        for text in [
            "", "q", "c", "s", "&&", "x=1", "S=5", "a=b&q=s", "k=1", "c=0&R=0", "every=5",
        ] {
            assert_eq!(Query::parse(text), Ok(Query::default()), "{text}");
        }
    }

    #[test]
    fn sizes_have_suffixes() {
        let check = |text, want| assert_eq!(made(text).size, Some(want), "{text}");
        check("s=0", 0);
        check("s=7", 7);
        check("s=1k", 1024);
        check("s=3M", 3 << 20);
        check("s=1024g", 1 << 40);
    }

    #[test]
    fn wrong_values_are_named_by_their_key() {
        for text in [
            "s=",
            "s=k",
            "s=-1",
            "s=+1",
            "s=1x",
            "s=1kk",
            "s=1025g",
            "s=99999999999999999999",
            "t=1&s=1.5",
        ] {
            check_wrong(text, "s");
        }
        for (text, key) in [
            ("t=60001", "t"),
            ("t=1s", "t"),
            ("r=199", "r"),
            ("r=600", "r"),
            ("r=", "r"),
            ("c=2", "c"),
            ("c=", "c"),
            ("k=yes", "k"),
            ("R=-1", "R"),
            ("truncate=x", "truncate"),
            ("reset=", "reset"),
            ("garbage=2", "garbage"),
            ("hangup=on", "hangup"),
            ("silent=", "silent"),
            ("drip=0", "drip"),
            ("drip=65k", "drip"),
            ("every=x", "every"),
            ("interims=1000001", "interims"),
            ("garbage=1&silent=1", "silent"),
            ("reset=1&truncate=1", "truncate"),
        ] {
            check_wrong(text, key);
        }
    }

    #[test]
    fn faults_are_read() {
        assert_eq!(made("truncate=1k").end, End::Truncated(1024));
        assert_eq!(made("reset=0").end, End::Reset(0));
        assert_eq!(made("hangup=1").start, Start::Hangup);
        assert_eq!(made("garbage=1&garbage=1").start, Start::Garbage);
        assert_eq!(made("silent=1").start, Start::Silence);
        assert_eq!(made("interims=3").interims, 3);
        for text in ["drip=5&every=20", "every=20&drip=5"] {
            let drip = Drip {
                bytes: 5,
                every: Duration::from_millis(20),
            };
            assert_eq!(made(text).drip, Some(drip), "{text}");
        }
        assert_eq!(made("drip=1").drip.map(|drip| drip.every), Some(DRIP_EVERY));
        assert!(made("s=5&r=404&c=1").is_plain());
        assert!(!made("R=1").is_plain());
    }
}
