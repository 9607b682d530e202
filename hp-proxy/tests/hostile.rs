//! Whole exchanges of hostile bytes in the simulated kernel: nothing that the proxy sends has two readings, and nothing arrives that
//! nobody has said. `make fuzz-volume` plays more seeds; a failure here names its command.

#[path = "hostile/mod.rs"]
mod model;

use model::{Script, play};
use std::path::Path;

#[test]
fn whatever_a_client_says_means_one_thing() {
    let mut forwarded = 0;
    for seed in 0..SEEDS {
        let script = Script::from_seed(seed);
        assert_eq!(
            Script::from_bytes(&script.to_bytes()),
            script,
            "seed {seed}"
        );
        match play(&script) {
            Ok(played) => forwarded += played.forwarded,
            Err(what) => panic!(
                "seed {seed}: {what}\nagain: make fuzz-volume WHAT=exchanges FIRST={seed} VOLUME=1"
            ),
        }
    }
    assert!(
        forwarded > SEEDS,
        "a proxy that refuses all proves nothing: {forwarded} requests"
    );
}

/// An alarm that never rang is none: a proxy that is told to keep underscores is found out.
#[test]
fn a_message_with_two_readings_is_noticed() {
    let text = b"\0POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let script = Script::from_bytes(text);
    assert!(play(&script).is_ok());
    let found = play::play_with(&script, &["--underscores", "keep"]);
    assert!(found.is_err_and(|what| what.contains("\"underscores are hyphens\" takes it for")));
}

#[test]
fn the_corpus_of_exchanges_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hp-core/fuzz/corpus/exchange");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        let path = entry.expect("the folder is readable").path();
        let bytes = std::fs::read(&path).expect("a file is readable");
        if let Err(what) = play(&Script::from_bytes(&bytes)) {
            panic!("{}: {what}", path.display());
        }
        count += 1;
    }
    assert!(count >= 10, "{count} files");
}

/// As many as an unoptimised build plays in seconds.
const SEEDS: u64 = 200;
