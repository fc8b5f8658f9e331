//! Where one turn's packets lie, from the device's read to the send: each behind the room for its delivery header.
//!
//! ```text
//! | headroom | inner packet | headroom | inner packet | ...
//!   ^ written by encapsulation
//! ```
//!
//! Places follow each other without gaps, so that neighbours of one size leave over UDP as one segmented message with one gather entry.

use ginnel_packet::split::SegmentSink;

/// What one turn may fill: a super-packet cut as finely as can be, on top of all that a turn has before it.
const SIZE: usize = 640 << 10;
/// Another read is begun only while this much is free: 64 KiB cut into segments of 36 bytes, what the smallest MSS that Linux takes leaves beside
/// timestamps, become 1,820 times 40 + 32 + 36 bytes, 64 of delivery headers and 22 of Ethernet.
const RESERVE: usize = 384 << 10;

/// One packet in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Of the inner packet or frame; its headroom is before it.
    pub start: usize,
    pub len: usize,
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

    /// For `rewind`.
    pub fn mark(&self) -> (usize, usize) {
        (self.placed.len(), self.used)
    }

    /// Takes back what was placed since.
    pub fn rewind(&mut self, (count, used): (usize, usize)) {
        self.placed.truncate(count);
        self.used = used;
    }

    /// Places packets behind *headroom* bytes each, and behind a copy of *link*, the Ethernet header that all of them have (or nothing).
    pub fn placer<'a>(&'a mut self, headroom: usize, link: &'a [u8]) -> Placer<'a> {
        Placer {
            slab: self,
            headroom,
            link,
        }
    }

    /// One finished packet; false when it does not fit.
    pub fn copy(&mut self, headroom: usize, packet: &[u8]) -> bool {
        match self.placer(headroom, &[]).place(packet.len()) {
            Some(place) => {
                place.copy_from_slice(packet);
                true
            }
            None => false,
        }
    }
}

pub(crate) struct Placer<'a> {
    slab: &'a mut Slab,
    headroom: usize,
    link: &'a [u8],
}

impl SegmentSink for Placer<'_> {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.slab.used + self.headroom;
        let behind = start + self.link.len();
        let end = behind + len;
        if end > self.slab.bytes.len() {
            return None;
        }
        self.slab.bytes[start..behind].copy_from_slice(self.link);
        self.slab.placed.push(Placed {
            start,
            len: end - start,
        });
        self.slab.used = end;
        Some(&mut self.slab.bytes[behind..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_gre::outer;
    use ginnel_packet::split::split;
    use ginnel_packet::virtio::{VirtioNetHdr, GSO_TCPV4, NEEDS_CSUM};

    /// An application may have the smallest MSS, by its peer's wish: its super-packets fit whenever they are read at all.
    #[test]
    fn the_most_finely_cut_super_packet_fits_into_the_reserve() {
        const HEADERS: usize = 20 + 32;
        let mut packet = vec![0; 65_535];
        packet[..4].copy_from_slice(&[0x45, 0, 0xff, 0xff]);
        packet[8..10].copy_from_slice(&[64, 6]);
        packet[32] = 0x80;
        let header = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: HEADERS as u16,
            gso_size: 36,
            csum_start: 20,
            csum_offset: 16,
        };
        let mut slab = Slab::new();
        slab.used = SIZE - RESERVE;
        assert!(slab.has_room());
        let link = [0; 22];
        let mut placer = slab.placer(outer::MAX_LEN, &link);
        let count = (packet.len() - HEADERS).div_ceil(36);
        assert_eq!(split(&header, &packet, &mut placer), Ok(count));
        assert!(slab.used <= SIZE);
    }

    #[test]
    fn each_place_has_its_headroom_and_its_link_header() {
        let mut slab = Slab::new();
        let mut placer = slab.placer(24, &[1, 2, 3]);
        for value in [7, 8] {
            if let Some(place) = placer.place(5) {
                place.fill(value);
            }
        }
        assert_eq!(
            slab.placed,
            [Placed { start: 24, len: 8 }, Placed { start: 56, len: 8 }]
        );
        assert_eq!(&slab.bytes[24..32], &[1, 2, 3, 7, 7, 7, 7, 7]);
        assert_eq!(&slab.bytes[56..64], &[1, 2, 3, 8, 8, 8, 8, 8]);
    }
}
