//! The transmitting thread: device -> peer -> session -> sockets; and the data timers, since they end in a send.
//!
//! One turn: read packets from the device until none waits or the slab is full, splitting super-packets straight into the places they
//! are sent from; group them by peer; for each group take counters (or stage, when there is no session), seal in place, and send
//! everything with as few system calls as the sizes allow (`slab` holds the packets, `outbox` the messages). Order within a peer is the
//! order of reading; staged packets go before newer ones, which queue up behind them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use ginnel_crypto::Job;
use ginnel_packet::icmp::{unreachable, Unreachable};
use ginnel_packet::split::{split, SegmentSink};
use ginnel_packet::virtio::VirtioNetHdr;
use ginnel_packet::{ecn, ip};
use ginnel_wireguard::constants::REKEY_TIMEOUT_JITTER_MAX_NS;

use crate::bucket::Bucket;
use crate::drops::Drop;
use crate::event::Need;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::session::Session;
use crate::shared::Shared;
use crate::slab::{Placed, Slab, HEADER};
use crate::sys::clock::boottime_ns;
use crate::sys::poll::{Poll, Ready};
use crate::sys::tun::Tun;
use crate::sys::udp::Pair;
use crate::{lock, read};

const MESSAGE_DATA: u32 = 4;

/// A read from the device is at most this long: virtio header and a full super-packet.
const READ_BUFFER: usize = VirtioNetHdr::SIZE + 65_536;
/// Packets in one turn: enough to fill segmented sends, few enough that the first does not wait for the last.
const TURN_PACKETS: usize = 128;
/// ICMP answers in a second, and at once (as Linux).
const ICMP_PER_S: u64 = 1000;
const ICMP_BURST: u64 = 50;

const TAG_DEVICE: u64 = 1;
const TAG_WAKE: u64 = 2;

/// What goes to one peer in this turn.
struct Group {
    peer: Arc<Peer>,
    packets: Vec<usize>,
}

struct Transmitter {
    shared: Arc<Shared>,
    device: Arc<Tun>,
    read_buffer: Vec<u8>,
    slab: Slab,
    outbox: Outbox,
    /// The packets of the group being sealed.
    sealing: Vec<Placed>,
    groups: Vec<Group>,
    group_count: usize,
    jobs: Vec<Job>,
    due: Vec<(u64, u32)>,
    jitter: Jitter,
    icmp: Bucket,
}

/// Up to a third of a second, so that two sides do not step on each other; need not be unpredictable.
struct Jitter(u64);

impl Jitter {
    fn next_ns(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % (REKEY_TIMEOUT_JITTER_MAX_NS + 1)
    }
}

pub(crate) fn run(shared: &Arc<Shared>) -> io::Result<()> {
    let mut seed = [0; 8];
    ginnel_crypto::entropy(&mut seed).map_err(io::Error::from)?;
    let mut transmitter = Transmitter {
        shared: shared.clone(),
        device: shared.device()?,
        read_buffer: vec![0; READ_BUFFER],
        slab: Slab::new(),
        outbox: Outbox::new(shared.clone()),
        sealing: Vec::new(),
        groups: Vec::new(),
        group_count: 0,
        jobs: Vec::new(),
        due: Vec::new(),
        jitter: Jitter(u64::from_ne_bytes(seed) | 1),
        icmp: Bucket::new(ICMP_PER_S, ICMP_BURST),
    };
    let poll = Poll::new()?;
    poll.add(transmitter.device.as_raw_fd(), TAG_DEVICE)?;
    poll.add(shared.transmit_wake.as_raw_fd(), TAG_WAKE)?;
    transmitter.run(&poll)
}

impl Transmitter {
    fn run(&mut self, poll: &Poll) -> io::Result<()> {
        let shared = self.shared.clone();
        let mut ready = Poll::no_ready::<4>();
        while !shared.stop.load(Ordering::Acquire) {
            let now_ns = boottime_ns();
            if shared.dirty_flag.swap(false, Ordering::AcqRel) {
                let dirty = std::mem::take(&mut *lock(&shared.dirty));
                for peer in dirty {
                    self.flush(peer, now_ns);
                }
            }
            if shared.schedule.next_ns() <= now_ns {
                self.expire(now_ns);
            }
            if self.collect(now_ns)? {
                self.transmit(now_ns);
                continue;
            }
            if shared.dirty_flag.load(Ordering::Acquire) {
                continue;
            }
            let next_ns = shared.schedule.next_ns();
            let timeout_ns = (next_ns != u64::MAX).then(|| next_ns.saturating_sub(boottime_ns()));
            let count = poll.wait(timeout_ns, &mut ready)?;
            for Ready { tag, broken } in &ready[..count] {
                if *tag == TAG_WAKE {
                    shared.transmit_wake.clear();
                } else if *broken {
                    return Err(io::Error::from_raw_os_error(libc::EBADFD));
                }
            }
        }
        Ok(())
    }

