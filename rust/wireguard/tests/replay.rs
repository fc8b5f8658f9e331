//! Replays this crate's kept fuzz inputs; see `fuzz_replay`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../fuzz_replay.rs"]
mod fuzz_replay;

use fuzz_replay::replay;

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
