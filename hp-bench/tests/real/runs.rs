//! What is counted, and as what.

use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::server::{ENGINES, Script, bench, file_of, load, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn answers_are_counted_once_each() {
    let (addr, requests) = serve(Script::Answer(OK));
    let output = bench(&[
        &addr.to_string(),
        "3",
        "1",
        "-t",
        "2",
        "--warmup",
        "0",
        "--json",
        "-",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let responses = number(&json, "/run/responses");
    assert_eq!(responses, requests.load(Ordering::Relaxed));
    assert_eq!(responses, number(&json, "/run/requests"));
    assert_eq!(responses, number(&json, "/status/2xx"));
    assert_eq!(number(&json, "/run/bytes_in"), responses * OK.len() as u64);
    assert_eq!(number(&json, "/run/connections_opened"), 3);
    assert_eq!(json["errors"], serde_json::json!({}));
    assert!(json["run"]["elapsed_s"].as_f64().unwrap() >= 1.0);
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(
        summary.contains("3 connections, 2 threads, 1.0 s, closed loop"),
        "{summary}"
    );
}

#[test]
fn every_framing_of_an_answer_is_understood() {
    let good = |script, args: &[&str], reconnects: bool| {
        load(script, args, |code, json| {
            assert_eq!(code, Some(0), "{json}");
            let responses = number(json, "/run/responses");
            assert!(responses > 0, "{json}");
            assert_eq!(responses, number(json, "/run/requests"));
            let opened = number(json, "/run/connections_opened");
            assert_eq!(
                opened,
                if reconnects { opened.max(responses) } else { 4 },
                "{json}"
            );
        });
    };
    good(Script::Answer(OK), &[], false);
    good(
        Script::Answer("HTTP/1.1 204 No Content\r\n\r\n"),
        &[],
        false,
    );
    good(
        Script::Answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
        ),
        &[],
        false,
    );
    good(
        Script::Answer("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        &["-m", "HEAD"],
        false,
    );
    good(
        Script::Answer(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        &[],
        false,
    );
    good(
        Script::AnswerAndClose("HTTP/1.1 200 OK\r\n\r\nto the end"),
        &[],
        true,
    );
    good(
        Script::AnswerAndClose(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        ),
        &[],
        true,
    );
    good(
        Script::AnswerAndClose("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        &[],
        true,
    );
    good(
        Script::AnswerAndClose(OK),
        &["-H", "Connection: close"],
        true,
    );
}

#[test]
fn bodies_are_sent_whole() {
    let body = "x".repeat(100_000);
    load(Script::Answer(OK), &["-b", &body], |code, json| {
        assert_eq!(code, Some(0), "{json}");
        let requests = number(json, "/run/requests");
        assert!(number(json, "/run/bytes_out") > requests * 100_000);
        assert_eq!(json["plan"]["method"], "POST");
    });
}

#[test]
fn body_longer_than_any_buffer_is_sent_while_the_answer_is_awaited() {
    let file = file_of(vec![b'x'; 3_000_000]);
    let word = format!("@{}", file.path().display());
    load(
        Script::Answer(OK),
        &["-b", &word, "-c", "4"],
        |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert_eq!(number(json, "/plan/body"), 3_000_000);
        },
    );
}

#[test]
fn failures_have_their_class_and_exit_four() {
    let bad = |script, args: &[&str], class: &str| {
        load(script, args, |code, json| {
            assert_eq!(code, Some(4), "{json}");
            assert!(
                number(json, &format!("/errors/{class}")) > 0,
                "{class}: {json}"
            );
            assert_eq!(json["errors"].as_object().unwrap().len(), 1, "{json}");
        });
    };
    bad(
        Script::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        &[],
        "status",
    );
    bad(Script::AnswerAndClose(""), &[], "eof_early");
    bad(
        Script::AnswerAndClose("HTTP/1.1 200 OK\r\nContent-Len"),
        &[],
        "eof_early",
    );
    bad(
        Script::AnswerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"),
        &[],
        "eof_early",
    );
    bad(Script::Answer("SSH-2.0-x\r\n"), &[], "parse");
    bad(
        Script::Answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi"),
        &[],
        "parse",
    );
    bad(Script::Silence, &["--timeout", "100ms"], "timeout");
}

#[test]
fn given_up_requests_are_samples_of_at_least_the_wait() {
    load(Script::Silence, &["--timeout", "100ms"], |_code, json| {
        let given_up = number(json, "/errors/timeout");
        assert_eq!(number(json, "/latency_ns/censored"), given_up);
        assert_eq!(number(json, "/run/responses"), 0);
        assert!(number(json, "/latency_ns/max") >= 100_000_000);
    });
}

#[test]
fn server_that_closes_a_kept_connection_is_not_blamed() {
    load(Script::AnswerOnce(OK), &[], |code, json| {
        assert_eq!(code, Some(0), "{json}");
        assert!(number(json, "/errors/eof_idle_reuse") > 0, "{json}");
        assert!(number(json, "/run/responses") > 0, "{json}");
    });
}

/// At a slow rate, servers with a time limit for the first request made the run void.
#[test]
fn server_that_closes_a_connection_which_waited_for_its_first_request_is_not_blamed() {
    for engine in ENGINES {
        let (addr, _requests) = serve(Script::CloseFirst(3, OK));
        let addr = addr.to_string();
        // One request in the warm-up, which nothing preceded, and two in the window, for connections that have waited.
        let load = [
            &addr, "3", "-t", "1", "-R", "5", "--warmup", "200ms", "-d", "400ms",
        ];
        let output = bench(&[&load[..], &["--json", "-", "--engine", engine]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{engine}: {json}");
        let repeated = number(&json, "/errors/eof_idle_reuse");
        assert_eq!(repeated, 2, "{engine}: {json}");
        assert_eq!(number(&json, "/run/responses"), 2, "{engine}: {json}");
    }
}

pub(crate) fn number(json: &Value, pointer: &str) -> u64 {
    let value = json.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no number at {pointer}: {json}"))
}
