//! Do comparisons of secrets take the same time whatever they compare? `cargo run --release -p ginnel-crypto --example timing`
//!
//! The method of dudect (Reparaz, Balasch, Verbauwhede 2017): two classes of input, in random order; Welch's t between their times, after
//! the slowest tenth (interrupts) is cropped. |t| above 10 is a leak; a control, comparing with `==` on slices, must show one, or
//! the measurement proves nothing. Exit 1 on a leak or a silent control.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use ginnel_crypto::agreement::{Group, KeyExchange};
use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::hash::bytes_equal;
use ginnel_crypto::ike::IkeCipher;
use ginnel_crypto::{blake2s, entropy, Job, KeyMaterial, PacketKey, Secret, TAG_SIZE};

const SAMPLES: usize = 400_000;
/// Calls in one sample, so that it is longer than the clock's step.
const CALLS: usize = 8;
const LIMIT: f64 = 10.0;

/// Welch's t of the times of `call(0)` and `call(1)`.
fn t_statistic(call: impl FnMut(usize)) -> f64 {
    t_statistic_of(SAMPLES, call)
}

fn t_statistic_of(samples: usize, mut call: impl FnMut(usize)) -> f64 {
    let mut classes = vec![0; samples];
    entropy(&mut classes).unwrap();
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for class in classes {
        let class = usize::from(class & 1);
        let start = Instant::now();
        for _ in 0..CALLS {
            call(black_box(class));
        }
        times[class].push(start.elapsed().as_nanos() as f64);
    }
    let mut all: Vec<_> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[all.len() * 9 / 10];
    let [a, b] = times.map(|times| {
        let kept: Vec<_> = times.into_iter().filter(|time| *time <= limit).collect();
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let variance = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

fn main() -> ExitCode {
    let secret = Secret::from_slice(&[0x5a; 32]);
    let near = |at: usize| {
        Secret::fill(|raw| {
            *raw = [0x5a; 32];
            raw[at] ^= 1;
        })
    };
    let mut leaks = false;
    let mut report = |what: &str, t: f64, expected: bool| {
        println!("{what:60} t = {t:8.2}");
        leaks |= (t.abs() > LIMIT) != expected;
    };

    // First byte wrong against last byte wrong: what an early end would tell apart.
    let long = [vec![0_u8; 4096], vec![0; 4096]];
    let mut wrong = long.clone();
    wrong[0][0] = 1;
    wrong[1][4095] = 1;
    let t = t_statistic(|class| {
        black_box(long[class] == wrong[class]);
    });
    report("control: == on slices", t, true);

    let others = [near(0), near(31)];
    let t = t_statistic(|class| {
        black_box(secret == others[class]);
    });
    report("Secret ==", t, false);

    let tag = blake2s::mac(&[1; 32], &[&[2; 116]]).unwrap();
    let mut tags = [tag; 2];
    tags[0][0] ^= 1;
    tags[1][15] ^= 1;
    let t = t_statistic(|class| {
        black_box(blake2s::mac_equal(&[1; 32], &[&[2; 116]], &tags[class])).unwrap();
    });
    report("mac_equal (mac1, mac2)", t, false);

    let texts = [
        Secret::zero().base64(),
        Secret::from_slice(&[0xff; 32]).base64(),
    ];
    let t = t_statistic(|class| {
        black_box(Secret::from_base64(texts[class].as_slice())).unwrap();
    });
    report("from_base64, all zero against all one", t, false);

    let secrets = [Secret::zero(), Secret::from_slice(&[0xff; 32])];
    let t = t_statistic(|class| {
        black_box(secrets[class].base64());
    });
    report("base64, the same", t, false);
    let t = t_statistic(|class| {
        black_box(secrets[class].hex());
    });
    report("hex, the same", t, false);

    for backend in ["aws-lc", "avx512"] {
        let key = PacketKey::with_backend(backend, &secret).unwrap();
        let mut slab = vec![0; 2 * (64 + TAG_SIZE)];
        let job = |start: usize, len: usize| Job {
            counter: 1,
            start,
            len,
        };
        key.seal_many(&mut slab, &[job(0, 64), job(64 + TAG_SIZE, 64)]);
        let mut forged = [slab.clone(), slab];
        for (class, at) in [64, 64 + TAG_SIZE - 1].into_iter().enumerate() {
            forged[class][at] ^= 1;
            forged[class][64 + TAG_SIZE + at] ^= 1;
        }
        let jobs = [job(0, 64 + TAG_SIZE), job(64 + TAG_SIZE, 64 + TAG_SIZE)];
        let mut buffer = forged[0].clone();
        let t = t_statistic(|class| {
            buffer.copy_from_slice(&forged[class]);
            key.open_many(&mut buffer, &jobs, black_box(&mut [false; 2]));
        });
        report(&format!("packet tag, {backend}"), t, false);
    }
    for name in ["aes128gcm16", "chacha20poly1305", "aes128-sha256"] {
        let suite = Suite::parse(name).unwrap();
        let keys = [suite.key_len(), suite.integrity_len()]
            .map(|size| KeyMaterial::from_slice(&vec![9; size]));
        let cipher = EspCipher::new(suite, false, &keys[0], &keys[1]).unwrap();
        let text = HEADER_SIZE + suite.iv_len();
        let size = text + 64 + suite.icv_len();
        let jobs = [0, 1].map(|at| EspJob {
            sequence: at as u64,
            start: at * size,
            len: 64,
        });
        let mut slab = vec![0; 2 * size];
        cipher.seal_many(&mut slab, &jobs);
        // From one place for both classes: where bytes lie takes its own time.
        let mut buffer = slab.clone();
        let t = t_statistic(|class| {
            buffer.copy_from_slice(&slab);
            let at = [text + 64, size - 1][class];
            buffer[at] ^= 1;
            buffer[size + at] ^= 1;
            cipher.open_many(&mut buffer, &jobs, black_box(&mut [false; 2]));
        });
        report(&format!("ESP's ICV, {name}"), t, false);

        let cipher = IkeCipher::new(suite, &keys[0], &keys[1]).unwrap();
        let mut sealed = cipher.seal(&[3; 32], &[4; 100]);
        let ends = [sealed.len() - suite.icv_len(), sealed.len() - 1];
        let t = t_statistic(|class| {
            sealed[ends[class]] ^= 1;
            black_box(cipher.open(&[3; 32], &sealed)).unwrap_err();
            sealed[ends[class]] ^= 1;
        });
        report(&format!("IKE's checksum, {name}"), t, false);
    }
    let key = KeyMaterial::from_slice(&[0; 32]);
    let others = [0, 31].map(|at| {
        KeyMaterial::fill(32, |raw| {
            raw[at] = 1;
        })
    });
    let t = t_statistic(|class| {
        black_box(key == others[class]);
    });
    report("KeyMaterial ==", t, false);
    let t = t_statistic(|class| {
        black_box(bytes_equal(key.expose(), others[class].expose()));
    });
    report("bytes_equal (AUTH)", t, false);

    // A MODP exponent of few ones against one of many; both of the size that is used.
    let peer = KeyExchange::new(Group::Modp(1024))
        .unwrap()
        .public()
        .to_vec();
    let exponents = [vec![0x80; 32], vec![0xff; 32]];
    let t = t_statistic_of(4_000, |class| {
        let exchange = KeyExchange::with_private(Group::Modp(1024), &exponents[class]).unwrap();
        black_box(exchange.agree(&peer)).unwrap();
    });
    report("MODP exponents", t, false);
    if leaks {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
