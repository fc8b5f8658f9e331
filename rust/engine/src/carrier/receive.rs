//! The receiving thread: sockets -> tunnel, checks -> devices.
//!
//! One turn: take what one socket has; find each packet's tunnel (the last answer serves its neighbours); check it as Linux does
//! (`ginnel_gre::receive`); then, tunnel by tunnel, hand the packets to the coalescer, which writes the device. Order within a tunnel is the order of
//! arrival.
//!
//! In a plain tunnel no tag vouches for what is inside. So checksums are verified before packets are coalesced, since that makes a new one,
//! and a packet that goes alone is given to the kernel without a word about its own. What a kernel left unfinished (`unfinished`) is finished
//! here, or handed to the device as the super-packet that it is. Of a protected tunnel (`open`) the tag vouches, and was made when all was
//! finished.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use ginnel_esp::udp::{classify, esp_spi, Datagram};
use ginnel_gre::demux::{Found, Seen};
use ginnel_gre::ethernet;
use ginnel_gre::header::{self, Header, HeaderError};
use ginnel_gre::keepalive::{recognise, Keepalive};
use ginnel_gre::receive::{admit, admit_ip, Refusal, State};
use ginnel_packet::coalesce::{Coalescer, Limits};
use ginnel_packet::ip;
use ginnel_packet::virtio::{VirtioNetHdr, GSO_NONE};

use super::drops::PlainDrop;
use super::errors::Errors;
use super::ike::{Place, Ports};
use super::open::{Arrival, Brought, Opener};
use super::plain::{Plain, Plan};
use super::sockets::Socket;
use super::unfinished::{complete, look, Unfinished};
use super::{Shared, Tables, TAG_WAKE};
use crate::event::Events;
use crate::receive::write_packet;
use crate::shared::is_device_gone;
use crate::sys::clock::{boottime_ns, sleep_exactly};
use crate::sys::poll::{Poll, Ready};
use crate::sys::raw::{RawReceive, RawReceiveScratch, RawReceived};
use crate::sys::tun::Tun;
use crate::sys::udp::{ReceiveScratch, Received, Udp};
use crate::{lock, read};

const GRE: u8 = 47;
/// Sockets looked at in one wait.
const READY: usize = 32;
/// Turns for one socket before the others are looked at.
const TURNS_AT_ONCE: usize = 8;
/// After a wake that found more than one raw packet. A lone packet is never kept waiting; one of many is by this much at most, and at 10 Gb/s a
/// fiftieth of the socket's buffer fills meanwhile. `bench/results/underlay-2026-11-21.md` has what it saves.
const NAP: Duration = Duration::from_micros(50);

/// A tunnel that packets of this turn are for.
struct Group {
    tunnel: Arc<Plain>,
    plan: Arc<Plan>,
    packets: u64,
    bytes: u64,
}

/// A packet that may come in, in the slab.
#[derive(Clone, Copy)]
struct Item {
    group: u32,
    order: u32,
    start: usize,
    len: usize,
}

/// What a packet shows from outside.
#[derive(Clone, Copy)]
struct Outside {
    local: IpAddr,
    remote: IpAddr,
    /// 0 unless in UDP.
    port: u16,
    device: u32,
    tos: u8,
    protocol: u8,
    udp: bool,
}

/// A packet's GRE header, if its protocol has one, and whether its key is the tunnel's.
#[derive(Clone, Copy)]
struct Parsed {
    header: Result<Option<Header>, HeaderError>,
    right_key: bool,
}

struct Receiver {
    shared: Arc<Shared>,
    raw: RawReceiveScratch,
    raw_received: Vec<RawReceived>,
    udp: ReceiveScratch,
    udp_received: Vec<Received>,
    sorter: Sorter,
    opener: Opener,
    /// By what the device accepts: TCP, UDP.
    coalescers: [Coalescer; 4],
    /// Until then coalesced packets are cut again, because the kernel refused one.
    coalesce_again_ns: u64,
    errors: Errors,
}

