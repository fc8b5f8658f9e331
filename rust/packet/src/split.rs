//! From what the kernel hands over on TUN to finished packets: segmentation and checksums, in user space.
//!
//! With offloads on, a read yields up to 64 KiB of one TCP or UDP flow under one header: one read and one route lookup
//! instead of forty-five. The price is cutting it up here, on every byte sent, so each payload byte is touched once: copied
//! into the send buffer and summed in the same pass. What is equal in all segments' headers is summed once; a segment then
//! costs the copy of its header, a few patched fields and two folds.
//!
//! What changes from segment to segment (RFC 9293, and what the kernel's own segmentation does):
//! - IPv4: total length, identification (+1 each), header checksum. IPv6: payload length.
//! - TCP: sequence number; FIN and PSH on the last alone; CWR on the first alone; checksum.
//! - UDP: length, checksum (never zero).
//!
//! What is not believed: `hdr_len` (wrong on forwarded packets; lengths come from the headers themselves), a `csum_start` that
//! differs from where the transport header is, a `gso_size` of zero, a type that contradicts the packet. All that is
//! `Malformed`. UDP fragmentation offload, unknown types and segmentation behind an IPv6 routing header (whose pseudo-header
//! has another destination than the header) are `Unsupported`: they are never offered by the kernel for what we enable.

use crate::checksum::{self, Sum};
use crate::ip::{self, Fragment, Ip, Layout};
use crate::virtio::{
    VirtioNetHdr, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM,
};

/// The fixed TCP header.
pub(crate) const TCP_HEADER: usize = 20;
/// The UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// Where TCP keeps its checksum.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Where UDP keeps its checksum.
pub(crate) const UDP_CHECKSUM: usize = 6;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;

/// Where finished packets go.
pub trait SegmentSink {
    /// Room for one packet of exactly `len` bytes, or `None` when full. Each is filled before the next is asked for.
    fn place(&mut self, len: usize) -> Option<&mut [u8]>;
}

/// Why a packet could not be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// The packet or its description contradicts itself; nothing was placed.
    Malformed,
    /// A kind of offload that was never enabled; nothing was placed.
    Unsupported,
    /// The sink had no more room. What it took before is finished and in order; the packet's rest is not in it.
    Full,
}

/// Turns one packet read from TUN (starting at its IP header), described by `hdr`, into 1..n finished IP packets, checksums
/// complete, in the sink. Returns how many. Bytes behind the packet's own total length are left out.
#[inline]
pub fn split(
    hdr: &VirtioNetHdr,
    packet: &[u8],
    sink: &mut impl SegmentSink,
) -> Result<usize, SplitError> {
    let total = ip::total_len(packet).map_err(|_| SplitError::Malformed)?;
    let packet = &packet[..total];
    match hdr.gso_type {
        GSO_NONE if hdr.flags & NEEDS_CSUM == 0 => {
            place(sink, total)?.copy_from_slice(packet);
            Ok(1)
        }
        GSO_NONE => complete(hdr, packet, sink),
        _ => match hdr.gso_type & !GSO_ECN {
            GSO_TCPV4 => split_tcp(hdr, packet, Ip::V4, sink),
            GSO_TCPV6 => split_tcp(hdr, packet, Ip::V6, sink),
            GSO_UDP_L4 if hdr.gso_type & GSO_ECN == 0 => split_udp(hdr, packet, sink),
            GSO_NONE | GSO_UDP_L4 => Err(SplitError::Malformed), // with the ECN bit, which speaks of TCP
            _ => Err(SplitError::Unsupported),
        },
    }
}

/// One packet whose checksum field holds the pseudo-header's sum: copied, summed from `csum_start`, completed.
fn complete(
    hdr: &VirtioNetHdr,
    packet: &[u8],
    sink: &mut impl SegmentSink,
) -> Result<usize, SplitError> {
    let start = hdr.csum_start as usize;
    let field = start + hdr.csum_offset as usize;
    let ip_header = match ip::version(packet) {
        Some(Ip::V4) => (packet[0] & 15) as usize * 4,
        _ => ip::V6_HEADER,
    };
    if start < ip_header || field + 2 > packet.len() {
        return Err(SplitError::Malformed);
    }
    let out = place(sink, packet.len())?;
    let (head, body) = out.split_at_mut(start);
    head.copy_from_slice(&packet[..start]);
    let sum = checksum::copy(body, &packet[start..]);
    // Zero never goes out: for UDP it would mean "no checksum", for TCP 0xffff says the same.
    put(out, field, sum.checksum_nonzero());
    Ok(1)
}

/// What both protocols need to cut a super-packet.
struct Super<'a> {
    packet: &'a [u8],
    at: Layout,
    /// All headers' length.
    headers: usize,
    size: usize,
    /// IPv4 only: the sum of the header without total length, identification and checksum; and the first identification.
    ip_sum: Sum,
    id: u16,
    /// The pseudo-header without its length.
    pseudo: Sum,
}

