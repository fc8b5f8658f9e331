//! From decrypted packets to super-packets for TUN: the inverse of `split`, without copying.
//!
//! Adjacent TCP segments or UDP datagrams of one flow become one *item*: the first packet's header, mended, and then only the
//! payloads of the others, named as ranges of the slab they lie in. The kernel then takes one packet through its stack
//! instead of forty-five.
//!
//! **The law.** Splitting an item gives back the packets it was made of, byte for byte but for the IPv4 identification. Hence
//! what joins must be equal in everything that an item has only once: addresses, ports, traffic class, hop limit, DF, flow
//! label, acknowledgement, window, TCP options. The identification may differ because what is coalesced is whole, not a
//! fragment, and then it means nothing (RFC 6864 4.1).
//!
//! **Order.** Items are emitted in the order of their first packets, and a packet may join only the *last* item of its flow,
//! while that is open. Anything that cannot join (a bare ACK, FIN, SYN, RST, URG, ECN echoes, a gap, a change of any field above)
//! passes alone and closes the flow's open item, so that order within a flow is never lost. A packet whose flow cannot be
//! read cheaply (fragments, IPv4 options, IPv6 extension headers) closes every open item between its two addresses.
//!
//! An item is closed as well by PSH (the sender says: deliver), by a segment shorter than the first, and when full: 65,535 bytes,
//! 64 datagrams (the kernel's `UDP_MAX_SEGMENTS`), `MAX_RANGES` ranges.
//!
//! **Checksums.** The tunnel authenticated the packet, but not that its sender's checksum was right, and an item's
//! checksum is computed anew, which would launder a wrong one. So both checksums of a packet are verified before it joins
//! and before it is joined. A lone packet goes unmodified, with its own checksums, vouched for (`DATA_VALID`) unless found wrong.
//!
//! **Bounds.** Open items are found through a small four-way table keyed by flow; when a set is full one of its items is
//! closed. A flood of flows thus costs coalescing, never time, memory or order. Time per packet is constant; the packet
//! whose flow cannot be read looks through the whole table, if there is anything in it.

use std::ops::Range;

use crate::checksum;
use crate::ip::{self, Ip};
use crate::split::{put, tcp_header_len, ACK, PSH, TCP_CHECKSUM, UDP_CHECKSUM, UDP_HEADER};
use crate::virtio::{VirtioNetHdr, DATA_VALID, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};

/// Datagrams of one UDP item: the kernel's `UDP_MAX_SEGMENTS`, 64 until it was raised.
pub const MAX_UDP_SEGMENTS: usize = 64;
/// Ranges of any item, so that a writer's vector of them can have a fixed size. At 512 bytes of payload and more, the
/// 65,535 bytes bind first.
pub const MAX_RANGES: usize = 128;
/// Bytes of one item: what an IPv4 header can say.
const MAX_TOTAL: usize = 65_535;
/// The table of open items: sets of four.
const SETS: usize = 64;
const WAYS: usize = 4;
/// Items of one batch; those beyond it pass alone. Item numbers then fit the table's 16 bits, of which 0 is "empty".
const MAX_ITEMS: usize = 65_534;
const NONE: u32 = u32::MAX;

/// Which kinds of super-packet the device accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// TCP over IPv4 and IPv6.
    pub tcp: bool,
    /// UDP (Linux 6.2 and newer).
    pub udp: bool,
}

/// Takes an item: its virtio header, the slab, and the slab's ranges that are the packet.
pub type Emit<'a> = dyn FnMut(&VirtioNetHdr, &[u8], &[Range<usize>]) + 'a;

/// Two addresses and, behind them, ports, protocol and version: what a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    addresses: [u64; 4],
    rest: u64,
}

/// A packet that may be part of an item.
#[derive(Clone, Copy, Debug)]
struct Segment {
    flow: Flow,
    /// Fields of both headers that must be equal, packed; TCP options are compared where they lie.
    traits: [u64; 2],
    ip: Ip,
    protocol: u8,
    transport: usize,
    headers: usize,
    payload: usize,
    sequence: u32,
    push: bool,
}

