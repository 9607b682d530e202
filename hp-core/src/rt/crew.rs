//! A crew: threads with a runtime each that take work one piece at a time, are used again, and go when there is none.
//!
//! ```text
//!            work ──► idle thread, else a new one, else the queue
//!
//! (new) ─► Busy ◄──work── Idle ──timeout, or the end──► (gone)
//!           │ ▲             ▲
//!           ▼ └─ stops      │ work is done and nothing is queued
//!        Resting ─asked─► the thread finishes its work early
//! ```
//!
//! A thread that rests keeps its work only for the case that it goes on (an idle keep-alive connection). As long as work is
//! queued, as many resting threads as pieces of work are asked to make room, those first that have rested for longest.
//!
//! All of it is bookkeeping behind one lock, which a thread takes when a piece of work begins or ends, never within one.
#![expect(clippy::disallowed_types, reason = "threads meet here, by a lock")]

use super::{Rt, RtOptions, StartError};
use crate::base::slab::{Key, Slab};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Builder;
use std::time::Duration;

/// How many threads, and what each is made of.
#[derive(Clone, Debug)]
pub struct CrewOptions {
    /// Threads at most, at least 1.
    pub threads_max: u32,
    /// How long a thread without work is kept.
    pub idle_timeout: Duration,
    /// How long a thread that could make room is left alone, so that work which goes on at once is not cut short.
    pub rest_begins_after: Duration,
    /// Pieces of work that may wait before [`Crew::has_room`] makes whoever brings them wait, too.
    pub queue_len_max: u32,
    /// Size of each stack. Only what is touched takes memory.
    pub stack_bytes: usize,
    /// Each thread's runtime.
    pub rt: RtOptions,
    /// Name of the threads, without a number; at most 11 bytes are shown.
    pub name: &'static str,
    /// Told when the runtime of a new thread cannot start. The work then waits for another thread.
    pub on_failure: fn(&StartError),
}

/// The crew, as whoever brings work sees it. Clones name the same crew.
pub struct Crew<W>(Arc<Shared<W>>);

/// One thread's place in the crew, as the thread sees it.
pub struct Seat<W> {
    crew: Crew<W>,
    key: Key,
    rt: Rt,
}

struct Shared<W> {
    options: CrewOptions,
    state: Mutex<State<W>>,
    /// Notified when the last thread has gone.
    emptied: Condvar,
    /// Whether work is queued, for those who only want to know that.
    is_crowded: AtomicBool,
    main: Box<Main<W>>,
}

type Main<W> = dyn Fn(Seat<W>) + Send + Sync;

/// `asked` counts the members that were asked or leave for it; nobody rests unasked while `asked < queue.len()`. While
/// `idle` is not empty, `queue` is.
struct State<W> {
    members: Slab<Member<W>>,
    /// Last: idle for the shortest time, with the warmest memory.
    idle: Vec<Key>,
    /// By the order in which they began to rest.
    resting: BTreeMap<u64, Key>,
    rests_begun: u64,
    asked: usize,
    queue: VecDeque<W>,
    /// Of those who wait until the queue has room.
    bringers: Vec<Waker>,
    is_ending: bool,
    is_cut: bool,
    died: bool,
}

struct Member<W> {
    /// Handed over, not taken yet.
    work: Option<W>,
    /// Of the thread's root task.
    waker: Option<Waker>,
    is_idle: bool,
    rest: Rest,
    rest_waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    No,
    /// The number is its place in `resting`.
    Yes(u64),
    Asked,
    /// It was asked and knows it; it counts as asked until it takes work or rests again.
    Leaving,
}

