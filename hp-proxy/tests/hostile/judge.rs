//! What must hold of a run: what the proxy has sent means the same to every reader, and is what the other side has said.

use super::play::{Heard, Played, Record, requests};
use super::script::Script;
use hp_oracle::reading::{End, Message, Reading};
use hp_oracle::{sloppy, strict};

/// Judges both sides.
///
/// # Errors
/// What does not hold.
pub(super) fn judge(script: &Script, record: &Record) -> Result<Played, String> {
    let clients: Vec<Reading<'_>> = script.clients.iter().map(|bytes| requests(bytes)).collect();
    let said: Vec<&Message<'_>> = clients.iter().flat_map(|client| &client.messages).collect();
    let mut played = Played::default();
    for heard in &record.backends {
        played.forwarded += judge_backend(heard, &said)?;
    }
    for (got, client) in record.clients.iter().zip(&clients) {
        played.exchanges += judge_client(got, client, record)?;
    }
    Ok(played)
}

/// What a backend got on one connection, in the order in which clients have said it.
fn judge_backend(heard: &Heard, said: &[&Message<'_>]) -> Result<u64, String> {
    let bytes = &heard.bytes[..heard.tunnel_from.unwrap_or(heard.bytes.len())];
    let told = || format!("a backend got {}", bytes.escape_ascii());
    let read = requests(bytes);
    if !matches!(read.end, End::Between | End::InBody) {
        return Err(format!(
            "{}, which the strict reader takes for {read:?}",
            told()
        ));
    }
    let longest = script_length(bytes);
    for reader in sloppy::READERS
        .iter()
        .filter(|reader| reader.can_count(longest))
    {
        let other = reader.requests(bytes);
        if other != read {
            return Err(format!(
                "{}, which is {read:?}, but \"{}\" takes it for {other:?}",
                told(),
                reader.name
            ));
        }
    }
    let mut sources = said.iter();
    for (index, message) in read.messages.iter().enumerate() {
        let is_whole = read.end == End::Between || index + 1 < read.messages.len();
        if !sources.any(|source| is_from(message, is_whole, source)) {
            return Err(format!(
                "{}, where no client has said {message:?} in this order",
                told()
            ));
        }
    }
    Ok(read.messages.len() as u64)
}

/// Whether a request that a backend got is this one of a client: method, target and content, or the beginning of content.
fn is_from(message: &Message<'_>, is_whole: bool, source: &Message<'_>) -> bool {
    let body_is = if is_whole {
        source.body == message.body
    } else {
        source.body.starts_with(&message.body)
    };
    let (sent, asked) = (message.target, source.target);
    let is_absolute = !asked.starts_with(b"/");
    let target_is = sent == asked
        || (is_absolute && asked.ends_with(sent))
        || (is_absolute && matches!(sent, b"/" | b"*"))
        || (is_absolute
            && sent
                .strip_prefix(b"/")
                .is_some_and(|query| query.starts_with(b"?") && asked.ends_with(query)));
    message.verb == source.verb && body_is && target_is
}

/// What a client got: one reading, and each answer the proxy's own or said by the backend.
fn judge_client(bytes: &[u8], client: &Reading<'_>, record: &Record) -> Result<u64, String> {
    let asked: Vec<&[u8]> = client.messages.iter().map(|message| message.verb).collect();
    let read = strict::responses(bytes, &asked);
    let told = || {
        format!(
            "a client that asked {:?} got {}",
            client.messages,
            bytes.escape_ascii()
        )
    };
    if !matches!(
        read.end,
        End::Between | End::InBody | End::UntilClose | End::Switch
    ) {
        return Err(format!(
            "{}, which the strict reader takes for {read:?}",
            told()
        ));
    }
    let longest = script_length(bytes);
    let readers = sloppy::READERS
        .iter()
        .filter(|reader| reader.can_count(longest) && !reader.is_gateway());
    for reader in readers {
        let other = reader.responses(bytes, &asked);
        let is_same = match read.end {
            End::Switch => other.messages.starts_with(&read.messages),
            _ => other == read,
        };
        if !is_same {
            return Err(format!(
                "{}, which is {read:?}, but \"{}\" takes it for {other:?}",
                told(),
                reader.name
            ));
        }
    }
    for message in &read.messages {
        // What the proxy says in a slow backend's stead has no field; what it passes on has Via.
        let is_own_continue = message.verb == b"100"
            && bytes
                .windows(CONTINUE.len())
                .any(|window| window == CONTINUE);
        if !(is_own_continue || is_own(message) || is_answer(message, record)) {
            return Err(format!(
                "{}, but no answer of the backend is {message:?}",
                told()
            ));
        }
    }
    let finals = read
        .messages
        .iter()
        .filter(|message| !message.verb.starts_with(b"1"));
    Ok(finals.count() as u64)
}

/// The proxy's own answers repeat their status; to HEAD they say nothing.
fn is_own(message: &Message<'_>) -> bool {
    let is_refusal = matches!(message.verb, [b'4' | b'5', ..]);
    is_refusal && (message.body.is_empty() || message.body.starts_with(message.verb))
        || (message.verb == b"200"
            && (message.body.is_empty() || message.body.starts_with(b"TRACE "))) // TRACE and OPTIONS that end here, by Max-Forwards.
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether the backend has said this somewhere. What it says beyond an answer may reach the next request, if that is on its way.
fn is_answer(message: &Message<'_>, record: &Record) -> bool {
    record.backends.iter().any(|heard| {
        let starts = (0..heard.said.len()).filter(|&at| heard.said[at..].starts_with(b"HTTP/1."));
        starts.into_iter().any(|at| {
            let as_get = strict::responses(&heard.said[at..], &[]);
            let as_head = strict::responses(&heard.said[at..], &[&b"HEAD"[..]]);
            let mut first = as_get
                .messages
                .first()
                .into_iter()
                .chain(as_head.messages.first());
            first.any(|said| said.verb == message.verb && said.body.starts_with(&message.body))
        })
    })
}

/// The largest number in the bytes: a length that one of the readers may not be able to count.
fn script_length(bytes: &[u8]) -> u64 {
    let numbers = bytes.split(|byte| !byte.is_ascii_digit());
    let long = numbers.filter(|number| number.len() > 9);
    let value = |number: &[u8]| {
        std::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse().ok())
    };
    long.map(|number| value(number).unwrap_or(u64::MAX))
        .max()
        .unwrap_or(0)
}