/// Finds the tunnels of a turn's packets.
#[derive(Default)]
struct Sorter {
    groups: Vec<Group>,
    items: Vec<Item>,
    /// What was asked last, and the answer.
    last: Option<(Seen, Found<u32>)>,
    no_tunnel: u64,
}

pub(super) fn run(shared: &Arc<Shared>) -> io::Result<()> {
    let coalescer = |index: usize| {
        Coalescer::new(Limits {
            tcp: index & 1 != 0,
            udp: index & 2 != 0,
        })
    };
    let mut receiver = Receiver {
        shared: shared.clone(),
        raw: RawReceiveScratch::new(),
        raw_received: Vec::new(),
        udp: ReceiveScratch::new(),
        udp_received: Vec::new(),
        sorter: Sorter::default(),
        opener: Opener::new(),
        coalescers: std::array::from_fn(coalescer),
        coalesce_again_ns: 0,
        errors: Errors::new(),
    };
    sleep_exactly()?;
    let mut ready = Poll::no_ready::<READY>();
    while !shared.stop.load(Ordering::Acquire) {
        let count = shared.receive_poll.wait(None, &mut ready)?;
        let mut more_will_come = false;
        for Ready { tag, broken } in &ready[..count] {
            if *tag == TAG_WAKE {
                shared.receive_wake.clear();
                continue;
            }
            let socket = read(&shared.receivers).get(&(*tag as u32)).cloned();
            if let Some(socket) = socket {
                let count = receiver.serve(&socket, *broken);
                more_will_come |= count > 1 && socket.is_raw();
            }
        }
        if more_will_come {
            std::thread::sleep(NAP);
        }
    }
    Ok(())
}

impl Receiver {
    /// Takes what one socket has, for its share; how many messages that were.
    fn serve(&mut self, socket: &Socket, broken: bool) -> usize {
        if broken {
            self.errors.take(&self.shared, socket);
        }
        let mut total = 0;
        for _ in 0..TURNS_AT_ONCE {
            let now_ns = boottime_ns();
            let outcome = match socket {
                Socket::Raw { socket, .. } => self.receive_raw(socket),
                Socket::Udp(socket) => self.receive_udp(socket),
                Socket::Port { family, place, .. } => match place {
                    Place::Ike => self.receive_udp(&family.ike),
                    Place::Natt => self.receive_udp(&family.natt),
                    Place::Esp => self.receive_raw(&family.esp),
                },
            };
            let (count, lost) = match outcome {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Of an earlier send, taken off the socket by being told. The queue of errors says more of it; packets wait behind it.
                Err(_) => continue,
            };
            if let Socket::Port { ports, .. } = socket {
                ports.count_lost(lost);
            } else {
                let counter = &self.shared.at_socket;
                counter.fetch_add(u64::from(lost), Ordering::Relaxed);
            }
            self.turn(socket, now_ns);
            total += count;
            if count < 2 {
                // Nothing piled up: ask epoll rather than the socket again.
                break;
            }
        }
        total
    }

    /// How many messages came, and how many the kernel had to drop before.
    fn receive_raw(&mut self, socket: &RawReceive) -> io::Result<(usize, u32)> {
        let outcome = socket.receive_many(&mut self.raw, &mut self.raw_received);
        let lost = socket.newly_lost(&mut self.raw);
        outcome.map(|()| (self.raw_received.len(), lost))
    }

    fn receive_udp(&mut self, socket: &Udp) -> io::Result<(usize, u32)> {
        let outcome = socket.receive_many(&mut self.udp, &mut self.udp_received);
        let lost = socket.newly_lost(&mut self.udp);
        outcome.map(|()| (self.udp_received.len(), lost))
    }