impl<W> Clone for Crew<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W> fmt::Debug for Crew<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for Seat<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<W: Send + 'static> Crew<W> {
    /// A crew without a thread. Each thread runs `main` once; it takes work by [`Seat::next`] until there is none.
    pub fn new<F, Fut>(options: CrewOptions, main: F) -> Self
    where
        F: Fn(Seat<W>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()>,
    {
        let main = move |seat: Seat<W>| {
            let rt = seat.rt.clone();
            rt.block_on(main(seat));
            rt.shut_down();
        };
        Self(Arc::new(Shared {
            options,
            state: Mutex::new(State::new()),
            emptied: Condvar::new(),
            is_crowded: AtomicBool::new(false),
            main: Box::new(main),
        }))
    }

    /// Gives work to an idle thread, or to a new one, or puts it into the queue.
    ///
    /// # Errors
    /// When a thread was wanted and the system gives none. The work then waits for those that are there; where there is
    /// none at all, it is dropped.
    pub fn hand_over(&self, work: W) -> io::Result<()> {
        let mut state = self.lock();
        state.queue.push_back(work);
        self.staff(state)
    }

    /// Tells every thread to finish and go. What is queued is still worked on.
    pub fn end(&self) {
        let mut state = self.lock();
        state.is_ending = true;
        for key in state.members.keys() {
            wake(state.member(key).waker.take());
        }
    }

    /// Tells every thread to drop what it does and go. What is queued is dropped; says how many pieces of work that were.
    pub fn cut(&self) -> u32 {
        let queued = {
            let mut state = self.lock();
            state.is_cut = true;
            std::mem::take(&mut state.queue)
        };
        self.end();
        queued.len().try_into().unwrap_or(u32::MAX) // Dropped outside the lock: it is not known what that does.
    }

    /// Finds threads for what is queued: idle ones, then new ones as far as that is allowed; then others are asked to make
    /// room.
    fn staff<'a>(&'a self, mut state: MutexGuard<'a, State<W>>) -> io::Result<()> {
        state.employ();
        while state.members.len() < self.0.options.threads_max
            && let Some(work) = state.queue.pop_front()
        {
            let key = state.members.insert(Member::with(work));
            drop(state); // Starting a thread takes its time.
            let started = self.start(key);
            state = self.lock();
            if let Err(error) = started {
                self.give_up(&mut state, key);
                return Err(error);
            }
        }
        self.settle(&mut state);
        Ok(())
    }

    fn start(&self, key: Key) -> io::Result<()> {
        let crew = self.clone();
        let options = &self.0.options;
        let thread = Builder::new()
            .name(format!("{}-{}", options.name, key.index))
            .stack_size(options.stack_bytes)
            .spawn(move || crew.work(key));
        thread.map(drop) // Nobody joins it: it is gone when its member is.
    }

    /// What a thread does.
    fn work(self, key: Key) {
        let mut departure = Departure {
            crew: self.clone(),
            key,
            is_regular: true,
        };
        match Rt::new(&self.0.options.rt) {
            Ok(rt) => (self.0.main)(Seat {
                crew: self.clone(),
                key,
                rt,
            }),
            Err(error) => {
                departure.is_regular = false;
                (self.0.options.on_failure)(&error);
            }
        }
    }

    /// A thread did not come to be: its work waits for another one, if there is any.
    fn give_up(&self, state: &mut State<W>, key: Key) {
        state.remove(key);
        if state.members.is_empty() {
            state.queue.clear();
            self.0.emptied.notify_all();
        }
        self.settle(state);
    }

    /// A thread goes, which has worked.
    fn depart(&self, key: Key) {
        let mut state = self.lock();
        state.died |= std::thread::panicking();
        state.remove(key);
        // Work may have come while it was on its way out.
        match self.staff(state) {
            Ok(()) => (),
            Err(_no_thread) => (), // It waits for those that are there.
        }
        if self.lock().members.is_empty() {
            self.0.emptied.notify_all();
        }
    }
}

impl<W> Crew<W> {
    /// Waits until the queue has room for more.
    pub async fn has_room(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.queue.len() < self.0.options.queue_len_max as usize {
                return Poll::Ready(());
            }
            state.bringers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.lock().members.len()
    }