/// What a packet is to the coalescer.
enum Class {
    /// Payload that may join or be joined.
    Segment(Segment),
    /// Passes alone and closes its flow.
    Closes(Flow),
    /// Passes alone and closes all flows between its addresses.
    ClosesPair([u64; 4]),
    /// Passes alone and concerns no flow.
    Alone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    NotYet,
    Right,
    Wrong,
}

/// One packet, or a super-packet being built.
struct Item {
    /// Of the first packet; `None` for what passes alone.
    segment: Option<Segment>,
    open: bool,
    checked: Checked,
    /// Where the first packet starts, and the length of the whole.
    start: usize,
    total: usize,
    count: usize,
    next_sequence: u32,
    /// First and last of its ranges among `Coalescer::ranges`.
    first: u32,
    last: u32,
}

struct Link {
    range: Range<usize>,
    next: u32,
}

/// One batch of packets on its way to TUN. Kept and reused: it allocates only until it has seen its largest batch.
pub struct Coalescer {
    limits: Limits,
    verify: bool,
    items: Vec<Item>,
    ranges: Vec<Link>,
    gathered: Vec<Range<usize>>,
    /// Item number + 1 by hash of the flow; 0 is empty.
    table: [[u16; WAYS]; SETS],
    /// Whether anything is in the table.
    registered: bool,
    /// The item touched last: a hint.
    recent: usize,
}

