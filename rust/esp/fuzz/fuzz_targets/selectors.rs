//! libFuzzer's entry to `bodies::selectors`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::selectors(data));
