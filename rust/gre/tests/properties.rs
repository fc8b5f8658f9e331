//! What holds for any input, tried with random ones; the bodies of the fuzz targets say what it is.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/bodies.rs"]
mod bodies;

use ginnel_gre::{header, outer};
use proptest::collection::vec;
use proptest::prelude::*;

/// IPv4 or IPv6 with these first bytes of payload, and everything that is not the flow taken from `noise`.
fn packet(v6: bool, protocol: u8, ends: [u8; 2], body: &[u8], noise: [u8; 4]) -> Vec<u8> {
    let [tos, ttl, id, label] = noise;
    let mut packet = if v6 {
        let mut head = vec![0x60 | tos >> 4, tos << 4, label, label];
        head.extend((body.len() as u16).to_be_bytes());
        head.extend([protocol, ttl]);
        for end in ends {
            head.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
        }
        head
    } else {
        let mut head = vec![0x45, tos];
        head.extend(((20 + body.len()) as u16).to_be_bytes());
        head.extend([id, id, 0x40 & id, 0, ttl, protocol, 0, 0]);
        for end in ends {
            head.extend([10, 0, 0, end]);
        }
        head
    };
    packet.extend(body);
    packet
}

proptest! {
    #[test]
    fn no_bytes_break_anything(data in vec(any::<u8>(), 0..400)) {
        bodies::header(&data);
        bodies::admit(&data);
        bodies::quoted(&data);
        bodies::keepalive(&data);
        bodies::outer(&data);
        bodies::fragment(&data);
        bodies::demux(&data);
    }

    #[test]
    fn what_is_written_is_read(
        protocol: u16, checksum: bool, key: Option<u32>, sequence: Option<u32>,
        body in vec(any::<u8>(), 0..100),
    ) {
        let mut packet = vec![0; header::MAX_LEN];
        let len = header::write(&mut packet, protocol, checksum, key, sequence);
        packet.truncate(len);
        packet.extend(&body);
        header::set_checksum(&mut packet);
        let found = header::parse(&packet).unwrap();
        prop_assert_eq!(
            found,
            header::Header { protocol, checksum, key, sequence, len }
        );
        prop_assert!(header::checksum_verifies(&packet));
        bodies::header(&packet);
    }

    #[test]
    fn what_is_sent_is_admitted(
        tunnel: [u8; 5], id: u16, v6: bool, ends: [u8; 2], noise: [u8; 4],
        body in vec(any::<u8>(), 0..200),
        trailing in vec(any::<u8>(), 0..20),
    ) {
        let inner = packet(v6, 17, ends, &body, noise);
        let mut data = tunnel.to_vec();
        data.extend(id.to_be_bytes());
        data.extend([0, u8::from(v6)]);
        data.extend(&inner);
        data.extend(&trailing);
        bodies::outer(&data);
    }

    #[test]
    fn the_flow_hash_is_of_addresses_protocol_and_ports_alone(
        v6: bool, udp: bool, ends: [u8; 2], ports: [u8; 4], one: [u8; 4], other: [u8; 4],
        first in vec(any::<u8>(), 16..60), second in vec(any::<u8>(), 16..60),
    ) {
        let protocol = if udp { 17 } else { 6 };
        let hash = |payload: &[u8], noise| {
            outer::flow_hash(&packet(v6, protocol, ends, &[&ports[..], payload].concat(), noise))
        };
        prop_assert_eq!(hash(&first, one), hash(&second, other));
    }

    #[test]
    fn tables_equal_a_search_through_all_tunnels(steps in vec(any::<u8>(), 0..600)) {
        bodies::demux(&steps);
    }
}
