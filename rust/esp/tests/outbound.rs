//! The SA by which packets leave: its numbers, its limits, what it writes.
#![allow(clippy::unwrap_used)]

mod pair;

use ginnel_crypto::esp::Suite;
use ginnel_esp::layout;
use ginnel_esp::sa::{Expiring, Limits, SaError, Terms};
use pair::{gcm, keys, open, outbound, seal, seal_at, terms, GRE, SPI};

/// (low half of the number) of each packet.
fn numbers(packets: &[Vec<u8>]) -> Vec<u32> {
    let header = |packet: &Vec<u8>| layout::read_header(packet).unwrap();
    packets.iter().map(|packet| header(packet).1).collect()
}

/// Payloads of one byte, so many, as one batch at this time.
fn send(
    sa: &ginnel_esp::outbound::Outbound,
    count: usize,
    now_ns: u64,
) -> (usize, Option<Expiring>) {
    let (_, sealed) = seal_at(sa, &vec![(GRE, &b"."[..]); count], now_ns);
    (sealed.count, sealed.expiring)
}

#[test]
fn numbers_begin_at_1_and_a_batch_has_consecutive_ones() {
    for suite in Suite::all() {
        let sa = outbound(&terms(suite), 0).unwrap();
        let (packets, sealed) = seal_at(&sa, &[(GRE, b"a"), (GRE, b"bb"), (GRE, b"")], 0);
        assert_eq!(sealed.count, 3);
        assert_eq!(numbers(&packets), [1, 2, 3]);
        assert_eq!(numbers(&[seal(&sa, b"next")]), [4]);
        assert!(packets
            .iter()
            .all(|packet| packet[..4] == SPI.to_be_bytes()));
        let counted = sa.counters();
        assert_eq!(
            (counted.packets, counted.bytes, counted.sequence),
            (4, 7, 4)
        );
    }
}

#[test]
fn what_lies_around_a_packet_in_the_slab_is_untouched() {
    use ginnel_esp::outbound::Placed;
    use ginnel_esp::sa::Scratch;
    for suite in Suite::all() {
        let sa = outbound(&terms(suite), 0).unwrap();
        let len = layout::sealed_len(suite, 100);
        let mut slab = vec![0xee; 50 + len + 50];
        slab[50 + layout::headroom(suite)..][..100].fill(0x11);
        let placed = [Placed {
            start: 50,
            payload: 100,
            next_header: GRE,
        }];
        let sealed = sa.seal(&mut slab, &placed, 0, &mut Scratch::default());
        assert_eq!(sealed.count, 1);
        assert_eq!(slab[..50], [0xee; 50], "{}", suite.name());
        assert_eq!(slab[50 + len..], [0xee; 50], "{}", suite.name());
        let payload = &slab[50 + layout::headroom(suite)..][..100];
        assert_ne!(payload, [0x11; 100], "it is not in the clear");
    }
}

#[test]
fn without_esn_the_numbers_end_at_2_to_32_and_never_wrap() {
    let last = u64::from(u32::MAX);
    let sa = outbound(&terms(gcm()), last - 3).unwrap();
    let (packets, sealed) = seal_at(&sa, &[(GRE, &b"."[..]); 5], 0);
    assert_eq!(numbers(&packets), [u32::MAX - 2, u32::MAX - 1, u32::MAX]);
    assert_eq!(sealed.count, 3);
    assert_eq!(sealed.expiring, Some(Expiring::Hard));
    for _ in 0..3 {
        assert_eq!(send(&sa, 2, 0), (0, None), "for good");
    }
    assert_eq!(sa.counters().sequence, last);
    assert_eq!(outbound(&terms(gcm()), last).unwrap_err(), SaError::Number);
}

#[test]
fn with_esn_the_low_half_goes_on_behind_its_end() {
    let extended = Terms {
        esn: true,
        ..terms(gcm())
    };
    let sa = outbound(&extended, (7 << 32) - 2).unwrap();
    let (packets, _) = seal_at(&sa, &[(GRE, &b"."[..]); 4], 0);
    assert_eq!(numbers(&packets), [u32::MAX, 0, 1, 2]);
    assert_eq!(sa.counters().sequence, (7 << 32) + 2);
    let sa = outbound(&extended, u64::MAX - 3).unwrap();
    assert_eq!(send(&sa, 5, 0), (2, Some(Expiring::Hard)));
    assert_eq!(send(&sa, 1, 0), (0, None));
    let none_left = outbound(&extended, u64::MAX - 1);
    assert_eq!(none_left.unwrap_err(), SaError::Number);
}