    fn turn(&mut self, socket: &Socket, now_ns: u64) {
        let shared = self.shared.clone();
        if let Socket::Port { ports, place, .. } = socket {
            self.take_ports(&shared, ports, *place, now_ns);
        } else {
            let tables = read(&shared.tables);
            match socket {
                Socket::Raw { protocol, .. } => {
                    for message in &self.raw_received {
                        let outside = Outside {
                            local: message.to,
                            remote: message.from,
                            port: 0,
                            device: message.device,
                            tos: message.tos,
                            protocol: *protocol,
                            udp: false,
                        };
                        let slab = self.raw.slab();
                        let place = message.start..message.start + message.len;
                        self.sorter
                            .packet(&shared, &tables, slab, place, &outside, now_ns);
                    }
                }
                Socket::Udp(_) => {
                    for message in &self.udp_received {
                        let slab = self.udp.slab();
                        self.sorter.message(&shared, &tables, slab, message, now_ns);
                    }
                }
                Socket::Port { .. } => {}
            }
            self.sorter.last = None;
        }
        shared.no_tunnel.fetch_add(
            std::mem::take(&mut self.sorter.no_tunnel),
            Ordering::Relaxed,
        );
        let slab = match socket {
            Socket::Raw { .. }
            | Socket::Port {
                place: Place::Esp, ..
            } => self.raw.slab(),
            Socket::Udp(_) | Socket::Port { .. } => self.udp.slab(),
        };
        if self.sorter.groups.len() > 1 {
            self.sorter
                .items
                .sort_unstable_by_key(|item| (item.group, item.order));
        }
        let mut rest = &self.sorter.items[..];
        while let Some(first) = rest.first() {
            let count = rest
                .iter()
                .take_while(|item| item.group == first.group)
                .count();
            let (items, others) = rest.split_at(count);
            rest = others;
            let group = &self.sorter.groups[first.group as usize];
            let counters = &group.tunnel.counters;
            counters
                .rx_packets
                .fetch_add(group.packets, Ordering::Relaxed);
            counters.rx_bytes.fetch_add(group.bytes, Ordering::Relaxed);
            counters.last_receive_ns.store(now_ns, Ordering::Relaxed);
            deliver(
                &shared,
                group,
                items,
                slab,
                &mut self.coalescers,
                &mut self.coalesce_again_ns,
                now_ns,
            );
        }
        self.sorter.items.clear();
        self.sorter.groups.clear();
    }

    /// What came by a port of IKE's and ESP's: messages go to the control plane, packets to the tunnels that their SPIs name.
    fn take_ports(&mut self, shared: &Shared, ports: &Ports, place: Place, now_ns: u64) {
        let slab = match place {
            Place::Esp => {
                self.take_raw_esp(ports);
                self.raw.slab()
            }
            Place::Ike | Place::Natt => {
                self.take_datagrams(&shared.events, ports, place);
                self.udp.slab()
            }
        };
        let events = &shared.events;
        self.opener
            .find(&read(&shared.tables), ports, events, now_ns);
        let sorter = &mut self.sorter;
        let mut bring = |slab: &mut [u8], tunnel: &Arc<Plain>, brought| {
            sorter.brought(shared, slab, tunnel, brought, now_ns);
        };
        self.opener.open(slab, events, now_ns, &mut bring);
    }

    fn take_raw_esp(&mut self, ports: &Ports) {
        let slab = self.raw.slab();
        for message in &self.raw_received {
            let packet = &slab[message.start..message.start + message.len];
            let Some(spi) = esp_spi(packet) else {
                ports.count_truncated();
                continue;
            };
            self.opener.take(Arrival {
                spi,
                start: message.start,
                len: message.len,
                source: SocketAddr::new(message.from, 0),
                local: message.to,
                tos: message.tos,
            });
        }
    }

