//! Where one turn's packets lie, from the device's read to the send: each in the place it is sent from.
//!
//! ```text
//! | 16 header | inner packet | zeros to 16 | 16 tag | 16 header | inner packet | ...
//!   ^ type 4, index, counter                ^ written by sealing
//! ```
//!
//! Places follow each other without gaps, so that neighbours of one size leave as one segmented message with one gather entry.

use ginnel_crypto::TAG_SIZE;
use ginnel_packet::ip;
use ginnel_packet::split::SegmentSink;

/// Bytes before the inner packet: type, index, counter.
pub(crate) const HEADER: usize = 16;
/// What one turn may fill. A super-packet grows when split (headers, padding, tags): with 36 bytes of payload a segment, what the smallest
/// MSS that Linux takes leaves beside timestamps, 64 KiB become 228 KiB.
const SIZE: usize = 448 << 10;
/// Another read is begun only while this much is free.
const RESERVE: usize = 256 << 10;

/// One packet in the slab, ready to be sealed.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    /// Of the inner packet; the header is before it.
    pub start: usize,
    /// Padded.
    pub len: usize,
    /// Not padded; 0 for a keepalive.
    pub inner_len: usize,
    pub ecn: u8,
}

impl Placed {
    /// Header, padded packet and tag: where they begin, and how long they are.
    pub fn message(self) -> (usize, usize) {
        (self.start - HEADER, HEADER + self.len + TAG_SIZE)
    }
}

pub(crate) struct Slab {
    pub bytes: Vec<u8>,
    pub placed: Vec<Placed>,
    used: usize,
}

impl Slab {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SIZE],
            placed: Vec::new(),
            used: 0,
        }
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.placed.clear();
    }

    /// Whether any super-packet still fits, however finely it is cut.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.used >= RESERVE
    }

    /// The inner packet of a place, without its padding.
    pub fn inner(&self, placed: Placed) -> &[u8] {
        &self.bytes[placed.start..placed.start + placed.inner_len]
    }

    /// Takes back what was placed since there were *count* places, and *used* bytes.
    pub fn rewind(&mut self, (count, used): (usize, usize)) {
        self.placed.truncate(count);
        self.used = used;
    }

    /// For `rewind`.
    pub fn mark(&self) -> (usize, usize) {
        (self.placed.len(), self.used)
    }

    pub fn placer(&mut self, mtu: usize, ecn: u8) -> Placer<'_> {
        Placer {
            slab: self,
            mtu,
            ecn,
        }
    }
}

/// Places segments one behind the other, with room for header, padding and tag.
pub(crate) struct Placer<'a> {
    slab: &'a mut Slab,
    mtu: usize,
    ecn: u8,
}

impl SegmentSink for Placer<'_> {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let padded = ip::padded_len(len, self.mtu);
        let start = self.slab.used + HEADER;
        let end = start + padded + TAG_SIZE;
        if end > self.slab.bytes.len() {
            return None;
        }
        self.slab.bytes[start + len..start + padded].fill(0);
        self.slab.placed.push(Placed {
            start,
            len: padded,
            inner_len: len,
            ecn: self.ecn,
        });
        self.slab.used = end;
        Some(&mut self.slab.bytes[start..start + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_packet::split::split;
    use ginnel_packet::virtio::VirtioNetHdr;

    #[test]
    fn the_most_finely_cut_super_packet_fits_into_the_reserve() {
        const HEADERS: usize = 20 + 32;
        let mut packet = vec![0; 65_535];
        packet[..4].copy_from_slice(&[0x45, 0, 0xff, 0xff]);
        packet[8..10].copy_from_slice(&[64, 6]);
        packet[32] = 0x80;
        let header = VirtioNetHdr {
            flags: ginnel_packet::virtio::NEEDS_CSUM,
            gso_type: ginnel_packet::virtio::GSO_TCPV4,
            hdr_len: HEADERS as u16,
            gso_size: 36,
            csum_start: 20,
            csum_offset: 16,
        };
        let mut slab = Slab::new();
        slab.used = SIZE - RESERVE;
        assert!(slab.has_room());
        let mut placer = slab.placer(1420, 0);
        let count = (packet.len() - HEADERS).div_ceil(36);
        assert_eq!(split(&header, &packet, &mut placer), Ok(count));
        assert!(slab.used <= SIZE);
    }
}
