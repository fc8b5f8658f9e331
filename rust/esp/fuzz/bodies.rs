//! What each fuzz target does with its bytes: plain functions, called by libFuzzer and by the replay of the corpus alike.
//!
//! Each holds the crate against a naive second way of saying the same, or against promises that hold for any input.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ginnel_crypto::esp::Suite;
use ginnel_crypto::KeyMaterial;
use ginnel_esp::inbound::{Arrived, Inbound, Outer, Refusal};
use ginnel_esp::layout::{self, Trailer};
use ginnel_esp::outbound::{Outbound, Placed};
use ginnel_esp::replay::{Verdict, Window};
use ginnel_esp::sa::{Limits, Mode, Scratch, Terms};
use ginnel_esp::selectors::{Ports, Selector, Selectors};
use ginnel_esp::spi::{Spis, RESERVED_NS};
use ginnel_esp::udp::{self, Datagram};
use ginnel_packet::ip;

/// The bytes of the input, used up from the front; zeros after the end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let first = self.0.first().copied().unwrap_or(0);
        self.0 = self.0.get(1..).unwrap_or_default();
        first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }
}

/// Any bytes as an opened text, read a second way, and written again.
pub fn trailer(text: &[u8]) {
    let expected = text.len().checked_sub(2).and_then(|rest| {
        let length = usize::from(text[rest]);
        let payload = rest.checked_sub(length)?;
        let padding: Vec<u8> = (1..=text[rest]).collect();
        (text[payload..rest] == padding).then_some(Trailer {
            payload,
            next_header: text[rest + 1],
        })
    });
    assert_eq!(layout::read_trailer(text), expected);
    if let Some(found) = expected {
        let mut again = text.to_vec();
        again[found.payload..].fill(0xee);
        layout::write_trailer(&mut again, found.payload, found.next_header);
        assert_eq!(again, text);
    }
}

/// A datagram on the NAT traversal port, and a table of SPIs worked on by steps, against a plain map.
pub fn demultiplex(data: &[u8]) {
    let spi = data.first_chunk().map(|four| u32::from_be_bytes(*four));
    let expected = match (spi, data.len()) {
        (Some(0), _) => Datagram::Ike(&data[4..]),
        (Some(spi), 8..) if spi > 255 => Datagram::Esp(spi),
        (None, 1) if data[0] == 0xff => Datagram::Keepalive,
        _ => Datagram::Malformed,
    };
    assert_eq!(udp::classify(data), expected);
    let raw = spi.filter(|spi| *spi > 255 && data.len() >= 8);
    assert_eq!(udp::esp_spi(data), raw);

    let mut input = Input(data);
    let mut spis = Spis::default();
    let mut used: HashMap<u32, u8> = HashMap::new();
    let mut promised: HashMap<u32, u64> = HashMap::new();
    let mut now = 0;
    while !input.0.is_empty() {
        let step = input.byte();
        // Few enough that they meet, some of them reserved.
        let spi = 250 + u32::from(input.byte() % 16);
        match step % 5 {
            0 => {
                let free = spi > 255
                    && !used.contains_key(&spi)
                    && promised.get(&spi).is_none_or(|until| *until <= now);
                let got = spis.reserve(now, || spi);
                assert_eq!(got.is_ok(), free);
                if free {
                    promised.insert(spi, now + RESERVED_NS);
                }
            }
            1 => {
                let free = spi > 255 && !used.contains_key(&spi);
                assert_eq!(spis.insert(spi, step).is_ok(), free);
                if free {
                    used.insert(spi, step);
                    promised.remove(&spi);
                }
            }
            2 => {
                spis.release(spi);
                promised.remove(&spi);
            }
            3 => assert_eq!(spis.remove(spi), used.remove(&spi)),
            _ => now += u64::from(step) * RESERVED_NS / 400,
        }
        for spi in 250..266 {
            assert_eq!(spis.find(spi), used.get(&spi));
            let held = promised.get(&spi).is_some_and(|until| *until > now);
            assert_eq!(spis.is_reserved(spi, now), held);
        }
    }
}

