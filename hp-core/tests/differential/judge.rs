//! Sets what the codec makes of bytes beside what the oracle makes of them, and both beside what would be sent on.
//!
//! Each judge takes any bytes and says what does not hold. Tests, the driver for volume and the fuzz targets share them.

#[path = "codec.rs"]
mod codec;

use codec::{Sent, read_requests, read_responses};
use hp_core::wire::dns::{self, Kind, Name, NotAnAnswer, Question, RECORDS_MAX, Records, Reply};
use hp_core::wire::http1::chunked::ChunkedDecoder;
use hp_core::wire::http1::head::{HeadLimits, HeadScan, HeaderScratch, Parse};
use hp_core::wire::http1::request::parse_request;
use hp_core::wire::http1::response::parse_response;
use hp_core::wire::uri::{Authority, is_path_and_query, split_absolute};
use hp_oracle::reading::{End, Message, Reading};
use hp_oracle::{sloppy, strict};

/// How many messages were judged, and how many of them the codec took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Heads and chunked bodies, taken or refused.
    pub(crate) messages: u64,
    /// Those that would be sent on.
    pub(crate) taken: u64,
}

/// What a judge finds: a count, or what does not hold.
pub(crate) type Verdict = Result<Judged, String>;

/// Says what does not hold of some bytes.
pub(crate) type Judge = fn(&[u8]) -> Verdict;

/// Every judge with its name, which is that of its fuzz target.
pub(crate) const JUDGES: [(&str, Judge); 6] = [
    ("request", requests),
    ("response", responses),
    ("chunked", chunked),
    ("cuts", cuts),
    ("uri", uri),
    ("dns", dns),
];

/// What a name server says to the questions for `a.test`: it is understood in one way, records are sorted and bounded, and an
/// answer to this question is none to another one. The identifier and the bit of a response are put in, which nobody guesses.
///
/// # Errors
/// What does not hold.
pub(crate) fn dns(bytes: &[u8]) -> Verdict {
    let mut judged = Judged::default();
    let mut message = bytes.to_vec();
    if let Some(head) = message.first_chunk_mut::<3>() {
        (head[0], head[1]) = (0x12, 0x34);
        head[2] |= 0x80;
    }
    for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
        let name = Name::parse("a.test").map_err(|bad| bad.to_string())?;
        let question = Question {
            id: 0x1234,
            name,
            kind,
        };
        judged.messages += 1;
        let read = dns::read(&message, &question);
        if read != dns::read(&message, &question) {
            return Err(format!("two readings of {kind:?}"));
        }
        let Ok(reply) = read else { continue };
        judged.taken += 1;
        let other = Question {
            id: 0x1235,
            ..question
        };
        if dns::read(&message, &other) != Err(NotAnAnswer::Foreign) {
            return Err(format!("{kind:?}: it answers another question, too"));
        }
        let Reply::Found(found) = reply else { continue };
        let (is_sorted, len) = match (&found.records, kind) {
            (Records::V4(addrs), Kind::A) => {
                (addrs.is_sorted_by(|one, other| one < other), addrs.len())
            }
            (Records::V6(addrs), Kind::Aaaa) => {
                (addrs.is_sorted_by(|one, other| one < other), addrs.len())
            }
            (Records::Services(all), Kind::Srv) => {
                (all.is_sorted_by(|one, other| one < other), all.len())
            }
            (records, kind) => return Err(format!("{records:?} for {kind:?}")),
        };
        if !is_sorted || !(1..=RECORDS_MAX).contains(&len) {
            return Err(format!("{kind:?}: {:?}", found.records));
        }
    }
    Ok(judged)
}

/// A stream of requests: what the codec takes, the strict reader takes in the same way, and what is sent on means the same to every
/// reader.
///
/// # Errors
/// What does not hold.
pub(crate) fn requests(bytes: &[u8]) -> Verdict {
    let sent = read_requests(bytes);
    check_understood(&sent, &strict::requests(bytes))?;
    check_sent(&sent, &strict::requests(&sent.bytes), |reader| {
        reader.requests(&sent.bytes)
    })?;
    Ok(count(&sent))
}

/// The same for a stream of responses, to GET and to HEAD.
///
/// # Errors
/// What does not hold.
pub(crate) fn responses(bytes: &[u8]) -> Verdict {
    let mut judged = Judged::default();
    for asked in [&[][..], &[&b"HEAD"[..]; 4]] {
        let sent = read_responses(bytes, !asked.is_empty());
        check_understood(&sent, &strict::responses(bytes, asked))?;
        let read = strict::responses(&sent.bytes, asked);
        check_sent(&sent, &read, |reader| reader.responses(&sent.bytes, asked))?;
        judged = count(&sent);
    }
    Ok(judged)
}

