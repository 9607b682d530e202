//! Every kind of exchange; [`failures`] has those that go wrong.
//!
//! Whoever tears a connection does so after the other side has read what was said before: else the kernel, not the proxy,
//! would decide what arrives. What is waited for may not lie across chunks, whose ends nobody promises.

use crate::failures;
use crate::scene::Scene;

/// All scenes.
pub(crate) fn all() -> Vec<Scene> {
    let subjects = [
        plain(),
        content(),
        much_content(),
        old_clients(),
        several_requests(),
        unasked(),
        interim(),
        upgrades(),
    ];
    let mut scenes = subjects.concat();
    scenes.extend(failures::all());
    scenes
}

fn plain() -> Vec<Scene> {
    vec![
        Scene::new("a GET is passed on and answered")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("HEAD gets the length and no content")
            .asks("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", HEAD_END),
        Scene::new("204 has no content and no length")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", HEAD_END)
            .asks_on(GET, HEAD_END)
            .answers(OK, "hi"),
        Scene::new("304 has a length and no content")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n",
                HEAD_END,
            )
            .asks_on(GET, HEAD_END)
            .answers(OK, "hi"),
        Scene::new("fields of one hop stay there")
            .asks(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Private\r\nX-Private: 1\r\nTE: gzip\r\n\
                 Keep-Alive: timeout=5\r\nVia: 1.0 before\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
            )
            .takes_request(HEAD_END)
            .says(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Inner\r\nX-Inner: 1\r\n\
                 Keep-Alive: timeout=5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nhi",
            )
            .gets("hi"),
        Scene::new("an absolute target decides the host")
            .asks("GET http://b.example:82/x?y HTTP/1.1\r\nHost: b.example:82\r\n\r\n")
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a client that asks for the end gets it")
            .asks("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .gets_end(),
    ]
}

fn content() -> Vec<Scene> {
    vec![
        Scene::new("content by length goes both ways")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world")
            .takes_request("hello world")
            .answers(
                "HTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\nthere",
                "there",
            ),
        Scene::new("content without a byte is no content")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", HEAD_END),
        Scene::new("content comes in pieces")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
            .takes_request(HEAD_END)
            .asks_on("hello", "hello")
            .asks_on(" world", " world")
            .answers(
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                "hello",
            )
            .answers("there", "there"),
        Scene::new("chunks lose extensions and keep trailers both ways")
            .asks([CHUNKED_POST, CHUNKED].concat())
            .takes_request(TRAILERS)
            .answers([CHUNKED_OK, CHUNKED].concat(), TRAILERS),
        Scene::new("chunks come in pieces")
            .asks([CHUNKED_POST, "5\r\nhello\r\n"].concat())
            .takes_request("hello\r\n")
            .asks_on("1\r\n!\r\n0\r\n\r\n", "0\r\n\r\n")
            .answers([CHUNKED_OK, "5\r\nthere\r\n"].concat(), "there\r\n")
            .answers("0\r\n\r\n", "0\r\n\r\n"),
        Scene::new("what a backend ends by closing is chunked")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers("HTTP/1.0 200 OK\r\n\r\nhello world", "world\r\n")
            .backend_finishes()
            .gets("0\r\n\r\n"),
    ]
}

fn much_content() -> Vec<Scene> {
    vec![
        Scene::new("much content by length goes both ways")
            .asks(by_length("POST / HTTP/1.1\r\nHost: a\r\n"))
            .takes_request(LAST_WORDS)
            .answers(by_length("HTTP/1.1 200 OK\r\n"), LAST_WORDS),
        Scene::new("much chunked content goes both ways")
            .with_chunks_joined()
            .asks(by_chunks(CHUNKED_POST))
            .takes_request(LAST_CHUNK)
            .answers(by_chunks(CHUNKED_OK), LAST_CHUNK),
        Scene::new("much content until the end is chunked")
            .with_chunks_joined()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(["HTTP/1.1 200 OK\r\n\r\n", &much()].concat(), LAST_LINES)
            .backend_finishes()
            .gets(LAST_CHUNK),
    ]
}

fn old_clients() -> Vec<Scene> {
    vec![
        Scene::new("a client of HTTP/1.0 is not kept")
            .asks("GET / HTTP/1.0\r\n\r\n")
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .gets_end(),
        Scene::new("a client of HTTP/1.0 is kept when it asks")
            .asks(OLD_KEPT)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .asks_on(OLD_KEPT, HEAD_END)
            .answers(OK, "hi"),
        Scene::new("chunks reach a client of HTTP/1.0 as plain bytes until the end")
            .asks(OLD_KEPT)
            .takes_request(HEAD_END)
            .answers([CHUNKED_OK, CHUNKED].concat(), "hello world")
            .gets_end(),
        Scene::new("what a backend ends by closing ends so for a client of HTTP/1.0")
            .asks(OLD_KEPT)
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 200 OK\r\n\r\nhello world", "hello world")
            .backend_finishes()
            .gets_end(),
    ]
}