    fn take_datagrams(&mut self, events: &Events, ports: &Ports, place: Place) {
        let slab = self.udp.slab();
        for message in &self.udp_received {
            let Some(local) = message.to else { continue };
            for lies in datagrams(message) {
                let datagram = &slab[lies.clone()];
                if place == Place::Ike {
                    ports.take_message(events, datagram, message.from, local, false);
                    continue;
                }
                match classify(datagram) {
                    Datagram::Ike(inside) => {
                        ports.take_message(events, inside, message.from, local, true);
                    }
                    Datagram::Keepalive => ports.count_keepalive(),
                    Datagram::Malformed => ports.count_truncated(),
                    Datagram::Esp(spi) => self.opener.take(Arrival {
                        spi,
                        start: lies.start,
                        len: lies.len(),
                        source: message.from,
                        local,
                        tos: message.tos,
                    }),
                }
            }
        }
    }
}

/// Where the datagrams of one UDP message lie; one that is empty is one as well.
fn datagrams(message: &Received) -> impl Iterator<Item = Range<usize>> {
    let segment = message.segment.max(1);
    let end = message.start + message.len;
    let count = message.len.div_ceil(segment).max(1);
    let start = message.start;
    (0..count).map(move |at| start + at * segment..end.min(start + (at + 1) * segment))
}

impl Sorter {
    /// The datagrams of one UDP message.
    fn message(
        &mut self,
        shared: &Shared,
        tables: &Tables,
        slab: &mut [u8],
        message: &Received,
        now_ns: u64,
    ) {
        let Some(local) = message.to else { return };
        let outside = Outside {
            local,
            remote: message.from.ip(),
            port: message.from.port(),
            device: message.device,
            tos: message.tos,
            protocol: GRE,
            udp: true,
        };
        for place in datagrams(message) {
            self.packet(shared, tables, slab, place, &outside, now_ns);
        }
    }

    /// One packet, from behind its delivery header on: to its tunnel, if it may come in.
    fn packet(
        &mut self,
        shared: &Shared,
        tables: &Tables,
        slab: &mut [u8],
        place: Range<usize>,
        outside: &Outside,
        now_ns: u64,
    ) {
        let packet = &mut slab[place.clone()];
        let parsed = if outside.protocol == GRE {
            header::parse(packet).map(Some)
        } else {
            Ok(None)
        };
        let (key, ethernet) = match &parsed {
            Ok(Some(header)) => (header.key, header.protocol == header::ETHERNET),
            _ => (None, false),
        };
        let seen = Seen {
            local: outside.local,
            remote: outside.remote,
            key,
            ethernet,
            protocol: outside.protocol,
            udp: outside.udp,
            device: outside.device,
        };
        let (id, right_key) = match self.find(tables, &seen) {
            Found::Tunnel(id) => (id, true),
            Found::WrongKey(id) => (id, false),
            Found::None => {
                self.no_tunnel += 1;
                return;
            }
        };
        let group = match (self.group_of(id), tables.tunnels.get(&id)) {
            (Some(group), _) => group,
            (None, Some(tunnel)) => self.group(tunnel),
            (None, None) => {
                self.no_tunnel += 1;
                return;
            }
        };
        let Group { tunnel, plan, .. } = &self.groups[group];
        if tunnel.protect.is_some() {
            tunnel.drops.count(PlainDrop::Unprotected, 1);
            return;
        }
        if !plan.up {
            tunnel.drops.count(PlainDrop::Down, 1);
            return;
        }
        let parsed = Parsed {
            header: parsed,
            right_key,
        };
        self.judge(shared, slab, place, group, parsed, outside, now_ns);
    }

