//! What the `tests/replay.rs` of every fuzzed crate shares: the targets' kept inputs, run on stable Rust, and what small changes make
//! of them: each evenly spread byte with one bit turned, and the input cut there. What was ever found stays found, without nightly.

use std::fs;
use std::path::Path;

/// Runs *body* over the corpus of *target*; fails when fewer than eight inputs are left of it.
pub fn replay(target: &str, body: fn(&[u8])) {
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
        "the corpus of {target} is gone: {} inputs",
        names.len()
    );
    for name in names {
        let input = fs::read(&name).unwrap();
        // The name is shown only if the body panics.
        println!("{}", name.display());
        body(&input);
        for at in (0..input.len()).step_by(input.len() / 64 + 1) {
            body(&input[..at]);
            for bit in 0..8 {
                let mut changed = input.clone();
                changed[at] ^= 1 << bit;
                body(&changed);
            }
        }
    }
}
