//! The gate before any speed: a proxy that answers wrongly, or that does not keep a connection, is fast at something else.

use std::net::SocketAddr;
use std::time::Duration;

use super::client::{Answer, Client, End};
use super::{PATIENCE, note};
use crate::error::Error;
use crate::load::Scene;
use crate::raw::Record;

/// One request, and the answer that hp-echo gives to it through any correct proxy.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    /// Bytes that are sent and must come back.
    sent: usize,
    status: u16,
    /// Bytes of the body, of which each must be `x` where nothing was sent.
    body: usize,
}

/// Asks everything of the measured server, whose backend is hp-echo.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let failures = failures(scene.server.addr, scene.load.body_bytes, PATIENCE);
    note(record, "cases", CASES.len() + 1);
    note(record, "failures", failures.len());
    record.void.extend(failures);
    Ok(())
}

/// What is wrong with the answers of a server whose backend is hp-echo with a body of `body_bytes`; empty where nothing is.
pub fn failures(addr: SocketAddr, body_bytes: u64, patience: Duration) -> Vec<String> {
    let mut failures = Vec::new();
    for case in CASES {
        let mut case = *case;
        if case.path == "/" && case.method == "GET" {
            case.body = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        }
        let end = match Client::connect(addr, patience) {
            Ok(mut client) => ask(&mut client, case),
            Err(error) => {
                // Nothing else will go better.
                return vec![format!("correctness: {addr} cannot be reached ({error})")];
            }
        };
        failures
            .extend(judge(case, &end).map(|what| format!("correctness: {}: {what}", case.name)));
    }
    failures.extend(kept(addr, patience).map(|what| format!("correctness: keep-alive: {what}")));
    failures
}

fn ask(client: &mut Client, case: Case) -> End {
    match case.method {
        "POST" => client.post(case.path, &content(case.sent)),
        method => client.ask(method, case.path),
    }
}

/// What a body is made of when it must come back: no byte like its neighbour, so that none can be lost, doubled or swapped unseen.
fn content(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}

/// What is wrong with the end of a case, if anything is.
fn judge(case: Case, end: &End) -> Option<String> {
    let answer = match end {
        End::Whole(answer) => answer,
        End::Broken => return Some("the connection broke".into()),
        End::Garbled(what) => return Some(format!("no answer of HTTP/1.1: {what}")),
        End::Silent => return Some("no whole answer in time".into()),
    };
    let Answer { status, body, .. } = answer;
    if *status != case.status {
        return Some(format!("status {status}, not {}", case.status));
    }
    let is_right = match case.sent {
        0 => body.len() == case.body && body.iter().all(|&byte| byte == b'x'),
        sent => *body == content(sent),
    };
    if !is_right {
        let asked = case.body.max(case.sent);
        return Some(format!(
            "a body of {} bytes that is not the {asked} asked for",
            body.len()
        ));
    }
    None
}

/// Whether several requests can follow each other on one connection.
fn kept(addr: SocketAddr, patience: Duration) -> Option<String> {
    let mut client = match Client::connect(addr, patience) {
        Ok(client) => client,
        Err(error) => return Some(format!("{addr} cannot be reached ({error})")),
    };
    for at in 1..=KEPT_REQUESTS {
        match client.ask("GET", "/?s=13") {
            End::Whole(answer) if answer.status == 200 && answer.is_kept => (),
            End::Whole(answer) if answer.status == 200 => {
                return Some(format!("closed after {at} requests"));
            }
            end => return Some(format!("request {at}: {}", named(&end))),
        }
    }
    None
}

/// An end in a word or two.
pub(super) fn named(end: &End) -> String {
    match end {
        End::Whole(answer) => format!("status {}", answer.status),
        End::Broken => "the connection broke".into(),
        End::Garbled(what) => format!("no answer of HTTP/1.1: {what}"),
        End::Silent => "nothing in time".into(),
    }
}

const KEPT_REQUESTS: u32 = 20;

const CASES: &[Case] = &[
    get("the usual answer", "/", 200, 13),
    Case {
        method: "HEAD",
        ..get("HEAD", "/?s=4k", 200, 0)
    },
    get("an empty body", "/?s=0", 200, 0),
    get("64 KiB", "/?s=64k", 200, 64 << 10),
    get("1 MiB", "/?s=1m", 200, 1 << 20),
    get("100 KiB in chunks", "/?s=100k&c=1", 200, 100 << 10),
    get("a status of the backend", "/?r=404&s=5", 404, 5),
    post("an upload of a byte", 1),
    post("an upload of 1 MiB", 1 << 20),
];

const fn get(name: &'static str, path: &'static str, status: u16, body: usize) -> Case {
    Case {
        name,
        method: "GET",
        path,
        sent: 0,
        status,
        body,
    }
}

const fn post(name: &'static str, sent: usize) -> Case {
    Case {
        method: "POST",
        sent,
        ..get(name, "/", 200, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(status: u16, body: Vec<u8>) -> End {
        End::Whole(Answer {
            status,
            body,
            is_kept: true,
        })
    }

    #[test]
    fn a_right_answer_is_no_failure() {
        assert_eq!(
            judge(get("x", "/", 200, 3), &whole(200, b"xxx".to_vec())),
            None
        );
        assert_eq!(judge(post("x", 300), &whole(200, content(300))), None);
    }

    #[test]
    fn every_wrong_answer_is_one() {
        let get = get("x", "/", 200, 3);
        let mut swapped = content(300);
        swapped.swap(7, 8);
        for (case, end) in [
            (get, whole(502, b"xxx".to_vec())),
            (get, whole(200, b"xx".to_vec())),
            (get, whole(200, b"xyx".to_vec())),
            (post("x", 300), whole(200, swapped)),
            (post("x", 300), whole(200, content(299))),
            (get, End::Broken),
            (get, End::Silent),
            (get, End::Garbled("x")),
        ] {
            assert!(judge(case, &end).is_some(), "{end:?}");
        }
    }
}
