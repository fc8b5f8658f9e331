//! [`PacketKey`]: our vector code equals aws-lc on every shape of batch, and both refuse every forgery.
//!
//! Random inputs come from a counter-seeded generator: a failure names its seed and is the same on every run.
#![allow(clippy::unwrap_used)]

mod common;

use ginnel_crypto::{aead_backend, aead_backends, Job, PacketKey, Secret, TAG_SIZE};

use common::Random;

impl Random {
    fn secret(&mut self) -> Secret {
        Secret::from_slice(&self.bytes(32).try_into().unwrap())
    }
}

/// Every implementation that this CPU can run: aws-lc everywhere, and what it is compared with where there is AVX-512 IFMA.
fn keys(secret: &Secret) -> Vec<PacketKey> {
    let make = |backend| PacketKey::with_backend(backend, secret).unwrap();
    aead_backends().into_iter().map(make).collect()
}

/// Jobs of the given sizes one behind the other, with a gap of random size before each.
fn lay_out(sizes: &[usize], random: &mut Random) -> (Vec<u8>, Vec<Job>) {
    let mut end = 0;
    let mut jobs = Vec::new();
    for &len in sizes {
        let start = end + random.below(40);
        jobs.push(Job {
            counter: random.next(),
            start,
            len,
        });
        end = start + len + TAG_SIZE;
    }
    let slab_size = end + random.below(40);
    (random.bytes(slab_size), jobs)
}

fn sealed(jobs: &[Job]) -> Vec<Job> {
    jobs.iter()
        .map(|job| Job {
            len: job.len + TAG_SIZE,
            ..*job
        })
        .collect()
}

/// Seal with each, compare whole slabs (gaps included), open with each, compare with the plaintext.
fn agree(sizes: &[usize], random: &mut Random) {
    let secret = random.secret();
    let (plain, jobs) = lay_out(sizes, random);
    let seal = |key: PacketKey| {
        let mut slab = plain.clone();
        key.seal_many(&mut slab, &jobs);
        slab
    };
    let slabs: Vec<_> = keys(&secret).into_iter().map(seal).collect();
    assert!(
        slabs.iter().all(|slab| *slab == slabs[0]),
        "sealing differs for sizes {sizes:?}"
    );
    for key in keys(&secret) {
        let mut slab = slabs[0].clone();
        let mut ok = vec![false; jobs.len()];
        key.open_many(&mut slab, &sealed(&jobs), &mut ok);
        assert!(
            ok.iter().all(|ok| *ok),
            "a genuine packet was refused for sizes {sizes:?}"
        );
        for job in &jobs {
            let range = job.start..job.start + job.len;
            assert!(
                slab[range.clone()] == plain[range],
                "opening differs for sizes {sizes:?}"
            );
        }
    }
}

#[test]
fn every_size_alone_and_in_company() {
    let mut random = Random(1);
    for size in 0..=2100 {
        agree(&[size], &mut random);
        agree(&[size, 20, size], &mut random);
    }
}

#[test]
fn every_batch_shape_of_equal_packets() {
    let mut random = Random(2);
    for count in 0..=70 {
        for size in [0, 16, 64, 1420] {
            agree(&vec![size; count], &mut random);
        }
    }
}

#[test]
fn random_batches() {
    for seed in 0..3000 {
        let mut random = Random(seed << 32);
        let limit = [1, 17, 65, 300, 1500, 9000][random.below(6)];
        let count = random.below(70);
        let sizes: Vec<_> = (0..count).map(|_| random.below(limit)).collect();
        agree(&sizes, &mut random);
    }
}

#[test]
fn sizes_up_to_seventy_thousand() {
    for seed in 0..60 {
        let mut random = Random((seed << 32) | 1);
        let count = 1 + random.below(20);
        let sizes: Vec<_> = (0..count).map(|_| random.below(70_001)).collect();
        agree(&sizes, &mut random);
    }
    agree(&[70_000, 0, 69_999, 1], &mut Random(3));
}

#[test]
fn counters_at_their_limits() {
    let secret = Random(4).secret();
    for counter in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX] {
        let seal = |key: PacketKey| {
            let mut slab = vec![0; 200];
            key.seal_many(
                &mut slab,
                &[
                    Job {
                        counter,
                        start: 0,
                        len: 80,
                    },
                    Job {
                        counter,
                        start: 100,
                        len: 84,
                    },
                ],
            );
            slab
        };
        let slabs: Vec<_> = keys(&secret).into_iter().map(seal).collect();
        assert!(
            slabs.iter().all(|slab| *slab == slabs[0]),
            "counter {counter}"
        );
    }
}