impl<'a> Super<'a> {
    fn new(
        hdr: &VirtioNetHdr,
        packet: &'a [u8],
        protocol: u8,
        checksum_at: usize,
        transport_header: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<Self, SplitError> {
        let at = ip::layout(packet).ok_or(SplitError::Malformed)?;
        let transport = packet.get(at.transport..).ok_or(SplitError::Malformed)?;
        let length = transport_header(transport).ok_or(SplitError::Malformed)?;
        let described = hdr.flags & NEEDS_CSUM == 0
            || (hdr.csum_start as usize == at.transport && hdr.csum_offset as usize == checksum_at);
        if at.protocol != protocol
            || at.fragment != Fragment::Whole
            || !described
            || hdr.gso_size == 0
        {
            return Err(SplitError::Malformed);
        }
        if at.routed {
            return Err(SplitError::Unsupported);
        }
        let (ip_sum, id, pseudo) = match at.ip {
            Ip::V4 => {
                let addresses = ip::v4_addresses(packet).ok_or(SplitError::Malformed)?;
                let sum = checksum::sum(&packet[..2])
                    .bytes(&packet[6..10])
                    .bytes(&packet[12..at.transport]);
                let id = u16::from_be_bytes([packet[4], packet[5]]);
                (sum, id, checksum::pseudo(addresses, protocol))
            }
            Ip::V6 => {
                let addresses = ip::v6_addresses(packet).ok_or(SplitError::Malformed)?;
                (Sum::new(), 0, checksum::pseudo(addresses, protocol))
            }
        };
        Ok(Self {
            packet,
            at,
            headers: at.transport + length,
            size: hdr.gso_size as usize,
            ip_sum,
            id,
            pseudo,
        })
    }

    /// Segments, at least one.
    fn count(&self) -> usize {
        (self.packet.len() - self.headers)
            .div_ceil(self.size)
            .max(1)
    }

    /// Places segment `i` with its headers copied and its IP header patched. Returns it with the sum of its payload and the
    /// pseudo-header.
    #[inline]
    fn segment<'s>(
        &self,
        i: usize,
        sink: &'s mut impl SegmentSink,
    ) -> Result<(&'s mut [u8], Sum), SplitError> {
        let from = self.headers + i * self.size;
        let payload = &self.packet[from..self.packet.len().min(from + self.size)];
        let total = self.headers + payload.len();
        let out = place(sink, total)?;
        let (head, body) = out.split_at_mut(self.headers);
        head.copy_from_slice(&self.packet[..self.headers]);
        let sum = checksum::copy(body, payload);
        match self.at.ip {
            Ip::V4 => {
                let id = self.id.wrapping_add(i as u16);
                put(head, 2, (total as u16).to_be_bytes());
                put(head, 4, id.to_be_bytes());
                put(head, 10, self.ip_sum.word(total as u16).word(id).checksum());
            }
            Ip::V6 => put(head, 4, ((total - ip::V6_HEADER) as u16).to_be_bytes()),
        }
        Ok((
            out,
            sum.plus(self.pseudo)
                .word((total - self.at.transport) as u16),
        ))
    }
}

fn split_tcp(
    hdr: &VirtioNetHdr,
    packet: &[u8],
    family: Ip,
    sink: &mut impl SegmentSink,
) -> Result<usize, SplitError> {
    if ip::version(packet) != Some(family) {
        return Err(SplitError::Malformed);
    }
    let whole = Super::new(hdr, packet, ip::PROTO_TCP, TCP_CHECKSUM, tcp_header_len)?;
    let tcp = whole.at.transport;
    let fixed = packet
        .get(tcp..whole.headers)
        .and_then(|h| h.first_chunk::<TCP_HEADER>())
        .ok_or(SplitError::Malformed)?;
    let sequence = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let (offset, flags) = (fixed[12], fixed[13]);
    // All but sequence number, flags and checksum: the same in every segment.
    let header_sum = checksum::sum(&packet[tcp..tcp + 4])
        .bytes(&packet[tcp + 8..tcp + 12])
        .bytes(&packet[tcp + 14..tcp + 16])
        .bytes(&packet[tcp + 18..whole.headers])
        .plus(whole.pseudo);
    let whole = Super {
        pseudo: header_sum,
        ..whole
    };
    let count = whole.count();
    for i in 0..count {
        let (out, sum) = whole.segment(i, sink)?;
        let sequence = sequence.wrapping_add((i * whole.size) as u32);
        let mut flags = flags;
        if i > 0 {
            flags &= !CWR;
        }
        if i + 1 < count {
            flags &= !(FIN | PSH);
        }
        let sum = sum.long(sequence).word(u16::from_be_bytes([offset, flags]));
        out[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        out[tcp + 13] = flags;
        put(out, tcp + TCP_CHECKSUM, sum.checksum());
    }
    Ok(count)
}

fn split_udp(
    hdr: &VirtioNetHdr,
    packet: &[u8],
    sink: &mut impl SegmentSink,
) -> Result<usize, SplitError> {
    let whole = Super::new(hdr, packet, ip::PROTO_UDP, UDP_CHECKSUM, |udp| {
        (udp.len() >= UDP_HEADER).then_some(UDP_HEADER)
    })?;
    let udp = whole.at.transport;
    let whole = Super {
        pseudo: whole.pseudo.bytes(&packet[udp..udp + 4]),
        ..whole
    };
    let count = whole.count();
    for i in 0..count {
        let (out, sum) = whole.segment(i, sink)?;
        let length = (out.len() - udp) as u16;
        put(out, udp + 4, length.to_be_bytes());
        put(out, udp + UDP_CHECKSUM, sum.word(length).checksum_nonzero());
    }
    Ok(count)
}

/// The TCP header's length by its data offset, if it has its twenty bytes and fits.
pub(crate) fn tcp_header_len(tcp: &[u8]) -> Option<usize> {
    let len = (tcp.get(12)? >> 4) as usize * 4;
    (len >= TCP_HEADER && len <= tcp.len()).then_some(len)
}

/// Two bytes at an offset that the caller has checked to lie inside.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, value: [u8; 2]) {
    bytes[at..at + 2].copy_from_slice(&value);
}

/// A place of exactly `len` bytes. A sink that hands out less is as good as full.
#[inline]
fn place(sink: &mut impl SegmentSink, len: usize) -> Result<&mut [u8], SplitError> {
    sink.place(len)
        .and_then(|room| room.get_mut(..len))
        .ok_or(SplitError::Full)
}
