//! Raw sockets in batches: finished packets out, with their own delivery header; packets of one protocol in.
//!
//! Sending is `IPPROTO_RAW`, which takes the header from us (IPv4: the kernel fills in the checksum; a packet longer than the device's MTU
//! is refused with EMSGSIZE, never fragmented) and never receives. Receiving is one socket for each family and protocol: raw sockets get
//! copies, so two of them would get everything twice. The kernel has reassembled fragments by then.
//!
//! `RawSend::send_many` and `RawReceive::receive_many` are all that the threads use: another way to move packets (rings) would be
//! another pair of types with these methods.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::check;
use super::udp::{
    address, put, sockaddr, wait_for_room, Control, CONTROL_WORDS, RECEIVE_BUFFER,
    SHARED_SEND_BUFFER_BYTES, SO_BINDTOIFINDEX,
};

/// Messages to one recvmmsg.
const MESSAGES: usize = 64;
/// Most packets are no longer. An odd number of cache lines: buffers of a round stride would all lie in the same few sets of the cache.
const SMALL: usize = 33 * 64;
/// Behind the small part, for packets that are longer; the small part is copied in front of it, so that the packet is in one piece.
const LARGE: usize = SMALL + RECEIVE_BUFFER;
/// As for UDP.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 << 20;
/// `linux/in6.h`: the header is ours, and quoted whole in errors.
const IPV6_HDRINCL: libc::c_int = 36;

fn socket(v6: bool, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        Ok(OwnedFd::from_raw_fd(check(libc::socket(
            family, kind, protocol,
        ))?))
    }
}

fn option(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option value is one int that outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    })?;
    Ok(())
}

/// Beyond rmem_max and wmem_max only with CAP_NET_ADMIN; without it the kernel's own cap applies and that is good enough.
fn buffer(
    fd: &OwnedFd,
    force: libc::c_int,
    plain: libc::c_int,
    bytes: libc::c_int,
) -> io::Result<()> {
    option(fd, libc::SOL_SOCKET, force, bytes)
        .or_else(|_| option(fd, libc::SOL_SOCKET, plain, bytes))
}

/// One finished packet to send: `slab[start..start + len]`, from its delivery header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOutgoing {
    /// Port 0; of a link-local IPv6 address with its scope.
    pub to: SocketAddr,
    /// For the choice of the route; the packet says itself where it is from.
    pub source: IpAddr,
    pub start: usize,
    pub len: usize,
}

/// The arrays that sendmmsg reads, kept between calls.
#[derive(Default)]
pub struct RawSendScratch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    /// Neighbours of one destination and source share an entry.
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
}

// SAFETY: the raw pointers inside are written anew before each system call and point into this same value or its caller's slab;
// none is read between calls, so moving the value to another thread moves nothing that is pointed at from outside.
unsafe impl Send for RawSendScratch {}

/// A socket that sends finished packets.
pub struct RawSend {
    fd: OwnedFd,
}

impl RawSend {
    /// EPERM without CAP_NET_RAW.
    pub fn open(v6: bool, fwmark: u32, device: u32) -> io::Result<Self> {
        let fd = socket(v6, libc::IPPROTO_RAW)?;
        buffer(
            &fd,
            libc::SO_SNDBUFFORCE,
            libc::SO_SNDBUF,
            SHARED_SEND_BUFFER_BYTES,
        )?;
        if fwmark != 0 {
            option(&fd, libc::SOL_SOCKET, libc::SO_MARK, fwmark.cast_signed())?;
        }
        if device != 0 {
            option(
                &fd,
                libc::SOL_SOCKET,
                SO_BINDTOIFINDEX,
                device.cast_signed(),
            )?;
        }
        Ok(Self { fd })
    }

