//! Which CPUs the process may use, pinning a thread to one of them, and which threads give way to others.

use super::check;
use std::io;
use std::mem::size_of;

/// Numbers of the CPUs that the calling thread may run on, ascending; never empty.
///
/// # Errors
/// What `sched_getaffinity(2)` answers.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: `set` is a valid cpu_set_t and its true size is passed.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    check(result)?;
    let ceiling = size_of::<libc::cpu_set_t>() * 8;
    // SAFETY: every number asked for is below the number of bits in the set.
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..ceiling).filter(is_set).collect())
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// What `sched_setaffinity(2)` answers, `EINVAL` for a CPU that the process may not use.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= size_of::<libc::cpu_set_t>() * 8 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut set = empty_set();
    // SAFETY: `cpu` was just held under the number of bits in the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is a valid cpu_set_t and its true size is passed.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    check(result).map(drop)
}

/// Makes the calling thread alone, and threads that it starts from now on, give way to others: `nice` is from 0, which is where threads begin,
/// to 19. One that gives way more stays as it is. That needs no privilege; taking it back does. (setpriority(2); on Linux each thread has
/// a value of its own.)
///
/// # Errors
/// What `setpriority(2)` answers.
pub fn give_way(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers and no pointer; 0 is the calling thread. For that one it cannot fail.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if now >= nice {
        return Ok(());
    }
    // SAFETY: as above.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    check(result).map(drop)
}

/// Asks for memory to be brought near, `lines` cache lines from `start`. A hint: any address is allowed and nothing is read.
pub fn prefetch(start: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = start.wrapping_add(line * CACHE_LINE_BYTES);
        // SAFETY: a prefetch touches no memory and raises no fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _: (*const u8, usize) = (start, lines);
}

#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is an array of integers, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_be_pinned_to_a_cpu_it_may_use_and_to_no_other() {
        let cpus = allowed().unwrap();
        assert!(!cpus.is_empty());
        pin(cpus[0]).unwrap();
        assert_eq!(allowed().unwrap(), [cpus[0]]);
        assert!(pin(usize::MAX).is_err());
    }

    #[test]
    fn a_thread_gives_way_alone() {
        let nice = || {
            // SAFETY: numbers and no pointer; 0 is the calling thread.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        let before = nice();
        let after = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                give_way(19).unwrap();
                let most = nice();
                give_way(10).unwrap();
                [most, nice()]
            });
            thread.join().unwrap()
        });
        assert_eq!(after, [19, 19], "once given, it is not taken back");
        assert_eq!(nice(), before);
    }
}
