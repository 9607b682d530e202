//! Signals as values, read by the main thread; no code ever runs in a signal's handler.

use super::check;
use super::event::EventFd;
use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
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
    /// Made by the first wait that needs it.
    descriptor: OnceCell<OwnedFd>,
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
        Ok(Self {
            set,
            descriptor: OnceCell::new(),
        })
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

    /// The same, and ends when another thread rings the bell, too, which is silenced then; `None` for that as well.
    ///
    /// # Errors
    /// As [`Signals::wait`].
    pub fn wait_for_or(&self, bell: &EventFd, timeout: Duration) -> io::Result<Option<Signal>> {
        match self.descriptor() {
            Ok(signals) => wait_readable([signals, bell.as_raw()], timeout)?,
            // Without descriptors nobody is left waiting for long all the same.
            Err(_none_free) => return self.receive(Some(timeout.min(WITHOUT_BELL))),
        }
        bell.silence();
        self.receive(Some(Duration::ZERO))
    }

    /// A descriptor that is readable while one of the signals is pending.
    fn descriptor(&self) -> io::Result<RawFd> {
        if let Some(known) = self.descriptor.get() {
            return Ok(known.as_raw_fd());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised.
        let fd = unsafe { libc::signalfd(-1, &raw const self.set, flags) };
        let fd = check(fd)?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(self.descriptor.get_or_init(|| owned).as_raw_fd())
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

/// Waits until one of the descriptors is readable, or for so long.
fn wait_readable(fds: [libc::c_int; 2], timeout: Duration) -> io::Result<()> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `polled` is an array of as many entries, which lives here.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    match check(result) {
        Ok(_readable) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}

/// How long a bell may go unheard while the process has no descriptor left.
const WITHOUT_BELL: Duration = Duration::from_millis(100);

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each look made one, and closed it again.
    #[test]
    fn a_descriptor_of_signals_is_made_once() {
        let signals = Signals::block(&[Signal::User1]).unwrap();
        let first = signals.descriptor().unwrap();
        let bell = EventFd::new().unwrap();
        bell.ring();
        let heard = signals.wait_for_or(&bell, Duration::from_secs(60)).unwrap();
        assert_eq!(heard, None);
        let other = EventFd::new().unwrap(); // Whoever comes next gets the number of one that was closed.
        assert_ne!(other.as_raw(), first);
        assert_eq!(signals.descriptor().unwrap(), first);
    }
}
