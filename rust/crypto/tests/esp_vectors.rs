//! Published ESP packets: RFC 3602, RFC 7634, draft-mcgrew-gcm-test-01; and Wycheproof's AES-CBC through ESP's wrapper.
//!
//! Their IVs are given, ours are made, so what is published is opened; that sealing is its inverse is `tests/esp.rs`'s business.
#![allow(clippy::unwrap_used)]

use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::hash::Hash;
use ginnel_crypto::{aead_backends, prf, KeyMaterial};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Open `packet` alone and in a batch of two, with each implementation; the text, if it is genuine each time.
fn open(suite: &str, esn: bool, keys: [&[u8]; 2], sequence: u64, packet: &[u8]) -> Option<Vec<u8>> {
    let suite = Suite::parse(suite).unwrap();
    let text = HEADER_SIZE + suite.iv_len()..packet.len() - suite.icv_len();
    let mut texts = Vec::new();
    for backend in aead_backends() {
        let [key, integrity] = keys.map(KeyMaterial::from_slice);
        let cipher = EspCipher::with_backend(backend, suite, esn, &key, &integrity).unwrap();
        for count in [1, 2] {
            let mut slab = packet.repeat(count);
            let jobs: Vec<_> = (0..count)
                .map(|at| EspJob {
                    sequence,
                    start: at * packet.len(),
                    len: text.len(),
                })
                .collect();
            let mut ok = vec![false; count];
            cipher.open_many(&mut slab, &jobs, &mut ok);
            for (ok, packet) in ok.iter().zip(slab.chunks(packet.len())) {
                texts.push(ok.then(|| packet[text.clone()].to_vec()));
            }
        }
    }
    let first = texts[0].clone();
    assert!(texts.iter().all(|text| *text == first));
    first
}

#[test]
fn gcm_as_mcgrew_has_it() {
    let set: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/gcm_esp.json")).unwrap();
    let cases = set["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let field = |name: &str| hex(case[name].as_str().unwrap());
        let (mut key, aad) = (field("key"), field("aad"));
        let suite = format!("aes{}gcm16", 8 * key.len());
        key.extend_from_slice(&field("salt"));
        let esn = aad.len() == 12;
        let mut sequence = [0; 8];
        sequence[if esn { 0 } else { 4 }..].copy_from_slice(&aad[4..]);
        let mut packet = aad[..4].to_vec();
        packet.extend_from_slice(&sequence[4..]);
        for part in ["iv", "ct", "icv"] {
            packet.extend_from_slice(&field(part));
        }
        let sequence = u64::from_be_bytes(sequence);
        let found = open(&suite, esn, [&key, &[]], sequence, &packet);
        assert_eq!(found, Some(field("text")), "{case}");
        *packet.last_mut().unwrap() ^= 1;
        assert_eq!(open(&suite, esn, [&key, &[]], sequence, &packet), None);
    }
}

/// RFC 7634, appendix A: an ICMP packet in tunnel mode.
#[test]
fn chacha_as_its_rfc_has_it() {
    let key: Vec<u8> = (0x80..0xa4).collect();
    let packet = hex(
        "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6\
         14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da\
         9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
    );
    let expected = hex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f10111213\
         1415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536370102\
         0204",
    );
    assert_eq!(
        open("chacha20poly1305", false, [&key, &[]], 5, &packet),
        Some(expected)
    );
}

/// RFC 3602, 4, cases 5 to 8: packets that are encrypted and not authenticated. The ICV behind them is ours.
#[test]
fn cbc_as_its_rfc_has_it() {
    let echo = "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637";
    let cases = [
        (
            "90d382b410eeba7ad938c46cec1a82bf",
            "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4\
             898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
            format!("08000ebda70a00008e9c083db95b0700{echo}0102030405060708090a0b0c0d0e0e01"),
        ),
        (
            "90d382b410eeba7ad938c46cec1a82bf",
            "000043210000000869d08df7d203329db093fc4924e5bd80f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
            "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201".to_owned(),
        ),
        (
            "0123456789abcdef0123456789abcdef",
            "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1\
             a0cf70f8e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a\
             109e0ca1e4dfe9d5a100b842f1c22f0d",
            format!(
                "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a20400{echo}0102030405060708090a0a04"
            ),
        ),
        (
            "0123456789abcdef0123456789abcdef",
            "000087650000000585d47224b5f3dd5d2101d4ea8dffab2215b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc\
             61203bb50f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
            format!(
                "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300{}0102030405060708090a0a04",
                "ff".repeat(32)
            ),
        ),
    ];
    let integrity = [0x3c; 32];
    for (key, packet, text) in cases {
        let mut packet = hex(packet);
        let icv = prf::prf_public(Hash::Sha256, &integrity, &[&packet]);
        packet.extend_from_slice(&icv[..16]);
        let sequence = u64::from(packet[7]);
        let found = open(
            "aes128-sha256",
            false,
            [&hex(key), &integrity],
            sequence,
            &packet,
        );
        assert_eq!(found, Some(hex(&text)));
    }
}

/// Wycheproof's 72 valid cases of AES-CBC: their padding (PKCS 5) is text to ESP. The others are of padding alone.
#[test]
fn wycheproof_cbc() {
    let set: serde_json::Value = serde_json::from_str(include_str!(
        "../../../tests/vectors/wycheproof_aes_cbc_pkcs5.json"
    ))
    .unwrap();
    let mut ran = 0;
    for group in set["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            let field = |name: &str| hex(case[name].as_str().unwrap());
            let suite = format!("aes{}-sha512", group["keySize"]);
            let integrity = [0x77; 64];
            let mut packet = vec![0, 0, 1, 0, 0, 0, 0, 9];
            packet.extend_from_slice(&field("iv"));
            packet.extend_from_slice(&field("ct"));
            let implicit = 4_u32.to_be_bytes();
            let icv = prf::prf_public(Hash::Sha512, &integrity, &[&packet, &implicit]);
            packet.extend_from_slice(&icv[..32]);
            let mut expected = field("msg");
            let padding = 16 - expected.len() % 16;
            expected.resize(expected.len() + padding, padding as u8);
            let found = open(
                &suite,
                true,
                [&field("key"), &integrity],
                (4 << 32) | 9,
                &packet,
            );
            assert_eq!(found, Some(expected), "{case}");
            ran += 1;
        }
    }
    assert_eq!(ran, 72);
}
