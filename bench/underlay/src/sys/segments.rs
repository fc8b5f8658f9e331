//! UDP with segmentation and coalescing by the kernel: no way to carry protocol 47, but what GRE in UDP pays, to compare with.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{bind, buffers, check, is_busy, set, socket, writable, Receiver, Sender, BATCH, ROOM};
use crate::frame::{Frames, ETHERNET};

const PORT: u16 = 4754;
/// The largest UDP payload.
const LARGEST: usize = 65_507;
const BUFFER: usize = 65_536;
const UDP_HEADERS: usize = 28;

/// Both ends: a socket and one large buffer.
pub struct Segments {
    fd: OwnedFd,
    buffer: Vec<u8>,
    segment: usize,
}

fn name(at: Ipv4Addr) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: PORT.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(at.octets()),
        },
        sin_zero: [0; 8],
    }
}

impl Segments {
    fn open() -> io::Result<Self> {
        let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        buffers(&fd)?;
        Ok(Self {
            fd,
            buffer: vec![0; BUFFER + ROOM],
            segment: 0,
        })
    }

    pub fn sender(to: Ipv4Addr) -> io::Result<Self> {
        let segments = Self::open()?;
        let name = name(to);
        // SAFETY: name is a sockaddr_in of that size.
        check(unsafe {
            libc::connect(
                segments.fd.as_raw_fd(),
                (&raw const name).cast(),
                size_of::<libc::sockaddr_in>() as u32,
            )
        })?;
        Ok(segments)
    }

    pub fn receiver(at: Ipv4Addr) -> io::Result<Self> {
        let segments = Self::open()?;
        set(&segments.fd, libc::SOL_UDP, libc::UDP_GRO, &1_i32)?;
        bind(&segments.fd, &name(at))?;
        Ok(segments)
    }
}

impl Sender for Segments {
    fn send(&mut self, frames: &Frames, first: u64, count: usize) -> io::Result<usize> {
        // As long on the wire as the raw packet would be: its tail gives way to the headers of UDP.
        let size = frames.len() - ETHERNET - UDP_HEADERS;
        if self.segment != size {
            set(&self.fd, libc::SOL_UDP, libc::UDP_SEGMENT, &(size as i32))?;
            self.segment = size;
        }
        let mut sent = 0;
        while sent < count {
            let some = (count - sent).min(BATCH).min(LARGEST / size);
            let mut place = [0; ROOM];
            for at in 0..some {
                frames.write(first + (sent + at) as u64, &mut place);
                self.buffer[at * size..][..size].copy_from_slice(&place[ETHERNET..][..size]);
            }
            // SAFETY: the buffer has that many bytes.
            let result = unsafe {
                libc::send(
                    self.fd.as_raw_fd(),
                    self.buffer.as_ptr().cast(),
                    some * size,
                    libc::MSG_DONTWAIT,
                )
            };
            match check(result as i32) {
                Ok(_) => sent += some,
                Err(error) if is_busy(&error) => {
                    writable(self.fd.as_raw_fd())?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

impl Receiver for Segments {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for _ in 0..BATCH {
            let mut piece = libc::iovec {
                iov_base: self.buffer.as_mut_ptr().cast(),
                iov_len: BUFFER,
            };
            let mut control = [0_u64; 8];
            // SAFETY: all zeros is a valid msghdr; it then points at one piece and the control buffer, which outlive the call.
            let (got, header) = unsafe {
                let mut header: libc::msghdr = zeroed();
                header.msg_iov = &raw mut piece;
                header.msg_iovlen = 1;
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = size_of_val(&control);
                let got = libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT);
                (check(got as i32), header)
            };
            let len = match got {
                Ok(got) => got as usize,
                Err(error) if is_busy(&error) => break,
                Err(error) => return Err(error),
            };
            let segment = segment(&header).unwrap_or(len).max(1);
            for packet in self.buffer[..len].chunks(segment) {
                seen(packet);
            }
        }
        Ok(())
    }
}

/// What `UDP_GRO` says of a message: the size of its datagrams.
fn segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote msg_controllen bytes of well-formed control messages; the first is all we look at.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(ptr::from_ref(header));
        if first.is_null()
            || (*first).cmsg_level != libc::SOL_UDP
            || (*first).cmsg_type != libc::UDP_GRO
        {
            return None;
        }
        let size = libc::CMSG_DATA(first).cast::<i32>().read_unaligned();
        usize::try_from(size).ok()
    }
}
