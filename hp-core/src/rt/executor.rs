//! Which task runs next, and the loop around it.
//!
//! ```text
//! clock ─► timers ─► wakes from other threads ─► up to 128 tasks ─► what they wrote ─► one exchange with the kernel ─┐
//!   ▲                                                                                                                │
//!   └────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Alarms do not wait in this line: between any two tasks, those whose alarm has gone off run, then those that they woke, and
//! what they wrote leaves.

use super::Rt;
use super::driver::Io;
use super::task::{Entered, TASKS_MAX, TaskId, has_local, take_local};
#[cfg(feature = "sim")]
use crate::base::slab::Places;
use crate::base::slab::{Key, Slab};
#[cfg(feature = "sim")]
use crate::base::sync::lines::unseen;
use crate::sys::cpu::prefetch;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Tasks of one runtime and the queue of those that can go on.
pub(super) struct Executor {
    tasks: RefCell<Slab<Task>>,
    queue: RefCell<VecDeque<Key>>,
    woken: RefCell<Vec<TaskId>>,
    /// Who runs now because of an alarm.
    punctual: RefCell<Vec<TaskId>>,
    panics: Cell<u64>,
    running: Cell<bool>,
    #[cfg(feature = "sim")]
    polls: Cell<u64>,
}

struct Task {
    /// Absent while the task is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    id: TaskId,
    waker: Waker,
    queued: bool,
}

impl Executor {
    pub(super) fn new() -> Self {
        Self {
            tasks: RefCell::default(),
            queue: RefCell::default(),
            woken: RefCell::default(),
            punctual: RefCell::default(),
            panics: Cell::new(0),
            running: Cell::new(false),
            #[cfg(feature = "sim")]
            polls: Cell::new(0),
        }
    }

    /// How often a task was given its turn.
    #[cfg(feature = "sim")]
    pub(super) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// How much room its tasks take, without what they hold.
    #[cfg(feature = "sim")]
    pub(super) fn places(&self) -> Places {
        self.tasks.borrow().places()
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.get()
    }

    pub(super) fn len(&self) -> u32 {
        self.tasks.borrow().len()
    }

    /// The key of a task that has not ended.
    fn live(&self, id: TaskId) -> Option<Key> {
        let tasks = self.tasks.borrow();
        let key = tasks.key_at(id.index)?;
        (tasks.get(key)?.id == id).then_some(key)
    }
}