    /// What a protected packet brought, through the same checks.
    fn brought(
        &mut self,
        shared: &Shared,
        slab: &mut [u8],
        tunnel: &Arc<Plain>,
        brought: Brought,
        now_ns: u64,
    ) {
        let group = self.group(tunnel);
        let header = if brought.protocol == GRE {
            header::parse(&slab[brought.place.clone()]).map(Some)
        } else {
            Ok(None)
        };
        let ikey = self.groups[group].plan.options.ikey;
        let parsed = Parsed {
            right_key: !matches!(&header, Ok(Some(header)) if header.key != ikey),
            header,
        };
        let outside = Outside {
            local: brought.local,
            remote: brought.remote,
            port: 0,
            device: 0,
            tos: brought.tos,
            protocol: brought.protocol,
            udp: false,
        };
        self.judge(shared, slab, brought.place, group, parsed, &outside, now_ns);
    }

    /// One packet that found its tunnel, from its GRE header on, or of the kinds without one the inner packet: in, if it may.
    #[allow(clippy::too_many_arguments)] // one packet: where it lies, whose it is, what it shows inside and outside, when
    fn judge(
        &mut self,
        shared: &Shared,
        slab: &mut [u8],
        place: Range<usize>,
        group: usize,
        parsed: Parsed,
        outside: &Outside,
        now_ns: u64,
    ) {
        let packet = &mut slab[place.clone()];
        let Group { tunnel, plan, .. } = &self.groups[group];
        let key = match &parsed.header {
            Ok(Some(header)) => header.key,
            _ => None,
        };
        let events = &shared.events;
        let mismatch = |reason, seen| {
            tunnel.mismatch(events, reason, seen, outside.remote, now_ns);
        };
        let admitted = match parsed.header {
            Err(HeaderError::Truncated) => {
                tunnel.drops.count(PlainDrop::HeaderTruncated, 1);
                return;
            }
            Err(HeaderError::Version(version)) => {
                return mismatch(PlainDrop::Version, Some(u32::from(version)));
            }
            Err(HeaderError::Routing) => {
                tunnel.drops.count(PlainDrop::Routing, 1);
                return;
            }
            Ok(_) if !parsed.right_key => return mismatch(PlainDrop::KeyMismatch, key),
            Ok(None) => admit_ip(&plan.options, outside.protocol, outside.tos, packet),
            Ok(Some(header)) => {
                let payload = packet.get(header.len..).unwrap_or_default();
                // Probes of the path are keepalives with padding behind them, which the answer is without.
                let padded = ip::total_len(payload).unwrap_or(payload.len());
                let payload = &payload[..padded];
                let keepalive = recognise(&header, payload, outside.local, outside.remote);
                if keepalive == Keepalive::Returned {
                    if header::checksum_verifies(packet) {
                        let heard_ns = &tunnel.counters.last_receive_ns;
                        heard_ns.store(now_ns, Ordering::Relaxed);
                        tunnel.tell_control(events, true, header.protocol, &[], now_ns);
                    } else {
                        tunnel.drops.count(PlainDrop::ChecksumWrong, 1);
                    }
                    return;
                }
                let mut unused = State::default();
                let mut judge = |packet: &mut [u8]| {
                    if plan.options.iseq {
                        let mut state = lock(&tunnel.state);
                        admit(&plan.options, &mut state, &header, outside.tos, packet)
                    } else {
                        admit(&plan.options, &mut unused, &header, outside.tos, packet)
                    }
                };
                let mut admitted = judge(packet);
                if admitted == Err(Refusal::ChecksumWrong) && tunnel.protect.is_none() {
                    let mtu = tunnel.mtu.load(Ordering::Relaxed);
                    if finish_inside(packet, header, mtu) {
                        admitted = judge(packet);
                    }
                }
                if let (Ok((_, inner)), Keepalive::Asked) = (&admitted, keepalive) {
                    tunnel.learn(plan, outside.remote, outside.port, events);
                    let inner = &packet[inner.clone()];
                    let heard_ns = &tunnel.counters.last_receive_ns;
                    heard_ns.store(now_ns, Ordering::Relaxed);
                    tunnel.tell_control(events, false, header.protocol, inner, now_ns);
                    return;
                }
                admitted
            }
        };
        match admitted {
            Ok((_, inner)) => {
                tunnel.learn(plan, outside.remote, outside.port, events);
                let item = Item {
                    group: group as u32,
                    order: self.items.len() as u32,
                    start: place.start + inner.start,
                    len: inner.len(),
                };
                self.items.push(item);
                let group = &mut self.groups[group];
                group.packets += 1;
                group.bytes += item.len as u64;
            }
            Err(Refusal::ChecksumMissing) => mismatch(PlainDrop::ChecksumMissing, None),
            Err(Refusal::ChecksumUnexpected) => mismatch(PlainDrop::ChecksumUnexpected, None),
            Err(Refusal::ChecksumWrong) => tunnel.drops.count(PlainDrop::ChecksumWrong, 1),
            Err(Refusal::SequenceMissing) => mismatch(PlainDrop::SequenceMissing, None),
            Err(Refusal::OutOfOrder { .. }) => tunnel.drops.count(PlainDrop::OutOfOrder, 1),
            Err(Refusal::UnknownProtocol(protocol)) => {
                mismatch(PlainDrop::UnknownProtocol, Some(u32::from(protocol)));
            }
            Err(Refusal::InnerMalformed) => tunnel.drops.count(PlainDrop::InnerMalformed, 1),
            Err(Refusal::Ecn) => tunnel.drops.count(PlainDrop::Ecn, 1),
        }
    }

