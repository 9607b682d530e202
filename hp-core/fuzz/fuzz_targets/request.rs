#![no_main]

#[path = "../../tests/differential/judge.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| judge::must_hold(judge::requests, bytes));
