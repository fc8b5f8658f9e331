//! Published vectors through our own functions: all of Wycheproof that can be expressed, and those of the RFCs.
#![allow(clippy::unwrap_used)]

use ginnel_crypto::{aead, blake2s, kdf, x25519, AuthenticationFailed, Secret, ZeroSecret};
use serde_json::Value;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::from_hex(text.as_bytes()).unwrap()
}

/// Every case of a set: (its group, itself).
fn cases(text: &str) -> Vec<(Value, Value)> {
    let set: Value = serde_json::from_str(text).unwrap();
    let groups = set["testGroups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| {
            group["tests"]
                .as_array()
                .unwrap()
                .iter()
                .map(|case| (group.clone(), case.clone()))
        })
        .collect()
}

#[test]
fn wycheproof_x25519() {
    let cases = cases(include_str!(
        "../../../tests/vectors/wycheproof_x25519.json"
    ));
    assert_eq!(cases.len(), 518);
    for (_, case) in cases {
        let field = |name: &str| case[name].as_str().unwrap();
        let shared = x25519::dh(&secret(field("private")), &array(field("public")));
        let expected = secret(field("shared"));
        // Wycheproof leaves zero results open ("acceptable"); here they are refused.
        if expected.is_zero() {
            assert_eq!(shared, Err(ZeroSecret), "case {}", case["tcId"]);
        } else {
            assert_eq!(shared, Ok(expected), "case {}", case["tcId"]);
        }
    }
}

#[test]
fn wycheproof_chacha20_poly1305() {
    let cases = cases(include_str!(
        "../../../tests/vectors/wycheproof_chacha20_poly1305.json"
    ));
    assert_eq!(cases.len(), 325);
    for (group, case) in cases {
        let field = |name: &str| hex(case[name].as_str().unwrap());
        let Ok(nonce) = <[u8; 12]>::try_from(field("iv")) else {
            // Other sizes are impossible by type; Wycheproof has nine, all to be refused.
            assert_eq!(
                case["result"], "invalid",
                "case {} of nonce size {}",
                case["tcId"], group["ivSize"]
            );
            continue;
        };
        let key = field("key").try_into().unwrap();
        let sealed = [field("ct"), field("tag")].concat();
        let opened = aead::open_nonce(&key, nonce, &sealed, &field("aad"));
        if case["result"] == "valid" {
            assert_eq!(
                aead::seal_nonce(&key, nonce, &field("msg"), &field("aad")),
                Ok(sealed),
                "case {}",
                case["tcId"]
            );
            assert_eq!(opened, Ok(field("msg")), "case {}", case["tcId"]);
        } else {
            assert_eq!(opened, Err(AuthenticationFailed), "case {}", case["tcId"]);
        }
    }
}

#[test]
fn wycheproof_xchacha20_poly1305() {
    let cases = cases(include_str!(
        "../../../tests/vectors/wycheproof_xchacha20_poly1305.json"
    ));
    assert_eq!(cases.len(), 315);
    for (group, case) in cases {
        let field = |name: &str| hex(case[name].as_str().unwrap());
        let Ok(nonce) = <[u8; 24]>::try_from(field("iv")) else {
            assert_eq!(
                case["result"], "invalid",
                "case {} of nonce size {}",
                case["tcId"], group["ivSize"]
            );
            continue;
        };
        let key = field("key").try_into().unwrap();
        let sealed = [field("ct"), field("tag")].concat();
        let opened = aead::xopen(&key, &nonce, &sealed, &field("aad"));
        if case["result"] == "valid" {
            assert_eq!(
                aead::xseal(&key, &nonce, &field("msg"), &field("aad")),
                Ok(sealed),
                "case {}",
                case["tcId"]
            );
            assert_eq!(opened, Ok(field("msg")), "case {}", case["tcId"]);
        } else {
            assert_eq!(opened, Err(AuthenticationFailed), "case {}", case["tcId"]);
        }
    }
}

