//! Connections and requests of every kind, and what is checked of the answers.

use std::net::TcpListener;
use std::process::Output;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::runs::number;
use crate::server::{ENGINES, Script, bench, file_of, load, serve, serve_unix};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn reuse_bounds_the_requests_of_a_connection() {
    load(Script::Answer(OK), &["--reuse", "3"], |code, json| {
        assert_eq!(code, Some(0), "{json}");
        let (responses, opened) = (
            number(json, "/run/responses"),
            number(json, "/run/connections_opened"),
        );
        assert!(responses > 0 && opened >= responses.div_ceil(3), "{json}");
        assert!(opened <= responses / 3 + 8, "{json}");
        assert_eq!(
            json["latency_ns"]["clock"], "response",
            "the connect is in it"
        );
    });
}

#[test]
fn pipelined_requests_are_all_answered() {
    load(Script::Answer(OK), &["--pipeline", "16"], |code, json| {
        assert_eq!(code, Some(0), "{json}");
        assert_eq!(
            number(json, "/run/responses"),
            number(json, "/run/requests")
        );
        assert_eq!(number(json, "/run/connections_opened"), 4);
    });
}

#[test]
fn in_turns_answers_per_second_are_of_the_time_in_turn() {
    for shape in [["--pipeline", "1"], ["--reuse", "1"]] {
        let turns = ["--turns", "20ms", "--turn", "2/3"];
        load(
            Script::Answer(OK),
            &[&turns[..], &shape].concat(),
            |code, json| {
                assert_eq!(code, Some(0), "{json}");
                let responses = number(json, "/run/responses");
                assert!(responses > 0, "{json}");
                assert_eq!(responses, number(json, "/run/requests"), "{json}");
                let seconds = |pointer: &str| json.pointer(pointer).unwrap().as_f64().unwrap();
                let in_turn = seconds("/run/in_turn_s");
                // 5 of the 15 turns of 300 ms; more where the last answer came late.
                assert!(
                    in_turn >= 0.1 && in_turn < seconds("/run/elapsed_s"),
                    "{json}"
                );
                let rps = f64::from(u32::try_from(responses).unwrap()) / in_turn;
                assert!((seconds("/run/rps") - rps).abs() < 0.06, "{json}");
                assert!((seconds("/plan/turn_s") - 0.02).abs() < 1e-9, "{json}");
                assert_eq!(json["plan"]["turn"], "2/3");
            },
        );
    }
}

#[test]
fn idle_connections_ask_once_and_stay() {
    load(
        Script::Answer(OK),
        &["--idle", "10", "-n", "20"],
        |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert_eq!(number(json, "/run/responses"), 20);
            assert_eq!(json["plan"]["idle"], 10);
            let notes = json["verdict"]["notes"].to_string();
            assert!(!notes.contains("idle"), "{notes}");
        },
    );
    // Many requests, each with a connection of its own: the server's other threads have closed theirs before the last of them.
    load(
        Script::AnswerAndClose(OK),
        &["--idle", "3", "-n", "400"],
        |_code, json| {
            let notes = json["verdict"]["notes"].to_string();
            assert!(notes.contains("3 idle connections"), "{notes}");
        },
    );
}

#[test]
fn local_addresses_are_taken_in_turn() {
    load(
        Script::Answer(OK),
        &["--src", "127.0.0.2-127.0.0.3", "-n", "40"],
        |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert_eq!(number(json, "/run/responses"), 40);
        },
    );
    // Reserved for documents: no machine has it.
    let (addr, _requests) = serve(Script::Answer(OK));
    let Output { status, stderr, .. } = bench(&[&addr.to_string(), "1", "1", "--src", "192.0.2.1"]);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("no local port is free"), "{said}");
}

