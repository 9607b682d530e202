//! Configuration files: what is wrong with them is told whole and where it is, and what is right becomes the plan.
//!
//! Each file in `config/broken` has beside it what is said of it, a line for each mistake.

use hp_proxy::cli;
use hp_proxy::config::plan::{Action, Plan};
use hp_proxy::config::{load, load_text, show};
use hp_proxy::route::template::Values;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_mistake_of_a_broken_file_is_told_with_its_place() {
    let mut files: Vec<PathBuf> = fs::read_dir("tests/config/broken")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(files.len() >= 40, "{} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let (plan, report) = load(&file);
        let told: String = report
            .errors()
            .iter()
            .map(|error| format!("{error}\n"))
            .collect();
        let expected = fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        if plan.is_some() || told != expected || told.is_empty() {
            wrong.push(format!("{}:\n{told}expected:\n{expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_commented_example_can_be_run() {
    let (plan, report) = load(Path::new("../docs/hp-proxy.example.toml"));
    assert_eq!(report.errors(), Vec::<&_>::new());
    assert_eq!(report.warnings(), Vec::<&_>::new());
    let plan = plan.unwrap();
    assert!(plan.routes.len() > 5 && plan.upstreams.len() > 1);
}

#[test]
fn what_is_printed_of_a_plan_gives_the_same_plan() {
    for text in [
        EXAMPLE,
        &fs::read_to_string("../docs/hp-proxy.example.toml").unwrap(),
    ] {
        let shown = show::text(&plan(text));
        assert_eq!(show::text(&plan(&shown)), shown);
    }
}

#[test]
fn flags_and_a_file_that_says_the_same_give_the_same_plan() {
    let line = "hp-proxy --listen 127.0.0.1:0 --backend 127.0.0.1:1 --backend 127.0.0.1:2 --workers 2 --via me \
                --engine epoll --head-timeout 5s --idle-conns-max 7 --upstream-conns-max 9 --body-max 1MiB \
                --trusted-proxy 10.0.0.0/8 --admin 127.0.0.1:0 --continue-timeout 0 --forwarded --http10 refuse \
                --drain-timeout 12s --close-spread 5s";
    let of_flags = cli::parse(line.split_whitespace().map(OsString::from)).unwrap();
    let of_file = plan(
        r#"
        workers = 2
        via = "me"
        engine = "epoll"
        head_timeout = "5s"
        idle_conns_max = 7
        upstream_conns_max = 9
        body_max = "1MiB"
        trusted_proxies = ["10.0.0.0/8"]
        continue_timeout = 0
        drain_timeout = "12s"
        close_spread = "5s"
        forwarded = true
        http10 = "refuse"
        [admin]
        listen = "127.0.0.1:0"
        [[listener]]
        address = "127.0.0.1:0"
        [[route]]
        name = "backend"
        upstream = "backend"
        [upstream.backend]
        endpoints = ["127.0.0.1:1", "127.0.0.1:2"]
        "#,
    );
    assert_eq!(format!("{of_file:?}"), format!("{of_flags:?}"));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let told = |path: &Path| {
        let (plan, report) = load(path);
        assert!(plan.is_none());
        let [error] = report.errors()[..] else {
            panic!("{:?}", report.errors())
        };
        error.to_string().replace(&path.display().to_string(), "@")
    };
    assert_eq!(told(&path), "@: there is no such file; check its path");
    let is_directory = "@: this is a directory; write the path of a file";
    assert_eq!(told(folder.path()), is_directory);
    let is_no_file = "@: this is no file; write the path of a file";
    assert_eq!(told(Path::new("/dev/null")), is_no_file);
    fs::write(&path, b"workers = 2\n# \xe4\n").unwrap();
    let is_latin = "@: line 2 has a byte that is no UTF-8; save the file as UTF-8";
    assert_eq!(told(&path), is_latin);
    let utf16: Vec<u8> = "workers"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(&path, [&b"\xff\xfe"[..], &utf16].concat()).unwrap();
    assert!(told(&path).starts_with("@: line 1 has a byte"));
    // A bound on what somebody names by mistake; nothing of it is read.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let is_large = "@: all files together are larger than 16 MiB; was another file meant?";
    assert_eq!(told(&path), is_large);
}

/// As editors of Windows save them.
#[test]
fn a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_with_both() {
    let text = format!("\u{feff}workers = 2\n{LISTENER}{WEB}[[route]]\nupstream = \"web\"\n");
    assert_eq!(plan(&text.replace('\n', "\r\n")).workers, 2);
}

#[test]
fn the_environment_and_files_are_put_in_texts() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("main.toml");
    fs::create_dir(folder.path().join("more")).unwrap();
    fs::write(folder.path().join("token"), "se{cret\n").unwrap();
    fs::write(folder.path().join("more/b.toml"), WEB).unwrap();
    fs::write(
        folder.path().join("more/a.toml"),
        "[[listener]]\naddress = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    fs::write(folder.path().join("more/.hidden.toml"), "= broken").unwrap();
    let text = r#"
        include = ["more/*.toml"]
        [[route]]
        upstream = "web"
        request_headers = { set = { Authorization = "file:token", X-Path = "${PATH}" } }
        [[route]]
        path = "/x"
        answer = { body = "$${PATH}" }
    "#;
    fs::write(&main, text).unwrap();
    let (plan, report) = load(&main);
    assert_eq!(report.errors(), Vec::<&_>::new());
    let plan = plan.unwrap();
    let added = &plan.routes[0].request.added;
    let value = |name: &str| {
        let (_, value) = added.iter().find(|(other, _)| other == name).unwrap();
        value.to_string()
    };
    assert_eq!(value("Authorization"), "(not shown)");
    let (_, token) = &added[0];
    let mut sent = Vec::new();
    token.expand(&Values::default(), &mut sent);
    assert_eq!(sent, b"se{cret");
    assert_eq!(value("X-Path"), std::env::var("PATH").unwrap());
    assert!(matches!(&plan.routes[1].action, Action::Answer { body, .. } if body == b"${PATH}"));
}

#[test]
fn secrets_are_not_printed() {
    let text = format!(
        "{LISTENER}{WEB}[[route]]\nupstream = \"web\"\nrequest_headers = {{ set = {{ Authorization = \"Basic YTpi\" }} }}\n"
    );
    let shown = show::text(&plan(&text));
    assert!(
        shown.contains("Authorization") && !shown.contains("YTpi"),
        "{shown}"
    );
}

#[test]
fn what_is_risky_is_told_and_does_not_stop_anything() {
    let text = format!(
        "trusted_proxies = [\"0.0.0.0/0\"]\n{LISTENER}[admin]\nlisten = \"0.0.0.0:0\"\n{WEB}[upstream.idle]\n\
         endpoints = [\"127.0.0.1:2\"]\n[[route]]\nupstream = \"web\"\n"
    );
    let (plan, report) = load_text("a.toml", &text, &|_| None);
    assert!(plan.is_some());
    let told: Vec<String> = report.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a.toml:1:20: trusted_proxies[0]: takes in every address: whoever asks is believed",
            "a.toml:5:10: admin.listen: the admin listener asks for no password, and is open beyond this machine",
            "a.toml:8:1: upstream.idle: no route leads to idle",
        ]
    );
}

#[test]
fn what_a_listener_has_no_use_for_is_told() {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nsocket_mode = \"660\"\n[[listener]]\naddress = \"unix:a.sock\"\n\
         reuse_port = true\n{WEB}[[route]]\nupstream = \"web\"\n"
    );
    let (plan, report) = load_text("a.toml", &text, &|_| None);
    assert!(plan.is_some());
    let told: Vec<String> = report.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a.toml:3:15: listener[0].socket_mode: does nothing for an address with a port; leave it out",
            "a.toml:6:14: listener[1].reuse_port: does nothing for a Unix socket; leave it out",
        ]
    );
}

