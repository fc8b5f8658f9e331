//! Time of the packet AEAD: `cargo run --release -p ginnel-crypto --example aead`.
//!
//! For each implementation, packet size and batch: nanoseconds per packet and GB/s, sealing and opening, as the best of
//! 21 runs of a few milliseconds that take turns: a machine that does other work too can only make a run slower.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use std::time::Instant;

use ginnel_crypto::{Job, PacketKey, Secret, TAG_SIZE};

const ROUNDS: usize = 21;
const RUN_NS: f64 = 4e6;

struct Scene {
    key: PacketKey,
    slab: Vec<u8>,
    plain: Vec<Job>,
    sealed: Vec<Job>,
    ok: Vec<bool>,
    best: [f64; 2],
}

impl Scene {
    fn new(backend: &str, size: usize, batch: usize) -> Self {
        // As packets lie in the engine's slab: a header before each, equal distances.
        let stride = 16 + size + TAG_SIZE;
        let job = |len: usize| {
            move |at: usize| Job {
                counter: at as u64,
                start: 16 + at * stride,
                len,
            }
        };
        Self {
            key: PacketKey::with_backend(backend, &Secret::from_slice(&[7; 32])).unwrap(),
            slab: vec![0; batch * stride],
            plain: (0..batch).map(job(size)).collect(),
            sealed: (0..batch).map(job(size + TAG_SIZE)).collect(),
            ok: vec![false; batch],
            best: [f64::INFINITY; 2],
        }
    }

    /// Seconds of one batch sealed, and of the same opened (a copy of the sealed slab is put back before each opening).
    fn run(&mut self, batches: usize) {
        let clean = self.slab.clone();
        self.key.seal_many(&mut self.slab, &self.plain);
        let sealed = self.slab.clone();
        let (mut sealing, mut opening) = (0.0, 0.0);
        for _ in 0..batches {
            self.slab.copy_from_slice(&clean);
            let start = Instant::now();
            self.key.seal_many(&mut self.slab, &self.plain);
            sealing += start.elapsed().as_secs_f64();
            assert_eq!(self.slab, sealed);
            let start = Instant::now();
            self.key
                .open_many(&mut self.slab, &self.sealed, &mut self.ok);
            opening += start.elapsed().as_secs_f64();
            assert!(self.ok.iter().all(|ok| *ok));
        }
        let packets = (batches * self.plain.len()) as f64;
        for (best, seconds) in self.best.iter_mut().zip([sealing, opening]) {
            *best = best.min(seconds / packets * 1e9);
        }
    }
}

fn main() {
    println!("| size | batch | implementation | seal ns/packet | GB/s | open ns/packet | GB/s |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (size, batch) in [
        (1420, 32),
        (1420, 8),
        (1420, 1),
        (512, 32),
        (64, 32),
        (64, 1),
    ] {
        let mut scenes: Vec<_> = ["aws-lc", "avx512"]
            .map(|backend| (backend, Scene::new(backend, size, batch)))
            .into_iter()
            .collect();
        let batches = (RUN_NS / ((size as f64 + 200.0) * batch as f64)).max(1.0) as usize;
        for _ in 0..ROUNDS {
            for (_, scene) in &mut scenes {
                scene.run(batches);
            }
        }
        for (backend, scene) in &scenes {
            let [seal, open] = scene.best;
            let rate = |ns: f64| size as f64 / ns;
            println!(
                "| {size} | {batch} | {backend} | {seal:.0} | {:.2} | {open:.0} | {:.2} |",
                rate(seal),
                rate(open)
            );
        }
    }
}