impl Coalescer {
    /// An empty coalescer for a device that accepts these kinds.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            verify: true,
            items: Vec::new(),
            ranges: Vec::new(),
            gathered: Vec::with_capacity(MAX_RANGES),
            table: [[0; WAYS]; SETS],
            registered: false,
            recent: usize::MAX,
        }
    }

    /// Whether checksums are verified before packets join (they are unless told otherwise). Off is for measuring what it
    /// costs: it would let a wrong checksum leave as a right one.
    pub fn set_verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// Takes one finished IP packet, trimmed to its own length, at `slab[start..start + len]`. Call in order of arrival. A range
    /// outside the slab is the caller's mistake: debug builds assert, others leave it out.
    pub fn push(&mut self, slab: &[u8], start: usize, len: usize) {
        let Some(packet) = start.checked_add(len).and_then(|end| slab.get(start..end)) else {
            debug_assert!(false, "a packet outside its slab");
            return;
        };
        match classify(packet, self.limits) {
            Class::Segment(segment) => self.push_segment(slab, packet, start, &segment),
            Class::Closes(flow) => {
                if let Some(found) = self.find(&flow) {
                    self.items[found].open = false;
                }
                self.pass(start, len);
            }
            Class::ClosesPair(addresses) => {
                self.close_between(addresses);
                self.pass(start, len);
            }
            Class::Alone => self.pass(start, len),
        }
    }

    /// Mends headers in place and emits each item once, in the order of its first packet: the virtio header, and the ranges
    /// of the slab that, one after another, are the packet. Empties the coalescer and keeps its buffers.
    ///
    /// `slab` is the one given to `push`, unchanged since.
    pub fn flush(&mut self, slab: &mut [u8], emit: &mut Emit<'_>) {
        for item in &self.items {
            self.gathered.clear();
            let mut at = item.first;
            while let Some(link) = self.ranges.get(at as usize) {
                self.gathered.push(link.range.clone());
                at = link.next;
            }
            let header = match &item.segment {
                Some(segment) if item.count > 1 => mend(slab, item, segment),
                _ => Some(VirtioNetHdr {
                    flags: if item.checked == Checked::Wrong {
                        0
                    } else {
                        DATA_VALID
                    },
                    ..VirtioNetHdr::default()
                }),
            };
            debug_assert!(header.is_some(), "another slab than was pushed from");
            if let Some(header) = header {
                emit(&header, slab, &self.gathered);
            }
        }
        self.items.clear();
        self.ranges.clear();
        if self.registered {
            self.table = [[0; WAYS]; SETS];
            self.registered = false;
        }
        self.recent = usize::MAX;
    }

    fn push_segment(&mut self, slab: &[u8], packet: &[u8], start: usize, segment: &Segment) {
        let found = self.find(&segment.flow);
        let mut checked = Checked::NotYet;
        if let Some(index) = found {
            if self.items[index].open && may_join(&self.items[index], segment, slab, packet) {
                checked = self.check(packet, segment);
                if checked == Checked::Right && self.first_is_right(index, slab) {
                    self.join(index, segment, start);
                    return;
                }
            }
            self.items[index].open = false;
        }
        let index = self.items.len();
        let range = start..start + packet.len();
        self.add(range, Some(*segment), checked);
        // A wrong checksum and PSH both end an item with its first packet.
        let open = !segment.push && checked != Checked::Wrong && index < MAX_ITEMS;
        self.items[index].open = open;
        if open {
            self.register(&segment.flow, index);
        }
    }

    /// Closes every open item between two addresses. All that is open is in the table.
    fn close_between(&mut self, addresses: [u64; 4]) {
        if !self.registered {
            return;
        }
        for entry in self.table.iter().flatten().filter(|entry| **entry != 0) {
            if let Some(item) = self.items.get_mut(*entry as usize - 1) {
                let concerned = item
                    .segment
                    .as_ref()
                    .is_some_and(|s| s.flow.addresses == addresses);
                item.open &= !concerned;
            }
        }
    }

    fn pass(&mut self, start: usize, len: usize) {
        self.add(start..start + len, None, Checked::NotYet);
    }

    fn add(&mut self, range: Range<usize>, segment: Option<Segment>, checked: Checked) {
        let link = self.ranges.len() as u32;
        self.recent = self.items.len();
        self.items.push(Item {
            segment,
            open: false,
            checked,
            start: range.start,
            total: range.len(),
            count: 1,
            next_sequence: segment.map_or(0, |s| s.sequence.wrapping_add(s.payload as u32)),
            first: link,
            last: link,
        });
        self.ranges.push(Link { range, next: NONE });
    }

    fn join(&mut self, index: usize, segment: &Segment, start: usize) {
        let link = self.ranges.len() as u32;
        let payload = start + segment.headers..start + segment.headers + segment.payload;
        self.ranges.push(Link {
            range: payload,
            next: NONE,
        });
        let item = &mut self.items[index];
        self.ranges[item.last as usize].next = link;
        item.last = link;
        item.count += 1;
        item.total += segment.payload;
        item.next_sequence = segment.sequence.wrapping_add(segment.payload as u32);
        if let Some(first) = &mut item.segment {
            first.push |= segment.push;
            item.open = !segment.push && segment.payload == first.payload;
        }
        self.recent = index;
    }

    fn check(&self, packet: &[u8], segment: &Segment) -> Checked {
        if !self.verify || intact(packet, segment) {
            Checked::Right
        } else {
            Checked::Wrong
        }
    }

    /// An item's first packet is verified when a second one wants to join, so that lone packets cost nothing.
    fn first_is_right(&mut self, index: usize, slab: &[u8]) -> bool {
        let item = &self.items[index];
        if let (Checked::NotYet, Some(segment)) = (item.checked, &item.segment) {
            let packet = slab.get(item.start..item.start + item.total);
            let checked = packet.map_or(Checked::Wrong, |p| self.check(p, segment));
            self.items[index].checked = checked;
        }
        self.items[index].checked == Checked::Right
    }

    /// The flow's last item, if it may be open.
    fn find(&self, flow: &Flow) -> Option<usize> {
        let is = |index: usize| {
            self.items
                .get(index)
                .is_some_and(|i| i.segment.as_ref().is_some_and(|s| s.flow == *flow))
        };
        if is(self.recent) {
            return Some(self.recent);
        }
        let set = &self.table[set_of(flow)];
        set.iter()
            .map(|entry| (*entry as usize).wrapping_sub(1))
            .find(|index| is(*index))
    }

    fn register(&mut self, flow: &Flow, index: usize) {
        let entry = (index + 1) as u16;
        let set = &mut self.table[set_of(flow)];
        let items = &mut self.items;
        let holds = |e: u16| {
            items
                .get((e as usize).wrapping_sub(1))
                .and_then(|i| i.segment)
        };
        let way = set
            .iter()
            .position(|e| holds(*e).is_some_and(|s| s.flow == *flow))
            .or_else(|| set.iter().position(|e| *e == 0))
            .unwrap_or(index % WAYS);
        if let Some(displaced) = items.get_mut((set[way] as usize).wrapping_sub(1)) {
            displaced.open = false;
        }
        set[way] = entry;
        self.registered = true;
    }
}

