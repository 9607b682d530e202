//! Exit statuses, and what goes to which stream.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::server::{ENGINES, Script, bench, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn summary_goes_to_stdout() {
    let (addr, _requests) = serve(Script::Answer(OK));
    let Output {
        status,
        stdout,
        stderr,
    } = bench(&[&addr.to_string(), "2", "-d", "100ms", "--warmup", "0", "-L"]);
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
    let text = String::from_utf8(stdout).unwrap();
    for part in [
        "  requests ",
        "  latency ",
        "errors 0",
        "closed loop: ",
        "Detailed Percentile",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn quiet_says_nothing() {
    let (addr, _requests) = serve(Script::Answer(OK));
    let Output {
        status,
        stdout,
        stderr,
    } = bench(&[&addr.to_string(), "2", "-d", "100ms", "--warmup", "0", "-q"]);
    assert_eq!((status.code(), stdout.len(), stderr.len()), (Some(0), 0, 0));
}

#[test]
fn json_goes_to_the_named_file() {
    let (addr, _requests) = serve(Script::Answer(OK));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("result.json");
    let name = file.to_str().unwrap();
    let Output { status, stdout, .. } = bench(&[
        &addr.to_string(),
        "2",
        "-d",
        "100ms",
        "--warmup",
        "0",
        "--json",
        name,
    ]);
    assert_eq!((status.code(), stdout.is_empty()), (Some(0), false));
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["schema"], "hp-bench/1");
}

#[test]
fn refused_target_is_one_line_and_exit_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    for engine in ENGINES {
        check_failure(
            &[&addr, "--engine", engine],
            1,
            &format!(
                "hp-bench: cannot connect to {addr}: connection refused; start the server or \
                 check the port\n"
            ),
        );
    }
}

#[test]
fn a_cpu_that_the_process_may_not_use_is_one_line_and_exit_one() {
    let output = bench(&["127.0.0.1:1", "1", "1", "--pin", "1023"]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    let start = "hp-bench: --pin: this process may not use CPU 1023; name some of ";
    assert!(line.starts_with(start), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn misuse_is_one_line_and_exit_two() {
    check_failure(
        &["127.0.0.1:1", "9", "-c", "8"],
        2,
        "hp-bench: CONNECTIONS and -c differ; give one of them\n",
    );
    check_failure(
        &["127.0.0.1:1", "-d", "10x"],
        2,
        "hp-bench: invalid value '10x' for '--duration <TIME>': \"10x\" is no time; write 10s, \
         500ms or 1m; see hp-bench --help\n",
    );
    check_failure(
        &["https://a/"],
        2,
        "hp-bench: invalid value 'https://a/' for '<TARGET>': only http:// is supported; see \
         hp-bench --help\n",
    );
}

#[test]
fn interrupted_run_reports_what_it_has() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        check_interrupted(signal, code, &[]);
    }
}

/// The pacer gave up what was too late without a turn for the signal's message.
#[test]
fn a_signal_ends_a_run_at_a_rate_beyond_reach() {
    check_interrupted("INT", 130, &["-R", "100M"]);
    check_interrupted("INT", 130, &["-R", "100M", "--max-backlog", "1"]);
}

fn check_interrupted(signal: &str, code: i32, flags: &[&str]) {
    for engine in ENGINES {
        let (addr, requests) = serve(Script::Answer(OK));
        let child = Command::new(env!("CARGO_BIN_EXE_hp-bench"))
            .args([
                &addr.to_string(),
                "2",
                "60",
                "--warmup",
                "0",
                "--json",
                "-",
                "--engine",
                engine,
            ])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while requests.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let kill = format!("kill -{signal} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["interrupted"], true);
        assert!(json["run"]["responses"].as_u64().unwrap() > 0, "{json}");
        assert!(json["run"]["elapsed_s"].as_f64().unwrap() < 30.0, "{json}");
    }
}

/// The wait for `--start-at` was deaf to messages, so that only SIGKILL ended it.
#[test]
fn a_signal_ends_the_wait_for_the_start() {
    for engine in ENGINES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_hp-bench"))
            .args([&addr, "2", "1", "--engine", engine])
            .args(["-t", "2", "--start-at", "2100-01-01T00:00:00Z"])
            .args(["--json", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _conns = [listener.accept().unwrap(), listener.accept().unwrap()];
        let kill = format!("kill -INT {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        let mut said = String::new();
        let pipe = child.stdout.as_mut().unwrap();
        pipe.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(json["interrupted"], true);
        assert_eq!(json["run"]["requests"], 0);
    }
}

fn check_failure(args: &[&str], code: i32, line: &str) {
    let Output {
        status,
        stdout,
        stderr,
    } = bench(args);
    assert_eq!(String::from_utf8(stderr).unwrap(), line);
    assert_eq!((status.code(), stdout.as_slice()), (Some(code), &b""[..]));
}
