//! The transmitting thread: devices -> size, encapsulation -> outbox.
//!
//! One turn: visit the devices that are ready, each for its share, until the slab is full or none waits; send everything with as few system calls as
//! the sizes allow. A device that has more is ready again, behind the others: a flood in one tunnel does not starve the next. Order within
//! a tunnel is the order of reading.
//!
//! What the checks ask, in this order: is it a family that the kind carries; is the tunnel up, not held, its far end known; is it our own
//! delivery packet, or too deep; does it fit. A packet that does not fit is cut, answered or sent without DF, as `ginnel_gre::oversize` says.
//!
//! A protected tunnel's packets wait for the end of their visit and are sealed together (`seal`); without an SA they are dropped, and their
//! senders are told "host unreachable", as by any tunnel whose far end cannot be reached: it is a state of the way, and passes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use ginnel_gre::ethernet;
use ginnel_gre::header::{ETHERNET, IPV4, IPV6};
use ginnel_gre::options::Kind;
use ginnel_gre::outer::{self, Fields};
use ginnel_gre::oversize::{self, Fit};
use ginnel_packet::icmp::{unreachable, Unreachable};
use ginnel_packet::ip::{self, Ip};
use ginnel_packet::split::{split, SplitError};
use ginnel_packet::virtio::{VirtioNetHdr, GSO_NONE, NEEDS_CSUM};

use super::drops::PlainDrop;
use super::outbox::{fragment, Outbox, Packet};
use super::plain::{Plain, Plan};
use super::seal::{Cover, Outgoing, Sealer};
use super::slab::{Placed, Room, Slab};
use super::{Control, ControlPacket, Shared, TAG_WAKE};
use crate::bucket::Bucket;
use crate::lock;
use crate::shared::is_device_gone;
use crate::sys::clock::boottime_ns;
use crate::sys::poll::{Poll, Ready};
use crate::sys::tun::Tun;

/// A read from a device is at most this long: virtio header, Ethernet header and a full super-packet.
const READ_BUFFER: usize = VirtioNetHdr::SIZE + 32 + 65_536;
/// Packets in one turn: enough to fill batches, few enough that the first does not wait for the last.
const TURN_PACKETS: usize = 128;
/// What a device may give at least in one visit, however many are ready.
const LEAST_SHARE: usize = 8;
/// Devices looked at in one wait.
const READY: usize = 64;
/// ICMP answers of all tunnels, in a second (Linux: 1,000).
const ICMP_PER_S: u64 = 1000;
/// Tunnels inside each other, ours included (Linux: 5).
const MAX_NESTING: usize = 5;
struct Transmitter {
    shared: Arc<Shared>,
    read_buffer: Vec<u8>,
    slab: Slab,
    outbox: Outbox,
    sealer: Sealer,
    icmp: Bucket,
    /// The identification of the next delivery packet.
    id: u32,
}

/// One tunnel's turn.
struct Visit<'a> {
    tunnel: &'a Arc<Plain>,
    plan: &'a Arc<Plan>,
    device: &'a Tun,
    target: Option<Target>,
    /// Of a protected tunnel with an SA.
    cover: Option<Cover>,
    /// Around each packet.
    room: Room,
    owner: usize,
    now_ns: u64,
}

/// Where a tunnel's packets go.
#[derive(Clone, Copy)]
struct Target {
    /// The source; in UDP None when the kernel chooses.
    local: Option<IpAddr>,
    to: SocketAddr,
}

pub(super) fn run(shared: &Arc<Shared>) -> io::Result<()> {
    let mut seed = [0; 4];
    ginnel_crypto::entropy(&mut seed).map_err(io::Error::from)?;
    let mut transmitter = Transmitter {
        shared: shared.clone(),
        read_buffer: vec![0; READ_BUFFER],
        slab: Slab::new(),
        outbox: Outbox::new(shared.clone(), u32::from_ne_bytes(seed) ^ 1 << 31),
        sealer: Sealer::default(),
        icmp: Bucket::new(ICMP_PER_S, ICMP_PER_S),
        id: u32::from_ne_bytes(seed),
    };
    let mut ready = Poll::no_ready::<READY>();
    let (mut count, mut at) = (0, 0);
    while !shared.stop.load(Ordering::Acquire) {
        if at == count {
            count = shared.transmit_poll.wait(None, &mut ready)?;
            at = 0;
        }
        at += transmitter.turn(&ready[at..count]);
    }
    Ok(())
}

