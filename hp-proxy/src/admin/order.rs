//! Requests to change something, read strictly: what is not understood whole changes nothing. Pure.
//!
//! ```text
//! POST   /upstreams/NAME/endpoints            {"address": A, "weight": N, "priority": N, "backup": B, "slow_start": T, "keep": B}
//! PATCH  /upstreams/NAME/endpoints/ADDRESS    {"weight": N, "standing": "active" | "drain" | "out", "keep": B}
//! DELETE /upstreams/NAME/endpoints/ADDRESS    ?keep=true
//! POST   /routes/NAME/maintenance             {"on": B, "keep": B}
//! ```
//!
//! In a path, names and addresses have `%` and two digits for what cannot stand there: a slash in them, for one.

use crate::config::address;
use crate::config::overlay::{Change, Hold};
use crate::config::plan::{Endpoint, PRIORITY_MAX};
use crate::config::units;
use crate::upstream::balance::member::{Standing, WEIGHT_MAX};
use hp_core::wire::token::hex_digit;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// What is to be changed, in the words of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub change: Change<NewEndpoint>,
    /// For how long.
    pub hold: Hold,
}

/// An endpoint whose address is not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// `HOST:PORT` or `unix:PATH`.
    pub address: String,
    /// 0 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// 0 to [`PRIORITY_MAX`].
    pub priority: u32,
    /// See [`Endpoint::is_backup`](crate::config::plan::Endpoint::is_backup).
    pub is_backup: bool,
    /// See [`Endpoint::slow_start`](crate::config::plan::Endpoint::slow_start).
    pub slow_start: Option<Duration>,
}

/// A request, whole.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method; case matters.
    pub method: &'a str,
    /// The path as it came.
    pub path: &'a str,
    /// Without its question mark.
    pub query: Option<&'a str>,
    /// At most [`BODY_BYTES_MAX`].
    pub body: &'a [u8],
}

/// Why a request changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// There is no such page.
    NoPage,
    /// The page does not take this method; these it takes.
    Method(&'static str),
    /// What is asked for cannot be.
    Invalid(String),
}

impl OrderError {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NoPage => 404,
            Self::Method(_) => 405,
            Self::Invalid(_) => 422,
        }
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPage => f.write_str("there is no such page"),
            Self::Method(methods) => write!(f, "this page takes {methods}"),
            Self::Invalid(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for OrderError {}

/// Reads a request for a change.
///
/// # Errors
/// [`OrderError`].
pub fn read(asked: Asked<'_>) -> Result<Order, OrderError> {
    let parts: Vec<&str> = asked.path.split('/').skip(1).collect();
    match (parts.as_slice(), asked.method) {
        (["upstreams", upstream, "endpoints"], "POST") => add(name(upstream)?, asked),
        (["upstreams", upstream, "endpoints", endpoint], "PATCH") => {
            set(name(upstream)?, name(endpoint)?, asked)
        }
        (["upstreams", upstream, "endpoints", endpoint], "DELETE") => {
            remove(name(upstream)?, name(endpoint)?, asked)
        }
        (["routes", route, "maintenance"], "POST") => maintain(name(route)?, asked),
        (["upstreams", _, "endpoints"] | ["routes", _, "maintenance"], _) => {
            Err(OrderError::Method("POST"))
        }
        (["upstreams", _, "endpoints", _], _) => Err(OrderError::Method("DELETE, PATCH")),
        _ => Err(OrderError::NoPage),
    }
}

impl Order {
    /// The change that is asked for, its address resolved, which may take its time where that is a name.
    ///
    /// # Errors
    /// [`OrderError::Invalid`].
    pub fn resolve(self) -> Result<(Change, Hold), OrderError> {
        let change = self.change.try_map(NewEndpoint::resolve)?;
        Ok((change, self.hold))
    }
}

impl NewEndpoint {
    fn resolve(self) -> Result<Endpoint, OrderError> {
        let addr = address::resolve(&self.address).and_then(|addr| {
            let port = addr.tcp().map(|addr| addr.port());
            port.map(address::server_port).transpose()?;
            Ok(addr)
        });
        let addr = addr.map_err(|error| invalid(format!("{:?}: {error}", self.address)))?;
        Ok(Endpoint {
            weight: self.weight,
            priority: self.priority,
            is_backup: self.is_backup,
            slow_start: self.slow_start,
            ..Endpoint::new(self.address, addr)
        })
    }
}

/// A name or an address as it stands in a path that [`read`] understands.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    address: String,
    weight: Option<u32>,
    priority: Option<u32>,
    #[serde(default)]
    backup: bool,
    slow_start: Option<String>,
    #[serde(default)]
    keep: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    weight: Option<u32>,
    standing: Option<StandingWord>,
    #[serde(default)]
    keep: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintainBody {
    on: bool,
    #[serde(default)]
    keep: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StandingWord {
    Active,
    Drain,
    Out,
}

fn add(upstream: String, asked: Asked<'_>) -> Result<Order, OrderError> {
    no_query(asked)?;
    let body: AddBody = json(asked.body)?;
    let slow_start = body.slow_start.as_deref().map(units::duration).transpose();
    let slow_start = slow_start.map_err(|error| invalid(format!("slow_start: {error}")))?;
    let endpoint = NewEndpoint {
        address: body.address,
        weight: within("weight", body.weight.unwrap_or(1), WEIGHT_MAX)?,
        priority: within("priority", body.priority.unwrap_or(0), PRIORITY_MAX)?,
        is_backup: body.backup,
        slow_start,
    };
    Ok(Order {
        change: Change::Add { upstream, endpoint },
        hold: hold(body.keep),
    })
}

fn set(upstream: String, endpoint: String, asked: Asked<'_>) -> Result<Order, OrderError> {
    no_query(asked)?;
    let body: SetBody = json(asked.body)?;
    if body.weight.is_none() && body.standing.is_none() {
        let reason = "nothing is to be changed; give \"weight\" or \"standing\"";
        return Err(invalid(reason));
    }
    let weight = body
        .weight
        .map(|weight| within("weight", weight, WEIGHT_MAX));
    Ok(Order {
        change: Change::Set {
            upstream,
            endpoint,
            weight: weight.transpose()?,
            standing: body.standing.map(|word| match word {
                StandingWord::Active => Standing::Serving,
                StandingWord::Drain => Standing::Draining,
                StandingWord::Out => Standing::Out,
            }),
        },
        hold: hold(body.keep),
    })
}

fn remove(upstream: String, endpoint: String, asked: Asked<'_>) -> Result<Order, OrderError> {
    if !asked.body.is_empty() {
        return Err(invalid(
            "DELETE has no content; write ?keep=true behind the address",
        ));
    }
    let keep = match asked.query {
        None | Some("keep=false") => false,
        Some("keep=true") => true,
        Some(_) => return Err(invalid("the query may be keep=true or keep=false")),
    };
    Ok(Order {
        change: Change::Remove { upstream, endpoint },
        hold: hold(keep),
    })
}

fn maintain(route: String, asked: Asked<'_>) -> Result<Order, OrderError> {
    no_query(asked)?;
    let body: MaintainBody = json(asked.body)?;
    let is_closed = body.on;
    Ok(Order {
        change: Change::Maintain { route, is_closed },
        hold: hold(body.keep),
    })
}

fn no_query(asked: Asked<'_>) -> Result<(), OrderError> {
    match asked.query {
        None => Ok(()),
        Some(_) => Err(invalid(
            "there is nothing to ask in the query; leave it out",
        )),
    }
}

fn json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, OrderError> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("the content is no order: it is no JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the content is no order: {error}")))
}

