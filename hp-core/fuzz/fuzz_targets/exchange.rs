#![no_main]

#[path = "../../../hp-proxy/tests/hostile/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| model::must_hold(&model::Script::from_bytes(bytes)));
