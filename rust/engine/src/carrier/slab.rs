//! Where one turn's packets lie, from the device's read to the send: each between the room for its headers and that for ESP's trailer.
//!
//! ```text
//! | headroom | inner packet | tailroom | headroom | inner packet | tailroom | ...
//!   ^ written by encapsulation and protection ^
//! ```
//!
//! Places follow each other without gaps, so that neighbours of one size leave over UDP as one segmented message with one gather entry.
//! The tailroom is to the byte what ESP needs behind this packet; plain tunnels have none.

use ginnel_crypto::esp::Suite;
use ginnel_esp::layout;
use ginnel_packet::split::SegmentSink;

/// What one turn may fill: a super-packet cut as finely as can be, on top of all that a turn has before it.
const SIZE: usize = 832 << 10;
/// Another read is begun only while this much is free: 64 KiB cut into segments of 36 bytes, what the smallest MSS that Linux takes leaves beside
/// timestamps, become 1,820 times 40 + 32 + 36 bytes, 64 of delivery headers and 22 of Ethernet; protected 113 more: another delivery
/// header (40), ESP's (24) and what is behind (49).
const RESERVE: usize = 576 << 10;

/// One packet in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Of the inner packet or frame; its headroom is before it.
    pub start: usize,
    pub len: usize,
}

/// What a packet needs around itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes before the inner packet.
    pub before: usize,
    /// With ESP behind it.
    pub trailer: Option<Trailer>,
}

/// ESP's padding, trailer and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub suite: Suite,
    /// Bytes of encapsulation that are protected with the packet.
    pub inside: usize,
}

impl Room {
    /// For what is finished.
    pub const NONE: Self = Self {
        before: 0,
        trailer: None,
    };

    pub fn before(before: usize) -> Self {
        Self {
            before,
            trailer: None,
        }
    }

    /// Bytes behind an inner packet of this length.
    #[inline]
    fn behind(self, len: usize) -> usize {
        self.trailer.map_or(0, |Trailer { suite, inside }| {
            let payload = inside + len;
            layout::text_len(suite, payload) - payload + suite.icv_len()
        })
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

    /// For `rewind`.
    pub fn mark(&self) -> (usize, usize) {
        (self.placed.len(), self.used)
    }

    /// Takes back what was placed since.
    pub fn rewind(&mut self, (count, used): (usize, usize)) {
        self.placed.truncate(count);
        self.used = used;
    }

    /// Places packets with *room* around each, and behind a copy of *link*, the Ethernet header that all of them have (or nothing).
    pub fn placer<'a>(&'a mut self, room: Room, link: &'a [u8]) -> Placer<'a> {
        Placer {
            slab: self,
            room,
            link,
        }
    }

    /// One finished packet; false when it does not fit.
    pub fn copy(&mut self, room: Room, packet: &[u8]) -> bool {
        match self.placer(room, &[]).place(packet.len()) {
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
    room: Room,
    link: &'a [u8],
}

impl SegmentSink for Placer<'_> {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.slab.used + self.room.before;
        let behind = start + self.link.len();
        let end = behind + len;
        let used = end + self.room.behind(end - start);
        if used > self.slab.bytes.len() {
            return None;
        }
        self.slab.bytes[start..behind].copy_from_slice(self.link);
        self.slab.placed.push(Placed {
            start,
            len: end - start,
        });
        self.slab.used = used;
        Some(&mut self.slab.bytes[behind..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ginnel_gre::outer;
    use ginnel_packet::split::split;
    use ginnel_packet::virtio::{VirtioNetHdr, GSO_TCPV4, NEEDS_CSUM};

    /// The most that any tunnel needs around a packet.
    fn largest_room() -> Room {
        let suite = Suite::all().max_by_key(|suite| layout::sealed_len(*suite, 0));
        Room {
            before: 40 + layout::MAX_HEADROOM + outer::MAX_LEN,
            trailer: suite.map(|suite| Trailer {
                suite,
                inside: outer::MAX_LEN,
            }),
        }
    }

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
        let mut placer = slab.placer(largest_room(), &link);
        let count = (packet.len() - HEADERS).div_ceil(36);
        assert_eq!(split(&header, &packet, &mut placer), Ok(count));
        assert!(slab.used <= SIZE);
    }

    #[test]
    fn each_place_has_its_headroom_and_its_link_header() {
        let mut slab = Slab::new();
        let mut placer = slab.placer(Room::before(24), &[1, 2, 3]);
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

    #[test]
    fn behind_each_is_what_esp_needs_and_not_a_byte_more() {
        for suite in Suite::all() {
            let inside = 24;
            let mut slab = Slab::new();
            let room = Room {
                before: layout::headroom(suite) + inside,
                trailer: Some(Trailer { suite, inside }),
            };
            let mut expected = 0;
            for len in 0..300 {
                assert!(slab.copy(room, &vec![1; len]));
                expected += layout::sealed_len(suite, inside + len);
                assert_eq!(slab.used, expected, "{} {len}", suite.name());
            }
        }
    }
}
