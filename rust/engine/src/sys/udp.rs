//! UDP sockets in batches: sendmmsg with `UDP_SEGMENT`, recvmmsg with `UDP_GRO`, and the control messages that carry
//! source address, ECN and segment size.
//!
//! Rules the kernel sets for one `UDP_SEGMENT` send: at most 64 segments, at most 65,507 bytes, all segments equal but for a shorter
//! last one; and it stays whole as far as the device only while all headers and it are shorter than 64 KiB. Outer packets may be fragmented (`IP_PMTUDISC_DONT)`: a tunnel that meets a small link must not go silent.
//! A control buffer is zeroed before use, since the kernel reads all of it.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use ginnel_wireguard::filter::{socket_filter_program, Instruction};

use super::check;
use crate::lock;

/// Most segments in one `UDP_SEGMENT` send that every kernel since 4.18 takes.
pub const MAX_SEGMENTS: usize = 64;
/// Most payload in one segmented send. 65,507 would be taken, but what is longer than `gso_max_size` (65,536) with UDP, IPv6, Ethernet and
/// VLAN headers is cut in software before the device sees it: a GRE tunnel of MTU 1420 then costs three times as much.
pub const MAX_SEGMENTED_BYTES: usize = 65_400;
/// No datagram and no GRO chain is longer.
pub const RECEIVE_BUFFER: usize = 65_536;
/// Messages to one recvmmsg when they are small.
pub const RECEIVE_MESSAGES: usize = 64;
/// ... and when GRO makes them large: the batch must stay in the cache.
const RECEIVE_LARGE_MESSAGES: usize = 4;
const LARGE_MESSAGE: usize = 4096;
/// Pieces that one message may gather (`UIO_MAXIOV` is 1024; a piece is at least one segment).
pub const MAX_PIECES: usize = MAX_SEGMENTS;
/// 10 Gb/s for 3 ms: room for a burst while the receiving thread is busy, small enough not to add latency.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 << 20;
/// A few segmented messages under way: more would only queue where the kernel cannot tell flows apart.
const SEND_BUFFER_BYTES: libc::c_int = 1 << 20;
/// A send buffer that many share must not be what fills, else a link that is slow keeps all others waiting: what waits for a link is
/// bounded by the link's own queue, as it is for packets that the kernel forwards.
pub(super) const SHARED_SEND_BUFFER_BYTES: libc::c_int = 64 << 20;

/// How often a full send buffer is tried again.
const ROOM_RETRY_MS: libc::c_int = 5;

pub(super) const CONTROL_WORDS: usize = 16;
pub(super) type Control = [u64; CONTROL_WORDS];

/// Linux 5.0: by index, so that a renamed device stays the same.
pub(super) const SO_BINDTOIFINDEX: libc::c_int = 62;
const UDP_NO_CHECK6_RX: libc::c_int = 102;
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

/// One UDP socket of one family.
pub struct Udp {
    fd: OwnedFd,
    v6: bool,
    /// Cleared for good when the kernel or its driver refuses segmentation (EIO: no checksum offload on the way out).
    gso: AtomicBool,
    /// Segments of this size or more are refused by the path's device (it would have to fragment them).
    gso_refused_size: AtomicUsize,
    gro: Result<(), String>,
    filtered: AtomicBool,
    /// What SO_RXQ_OVFL last said.
    lost: AtomicU32,
    /// What the socket's path MTU discovery is set to: held while something is sent that depends on it.
    dont_fragment: Mutex<bool>,
}

/// One message to send: `pieces` of the slab, in order, cut by the kernel into datagrams of `segment` bytes (0: one datagram).
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: SocketAddr,
    pub source: Option<IpAddr>,
    pub tos: u8,
    /// TTL or hop limit; 0: the host's own.
    pub ttl: u8,
    pub segment: usize,
    pub bytes: usize,
    pub pieces: Range<usize>,
}

/// One message received: `slab[start..start + len]`, datagrams of `segment` bytes but for the last.
#[derive(Clone, Debug)]
pub struct Received {
    pub start: usize,
    pub len: usize,
    pub segment: usize,
    pub from: SocketAddr,
    pub to: Option<IpAddr>,
    /// Index of the device it came in by; 0: not told.
    pub device: u32,
    pub tos: u8,
    /// The kernel cut it: longer than the buffer, so not a datagram of ours.
    pub truncated: bool,
}

