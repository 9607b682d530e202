//! Each rule of `layers.rs` is awake: it sees a violation that is planted here.

use crate::reading::Split;
use crate::{
    Exception, SOURCE_LINES_MAX, arrows, awaits, circles, clocks_and_sockets, core_manifest,
    leftovers, length, markdown, meeting_places, names, results, says_unsafe, simulation, stale,
    unsafe_outside_islands, unsafe_without_safety,
};

fn catches(found: &[String], what: &str) {
    assert!(
        found.iter().any(|line| line.contains(what)),
        "planted {what:?} was not seen: {found:?}"
    );
}

#[test]
fn planted_arrows_are_seen() {
    let wire = "hp-core/src/wire/token.rs";
    catches(&arrows(wire, "use crate::rt::Rt;"), "rt");
    catches(&arrows(wire, "use crate::{base::ascii, rt};"), "rt");
    catches(&arrows(wire, "use super::super::rt;"), "rt");
    catches(
        &arrows(
            "hp-core/src/wire/http1/mod.rs",
            "fn f() { super::super::sys::x(); }",
        ),
        "sys",
    );
    catches(
        &arrows("hp-core/src/rt/mod.rs", "use crate::http::message;"),
        "http",
    );
    catches(
        &arrows("hp-core/src/rt/mod.rs", "mod t { use super::super::obs; }"),
        "obs",
    );
    catches(
        &arrows("hp-core/src/http/body.rs", "use crate::sys::socket;"),
        "sys",
    );
    catches(&arrows("hp-core/src/attic/mod.rs", ""), "attic");
    catches(
        &arrows("hp-core/src/http/body.rs", "use hp_proxy::cli;"),
        "hp_proxy",
    );
    catches(
        &arrows(
            "hp-proxy/src/upstream/pool.rs",
            "use crate::exchange::Exchange;",
        ),
        "exchange",
    );
    catches(
        &arrows("hp-proxy/src/route.rs", "use super::config;"),
        "config",
    );
    catches(
        &arrows(
            "hp-proxy/src/worker.rs",
            "use crate::config::{Plan, file::File};",
        ),
        "file",
    );
    catches(
        &arrows("hp-proxy/src/config/plan.rs", "use super::file::File;"),
        "file",
    );
    catches(
        &core_manifest("hp-core/Cargo.toml", "[dependencies]\nhp-echo = 1"),
        "hp-echo",
    );
}

#[test]
fn a_planted_circle_is_seen() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let lawful = [
        file("hp-echo/src/a.rs", "use crate::{b::B, Run};"),
        file("hp-echo/src/b/c.rs", "use super::B;"),
        file("hp-echo/src/b.rs", "mod c; // As crate::a does."),
        file("hp-echo/src/lib.rs", "mod a; use crate::a::A;"),
        file("hp-echo/src/b/tests.rs", "use crate::a::A;"),
        file("hp-bench/src/b.rs", "use crate::a::A;"),
    ];
    let none: [String; 0] = [];
    assert_eq!(circles(&lawful), none);
    let inner_test = "#[cfg(test)]\nmod tests { use crate::a::A; }";
    let with = |path, text| circles(&[&lawful[..], &[file(path, text)]].concat());
    assert_eq!(with("hp-echo/src/b/d.rs", inner_test), none);
    catches(
        &with("hp-echo/src/b/d.rs", "fn f() { crate::a::g(); }"),
        "hp-echo: a → b → a",
    );
    let by_way = with("hp-echo/src/b/d.rs", "use super::super::c;");
    assert_eq!(by_way, none);
    let files = [
        file("hp-echo/src/b/d.rs", "use super::super::c;"),
        file("hp-echo/src/c.rs", "use crate::a;"),
    ];
    catches(&circles(&[&lawful[..], &files].concat()), "a → b → c → a");
}

#[test]
fn a_planted_lock_is_seen_where_no_page_lists_it() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let page = |text| file("docs/scale.md", text);
    let lock = file("hp-proxy/src/a.rs", "use std::sync::Mutex;");
    let tested = file(
        "hp-core/src/b.rs",
        "#[cfg(test)]\nmod tests { use std::sync::Mutex; }",
    );
    let row = "| `hp-proxy/src/a.rs` | all | all |\n";
    let check = |files: &[_]| meeting_places(files);
    assert_eq!(
        check(&[page(row), lock.clone(), tested]),
        Vec::<String>::new()
    );
    catches(&check(&[page("words\n"), lock.clone()]), "a.rs");
    catches(&check(&[lock]), "a.rs");
    catches(&check(&[page(row)]), "no threads meet in hp-proxy/src/a.rs");
}

