//! Two ends of one SA and packets between them, for the tests of this crate.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::IpAddr;

use ginnel_crypto::esp::Suite;
use ginnel_crypto::KeyMaterial;
use ginnel_esp::inbound::{Arrived, Inbound, Opened, Outer, Refusal, Run};
use ginnel_esp::layout;
use ginnel_esp::outbound::{Outbound, Placed, Sealed};
use ginnel_esp::sa::{Limits, Mode, SaError, Scratch, Terms};
use ginnel_esp::selectors::Selectors;

pub const SPI: u32 = 0xc0ff_ee01;
pub const GRE: u8 = 47;
/// A second of the clock.
pub const SECOND: u64 = 1_000_000_000;

pub fn terms(suite: Suite) -> Terms {
    Terms {
        spi: SPI,
        suite,
        mode: Mode::Transport,
        esn: false,
        limits: Limits::default(),
        selectors: Selectors::default(),
    }
}

pub fn gcm() -> Suite {
    Suite::parse("aes128gcm16").unwrap()
}

pub fn keys(suite: Suite) -> [KeyMaterial; 2] {
    [suite.key_len(), suite.integrity_len()].map(|len| KeyMaterial::fill(len, |key| key.fill(7)))
}

pub fn outbound(terms: &Terms, sent: u64) -> Result<Outbound, SaError> {
    let [key, integrity] = keys(terms.suite);
    Outbound::new(terms.clone(), &key, &integrity, sent)
}

pub fn inbound(terms: &Terms, window: u32, received: u64) -> Result<Inbound, SaError> {
    let [key, integrity] = keys(terms.suite);
    Inbound::new(terms.clone(), &key, &integrity, window, received)
}

/// Seals these payloads as one batch; the packets that may leave.
pub fn seal_at(sa: &Outbound, payloads: &[(u8, &[u8])], now_ns: u64) -> (Vec<Vec<u8>>, Sealed) {
    let suite = sa.suite();
    let mut slab = Vec::new();
    let mut placed = Vec::new();
    for (next_header, payload) in payloads {
        let start = slab.len();
        let end = start + layout::sealed_len(suite, payload.len());
        slab.resize(start + layout::headroom(suite), 0xee);
        slab.extend_from_slice(payload);
        slab.resize(end, 0xee);
        placed.push(Placed {
            start,
            payload: payload.len(),
            next_header: *next_header,
        });
    }
    let sealed = sa.seal(&mut slab, &placed, now_ns, &mut Scratch::default());
    let packets = placed[..sealed.count]
        .iter()
        .map(|one| slab[one.start..][..layout::sealed_len(suite, one.payload)].to_vec())
        .collect();
    (packets, sealed)
}

/// One packet with this payload.
pub fn seal(sa: &Outbound, payload: &[u8]) -> Vec<u8> {
    seal_at(sa, &[(GRE, payload)], 0).0.remove(0)
}

/// What is in a packet, or why it was refused.
pub type Inside = Result<(Opened, Vec<u8>), Refusal>;

/// Opens these packets as one batch: what is in each, and what the batch changed.
pub fn open_at(sa: &Inbound, packets: &[Vec<u8>], now_ns: u64) -> (Vec<Inside>, Run) {
    let mut slab = Vec::new();
    let mut arrived = Vec::new();
    for packet in packets {
        arrived.push(Arrived {
            start: slab.len(),
            len: packet.len(),
        });
        slab.extend_from_slice(packet);
    }
    let (mut scratch, mut results) = (Scratch::default(), Vec::new());
    let run = sa.open(&mut slab, &arrived, now_ns, &mut scratch, &mut results);
    assert_eq!(results.len(), packets.len());
    let inside = results
        .into_iter()
        .map(|result| {
            result.map(|opened| {
                (
                    opened,
                    slab[opened.start..opened.start + opened.len].to_vec(),
                )
            })
        })
        .collect();
    (inside, run)
}

/// One packet: its payload, or why not.
pub fn open(sa: &Inbound, packet: &[u8]) -> Result<Vec<u8>, Refusal> {
    open_at(sa, &[packet.to_vec()], 0)
        .0
        .remove(0)
        .map(|(_, payload)| payload)
}

/// How often each of these was the reason.
pub fn drops(sa: &Inbound, reason: Refusal) -> u64 {
    let at = Refusal::ALL.iter().position(|one| *one == reason).unwrap();
    sa.counters().1[at]
}

pub fn all_drops(sa: &Inbound) -> u64 {
    sa.counters().1.iter().sum()
}

pub fn outer(tos: u8) -> Outer {
    Outer {
        source: IpAddr::from([192, 0, 2, 1]),
        destination: IpAddr::from([198, 51, 100, 2]),
        tos,
        in_udp: false,
    }
}

/// What is admitted of one packet's payload.
pub fn admit(sa: &Inbound, packet: &[u8], outer: &Outer) -> Result<Vec<u8>, Refusal> {
    let (opened, mut payload) = open_at(sa, &[packet.to_vec()], 0).0.remove(0)?;
    let len = sa.admit(&opened, outer, &mut payload)?;
    Ok(payload[..len].to_vec())
}

/// 10.0.0.1 to 10.0.0.2.
pub fn v4(tos: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, tos];
    packet.extend(((20 + body.len()) as u16).to_be_bytes());
    packet.extend([0, 1, 0, 0, 33, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = ginnel_packet::checksum::sum(&packet).checksum();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(body);
    packet
}

/// fd00::1 to fd00::2.
pub fn v6(class: u8, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | class >> 4, class << 4, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 33]);
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(body);
    packet
}
