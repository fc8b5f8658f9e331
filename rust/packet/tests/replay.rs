//! Replays this crate's kept fuzz inputs; see `fuzz_replay`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../fuzz_replay.rs"]
mod fuzz_replay;
mod reference;

use fuzz_replay::replay;

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
