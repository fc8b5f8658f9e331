//! The system calls of a load generator: batches of datagrams out and in, from chosen local addresses. All `unsafe` is here.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

/// Datagrams of one system call.
pub const BATCH: usize = 64;
/// Bytes kept of a received datagram.
pub const RECEIVE_SIZE: usize = 2048;
/// Room for one `IP_PKTINFO` or `IPV6_PKTINFO`, as aligned as a header must be.
const CONTROL_WORDS: usize = 8;

/// Set the buffers of a socket as large as allowed up to `bytes`.
pub fn set_buffers(socket: &UdpSocket, bytes: i32) -> io::Result<()> {
    for name in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        set(socket, libc::SOL_SOCKET, name, &bytes)?;
    }
    Ok(())
}

fn set<T>(socket: &UdpSocket, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: value points to size_of::<T>() readable bytes, and the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A sender of batches over one connected or unconnected socket.
pub struct Sender<'a> {
    socket: &'a UdpSocket,
    to: libc::sockaddr_storage,
    to_size: u32,
}

/// One datagram to send, and the local address it leaves from (None = the system's choice).
#[derive(Clone, Copy)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub from: Option<IpAddr>,
}

impl<'a> Sender<'a> {
    pub fn new(socket: &'a UdpSocket, to: SocketAddr) -> Self {
        let (to, to_size) = raw_address(to);
        Self {
            socket,
            to,
            to_size,
        }
    }

    /// Send up to `BATCH` datagrams; how many went. A full queue of the interface counts as 0.
    pub fn send(&mut self, datagrams: &[Datagram]) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let mut pieces: [libc::iovec; BATCH] = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        let mut control = [[0_u64; CONTROL_WORDS]; BATCH];
        // SAFETY: all zeros is a valid mmsghdr: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (at, datagram) in datagrams[..count].iter().enumerate() {
            pieces[at] = libc::iovec {
                iov_base: datagram.bytes.as_ptr().cast_mut().cast(),
                iov_len: datagram.bytes.len(),
            };
            let header = &mut headers[at].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.to).cast();
            header.msg_namelen = self.to_size;
            header.msg_iov = &raw mut pieces[at];
            header.msg_iovlen = 1;
            if let Some(from) = datagram.from {
                header.msg_control = control[at].as_mut_ptr().cast();
                header.msg_controllen = put_source(&mut control[at], from);
            }
        }
        // SAFETY: the first `count` headers point to an address, one piece each and control data that all outlive the call;
        // the kernel writes only msg_len of the headers.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as u32,
                0,
            )
        };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        match io::Error::last_os_error() {
            error
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::EAGAIN | libc::ECONNREFUSED | libc::EINTR)
                ) =>
            {
                Ok(0)
            }
            error => Err(error),
        }
    }
}

/// Write the control message that chooses the source address; its length.
fn put_source(control: &mut [u64; CONTROL_WORDS], from: IpAddr) -> usize {
    let (level, kind, bytes): (i32, i32, Vec<u8>) = match from {
        // in_pktinfo: interface, the address to send from, (unused) destination.
        IpAddr::V4(from) => (
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            [&[0; 4][..], &from.octets(), &[0; 4]].concat(),
        ),
        // in6_pktinfo: address, interface.
        IpAddr::V6(from) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            [&from.octets()[..], &[0; 4]].concat(),
        ),
    };
    let head = size_of::<libc::cmsghdr>();
    let mut raw = [0_u8; CONTROL_WORDS * 8];
    // cmsghdr on 64-bit Linux: size_t length, int level, int type; then the data.
    raw[..8].copy_from_slice(&(head + bytes.len()).to_ne_bytes());
    raw[8..12].copy_from_slice(&level.to_ne_bytes());
    raw[12..16].copy_from_slice(&kind.to_ne_bytes());
    raw[head..head + bytes.len()].copy_from_slice(&bytes);
    for (word, bytes) in control.iter_mut().zip(raw.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
    }
    (head + bytes.len()).next_multiple_of(8)
}

fn raw_address(to: SocketAddr) -> (libc::sockaddr_storage, u32) {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let size = match to {
        SocketAddr::V4(to) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(to.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and at least as aligned as any socket address.
            unsafe { ptr::write(ptr::from_mut(&mut storage).cast(), raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: to.ip().octets(),
                },
                sin6_scope_id: to.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::write(ptr::from_mut(&mut storage).cast(), raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, size as u32)
}

/// A receiver of batches.
pub struct Receiver<'a> {
    socket: &'a UdpSocket,
    buffers: Vec<[u8; RECEIVE_SIZE]>,
    lengths: [usize; BATCH],
}

impl<'a> Receiver<'a> {
    pub fn new(socket: &'a UdpSocket) -> Self {
        Self {
            socket,
            buffers: vec![[0; RECEIVE_SIZE]; BATCH],
            lengths: [0; BATCH],
        }
    }

    /// What is there now, or comes within `patience`; an empty iterator after that.
    pub fn receive(&mut self, patience: Duration) -> io::Result<impl Iterator<Item = &[u8]>> {
        let count = if self.wait(patience)? {
            self.take()?
        } else {
            0
        };
        Ok(self
            .buffers
            .iter()
            .zip(self.lengths)
            .take(count)
            .map(|(buffer, length)| &buffer[..length.min(RECEIVE_SIZE)]))
    }

    fn wait(&self, patience: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = libc::timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: patience.subsec_nanos().into(),
        };
        // SAFETY: one pollfd and one timespec, both alive; no signal mask.
        match unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, ptr::null()) } {
            -1 => Err(io::Error::last_os_error()),
            ready => Ok(ready > 0),
        }
    }

    fn take(&mut self) -> io::Result<usize> {
        let mut pieces: [libc::iovec; BATCH] = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: all zeros is a valid mmsghdr.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for ((header, piece), buffer) in headers.iter_mut().zip(&mut pieces).zip(&mut self.buffers)
        {
            *piece = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: RECEIVE_SIZE,
            };
            header.msg_hdr.msg_iov = ptr::from_mut(piece);
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: BATCH headers with one writable piece of RECEIVE_SIZE bytes each; nothing blocks.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            return match io::Error::last_os_error() {
                // An ICMP answer to something sent is reported here; it is not a datagram.
                error
                    if matches!(
                        error.raw_os_error(),
                        Some(
                            libc::EAGAIN
                                | libc::ECONNREFUSED
                                | libc::EINTR
                                | libc::EHOSTUNREACH
                                | libc::ENETUNREACH
                        )
                    ) =>
                {
                    Ok(0)
                }
                error => Err(error),
            };
        }
        for (length, header) in self.lengths.iter_mut().zip(&headers) {
            *length = header.msg_len as usize;
        }
        Ok(count as usize)
    }
}

/// Processor time of this process since a moment.
pub struct CpuTime(Duration);

impl CpuTime {
    pub fn start() -> Self {
        Self(Self::now())
    }

    pub fn seconds(&self) -> f64 {
        Self::now().saturating_sub(self.0).as_secs_f64()
    }

    fn now() -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: time is writable.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}
