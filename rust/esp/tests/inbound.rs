//! The SA by which packets come in: what it takes, what it refuses and counts, and that a refused packet changes nothing else.
#![allow(clippy::unwrap_used)]

mod pair;

use ginnel_crypto::esp::Suite;
use ginnel_esp::inbound::{Inbound, Refusal, RESYNC_AFTER, RESYNC_EVERY_NS, RESYNC_TRIES};
use ginnel_esp::layout;
use ginnel_esp::outbound::Outbound;
use ginnel_esp::replay::MAX_WINDOW;
use ginnel_esp::sa::{Expiring, Limits, Mode, SaError, Terms};
use ginnel_esp::selectors::{Ports, Selector, Selectors};
use pair::{
    admit, all_drops, drops, gcm, inbound, open, open_at, outbound, outer, seal, seal_at, terms,
    v4, v6, GRE,
};

fn both(terms: &Terms) -> (Outbound, Inbound) {
    (
        outbound(terms, 0).unwrap(),
        inbound(terms, 1024, 0).unwrap(),
    )
}

fn tunnel() -> Terms {
    Terms {
        mode: Mode::Tunnel,
        ..terms(gcm())
    }
}

fn extended() -> Terms {
    Terms {
        esn: true,
        ..terms(gcm())
    }
}

#[test]
fn what_was_sealed_comes_in_once() {
    for suite in Suite::all() {
        for esn in [false, true] {
            let agreed = Terms {
                esn,
                ..terms(suite)
            };
            let (sender, receiver) = both(&agreed);
            let packet = seal(&sender, b"payload");
            assert_eq!(
                open(&receiver, &packet).unwrap(),
                b"payload",
                "{}",
                suite.name()
            );
            for _ in 0..3 {
                assert_eq!(open(&receiver, &packet), Err(Refusal::Replayed));
            }
            assert_eq!(drops(&receiver, Refusal::Replayed), 3);
            let (counted, _) = receiver.counters();
            assert_eq!(
                (counted.packets, counted.bytes, counted.sequence),
                (1, 7, 1)
            );
        }
    }
}

#[test]
fn twice_in_one_batch_is_once() {
    let (sender, receiver) = both(&terms(gcm()));
    let one = seal(&sender, b"one");
    let two = seal(&sender, b"two");
    let (results, _) = open_at(&receiver, &[one.clone(), two, one.clone(), one], 0);
    let kinds: Vec<_> = results.iter().map(|one| one.as_ref().map(|_| ())).collect();
    let again = Err(&Refusal::Replayed);
    assert_eq!(kinds, [Ok(()), Ok(()), again, again]);
}

#[test]
fn every_bit_counts_and_a_forged_packet_moves_nothing() {
    for suite in Suite::all() {
        let (sender, receiver) = both(&terms(suite));
        let packet = seal(&sender, b"twelve bytes");
        let far = seal(&outbound(&terms(suite), 1 << 31).unwrap(), b"far ahead");
        for bit in 0..far.len() * 8 {
            let mut forged = far.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let refused = open(&receiver, &forged).unwrap_err();
            assert_eq!(refused, Refusal::BadIcv, "{} bit {bit}", suite.name());
        }
        let (counted, _) = receiver.counters();
        assert_eq!(
            (counted.sequence, counted.packets, counted.last_ns),
            (0, 0, 0)
        );
        assert_eq!(
            open(&receiver, &packet).unwrap(),
            b"twelve bytes",
            "the window has not moved"
        );
    }
}

#[test]
fn every_truncation_is_refused_and_counted() {
    for suite in Suite::all() {
        let (sender, receiver) = both(&terms(suite));
        let packet = seal(&sender, b"0123456789");
        for len in 0..packet.len() {
            let refused = open(&receiver, &packet[..len]).unwrap_err();
            assert!(
                matches!(refused, Refusal::Malformed | Refusal::BadIcv),
                "{refused:?}"
            );
        }
        assert_eq!(all_drops(&receiver), packet.len() as u64);
        assert_eq!(open(&receiver, &packet).unwrap(), b"0123456789");
    }
}

