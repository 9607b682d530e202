//! Signals as values, read by the main thread; no code ever runs in a signal's handler.

use super::check;
use std::io;
use std::time::Duration;

/// The signals that the servers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload.
    Hangup,
    /// SIGINT: as SIGTERM.
    Interrupt,
    /// SIGTERM: drain, then exit 0.
    Terminate,
    /// SIGUSR1: print a summary.
    User1,
    /// SIGUSR2: hand over to a new binary.
    User2,
}

/// A set of signals that is blocked in every thread and read by one.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks these signals in the calling thread and in every thread that it starts from now on.
    ///
    /// # Errors
    /// What `pthread_sigmask(3)` answers.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        // SAFETY: sigset_t is an array of integers, for which all zeroes is a value.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid sigset_t.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in signals {
            // SAFETY: `set` is initialised and the number is a signal's.
            unsafe { libc::sigaddset(&raw mut set, number(*signal)) };
        }
        // SAFETY: `set` is initialised; the old mask is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(Self { set })
    }

    /// Waits for one of the signals; blocks the calling thread.
    ///
    /// # Errors
    /// What `sigwaitinfo(2)` answers, but for EINTR, which is waited out.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.receive(None)? {
                return Ok(signal);
            }
        }
    }

    /// Waits for one of the signals, at most `timeout`; `None` when none came.
    ///
    /// # Errors
    /// As [`Signals::wait`].
    pub fn wait_for(&self, timeout: Duration) -> io::Result<Option<Signal>> {
        self.receive(Some(timeout))
    }

    fn receive(&self, timeout: Option<Duration>) -> io::Result<Option<Signal>> {
        let limit = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is initialised; siginfo is not asked for; the limit is null or a timespec that lives here.
        let result =
            unsafe { libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), limit) };
        match check(result) {
            Ok(number) => Ok(signal(number)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

fn number(signal: Signal) -> libc::c_int {
    match signal {
        Signal::Hangup => libc::SIGHUP,
        Signal::Interrupt => libc::SIGINT,
        Signal::Terminate => libc::SIGTERM,
        Signal::User1 => libc::SIGUSR1,
        Signal::User2 => libc::SIGUSR2,
    }
}

fn signal(number: libc::c_int) -> Option<Signal> {
    match number {
        libc::SIGHUP => Some(Signal::Hangup),
        libc::SIGINT => Some(Signal::Interrupt),
        libc::SIGTERM => Some(Signal::Terminate),
        libc::SIGUSR1 => Some(Signal::User1),
        libc::SIGUSR2 => Some(Signal::User2),
        _ => None,
    }
}
