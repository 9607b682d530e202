#![no_main]

#[path = "../../tests/differential/judge.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| if let Err(what) = judge::dns(bytes) {
    panic!("{what}");
});