#[test]
fn unix_sockets_are_loaded() {
    for engine in ENGINES {
        let (_folder, target, requests) = serve_unix(Script::Answer(OK));
        let output = bench(&[
            &target, "2", "-n", "50", "--warmup", "0", "--engine", engine, "--json", "-", "-q",
        ]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{json}");
        assert_eq!(number(&json, "/run/responses"), 50);
        assert_eq!(requests.load(Ordering::Relaxed), 50);
    }
    let Output { status, stderr, .. } = bench(&["unix:/nonexistent/x.sock", "1", "1"]);
    assert_eq!(
        status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&stderr)
    );
}

#[test]
fn connections_may_come_one_after_the_other() {
    load(
        Script::Answer(OK),
        &["--ramp-conns", "200ms"],
        |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert_eq!(number(json, "/run/connections_opened"), 4);
        },
    );
}

#[test]
fn slow_readers_and_writers_take_their_time() {
    let slow = |flags: &[&str]| {
        load(Script::Answer(OK), flags, |code, json| {
            assert_eq!(code, Some(0), "{json}");
            // 4,000 bytes at 40,000 a second.
            assert!(number(json, "/latency_ns/p/50") > 90_000_000, "{json}");
        });
    };
    let body = "x".repeat(4000);
    slow(&["-b", &body, "--write-rate", "40000"]);
    static LONG: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let long = LONG.get_or_init(|| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n{}",
            "x".repeat(40_000)
        )
    });
    load(
        Script::Answer(long),
        &["--read-rate", "400k"],
        |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert!(number(json, "/run/responses") > 0, "{json}");
        },
    );
}

#[test]
fn answers_are_held_to_what_is_expected() {
    let bad = |script, flags: &[&str], class: &str| {
        load(script, flags, |code, json| {
            assert_eq!(code, Some(4), "{json}");
            assert!(number(json, &format!("/errors/{class}")) > 0, "{json}");
        });
    };
    bad(Script::Answer(OK), &["--expect", "204"], "status");
    bad(Script::Answer(OK), &["--expect-size", "3"], "size");
    bad(Script::Numbered, &["--verify", "1/1"], "body");
    load(
        Script::Answer(OK),
        &["--verify", "1/1", "--expect", "200", "--expect-size", "2"],
        |code, json| {
            assert_eq!(
                (code, &json["errors"]),
                (Some(0), &serde_json::json!({})),
                "{json}"
            );
        },
    );
}

