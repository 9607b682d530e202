//! Bad input of every kind: one line that says what is wrong and what to do, and the exit status for it.

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::server::{Script, bench, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Runs the program; its one line must have all the parts.
fn check(args: &[&str], code: i32, parts: &[&str]) {
    let output = bench(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.starts_with("hp-bench: "), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert!(
        parts.iter().all(|part| said.contains(part)),
        "{args:?}: {said}"
    );
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn words_that_mean_nothing_are_exit_two() {
    let at = "127.0.0.1:1";
    let rows: &[(&[&str], &[&str])] = &[
        (&[""], &["no host", "HOST:PORT"]),
        (&["127.0.0.1:99999"], &["1 to 65535"]),
        (&["unix:"], &["unix:/run/app.sock"]),
        (&[at, "-d", ""], &["--duration", "500ms"]),
        (&[at, "-d", "10parsecs"], &["10parsecs", "500ms"]),
        (&[at, "-d", "99999999999999h"], &["is no time"]),
        (&[at, "-T", "61s"], &["1ms to 60s"]),
        (&[at, "5", "-c", "6"], &["CONNECTIONS and -c differ"]),
        (&[at, "5", "3", "-d", "4s"], &["SECONDS and -d differ"]),
        (&[at, "-c", "5", "-c", "6"], &["multiple times"]),
        (&[at, "-c", "0"], &["is no count", "10k"]),
        (&[at, "-c", "99999999999999999999"], &["is no count"]),
        (&[at, "-c", "-5"], &["'-5'", "--help"]),
        (&[at, "-t", "0"], &["is no count"]),
        (&[at, "-t", "1025"], &["too many", "1024"]),
        (&[at, "--idle", "99999999999"], &["1000000"]),
        (&[at, "--pipeline", "0"], &["1..=1024"]),
        (
            &[at, "--engine", "maybe"],
            &["auto, uring, epoll or threads"],
        ),
        (&[at, "--arrival", "maybe"], &["uniform, poisson"]),
        (&[at, "--arrival", ""], &["uniform, poisson"]),
        (&[at, "--pacing", "maybe"], &["global, conn"]),
        (&[at, "--progress", "maybe"], &["auto, tty, line, none"]),
        (&[at, "-R", ""], &["is no rate", "10k"]),
        (&[at, "-R", "nan"], &["is no rate"]),
        (&[at, "-R", "1e30"], &["is no rate", "100M"]),
        (
            &[at, "-R", "5", "--catch-up", "nan"],
            &["--catch-up", "1 or more"],
        ),
        (
            &[at, "-d", "500ms", "--ramp-conns", "1501ms"],
            &["--ramp-conns", "longer than the load", "warm-up"],
        ),
        (&[at, "--src", ""], &["--src", "127.0.0.2-127.0.0.9"]),
        (&[at, "--start-at", "yesterday"], &["seconds since 1970"]),
        (&[at, "-H", ""], &["Name: value"]),
        (&[at, "-H", "a: b\r\nc: d"], &["no header field"]),
        (&[at, "-m", "G T"], &["cannot be sent"]),
        (&[at, "--slo", "p99<5"], &["p99<5ms"]),
        (&[at, "--expect", "9xx"], &["2xx or 200,304"]),
        (&[at, "--verify", "0"], &["1/1000"]),
        (&[at, "-s", "wrk.lua"], &["--mix"]),
        (&["find", at], &["--slo"]),
        (&["compare", at], &["TARGET", "hp-bench compare --help"]),
        (&["compare", at, at, "--rounds", "3"], &["6 to 1000"]),
        (&["compare", at, at, "--pid", "1"], &["one for each target"]),
        (&["calibrate", at], &["hp-bench calibrate --help"]),
        (&[at, "--stall", "2:1s"], &["--stall", "0.01:500ms"]),
        (&[at, "--pid", "B=1"], &["--pid", "compare"]),
    ];
    for (args, parts) in rows {
        check(args, 2, parts);
    }
}

#[test]
fn chunks_of_no_size_are_exit_two() {
    let body = ["127.0.0.1:1", "-b", "1M"];
    let check = |words: &[&str], parts: &[&str]| check(&[&body, words].concat(), 2, parts);
    check(&["--chunk-size", "1k"], &["--chunked"]);
    for (size, part) in [("0", "1 to 1G"), ("1025M", "1 to 1G"), ("1.5k", "64k")] {
        let words = ["--chunked", "--chunk-size", size];
        check(&words, &["--chunk-size", part]);
    }
}

#[test]
fn turns_that_cannot_be_taken_are_exit_two() {
    let at = "127.0.0.1:1";
    check(&[at, "--turns", "50ms"], 2, &["--turn 1/2"]);
    let turn = ["--turns", "50ms", "--turn"];
    let with = |first: &[&'static str], last: &[&'static str]| [first, &turn[..], last].concat();
    check(&with(&[at], &["2/1"]), 2, &["--turn", "K/N"]);
    check(&with(&[at], &["1/2", "-R", "5"]), 2, &["--turns", "-R"]);
    let find = ["find", at, "--slo", "p99<5ms"];
    check(&with(&find, &["1/2"]), 2, &["find", "--turns"]);
    let compare = ["compare", at, at];
    check(&with(&compare, &["1/2"]), 2, &["--turns", "--turn"]);
}

#[test]
fn a_world_that_is_not_as_the_words_say_is_exit_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = listener.local_addr().unwrap().to_string();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/none", directory.path().display());
    let rows: &[(&[&str], &[&str])] = &[
        (
            &["no-such-host.invalid:80"],
            &["no-such-host.invalid", "check the name"],
        ),
        (
            &[&refusing, "1"],
            &["connection refused", "start the server"],
        ),
        (&[&socket, "1"], &["no socket there", "check the path"]),
        (
            &[&refusing, "1", "--src", "192.0.2.1"],
            &["--src", "other addresses"],
        ),
        (
            &[&refusing, "--mix", "/nonexistent"],
            &["--mix /nonexistent", "readable file"],
        ),
        (
            &[&refusing, "-b", "@/nonexistent"],
            &["-b /nonexistent", "readable file"],
        ),
        (
            &[&refusing, "--cgroup", "/nonexistent"],
            &["/nonexistent", "--cgroup"],
        ),
        (&[&refusing, "--pid", "0"], &["process 0", "--pid"]),
        (
            &["merge", "/nonexistent"],
            &["/nonexistent", "readable file"],
        ),
        (
            &["diff", "/nonexistent", "/nonexistent"],
            &["/nonexistent", "readable file"],
        ),
    ];
    for (args, parts) in rows {
        check(args, 1, parts);
    }
}

#[test]
fn an_unreadable_line_of_a_mix_is_named() {
    let mut mix = tempfile::NamedTempFile::new().unwrap();
    mix.write_all(b"{\"path\": \"/\"}\n{\"path\":\n").unwrap();
    let name = mix.path().to_str().unwrap();
    check(
        &["127.0.0.1:1", "--mix", name],
        2,
        &[&format!("{name}:2: ")],
    );
}

#[test]
fn a_result_that_cannot_be_written_is_told_before_the_run() {
    let (addr, requests) = serve(Script::Answer(OK));
    let addr = addr.to_string();
    for flag in ["--json", "--hgrm", "--hlog", "--csv", "--html"] {
        for name in ["/nonexistent/x", "/", ""] {
            let output = bench(&[&addr, "1", "60", flag, name]);
            let said = String::from_utf8(output.stderr).unwrap();
            let is_misuse = name.is_empty() && output.status.code() == Some(2); // Where clap wants a value.
            assert!(
                is_misuse || output.status.code() == Some(1),
                "{flag} {name:?}: {said}"
            );
            assert!(said.contains(flag) && said.lines().count() == 1, "{said}");
        }
    }
    assert_eq!(requests.load(Ordering::Relaxed), 0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.json");
    check(
        &["127.0.0.1:1", "1", "--json", file.to_str().unwrap()],
        1,
        &["refused"],
    );
    assert!(!file.exists(), "no result, no file");
}

#[test]
fn words_that_are_no_text_are_exit_two() {
    let output = Command::new(env!("CARGO_BIN_EXE_hp-bench"))
        .arg(OsString::from_vec(b"\xff\xfe:80".to_vec()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("UTF-8") && said.lines().count() == 1,
        "{said}"
    );
}