#[test]
fn the_words_of_the_command_line_do_what_they_say() {
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
            .args(words)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let example = "../docs/hp-proxy.example.toml";
    let (code, out, said) = run(&["check", example]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("../docs/hp-proxy.example.toml: ok: "),
        "{out}"
    );
    let (code, out, _) = run(&["print-plan", example]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("[[route]]") && out.contains("idle_timeout"),
        "{out}"
    );
    let (code, out, _) = run(&["schema"]);
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok());
    let broken = "tests/config/broken/many-at-once.toml";
    for words in [["check", broken], ["--config", broken]] {
        let (code, out, said) = run(&words);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        let expected = fs::read_to_string(Path::new(broken).with_extension("expected")).unwrap();
        assert_eq!(said, expected);
    }
    let (code, _, said) = run(&["check", "no-such-file.toml"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "no-such-file.toml: there is no such file; check its path\n"
    );
}

#[test]
fn an_explanation_names_the_winner_and_why_the_others_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    fs::write(&file, EXAMPLE).unwrap();
    let explain = |request: &str| {
        let words = ["hp-proxy", "explain", file.to_str().unwrap(), request];
        match cli::command(words.map(OsString::from)).unwrap() {
            cli::Command::Print(text) => text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        explain("GET http://api.example.test/v1/x -H X-A:1"),
        "GET http://api.example.test/v1/x from 127.0.0.1\n\
         goes to api: upstream api (3 of 4), upstream web (1 of 4)\n\
         routes in the order in which they win:\n\
         \x20 api       wins\n\
         \x20 api       lost: its host is *.api.example.test\n\
         \x20 /old/...  lost: its path is /old/...\n\
         \x20 any path  lost: it takes the request, but is less specific\n"
    );
    let told = explain("DELETE http://api.example.test/v1/x");
    assert!(
        told.contains("api       lost: it takes GET, POST, not DELETE"),
        "{told}"
    );
    let told = explain("/old/x --from 192.0.2.1");
    assert!(
        told.contains("/old/x from 192.0.2.1\ngoes to /old/...: a redirect with 308 to "),
        "{told}"
    );
}