impl Rt {
    /// Starts a task; it runs until it ends, panics, or the runtime is shut down.
    ///
    /// # Panics
    /// When 4 million tasks are running.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let executor = &self.0.executor;
        let mut tasks = executor.tasks.borrow_mut();
        // The name needs the place, so the task goes in with a name that no wake carries and gets its own at once.
        let unnamed = TaskId {
            runtime: u32::MAX,
            index: 0,
            generation: 0,
        };
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
        let waker = Waker::noop().clone();
        let key = tasks.insert(Task {
            future: Some(future),
            id: unnamed,
            waker,
            queued: true,
        });
        assert!(
            key.index < ROOT_INDEX,
            "a runtime has at most {ROOT_INDEX} tasks"
        );
        let task = tasks.get_mut(key).expect("just inserted");
        task.id = self.0.slot.name_task(key.index);
        task.waker = task.id.waker();
        executor.queue.borrow_mut().push_back(key);
    }

    /// Runs the loop on the calling thread until `root` ends. Tasks that have not ended then stay, and go on with the next
    /// call.
    ///
    /// # Panics
    /// When called from within itself, when `root` panics, or when the engine breaks down.
    pub fn block_on<F: Future>(&self, root: F) -> F::Output {
        let _inside = self.go_inside();
        let mut root = pin!(root);
        let root_id = self.0.slot.name_task(ROOT_INDEX);
        let root_waker = root_id.waker();
        let mut root_is_woken = true;
        loop {
            self.begin_turn();
            root_is_woken |= self.spread_wakes(root_id);
            root_is_woken |= self.run_punctual(root_id);
            if root_is_woken {
                root_is_woken = false;
                self.0.io.borrow_mut().refill_budget();
                if let Poll::Ready(output) =
                    root.as_mut().poll(&mut Context::from_waker(&root_waker))
                {
                    self.0.io.borrow_mut().empty_outbox(); // The next turn may be far away.
                    return output;
                }
            }
            root_is_woken |= self.run_tasks(root_id);
            root_is_woken |= self.spread_wakes(root_id);
            self.exchange_with_kernel(root_is_woken);
        }
    }

    /// Goes once round the loop, without a root and without waiting. For a world that runs many runtimes on one thread.
    ///
    /// # Panics
    /// As [`Rt::block_on`].
    #[cfg(feature = "sim")]
    pub(super) fn turn(&self) {
        let _inside = self.go_inside();
        let nobody = self.0.slot.name_task(ROOT_INDEX);
        self.begin_turn();
        self.spread_wakes(nobody);
        self.run_punctual(nobody);
        self.run_tasks(nobody);
        self.spread_wakes(nobody);
        self.exchange_with_kernel(true);
        self.spread_wakes(nobody); // The thread leaves this runtime, whose wakes are its own still.
    }

    /// Lets no other task run any more in this turn. For the main task of a program in a world, as its last act: elsewhere its
    /// runtime ends with it, and in a world is to be shut down before its next turn.
    #[cfg(feature = "sim")]
    pub fn end_turn(&self) {
        self.0.executor.queue.borrow_mut().clear();
    }

    /// Whether a turn now would do anything.
    #[cfg(feature = "sim")]
    pub(super) fn has_work(&self) -> bool {
        let io = self.0.io.borrow();
        let is_due = self
            .next_timer()
            .is_some_and(|timer| timer <= self.0.kernel.now());
        let is_woken = unseen(|| self.0.slot.remote().is_woken());
        is_due
            || is_woken
            || !self.0.executor.queue.borrow().is_empty()
            || io.has_letters()
            || io.has_news_of_kernel()
    }

    /// When the next timer may fire or alarm go off; `None` when none is set.
    #[cfg(feature = "sim")]
    pub(super) fn next_timer(&self) -> Option<super::Instant> {
        let alarm = self.0.alarms.borrow().next();
        let timer = self.0.io.borrow().next_timer();
        alarm.into_iter().chain(timer).min()
    }

    /// Drops every task and socket and waits until the kernel owes nothing. Call it once, when nothing shall run any more.
    ///
    /// # Panics
    /// When called from within [`Rt::block_on`], or when the engine breaks down.
    pub fn shut_down(&self) {
        let executor = &self.0.executor;
        assert!(!executor.running.get(), "shut_down comes after the loop");
        let _entered = self.0.slot.enter();
        let keys = executor.tasks.borrow().keys();
        for key in keys {
            let task = executor.tasks.borrow_mut().remove(key);
            drop_caught(task, &executor.panics);
        }
        self.0.io.borrow_mut().close_all();
        for _ in 0..SHUTDOWN_TURNS_MAX {
            let mut io = self.0.io.borrow_mut();
            if io.is_quiet() {
                return;
            }
            let wait = Some(Duration::from_millis(1));
            io.turn(wait, self.0.slot.remote())
                .expect("the engine works until the end");
        }
    }

    /// Has every task look again at what it waits for. For rare news that concerns all, such as the beginning of a drain.
    pub fn wake_all(&self) {
        let executor = &self.0.executor;
        let mut tasks = executor.tasks.borrow_mut();
        for key in tasks.keys() {
            if let Some(task) = tasks.get_mut(key)
                && !std::mem::replace(&mut task.queued, true)
            {
                executor.queue.borrow_mut().push_back(key);
            }
        }
    }

    /// Lets the other tasks run first.
    #[must_use]
    pub fn yield_now(&self) -> Yield {
        Yield { yielded: false }
    }

    /// Makes this thread the one that runs the loop, until the guards are dropped.
    fn go_inside(&self) -> (Entered, Running<'_>) {
        let running = &self.0.executor.running;
        assert!(!running.replace(true), "a runtime is run by one loop");
        (self.0.slot.enter(), Running(running))
    }

    fn begin_turn(&self) {
        let now = self.0.kernel.now();
        self.0.now.set(now);
        self.0.io.borrow_mut().set_now(now, TIMERS_MAX);
    }

    /// Runs those whose alarm has gone off, then those whom they woke, and lets what they wrote leave. Says whether the root
    /// is to run as well.
    fn run_punctual(&self, root: TaskId) -> bool {
        if !self.alarm_has_gone_off() {
            return false;
        }
        let mut root_is_woken = self.spread_wakes(root); // Whoever was woken before keeps its place in the line.
        let now = self.precise_now();
        for _ in 0..TIMERS_MAX {
            let Some(waker) = self.0.alarms.borrow_mut().expire(now) else {
                break;
            };
            waker.wake();
        }
        let mut woken = self.0.executor.punctual.take();
        // First those whose alarm it was, then those whom they woke.
        for _ in 0..2 {
            take_local(&mut woken);
            for id in woken.drain(..) {
                if id == root {
                    root_is_woken = true;
                } else if let Some(key) = self.0.executor.live(id) {
                    self.poll_task(key);
                }
            }
        }
        self.0.executor.punctual.replace(woken);
        self.0.io.borrow_mut().empty_outbox();
        root_is_woken
    }

    fn alarm_has_gone_off(&self) -> bool {
        let next = self.0.alarms.borrow().next();
        next.is_some_and(|next| next <= self.precise_now())
    }

    /// How long nothing is due; `None` when neither a timer nor an alarm is set.
    fn until_next_due(&self, io: &Io) -> Option<Duration> {
        let timer = io.until_next_timer(self.now()); // At most one turn late, and a clock read less.
        let Some(alarm) = self.0.alarms.borrow().next() else {
            return timer;
        };
        let alarm = (alarm - self.precise_now()).saturating_sub(self.0.spin.get());
        Some(timer.map_or(alarm, |timer| timer.min(alarm)))
    }

    /// Queues every task that was woken; says whether the root was.
    fn spread_wakes(&self, root: TaskId) -> bool {
        let executor = &self.0.executor;
        let mut woken = executor.woken.borrow_mut();
        self.0.slot.remote().take(&mut woken);
        take_local(&mut woken);
        let mut root_is_woken = false;
        {
            let tasks = executor.tasks.borrow();
            woken
                .iter()
                .for_each(|id| prefetch(tasks.address_of(id.index), 1));
        }
        let mut tasks = executor.tasks.borrow_mut();
        let mut queue = executor.queue.borrow_mut();
        for id in woken.drain(..) {
            if id == root {
                root_is_woken = true;
            } else if let Some((key, task)) = tasks.occupant_mut(id.index)
                && task.id == id
                && !task.queued
            {
                task.queued = true;
                queue.push_back(key);
            }
        }
        root_is_woken
    }

    /// Polls who is in the line; says whether the root is to run.
    fn run_tasks(&self, root: TaskId) -> bool {
        let executor = &self.0.executor;
        let started = self.now();
        let has_alarms = self.0.alarms.borrow().next().is_some();
        let mut root_is_woken = false;
        for polled in 1..=POLLS_MAX {
            let Some(key) = executor.queue.borrow_mut().pop_front() else {
                self.0.vigil.note_turn(polled == 1);
                break;
            };
            self.poll_task(key);
            if has_alarms {
                root_is_woken |= self.run_punctual(root);
            }
            let looks_at_clock = polled % POLLS_PER_CLOCK_READ == 0;
            if looks_at_clock && self.precise_now() - started > TURN_MAX {
                break;
            }
        }
        root_is_woken
    }

    fn poll_task(&self, key: Key) {
        let executor = &self.0.executor;
        let (mut future, waker) = {
            let mut tasks = executor.tasks.borrow_mut();
            // While this task talks to the kernel, the next one's memory can already be on its way.
            let next = executor.queue.borrow().front().copied();
            if let Some(future) = next.and_then(|next| tasks.get(next)?.future.as_ref()) {
                prefetch_future(&**future);
            }
            let Some(task) = tasks.get_mut(key) else {
                return;
            };
            task.queued = false;
            let Some(future) = task.future.take() else {
                return;
            };
            (future, task.waker.clone())
        };
        #[cfg(feature = "sim")]
        executor.polls.set(executor.polls.get() + 1);
        self.0.io.borrow_mut().refill_budget();
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(task) = executor.tasks.borrow_mut().get_mut(key) {
                    task.future = Some(future);
                }
            }
            Ok(Poll::Ready(())) => {
                let task = executor.tasks.borrow_mut().remove(key);
                drop_caught((task, future), &executor.panics);
            }
            Err(_reported_by_the_hook) => {
                executor.panics.set(executor.panics.get() + 1);
                let task = executor.tasks.borrow_mut().remove(key);
                drop_caught((task, future), &executor.panics);
            }
        }
    }

    fn exchange_with_kernel(&self, root_is_woken: bool) {
        self.0.io.borrow_mut().empty_outbox();
        let can_go_on = root_is_woken || has_local() || !self.0.executor.queue.borrow().is_empty();
        let remote = self.0.slot.remote();
        let mut io = self.0.io.borrow_mut();
        let stays_awake = can_go_on || self.0.vigil.holds(|| self.precise_now());
        let wait = if stays_awake || !remote.prepare_to_sleep() {
            Some(Duration::ZERO)
        } else {
            self.until_next_due(&io)
        };
        let exchanged = io.turn(wait, remote);
        remote.wake_up();
        exchanged.expect("the engine answers as long as the process lives");
    }
}

