//! Answers that go out together, and the head whose answer is known without reading it again.
//!
//! Must not know: tasks, time, who sent the requests.

use std::io;

use hp_core::base::units::KIB;
use hp_core::rt::net::Conn;

use crate::answer::{BodyOf, Fixed, Persistence};

/// Answers to pipelined requests, collected within one poll and written at once.
///
/// A run of equal fixed answers is only counted: mostly it is one, and goes out from where it stands.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Answers that are encoded; empty unless the run was broken.
    bytes: Vec<u8>,
    /// Fixed answers behind `bytes`.
    run: Option<Run>,
    /// Fixed answers in `bytes`.
    fixed_count: usize,
}

/// What one write sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// How many of the answers were fixed ones.
    pub(crate) fixed: u64,
    /// All bytes.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    form: Form,
    count: usize,
    answer_len: usize,
}

/// Which of the fixed answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Form {
    /// What the head says of the connection.
    pub(crate) persistence: Persistence,
    /// Whether the body follows.
    pub(crate) body: BodyOf,
}

/// The last head that got a fixed answer. The same bytes mean the same, so they are not parsed again.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// A whole head with its blank line, so that no other head can begin with it; or nothing.
    head: Vec<u8>,
    form: Option<Form>,
}

impl Batch {
    /// Whether this answer can be collected, rather than streamed.
    pub(crate) fn takes(fixed: &Fixed, form: Form) -> bool {
        whole(fixed, form).is_some()
    }

    /// Whether to write before more is collected.
    pub(crate) fn is_full(&self) -> bool {
        let run_len = self.run.map_or(0, |run| run.count * run.answer_len);
        self.bytes.len() + run_len >= BATCH_BYTES
    }

    /// Adds a fixed answer that [`Batch::takes`].
    #[inline]
    pub(crate) fn push_fixed(&mut self, fixed: &Fixed, form: Form) {
        match &mut self.run {
            Some(run) if run.form == form => run.count += 1,
            _ => self.begin_run(fixed, form),
        }
    }

    /// The place to encode any other answer.
    pub(crate) fn bytes(&mut self, fixed: &Fixed) -> &mut Vec<u8> {
        self.end_run(fixed);
        &mut self.bytes
    }

    /// Writes all, and is empty afterwards. What goes out is counted before anybody can have seen it.
    #[inline]
    pub(crate) fn send(
        &mut self,
        fixed: &Fixed,
        conn: &Conn,
        count: impl FnOnce(Sent),
    ) -> io::Result<()> {
        if let Some(Run { form, count: 1, .. }) = self.run
            && self.bytes.is_empty()
        {
            self.run = None;
            let answer = whole(fixed, form).unwrap_or_default();
            let bytes = answer.len() as u64;
            count(Sent { fixed: 1, bytes });
            return conn.write(answer);
        }
        self.end_run(fixed);
        count(Sent {
            fixed: std::mem::take(&mut self.fixed_count) as u64,
            bytes: self.bytes.len() as u64,
        });
        let written = if self.bytes.is_empty() {
            Ok(())
        } else {
            conn.write(&self.bytes)
        };
        self.bytes.clear();
        written
    }

    fn begin_run(&mut self, fixed: &Fixed, form: Form) {
        self.end_run(fixed);
        let answer_len = whole(fixed, form).map_or(0, <[u8]>::len);
        self.run = Some(Run {
            form,
            count: 1,
            answer_len,
        });
    }

    fn end_run(&mut self, fixed: &Fixed) {
        let Some(run) = self.run.take() else { return };
        let answer = whole(fixed, run.form).unwrap_or_default();
        self.fixed_count += run.count;
        for _ in 0..run.count {
            self.bytes.extend_from_slice(answer);
        }
    }
}

impl Memo {
    /// The length of the head that `bytes` begin with, and its answer, if it is the known one.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<(usize, Form)> {
        let form = self.form?;
        bytes
            .starts_with(&self.head)
            .then_some((self.head.len(), form))
    }

    /// Keeps a whole head, unless it is long or its answer the last one of its connection.
    pub(crate) fn remember(&mut self, head: &[u8], form: Form) {
        if head.len() > MEMO_BYTES_MAX || form.persistence == Persistence::Close {
            return;
        }
        self.head.clear();
        self.head.extend_from_slice(head);
        self.form = Some(form);
    }
}

/// Head and body of a fixed answer in one; `None` for one that is streamed.
pub(crate) fn whole(fixed: &Fixed, form: Form) -> Option<&[u8]> {
    match form.body {
        BodyOf::Get => fixed.whole(form.persistence),
        BodyOf::Head => Some(fixed.head(form.persistence)),
    }
}

const BATCH_BYTES: usize = 64 * KIB;
const MEMO_BYTES_MAX: usize = 2 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Form = Form {
        persistence: Persistence::Implied,
        body: BodyOf::Get,
    };
    const HEAD: Form = Form {
        persistence: Persistence::Implied,
        body: BodyOf::Head,
    };

    #[test]
    fn answers_keep_their_order() {
        let fixed = Fixed::new(1);
        let mut batch = Batch::default();
        batch.push_fixed(&fixed, GET);
        batch.push_fixed(&fixed, GET);
        batch.push_fixed(&fixed, HEAD);
        batch.bytes(&fixed).extend_from_slice(b"other");
        batch.push_fixed(&fixed, GET);
        let (get, head) = (whole(&fixed, GET).unwrap(), whole(&fixed, HEAD).unwrap());
        assert_eq!(
            *batch.bytes(&fixed),
            [get, get, head, b"other", get].concat()
        );
    }

    #[test]
    fn batch_is_bounded() {
        let fixed = Fixed::new(1000);
        let mut batch = Batch::default();
        let mut count = 0;
        while !batch.is_full() {
            batch.push_fixed(&fixed, GET);
            count += 1;
        }
        assert!((60..=66).contains(&count), "{count}");
    }

    #[test]
    fn long_bodies_are_streamed() {
        let fixed = Fixed::new(1 << 20);
        assert!(!Batch::takes(&fixed, GET));
        assert!(Batch::takes(&fixed, HEAD));
    }

    #[test]
    fn memo_knows_a_head_by_all_its_bytes() {
        let mut memo = Memo::default();
        assert_eq!(memo.find(b""), None);
        memo.remember(b"GET / HTTP/1.1\r\n\r\n", GET);
        assert_eq!(memo.find(b"GET / HTTP/1.1\r\n\r\nGET"), Some((18, GET)));
        assert_eq!(memo.find(b"GET / HTTP/1.1\r\n\r"), None);
        assert_eq!(memo.find(b"GET / HTTP/1.0\r\n\r\n"), None);
    }

    #[test]
    fn memo_keeps_no_last_answer() {
        let mut memo = Memo::default();
        memo.remember(
            b"x",
            Form {
                persistence: Persistence::Close,
                body: BodyOf::Get,
            },
        );
        assert_eq!(memo.find(b"x"), None);
    }
}
