//! libFuzzer's entry to `bodies::coalesce`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;
#[path = "../../tests/reference/mod.rs"]
mod reference;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::coalesce(data));
