//! Messages between threads, and who of the workers has room for one more connection.
//!
//! Traffic is rare (a moved connection, a drain): a lock is cheap enough and can be proven. A worker's memory is never
//! touched by another worker but through here.
#![expect(clippy::disallowed_types, reason = "the one place where threads meet")]

use crate::base::sync::{Arc, AtomicU32, Mutex, MutexGuard, Ordering};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Poll, Waker};

/// Number of a worker, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// The sending side: reaches every worker's mailbox.
#[derive(Debug)]
pub struct Mesh<M> {
    inboxes: Arc<[CachePadded<Inbox<M>>]>,
    loads: Loads,
}

impl<M> Clone for Mesh<M> {
    fn clone(&self) -> Self {
        Self {
            inboxes: Arc::clone(&self.inboxes),
            loads: self.loads.clone(),
        }
    }
}

/// The receiving side of one worker.
#[derive(Debug)]
pub struct Mailbox<M> {
    inboxes: Arc<[CachePadded<Inbox<M>>]>,
    owner: WorkerId,
}

impl<M> Mesh<M> {
    /// A mesh for `workers` workers, none of which has a connection.
    #[must_use]
    pub fn new(workers: u32) -> Self {
        let inboxes = (0..workers)
            .map(|_| CachePadded::new(Inbox::new()))
            .collect();
        Self {
            inboxes,
            loads: Loads::new(workers),
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u32 {
        u32::try_from(self.inboxes.len()).expect("workers are counted in u32")
    }

    /// Leaves a message; gives it back when the worker has ended, or has [`MESSAGES_MAX`] messages waiting.
    ///
    /// # Errors
    /// The message.
    pub fn send(&self, to: WorkerId, message: M) -> Result<(), M> {
        match self.inboxes.get(to.0 as usize) {
            Some(inbox) => inbox.push(message),
            None => Err(message),
        }
    }

    /// The mailbox of a worker; each is taken by one.
    #[must_use]
    pub fn mailbox(&self, owner: WorkerId) -> Mailbox<M> {
        Mailbox {
            inboxes: Arc::clone(&self.inboxes),
            owner,
        }
    }

    /// How many connections each worker has.
    #[must_use]
    pub fn loads(&self) -> &Loads {
        &self.loads
    }
}

impl<M> Mailbox<M> {
    /// The next message, in the order of sending.
    pub async fn recv(&self) -> M {
        poll_fn(|cx| {
            let mut state = self.inbox().lock();
            match state.messages.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A message that is there already.
    #[must_use]
    pub fn try_recv(&self) -> Option<M> {
        self.inbox().lock().messages.pop_front()
    }

    /// Takes no more messages: whoever sends one gets it back. Gives those that are there, in the order of sending.
    #[must_use = "whoever sent them believes that they have arrived"]
    pub fn close(&self) -> VecDeque<M> {
        let mut state = self.inbox().lock();
        state.closed = true;
        std::mem::take(&mut state.messages)
    }

    fn inbox(&self) -> &Inbox<M> {
        &self.inboxes[self.owner.0 as usize]
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let mut state = self.inbox().lock();
        state.closed = true;
        state.messages.clear();
        state.waker = None;
    }
}

/// Connections of every worker, each count in its own cache lines.
///
/// A place is reserved for the target before the connection is handed over, so that two hand-overs at once see each other.
#[derive(Clone, Debug)]
pub struct Loads {
    counts: Arc<[CachePadded<AtomicU32>]>,
}

impl Loads {
    fn new(workers: u32) -> Self {
        Self {
            counts: (0..workers)
                .map(|_| CachePadded::new(AtomicU32::new(0)))
                .collect(),
        }
    }

    /// Reserves a place for a connection that `me` has just accepted: with `me`, unless it has clearly more than the worker
    /// with the fewest. Whoever is answered must [`Loads::release`] it when the connection ends.
    #[must_use]
    pub fn place(&self, me: WorkerId) -> WorkerId {
        let load = |count: &CachePadded<AtomicU32>| count.load(Ordering::Relaxed);
        let mine = self.counts.get(me.0 as usize).map_or(0, load);
        let (lightest, fewest) = (0..)
            .zip(self.counts.iter().map(load))
            .min_by_key(|(_, count)| *count)
            .unwrap_or((me.0, mine));
        let slack = mine / SLACK_DIVISOR;
        let target = if mine > fewest + slack {
            WorkerId(lightest)
        } else {
            me
        };
        self.counts[target.0 as usize].fetch_add(1, Ordering::Relaxed);
        target
    }

    /// Takes a place with a worker, however many connections it has.
    pub fn take(&self, worker: WorkerId) {
        self.counts[worker.0 as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back.
    pub fn release(&self, worker: WorkerId) {
        self.counts[worker.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections a worker has.
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> u32 {
        self.counts[worker.0 as usize].load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Inbox<M> {
    state: Mutex<InboxState<M>>,
}

#[derive(Debug)]
struct InboxState<M> {
    messages: VecDeque<M>,
    waker: Option<Waker>,
    closed: bool,
}

impl<M> Inbox<M> {
    fn new() -> Self {
        let state = InboxState {
            messages: VecDeque::new(),
            waker: None,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn push(&self, message: M) -> Result<(), M> {
        let waker = {
            let mut state = self.lock();
            if state.closed || state.messages.len() >= MESSAGES_MAX {
                return Err(message);
            }
            state.messages.push_back(message);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, InboxState<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // Whole between any two statements.
    }
}

/// Messages that may wait for one worker.
pub const MESSAGES_MAX: usize = 65_536;
/// A worker with up to a twelfth more connections than the lightest keeps what it accepts: to move one costs two workers. A hundred connections
/// of two workers are at most two away from fifty then.
const SLACK_DIVISOR: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_connections_land_four_and_four_whoever_accepts_them() {
        for accepting in 0..256u32 {
            let loads = Loads::new(2);
            for connection in 0..8 {
                let _ = loads.place(WorkerId((accepting >> connection) & 1));
            }
            assert_eq!((loads.of(WorkerId(0)), loads.of(WorkerId(1))), (4, 4));
        }
    }

    /// Every way in which connections can come to two workers, one after the other, by the counts that it leads to.
    #[test]
    fn a_hundred_connections_land_within_a_twentieth_of_even_whoever_accepts_them() {
        let mut reached = std::collections::BTreeSet::from([(0, 0)]);
        for total in 1..=100 {
            let places = reached.iter().flat_map(|counts| [(counts, 0), (counts, 1)]);
            reached = places
                .map(|((one, other), accepting)| {
                    let loads = Loads::new(2);
                    (0..*one).for_each(|_| loads.take(WorkerId(0)));
                    (0..*other).for_each(|_| loads.take(WorkerId(1)));
                    let _ = loads.place(WorkerId(accepting));
                    (loads.of(WorkerId(0)), loads.of(WorkerId(1)))
                })
                .collect();
            assert!(reached.iter().all(|(one, other)| one + other == total));
        }
        let is_even = |(one, _): &(u32, u32)| (48..=52).contains(one);
        assert!(reached.iter().all(is_even), "{reached:?}");
        assert!(
            reached.contains(&(48, 52)),
            "nor is it kept closer than that: {reached:?}"
        );
    }

    #[test]
    fn a_heavy_worker_keeps_what_it_accepts_within_a_twelfth() {
        let loads = Loads::new(2);
        for _ in 0..800 {
            let _ = loads.place(WorkerId(0));
        }
        let (one, other) = (loads.of(WorkerId(0)), loads.of(WorkerId(1)));
        assert_eq!(one + other, 800);
        assert!(one > other && one - other <= 800 / 12);
    }

    #[test]
    fn a_message_to_a_worker_that_ended_comes_back() {
        let mesh = Mesh::new(1);
        drop(mesh.mailbox(WorkerId(0)));
        assert_eq!(mesh.send(WorkerId(0), "late"), Err("late"));
        assert_eq!(mesh.send(WorkerId(7), "nowhere"), Err("nowhere"));
    }

    #[test]
    fn a_mailbox_that_closes_gives_what_had_arrived_and_takes_no_more() {
        let mesh = Mesh::new(1);
        let mailbox = mesh.mailbox(WorkerId(0));
        assert_eq!(mesh.send(WorkerId(0), "in time"), Ok(()));
        assert_eq!(mailbox.close(), ["in time"]);
        assert_eq!(mesh.send(WorkerId(0), "late"), Err("late"));
        assert_eq!(mailbox.try_recv(), None);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake};

    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_message_is_lost_to_a_receiver_that_falls_asleep() {
        loom::model(|| {
            let mesh = loom::sync::Arc::new(Mesh::new(1));
            let mailbox = mesh.mailbox(WorkerId(0));
            let senders: Vec<_> = (0..2)
                .map(|message| {
                    let mesh = loom::sync::Arc::clone(&mesh);
                    thread::spawn(move || mesh.send(WorkerId(0), message).unwrap())
                })
                .collect();
            let mut received = Vec::new();
            while received.len() < 2 {
                let bell = Arc::new(Bell(AtomicBool::new(false)));
                let waker = Waker::from(Arc::clone(&bell));
                match pin!(mailbox.recv()).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(message) => received.push(message),
                    Poll::Pending => {
                        while !bell.0.load(Ordering::SeqCst) {
                            thread::yield_now();
                        }
                    }
                }
            }
            received.sort_unstable();
            assert_eq!(received, [0, 1]);
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn a_message_is_received_or_comes_back_when_the_mailbox_closes() {
        loom::model(|| {
            let mesh = loom::sync::Arc::new(Mesh::new(1));
            let mailbox = mesh.mailbox(WorkerId(0));
            let sender = {
                let mesh = loom::sync::Arc::clone(&mesh);
                thread::spawn(move || mesh.send(WorkerId(0), ()).is_err())
            };
            let was_received = mailbox.try_recv().is_some();
            drop(mailbox);
            let came_back = sender.join().unwrap();
            assert!(!(was_received && came_back), "one message became two");
            assert_eq!(mesh.send(WorkerId(0), ()), Err(()));
        });
    }

    #[test]
    fn places_taken_at_once_are_all_counted() {
        loom::model(|| {
            let loads = loom::sync::Arc::new(Loads::new(2));
            let placing: Vec<_> = (0..2)
                .map(|me| {
                    let loads = loom::sync::Arc::clone(&loads);
                    thread::spawn(move || {
                        let first = loads.place(WorkerId(me));
                        let _second = loads.place(WorkerId(me));
                        loads.release(first);
                    })
                })
                .collect();
            placing.into_iter().for_each(|place| place.join().unwrap());
            assert_eq!(loads.of(WorkerId(0)) + loads.of(WorkerId(1)), 2);
        });
    }
}
