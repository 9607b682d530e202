//! The exchanges of `hp-core/tests/vectors/exchange`: what the proxy makes of them, message by message.

use crate::format::Vector;
use crate::record::{End, Record, Said};
use crate::scene::Scene;
use std::path::Path;

/// A vector as steps to play, and what its record must then hold.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) scene: Scene,
    to_clients: Vec<Vec<Expected>>,
    to_backends: Vec<Vec<Expected>>,
}

/// What comes next on one connection.
#[derive(Clone, Debug)]
enum Expected {
    /// Head and body.
    Message(Vec<u8>),
    Bytes(Vec<u8>),
    /// Of the proxy's own.
    Answer {
        status: String,
        reason: String,
        closes: bool,
    },
    End(End),
}

/// All vectors of exchanges.
pub(crate) fn all() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hp-core/tests/vectors/exchange");
    Vector::all(&dir).into_iter().map(Case::new).collect()
}

impl Case {
    fn new(vector: Vector) -> Self {
        let name = vector.name.clone();
        let mut case = Self {
            scene: Scene::new(name.clone().leak()),
            name,
            to_clients: vec![Vec::new()],
            to_backends: Vec::new(),
        };
        for (title, bytes) in vector.parts {
            case.add(&title, bytes);
        }
        if case.to_backends.is_empty() {
            case.scene = case.scene.without_backend();
        }
        case
    }

    fn add(&mut self, title: &str, bytes: Vec<u8>) {
        let scene = self.scene.clone();
        let awaited = Expected::of(title, &bytes);
        self.scene = match title {
            "client connects" => {
                self.to_clients.push(Vec::new());
                scene.client_opens()
            }
            "backend accepts" => {
                self.to_backends.push(Vec::new());
                scene.takes()
            }
            "client sends" => scene.asks(bytes),
            "backend says" => scene.says(bytes),
            "client finishes" => scene.client_finishes(),
            "client resets" => scene.client_resets(),
            "backend finishes" => scene.backend_finishes(),
            "backend resets" => scene.backend_resets(),
            _ => {
                let Some(awaited) = awaited else {
                    panic!("{}.http: --- {title}: no such step", self.name);
                };
                let is_client = title.starts_with("client ");
                let side = if is_client {
                    &mut self.to_clients
                } else {
                    &mut self.to_backends
                };
                let newest = side.last_mut();
                newest
                    .unwrap_or_else(|| panic!("{}.http: nobody was accepted", self.name))
                    .push(awaited.clone());
                awaited
                    .steps()
                    .into_iter()
                    .fold(scene, |scene, until| match (is_client, until) {
                        (true, Some(text)) => scene.gets(text),
                        (true, None) => scene.gets_end(),
                        (false, Some(text)) => scene.hears(text),
                        (false, None) => scene.hears_end(),
                    })
            }
        };
    }

    /// What the record has that the vector does not say, and the other way round.
    pub(crate) fn check(&self, record: &Record) -> Result<(), String> {
        let sides = [
            ("client", &self.to_clients, &record.to_clients),
            ("backend", &self.to_backends, &record.to_backends),
        ];
        for (side, expected, said) in sides {
            for (number, (expected, said)) in expected.iter().zip(said).enumerate() {
                check_conn(expected, said, side == "client")
                    .map_err(|why| format!("to {side} {number}: {why}"))?;
            }
        }
        Ok(())
    }
}

impl Expected {
    fn of(title: &str, bytes: &[u8]) -> Option<Self> {
        let answer = |closes| {
            let text = String::from_utf8_lossy(bytes);
            let (status, reason) = text.split_once(' ').expect("a status and a reason");
            Self::Answer {
                status: status.to_owned(),
                reason: reason.to_owned(),
                closes,
            }
        };
        Some(match title {
            "client gets" | "backend hears" => Self::Message(bytes.to_vec()),
            "client gets more" | "backend hears more" => Self::Bytes(bytes.to_vec()),
            "client is refused" => answer(true),
            "client is told" => answer(false),
            "client sees the end" | "backend sees the end" => Self::End(End::Finished),
            "client sees a reset" | "backend sees a reset" => Self::End(End::Reset),
            _ => return None,
        })
    }

    /// The texts to wait for, in their order; `None` is the connection's end.
    fn steps(&self) -> Vec<Option<&'static str>> {
        let leak = |bytes: &[u8]| Some(&*String::from_utf8_lossy(bytes).into_owned().leak());
        match self {
            Self::Message(message) => vec![leak(
                &message[head_len(message).saturating_sub(HEAD_END.len())..],
            )],
            Self::Bytes(bytes) => vec![leak(bytes)],
            Self::Answer { status, closes, .. } => {
                let status = leak(format!("HTTP/1.1 {status} ").as_bytes());
                let end = closes.then_some(None);
                [status, Some(HEAD_END), Some("\n")]
                    .into_iter()
                    .chain(end)
                    .collect()
            }
            Self::End(_) => vec![None],
        }
    }
}

