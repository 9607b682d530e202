//! Pipes between sockets: pages move from one to the other without being copied to a program and back.

use super::{check, check_len, check_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// A pipe that never blocks; those of a process have 8,192 pages at most.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: Size,
    pages: Pages,
}

impl Pipe {
    /// Makes one that holds what the kernel gives it room for, usually 16 pieces.
    ///
    /// # Errors
    /// `EMFILE` when there are as many as may be; what `pipe2(2)` answers: `EMFILE`, `ENFILE` when descriptors run out.
    pub fn new() -> io::Result<Self> {
        let pages = Pages::take(&PAGES)?;
        let mut ends = [-1; 2];
        // SAFETY: `ends` is a place for two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        check(made)?;
        let [read, write] = ends;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let read = unsafe { OwnedFd::from_raw_fd(read) };
        // SAFETY: the same.
        let write = unsafe { OwnedFd::from_raw_fd(write) };
        Ok(Self {
            read,
            write,
            size: Size::Usual,
            pages,
        })
    }

    /// Gives it room for four times as many pieces, unless it has it; whether that changed it. Where this process has many pages
    /// in pipes, or its user has, or large ones are forbidden, it stays as it is: what large ones gain is worth no failure.
    pub fn grow(&mut self) -> bool {
        if self.size != Size::Usual || !self.pages.grow() {
            return false;
        }
        match set_pages(self.write.as_raw_fd(), PAGES_LARGE) {
            Ok(()) => {
                self.size = Size::Large;
                true
            }
            Err(_limit) => {
                self.pages.shrink();
                self.size = Size::Refused; // Asked again for each splice, the kernel would say the same.
                false
            }
        }
    }