#[test]
fn a_planted_simulation_is_seen_where_it_would_be_installed() {
    let asks = "hp-core = { workspace = true, features = [\"sim\"] }";
    for section in ["[dependencies]", "[workspace.dependencies]"] {
        let text = format!("{section}\n{asks}");
        catches(&simulation("hp-proxy/Cargo.toml", &text), "only tests");
    }
    catches(
        &simulation("hp-core/Cargo.toml", "[features]\ndefault = [\"sim\"]"),
        "only tests",
    );
    let none: [String; 0] = [];
    let lawful = format!("[features]\nsim = []\n[dev-dependencies]\n{asks}");
    assert_eq!(simulation("hp-proxy/Cargo.toml", &lawful), none);
}

#[test]
fn lawful_arrows_pass() {
    let none: [String; 0] = [];
    assert_eq!(
        arrows(
            "hp-core/src/wire/token.rs",
            "use crate::base; // not crate::rt"
        ),
        none
    );
    assert_eq!(
        arrows(
            "hp-core/src/http/body.rs",
            "use crate::{rt::net::Conn, wire::uri};"
        ),
        none
    );
    assert_eq!(
        arrows(
            "hp-core/src/rt/net/mod.rs",
            "mod tests { use super::super::task; }"
        ),
        none
    );
    assert_eq!(
        arrows("hp-proxy/src/config/resolve.rs", "use super::file::File;"),
        none
    );
    assert_eq!(
        arrows(
            "hp-proxy/src/config/mod.rs",
            "mod file; pub(crate) mod resolve;"
        ),
        none
    );
    assert_eq!(
        arrows(
            "hp-proxy/src/worker.rs",
            "use hp_core::rt::Rt; use std::fs::File;"
        ),
        none
    );
}

#[test]
fn a_planted_await_is_seen() {
    catches(
        &awaits("hp-core/src/wire/scan.rs", "fn f() { g().await }"),
        "await",
    );
    assert!(awaits("hp-core/src/http/body.rs", "fn f() { g().await }").is_empty());
}

#[test]
fn planted_unsafe_is_seen() {
    let block = "fn f() {\n    let x = unsafe { g() };\n}\n";
    catches(
        &unsafe_outside_islands("hp-core/src/http/body.rs", block),
        "line 2",
    );
    assert!(unsafe_outside_islands("hp-core/src/http/body.rs", "// unsafe\n").is_empty());
    assert!(unsafe_outside_islands("hp-core/src/sys/ring.rs", block).is_empty());
    assert!(unsafe_outside_islands("hp-proxy/tests/alloc_free.rs", block).is_empty());
    catches(
        &unsafe_without_safety("hp-core/src/sys/ring.rs", block),
        "line 2",
    );
    let told = "fn f() {\n    // SAFETY: g has no precondition.\n    let x =\n        unsafe { g() };\n}\n";
    assert!(unsafe_without_safety("hp-core/src/sys/ring.rs", told).is_empty());
    let other = "fn f() {\n    // SAFETY: of another one.\n    h();\n    unsafe { g() }\n}\n";
    catches(
        &unsafe_without_safety("hp-core/src/sys/ring.rs", other),
        "line 4",
    );
}

#[test]
fn a_stale_exception_is_seen() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let list = &[Exception {
        paths: &["a/src/x.rs", "a/src/x/"],
        reason: "none",
    }];
    catches(
        &stale(&[file("a/src/x.rs", "fn f() {}")], list, says_unsafe),
        "a/src/x.rs",
    );
    assert!(
        stale(
            &[file("a/src/x/y.rs", "unsafe fn f() {}")],
            list,
            says_unsafe
        )
        .is_empty()
    );
}