/// A chunked body: content, end and refusal are the oracle's, and what is sent on means the same to every reader.
///
/// # Errors
/// What does not hold.
pub(crate) fn chunked(bytes: &[u8]) -> Verdict {
    let decoded = codec::decode(&mut ChunkedDecoder::new(), &[bytes]);
    let read = strict::chunked(bytes);
    match (&decoded, &read) {
        (Ok(Some(body)), Ok((content, end))) if body.content == *content && body.end == *end => (),
        (Ok(None), Err(None)) => (),
        // The oracle sees a whole line where the codec sees the byte that spoils it.
        (Err(_), Err(_)) => (),
        (Err(why), Ok(_)) if codec::is_stricter(why) => (),
        (Ok(None), Err(Some(_))) => (),
        _ => {
            return Err(format!(
                "the codec says {decoded:?}, the strict reader {read:?}"
            ));
        }
    }
    let Ok(Some(body)) = decoded else {
        return Ok(Judged {
            messages: 1,
            taken: 0,
        });
    };
    let mut sent = Vec::new();
    codec::send_chunked(&mut sent, &body.content, &body.trailers);
    let expected = (body.content, sent.len());
    if strict::chunked(&sent).as_ref() != Ok(&expected) {
        return Err(format!(
            "the strict reader does not read back {}",
            sent.escape_ascii()
        ));
    }
    for reader in &sloppy::READERS {
        if reader.chunked(&sent).as_ref() != Some(&expected) {
            return Err(format!(
                "\"{}\" does not read back {}",
                reader.name,
                sent.escape_ascii()
            ));
        }
    }
    Ok(Judged {
        messages: 1,
        taken: 1,
    })
}

/// Wherever the bytes are cut, heads and chunked bodies get the same answer.
///
/// # Errors
/// What does not hold.
pub(crate) fn cuts(bytes: &[u8]) -> Verdict {
    let limits = HeadLimits::default();
    let request = |bytes: &[u8]| match parse_request(bytes, &limits, &mut HeaderScratch::new()) {
        Ok(Parse::Complete(head)) => Ok(Some((head.head_bytes, format!("{head:?}")))),
        Ok(Parse::Partial) => Ok(None),
        Err(error) => Err(error.reason()),
    };
    let response = |bytes: &[u8]| {
        let mut scratch = HeaderScratch::new();
        match parse_response(bytes, &limits, &mut scratch, codec::context(false)) {
            Ok(Parse::Complete(head)) => Ok(Some((head.head_bytes, format!("{head:?}")))),
            Ok(Parse::Partial) => Ok(None),
            Err(error) => Err(error.reason()),
        }
    };
    check_cuts(bytes, request).map_err(|what| format!("as a request: {what}"))?;
    check_cuts(bytes, response).map_err(|what| format!("as a response: {what}"))?;
    let whole = codec::decode(&mut ChunkedDecoder::new(), &[bytes]);
    for cut in (0..=bytes.len()).step_by(bytes.len() / CUTS_MAX + 1) {
        let (head, tail) = bytes.split_at(cut);
        let found = codec::decode(&mut ChunkedDecoder::new(), &[head, tail]);
        if found != whole {
            return Err(format!(
                "as chunks: {found:?} cut at {cut}, {whole:?} whole"
            ));
        }
    }
    let singly: Vec<&[u8]> = bytes.chunks(1).collect();
    let found = codec::decode(&mut ChunkedDecoder::new(), &singly);
    if found != whole {
        return Err(format!(
            "as chunks: {found:?} byte by byte, {whole:?} whole"
        ));
    }
    Ok(Judged {
        messages: 3,
        taken: 0,
    })
}

/// A target or an authority: the parts are where the oracle finds them, and they make up the whole.
///
/// # Errors
/// What does not hold.
pub(crate) fn uri(bytes: &[u8]) -> Verdict {
    let parsed = Authority::parse(bytes);
    let found = parsed.map(|authority| (authority.host(), authority.port()));
    let expected = strict::authority(bytes);
    if found != expected {
        return Err(format!(
            "the codec finds host and port {found:?}, the oracle {expected:?}"
        ));
    }
    let is_path = is_path_and_query(bytes);
    if is_path && !(bytes.starts_with(b"/") && bytes.iter().all(u8::is_ascii_graphic)) {
        return Err(String::from("a path with a byte that no target may have"));
    }
    let split = std::str::from_utf8(bytes).ok().and_then(split_absolute);
    if let Some((_scheme, authority, path)) = split {
        let glued = [authority.as_bytes(), path.as_bytes()].concat();
        let is_whole =
            bytes.ends_with(&glued) && bytes[..bytes.len() - glued.len()].ends_with(b"://");
        let is_path = path.is_empty() || path.starts_with(['/', '?']);
        if !is_whole || !is_path || strict::authority(authority.as_bytes()).is_none() {
            return Err(format!(
                "an absolute target falls into {authority:?} and {path:?}"
            ));
        }
    }
    let taken = u64::from(found.is_some() || is_path || split.is_some());
    Ok(Judged { messages: 1, taken })
}

