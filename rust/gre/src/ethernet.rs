//! Ethernet frames, as far as a tunnel that carries them must see the IP packet inside: for ECN, TTL, DF and the flow.
//!
//! ```text
//! | destination (6) | source (6) | type | payload        type 0x8100, 0x88a8 or 0x9100: | tag (2) | type | follows
//! ```

use crate::header::{IPV4, IPV6};

/// The shortest frame that can be carried: its header (`ETH_HLEN`).
pub const HEADER: usize = 14;

/// VLAN tags that are looked behind: one of the customer's and one of the provider's (802.1ad).
pub const MAX_TAGS: usize = 2;

/// C-VLAN, S-VLAN, and what was used for the outer tag before 802.1ad.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// Where the IP packet begins in *frame*, behind up to [`MAX_TAGS`] tags; None when it carries none or claims another version.
#[inline]
pub fn ip_at(frame: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    for _ in 0..=MAX_TAGS {
        let kind = frame.get(at - 2..)?.first_chunk::<2>()?;
        let version = frame.get(at)? >> 4;
        match (u16::from_be_bytes(*kind), version) {
            (IPV4, 4) | (IPV6, 6) => return Some(at),
            (tag, _) if TAGS.contains(&tag) => at += 4,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A frame from tags and a payload of this type.
    pub(crate) fn frame(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x45, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 42]);
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn ip_is_found_behind_two_tags_and_no_more() {
        assert_eq!(ip_at(&frame(&[], IPV4, &[0x45, 0])), Some(14));
        assert_eq!(ip_at(&frame(&[0x8100], IPV6, &[0x60])), Some(18));
        assert_eq!(ip_at(&frame(&[0x88a8, 0x8100], IPV4, &[0x46])), Some(22));
        assert_eq!(ip_at(&frame(&[0x9100, 0x8100], IPV4, &[0x46])), Some(22));
        assert_eq!(ip_at(&frame(&[0x8100; 3], IPV4, &[0x45])), None);
    }

    #[test]
    fn what_is_not_ip_has_none() {
        for kind in [0x0806, 0x88cc, 46, 0x8847] {
            assert_eq!(ip_at(&frame(&[], kind, &[0x45; 40])), None);
        }
        assert_eq!(
            ip_at(&frame(&[], IPV4, &[0x60; 40])),
            None,
            "another version"
        );
        let whole = frame(&[0x8100], IPV4, &[0x45]);
        for len in 0..whole.len() {
            assert_eq!(ip_at(&whole[..len]), None, "{len}");
        }
    }
}