fn check_conn(expected: &[Expected], said: &Said, is_client: bool) -> Result<(), String> {
    let mut rest = said.bytes.as_slice();
    for expected in expected {
        rest = match expected {
            Expected::Message(message) => after_message(message, rest, is_client)?,
            Expected::Bytes(bytes) => rest
                .strip_prefix(bytes.as_slice())
                .ok_or_else(|| differs(bytes, rest))?,
            Expected::Answer {
                status,
                reason,
                closes,
            } => after_answer(status, reason, *closes, rest)?,
            Expected::End(end) if said.end == *end => rest,
            Expected::End(end) => return Err(format!("the end is {:?}, not {end:?}", said.end)),
        };
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("{:?} comes besides", String::from_utf8_lossy(rest)))
    }
}

fn after_message<'a>(message: &[u8], said: &'a [u8], is_client: bool) -> Result<&'a [u8], String> {
    let (expected_head, body) = message.split_at(head_len(message));
    let (head, rest) = said.split_at(head_len(said));
    let (expected_lines, lines) = (lines_of(expected_head), lines_of(head));
    if expected_lines.first() != lines.first() {
        return Err(differs(expected_head, head));
    }
    let owned = if is_client { TO_CLIENTS } else { TO_BACKENDS };
    let name_of = |line: &str| {
        line.split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let named: Vec<String> = expected_lines
        .iter()
        .skip(1)
        .map(|line| name_of(line))
        .collect();
    let counts = |line: &&String| {
        let name = name_of(line);
        named.contains(&name) || !owned.contains(&name.as_str())
    };
    let sorted = |lines: Vec<&String>| {
        let mut sorted: Vec<String> = lines.into_iter().cloned().collect();
        sorted.sort_by_key(|line| name_of(line));
        sorted
    };
    let expected = sorted(expected_lines.iter().skip(1).collect());
    let found = sorted(lines.iter().skip(1).filter(counts).collect());
    if expected != found {
        return Err(format!("fields {found:?}, not {expected:?}"));
    }
    rest.strip_prefix(body).ok_or_else(|| differs(body, rest))
}

/// Checks an error answer of the proxy: status, reason, the length of its content, and whether it says close.
fn after_answer<'a>(
    status: &str,
    reason: &str,
    closes: bool,
    said: &'a [u8],
) -> Result<&'a [u8], String> {
    let (head, rest) = said.split_at(head_len(said));
    let lines = lines_of(head);
    let wanted = format!("details=\"{reason}\"");
    let is_right = lines
        .first()
        .is_some_and(|line| line.starts_with(&format!("HTTP/1.1 {status} ")))
        && lines
            .iter()
            .any(|line| line.starts_with("Proxy-Status: hp-proxy; ") && line.contains(&wanted))
        && lines.iter().any(|line| line == "Connection: close") == closes;
    let length = lines
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(usize::MAX);
    match rest.get(length..) {
        Some(rest) if is_right => Ok(rest),
        _ => Err(format!(
            "{:?} is no {status} {reason:?}, closing: {closes}",
            String::from_utf8_lossy(said)
        )),
    }
}

fn differs(expected: &[u8], said: &[u8]) -> String {
    let (expected, said) = (
        String::from_utf8_lossy(expected),
        String::from_utf8_lossy(said),
    );
    format!("{said:?}, not {expected:?}")
}

fn lines_of(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    text.split("\r\n")
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Length of the head, its blank line included; all of it where there is none.
fn head_len(message: &[u8]) -> usize {
    crate::record::find(message, HEAD_END.as_bytes())
        .map_or(message.len(), |at| at + HEAD_END.len())
}

const HEAD_END: &str = "\r\n\r\n";
/// Fields that the proxy adds to requests, in lower case.
const TO_BACKENDS: &[&str] = &[
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];
/// Fields that the proxy adds to answers.
const TO_CLIENTS: &[&str] = &["via", "date"];

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\nhi";

    fn check(said: &str, end: End) -> Result<(), String> {
        let expected = [
            Expected::Message(ASKED.into()),
            Expected::End(End::Finished),
        ];
        let bytes = said.as_bytes().to_vec();
        check_conn(&expected, &Said { bytes, end }, false)
    }

    #[test]
    fn fields_that_the_proxy_adds_and_the_order_of_names_are_free() {
        let said = "GET / HTTP/1.1\r\nX: 1\r\nVia: 1.1 hp-proxy\r\nX: 2\r\nHost: a\r\n\r\nhi";
        assert_eq!(check(said, End::Finished), Ok(()));
    }

    #[test]
    fn what_a_vector_does_not_say_is_told() {
        for other in [
            "GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\nhi",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 2\r\nX: 1\r\n\r\nhi",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\nhi",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nY: 3\r\n\r\nhi",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\nho",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\nhi!",
        ] {
            assert!(check(other, End::Finished).is_err(), "{other}");
        }
        assert!(check(ASKED, End::Reset).is_err());
    }

    #[test]
    fn a_refusal_has_its_status_its_reason_and_its_end() {
        let answer = |status: &str, details: &str, connection: &str| {
            let head = format!(
                "HTTP/1.1 {status} x\r\nProxy-Status: hp-proxy; error=e; details=\"{details}\"\r\n"
            );
            format!("{head}{connection}Content-Length: 2\r\n\r\nx\n").into_bytes()
        };
        let close = "Connection: close\r\n";
        assert_eq!(
            after_answer("400", "bad", true, &answer("400", "bad", close)),
            Ok(&b""[..])
        );
        for other in [
            answer("401", "bad", close),
            answer("400", "good", close),
            answer("400", "bad", ""),
        ] {
            assert!(after_answer("400", "bad", true, &other).is_err());
        }
    }
}