/// What the codec takes, the strict reader takes, with the same parts and the same end; and the other way round, but for what the
/// codec refuses by a rule of its own.
fn check_understood(sent: &Sent<'_>, read: &Reading<'_>) -> Result<(), String> {
    let taken = &sent.understood;
    let is_switch = read.end == End::Switch;
    let pairs = taken.messages.iter().zip(&read.messages);
    let begins_alike = pairs.take(sent.whole).all(|(one, other)| {
        is_received_as(one.target, other.target)
            && (one.verb, &one.body, one.end) == (other.verb, &other.body, other.end)
    });
    let has_all = sent.whole <= read.messages.len() || is_switch;
    let is_part = |one: &Message<'_>, other: &Message<'_>| {
        one.verb == other.verb && other.body.starts_with(&one.body)
    };
    let part = taken.messages.get(sent.whole);
    let part_alike = part.is_none_or(|part| match read.messages.get(sent.whole) {
        Some(other) => is_part(part, other),
        None => is_switch,
    });
    let read_more = read.messages.len() > sent.whole + 1
        || (read.messages.len() == sent.whole + 1
            && !matches!(read.end, End::InBody | End::Refused(_)));
    let begun = read.messages.len() == taken.messages.len();
    let ends_alike = match taken.end {
        _ if is_switch => true,
        End::Refused(why) => !read_more || codec::is_stricter(why),
        // The strict reader judges a line when it ends, the codec sometimes later: with the head.
        End::InHead | End::InBody => {
            begun && (read.end == taken.end || matches!(read.end, End::Refused(_)))
        }
        End::Between | End::UntilClose => begun && read.end == taken.end,
        End::Switch => false,
    };
    if begins_alike && has_all && part_alike && ends_alike {
        return Ok(());
    }
    Err(format!(
        "the codec understands {taken:?}, the strict reader {read:?}"
    ))
}

/// What is sent on is, to the strict reader, what was understood; and to every sloppy one what it is to the strict one.
fn check_sent<'b>(
    sent: &Sent<'_>,
    read: &Reading<'_>,
    read_by: impl Fn(&sloppy::Reader) -> Reading<'b>,
) -> Result<(), String> {
    let expected = sent.understood.messages.iter();
    let is_said = expected.len() == read.messages.len()
        && expected.zip(&read.messages).all(|(one, other)| {
            is_sent_as(one.target, other.target)
                && (one.verb, &one.body) == (other.verb, &other.body)
        });
    let end = match sent.understood.end {
        _ if sent.whole < sent.understood.messages.len() => End::InBody,
        End::Switch => End::Switch,
        _ => End::Between,
    };
    if !is_said || read.end != end {
        let text = sent.bytes.escape_ascii();
        return Err(format!(
            "understood {:?}, sent {text}, which the strict reader takes for {read:?}",
            sent.understood
        ));
    }
    if sent.bytes.is_empty() {
        return Ok(());
    }
    for reader in sloppy::READERS.iter().filter(|reader| sent.is_for(reader)) {
        let other = read_by(reader);
        let is_same = match read.end {
            End::Switch => other.messages.starts_with(&read.messages),
            _ => other == *read,
        };
        if !is_same {
            let text = sent.bytes.escape_ascii();
            return Err(format!(
                "sent {text}, which is {read:?}, but \"{}\" takes it for {other:?}",
                reader.name
            ));
        }
    }
    Ok(())
}

/// What a parser says: `None` is partial.
type Parsed<T> = Result<Option<T>, &'static str>;

/// Heads are alike when each prefix is refused only if the whole is, and a whole head is found where it ends, also by the scan.
fn check_cuts<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Parsed<T>,
) -> Result<(), String> {
    let whole = parse(bytes);
    let mut scan = HeadScan::new(&HeadLimits::default());
    let mut has_scanned = false;
    for cut in (0..bytes.len()).step_by(bytes.len() / CUTS_MAX + 1) {
        let found = parse(&bytes[..cut]);
        let agrees = match &found {
            Ok(None) => true,
            Ok(Some(_)) => found == whole,
            Err(_) => whole.is_err(),
        };
        if !agrees {
            return Err(format!("{found:?} cut at {cut}, {whole:?} whole"));
        }
        has_scanned = has_scanned || scan.complete(&bytes[..cut]);
        if has_scanned && found == Ok(None) {
            return Err(format!("the scan ends at {cut}, the parser does not"));
        }
    }
    if whole.as_ref().is_ok_and(Option::is_some) && !(has_scanned || scan.complete(bytes)) {
        return Err(String::from("the scan does not find the end"));
    }
    Ok(())
}

/// Whether `raw` is a target that is understood as this path and query; an absolute one may have none.
fn is_received_as(understood: &[u8], raw: &[u8]) -> bool {
    let is_short = matches!(understood, b"/" | b"*" | b"");
    raw == understood || (!raw.starts_with(b"/") && (raw.ends_with(understood) || is_short))
}

/// Whether this path and query are sent as this target: a query alone gets its path.
fn is_sent_as(understood: &[u8], sent: &[u8]) -> bool {
    match understood {
        [b'?', ..] => sent.strip_prefix(b"/") == Some(understood),
        _ => sent == understood,
    }
}

fn count(sent: &Sent<'_>) -> Judged {
    let is_more = !matches!(
        sent.understood.end,
        End::Between | End::UntilClose | End::Switch
    );
    let taken = sent.whole as u64;
    Judged {
        messages: taken + u64::from(is_more),
        taken,
    }
}

/// Longer inputs are cut at this many places only.
const CUTS_MAX: usize = 512;