/// The counter form is the general one with the nonce `0^4 || LE64(counter)`.
#[test]
fn the_nonce_of_a_counter() {
    let key = secret("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = array("000000000807060504030201");
    let sealed = aead::seal(&key, 0x0102_0304_0506_0708, b"text", b"ad").unwrap();
    assert_eq!(
        aead::seal_nonce(key.expose(), nonce, b"text", b"ad").unwrap(),
        sealed
    );
    assert_eq!(
        aead::open(&key, 0x0102_0304_0506_0708, &sealed, b"ad").unwrap(),
        b"text"
    );
    assert_eq!(
        aead::open(&key, 0x0102_0304_0506_0709, &sealed, b"ad"),
        Err(AuthenticationFailed)
    );
    assert_eq!(
        aead::open(&key, 0x0102_0304_0506_0708, &sealed, b"AD"),
        Err(AuthenticationFailed)
    );
    assert_eq!(
        aead::open(&key, 0, &[0; 15], b""),
        Err(AuthenticationFailed)
    );
}

/// RFC 8439, 2.8.2.
#[test]
fn rfc8439_aead() {
    let key = array("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let sealed = aead::seal_nonce(
        &key,
        array("070000004041424344454647"),
        text,
        &hex("50515253c0c1c2c3c4c5c6c7"),
    )
    .unwrap();
    assert_eq!(sealed[..16], hex("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert_eq!(
        sealed[text.len()..],
        hex("1ae10b594f09e26a7e902ecbd0600691")
    );
}

/// RFC 7748, 5.2 and 6.1.
#[test]
fn rfc7748() {
    let dh = |private: &str, public: &str| x25519::dh(&secret(private), &array(public)).unwrap();
    assert_eq!(
        dh(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
        ),
        secret("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    );
    let alice = secret("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = secret("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    assert_eq!(
        x25519::public_key(&alice),
        array("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    );
    assert_eq!(
        x25519::public_key(&bob),
        array("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    );
    let shared = secret("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(
        x25519::dh(&alice, &x25519::public_key(&bob)).unwrap(),
        shared
    );
    assert_eq!(
        x25519::dh(&bob, &x25519::public_key(&alice)).unwrap(),
        shared
    );
}

/// RFC 7748, 5.2: a thousand iterations; each result is the next private key, each private key the next point.
#[test]
fn rfc7748_iterated() {
    let mut k: [u8; 32] = array("0900000000000000000000000000000000000000000000000000000000000000");
    let mut u = k;
    for _ in 0..1000 {
        let next = *x25519::dh(&Secret::from_slice(&k), &u).unwrap().expose();
        u = k;
        k = next;
    }
    assert_eq!(
        k,
        array("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
    );
}

/// The points of order 1, 2, 4 and 8, and their non-canonical forms.
#[test]
fn low_order_points_are_refused() {
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        assert_eq!(
            x25519::dh(&Secret::random().unwrap(), &array(point)),
            Err(ZeroSecret),
            "{point}"
        );
    }
}

/// RFC 7693, appendix B.
#[test]
fn rfc7693() {
    let expected = array("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
    assert_eq!(blake2s::hash(&[b"abc"]), expected);
    assert_eq!(blake2s::hash(&[b"a", b"", b"bc"]), expected);
}

/// In the manner of RFC 7693, appendix E: sizes around a block, keyed and not, all hashed into one value. The sizes of output
/// are those that this crate offers, 32 bytes unkeyed and 16 keyed; the expected value is from Python's `hashlib`.
#[test]
fn sizes_around_a_block() {
    fn sequence(size: usize, seed: u32) -> Vec<u8> {
        let (mut a, mut b) = (0xdead_4bad_u32.wrapping_mul(seed), 1_u32);
        let mut step = || {
            let t = a.wrapping_add(b);
            a = b;
            b = t;
            (t >> 24) as u8
        };
        (0..size).map(|_| step()).collect()
    }
    let mut all = Vec::new();
    for size in [0, 3, 64, 65, 255, 1024] {
        let text = sequence(size, size as u32);
        all.extend(blake2s::hash(&[&text]));
        all.extend(blake2s::mac(&sequence(32, 32), &[&text]).unwrap());
    }
    assert_eq!(
        blake2s::hash(&[&all]),
        array("f567a0a1ba8d320e449124e98127ffc36fc34e06fdbd2460a3965ed49064cb74")
    );
}

#[test]
fn mac_keys_have_1_to_32_bytes() {
    assert!(blake2s::mac(&[], &[b"x"]).is_err());
    assert!(blake2s::mac(&[1; 33], &[b"x"]).is_err());
    assert!(blake2s::mac(&[1], &[b"x"]).is_ok());
}

#[test]
fn mac_equal_sees_every_bit() {
    let tag = blake2s::mac(&[3; 32], &[b"datagram"]).unwrap();
    assert_eq!(
        blake2s::mac_equal(&[3; 32], &[b"data", b"gram"], &tag),
        Ok(true)
    );
    for bit in 0..128 {
        let mut other = tag;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            blake2s::mac_equal(&[3; 32], &[b"datagram"], &other),
            Ok(false),
            "bit {bit}"
        );
    }
}

/// HMAC-BLAKE2s as Python's `hmac` with `hashlib.blake2s` computes it, an independent implementation.
#[test]
fn kdf_of_counting_bytes() {
    let chain = Secret::fill(|raw| raw.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i));
    let (one, two, three) = kdf::kdf3(&chain, b"input keying material");
    assert_eq!(
        one,
        secret("d49ec1ae587b690ec2d4c38d1802dd052d26ab3338bc0b665629ece5dfc61ae1")
    );
    assert_eq!(
        two,
        secret("46d705e3e5cbc140bbfdf613d3733a0c3905bf21d5e1b34213c5a2a883b10553")
    );
    assert_eq!(
        three,
        secret("17e6966e3a04136a899866a1650d1a323fdcdcb19956e0e97c6be5291850b302")
    );
    assert_eq!(kdf::kdf1(&chain, b"input keying material"), one);
    assert_eq!(kdf::kdf2(&chain, b"input keying material"), (one, two));
}
