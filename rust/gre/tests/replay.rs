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
        let step = input.len() / 64 + 1;
        for at in (0..input.len()).step_by(step) {
            body(&input[..at]);
            for bit in 0..8 {
                let mut changed = input.clone();
                changed[at] ^= 1 << bit;
                body(&changed);
            }
        }
    }
}

#[test]
fn header() {
    replay("header", bodies::header);
}

#[test]
fn admit() {
    replay("admit", bodies::admit);
}

#[test]
fn quoted() {
    replay("quoted", bodies::quoted);
}

#[test]
fn keepalive() {
    replay("keepalive", bodies::keepalive);
}

#[test]
fn outer() {
    replay("outer", bodies::outer);
}

#[test]
fn fragment() {
    replay("fragment", bodies::fragment);
}

#[test]
fn demux() {
    replay("demux", bodies::demux);
}