impl Transmitter {
    /// Visits what is ready as far as a turn goes, and sends; how many were visited.
    fn turn(&mut self, ready: &[Ready]) -> usize {
        let now_ns = boottime_ns();
        self.slab.clear();
        let share = (TURN_PACKETS / ready.len().max(1)).max(LEAST_SHARE);
        let mut visited = 0;
        for Ready { tag, broken } in ready {
            if visited > 0 && !self.may_go_on() {
                break;
            }
            visited += 1;
            if *tag == TAG_WAKE {
                self.shared.transmit_wake.clear();
                self.controls(now_ns);
                continue;
            }
            let Some(tunnel) = self.shared.tunnel(*tag as u32) else {
                continue;
            };
            let outcome = if *broken {
                Err(io::Error::from_raw_os_error(libc::EBADFD))
            } else {
                self.visit(&tunnel, share, now_ns)
            };
            if let Err(error) = outcome {
                let name = &tunnel.name;
                let reason = if is_device_gone(&error) {
                    format!("the device {name} was deleted")
                } else {
                    format!("reading the device {name}: {error}")
                };
                tunnel.lose_device(&self.shared, reason);
            }
        }
        self.flush(now_ns);
        visited
    }

    fn may_go_on(&self) -> bool {
        self.slab.has_room() && self.slab.placed.len() < TURN_PACKETS
    }

    fn flush(&mut self, now_ns: u64) {
        self.outbox.send(&self.slab.bytes, now_ns);
        self.outbox.clear();
        self.slab.clear();
    }

    /// Reads one device until it has no more, or has given its share.
    fn visit(&mut self, tunnel: &Arc<Plain>, share: usize, now_ns: u64) -> io::Result<()> {
        let Some(device) = tunnel.device() else {
            return Ok(());
        };
        let plan = tunnel.plan();
        let visit = self.begin(tunnel, &plan, &device, now_ns);
        let header_size = if device.vnet_hdr {
            VirtioNetHdr::SIZE
        } else {
            0
        };
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let before = self.slab.placed.len();
        let mut outcome = Ok(());
        // Packets that are dropped count for the share as well.
        for _ in 0..share {
            if self.slab.placed.len() - before >= share || !self.slab.has_room() {
                break;
            }
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let header = if header_size == 0 {
                VirtioNetHdr::default()
            } else {
                VirtioNetHdr::parse(&buffer).unwrap_or_default()
            };
            let packet = &buffer[header_size.min(length)..length];
            if let Err(reason) = self.take(&visit, header, packet) {
                tunnel.drops.count(reason, 1);
            }
        }
        self.read_buffer = buffer;
        self.end(&visit);
        outcome
    }