/// The arrays that sendmmsg reads, kept between calls.
#[derive(Default)]
pub struct SendScratch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
}

/// The arrays that recvmmsg fills, kept between calls, and the memory that datagrams land in.
pub struct ReceiveScratch {
    slab: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    messages: usize,
    overflow: u32,
}

// SAFETY: the raw pointers inside are written anew before each system call and point into this same value or its caller's slab;
// none is read between calls, so moving the value to another thread moves nothing that is pointed at from outside.
unsafe impl Send for SendScratch {}
// SAFETY: as above.
unsafe impl Send for ReceiveScratch {}

/// How a socket is bound, beyond what every one of ours has.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent socket options
pub struct Binding {
    pub v6: bool,
    /// 0: any.
    pub port: u16,
    pub fwmark: u32,
    /// Index of the device it is bound to; 0: all.
    pub device: u32,
    /// The port is shared with another socket of ours.
    pub shared: bool,
    /// ICMP errors about what was sent are kept, for `errors::read`.
    pub errors: bool,
    /// UDP_SEGMENT and UDP_GRO.
    pub offload: bool,
    /// Several tunnels send by it, by different links: see `SHARED_SEND_BUFFER_BYTES`.
    pub many: bool,
    /// Datagrams of IPv6 without a checksum are taken as well: what is inside is protected better (RFC 6936; RFC 3948 2.1 wants none).
    pub no_checksum: bool,
}

impl Udp {
    /// Binds *port* (0: any) on all addresses of the family.
    pub fn bind(v6: bool, port: u16, fwmark: u32, offload: bool) -> io::Result<Self> {
        Self::bind_as(&Binding {
            v6,
            port,
            fwmark,
            offload,
            ..Binding::default()
        })
    }

