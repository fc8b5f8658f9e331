//! The clock that ages are measured by: `CLOCK_BOOTTIME` counts suspend and is never set back. And the sleeps of a thread that naps.

use std::io;

use super::check;

/// Nanoseconds since boot.
pub fn boottime_ns() -> u64 {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `at` is a valid timespec for the kernel to fill; CLOCK_BOOTTIME exists on every Linux we support (2.6.39).
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut at) };
    at.tv_sec.unsigned_abs() * 1_000_000_000 + at.tv_nsec.unsigned_abs()
}

/// Sleeps of this thread end when they should: by default the kernel adds up to 50 microseconds to save wake-ups.
pub fn sleep_exactly() -> io::Result<()> {
    // SAFETY: no pointers; it concerns the calling thread alone.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) })?;
    Ok(())
}
