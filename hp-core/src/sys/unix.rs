//! Names of Unix stream sockets in the file system: bound, told apart, removed.
//!
//! A socket's name outlives its process. What may be removed is decided elsewhere.

use super::check;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Which socket a name stood for: no other has the same numbers as long as this one exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the file system that has the name.
    pub device: u64,
    /// Of the name in it.
    pub inode: u64,
}

/// What stands under a name; a symbolic link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A socket, dead or alive.
    Socket(Identity),
    /// A file, a directory, a link.
    Other,
}

/// Binds a new name and listens. `mode`: its permission bits, whatever the umask; `None`: all bits that the umask leaves.
///
/// `backlog`: connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
///
/// # Errors
/// What `bind(2)`, `chmod(2)` and `listen(2)` answer: `AddrInUse` where the name is taken by anything, `NotFound` and
/// `PermissionDenied` for its directory, `InvalidInput` for a path longer than 107 bytes.
pub fn listen(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // The name is made with these bits less the umask's: at no time may anybody connect who shall not.
        // SAFETY: the descriptor is open; the call takes no pointer.
        check(unsafe { libc::fchmod(socket.as_raw_fd(), mode) })?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    let begun = match mode {
        Some(mode) => fs::set_permissions(path, Permissions::from_mode(mode)),
        None => Ok(()),
    };
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    if let Err(error) = begun.and_then(|()| socket.listen(backlog)) {
        match fs::remove_file(path) {
            Ok(()) | Err(_) => (), // The name was ours a moment ago; the first error is the one to tell.
        }
        return Err(error);
    }
    Ok(socket.into())
}

/// Sets the permission bits of a name.
///
/// # Errors
/// What `chmod(2)` answers.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// What stands under a name; `None` where nothing does.
///
/// # Errors
/// What `lstat(2)` answers, but for `NotFound`.
pub fn named(path: &Path) -> io::Result<Option<Named>> {
    let facts = match fs::symlink_metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(if facts.file_type().is_socket() {
        Named::Socket(Identity {
            device: facts.dev(),
            inode: facts.ino(),
        })
    } else {
        Named::Other
    }))
}

/// Removes a name.
///
/// # Errors
/// What `unlink(2)` answers.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// The directory of a name, locked against others that lock it, until the result is dropped.
///
/// # Errors
/// `WouldBlock` when somebody else has it locked; what `open(2)` and `flock(2)` answer.
pub fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(directory)?;
    // SAFETY: the descriptor is open; the call takes no pointer.
    check(unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(directory)
}

/// Waits, without a connection to lose: for whoever starts.
pub fn pause_millis(millis: u16) {
    // SAFETY: no descriptor is given, so the pointer is not read.
    let waited = unsafe { libc::poll(std::ptr::null_mut(), 0, libc::c_int::from(millis)) };
    match check(waited) {
        Ok(_) | Err(_) => (), // A signal ends the wait: the caller tries again sooner.
    }
}
