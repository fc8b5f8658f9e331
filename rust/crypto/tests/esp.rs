//! ESP's ciphers: our vector code equals aws-lc on every shape of batch, every suite comes back, every forgery is refused, and a
//! sequence number that does not rise ends the process.
//!
//! Random inputs come from a counter-seeded generator: a failure names its seed and is the same on every run.
#![allow(clippy::unwrap_used)]

mod common;

use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::{aead, aead_backends, KeyMaterial};

use common::Random;

impl Random {
    fn keys(&mut self, suite: Suite) -> [KeyMaterial; 2] {
        [suite.key_len(), suite.integrity_len()]
            .map(|size| KeyMaterial::from_slice(&self.bytes(size)))
    }
}

fn size(suite: Suite, text: usize) -> usize {
    HEADER_SIZE + suite.iv_len() + text + suite.icv_len()
}

/// Jobs with texts of the given sizes one behind the other, with a gap of random size before each; their ESP headers are random
/// but for the low half of the sequence number.
fn lay_out(
    suite: Suite,
    esn: bool,
    sizes: &[usize],
    random: &mut Random,
) -> (Vec<u8>, Vec<EspJob>) {
    let mut sequence = random.next() >> if esn { 2 } else { 34 };
    let mut end = 0;
    let mut jobs = Vec::new();
    for &len in sizes {
        sequence += 1 + random.below(3) as u64;
        let start = end + random.below(40);
        jobs.push(EspJob {
            sequence,
            start,
            len,
        });
        end = start + size(suite, len);
    }
    let slab_size = end + random.below(40);
    let mut slab = random.bytes(slab_size);
    for job in &jobs {
        slab[job.start + 4..][..4].copy_from_slice(&(job.sequence as u32).to_be_bytes());
    }
    (slab, jobs)
}

fn text(suite: Suite, job: &EspJob) -> core::ops::Range<usize> {
    let start = job.start + HEADER_SIZE + suite.iv_len();
    start..start + job.len
}

/// Every implementation that this CPU can run, and the one that the process chooses.
fn ciphers(suite: Suite, esn: bool, keys: &[KeyMaterial; 2]) -> Vec<EspCipher> {
    let [key, integrity] = keys;
    let named = |backend| EspCipher::with_backend(backend, suite, esn, key, integrity).unwrap();
    let mut all: Vec<_> = aead_backends().into_iter().map(named).collect();
    all.push(EspCipher::new(suite, esn, key, integrity).unwrap());
    all
}

/// Seal with each implementation, compare whole slabs (gaps included), open with each, compare with the plaintext.
fn agree(suite: Suite, esn: bool, sizes: &[usize], random: &mut Random) -> Vec<u8> {
    let keys = random.keys(suite);
    let (plain, jobs) = lay_out(suite, esn, sizes, random);
    let seal = |cipher: EspCipher| {
        let mut slab = plain.clone();
        cipher.seal_many(&mut slab, &jobs);
        slab
    };
    let slabs: Vec<_> = ciphers(suite, esn, &keys).into_iter().map(seal).collect();
    let what = || format!("{}, esn {esn}, sizes {sizes:?}", suite.name());
    assert!(
        slabs.iter().all(|slab| *slab == slabs[0]),
        "sealing differs: {}",
        what()
    );
    for cipher in ciphers(suite, esn, &keys) {
        let mut slab = slabs[0].clone();
        let mut ok = vec![false; jobs.len()];
        cipher.open_many(&mut slab, &jobs, &mut ok);
        assert!(
            ok.iter().all(|ok| *ok),
            "a genuine packet was refused: {}",
            what()
        );
        for job in &jobs {
            let range = text(suite, job);
            assert!(
                slab[range.clone()] == plain[range],
                "opening differs: {}",
                what()
            );
        }
    }
    slabs.into_iter().next().unwrap()
}

fn chacha() -> Suite {
    Suite::parse("chacha20poly1305").unwrap()
}

#[test]
fn chacha_of_every_size_alone_and_in_company() {
    let mut random = Random(1);
    for esn in [false, true] {
        for size in 0..=2100 {
            agree(chacha(), esn, &[size], &mut random);
            agree(chacha(), esn, &[size, 20, size], &mut random);
        }
    }
}

#[test]
fn chacha_of_every_batch_shape() {
    let mut random = Random(2);
    for count in 0..=70 {
        for size in [0, 16, 64, 1446] {
            agree(chacha(), count % 2 == 0, &vec![size; count], &mut random);
        }
    }
    for seed in 0..2000 {
        let mut random = Random(seed << 32);
        let limit = [1, 17, 65, 300, 1500, 9000][random.below(6)];
        let count = random.below(70);
        let sizes: Vec<_> = (0..count).map(|_| random.below(limit)).collect();
        agree(chacha(), seed % 2 == 0, &sizes, &mut random);
    }
}

