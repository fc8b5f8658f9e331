//! The only unsafe code of the engine: each system call is one function, each descriptor an `OwnedFd`.
//!
//! Rules: no policy here; errors come back as `std::io::Error` with the errno of the call; buffers are slices whose lengths
//! the kernel is told exactly; every `unsafe` block says why it holds.
#![allow(unsafe_code)]

pub mod clock;
pub mod errors;
pub mod poll;
pub mod raw;
pub mod route;
pub mod tun;
pub mod udp;

use std::io;

/// Turns the C convention "-1 and errno" into a `Result`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return a length.
pub(crate) fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