/// A selector from the input's first bytes, and the rest as a packet.
pub fn selectors(data: &[u8]) {
    let mut input = Input(data);
    let six = input.byte() & 1 != 0;
    let address = |last: u8| -> IpAddr {
        if six {
            let mut bytes = [0; 16];
            (bytes[0], bytes[15]) = (0xfd, last);
            bytes.into()
        } else {
            [10, 0, 0, last].into()
        }
    };
    let range = |first: u8, last: u8| (address(first), address(last));
    let source = range(input.byte(), input.byte());
    let destination = range(input.byte(), input.byte());
    let protocol = input.byte();
    let mut ports = || Ports {
        first: input.word(),
        last: input.word(),
    };
    let (from, to) = (ports(), ports());
    let packet = input.0;
    let one = Selector::new(protocol, from, source, to, destination);
    let sensible = |ports: Ports| ports.first <= ports.last || ports == Ports::OPAQUE;
    let forwards = source.0 <= source.1 && destination.0 <= destination.1;
    assert_eq!(one.is_some(), forwards && sensible(from) && sensible(to));
    let Some(one) = one else {
        return;
    };
    assert!(Selectors::default().admit_packet(packet));
    let alone = Selectors::new(vec![one]).unwrap();
    let admitted = alone.admit_packet(packet);
    // One that admits anything of the family, in front or behind, changes no refusal of a packet that can not be read.
    let all = if six {
        ([0; 16].into(), [0xff; 16].into())
    } else {
        ([0; 4].into(), [0xff; 4].into())
    };
    let any = Selector::new(0, Ports::ANY, all, Ports::ANY, all).unwrap();
    let readable = ip::layout(packet).is_some()
        && ip::source(packet).is_some_and(|source| source.is_ipv6() == six);
    let with_any = Selectors::new(vec![one, any]).unwrap();
    assert_eq!(with_any.admit_packet(packet), readable);
    assert!(readable || !admitted);
    if admitted {
        let at = ip::layout(packet).unwrap();
        let (seen_from, seen_to) = (
            ip::source(packet).unwrap(),
            ip::destination(packet).unwrap(),
        );
        assert!(protocol == 0 || at.protocol == protocol);
        assert!(source.0 <= seen_from && seen_from <= source.1);
        assert!(destination.0 <= seen_to && seen_to <= destination.1);
        // A whole packet's payload passes by itself, as in transport mode.
        if at.fragment == ip::Fragment::Whole {
            let payload = &packet[at.transport..];
            assert!(alone.admit_payload(Some((seen_from, seen_to)), at.protocol, payload));
        } else if at.fragment == ip::Fragment::Later {
            let opaque = |ports: Ports| ports == Ports::ANY || ports == Ports::OPAQUE;
            assert!(opaque(from) && opaque(to));
        }
    }
}

/// A window and a schedule of numbers, against every number ever accepted.
pub fn replay(data: &[u8]) {
    const SPAN: u64 = 1 << 32;
    let mut input = Input(data);
    let esn = input.byte() & 1 != 0;
    let size = u32::from(input.word()) + u32::from(input.byte() & 1);
    let received = u64::from(input.long()) << (input.byte() % 32);
    let Some(mut window) = Window::new(size, esn, received) else {
        assert!(esn && size == 0 || !esn && received >= SPAN);
        return;
    };
    let (mut highest, mut seen) = (received, HashSet::new());
    let size = u64::from(size);
    while !input.0.is_empty() {
        // Mostly near the window, at times anywhere.
        let step = i64::from(input.word() as i16) << (input.byte() % 4 * 2);
        let number = highest.saturating_add_signed(step);
        let number = if esn { number } else { number.min(SPAN - 1) };
        let expected = if size == 0 {
            Verdict::Fresh
        } else if number == 0 {
            Verdict::Replayed
        } else if number <= highest && highest - number >= size {
            Verdict::TooOld
        } else if seen.contains(&number) || number <= received {
            Verdict::Replayed
        } else {
            Verdict::Fresh
        };
        // A number within 2^31 of the window's end is found by its low half.
        let found = window.infer(number as u32);
        let bottom = (highest + 1).saturating_sub(size);
        if !esn {
            assert_eq!(found, Some(number));
        } else if number >= bottom && number - bottom < SPAN {
            assert_eq!(found, Some(number), "T {highest}, W {size}");
        }
        assert_eq!(window.check(number), expected, "T {highest}, W {size}");
        assert_eq!(window.accept(number), expected);
        if expected == Verdict::Fresh {
            seen.insert(number);
            highest = highest.max(number);
        }
        if size > 0 {
            assert_eq!(window.highest(), highest);
        }
    }
}

