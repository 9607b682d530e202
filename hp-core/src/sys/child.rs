//! Processes that this one has started.

use super::{check_long, rights};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How a child has ended, which is waited for at most so long; `None`: it has not.
///
/// To be killed is not to have ended: a process that waits in the kernel for what no signal interrupts ends after that, and one that gets no
/// CPU ends when it does. Before Linux 5.3 the wait has no bound.
///
/// # Errors
/// What `wait4(2)` answers.
pub fn wait_within(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    match descriptor(child).and_then(|fd| rights::wait(fd.as_fd(), timeout)) {
        Ok(_whether_it_has_ended) => child.try_wait(),
        Err(_unknown_call) => child.wait().map(Some),
    }
}

/// A descriptor that is readable once the child has ended; it has not been waited for, so its number is nobody else's.
fn descriptor(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = RawFd::try_from(check_long(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor, closed on exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_child_is_waited_for_as_long_as_told_and_reaped_once_it_has_ended() {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let none = wait_within(&mut child, Duration::from_millis(1));
        assert_eq!(none.unwrap(), None);
        child.kill().unwrap();
        for _ in 0..2 {
            let status = wait_within(&mut child, Duration::from_secs(20)).unwrap();
            assert_eq!(status.unwrap().signal(), Some(libc::SIGKILL));
        }
    }
}
