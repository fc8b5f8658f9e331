//! Waiting: epoll over descriptors, few or thousands, and an eventfd to wake a thread that waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{check, check_len};

/// An eventfd in counting mode: `signal` makes it readable, `clear` takes that back.
pub struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub fn signal(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the buffer is the 8 bytes an eventfd takes. EAGAIN (counter full) leaves it readable, which is what we want.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn clear(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: the buffer is the 8 bytes an eventfd gives. EAGAIN means that it was clear already.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A level-triggered epoll set; each descriptor carries a tag that `wait` gives back.
pub struct Poll(OwnedFd);

/// What `Poll::wait` found for one tag.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub tag: u64,
    /// EPOLLERR or EPOLLHUP: for a TUN descriptor, the device is gone.
    pub broken: bool,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
        unsafe {
            Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(
                libc::EPOLL_CLOEXEC,
            ))?)))
        }
    }

    pub fn add(&self, fd: RawFd, tag: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: tag,
        };
        // SAFETY: `event` outlives the call; a stale fd is an errno, not memory.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        })?;
        Ok(())
    }

    /// Takes a descriptor out again, before it is closed: a duplicate of it would keep it in the set.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: no pointer but null, which EPOLL_CTL_DEL allows; a stale fd is an errno, not memory.
        check(unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd,
                std::ptr::null_mut(),
            )
        })?;
        Ok(())
    }

    /// Waits until something is readable, *`timeout_ns`* has passed (`None`: for ever) or a signal came; returns how many in `ready`.
    ///
    /// What is ready goes to the end of the kernel's list: with more ready than *N*, each has its turn.
    pub fn wait<const N: usize>(
        &self,
        timeout_ns: Option<u64>,
        ready: &mut [Ready; N],
    ) -> io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; N];
        // Rounded up: waking a fraction of a millisecond early would spin until the deadline.
        let timeout_ms = match timeout_ns {
            None => -1,
            Some(ns) => i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        // SAFETY: `events` has room for N entries and outlives the call.
        let result = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                N as i32,
                timeout_ms,
            )
        };
        let count = match check(result) {
            Ok(count) => count.unsigned_abs() as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for (slot, event) in ready.iter_mut().zip(&events[..count]) {
            let flags = event.events;
            slot.tag = event.u64;
            slot.broken = flags & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
        }
        Ok(count)
    }

    pub fn no_ready<const N: usize>() -> [Ready; N] {
        [Ready {
            tag: 0,
            broken: false,
        }; N]
    }
}

/// A duplicate of a descriptor that is borrowed for longer than its owner can promise.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Reads into `buffer`; EAGAIN is `WouldBlock`.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most buffer.len() bytes into the slice.
    check_len(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}