#[test]
fn the_window_is_looked_at_before_a_packet_is_opened() {
    let (sender, receiver) = both(&terms(gcm()));
    let old = seal(&sender, b"old");
    let ahead = seal(&outbound(&terms(gcm()), 1024).unwrap(), b"1025");
    assert!(open(&receiver, &ahead).is_ok());
    let mut forged = old.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        open(&receiver, &forged),
        Err(Refusal::TooOld),
        "not BadIcv: it was not opened"
    );
    assert_eq!(open(&receiver, &old), Err(Refusal::TooOld));
    let mut number_0 = old;
    number_0[4..8].fill(0);
    assert_eq!(open(&receiver, &number_0), Err(Refusal::Replayed));
    assert_eq!(drops(&receiver, Refusal::BadIcv), 0);
}

#[test]
fn without_a_window_replays_come_in_and_esn_needs_one() {
    let sender = outbound(&terms(gcm()), 0).unwrap();
    let receiver = inbound(&terms(gcm()), 0, 0).unwrap();
    let packet = seal(&sender, b"again");
    assert!((0..3).all(|_| open(&receiver, &packet).is_ok()));
    assert_eq!(inbound(&extended(), 0, 0).unwrap_err(), SaError::Window);
    let larger = inbound(&terms(gcm()), MAX_WINDOW + 1, 0);
    assert_eq!(larger.unwrap_err(), SaError::Window);
}

#[test]
fn esn_goes_over_the_end_of_the_low_half_and_authenticates_the_high_one() {
    for suite in Suite::all() {
        let agreed = Terms {
            esn: true,
            ..terms(suite)
        };
        let before = (5 << 32) - 3;
        let sender = outbound(&agreed, before).unwrap();
        let receiver = inbound(&agreed, 1024, before).unwrap();
        let (packets, _) = seal_at(&sender, &[(GRE, &b"."[..]); 6], 0);
        // The last first, so that what is before the wrap is late.
        for packet in packets.iter().rev() {
            assert_eq!(open(&receiver, packet).unwrap(), b".", "{}", suite.name());
        }
        assert_eq!(receiver.counters().0.sequence, before + 6);
        // The same low half under another high one is not genuine.
        let other = inbound(&agreed, 1024, before + (1 << 32)).unwrap();
        assert_eq!(open(&other, &packets[0]), Err(Refusal::BadIcv));
        // With ESN and without are two languages.
        let plain = Terms {
            esn: false,
            ..agreed
        };
        let receiver = inbound(&plain, 1024, 0).unwrap();
        assert_eq!(open(&receiver, &packets[4]), Err(Refusal::BadIcv));
    }
}

#[test]
fn esn_finds_the_sender_again_after_more_than_2_to_32_lost_packets() {
    for suite in Suite::all() {
        let agreed = Terms {
            esn: true,
            ..terms(suite)
        };
        for lost in 1..=RESYNC_TRIES {
            let receiver = inbound(&agreed, 1024, 5000).unwrap();
            let sender = outbound(&agreed, 90_000 + (lost << 32)).unwrap();
            let mut came = 0;
            for _ in 0..RESYNC_AFTER + 10 {
                came += u32::from(open_at(&receiver, &[seal(&sender, b"?")], 1).0[0].is_ok());
            }
            assert_eq!(came, 10, "{} lost spans: {lost}", suite.name());
            assert_eq!(drops(&receiver, Refusal::BadIcv), u64::from(RESYNC_AFTER));
            assert!(receiver.counters().0.sequence > lost << 32);
        }
    }
}

#[test]
fn resynchronisation_is_one_packet_in_its_time_whoever_floods() {
    let receiver = inbound(&extended(), 1024, 5000).unwrap();
    let sender = outbound(&extended(), 90_000 + (1 << 32)).unwrap();
    let junk = vec![0x5a; 64];
    let flood = |now_ns| {
        let (results, _) = open_at(&receiver, &vec![junk.clone(); 200], now_ns);
        assert!(results.iter().all(|one| one == &Err(Refusal::BadIcv)));
    };
    let genuine = |now_ns| open_at(&receiver, &[seal(&sender, b"!")], now_ns).0[0].is_ok();
    flood(1); // enough in a row
    flood(2); // tried, for nothing
    assert!(!genuine(3), "the time's try is used up by junk");
    assert!(!genuine(2 + RESYNC_EVERY_NS - 1));
    assert!(genuine(2 + RESYNC_EVERY_NS));
    // A genuine packet ends the row.
    let receiver = inbound(&extended(), 1024, 5000).unwrap();
    let in_step = outbound(&extended(), 5000).unwrap();
    for turn in 1..10 {
        let now_ns = turn * 2 * RESYNC_EVERY_NS;
        let almost = vec![junk.clone(); RESYNC_AFTER as usize - 1];
        let (_, run) = open_at(&receiver, &almost, now_ns);
        assert!(!run.first);
        let ahead = open_at(&receiver, &[seal(&sender, b"!")], now_ns + RESYNC_EVERY_NS);
        assert_eq!(ahead.0, [Err(Refusal::BadIcv)], "turn {turn}");
        assert!(open_at(&receiver, &[seal(&in_step, b".")], now_ns).0[0].is_ok());
    }
    // Never without ESN.
    let receiver = inbound(&terms(gcm()), 1024, 0).unwrap();
    for _ in 0..RESYNC_AFTER * 2 {
        assert_eq!(open(&receiver, &seal(&sender, b"?")), Err(Refusal::BadIcv));
    }
}

