//! Anonymous pages, given by the kernel zeroed and only when first touched.

use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// A page-aligned mapping, private to the process, readable and writable; unmapped on drop.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Maps at least `len` bytes (rounded up to whole pages by the kernel).
    ///
    /// # Errors
    /// What `mmap(2)` answers, `ENOMEM` above all; `EINVAL` for a length of zero.
    pub fn map(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, len })
    }

    /// Maps at least `len` bytes, rounded up to whole large pages, from where a large page may begin. The kernel is asked to give large ones, and does
    /// without where it has none, or was told not to (`/sys/kernel/mm/transparent_hugepage/enabled`).
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_large(len: usize) -> io::Result<Self> {
        let too_long = || io::Error::from_raw_os_error(libc::ENOMEM);
        let len = len.checked_next_multiple_of(LARGE_PAGE_BYTES);
        let len = len.ok_or_else(too_long)?;
        let more = len.checked_add(LARGE_PAGE_BYTES).ok_or_else(too_long)?;
        let whole = Self::map(more)?;
        let start = whole.start.addr().get();
        let before = start.next_multiple_of(LARGE_PAGE_BYTES) - start;
        let pages = whole.cut(before, len);
        // SAFETY: the range was mapped above; what it holds stays as it is.
        let result =
            unsafe { libc::madvise(pages.start.as_ptr().cast(), pages.len, libc::MADV_HUGEPAGE) };
        let _: libc::c_int = result; // A hint, which a kernel without large pages refuses.
        Ok(pages)
    }

    /// Unmaps all but `len` bytes behind the first `before`; all are whole pages, and not more than there are.
    fn cut(self, before: usize, len: usize) -> Self {
        let whole = ManuallyDrop::new(self);
        let after = whole.len - before - len;
        // SAFETY: it is within the mapping, as the subtraction has shown.
        let start = unsafe { whole.start.add(before) };
        // SAFETY: it is at most one past the mapping.
        let end = unsafe { start.add(len) };
        for (start, len) in [(whole.start, before), (end, after)] {
            if len > 0 {
                // SAFETY: the range is a part of the mapping that nobody was given, and what is left does not include it.
                let result = unsafe { libc::munmap(start.as_ptr().cast(), len) };
                let _: libc::c_int = result; // What the kernel does not take back is never touched, and costs addresses only.
            }
        }
        Self { start, len }
    }

    /// First byte; valid for `len()` bytes as long as this value lives.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes as asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: an empty mapping cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped once; whoever held pointers into it is gone, which the
        // owner of this value (the pool, the ring) keeps true by dropping it last.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0);
    }
}

/// Of a large page where page tables have 512 entries of 4 KiB each.
pub const LARGE_PAGE_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pages_begin_where_one_may_and_all_of_them_can_be_written() {
        for len in [1, LARGE_PAGE_BYTES, LARGE_PAGE_BYTES + 1] {
            let pages = Pages::map_large(len).unwrap();
            assert!(pages.start().addr().get().is_multiple_of(LARGE_PAGE_BYTES));
            assert_eq!(pages.len(), len.next_multiple_of(LARGE_PAGE_BYTES));
            for at in [0, len - 1, pages.len() - 1] {
                // SAFETY: it is within the mapping.
                let mut byte = unsafe { pages.start().add(at) };
                // SAFETY: all bytes of a mapping have a value, zero at first, and nobody else uses them.
                let byte = unsafe { byte.as_mut() };
                assert_eq!(*byte, 0, "{at} of {len}");
                *byte = 1;
                *byte = 0;
            }
        }
        assert!(Pages::map_large(usize::MAX).is_err());
        assert!(Pages::map_large(usize::MAX - LARGE_PAGE_BYTES).is_err());
    }
}
