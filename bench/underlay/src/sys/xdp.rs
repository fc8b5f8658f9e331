//! `AF_XDP` in copy mode: what every driver can, with a program that takes protocol 47 away from the kernel's own stack.
//!
//! ```text
//! memory in chunks (umem), and four rings of descriptors over it:
//!   fill  -> kernel -> rx            chunks to receive into, chunks received
//!   tx    -> kernel -> completion    chunks to send, chunks sent
//! ```

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{bind, check, is_busy, set, socket, writable, Mapping, Receiver, Sender, ROOM};
use crate::frame::{Frames, ETHERNET};

const CHUNKS: usize = 4096;
const RING: usize = 2048;
const QUEUE: u32 = 0;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_XSKMAP: u64 = 17;
const BPF_PROG_TYPE_XDP: u64 = 6;
const BPF_XDP: u64 = 37;
const XDP_FLAGS_SKB_MODE: u64 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u64 = 1 << 2;

/// One ring: a producer's and a consumer's count, and entries of `entry` bytes.
struct Ring {
    memory: Mapping,
    producer: usize,
    consumer: usize,
    entries: usize,
    entry: usize,
    /// Our own count: produced where we produce, consumed where we consume.
    count: u32,
}

impl Ring {
    fn map(
        fd: &OwnedFd,
        option: i32,
        offset: i64,
        at: &libc::xdp_ring_offset,
        entry: usize,
    ) -> io::Result<Self> {
        set(fd, libc::SOL_XDP, option, &(RING as i32))?;
        Ok(Self {
            memory: Mapping::of(fd, at.desc as usize + RING * entry, offset)?,
            producer: at.producer as usize,
            consumer: at.consumer as usize,
            entries: at.desc as usize,
            entry,
            count: 0,
        })
    }

    /// Entries that the kernel has not taken yet, on a ring that we fill.
    fn waiting(&self) -> u32 {
        self.count - self.memory.word(self.consumer).load(Ordering::Acquire)
    }

    /// Entries for us, on a ring that the kernel fills.
    fn ready(&self) -> u32 {
        self.memory
            .word(self.producer)
            .load(Ordering::Acquire)
            .wrapping_sub(self.count)
    }

    #[allow(clippy::mut_from_ref)]
    fn slot(&self, number: u32) -> &mut [u8] {
        let at = self.entries + (number as usize % RING) * self.entry;
        self.memory.bytes(at, self.entry)
    }

    fn produced(&mut self, count: u32) {
        self.count = self.count.wrapping_add(count);
        self.memory
            .word(self.producer)
            .store(self.count, Ordering::Release);
    }

    fn consumed(&mut self, count: u32) {
        self.count = self.count.wrapping_add(count);
        self.memory
            .word(self.consumer)
            .store(self.count, Ordering::Release);
    }
}

pub struct Xdp {
    fd: OwnedFd,
    umem: Mapping,
    /// To receive: fill and rx; to send: tx and completion.
    ours: Ring,
    theirs: Ring,
    free: Vec<u64>,
    /// The program is on the device as long as these are open.
    #[allow(dead_code)]
    attached: Vec<OwnedFd>,
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

impl Xdp {
    pub fn sender(index: i32) -> io::Result<Self> {
        let (fd, umem) = Self::open()?;
        let offsets = offsets(&fd)?;
        // The kernel wants both rings of the memory, also of who only sends.
        let fill = Ring::map(
            &fd,
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_PGOFF_FILL_RING as i64,
            &offsets.fr,
            8,
        )?;
        drop(fill);
        let theirs = Ring::map(
            &fd,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
            &offsets.cr,
            8,
        )?;
        let ours = Ring::map(
            &fd,
            libc::XDP_TX_RING,
            libc::XDP_PGOFF_TX_RING,
            &offsets.tx,
            16,
        )?;
        let xdp = Self {
            fd,
            umem,
            ours,
            theirs,
            free: (0..CHUNKS).map(|chunk| (chunk * ROOM) as u64).collect(),
            attached: Vec::new(),
        };
        xdp.bind(index)?;
        Ok(xdp)
    }

