//! Published ESP packets, opened whole: RFC 7634 appendix A, and the packets of draft-mcgrew-gcm-test-01 that are ESP's.
//!
//! Their IVs are not their sequence numbers, as ours would be: a receiver takes what the packet shows.
#![allow(clippy::unwrap_used)]

mod pair;

use ginnel_crypto::esp::Suite;
use ginnel_crypto::KeyMaterial;
use ginnel_esp::inbound::Inbound;
use ginnel_esp::sa::{Mode, Terms};
use ginnel_packet::ip;
use pair::{admit, open, open_at, outer, terms};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A receiver of this suite and key (salt behind it) that has had everything up to this number.
fn receiver(suite: &str, mode: Mode, key: &str, esn: bool, received: u64) -> Inbound {
    let terms = Terms {
        mode,
        esn,
        ..terms(Suite::parse(suite).unwrap())
    };
    let key = KeyMaterial::from_slice(&bytes(key));
    let none = KeyMaterial::from_slice(&[]);
    Inbound::new(terms, &key, &none, 64, received).unwrap()
}

#[test]
fn rfc_7634_appendix_a_a_ping_in_tunnel_mode() {
    let delivered = bytes(
        "4500008c 23450000 4032de5b cb007199 cb007105
         01020304 00000005 1011121314151617
         24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
         14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
         cbec163fac469b502773f6fb94e664da9165b82829f641e0
         76aaa8266b7fb0f7b11b369907e1ad43",
    );
    assert_eq!(ip::total_len(&delivered), Ok(delivered.len()));
    let at = ip::layout(&delivered).unwrap();
    assert_eq!(at.protocol, 50);
    let esp = &delivered[at.transport..];
    assert_eq!(ginnel_esp::udp::esp_spi(esp), Some(0x0102_0304));
    let key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3";
    let sa = receiver("chacha20poly1305", Mode::Tunnel, key, false, 0);
    let mut ping = bytes(
        "45000054 a6f20000 4001e778 c6336405 c0000205
         08005b7a 3a080000 553bec10 00073627",
    );
    ping.extend(0x08..=0x37);
    assert_eq!(admit(&sa, esp, &outer(0)).unwrap(), ping);
    assert_eq!(sa.counters().0.sequence, 5);
}

#[test]
fn gcm_128_with_extended_sequence_numbers() {
    let packet = bytes(
        "00004321 00000000 4956ed7e3b244cfe
         fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
         cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
         61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
    );
    let key = "4c80cdefbb5d10da906ac73c3613a634 2e443b68";
    let number = 0x8765_4321_0000_0000;
    let sa = receiver("aes128gcm16", Mode::Transport, key, true, number - 1);
    let (opened, payload) = open_at(&sa, &[packet], 0).0.remove(0).unwrap();
    assert_eq!((opened.number, opened.next_header), (number, 1));
    let expected = bytes(
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
         00000000045f736970045f756470037369700963796265726369747902646b00
         00210001",
    );
    assert_eq!(payload, expected);
}

#[test]
fn gcm_256() {
    let packet = bytes(
        "4a2cbfe3 00000002 0102030405060708
         ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
         748a637985771d347f0545659f14e99def842d8e
         b335f4eecfdbf831824b4c4915956c96",
    );
    let key = "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344";
    let sa = receiver("aes256gcm16", Mode::Transport, key, false, 0);
    let expected = bytes(
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
         7002400020bf0000020405b401010402",
    );
    assert_eq!(open(&sa, &packet).unwrap(), expected);
}
