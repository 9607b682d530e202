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
}

/// An epoll instance and the place where it puts its events.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
    has_pwait2: bool,
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
            has_pwait2: true,
        })
    }

    /// Registers a connection once, for both directions, edge-triggered: `epoll_ctl` is never called for it again.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answers.
    pub fn add_stream(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let both = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
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

    /// Waits until something is ready or the time is over (`None`: without end; zero: only looks).
    ///
    /// # Errors
    /// What `epoll_pwait2(2)` answers, but for EINTR, which counts as nothing ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready = 0;
        let result = if self.has_pwait2 {
            self.wait_precise(timeout)
        } else {
            self.wait_coarse(timeout)
        };
        match result {
            Ok(ready) => self.ready = ready,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && self.has_pwait2 => {
                self.has_pwait2 = false; // Linux before 5.11.
                self.ready = self.wait_coarse(timeout)?;
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

    /// One of the reports of the last wait.
    #[must_use]
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
        })
    }

    fn wait_precise(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let limit = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let capacity = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the events' place is valid for `capacity` entries; the limit is null or lives here; no signal mask.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
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
