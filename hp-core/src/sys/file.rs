//! Files below one directory: opened without leaving it, and sent without passing through memory of ours.

use super::{check, check_len, check_long};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A directory that nothing opened through it can leave.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    resolver: Resolver,
}

/// Who follows the names of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    /// The kernel, told to stay beneath: `openat2(2)`, Linux 5.6.
    Kernel,
    /// One `openat(2)` for each name, and no symbolic link at all.
    Names,
}

/// What an open file or directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// When the content changed last, since 1970-01-01 UTC; zero for what lies before.
    pub modified: Duration,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    Regular,
    /// A directory.
    Directory,
    /// A device, a pipe, a socket.
    Special,
}

impl Root {
    /// Opens a directory, and finds out whether the kernel can be told to stay beneath it.
    ///
    /// # Errors
    /// What `open(2)` answers: `NotFound`, `NotADirectory`, `PermissionDenied`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let dir = open_at(libc::AT_FDCWD, &path, libc::O_DIRECTORY)?;
        // A sandbox may answer anything to a call that it does not know: what counts is whether it works.
        let resolver = match open_beneath(dir.as_raw_fd(), c".") {
            Ok(_same_directory) => Resolver::Kernel,
            Err(_unavailable) => Resolver::Names,
        };
        Ok(Self { dir, resolver })
    }

    /// Opens what a relative path names, for reading. Never waits for a pipe's other end.
    ///
    /// `path` has names divided by single slashes, none of them empty, `.` or `..`; an empty path is the directory itself.
    /// Symbolic links are followed as long as they stay beneath, where the kernel watches over that; else not at all.
    ///
    /// # Errors
    /// `InvalidInput` for a path of another form; `EXDEV` or `ELOOP` for a link that is refused; what `openat2(2)` answers.
    pub fn open_below(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let names = || path.split(|&byte| byte == b'/');
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        if !path.is_empty() && !names().all(is_name) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let dir = self.dir.as_raw_fd();
        if path.is_empty() {
            return open_at(dir, c".", libc::O_DIRECTORY);
        }
        match self.resolver {
            Resolver::Kernel => open_beneath(dir, &CString::new(path)?),
            Resolver::Names => open_by_names(dir, names()),
        }
    }
}

/// Whether a path was refused for a link: one that leads outside, or any where none is followed.
#[must_use]
pub fn is_refused_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EXDEV | libc::ELOOP))
}

/// What an open file is.
///
/// # Errors
/// What `fstat(2)` answers.
pub fn facts(file: &OwnedFd) -> io::Result<Facts> {
    // SAFETY: `stat` is made of integers, for which all zeroes is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a valid place for one stat, and the descriptor is open.
    check(unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) })?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::Regular,
        libc::S_IFDIR => Kind::Directory,
        _ => Kind::Special,
    };
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(Facts {
        kind,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Duration::new(seconds, nanos.min(999_999_999)),
    })
}

/// Sends at most `len` bytes of a file from `offset` on through a non-blocking socket; 0 when the file ends there. Waits for the
/// disk where the page cache does not have them.
///
/// # Errors
/// `WouldBlock` when the socket takes none now; `BrokenPipe`, `ConnectionReset` and their like; what reading answers.
pub fn send(socket: RawFd, file: &OwnedFd, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = libc::off_t::try_from(offset)
        .map_err(|_beyond_any_file| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: `offset` is a valid place for the call's duration; both descriptors are open, for their owners have them.
    check_len(unsafe { libc::sendfile(socket, file.as_raw_fd(), &raw mut offset, len) })
}

/// `struct open_how` of `openat2(2)`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn open_beneath(dir: RawFd, path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let how = OpenHow {
        flags: u64::from(FLAGS.cast_unsigned()),
        mode: 0,
        resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
    };
    let mut tries = 0;
    loop {
        // SAFETY: `path` ends with NUL and `how` has the layout and the size that the kernel is told; both live through
        // the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir,
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match check_long(result) {
            Ok(fd) => return owned(libc::c_int::try_from(fd).unwrap_or(-1)),
            // Something was renamed meanwhile, and the kernel cannot say whether the path stayed beneath.
            Err(error) if is_passing(&error) && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR))
}

