//! The packets that travel: Ethernet, IPv4 with protocol 47, a GRE header, an inner IPv4 header, a number, and zeros.
//!
//! Each is written anew into the memory that it is sent from, as a tunnel does; only the number differs.

use std::net::Ipv4Addr;

pub const ETHERNET: usize = 14;
pub const IP: usize = 20;
const GRE: usize = 4;
/// Where the number stands, from the IP header on.
const NUMBER: usize = IP + GRE + IP;
/// With room for the headers of UDP in place of the tail.
pub const MIN_SIZE: usize = NUMBER + 8 + 28;
const PROTOCOL_GRE: u8 = 47;

/// Who sends to whom.
pub struct Ends {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
}

/// A template, and how it becomes a packet.
pub struct Frames {
    template: Vec<u8>,
}

impl Frames {
    /// *size* counts from the IP header on.
    pub fn new(ends: &Ends, size: usize) -> Self {
        let mut template = vec![0; ETHERNET + size];
        template[..6].copy_from_slice(&ends.to_mac);
        template[6..12].copy_from_slice(&ends.from_mac);
        template[12..14].copy_from_slice(&[8, 0]);
        ip(
            &mut template[ETHERNET..],
            size,
            PROTOCOL_GRE,
            ends.from,
            ends.to,
        );
        template[ETHERNET + IP..][..GRE].copy_from_slice(&[0, 0, 8, 0]);
        let inner = size - IP - GRE;
        // Protocol 253: for experiments (RFC 3692).
        ip(
            &mut template[ETHERNET + IP + GRE..],
            inner,
            253,
            Ipv4Addr::new(10, 77, 0, 1),
            Ipv4Addr::new(10, 77, 0, 2),
        );
        Self { template }
    }

    /// Bytes with the Ethernet header.
    pub fn len(&self) -> usize {
        self.template.len()
    }

    /// Write packet *number* with its Ethernet header to the front of *place*; its length.
    pub fn write(&self, number: u64, place: &mut [u8]) -> usize {
        let len = self.template.len();
        place[..len].copy_from_slice(&self.template);
        place[ETHERNET + NUMBER..][..8].copy_from_slice(&number.to_le_bytes());
        len
    }
}

fn ip(packet: &mut [u8], len: usize, protocol: u8, from: Ipv4Addr, to: Ipv4Addr) {
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[6] = 0x40;
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let sum: u32 = packet[..IP]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

/// The number of a packet that begins with its IP header; None when it is none of ours.
pub fn number(packet: &[u8]) -> Option<u64> {
    if packet.first()? >> 4 != 4 || *packet.get(9)? != PROTOCOL_GRE {
        return None;
    }
    let bytes = packet.get(NUMBER..NUMBER + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Six bytes written as `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(format!("{text:?} is no MAC address"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_packet_is_what_it_says() {
        let ends = Ends {
            from: Ipv4Addr::new(192, 0, 2, 1),
            to: Ipv4Addr::new(192, 0, 2, 2),
            from_mac: [2; 6],
            to_mac: [4; 6],
        };
        let frames = Frames::new(&ends, 88);
        let mut place = [0xff; 200];
        let len = frames.write(0x0102_0304, &mut place);
        assert_eq!(len, frames.len());
        assert_eq!(len, 102);
        assert_eq!(place[len], 0xff);
        let packet = &place[ETHERNET..len];
        assert_eq!(number(packet), Some(0x0102_0304));
        assert_eq!(packet[20..24], [0, 0, 8, 0]);
        assert_eq!(
            u16::from_be_bytes([packet[2], packet[3]]) as usize,
            packet.len()
        );
        assert_eq!(u16::from_be_bytes([packet[26], packet[27]]), 64);
        for header in [&packet[..20], &packet[24..44]] {
            let sum: u32 = header
                .chunks(2)
                .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
        let mut other = packet.to_vec();
        other[9] = 17;
        assert_eq!(number(&other), None);
        assert_eq!(number(&packet[..NUMBER + 7]), None);
        assert_eq!(number(&[]), None);
    }

    #[test]
    fn macs() {
        assert_eq!(mac("02:00:00:00:00:0a"), Ok([2, 0, 0, 0, 0, 10]));
        for bad in ["", "02", "02:00:00:00:00:00:00", "0g:00:00:00:00:00"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }
}
