//! Messages that nobody may take, each with the verdict that the proxy owes it: requests of clients, answers of backends, and
//! broken chunks of both.

use hp_core::wire::http1::head::HeadLimits;
use hp_proxy::exchange::answers::Said;

/// What the proxy has to say of a message; the rest of its answer follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// 4xx or 5xx.
    pub(crate) status: u16,
    /// The `details` in Proxy-Status.
    pub(crate) details: &'static str,
}

impl From<Said> for Verdict {
    fn from(said: Said) -> Self {
        Self {
            status: said.status,
            details: said.details,
        }
    }
}

/// What a message must outgrow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) head: HeadLimits,
    /// Of a request; 0: no limit.
    pub(crate) body_bytes_max: usize,
    /// It takes no HTTP/1.0, and no underscore in the name of a field.
    pub(crate) is_strict: bool,
    /// Its routes look at hosts, and take two of them.
    pub(crate) has_routes: bool,
}

/// A message, by the number of its request.
type Text = fn(u64, Bounds) -> String;
/// The status, the details, and a request that deserves them.
type RequestHead = (u16, &'static str, Text);
/// The status for a request, the details, and what breaks the content.
type Chunk = (u16, &'static str, fn() -> String);

/// A bad request's head, and content where it needs some.
pub(crate) fn request_head(index: usize, id: u64, bounds: Bounds) -> (Verdict, String) {
    let always = REQUEST_HEADS.iter();
    let large = LARGE_HEADS.iter().filter(|_| bounds.body_bytes_max > 0);
    let strict = STRICT_HEADS.iter().filter(|_| bounds.is_strict);
    let routed = ROUTED_HEADS.iter().filter(|_| bounds.has_routes);
    let menu: Vec<&RequestHead> = always.chain(large).chain(strict).chain(routed).collect();
    let (status, details, text) = *menu[index % menu.len()];
    (Verdict { status, details }, text(id, bounds))
}

/// A request that the proxy answers itself with 200, and the content of that answer: a TRACE comes back as it was.
pub(crate) fn last_hop(index: usize, id: u64) -> (String, String) {
    let rest = "HTTP/1.1\r\nHost: sim\r\nMax-Forwards: 0\r\n\r\n";
    let trace = format!("TRACE /{id} {rest}");
    match index % 2 {
        0 => (format!("OPTIONS /{id} {rest}"), String::new()),
        _ => (trace.clone(), trace),
    }
}

/// The head of a bad answer; every one is answered 502.
pub(crate) fn answer_head(index: usize, id: u64, bounds: Bounds) -> (Verdict, String) {
    let (details, text) = ANSWER_HEADS[index % ANSWER_HEADS.len()];
    let status = 502;
    (Verdict { status, details }, text(id, bounds))
}

/// What breaks chunked content; the status is that for a request.
pub(crate) fn chunks(index: usize) -> (Verdict, String) {
    let (status, details, text) = CHUNKS[index % CHUNKS.len()];
    (Verdict { status, details }, text())
}

/// The details of every broken chunk.
pub(crate) fn chunk_details() -> impl Iterator<Item = &'static str> {
    CHUNKS.iter().map(|(_status, details, _text)| *details)
}

/// Says whether the details are those of an answer's bad head.
pub(crate) fn blames_answer_head(verdict: Verdict) -> bool {
    let mut all = ANSWER_HEADS.iter();
    verdict.status == 502 && all.any(|(details, _text)| *details == verdict.details)
}

/// Says whether the request itself is blamed, and not when it came.
pub(crate) fn blames_request(verdict: Verdict) -> bool {
    let head = [
        &REQUEST_HEADS[..],
        &LARGE_HEADS,
        &STRICT_HEADS,
        &ROUTED_HEADS,
    ];
    let head = head
        .into_iter()
        .flatten()
        .map(|(status, details, _)| (*status, *details));
    let chunks = CHUNKS
        .iter()
        .map(|(status, details, _)| (*status, *details));
    let mut all = head.chain(chunks);
    all.any(|entry| entry == (verdict.status, verdict.details))
}

/// Says whether the client is blamed for being late.
pub(crate) fn blames_time(verdict: Verdict) -> bool {
    verdict.status == 408
}

pub(crate) const TOO_LARGE: Verdict = Verdict {
    status: 413,
    details: "the request's content is too large",
};

pub(crate) const INTERIM_STORM: &str = "the backend sent too many interim answers";

/// How a request with a good target and some fields reads.
fn asks(id: u64, fields: &str) -> String {
    format!("GET /{id} HTTP/1.1\r\nHost: sim\r\n{fields}\r\n")
}

fn posts(id: u64, fields: &str) -> String {
    format!("POST /{id} HTTP/1.1\r\nHost: sim\r\n{fields}\r\n0\r\n\r\n")
}

fn answers(id: u64, fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\n{fields}\r\n")
}

fn fields(count: u16) -> String {
    "A: b\r\n".repeat(usize::from(count))
}

fn longer(than: u32) -> String {
    "x".repeat(usize::try_from(than).unwrap_or_default() + 1)
}

const REQUEST_HEADS: [RequestHead; 32] = [
    (400, "leading_empty_lines", |id, _| {
        format!("\r\n\r\n{}", asks(id, ""))
    }),
    (400, "bad_method", |id, _| {
        format!("G(T /{id} HTTP/1.1\r\nHost: sim\r\n\r\n")
    }),
    (501, "method_too_long", |id, _| {
        format!("{} /{id} HTTP/1.1\r\nHost: sim\r\n\r\n", "M".repeat(65))
    }),
    (400, "bad_target", |id, _| {
        format!("GET {id} HTTP/1.1\r\nHost: sim\r\n\r\n")
    }),
    (414, "uri_too_long", |id, bounds| {
        let query = longer(bounds.head.line_bytes_max);
        format!("GET /{id}?{query} HTTP/1.1\r\nHost: sim\r\n\r\n")
    }),
    (400, "bad_version", |id, _| {
        format!("GET /{id} HTTQ/1.1\r\nHost: sim\r\n\r\n")
    }),
    (505, "unsupported_version", |id, _| {
        format!("GET /{id} HTTP/2.0\r\nHost: sim\r\n\r\n")
    }),
    (400, "bare_lf", |id, _| asks(id, "A: b\n")),
    (400, "bad_line_end", |id, _| format!("\r{}", asks(id, ""))),
    (400, "bad_field_name", |id, _| asks(id, "A : b\r\n")),
    (400, "bad_field_value", |id, _| asks(id, "A: b\u{1}c\r\n")),
    (431, "too_many_fields", |id, bounds| {
        asks(id, &fields(bounds.head.fields_max))
    }),
    (431, "head_too_large", |id, bounds| {
        let value = longer(bounds.head.head_bytes_max);
        asks(id, &format!("A: {value}\r\n"))
    }),
    (400, "bad_connection_option", |id, _| {
        asks(id, "Connection: a b\r\n")
    }),
    (431, "too_many_connection_options", |id, _| {
        asks(id, &format!("Connection: {}a\r\n", "a,".repeat(64)))
    }),
    (400, "missing_host", |id, _| {
        format!("GET /{id} HTTP/1.1\r\nA: b\r\n\r\n")
    }),
    (400, "repeated_host", |id, _| asks(id, "Host: sim\r\n")),
    (400, "bad_host", |id, _| {
        format!("GET /{id} HTTP/1.1\r\nHost: a/b\r\n\r\n")
    }),
    (400, "host_disagrees_with_target", |id, _| {
        format!("GET http://other/{id} HTTP/1.1\r\nHost: sim\r\n\r\n")
    }),
    (400, "bad_content_length", |id, _| {
        posts(id, "Content-Length: +5\r\n")
    }),
    (400, "repeated_content_length", |id, _| {
        posts(id, "Content-Length: 5\r\nContent-Length: 5\r\n")
    }),
    (400, "content_length_and_transfer_encoding", |id, _| {
        let lengths = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        posts(id, lengths)
    }),
    (400, "transfer_encoding_on_http10", |id, _| {
        let coding = "Transfer-Encoding: chunked\r\n";
        format!("POST /{id} HTTP/1.0\r\nHost: sim\r\n{coding}\r\n0\r\n\r\n")
    }),
    (400, "bad_transfer_encoding", |id, _| {
        posts(id, "Transfer-Encoding: chunked, chunked\r\n")
    }),
    (501, "unsupported_transfer_coding", |id, _| {
        posts(id, "Transfer-Encoding: gzip, chunked\r\n")
    }),
    (400, "body_forbidden", |id, _| {
        let rest = "Host: sim\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";
        format!("TRACE /{id} HTTP/1.1\r\n{rest}")
    }),
    (417, "unknown_expectation", |id, _| {
        asks(id, "Expect: miracles\r\n")
    }),
    (411, "length_required", |id, _| {
        format!("POST /{id} HTTP/1.0\r\nHost: sim\r\n\r\n")
    }),
    (400, "bad_max_forwards", |id, _| {
        format!("OPTIONS /{id} HTTP/1.1\r\nHost: sim\r\nMax-Forwards: x\r\n\r\n")
    }),
    (
        421,
        "an https target on a connection without TLS",
        |id, _| format!("GET https://sim/{id} HTTP/1.1\r\nHost: sim\r\n\r\n"),
    ),
    (502, "the request has been here before", |id, _| {
        asks(id, "Via: 1.1 hp-proxy\r\n")
    }),
    (405, "this proxy opens no tunnels", |_, _| {
        String::from("CONNECT sim:1 HTTP/1.1\r\nHost: sim:1\r\n\r\n")
    }),
];

/// Where content has a limit.
const LARGE_HEADS: [RequestHead; 1] = [(TOO_LARGE.status, TOO_LARGE.details, |id, bounds| {
    let length = bounds.body_bytes_max + 1;
    let head = format!("POST /{id} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n");
    head + &"x".repeat(length)
})];

/// Where the proxy has routes.
const ROUTED_HEADS: [RequestHead; 2] = [
    (404, "no route takes this request", |id, _| {
        format!("GET /{id} HTTP/1.1\r\nHost: nowhere\r\n\r\n")
    }),
    (503, "the route is closed for maintenance", |id, _| {
        format!("GET /x/../{id} HTTP/1.1\r\nHost: CLOSED:80\r\n\r\n")
    }),
];

/// Where the proxy is strict.
const STRICT_HEADS: [RequestHead; 2] = [
    (426, "HTTP/1.0 is not served here", |id, _| {
        format!("GET /{id} HTTP/1.0\r\nHost: sim\r\n\r\n")
    }),
    (400, "underscore_in_field_name", |id, _| {
        asks(id, "A_b: c\r\n")
    }),
];

const ANSWER_HEADS: [(&str, Text); 20] = [
    ("bad_version", |id, _| {
        format!("HTTP/2.0 200 OK\r\nX-Id: {id}\r\n\r\n")
    }),
    ("bad_status", |id, _| {
        format!("HTTP/1.1 999 OK\r\nX-Id: {id}\r\n\r\n")
    }),
    ("status_line_too_long", |id, bounds| {
        let reason = longer(bounds.head.line_bytes_max);
        format!("HTTP/1.1 200 {reason}\r\nX-Id: {id}\r\n\r\n")
    }),
    ("bare_lf", |id, _| answers(id, "A: b\n")),
    ("bad_line_end", |id, _| answers(id, "\rA: b\r\n")),
    ("bad_field_name", |id, _| answers(id, "A : b\r\n")),
    ("bad_field_value", |id, _| answers(id, "A: b\u{1}c\r\n")),
    ("too_many_fields", |id, bounds| {
        answers(id, &fields(bounds.head.fields_max))
    }),
    ("head_too_large", |id, bounds| {
        let value = longer(bounds.head.head_bytes_max);
        answers(id, &format!("A: {value}\r\n"))
    }),
    ("bad_connection_option", |id, _| {
        answers(id, "Connection: a b\r\n")
    }),
    ("too_many_connection_options", |id, _| {
        answers(id, &format!("Connection: {}a\r\n", "a,".repeat(64)))
    }),
    ("bad_content_length", |id, _| {
        answers(id, "Content-Length: +5\r\n")
    }),
    ("repeated_content_length", |id, _| {
        answers(id, "Content-Length: 0\r\nContent-Length: 0\r\n")
    }),
    ("content_length_and_transfer_encoding", |id, _| {
        let lengths = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        answers(id, lengths)
    }),
    ("transfer_encoding_on_http10", |id, _| {
        let coding = "Transfer-Encoding: chunked\r\n";
        format!("HTTP/1.0 200 OK\r\nX-Id: {id}\r\n{coding}\r\n")
    }),
    ("bad_transfer_encoding", |id, _| {
        answers(id, "Transfer-Encoding: chunked, chunked\r\n")
    }),
    ("unsupported_transfer_coding", |id, _| {
        answers(id, "Transfer-Encoding: gzip, chunked\r\n")
    }),
    ("interim_with_body", |_, _| {
        String::from("HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n")
    }),
    ("unsolicited_upgrade", |id, _| {
        format!("HTTP/1.1 101 Switching Protocols\r\nX-Id: {id}\r\n\r\n")
    }),
    (INTERIM_STORM, |id, _| {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(65);
        interim + &answers(id, "Content-Length: 0\r\n")
    }),
];

const CHUNKS: [Chunk; 7] = [
    (400, "bad_chunk_size", || String::from("x\r\n")),
    (400, "chunk_size_overflow", || {
        String::from("ffffffffffffffff0\r\n")
    }),
    (400, "bad_chunk_extension", || String::from("1;=x\r\n")),
    (400, "chunk_extension_too_long", || {
        format!("1;{}\r\n", "x".repeat(300))
    }),
    (400, "bad_chunk_line_end", || String::from("1\r\nxx\r\n")),
    (400, "bad_trailer", || String::from("0\r\nno colon\r\n\r\n")),
    (431, "trailers_too_large", || {
        format!("0\r\n{}\r\n", "A: b\r\n".repeat(65))
    }),
];