    /// Reads from the device into the slab, grouped by peer; false when nothing waited.
    fn collect(&mut self, now_ns: u64) -> io::Result<bool> {
        let shared = self.shared.clone();
        let device = self.device.clone();
        let header_size = if device.vnet_hdr {
            VirtioNetHdr::SIZE
        } else {
            0
        };
        let mtu = shared.mtu.load(Ordering::Relaxed);
        let own_port = shared.sockets().map_or(0, |pair| pair.port);
        self.begin();
        let mut any = false;
        let tables = read(&shared.tables);
        while self.slab.has_room() && self.slab.placed.len() < TURN_PACKETS {
            let length = match device.read(&mut self.read_buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            any = true;
            let header = if header_size == 0 {
                VirtioNetHdr::default()
            } else {
                VirtioNetHdr::parse(&self.read_buffer).unwrap_or_default()
            };
            let packet = &self.read_buffer[header_size.min(length)..length];
            let Some(destination) = ip::destination(packet) else {
                shared.drops.count(Drop::NotIp, 1);
                continue;
            };
            let Some(peer) = tables
                .allowed
                .lookup(destination)
                .and_then(|id| tables.peers.get(&id))
            else {
                shared.drops.count(Drop::NoPeer, 1);
                let packet = packet.to_vec();
                self.answer_unreachable(&packet, now_ns);
                continue;
            };
            if let Some(to) = datagram_from(packet, own_port) {
                if lock(&peer.state).endpoint == Some(to) {
                    shared.drops.count(Drop::Looped, 1);
                    continue;
                }
            }
            let before = self.slab.mark();
            let mut placer = self.slab.placer(mtu, ecn::outer_ecn(packet));
            if split(&header, packet, &mut placer).is_err() {
                self.slab.rewind(before);
                shared.drops.count(Drop::Malformed, 1);
                continue;
            }
            let group = group_of(&mut self.groups, &mut self.group_count, peer);
            group.packets.extend(before.0..self.slab.placed.len());
        }
        Ok(any)
    }

    fn begin(&mut self) {
        self.slab.clear();
        self.outbox.clear();
        self.group_count = 0;
    }

    /// Seals and sends what `collect` has grouped.
    fn transmit(&mut self, now_ns: u64) {
        let pair = self.shared.sockets();
        let groups = std::mem::take(&mut self.groups);
        for group in &groups[..self.group_count] {
            self.seal_group(group, pair.as_deref(), now_ns, false);
        }
        // Put back: the vectors inside are reused; a group holds its last peer until another takes its place.
        self.groups = groups;
        self.outbox.send(&self.slab.bytes, pair.as_deref());
    }

    /// One peer's packets: counters, headers, sealing, messages. What cannot go now is staged (unless it comes from there).
    fn seal_group(&mut self, group: &Group, pair: Option<&Pair>, now_ns: u64, from_staged: bool) {
        let shared = self.shared.clone();
        let peer = &group.peer;
        let (session, first_counter, to, source) = {
            let mut state = lock(&peer.state);
            if pair.is_none() || state.removed {
                let reason = if pair.is_none() {
                    Drop::Down
                } else {
                    Drop::NoPeer
                };
                shared.drops.count(reason, self.data_packets(group));
                return;
            }
            let Some(to) = state.endpoint else {
                drop(state);
                shared
                    .drops
                    .count(Drop::NoEndpoint, self.data_packets(group));
                for &index in &group.packets {
                    let placed = self.slab.placed[index];
                    let packet = self.slab.inner(placed).to_vec();
                    self.answer_unreachable(&packet, now_ns);
                }
                return;
            };
            let count = group.packets.len() as u64;
            let ready = if from_staged || state.staged.is_empty() {
                let session: Option<Arc<Session>> = state.sendable(now_ns).cloned();
                session.and_then(|session| session.reserve(count).map(|first| (session, first)))
            } else {
                None
            };
            let Some((session, first_counter)) = ready else {
                for &index in &group.packets {
                    let placed = self.slab.placed[index];
                    if state.stage(self.slab.inner(placed)) {
                        shared.drops.count(Drop::StagedOverflow, 1);
                    }
                }
                if state.sendable(now_ns).is_some() {
                    // Behind others that wait to go out: they are sent together, in order.
                    drop(state);
                    shared.mark_dirty(peer.id);
                } else {
                    shared.ask(peer, &mut state, Need::Packets);
                }
                return;
            };
            let source = state.source;
            state.timers.any_authenticated_sent(now_ns);
            state.timers.any_traversal(now_ns);
            if group
                .packets
                .iter()
                .any(|&index| self.slab.placed[index].inner_len > 0)
            {
                let jitter_ns = self.jitter.next_ns();
                state.timers.data_sent(now_ns, jitter_ns);
            }
            shared.arm(peer, &mut state);
            if session.is_ageing_on_send(now_ns) {
                shared.ask(peer, &mut state, Need::Ageing);
            }
            (session, first_counter, to, source)
        };
        self.jobs.clear();
        for (&index, counter) in group.packets.iter().zip(first_counter..) {
            let Placed { start, len, .. } = self.slab.placed[index];
            let header = &mut self.slab.bytes[start - HEADER..start];
            header[..4].copy_from_slice(&MESSAGE_DATA.to_le_bytes());
            header[4..8].copy_from_slice(&session.remote_index.to_le_bytes());
            header[8..].copy_from_slice(&counter.to_le_bytes());
            self.jobs.push(Job {
                counter,
                start,
                len,
            });
        }
        session.sending.seal_many(&mut self.slab.bytes, &self.jobs);
        peer.counters.last_send_ns.store(now_ns, Ordering::Relaxed);
        if let Some(socket) = pair.and_then(|pair| pair.of(&to)) {
            self.sealing.clear();
            let placed = &self.slab.placed;
            self.sealing
                .extend(group.packets.iter().map(|&index| placed[index]));
            self.outbox.queue(peer, &self.sealing, socket, to, source);
        } else {
            shared
                .drops
                .count(Drop::SendFailed, group.packets.len() as u64);
        }
    }

    /// How many packets of the group are more than keepalives, which nobody misses.
    fn data_packets(&self, group: &Group) -> u64 {
        let packets = group.packets.iter().map(|&index| self.slab.placed[index]);
        packets.filter(|placed| placed.inner_len > 0).count() as u64
    }

    /// Sends what waits for a session, oldest first; asks for one when there is none.
    fn flush(&mut self, peer: u32, now_ns: u64) {
        let shared = self.shared.clone();
        let Ok(peer) = shared.peer(peer) else { return };
        let pair = shared.sockets();
        let mtu = shared.mtu.load(Ordering::Relaxed);
        loop {
            self.begin();
            {
                let mut state = lock(&peer.state);
                let Some(front) = state.staged.front() else {
                    state.trim_staged();
                    return;
                };
                if pair.is_none() || state.endpoint.is_none() {
                    let packets = state
                        .staged
                        .iter()
                        .filter(|packet| !packet.is_empty())
                        .count();
                    state.staged.clear();
                    state.trim_staged();
                    let reason = if pair.is_none() {
                        Drop::Down
                    } else {
                        Drop::NoEndpoint
                    };
                    shared.drops.count(reason, packets as u64);
                    return;
                }
                if state.sendable(now_ns).is_none() {
                    let need = if front.is_empty() {
                        Need::Keepalive
                    } else {
                        Need::Packets
                    };
                    shared.ask(&peer, &mut state, need);
                    return;
                }
                while let Some(packet) = state.staged.front() {
                    let ecn = ecn::outer_ecn(packet);
                    let mut placer = self.slab.placer(mtu, ecn);
                    let Some(place) = placer.place(packet.len()) else {
                        break;
                    };
                    place.copy_from_slice(packet);
                    state.staged.pop_front();
                }
            }
            let group = Group {
                peer: peer.clone(),
                packets: (0..self.slab.placed.len()).collect(),
            };
            self.seal_group(&group, pair.as_deref(), now_ns, true);
            self.outbox.send(&self.slab.bytes, pair.as_deref());
        }
    }

    /// Data timers that have come.
    fn expire(&mut self, now_ns: u64) {
        let shared = self.shared.clone();
        let mut due = std::mem::take(&mut self.due);
        shared.schedule.due(now_ns, &mut due);
        for (deadline_ns, id) in due.drain(..) {
            let Ok(peer) = shared.peer(id) else { continue };
            let speak = {
                let mut state = lock(&peer.state);
                if state.scheduled_ns != deadline_ns {
                    // Another thread has put a sooner one in its place.
                    continue;
                }
                state.scheduled_ns = 0;
                let expired = state.timers.expire(now_ns);
                if expired.new_handshake {
                    state.source = None;
                    shared.ask(&peer, &mut state, Need::Silent);
                }
                let speak = expired.keepalive || expired.persistent;
                if speak {
                    state.stage_keepalive();
                }
                shared.arm(&peer, &mut state);
                speak
            };
            if speak {
                self.flush(id, now_ns);
            }
        }
        self.due = due;
    }

    /// Tells the sender on this host that nobody is there, as the kernel does; limited, as the kernel does.
    fn answer_unreachable(&mut self, packet: &[u8], now_ns: u64) {
        if !self.icmp.ready(now_ns) {
            return;
        }
        let mut answer = [0; 1280];
        let Some(length) = unreachable(packet, Unreachable::HostUnreachable, None, &mut answer)
        else {
            return;
        };
        self.icmp.take(now_ns);
        let header = VirtioNetHdr::default().to_bytes();
        let header = if self.device.vnet_hdr {
            &header[..]
        } else {
            &[]
        };
        let slices = [
            io::IoSlice::new(header),
            io::IoSlice::new(&answer[..length]),
        ];
        if self.device.write(&slices).is_err() {
            self.shared.drops.count(Drop::DeviceWrite, 1);
        }
    }
}

/// Where a UDP datagram with source port `port` goes to; None for every other packet. Ours have no IPv6 extension headers.
fn datagram_from(packet: &[u8], port: u16) -> Option<SocketAddr> {
    const UDP: u8 = 17;
    let header = match packet.first()? >> 4 {
        4 if *packet.get(9)? == UDP && u16::from_be_bytes([packet[6], packet[7]]) << 3 == 0 => {
            usize::from(packet[0] & 0x0f) * 4
        }
        6 if *packet.get(6)? == UDP => 40,
        _ => return None,
    };
    let ports = packet.get(header..header + 4)?;
    if ports[..2] != port.to_be_bytes() {
        return None;
    }
    let to = u16::from_be_bytes([ports[2], ports[3]]);
    Some(SocketAddr::new(ip::destination(packet)?, to))
}

/// The group of *peer* in this turn; most often the last one. Vectors of former turns are reused.
fn group_of<'a>(groups: &'a mut Vec<Group>, count: &mut usize, peer: &Arc<Peer>) -> &'a mut Group {
    let found = groups[..*count]
        .iter()
        .rposition(|group| Arc::ptr_eq(&group.peer, peer));
    let at = found.unwrap_or_else(|| {
        if *count == groups.len() {
            groups.push(Group {
                peer: peer.clone(),
                packets: Vec::new(),
            });
        } else {
            groups[*count].peer = peer.clone();
            groups[*count].packets.clear();
        }
        *count += 1;
        *count - 1
    });
    &mut groups[at]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const V4: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, // IPv4, UDP, not to be fragmented
        192, 0, 2, 1, 192, 0, 2, 2, // the addresses
        0xca, 0x6c, 0xca, 0x6d, 0, 8, 0, 0, // from 51820 to 51821
    ];

    fn v6() -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfc; 16]);
        packet.extend(&V4[20..]);
        packet
    }

    #[test]
    fn our_own_datagrams_are_known_by_their_source_port() {
        assert_eq!(
            datagram_from(&V4, 51820),
            Some("192.0.2.2:51821".parse().unwrap())
        );
        let to = SocketAddr::new([0xfc; 16].into(), 51821);
        assert_eq!(datagram_from(&v6(), 51820), Some(to));
        assert_eq!(datagram_from(&V4, 51821), None);
        assert_eq!(datagram_from(&v6(), 51821), None);
    }

    /// An application may have the smallest MSS, by its peer's wish: its super-packets fit whenever they are read at all.
    #[test]
    fn what_is_no_whole_datagram_is_not_ours() {
        for length in 0..24 {
            assert_eq!(datagram_from(&V4[..length], 51820), None);
        }
        let packet = v6();
        for length in 0..44 {
            assert_eq!(datagram_from(&packet[..length], 51820), None);
        }
        for (at, value) in [(0, 0x55), (6, 0x01), (7, 0x10), (9, 6)] {
            let mut other = V4;
            other[at] = value;
            assert_eq!(datagram_from(&other, 51820), None);
        }
        let mut tcp = packet;
        tcp[6] = 6;
        assert_eq!(datagram_from(&tcp, 51820), None);
    }
}
