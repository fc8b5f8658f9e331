//! The virtio-net header that precedes every packet on a TUN device opened with `IFF_VNET_HDR`.
//!
//! Ten bytes in the machine's own order (TUN's default; `TUNSETVNETLE` is not used):
//!
//! ```text
//!  0      1         2        4         6           8
//! | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |
//! ```
//!
//! Read: the kernel says what it left to us, a checksum (`NEEDS_CSUM`: the field at `csum_start + csum_offset` holds the
//! pseudo-header's partial sum) or segmentation. Written: we say the same to the kernel.
//! Offsets count from the IP header. Source: virtio 1.2, 5.1.6; `linux/virtio_net.h`.

/// The checksum is partial and wants completing from `csum_start` to the end.
pub const NEEDS_CSUM: u8 = 1;
/// The checksums were verified, or vouched for.
pub const DATA_VALID: u8 = 2;

/// One plain packet.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4, to be cut into segments of `gso_size` bytes of payload.
pub const GSO_TCPV4: u8 = 1;
/// UDP fragmentation offload of old kernels: one datagram, to be *fragmented*. Never enabled, so never taken.
pub const GSO_UDP: u8 = 3;
/// TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// UDP segmentation: equal datagrams but for a shorter last one.
pub const GSO_UDP_L4: u8 = 5;
/// A bit beside a TCP type: CWR is set, and belongs on the first segment alone.
pub const GSO_ECN: u8 = 0x80;

/// The header's fields, in host values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioNetHdr {
    /// `NEEDS_CSUM`, `DATA_VALID`.
    pub flags: u8,
    /// One of the `GSO_` constants, perhaps with `GSO_ECN`.
    pub gso_type: u8,
    /// All headers' length as the sender believes it: a hint, wrong on forwarded packets.
    pub hdr_len: u16,
    /// Payload bytes of one segment.
    pub gso_size: u16,
    /// Where checksumming starts.
    pub csum_start: u16,
    /// Where the checksum goes, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VirtioNetHdr {
    /// Bytes on the device.
    pub const SIZE: usize = 10;

    /// From the first `SIZE` bytes; `None` when there are fewer. Any value is a header: judging it is `split`'s task.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<{ Self::SIZE }>()?;
        let field = |i: usize| u16::from_ne_bytes([b[i], b[i + 1]]);
        Some(Self {
            flags: b[0],
            gso_type: b[1],
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
        })
    }

    /// As it is written to the device.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[0] = self.flags;
        out[1] = self.gso_type;
        for (i, field) in [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ]
        .into_iter()
        .enumerate()
        {
            out[2 + 2 * i..4 + 2 * i].copy_from_slice(&field.to_ne_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BYTES: [u8; 10] = if cfg!(target_endian = "little") {
        [1, 0x81, 0x36, 0, 0x64, 0x05, 20, 0, 16, 0]
    } else {
        [1, 0x81, 0, 0x36, 0x05, 0x64, 0, 20, 0, 16]
    };
    const HEADER: VirtioNetHdr = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4 | GSO_ECN,
        hdr_len: 54,
        gso_size: 1380,
        csum_start: 20,
        csum_offset: 16,
    };

    #[test]
    fn literal_bytes_both_ways() {
        assert_eq!(VirtioNetHdr::parse(&BYTES), Some(HEADER));
        assert_eq!(HEADER.to_bytes(), BYTES);
    }

    #[test]
    fn every_truncation_is_none_and_what_follows_is_ignored() {
        for len in 0..BYTES.len() {
            assert_eq!(VirtioNetHdr::parse(&BYTES[..len]), None);
        }
        let mut long = BYTES.to_vec();
        long.extend([0x45; 20]);
        assert_eq!(VirtioNetHdr::parse(&long), Some(HEADER));
    }
}
