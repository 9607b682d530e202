//! Wakers that are integers: runtime slot, task and generation in one word.
//!
//! A waker owns nothing and counts nothing, so cloning and dropping it are free and one that outlives its task, or its
//! whole runtime, is harmless: its generation is stale. The only globals of the runtime live here: the table of runtime
//! slots, and the slot that the current thread is running.
#![expect(unsafe_code, reason = "a RawWaker's table is made by hand")]
#![expect(
    clippy::disallowed_types,
    reason = "wakes from foreign threads are rare and cross by a lock"
)]

#[cfg(feature = "sim")]
use crate::base::sync::lines::{Actor, act_as};
use crate::base::sync::{
    Arc, AtomicBool, GlobalMutex, GlobalMutexGuard, Mutex, MutexGuard, Ordering, fence,
};
use crate::sys::event::EventFd;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::PoisonError;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Names one task of one runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId {
    /// Place of the runtime in the table, below [`RUNTIMES_MAX`].
    pub(crate) runtime: u32,
    /// Place of the task in its runtime, below [`TASKS_MAX`].
    pub(crate) index: u32,
    /// Which occupant of that place, below 2^28; a runtime slot never repeats one within 2^28 spawns.
    pub(crate) generation: u32,
}

impl TaskId {
    fn pack(self) -> u64 {
        debug_assert!(self.runtime < RUNTIMES_MAX);
        debug_assert!(self.index < TASKS_MAX);
        let high = u64::from(self.runtime) << (INDEX_BITS + GENERATION_BITS);
        let middle = u64::from(self.index) << GENERATION_BITS;
        high | middle | u64::from(self.generation & GENERATION_MASK)
    }

    fn unpack(word: u64) -> Self {
        let bits = |shift: u32, width: u32| {
            u32::try_from((word >> shift) & ((1 << width) - 1))
                .expect("every field is under 32 bits")
        };
        Self {
            runtime: bits(INDEX_BITS + GENERATION_BITS, RUNTIME_BITS),
            index: bits(GENERATION_BITS, INDEX_BITS),
            generation: bits(0, GENERATION_BITS),
        }
    }

    /// The waker of this task.
    pub(crate) fn waker(self) -> Waker {
        let word = usize::try_from(self.pack()).expect("the proxy runs on 64-bit machines");
        let data = std::ptr::without_provenance(word);
        // SAFETY: the table's functions treat the data as an integer and never as an address; they may be called from
        // any thread at any time.
        unsafe { Waker::new(data, &VTABLE) }
    }
}

/// A place in the table of runtimes, freed on drop.
#[derive(Debug)]
pub(crate) struct RuntimeSlot {
    index: u32,
    /// In lines of its own: its owner writes there in every turn that may sleep.
    remote: Arc<CachePadded<Remote>>,
    next_generation: Cell<u32>,
}

impl RuntimeSlot {
    /// Takes a free place.
    ///
    /// # Errors
    /// `QuotaExceeded` when 16,384 runtimes exist; what `eventfd(2)` answers.
    pub(crate) fn take() -> io::Result<Self> {
        let remote = Arc::new(CachePadded::new(Remote::new()?));
        let mut table = runtimes();
        let vacant = table.iter().position(|place| place.remote.is_none());
        let index = match vacant {
            Some(index) => index,
            None if table.len() < RUNTIMES_MAX as usize => {
                table.push(Place {
                    remote: None,
                    next_generation: 0,
                });
                table.len() - 1
            }
            None => return Err(io::Error::from(io::ErrorKind::QuotaExceeded)),
        };
        let place = &mut table[index];
        place.remote = Some(Arc::clone(&remote));
        let next_generation = Cell::new(place.next_generation);
        let index = u32::try_from(index).expect("the table is shorter than RUNTIMES_MAX");
        Ok(Self {
            index,
            remote,
            next_generation,
        })
    }

    /// A name for a new task; the generation differs from that of every task this place ever had (but for wrapping).
    pub(crate) fn name_task(&self, index: u32) -> TaskId {
        let generation = self.next_generation.get();
        self.next_generation
            .set(generation.wrapping_add(1) & GENERATION_MASK);
        TaskId {
            runtime: self.index,
            index,
            generation,
        }
    }

    /// Under which number it writes and reads where others do, too.
    #[cfg(feature = "sim")]
    pub(crate) fn actor(&self) -> Actor {
        Actor(self.index)
    }

