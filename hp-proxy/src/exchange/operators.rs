//! What operators ask of the proxy itself, over a listener that serves nothing else.

use super::answer::{Own, Page};
use super::forward::answer_here;
use super::request::Request;
use super::{After, Client};
use crate::control::{Answer, Command, Verdict};
use crate::shared::Generation;
use hp_core::wire::http1::request::RequestHead;

/// The page that a request is for. `out` gets its request line where the main thread has to be asked.
pub(super) fn page(head: &RequestHead<'_, '_>, out: &mut Vec<u8>) -> Own {
    let page = match head.target.path() {
        "/health" => Page::Health,
        "/counters" => Page::Counters,
        path => {
            out.extend_from_slice(head.method.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(path.as_bytes());
            Page::Asked
        }
    };
    Own::Admin(page)
}

/// Asks the main thread, and answers with what it says.
pub(super) async fn ask(
    worker: &Generation,
    client: &Client,
    request: &Request,
    line: &[u8],
) -> After {
    let line = String::from_utf8_lossy(line);
    let (status, text) = match command(&line) {
        Ok(command) => match worker.shared_plan().control() {
            Some(control) => told(control.ask(command).await),
            None => (503, String::from("nobody is there to do it\n")),
        },
        Err((status, why)) => (status, String::from(why)),
    };
    let own = Own::Admin(Page::Told(status));
    answer_here(worker, client, request, (&own, text.as_bytes()))
}

/// What a request line asks for.
///
/// # Errors
/// A status, and a line that says why.
fn command(line: &str) -> Result<Command, (u16, &'static str)> {
    match line.split_once(' ') {
        Some(("POST", "/reload")) => Ok(Command::Reload),
        Some((_, "/reload")) => Err((405, "this changes something; use POST\n")),
        Some(("GET" | "HEAD", "/plan")) => Ok(Command::Plan),
        Some(("GET" | "HEAD", "/live")) => Ok(Command::Live),
        Some((_, "/plan" | "/live")) => Err((405, "this can only be read; use GET\n")),
        _ => Err((
            404,
            "there are /health, /counters, /plan, /live, and POST /reload\n",
        )),
    }
}

fn told(answer: Answer) -> (u16, String) {
    let status = match answer.verdict {
        Verdict::Done => 200,
        Verdict::Refused => 422,
        Verdict::Unavailable => 503,
    };
    (status, answer.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_no_get() {
        assert_eq!(command("POST /reload"), Ok(Command::Reload));
        assert_eq!(command("GET /plan"), Ok(Command::Plan));
        for (line, status) in [
            ("GET /reload", 405),
            ("HEAD /reload", 405),
            ("POST /plan", 405),
            ("GET /reload/", 404),
            ("", 404),
        ] {
            assert_eq!(command(line).map_err(|(status, _)| status), Err(status));
        }
    }
}