    /// Whether work is queued.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.0.is_crowded.load(Ordering::Relaxed)
    }

    /// Whether a thread died of a panic outside any task.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.lock().died
    }

    /// Waits, without a runtime, until no thread is left. Call [`Crew::end`] before.
    pub fn join(&self) {
        let mut state = self.lock();
        while !state.members.is_empty() {
            state = self
                .0
                .emptied
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What follows from a queue that has become longer or shorter.
    fn settle(&self, state: &mut State<W>) {
        state.employ();
        let is_crowded = !state.queue.is_empty();
        self.0.is_crowded.store(is_crowded, Ordering::Relaxed);
        state.ask();
        if state.queue.len() < self.0.options.queue_len_max as usize {
            state.bringers.drain(..).for_each(Waker::wake);
        }
    }

    fn poll_next(&self, key: Key, cx: &Context<'_>) -> Poll<Option<W>> {
        let mut state = self.lock();
        if let Some(work) = state.member(key).work.take() {
            return Poll::Ready(Some(work));
        }
        let queued = state.queue.pop_front();
        state.forget_rest(key);
        if let Some(work) = queued {
            self.settle(&mut state);
            return Poll::Ready(Some(work));
        }
        if state.is_ending {
            return Poll::Ready(None);
        }
        let member = state.member(key);
        member.waker = Some(cx.waker().clone());
        if !std::mem::replace(&mut member.is_idle, true) {
            state.idle.push(key);
        }
        Poll::Pending
    }

    /// An idle thread's time is up; gives it what was handed over at the last moment.
    fn leave(&self, key: Key) -> Option<W> {
        let mut state = self.lock();
        state.idle.retain(|other| *other != key);
        let member = state.member(key);
        member.is_idle = false;
        member.work.take()
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner) // Whole between any two statements.
    }
}

impl<W> Seat<W> {
    /// The next piece of work; `None` when there was none for the crew's idle time, or the crew ends. The thread goes then.
    pub async fn next(&self) -> Option<W> {
        let until = self.rt.precise_now() + self.crew.0.options.idle_timeout;
        let handed = poll_fn(|cx| self.crew.poll_next(self.key, cx));
        match self.rt.timeout_at(until, handed).await {
            Ok(next) => next,
            Err(_elapsed) => self.crew.leave(self.key),
        }
    }

    /// Waits until the crew ends. For the root task, which also takes work.
    pub async fn end_begun(&self) {
        self.told(|state| state.is_ending).await;
    }

    /// Waits until the crew is cut. For the root task, when [`Seat::end_begun`] has come.
    pub async fn cut_begun(&self) {
        self.told(|state| state.is_cut).await;
    }

