//! Time of ESP's ciphers: `cargo run --release -p ginnel-crypto --example esp_speed`.
//!
//! For each suite, size and batch: nanoseconds for one packet and GB/s (1,446 bytes of text is about what a 1,500-byte path leaves; whole
//! blocks, so 1,440 with CBC), sealing and opening, as the best of 21 runs of a few milliseconds that take turns: a
//! machine that does other work too can only make a run slower. The last lines are WireGuard's packet key, of the same text, to compare.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use std::time::Instant;

use ginnel_crypto::esp::{EspCipher, EspJob, Suite, HEADER_SIZE};
use ginnel_crypto::{Job, KeyMaterial, PacketKey, Secret, TAG_SIZE};

const ROUNDS: usize = 21;
/// Bytes of text, and packets in a batch.
const SCENES: [(usize, usize); 6] = [
    (1446, 64),
    (1446, 16),
    (1446, 4),
    (1446, 1),
    (64, 64),
    (64, 1),
];

enum Key {
    Esp(EspCipher, Vec<EspJob>),
    WireGuard(PacketKey, Vec<Job>, Vec<Job>),
}

struct Scene {
    name: &'static str,
    batch: usize,
    text: usize,
    key: Key,
    slab: Vec<u8>,
    ok: Vec<bool>,
    /// Seconds of one batch, sealed and opened.
    best: [f64; 2],
}

impl Scene {
    fn new(name: &'static str, batch: usize, text: usize, stride: usize, key: Key) -> Self {
        Self {
            name,
            batch,
            text,
            key,
            slab: vec![7; batch * stride],
            ok: vec![false; batch],
            best: [f64::INFINITY; 2],
        }
    }

    fn esp(suite: Suite, text: usize, batch: usize) -> Self {
        let text = text / suite.block() * suite.block();
        let stride = HEADER_SIZE + suite.iv_len() + text + suite.icv_len();
        let key = KeyMaterial::random(suite.key_len()).unwrap();
        let integrity = KeyMaterial::random(suite.integrity_len()).unwrap();
        let cipher = EspCipher::new(suite, false, &key, &integrity).unwrap();
        let jobs = (0..batch).map(|at| EspJob {
            sequence: at as u64,
            start: at * stride,
            len: text,
        });
        let jobs = jobs.collect();
        Self::new(suite.name(), batch, text, stride, Key::Esp(cipher, jobs))
    }

    fn wireguard(text: usize, batch: usize) -> Self {
        let stride = text + TAG_SIZE;
        let job = |len: usize| {
            move |at: usize| Job {
                counter: at as u64,
                start: at * stride,
                len,
            }
        };
        let key = Key::WireGuard(
            PacketKey::new(&Secret::random().unwrap()),
            (0..batch).map(job(text)).collect(),
            (0..batch).map(job(text + TAG_SIZE)).collect(),
        );
        Self::new("WireGuard", batch, text, stride, key)
    }

    fn seal(&mut self) {
        match &mut self.key {
            Key::Esp(cipher, jobs) => {
                for job in &mut *jobs {
                    job.sequence += self.batch as u64;
                }
                cipher.seal_many(&mut self.slab, jobs);
            }
            Key::WireGuard(key, jobs, _) => key.seal_many(&mut self.slab, jobs),
        }
    }

    fn open(&mut self) {
        match &self.key {
            Key::Esp(cipher, jobs) => cipher.open_many(&mut self.slab, jobs, &mut self.ok),
            Key::WireGuard(key, _, jobs) => key.open_many(&mut self.slab, jobs, &mut self.ok),
        }
    }

    fn run(&mut self, batches: usize) {
        let (mut sealing, mut opening) = (0.0, 0.0);
        for _ in 0..batches {
            let start = Instant::now();
            self.seal();
            sealing += start.elapsed().as_secs_f64();
            let start = Instant::now();
            self.open();
            opening += start.elapsed().as_secs_f64();
            assert!(self.ok.iter().all(|ok| *ok));
        }
        for (best, seconds) in self.best.iter_mut().zip([sealing, opening]) {
            *best = best.min(seconds / batches as f64);
        }
    }
}

fn main() {
    println!("| suite | size | batch | seal ns/packet | GB/s | open ns/packet | GB/s |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (text, batch) in SCENES {
        let mut scenes: Vec<_> = Suite::all()
            .map(|suite| Scene::esp(suite, text, batch))
            .collect();
        scenes.push(Scene::wireguard(text, batch));
        for _ in 0..ROUNDS {
            for scene in &mut scenes {
                scene.run((1000 / batch).max(1));
            }
        }
        for scene in &scenes {
            let [seal, open] = scene.best.map(|seconds| seconds / batch as f64 * 1e9);
            let rate = |ns: f64| scene.text as f64 / ns;
            println!(
                "| {} | {} | {batch} | {seal:.0} | {:.2} | {open:.0} | {:.2} |",
                scene.name,
                scene.text,
                rate(seal),
                rate(open)
            );
        }
    }
}