    fn find(&mut self, tables: &Tables, seen: &Seen) -> Found<u32> {
        if let Some((last, found)) = &self.last {
            let same = last.remote == seen.remote
                && last.local == seen.local
                && last.key == seen.key
                && last.ethernet == seen.ethernet
                && last.protocol == seen.protocol
                && last.udp == seen.udp
                && last.device == seen.device;
            if same {
                return *found;
            }
        }
        let found = tables.demux.find(seen);
        self.last = Some((*seen, found));
        found
    }

    /// Which group of this turn the tunnel has; mostly the last.
    fn group(&mut self, tunnel: &Arc<Plain>) -> usize {
        let found = self.group_of(tunnel.id);
        found.unwrap_or_else(|| {
            self.groups.push(Group {
                tunnel: tunnel.clone(),
                plan: tunnel.plan(),
                packets: 0,
                bytes: 0,
            });
            self.groups.len() - 1
        })
    }

    fn group_of(&self, id: u32) -> Option<usize> {
        self.groups.iter().rposition(|group| group.tunnel.id == id)
    }
}

/// A GRE checksum is made as if what is inside were finished: does what is left to do there, and says whether anything was.
///
/// Of joined segments the kernel makes no checksum at all, since each would have had its own; ours then is as good as none. Where what
/// is inside was finished, it leaves GRE's own to the card: the field is zero (`gre_build_header` of Linux), which is never right here.
#[cold]
fn finish_inside(packet: &mut [u8], parsed: Header, mtu: usize) -> bool {
    let (header, ethernet) = (parsed.len, parsed.protocol == header::ETHERNET);
    if packet.get(4..6) == Some(&[0, 0]) {
        header::set_checksum(packet);
        return true;
    }
    let Some(inner) = packet.get(header..) else {
        return false;
    };
    let link = if ethernet {
        ethernet::ip_at(inner).unwrap_or(inner.len())
    } else {
        0
    };
    let Ok(total) = ip::total_len(&inner[link..]) else {
        return false;
    };
    let inside = header + link..header + link + total;
    match look(&packet[inside.clone()], mtu) {
        None => false,
        Some(Unfinished::Checksum { start, field }) => {
            complete(&mut packet[inside], start, field);
            true
        }
        Some(Unfinished::Segments(_) | Unfinished::Datagrams) => {
            header::set_checksum(packet);
            true
        }
    }
}

