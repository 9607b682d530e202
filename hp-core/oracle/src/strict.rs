//! HTTP/1.1 by the letter: what RFC 9112 lets a recipient refuse is refused.

use crate::reading::{End, Extent, Message, Reading, Step, is_bodiless, take};
use crate::text::{is_tchar, trimmed};
use std::borrow::Cow;

/// Reads a stream of requests, one empty line before each allowed. RFC 9112 §2.2, §3, §6.
#[must_use]
pub fn requests(bytes: &[u8]) -> Reading<'_> {
    let mut messages = Vec::new();
    let mut at = 0;
    let end = loop {
        if at == bytes.len() {
            break End::Between;
        }
        let begin = if bytes[at..].starts_with(b"\r\n") {
            at + 2
        } else {
            at
        };
        let head = match head(bytes, begin) {
            Ok(Some(head)) => head,
            Ok(None) => break End::InHead,
            Err(why) => break End::Refused(why),
        };
        let ((verb, target), extent) = match request_meaning(&head) {
            Ok(meaning) => meaning,
            Err(why) => break End::Refused(why),
        };
        let message = |body, end| Message {
            verb,
            target,
            body,
            end,
        };
        match content(bytes, head.end, extent) {
            Content::Whole(body, end) => messages.push(message(body, end)),
            Content::Short(body) => {
                messages.push(message(body, bytes.len()));
                break End::InBody;
            }
            Content::Refused(body, why) => {
                messages.push(message(body, bytes.len()));
                break End::Refused(why);
            }
        }
        at = messages.last().map_or(bytes.len(), |message| message.end);
        if asks_to_switch(&head) {
            break End::Switch;
        }
    };
    Reading { messages, end }
}

/// Reads a stream of responses; `asked` has the methods of their requests, GET where it ends. Interim ones answer none.
///
/// RFC 9112 §4, §6.3; RFC 9110 §15.2.
#[must_use]
pub fn responses<'b>(bytes: &'b [u8], asked: &[&[u8]]) -> Reading<'b> {
    let mut messages = Vec::new();
    let mut asked = asked.iter().copied();
    let mut next = asked.next().unwrap_or(b"GET");
    let mut at = 0;
    let end = loop {
        if at == bytes.len() {
            break End::Between;
        }
        let head = match head(bytes, at) {
            Ok(Some(head)) => head,
            Ok(None) => break End::InHead,
            Err(why) => break End::Refused(why),
        };
        let (verb, extent) = match response_meaning(&head, next) {
            Ok(meaning) => meaning,
            Err(why) => break End::Refused(why),
        };
        let message = |body, end| Message {
            verb,
            target: b"",
            body,
            end,
        };
        match content(bytes, head.end, extent) {
            Content::Whole(body, end) => messages.push(message(body, end)),
            Content::Short(body) => {
                messages.push(message(body, bytes.len()));
                break End::InBody;
            }
            Content::Refused(body, why) => {
                messages.push(message(body, bytes.len()));
                break End::Refused(why);
            }
        }
        at = messages.last().map_or(bytes.len(), |message| message.end);
        if extent == Extent::UntilClose {
            break End::UntilClose;
        }
        if verb == b"101" || (next == b"CONNECT" && verb.starts_with(b"2")) {
            break End::Switch;
        }
        if !verb.starts_with(b"1") {
            next = asked.next().unwrap_or(b"GET");
        }
    };
    Reading { messages, end }
}

/// Reads one chunked body from the beginning of a stream: its content, and where it ends. RFC 9112 §7.1.
///
/// # Errors
/// Why it is none; `None` when the stream ends before it does.
pub fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, usize), Option<&'static str>> {
    match chunked_content(bytes, 0) {
        Content::Whole(body, end) => Ok((body.into_owned(), end)),
        Content::Short(_) => Err(None),
        Content::Refused(_, why) => Err(Some(why)),
    }
}

/// Splits `host [":" port]` without userinfo. RFC 3986 §3.2, RFC 9110 §4.2.1 and §4.2.4.
#[must_use]
pub fn authority(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = match text.iter().position(|&byte| byte == b']') {
        Some(close) if text.starts_with(b"[") => {
            let inner = std::str::from_utf8(&text[1..close]).ok()?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            close + 1
        }
        _ => {
            let end = text
                .iter()
                .position(|&byte| byte == b':')
                .unwrap_or(text.len());
            is_reg_name(&text[..end]).then_some(end)?
        }
    };
    let (host, rest) = text.split_at(host_end);
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] => Some(u16::try_from(number(digits)?).ok()?),
        _ => return None,
    };
    Some((host, port))
}

/// The lines of a head, their CRLF removed.
struct Head<'b> {
    start: &'b [u8],
    fields: Vec<(&'b [u8], &'b [u8])>,
    /// Behind the blank line.
    end: usize,
}

