//! The slow and obvious way: what splitting and coalescing mean, one byte and one word at a time.
//!
//! Shares no code with the crate but the header type. Tests and fuzz targets hold the fast way against it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::precedence
)]

use std::ops::Range;

use ginnel_packet::coalesce::{Coalescer, Limits};
use ginnel_packet::split::SegmentSink;
use ginnel_packet::virtio::{
    VirtioNetHdr, DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM,
};

/// A sink that keeps what it is given, up to a number of packets.
pub struct Kept {
    pub packets: Vec<Vec<u8>>,
    pub room: usize,
}

impl Kept {
    pub fn new(room: usize) -> Self {
        Self {
            packets: Vec::new(),
            room,
        }
    }
}

impl SegmentSink for Kept {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.packets.len() == self.room {
            return None;
        }
        self.packets.push(vec![0xcc; len]);
        self.packets.last_mut().map(Vec::as_mut_slice)
    }
}

pub fn be16(b: &[u8], at: usize) -> u16 {
    (b[at] as u16) << 8 | b[at + 1] as u16
}

pub fn set16(b: &mut [u8], at: usize, value: u16) {
    b[at] = (value >> 8) as u8;
    b[at + 1] = value as u8;
}

/// The one's complement sum of 16-bit words, RFC 1071 in its first form.
pub fn ones_sum(parts: &[&[u8]]) -> u16 {
    let mut s = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            s += (pair[0] as u32) * 256 + if pair.len() == 2 { pair[1] as u32 } else { 0 };
            if s > 0xffff {
                s -= 0xffff;
            }
        }
    }
    s as u16
}

/// The pseudo-header's sum, length included.
pub fn pseudo_sum(packet: &[u8], protocol: u8, length: usize) -> u16 {
    let addresses = if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    ones_sum(&[
        addresses,
        &[0, protocol],
        &[(length >> 8) as u8, length as u8],
    ])
}

/// What a packet is, read naively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub total: usize,
    pub transport: usize,
    pub protocol: u8,
    pub fragment: bool,
    /// IPv4 options, IPv6 extension headers, fragments.
    pub odd: bool,
    pub routed: bool,
}

pub fn parse(p: &[u8]) -> Option<Parsed> {
    match p.first()? >> 4 {
        4 if p.len() >= 20 => {
            let (header, total) = ((p[0] & 15) as usize * 4, be16(p, 2) as usize);
            if header < 20 || total < header || total > p.len() {
                return None;
            }
            let fragment = be16(p, 6) & 0x3fff != 0;
            let odd = header != 20 || be16(p, 6) & !0x4000 != 0;
            Some(Parsed {
                total,
                transport: header,
                protocol: p[9],
                fragment,
                odd,
                routed: false,
            })
        }
        6 if p.len() >= 40 => {
            let total = 40 + be16(p, 4) as usize;
            if total > p.len() {
                return None;
            }
            let (mut next, mut at, mut fragment, mut routed, mut count) =
                (p[6], 40, false, false, 0);
            while [0, 43, 44, 51, 60].contains(&next) {
                count += 1;
                if count > 8 || at + 8 > total {
                    return None;
                }
                let len = match next {
                    44 => 8,
                    51 => 4 * (p[at + 1] as usize + 2),
                    _ => 8 * (p[at + 1] as usize + 1),
                };
                routed |= next == 43;
                let kind = next;
                next = p[at];
                let later = kind == 44 && be16(p, at + 2) >> 3 != 0;
                fragment |= kind == 44 && be16(p, at + 2) & 0xfff9 != 0;
                at += len;
                if at > total {
                    return None;
                }
                if later {
                    break;
                }
            }
            Some(Parsed {
                total,
                transport: at,
                protocol: next,
                fragment,
                odd: count > 0,
                routed,
            })
        }
        _ => None,
    }
}

