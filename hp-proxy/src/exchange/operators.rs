//! What operators ask of the proxy itself, over a listener that serves nothing else.

use super::answer::{Own, Page};
use super::error::Failure;
use super::forward::answer_here;
use super::request::Request;
use super::upload::of_client;
use super::{After, Client};
use crate::admin::order::{self, Asked, BODY_BYTES_MAX};
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
        Err(failure) => {
            return match failure.answer() {
                Some(answer) => answer_here(worker, client, request, (&Own::Refusal(answer), &[])),
                None => After::Reset,
            };
        }
    };
    let line = String::from_utf8_lossy(line);
    let answer = match command(&line, &body) {
        Ok(command) => match worker.shared_plan().control() {
            Some(control) => told(control.ask(command).await),
            None => (503, String::from("nobody is there to do it\n")),
        },
        Err(why) => why,
    };
    let (status, text) = answer;
    let own = Own::Admin(Page::Told(status));
    answer_here(worker, client, request, (&own, text.as_bytes()))
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
/// A status, and a text that says why.
fn command(line: &str, body: &[u8]) -> Result<Command, (u16, String)> {
    let told = |status: u16, why: &str| Err((status, format!("{why}\n")));
    let (method, target) = line.split_once(' ').unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    match (method, path) {
        ("POST", "/reload") => match query {
            None | Some("keep=false") => Ok(Command::Reload(Hold::UntilReload)),
            Some("keep=true") => Ok(Command::Reload(Hold::Kept)),
            Some(_) => told(422, "the query may be keep=true or keep=false"),
        },
        ("POST", "/upgrade") => Ok(Command::Upgrade),
        (_, "/reload" | "/upgrade") => told(405, "this changes something; use POST"),
        ("GET" | "HEAD", "/plan") => Ok(Command::Plan),
        ("GET" | "HEAD", "/connections") => Ok(Command::Live),
        ("GET" | "HEAD", "/upstreams") => Ok(Command::Upstreams),
        (_, "/plan" | "/connections" | "/upstreams") => told(405, "this can only be read; use GET"),
        _ => {
            let asked = Asked {
                method,
                path,
                query,
                body,
            };
            let order = order::read(asked).map_err(|error| {
                let text = format!("{}\n", json!({ "error": error.to_string() }));
                (error.status(), text)
            })?;
            Ok(Command::Change(order))
        }
    }
}

fn told(answer: Answer) -> (u16, String) {
    let status = match answer.verdict {
        Verdict::Done => 200,
        Verdict::Refused => 422,
        Verdict::Missing => 404,
        Verdict::Conflict => 409,
        Verdict::Unavailable => 503,
    };
    (status, answer.text)
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
        for (line, status) in [
            ("GET /reload", 405),
            ("GET /upgrade", 405),
            ("HEAD /reload", 405),
            ("POST /reload?keep", 422),
            ("POST /plan", 405),
            ("POST /upstreams", 405),
            ("GET /reload/", 404),
            ("GET /upstreams/web/endpoints/a:1", 405),
            ("PATCH /upstreams/web/endpoints/a:1", 422),
            ("", 404),
        ] {
            let refused = command(line, b"").map_err(|(status, _)| status);
            assert_eq!(refused, Err(status), "{line}");
        }
    }
}
