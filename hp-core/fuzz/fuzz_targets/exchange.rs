#![no_main]

#[path = "../../../hp-proxy/tests/hostile/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| if let Err(what) = model::play(&model::Script::from_bytes(bytes)) {
    panic!("{what}");
});
