//! What a process says of the sockets that it passes on, as text; and the packets that text and sockets travel in.
//!
//! ```text
//! {"version": 1, "process": 4711,
//!  "listeners": [{"planned": "127.0.0.1:0", "bound": "127.0.0.1:40123", "sockets": 2},
//!                {"planned": "unix:/run/a", "bound": "unix:/run/a", "sockets": 1, "name": [2049, 131]}],
//!  "state": {"upgrades": 0}}
//! ```
//! The sockets follow in the order of the listeners. Keys that a reader does not know mean nothing to it; a change that it must
//! know of has another version.

use super::state::State;
use crate::listening::Held;
use crate::listening::inheritance::Given;
use hp_core::rt::net::{Address, Inherited};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;

/// The text of what is passed on.
pub(super) fn write<'h>(
    process: u32,
    held: impl Iterator<Item = &'h Held>,
    state: &State,
) -> String {
    let listeners: Vec<Value> = held.map(listener).collect();
    json!({
        "version": VERSION,
        "process": process,
        "listeners": listeners,
        "state": state.to_value(),
    })
    .to_string()
}

fn listener(held: &Held) -> Value {
    let mut value = json!({
        "planned": held.planned.to_string(),
        "bound": held.bound.to_string(),
        "sockets": held.passed_sockets().len(),
    });
    if let (Some((device, inode)), Some(map)) = (held.name_identity(), value.as_object_mut()) {
        map.insert("name".to_owned(), json!([device, inode]));
    }
    value
}

/// What was passed on.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) process: u32,
    pub(super) given: Vec<Given>,
    pub(super) state: State,
}

/// Why what was passed on cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadManifest {
    /// It is no text of the form above; the part that is wrong.
    Form(&'static str),
    /// Of a version that this program does not know.
    Version,
    /// The sockets are not as many as it says.
    Count,
    /// A socket does not listen where it says; what that is called.
    Socket(String),
}

impl fmt::Display for BadManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(part) => write!(f, "what the running process passes on has no {part}"),
            Self::Version => f.write_str(
                "the running process passes on what this version does not understand; stop it and start this one",
            ),
            Self::Count => f.write_str("the running process passes on other sockets than it says"),
            Self::Socket(label) => write!(f, "{label}: the socket that was passed on does not listen there"),
        }
    }
}

/// Reads the text, and puts the sockets to it.
pub(super) fn read(text: &[u8], fds: Vec<OwnedFd>) -> Result<Manifest, BadManifest> {
    use BadManifest::Form;
    let value: Value = serde_json::from_slice(text).map_err(|_bad| Form("text"))?;
    if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err(BadManifest::Version);
    }
    let process = value.get("process").and_then(Value::as_u64);
    let process = process.and_then(|number| u32::try_from(number).ok());
    let listeners = value.get("listeners").and_then(Value::as_array);
    let mut fds = VecDeque::from(fds);
    let mut given = Vec::new();
    for (place, listener) in (0..).zip(listeners.ok_or(Form("listeners"))?) {
        given.push(read_listener(place, listener, &mut fds)?);
    }
    if !fds.is_empty() {
        return Err(BadManifest::Count);
    }
    let state = value.get("state").and_then(Value::as_object);
    Ok(Manifest {
        process: process.ok_or(Form("process"))?,
        given,
        state: State::from_map(state.cloned().unwrap_or_else(Map::new)),
    })
}