#[test]
fn routes_that_only_conditions_tell_apart_are_bounded() {
    let routes = |count: u32| {
        let each = (0..count).map(|index| {
            format!("[[route]]\nupstream = \"web\"\nheaders = {{ X-A = \"{index}\" }}\n")
        });
        format!("{LISTENER}{WEB}{}", each.collect::<String>())
    };
    assert!(load_text("a.toml", &routes(1024), &|_| None).0.is_some());
    let (plan, report) = load_text("a.toml", &routes(1025), &|_| None);
    assert!(plan.is_none());
    let told = report.errors()[0].to_string();
    assert!(
        told.contains("more than 1024 routes have this host and path"),
        "{told}"
    );
}

#[test]
fn a_file_never_panics_the_reader() {
    use proptest::prelude::*;
    let words = [
        "[[route]]",
        "\n",
        "=",
        "\"a\"",
        "host",
        "path",
        "{",
        "}",
        "[",
        "]",
        "1",
        "upstream",
        ".",
        "\"{1}\"",
        "'${X}'",
        "split",
        "answer",
        ",",
        "\"/a\"",
        "redirect",
        "to",
    ];
    let text = prop::collection::vec(prop::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.join(" "));
    proptest!(|(text in text)| {
        let (plan, report) = load_text("a.toml", &text, &|_| None);
        assert_eq!(plan.is_none(), !report.errors().is_empty());
    });
}

fn plan(text: &str) -> Plan {
    let (plan, report) = load_text("a.toml", text, &|_| None);
    let told: Vec<String> = report.errors().iter().map(ToString::to_string).collect();
    plan.unwrap_or_else(|| panic!("{}", told.join("\n")))
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
const WEB: &str = "[upstream.web]\nendpoints = [\"127.0.0.1:1\"]\n";

/// A bit of everything.
const EXAMPLE: &str = r#"
workers = 2

[admin]
listen = "127.0.0.1:9900"

[[listener]]
address = "127.0.0.1:8080"
trusted_proxies = ["127.0.0.0/8"]

[[route]]
name = "api"
host = ["api.example.test", "*.api.example.test"]
path_prefix = "/v1/"
methods = ["GET", "POST"]
split = [{ upstream = "api", weight = 3 }, { upstream = "web" }]
strip_prefix = "/v1"
request_headers  = { set = { X-Env = "prod" }, remove = ["X-Debug"] }
response_headers = { add = { X-Served-By = "{endpoint}" } }
timeout = "5s"

[[route]]
path_prefix = "/old/"
redirect = { to = "https://www.example.test/new/{path}", status = 308 }

[[route]]
upstream = "web"

[upstream.api]
endpoints = [{ address = "127.0.0.1:9001" }, "127.0.0.1:9002"]
balance = "round_robin"
idle_conns_max = 32
max_conns = 500
connect_timeout = "3s"

[upstream.web]
endpoints = ["127.0.0.1:9004", "127.0.0.1:9005"]
"#;