/// Splits as `ginnel_packet::split::split` promises to; `None` for what must be refused.
pub fn split(hdr: &VirtioNetHdr, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let total = match bytes.first()? >> 4 {
        // A packet that is only copied need not have a transport header that can be found.
        4 => parse(bytes)?.total,
        6 if bytes.len() >= 40 => 40 + be16(bytes, 4) as usize,
        _ => return None,
    };
    let packet = bytes.get(..total)?;
    let needs = hdr.flags & NEEDS_CSUM != 0;
    if hdr.gso_type == GSO_NONE {
        let mut out = packet.to_vec();
        if needs {
            let (start, field) = (
                hdr.csum_start as usize,
                hdr.csum_start as usize + hdr.csum_offset as usize,
            );
            let ip_header = if packet[0] >> 4 == 4 {
                (packet[0] & 15) as usize * 4
            } else {
                40
            };
            if start < ip_header || field + 2 > total {
                return None;
            }
            let sum = !ones_sum(&[&packet[start..]]);
            // The field may lie at an odd offset from where the sum starts; it is stored as it is either way.
            set16(&mut out, field, if sum == 0 { 0xffff } else { sum });
        }
        return Some(vec![out]);
    }
    let (protocol, checksum_at) = match hdr.gso_type & !GSO_ECN {
        GSO_TCPV4 if packet[0] >> 4 == 4 => (6, 16),
        GSO_TCPV6 if packet[0] >> 4 == 6 => (6, 16),
        GSO_UDP_L4 if hdr.gso_type == GSO_UDP_L4 => (17, 6),
        _ => return None,
    };
    let at = parse(packet)?;
    let header = at.transport
        + if protocol == 17 {
            8
        } else {
            let len = (packet.get(at.transport + 12)? >> 4) as usize * 4;
            if len < 20 {
                return None;
            }
            len
        };
    let described = !needs
        || (hdr.csum_start as usize == at.transport && hdr.csum_offset as usize == checksum_at);
    if at.protocol != protocol
        || at.fragment
        || at.routed
        || hdr.gso_size == 0
        || header > total
        || !described
    {
        return None;
    }
    let mut chunks: Vec<&[u8]> = packet[header..].chunks(hdr.gso_size as usize).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len() - 1;
    let mut sent = 0u32;
    let mut out = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut p = packet[..header].to_vec();
        p.extend_from_slice(chunk);
        let len = p.len();
        if p[0] >> 4 == 4 {
            set16(&mut p, 2, len as u16);
            let id = be16(&p, 4).wrapping_add(i as u16);
            set16(&mut p, 4, id);
            set16(&mut p, 10, 0);
            let sum = !ones_sum(&[&p[..at.transport]]);
            set16(&mut p, 10, sum);
        } else {
            set16(&mut p, 4, (len - 40) as u16);
        }
        let t = at.transport;
        if protocol == 6 {
            let sequence =
                ((be16(&p, t + 4) as u32) << 16 | be16(&p, t + 6) as u32).wrapping_add(sent);
            set16(&mut p, t + 4, (sequence >> 16) as u16);
            set16(&mut p, t + 6, sequence as u16);
            if i != 0 {
                p[t + 13] &= 0x7f; // CWR
            }
            if i != last {
                p[t + 13] &= 0xf6; // FIN, PSH
            }
        } else {
            set16(&mut p, t + 4, (len - t) as u16);
        }
        set16(&mut p, t + checksum_at, 0);
        let pseudo = pseudo_sum(&p, protocol, len - t);
        let mut sum = !ones_sum(&[&[(pseudo >> 8) as u8, pseudo as u8], &p[t..]]);
        if protocol == 17 && sum == 0 {
            sum = 0xffff;
        }
        set16(&mut p, t + checksum_at, sum);
        sent = sent.wrapping_add(chunk.len() as u32);
        out.push(p);
    }
    Some(out)
}

/// Whether IP header, transport length and transport checksum of a whole packet are right.
pub fn intact(p: &[u8]) -> bool {
    let Some(at) = parse(p) else { return false };
    let length = at.total - at.transport;
    let pseudo = pseudo_sum(p, at.protocol, length);
    let transport = ones_sum(&[
        &[(pseudo >> 8) as u8, pseudo as u8],
        &p[at.transport..at.total],
    ]) == 0xffff;
    transport && (p[0] >> 4 == 6 || ones_sum(&[&p[..at.transport]]) == 0xffff)
}

// ---------------------------------------------------------------- building packets

