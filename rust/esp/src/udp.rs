//! What came to the NAT traversal port: IKE behind its marker, a keepalive, or ESP (RFC 3948 2); and which SPIs ESP may show at all.

use crate::layout;
use crate::spi;

/// Before an IKE message on the NAT traversal port: where ESP has an SPI, which is never 0.
pub const MARKER: [u8; 4] = [0; 4];
/// The whole of a keepalive.
pub const KEEPALIVE: [u8; 1] = [0xff];

/// A datagram on the NAT traversal port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// The message, without its marker.
    Ike(&'a [u8]),
    Keepalive,
    /// An ESP packet with this SPI, header whole.
    Esp(u32),
    /// Too short for anything, or an SPI of IANA's.
    Malformed,
}

/// Tells them apart.
#[inline]
pub fn classify(datagram: &[u8]) -> Datagram<'_> {
    if let Some(spi) = esp_spi(datagram) {
        return Datagram::Esp(spi);
    }
    match datagram.split_first_chunk::<4>() {
        Some((&MARKER, message)) => Datagram::Ike(message),
        None if datagram == KEEPALIVE => Datagram::Keepalive,
        _ => Datagram::Malformed,
    }
}

/// The SPI of an ESP packet, however it came; `None`: no ESP header, or an SPI that nobody is given (0, 1 to 255).
#[inline]
pub fn esp_spi(packet: &[u8]) -> Option<u32> {
    let (spi, _) = layout::read_header(packet)?;
    (spi >= spi::FIRST).then_some(spi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_zero_bytes_are_ike_one_ff_is_a_keepalive_and_the_rest_esp() {
        assert_eq!(classify(&[0, 0, 0, 0, 7, 8]), Datagram::Ike(&[7, 8]));
        assert_eq!(classify(&[0; 4]), Datagram::Ike(&[]));
        assert_eq!(classify(&[0; 60]), Datagram::Ike(&[0; 56]));
        assert_eq!(classify(&[0xff]), Datagram::Keepalive);
        assert_eq!(classify(&[0, 0, 1, 0, 0, 0, 0, 1]), Datagram::Esp(256));
        assert_eq!(classify(&[0xff; 40]), Datagram::Esp(u32::MAX));
    }

    #[test]
    fn what_is_none_of_them_is_malformed() {
        let cases: [&[u8]; 9] = [
            &[],
            &[0],
            &[0xfe],
            &[0xff, 0xff],
            &[0; 3],
            &[0xff; 4],
            &[0xff; 7],
            &[0, 0, 1, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 0],
        ];
        for datagram in cases {
            assert_eq!(classify(datagram), Datagram::Malformed, "{datagram:?}");
        }
    }

    #[test]
    fn reserved_spis_are_refused_however_they_come() {
        for spi in 0..=300_u32 {
            let mut packet = vec![0; 32];
            packet[..4].copy_from_slice(&spi.to_be_bytes());
            assert_eq!(esp_spi(&packet), (spi > 255).then_some(spi));
            let expected = match spi {
                0 => Datagram::Ike(&packet[4..]),
                1..=255 => Datagram::Malformed,
                _ => Datagram::Esp(spi),
            };
            assert_eq!(classify(&packet), expected);
        }
    }
}
