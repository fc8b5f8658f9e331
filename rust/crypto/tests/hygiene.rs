//! Memory after keys are dropped: searched whole, for the key and for the forms in which it is computed with.
//!
//! The search must not make what it looks for. A key is known here only by its complement; memory is read in pieces into
//! one buffer, compared through the complement, and zeroed. Everything is done in a single test of a single thread that lives on:
//! the stack of a finished thread would be unmapped, and prove nothing.
#![allow(clippy::unwrap_used)]

use std::fs::{read_to_string, File};
use std::os::unix::fs::FileExt;

use ginnel_crypto::{aead, aead_backends, kdf, x25519, Job, PacketKey, Secret, TAG_SIZE};

const PIECE: usize = 1 << 16;

/// What is searched for, complemented.
struct Needle {
    what: String,
    complement: Vec<u8>,
}

/// The key itself, its halves, and each word of it repeated as in a vector register.
fn needles(secret: &Secret) -> Vec<Needle> {
    let key: Vec<u8> = secret.expose().iter().map(|byte| !byte).collect();
    let needle = |what: &str, complement: &[u8]| Needle {
        what: what.to_owned(),
        complement: complement.to_vec(),
    };
    let mut needles = vec![
        needle("key", &key),
        needle("first half", &key[..16]),
        needle("second half", &key[16..]),
    ];
    for (at, word) in key.chunks(4).enumerate() {
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
                for (needle, (_, hits)) in needles.iter().zip(&mut found) {
                    let windows = buffer[..read].windows(needle.complement.len());
                    *hits += windows
                        .filter(|window| equal(window, &needle.complement))
                        .count();
                }
                buffer.fill(0);
                // Pieces overlap by less than a needle, so that none is missed at an edge.
                at += if at + size < end { size - 31 } else { size };
            }
        }
    }
    found
}

fn equal(window: &[u8], complement: &[u8]) -> bool {
    window
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
}
