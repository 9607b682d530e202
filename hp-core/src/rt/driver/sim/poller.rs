//! The simulated epoll: what changed is looked at when it is asked for, and told as it is then.
//!
//! As in Linux: a change puts a socket on the list, a wait takes it off and tells all that is true of it. A conn is
//! told once for each change, a listener as long as somebody waits in it.

use super::SimKernel;
use super::fabric::Fabric;
use super::fault::Fault;
use super::log::Note;
use super::socket::{Kind, Mask, State, Watch};
use crate::base::slab::Key;
use crate::sys::epoll::Readiness;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// The sockets of one poller that have changed since they were looked at.
#[derive(Debug, Default)]
pub(super) struct Readied {
    list: VecDeque<(Key, u64)>,
}

impl Readied {
    pub(super) fn ready(&mut self, key: Key, token: u64) {
        if !self.list.contains(&(key, token)) {
            self.list.push_back((key, token));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// One runtime's poller.
#[derive(Debug)]
pub(in crate::rt::driver) struct SimPoller {
    kernel: SimKernel,
    id: usize,
    reports_max: usize,
    reports: Vec<Readiness>,
}

impl SimPoller {
    pub(super) fn new(kernel: SimKernel, reports_max: usize) -> Self {
        let id = {
            let mut fabric = kernel.lock();
            fabric.pollers.push(Readied::default());
            fabric.pollers.len() - 1
        };
        Self {
            kernel,
            id,
            reports_max,
            reports: Vec::new(),
        }
    }

    /// Registers a socket; what is true of it already is told at the next wait.
    pub(in crate::rt::driver) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let poller = self.id;
        self.kernel.answer(|fabric, host| {
            let key = fabric.at(host, fd)?;
            let socket = fabric.sockets.get_mut(key).ok_or(libc::EBADF)?;
            if socket.watch.is_some() {
                return Err(libc::EEXIST);
            }
            socket.watch = Some(Watch { poller, token });
            if !socket.mask().says_nothing() {
                fabric.pollers[poller].ready(key, token);
            }
            Ok(())
        })
    }

    pub(in crate::rt::driver) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.kernel.answer(|fabric, host| {
            let key = fabric.at(host, fd)?;
            let socket = fabric.sockets.get_mut(key).ok_or(libc::EBADF)?;
            socket.watch.take().map(drop).ok_or(libc::ENOENT)
        })
    }

    /// Looks what is ready; moves the world's clock while nothing is, at most by `timeout`.
    pub(in crate::rt::driver) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.reports.clear();
        let (id, reports_max) = (self.id, self.reports_max);
        let mut reports = std::mem::take(&mut self.reports);
        self.kernel.wait(timeout, |fabric, host| {
            fabric.report(id, reports_max, &mut reports);
            if fabric.strikes(host, Fault::SpuriousReadiness) {
                fabric.report_falsely(id, &mut reports);
            }
            for report in &reports {
                let facts = [
                    report.readable,
                    report.writable,
                    report.hung_up,
                    report.failed,
                ];
                let word = facts
                    .iter()
                    .fold(0, |word, fact| word << 1 | u64::from(*fact));
                fabric.note(Note::Waited, report.token.cast_signed(), word);
            }
            !reports.is_empty()
        })?;
        self.reports = reports;
        Ok(())
    }

    pub(in crate::rt::driver) fn ready_len(&self) -> usize {
        self.reports.len()
    }

    pub(in crate::rt::driver) fn ready_at(&self, position: usize) -> Option<Readiness> {
        self.reports.get(position).copied()
    }

    /// Whether a wait would report something, so far as is known without looking.
    pub(in crate::rt::driver) fn has_changes(&self) -> bool {
        !self.kernel.lock().pollers[self.id].is_empty()
    }
}

impl Fabric {
    fn report(&mut self, poller: usize, reports_max: usize, reports: &mut Vec<Readiness>) {
        let listed = self.pollers[poller].list.len();
        for _ in 0..listed {
            if reports.len() >= reports_max {
                return;
            }
            let Some((key, token)) = self.pollers[poller].list.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get(key) else {
                continue; // Closed meanwhile.
            };
            let mask = socket.mask();
            let is_watched = socket
                .watch
                .is_some_and(|watch| (watch.poller, watch.token) == (poller, token));
            if !is_watched || mask.says_nothing() {
                continue;
            }
            if matches!(socket.kind, Kind::Listener(_)) {
                self.pollers[poller].list.push_back((key, token)); // Level-triggered.
            }
            reports.push(readiness(token, mask));
        }
    }

    /// Says of one connection that it is ready, whatever it is. Only what a kernel may say: never that it has ended.
    fn report_falsely(&mut self, poller: usize, reports: &mut Vec<Readiness>) {
        let is_open = |key: &Key| {
            let socket = self.sockets.get(*key)?;
            let is_open = socket.conn()?.state == State::Established;
            socket
                .watch
                .filter(|watch| is_open && watch.poller == poller)
        };
        let open: Vec<Watch> = self.sockets.keys().iter().filter_map(is_open).collect();
        let drawn = self.faults.chance().index(open.len());
        let is_told = |token| reports.iter().any(|report| report.token == token);
        let Some(Watch { token, .. }) = open.get(drawn).filter(|watch| !is_told(watch.token))
        else {
            return self.faults.miss(Fault::SpuriousReadiness);
        };
        reports.push(Readiness {
            token: *token,
            readable: true,
            writable: true,
            hung_up: false,
            failed: false,
            urgent: false,
        });
    }
}

/// As epoll(7) and [`crate::sys::epoll::Epoll::ready_at`] say it together.
fn readiness(token: u64, mask: Mask) -> Readiness {
    let failed = mask.hung_up || mask.error;
    let hung_up = mask.ended || failed;
    Readiness {
        token,
        readable: mask.readable || hung_up,
        writable: mask.writable || failed,
        hung_up,
        failed,
        urgent: false,
    }
}
