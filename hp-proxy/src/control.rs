//! What other threads ask of the main thread, and its answers: to read the file again, for instance.
//!
//! ```text
//! task of the admin listener ─ask─► queue, bell ─► main thread ─answer─► the task is woken
//! ```
//! Nobody waits for ever: who asked is told when the main thread goes away, too.
#![expect(
    clippy::disallowed_types,
    reason = "operators ask rarely; no request to a backend comes here"
)]

use crate::admin::order::Order;
use crate::config::overlay::Hold;
use hp_core::base::sync::{Arc, Mutex, MutexGuard};
use hp_core::sys::event::EventFd;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::PoisonError;
use std::task::{Poll, Waker};

/// What the main thread can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration file again, and run what it says.
    Reload(Hold),
    /// Hand over to the program that is now at this one's path; the answer comes when that has been done, or has come to nothing.
    Upgrade,
    /// Change something of what runs.
    Change(Order),
    /// Tell how the endpoints are doing, in JSON.
    Upstreams,
    /// Tell what is connected where, in JSON.
    Live,
    /// Tell what runs, as a configuration file that says everything but secrets.
    Plan,
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It cannot be done, for what the configuration or the command says; nothing has changed.
    Refused,
    /// It cannot be done, for what it is to be done to is not there; nothing has changed.
    Missing,
    /// It cannot be done, for what runs; nothing has changed.
    Conflict,
    /// It cannot be done now.
    Unavailable,
}

/// What the main thread answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub verdict: Verdict,
    /// For people, in lines; JSON where the command says so.
    pub text: String,
}

impl Answer {
    /// With lines that say what was done, or why not.
    #[must_use]
    pub fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { verdict, text }
    }
}

/// The way to the main thread. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bell: EventFd,
}

#[derive(Debug, Default)]
struct State {
    asked: VecDeque<Asked>,
    is_closed: bool,
}

/// A command that somebody waits for. Dropped without an answer, it says that nobody is there.
#[derive(Debug)]
pub struct Asked {
    /// What is to be done.
    pub command: Command,
    reply: Arc<Mutex<Reply>>,
}

#[derive(Debug, Default)]
enum Reply {
    #[default]
    Awaited,
    AwaitedBy(Waker),
    Given(Answer),
}

impl Control {
    /// A way on which nothing was asked.
    ///
    /// # Errors
    /// `EMFILE` and its like when descriptors run out.
    pub fn new() -> io::Result<Self> {
        let shared = Shared {
            state: Mutex::default(),
            bell: EventFd::new()?,
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, command: Command) -> Answer {
        let reply: Arc<Mutex<Reply>> = Arc::default();
        let asked = Asked {
            command,
            reply: Arc::clone(&reply),
        };
        if let Err(asked) = self.push(asked) {
            drop(asked);
        } else {
            self.0.bell.ring();
        }
        poll_fn(|cx| {
            let mut reply = lock(&reply);
            match mem::replace(&mut *reply, Reply::AwaitedBy(cx.waker().clone())) {
                Reply::Given(answer) => Poll::Ready(answer),
                Reply::Awaited | Reply::AwaitedBy(_) => Poll::Pending,
            }
        })
        .await
    }

    /// Wakes the main thread, for whoever has left something for it elsewhere.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    fn push(&self, asked: Asked) -> Result<(), Asked> {
        let mut state = lock(&self.0.state);
        if state.is_closed || state.asked.len() >= ASKED_MAX {
            return Err(asked);
        }
        state.asked.push_back(asked);
        Ok(())
    }

    /// Rings when something was asked. For the main thread.
    #[must_use]
    pub fn bell(&self) -> &EventFd {
        &self.0.bell
    }

    /// The next command. For the main thread.
    #[must_use]
    pub fn next(&self) -> Option<Asked> {
        lock(&self.0.state).asked.pop_front()
    }

    /// Nothing is answered any more.
    pub fn close(&self) {
        let mut state = lock(&self.0.state);
        state.is_closed = true;
        let asked = mem::take(&mut state.asked);
        drop(state);
        drop(asked); // Each tells who asked.
    }
}

impl Asked {
    /// Answers.
    pub fn answer(self, answer: Answer) {
        self.give(answer);
    }

    fn give(&self, answer: Answer) {
        let before = {
            let mut reply = lock(&self.reply);
            if matches!(*reply, Reply::Given(_)) {
                return;
            }
            mem::replace(&mut *reply, Reply::Given(answer))
        };
        if let Reply::AwaitedBy(waker) = before {
            waker.wake();
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let text = "the proxy is ending, or has too much to do already; ask again\n";
        self.give(Answer::new(Verdict::Unavailable, text));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // Whole between any two statements.
}

/// Commands that may wait for the main thread.
const ASKED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn poll(asking: std::pin::Pin<&mut impl Future<Output = Answer>>) -> Poll<Answer> {
        asking.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_asks_gets_the_answer() {
        let control = Control::new().unwrap();
        let mut asking = pin!(control.ask(Command::Reload(Hold::UntilReload)));
        assert!(poll(asking.as_mut()).is_pending());
        assert!(control.bell().silence(), "the bell rang");
        let asked = control.next().unwrap();
        assert_eq!(asked.command, Command::Reload(Hold::UntilReload));
        let answer = Answer::new(Verdict::Done, "so");
        asked.answer(answer.clone());
        assert_eq!(poll(asking), Poll::Ready(answer));
        assert!(control.next().is_none());
    }

    #[test]
    fn who_asks_is_told_when_nobody_answers() {
        let control = Control::new().unwrap();
        let is_told = |poll: Poll<Answer>| matches!(poll, Poll::Ready(answer) if answer.verdict == Verdict::Unavailable);
        let mut dropped = pin!(control.ask(Command::Reload(Hold::UntilReload)));
        assert!(poll(dropped.as_mut()).is_pending());
        drop(control.next());
        assert!(is_told(poll(dropped)));
        let mut early = pin!(control.ask(Command::Reload(Hold::UntilReload)));
        assert!(poll(early.as_mut()).is_pending());
        control.close();
        assert!(is_told(poll(early)));
        assert!(is_told(poll(pin!(
            control.ask(Command::Reload(Hold::UntilReload))
        ))));
    }

    #[test]
    fn only_so_many_may_wait() {
        let control = Control::new().unwrap();
        let mut asking: Vec<_> = (0..=ASKED_MAX)
            .map(|_| Box::pin(control.ask(Command::Reload(Hold::UntilReload))))
            .collect();
        let pending = asking
            .iter_mut()
            .filter_map(|asking| poll(asking.as_mut()).is_pending().then_some(()));
        assert_eq!(pending.count(), ASKED_MAX);
    }
}
