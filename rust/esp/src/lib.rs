//! ESP (RFC 4303) on top of `ginnel-crypto`'s ciphers: what a packet looks like, which one may leave or come in. Bytes in, bytes out; time
//! and chance are arguments.
//!
//! | step | module |
//! | --- | --- |
//! | whose packet is it; IKE, keepalive or ESP | [`udp`], [`spi`] |
//! | sequence number, header, trailer, sealed as one batch | [`outbound`] |
//! | window, opened as one batch, window again, trailer, what is inside | [`inbound`] |
//! | what both kinds of SA have: keys, mode, limits | [`sa`] |
//! | the window, and the upper half of extended sequence numbers | [`replay`] |
//! | what an SA was negotiated for | [`selectors`] |
//! | lengths, headers, trailers | [`layout`] |
//! | the delivery header in front | [`outer`] |
//!
//! Rules. A sequence number is taken and sealed in one step, so none is ever sealed twice under a key. A packet that is not genuine changes
//! nothing but a counter. Nothing here allocates once per packet, and no byte of a stranger's makes it panic.

#![forbid(unsafe_code)]

pub mod inbound;
pub mod layout;
pub mod outbound;
pub mod outer;
pub mod replay;
pub mod sa;
pub mod selectors;
pub mod spi;
pub mod udp;

/// Packets for the tests of all modules.
#[cfg(test)]
pub(crate) mod tests {
    use ginnel_packet::checksum;

    /// 10.0.0.1 to 10.0.0.2, without DF.
    pub(crate) fn v4(tos: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, tos];
        packet.extend(((20 + body.len()) as u16).to_be_bytes());
        packet.extend([0, 1, 0, 0, 33, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum::sum(&packet).checksum();
        packet[10..12].copy_from_slice(&sum);
        packet.extend(body);
        packet
    }

    /// fd00::1 to fd00::2.
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
}
