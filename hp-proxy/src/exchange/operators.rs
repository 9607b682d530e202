//! What operators ask of the proxy itself, over a listener that serves nothing else.

use super::answer::{Own, Page};
use super::error::Failure;
use super::forward::answer_here;
use super::request::Request;
use super::upload::of_client;
use super::{After, Client};
use crate::admin::order::{self, Asked, BODY_BYTES_MAX, OrderError};
use crate::config::overlay::Hold;
use crate::control::{Answer, Command, Verdict};
use crate::shared::Generation;
use hp_core::http::body::BodySource;
use hp_core::wire::http1::request::RequestHead;
use serde_json::json;

/// The page that a request is for. `out` gets its request line where the main thread has to be asked.
pub(super) fn page(head: &RequestHead<'_, '_>, out: &mut Vec<u8>) -> Own {
    let page = match head.target.path() {
        "/health" | "/ready" => Page::Ready,
        "/live" => Page::Live,
        "/counters" => Page::Counters,
        _ => {
            out.extend_from_slice(head.method.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(head.target.path_and_query().as_bytes());
            Page::Asked
        }
    };
    Own::Admin(page)
}

/// Asks the main thread, and answers with what it says.
pub(super) async fn ask(
    worker: &Generation,
    client: &mut Client,
    request: &Request,
    line: &[u8],
) -> After {
    let body = match body(worker, client, request).await {
        Ok(body) => body,
        Err(Failure::BodyTooLarge) => {
            let text = refused("the content is larger than 64 KiB");
            let own = Own::Admin(Page::Told(413));
            return answer_here(worker, client, request, (&own, text.as_bytes()));
        }
        Err(failure) => {
            return match failure.answer() {
                Some(answer) => answer_here(worker, client, request, (&Own::Refusal(answer), &[])),
                None => After::Reset,
            };
        }
    };
    let line = String::from_utf8_lossy(line);
    let (page, text) = match command(&line, &body) {
        Ok(command) => match worker.shared_plan().control() {
            Some(control) => told(control.ask(command).await),
            None => (Page::Told(503), String::from("nobody is there to do it\n")),
        },
        Err(why) => why,
    };
    answer_here(
        worker,
        client,
        request,
        (&Own::Admin(page), text.as_bytes()),
    )
}

/// The content of a request, all of it.
///
/// # Errors
/// [`Failure`]: it is larger than any order, or does not come.
async fn body(
    worker: &Generation,
    client: &mut Client,
    request: &Request,
) -> Result<Vec<u8>, Failure> {
    let mut source = BodySource::from(request.facts.framing);
    let mut body = Vec::new();
    let deadline = worker.rt().now() + worker.plan().timeouts.body;
    client.conn.set_deadline(Some(deadline));
    let is_too_large =
        matches!(source, BodySource::Length(length) if length > BODY_BYTES_MAX as u64);
    if is_too_large {
        return Err(Failure::BodyTooLarge);
    }
    if request.facts.expect_continue && client.reader.is_empty() && !source.is_ended() {
        let said = client.conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        said.map_err(|_gone| Failure::ClientGone)?;
    }
    loop {
        while let Some(piece) = source
            .take_received(&mut client.reader)
            .map_err(of_client)?
        {
            body.extend_from_slice(&piece);
            if body.len() > BODY_BYTES_MAX {
                return Err(Failure::BodyTooLarge);
            }
        }
        if source.is_ended() {
            client.conn.set_deadline(None);
            return Ok(body);
        }
        let received = source.receive(&mut client.reader, &client.conn).await;
        received.map_err(of_client)?;
    }
}

/// What a request asks for.
///
/// # Errors
/// What is answered instead, and a text that says why.
fn command(line: &str, body: &[u8]) -> Result<Command, (Page, String)> {
    let told = |page: Page, why: &str| Err((page, format!("{why}\n")));
    let (method, target) = line.split_once(' ').unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    match (method, path) {
        ("POST", "/reload") => match query {
            None | Some("keep=false") => Ok(Command::Reload(Hold::UntilReload)),
            Some("keep=true") => Ok(Command::Reload(Hold::Kept)),
            Some(_) => told(Page::Told(422), "the query may be keep=true or keep=false"),
        },
        ("POST", "/upgrade") => Ok(Command::Upgrade),
        (_, "/reload" | "/upgrade") => {
            told(Page::Takes("POST"), "this changes something; use POST")
        }
        ("GET" | "HEAD", "/plan") => Ok(Command::Plan),
        ("GET" | "HEAD", "/connections") => Ok(Command::Live),
        ("GET" | "HEAD", "/upstreams") => Ok(Command::Upstreams),
        (_, "/plan" | "/connections" | "/upstreams") => {
            told(Page::Takes("GET, HEAD"), "this can only be read; use GET")
        }
        _ => {
            let asked = Asked {
                method,
                path,
                query,
                body,
            };
            let order = order::read(asked).map_err(|error| {
                let page = match error {
                    OrderError::Method(methods) => Page::Takes(methods),
                    OrderError::NoPage | OrderError::Invalid(_) => Page::Told(error.status()),
                };
                (page, refused(&error.to_string()))
            })?;
            Ok(Command::Change(order))
        }
    }
}

/// Why an order is not followed, as all of them are told it.
fn refused(why: &str) -> String {
    format!("{}\n", json!({ "error": why }))
}

fn told(answer: Answer) -> (Page, String) {
    let status = match answer.verdict {
        Verdict::Done => 200,
        Verdict::Refused => 422,
        Verdict::Missing => 404,
        Verdict::Conflict => 409,
        Verdict::Unavailable => 503,
    };
    (Page::Told(status), answer.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_no_get() {
        let kept = Command::Reload(Hold::Kept);
        for (line, asked) in [
            ("POST /reload", Command::Reload(Hold::UntilReload)),
            ("POST /reload?keep=true", kept),
            ("POST /upgrade", Command::Upgrade),
            ("GET /plan", Command::Plan),
            ("GET /upstreams", Command::Upstreams),
        ] {
            assert_eq!(command(line, b""), Ok(asked));
        }
        for (line, page) in [
            ("GET /reload", Page::Takes("POST")),
            ("GET /upgrade", Page::Takes("POST")),
            ("HEAD /reload", Page::Takes("POST")),
            ("POST /reload?keep", Page::Told(422)),
            ("POST /plan", Page::Takes("GET, HEAD")),
            ("POST /upstreams", Page::Takes("GET, HEAD")),
            ("GET /reload/", Page::Told(404)),
            (
                "GET /upstreams/web/endpoints/a:1",
                Page::Takes("DELETE, PATCH"),
            ),
            ("PATCH /upstreams/web/endpoints/a:1", Page::Told(422)),
            ("", Page::Told(404)),
        ] {
            let refused = command(line, b"").map_err(|(page, _)| page);
            assert_eq!(refused, Err(page), "{line}");
        }
    }
}