#[test]
fn the_first_genuine_packet_is_told_once() {
    let (sender, receiver) = both(&terms(gcm()));
    let (_, run) = open_at(&receiver, &[vec![9; 60]], 5);
    assert!(!run.first, "a forged one is not it");
    let (one, two) = (seal(&sender, b"1"), seal(&sender, b"2"));
    assert!(open_at(&receiver, std::slice::from_ref(&one), 6).1.first);
    assert!(!open_at(&receiver, &[one], 7).1.first);
    assert_eq!(
        receiver.counters().0.last_ns,
        6,
        "a replay is no sign of life"
    );
    assert!(!open_at(&receiver, &[two], 8).1.first);
    assert_eq!(receiver.counters().0.last_ns, 8);
}

#[test]
fn limits_soft_once_hard_for_good() {
    for limits in [
        Limits {
            soft_packets: 2,
            hard_packets: 4,
            ..Limits::default()
        },
        Limits {
            soft_bytes: 2,
            hard_bytes: 4,
            ..Limits::default()
        },
    ] {
        let agreed = Terms {
            limits,
            ..terms(gcm())
        };
        let sender = outbound(&terms(gcm()), 0).unwrap();
        let receiver = inbound(&agreed, 1024, 0).unwrap();
        let came = |count: usize| {
            let (packets, _) = seal_at(&sender, &vec![(GRE, &b"."[..]); count], 0);
            let (results, run) = open_at(&receiver, &packets, 0);
            (
                results.iter().filter(|one| one.is_ok()).count(),
                run.expiring,
            )
        };
        assert_eq!(came(1), (1, None));
        assert_eq!(came(1), (1, Some(Expiring::Soft)));
        assert_eq!(came(3), (2, Some(Expiring::Hard)));
        assert_eq!(came(2), (0, None));
        assert_eq!(drops(&receiver, Refusal::Expired), 3);
        assert_eq!(receiver.counters().0.packets, 4);
    }
    let limits = Limits {
        hard_ns: 100,
        ..Limits::default()
    };
    let (sender, receiver) = both(&Terms {
        limits,
        ..terms(gcm())
    });
    assert!(open_at(&receiver, &[seal(&sender, b".")], 99).0[0].is_ok());
    let late = seal_at(&sender, &[(GRE, b".")], 0).0;
    let (results, run) = open_at(&receiver, &late, 100);
    assert_eq!(results, [Err(Refusal::Expired)]);
    assert_eq!(run.expiring, Some(Expiring::Hard));
    assert_eq!(open_at(&receiver, &late, 100).1.expiring, None);
}

#[test]
fn a_dummy_packet_is_dropped_without_fault() {
    let (sender, receiver) = both(&tunnel());
    let dummy = seal_at(&sender, &[(layout::DUMMY, &[0; 40])], 0)
        .0
        .remove(0);
    assert_eq!(open(&receiver, &dummy), Err(Refusal::Dummy));
    assert_eq!(drops(&receiver, Refusal::Dummy), 1);
    assert_eq!(
        open(&receiver, &dummy),
        Err(Refusal::Replayed),
        "it has its number all the same"
    );
}