fn read_listener(
    place: u32,
    listener: &Value,
    fds: &mut VecDeque<OwnedFd>,
) -> Result<Given, BadManifest> {
    let text = |key| listener.get(key).and_then(Value::as_str);
    let bound = text("bound").and_then(read_address);
    let bound = bound.ok_or(BadManifest::Form("address of a listener"))?;
    let label = || bound.to_string();
    let count = listener.get("sockets").and_then(Value::as_u64);
    let count = count.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=fds.len()).contains(count));
    let mut of_listener = fds.drain(..count.ok_or(BadManifest::Count)?);
    let mut sockets: Option<Inherited> = None;
    for fd in of_listener.by_ref() {
        let socket = Inherited::new(fd).map_err(|_other| BadManifest::Socket(label()))?;
        match &mut sockets {
            None => sockets = Some(socket),
            Some(first) => first
                .join(socket)
                .map_err(|_other| BadManifest::Socket(label()))?,
        }
    }
    let sockets = sockets.ok_or(BadManifest::Count)?;
    if *sockets.address() != bound {
        return Err(BadManifest::Socket(label()));
    }
    let numbers = listener.get("name").and_then(Value::as_array);
    let name_identity = match numbers.map(Vec::as_slice) {
        Some([device, inode]) => device.as_u64().zip(inode.as_u64()),
        _ => None,
    };
    Ok(Given {
        place,
        planned: text("planned").and_then(read_address),
        sockets,
        name_identity,
        label: label(),
    })
}

fn read_address(text: &str) -> Option<Address> {
    match Address::parse_unix(text) {
        Some(address) => address.ok(),
        None => text.parse().ok().map(Address::Tcp),
    }
}

const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::rt::net::{BindOptions, PortUse, bind};

    fn socket() -> (Address, OwnedFd) {
        let options = BindOptions {
            count: 1,
            backlog: 1,
            port: PortUse::Exclusive,
            socket_mode: None,
        };
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = bind(&any, &options).unwrap();
        let fd = bound.sockets[0].as_fd().unwrap();
        (bound.address, fd.try_clone_to_owned().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let (addr, fd) = socket();
        let text = json!({
            "version": 1, "process": 7, "later": true,
            "listeners": [
                {"planned": "127.0.0.1:0", "bound": addr.to_string(), "sockets": 1, "name": [1, 2], "later": 1},
            ],
            "state": {"upgrades": 3},
        });
        let manifest = read(text.to_string().as_bytes(), vec![fd]).unwrap();
        assert_eq!(manifest.process, 7);
        assert_eq!(manifest.state.get("upgrades"), Some(&json!(3)));
        let [given] = manifest.given.as_slice() else {
            panic!("{:?}", manifest.given)
        };
        assert_eq!(*given.sockets.address(), addr);
        assert_eq!(given.planned.as_ref().unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(given.name_identity, Some((1, 2)));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_and_closed() {
        let form = |part| BadManifest::Form(part);
        let elsewhere = BadManifest::Socket("127.0.0.1:1".into());
        let rows = [
            ("", form("text")),
            ("[1]", BadManifest::Version),
            (r#"{"version": 2}"#, BadManifest::Version),
            (r#"{"version": 1, "process": 1}"#, form("listeners")),
            (r#"{"version": 1, "listeners": []}"#, BadManifest::Count),
            (
                r#"{"version": 1, "listeners": [{"sockets": 1}]}"#,
                form("address of a listener"),
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "x", "sockets": 1}]}"#,
                form("address of a listener"),
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "127.0.0.1:1"}]}"#,
                BadManifest::Count,
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "127.0.0.1:1", "sockets": 0}]}"#,
                BadManifest::Count,
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "127.0.0.1:1", "sockets": 9e18}]}"#,
                BadManifest::Count,
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "127.0.0.1:1", "sockets": 2}]}"#,
                BadManifest::Count,
            ),
            (
                r#"{"version": 1, "listeners": [{"bound": "127.0.0.1:1", "sockets": 1}]}"#,
                elsewhere,
            ),
        ];
        for (text, error) in rows {
            let (_addr, fd) = socket();
            assert_eq!(
                read(text.as_bytes(), vec![fd]).unwrap_err(),
                error,
                "{text}"
            );
        }
    }

    #[test]
    fn the_process_is_asked_for_last() {
        assert_eq!(
            read(br#"{"version": 1, "listeners": []}"#, Vec::new()).unwrap_err(),
            BadManifest::Form("process")
        );
    }
}
