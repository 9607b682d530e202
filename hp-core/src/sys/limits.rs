//! The process's limit of open descriptors.

use super::check;
use std::io;

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