    /// Rests, after a while, until work is queued for which this thread shall make room. Dropping the future ends the rest.
    pub async fn asked(&self) {
        self.rt.sleep(self.crew.0.options.rest_begins_after).await;
        let _resting = Resting(self);
        poll_fn(|cx| {
            let mut state = self.crew.lock();
            if state.is_asked(self.key) {
                return Poll::Ready(());
            }
            state.member(self.key).rest_waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until the crew's orders are these.
    async fn told(&self, is_told: impl Fn(&State<W>) -> bool) {
        poll_fn(|cx| {
            let mut state = self.crew.lock();
            if is_told(&state) {
                return Poll::Ready(());
            }
            state.member(self.key).waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The crew.
    #[must_use]
    pub fn crew(&self) -> &Crew<W> {
        &self.crew
    }

    /// The thread's runtime.
    #[must_use]
    pub fn rt(&self) -> &Rt {
        &self.rt
    }

    /// A number below the crew's maximum, which no other thread has at the same time.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.key.index
    }
}

impl<W> Member<W> {
    fn with(work: W) -> Self {
        Self {
            work: Some(work),
            waker: None,
            is_idle: false,
            rest: Rest::No,
            rest_waker: None,
        }
    }
}

impl<W> State<W> {
    fn new() -> Self {
        Self {
            members: Slab::new(),
            idle: Vec::new(),
            resting: BTreeMap::new(),
            rests_begun: 0,
            asked: 0,
            queue: VecDeque::new(),
            bringers: Vec::new(),
            is_ending: false,
            is_cut: false,
            died: false,
        }
    }

    fn member(&mut self, key: Key) -> &mut Member<W> {
        self.members
            .get_mut(key)
            .expect("a member stays until its thread has gone")
    }

    /// Takes a thread out; work that it was given and did not take is the first in the queue.
    fn remove(&mut self, key: Key) {
        self.forget_rest(key);
        self.idle.retain(|other| *other != key);
        if let Some(work) = self.members.remove(key).and_then(|member| member.work) {
            self.queue.push_front(work);
        }
    }

    /// Whether a thread shall make room; it rests from now on if it did not.
    fn is_asked(&mut self, key: Key) -> bool {
        let rest = self.member(key).rest;
        match rest {
            Rest::Asked if !self.queue.is_empty() => {
                self.member(key).rest = Rest::Leaving;
                return true;
            }
            Rest::Asked | Rest::Leaving => self.forget_rest(key), // Somebody else has made room.
            Rest::Yes(_) => return false,
            Rest::No => (),
        }
        let number = self.rests_begun;
        self.rests_begun += 1;
        self.resting.insert(number, key);
        self.member(key).rest = Rest::Yes(number);
        self.ask();
        let member = self.member(key);
        if member.rest == Rest::Asked {
            member.rest = Rest::Leaving;
        }
        member.rest == Rest::Leaving
    }

    /// A rest ends: by going on, or by leaving.
    fn stop_resting(&mut self, key: Key) {
        if self.member(key).rest != Rest::Leaving {
            self.forget_rest(key);
        }
    }

    fn forget_rest(&mut self, key: Key) {
        let member = self.member(key);
        member.rest_waker = None;
        match std::mem::replace(&mut member.rest, Rest::No) {
            Rest::No => (),
            Rest::Yes(number) => {
                self.resting.remove(&number);
            }
            Rest::Asked | Rest::Leaving => {
                self.asked -= 1;
                self.ask();
            }
        }
    }

    /// Gives idle threads what is queued.
    fn employ(&mut self) {
        while !self.idle.is_empty()
            && let Some(work) = self.queue.pop_front()
            && let Some(key) = self.idle.pop()
        {
            let member = self.member(key);
            member.is_idle = false;
            member.work = Some(work);
            wake(member.waker.take());
        }
    }

    /// Asks as many as there are pieces of work in the queue.
    fn ask(&mut self) {
        while self.asked < self.queue.len()
            && let Some((_, key)) = self.resting.pop_first()
        {
            self.asked += 1;
            let member = self.member(key);
            member.rest = Rest::Asked;
            wake(member.rest_waker.take());
        }
    }
}

/// Ends a rest on drop.
struct Resting<'a, W>(&'a Seat<W>);

impl<W> Drop for Resting<'_, W> {
    fn drop(&mut self) {
        self.0.crew.lock().stop_resting(self.0.key);
    }
}

/// Takes a thread out of the crew on drop, panics included.
struct Departure<W: Send + 'static> {
    crew: Crew<W>,
    key: Key,
    /// Whether it had a runtime.
    is_regular: bool,
}

impl<W: Send + 'static> Drop for Departure<W> {
    fn drop(&mut self) {
        if self.is_regular {
            self.crew.depart(self.key);
        } else {
            self.crew.give_up(&mut self.crew.lock(), self.key);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};

    /// Says what it got and on which thread it runs; ends with the answer, or when it is asked to make room.
    struct Job {
        name: u32,
        begun: Sender<(u32, u32)>,
        goes_on: Answer,
    }

    enum Answer {
        AtOnce,
        Never,
    }

    fn crew(threads_max: u32, idle_timeout: Duration) -> Crew<Job> {
        let options = CrewOptions {
            threads_max,
            idle_timeout,
            rest_begins_after: Duration::ZERO,
            queue_len_max: 2,
            stack_bytes: 256 * 1024,
            rt: RtOptions {
                engine: Engine::Threads,
                head_buffers: 2,
                bulk_buffers: 1,
                ..RtOptions::default()
            },
            name: "crew",
            on_failure: |error| panic!("{error}"),
        };
        Crew::new(options, async |seat: Seat<Job>| {
            while let Some(job) = seat.next().await {
                job.begun.send((job.name, seat.number())).unwrap();
                match job.goes_on {
                    Answer::AtOnce => (),
                    Answer::Never => {
                        super::super::race::race(seat.asked(), seat.end_begun()).await;
                    }
                }
            }
        })
    }

    /// A crew and the words of its jobs.
    struct Lab {
        crew: Crew<Job>,
        begun: Sender<(u32, u32)>,
        begins: Receiver<(u32, u32)>,
    }

    impl Lab {
        fn new(threads_max: u32, idle_timeout: Duration) -> Self {
            let (begun, begins) = mpsc::channel();
            Self {
                crew: crew(threads_max, idle_timeout),
                begun,
                begins,
            }
        }

        fn job(&self, name: u32, goes_on: Answer) {
            let begun = self.begun.clone();
            let job = Job {
                name,
                begun,
                goes_on,
            };
            self.crew.hand_over(job).unwrap();
        }

        /// The next job that begins, and the number of its thread.
        fn begins(&self) -> (u32, u32) {
            self.begins.recv_timeout(Duration::from_secs(20)).unwrap()
        }

        fn end(&self) {
            self.crew.end();
            self.crew.join();
            assert_eq!(self.crew.threads(), 0);
            assert!(!self.crew.has_died());
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn threads_come_as_work_does_and_each_has_one_piece() {
        let lab = Lab::new(8, LONG);
        let mut numbers: Vec<u32> = (0..8)
            .map(|name| {
                lab.job(name, Answer::Never);
                lab.begins().1
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        lab.end();
    }

    #[test]
    fn a_thread_is_used_again() {
        let lab = Lab::new(1, LONG);
        for name in 0..100 {
            lab.job(name, Answer::AtOnce);
            assert_eq!(lab.begins(), (name, 0));
        }
        assert_eq!(lab.crew.threads(), 1);
        lab.end();
    }

    #[test]
    fn who_has_rested_for_longest_makes_room_for_what_is_queued() {
        let lab = Lab::new(2, LONG);
        lab.job(0, Answer::Never);
        let first = lab.begins();
        lab.job(1, Answer::Never);
        let second = lab.begins();
        // Each of these finds both threads at work; the one that came first is asked first.
        while lab.crew.lock().resting.len() < 2 {
            std::thread::yield_now();
        }
        let is_in_order = lab.crew.lock().resting.values().next().unwrap().index == first.1;
        lab.job(2, Answer::AtOnce);
        let third = lab.begins();
        assert_eq!(third.1, if is_in_order { first.1 } else { second.1 });
        assert!(!lab.crew.is_crowded());
        lab.end();
    }

    #[test]
    fn an_idle_thread_goes_after_its_time_and_another_one_comes() {
        let lab = Lab::new(4, Duration::from_millis(1));
        for name in 0..3 {
            lab.job(name, Answer::AtOnce);
            assert_eq!(lab.begins().0, name);
            lab.crew.join();
        }
        lab.end();
    }

    #[test]
    fn no_work_is_lost_between_a_thread_that_goes_and_one_that_comes() {
        let lab = Lab::new(1, Duration::ZERO);
        for name in 0..500 {
            lab.job(name, Answer::AtOnce);
            if name % 3 == 0 {
                std::thread::yield_now();
            }
        }
        let mut names: Vec<u32> = (0..500).map(|_| lab.begins().0).collect();
        names.sort_unstable();
        assert!(names.into_iter().eq(0..500));
        lab.end();
    }

    #[test]
    fn what_is_queued_when_the_end_comes_is_still_worked_on() {
        let lab = Lab::new(1, LONG);
        lab.job(0, Answer::Never);
        lab.begins();
        let mut state = lab.crew.lock();
        for name in 1..5 {
            let begun = lab.begun.clone();
            state.queue.push_back(Job {
                name,
                begun,
                goes_on: Answer::AtOnce,
            });
        }
        drop(state);
        lab.end();
        let names: Vec<u32> = (1..5).map(|_| lab.begins().0).collect();
        assert_eq!(names, [1, 2, 3, 4]);
    }

    #[test]
    fn whoever_brings_work_waits_while_the_queue_is_full() {
        let lab = Lab::new(1, LONG);
        let mut has_room = std::pin::pin!(lab.crew.has_room());
        let poll = |future: std::pin::Pin<&mut dyn Future<Output = ()>>| {
            future.poll(&mut Context::from_waker(Waker::noop()))
        };
        let mut state = lab.crew.lock();
        for name in 0..2 {
            let begun = lab.begun.clone();
            state.queue.push_back(Job {
                name,
                begun,
                goes_on: Answer::AtOnce,
            });
        }
        drop(state);
        assert_eq!(poll(has_room.as_mut()), Poll::Pending);
        lab.job(2, Answer::AtOnce);
        let names: Vec<u32> = (0..3).map(|_| lab.begins().0).collect();
        assert_eq!(names, [0, 1, 2]);
        assert_eq!(poll(has_room.as_mut()), Poll::Ready(()));
        lab.end();
    }

    #[test]
    fn a_panic_of_a_thread_is_remembered() {
        let options = crew(1, LONG).0.options.clone();
        let crew = Crew::new(options, async |seat: Seat<()>| {
            seat.next().await;
            panic!("planted: this test wants one thread to die")
        });
        crew.hand_over(()).unwrap();
        crew.join();
        assert!(crew.has_died());
    }
}