impl<'b> Head<'b> {
    fn all(&self, name: &str) -> Vec<&'b [u8]> {
        let named = |field: &&(&'b [u8], &'b [u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields
            .iter()
            .filter(named)
            .map(|field| field.1)
            .collect()
    }
}

enum Content<'b> {
    Whole(Cow<'b, [u8]>, usize),
    Short(Cow<'b, [u8]>),
    Refused(Cow<'b, [u8]>, &'static str),
}

/// `None` when the stream ends before the head does.
fn head(bytes: &[u8], begin: usize) -> Result<Option<Head<'_>>, &'static str> {
    let Some((start, mut at)) = line(bytes, begin)? else {
        return Ok(None);
    };
    let mut fields = Vec::new();
    loop {
        let Some((text, end)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = end;
        if text.is_empty() {
            return Ok(Some(Head { start, fields, end }));
        }
        fields.push(field(text)?);
    }
}

/// The line that begins at `at`, and where the next one does. RFC 9112 §2.2: only CRLF ends a line.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let rest = &bytes[at..];
    let Some(found) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return Ok(None);
    };
    match (rest[found], rest.get(found + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some((&rest[..found], at + found + 2))),
        (b'\r', None) => Ok(None),
        (b'\r', Some(_)) => Err("a CR without LF"),
        _ => Err("an LF without CR"),
    }
}

/// `field-name ":" OWS field-value OWS`. RFC 9112 §5.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or("a field without colon")?;
    let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
    if !is_token(name) {
        return Err("a field name that is no token");
    }
    if !value.iter().all(|&byte| is_text(byte)) {
        return Err("a control byte in a field value");
    }
    Ok((name, value))
}

type RequestMeaning<'b> = ((&'b [u8], &'b [u8]), Extent);

fn request_meaning<'b>(head: &Head<'b>) -> Result<RequestMeaning<'b>, &'static str> {
    let words: Vec<&[u8]> = head.start.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err("a request line that is not three words");
    };
    if !is_token(method) {
        return Err("a method that is no token");
    }
    if !is_target(method, target) {
        return Err("a target of no form");
    }
    let is_old = is_old(version)?;
    match head.all("Host")[..] {
        [] if is_old => (),
        [host] if authority(host).is_some() => (),
        _ => return Err("not exactly one valid Host"),
    }
    let extent = declared(head, is_old)?;
    Ok(((method, target), extent.unwrap_or(Extent::None)))
}

fn response_meaning<'b>(head: &Head<'b>, asked: &[u8]) -> Result<(&'b [u8], Extent), &'static str> {
    let mut words = head.start.splitn(3, |&byte| byte == b' ');
    let is_old = is_old(words.next().unwrap_or_default())?;
    let status = words.next().unwrap_or_default();
    if !matches!(status, [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
        return Err("a status that is none");
    }
    if !words
        .next()
        .unwrap_or_default()
        .iter()
        .all(|&byte| is_text(byte))
    {
        return Err("a control byte in a reason");
    }
    if asked == b"CONNECT" && status.starts_with(b"2") {
        return Ok((status, Extent::None)); // RFC 9110 §9.3.6: its lengths are ignored.
    }
    let extent = declared(head, is_old)?;
    Ok(if is_bodiless(status, asked) {
        (status, Extent::None)
    } else {
        (status, extent.unwrap_or(Extent::UntilClose))
    })
}

/// What Content-Length and Transfer-Encoding say; `None` when neither is there. RFC 9112 §6.1 to §6.3.
fn declared(head: &Head<'_>, is_old: bool) -> Result<Option<Extent>, &'static str> {
    let (lengths, codings) = (head.all("Content-Length"), head.all("Transfer-Encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) => {
            let length = number(length).ok_or("a Content-Length that is no number")?;
            Ok(Some(Extent::Length(length)))
        }
        ([], _) if is_old => Err("Transfer-Encoding in HTTP/1.0"),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Extent::Chunked)),
        ([], _) => Err("Transfer-Encoding is not chunked alone"),
        _ => Err("more than one length"),
    }
}

fn content(bytes: &[u8], at: usize, extent: Extent) -> Content<'_> {
    match extent {
        Extent::None => Content::Whole(Cow::Borrowed(&[]), at),
        Extent::UntilClose => Content::Whole(Cow::Borrowed(&bytes[at..]), bytes.len()),
        Extent::Chunked => chunked_content(bytes, at),
        Extent::Length(length) => match take(bytes, at, length) {
            Step::Whole(body) => Content::Whole(Cow::Borrowed(body), at + body.len()),
            Step::Short(body) => Content::Short(Cow::Borrowed(body)),
        },
    }
}