    /// Sends without waiting; how many went out. An error is that of the first; `WouldBlock` when the send buffer is full.
    pub fn send_many(
        &self,
        slab: &[u8],
        messages: &[RawOutgoing],
        scratch: &mut RawSendScratch,
    ) -> io::Result<usize> {
        scratch.headers.clear();
        scratch.vectors.clear();
        scratch.names.clear();
        scratch.controls.clear();
        // Reserved first: the headers point into these three, which must not move afterwards.
        scratch.vectors.reserve(messages.len());
        scratch.names.reserve(messages.len());
        scratch.controls.reserve(messages.len());
        let mut last: Option<&RawOutgoing> = None;
        let (mut name_length, mut control_length) = (0, 0);
        for message in messages {
            let bytes = &slab[message.start..message.start + message.len];
            scratch.vectors.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
            if last.is_none_or(|last| last.to != message.to || last.source != message.source) {
                let (name, length) = sockaddr(&message.to);
                scratch.names.push(name);
                name_length = length;
                let mut control: Control = [0; CONTROL_WORDS];
                control_length = put_source(&mut control, message.source);
                scratch.controls.push(control);
                last = Some(message);
            }
            // SAFETY: an all-zero msghdr is valid; the pointers are into vectors that were reserved above and so do not move
            // before the system call below, and each length is that of what is pointed at. sendmmsg writes none of it.
            unsafe {
                let mut header: libc::mmsghdr = zeroed();
                let names = scratch.names.len() - 1;
                header.msg_hdr.msg_name = scratch.names.as_mut_ptr().add(names).cast();
                header.msg_hdr.msg_namelen = name_length;
                let vectors = scratch.vectors.len() - 1;
                header.msg_hdr.msg_iov = scratch.vectors.as_mut_ptr().add(vectors);
                header.msg_hdr.msg_iovlen = 1;
                let controls = scratch.controls.len() - 1;
                header.msg_hdr.msg_control = scratch.controls.as_mut_ptr().add(controls).cast();
                header.msg_hdr.msg_controllen = control_length as _;
                scratch.headers.push(header);
            }
        }
        // SAFETY: `headers` has that many entries, each built above; all that they point at is alive.
        let sent = check(unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                scratch.headers.as_mut_ptr(),
                scratch.headers.len() as u32,
                libc::MSG_DONTWAIT,
            )
        })?;
        Ok(sent.unsigned_abs() as usize)
    }

    /// As `Udp::wait_for_room`.
    pub fn wait_for_room(&self) {
        wait_for_room(self.fd.as_raw_fd());
    }
}

