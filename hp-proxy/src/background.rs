//! Work that takes its time, such as making a plan of ten thousand routes, on a thread of its own that gives way to workers. Whoever
//! started it is rung for when it is done, and does not wait.

use hp_core::sys::cpu;
use std::io;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::Builder;

/// What a thread is making. Dropped, the thread goes on to its end, and what it makes is dropped with it.
#[derive(Debug)]
pub(crate) struct Background<T>(mpsc::Receiver<T>);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress<T> {
    /// It goes on.
    Making,
    /// It is done.
    Made(T),
    /// The thread has panicked, which the log tells.
    Failed,
}

impl<T: Send + 'static> Background<T> {
    /// Starts a thread for some work; `ring` is called on it when the work is done.
    ///
    /// # Errors
    /// `EAGAIN` when there is no thread to be had.
    pub(crate) fn start(
        work: impl FnOnce() -> T + Send + 'static,
        ring: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (give, made) = mpsc::channel();
        Builder::new()
            .name(String::from("hp-plan"))
            .spawn(move || {
                match cpu::give_way(NICE) {
                    Ok(()) => (),
                    Err(_refused) => (), // It is made all the same.
                }
                match give.send(work()) {
                    Ok(()) => ring(),
                    Err(_unwanted) => (), // The process is about to end.
                }
            })?;
        Ok(Self(made))
    }

    /// Looks whether it is done; what was made is given once.
    pub(crate) fn look(&self) -> Progress<T> {
        match self.0.try_recv() {
            Ok(made) => Progress::Made(made),
            Err(TryRecvError::Empty) => Progress::Making,
            Err(TryRecvError::Disconnected) => Progress::Failed,
        }
    }
}

/// A worker that wants the CPU gets about nine times as much of it (sched(7)).
const NICE: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The nineteenth number of a thread's line in the kernel's books (proc_pid_stat(5)).
    fn nice() -> i32 {
        let line = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = line.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn the_thread_gives_way_and_rings_when_it_is_done() {
        let before = nice();
        let (ring, rung) = mpsc::channel();
        let work = Background::start(nice, move || ring.send(()).unwrap()).unwrap();
        rung.recv().unwrap();
        assert_eq!(work.look(), Progress::Made(NICE.max(before)));
        assert_eq!(nice(), before, "nobody else does");
    }

    #[test]
    fn it_is_looked_at_without_waiting() {
        let (go, gone) = mpsc::channel();
        let (ring, rung) = mpsc::channel();
        let work = move || gone.recv().unwrap();
        let work = Background::start(work, move || ring.send(()).unwrap()).unwrap();
        assert_eq!(work.look(), Progress::Making);
        go.send(7).unwrap();
        rung.recv().unwrap();
        assert_eq!(work.look(), Progress::Made(7));
    }

    #[test]
    fn a_thread_that_panics_is_told_of() {
        let work = || -> u32 { panic!("on purpose") };
        let work = Background::start(work, || unreachable!("nothing is done")).unwrap();
        assert!(
            work.0.recv().is_err(),
            "it waits until the thread has ended"
        );
        assert_eq!(work.look(), Progress::Failed);
    }
}
