//! Packet sockets with rings: `PACKET_TX_RING` and `PACKET_RX_RING` of versions 2 (a frame a packet) and 3 (blocks of packets).

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering;

use super::{
    bind_packet, check, filter_gre, is_busy, packet_socket, set, writable, Mapping, Receiver,
    Sender, ROOM,
};
use crate::frame::Frames;

const ETH_P_IP: u16 = 0x0800;
const FRAMES: usize = 2048;
/// A page for each two frames: what the kernel can always find.
const BLOCK: usize = 1 << 16;
const VERSION_2: i32 = 1;
const VERSION_3: i32 = 2;
/// Before the packet in a frame to send: `struct tpacket2_hdr`.
const HEADER_2: usize = size_of::<libc::tpacket2_hdr>();

fn request() -> libc::tpacket_req {
    libc::tpacket_req {
        tp_block_size: BLOCK as u32,
        tp_block_nr: (FRAMES * ROOM / BLOCK) as u32,
        tp_frame_size: ROOM as u32,
        tp_frame_nr: FRAMES as u32,
    }
}

/// `PACKET_TX_RING`.
pub struct SendRing {
    fd: OwnedFd,
    ring: Mapping,
    next: usize,
}

impl SendRing {
    pub fn open(index: i32, bypass: bool) -> io::Result<Self> {
        let fd = packet_socket(libc::SOCK_RAW, 0, index)?;
        if bypass {
            set(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        }
        set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &VERSION_2)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_TX_RING, &request())?;
        let ring = Mapping::of(&fd, FRAMES * ROOM, 0)?;
        Ok(Self { fd, ring, next: 0 })
    }
}

impl Sender for SendRing {
    fn send(&mut self, frames: &Frames, first: u64, count: usize) -> io::Result<usize> {
        let mut filled = 0;
        while filled < count {
            let at = self.next * ROOM;
            if self.ring.word(at).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
                break;
            }
            let place = self.ring.bytes(at + HEADER_2, ROOM - HEADER_2);
            let len = frames.write(first + filled as u64, place);
            // tp_len, behind the status.
            self.ring
                .bytes(at + 4, 4)
                .copy_from_slice(&(len as u32).to_ne_bytes());
            self.ring
                .word(at)
                .store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
            self.next = (self.next + 1) % FRAMES;
            filled += 1;
        }
        // SAFETY: no data is passed; the kernel reads the ring.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
        match check(sent as i32) {
            Err(error) if is_busy(&error) => {
                writable(self.fd.as_raw_fd())?;
            }
            Err(error) => return Err(error),
            Ok(_) if filled == 0 => {
                writable(self.fd.as_raw_fd())?;
            }
            Ok(_) => {}
        }
        Ok(filled)
    }
}

/// `PACKET_RX_RING` of version 2: the reader is woken for each packet that finds it asleep.
pub struct ReceiveRing2 {
    fd: OwnedFd,
    ring: Mapping,
    next: usize,
}

impl ReceiveRing2 {
    pub fn open(index: i32, at: Ipv4Addr) -> io::Result<Self> {
        let fd = packet_socket(libc::SOCK_DGRAM, 0, index)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &VERSION_2)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request())?;
        filter_gre(&fd, at)?;
        let ring = Mapping::of(&fd, FRAMES * ROOM, 0)?;
        bind_packet(&fd, ETH_P_IP, index)?;
        Ok(Self { fd, ring, next: 0 })
    }
}

impl Receiver for ReceiveRing2 {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for _ in 0..FRAMES {
            let at = self.next * ROOM;
            if self.ring.word(at).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            let len = self.ring.read_u32(at + 8) as usize;
            let net = self.ring.read_u16(at + 14) as usize;
            seen(self.ring.bytes(at + net, len));
            self.ring
                .word(at)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % FRAMES;
        }
        Ok(())
    }
}

/// `PACKET_RX_RING` of version 3: the reader is woken when a block is full, or a millisecond old.
pub struct ReceiveRing3 {
    fd: OwnedFd,
    ring: Mapping,
    next: usize,
}

const BLOCKS: usize = FRAMES * ROOM / BLOCK;
/// The shortest there is.
const RETIRE_MS: u32 = 1;

impl ReceiveRing3 {
    pub fn open(index: i32, at: Ipv4Addr) -> io::Result<Self> {
        let fd = packet_socket(libc::SOCK_DGRAM, 0, index)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &VERSION_3)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: ROOM as u32,
            tp_frame_nr: FRAMES as u32,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        filter_gre(&fd, at)?;
        let ring = Mapping::of(&fd, FRAMES * ROOM, 0)?;
        bind_packet(&fd, ETH_P_IP, index)?;
        Ok(Self { fd, ring, next: 0 })
    }
}

impl Receiver for ReceiveRing3 {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for _ in 0..BLOCKS {
            let block = self.next * BLOCK;
            // struct tpacket_block_desc: version, offset, then status, count, offset of the first packet.
            if self.ring.word(block + 8).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            let count = self.ring.read_u32(block + 12);
            let mut at = block + self.ring.read_u32(block + 16) as usize;
            for _ in 0..count {
                // struct tpacket3_hdr: next, sec, nsec, snaplen, len, status, mac, net.
                let len = self.ring.read_u32(at + 12) as usize;
                let net = self.ring.read_u16(at + 26) as usize;
                seen(self.ring.bytes(at + net, len));
                at += self.ring.read_u32(at) as usize;
            }
            self.ring
                .word(block + 8)
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % BLOCKS;
        }
        Ok(())
    }
}
