//! What the kernel would choose for a destination: source address and MTU, asked of it by connecting a UDP socket, which sends nothing.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;
use super::udp::{address, sockaddr, SO_BINDTOIFINDEX};

/// The answer for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub source: IpAddr,
    /// Of the whole packet, as the kernel knows it now.
    pub mtu: usize,
}

/// Asks; *source*, when given, is the address to send from. ENETUNREACH and the like when there is no way.
pub fn ask(to: SocketAddr, source: Option<IpAddr>, fwmark: u32, device: u32) -> io::Result<Route> {
    let (family, level, mtu_name) = if to.is_ipv6() {
        (libc::AF_INET6, libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::AF_INET, libc::IPPROTO_IP, libc::IP_MTU)
    };
    // A port, since IPv6 refuses to connect to none; nothing is sent to it.
    let to = SocketAddr::new(to.ip(), to.port().max(1));
    let int = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the socket is owned at once; each option is one int, each name a sockaddr of the length given, and the kernel fills at most
    // the lengths it is told.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let fd = OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?);
        for (option, value) in [(libc::SO_MARK, fwmark), (SO_BINDTOIFINDEX, device)] {
            if value != 0 {
                let value = &raw const value;
                check(libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    value.cast(),
                    int,
                ))?;
            }
        }
        if let Some(source) = source {
            let (name, length) = sockaddr(&SocketAddr::new(source, 0));
            check(libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length))?;
        }
        let (name, length) = sockaddr(&to);
        check(libc::connect(
            fd.as_raw_fd(),
            (&raw const name).cast(),
            length,
        ))?;
        let mut name: libc::sockaddr_storage = zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        check(libc::getsockname(
            fd.as_raw_fd(),
            (&raw mut name).cast(),
            &raw mut length,
        ))?;
        let mut mtu: libc::c_int = 0;
        let mut length = int;
        check(libc::getsockopt(
            fd.as_raw_fd(),
            level,
            mtu_name,
            (&raw mut mtu).cast(),
            &raw mut length,
        ))?;
        let source = address(&name)
            .map(|at| at.ip())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        Ok(Route {
            source,
            mtu: usize::try_from(mtu).unwrap_or(0),
        })
    }
}
