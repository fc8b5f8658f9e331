//! Replays the fuzz targets' kept inputs on stable Rust, and what small changes make of them: what was ever found stays found.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let inputs: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(
        inputs.len() >= 8,
        "the corpus of {target} is gone: {} inputs",
        inputs.len()
    );
    for input in inputs {
        body(&input);
        let step = input.len() / 40 + 1;
        for at in (0..input.len()).step_by(step) {
            body(&input[..at]);
            let mut changed = input.clone();
            changed[at] ^= 0x15;
            body(&changed);
        }
    }
}

#[test]
fn gate() {
    replay("gate", bodies::gate);
}

#[test]
fn replay_window() {
    replay("replay", bodies::replay);
}

#[test]
fn allowed_ips() {
    replay("allowed_ips", bodies::allowed_ips);
}