/// Payloads sealed by a true sender, spoilt as the input says, and what arrives: nothing comes in that was not sent, and once.
pub fn arrive(data: &[u8]) {
    let mut input = Input(data);
    let all: Vec<Suite> = Suite::all().collect();
    let terms = Terms {
        spi: 0x100,
        suite: all[usize::from(input.byte()) % all.len()],
        mode: if input.byte() & 1 == 0 {
            Mode::Transport
        } else {
            Mode::Tunnel
        },
        esn: input.byte() & 1 != 0,
        limits: Limits {
            hard_packets: u64::from(input.byte() & 31),
            ..Limits::default()
        },
        selectors: Selectors::default(),
    };
    let suite = terms.suite;
    let key = KeyMaterial::from_slice(&vec![3; suite.key_len()]);
    let integrity = KeyMaterial::from_slice(&vec![5; suite.integrity_len()]);
    let sent = u64::from(u32::MAX) - 1 - u64::from(input.byte());
    let generous = Terms {
        limits: Limits::default(),
        ..terms.clone()
    };
    let sender = Outbound::new(generous, &key, &integrity, sent).unwrap();
    let receiver = Inbound::new(terms.clone(), &key, &integrity, 64, sent).unwrap();
    let (mut scratch, mut results) = (Scratch::default(), Vec::new());
    let mut came = HashSet::new();
    let mut slab = Vec::new();
    let mut last = Vec::new();
    while !input.0.is_empty() {
        let (action, size) = (input.byte(), usize::from(input.byte()));
        let len = layout::sealed_len(suite, size);
        if action & 3 != 3 || last.is_empty() {
            slab.clear();
            slab.resize(len, size as u8);
            let placed = [Placed {
                start: 0,
                payload: size,
                next_header: action,
            }];
            if sender.seal(&mut slab, &placed, 0, &mut scratch).count == 0 {
                return;
            }
            last.clone_from(&slab);
        } else {
            // Once more, as it was or spoilt.
            slab.clone_from(&last);
        }
        if action & 4 != 0 {
            let at = usize::from(input.word()) % slab.len();
            slab[at] ^= input.byte();
        }
        if action & 8 != 0 {
            slab.truncate(usize::from(input.word()) % (slab.len() + 1));
        }
        let intact = slab == last;
        let twice = [Arrived {
            start: 0,
            len: slab.len(),
        }; 2];
        let _ = receiver.open(&mut slab, &twice[..1], 0, &mut scratch, &mut results);
        match results[0] {
            Ok(opened) => {
                assert!(intact, "a packet that was not sent");
                assert!(came.insert(opened.number), "twice");
                let payload = &mut slab[opened.start..opened.start + opened.len];
                assert!(payload.iter().all(|byte| *byte == payload.len() as u8));
                let outer = Outer {
                    source: [192, 0, 2, 1].into(),
                    destination: [192, 0, 2, 2].into(),
                    tos: action,
                    in_udp: action & 64 != 0,
                };
                if let Ok(len) = receiver.admit(&opened, &outer, payload) {
                    assert!(len <= payload.len());
                    assert!(terms.mode == Mode::Transport || ip::total_len(payload) == Ok(len));
                }
            }
            Err(reason) => {
                let genuine = matches!(
                    reason,
                    Refusal::Replayed | Refusal::Expired | Refusal::Dummy
                );
                assert!(!intact || genuine, "{reason:?}");
            }
        }
    }
    let (counted, _) = receiver.counters();
    let limit = terms.limits.hard_packets;
    assert!(limit == 0 || counted.packets <= limit);
    assert!(came.len() as u64 <= counted.packets);
}