#[test]
fn fail_fast_ends_with_the_first_error() {
    let (addr, _requests) = serve(Script::Answer(
        "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
    ));
    let output = bench(&[
        &addr.to_string(),
        "1",
        "60",
        "--warmup",
        "0",
        "--fail-fast",
        "--json",
        "-",
        "-q",
    ]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{json}");
    assert!(json["run"]["elapsed_s"].as_f64().unwrap() < 30.0, "{json}");
}

#[test]
fn goals_decide_the_exit_status() {
    let status = |goals: &str| {
        let (addr, _requests) = serve(Script::Answer(OK));
        let output = bench(&[
            &addr.to_string(),
            "1",
            "-n",
            "20",
            "--warmup",
            "0",
            "--slo",
            goals,
            "-q",
        ]);
        output.status.code()
    };
    assert_eq!(status("p99<60s,err<0.1%"), Some(0));
    assert_eq!(status("p99<1ns"), Some(3));
}

#[test]
fn void_is_said_where_connections_are_missing() {
    load(
        Script::AnswerAndClose("HTTP/1.1 200 OK\r\nContent-Len"),
        &[],
        |code, json| {
            assert_eq!(code, Some(4), "{json}");
            assert_eq!(json["verdict"]["limited_by"], "void", "{json}");
            assert_eq!(json["verdict"]["valid"], false);
        },
    );
}

#[test]
fn cost_of_a_named_process_is_told() {
    let own = std::process::id().to_string();
    load(Script::Answer(OK), &["--pid", &own], |_code, json| {
        assert_eq!(json["target_cost"]["source"], "pid");
        assert!(number(json, "/target_cost/cpu_ns") > 0, "{json}");
        assert!(number(json, "/target_cost/rss_kib") > 0, "{json}");
    });
}

#[test]
fn mix_raw_and_chunked_requests_are_answered() {
    let mix = "{\"weight\": 2, \"path\": \"/a\"}\n{\"path\": \"/b\", \"body\": \"xyz\"}\n";
    let raw = "GET /raw HTTP/1.1\r\nHost: x\r\n\r\n";
    for (flag, text) in [("--mix", mix), ("--raw", raw)] {
        let file = file_of(text);
        let flags = [flag, file.path().to_str().unwrap()];
        load(Script::Answer(OK), &flags, |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert!(number(json, "/run/responses") > 0);
        });
    }
    let wrong = file_of("{\"path\": \"/a\"}\nGET /b\n");
    let name = wrong.path().to_str().unwrap();
    let Output { status, stderr, .. } = bench(&["a:1", "--mix", name]);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(
        said.contains(&format!("{name}:2: ")) && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn what_the_threads_keep_to_and_read_is_in_the_plan() {
    let cpu = hp_core::sys::cpu::allowed().unwrap()[0];
    let pin = cpu.to_string();
    let flags = [
        "-t", "1", "-R", "500", "--pin", &pin, "--spin", "50", "--drain", "copy",
    ];
    for (stamp, is_noted) in [("event", false), ("batch", true)] {
        let flags = [&flags[..], &["--stamp", stamp]].concat();
        load(Script::Answer(OK), &flags, |_code, json| {
            let plan = &json["plan"];
            assert_eq!(plan["pin"], serde_json::json!([cpu]));
            assert_eq!(plan["spin_s"], 50e-6);
            assert_eq!(
                (&plan["drain"], &plan["stamp"]),
                (&"copy".into(), &stamp.into())
            );
            let notes = json["verdict"]["notes"].to_string();
            assert_eq!(notes.contains("clock read once a batch"), is_noted);
            assert!(number(json, "/run/responses") > 0, "{json}");
            let clock = json["latency_ns"]["min"].as_u64().unwrap();
            assert!(clock > 0, "{json}");
        });
    }
    load(Script::Answer(OK), &[], |_code, json| {
        let plan = &json["plan"];
        assert_eq!(
            (&plan["pin"], &plan["spin_s"]),
            (&serde_json::json!([]), &0.0.into())
        );
        assert_eq!(
            (&plan["drain"], &plan["stamp"]),
            (&"trunc".into(), &"event".into())
        );
    });
}

#[test]
fn start_waits_for_its_time_together() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(listener);
    let (addr, _requests) = serve(Script::Answer(OK));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let at = (now + std::time::Duration::from_millis(1500)).as_secs_f64();
    let output = bench(&[
        &addr.to_string(),
        "2",
        "-t",
        "2",
        "-n",
        "10",
        "--warmup",
        "0",
        "--start-at",
        &at.to_string(),
        "--json",
        "-",
        "-q",
    ]);
    let ended = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(ended.as_secs_f64() >= at);
}

#[test]
fn command_lines_of_wrk_and_wrk2_run() {
    let (addr, _requests) = serve(Script::Answer(OK));
    let url = format!("http://{addr}/");
    for words in [
        &[
            "-t2",
            "-c4",
            "-d100ms",
            "--latency",
            "-T",
            "2s",
            "-H",
            "A: b",
        ][..],
        &["-t2", "-c4", "-d100ms", "-R100", "-L", "-U"],
    ] {
        let output = bench(&[words, &["--warmup", "0", &url]].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("Detailed Percentile spectrum:"), "{said}");
    }
    let Output { status, stderr, .. } = bench(&["-t2", "-c4", "-s", "x.lua", &url]);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(
        said.contains("--mix") && said.lines().count() == 1,
        "{said}"
    );
}