    fn begin<'a>(
        &mut self,
        tunnel: &'a Arc<Plain>,
        plan: &'a Arc<Plan>,
        device: &'a Tun,
        now_ns: u64,
    ) -> Visit<'a> {
        let protect = tunnel.protect.as_ref().filter(|_| plan.up);
        let cover = protect.and_then(|protect| Cover::take(&self.shared, protect, plan));
        let target = match (&tunnel.protect, &cover) {
            (None, _) => target(tunnel, plan),
            (Some(_), None) => None,
            (Some(_), Some(cover)) => Some(Target {
                local: Some(cover.sending.path.local),
                to: cover.sending.path.remote,
            }),
        };
        let room = cover
            .as_ref()
            .map_or(Room::before(plan.headroom), Cover::room);
        Visit {
            tunnel,
            plan,
            device,
            target,
            cover,
            room,
            owner: self.outbox.owner(tunnel, plan),
            now_ns,
        }
    }

    /// What is to be protected has waited for the rest.
    fn end(&mut self, visit: &Visit<'_>) {
        if let Some(cover) = &visit.cover {
            self.sealer.seal(
                &self.shared,
                visit.tunnel,
                cover,
                visit.owner,
                &mut self.outbox,
                &mut self.slab,
                &mut self.id,
                visit.now_ns,
            );
        }
    }

    /// One packet of the device: judged, cut, encapsulated and queued.
    fn take(
        &mut self,
        visit: &Visit<'_>,
        header: VirtioNetHdr,
        packet: &[u8],
    ) -> Result<(), PlainDrop> {
        let (plan, tunnel) = (visit.plan, visit.tunnel);
        let options = &plan.options;
        // What is not IP is never a super-packet: its frame is not looked into.
        let link = if plan.is_tap() {
            let at = ethernet::ip_at(packet);
            at.unwrap_or(ethernet::HEADER).min(packet.len())
        } else {
            0
        };
        let (link, inner) = packet.split_at(link);
        let version = ip::version(inner);
        let protocol = match (options.kind, version) {
            (Kind::GreTap, _) if packet.len() < ethernet::HEADER => {
                return Err(PlainDrop::Malformed)
            }
            (Kind::GreTap, _) => ETHERNET,
            (_, None) => return Err(PlainDrop::NotIp),
            (Kind::Ipip, Some(Ip::V6)) | (Kind::Sit, Some(Ip::V4)) => {
                return Err(PlainDrop::WrongFamily)
            }
            (_, Some(Ip::V4)) => IPV4,
            (_, Some(Ip::V6)) => IPV6,
        };
        if !plan.up {
            return Err(PlainDrop::Down);
        }
        if tunnel.held.load(Ordering::Relaxed) {
            return Err(PlainDrop::Held);
        }
        let Some(target) = visit.target else {
            self.answer(visit, inner, Unreachable::HostUnreachable);
            let Some(protect) = &tunnel.protect else {
                return Err(PlainDrop::NoRemote);
            };
            protect.tell_missing(tunnel.id, &self.shared.events, visit.now_ns);
            return Err(PlainDrop::NoSa);
        };
        let own = match &visit.cover {
            Some(cover) => cover.is_own(inner),
            None => is_own(plan, target, inner),
        };
        if own {
            return Err(PlainDrop::Looped);
        }
        if oversize::nesting(inner, MAX_NESTING) >= MAX_NESTING {
            return Err(PlainDrop::Nested);
        }
        if wants_unreachable(tunnel, visit.now_ns) {
            self.answer(visit, inner, Unreachable::HostUnreachable);
        }
        let before = self.slab.mark();
        self.place(visit, header, link, packet)?;
        let limit = tunnel.limit();
        let first = self.slab.placed[before.0];
        let beyond = if plan.is_tap() { ethernet::HEADER } else { 0 };
        if limit != 0 && first.len - beyond > limit {
            self.take_oversize(visit, target, protocol, before, limit, beyond);
            return Ok(());
        }
        let fields = outer::fields(
            options,
            &self.slab.bytes[first.start..first.start + first.len],
        );
        self.encapsulate(visit, target, fields, protocol, before.0);
        Ok(())
    }

    /// Puts a packet into the slab, cut into finished ones.
    fn place(
        &mut self,
        visit: &Visit<'_>,
        header: VirtioNetHdr,
        link: &[u8],
        packet: &[u8],
    ) -> Result<(), PlainDrop> {
        let (plan, room) = (visit.plan, visit.room);
        let before = self.slab.mark();
        let finished = header.gso_type == GSO_NONE && header.flags & NEEDS_CSUM == 0;
        if plan.is_tap() && finished {
            // Whatever the frame carries: it is the peer's business.
            return if self.slab.copy(room, packet) {
                Ok(())
            } else {
                Err(PlainDrop::Malformed)
            };
        }
        // Offsets count from the frame's start.
        let header = VirtioNetHdr {
            csum_start: header.csum_start.saturating_sub(link.len() as u16),
            ..header
        };
        let inner = &packet[link.len()..];
        let mut placer = self.slab.placer(room, link);
        match split(&header, inner, &mut placer) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.slab.rewind(before);
                Err(match error {
                    SplitError::Malformed if ip::total_len(inner).is_err() => PlainDrop::NotIp,
                    _ => PlainDrop::Malformed,
                })
            }
        }
    }

    /// Packets that are larger than the path takes, the first of which is at *before* in the slab.
    fn take_oversize(
        &mut self,
        visit: &Visit<'_>,
        target: Target,
        protocol: u16,
        before: (usize, usize),
        limit: usize,
        beyond: usize,
    ) {
        let (plan, room) = (visit.plan, visit.room);
        let packets: Vec<Vec<u8>> = self.slab.placed[before.0..]
            .iter()
            .map(|placed| self.slab.bytes[placed.start..placed.start + placed.len].to_vec())
            .collect();
        self.slab.rewind(before);
        let (mut dropped, mut answered) = (0, false);
        for packet in &packets {
            let from = self.slab.placed.len();
            let mut fields = outer::fields(&plan.options, packet);
            let sent = match oversize::fit(&plan.options, packet, packet.len(), limit + beyond) {
                Fit::Fits => self.slab.copy(room, packet),
                Fit::Fragment => oversize::fragment_ipv4(packet, limit, &mut |piece| {
                    self.slab.copy(room, piece);
                }),
                Fit::Answer => {
                    // Segments of one super-packet have one sender, who is told once.
                    if !std::mem::replace(&mut answered, true) {
                        let mtu = oversize::answer_mtu(packet, limit) as u32;
                        self.answer(visit, packet, Unreachable::PacketTooBig { mtu });
                    }
                    false
                }
                Fit::SendAnyway => {
                    fields.df = false;
                    if self.slab.copy(room, packet) {
                        self.encapsulate_cut(visit, target, fields, protocol, limit + beyond);
                        continue;
                    }
                    false
                }
                Fit::Drop => false,
            };
            if sent {
                self.encapsulate(visit, target, fields, protocol, from);
            } else {
                dropped += 1;
            }
        }
        visit.tunnel.drops.count(PlainDrop::TooBig, dropped);
    }

    /// Writes the headers of all that was placed since *from*, which share *fields*, and queues it.
    fn encapsulate(
        &mut self,
        visit: &Visit<'_>,
        target: Target,
        fields: Fields,
        protocol: u16,
        from: usize,
    ) {
        let plan = visit.plan;
        let count = self.slab.placed.len() - from;
        let first = visit
            .tunnel
            .sequence_out
            .fetch_add(count as u32, Ordering::Relaxed);
        if let Some(cover) = &visit.cover {
            for index in 0..count {
                let outgoing = Outgoing {
                    placed: self.slab.placed[from + index],
                    fields,
                    protocol,
                    sequence: first.wrapping_add(index as u32),
                    cut: 0,
                };
                self.protect(visit, cover, outgoing);
            }
            return;
        }
        let flow = self.flow(plan, from);
        for index in 0..count {
            let placed = self.slab.placed[from + index];
            let sequence = first.wrapping_add(index as u32);
            let Some(at) = self.write(plan, target, fields, protocol, sequence, placed) else {
                visit.tunnel.drops.count(PlainDrop::Nested, 1);
                continue;
            };
            let packet = Packet {
                at,
                inner_len: placed.len,
                packets: 1,
            };
            self.queue(visit, target, fields, flow, &packet);
        }
    }

    /// One packet's turn to wait for protection.
    fn protect(&mut self, visit: &Visit<'_>, cover: &Cover, outgoing: Outgoing) {
        let id = self.next_id();
        let slab = &mut self.slab;
        let added = self
            .sealer
            .add(cover, visit.plan, outgoing, id as u16, slab);
        if let Err(reason) = added {
            visit.tunnel.drops.count(reason, 1);
        }
    }

    /// For an IPv4 header; never 0: the kernel would choose one of its own, for each fragment another.
    fn next_id(&mut self) -> u32 {
        self.id = self.id.wrapping_add(1);
        if self.id as u16 == 0 {
            self.id = self.id.wrapping_add(1);
        }
        self.id
    }

    /// The last placed packet, in a delivery packet that is cut into fragments of what the path takes.
    fn encapsulate_cut(
        &mut self,
        visit: &Visit<'_>,
        target: Target,
        fields: Fields,
        protocol: u16,
        limit: usize,
    ) {
        let plan = visit.plan;
        let from = self.slab.placed.len() - 1;
        let placed = self.slab.placed[from];
        let sequence = visit.tunnel.sequence_out.fetch_add(1, Ordering::Relaxed);
        if let Some(cover) = &visit.cover {
            let outgoing = Outgoing {
                placed,
                fields,
                protocol,
                sequence,
                cut: cover.whole_of(limit),
            };
            return self.protect(visit, cover, outgoing);
        }
        let flow = self.flow(plan, from);
        let Some(at) = self.write(plan, target, fields, protocol, sequence, placed) else {
            visit.tunnel.drops.count(PlainDrop::Nested, 1);
            return;
        };
        let mut packet = Packet {
            at,
            inner_len: placed.len,
            packets: 1,
        };
        if plan.options.udp.is_some() {
            // The kernel cuts it, to what it knows of the path.
            self.queue(visit, target, fields, flow, &packet);
            return;
        }
        let whole = self.slab.bytes[at.start..at.start + at.len].to_vec();
        let first = self.slab.placed.len();
        let id = self.id;
        let mtu = limit + plan.headroom;
        let mut fits = true;
        let cut = fragment(&whole, mtu, id, &mut |piece| {
            fits &= self.slab.copy(Room::NONE, piece);
        });
        if !cut || !fits {
            visit.tunnel.drops.count(PlainDrop::TooBig, 1);
            return;
        }
        for index in first..self.slab.placed.len() {
            packet.at = self.slab.placed[index];
            self.queue(visit, target, fields, flow, &packet);
            packet.packets = 0;
            packet.inner_len = 0;
        }
    }

    /// Which of several source ports the packet at *from* leaves by.
    fn flow(&self, plan: &Plan, from: usize) -> u32 {
        if plan.udp.len() > 1 {
            let placed = self.slab.placed[from];
            outer::flow_hash_of(
                &plan.options,
                &self.slab.bytes[placed.start..placed.start + placed.len],
            )
        } else {
            0
        }
    }

    /// Delivery header, GRE header and checksum of one placed packet; where all of it lies. None when the limit of tunnels inside each other
    /// that the packet itself brings is used up.
    fn write(
        &mut self,
        plan: &Plan,
        target: Target,
        fields: Fields,
        protocol: u16,
        sequence: u32,
        placed: Placed,
    ) -> Option<Placed> {
        let at = Placed {
            start: placed.start - plan.headroom,
            len: placed.len + plan.headroom,
        };
        let id = self.next_id();
        let packet = &mut self.slab.bytes[at.start..at.start + at.len];
        let local = target.local.unwrap_or_else(|| plan.any());
        outer::write(
            &plan.options,
            local,
            target.to.ip(),
            fields,
            id as u16,
            protocol,
            sequence,
            packet,
        )
        .then_some(at)
    }

    fn queue(
        &mut self,
        visit: &Visit<'_>,
        target: Target,
        fields: Fields,
        flow: u32,
        packet: &Packet,
    ) {
        let plan = visit.plan;
        if let Some(socket) = &plan.send {
            let source = target.local.unwrap_or_else(|| plan.any());
            self.outbox
                .queue_raw(visit.owner, socket, target.to, source, packet);
        } else if let Some(socket) = plan.udp.get(flow as usize % plan.udp.len().max(1)) {
            self.outbox
                .queue_udp(visit.owner, socket, target.to, target.local, fields, packet);
        } else {
            visit.tunnel.drops.count(PlainDrop::Down, packet.packets);
        }
    }

    /// Packets of the control plane, behind what was queued before them.
    fn controls(&mut self, now_ns: u64) {
        loop {
            if !self.may_go_on() {
                self.flush(now_ns);
            }
            let Some(Control { tunnel, packet }) = lock(&self.shared.controls).pop_front() else {
                return;
            };
            let Some(tunnel) = self.shared.tunnel(tunnel) else {
                continue;
            };
            if let Err(reason) = self.control(&tunnel, &packet, now_ns) {
                tunnel.drops.count(reason, 1);
            }
        }
    }

    fn control(
        &mut self,
        tunnel: &Arc<Plain>,
        packet: &ControlPacket,
        now_ns: u64,
    ) -> Result<(), PlainDrop> {
        let plan = tunnel.plan();
        if !plan.up {
            return Err(PlainDrop::Down);
        }
        let device = tunnel.device().ok_or(PlainDrop::Down)?;
        let visit = self.begin(tunnel, &plan, &device, now_ns);
        let target = match (visit.target, &tunnel.protect) {
            (Some(target), _) => target,
            (None, None) => return Err(PlainDrop::NoRemote),
            (None, Some(protect)) => {
                protect.tell_missing(tunnel.id, &self.shared.events, now_ns);
                return Err(PlainDrop::NoSa);
            }
        };
        let from = self.slab.placed.len();
        match packet {
            ControlPacket::Inside { protocol, payload } => {
                let fields = outer::fields(&plan.options, payload);
                if !self.slab.copy(visit.room, payload) {
                    return Err(PlainDrop::SendFailed);
                }
                self.encapsulate(&visit, target, fields, *protocol, from);
            }
            ControlPacket::Finished(packet) => {
                let fields = outer::fields(&plan.options, packet);
                if let Some(cover) = &visit.cover {
                    self.sealer
                        .add_finished(cover, packet, fields, &mut self.slab)?;
                    self.end(&visit);
                    return Ok(());
                }
                if !self.slab.copy(Room::NONE, packet) {
                    return Err(PlainDrop::SendFailed);
                }
                let flow = self.flow(&plan, from);
                let packet = Packet {
                    at: self.slab.placed[from],
                    inner_len: 0,
                    packets: 0,
                };
                self.queue(&visit, target, fields, flow, &packet);
            }
        }
        self.end(&visit);
        Ok(())
    }

    /// Tells the sender on this side, as the kernel does; limited, as the kernel does. Not into Ethernet, where we are no router.
    fn answer(&mut self, visit: &Visit<'_>, inner: &[u8], why: Unreachable) {
        if visit.plan.is_tap() || !self.icmp.take(visit.now_ns) {
            return;
        }
        let mut answer = [0; 1280];
        let Some(length) = unreachable(inner, why, None, &mut answer) else {
            return;
        };
        let header = VirtioNetHdr::default().to_bytes();
        let header = if visit.device.vnet_hdr {
            &header[..]
        } else {
            &[]
        };
        let slices = [
            io::IoSlice::new(header),
            io::IoSlice::new(&answer[..length]),
        ];
        if visit.device.write(&slices).is_err() {
            visit.tunnel.drops.count(PlainDrop::DeviceWrite, 1);
        }
    }
}

