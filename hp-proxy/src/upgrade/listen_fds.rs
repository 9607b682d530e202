//! Sockets that a manager of services has bound, as systemd passes them on (sd_listen_fds(3)): descriptors from 3 on, their number
//! in `LISTEN_FDS`, for whom they are in `LISTEN_PID`, what they are called in `LISTEN_FDNAMES`.
//!
//! The variables stay in this process's environment, since they cannot be taken out of it safely while threads may read it. A
//! process that it starts gets an environment without them.

use crate::listening::inheritance::{Given, Inheritance};
use hp_core::rt::net::Inherited;
use hp_core::sys::rights;
use std::env;
use std::os::fd::RawFd;

/// What was passed on to this process; nothing where it was not.
///
/// # Errors
/// A line that says which variable or socket cannot be used.
pub(crate) fn from_environment() -> Result<Inheritance, String> {
    let [fds, process, names] = ENVIRONMENT.map(|name| {
        let value = env::var_os(name);
        value.map(|value| value.to_string_lossy().into_owned())
    });
    let Some(count) = count(fds.as_deref(), process.as_deref(), std::process::id())? else {
        return Ok(Inheritance::default());
    };
    let names: Vec<&str> = names.as_deref().unwrap_or_default().split(':').collect();
    let mut given: Vec<Given> = Vec::new();
    for place in 0..count {
        let number = RawFd::try_from(place).unwrap_or(RawFd::MAX - FIRST) + FIRST;
        let name = names.get(place as usize).filter(|name| !name.is_empty());
        let label = match name {
            Some(name) => format!("descriptor {number} of LISTEN_FDS ({name})"),
            None => format!("descriptor {number} of LISTEN_FDS"),
        };
        let socket = rights::inherited(number).and_then(Inherited::new);
        let socket = socket.map_err(|error| {
            format!(
                "{label} is no stream socket that listens on an address or a path ({error}); \
                 a .socket unit for it has ListenStream= and Accept=no"
            )
        })?;
        add(&mut given, place, socket, label);
    }
    Ok(Inheritance::new(given))
}

/// Sockets of one address belong together.
fn add(given: &mut Vec<Given>, place: u32, socket: Inherited, label: String) {
    let mut socket = Some(socket);
    for other in given.iter_mut() {
        let Some(one) = socket.take() else { return };
        match other.sockets.join(one) {
            Ok(()) => return,
            Err(one) => socket = Some(one),
        }
    }
    if let Some(sockets) = socket {
        given.push(Given {
            place,
            planned: None,
            sockets,
            name_identity: None, // Whoever bound it removes it.
            label,
        });
    }
}

/// How many descriptors are for this process.
fn count(fds: Option<&str>, process: Option<&str>, own: u32) -> Result<Option<u32>, String> {
    let Some(fds) = fds else { return Ok(None) };
    // They may be for the process that started us, which has not taken the variables out.
    if process.and_then(|text| text.parse().ok()) != Some(own) {
        return Ok(None);
    }
    match fds.parse() {
        Ok(count @ 0..=COUNT_MAX) => Ok(Some(count)),
        _ => Err(format!(
            "LISTEN_FDS={fds} is no number from 0 to {COUNT_MAX}; a manager of services sets it, unset it"
        )),
    }
}

/// Their names.
pub(super) const ENVIRONMENT: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
const FIRST: RawFd = 3;
const COUNT_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_this_process_counts() {
        let rows = [
            (None, Some("7"), Ok(None)),
            (Some("2"), None, Ok(None)),
            (Some("2"), Some("8"), Ok(None)),
            (Some("2"), Some("x"), Ok(None)),
            (Some("nonsense"), Some("8"), Ok(None)),
            (Some("0"), Some("7"), Ok(Some(0))),
            (Some("2"), Some("7"), Ok(Some(2))),
        ];
        for (fds, process, counted) in rows {
            assert_eq!(count(fds, process, 7), counted, "{fds:?} {process:?}");
        }
        for fds in ["", "-1", "4097", "99999999999999", "2 "] {
            let line = count(Some(fds), Some("7"), 7).unwrap_err();
            assert!(line.contains("LISTEN_FDS"), "{line}");
        }
    }
}
