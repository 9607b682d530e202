//! Long answers: the same is counted whether their bodies are copied or discarded in the kernel.

use serde_json::{Value, json};

use crate::runs::number;
use crate::server::{ENGINES, Script, bench, serve, serve_unix};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n";
const BODY_BYTES: usize = 1 << 20;

/// An answer with a body of 1 MiB, or so many bytes of one.
fn answer(body_bytes: usize, surplus: &str) -> &'static str {
    Box::leak(format!("{HEAD}{}{surplus}", "x".repeat(body_bytes)).into_boxed_str())
}

/// Requests on four connections, in each mode on each engine.
fn both_ways(script: Script, args: &[&str], check: impl Fn(Option<i32>, &Value)) {
    let (addr, _requests) = serve(script);
    for engine in ENGINES {
        for drain in ["copy", "trunc"] {
            let addr = addr.to_string();
            let fixed = [
                addr.as_str(),
                "4",
                "-n",
                "24",
                "-d",
                "60s",
                "--warmup",
                "0",
                "--json",
                "-",
                "-q",
                "--engine",
                engine,
                "--drain",
                drain,
            ];
            let output = bench(&[&fixed, args].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            let json: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{engine} {drain}: {error}: {said}"));
            assert_eq!(json["plan"]["drain"], drain);
            check(output.status.code(), &json);
        }
    }
}

fn is_all_counted(code: Option<i32>, json: &Value) {
    assert_eq!(code, Some(0), "{json}");
    assert_eq!(number(json, "/run/responses"), 24);
    let bytes = 24 * (HEAD.len() + BODY_BYTES) as u64;
    assert_eq!(number(json, "/run/bytes_in"), bytes);
    assert_eq!(number(json, "/run/connections_opened"), 4);
    assert_eq!(json["errors"], json!({}));
}

#[test]
fn long_answers_are_counted_alike_copied_or_discarded() {
    let whole = Script::Answer(answer(BODY_BYTES, ""));
    both_ways(whole, &[], is_all_counted);
    both_ways(whole, &["--expect-size", "1m"], is_all_counted);
    both_ways(whole, &["--verify", "1/3"], is_all_counted);
    both_ways(whole, &["--pipeline", "3"], is_all_counted);
    both_ways(whole, &["--stamp", "batch"], is_all_counted);
}

#[test]
fn long_answers_that_end_too_early_are_failures_copied_or_discarded() {
    let cut = Script::AnswerAndClose(answer(BODY_BYTES / 2, ""));
    both_ways(cut, &["--fail-fast"], |code, json| {
        assert_eq!(code, Some(4), "{json}");
        assert_eq!(number(json, "/run/responses"), 0);
        assert!(number(json, "/errors/eof_early") > 0, "{json}");
    });
}

#[test]
fn bytes_beyond_a_long_answer_are_found_copied_or_discarded() {
    let more = Script::Answer(answer(
        BODY_BYTES,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ));
    both_ways(more, &["--fail-fast"], |code, json| {
        assert_eq!(code, Some(4), "{json}");
        assert!(number(json, "/errors/parse") > 0, "{json}");
    });
}

#[test]
fn long_answers_of_a_unix_socket_are_copied() {
    let (_folder, target, _requests) = serve_unix(Script::Answer(answer(BODY_BYTES, "")));
    for engine in ENGINES {
        let output = bench(&[
            &target, "4", "-n", "24", "-d", "60s", "--warmup", "0", "--json", "-", "-q",
            "--engine", engine, "--drain", "trunc",
        ]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["plan"]["drain"], "copy");
        is_all_counted(output.status.code(), &json);
    }
}
