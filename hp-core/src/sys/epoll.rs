//! epoll(7): which descriptors became ready.

use super::{check, event::EventFd};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What became true of one registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The number given at registration.
    pub token: u64,
    /// Bytes, EOF or an error can be read.
    pub readable: bool,
    /// Bytes can be written, or an error is known.
    pub writable: bool,
    /// The peer will send nothing more (FIN, RST), or the socket failed.
    pub hung_up: bool,
    /// The socket failed, or both directions have ended.
    pub failed: bool,
    /// The peer has marked a byte as urgent that nobody has received past yet. ppoll is not asked for it.
    pub urgent: bool,
}

/// An epoll instance and the place where it puts its events.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
    /// The number of `epoll_pwait2(2)`, until the kernel says that it has no such call.
    pwait2: Option<libc::c_long>,
}

impl Epoll {
    /// Makes an instance that reports at most `events_max` descriptors per wait.
    ///
    /// # Errors
    /// What `epoll_create1(2)` answers.
    pub fn new(events_max: usize) -> io::Result<Self> {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let fd = check(fd)?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; events_max];
        Ok(Self {
            fd,
            events,
            ready: 0,
            pwait2: Some(libc::SYS_epoll_pwait2),
        })
    }

    /// Registers a connection once, for both directions, edge-triggered: `epoll_ctl` is never called for it again.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answers.
    pub fn add_stream(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let both =
            libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd, both, token)
    }

    /// Registers a listening socket, level-triggered: what one turn does not accept is reported again.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answers.
    pub fn add_listener(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, token)
    }

    /// Registers the bell, edge-triggered.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answers.
    pub fn add_bell(&self, bell: &EventFd, token: u64) -> io::Result<()> {
        self.control(
            libc::EPOLL_CTL_ADD,
            bell.as_raw(),
            libc::EPOLLIN | libc::EPOLLET,
            token,
        )
    }

    /// Takes a listening socket out, so that it can be paused.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answers.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until something is ready or the time is over (`None`: without end; zero: only looks). Where the kernel, or what
    /// plays it (Valgrind does), has no `epoll_pwait2(2)`, the time is rounded up to a millisecond.
    ///
    /// # Errors
    /// What `epoll_pwait2(2)` answers, but for EINTR, which counts as nothing ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready = 0;
        let result = match self.pwait2 {
            Some(call) => self.wait_precise(call, timeout),
            None => self.wait_coarse(timeout),
        };
        match result {
            Ok(ready) => self.ready = ready,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && self.pwait2.is_some() => {
                self.pwait2 = None; // Linux before 5.11.
                return self.wait(timeout);
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => (),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How many descriptors the last wait reported.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready
    }

    /// The number that one of the reports of the last wait has; the same as that of [`Epoll::ready_at`].
    #[must_use]
    #[inline]
    pub fn token_at(&self, position: usize) -> Option<u64> {
        let event = self.events.get(..self.ready)?.get(position)?;
        Some(event.u64)
    }

    /// One of the reports of the last wait.
    #[must_use]
    #[inline]
    pub fn ready_at(&self, position: usize) -> Option<Readiness> {
        let event = self.events.get(..self.ready)?.get(position)?;
        let has = |bits: libc::c_int| event.events & bits.cast_unsigned() != 0;
        let hung_up = has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        let failed = has(libc::EPOLLHUP | libc::EPOLLERR);
        Some(Readiness {
            token: event.u64,
            readable: has(libc::EPOLLIN) || hung_up,
            writable: has(libc::EPOLLOUT) || failed,
            hung_up,
            failed,
            urgent: has(libc::EPOLLPRI),
        })
    }

    fn wait_precise(&mut self, call: libc::c_long, timeout: Option<Duration>) -> io::Result<usize> {
        let limit = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let capacity = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the events' place is valid for `capacity` entries; the limit is null or lives here; no signal mask.
        let result = unsafe {
            libc::syscall(
                call,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                capacity,
                limit,
                std::ptr::null::<libc::sigset_t>(),
                size_of::<libc::sigset_t>(),
            )
        };
        usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
    }

    fn wait_coarse(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let round_up = |t: Duration| t.as_nanos().div_ceil(1_000_000);
        let millis = timeout.map_or(-1, |t| {
            libc::c_int::try_from(round_up(t)).unwrap_or(libc::c_int::MAX)
        });
        let capacity = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the events' place is valid for `capacity` entries.
        let result = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                capacity,
                millis,
            )
        };
        usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
    }

    fn control(&self, op: libc::c_int, fd: RawFd, bits: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: bits.cast_unsigned(),
            u64: token,
        };
        // SAFETY: `event` is a valid epoll_event for the duration of the call.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &raw mut event) };
        check(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket;
    use super::*;

    /// No kernel has a call of this number.
    const MISSING: libc::c_long = 1 << 20;

    #[test]
    fn a_kernel_without_the_precise_wait_is_asked_by_the_coarse_one() {
        let mut epoll = Epoll::new(4).unwrap();
        epoll.pwait2 = Some(MISSING);
        let missing = epoll.wait_precise(MISSING, None).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOSYS));
        let (one, other) = socket::pair().unwrap();
        epoll.add_stream(one.as_raw_fd(), 7).unwrap();
        epoll.wait(None).unwrap(); // Ready for writing at once, and never asked precisely again.
        assert_eq!((epoll.ready_len(), epoll.pwait2), (1, None));
        socket::send(other.as_raw_fd(), &[io::IoSlice::new(b"x")]).unwrap();
        epoll.wait(None).unwrap();
        let ready = epoll.ready_at(0).unwrap();
        assert_eq!(
            (epoll.ready_len(), ready.token, ready.readable),
            (1, 7, true)
        );
        assert_eq!((epoll.token_at(0), epoll.token_at(1)), (Some(7), None));
        epoll.wait(Some(Duration::from_nanos(1))).unwrap();
        assert_eq!(epoll.ready_len(), 0);
    }

    #[test]
    fn a_kernel_with_the_precise_wait_keeps_being_asked_by_it() {
        let mut epoll = Epoll::new(4).unwrap();
        epoll.wait(Some(Duration::from_nanos(1))).unwrap();
        assert_eq!(epoll.pwait2, Some(libc::SYS_epoll_pwait2));
    }
}
