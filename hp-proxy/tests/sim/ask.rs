//! What clients ask: as HTTP wants it, and as it does not.

use super::client::Client;
use super::hostile::{self, TOO_LARGE, Verdict};
use super::ledger::Part;
use super::message::{chunked, chunks, content_of};

/// A request as it goes out.
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) is_old: bool,
    /// What it says up the tunnel that it asks for.
    pub(crate) up: Option<Vec<u8>>,
    pub(crate) bytes: Vec<u8>,
    /// How much of it goes out before it was told to go on.
    pub(crate) expects_after: Option<usize>,
    /// What no proxy may pass on, and what it has to say.
    pub(crate) bad: Option<(Part, Verdict)>,
    /// The content of the proxy's own answer, where the request ends with it.
    pub(crate) here: Option<String>,
}

impl Client {
    /// One request, or several at once.
    pub(crate) fn asks(&self) -> Vec<Ask> {
        let depth = if self.one_in(5) { 2 + self.below(3) } else { 1 };
        let asks: Vec<Ask> = (0..depth).map(|_| self.ask(depth == 1)).collect();
        if depth > 1 {
            asks.iter().for_each(|ask| self.ledger.pipeline(ask.id));
        }
        asks
    }

    fn ask(&self, may_have_content: bool) -> Ask {
        if may_have_content && !self.is_well_behaved && self.one_in(12) {
            return self.bad_ask();
        }
        let is_old = may_have_content && !self.bounds.is_strict && self.one_in(4);
        let (method, content) = match self.below(10) {
            0 => ("HEAD", None),
            1 => ("POST", Some(0)),
            2 | 3 if may_have_content => (
                "POST",
                Some(self.chance.borrow_mut().size(self.content_bytes_max)),
            ),
            4 if may_have_content => (
                "PUT",
                Some(
                    self.chance
                        .borrow_mut()
                        .size(self.content_bytes_max.min(2000)),
                ),
            ),
            _ => ("GET", None),
        };
        let length = content.unwrap_or(0);
        let id = self.ledger.enter(method != "POST", length);
        let version = if is_old { "1.0" } else { "1.1" };
        let mut text = format!("{method} /{id} HTTP/{version}\r\nHost: sim\r\n");
        if is_old && self.one_in(2) {
            text.push_str("Connection: keep-alive\r\n");
        }
        let may_upgrade = may_have_content && !is_old && method == "GET";
        let up = (may_upgrade && self.one_in(8)).then(|| {
            let size = self.chance.borrow_mut().size(self.content_bytes_max);
            content_of(!id, size)
        });
        let expects = !is_old && length > 0 && self.one_in(4);
        if expects {
            text.push_str("Expect: 100-continue\r\n");
        }
        let content = content.map(|length| content_of(!id, length));
        let bytes = match content {
            Some(content) if !is_old && length > 0 && self.one_in(2) => {
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                let chunk_bytes = self.chance.borrow_mut().size(length);
                [text.into_bytes(), chunked(&content, chunk_bytes)].concat()
            }
            Some(content) => {
                text.push_str(&format!("Content-Length: {length}\r\n\r\n"));
                [text.into_bytes(), content].concat()
            }
            None => {
                if let Some(up) = &up {
                    let size = up.len();
                    let fields = "Connection: upgrade\r\nUpgrade: echo\r\n";
                    text.push_str(&format!("{fields}X-Up-Size: {size}\r\n"));
                }
                text.push_str("\r\n");
                text.into_bytes()
            }
        };
        let head_bytes = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        Ask {
            id,
            method,
            is_old,
            up,
            expects_after: head_bytes.filter(|_| expects).map(|at| at + 4),
            bytes,
            bad: None,
            here: None,
        }
    }

    /// A request that must be refused: after it nothing on its connection has a known meaning.
    fn bad_ask(&self) -> Ask {
        match self.below(16) {
            0..4 => return self.bad_content(),
            4 => return self.last_hop(),
            _ => (),
        }
        let id = self.ledger.enter_bad(Part::Head);
        let index = self.chance.borrow_mut().index(1024);
        let (verdict, text) = hostile::request_head(index, id, self.bounds);
        Ask {
            id,
            method: "GET",
            is_old: false,
            bytes: text.into_bytes(),
            expects_after: None,
            up: None,
            bad: Some((Part::Head, verdict)),
            here: None,
        }
    }

    /// A request that must go no further than the proxy.
    fn last_hop(&self) -> Ask {
        let id = self.ledger.enter_bad(Part::Head);
        let (text, content) = hostile::last_hop(self.chance.borrow_mut().index(1024), id);
        Ask {
            id,
            method: "OPTIONS",
            is_old: false,
            bytes: text.into_bytes(),
            up: None,
            expects_after: None,
            bad: None,
            here: Some(content),
        }
    }

    /// A request whose head is good: chunks that are none, or too many of them.
    fn bad_content(&self) -> Ask {
        let id = self.ledger.enter_bad(Part::Content);
        let most = self.bounds.body_bytes_max;
        let (verdict, size, end) = if most > 0 && self.one_in(4) {
            (TOO_LARGE, most + 1, String::from("0\r\n\r\n"))
        } else {
            // A broken chunk may have a byte of its own, and the two together must not be too large.
            let size = self.chance.borrow_mut().size(self.content_bytes_max - 1);
            let (verdict, end) = hostile::chunks(self.chance.borrow_mut().index(1024));
            (verdict, size, end)
        };
        let head =
            format!("POST /{id} HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut bytes = head.into_bytes();
        let chunk_bytes = self.chance.borrow_mut().size(size);
        bytes.extend(chunks(&content_of(!id, size), chunk_bytes));
        bytes.extend_from_slice(end.as_bytes());
        Ask {
            id,
            method: "POST",
            is_old: false,
            bytes,
            up: None,
            expects_after: None,
            bad: Some((Part::Content, verdict)),
            here: None,
        }
    }
}
