//! Every kind of exchange, and every way in which one goes wrong without a clock.
//!
//! Whoever ends or tears a connection does so after the other side has read what was said before: else the kernel, not the
//! proxy, would decide what arrives.

use crate::scene::Scene;

/// All scenes.
pub(crate) fn all() -> Vec<Scene> {
    let subjects = [
        plain(),
        content(),
        old_clients(),
        several_requests(),
        interim(),
        upgrades(),
        refusals(),
        backends_that_fail(),
        sides_that_leave(),
    ];
    subjects.concat()
}

fn plain() -> Vec<Scene> {
    vec![
        Scene::new("a GET is passed on and answered")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("HEAD gets the length and no content")
            .asks("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            .gets(HEAD_END),
        Scene::new("204 has no content and no length")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n")
            .gets(HEAD_END)
            .asks(GET)
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("304 has a length and no content")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n")
            .gets(HEAD_END)
            .asks(GET)
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("fields of one hop stay there")
            .asks(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Private\r\nX-Private: 1\r\nTE: gzip\r\n\
                 Keep-Alive: timeout=5\r\nVia: 1.0 before\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
            )
            .takes()
            .hears(HEAD_END)
            .says(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Inner\r\nX-Inner: 1\r\n\
                 Keep-Alive: timeout=5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nhi",
            )
            .gets("hi"),
        Scene::new("an absolute target decides the host")
            .asks("GET http://b.example:82/x?y HTTP/1.1\r\nHost: b.example:82\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a client that asks for the end gets it")
            .asks("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .gets_end(),
    ]
}

fn content() -> Vec<Scene> {
    vec![
        Scene::new("content by length goes both ways")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world")
            .takes()
            .hears("hello world")
            .says("HTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\nthere")
            .gets("there"),
        Scene::new("content without a byte is no content")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .gets(HEAD_END),
        Scene::new("content comes in pieces")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .asks("hello")
            .hears("hello")
            .asks(" world")
            .hears(" world")
            .says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            .gets("hello")
            .says("there")
            .gets("there"),
        Scene::new("chunks lose extensions and keep trailers both ways")
            .asks([CHUNKED_POST, CHUNKED].concat())
            .takes()
            .hears(TRAILERS)
            .says([CHUNKED_OK, CHUNKED].concat())
            .gets(TRAILERS),
        Scene::new("chunks come in pieces")
            .asks([CHUNKED_POST, "5\r\nhello\r\n"].concat())
            .takes()
            .hears("hello\r\n")
            .asks("1\r\n!\r\n0\r\n\r\n")
            .hears("0\r\n\r\n")
            .says([CHUNKED_OK, "5\r\nthere\r\n"].concat())
            .gets("there\r\n")
            .says("0\r\n\r\n")
            .gets("0\r\n\r\n"),
        Scene::new("what a backend ends by closing is chunked")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.0 200 OK\r\n\r\nhello world")
            .gets("world\r\n")
            .backend_finishes()
            .gets("0\r\n\r\n"),
        Scene::new("much content by length goes both ways")
            .asks(by_length("POST / HTTP/1.1\r\nHost: a\r\n"))
            .takes()
            .hears(LAST_WORDS)
            .says(by_length("HTTP/1.1 200 OK\r\n"))
            .gets(LAST_WORDS),
        Scene::new("much chunked content goes both ways")
            .with_chunks_joined()
            .asks(by_chunks(CHUNKED_POST))
            .takes()
            .hears(LAST_CHUNK)
            .says(by_chunks(CHUNKED_OK))
            .gets(LAST_CHUNK),
        Scene::new("much content until the end is chunked")
            .with_chunks_joined()
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(["HTTP/1.1 200 OK\r\n\r\n", &much()].concat())
            .gets(LAST_WORDS)
            .backend_finishes()
            .gets("0\r\n\r\n"),
    ]
}

fn old_clients() -> Vec<Scene> {
    vec![
        Scene::new("a client of HTTP/1.0 is not kept")
            .asks("GET / HTTP/1.0\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .gets_end(),
        Scene::new("a client of HTTP/1.0 is kept when it asks")
            .asks(OLD_KEPT)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .asks(OLD_KEPT)
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("chunks reach a client of HTTP/1.0 as plain bytes until the end")
            .asks(OLD_KEPT)
            .takes()
            .hears(HEAD_END)
            .says([CHUNKED_OK, CHUNKED].concat())
            .gets("hello world")
            .gets_end(),
        Scene::new("what a backend ends by closing ends so for a client of HTTP/1.0")
            .asks(OLD_KEPT)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\n\r\nhello world")
            .gets("hello world")
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
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .hears("abc")
            .says([CHUNKED_OK, CHUNKED].concat())
            .gets(TRAILERS)
            .hears(TRAILERS)
            .says(OK)
            .gets("hi")
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a connection to the backend serves one client after the other")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .client_finishes()
            .gets_end()
            .client_opens()
            .asks(GET)
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a backend that says close is asked over another connection")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
            .gets("hi")
            .hears_end()
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a kept connection that the backend has ended is replaced")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .backend_finishes()
            .hears_end()
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a GET whose kept connection dies is sent again")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .asks(GET)
            .hears(HEAD_END)
            .backend_resets()
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("a connection with bytes that nobody asked for is not used again")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says([OK, OK].concat())
            .gets("hi")
            .hears_end()
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
    ]
}

fn interim() -> Vec<Scene> {
    let expects = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n";
    vec![
        Scene::new("hints reach a client of HTTP/1.1")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(hints)
            .gets(HEAD_END)
            .says(OK)
            .gets("hi"),
        Scene::new("hints do not reach a client of HTTP/1.0")
            .asks("GET / HTTP/1.0\r\n\r\n")
            .takes()
            .hears(HEAD_END)
            .says([hints, OK].concat())
            .gets("hi")
            .gets_end(),
        Scene::new("content waits for the backend's continue")
            .asks(expects)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 100 Continue\r\n\r\n")
            .gets(HEAD_END)
            .asks("hello")
            .hears("hello")
            .says(OK)
            .gets("hi"),
        Scene::new("a refusal instead of continue ends both connections")
            .asks(expects)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
            .gets("HTTP/1.1 401 No")
            .gets_end()
            .hears_end(),
        Scene::new("an answer may come before the end of the request")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nbegun")
            .takes()
            .hears("begun")
            .says("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!")
            .gets("no!")
            .gets_end()
            .hears_end(),
    ]
}

fn upgrades() -> Vec<Scene> {
    let switch = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    vec![
        Scene::new("an upgrade becomes a tunnel until both sides have finished")
            .asks([UPGRADE, "hasty"].concat())
            .takes()
            .hears(HEAD_END)
            .says([switch, "right behind"].concat())
            .gets("right behind")
            .hears("hasty")
            .asks("GET / HTTP/1.1 is no request here\r\n\r\n")
            .hears("here\r\n\r\n")
            .says(much())
            .gets(LAST_WORDS)
            .asks("that is all")
            .client_finishes()
            .hears("that is all")
            .hears_end()
            .says("not yet")
            .gets("not yet")
            .backend_finishes()
            .gets_end(),
        Scene::new("a backend's reset goes through a tunnel")
            .asks(UPGRADE)
            .takes()
            .hears(HEAD_END)
            .says([switch, "half an"].concat())
            .gets("half an")
            .backend_resets()
            .gets_end(),
        Scene::new("a client's reset goes through a tunnel")
            .asks(UPGRADE)
            .takes()
            .hears(HEAD_END)
            .says(switch)
            .gets(HEAD_END)
            .asks("half a")
            .hears("half a")
            .client_resets()
            .hears_end(),
        Scene::new("an upgrade that is declined is an exchange like any other")
            .asks(UPGRADE)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .asks(GET)
            .hears(HEAD_END)
            .says(OK)
            .gets("hi"),
    ]
}

fn refusals() -> Vec<Scene> {
    let refused =
        |name, request: String, status| Scene::new(name).asks(request).gets(status).gets_end();
    let put = "PUT / HTTP/1.1\r\nHost: a\r\n";
    vec![
        refused(
            "a request without a host is refused",
            String::from("GET / HTTP/1.1\r\n\r\n"),
            "HTTP/1.1 400 ",
        ),
        refused(
            "what is no request is refused",
            String::from("\0\r\n\r\n"),
            "HTTP/1.1 400 ",
        ),
        refused(
            "two framings are refused",
            format!("{put}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "HTTP/1.1 400 ",
        ),
        refused(
            "a target that is too long is refused",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)),
            "HTTP/1.1 414 ",
        ),
        refused(
            "a wish that nobody knows is refused",
            format!("{put}Expect: wonders\r\nContent-Length: 1\r\n\r\nx"),
            "HTTP/1.1 417 ",
        ),
        refused(
            "a head with too many fields is refused",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: 1\r\n".repeat(200)
            ),
            "HTTP/1.1 431 ",
        ),
        refused(
            "a head that is too large is refused",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(40_000)
            ),
            "HTTP/1.1 431 ",
        ),
        refused(
            "a tunnel is refused",
            String::from("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
            "HTTP/1.1 501 ",
        ),
        refused(
            "a coding that nobody knows is refused",
            format!("{put}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            "HTTP/1.1 501 ",
        ),
        refused(
            "another version is refused",
            String::from("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            "HTTP/1.1 505 ",
        ),
        Scene::new("a refused request is the last of its pipeline")
            .asks([GET, "GET / HTTP/1.1\r\n\r\n", GET].concat())
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .gets("HTTP/1.1 400 ")
            .gets_end(),
        Scene::new("a broken chunk is refused while the backend waits for the rest")
            .asks([CHUNKED_POST, "2\r\nok\r\n"].concat())
            .takes()
            .hears("ok\r\n")
            .asks("z\r\n")
            .gets("HTTP/1.1 400 ")
            .gets_end()
            .hears_end(),
    ]
}

fn backends_that_fail() -> Vec<Scene> {
    vec![
        Scene::new("a backend that refuses is told, and the client is kept")
            .without_backend()
            .asks(GET)
            .gets("\r\n502 Bad Gateway: ")
            .gets("\n")
            .asks("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .gets(HEAD_END)
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .gets("HTTP/1.1 502 ")
            .gets_end(),
        Scene::new("a backend that ends without an answer is told")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .backend_finishes()
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("a backend that breaks off in the head is told")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-")
            .backend_finishes()
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("a POST whose kept connection dies is not sent again")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .hears("hello")
            .backend_resets()
            .gets("HTTP/1.1 502 ")
            .gets_end(),
        Scene::new("an answer that breaks off within its length is torn")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            .gets("hello")
            .backend_finishes()
            .gets_end(),
        Scene::new("an answer that breaks off within its chunks is torn")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says([CHUNKED_OK, "5\r\nhello\r\n"].concat())
            .gets("hello\r\n")
            .backend_finishes()
            .gets_end(),
        Scene::new("a reset is no end of an answer that lasts until the end")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\n\r\nhello")
            .gets("hello")
            .backend_resets()
            .gets_end(),
        Scene::new("what is no answer is told")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("SSH-2.0-OpenSSH\r\n")
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("an answer with two lengths is told")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi")
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("a broken chunk of an answer tears it")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says([CHUNKED_OK, "2\r\nok\r\n"].concat())
            .gets("ok\r\n")
            .says("z\r\n")
            .gets_end()
            .hears_end(),
    ]
}

fn sides_that_leave() -> Vec<Scene> {
    vec![
        Scene::new("a client that has said all gets its answer")
            .asks(GET)
            .client_finishes()
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .gets_end(),
        Scene::new("a client that has said all with content gets its answer")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .client_finishes()
            .takes()
            .hears("hello")
            .says(["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "hello"].concat())
            .gets("hello")
            .says("there")
            .gets("there")
            .gets_end(),
        Scene::new("a client that ends within a head gets nothing")
            .asks("GET / HTTP/1.1\r\nHost:")
            .client_finishes()
            .gets_end(),
        Scene::new("a client that ends within its content leaves no whole request")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            .takes()
            .hears("hello")
            .client_finishes()
            .gets_end()
            .hears_end(),
        Scene::new("a client that ends within its chunks leaves no whole request")
            .asks([CHUNKED_POST, "5\r\nhello\r\n"].concat())
            .takes()
            .hears("hello\r\n")
            .client_finishes()
            .gets_end()
            .hears_end(),
        Scene::new("a client that resets while it waits ends the backend's work")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .client_resets()
            .hears_end(),
        Scene::new("a client that resets in a download ends the backend's work")
            .asks(GET)
            .takes()
            .hears(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
            .gets("begun")
            .client_resets()
            .hears_end(),
        Scene::new("what follows the last request does not take its answer away")
            .asks(
                [
                    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                    "more",
                ]
                .concat(),
            )
            .takes()
            .hears(HEAD_END)
            .says(OK)
            .gets("hi")
            .gets_end(),
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

const GET: &str = "GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OLD_KEPT: &str = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
const CHUNKED_POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const CHUNKED_OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED: &str = "5;x=\"y\"\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n";
const HEAD_END: &str = "\r\n\r\n";
const TRAILERS: &str = "0\r\nX-Sum: 7\r\n\r\n";
const LAST_WORDS: &str = "the end";
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";