/// What `tcp` and `udp` build; each field may be changed in place.
#[derive(Clone, Debug)]
pub struct Build {
    pub v6: bool,
    /// Last byte of the addresses.
    pub source: u8,
    pub destination: u8,
    pub ports: (u16, u16),
    pub tos: u8,
    pub ttl: u8,
    pub flow_label: u32,
    pub id: u16,
    /// Flags and fragment offset as they lie.
    pub fragment: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub window: u16,
    pub flags: u8,
    pub urgent: u16,
    pub options: Vec<u8>,
    /// Between the IP header and the transport header: IPv4 options, or IPv6 extension headers beginning with hop-by-hop.
    pub extra: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            v6: false,
            source: 1,
            destination: 2,
            ports: (40_000, 5201),
            tos: 0,
            ttl: 64,
            flow_label: 0x12345,
            id: 1,
            fragment: 0x4000,
            sequence: 1,
            acknowledgement: 77,
            window: 1000,
            flags: 0x10,
            urgent: 0,
            options: Vec::new(),
            extra: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Build {
    /// The IP header around a finished transport part; lengths and the IPv4 checksum set.
    pub fn around(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let body = self.extra.len() + transport.len();
        let mut p = Vec::new();
        if self.v6 {
            p.extend([
                0x60 | self.tos >> 4,
                self.tos << 4 | (self.flow_label >> 16) as u8 & 15,
            ]);
            p.extend((self.flow_label as u16).to_be_bytes());
            p.extend((body as u16).to_be_bytes());
            p.extend([if self.extra.is_empty() { protocol } else { 0 }, self.ttl]);
            p.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.source]);
            p.extend([
                0xfd,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                self.destination,
            ]);
        } else {
            p.extend([0x45 + (self.extra.len() / 4) as u8, self.tos]);
            p.extend(((20 + body) as u16).to_be_bytes());
            p.extend(self.id.to_be_bytes());
            p.extend(self.fragment.to_be_bytes());
            p.extend([
                self.ttl,
                protocol,
                0,
                0,
                10,
                0,
                0,
                self.source,
                10,
                0,
                0,
                self.destination,
            ]);
        }
        p.extend(&self.extra);
        if !self.v6 {
            let sum = !ones_sum(&[&p]);
            set16(&mut p, 10, sum);
        }
        p.extend(transport);
        p
    }

    pub fn tcp(&self) -> Vec<u8> {
        let mut t = Vec::new();
        t.extend(self.ports.0.to_be_bytes());
        t.extend(self.ports.1.to_be_bytes());
        t.extend(self.sequence.to_be_bytes());
        t.extend(self.acknowledgement.to_be_bytes());
        t.extend([((20 + self.options.len()) / 4 << 4) as u8, self.flags]);
        t.extend(self.window.to_be_bytes());
        t.extend([0, 0]);
        t.extend(self.urgent.to_be_bytes());
        t.extend(&self.options);
        t.extend(&self.payload);
        self.finished(6, t, 16)
    }

    pub fn udp(&self) -> Vec<u8> {
        let mut t = Vec::new();
        t.extend(self.ports.0.to_be_bytes());
        t.extend(self.ports.1.to_be_bytes());
        t.extend(((8 + self.payload.len()) as u16).to_be_bytes());
        t.extend([0, 0]);
        t.extend(&self.payload);
        self.finished(17, t, 6)
    }

    fn finished(&self, protocol: u8, mut t: Vec<u8>, field: usize) -> Vec<u8> {
        let shell = self.around(protocol, &[]);
        let pseudo = pseudo_sum(&shell, protocol, t.len());
        let sum = !ones_sum(&[&[(pseudo >> 8) as u8, pseudo as u8], &t]);
        set16(&mut t, field, if sum == 0 { 0xffff } else { sum });
        self.around(protocol, &t)
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x >> 11) as u8
        })
        .collect()
}

// ---------------------------------------------------------------- the law of coalescing

/// One emitted item: its header, the whole packet, and which of the pushed packets it is made of.
#[derive(Clone, Debug)]
pub struct Emitted {
    pub hdr: VirtioNetHdr,
    pub packet: Vec<u8>,
    pub members: Vec<usize>,
}

/// Lays packets into a slab with room around them, as they lie after decryption.
pub fn lay(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut slab = Vec::new();
    let mut places = Vec::new();
    for packet in packets {
        slab.extend([0xa5; 16]);
        places.push(slab.len()..slab.len() + packet.len());
        slab.extend(packet);
        slab.extend([0x5a; 31]);
    }
    (slab, places)
}

/// Pushes a batch, flushes, and checks everything that must hold whatever the packets are.
pub fn coalesce(coalescer: &mut Coalescer, limits: Limits, packets: &[Vec<u8>]) -> Vec<Emitted> {
    let (mut slab, places) = lay(packets);
    let before = slab.clone();
    for place in &places {
        coalescer.push(&slab, place.start, place.len());
    }
    assert_eq!(slab, before);
    let mut items = Vec::new();
    coalescer.flush(&mut slab, &mut |hdr, slab, ranges| {
        let members = ranges
            .iter()
            .map(|r| {
                places
                    .iter()
                    .position(|p| p.start <= r.start && r.end <= p.end && r.end == p.end)
                    .unwrap()
            })
            .collect::<Vec<_>>();
        let packet = ranges
            .iter()
            .flat_map(|r| slab[r.clone()].to_vec())
            .collect();
        assert_eq!(
            ranges[0], places[members[0]],
            "an item begins with a whole packet"
        );
        items.push(Emitted {
            hdr: *hdr,
            packet,
            members,
        });
    });
    for item in &items {
        check_item(item, limits, packets);
    }
    check_order(&items, packets);
    items
}