fn open_by_names<'a>(dir: RawFd, names: impl Iterator<Item = &'a [u8]>) -> io::Result<OwnedFd> {
    let mut names = names.peekable();
    let mut inner: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at = inner.as_ref().map_or(dir, AsRawFd::as_raw_fd);
        let flags = match names.peek() {
            Some(_) => libc::O_NOFOLLOW | libc::O_DIRECTORY,
            None => libc::O_NOFOLLOW,
        };
        inner = Some(open_at(at, &CString::new(name)?, flags)?);
    }
    inner.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn open_at(dir: RawFd, path: &std::ffi::CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with NUL and lives through the call; no file is created, so no mode is read.
    owned(unsafe { libc::openat(dir, path.as_ptr(), FLAGS | flags) })
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call has just made the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reading only; a pipe or a device is opened without waiting for anybody, and never becomes the terminal.
const FLAGS: libc::c_int = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
const TRIES_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::super::socket::{pair, set_nonblocking};
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// `outside`, and beside it the root with a file, a directory, and links of all kinds.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join("root");
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(tree.path().join("outside"), "secret").unwrap();
        fs::write(root.join("file"), "content").unwrap();
        fs::write(root.join("dir/inner"), "inner").unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("file", root.join("within")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        tree
    }

    fn check_resolver(resolver: Resolver, check: impl Fn(&Root)) {
        let tree = tree();
        let mut root = Root::open(&tree.path().join("root")).unwrap();
        root.resolver = resolver;
        check(&root);
    }

    /// The kernel's only where it has it, or this would test nothing.
    fn on_each_resolver(check: impl Fn(&Root)) {
        let tree = tree();
        let root = Root::open(&tree.path().join("root")).unwrap();
        if root.resolver == Resolver::Kernel {
            check(&root);
        }
        check_resolver(Resolver::Names, check);
    }

    fn content(root: &Root, path: &str) -> String {
        let mut text = String::new();
        let file = root.open_below(path.as_bytes()).unwrap();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_below_are_opened() {
        on_each_resolver(|root| {
            assert_eq!(content(root, "file"), "content");
            assert_eq!(content(root, "dir/inner"), "inner");
            let dir = root.open_below(b"").unwrap();
            assert_eq!(facts(&dir).unwrap().kind, Kind::Directory);
            let error = root.open_below(b"missing").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let error = root.open_below(b"file/x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        });
    }

    #[test]
    fn nothing_outside_is_opened() {
        on_each_resolver(|root| {
            for path in [
                "..",
                "../outside",
                "dir/../../outside",
                "/etc/passwd",
                "/file",
                "dir//inner",
                "./file",
                "dir/",
                "a\0b",
                "out",
                "up/outside",
                "absolute/passwd",
                "loop",
            ] {
                let result = root.open_below(path.as_bytes());
                assert!(result.is_err(), "{path:?}");
            }
        });
    }

    #[test]
    fn a_link_that_stays_beneath_is_followed_where_the_kernel_watches() {
        check_resolver(Resolver::Names, |root| {
            let error = root.open_below(b"within").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        });
        let tree = tree();
        let root = Root::open(&tree.path().join("root")).unwrap();
        if root.resolver == Resolver::Kernel {
            assert_eq!(content(&root, "within"), "content");
        }
    }

    #[test]
    fn a_root_must_be_a_directory() {
        let tree = tree();
        let error = Root::open(&tree.path().join("missing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = Root::open(&tree.path().join("outside")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_socket_that_is_full_takes_no_more_and_nobody_waits() {
        let tree = tree();
        let root = Root::open(&tree.path().join("root")).unwrap();
        fs::write(tree.path().join("root/long"), vec![b'x'; 4 << 20]).unwrap();
        let file = root.open_below(b"long").unwrap();
        assert_eq!(facts(&file).unwrap().len, 4 << 20);
        let (one, _other) = pair().unwrap();
        let socket = one.as_raw_fd();
        set_nonblocking(socket, true).unwrap();
        let mut sent = 0;
        let refused = loop {
            match send(socket, &file, sent, 1 << 20) {
                Ok(0) => panic!("no socket takes 4 MiB that nobody reads"),
                Ok(len) => sent += len as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
