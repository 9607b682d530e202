//! ppoll(2): which descriptors of a list are ready. The list is told anew before each wait, so the kernel keeps nothing.

use super::check;
use super::epoll::Readiness;
use super::event::EventFd;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What is asked of one descriptor. That it failed, or ended in both directions, is reported whatever is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Whether bytes, EOF or an error can be read.
    pub readable: bool,
    /// Whether bytes can be written.
    pub writable: bool,
    /// Whether the peer has ended.
    pub hung_up: bool,
}

/// The descriptors of one wait, and the place where the kernel puts its answers.
///
/// `watched.len() == tokens.len()`; a report is an entry of `watched` with an answer.
#[derive(Debug, Default)]
pub struct Ppoll {
    watched: Vec<libc::pollfd>,
    tokens: Vec<u64>,
    /// Positions of the entries that the last wait reported, in the order of the list.
    ready: Vec<u32>,
}

impl Ppoll {
    /// Begins a new list.
    pub fn clear(&mut self) {
        self.watched.clear();
        self.tokens.clear();
        self.ready.clear();
    }

    /// Adds a descriptor to the list; it must stay open until the wait is over.
    pub fn watch(&mut self, fd: RawFd, token: u64, interest: Interest) {
        let bit = |is_asked: bool, bit: libc::c_short| if is_asked { bit } else { 0 };
        self.watched.push(libc::pollfd {
            fd,
            events: bit(interest.readable, libc::POLLIN)
                | bit(interest.writable, libc::POLLOUT)
                | bit(interest.hung_up, libc::POLLRDHUP),
            revents: 0,
        });
        self.tokens.push(token);
    }

    /// Adds the bell to the list. Its report has to be followed by silencing it, or it is reported again.
    pub fn watch_bell(&mut self, bell: &EventFd, token: u64) {
        let interest = Interest {
            readable: true,
            ..Interest::default()
        };
        self.watch(bell.as_raw(), token, interest);
    }

    /// Waits until something of the list is ready or the time is over (`None`: without end; zero: only looks).
    ///
    /// # Errors
    /// What `ppoll(2)` answers, but for EINTR, which counts as nothing ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let limit = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = libc::nfds_t::try_from(self.watched.len()).unwrap_or(libc::nfds_t::MAX);
        // SAFETY: the list is `count` valid entries; the limit is null or lives here; no signal mask is given.
        let answer =
            unsafe { libc::ppoll(self.watched.as_mut_ptr(), count, limit, std::ptr::null()) };
        self.ready.clear();
        match check(answer) {
            Ok(0) => Ok(()),
            Ok(_some) => {
                let reported = (0..).zip(&self.watched).filter(|(_, one)| one.revents != 0);
                self.ready.extend(reported.map(|(position, _)| position));
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How many descriptors the last wait reported.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// One of the reports of the last wait.
    #[must_use]
    pub fn ready_at(&self, position: usize) -> Option<Readiness> {
        let position = *self.ready.get(position)? as usize;
        let answer = self.watched.get(position)?.revents;
        let has = |bits: libc::c_short| answer & bits != 0;
        let failed = has(libc::POLLHUP | libc::POLLERR | libc::POLLNVAL);
        let hung_up = failed || has(libc::POLLRDHUP);
        Some(Readiness {
            token: *self.tokens.get(position)?,
            readable: has(libc::POLLIN) || hung_up,
            writable: has(libc::POLLOUT) || failed,
            hung_up,
            failed,
            urgent: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket;
    use super::*;
    use std::os::fd::AsRawFd;

    const ALL: Interest = Interest {
        readable: true,
        writable: true,
        hung_up: true,
    };

    fn look(fd: RawFd, interest: Interest) -> Option<Readiness> {
        let mut ppoll = Ppoll::default();
        ppoll.watch(fd, 7, interest);
        ppoll.wait(Some(Duration::ZERO)).unwrap();
        assert!(ppoll.ready_len() <= 1);
        ppoll.ready_at(0)
    }

    #[test]
    fn only_what_is_asked_is_reported() {
        let (one, other) = socket::pair().unwrap();
        let writable = look(one.as_raw_fd(), ALL).unwrap();
        assert!(writable.writable && !writable.readable && !writable.hung_up);
        assert_eq!(look(one.as_raw_fd(), Interest::default()), None);
        socket::send(other.as_raw_fd(), &[io::IoSlice::new(b"x")]).unwrap();
        let readable = Interest {
            readable: true,
            ..Interest::default()
        };
        assert_eq!(look(one.as_raw_fd(), readable).unwrap().token, 7);
        assert_eq!(look(one.as_raw_fd(), Interest::default()), None);
    }

    #[test]
    fn the_end_of_both_directions_is_reported_unasked() {
        let (one, other) = socket::pair().unwrap();
        drop(other);
        let ready = look(one.as_raw_fd(), Interest::default()).unwrap();
        assert!(ready.failed && ready.hung_up && ready.readable && ready.writable);
    }

    #[test]
    fn a_bell_is_reported_until_it_is_silenced() {
        let bell = EventFd::new().unwrap();
        let mut ppoll = Ppoll::default();
        ppoll.watch_bell(&bell, 1);
        bell.ring();
        for _ in 0..2 {
            ppoll.wait(None).unwrap();
            assert_eq!(ppoll.ready_len(), 1);
        }
        bell.silence();
        ppoll.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(ppoll.ready_len(), 0);
    }
}
