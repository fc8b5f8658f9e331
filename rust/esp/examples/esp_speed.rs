//! What ESP costs, in nanoseconds a packet: `cargo run --release -p ginnel-esp --example esp_speed`.
//!
//! One core, warm caches, the best of several rounds, in batches as the engine makes them: number, header, trailer and sealing; and
//! window, opening, window again, trailer and what is inside. No system call is in here.

#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::error::Error;
use std::time::{Duration, Instant};

use ginnel_crypto::esp::Suite;
use ginnel_crypto::KeyMaterial;
use ginnel_esp::inbound::{Arrived, Inbound, Outer};
use ginnel_esp::layout;
use ginnel_esp::outbound::{Outbound, Placed};
use ginnel_esp::sa::{Limits, Mode, Scratch, Terms};
use ginnel_esp::selectors::Selectors;

const ROUNDS: usize = 400;

fn speed(suite: Suite, batch: usize, payload: usize) -> Result<(), Box<dyn Error>> {
    let terms = Terms {
        spi: 0x100,
        suite,
        mode: Mode::Transport,
        esn: true,
        limits: Limits::default(),
        selectors: Selectors::default(),
    };
    let key = KeyMaterial::random(suite.key_len())?;
    let integrity = KeyMaterial::random(suite.integrity_len())?;
    let sender = Outbound::new(terms.clone(), &key, &integrity, 0)?;
    let receiver = Inbound::new(terms, &key, &integrity, 1024, 0)?;
    let len = layout::sealed_len(suite, payload);
    let mut slab = vec![0x5a; batch * len];
    let placed: Vec<_> = (0..batch)
        .map(|at| Placed {
            start: at * len,
            payload,
            next_header: 47,
        })
        .collect();
    let arrived: Vec<_> = placed
        .iter()
        .map(|one| Arrived {
            start: one.start,
            len,
        })
        .collect();
    let outer = Outer {
        source: [192, 0, 2, 1].into(),
        destination: [192, 0, 2, 2].into(),
        tos: 0,
        in_udp: false,
    };
    let (mut scratch, mut results) = (Scratch::default(), Vec::new());
    let (mut out, mut back) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sealed = sender.seal(&mut slab, &placed, 1, &mut scratch);
        out = out.min(start.elapsed());
        let start = Instant::now();
        let _ = receiver.open(&mut slab, &arrived, 1, &mut scratch, &mut results);
        let mut admitted = 0;
        for opened in results.iter().flatten() {
            let bytes = &mut slab[opened.start..opened.start + opened.len];
            admitted += usize::from(receiver.admit(opened, &outer, bytes).is_ok());
        }
        back = back.min(start.elapsed());
        assert_eq!((sealed.count, admitted), (batch, batch));
    }
    let each = |time: Duration| time.as_nanos() as f64 / batch as f64;
    println!(
        "{:<18} {batch:>4} of {payload:>5} bytes: out {:7.1} ns, in {:7.1} ns",
        suite.name(),
        each(out),
        each(back)
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let named = [
        "aes128gcm16",
        "aes256gcm16",
        "chacha20poly1305",
        "aes256-sha256",
        "aes128-sha1",
    ];
    for suite in named.into_iter().filter_map(Suite::parse) {
        for (batch, payload) in [(1, 1446), (64, 1446), (64, 64)] {
            speed(suite, batch, payload)?;
        }
    }
    Ok(())
}