fn several_requests() -> Vec<Scene> {
    let put = "PUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let pipelined = [GET, put, CHUNKED_POST, CHUNKED, GET].concat();
    vec![
        Scene::new("pipelined requests are answered in order")
            .asks(pipelined)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .hears("abc")
            .answers([CHUNKED_OK, CHUNKED].concat(), TRAILERS)
            .hears(TRAILERS)
            .answers(OK, "hi")
            .hears(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a connection to the backend serves one client after the other")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .client_finishes()
            .gets_end()
            .client_opens()
            .asks_on(GET, HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a backend that says close is asked over another connection")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
                "hi",
            )
            .hears_end()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a kept connection that the backend has ended is replaced")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .backend_finishes()
            .hears_end()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a GET whose kept connection dies is sent again")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .asks_on(GET, HEAD_END)
            .backend_resets()
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
    ]
}

/// What a backend says and nobody asked for.
fn unasked() -> Vec<Scene> {
    vec![
        Scene::new("content behind an answer to HEAD ends its connection")
            .with_cuts_shown()
            .asks("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .takes_request(HEAD_END)
            .answers(OK, HEAD_END)
            .hears_end()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("content behind 304 ends its connection")
            .with_cuts_shown()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nhi",
                HEAD_END,
            )
            .hears_end()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
        Scene::new("a connection with bytes that nobody asked for is not used again")
            .with_cuts_shown()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers([OK, OK].concat(), "hi")
            .hears_end()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi"),
    ]
}

fn interim() -> Vec<Scene> {
    let expects = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n";
    vec![
        Scene::new("hints reach a client of HTTP/1.1")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(hints, HEAD_END)
            .answers(OK, "hi"),
        Scene::new("hints do not reach a client of HTTP/1.0")
            .asks("GET / HTTP/1.0\r\n\r\n")
            .takes_request(HEAD_END)
            .answers([hints, OK].concat(), "hi")
            .gets_end(),
        Scene::new("content waits for the backend's continue")
            .asks(expects)
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 100 Continue\r\n\r\n", HEAD_END)
            .asks_on("hello", "hello")
            .answers(OK, "hi"),
        Scene::new("continue is said once though the backend says it late")
            .asks(expects)
            .takes_request(HEAD_END)
            .gets("HTTP/1.1 100 Continue\r\n\r\n")
            .asks_on("hello", "hello")
            .answers(["HTTP/1.1 100 Continue\r\n\r\n", OK].concat(), "hi"),
        Scene::new("content that is on its way after a refusal is no request")
            .asks(expects)
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", HEAD_END)
            .asks(GET)
            .gets_end()
            .hears_end(),
        Scene::new("a refusal instead of continue ends both connections")
            .asks(expects)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 401 No",
            )
            .gets_end()
            .hears_end(),
        Scene::new("an answer may come before the end of the request")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun")
            .takes_request("begun")
            .answers("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!", "no!")
            .gets_end()
            .hears_end(),
    ]
}

fn upgrades() -> Vec<Scene> {
    let switch = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    vec![
        Scene::new("an upgrade becomes a tunnel until both sides have finished")
            .asks([UPGRADE, "hasty"].concat())
            .takes_request(HEAD_END)
            .answers([switch, "right behind"].concat(), "right behind")
            .hears("hasty")
            .asks_on("GET / HTTP/1.1 is no request here\r\n\r\n", "here\r\n\r\n")
            .answers(much(), LAST_WORDS)
            .asks("that is all")
            .client_finishes()
            .hears("that is all")
            .hears_end()
            .answers("not yet", "not yet")
            .backend_finishes()
            .gets_end(),
        Scene::new("a backend's reset goes through a tunnel")
            .asks(UPGRADE)
            .takes_request(HEAD_END)
            .answers([switch, "half an"].concat(), "half an")
            .backend_resets()
            .gets_end(),
        Scene::new("an upgrade that is given up is a reset")
            .asks(UPGRADE)
            .takes_request(HEAD_END)
            .client_resets()
            .hears_end(),
        Scene::new("a client's reset goes through a tunnel")
            .asks(UPGRADE)
            .takes_request(HEAD_END)
            .answers(switch, HEAD_END)
            .asks_on("half a", "half a")
            .client_resets()
            .hears_end(),
        Scene::new("an upgrade that is declined is an exchange like any other")
            .asks(UPGRADE)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .asks_on(GET, HEAD_END)
            .answers(OK, "hi"),
    ]
}

fn by_length(head: &str) -> String {
    let content = much();
    format!("{head}Content-Length: {}\r\n\r\n{content}", content.len())
}

/// In chunks of a length that no buffer has.
fn by_chunks(head: &str) -> String {
    let mut message = String::from(head);
    let content = much();
    let mut rest = content.as_str();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(7_001));
        message.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        rest = after;
    }
    message.push_str("0\r\n\r\n");
    message
}

/// More than any buffer of the proxy, no part like another, and [`LAST_WORDS`].
fn much() -> String {
    let mut text: String = (0..50_000).map(|number| format!("{number:05} ")).collect();
    text.push_str(LAST_WORDS);
    text
}

pub(crate) const GET: &str = "GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OLD_KEPT: &str = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
pub(crate) const CHUNKED_POST: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
pub(crate) const CHUNKED_OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED: &str = "5;x=\"y\"\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n";
pub(crate) const HEAD_END: &str = "\r\n\r\n";
const TRAILERS: &str = "0\r\nX-Sum: 7\r\n\r\n";
const LAST_WORDS: &str = "the end";
/// Occurs ten times near the end of [`much`]: not all of them lie across chunks.
const LAST_LINES: &str = " 4999";
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";