fn check_item(item: &Emitted, limits: Limits, packets: &[Vec<u8>]) {
    if item.members.len() == 1 {
        assert_eq!(
            item.packet, packets[item.members[0]],
            "a lone packet goes unmodified"
        );
        let plain = VirtioNetHdr {
            flags: item.hdr.flags,
            ..VirtioNetHdr::default()
        };
        assert_eq!(item.hdr, plain);
        assert_eq!(item.hdr.flags & !DATA_VALID, 0);
        return;
    }
    // The law: splitting gives back what was joined, but for the identification.
    let parts = split(&item.hdr, &item.packet).expect("an item is a right super-packet");
    assert_eq!(parts.len(), item.members.len());
    for (k, (part, member)) in parts.iter().zip(&item.members).enumerate() {
        let original = &packets[*member];
        assert!(intact(original), "a wrong checksum was laundered");
        let mut expected = original.clone();
        if k > 0 && expected[0] >> 4 == 4 {
            set16(&mut expected, 4, be16(part, 4));
            set16(&mut expected, 10, be16(part, 10));
        }
        assert_eq!(part, &expected, "segment {k} of {:?}", item.hdr);
    }
    // And what the kernel wants to find.
    let at = parse(&item.packet).unwrap();
    assert_eq!(at.total, item.packet.len());
    assert!(at.total <= 65_535 && item.members.len() <= 128);
    let tcp = at.protocol == 6;
    assert!(if tcp {
        limits.tcp
    } else {
        limits.udp && item.members.len() <= 64
    });
    let field = if tcp { 16 } else { 6 };
    let header = at.transport
        + if tcp {
            (item.packet[at.transport + 12] >> 4) as usize * 4
        } else {
            8
        };
    assert_eq!(item.hdr.flags, NEEDS_CSUM);
    assert_eq!(
        (item.hdr.csum_start as usize, item.hdr.csum_offset as usize),
        (at.transport, field)
    );
    assert_eq!(item.hdr.hdr_len as usize, header);
    assert_eq!(
        item.hdr.gso_size as usize,
        packets[item.members[0]].len() - header
    );
    let partial = be16(&item.packet, at.transport + field);
    let pseudo = pseudo_sum(&item.packet, at.protocol, at.total - at.transport);
    assert_eq!(partial % 0xffff, pseudo % 0xffff);
    if !tcp {
        assert_eq!(
            be16(&item.packet, at.transport + 4) as usize,
            at.total - at.transport
        );
    }
    assert!(item.packet[0] >> 4 == 6 || ones_sum(&[&item.packet[..at.transport]]) == 0xffff);
}

/// Every packet once; items in the order of their first packets; no packet of a flow ahead of an earlier one.
fn check_order(items: &[Emitted], packets: &[Vec<u8>]) {
    let firsts: Vec<usize> = items.iter().map(|i| i.members[0]).collect();
    assert!(firsts.is_sorted(), "{firsts:?}");
    let out: Vec<usize> = items.iter().flat_map(|i| i.members.clone()).collect();
    let mut all = out.clone();
    all.sort_unstable();
    assert_eq!(
        all,
        (0..packets.len()).collect::<Vec<_>>(),
        "each packet exactly once"
    );
    for (n, later) in out.iter().enumerate() {
        for earlier in &out[..n] {
            assert!(
                earlier < later || !related(&packets[*earlier], &packets[*later]),
                "packet {earlier} went ahead of packet {later} of its flow"
            );
        }
    }
}

/// Same flow, or same protocol between the same addresses and one of them a packet whose flow is not plain.
fn related(a: &[u8], b: &[u8]) -> bool {
    let (Some(pa), Some(pb)) = (parse(a), parse(b)) else {
        return false;
    };
    if a[0] >> 4 != b[0] >> 4 {
        return false;
    }
    let addresses = if a[0] >> 4 == 4 { 12..20 } else { 8..40 };
    if a[addresses.clone()] != b[addresses] {
        return false;
    }
    let carried = |p: Parsed| p.protocol == 6 || p.protocol == 17;
    let ports = |x: &[u8], p: Parsed| x.get(p.transport..p.transport + 4).map(<[u8]>::to_vec);
    if !carried(pa) || !carried(pb) {
        return false;
    }
    pa.protocol == pb.protocol && (pa.odd || pb.odd || ports(a, pa) == ports(b, pb))
}