/// One batch; every byte of one packet's tag and text, and each bit of its counter, is changed in turn.
#[test]
fn every_forgery_is_refused_and_nothing_else() {
    let sizes = [
        100, 0, 64, 333, 1, 48, 1420, 16, 15, 17, 100, 65, 128, 5, 90, 31, 200, 63, 7,
    ];
    let mut random = Random(5);
    let secret = random.secret();
    let (plain, jobs) = lay_out(&sizes, &mut random);
    for (key, name) in keys(&secret).iter().zip(aead_backends()) {
        let mut genuine = plain.clone();
        key.seal_many(&mut genuine, &jobs);
        let check = |slab: &[u8], received: &[Job], victim: usize, what: &str| {
            let mut slab = slab.to_vec();
            let mut ok = vec![true; received.len()];
            key.open_many(&mut slab, received, &mut ok);
            for (at, job) in jobs.iter().enumerate() {
                assert_eq!(
                    ok[at],
                    at != victim,
                    "{name}: packet {at} after {what} of packet {victim}"
                );
                let range = job.start..job.start + job.len;
                assert!(
                    at == victim || slab[range.clone()] == plain[range],
                    "{name}: plaintext of packet {at}"
                );
            }
        };
        for (victim, job) in jobs.iter().enumerate() {
            for at in job.start..job.start + job.len + TAG_SIZE {
                // All bits of the tag's bytes and of the text's ends; one elsewhere.
                let ends = at < job.start + 17 || at + 34 > job.start + job.len;
                for bit in if ends { 0..8 } else { at % 8..at % 8 + 1 } {
                    let mut slab = genuine.clone();
                    slab[at] ^= 1 << bit;
                    check(&slab, &sealed(&jobs), victim, "a flipped bit");
                }
            }
            for bit in 0..64 {
                let mut received = sealed(&jobs);
                received[victim].counter ^= 1 << bit;
                check(&genuine, &received, victim, "another counter");
            }
            let mut received = sealed(&jobs);
            received[victim].len -= 1;
            check(&genuine, &received, victim, "a byte cut off");
        }
    }
}

#[test]
fn shorter_than_a_tag_is_refused() {
    for key in keys(&Random(6).secret()) {
        for len in 0..TAG_SIZE {
            let mut ok = [true];
            key.open_many(
                &mut [0; 64],
                &[Job {
                    counter: 0,
                    start: 3,
                    len,
                }],
                &mut ok,
            );
            assert!(!ok[0], "{len} bytes alone");
            let mut ok = [true; 2];
            key.open_many(
                &mut [0; 64],
                &[Job {
                    counter: 0,
                    start: 3,
                    len,
                }; 2],
                &mut ok,
            );
            assert_eq!(ok, [false; 2], "{len} bytes twice");
        }
    }
}

#[test]
fn jobs_outside_the_slab_panic() {
    for backend in aead_backends() {
        for job in [
            Job {
                counter: 0,
                start: 0,
                len: 49,
            },
            Job {
                counter: 0,
                start: 65,
                len: 0,
            },
            Job {
                counter: 0,
                start: usize::MAX,
                len: 2,
            },
            Job {
                counter: 0,
                start: 2,
                len: usize::MAX,
            },
        ] {
            for count in [1, 2] {
                let jobs = vec![job; count];
                let refused = std::panic::catch_unwind(|| {
                    let key = PacketKey::with_backend(backend, &Secret::zero()).unwrap();
                    key.seal_many(&mut [0; 64], &jobs);
                });
                assert!(refused.is_err(), "{backend}: sealing {jobs:?}");
                let refused = std::panic::catch_unwind(|| {
                    let key = PacketKey::with_backend(backend, &Secret::zero()).unwrap();
                    let jobs = vec![
                        Job {
                            len: job.len.saturating_add(TAG_SIZE),
                            ..job
                        };
                        count
                    ];
                    key.open_many(&mut [0; 64], &jobs, &mut [false; 2]);
                });
                assert!(refused.is_err(), "{backend}: opening {jobs:?}");
            }
        }
    }
}

#[test]
fn an_unknown_implementation_is_named() {
    let error = PacketKey::with_backend("rot13", &Secret::zero())
        .err()
        .unwrap();
    assert_eq!(
        error,
        "GINNEL_AEAD: expected aws-lc or avx512, found \"rot13\""
    );
}

#[test]
fn the_live_one_has_a_name() {
    assert!(aead_backends().contains(&aead_backend()));
}