/// A genuine packet with this text, trailer included.
fn with_text(text: &[u8]) -> Vec<u8> {
    use ginnel_crypto::esp::{EspCipher, EspJob};
    let suite = gcm();
    let [key, integrity] = pair::keys(suite);
    let cipher = EspCipher::new(suite, false, &key, &integrity).unwrap();
    let mut packet = vec![0; layout::headroom(suite)];
    layout::write_header(&mut packet, pair::SPI, 1);
    packet.extend(text);
    packet.extend(vec![0; suite.icv_len()]);
    let job = EspJob {
        sequence: 1,
        start: 0,
        len: text.len(),
    };
    cipher.seal_many(&mut packet, &[job]);
    packet
}

#[test]
fn padding_that_is_not_1_to_n_or_longer_than_the_text_is_refused_though_genuine() {
    for (text, expected) in [
        (&b"1234\x01\x02\x02\x2f"[..], Ok(b"1234".to_vec())),
        (b"1234\x00\x00\x02\x2f", Err(Refusal::Malformed)),
        (b"1234\x02\x01\x02\x2f", Err(Refusal::Malformed)),
        (b"1234\x01\x02\xff\x2f", Err(Refusal::Malformed)),
        (b"\x01\x02\x03\x04\x05\x06\x06\x2f", Ok(vec![])),
        (b"\x01\x02\x03\x04\x05\x06\x07\x2f", Err(Refusal::Malformed)),
        (b"1234567\x08\x01\x02\x02\x2f", Ok(b"1234567\x08".to_vec())),
    ] {
        let receiver = inbound(&terms(gcm()), 64, 0).unwrap();
        assert_eq!(open(&receiver, &with_text(text)), expected, "{text:?}");
        assert_eq!(
            drops(&receiver, Refusal::Malformed),
            u64::from(expected.is_err())
        );
    }
    // More padding than we send, as other stacks do to hide lengths.
    let mut text = b"short".to_vec();
    text.extend(1..=249);
    text.extend([249, GRE]);
    let receiver = inbound(&terms(gcm()), 64, 0).unwrap();
    assert_eq!(open(&receiver, &with_text(&text)).unwrap(), b"short");
}

#[test]
fn tunnel_mode_brings_an_ip_packet_of_the_family_it_says_cut_to_its_length() {
    let (four, six) = (v4(0, 17, &[1; 20]), v6(0, 17, &[1; 20]));
    let mut padded = four.clone();
    padded.extend([0; 33]);
    for (next_header, payload, expected) in [
        (4, &four, Ok(&four)),
        (41, &six, Ok(&six)),
        (4, &padded, Ok(&four)),
        (41, &four, Err(Refusal::Malformed)),
        (4, &six, Err(Refusal::Malformed)),
        (47, &four, Err(Refusal::WrongMode)),
        (0, &four, Err(Refusal::WrongMode)),
        (4, &four[..39].to_vec(), Err(Refusal::Malformed)),
        (4, &vec![], Err(Refusal::Malformed)),
        (41, &six[..30].to_vec(), Err(Refusal::Malformed)),
    ] {
        let (sender, receiver) = both(&tunnel());
        let packet = seal_at(&sender, &[(next_header, payload.as_slice())], 0)
            .0
            .remove(0);
        let admitted = admit(&receiver, &packet, &outer(0));
        assert_eq!(admitted, expected.cloned(), "{next_header} {payload:?}");
        assert_eq!(all_drops(&receiver), u64::from(admitted.is_err()));
    }
}

#[test]
fn congestion_on_the_way_is_carried_in_or_drops_the_packet() {
    for (inner, tos, expected) in [
        (2, 3, Some(3)),
        (1, 3, Some(3)),
        (0, 3, None),
        (2, 0, Some(2)),
    ] {
        let (sender, receiver) = both(&tunnel());
        let packet = v4(0xb8 | inner, 17, &[0; 8]);
        let sealed = seal_at(&sender, &[(4, &packet)], 0).0.remove(0);
        match (admit(&receiver, &sealed, &outer(tos)), expected) {
            (Ok(packet), Some(ecn)) => assert_eq!(packet[1], 0xb8 | ecn),
            (refused, expected) => {
                assert_eq!((refused, expected), (Err(Refusal::Ecn), None));
                assert_eq!(drops(&receiver, Refusal::Ecn), 1);
            }
        }
    }
}