    pub fn receiver(index: i32, native: bool) -> io::Result<Self> {
        let (fd, umem) = Self::open()?;
        let offsets = offsets(&fd)?;
        let completion = Ring::map(
            &fd,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
            &offsets.cr,
            8,
        )?;
        drop(completion);
        let mut ours = Ring::map(
            &fd,
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_PGOFF_FILL_RING as i64,
            &offsets.fr,
            8,
        )?;
        let theirs = Ring::map(
            &fd,
            libc::XDP_RX_RING,
            libc::XDP_PGOFF_RX_RING,
            &offsets.rx,
            16,
        )?;
        for number in 0..RING as u32 {
            ours.slot(number)
                .copy_from_slice(&(u64::from(number) * ROOM as u64).to_ne_bytes());
        }
        ours.produced(RING as u32);
        let mut xdp = Self {
            fd,
            umem,
            ours,
            theirs,
            free: Vec::new(),
            attached: Vec::new(),
        };
        xdp.bind(index)?;
        xdp.attached = attach(&xdp.fd, index, native)?;
        Ok(xdp)
    }

    fn open() -> io::Result<(OwnedFd, Mapping)> {
        let fd = socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let umem = Mapping::anonymous(CHUNKS * ROOM)?;
        // SAFETY: all zeros is a valid xdp_umem_reg.
        let mut register: libc::xdp_umem_reg = unsafe { zeroed() };
        register.addr = umem.start as u64;
        register.len = umem.len as u64;
        register.chunk_size = ROOM as u32;
        set(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &register)?;
        Ok((fd, umem))
    }

    /// The kernel lets go of a queue some time after its last user has closed it; that is waited for.
    fn bind(&self, index: i32) -> io::Result<()> {
        let name = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: index as u32,
            sxdp_queue_id: QUEUE,
            sxdp_shared_umem_fd: 0,
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match bind(&self.fd, &name) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }

    fn reclaim(&mut self) {
        let ready = self.theirs.ready();
        for number in 0..ready {
            let slot = self.theirs.slot(self.theirs.count.wrapping_add(number));
            self.free.push(u64_of(slot));
        }
        self.theirs.consumed(ready);
    }
}

impl Sender for Xdp {
    fn send(&mut self, frames: &Frames, first: u64, count: usize) -> io::Result<usize> {
        self.reclaim();
        let room = RING - self.ours.waiting() as usize;
        let count = count.min(room).min(self.free.len());
        for at in 0..count as u32 {
            let Some(chunk) = self.free.pop() else { break };
            let len = frames.write(first + u64::from(at), self.umem.bytes(chunk as usize, ROOM));
            let slot = self.ours.slot(self.ours.count.wrapping_add(at));
            slot[..8].copy_from_slice(&chunk.to_ne_bytes());
            slot[8..12].copy_from_slice(&(len as u32).to_ne_bytes());
            slot[12..].fill(0);
        }
        self.ours.produced(count as u32);
        // The kernel takes a bounded number a call.
        while self.ours.waiting() > 0 {
            // SAFETY: no data is passed; the kernel reads the ring.
            let sent = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    ptr::null(),
                    0,
                )
            };
            match check(sent as i32) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) if is_busy(&error) => {
                    writable(self.fd.as_raw_fd())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

impl Receiver for Xdp {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn receive(&mut self, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let ready = self.theirs.ready();
        for number in 0..ready {
            let slot = self.theirs.slot(self.theirs.count.wrapping_add(number));
            let address = u64_of(slot) as usize;
            let len = u64_of(&slot[8..]) as u32 as usize;
            seen(self.umem.bytes(address + ETHERNET, len - ETHERNET));
            let chunk = (address - address % ROOM) as u64;
            self.ours
                .slot(self.ours.count.wrapping_add(number))
                .copy_from_slice(&chunk.to_ne_bytes());
        }
        self.theirs.consumed(ready);
        self.ours.produced(ready);
        Ok(())
    }
}

fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: all zeros is a valid xdp_mmap_offsets, and the kernel is told its size.
    unsafe {
        let mut offsets: libc::xdp_mmap_offsets = zeroed();
        let mut len = size_of::<libc::xdp_mmap_offsets>() as u32;
        check(libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            (&raw mut offsets).cast(),
            &raw mut len,
        ))?;
        Ok(offsets)
    }
}

