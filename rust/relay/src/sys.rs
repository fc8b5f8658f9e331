//! The system calls, one function each; the only unsafe in this crate. Every descriptor is an `OwnedFd`.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `linux/if_packet.h`; not in every libc crate.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// What a burst may queue before the thread looks.
const RECEIVE_BUFFER_BYTES: libc::c_int = 8 * 1024 * 1024;

const NS_PER_S: u64 = 1_000_000_000;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: value points to size_of::<T>() readable bytes, which the kernel only reads.
    check(unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// A non-blocking `AF_PACKET` socket that sees every frame that comes in on *interface*, and none that goes out.
pub fn open_packet(interface: &str) -> io::Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: name is a NUL-terminated string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers. Protocol 0: nothing is received before the bind below.
    let raw = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
    // SAFETY: raw was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
    set_option(
        raw,
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
        &RECEIVE_BUFFER_BYTES,
    )?;
    // SAFETY: all zero is a valid packet_mreq.
    let mut membership: libc::packet_mreq = unsafe { zeroed() };
    membership.mr_ifindex = index.cast_signed();
    membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
    set_option(
        raw,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &membership,
    )?;
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: address is a sockaddr_ll of that length, only read.
    check(unsafe { libc::bind(raw, std::ptr::from_ref(&address).cast(), length) })?;
    Ok(fd)
}

/// Receive one frame; `Ok(None)` when nothing waits. The size is that of the frame, also where it was larger than the buffer.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the pointer and length are those of a writable slice; MSG_TRUNC only changes the returned size.
    let size = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_TRUNC,
        )
    };
    if size >= 0 {
        return Ok(Some(size.unsigned_abs()));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error),
    }
}

/// Send one frame.
pub fn send(fd: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a readable slice.
    let sent = unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// An eventfd, non-blocking.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let raw = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: raw was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Make an eventfd readable.
pub fn wake(fd: &OwnedFd) -> io::Result<()> {
    let one = 1_u64;
    // SAFETY: one is 8 readable bytes.
    let written = unsafe { libc::write(fd.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
    if written == 8 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Take what made an eventfd or a timerfd readable.
pub fn acknowledge(fd: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: count is 8 writable bytes. Nothing to take is no error here.
    let _ = unsafe { libc::read(fd.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8) };
}

/// A timer on the monotonic clock, non-blocking.
pub fn timerfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let raw = check(unsafe {
        libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_NONBLOCK | libc::TFD_CLOEXEC,
        )
    })?;
    // SAFETY: raw was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Arm the timer for `due_ns` on the monotonic clock (a time that has passed fires at once); `None` disarms it.
pub fn set_timer(fd: &OwnedFd, due_ns: Option<u64>) -> io::Result<()> {
    // SAFETY: all zero is a valid, disarmed itimerspec.
    let mut when: libc::itimerspec = unsafe { zeroed() };
    if let Some(due_ns) = due_ns {
        let due_ns = due_ns.max(1);
        when.it_value.tv_sec = (due_ns / NS_PER_S).cast_signed();
        when.it_value.tv_nsec = (due_ns % NS_PER_S).cast_signed();
    }
    // SAFETY: when is only read; no old value is asked for.
    check(unsafe {
        libc::timerfd_settime(
            fd.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &raw const when,
            std::ptr::null_mut(),
        )
    })?;
    Ok(())
}

/// Now on the monotonic clock.
pub fn now_ns() -> u64 {
    // SAFETY: all zero is a valid timespec.
    let mut now: libc::timespec = unsafe { zeroed() };
    // SAFETY: now is writable. CLOCK_MONOTONIC always exists, so there is no error to look at.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * NS_PER_S + now.tv_nsec.unsigned_abs()
}

/// An epoll instance that watches *fds* for reading, each under its place in the list.
pub fn epoll(fds: &[&OwnedFd]) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: raw was just opened and belongs to nobody else.
    let epoll = unsafe { OwnedFd::from_raw_fd(raw) };
    for (place, fd) in fds.iter().enumerate() {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: place as u64,
        };
        // SAFETY: event is only read.
        check(unsafe {
            libc::epoll_ctl(raw, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        })?;
    }
    Ok(epoll)
}

/// Wait until something is readable; which places are, as bits.
pub fn wait(epoll: &OwnedFd) -> io::Result<u64> {
    const ROOM: u16 = 8;
    // SAFETY: all zero are valid epoll_events.
    let mut events: [libc::epoll_event; ROOM as usize] = unsafe { zeroed() };
    // SAFETY: events has room for that many.
    let found = unsafe {
        libc::epoll_wait(
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            libc::c_int::from(ROOM),
            -1,
        )
    };
    if found < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok(0)
        } else {
            Err(error)
        };
    }
    Ok(events
        .iter()
        .take(found.unsigned_abs() as usize)
        .fold(0, |bits, event| bits | 1 << event.u64))
}