/// `*chunk last-chunk trailer-section CRLF`. RFC 9112 §7.1.
fn chunked_content(bytes: &[u8], mut at: usize) -> Content<'_> {
    let mut body = Vec::new();
    loop {
        let size = match line(bytes, at) {
            Ok(Some((text, end))) => {
                at = end;
                chunk_size(text)
            }
            Ok(None) => return Content::Short(Cow::Owned(body)),
            Err(why) => Err(why),
        };
        let size = match size {
            Ok(0) => break,
            Ok(size) => size,
            Err(why) => return Content::Refused(Cow::Owned(body), why),
        };
        match take(bytes, at, size) {
            Step::Whole(data) => body.extend_from_slice(data),
            Step::Short(data) => {
                body.extend_from_slice(data);
                return Content::Short(Cow::Owned(body));
            }
        }
        at = body_end(at, size);
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Content::Short(Cow::Owned(body)),
            _ => return Content::Refused(Cow::Owned(body), "a chunk longer than its size"),
        }
    }
    loop {
        match line(bytes, at) {
            Ok(Some((b"", end))) => return Content::Whole(Cow::Owned(body), end),
            Ok(Some((text, end))) => match field(text) {
                Ok(_trailer) => at = end,
                Err(why) => return Content::Refused(Cow::Owned(body), why),
            },
            Ok(None) => return Content::Short(Cow::Owned(body)),
            Err(why) => return Content::Refused(Cow::Owned(body), why),
        }
    }
}

fn body_end(at: usize, size: u64) -> usize {
    at + usize::try_from(size).unwrap_or(usize::MAX - at)
}

/// `chunk-size [ chunk-ext ]`. RFC 9112 §7.1, §7.1.1.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if !is_extension(&line[digits..]) {
        return Err("a chunk line that is no size with extensions");
    }
    let digits = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(size) if digits.len() <= 16 && size <= i64::MAX as u64 => Ok(size),
        _ => Err("a chunk size that is no number"),
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
fn is_extension(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = after_blanks(text).strip_prefix(b";") else {
            return false;
        };
        let Some(rest) = after_token(after_blanks(rest)) else {
            return false;
        };
        text = match after_blanks(rest).strip_prefix(b"=") {
            None => rest,
            Some(rest) => {
                let value = after_blanks(rest);
                match after_token(value).or_else(|| after_quoted(value)) {
                    Some(rest) => rest,
                    None => return false,
                }
            }
        };
    }
    true
}

fn after_blanks(text: &[u8]) -> &[u8] {
    let blanks = text
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    &text[blanks..]
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let len = text
        .iter()
        .take_while(|byte| is_token(std::slice::from_ref(byte)))
        .count();
    (len > 0).then(|| &text[len..])
}

fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] if is_text(*byte) => rest,
            [b'\\', ..] => return None,
            [byte, rest @ ..] if is_text(*byte) => rest,
            _ => return None,
        };
    }
}

/// RFC 9112 §3.2: the form that belongs to the method, of visible ASCII.
fn is_target(method: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return false;
    }
    if method == b"CONNECT" {
        return authority(target).is_some_and(|(_, port)| port.is_some_and(|port| port > 0));
    }
    target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") || is_absolute(target)
}

fn is_absolute(target: &[u8]) -> bool {
    let lower = target.to_ascii_lowercase();
    let Some(rest) = lower
        .strip_prefix(b"http://")
        .or_else(|| lower.strip_prefix(b"https://"))
    else {
        return false;
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    authority(&rest[..end]).is_some()
}

/// Tells 1.0 from 1.1; other versions are not ours. RFC 9112 §2.3.
fn is_old(version: &[u8]) -> Result<bool, &'static str> {
    match version {
        b"HTTP/1.0" => Ok(true),
        b"HTTP/1.1" => Ok(false),
        _ => Err("a version that is neither 1.0 nor 1.1"),
    }
}

/// RFC 9110 §7.8.
fn asks_to_switch(head: &Head<'_>) -> bool {
    let mut options = head
        .all("Connection")
        .into_iter()
        .flat_map(|value| value.split(|&byte| byte == b','));
    !head.all("Upgrade").is_empty()
        && options.any(|option| trimmed(option).eq_ignore_ascii_case(b"upgrade"))
}

/// `1*DIGIT` that a signed 64-bit number holds.
fn number(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
    text.parse().ok().filter(|&value| value <= i64::MAX as u64)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_tchar(byte))
}

/// HTAB, SP, VCHAR and obs-text.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `1*( unreserved / pct-encoded / sub-delims )`. RFC 3986 §3.2.2.
fn is_reg_name(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => tail,
            _ => return false,
        };
    }
    !text.is_empty()
}
