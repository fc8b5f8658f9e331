//! IKE's primitives against published vectors: RFC 4231, 4868, 5903, 7634, the published key derivation case, Wycheproof through our
//! wrappers; and every refusal.
//!
//! Where Wycheproof leaves a case open ("acceptable"), the choice is named. Random inputs come from a counter-seeded generator.
#![allow(clippy::unwrap_used)]

mod common;

use ginnel_crypto::aead::AuthenticationFailed;
use ginnel_crypto::agreement::{Group, InvalidPublicValue, KeyExchange};
use ginnel_crypto::esp::Suite;
use ginnel_crypto::hash::{bytes_equal, Hash, Hmac};
use ginnel_crypto::ike::IkeCipher;
use ginnel_crypto::{prf, KeyMaterial};

use common::Random;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Each case of a Wycheproof set, with its group.
fn each(text: &str, mut run: impl FnMut(&serde_json::Value, &serde_json::Value)) -> usize {
    let set: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut ran = 0;
    for group in set["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            run(group, case);
            ran += 1;
        }
    }
    ran
}

fn field(case: &serde_json::Value, name: &str) -> Vec<u8> {
    hex(case[name].as_str().unwrap())
}

// ---------------------------------------------------------------- prf

/// RFC 4231, 4.2, 4.3, 4.7 (keys shorter and longer than a block) and RFC 2202's SHA-1 of the same kind; RFC 4868, 2.7.2, whose keys
/// have the hash's size.
#[test]
fn hmac_of_the_rfcs() {
    let long = vec![0xaa; 131];
    let cases: [(Hash, &[u8], &[u8], &str); 12] = [
        (Hash::Sha1, &[0x0b; 20], b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
        (Hash::Sha256, &[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            Hash::Sha384,
            &[0x0b; 20],
            b"Hi There",
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
        ),
        (
            Hash::Sha512,
            &[0x0b; 20],
            b"Hi There",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (Hash::Sha1, b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (
            Hash::Sha256,
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            Hash::Sha256,
            &long,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            Hash::Sha384,
            &long,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
        ),
        (
            Hash::Sha512,
            &long,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
        (Hash::Sha256, &[0x0b; 32], b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"),
        (
            Hash::Sha384,
            &[0x0b; 48],
            b"Hi There",
            "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2",
        ),
        (
            Hash::Sha512,
            &[0x0b; 64],
            b"Hi There",
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b",
        ),
    ];
    for (hash, key, data, expected) in cases {
        let (left, right) = data.split_at(data.len() / 3);
        assert_eq!(
            prf::prf_public(hash, key, &[left, &[], right]),
            hex(expected)
        );
        assert_eq!(prf::prf(hash, key, &[data]).expose(), hex(expected));
    }
}

#[test]
fn digests_of_abc() {
    for (hash, expected) in [
        (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Hash::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Hash::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Hash::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ] {
        assert_eq!(hash.digest(&[b"a", b"", b"bc"]), hex(expected));
        assert_eq!(Hash::parse(hash.name()), Some(hash));
    }
    assert_eq!(Hash::parse("md5"), None);
}

/// 692 cases; tags whole and truncated to half, as ESP and IKE truncate them (SHA-1's to 80 bits, which nothing here asks for).
#[test]
fn wycheproof_hmac() {
    let set = include_str!("../../../tests/vectors/wycheproof_hmac.json");
    let ran = each(set, |group, case| {
        let hash = Hash::parse(group["hash"].as_str().unwrap()).unwrap();
        let (key, tag) = (field(case, "key"), field(case, "tag"));
        let msg = field(case, "msg");
        let valid = case["result"] == "valid";
        assert_eq!(Hmac::new(hash, &key).verify(&[&msg], &tag), valid, "{case}");
        let full = prf::prf_public(hash, &key, &[&msg]);
        assert_eq!(bytes_equal(&full[..tag.len()], &tag), valid, "{case}");
    });
    assert_eq!(ran, 692);
}

/// The case of NIST's ACVP sample for IKEv2 (SP 800-135), as libreswan's programs/cavp carries it: all five outputs.
#[test]
fn key_derivation_as_published() {
    let (ni, nr) = (hex("32b50d5f4a3763f3"), hex("9206a04b26564cb1"));
    let spis = hex("34c9e7c1888687853ff77d760d2b2199");
    let gir = hex("4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52");
    let gir_new = hex("863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330");
    let nonces = [ni.as_slice(), &nr].concat();
    let seed = prf::prf(Hash::Sha1, &nonces, &[&gir]);
    assert_eq!(
        seed.expose(),
        hex("a9a7b222b59f8f48645f28a1db5b5f5d7479cba7")
    );
    let plus = |key: &[u8], seed: &[&[u8]]| {
        let seed = KeyMaterial::concat(seed);
        prf::prf_plus(Hash::Sha1, key, seed.expose(), 132).unwrap()
    };
    let keys = plus(seed.expose(), &[&nonces, &spis]);
    assert_eq!(
        keys.expose(),
        hex(
            "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5\
             a670bde3f10d6b027113936a5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384b\
             d275c5f594cf266b05ebadca855e4249520a441a81157435a7a56cc4"
        )
    );
    let parts = keys.split(&[20, 112]).unwrap();
    let d = parts[0].expose();
    assert_eq!(
        plus(d, &[&nonces]).expose(),
        hex(
            "8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85ec\
             cdf0ad0dc9abd94b51ee71814ca6dbc8bb51b6309f5b9545c7eb35cf5580b1e521a8fe20754a2d883ba0c2cf285f524aea6545b3\
             3106bc03e614296d319d41d4b50b3f510b1c0a22f3e664994d234cb4"
        )
    );
    assert_eq!(
        plus(d, &[&gir_new, &nonces]).expose(),
        hex(
            "bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730e\
             d4820a8a10394d51e1c0400052f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a05884d1b7d2f9337\
             08450b7b3288f1fc863ab49fa901227cffc06e27899c7054d56fd74c"
        )
    );
    let rekeyed = prf::prf(Hash::Sha1, d, &[&gir_new, &nonces]);
    assert_eq!(
        rekeyed.expose(),
        hex("63e81194946ebd05df7df5ebf5d8750056bf1f1d")
    );
}

#[test]
fn prf_plus_ends_at_255_blocks() {
    for hash in Hash::ALL {
        let most = 255 * hash.size();
        let longest = prf::prf_plus(hash, b"k", b"s", most).unwrap();
        assert_eq!(longest.len(), most);
        assert!(prf::prf_plus(hash, b"k", b"s", most + 1).is_none());
        assert!(prf::prf_plus(hash, b"k", b"s", usize::MAX).is_none());
        assert!(prf::prf_plus(hash, b"k", b"s", 0).unwrap().is_empty());
        // A shorter result is a prefix of a longer one, whatever the block.
        for size in [
            1,
            hash.size() - 1,
            hash.size(),
            hash.size() + 1,
            3 * hash.size(),
        ] {
            let shorter = prf::prf_plus(hash, b"k", b"s", size).unwrap();
            assert_eq!(shorter.expose(), &longest.expose()[..size]);
        }
    }
}

// ---------------------------------------------------------------- Diffie-Hellman

fn group(number: u16) -> Group {
    Group::from_number(number).unwrap()
}

/// RFC 5903, 8.1 to 8.3, both sides.
#[test]
fn ecp_groups_of_the_rfc() {
    let cases = [
        (
            19,
            ["c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433", "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53"],
            [
                "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
                "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
            ],
            "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        ),
        (
            20,
            [
                "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
                "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
            ],
            [
                "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa\
                 9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
                "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571\
                 dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
            ],
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        ),
        (
            21,
            [
                "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
                "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
            ],
            [
                "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e\
                 017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
                "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f\
                 015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a",
            ],
            "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
        ),
    ];
    for (number, privates, publics, shared) in cases {
        let publics = publics.map(hex);
        for (one, other) in [(0, 1), (1, 0)] {
            let exchange = KeyExchange::with_private(group(number), &hex(privates[one])).unwrap();
            assert_eq!(exchange.public(), publics[one]);
            let found = exchange.agree(&publics[other]).unwrap();
            assert_eq!(found.expose(), hex(shared), "group {number}");
        }
    }
}

/// Every case that is not valid, and up to sixteen valid ones of each kind. Compressed points are "acceptable" to Wycheproof; IKE has
/// no place for them (RFC 5903, 7), so they are refused by their length.
#[test]
fn wycheproof_ecdh() {
    let set = include_str!("../../../tests/vectors/wycheproof_ecdh.json");
    let [mut agreed, mut refused] = [0; 2];
    each(set, |named, case| {
        let number = named["group"].as_u64().unwrap() as u16;
        let exchange = KeyExchange::with_private(group(number), &field(case, "private")).unwrap();
        let public = field(case, "public");
        let uncompressed = public.first() == Some(&4);
        let found = exchange.agree(if uncompressed { &public[1..] } else { &public });
        if case["result"] == "valid" {
            assert_eq!(found.unwrap().expose(), field(case, "shared"), "{case}");
            agreed += 1;
        } else {
            assert_eq!(found.err(), Some(InvalidPublicValue), "{case}");
            refused += 1;
        }
    });
    assert_eq!((agreed, refused), (194, 73));
}

/// All 518. A zero result, which the set leaves open, is refused (RFC 8031, 3.2); twists and non-canonical values are computed.
#[test]
fn wycheproof_x25519() {
    let set = include_str!("../../../tests/vectors/wycheproof_x25519.json");
    let mut refused = 0;
    let ran = each(set, |_, case| {
        let exchange = KeyExchange::with_private(Group::X25519, &field(case, "private")).unwrap();
        let expected = field(case, "shared");
        if let Ok(shared) = exchange.agree(&field(case, "public")) {
            assert_eq!(shared.expose(), expected, "{case}");
        } else {
            assert!(expected.iter().all(|byte| *byte == 0), "{case}");
            refused += 1;
        }
    });
    assert_eq!(ran, 518);
    assert!(refused > 10, "{refused}");
}

#[test]
fn both_sides_agree_in_every_group() {
    for number in Group::NUMBERS {
        let group = group(number);
        let (one, other) = (
            KeyExchange::new(group).unwrap(),
            KeyExchange::new(group).unwrap(),
        );
        assert_eq!(one.public().len(), group.public_size());
        assert_ne!(one.public(), other.public());
        let (left, right) = (one.public().to_vec(), other.public().to_vec());
        let shared = one.agree(&right).unwrap();
        assert_eq!(shared, other.agree(&left).unwrap(), "group {number}");
        assert_eq!(shared.len(), group.shared_size());
    }
    assert_eq!(Group::from_number(0), None);
    assert_eq!(Group::from_number(1), None);
    assert_eq!(Group::from_number(22), None);
}

/// The neighbours of zero, what is above every prime, and wrong lengths. The neighbours of the primes are tested where these are
/// computed from their formulas: tests/unit/crypto/test_ike.py.
#[test]
fn modp_values_out_of_range_are_refused() {
    for number in [2, 5, 14, 15, 16, 17, 18] {
        let group = group(number);
        let size = group.public_size();
        let exchange = || KeyExchange::with_private(group, &[3]).unwrap();
        let small = |value: u8| {
            let mut peer = vec![0; size];
            peer[size - 1] = value;
            peer
        };
        assert_eq!(exchange().public(), small(8));
        assert_eq!(exchange().agree(&small(2)).unwrap().expose(), small(8));
        for wrong in [small(0), small(1), vec![0xff; size]] {
            assert_eq!(exchange().agree(&wrong).err(), Some(InvalidPublicValue));
        }
        for wrong in [0, 1, size - 1, size + 1] {
            assert!(exchange().agree(&vec![2; wrong]).is_err(), "{wrong} bytes");
        }
    }
}

/// Whatever a peer sends is an answer, never a panic.
#[test]
fn any_bytes_are_answered() {
    let mut random = Random(11);
    for number in Group::NUMBERS {
        let group = group(number);
        // Exponents of one byte: the slow groups are here for their checks.
        for round in 0..40 {
            let exchange = match group {
                Group::Modp(_) => KeyExchange::with_private(group, &[5]),
                _ => KeyExchange::new(group),
            };
            let size = match round % 4 {
                0 => random.below(2 * group.public_size()),
                _ => group.public_size(),
            };
            let result = exchange.unwrap().agree(&random.bytes(size));
            if let Ok(shared) = result {
                assert_eq!(shared.len(), group.shared_size());
            }
        }
    }
}

#[test]
fn numbers_that_are_no_private_keys_are_refused() {
    for number in [19, 20, 21] {
        let size = group(number).shared_size();
        for wrong in [vec![0; size], vec![0xff; size], vec![]] {
            assert!(KeyExchange::with_private(group(number), &wrong).is_err());
        }
    }
    assert!(KeyExchange::with_private(Group::X25519, &[1; 31]).is_err());
}

// ---------------------------------------------------------------- messages

fn cipher(suite: Suite, random: &mut Random) -> [IkeCipher; 2] {
    let key = KeyMaterial::from_slice(&random.bytes(suite.key_len()));
    let integrity = KeyMaterial::from_slice(&random.bytes(suite.integrity_len()));
    [(); 2].map(|()| IkeCipher::new(suite, &key, &integrity).unwrap())
}

#[test]
fn every_suite_and_size_comes_back() {
    let mut random = Random(12);
    for suite in Suite::all() {
        let [one, other] = cipher(suite, &mut random);
        let mut ivs = std::collections::HashSet::new();
        for size in 0..300 {
            let (associated, plaintext) = (random.bytes(32), random.bytes(size));
            let sealed = one.seal(&associated, &plaintext);
            assert_eq!(sealed.len(), one.sealed_size(size));
            assert!(
                ivs.insert(sealed[..suite.iv_len()].to_vec()),
                "an IV repeats"
            );
            assert_eq!(other.open(&associated, &sealed), Ok(plaintext));
            if suite.is_aead() {
                assert_eq!(sealed.len(), 8 + size + 1 + 16);
            } else {
                assert_eq!(
                    sealed.len() - 16 - suite.icv_len(),
                    (size + 1).next_multiple_of(16)
                );
            }
        }
    }
}

#[test]
fn every_forgery_and_truncation_is_refused() {
    let mut random = Random(13);
    for suite in Suite::all() {
        let [one, other] = cipher(suite, &mut random);
        let associated = random.bytes(32);
        let sealed = one.seal(&associated, b"twenty-one plain bytes");
        let refused = |associated: &[u8], sealed: &[u8]| {
            assert_eq!(
                other.open(associated, sealed),
                Err(AuthenticationFailed),
                "{}",
                suite.name()
            );
        };
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1 << (at % 8);
            refused(&associated, &forged);
            refused(&associated, &sealed[..at]);
            refused(&associated, &sealed[at + 1..]);
        }
        for at in 0..associated.len() {
            let mut forged = associated.clone();
            forged[at] ^= 0x80 >> (at % 8);
            refused(&forged, &sealed);
        }
        refused(&[], &sealed);
        // A byte moved from one to the other.
        refused(&associated[..31], &[&associated[31..], &sealed].concat());
        for size in 0..200 {
            refused(&associated, &random.bytes(size));
        }
        refused(&associated, &random.bytes(70_000));
    }
}

/// Genuine, but with more padding than there are bytes: only the peer itself can make such a message.
#[test]
fn the_pad_length_is_held_to_the_message() {
    // AEAD: sealed by the library, so that the last byte is ours to choose.
    let suite = Suite::parse("chacha20poly1305").unwrap();
    let raw: [u8; 36] = core::array::from_fn(|at| at as u8);
    let cipher = IkeCipher::new(
        suite,
        &KeyMaterial::from_slice(&raw),
        &KeyMaterial::from_slice(&[]),
    )
    .unwrap();
    let mut nonce = raw[32..].to_vec();
    nonce.extend_from_slice(b"an IV..!");
    let seal = |text: &[u8]| {
        let key = raw[..32].try_into().unwrap();
        let nonce = nonce.clone().try_into().unwrap();
        let sealed = ginnel_crypto::aead::seal_nonce(key, nonce, text, b"head").unwrap();
        [b"an IV..!", sealed.as_slice()].concat()
    };
    let open = |text: &[u8]| cipher.open(b"head", &seal(text));
    assert_eq!(open(b"text\x00"), Ok(b"text".to_vec()));
    assert_eq!(open(b"text\x03"), Ok(b"t".to_vec()));
    assert_eq!(open(b"text\x04"), Ok(Vec::new()));
    assert_eq!(open(b"text\x05"), Err(AuthenticationFailed));
    assert_eq!(open(b"\x00"), Ok(Vec::new()));
    assert_eq!(open(b"\x01"), Err(AuthenticationFailed));
    assert_eq!(open(b""), Err(AuthenticationFailed));

    // CBC: a changed IV changes the last byte of the only block; the HMAC is made anew.
    let suite = Suite::parse("aes128-sha256").unwrap();
    let (key, integrity) = ([1; 16], [2; 32]);
    let [key, material] = [key.as_slice(), &integrity].map(KeyMaterial::from_slice);
    let cipher = IkeCipher::new(suite, &key, &material).unwrap();
    let sealed = cipher.seal(b"head", b"12345"); // 0x0a bytes of padding
    for wanted in [0_u8, 1, 10, 15, 16, 17, 255] {
        let mut changed = sealed[..32].to_vec();
        changed[15] ^= 0x0a ^ wanted;
        let checksum = prf::prf_public(Hash::Sha256, &integrity, &[b"head", &changed]);
        changed.extend_from_slice(&checksum[..16]);
        let found = cipher
            .open(b"head", &changed)
            .map(|plaintext| plaintext.len());
        let expected = 15_usize
            .checked_sub(wanted.into())
            .ok_or(AuthenticationFailed);
        assert_eq!(found, expected, "pad length {wanted}");
    }
}

/// RFC 7634, appendix B: an INFORMATIONAL request with one notification, sealed as an SK payload.
#[test]
fn message_of_the_chacha_rfc() {
    let key = KeyMaterial::from_slice(&(0x80..0xa4).collect::<Vec<u8>>());
    let suite = Suite::parse("chacha20poly1305").unwrap();
    let cipher = IkeCipher::new(suite, &key, &KeyMaterial::from_slice(&[])).unwrap();
    let associated = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
    let sealed = hex("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2");
    assert_eq!(
        cipher.open(&associated, &sealed),
        Ok(hex("0000000c000040010000000a"))
    );
}

/// What [`IkeCipher::open`] makes of a plaintext: the last byte says how many before it are padding.
fn without_padding(plaintext: &[u8]) -> Option<Vec<u8>> {
    let (padding, rest) = plaintext.split_last()?;
    Some(rest[..rest.len().checked_sub(usize::from(*padding))?].to_vec())
}

/// Cases of an AEAD with 96-bit nonces, whose plaintexts are read as IKE's: (cases, opened to their text).
fn wycheproof_aead(set: &str, name: impl Fn(&serde_json::Value) -> String) -> (usize, usize) {
    let (mut ran, mut opened) = (0, 0);
    each(set, |group, case| {
        let iv = field(case, "iv");
        if iv.len() != 12 {
            return; // other nonces cannot be expressed
        }
        let mut key = field(case, "key");
        key.extend_from_slice(&iv[..4]);
        let suite = Suite::parse(&name(group)).unwrap();
        let cipher = IkeCipher::new(
            suite,
            &KeyMaterial::from_slice(&key),
            &KeyMaterial::from_slice(&[]),
        )
        .unwrap();
        let sealed = [&iv[4..], &field(case, "ct"), &field(case, "tag")].concat();
        let found = cipher.open(&field(case, "aad"), &sealed).ok();
        let valid = case["result"] == "valid";
        let expected = without_padding(&field(case, "msg")).filter(|_| valid);
        assert_eq!(found, expected, "{case}");
        ran += 1;
        opened += usize::from(found.is_some());
    });
    (ran, opened)
}

#[test]
fn wycheproof_gcm() {
    let set = include_str!("../../../tests/vectors/wycheproof_aes_gcm.json");
    let ran = wycheproof_aead(set, |group| format!("aes{}gcm16", group["keySize"]));
    assert_eq!(ran.0, 197);
    assert!(ran.1 >= 30, "{ran:?}");
}

#[test]
fn wycheproof_chacha() {
    let set = include_str!("../../../tests/vectors/wycheproof_chacha20_poly1305.json");
    let ran = wycheproof_aead(set, |_| "chacha20poly1305".to_owned());
    assert_eq!(ran.0, 316);
    assert!(ran.1 >= 30, "{ran:?}");
}