/// One tunnel's packets to its device.
fn deliver(
    shared: &Shared,
    group: &Group,
    items: &[Item],
    slab: &mut [u8],
    coalescers: &mut [Coalescer; 4],
    coalesce_again_ns: &mut u64,
    now_ns: u64,
) {
    let tunnel = &group.tunnel;
    let Some(device) = tunnel.device() else {
        tunnel
            .drops
            .count(PlainDrop::DeviceWrite, items.len() as u64);
        return;
    };
    let mut failed = None;
    let tap = group.plan.is_tap();
    let proven = tunnel.protect.is_some();
    let mtu = tunnel.mtu.load(Ordering::Relaxed);
    let accepts =
        usize::from(device.tcp_offload.is_ok()) | usize::from(device.udp_offload.is_ok()) << 1;
    let coalescer = &mut coalescers[accepts];
    let mut flush = |coalescer: &mut Coalescer, slab: &mut [u8], failed: &mut _| {
        flush(
            tunnel,
            &device,
            coalescer,
            slab,
            coalesce_again_ns,
            now_ns,
            failed,
        );
    };
    for item in items {
        let packet = &mut slab[item.start..item.start + item.len];
        // Ethernet frames are looked into behind their header.
        let link = if tap {
            ethernet::ip_at(packet).unwrap_or(packet.len())
        } else {
            0
        };
        let total = ip::total_len(&packet[link..]).map_or(packet.len(), |total| link + total);
        let mut header = VirtioNetHdr::default();
        let unfinished = if proven {
            None
        } else {
            look(&packet[link..total], mtu)
        };
        match unfinished {
            None => {}
            Some(Unfinished::Checksum { start, field }) => {
                complete(&mut packet[link..total], start, field);
            }
            Some(Unfinished::Segments(described)) if device.tcp_offload.is_ok() => {
                header = VirtioNetHdr {
                    hdr_len: described.hdr_len + link as u16,
                    csum_start: described.csum_start + link as u16,
                    ..described
                };
            }
            Some(Unfinished::Segments(_) | Unfinished::Datagrams) => {
                tunnel.drops.count(PlainDrop::Joined, 1);
                continue;
            }
        }
        if !tap && header.gso_type == GSO_NONE {
            coalescer.push(slab, item.start, item.len);
            continue;
        }
        flush(coalescer, slab, &mut failed);
        let packet = &slab[item.start..item.start + item.len];
        write_alone(tunnel, &device, header, packet, &mut failed);
    }
    flush(coalescer, slab, &mut failed);
    if failed.is_some_and(|error| is_device_gone(&error)) {
        let reason = format!("the device {} was deleted", tunnel.name);
        tunnel.lose_device(shared, reason);
    }
}

fn write_alone(
    tunnel: &Plain,
    device: &Tun,
    header: VirtioNetHdr,
    packet: &[u8],
    failed: &mut Option<io::Error>,
) {
    let header = header.to_bytes();
    let header = if device.vnet_hdr { &header[..] } else { &[] };
    let slices = [io::IoSlice::new(header), io::IoSlice::new(packet)];
    if let Err(error) = device.write(&slices) {
        tunnel.drops.count(PlainDrop::DeviceWrite, 1);
        *failed = Some(error);
    }
}

fn flush(
    tunnel: &Plain,
    device: &Tun,
    coalescer: &mut Coalescer,
    slab: &mut [u8],
    coalesce_again_ns: &mut u64,
    now_ns: u64,
    failed: &mut Option<io::Error>,
) {
    coalescer.flush(slab, &mut |header, slab, ranges| {
        let mut header = *header;
        if header.gso_type == GSO_NONE && tunnel.protect.is_none() {
            // Nobody vouched for its checksum: the kernel looks at it where it ends.
            header.flags = 0;
        }
        let (lost, error) = write_packet(device, &header, slab, ranges, coalesce_again_ns, now_ns);
        tunnel.drops.count(PlainDrop::DeviceWrite, lost);
        if error.is_some() {
            *failed = error;
        }
    });
}
