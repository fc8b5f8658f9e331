//! Replays this crate's kept fuzz inputs; see `fuzz_replay`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../../fuzz_replay.rs"]
mod fuzz_replay;

use fuzz_replay::replay;

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
