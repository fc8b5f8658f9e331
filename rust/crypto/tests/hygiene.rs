//! Memory after keys are dropped: searched whole, for the key and for the forms in which it is computed with.
//!
//! The search must not make what it looks for. A key is known here only by its complement; memory is read in pieces into
//! one buffer, compared through the complement, and zeroed. Everything is done in a single test of a single thread that lives on:
//! the stack of a finished thread would be unmapped, and prove nothing.
#![allow(clippy::unwrap_used)]

use std::fs::{read_to_string, File};
use std::os::unix::fs::FileExt;

use ginnel_crypto::agreement::{Group, KeyExchange};
use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::hash::Hash;
use ginnel_crypto::ike::IkeCipher;
use ginnel_crypto::{
    aead, aead_backends, kdf, prf, x25519, Job, KeyMaterial, PacketKey, Secret, TAG_SIZE,
};

const PIECE: usize = 1 << 16;
/// The longest key: what two sides share in a MODP group of 8192 bits.
const OVERLAP: usize = 1024;

/// What is searched for, complemented.
struct Needle {
    what: String,
    complement: Vec<u8>,
}

fn needles(secret: &Secret) -> Vec<Needle> {
    needles_of(secret.expose())
}

/// The key itself, its halves (16 bytes and more say that they are no chance), and each word of it repeated as in a vector register.
fn needles_of(secret: &[u8]) -> Vec<Needle> {
    let key: Vec<u8> = secret.iter().map(|byte| !byte).collect();
    let needle = |what: &str, complement: &[u8]| Needle {
        what: what.to_owned(),
        complement: complement.to_vec(),
    };
    let mut needles = vec![
        needle("key", &key),
        needle("first half", &key[..16]),
        needle("second half", &key[key.len() - 16..]),
    ];
    for (at, word) in key.chunks_exact(4).enumerate() {
        needles.push(Needle {
            what: format!("word {at} in a register"),
            complement: word.repeat(4),
        });
    }
    needles
}

/// How often each needle lies in the writable memory of this process.
fn search(needles: &[Needle], buffer: &mut [u8]) -> Vec<(String, usize)> {
    let memory = File::open("/proc/self/mem").unwrap();
    let own = buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len();
    let mut found: Vec<_> = needles
        .iter()
        .map(|needle| (needle.what.clone(), 0))
        .collect();
    // By what a needle's complement begins with: few places need a closer look.
    let start = |first: u8, second: u8| usize::from(first) | usize::from(second) << 8;
    let mut begins = vec![false; 1 << 16];
    for Needle { complement, .. } in needles {
        begins[start(complement[0], complement[1])] = true;
    }
    for line in read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split(' ');
        let (span, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (low, high) = span.split_once('-').unwrap();
        let (low, high) = (
            usize::from_str_radix(low, 16).unwrap(),
            usize::from_str_radix(high, 16).unwrap(),
        );
        // All but the buffer itself.
        for (mut at, end) in [(low, high.min(own.start)), (low.max(own.end), high)] {
            while at < end {
                let size = buffer.len().min(end - at);
                let read = memory.read_at(&mut buffer[..size], at as u64).unwrap_or(0);
                for at in 0..read.saturating_sub(1) {
                    let window = &buffer[at..read];
                    if !begins[start(!window[0], !window[1])] {
                        continue;
                    }
                    for (needle, (_, hits)) in needles.iter().zip(&mut found) {
                        *hits += usize::from(equal(window, &needle.complement));
                    }
                }
                buffer.fill(0);
                // Pieces overlap by as much as the longest needle, so that none is missed at an edge.
                at += if at + size < end {
                    size - OVERLAP
                } else {
                    size
                };
            }
        }
    }
    found
}

/// Whether `window` begins with the needle.
fn equal(window: &[u8], complement: &[u8]) -> bool {
    window.len() >= complement.len()
        && window
            .iter()
            .zip(complement)
            .all(|(byte, complement)| *byte == !complement)
}

fn use_packet_key(backend: &str, key: &Secret, batch: usize) -> PacketKey {
    let packet_key = PacketKey::with_backend(backend, key).unwrap();
    let mut slab = vec![0; batch * (1420 + TAG_SIZE)];
    let job = |len: usize| {
        move |at: usize| Job {
            counter: at as u64,
            start: at * (1420 + TAG_SIZE),
            len,
        }
    };
    packet_key.seal_many(&mut slab, &(0..batch).map(job(1420)).collect::<Vec<_>>());
    let mut ok = vec![false; batch];
    packet_key.open_many(
        &mut slab,
        &(0..batch).map(job(1420 + TAG_SIZE)).collect::<Vec<_>>(),
        &mut ok,
    );
    assert!(ok.iter().all(|ok| *ok));
    packet_key
}