/// What ESP adds to the AEAD of RFC 8439: where nonce and associated data come from.
#[test]
fn chacha_is_the_aead_with_salt_and_sequence_number() {
    let mut random = Random(3);
    for esn in [false, true] {
        let keys = random.keys(chacha());
        let (plain, jobs) = lay_out(chacha(), esn, &[5, 1446, 64], &mut random);
        for cipher in ciphers(chacha(), esn, &keys) {
            let mut slab = plain.clone();
            cipher.seal_many(&mut slab, &jobs);
            for job in &jobs {
                let raw = keys[0].expose();
                let mut nonce = raw[32..].to_vec();
                nonce.extend_from_slice(&job.sequence.to_be_bytes());
                let mut ad = plain[job.start..][..4].to_vec();
                if esn {
                    ad.extend_from_slice(&job.sequence.to_be_bytes());
                } else {
                    ad.extend_from_slice(&(job.sequence as u32).to_be_bytes());
                }
                let expected = aead::seal_nonce(
                    raw[..32].try_into().unwrap(),
                    nonce.try_into().unwrap(),
                    &plain[text(chacha(), job)],
                    &ad,
                )
                .unwrap();
                let range = text(chacha(), job);
                assert_eq!(slab[range.start..range.end + 16], expected);
                assert_eq!(
                    slab[range.start - 8..range.start],
                    job.sequence.to_be_bytes()
                );
            }
        }
    }
}

/// CBC works across packets, and lanes take the next packet when they are done: packets of all sizes, in batches of all.
#[test]
fn cbc_of_every_batch_shape() {
    let mut random = Random(10);
    for suite in Suite::all().filter(|suite| !suite.is_aead()) {
        for count in 0..=40 {
            let limit = [1, 2, 8, 100][count % 4];
            let sizes: Vec<_> = (0..count).map(|_| 16 * random.below(limit + 1)).collect();
            agree(suite, count % 3 == 0, &sizes, &mut random);
            agree(suite, count % 3 == 1, &vec![1440; count], &mut random);
        }
    }
}

#[test]
fn every_suite_comes_back() {
    assert_eq!(Suite::all().count(), 16);
    let mut random = Random(4);
    for suite in Suite::all() {
        assert_eq!(Suite::parse(suite.name()), Some(suite));
        for esn in [false, true] {
            for count in [1, 2, 17] {
                let sizes: Vec<_> = (0..count)
                    .map(|_| random.below(400) * suite.block())
                    .collect();
                agree(suite, esn, &sizes, &mut random);
            }
        }
    }
    for wrong in [
        "",
        "aes128",
        "AES128GCM16",
        "aes128gcm8",
        "aes128-md5",
        "none",
    ] {
        assert_eq!(Suite::parse(wrong), None, "{wrong:?}");
    }
}

/// Every byte that is authenticated is changed in turn, and so is the high half that is not sent.
#[test]
fn every_forgery_is_refused_and_nothing_else() {
    let mut random = Random(5);
    for suite in Suite::all() {
        for esn in [false, true] {
            let keys = random.keys(suite);
            let (plain, jobs) = lay_out(suite, esn, &[48, 32, 64], &mut random);
            let cipher = EspCipher::new(suite, esn, &keys[0], &keys[1]).unwrap();
            let mut genuine = plain.clone();
            cipher.seal_many(&mut genuine, &jobs);
            let check = |slab: &[u8], jobs: &[EspJob], victim: Option<usize>| {
                let mut slab = slab.to_vec();
                let mut ok = vec![true; jobs.len()];
                cipher.open_many(&mut slab, jobs, &mut ok);
                for (at, ok) in ok.iter().enumerate() {
                    assert_eq!(*ok, Some(at) != victim, "{} packet {at}", suite.name());
                }
            };
            check(&genuine, &jobs, None);
            let victim = 1;
            for at in 0..size(suite, jobs[victim].len) {
                for bit in [at % 8, (at + 3) % 8] {
                    let mut slab = genuine.clone();
                    slab[jobs[victim].start + at] ^= 1 << bit;
                    check(&slab, &jobs, Some(victim));
                }
            }
            for bit in 32..64 {
                let mut jobs = jobs.clone();
                jobs[victim].sequence ^= 1 << bit;
                // Without ESN the high half is nobody's: it is zero on both sides.
                check(&genuine, &jobs, esn.then_some(victim));
            }
            if !suite.is_aead() {
                // A tag that would be right for less text than lies there.
                let mut jobs = jobs.clone();
                jobs[victim].len -= 5;
                check(&genuine, &jobs, Some(victim));
            }
        }
    }
}