/// Ready the second time it is polled.
#[derive(Debug)]
pub struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Drops what a task owned; a panic in there costs no more than the task.
fn drop_caught<T>(owned: T, panics: &Cell<u64>) {
    if catch_unwind(AssertUnwindSafe(|| drop(owned))).is_err() {
        panics.set(panics.get() + 1);
    }
}

/// Has what a task touches to serve a small request come: its beginning, and its end, where the compiler has it note how far it is.
fn prefetch_future(future: &dyn Future<Output = ()>) {
    let start = std::ptr::from_ref(future).cast::<u8>();
    prefetch(start, FUTURE_LINES);
    prefetch(ending(start, size_of_val(future)), FUTURE_END_LINES);
}

/// Where the last lines begin of what is so long.
fn ending(start: *const u8, bytes: usize) -> *const u8 {
    let last = start.wrapping_add(bytes.saturating_sub(1));
    last.wrapping_sub(last.addr() % LINE_BYTES + (FUTURE_END_LINES - 1) * LINE_BYTES)
}

/// As many as processors fetch at once, and nearly all that is touched.
const FUTURE_LINES: usize = 16;
const FUTURE_END_LINES: usize = 2;
const LINE_BYTES: usize = 64;
const ROOT_INDEX: u32 = TASKS_MAX - 1;
/// Tasks polled in one turn at most: those that are ready wait no longer than that for the kernel.
const POLLS_MAX: u32 = 128;
/// How long one turn polls at most, looked at after every few polls.
const TURN_MAX: Duration = Duration::from_micros(500);
const POLLS_PER_CLOCK_READ: u32 = 16;
/// Timers fired in one turn at most.
const TIMERS_MAX: usize = 256;
/// Milliseconds that the kernel gets to give back what it holds at the end: far more than it needs.
const SHUTDOWN_TURNS_MAX: u32 = 2000;

