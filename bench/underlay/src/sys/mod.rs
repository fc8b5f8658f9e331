//! The system calls of the measurement; all `unsafe` is here. One file a way of sending and receiving:
//!
//! | file | what |
//! | --- | --- |
//! | `messages` | sendmmsg and recvmmsg, on raw sockets and on packet sockets |
//! | `ring` | packet sockets whose queue is memory that both sides map |
//! | `segments` | UDP with segments, to compare with |
//! | `xdp` | `AF_XDP`: the same, before the kernel's own stack sees a packet |

mod messages;
mod ring;
mod segments;
mod xdp;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::frame::Frames;

/// Packets of one system call.
pub const BATCH: usize = 64;
/// Room for one packet with its Ethernet header.
pub const ROOM: usize = 2048;
const BUFFER_BYTES: i32 = 4 << 20;
const PROTOCOL_GRE: i32 = 47;

/// A way to send.
pub trait Sender {
    /// Write *count* (at most `BATCH`) packets numbered from *first* and hand them to the kernel; how many it took.
    fn send(&mut self, frames: &Frames, first: u64, count: usize) -> io::Result<usize>;
}

/// A way to receive.
pub trait Receiver {
    /// What to wait on.
    fn fd(&self) -> RawFd;
    /// Show each packet that is there now, from its IP header on, without waiting.
    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()>;
}

pub fn open_sender(name: &str, device: &str, to: Ipv4Addr) -> io::Result<Box<dyn Sender>> {
    let index = index(device)?;
    Ok(match name {
        "raw" => Box::new(messages::Messages::raw_sender(to)?),
        "raw-plain" => Box::new(messages::Messages::plain_sender(to)?),
        "packet" => Box::new(messages::Messages::packet_sender(index, false)?),
        "packet-bypass" => Box::new(messages::Messages::packet_sender(index, true)?),
        "ring" => Box::new(ring::SendRing::open(index, false)?),
        "ring-bypass" => Box::new(ring::SendRing::open(index, true)?),
        "xdp" => Box::new(xdp::Xdp::sender(index)?),
        "udp" => Box::new(segments::Segments::sender(to)?),
        _ => return Err(unknown()),
    })
}

pub fn open_receiver(name: &str, device: &str, at: Ipv4Addr) -> io::Result<Box<dyn Receiver>> {
    let index = index(device)?;
    Ok(match name {
        "raw" => Box::new(messages::Messages::raw_receiver()?),
        "packet" => Box::new(Guarded(
            messages::Messages::packet_receiver(index, at)?,
            guard()?,
        )),
        "ring2" => Box::new(Guarded(ring::ReceiveRing2::open(index, at)?, guard()?)),
        "ring3" => Box::new(Guarded(ring::ReceiveRing3::open(index, at)?, guard()?)),
        "xdp-generic" => Box::new(xdp::Xdp::receiver(index, false)?),
        "xdp-native" => Box::new(xdp::Xdp::receiver(index, true)?),
        "udp" => Box::new(segments::Segments::receiver(at)?),
        _ => return Err(unknown()),
    })
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no way is called so")
}

/// A receiver that sees copies, with the raw socket that keeps the kernel from answering the originals with protocol unreachable.
struct Guarded<R>(R, #[allow(dead_code)] OwnedFd);

impl<R: Receiver> Receiver for Guarded<R> {
    fn fd(&self) -> RawFd {
        self.0.fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.0.receive(seen)
    }
}

/// A raw socket whose filter takes nothing.
fn guard() -> io::Result<OwnedFd> {
    let fd = socket(libc::AF_INET, libc::SOCK_RAW, PROTOCOL_GRE)?;
    filter(&fd, &[(0x06, 0, 0, 0)])?;
    Ok(fd)
}

/// IPv4 packets of protocol 47 to *at*, on a packet socket that shows them from their IP header on.
fn filter_gre(fd: &OwnedFd, at: Ipv4Addr) -> io::Result<()> {
    filter(
        fd,
        &[
            (0x30, 0, 0, 9),
            (0x15, 0, 3, PROTOCOL_GRE as u32),
            (0x20, 0, 0, 16),
            (0x15, 0, 1, at.to_bits()),
            (0x06, 0, 0, u32::MAX),
            (0x06, 0, 0, 0),
        ],
    )
}

fn filter(fd: &OwnedFd, program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::socket(
            family,
            kind | libc::SOCK_CLOEXEC,
            protocol,
        ))?))
    }
}