#[test]
fn a_planted_long_file_is_seen() {
    let long = "x();\n".repeat(SOURCE_LINES_MAX + 1);
    catches(&length("hp-proxy/src/worker.rs", &long), "601");
    let tests = format!("x();\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(length("hp-proxy/src/worker.rs", &tests).is_empty());
    assert!(length("hp-proxy/tests/e2e.rs", &long).is_empty());
}

#[test]
fn planted_leftovers_are_seen() {
    let path = "hp-echo/src/lib.rs";
    catches(&leftovers(path, concat!("fn f() { to", "do!() }")), "todo");
    catches(
        &leftovers(path, concat!("fn f() { unimple", "mented!() }")),
        "unimplemented",
    );
    catches(&leftovers(path, concat!("fn f() { db", "g!(1); }")), "dbg");
    catches(&leftovers(path, concat!("// FIX", "ME: later")), "line 1");
    catches(&leftovers(path, concat!("\n/* X", "XX */")), "line 2");
    catches(
        &leftovers(path, concat!("#[igno", "re = \"slow\"]\nfn f() {}")),
        "ignore",
    );
    assert!(leftovers(path, "fn f(x: X) { let todo = 1; ignore(\"dbg!\"); }").is_empty());
}

#[test]
fn a_planted_name_is_seen() {
    catches(&names("hp-echo/src/utils.rs", ""), "utils");
    catches(&names("hp-echo/src/helpers/mod.rs", ""), "helpers");
    catches(&names("hp-echo/src/lib.rs", "mod misc { }"), "misc");
    assert!(names("hp-echo/src/lib.rs", "mod handler; // no common code").is_empty());
}

#[test]
fn planted_markdown_faults_are_seen() {
    catches(&markdown("README.md", "# One\n\n# Two\n"), "2 titles");
    catches(&markdown("README.md", "text\n"), "0 titles");
    catches(
        &markdown("README.md", concat!("# One\nsee /ho", "me/me/x\n")),
        "line 2",
    );
    catches(
        &markdown("docs/a.md", concat!("# One\n`/tmp/tar", "get`\n")),
        "line 2",
    );
    assert!(markdown("README.md", "# One\n```sh\n# a comment\n```\n## Two\n").is_empty());
}

#[test]
fn planted_clocks_and_sockets_are_seen() {
    let path = "hp-proxy/src/worker.rs";
    catches(
        &clocks_and_sockets(path, concat!("let t = Instant::", "now();")),
        "Instant",
    );
    catches(
        &clocks_and_sockets(path, "use std::time::SystemTime;"),
        "SystemTime",
    );
    catches(
        &clocks_and_sockets(path, concat!("std::thread::", "sleep(d);")),
        "sleep",
    );
    catches(
        &clocks_and_sockets(path, "use std::net::{IpAddr, TcpStream};"),
        "TcpStream",
    );
    let test = concat!("#[cfg(test)]\nmod tests { fn f() { Instant::", "now(); } }");
    assert!(clocks_and_sockets(path, test).is_empty());
    assert!(clocks_and_sockets("hp-core/src/sys/clock.rs", "SystemTime").is_empty());
}

#[test]
fn incomplete_results_are_seen() {
    let run = "results/2026-01-31-box/abc1234";
    let full = [
        "results/README.md".to_owned(),
        format!("{run}/machine.json"),
        format!("{run}/bench.json"),
        format!("{run}/bench.md"),
    ];
    let all: Vec<&str> = full.iter().map(String::as_str).collect();
    assert!(results(&all).is_empty());
    catches(&results(&all[..3]), "no .md");
    catches(&results(&[all[1], all[3]]), "no .json beside");
    catches(&results(&all[2..]), "no machine.json");
    let session = "results/2026-01-31-box/1410-abc1234";
    let full: Vec<String> = [
        "raw.ndjson.gz",
        "README.md",
        "env.json",
        "plan.toml",
        "summary.json",
    ]
    .iter()
    .map(|name| format!("{session}/{name}"))
    .collect();
    let all: Vec<&str> = full.iter().map(String::as_str).collect();
    assert!(results(&all).is_empty());
    catches(&results(&all[..4]), "no summary.json");
    catches(&results(&[all[0], all[1], all[3], all[4]]), "no env.json");
    catches(
        &results(&["results/bench.json"]),
        "results/DATE-MACHINE/COMMIT",
    );
    catches(
        &results(&["results/box/abc/machine.json"]),
        "results/DATE-MACHINE/COMMIT",
    );
}

#[test]
fn strings_and_comments_are_no_code() {
    let text =
        "let a = \"x\\\"y\"; // z\nlet b = r#\"u\"v\"#; /* w /* v */ */ let c = 'q'; f::<'q>()";
    let split = Split::of(text);
    assert_eq!(split.code.lines().count(), 2);
    assert!(
        !split.code.contains(['x', 'y', 'z', 'u', 'v', 'w']),
        "{}",
        split.code
    );
    assert!(
        split.code.contains("let c =") && split.code.contains("'q>"),
        "{}",
        split.code
    );
    assert!(split.comments.contains('z') && split.comments.contains('w'));
    assert!(!split.comments.contains(['x', 'u']));
}