    /// Whether it has grown.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.size == Size::Large
    }

    /// Moves at most `bytes_max` of what a non-blocking socket has received into the pipe, and no more than 64 KiB, or 256 into one that
    /// has grown; 0 is the end of the peer's data.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, or the pipe is full; `ConnectionReset` and its like.
    pub fn fill_from(&self, socket: RawFd, bytes_max: usize) -> io::Result<usize> {
        let room = self.pages.count as usize * BYTES_PER_PAGE;
        splice(socket, self.write.as_raw_fd(), bytes_max.min(room))
    }

    /// Copies at most 4,096 bytes into the pipe, behind what is in it: all of them or none, pipe(7).
    ///
    /// # Errors
    /// `WouldBlock` when there is no room for all; `InvalidInput` for more bytes.
    pub fn push(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > libc::PIPE_BUF {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let (pipe, start, len) = (self.write.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        // SAFETY: `start` and `len` are those of `bytes`, which outlives the call.
        check_len(unsafe { libc::write(pipe, start, len) }).map(drop)
    }

    /// Moves at most `bytes` out of the pipe to a non-blocking socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes none now, or the pipe is empty; `BrokenPipe`, `ConnectionReset` and their like.
    pub fn empty_into(&self, socket: RawFd, bytes: usize) -> io::Result<usize> {
        splice(self.read.as_raw_fd(), socket, bytes)
    }
}

fn splice(from: RawFd, to: RawFd, bytes: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let (here, there) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: neither descriptor has an offset, so both places may be null; the call touches no other memory of ours.
    check_len(unsafe { libc::splice(from, here, to, there, bytes, flags) })
}

/// Gives a pipe room for so many pieces.
fn set_pages(pipe: RawFd, pages: u32) -> io::Result<()> {
    // SAFETY: the call takes a number and touches no memory.
    let page_bytes = check_long(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })?;
    // With large pages a pipe has that much room as it is made; with the largest this asks for what it has.
    let bytes = (page_bytes * pages as usize).min(ROOM_BYTES_MAX) as libc::c_ulong;
    // SAFETY: `F_SETPIPE_SZ` takes a number and touches no memory of ours.
    check(unsafe { libc::fcntl(pipe, libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// Usual ─grow─► Large
///     └──the kernel forbids it──► Refused
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Usual,
    Large,
    /// As usual, for good.
    Refused,
}

/// The right to the pages of one pipe.
///
/// `count` is [`PAGES_USUAL`] or [`PAGES_LARGE`].
#[derive(Debug)]
struct Pages {
    count: u32,
    of_all: &'static AtomicU32,
}

impl Pages {
    /// Those of a pipe as the kernel makes it.
    fn take(of_all: &'static AtomicU32) -> io::Result<Self> {
        if take(of_all, PAGES_USUAL, PAGES_MAX) {
            let count = PAGES_USUAL;
            Ok(Self { count, of_all })
        } else {
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        }
    }

    /// Those of a large one; whether there are so many.
    fn grow(&mut self) -> bool {
        let grown = take(self.of_all, PAGES_LARGE - self.count, PAGES_FOR_LARGE_MAX);
        if grown {
            self.count = PAGES_LARGE;
        }
        grown
    }

    fn shrink(&mut self) {
        self.of_all
            .fetch_sub(self.count - PAGES_USUAL, Ordering::Relaxed);
        self.count = PAGES_USUAL;
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Adds `count` unless more than `max` came of it. Reads only where it refuses.
fn take(of_all: &AtomicU32, count: u32, max: u32) -> bool {
    let taken = of_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pages| {
        (pages + count <= max).then_some(pages + count)
    });
    taken.is_ok()
}

/// How many pages all pipes may fill. Touched where one is made, grows or goes, which workers do rarely, since they keep theirs.
static PAGES: AtomicU32 = AtomicU32::new(0);

/// Of a pipe, when the kernel makes it.
const PAGES_USUAL: u32 = 16;

/// Of one that has grown: what is moved at once costs a tenth less, and a socket's bytes may lie in pieces much smaller than a page.
const PAGES_LARGE: u32 = 64;

/// Of all pipes of a process: half of what the kernel gives one user (`pipe-user-pages-soft`) before it makes pipes shorter, other
/// programs' as well. So there are 512 pipes at most, with two descriptors each.
const PAGES_MAX: u32 = 8192;

/// With more than this in all, none grows: half of the pages are for pipes as they are made, 256 of them.
const PAGES_FOR_LARGE_MAX: u32 = PAGES_MAX / 2;

/// What one splice may put into a pipe, for each page that it was counted with. Pages and a socket's pieces may be larger, and who reads
/// slowly must not make pipes hold that much.
const BYTES_PER_PAGE: usize = 4 * 1024;

/// What anybody may make of a pipe where nothing else was said (`/proc/sys/fs/pipe-max-size`).
const ROOM_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// Moves 128 KiB that a socket has into a pipe, and says how many came with the first fill.
    fn fill_once(pipe: &Pipe) -> usize {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap(); // What the socket has no room for fails, and does not wait.
        peer.write_all(&[7; 128 << 10]).unwrap();
        pipe.fill_from(socket.as_raw_fd(), usize::MAX).unwrap()
    }

    #[test]
    fn a_pipe_that_has_grown_takes_at_once_what_others_take_in_parts() {
        let pipe = Pipe::new().unwrap();
        assert_eq!((fill_once(&pipe), pipe.is_large()), (64 << 10, false));
        let mut pipe = Pipe::new().unwrap();
        assert!(pipe.grow());
        assert_eq!((fill_once(&pipe), pipe.is_large()), (128 << 10, true));
        assert!(!pipe.grow(), "it has");
    }

    #[test]
    fn no_more_goes_into_a_pipe_than_was_counted_though_there_is_room() {
        let pipe = Pipe::new().unwrap();
        set_pages(pipe.write.as_raw_fd(), PAGES_LARGE).unwrap();
        assert_eq!(fill_once(&pipe), 64 << 10);
    }

    #[test]
    fn a_pipe_that_the_kernel_does_not_let_grow_stays_and_holds_no_more_pages() {
        static ALL: AtomicU32 = AtomicU32::new(0);
        let mut pipe = Pipe::new().unwrap();
        pipe.pages = Pages::take(&ALL).unwrap();
        let read = pipe.read.try_clone().unwrap();
        // No pipe: the kernel refuses this as it refuses who may not, and root may everything.
        pipe.write = OwnedFd::from(UnixStream::pair().unwrap().0);
        assert!(!pipe.grow());
        assert!(!pipe.is_large());
        assert_eq!(ALL.load(Ordering::Relaxed), PAGES_USUAL);
        pipe.write = read;
        assert!(!pipe.grow(), "it is not asked twice");
        drop(pipe);
        assert_eq!(ALL.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn large_pipes_leave_half_of_the_pages_to_others() {
        static ALL: AtomicU32 = AtomicU32::new(0);
        let mut all: Vec<_> = std::iter::from_fn(|| Pages::take(&ALL).ok()).collect();
        assert_eq!(all.len(), 512);
        assert!(!all[0].grow(), "none is left");
        all.truncate(256);
        assert!(!all[0].grow(), "those that are left are for small ones");
        all.truncate(4);
        assert!(all.iter_mut().all(Pages::grow));
        let large = std::iter::from_fn(|| {
            let mut pages = Pages::take(&ALL).unwrap();
            pages.grow().then_some(pages)
        });
        all.extend(large);
        assert_eq!(all.len(), 64);
        all.extend(std::iter::from_fn(|| Pages::take(&ALL).ok()));
        assert_eq!(all.len(), 64 + 256);
        drop(all);
        assert_eq!(ALL.load(Ordering::Relaxed), 0);
    }
}