/// A packet socket, bound to a device. *protocol* 0: receives nothing, to send with.
fn packet_socket(kind: i32, protocol: u16, index: i32) -> io::Result<OwnedFd> {
    let fd = socket(libc::AF_PACKET, kind, 0)?;
    set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    bind_packet(&fd, protocol, index)?;
    Ok(fd)
}

fn bind_packet(fd: &OwnedFd, protocol: u16, index: i32) -> io::Result<()> {
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut name: libc::sockaddr_ll = unsafe { zeroed() };
    name.sll_family = libc::AF_PACKET as u16;
    name.sll_protocol = protocol.to_be();
    name.sll_ifindex = index;
    bind(fd, &name)
}

fn bind<T>(fd: &OwnedFd, name: &T) -> io::Result<()> {
    // SAFETY: name is size_of::<T>() readable bytes.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            ptr::from_ref(name).cast(),
            size_of::<T>() as u32,
        )
    })?;
    Ok(())
}

fn set<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: value points to size_of::<T>() readable bytes, and the descriptor is open.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    })?;
    Ok(())
}

/// As a tunnel's: forced where the privilege is there.
fn buffers(fd: &OwnedFd) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER_BYTES)?;
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER_BYTES)
}

fn index(device: &str) -> io::Result<i32> {
    let name = CString::new(device)?;
    // SAFETY: a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as i32),
    }
}

/// The network namespace *path* becomes that of this thread.
pub fn enter(path: &str) -> io::Result<()> {
    let namespace = File::open(path)?;
    // SAFETY: no pointers; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

/// This thread stays on core *number*, or on the only one there is.
pub fn pin(number: usize) -> io::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    // SAFETY: all zeros is an empty cpu_set_t; CPU_SET writes inside it, since the number is below the count of cores.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(number % cores, &mut set);
        check(libc::sched_setaffinity(
            0,
            size_of::<libc::cpu_set_t>(),
            &raw const set,
        ))?;
    }
    Ok(())
}

/// Sleeps of this thread end when they should, not up to 50 microseconds later.
pub fn exact_timers() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) })?;
    Ok(())
}

/// Whether something is there to read within *patience*.
pub fn readable(fd: RawFd, patience: Duration) -> io::Result<bool> {
    poll(fd, libc::POLLIN, patience)
}

/// Whether there is room to write within a few milliseconds.
fn writable(fd: RawFd) -> io::Result<bool> {
    poll(fd, libc::POLLOUT, Duration::from_millis(5))
}

fn poll(fd: RawFd, events: i16, patience: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: one pollfd that outlives the call.
    let ready = unsafe { libc::poll(&raw mut entry, 1, patience.as_millis() as i32) };
    Ok(check(ready)? > 0)
}

/// Whether the kernel only asks to try again.
fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::EBUSY)
    )
}

/// Processor time of this thread since a moment, softirqs that ran inside it included.
pub struct ThreadClock(u64);

impl ThreadClock {
    pub fn start() -> Self {
        Self(Self::now_ns())
    }

    pub fn passed_ns(&self) -> u64 {
        Self::now_ns().saturating_sub(self.0)
    }

    fn now_ns() -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: time is writable.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// Memory that the kernel shares with us, or plain memory of whole pages.
struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// *len* bytes of the descriptor's memory from *offset* on.
    fn of(fd: &OwnedFd, len: usize, offset: i64) -> io::Result<Self> {
        Self::map(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(
            len,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    }

    fn map(len: usize, flags: i32, fd: RawFd, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// The bytes `at..at + len`.
    ///
    /// The caller holds them alone: by the protocol of the ring, the kernel has given them up.
    #[allow(clippy::mut_from_ref)]
    fn bytes(&self, at: usize, len: usize) -> &mut [u8] {
        assert!(at + len <= self.len);
        // SAFETY: inside the mapping, which lives as long as self; bytes have no invalid values.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// A word that the kernel reads or writes at any time.
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at + 4 <= self.len && at.is_multiple_of(4));
        // SAFETY: inside the mapping, aligned, and both sides use it atomically.
        unsafe { AtomicU32::from_ptr(self.start.add(at).cast()) }
    }

    /// A number that the kernel has written and now leaves alone.
    fn read_u32(&self, at: usize) -> u32 {
        let bytes = self.bytes(at, 4);
        u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn read_u16(&self, at: usize) -> u16 {
        let bytes = self.bytes(at, 2);
        u16::from_ne_bytes([bytes[0], bytes[1]])
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; nobody holds a slice of it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
