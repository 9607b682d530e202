//! Every way in which an exchange goes wrong without a clock. The rules of [`crate::scenes`] hold here, too.

use crate::scene::Scene;
use crate::scenes::{CHUNKED_OK, CHUNKED_POST, GET, HEAD_END, OK};

/// All of these.
pub(crate) fn all() -> Vec<Scene> {
    let subjects = [
        refusals(),
        refusals_after_a_beginning(),
        backends_that_leave(),
        answers_that_are_broken(),
        clients_that_leave(),
    ];
    subjects.concat()
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
            "HTTP/1.1 405 ",
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
    ]
}

fn refusals_after_a_beginning() -> Vec<Scene> {
    vec![
        Scene::new("a refused request is the last of its pipeline")
            .asks([GET, "GET / HTTP/1.1\r\n\r\n", GET].concat())
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .gets("HTTP/1.1 400 ")
            .gets_end(),
        Scene::new("a broken chunk is refused while the backend waits for the rest")
            .asks([CHUNKED_POST, "2\r\nok\r\n"].concat())
            .takes_request("ok\r\n")
            .asks("z\r\n")
            .gets("HTTP/1.1 400 ")
            .gets_end()
            .hears_end(),
    ]
}

fn backends_that_leave() -> Vec<Scene> {
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
            .takes_request(HEAD_END)
            .backend_finishes()
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("a backend that breaks off in the head is told")
            .asks(GET)
            .takes_request(HEAD_END)
            .says("HTTP/1.1 200 OK\r\nContent-")
            .backend_finishes()
            .gets("HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("a POST whose kept connection dies is not sent again")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .asks_on(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                "hello",
            )
            .backend_resets()
            .gets("HTTP/1.1 502 ")
            .gets_end(),
        Scene::new("a POST without content whose kept connection dies is not sent again")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .asks_on(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                HEAD_END,
            )
            .backend_resets()
            .gets("HTTP/1.1 502 ")
            .gets("502 Bad Gateway: "),
    ]
}

fn answers_that_are_broken() -> Vec<Scene> {
    vec![
        Scene::new("an answer that breaks off within its length is torn")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                "hello",
            )
            .backend_finishes()
            .gets_end(),
        Scene::new("an answer that breaks off within its chunks is torn")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers([CHUNKED_OK, "5\r\nhello\r\n"].concat(), "hello\r\n")
            .backend_finishes()
            .gets_end(),
        Scene::new("a reset is no end of an answer that lasts until the end")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers("HTTP/1.1 200 OK\r\n\r\nhello", "hello")
            .backend_resets()
            .gets_end(),
        Scene::new("what is no answer is told")
            .with_cuts_shown()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers("SSH-2.0-OpenSSH\r\n", "HTTP/1.1 502 ")
            .hears_end(),
        Scene::new("an answer with two lengths is told")
            .with_cuts_shown()
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
                "HTTP/1.1 502 ",
            )
            .hears_end(),
        Scene::new("a broken chunk of an answer tears it")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers([CHUNKED_OK, "2\r\nok\r\n"].concat(), "ok\r\n")
            .says("z\r\n")
            .gets_end()
            .hears_end(),
    ]
}

fn clients_that_leave() -> Vec<Scene> {
    vec![
        Scene::new("a client that has said all gets its answer")
            .asks(GET)
            .client_finishes()
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .gets_end(),
        Scene::new("a client that has said all with content gets its answer")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .client_finishes()
            .takes_request("hello")
            .answers(
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                "hello",
            )
            .answers("there", "there")
            .gets_end(),
        Scene::new("a client that ends within a head gets nothing")
            .asks("GET / HTTP/1.1\r\nHost:")
            .client_finishes()
            .gets_end(),
        Scene::new("a client that ends within its content leaves no whole request")
            .asks("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            .takes_request("hello")
            .client_finishes()
            .gets_end()
            .hears_end(),
        Scene::new("a client that ends within its chunks leaves no whole request")
            .asks([CHUNKED_POST, "5\r\nhello\r\n"].concat())
            .takes_request("hello\r\n")
            .client_finishes()
            .gets_end()
            .hears_end(),
        Scene::new("a client that resets while it waits ends the backend's work")
            .asks(GET)
            .takes_request(HEAD_END)
            .client_resets()
            .hears_end(),
        Scene::new("a client that resets in a download ends the backend's work")
            .asks(GET)
            .takes_request(HEAD_END)
            .answers(
                "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun",
                "begun",
            )
            .client_resets()
            .hears_end(),
        Scene::new("what follows the last request does not take its answer away")
            .with_cuts_shown()
            .asks("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nmore")
            .takes_request(HEAD_END)
            .answers(OK, "hi")
            .gets_end(),
    ]
}
