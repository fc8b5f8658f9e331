//! What holds for any input, tried with random ones; the bodies of the fuzz targets say what it is.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod pair;

use ginnel_crypto::esp::Suite;
use ginnel_esp::sa::{Mode, Terms};
use pair::{admit, inbound, open_at, outbound, outer, seal_at, terms, v4, v6, GRE};
use proptest::collection::vec;
use proptest::prelude::*;

fn suites() -> impl Strategy<Value = Suite> {
    proptest::sample::select(Suite::all().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_break_anything(data in vec(any::<u8>(), 0..400)) {
        bodies::trailer(&data);
        bodies::selectors(&data);
        bodies::demultiplex(&data);
        bodies::replay(&data);
        bodies::arrive(&data);
    }

    #[test]
    fn what_is_sealed_is_opened_for_every_suite_mode_and_length(
        suite in suites(), esn: bool, sent in prop_oneof![Just(0_u64), 0..u64::from(u32::MAX) - 200],
        high in 0_u64..1 << 20,
        lengths in vec(prop_oneof![0_usize..40, 0_usize..9000], 1..12), fill: u8,
    ) {
        let sent = if esn { high << 32 | sent } else { sent };
        let agreed = Terms { esn, ..terms(suite) };
        let sender = outbound(&agreed, sent).unwrap();
        let receiver = inbound(&agreed, 1024, sent).unwrap();
        let payloads: Vec<Vec<u8>> = lengths.iter().map(|len| vec![fill; *len]).collect();
        let batch: Vec<_> = payloads.iter().map(|payload| (GRE, payload.as_slice())).collect();
        let (packets, sealed) = seal_at(&sender, &batch, 0);
        prop_assert_eq!(sealed.count, payloads.len());
        let (results, run) = open_at(&receiver, &packets, 0);
        prop_assert!(run.first);
        for (at, (result, payload)) in results.into_iter().zip(payloads).enumerate() {
            let (opened, inside) = result.unwrap();
            prop_assert_eq!((opened.next_header, opened.number), (GRE, sent + at as u64 + 1));
            prop_assert_eq!(inside, payload);
        }
    }

    #[test]
    fn tunnel_mode_brings_back_the_packet_whatever_is_padded_behind_it(
        suite in suites(), six: bool, class: u8, body in vec(any::<u8>(), 0..1500), padding in 0_usize..300,
    ) {
        let agreed = Terms { mode: Mode::Tunnel, ..terms(suite) };
        let sender = outbound(&agreed, 0).unwrap();
        let receiver = inbound(&agreed, 1024, 0).unwrap();
        let (next, packet) = if six { (41, v6(class, 17, &body)) } else { (4, v4(class, 17, &body)) };
        let mut padded = packet.clone();
        padded.resize(packet.len() + padding, 0);
        let sealed = seal_at(&sender, &[(next, &padded)], 0).0.remove(0);
        prop_assert_eq!(admit(&receiver, &sealed, &outer(0)).unwrap(), packet);
    }
}