/// Where the tunnel's packets go, and from where; None when there is no far end yet, or no way to it.
fn target(tunnel: &Plain, plan: &Plan) -> Option<Target> {
    if !plan.up {
        return None;
    }
    let to = tunnel.remote(plan)?;
    let local = match plan.options.local {
        Some(local) => Some(local),
        // The kernel chooses as it sends.
        None if plan.options.udp.is_some() => None,
        None => Some(tunnel.route(plan, to).ok()?.source),
    };
    Some(Target { local, to })
}

/// Whether *inner* is a delivery packet of this very tunnel.
fn is_own(plan: &Plan, target: Target, inner: &[u8]) -> bool {
    if ip::destination(inner) != Some(target.to.ip()) {
        return false;
    }
    let (protocol, header) = match inner.first().map(|first| first >> 4) {
        Some(4) => (inner.get(9), usize::from(inner[0] & 0x0f) * 4),
        Some(6) => (inner.get(6), 40),
        _ => return false,
    };
    if target.local.is_some() && ip::source(inner) != target.local {
        return false;
    }
    match (plan.options.udp, protocol) {
        (Some(udp), Some(17)) => {
            let ports = inner.get(header..header + 4);
            ports.is_some_and(|ports| {
                ports[2..] == target.to.port().to_be_bytes()
                    && (udp.source == 0 || ports[..2] == udp.source.to_be_bytes())
            })
        }
        (None, Some(&protocol)) => match plan.options.kind {
            Kind::Gre | Kind::GreTap => protocol == 47,
            Kind::Ipip => protocol == 4,
            Kind::Sit => protocol == 41,
            // With the encapsulation limit's header in front.
            Kind::Ip6Tnl => matches!(protocol, 4 | 41 | 60),
        },
        _ => false,
    }
}

