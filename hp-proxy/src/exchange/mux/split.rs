//! A lane's answers: one behind the other in what has come, each written for its client and sent to it at once. Nothing here waits.

use super::lane::Lane;
use super::waiting::{Lanes, Outcome, Waiting};
use crate::exchange::error::Failure;
use crate::exchange::response::{self, Delivery, Origin};
use hp_core::base::slab::Key;
use hp_core::wire::http1::framing::{RequestContext, ResponseFraming};
use hp_core::wire::http1::head::{HeaderScratch, Parse, Version};
use hp_core::wire::http1::response::{ResponseHead, parse_response};
use std::io::IoSlice;

/// Where splitting stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More has to come: the next answer is whole at so many bytes, as far as is known.
    More(usize),
    /// The next answer is not one to be split off.
    Lend,
    /// The connection is of no use any more.
    End,
}

/// What was made of the first answer.
enum First {
    /// It had so many bytes.
    Answered(usize, Next),
    Stop(Stop),
}

/// What may follow an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Answer,
    Nothing,
}

/// How far a lane's bytes went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// Bytes of whole answers.
    pub(super) used: usize,
    /// How many those were.
    pub(super) answers: u32,
    pub(super) stop: Stop,
}

impl Lane {
    /// Gives each client its answer, as far as they are whole in `bytes`. `sent`: how much of what was written to the lane the
    /// backend can have read.
    pub(super) fn split(&self, lanes: &Lanes, bytes: &[u8], sent: u64) -> Split {
        let (mut used, mut answers) = (0, 0);
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let split = |stop| Split {
                used,
                answers,
                stop,
            };
            if rest.is_empty() {
                return split(Stop::More(0));
            }
            let Some(key) = self.first() else {
                return split(Stop::End); // Nobody has asked for it.
            };
            match self.answer_first(lanes, key, (rest, sent)) {
                First::Answered(length, next) => {
                    self.pop_first();
                    used += length;
                    answers += 1;
                    if next == Next::Nothing {
                        self.note_close();
                        return Split {
                            used,
                            answers,
                            stop: Stop::End,
                        };
                    }
                }
                First::Stop(stop) => return split(stop),
            }
        }
    }

    /// Sends the first of those who wait its answer, if that is whole and small.
    fn answer_first(&self, lanes: &Lanes, key: Key, (bytes, sent): (&[u8], u64)) -> First {
        let mut waiting = lanes.waiting().borrow_mut();
        let Some(one) = waiting.get_mut(key) else {
            return First::Stop(Stop::End); // Never: its place is kept while it is on a lane.
        };
        if one.end > sent {
            return First::Stop(Stop::End); // Whatever this answers, it is not what the backend cannot have read.
        }
        let mut scratch = HeaderScratch::new();
        let context = RequestContext {
            method_is_head: one.request.facts.is_head,
            ..RequestContext::default()
        };
        let limits = &one.generation.plan().limits.head;
        let head = match parse_response(bytes, limits, &mut scratch, context) {
            Ok(Parse::Complete(head)) => head,
            Ok(Parse::Partial) => return First::Stop(Stop::More(0)),
            // Not this one's answer, perhaps, but more of the last one than was said: it is sent again like those behind it. Alone it learns whose it is.
            Err(_no_answer) => return First::Stop(Stop::End),
        };
        let length = match head.facts.framing {
            ResponseFraming::Empty => Some(0),
            ResponseFraming::Length(length) => usize::try_from(length).ok(),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => None,
        };
        let length = length.filter(|length| *length <= WHOLE_MAX && !head.facts.is_interim);
        let Some(length) = length else {
            return First::Stop(Stop::Lend);
        };
        let next = if head.facts.keep_alive && head.version == Version::Http11 {
            Next::Answer
        } else {
            Next::Nothing
        };
        let whole = head.head_bytes + length;
        let Some(content) = bytes.get(head.head_bytes..whole) else {
            return First::Stop(match next {
                Next::Answer => Stop::More(whole),
                Next::Nothing => Stop::Lend, // The rest may never come: see `Loan::is_followed`.
            });
        };
        self.note_answer(lanes, (one.since, head.version));
        if one.is_abandoned() {
            drop(waiting.remove(key));
            return First::Answered(whole, next);
        }
        let mut out = lanes.out().borrow_mut();
        match self.send(one, (&head, content), &mut out) {
            Ok(true) => one.rest(),
            Ok(false) => {
                drop(waiting);
                lanes.settle(key, Outcome::Answered { keep: false });
            }
            Err(gone) => {
                drop(waiting);
                lanes.settle(key, Outcome::Failed(gone));
            }
        }
        First::Answered(whole, next)
    }

    /// Writes an answer to its client; gives whether that one was told that its connection lives on.
    fn send(
        &self,
        one: &Waiting,
        (head, content): (&ResponseHead<'_, '_>, &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<bool, Failure> {
        let worker = &one.generation;
        let facts = &one.request.facts;
        let delivery = Delivery::of(facts.version, head.facts.framing);
        let keep = facts.keep_alive && worker.keeps_client(one.client);
        let origin = Origin {
            worker,
            client: one.client,
            chosen: one.request.chosen,
            endpoint: self.place().endpoint,
        };
        out.clear();
        response::encode_final(origin, head, facts, (delivery, keep), out);
        let written = if content.len() <= COPY_MAX {
            out.extend_from_slice(content);
            worker.rt().write_to(one.client, &[IoSlice::new(out)])
        } else {
            let pieces = [IoSlice::new(out), IoSlice::new(content)];
            worker.rt().write_to(one.client, &pieces)
        };
        written.map_err(|_gone| Failure::ClientGone)?;
        worker.row().responses.add(1);
        Ok(keep)
    }
}

/// Longer content is passed on as it comes: others would wait for its client.
pub(super) const WHOLE_MAX: usize = 16 * 1024;
/// Content up to this size is copied behind its head: cheaper than a second segment.
const COPY_MAX: usize = 2048;
