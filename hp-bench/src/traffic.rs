//! Requests from files: a mix with weights, and recorded traffic with its timing.
//!
//! A mix, and recorded traffic of our own, is NDJSON, one object a line:
//!
//! ```text
//! {"weight": 3, "method": "GET", "path": "/a", "headers": {"Accept": "text/html"}}
//! {"t": 0.125, "method": "POST", "path": "/b", "body": "text"}
//! ```
//!
//! Must not know: flags, the network.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::date;
use crate::dice::Dice;
use crate::request::{Parts, Request, RequestError};
use crate::target::Target;

/// Which of the requests comes next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// There is only one.
    Only,
    /// By chance; each request's weight added to those before it, so the last is the sum.
    Weighted(Vec<u64>),
    /// As recorded.
    Recorded(Vec<Entry>),
}

/// One request of recorded traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When it was sent, since the first one.
    pub at: Duration,
    /// Which of the requests.
    pub request: u32,
}

/// Requests of a file, and the order in which they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) requests: Vec<Request>,
    pub(crate) choice: Choice,
}

/// Why a file is no traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrafficError {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1; 0 where the whole is meant. For a HAR the number of its entry.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub cause: String,
}

/// What a line without a field of its own falls back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults<'a> {
    pub(crate) target: &'a Target,
    pub(crate) parts: &'a Parts<'a>,
}

impl Choice {
    /// Draws one; recorded traffic does not come here.
    pub(crate) fn draw(&self, dice: &mut Dice) -> u32 {
        match self {
            Self::Only | Self::Recorded(_) => 0,
            Self::Weighted(sums) => {
                let total = sums.last().copied().unwrap_or(1);
                let drawn = dice.below(total.max(1));
                u32::try_from(sums.partition_point(|sum| *sum <= drawn)).unwrap_or(0)
            }
        }
    }
}

impl fmt::Display for TrafficError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, cause } = self;
        match line {
            0 => write!(f, "{}: {cause}", file.display()),
            _ => write!(f, "{}:{line}: {cause}", file.display()),
        }
    }
}

impl std::error::Error for TrafficError {}

/// One line of a mix, or of recorded traffic in NDJSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    weight: Option<u32>,
    t: Option<f64>,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

/// Reads a mix.
///
/// # Errors
/// The number of the first line that is none, and why.
pub(crate) fn mix(text: &str, defaults: Defaults<'_>) -> Result<Traffic, (usize, String)> {
    let (mut requests, mut sums, mut total) = (Vec::new(), Vec::new(), 0);
    for (number, text) in lines(text) {
        let line = parse_line(text).map_err(|cause| (number, cause))?;
        if line.t.is_some() {
            return Err((
                number,
                "t has no meaning in a mix; leave it out, or use --replay".to_owned(),
            ));
        }
        let weight = line.weight.unwrap_or(1);
        if weight == 0 {
            return Err((
                number,
                "weight 0 is never sent; give 1 or more, or drop the line".to_owned(),
            ));
        }
        total += u64::from(weight);
        sums.push(total);
        requests.push(
            line.request(defaults)
                .map_err(|error| (number, error.to_string()))?,
        );
    }
    if requests.is_empty() {
        return Err((
            0,
            "no request in it; write one JSON object a line".to_owned(),
        ));
    }
    Ok(Traffic {
        requests,
        choice: Choice::Weighted(sums),
    })
}

/// Reads recorded traffic: an access log in the common or combined format, a HAR, or NDJSON with `t` in seconds.
/// `speed` is how many times faster than recorded it is sent.
///
/// # Errors
/// The number of the first line, or entry of a HAR, that is none, and why.
pub(crate) fn recorded(
    text: &str,
    speed: f64,
    defaults: Defaults<'_>,
) -> Result<Traffic, (usize, String)> {
    let is_json = text.trim_start().starts_with('{');
    let mut log = Log::default();
    match serde_json::from_str::<Value>(text) {
        Ok(har) if har.get("log").is_some() => log.har(&har, defaults)?,
        _ if is_json => log.ndjson(text, defaults)?,
        _ => log.access(text, defaults)?,
    }
    if log.entries.is_empty() {
        return Err((
            0,
            "no request in it; give an access log, a HAR or NDJSON".to_owned(),
        ));
    }
    log.entries.sort_by_key(|entry| entry.at); // Access logs are written when a request ends.
    let first = log.entries[0].at;
    for entry in &mut log.entries {
        let since = (entry.at - first).as_secs_f64() / speed;
        entry.at = Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX);
    }
    Ok(Traffic {
        requests: log.requests,
        choice: Choice::Recorded(log.entries),
    })
}

/// What was read so far. Equal requests are kept once.
#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    known: BTreeMap<Vec<u8>, u32>,
    entries: Vec<Entry>,
}

impl Log {
    fn push(&mut self, at: Duration, request: Request) {
        let next = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        let idx = *self.known.entry(request.bytes.clone()).or_insert(next);
        if idx == next {
            self.requests.push(request);
        }
        self.entries.push(Entry { at, request: idx });
    }

