//! The process's limit of open descriptors, and its table of them.

use super::check;
use super::event::EventFd;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Raises the soft limit of open descriptors to the hard one; returns the limit now in force.
///
/// # Errors
/// What `getrlimit(2)` or `setrlimit(2)` answers.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = open_files()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        check(result)?;
    }
    Ok(limit.rlim_cur)
}

/// Has the kernel make the table of descriptors as large as the soft limit lets it become, up to 65,536 places, which take half a mebibyte.
/// To be called after [`raise_open_files`] and before the process has a second thread.
///
/// A table that is full is made twice as large, and where there are threads whoever needs a descriptor waits meanwhile until each CPU has
/// come to rest once (`synchronize_rcu`): in accept(2), for milliseconds, and for seconds where every CPU is busy. A worker that accepts serves
/// nobody in that time.
///
/// # Errors
/// `ENOMEM`, and `EMFILE` where no descriptor is free; the table grows as it must then.
pub fn make_room_for_files() -> io::Result<()> {
    let places = open_files()?.rlim_cur.min(PLACES_MAX);
    let last = libc::c_int::try_from(places).unwrap_or(libc::c_int::MAX) - 1;
    let any = EventFd::new()?;
    // SAFETY: the descriptor is open as long as `any` lives; no pointer goes in.
    let copy = unsafe { libc::fcntl(any.as_raw(), libc::F_DUPFD_CLOEXEC, last.max(0)) };
    let copy = check(copy)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(copy) }); // A table never becomes smaller.
    Ok(())
}

/// To how many open descriptors this process, and what it starts, may raise its limit.
///
/// # Errors
/// What `getrlimit(2)` answers.
pub fn open_files_max() -> io::Result<u64> {
    Ok(open_files()?.rlim_max)
}

fn open_files() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for one rlimit.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    check(result)?;
    Ok(limit)
}

/// A process with more has time for four grace periods until it has a million.
const PLACES_MAX: u64 = 65_536;
