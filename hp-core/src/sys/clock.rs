//! The monotonic and the wall clock.

use super::check;
use std::io;
use std::time::Duration;

/// Nanoseconds since an arbitrary start, never going back (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970-01-01 UTC (`CLOCK_REALTIME`); may jump.
#[must_use]
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// CPU time that this process has used so far, user and system, in ns (`CLOCK_PROCESS_CPUTIME_ID`).
#[must_use]
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that the calling thread has used so far, user and system, in ns (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The processor's own count of time, in ticks of a length that only a comparison with a clock tells; `None` where there is
/// none that a program may read. Processors of one machine need not agree.
#[must_use]
pub fn ticks() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every processor of this architecture has the instruction, which reads one register and nothing else.
        Some(unsafe { std::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// How much later than asked the kernel may end the waits of the calling thread, and of threads that it starts from now on,
/// in order to wake the CPU less often (`PR_SET_TIMERSLACK`; 50 µs unless set). Zero counts as 1 ns.
///
/// # Errors
/// What `prctl(2)` answers.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let nanos = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX);
    // SAFETY: this option takes a number and no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos.max(1)) };
    check(result).map(drop)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for one timespec for the duration of the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    check(result).expect("the clocks named above exist on every Linux");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}
