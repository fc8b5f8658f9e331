//! Replays the fuzz targets' kept inputs on stable Rust: what was ever found stays fixed, without nightly.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod reference;

use std::fs;
use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(
        names.len() >= 8,
        "the corpus of {target} is missing: {} inputs",
        names.len()
    );
    for name in names {
        let input = fs::read(&name).unwrap();
        // The name is shown only if the body panics.
        println!("{}", name.display());
        body(&input);
        // What one changed byte makes of it, evenly spread over the input.
        for at in (0..input.len()).step_by(input.len() / 64 + 1) {
            let mut changed = input.clone();
            changed[at] ^= 0x41;
            body(&changed);
        }
        for len in (0..input.len()).step_by(input.len() / 64 + 1) {
            body(&input[..len]);
        }
    }
}

#[test]
fn virtio_split() {
    replay("virtio_split", bodies::virtio_split);
}

#[test]
fn coalesce() {
    replay("coalesce", bodies::coalesce);
}

#[test]
fn ip_header() {
    replay("ip_header", bodies::ip_header);
}

#[test]
fn icmp() {
    replay("icmp", bodies::icmp);
}