/// One call of bpf(2); *attr* as the kernel's union lays it out, in words.
fn bpf(command: libc::c_long, attr: &[u64; 16]) -> io::Result<i32> {
    // SAFETY: attr is 128 readable bytes; what it points at is alive in the callers below.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_ref(attr),
            size_of::<[u64; 16]>(),
        )
    };
    check(result as i32)
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: bpf(2) has just made it, for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Two 32-bit fields of the union as one word.
fn both(low: u64, high: u64) -> u64 {
    low | high << 32
}

/// Put a program on the device that gives IPv4 packets of protocol 47 to *socket* and passes the rest.
fn attach(socket: &OwnedFd, index: i32, native: bool) -> io::Result<Vec<OwnedFd>> {
    let mut attr = [0; 16];
    attr[0] = both(BPF_MAP_TYPE_XSKMAP, 4);
    attr[1] = both(4, 1);
    let map = owned(bpf(BPF_MAP_CREATE, &attr)?);

    let (key, value) = (QUEUE, socket.as_raw_fd());
    let mut attr = [0; 16];
    attr[0] = map.as_raw_fd() as u64;
    attr[1] = ptr::from_ref(&key) as u64;
    attr[2] = ptr::from_ref(&value) as u64;
    bpf(BPF_MAP_UPDATE_ELEM, &attr)?;

    let code = program(map.as_raw_fd());
    let license = c"Apache-2.0";
    let mut attr = [0; 16];
    attr[0] = both(BPF_PROG_TYPE_XDP, code.len() as u64);
    attr[1] = code.as_ptr() as u64;
    attr[2] = license.as_ptr() as u64;
    // expected_attach_type, at byte 68.
    attr[8] = both(0, BPF_XDP);
    let loaded = owned(bpf(BPF_PROG_LOAD, &attr)?);

    let mode = if native {
        XDP_FLAGS_DRV_MODE
    } else {
        XDP_FLAGS_SKB_MODE
    };
    let mut attr = [0; 16];
    attr[0] = both(loaded.as_raw_fd() as u64, index as u64);
    attr[1] = both(BPF_XDP, mode);
    let link = owned(bpf(BPF_LINK_CREATE, &attr)?);
    Ok(vec![map, loaded, link])
}

/// One instruction: operation, registers, offset, immediate.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(value as u32) << 32
}

fn program(map: RawFd) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_HALF: u8 = 0x69;
    const LOAD_BYTE: u8 = 0x71;
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const JUMP_GREATER: u8 = 0x2d;
    const JUMP_UNEQUAL: u8 = 0x55;
    const LOAD_MAP: u8 = 0x18;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;
    const REDIRECT_MAP: i32 = 51;
    vec![
        // r2: the frame, r3: its end; anything shorter than Ethernet and IPv4 passes.
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(LOAD_WORD, 3, 1, 4, 0),
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD, 4, 0, 0, 34),
        instruction(JUMP_GREATER, 4, 3, 10, 0),
        instruction(LOAD_HALF, 5, 2, 12, 0),
        instruction(JUMP_UNEQUAL, 5, 0, 8, 0x0008),
        instruction(LOAD_BYTE, 5, 2, 23, 0),
        instruction(JUMP_UNEQUAL, 5, 0, 6, 47),
        // bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)
        instruction(LOAD_WORD, 2, 1, 16, 0),
        instruction(LOAD_MAP, 1, 1, 0, map),
        0,
        instruction(SET, 3, 0, 0, XDP_PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, XDP_PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}