    /// Where other threads leave their wakes.
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Makes this the runtime that the current thread runs, until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        CURRENT.with(|current| {
            hand_over(current);
            #[cfg(feature = "sim")]
            act_as(Actor(self.index));
            Entered {
                outer: current.slot.replace(self.index),
            }
        })
    }
}

impl Drop for RuntimeSlot {
    fn drop(&mut self) {
        let mut table = runtimes();
        let place = &mut table[self.index as usize];
        place.remote = None;
        place.next_generation = self.next_generation.get();
    }
}

/// Puts the outer runtime of the thread back on drop.
#[derive(Debug)]
pub(crate) struct Entered {
    outer: u32,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            hand_over(current);
            #[cfg(feature = "sim")]
            act_as(Actor(self.outer));
            current.slot.set(self.outer);
        });
    }
}

/// Moves the wakes of tasks of the current runtime, made since the last call, into `sink`.
pub(crate) fn take_local(sink: &mut Vec<TaskId>) {
    CURRENT.with(|current| sink.append(&mut current.woken.borrow_mut()));
}

/// Whether a task of the current runtime was woken since the last [`take_local`].
pub(crate) fn has_local() -> bool {
    CURRENT.with(|current| !current.woken.borrow().is_empty())
}

/// What other threads may touch of a runtime.
#[derive(Debug)]
pub(crate) struct Remote {
    bell: EventFd,
    woken: Mutex<Vec<TaskId>>,
    pending: AtomicBool,
    sleeping: AtomicBool,
}

impl Remote {
    fn new() -> io::Result<Self> {
        Ok(Self {
            bell: EventFd::new()?,
            woken: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
        })
    }

    /// Rung when a wake arrives during a wait.
    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// Announces a wait; `false` when a wake has come already and the wait must not block.
    pub(crate) fn prepare_to_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // With the one in `push`: one of the two sees what the other has stored.
        !self.pending.load(Ordering::Acquire)
    }

    /// Whether a wake has come. For a world that gives turns to who has something to do, and in which nobody sleeps.
    #[cfg(feature = "sim")]
    pub(crate) fn is_woken(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Ends what [`Remote::prepare_to_sleep`] announced.
    pub(crate) fn wake_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Moves the wakes from other threads into `sink`.
    pub(crate) fn take(&self, sink: &mut Vec<TaskId>) {
        if self.pending.load(Ordering::Acquire) {
            let mut woken = lock(&self.woken);
            self.pending.store(false, Ordering::Relaxed); // Later pushes come after it: they take the lock.
            sink.append(&mut woken);
        }
    }

    fn push(&self, id: TaskId) {
        lock(&self.woken).push(id);
        self.pending.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // See `prepare_to_sleep`.
        if self.sleeping.load(Ordering::Relaxed) {
            self.bell.ring();
        }
    }
}

fn wake(data: *const ()) {
    let id = TaskId::unpack(data.addr() as u64);
    // A thread that is ending has no runtime; its wakes cross like those of any other thread.
    let is_local = CURRENT.try_with(|current| {
        let is_local = current.slot.get() == id.runtime;
        if is_local {
            current.woken.borrow_mut().push(id);
        }
        is_local
    });
    if is_local != Ok(true) {
        wake_from_outside(id);
    }
}

/// Leaves the wakes of a runtime that is left where its next turn finds them.
fn hand_over(current: &Current) {
    current
        .woken
        .borrow_mut()
        .drain(..)
        .for_each(wake_from_outside);
}

fn wake_from_outside(id: TaskId) {
    let remote = runtimes()
        .get(id.runtime as usize)
        .and_then(|place| place.remote.clone());
    if let Some(remote) = remote {
        remote.push(id);
    }
}

fn runtimes() -> GlobalMutexGuard<'static, Vec<Place>> {
    RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner) // As below.
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // The guarded values are whole between any two statements.
}

struct Place {
    remote: Option<Arc<CachePadded<Remote>>>,
    next_generation: u32,
}

struct Current {
    slot: Cell<u32>,
    woken: RefCell<Vec<TaskId>>,
}

static RUNTIMES: GlobalMutex<Vec<Place>> = GlobalMutex::new(Vec::new());

thread_local! {
    static CURRENT: Current =
        const { Current { slot: Cell::new(NO_RUNTIME), woken: RefCell::new(Vec::new()) } };
}

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_data| ());