    /// The same, by description.
    pub fn bind_as(binding: &Binding) -> io::Result<Self> {
        let Binding {
            v6,
            port,
            fwmark,
            offload,
            ..
        } = *binding;
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
        let fd = unsafe {
            OwnedFd::from_raw_fd(check(libc::socket(
                family,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
                0,
            ))?)
        };
        let mut udp = Self {
            fd,
            v6,
            gso: AtomicBool::new(offload),
            gso_refused_size: AtomicUsize::new(usize::MAX),
            gro: Err("switched off".to_owned()),
            filtered: AtomicBool::new(false),
            lost: AtomicU32::new(0),
            dont_fragment: Mutex::new(false),
        };
        if v6 {
            udp.option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            udp.option(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            udp.option(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            udp.option(
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DONT,
            )?;
        } else {
            udp.option(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            udp.option(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            udp.option(
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DONT,
            )?;
        }
        udp.option(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
        for (force, plain, bytes) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES),
            (
                libc::SO_SNDBUFFORCE,
                libc::SO_SNDBUF,
                if binding.many {
                    SHARED_SEND_BUFFER_BYTES
                } else {
                    SEND_BUFFER_BYTES
                },
            ),
        ] {
            // Beyond rmem_max only with CAP_NET_ADMIN; without it the kernel's own cap applies and that is good enough.
            if udp.option(libc::SOL_SOCKET, force, bytes).is_err() {
                udp.option(libc::SOL_SOCKET, plain, bytes)?;
            }
        }
        if offload {
            udp.gro = udp
                .option(libc::SOL_UDP, UDP_GRO, 1)
                .map_err(|error| error.to_string());
        }
        if fwmark != 0 {
            udp.set_fwmark(fwmark)?;
        }
        if binding.device != 0 {
            let index = binding.device.cast_signed();
            udp.option(libc::SOL_SOCKET, SO_BINDTOIFINDEX, index)?;
        }
        if binding.shared {
            udp.share_port()?;
        }
        if binding.no_checksum && v6 {
            udp.option(libc::SOL_UDP, UDP_NO_CHECK6_RX, 1)?;
        }
        if binding.errors {
            let (level, name) = if v6 {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            } else {
                (libc::IPPROTO_IP, libc::IP_RECVERR)
            };
            udp.option(level, name, 1)?;
        }
        let any = if v6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let (name, length) = sockaddr(&SocketAddr::new(any, port));
        // SAFETY: `name` is a sockaddr of `length` bytes.
        check(unsafe { libc::bind(udp.fd.as_raw_fd(), (&raw const name).cast(), length) })?;
        Ok(udp)
    }

    fn option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option value is one int that outlives the call.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                length,
            )
        })?;
        Ok(())
    }

    /// From now on others of this user may bind the same port, if they ask for it as well. Asked for after binding it never lets ours join
    /// a stranger's.
    pub fn share_port(&self) -> io::Result<()> {
        self.option(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    }

    /// Whether what is sent may be fragmented. DF without the kernel's own path MTU: ours is aged and judged. A system call only when it
    /// changes; it stays so for as long as the guard is held.
    fn fragmenting(&self, dont_fragment: bool) -> io::Result<MutexGuard<'_, bool>> {
        let mut state = lock(&self.dont_fragment);
        if *state != dont_fragment {
            let (level, name, dont, probe) = if self.v6 {
                (
                    libc::IPPROTO_IPV6,
                    libc::IPV6_MTU_DISCOVER,
                    libc::IPV6_PMTUDISC_DONT,
                    libc::IPV6_PMTUDISC_PROBE,
                )
            } else {
                (
                    libc::IPPROTO_IP,
                    libc::IP_MTU_DISCOVER,
                    libc::IP_PMTUDISC_DONT,
                    libc::IP_PMTUDISC_PROBE,
                )
            };
            self.option(level, name, if dont_fragment { probe } else { dont })?;
            *state = dont_fragment;
        }
        Ok(state)
    }

    /// `send_many` for a socket by which packets with and without DF leave, whichever thread sends them.
    pub fn send_many_with(
        &self,
        dont_fragment: bool,
        slab: &[u8],
        pieces: &[Range<usize>],
        messages: &[Outgoing],
        scratch: &mut SendScratch,
    ) -> io::Result<usize> {
        let _held = self.fragmenting(dont_fragment)?;
        self.send_many(slab, pieces, messages, scratch)
    }

    pub fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        self.option(libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
    }

    /// Has the kernel drop what can be no WireGuard message, and most initiations of the *listed* addresses. A kernel that takes no filter
    /// leaves that to us: nothing depends on it but the cost of floods.
    pub fn keep_only_messages(&self, listed: &[IpAddr]) {
        let attached = self.attach_filter(&socket_filter_program(self.gro.is_ok(), listed));
        self.filtered.store(attached.is_ok(), Ordering::Relaxed);
    }

    fn attach_filter(&self, program: &[Instruction]) -> io::Result<()> {
        let mut code: Vec<libc::sock_filter> = program
            .iter()
            .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
            .collect();
        let filter = libc::sock_fprog {
            len: code.len() as u16,
            filter: code.as_mut_ptr(),
        };
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: `filter` points at `code`, which has `len` entries and outlives the call; the kernel copies both.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                length,
            )
        })?;
        Ok(())
    }

    pub fn filter_state(&self) -> String {
        if self.filtered.load(Ordering::Relaxed) {
            "on"
        } else {
            "off (refused by the kernel)"
        }
        .to_owned()
    }

    /// The port it is bound to.
    pub fn port(&self) -> io::Result<u16> {
        // SAFETY: an all-zero sockaddr_storage is valid; the kernel fills at most `length` bytes of it.
        unsafe {
            let mut name: libc::sockaddr_storage = zeroed();
            let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            check(libc::getsockname(
                self.fd.as_raw_fd(),
                (&raw mut name).cast(),
                &raw mut length,
            ))?;
            Ok(address(&name).map_or(0, |at| at.port()))
        }
    }

    /// Whether several datagrams of *size* may go out as one segmented message.
    pub fn may_segment(&self, size: usize) -> bool {
        self.gso.load(Ordering::Relaxed) && size < self.gso_refused_size.load(Ordering::Relaxed)
    }

    /// The kernel refused a segmented message: remember, so that it is asked only once.
    pub fn refuse_segments(&self, size: usize, error: &io::Error) {
        if error.raw_os_error() == Some(libc::EIO) {
            self.gso.store(false, Ordering::Relaxed);
        } else {
            self.gso_refused_size.fetch_min(size, Ordering::Relaxed);
        }
    }

    /// Links changed: sizes that were refused may fit now.
    pub fn forget_refused_sizes(&self) {
        self.gso_refused_size.store(usize::MAX, Ordering::Relaxed);
    }

    pub fn gso_state(&self) -> String {
        let size = self.gso_refused_size.load(Ordering::Relaxed);
        match (self.gso.load(Ordering::Relaxed), size) {
            (true, usize::MAX) => "on".to_owned(),
            (true, size) => format!("on below {size} bytes (larger segments were refused)"),
            (false, _) => "off (switched off, or refused by the device)".to_owned(),
        }
    }

    pub fn gro_state(&self) -> String {
        self.gro.clone().err().unwrap_or_else(|| "on".to_owned())
    }

    /// Sends *messages*, whose pieces lie in *slab*, without waiting; returns how many went out. An error is that of the first message;
    /// `WouldBlock` when the send buffer is full.
    pub fn send_many(
        &self,
        slab: &[u8],
        pieces: &[Range<usize>],
        messages: &[Outgoing],
        scratch: &mut SendScratch,
    ) -> io::Result<usize> {
        scratch.headers.clear();
        scratch.vectors.clear();
        scratch.names.clear();
        scratch.controls.clear();
        // Reserved first: the headers point into these three, which must not move afterwards.
        scratch
            .vectors
            .reserve(messages.iter().map(|message| message.pieces.len()).sum());
        scratch.names.reserve(messages.len());
        scratch.controls.reserve(messages.len());
        for message in messages {
            let first = scratch.vectors.len();
            for piece in &pieces[message.pieces.clone()] {
                let bytes = &slab[piece.clone()];
                scratch.vectors.push(libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                });
            }
            let (name, name_length) = sockaddr(&message.to);
            scratch.names.push(name);
            let mut control: Control = [0; CONTROL_WORDS];
            let control_length = write_control(&mut control, message);
            scratch.controls.push(control);
            // SAFETY: an all-zero msghdr is valid; the pointers are into vectors that were reserved above and so do not move
            // before the system call below, and each length is that of what is pointed at. sendmmsg writes none of it.
            unsafe {
                let mut header: libc::mmsghdr = zeroed();
                header.msg_hdr.msg_name = scratch
                    .names
                    .as_mut_ptr()
                    .add(scratch.names.len() - 1)
                    .cast();
                header.msg_hdr.msg_namelen = name_length;
                header.msg_hdr.msg_iov = scratch.vectors.as_mut_ptr().add(first);
                header.msg_hdr.msg_iovlen = message.pieces.len() as _;
                if control_length > 0 {
                    header.msg_hdr.msg_control = scratch
                        .controls
                        .as_mut_ptr()
                        .add(scratch.controls.len() - 1)
                        .cast();
                    header.msg_hdr.msg_controllen = control_length as _;
                }
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

    /// Waits for room in the send buffer, a few milliseconds at most: half of it must drain before the kernel tells, so the caller tries
    /// again either way.
    pub fn wait_for_room(&self) {
        wait_for_room(self.fd.as_raw_fd());
    }

    /// Datagrams that the kernel dropped before we read them, as far as told by what was received since the last call.
    pub fn newly_lost(&self, scratch: &mut ReceiveScratch) -> u32 {
        match std::mem::take(&mut scratch.overflow) {
            0 => 0,
            total => total.wrapping_sub(self.lost.swap(total, Ordering::Relaxed)),
        }
    }

    /// Receives what is there, without waiting; the datagrams lie in `scratch.slab()`. `WouldBlock` when there is nothing.
    pub fn receive_many(
        &self,
        scratch: &mut ReceiveScratch,
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        received.clear();
        let count = scratch.messages;
        for index in 0..count {
            scratch.controls[index] = [0; CONTROL_WORDS];
            // SAFETY: each header gets its own name, control buffer and RECEIVE_BUFFER bytes of the slab; the vectors are never
            // resized after `new`, so the pointers hold during the call.
            unsafe {
                scratch.vectors[index] = libc::iovec {
                    iov_base: scratch.slab.as_mut_ptr().add(index * RECEIVE_BUFFER).cast(),
                    iov_len: RECEIVE_BUFFER,
                };
                let mut header: libc::mmsghdr = zeroed();
                header.msg_hdr.msg_name = scratch.names.as_mut_ptr().add(index).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                header.msg_hdr.msg_iov = scratch.vectors.as_mut_ptr().add(index);
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = scratch.controls.as_mut_ptr().add(index).cast();
                header.msg_hdr.msg_controllen = size_of::<Control>() as _;
                scratch.headers[index] = header;
            }
        }
        // SAFETY: `count` headers were built above and everything they point at is alive and large enough.
        let filled = check(unsafe {
            let headers = scratch.headers.as_mut_ptr();
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers,
                count as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        })?
        .unsigned_abs() as usize;
        let mut longest = 0;
        for index in 0..filled {
            let header = &scratch.headers[index];
            let Some(from) = address(&scratch.names[index]) else {
                continue;
            };
            let length = (header.msg_len as usize).min(RECEIVE_BUFFER);
            longest = longest.max(length);
            let mut message = Received {
                start: index * RECEIVE_BUFFER,
                len: length,
                segment: length,
                from,
                to: None,
                device: 0,
                tos: 0,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
            read_control(&header.msg_hdr, &mut message, &mut scratch.overflow);
            received.push(message);
        }
        scratch.messages = if longest > LARGE_MESSAGE {
            RECEIVE_LARGE_MESSAGES
        } else {
            RECEIVE_MESSAGES
        };
        Ok(())
    }
}

impl AsRawFd for Udp {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl ReceiveScratch {
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
            // Zeroed pages cost nothing until touched: small datagrams touch one page of each buffer.
            slab: vec![0; RECEIVE_MESSAGES * RECEIVE_BUFFER],
            headers: vec![header; RECEIVE_MESSAGES],
            vectors: vec![vector; RECEIVE_MESSAGES],
            names: vec![name; RECEIVE_MESSAGES],
            controls: vec![[0; CONTROL_WORDS]; RECEIVE_MESSAGES],
            messages: RECEIVE_LARGE_MESSAGES,
            overflow: 0,
        }
    }

    pub fn slab(&mut self) -> &mut [u8] {
        &mut self.slab
    }
}

impl Default for ReceiveScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// `Udp::wait_for_room` for any socket.
pub(super) fn wait_for_room(fd: RawFd) {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd that outlives the call. Its outcome does not matter: the next send tells.
    unsafe { libc::poll(&raw mut entry, 1, ROOM_RETRY_MS) };
}

/// Appends one control message; returns the offset behind it.
pub(super) fn put<T: Copy>(
    control: &mut Control,
    offset: usize,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute. The largest set we write (IPv6 pktinfo 40, traffic class 24, hop limit 24,
    // segment 24) is 112 bytes of 128, `offset` is a sum of CMSG_SPACEs and therefore aligned for cmsghdr, and the buffer is u64-aligned.
    unsafe {
        let size = size_of::<T>() as u32;
        let header: *mut libc::cmsghdr = control.as_mut_ptr().cast::<u8>().add(offset).cast();
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        offset + libc::CMSG_SPACE(size) as usize
    }
}

fn write_control(control: &mut Control, message: &Outgoing) -> usize {
    let mut used = 0;
    match message.source {
        Some(IpAddr::V4(source)) => {
            let spec = libc::in_addr {
                s_addr: u32::from_ne_bytes(source.octets()),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: spec,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used = put(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(source)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            used = put(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    if message.tos != 0 {
        let tos = libc::c_int::from(message.tos);
        used = match message.to {
            SocketAddr::V4(_) => put(control, used, libc::IPPROTO_IP, libc::IP_TOS, tos),
            SocketAddr::V6(_) => put(control, used, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos),
        };
    }
    if message.ttl != 0 {
        let ttl = libc::c_int::from(message.ttl);
        used = match message.to {
            SocketAddr::V4(_) => put(control, used, libc::IPPROTO_IP, libc::IP_TTL, ttl),
            SocketAddr::V6(_) => put(control, used, libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, ttl),
        };
    }
    if message.segment != 0 {
        used = put(
            control,
            used,
            libc::SOL_UDP,
            UDP_SEGMENT,
            message.segment as u16,
        );
    }
    used
}

fn read_control(header: &libc::msghdr, message: &mut Received, overflow: &mut u32) {
    // SAFETY: the kernel wrote `msg_controllen` bytes of well-formed control messages into our buffer; the CMSG macros stay inside
    // it, and each value is read unaligned with the size its type has in the kernel's ABI.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    message.to = Some(IpAddr::V4(Ipv4Addr::from(
                        info.ipi_addr.s_addr.to_ne_bytes(),
                    )));
                    message.device = info.ipi_ifindex.unsigned_abs();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    message.to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                    message.device = info.ipi6_ifindex;
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => message.tos = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    message.tos = data.cast::<u32>().read_unaligned() as u8;
                }
                (libc::SOL_UDP, UDP_GRO) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    if size > 0 {
                        message.segment = size.unsigned_abs() as usize;
                    }
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    *overflow = data.cast::<u32>().read_unaligned();
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
}

pub(super) fn sockaddr(at: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage, which is large and aligned enough for the two types written into it.
    unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        let length = match at {
            SocketAddr::V4(at) => {
                let name = &mut *(&raw mut storage).cast::<libc::sockaddr_in>();
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_port = at.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(at.ip().octets());
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(at) => {
                let name = &mut *(&raw mut storage).cast::<libc::sockaddr_in6>();
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = at.port().to_be();
                name.sin6_addr.s6_addr = at.ip().octets();
                name.sin6_scope_id = at.scope_id();
                size_of::<libc::sockaddr_in6>()
            }
        };
        (storage, length as libc::socklen_t)
    }
}

pub(super) fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in; the storage is aligned and large enough.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(
                ip,
                u16::from_be(name.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, sockaddr_in6.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(
                ip,
                u16::from_be(name.sin6_port),
                0,
                name.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

/// The two sockets of a tunnel, on one port; a host without one family has only the other.
pub struct Pair {
    pub v4: Option<Udp>,
    pub v6: Option<Udp>,
    pub port: u16,
}

impl Pair {
    /// IPv4 first, then IPv6 on the port it got; with port 0 another is tried when IPv6 finds it taken.
    pub fn bind(port: u16, fwmark: u32, offload: bool) -> io::Result<Self> {
        const ATTEMPTS: usize = 100;
        let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
        for _ in 0..if port == 0 { ATTEMPTS } else { 1 } {
            let v4 = absent_family(Udp::bind(false, port, fwmark, offload))?;
            let bound = match &v4 {
                Some(socket) => socket.port()?,
                None => port,
            };
            match absent_family(Udp::bind(true, bound, fwmark, offload)) {
                Ok(v6) => {
                    let bound = match &v6 {
                        Some(socket) => socket.port()?,
                        None => bound,
                    };
                    if v4.is_none() && v6.is_none() {
                        return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
                    }
                    return Ok(Self {
                        v4,
                        v6,
                        port: bound,
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    pub fn of(&self, to: &SocketAddr) -> Option<&Udp> {
        if to.is_ipv6() {
            self.v6.as_ref()
        } else {
            self.v4.as_ref()
        }
    }

    pub fn each(&self) -> impl Iterator<Item = &Udp> {
        self.v4.iter().chain(self.v6.iter())
    }
}

/// A family that the host does not have is not an error.
fn absent_family(bound: io::Result<Udp>) -> io::Result<Option<Udp>> {
    match bound {
        Ok(socket) => Ok(Some(socket)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => Ok(None),
            _ => Err(error),
        },
    }
}

impl Udp {
    pub fn is_v6(&self) -> bool {
        self.v6
    }
}
