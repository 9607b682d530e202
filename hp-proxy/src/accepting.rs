//! Whether the listeners of one worker accept. The main thread orders it, the worker's listeners follow and say when they have.
//!
//! ```text
//! Accepting ──Pause──► settling ──(nothing more comes from the kernel)──► Paused ──Resume──► Accepting
//!     └──────────────────────────────── drain ──────────────────────────────┴──► ended
//! ```
//! A successor that gets the sockets shares their modes and queues with us: it may begin when all are paused, and not before.

use crate::config::plan::ListenerId;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::mpsc::Sender;
use std::task::Poll;

/// For whom a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Clients,
    /// They can ask how a drain goes, until it is over. The drain does not wait for them.
    Operators,
}

/// What the listeners of a worker are told, and how far they are.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    is_paused: Cell<bool>,
    /// Listeners of operators accept until the worker is about to end.
    is_ending: Cell<bool>,
    /// Those that a successor has now: what waits in their queues is for it.
    passed_on: RefCell<Vec<ListenerId>>,
    /// Listeners that have not ended.
    listeners: Cell<u32>,
    /// Those of them that bring connections of clients, not of operators: `bringing <= listeners`.
    bringing: Cell<u32>,
    /// Those of them that are registered with the engine: `registered <= listeners`.
    registered: Cell<u32>,
    /// Those of them that are paused and quiet: `resting <= registered`.
    resting: Cell<u32>,
    /// Is told when all rest.
    waiting: RefCell<Option<Sender<()>>>,
}

impl Accepting {
    /// Stops all listeners; `waiting` is told once none of them takes anything from its queue any more.
    pub(crate) fn pause(&self, waiting: Sender<()>) {
        self.is_paused.set(true);
        *self.waiting.borrow_mut() = Some(waiting);
        self.tell_if_all_rest();
    }

    /// Lets all listeners accept again.
    pub(crate) fn resume(&self) {
        self.is_paused.set(false);
        self.waiting.borrow_mut().take();
    }

    /// From now on a successor has these.
    pub(crate) fn pass_on(&self, listeners: Vec<ListenerId>) {
        *self.passed_on.borrow_mut() = listeners;
    }

    /// Ends the listeners that go on during a drain.
    pub(crate) fn end(&self) {
        self.is_ending.set(true);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    pub(crate) fn is_passed_on(&self, listener: ListenerId) -> bool {
        self.passed_on.borrow().contains(&listener)
    }

    /// Listeners that can accept.
    pub(crate) fn registered(&self) -> u32 {
        self.registered.get()
    }

    /// Listeners that have not ended.
    pub(crate) fn listeners(&self) -> u32 {
        self.listeners.get()
    }

    /// Listeners that may bring connections of clients.
    pub(crate) fn bringing(&self) -> u32 {
        self.bringing.get()
    }

    pub(crate) fn begin(&self, whose: Whose) {
        self.listeners.set(self.listeners.get() + 1);
        if whose == Whose::Clients {
            self.bringing.set(self.bringing.get() + 1);
        }
    }

    pub(crate) fn register(&self) {
        self.registered.set(self.registered.get() + 1);
    }

    pub(crate) fn finish(&self, whose: Whose) {
        self.listeners.set(self.listeners.get() - 1);
        if whose == Whose::Clients {
            self.bringing.set(self.bringing.get() - 1);
        }
        self.tell_if_all_rest();
    }

    /// A listener that was registered has ended.
    pub(crate) fn deregister(&self) {
        self.registered.set(self.registered.get() - 1);
    }

    /// A listener rests until the pause or `is_over` ends it.
    pub(crate) async fn rest(&self, is_over: impl Fn() -> bool) {
        self.resting.set(self.resting.get() + 1);
        self.tell_if_all_rest();
        // Of the end of a pause, and of a drain, every task is told.
        poll_fn(|_cx| {
            if self.is_paused() && !is_over() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        self.resting.set(self.resting.get() - 1);
    }

    fn tell_if_all_rest(&self) {
        if self.is_paused()
            && self.resting.get() == self.listeners.get()
            && let Some(waiting) = self.waiting.borrow_mut().take()
        {
            match waiting.send(()) {
                Ok(()) => (),
                Err(_given_up) => (), // The pause is about to be ended.
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    fn poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_worker_without_listeners_rests_at_once() {
        let (sender, told) = mpsc::channel();
        Accepting::default().pause(sender);
        assert_eq!(told.try_recv(), Ok(()));
    }

    #[test]
    fn all_have_to_rest_and_one_that_ends_is_not_waited_for() {
        let accepting = Accepting::default();
        for whose in [Whose::Clients, Whose::Operators, Whose::Clients] {
            accepting.begin(whose);
            accepting.register();
        }
        let (sender, told) = mpsc::channel();
        accepting.pause(sender);
        let mut one = pin!(accepting.rest(|| false));
        assert_eq!(poll(one.as_mut()), Poll::Pending);
        accepting.deregister();
        accepting.finish(Whose::Operators);
        told.try_recv().unwrap_err();
        let mut other = pin!(accepting.rest(|| false));
        assert_eq!(poll(other.as_mut()), Poll::Pending);
        assert_eq!(told.try_recv(), Ok(()));
        accepting.resume();
        assert_eq!(poll(one), Poll::Ready(()));
        assert_eq!(poll(other), Poll::Ready(()));
        assert_eq!((accepting.resting.get(), accepting.registered()), (0, 2));
        assert_eq!((accepting.listeners(), accepting.bringing()), (2, 2));
    }

    #[test]
    fn a_drain_ends_a_rest() {
        let accepting = Accepting::default();
        accepting.begin(Whose::Clients);
        accepting.register();
        let (sender, _told) = mpsc::channel();
        accepting.pause(sender);
        assert_eq!(poll(pin!(accepting.rest(|| true))), Poll::Ready(()));
    }

    #[test]
    fn what_is_passed_on_is_known_by_its_place() {
        let accepting = Accepting::default();
        accepting.pass_on(vec![ListenerId(0), ListenerId(2)]);
        let is_passed_on = |id| accepting.is_passed_on(ListenerId(id));
        assert_eq!([0, 1, 2].map(is_passed_on), [true, false, true]);
    }
}