#[cfg(test)]
mod tests {
    use super::super::{Engine, RtOptions};
    use super::*;
    use std::rc::Rc;

    fn rt() -> Rt {
        Rt::new(&RtOptions {
            engine: Engine::Epoll,
            ..RtOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn the_last_lines_of_a_task_are_those_with_its_last_byte_and_the_ones_before_it() {
        let room = [0_u64; 512]; // Two lines more than is looked at.
        let base = room.as_ptr().cast::<u8>();
        for offset in (128..256).step_by(8) {
            for bytes in [1, 8, 64, 400, 2144, 3304] {
                let start = base.wrapping_add(offset);
                let last = start.addr() + bytes - 1;
                let first = ending(start, bytes).addr();
                assert_eq!(first % LINE_BYTES, 0);
                assert_eq!((last - first) / LINE_BYTES, FUTURE_END_LINES - 1);
            }
        }
    }

    #[test]
    fn tasks_run_in_the_order_in_which_they_were_woken() {
        let rt = rt();
        let order = Rc::new(RefCell::new(Vec::new()));
        for name in 0..3 {
            let (rt2, order) = (rt.clone(), Rc::clone(&order));
            rt.spawn(async move {
                for round in 0..2 {
                    order.borrow_mut().push((round, name));
                    rt2.yield_now().await;
                }
            });
        }
        rt.block_on(async {
            while rt.tasks() > 0 {
                rt.yield_now().await
            }
        });
        assert_eq!(
            *order.borrow(),
            [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        );
    }

    #[test]
    fn a_task_whose_alarm_has_gone_off_waits_for_one_other_at_most() {
        let rt = rt();
        let order = Rc::new(RefCell::new(Vec::new()));
        let baton = Rc::new(RefCell::new(None::<Waker>));
        let (seen, waiting) = (Rc::clone(&order), Rc::clone(&baton));
        rt.spawn(async move {
            std::future::poll_fn(
                |cx| match waiting.borrow_mut().replace(cx.waker().clone()) {
                    None => Poll::Pending,
                    Some(_polled_before) => Poll::Ready(()),
                },
            )
            .await;
            seen.borrow_mut().push("woken by it");
        });
        let deadline = Rc::new(Cell::new(rt.precise_now()));
        let (rt2, seen, due) = (rt.clone(), Rc::clone(&order), Rc::clone(&deadline));
        rt.spawn(async move {
            rt2.yield_now().await;
            due.set(rt2.precise_now() + Duration::from_millis(1));
            rt2.alarm_at(due.get()).await;
            seen.borrow_mut().push("alarm");
            let waiter = baton.borrow().clone();
            waiter.expect("it has been polled").wake();
        });
        for _ in 0..4 {
            let (rt2, seen, due) = (rt.clone(), Rc::clone(&order), Rc::clone(&deadline));
            rt.spawn(async move {
                rt2.yield_now().await;
                rt2.yield_now().await;
                while rt2.precise_now() < due.get() {} // The first of them is busy until then.
                seen.borrow_mut().push("other");
            });
        }
        rt.block_on(async {
            while rt.tasks() > 0 {
                rt.yield_now().await
            }
        });
        let order = order.borrow();
        let alarm = order.iter().position(|name| *name == "alarm").unwrap();
        assert!(alarm <= 1, "{order:?}");
        assert_eq!(order[alarm + 1], "woken by it", "{order:?}");
    }

    #[test]
    fn a_panic_costs_its_task_and_no_other() {
        let rt = rt();
        let survived = Rc::new(Cell::new(false));
        let seen = Rc::clone(&survived);
        rt.spawn(async { panic!("planted: this test wants one task to die") });
        rt.spawn(async move { seen.set(true) });
        rt.block_on(async {
            while rt.tasks() > 0 {
                rt.yield_now().await
            }
        });
        assert!(survived.get());
        assert_eq!(rt.panics(), 1);
    }

    #[test]
    fn shutting_down_drops_tasks_that_never_end() {
        let rt = rt();
        let token = Rc::new(());
        let held = Rc::clone(&token);
        rt.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        rt.block_on(rt.yield_now());
        rt.shut_down();
        assert_eq!(Rc::strong_count(&token), 1);
        assert_eq!(rt.tasks(), 0);
    }

    #[test]
    fn waking_all_polls_every_task_once_more() {
        let rt = rt();
        let polls = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let polls = Rc::clone(&polls);
            rt.spawn(std::future::poll_fn(move |_cx| {
                polls.set(polls.get() + 1);
                Poll::Pending
            }));
        }
        rt.block_on(async {
            rt.yield_now().await;
            rt.yield_now().await;
            assert_eq!(polls.get(), 3, "nobody wakes them");
            rt.wake_all();
            rt.wake_all();
            rt.yield_now().await;
            rt.yield_now().await;
            assert_eq!(polls.get(), 6);
        });
        rt.shut_down();
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let rt = rt();
        let (tell, told) = std::sync::mpsc::channel::<Waker>();
        let thread = std::thread::Builder::new()
            .spawn(move || told.recv().unwrap().wake())
            .unwrap();
        let mut sent = false;
        rt.block_on(std::future::poll_fn(|cx| {
            if sent {
                return Poll::Ready(());
            }
            sent = true;
            tell.send(cx.waker().clone()).unwrap();
            Poll::Pending
        }));
        thread.join().unwrap();
    }
}