/// The source for the kernel's choice of a route (rules may go by it): the header of ours is not asked for that.
fn put_source(control: &mut Control, source: IpAddr) -> usize {
    match source {
        IpAddr::V4(source) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(control, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(source) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            put(control, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// One packet received: `slab[start..start + len]`, behind its delivery header and that one's options.
#[derive(Clone, Copy, Debug)]
pub struct RawReceived {
    pub start: usize,
    pub len: usize,
    pub from: IpAddr,
    pub to: IpAddr,
    /// Index of the device it came in by.
    pub device: u32,
    pub tos: u8,
}

/// The arrays that recvmmsg fills, kept between calls, and the memory that packets land in.
pub struct RawReceiveScratch {
    /// All small parts, then all large ones.
    slab: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<[libc::iovec; 2]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    overflow: u32,
}

// SAFETY: as for RawSendScratch.
unsafe impl Send for RawReceiveScratch {}

impl RawReceiveScratch {
    pub fn new() -> Self {
        // SAFETY: all-zero is a valid value of these C structures.
        let (header, name) = unsafe {
            (
                zeroed::<libc::mmsghdr>(),
                zeroed::<libc::sockaddr_storage>(),
            )
        };
        let vector = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            // Zeroed pages cost nothing until touched: the large parts mostly never are.
            slab: vec![0; MESSAGES * (SMALL + LARGE)],
            headers: vec![header; MESSAGES],
            vectors: vec![[vector; 2]; MESSAGES],
            names: vec![name; MESSAGES],
            controls: vec![[0; CONTROL_WORDS]; MESSAGES],
            overflow: 0,
        }
    }

    pub fn slab(&mut self) -> &mut [u8] {
        &mut self.slab
    }
}

impl Default for RawReceiveScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// A socket that receives all packets of one protocol.
pub struct RawReceive {
    fd: OwnedFd,
    v6: bool,
    /// What SO_RXQ_OVFL last said.
    lost: AtomicU32,
}

impl RawReceive {
    /// EPERM without CAP_NET_RAW.
    pub fn open(v6: bool, protocol: u8) -> io::Result<Self> {
        let fd = socket(v6, libc::c_int::from(protocol))?;
        if v6 {
            for name in [
                libc::IPV6_RECVPKTINFO,
                libc::IPV6_RECVTCLASS,
                libc::IPV6_RECVERR,
                IPV6_HDRINCL,
            ] {
                option(&fd, libc::IPPROTO_IPV6, name, 1)?;
            }
        } else {
            for name in [libc::IP_PKTINFO, libc::IP_RECVERR, libc::IP_HDRINCL] {
                option(&fd, libc::IPPROTO_IP, name, 1)?;
            }
        }
        option(&fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
        buffer(
            &fd,
            libc::SO_RCVBUFFORCE,
            libc::SO_RCVBUF,
            RECEIVE_BUFFER_BYTES,
        )?;
        Ok(Self {
            fd,
            v6,
            lost: AtomicU32::new(0),
        })
    }

    /// As `Udp::newly_lost`.
    pub fn newly_lost(&self, scratch: &mut RawReceiveScratch) -> u32 {
        match std::mem::take(&mut scratch.overflow) {
            0 => 0,
            total => total.wrapping_sub(self.lost.swap(total, Ordering::Relaxed)),
        }
    }

    /// Receives what is there, without waiting; packets lie in `scratch.slab()`, in order of arrival from low to high as long as they are
    /// short. `WouldBlock` when there is nothing.
    pub fn receive_many(
        &self,
        scratch: &mut RawReceiveScratch,
        received: &mut Vec<RawReceived>,
    ) -> io::Result<()> {
        received.clear();
        for index in 0..MESSAGES {
            scratch.controls[index] = [0; CONTROL_WORDS];
            // SAFETY: each header gets its own name, control buffer, SMALL bytes of the slab's first part and RECEIVE_BUFFER bytes of its
            // second; the vectors are never resized after `new`, so the pointers hold during the call.
            unsafe {
                let slab = scratch.slab.as_mut_ptr();
                scratch.vectors[index] = [
                    libc::iovec {
                        iov_base: slab.add(small_at(index)).cast(),
                        iov_len: SMALL,
                    },
                    libc::iovec {
                        iov_base: slab.add(large_at(index) + SMALL).cast(),
                        iov_len: RECEIVE_BUFFER,
                    },
                ];
                let mut header: libc::mmsghdr = zeroed();
                header.msg_hdr.msg_name = scratch.names.as_mut_ptr().add(index).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                header.msg_hdr.msg_iov = scratch.vectors.as_mut_ptr().add(index).cast();
                header.msg_hdr.msg_iovlen = 2;
                header.msg_hdr.msg_control = scratch.controls.as_mut_ptr().add(index).cast();
                header.msg_hdr.msg_controllen = size_of::<Control>() as _;
                scratch.headers[index] = header;
            }
        }
        // SAFETY: all headers were built above and everything they point at is alive and large enough.
        let filled = check(unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                scratch.headers.as_mut_ptr(),
                MESSAGES as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        })?
        .unsigned_abs() as usize;
        for index in 0..filled {
            let header = &scratch.headers[index];
            let len = header.msg_len as usize;
            let start = if len <= SMALL {
                small_at(index)
            } else {
                let small = small_at(index)..small_at(index) + SMALL;
                scratch.slab.copy_within(small, large_at(index));
                large_at(index)
            };
            let told = read_control(&header.msg_hdr, &mut scratch.overflow);
            let packet = &scratch.slab[start..start + len];
            let message = if self.v6 {
                let from = address(&scratch.names[index]).map(|at| at.ip());
                from.zip(told.to).map(|(from, to)| (0, from, to, told.tos))
            } else {
                behind_ipv4(packet)
            };
            // The kernel hands over only what has a delivery header: else there is nothing to count it for.
            if let Some((header, from, to, tos)) = message {
                received.push(RawReceived {
                    start: start + header,
                    len: len - header,
                    from,
                    to,
                    device: told.device,
                    tos,
                });
            }
        }
        Ok(())
    }
}

impl AsRawFd for RawReceive {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn small_at(index: usize) -> usize {
    index * SMALL
}

fn large_at(index: usize) -> usize {
    MESSAGES * SMALL + index * LARGE
}

/// Length of the delivery header, source, destination and TOS.
fn behind_ipv4(packet: &[u8]) -> Option<(usize, IpAddr, IpAddr, u8)> {
    let fixed = packet.first_chunk::<20>()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(
            fixed[at],
            fixed[at + 1],
            fixed[at + 2],
            fixed[at + 3],
        ))
    };
    (header >= 20 && header <= packet.len()).then(|| (header, address(12), address(16), fixed[1]))
}

#[derive(Default)]
struct Told {
    to: Option<IpAddr>,
    device: u32,
    tos: u8,
}

fn read_control(header: &libc::msghdr, overflow: &mut u32) -> Told {
    let mut told = Told::default();
    // SAFETY: the kernel wrote `msg_controllen` bytes of well-formed control messages into our buffer; the CMSG macros stay inside
    // it, and each value is read unaligned with the size its type has in the kernel's ABI.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    told.device = info.ipi_ifindex.unsigned_abs();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    told.to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                    told.device = info.ipi6_ifindex;
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    told.tos = data.cast::<u32>().read_unaligned() as u8;
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    *overflow = data.cast::<u32>().read_unaligned();
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    told
}
