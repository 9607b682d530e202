//! What a client sees when the backend fails. A failure may become an error of the proxy or a broken connection; it may never look
//! whole, and never leave the client waiting.
//!
//! `extra`: `refused` (true: the backend is one that refuses every connection, so that nothing else can be asked).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::client::{Client, End};
use super::{PATIENCE, correct, note};
use crate::error::Error;
use crate::load::Scene;
use crate::raw::Record;
use crate::workload::Load;

/// A fault that hp-echo is asked for.
#[derive(Clone, Copy, Debug)]
struct Fault {
    name: &'static str,
    path: &'static str,
}

/// How long a visit should take.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    is_refused(load).map(|_is_refused| Duration::from_secs(2))
}

fn is_refused(load: &Load) -> Result<bool, String> {
    let asked = load.extra.get("refused");
    asked.map_or(Ok(false), |value| {
        let wrong = || format!("extra.refused = {value}: write true or false");
        value.as_bool().ok_or_else(wrong)
    })
}

/// Asks for every fault [`TRIES`] times, each on a connection of its own, and for a usual answer after each.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    match is_refused(scene.load) {
        Ok(false) => in_answers(scene, record),
        Ok(true) => refused(scene, record),
        Err(cause) => {
            record.void.push(cause);
            Ok(())
        }
    }
}

/// Asks [`REFUSED_TRIES`] times where nobody stands behind the proxy: some proxies try for seconds.
fn refused(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for _try in 0..REFUSED_TRIES {
        if scene.interrupt.came() {
            return Err(Error::Interrupted);
        }
        let end = ask(scene, REFUSED.path);
        *seen.entry(class(&end)).or_default() += 1;
        if let Some(reason) = wrong(REFUSED, &end) {
            record.void.push(reason);
            break; // The other tries would wait as long, and say the same.
        }
    }
    note(record, REFUSED.name, json!(seen));
    note(record, "tries", REFUSED_TRIES);
    Ok(())
}

fn in_answers(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    for fault in FAULTS {
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        let known = record.void.len();
        for _try in 0..TRIES {
            if scene.interrupt.came() {
                return Err(Error::Interrupted);
            }
            let end = ask(scene, fault.path);
            record.void.extend(wrong(*fault, &end));
            *seen.entry(class(&end)).or_default() += 1;

            let after = ask(scene, "/?s=13");
            if class(&after) != "whole" {
                let what = correct::named(&after);
                record.void.push(format!("after {}: {what}", fault.name));
            }
            if record.void.len() > known {
                break; // The other tries would wait as long, and say the same.
            }
        }
        note(record, fault.name, json!(seen));
    }
    note(record, "tries", TRIES);
    Ok(())
}

fn ask(scene: &Scene<'_>, path: &str) -> End {
    match Client::connect(scene.server.addr, PATIENCE) {
        Ok(mut client) => client.ask("GET", path),
        Err(_refused) => End::Broken,
    }
}

/// What must not be seen.
fn wrong(fault: Fault, end: &End) -> Option<String> {
    match class(end) {
        "whole" => Some(format!("{}: a part of an answer looked whole", fault.name)),
        "silent" => Some(format!("{}: the client was left waiting", fault.name)),
        _ => None,
    }
}

/// The name of an end in a record.
fn class(end: &End) -> &'static str {
    match end {
        End::Whole(answer) if answer.status < 400 => "whole",
        End::Whole(answer) if answer.status < 500 => "4xx",
        End::Whole(_) => "5xx",
        End::Broken => "broken",
        End::Garbled(_) => "garbled",
        End::Silent => "silent",
    }
}

const TRIES: u64 = 20;
const REFUSED_TRIES: u64 = 5;
/// A connection that the backend refuses.
const REFUSED: Fault = Fault {
    name: "refused",
    path: "/",
};

/// Faults in the body come after 5 of 100 bytes. A reset may overtake what was sent before it.
const FAULTS: &[Fault] = &[
    Fault {
        name: "end_in_body",
        path: "/?s=100&truncate=5",
    },
    Fault {
        name: "reset_in_body",
        path: "/?s=100&reset=5",
    },
    Fault {
        name: "end_in_chunks",
        path: "/?s=100&c=1&truncate=5",
    },
    Fault {
        name: "end_before_answer",
        path: "/?hangup=1",
    },
    Fault {
        name: "garbage",
        path: "/?garbage=1",
    },
];

#[cfg(test)]
mod tests {
    use super::super::client::Answer;
    use super::*;

    #[test]
    fn only_a_whole_look_and_silence_are_wrong() {
        let whole = |status| {
            End::Whole(Answer {
                status,
                ..Answer::default()
            })
        };
        for (end, expected) in [
            (whole(200), true),
            (whole(304), true),
            (whole(404), false),
            (whole(502), false),
            (End::Broken, false),
            (End::Garbled("x"), false),
            (End::Silent, true),
        ] {
            assert_eq!(wrong(FAULTS[0], &end).is_some(), expected, "{end:?}");
        }
    }
}