/// Whether a segment continues an open item; checksums aside.
fn may_join(item: &Item, segment: &Segment, slab: &[u8], packet: &[u8]) -> bool {
    let Some(first) = &item.segment else {
        return false;
    };
    let fits = segment.headers == first.headers
        && segment.traits == first.traits
        && segment.payload <= first.payload
        && item.total + segment.payload <= MAX_TOTAL
        && item.count < MAX_RANGES;
    if !fits {
        return false;
    }
    if segment.protocol == ip::PROTO_UDP {
        return item.count < MAX_UDP_SEGMENTS;
    }
    // Urgent pointer and options.
    let from = first.transport + TCP_CHECKSUM + 2;
    let options = slab.get(item.start + from..item.start + first.headers);
    segment.sequence == item.next_sequence
        && options.is_some()
        && options == packet.get(from..segment.headers)
}

/// Writes the first packet's header anew for the whole item and says what the kernel has to finish.
fn mend(slab: &mut [u8], item: &Item, segment: &Segment) -> Option<VirtioNetHdr> {
    let header = slab.get_mut(item.start..)?.get_mut(..segment.headers)?;
    let transport = segment.transport;
    let pseudo = match segment.ip {
        Ip::V4 => {
            put(header, 2, (item.total as u16).to_be_bytes());
            put(header, 10, [0, 0]);
            let check = checksum::sum(&header[..transport]).checksum();
            put(header, 10, check);
            checksum::pseudo(ip::v4_addresses(header)?, segment.protocol)
        }
        Ip::V6 => {
            put(
                header,
                4,
                ((item.total - ip::V6_HEADER) as u16).to_be_bytes(),
            );
            checksum::pseudo(ip::v6_addresses(header)?, segment.protocol)
        }
    };
    let length = (item.total - transport) as u16;
    let partial = pseudo.word(length).partial();
    let (gso_type, csum_offset) = match (segment.protocol, segment.ip) {
        (ip::PROTO_UDP, _) => {
            put(header, transport + 4, length.to_be_bytes());
            (GSO_UDP_L4, UDP_CHECKSUM)
        }
        (_, family) => {
            if segment.push {
                header[transport + 13] |= PSH;
            }
            (
                if family == Ip::V4 {
                    GSO_TCPV4
                } else {
                    GSO_TCPV6
                },
                TCP_CHECKSUM,
            )
        }
    };
    put(header, transport + csum_offset, partial);
    Some(VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: segment.headers as u16,
        gso_size: segment.payload as u16,
        csum_start: transport as u16,
        csum_offset: csum_offset as u16,
    })
}

/// Whether both checksums of a candidate are right.
fn intact(packet: &[u8], segment: &Segment) -> bool {
    let pseudo = match segment.ip {
        Ip::V4 => {
            let header = packet
                .first_chunk::<{ ip::V4_HEADER }>()
                .filter(|h| checksum::sum_fixed(h).verifies());
            header
                .and_then(|h| h.last_chunk())
                .map(|a: &[u8; 8]| checksum::pseudo(a, segment.protocol))
        }
        Ip::V6 => ip::v6_addresses(packet).map(|a| checksum::pseudo(a, segment.protocol)),
    };
    match (pseudo, packet.get(segment.transport..)) {
        (Some(pseudo), Some(transport)) => pseudo
            .word(transport.len() as u16)
            .bytes(transport)
            .verifies(),
        _ => false,
    }
}

fn set_of(flow: &Flow) -> usize {
    // Multiplicative hashing. A peer that aims for collisions only spoils coalescing.
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = flow.addresses.iter().fold(flow.rest, |h, word| {
        (h.rotate_left(23) ^ word).wrapping_mul(ODD)
    });
    (mixed >> 58) as usize & (SETS - 1)
}