#[test]
fn what_the_sa_was_not_negotiated_for_is_refused_after_opening() {
    let host = |last: u8| ([10, 0, 0, last].into(), [10, 0, 0, last].into());
    let inside = Selector::new(17, Ports::ANY, host(1), Ports::ANY, host(2)).unwrap();
    let agreed = Terms {
        selectors: Selectors::new(vec![inside]).unwrap(),
        ..tunnel()
    };
    let (sender, receiver) = both(&agreed);
    let came = |packet: &[u8]| {
        let sealed = seal_at(&sender, &[(4, packet)], 0).0.remove(0);
        admit(&receiver, &sealed, &outer(0)).map(|_| ())
    };
    assert_eq!(came(&v4(0, 17, &[0; 8])), Ok(()));
    assert_eq!(came(&v4(0, 6, &[0; 20])), Err(Refusal::Selectors));
    let mut spoofed = v4(0, 17, &[0; 8]);
    spoofed[15] = 9;
    assert_eq!(came(&spoofed), Err(Refusal::Selectors));
    assert_eq!(drops(&receiver, Refusal::Selectors), 2);

    // What lies behind the packet's end is no header of it.
    let web = Ports {
        first: 80,
        last: 80,
    };
    let to_web = Selector::new(17, Ports::ANY, host(1), web, host(2)).unwrap();
    let agreed = Terms {
        selectors: Selectors::new(vec![to_web]).unwrap(),
        ..tunnel()
    };
    let (sender, receiver) = both(&agreed);
    let udp = [0x12, 0x34, 0, 80];
    let whole = v4(0, 17, &udp);
    let cut = [v4(0, 17, &udp[..2]), udp[2..].to_vec()].concat();
    for (packet, expected) in [(whole, Ok(())), (cut, Err(Refusal::Selectors))] {
        let sealed = seal_at(&sender, &[(4, &packet)], 0).0.remove(0);
        let admitted = admit(&receiver, &sealed, &outer(0)).map(|_| ());
        assert_eq!(admitted, expected);
    }

    // Transport mode: the outer addresses and what the payload is.
    let ends = (outer(0).source, outer(0).destination);
    let gre = Selector::new(
        GRE,
        Ports::ANY,
        (ends.0, ends.0),
        Ports::ANY,
        (ends.1, ends.1),
    );
    let agreed = Terms {
        selectors: Selectors::new(vec![gre.unwrap()]).unwrap(),
        ..terms(gcm())
    };
    let (sender, receiver) = both(&agreed);
    let sealed = |next_header: u8| {
        seal_at(&sender, &[(next_header, b"any bytes")], 0)
            .0
            .remove(0)
    };
    assert_eq!(
        admit(&receiver, &sealed(GRE), &outer(3)).unwrap(),
        b"any bytes"
    );
    assert_eq!(
        admit(&receiver, &sealed(4), &outer(0)),
        Err(Refusal::Selectors)
    );
    let elsewhere = ginnel_esp::inbound::Outer {
        source: [192, 0, 2, 7].into(),
        ..outer(0)
    };
    let refused = admit(&receiver, &sealed(GRE), &elsewhere);
    assert_eq!(refused, Err(Refusal::Selectors));
    // In UDP a NAT has the say over addresses, and over nothing else.
    let moved = ginnel_esp::inbound::Outer {
        in_udp: true,
        ..elsewhere
    };
    assert!(admit(&receiver, &sealed(GRE), &moved).is_ok());
    assert_eq!(
        admit(&receiver, &sealed(4), &moved),
        Err(Refusal::Selectors)
    );
}

#[test]
fn every_reason_has_a_name_and_a_counter_of_its_own() {
    let names: std::collections::HashSet<_> = Refusal::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(names.len(), Refusal::ALL.len());
    for (at, reason) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, at);
    }
}

#[test]
fn ten_thousand_packets_in_disorder_come_in_once_each() {
    // Small batches, shuffled within the window, a fifth of them twice.
    let (sender, receiver) = both(&extended());
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut came, batches) = (0, 200);
    for _ in 0..batches {
        let (mut packets, _) = seal_at(&sender, &[(GRE, &b"."[..]); 50], 0);
        for _ in 0..10 {
            packets.push(packets[random(50)].clone());
        }
        for at in (1..packets.len()).rev() {
            packets.swap(at, random(at + 1));
        }
        came += open_at(&receiver, &packets, 0)
            .0
            .iter()
            .filter(|one| one.is_ok())
            .count();
    }
    assert_eq!(came, batches * 50);
    assert_eq!(drops(&receiver, Refusal::Replayed), batches as u64 * 10);
}
