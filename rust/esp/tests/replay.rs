//! Replays this crate's kept fuzz inputs; see `fuzz_replay`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../fuzz_replay.rs"]
mod fuzz_replay;

use fuzz_replay::replay;

#[test]
fn trailer() {
    replay("trailer", bodies::trailer);
}

#[test]
fn selectors() {
    replay("selectors", bodies::selectors);
}

#[test]
fn demultiplex() {
    replay("demultiplex", bodies::demultiplex);
}

#[test]
fn replay_schedule() {
    replay("replay", bodies::replay);
}

#[test]
fn arrive() {
    replay("arrive", bodies::arrive);
}