const RUNTIME_BITS: u32 = 14;
const INDEX_BITS: u32 = 22;
const GENERATION_BITS: u32 = 28;
const _: () = assert!(RUNTIME_BITS + INDEX_BITS + GENERATION_BITS == 64);
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
/// Runtimes that may exist at once in a process.
pub(crate) const RUNTIMES_MAX: u32 = 1 << RUNTIME_BITS;
/// Tasks that a runtime may have at once, the root included.
pub(crate) const TASKS_MAX: u32 = 1 << INDEX_BITS;
const NO_RUNTIME: u32 = u32::MAX;
#[cfg(feature = "sim")]
const _: () = assert!(NO_RUNTIME == Actor::NOBODY.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_trip_through_a_word() {
        let id = TaskId {
            runtime: RUNTIMES_MAX - 1,
            index: TASKS_MAX - 1,
            generation: GENERATION_MASK,
        };
        assert_eq!(TaskId::unpack(id.pack()), id);
        let id = TaskId {
            runtime: 1,
            index: 2,
            generation: 3,
        };
        assert_eq!(TaskId::unpack(id.pack()), id);
    }

    #[test]
    fn a_wake_of_the_current_runtime_stays_on_the_thread() {
        let slot = RuntimeSlot::take().unwrap();
        let entered = slot.enter();
        let id = slot.name_task(7);
        id.waker().wake_by_ref();
        let mut woken = Vec::new();
        take_local(&mut woken);
        assert_eq!(woken, [id]);
        slot.remote().take(&mut woken);
        assert_eq!(woken.len(), 1);
        drop(entered);
    }

    #[test]
    fn a_wake_from_another_thread_arrives_and_rings_only_a_sleeper() {
        let slot = RuntimeSlot::take().unwrap();
        let id = slot.name_task(7);
        assert!(slot.remote().prepare_to_sleep());
        let waker = id.waker();
        std::thread::scope(|scope| {
            scope.spawn(move || waker.wake());
        });
        assert!(!slot.remote().prepare_to_sleep());
        let mut woken = Vec::new();
        slot.remote().take(&mut woken);
        assert_eq!(woken, [id]);
    }

    #[test]
    fn a_waker_of_a_gone_runtime_wakes_nobody() {
        let slot = RuntimeSlot::take().unwrap();
        let stale = slot.name_task(1);
        let waker = stale.waker();
        drop(slot);
        waker.wake_by_ref();
        let next = RuntimeSlot::take().unwrap();
        waker.wake();
        let mut woken = Vec::new();
        next.remote().take(&mut woken);
        assert!(woken.iter().all(|id| *id != next.name_task(1)));
    }

    /// A thousand runtimes come and go on 64 threads, and each thread wakes tasks of runtimes that are gone.
    #[test]
    fn wakers_of_gone_runtimes_never_reach_later_ones() {
        const ROUNDS: u32 = if cfg!(miri) { 2 } else { 16 };
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    let mut stale: Vec<Waker> = Vec::new();
                    for _ in 0..ROUNDS {
                        let slot = RuntimeSlot::take().unwrap();
                        let id = slot.name_task(3);
                        stale.iter().for_each(Waker::wake_by_ref);
                        id.waker().wake();
                        let mut woken = Vec::new();
                        slot.remote().take(&mut woken);
                        let mine = |found: &&TaskId| **found == id;
                        assert_eq!(woken.iter().filter(mine).count(), 1);
                        stale.push(id.waker());
                    }
                });
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// Sleeps as the loop does, until the bell rings. A wake that is lost is a deadlock, which the model tells.
    fn sleep_until_woken(remote: &Remote, woken: &mut Vec<TaskId>) {
        if remote.prepare_to_sleep() {
            remote.bell().wait();
        }
        remote.wake_up();
        remote.take(woken);
    }

    fn id(index: u32) -> TaskId {
        TaskId {
            runtime: 0,
            index,
            generation: 0,
        }
    }

    #[test]
    fn no_wake_from_another_thread_is_lost_to_a_loop_that_falls_asleep() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3); // All orders with up to three of them: seconds, not hours.
        model.check(|| {
            let remote = loom::sync::Arc::new(Remote::new().unwrap());
            for index in 0..2 {
                let remote = loom::sync::Arc::clone(&remote);
                thread::spawn(move || remote.push(id(index)));
            }
            let mut woken = Vec::new();
            remote.take(&mut woken);
            while woken.len() < 2 {
                sleep_until_woken(&remote, &mut woken);
            }
            woken.sort_by_key(|id| id.index);
            assert_eq!(woken, [id(0), id(1)]);
        });
    }
}
