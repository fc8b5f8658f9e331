//! The vector code against published vectors, with nonces and associated data that packets never have.
//!
//! A machine without the instructions has nothing here to test, and says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use super::chacha::{Lanes, BLOCK, CAPACITY};
use super::poly::{tags, Message, LANES};
use super::Avx512;

/// Poly1305's.
const BLOCK_SIZE: usize = 16;

/// Whether there is something to test.
fn absent() -> bool {
    let absent = Avx512::detect().is_none();
    if absent {
        eprintln!("this CPU lacks AVX-512 F, BW or IFMA: its implementation is not tested here");
    }
    absent
}

fn key_words(key: &[u8]) -> [u32; 8] {
    let words: Vec<_> = key
        .chunks(4)
        .map(|raw| u32::from_le_bytes(raw.try_into().unwrap()))
        .collect();
    words.try_into().unwrap()
}

/// Blocks 0.. of one nonce, combined with `text` in place, the first of them in lane `first`.
fn chacha20(key: &[u8], nonce: &[u8], text: &mut [u8], first: usize) {
    assert!(Avx512::detect().is_some());
    let prefix = u32::from_le_bytes(nonce[..4].try_into().unwrap());
    let counter = u64::from_le_bytes(nonce[4..].try_into().unwrap());
    let mut lanes = Lanes::new(prefix);
    for _ in 0..first {
        lanes.push(0, 0, core::ptr::null_mut(), 0);
    }
    let size = text.len();
    let start = text.as_mut_ptr();
    for (number, at) in (0..size).step_by(BLOCK).enumerate() {
        if lanes.push(
            counter,
            number as u32,
            start.wrapping_add(at),
            (size - at).min(BLOCK),
        ) {
            // SAFETY: the instructions are there, and every lane is within `text`.
            unsafe { lanes.combine(&key_words(key)) };
        }
    }
    // SAFETY: the same.
    unsafe { lanes.combine(&key_words(key)) };
}

/// The tag of `text` then `last`, from lane `lane`; the other lanes hold messages of other lengths.
fn poly1305(key: &[u64; 4], text: &[u8], last: [u64; 2], lane: usize) -> [u8; 16] {
    assert!(Avx512::detect().is_some());
    let noise = [0xa5_u8; 4096];
    let mut keys = [[0x0123_4567_89ab_cdef; 4]; LANES];
    let mut messages = [Message::EMPTY; LANES];
    for (other, message) in messages.iter_mut().enumerate() {
        *message = Message {
            head: [3, 4],
            text: noise.as_ptr(),
            size: (other * 37 + text.len()) % noise.len(),
            last: [1, 2],
        };
    }
    keys[lane] = *key;
    messages[lane] = Message {
        head: [5, 6],
        text: text.as_ptr(),
        size: text.len(),
        last,
    };
    // SAFETY: the instructions are there, and every message can be read.
    let [low, high] = unsafe { tags::<false>(&keys, &messages) };
    let tag = (low[lane], high[lane]);
    // The same with the first block apart from the rest, as associated data lies.
    if let Some((head, rest)) = text.split_first_chunk::<BLOCK_SIZE>() {
        let head = u128::from_le_bytes(*head);
        messages[lane] = Message {
            head: [head as u64, (head >> 64) as u64],
            text: rest.as_ptr(),
            size: rest.len(),
            last,
        };
        // SAFETY: the same.
        let [low, high] = unsafe { tags::<true>(&keys, &messages) };
        assert_eq!((low[lane], high[lane]), tag, "{} bytes", text.len());
    }
    ((u128::from(tag.1) << 64) | u128::from(tag.0)).to_le_bytes()
}

/// The AEAD of RFC 8439 with any nonce and associated data: ciphertext and tag. `place` varies the lanes.
fn seal(
    key: &[u8],
    nonce: &[u8],
    ad: &[u8],
    plaintext: &[u8],
    place: usize,
) -> (Vec<u8>, [u8; 16]) {
    let mut text = vec![0; BLOCK];
    text.extend_from_slice(plaintext);
    chacha20(key, nonce, &mut text, place % CAPACITY);
    let (block, ciphertext) = text.split_at(BLOCK);
    let one_time =
        [0, 8, 16, 24].map(|at| u64::from_le_bytes(block[at..at + 8].try_into().unwrap()));
    let mut message = ad.to_vec();
    message.resize(ad.len().next_multiple_of(16), 0);
    message.extend_from_slice(ciphertext);
    let tag = poly1305(
        &one_time,
        &message,
        [ad.len() as u64, ciphertext.len() as u64],
        place % LANES,
    );
    (ciphertext.to_vec(), tag)
}

