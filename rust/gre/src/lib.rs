//! Encapsulation without protection: GRE, and IP in IP. Pure functions and small tables over bytes; time is an argument.
//!
//! | step | module |
//! | --- | --- |
//! | what a tunnel is: its kind, its ends, its options | [`options`] |
//! | the GRE header: parse, write, checksum | [`header`] |
//! | which tunnel a packet is for, and which it was nearly for | [`demux`] |
//! | may it come in: key, checksum, sequence, protocol, inner form | [`receive`] |
//! | the delivery header that goes in front: TTL, TOS, ECN, DF, flow label | [`outer`] |
//! | too large for the path: fragment, or answer | [`oversize`] |
//! | what an ICMP error quotes | [`quoted`] |
//! | where the IP packet in an Ethernet frame begins | [`ethernet`] |
//! | keepalives of both dialects, told from data | [`keepalive`] |
//!
//! What is accepted and what is dropped is what Linux does; where we differ, the place says so and why.

#![forbid(unsafe_code)]

pub mod demux;
pub mod ethernet;
pub mod header;
pub mod keepalive;
pub mod options;
pub mod outer;
pub mod oversize;
pub mod quoted;
pub mod receive;

/// Packets for the tests of all modules.
#[cfg(test)]
pub(crate) mod tests {
    use ginnel_packet::checksum;

    /// 10.0.0.1 to 10.0.0.2, TTL 33, without DF.
    pub(crate) fn v4(tos: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, tos];
        packet.extend(((20 + body.len()) as u16).to_be_bytes());
        packet.extend([0, 1, 0, 0, 33, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(body);
        seal(&mut packet);
        packet
    }

    /// fd00::1 to fd00::2, hop limit 33.
    pub(crate) fn v6(class: u8, next: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([next, 33]);
        for last in [1, 2] {
            packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        packet.extend(body);
        packet
    }

    /// Puts the checksum of an IPv4 header in place.
    pub(crate) fn seal(packet: &mut [u8]) {
        let header = usize::from(packet[0] & 15) * 4;
        packet[10..12].fill(0);
        let sum = checksum::sum(&packet[..header]).checksum();
        packet[10..12].copy_from_slice(&sum);
    }
}