#[test]
fn cbc_ivs_differ_and_show_no_counter() {
    let suite = Suite::parse("aes128-sha256").unwrap();
    let mut random = Random(6);
    let keys = random.keys(suite);
    let cipher = EspCipher::new(suite, false, &keys[0], &keys[1]).unwrap();
    let mut seen = std::collections::HashSet::new();
    for sequence in 1..=256 {
        let mut slab = vec![0; size(suite, 16)];
        let job = EspJob {
            sequence,
            start: 0,
            len: 16,
        };
        cipher.seal_many(&mut slab, &[job]);
        assert!(seen.insert(slab[8..24].to_vec()));
    }
    // All 128 bits are in use: none is the same in all of them.
    for bit in 0..128 {
        let set = seen
            .iter()
            .filter(|iv| iv[bit / 8] >> (bit % 8) & 1 == 1)
            .count();
        assert!((64..192).contains(&set), "bit {bit}: {set} of 256");
    }
}

#[test]
fn wrong_sizes_are_refused_by_name() {
    for suite in Suite::all() {
        for (key, integrity) in [(1, 0), (0, 1)] {
            let key = KeyMaterial::from_slice(&vec![0; suite.key_len() + key]);
            let integrity = KeyMaterial::from_slice(&vec![0; suite.integrity_len() + integrity]);
            let found = EspCipher::new(suite, false, &key, &integrity)
                .err()
                .unwrap();
            assert_eq!(found.suite, suite);
            assert!(found.to_string().contains(suite.name()), "{found}");
        }
    }
    // Pairs that are no suite.
    let (gcm, cbc) = (
        Suite::parse("aes128gcm16").unwrap(),
        Suite::parse("aes128-sha1").unwrap(),
    );
    for suite in [
        Suite {
            integrity: cbc.integrity,
            ..gcm
        },
        Suite {
            integrity: gcm.integrity,
            ..cbc
        },
    ] {
        assert_eq!(suite.name(), "none");
        let [key, integrity] = Random(7).keys(suite);
        assert!(EspCipher::new(suite, false, &key, &integrity).is_err());
    }
}

#[test]
fn jobs_outside_the_slab_panic() {
    for suite in [chacha(), Suite::parse("aes256-sha512").unwrap()] {
        let [key, integrity] = Random(8).keys(suite);
        for (start, len) in [(0, 256), (257, 0), (usize::MAX, 16), (16, usize::MAX)] {
            for count in [1, 2] {
                for sealing in [true, false] {
                    let jobs: Vec<_> = (1..=count)
                        .map(|sequence| EspJob {
                            sequence,
                            start,
                            len,
                        })
                        .collect();
                    let refused = std::panic::catch_unwind(|| {
                        let cipher = EspCipher::new(suite, false, &key, &integrity).unwrap();
                        let mut slab = [0; 256];
                        if sealing {
                            cipher.seal_many(&mut slab, &jobs);
                        } else {
                            cipher.open_many(&mut slab, &jobs, &mut vec![false; jobs.len()]);
                        }
                    });
                    assert!(refused.is_err(), "{} {jobs:?}", suite.name());
                }
            }
        }
    }
}

/// Ends the process, so each case runs in one of its own: this test again, told by the environment what to do.
#[test]
fn a_sequence_number_that_does_not_rise_ends_the_process() {
    const CASE: &str = "GINNEL_TEST_SEQUENCES";
    let suite = Suite::parse("aes128gcm16").unwrap();
    if let Ok(case) = std::env::var(CASE) {
        let [key, integrity] = Random(9).keys(suite);
        let cipher = EspCipher::new(suite, true, &key, &integrity).unwrap();
        let mut slab = [0; 256];
        for batch in case.split(';') {
            let jobs: Vec<_> = batch
                .split(',')
                .map(|number| EspJob {
                    sequence: number.parse().unwrap(),
                    start: 0,
                    len: 16,
                })
                .collect();
            cipher.seal_many(&mut slab, &jobs);
        }
        return;
    }
    let run = |case: &str| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_sequence_number_that_does_not_rise_ends_the_process",
            ])
            .env(CASE, case)
            .output()
            .unwrap()
            .status
    };
    for case in ["0", "1;2,3;9", "18446744073709551614"] {
        assert!(run(case).success(), "{case}");
    }
    for case in ["1,1", "2,1", "5;5", "5,9;8", "5;4", "18446744073709551615"] {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(run(case).signal(), Some(6), "{case}");
    }
}