#[test]
fn wycheproof_in_every_lane() {
    if absent() {
        return;
    }
    let text = include_str!("../../../../tests/vectors/wycheproof_chacha20_poly1305.json");
    let set: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut ran = 0;
    for group in set["testGroups"].as_array().unwrap() {
        if group["ivSize"] != 96 {
            continue; // Other nonce sizes cannot be expressed.
        }
        for case in group["tests"].as_array().unwrap() {
            let field = |name: &str| hex(case[name].as_str().unwrap());
            for place in 0..LANES {
                let (ct, tag) = seal(
                    &field("key"),
                    &field("iv"),
                    &field("aad"),
                    &field("msg"),
                    place,
                );
                let same = ct == field("ct") && tag.as_slice() == field("tag");
                assert_eq!(
                    same,
                    case["result"] == "valid",
                    "case {} in place {place}",
                    case["tcId"]
                );
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 316);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn one_time(r: u128, s: u128) -> [u64; 4] {
    [r as u64, (r >> 64) as u64, s as u64, (s >> 64) as u64]
}

/// RFC 8439, A.3, vectors 7 to 11: where the arithmetic wraps around 2^130-5 and 2^128.
#[test]
fn poly1305_where_it_wraps() {
    if absent() {
        return;
    }
    let ff = "ffffffffffffffffffffffffffffffff";
    let cases = [
        // r, s, message, tag
        (2, 0, ff.to_owned(), "03000000000000000000000000000000"),
        (2, u128::MAX, "02000000000000000000000000000000".to_owned(), "03000000000000000000000000000000"),
        (
            1,
            0,
            format!("{ff}f0ffffffffffffffffffffffffffffff11000000000000000000000000000000"),
            "05000000000000000000000000000000",
        ),
        (
            1,
            0,
            format!("{ff}fbfefefefefefefefefefefefefefefe01010101010101010101010101010101"),
            "00000000000000000000000000000000",
        ),
        (2, 0, "fdffffffffffffffffffffffffffffff".to_owned(), "faffffffffffffffffffffffffffffff"),
        (
            (4 << 64) | 1,
            0,
            "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000000000000000000001000000000000000000000000000000".to_owned(),
            "14000000000000005500000000000000",
        ),
        (
            (4 << 64) | 1,
            0,
            "e33594d7505e43b900000000000000003394d7505e4379cd010000000000000000000000000000000000000000000000".to_owned(),
            "13000000000000000000000000000000",
        ),
    ];
    for (number, (r, s, message, tag)) in cases.into_iter().enumerate() {
        let message = hex(&message);
        let (text, last) = message.split_at(message.len() - 16);
        let last = u128::from_le_bytes(last.try_into().unwrap());
        for lane in 0..LANES {
            let found = poly1305(
                &one_time(r, s),
                text,
                [last as u64, (last >> 64) as u64],
                lane,
            );
            assert_eq!(found.as_slice(), hex(tag), "vector {number} in lane {lane}");
        }
    }
}

/// RFC 8439, 2.3.2: block 1 of a known key and nonce, in every lane.
#[test]
fn chacha20_block_of_the_rfc() {
    if absent() {
        return;
    }
    let key: Vec<u8> = (0..32).collect();
    let expected = hex(
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
                        d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    );
    for first in 0..CAPACITY {
        let mut text = [0; 2 * BLOCK];
        chacha20(&key, &hex("000000090000004a00000000"), &mut text, first);
        assert_eq!(text[BLOCK..], expected, "first lane {first}");
    }
}

/// The largest limbs the accumulator can hold: all-ones text under the largest clamped r, against plain arithmetic.
#[test]
fn poly1305_at_the_bounds() {
    if absent() {
        return;
    }
    let r: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    for blocks in 1..40 {
        let text = vec![0xff; 16 * (blocks - 1)];
        let tag = poly1305(&one_time(r, 0), &text, [u64::MAX; 2], blocks % LANES);
        assert_eq!(
            u128::from_le_bytes(tag),
            plain_poly1305(r, blocks),
            "{blocks} blocks"
        );
    }
}

/// Horner's rule bit by bit modulo 2^130-5, on numbers of 192 bits: slow, and obviously right.
fn plain_poly1305(r: u128, blocks: usize) -> u128 {
    // (low 128 bits, the bits above)
    type Wide = (u128, u64);
    let add = |a: Wide, b: Wide| -> Wide {
        let (low, carry) = a.0.overflowing_add(b.0);
        (low, a.1 + b.1 + u64::from(carry))
    };
    let reduce = |mut a: Wide| -> Wide {
        while a.1 > 3 || (a.1 == 3 && a.0 >= u128::MAX - 4) {
            let quotient = (a.1 >> 2).max(1);
            // Subtract quotient * (2^130 - 5).
            let (low, carry) = a.0.overflowing_add(5 * u128::from(quotient));
            a = (low, (a.1 + u64::from(carry)) - 4 * quotient);
        }
        a
    };
    let mut h: Wide = (0, 0);
    for _ in 0..blocks {
        h = reduce(add(h, (u128::MAX, 1)));
        let mut product: Wide = (0, 0);
        for bit in (0..128).rev() {
            product = reduce(add(product, product));
            if r >> bit & 1 == 1 {
                product = reduce(add(product, h));
            }
        }
        h = product;
    }
    h.0
}
