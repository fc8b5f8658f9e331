//! ICMP errors about what a socket sent: Linux keeps them in the socket's error queue (`IP_RECVERR`), with the packet they quote.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use super::check_len;
use super::udp::{address, Control, CONTROL_WORDS};

/// Most that an ICMPv6 error quotes; ICMPv4 errors quote less.
pub const MAX_QUOTE: usize = 1280;

/// Who raised an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host: the packet was never sent.
    Local,
    Icmp,
    Icmpv6,
    Other,
}

/// One error.
#[derive(Clone, Copy, Debug)]
pub struct NetworkError {
    pub origin: Origin,
    /// ICMP type and code.
    pub kind: u8,
    pub code: u8,
    /// For "too big": the MTU that the router names.
    pub info: u32,
    /// The router or host that sent it.
    pub offender: Option<IpAddr>,
    /// Where the quoted packet went (of UDP with its port).
    pub to: Option<SocketAddr>,
    /// Bytes of the quote: for raw sockets with IP_HDRINCL from its IP header on, for UDP its payload.
    pub len: usize,
}

/// Takes one error off the queue; the quote goes into *quote*. `WouldBlock` when there is none.
pub fn read(fd: RawFd, quote: &mut [u8; MAX_QUOTE]) -> io::Result<NetworkError> {
    let mut control: Control = [0; CONTROL_WORDS];
    // SAFETY: all-zero is a valid value of these C structures.
    let (mut name, mut header) =
        unsafe { (zeroed::<libc::sockaddr_storage>(), zeroed::<libc::msghdr>()) };
    let mut vector = libc::iovec {
        iov_base: quote.as_mut_ptr().cast(),
        iov_len: quote.len(),
    };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: everything that `header` points at is alive during the call, with the lengths that it says.
    let length = check_len(unsafe {
        libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    })?;
    let mut error = NetworkError {
        origin: Origin::Other,
        kind: 0,
        code: 0,
        info: 0,
        offender: None,
        to: if header.msg_namelen > 0 {
            address(&name)
        } else {
            None
        },
        len: length.min(quote.len()),
    };
    // SAFETY: the kernel wrote `msg_controllen` bytes of well-formed control messages into our buffer; the CMSG macros stay inside
    // it, and values are read unaligned with the size that their type has in the kernel's ABI. An address follows the error where the
    // kernel's SO_EE_OFFENDER has it, inside the control message: its length is checked.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            if let (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) =
                ((*at).cmsg_level, (*at).cmsg_type)
            {
                let told = data.cast::<libc::sock_extended_err>().read_unaligned();
                error.origin = match told.ee_origin {
                    libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
                    libc::SO_EE_ORIGIN_ICMP => Origin::Icmp,
                    libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmpv6,
                    _ => Origin::Other,
                };
                error.kind = told.ee_type;
                error.code = told.ee_code;
                error.info = told.ee_info;
                let behind = size_of::<libc::sock_extended_err>();
                let room = ((*at).cmsg_len as usize)
                    .saturating_sub(libc::CMSG_LEN(behind as u32) as usize);
                let mut offender: libc::sockaddr_storage = zeroed();
                let copied = room.min(size_of::<libc::sockaddr_storage>());
                std::ptr::copy_nonoverlapping(
                    data.add(behind),
                    (&raw mut offender).cast::<u8>(),
                    copied,
                );
                if copied >= size_of::<libc::sockaddr_in>() {
                    error.offender = address(&offender).map(|at| at.ip());
                }
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    Ok(error)
}