    fn ndjson(&mut self, text: &str, defaults: Defaults<'_>) -> Result<(), (usize, String)> {
        for (number, text) in lines(text) {
            let line = parse_line(text).map_err(|cause| (number, cause))?;
            let at = line.t.map(Duration::try_from_secs_f64);
            let Some(Ok(at)) = at else {
                return Err((
                    number,
                    "t is missing or negative; give the seconds since the start".to_owned(),
                ));
            };
            if line.weight.is_some() {
                return Err((
                    number,
                    "weight has no meaning here; leave it out, or use --mix".to_owned(),
                ));
            }
            let request = line
                .request(defaults)
                .map_err(|error| (number, error.to_string()))?;
            self.push(at, request);
        }
        Ok(())
    }

    /// The clock of an access log has whole seconds: what shares one is spread evenly over it.
    fn access(&mut self, text: &str, defaults: Defaults<'_>) -> Result<(), (usize, String)> {
        let begun = self.entries.len();
        for (number, text) in lines(text) {
            let (at, method, path) = access_line(text).ok_or_else(|| {
                let cause = "no line of an access log; it has [10/Oct/2000:13:55:36 -0700] \"GET /path HTTP/1.1\"";
                (number, cause.to_owned())
            })?;
            let parts = Parts {
                method: Some(method),
                path: Some(path),
                ..defaults.parts.clone()
            };
            let request = Request::build(defaults.target, &parts);
            self.push(at, request.map_err(|error| (number, error.to_string()))?);
        }
        let entries = &mut self.entries[begun..];
        entries.sort_by_key(|entry| entry.at);
        for second in entries.chunk_by_mut(|one, other| one.at == other.at) {
            let count = u32::try_from(second.len()).unwrap_or(u32::MAX);
            for (place, entry) in (0..count).zip(second) {
                entry.at += Duration::from_secs(1) * place / count;
            }
        }
        Ok(())
    }

    fn har(&mut self, har: &Value, defaults: Defaults<'_>) -> Result<(), (usize, String)> {
        let entries = har.pointer("/log/entries").and_then(Value::as_array);
        let entries =
            entries.ok_or_else(|| (0, "a HAR without log.entries; export it anew".to_owned()))?;
        for (number, entry) in (1..).zip(entries) {
            let text = |pointer| entry.pointer(pointer).and_then(Value::as_str);
            let at = text("/startedDateTime").and_then(date::rfc3339);
            let url = text("/request/url").and_then(path_of_url);
            let (Some(at), Some(path)) = (at, url) else {
                let cause = "an entry without startedDateTime or request.url; export the HAR anew";
                return Err((number, cause.to_owned()));
            };
            let fields = entry.pointer("/request/headers").and_then(Value::as_array);
            let mut headers: Vec<(&str, &str)> = fields
                .into_iter()
                .flatten()
                .filter_map(|field| {
                    Some((field.get("name")?.as_str()?, field.get("value")?.as_str()?))
                })
                .filter(|(name, _)| !is_of_the_connection(name))
                .collect();
            headers.extend(&defaults.parts.headers);
            let parts = Parts {
                method: text("/request/method"),
                path: Some(path),
                body: text("/request/postData/text").map(str::as_bytes),
                headers,
                ..defaults.parts.clone()
            };
            let request = Request::build(defaults.target, &parts);
            self.push(at, request.map_err(|error| (number, error.to_string()))?);
        }
        Ok(())
    }
}

impl Line {
    fn request(&self, defaults: Defaults<'_>) -> Result<Request, RequestError> {
        let own = defaults.parts;
        let mut headers: Vec<(&str, &str)> = own.headers.clone();
        headers.extend(
            self.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let parts = Parts {
            method: self.method.as_deref().or(own.method),
            path: self.path.as_deref().or(own.path),
            body: self.body.as_deref().map(str::as_bytes).or(own.body),
            headers,
            ..own.clone()
        };
        Request::build(defaults.target, &parts)
    }
}

/// The lines that are neither blank nor a comment, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn parse_line(text: &str) -> Result<Line, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("{error}; write {{\"method\": \"GET\", \"path\": \"/\", \"headers\": {{}}, \"body\": \"\"}}")
    })
}

/// Time, method and path of a line in the common or combined format.
fn access_line(text: &str) -> Option<(Duration, &str, &str)> {
    let (_client, rest) = text.split_once('[')?;
    let (stamp, rest) = rest.split_once(']')?;
    let (_blank, rest) = rest.split_once('"')?;
    let (request, _status) = rest.split_once('"')?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let path = if path.starts_with('/') {
        path
    } else {
        path_of_url(path)?
    };
    Some((date::access_log(stamp)?, method, path))
}

/// `/x?y` of `http://a/x?y#z`.
fn path_of_url(url: &str) -> Option<&str> {
    let (_scheme, rest) = url.split_once("://")?;
    let path = rest.find('/').map_or("/", |start| &rest[start..]);
    path.split('#').next()
}

/// Fields that a browser records and that belong to its own connection, or follow from the body.
fn is_of_the_connection(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    name.starts_with(':') || NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests;
