//! The process's heap, as the C library keeps it.

/// Gives each allocation of 16 KiB or more pages of its own, for the life of the process; call it before there are many.
///
/// A table that grows is moved by page tables then, without a copy and without leaving a hole of its old size in the heap, and what is
/// freed goes back to the kernel at once. The C library would do so from 128 KiB on, but raises that with each such block that is freed.
/// Costs a system call for each such allocation, so none belongs on a request's path. Does nothing where the C library is not glibc.
/// `mallopt(3)`, `M_MMAP_THRESHOLD`.
pub fn keep_tables_apart() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: a number goes in, and one comes out.
        let is_taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, TABLE_BYTES_MIN) };
        debug_assert_eq!(is_taken, 1, "the C library takes any size up to 32 MiB");
    }
}

/// Gives the pages of freed blocks back to the kernel, also of those that lie before a block in use.
///
/// The C library does so by itself only behind the last block in use. Walks through all free blocks, and the pages are faulted in anew when they are used
/// again: for when many blocks were freed that nobody will soon ask for. Does nothing where the C library is not glibc. `malloc_trim(3)`.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: a number goes in; the allocator takes its own locks.
        let _whether_there_was_any = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(target_env = "gnu")]
const TABLE_BYTES_MIN: libc::c_int = 16 << 10;