// Inlined, all four: what they return is large, and copying it from call to call stalls on its own stores.
#[allow(clippy::inline_always)]
#[inline(always)]
fn classify(packet: &[u8], limits: Limits) -> Class {
    // What is not one whole, trimmed packet is none of our business.
    if ip::total_len(packet) != Ok(packet.len()) {
        return Class::Alone;
    }
    match ip::version(packet) {
        Some(Ip::V4) => classify_v4(packet, limits),
        Some(Ip::V6) => classify_v6(packet, limits),
        None => Class::Alone,
    }
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn classify_v4(packet: &[u8], limits: Limits) -> Class {
    let Some(h) = packet.first_chunk::<{ ip::V4_HEADER }>() else {
        return Class::Alone;
    };
    if !wanted(h[9], limits) {
        return Class::Alone;
    }
    let addresses = [word(&h[12..20]), 0, 0, 0];
    // Options, or any bit of the fragment field but DF.
    if h[0] != 0x45 || h[6] & 0xbf != 0 || h[7] != 0 {
        return Class::ClosesPair(addresses);
    }
    let equal = u64::from_be_bytes([0, 0, 0, 0, h[0], h[1], h[6], h[8]]);
    classify_transport(packet, Ip::V4, h[9], ip::V4_HEADER, addresses, equal)
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn classify_v6(packet: &[u8], limits: Limits) -> Class {
    let Some(h) = packet.first_chunk::<{ ip::V6_HEADER }>() else {
        return Class::Alone;
    };
    let addresses = [
        word(&h[8..16]),
        word(&h[16..24]),
        word(&h[24..32]),
        word(&h[32..40]),
    ];
    if matches!(h[6], 0 | 43 | 44 | 51 | 60) {
        return Class::ClosesPair(addresses);
    }
    if !wanted(h[6], limits) {
        return Class::Alone;
    }
    let equal = u64::from_be_bytes([0, 0, 0, h[0], h[1], h[2], h[3], h[7]]);
    classify_transport(packet, Ip::V6, h[6], ip::V6_HEADER, addresses, equal)
}

fn wanted(protocol: u8, limits: Limits) -> bool {
    (protocol == ip::PROTO_TCP && limits.tcp) || (protocol == ip::PROTO_UDP && limits.udp)
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn classify_transport(
    packet: &[u8],
    family: Ip,
    protocol: u8,
    transport: usize,
    addresses: [u64; 4],
    equal: u64,
) -> Class {
    let t = &packet[transport..];
    let Some(ports) = t.first_chunk::<4>() else {
        return Class::ClosesPair(addresses);
    };
    let version = if family == Ip::V4 { 4 } else { 6 };
    let rest = u64::from_be_bytes([
        0, 0, version, protocol, ports[0], ports[1], ports[2], ports[3],
    ]);
    let flow = Flow { addresses, rest };
    let segment = Segment {
        flow,
        traits: [equal, 0],
        ip: family,
        protocol,
        transport,
        headers: 0,
        payload: 0,
        sequence: 0,
        push: false,
    };
    if protocol == ip::PROTO_UDP {
        let Some(h) = t.first_chunk::<UDP_HEADER>() else {
            return Class::Closes(flow);
        };
        let length = u16::from_be_bytes([h[4], h[5]]) as usize;
        // A zero checksum is "none" (IPv4) or wrong (IPv6): an item would have one.
        if length != t.len() || t.len() == UDP_HEADER || (h[6], h[7]) == (0, 0) {
            return Class::Closes(flow);
        }
        return Class::Segment(Segment {
            headers: transport + UDP_HEADER,
            payload: t.len() - UDP_HEADER,
            ..segment
        });
    }
    let Some(length) = tcp_header_len(t) else {
        return Class::Closes(flow);
    };
    let flags = t[13];
    if flags & !PSH != ACK || length == t.len() {
        return Class::Closes(flow);
    }
    // Acknowledgement, data offset with its reserved bits, window.
    let fields = word(&[t[8], t[9], t[10], t[11], t[12], 0, t[14], t[15]]);
    Class::Segment(Segment {
        traits: [equal, fields],
        headers: transport + length,
        payload: t.len() - length,
        sequence: u32::from_be_bytes([t[4], t[5], t[6], t[7]]),
        push: flags & PSH != 0,
        ..segment
    })
}

/// Eight bytes as one word.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |b| u64::from_ne_bytes(*b))
}
