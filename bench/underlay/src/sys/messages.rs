//! sendmmsg and recvmmsg: on raw sockets (the kernel finds the route, netfilter and reassembly apply) and on packet sockets (neither).

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{
    buffers, check, filter_gre, is_busy, packet_socket, set, socket, writable, Receiver, Sender,
    BATCH, PROTOCOL_GRE, ROOM,
};
use crate::frame::{Frames, ETHERNET, IP};

const ETH_P_IP: u16 = 0x0800;

/// A socket with room for one batch.
pub struct Messages {
    fd: OwnedFd,
    slab: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    pieces: Vec<libc::iovec>,
    /// Where to; unused on a bound packet socket.
    to: Option<Box<libc::sockaddr_in>>,
    /// Bytes of each packet that the socket does not want: the Ethernet header.
    skip: usize,
}

impl Messages {
    fn new(fd: OwnedFd, to: Option<Ipv4Addr>, skip: usize) -> Self {
        let piece = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: all zeros is a valid mmsghdr.
        let header: libc::mmsghdr = unsafe { zeroed() };
        Self {
            fd,
            slab: vec![0; BATCH * ROOM],
            headers: vec![header; BATCH],
            pieces: vec![piece; BATCH],
            to: to.map(|to| {
                Box::new(libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: 0,
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(to.octets()),
                    },
                    sin_zero: [0; 8],
                })
            }),
            skip,
        }
    }

    /// `IPPROTO_RAW`: we write the IP header.
    pub fn raw_sender(to: Ipv4Addr) -> io::Result<Self> {
        let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
        buffers(&fd)?;
        Ok(Self::new(fd, Some(to), ETHERNET))
    }

    /// Protocol 47: the kernel writes the IP header. Such a socket receives as well, so its filter takes nothing.
    pub fn plain_sender(to: Ipv4Addr) -> io::Result<Self> {
        let fd = super::guard()?;
        buffers(&fd)?;
        Ok(Self::new(fd, Some(to), ETHERNET + IP))
    }

    pub fn packet_sender(index: i32, bypass: bool) -> io::Result<Self> {
        let fd = packet_socket(libc::SOCK_RAW, 0, index)?;
        buffers(&fd)?;
        if bypass {
            set(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        }
        Ok(Self::new(fd, None, 0))
    }

    pub fn raw_receiver() -> io::Result<Self> {
        let fd = socket(libc::AF_INET, libc::SOCK_RAW, PROTOCOL_GRE)?;
        buffers(&fd)?;
        Ok(Self::new(fd, None, 0))
    }

    pub fn packet_receiver(index: i32, at: Ipv4Addr) -> io::Result<Self> {
        let fd = packet_socket(libc::SOCK_DGRAM, 0, index)?;
        buffers(&fd)?;
        filter_gre(&fd, at)?;
        super::bind_packet(&fd, ETH_P_IP, index)?;
        Ok(Self::new(fd, None, 0))
    }

    /// Points each header at its part of the slab, of *len* bytes.
    fn prepare(&mut self, count: usize, len: usize) {
        for at in 0..count {
            let place = &mut self.slab[at * ROOM..][self.skip..self.skip + len];
            self.pieces[at] = libc::iovec {
                iov_base: place.as_mut_ptr().cast(),
                iov_len: len,
            };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_iov = &raw mut self.pieces[at];
            header.msg_iovlen = 1;
            if let Some(to) = &mut self.to {
                header.msg_name = ptr::from_mut(&mut **to).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            }
        }
    }
}

impl Sender for Messages {
    fn send(&mut self, frames: &Frames, first: u64, count: usize) -> io::Result<usize> {
        for at in 0..count {
            frames.write(first + at as u64, &mut self.slab[at * ROOM..][..ROOM]);
        }
        self.prepare(count, frames.len() - self.skip);
        // SAFETY: `count` headers were pointed at their pieces, which lie in the slab; all of it outlives the call.
        let sent = check(unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
            )
        });
        match sent {
            Ok(sent) => Ok(sent as usize),
            Err(error) if is_busy(&error) => {
                writable(self.fd.as_raw_fd())?;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

impl Receiver for Messages {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.prepare(BATCH, ROOM);
        // SAFETY: as above; each piece is ROOM writable bytes.
        let got = check(unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        });
        let got = match got {
            Ok(got) => got as usize,
            Err(error) if is_busy(&error) => 0,
            Err(error) => return Err(error),
        };
        for at in 0..got {
            let len = (self.headers[at].msg_len as usize).min(ROOM);
            seen(&self.slab[at * ROOM..][..len]);
        }
        Ok(())
    }
}