fn within(key: &str, value: u32, max: u32) -> Result<u32, OrderError> {
    if value <= max {
        Ok(value)
    } else {
        Err(invalid(format!(
            "{key}: {value} is out of range; write 0 to {max}"
        )))
    }
}

fn hold(keep: bool) -> Hold {
    if keep { Hold::Kept } else { Hold::UntilReload }
}

/// A part of a path, with what was escaped.
fn name(part: &str) -> Result<String, OrderError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(hex_digit);
        let escaped = digit().and_then(|high| Some((high, digit()?)));
        let (high, low) = escaped.ok_or_else(|| invalid("after % come two digits"))?;
        bytes.push(high << 4 | low);
    }
    let name = String::from_utf8(bytes).map_err(|_not_text| invalid("a name is text in UTF-8"))?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(invalid("a name in the path is empty or has controls in it"));
    }
    Ok(name)
}

fn invalid(reason: impl Into<String>) -> OrderError {
    OrderError::Invalid(reason.into())
}

/// Of a request's content.
pub const BODY_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(line: &str, body: &str) -> Result<Order, OrderError> {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let body = body.as_bytes();
        read(Asked {
            method,
            path,
            query,
            body,
        })
    }

    fn web() -> String {
        String::from("web")
    }

    #[test]
    fn each_order_is_read() {
        let added = ask(
            "POST /upstreams/web/endpoints",
            r#"{"address": "a:1", "weight": 3, "backup": true, "slow_start": "30s", "keep": true}"#,
        );
        let endpoint = NewEndpoint {
            address: String::from("a:1"),
            weight: 3,
            priority: 0,
            is_backup: true,
            slow_start: Some(Duration::from_secs(30)),
        };
        let change = Change::Add {
            upstream: web(),
            endpoint,
        };
        let hold = Hold::Kept;
        assert_eq!(added, Ok(Order { change, hold }));
        let removed = ask(
            "DELETE /upstreams/web/endpoints/unix:%2Frun%2fa?keep=true",
            "",
        );
        let change = Change::Remove {
            upstream: web(),
            endpoint: String::from("unix:/run/a"),
        };
        assert_eq!(removed, Ok(Order { change, hold }));
        let set = ask(
            "PATCH /upstreams/web/endpoints/[::1]:80",
            r#"{"weight": 0, "standing": "drain"}"#,
        );
        let change = Change::Set {
            upstream: web(),
            endpoint: String::from("[::1]:80"),
            weight: Some(0),
            standing: Some(Standing::Draining),
        };
        let hold = Hold::UntilReload;
        assert_eq!(set, Ok(Order { change, hold }));
        let closed = ask("POST /routes/any%20path/maintenance", r#"{"on": true}"#);
        let change = Change::Maintain {
            route: String::from("any path"),
            is_closed: true,
        };
        assert_eq!(closed, Ok(Order { change, hold }));
    }

    fn check_refused(line: &str, rows: &[(&str, u16, &str)]) {
        for (body, status, part) in rows {
            let error = ask(line, body).unwrap_err();
            let told = error.to_string();
            assert_eq!(error.status(), *status, "{line} {body}: {told}");
            assert!(told.contains(part), "{line} {body}: {told}");
            assert!(!told.contains('\n'), "{line} {body}: {told}");
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for (line, status, part) in [
            ("GET /nothing", 404, "no such page"),
            ("POST /upstreams", 404, "no such page"),
            ("POST /upstreams/web/endpoints/", 405, "DELETE, PATCH"),
            ("PUT /upstreams/web/endpoints", 405, "takes POST"),
            ("GET /routes/x/maintenance", 405, "takes POST"),
            ("PATCH /upstreams/web/endpoints/a:1?x", 422, "leave it out"),
            ("PATCH /upstreams/%zz/endpoints/a:1", 422, "two digits"),
            ("PATCH /upstreams/%ff/endpoints/a:1", 422, "UTF-8"),
            ("PATCH /upstreams//endpoints/a:1", 422, "empty"),
            ("PATCH /upstreams/%0a/endpoints/a:1", 422, "controls"),
            ("DELETE /upstreams/web/endpoints/a:1", 422, "?keep=true"),
        ] {
            check_refused(line, &[("{}", status, part)]);
        }
        let keep = "DELETE /upstreams/web/endpoints/a:1?keep";
        check_refused(keep, &[("", 422, "keep=true")]);
    }

    #[test]
    fn content_that_is_not_understood_is_refused() {
        let endpoints = [
            ("", 422, "no JSON object"),
            ("[\"a:1\", 1, 0, false, null, false]", 422, "no JSON object"),
            ("{}", 422, "missing field `address`"),
            (r#"{"address": "a:1", "colour": 1}"#, 422, "field `colour`"),
            (r#"{"address": "a", "address": "b"}"#, 422, "duplicate"),
            (r#"{"address": "a:1"} x"#, 422, "trailing characters"),
            (r#"{"address": "a:1", "weight": 1001}"#, 422, "0 to 1000"),
            (r#"{"address": "a:1", "weight": -1}"#, 422, "-1"),
            (r#"{"address": "a:1", "slow_start": "30"}"#, 422, "30s"),
        ];
        check_refused("POST /upstreams/web/endpoints", &endpoints);
        let endpoint = [
            ("{}", 422, "nothing is to be changed"),
            (r#"{"standing": "asleep"}"#, 422, "`active`, `drain`, `out`"),
        ];
        check_refused("PATCH /upstreams/web/endpoints/a:1", &endpoint);
        let route = [(r#"{"on": 1}"#, 422, "boolean")];
        check_refused("POST /routes/x/maintenance", &route);
    }

    #[test]
    fn addresses_are_resolved() {
        let add = |address: &str| {
            let body = format!("{{\"address\": {address:?}, \"weight\": 2}}");
            ask("POST /upstreams/web/endpoints", &body)
                .unwrap()
                .resolve()
        };
        let (change, hold) = add("127.0.0.1:9").unwrap();
        assert_eq!(hold, Hold::UntilReload);
        let Change::Add { upstream, endpoint } = change else {
            panic!("{change:?}");
        };
        assert_eq!((upstream, endpoint.weight), (web(), 2));
        assert_eq!(endpoint.addr.to_string(), "127.0.0.1:9");
        for (address, part) in [
            ("127.0.0.1", "HOST:PORT"),
            ("127.0.0.1:0", "no server has port 0"),
            ("no-such-host.invalid:1", "does not resolve"),
        ] {
            let told = add(address).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_a_deep_stack() {
        let deep = "[".repeat(BODY_BYTES_MAX);
        assert!(ask("POST /routes/x/maintenance", &deep).is_err());
    }

    proptest! {
        #[test]
        fn every_name_can_be_escaped(name in "[^\\p{Cc}]{1,40}") {
            let order = ask(&format!("DELETE /upstreams/web/endpoints/{}", escape(&name)), "");
            let change = Change::Remove { upstream: web(), endpoint: name };
            prop_assert_eq!(order, Ok(Order { change, hold: Hold::UntilReload }));
        }

        #[test]
        fn no_content_panics_the_reader(body in prop::collection::vec(any::<u8>(), 0..200), path in "/[a-z%/0-9]{0,40}") {
            for (method, path) in [("POST", path.as_str()), ("POST", "/upstreams/web/endpoints")] {
                let read = read(Asked { method, path, query: None, body: &body });
                prop_assert!(read.is_err());
            }
        }
    }
}
