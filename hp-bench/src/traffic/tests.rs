use super::*;

fn with<T>(read: impl FnOnce(Defaults<'_>) -> T) -> T {
    let target: Target = "a:1".parse().unwrap();
    let parts = Parts::default();
    read(Defaults {
        target: &target,
        parts: &parts,
    })
}

fn replay(text: &str, speed: f64) -> Traffic {
    with(|defaults| recorded(text, speed, defaults)).unwrap()
}

fn entries(traffic: &Traffic) -> Vec<(u128, String)> {
    let Choice::Recorded(entries) = &traffic.choice else {
        panic!("recorded traffic is replayed as it was recorded")
    };
    let show = |entry: &Entry| {
        let bytes = &traffic.requests[entry.request as usize].bytes;
        let line = String::from_utf8_lossy(bytes);
        let line = line.split(" HTTP/").next().unwrap_or_default().to_owned();
        (entry.at.as_millis(), line)
    };
    entries.iter().map(show).collect()
}

fn seen(list: &[(u128, &str)]) -> Vec<(u128, String)> {
    list.iter()
        .map(|&(at, line)| (at, line.to_owned()))
        .collect()
}

#[test]
fn mix_is_drawn_by_its_weights() {
    let text =
        "# comment\n{\"weight\": 3, \"path\": \"/a\"}\n\n{\"path\": \"/b\", \"body\": \"x\"}\n";
    let traffic = with(|defaults| mix(text, defaults)).unwrap();
    assert_eq!(traffic.requests[1].method, "POST");
    let mut dice = Dice::new(1);
    let mut counts = [0_u32; 2];
    for _ in 0..40_000 {
        counts[traffic.choice.draw(&mut dice) as usize] += 1;
    }
    assert!((29_500..30_500).contains(&counts[0]), "{counts:?}");
}

#[test]
fn unreadable_line_of_a_mix_is_named_by_its_number() {
    for (text, line, part) in [
        ("", 0, "no request"),
        ("{\"path\": \"/\"}\n{\"pat\": 1}", 2, "unknown field"),
        ("\n\nGET /", 3, "expected value"),
        ("{\"path\": \"a b\"}", 1, "begin it with /"),
        ("{\"weight\": 0}", 1, "never sent"),
        ("{\"weight\": -1}", 1, "invalid value"),
        ("{\"t\": 1}", 1, "--replay"),
        (
            "{\"headers\": {\"Content-Length\": \"1\"}}",
            1,
            "cannot be set",
        ),
    ] {
        let (number, cause) = with(|defaults| mix(text, defaults)).unwrap_err();
        assert_eq!(number, line, "{text}");
        assert!(cause.contains(part), "{cause}");
    }
}

#[test]
fn recorded_ndjson_keeps_its_timing_or_scales_it() {
    let text = "{\"t\": 10.5, \"path\": \"/b\"}\n{\"t\": 10, \"path\": \"/a\"}\n{\"t\": 12, \"path\": \"/a\"}";
    let same = replay(text, 1.0);
    assert_eq!(
        entries(&same),
        seen(&[(0, "GET /a"), (500, "GET /b"), (2000, "GET /a")])
    );
    assert_eq!(same.requests.len(), 2, "equal requests are kept once");
    let fast = replay(text, 4.0);
    assert_eq!(
        entries(&fast),
        seen(&[(0, "GET /a"), (125, "GET /b"), (500, "GET /a")])
    );
}

#[test]
fn access_log_is_spread_over_its_seconds() {
    let line = |second, path| {
        format!(
            "1.2.3.4 - u [10/Oct/2000:13:55:{second} -0700] \"GET {path} HTTP/1.1\" 200 5 \"-\" \"x \\\"y\\\"\"\n"
        )
    };
    let text = [line(36, "/a"), line(36, "/b"), line(38, "http://h/c")].concat();
    assert_eq!(
        entries(&replay(&text, 1.0)),
        seen(&[(0, "GET /a"), (500, "GET /b"), (2000, "GET /c")])
    );
}

#[test]
fn har_brings_method_headers_and_body() {
    let text = r##"{"log": {"entries": [
        {"startedDateTime": "2026-01-01T00:00:00.000Z", "request": {"method": "GET", "url": "https://h/a#b",
         "headers": [{"name": ":path", "value": "/"}, {"name": "Host", "value": "h"}, {"name": "X", "value": "y"}]}},
        {"startedDateTime": "2026-01-01T00:00:00.250Z", "request": {"method": "POST", "url": "https://h", "headers": [],
         "postData": {"text": "body"}}}]}}"##;
    let traffic = replay(text, 1.0);
    assert_eq!(entries(&traffic), seen(&[(0, "GET /a"), (250, "POST /")]));
    let get = String::from_utf8(traffic.requests[0].bytes.clone()).unwrap();
    assert_eq!(get, "GET /a HTTP/1.1\r\nHost: a:1\r\nX: y\r\n\r\n");
    assert!(traffic.requests[1].bytes.ends_with(b"\r\n\r\nbody"));
}

#[test]
fn what_is_no_recording_is_named() {
    for (text, line, part) in [
        ("", 0, "no request"),
        ("garbage", 1, "access log"),
        ("{\"path\": \"/\"}", 1, "t is missing"),
        ("{\"t\": -1}", 1, "negative"),
        ("{\"log\": {}}", 0, "log.entries"),
        ("{\"log\": {\"entries\": [{}]}}", 1, "startedDateTime"),
        ("é [é] \"é\" é", 1, "access log"),
    ] {
        let (number, cause) = with(|defaults| recorded(text, 1.0, defaults)).unwrap_err();
        assert_eq!(number, line, "{text}");
        assert!(cause.contains(part), "{cause}");
    }
}