/// Whether the sender of a packet is to be told that the far end is unreachable.
fn wants_unreachable(tunnel: &Plain, now_ns: u64) -> bool {
    let left = tunnel.unreachable_left.load(Ordering::Relaxed);
    if left == 0 || now_ns >= tunnel.unreachable_until_ns.load(Ordering::Relaxed) {
        return false;
    }
    tunnel
        .unreachable_left
        .compare_exchange(left, left - 1, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_gre::options::{Options, Udp};
    use std::net::Ipv4Addr;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn plan(kind: Kind, udp: Option<Udp>) -> Plan {
        let options = Options {
            udp,
            ..Options::new(kind, Some(LOCAL), Some(REMOTE))
        };
        Plan {
            v6: false,
            headroom: outer::len(&options),
            fwmark: 0,
            up: true,
            send: None,
            udp: Vec::new(),
            options,
        }
    }

    fn packet(protocol: u8, from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, protocol, 0, 0];
        packet.extend([192, 0, 2, from, 192, 0, 2, to]);
        packet.extend([0x12, 0x92, 0x12, 0x92, 0, 8, 0, 0]);
        packet
    }

    #[test]
    fn our_own_delivery_packet_is_known_by_ends_and_protocol() {
        let target = Target {
            local: Some(LOCAL),
            to: SocketAddr::new(REMOTE, 0),
        };
        for (kind, protocol) in [
            (Kind::Gre, 47),
            (Kind::GreTap, 47),
            (Kind::Ipip, 4),
            (Kind::Sit, 41),
        ] {
            let plan = plan(kind, None);
            assert!(is_own(&plan, target, &packet(protocol, 1, 2)));
            assert!(!is_own(&plan, target, &packet(6, 1, 2)));
            assert!(!is_own(&plan, target, &packet(protocol, 3, 2)));
            assert!(!is_own(&plan, target, &packet(protocol, 1, 3)));
        }
    }

    #[test]
    fn in_udp_it_is_known_by_its_ports() {
        let target = Target {
            local: None,
            to: SocketAddr::new(REMOTE, 4754),
        };
        let udp = |source| Udp {
            listen: 4754,
            source,
            destination: 4754,
        };
        let own = packet(17, 1, 2);
        assert!(is_own(&plan(Kind::Gre, Some(udp(4754))), target, &own));
        assert!(is_own(&plan(Kind::Gre, Some(udp(0))), target, &own));
        assert!(!is_own(&plan(Kind::Gre, Some(udp(4755))), target, &own));
        assert!(!is_own(
            &plan(Kind::Gre, Some(udp(4754))),
            target,
            &packet(47, 1, 2)
        ));
        for len in 0..24 {
            assert!(!is_own(
                &plan(Kind::Gre, Some(udp(4754))),
                target,
                &own[..len]
            ));
        }
    }
}