#[test]
fn no_key_outlives_its_drop() {
    let mut buffer = vec![0; PIECE];

    // The control: what is kept is found, so an empty search means something.
    let kept = Secret::random().unwrap();
    let hits = search(&needles(&kept), &mut buffer);
    assert!(
        hits[..3].iter().all(|(_, hits)| *hits >= 1),
        "a living secret is not found: {hits:?}"
    );

    for backend in aead_backends() {
        for batch in [1, 32] {
            let key = Secret::random().unwrap();
            let needles = needles(&key);
            let packet_key = use_packet_key(backend, &key, batch);
            drop(key);
            assert!(
                search(&needles, &mut buffer)[0].1 >= 1,
                "{backend}: the packet key does not hold its key"
            );
            drop(packet_key);
            for (what, hits) in search(&needles, &mut buffer) {
                assert_eq!(hits, 0, "{backend}, batch of {batch}: {what} is left");
            }
        }
    }

    let (private, other) = (Secret::random().unwrap().clamp(), Secret::random().unwrap());
    let shared = x25519::dh(&private, &x25519::public_key(&other)).unwrap();
    let (chain, key) = kdf::kdf2(&shared, private.expose());
    let sealed = aead::seal(&key, 0, b"plaintext", b"ad").unwrap();
    assert_eq!(aead::open(&key, 0, &sealed, b"ad").unwrap(), b"plaintext");
    let secrets = [
        ("private key", private),
        ("shared secret", shared),
        ("chaining key", chain),
        ("message key", key),
    ];
    let searches: Vec<_> = secrets
        .iter()
        .map(|(name, secret)| (*name, needles(secret)))
        .collect();
    drop(secrets);
    for (name, needles) in searches {
        for (what, hits) in search(&needles, &mut buffer) {
            assert_eq!(hits, 0, "{name}: {what} is left");
        }
    }

    for suite in Suite::all() {
        for backend in aead_backends() {
            for batch in [1, 32] {
                let what = format!("ESP {}, {backend}, batch of {batch}", suite.name());
                nothing_left_of_suite(&what, suite, &mut buffer, |key, integrity| {
                    use_esp(backend, suite, batch, key, integrity);
                });
            }
        }
        let what = format!("IKE {}", suite.name());
        nothing_left_of_suite(&what, suite, &mut buffer, |key, integrity| {
            let cipher = IkeCipher::new(suite, key, integrity).unwrap();
            let sealed = cipher.seal(b"head", &[7; 300]);
            cipher.open(b"head", &sealed).unwrap();
        });
    }

    for number in Group::NUMBERS {
        nothing_left_of_exchange(number, &mut buffer);
    }

    for hash in Hash::ALL {
        let (key, seed) = (
            KeyMaterial::random(32).unwrap(),
            KeyMaterial::random(64).unwrap(),
        );
        let first = prf::prf(hash, key.expose(), &[seed.expose()]);
        let stretched = prf::prf_plus(hash, first.expose(), seed.expose(), 300).unwrap();
        let parts = stretched.split(&[100, 200]).unwrap();
        let secrets = [&key, &seed, &first, &stretched, &parts[0], &parts[1]];
        let needles: Vec<_> = secrets
            .iter()
            .flat_map(|secret| needles_of(secret.expose()))
            .collect();
        drop((key, seed, first, stretched, parts));
        for (what, hits) in search(&needles, &mut buffer) {
            assert_eq!(hits, 0, "prf {}: {what} is left", hash.name());
        }
    }
}

fn use_esp(backend: &str, suite: Suite, batch: usize, key: &KeyMaterial, integrity: &KeyMaterial) {
    let cipher = EspCipher::with_backend(backend, suite, true, key, integrity).unwrap();
    let size = HEADER_SIZE + suite.iv_len() + 1440 + suite.icv_len();
    let mut slab = vec![0; batch * size];
    let jobs: Vec<_> = (0..batch)
        .map(|at| EspJob {
            sequence: at as u64,
            start: at * size,
            len: 1440,
        })
        .collect();
    cipher.seal_many(&mut slab, &jobs);
    let mut ok = vec![false; batch];
    cipher.open_many(&mut slab, &jobs, &mut ok);
    assert!(ok.iter().all(|ok| *ok));
}

/// Fresh keys of the suite, used and dropped: no byte of either is left.
fn nothing_left_of_suite(
    what: &str,
    suite: Suite,
    buffer: &mut [u8],
    use_them: impl FnOnce(&KeyMaterial, &KeyMaterial),
) {
    let key = KeyMaterial::random(suite.key_len()).unwrap();
    let integrity = KeyMaterial::random(suite.integrity_len()).unwrap();
    // An AEAD's salt is no key: a nonce shows it to nobody, and hides nothing.
    let salt = if suite.is_aead() { 4 } else { 0 };
    let mut needles = needles_of(&key.expose()[..key.len() - salt]);
    if !integrity.is_empty() {
        needles.extend(needles_of(integrity.expose()));
    }
    assert!(
        search(&needles, buffer)[0].1 >= 1,
        "{what}: nothing to find"
    );
    use_them(&key, &integrity);
    drop((key, integrity));
    for (needle, hits) in search(&needles, buffer) {
        assert_eq!(hits, 0, "{what}: {needle} is left");
    }
}

/// Neither the private value nor what was agreed is left.
fn nothing_left_of_exchange(number: u16, buffer: &mut [u8]) {
    let group = Group::from_number(number).unwrap();
    let private = match group {
        Group::Modp(_) => KeyMaterial::random(32).unwrap(),
        _ => KeyMaterial::fill(group.shared_size(), |raw| {
            getrandom::fill(raw).unwrap();
            // Below every order.
            raw[0] = 0;
        }),
    };
    let exchange = KeyExchange::with_private(group, private.expose()).unwrap();
    let peer = KeyExchange::new(group).unwrap();
    let shared = exchange.agree(peer.public()).unwrap();
    // Numbers lie reversed in the library.
    let mut needles = Vec::new();
    for secret in [&private, &shared] {
        needles.extend(needles_of(secret.expose()));
        let reversed = KeyMaterial::fill(secret.len(), |raw| {
            raw.copy_from_slice(secret.expose());
            raw.reverse();
        });
        needles.extend(needles_of(reversed.expose()));
    }
    for secret in [&private, &shared] {
        let hits = search(&needles_of(secret.expose())[..1], buffer);
        assert!(hits[0].1 >= 1, "group {number}: nothing to find");
    }
    drop((private, peer, shared));
    for (what, hits) in search(&needles, buffer) {
        assert_eq!(hits, 0, "group {number}: {what} is left");
    }
}