#[test]
fn seven_eighths_of_the_numbers_are_a_soft_limit() {
    let soft = u64::from(u32::MAX) / 8 * 7;
    let sa = outbound(&terms(gcm()), soft - 2).unwrap();
    assert_eq!(send(&sa, 1, 0), (1, None));
    assert_eq!(send(&sa, 1, 0), (1, Some(Expiring::Soft)));
    assert_eq!(send(&sa, 9, 0), (9, None), "told once");
}

#[test]
fn limits_of_packets_and_bytes_soft_once_hard_for_good() {
    let limited = |limits| {
        outbound(
            &Terms {
                limits,
                ..terms(gcm())
            },
            1000,
        )
        .unwrap()
    };
    // One byte each: both limits by the same numbers.
    for limits in [
        Limits {
            soft_packets: 5,
            hard_packets: 8,
            ..Limits::default()
        },
        Limits {
            soft_bytes: 5,
            hard_bytes: 8,
            ..Limits::default()
        },
    ] {
        let sa = limited(limits);
        assert_eq!(send(&sa, 4, 0), (4, None));
        assert_eq!(send(&sa, 1, 0), (1, Some(Expiring::Soft)));
        assert_eq!(send(&sa, 2, 0), (2, None));
        assert_eq!(send(&sa, 4, 0), (1, Some(Expiring::Hard)));
        assert_eq!(send(&sa, 1, 0), (0, None));
        assert_eq!(sa.counters().packets, 8);
        // A batch over both at once is told of the end alone.
        assert_eq!(send(&limited(limits), 20, 0), (8, Some(Expiring::Hard)));
    }
    // A payload that would go beyond the limit ends the SA, smaller ones behind it too.
    let sa = limited(Limits {
        hard_bytes: 10,
        ..Limits::default()
    });
    let (_, sealed) = seal_at(&sa, &[(GRE, b"123456"), (GRE, b"12345"), (GRE, b"1")], 0);
    assert_eq!((sealed.count, sealed.expiring), (1, Some(Expiring::Hard)));
    assert_eq!(send(&sa, 1, 0), (0, None));
}

#[test]
fn a_time_ends_it_from_that_nanosecond_on() {
    let sa = outbound(
        &Terms {
            limits: Limits {
                hard_ns: 500,
                ..Limits::default()
            },
            ..terms(gcm())
        },
        0,
    )
    .unwrap();
    assert_eq!(send(&sa, 2, 499), (2, None));
    assert_eq!(sa.counters().last_ns, 499);
    assert_eq!(send(&sa, 2, 500), (0, Some(Expiring::Hard)));
    assert_eq!(
        send(&sa, 2, 499),
        (0, None),
        "a clock that goes back revives nothing"
    );
    assert_eq!(sa.counters().last_ns, 499);
}

#[test]
fn keys_of_another_size_are_refused() {
    for suite in Suite::all() {
        for other in Suite::all() {
            let [key, integrity] = keys(other);
            let same = [key.len(), integrity.len()] == [suite.key_len(), suite.integrity_len()];
            let made = ginnel_esp::outbound::Outbound::new(terms(suite), &key, &integrity, 0);
            assert_eq!(made.is_ok(), same);
            let made = ginnel_esp::inbound::Inbound::new(terms(suite), &key, &integrity, 64, 0);
            assert_eq!(made.is_ok(), same);
        }
    }
}

#[test]
fn threads_that_send_at_once_never_share_a_number() {
    let sa = outbound(&terms(gcm()), 0).unwrap();
    let (sa, packets) = (&sa, 200);
    let mut sent: Vec<u32> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    (0..packets)
                        .flat_map(|_| numbers(&seal_at(sa, &[(GRE, &b"."[..]); 3], 0).0))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    sent.sort_unstable();
    assert!(sent.iter().copied().eq(1..=4 * packets * 3));
}

#[test]
fn debug_shows_no_key() {
    let sa = outbound(&terms(gcm()), 0).unwrap();
    let shown = format!("{sa:?} {:?}", pair::inbound(&terms(gcm()), 64, 0).unwrap());
    assert!(shown.contains("spi") && !shown.contains("cipher") && !shown.contains("7, 7"));
    let received = pair::inbound(&terms(gcm()), 64, 0).unwrap();
    assert_eq!(
        open(&received, &seal(&sa, b"it works all the same")).unwrap(),
        b"it works all the same"
    );
}
