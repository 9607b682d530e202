//! The walls of the workspace, held by a test over its source text.
//!
//! Each rule is a pure function over one file (or over the list of paths) that returns what it
//! found, one line each. Every rule has two tests: the tree obeys it (here), and a planted
//! violation is seen (`layers/planted.rs`). Words that would break a rule in its own text are put
//! together from pieces.

#[path = "layers/planted.rs"]
mod planted;
#[path = "layers/reading.rs"]
mod reading;

use reading::{Split, module_path, named_paths, tokens, tree, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// A file (or a folder, with a slash at the end) and why a rule is lifted there.
struct Exception {
    paths: &'static [&'static str],
    reason: &'static str,
}

/// The only places that may say `unsafe`.
const UNSAFE_ISLANDS: &[Exception] = &[
    Exception {
        paths: &["hp-core/src/sys/"],
        reason: "system calls and memory shared with the kernel, behind safe faces",
    },
    Exception {
        paths: &["hp-core/src/rt/task.rs", "hp-core/src/rt/task/"],
        reason: "a waker is an integer: its vtable can only be built with an unsafe call",
    },
    Exception {
        paths: &["hp-core/src/rt/buf/", "hp-core/src/rt/buf.rs"],
        reason: "lent buffers are views into memory that the kernel fills",
    },
    Exception {
        paths: &["hp-core/src/rt/driver/uring/"],
        reason: "buffers are promised to the kernel until their completion is reaped",
    },
    Exception {
        paths: &["*/tests/alloc_free.rs"],
        reason: "a counting global allocator is an unsafe trait",
    },
];

/// Where clocks are read and sockets are opened.
const CLOCK_AND_SOCKET_HOMES: &[&str] = &["hp-core/src/sys/", "hp-core/src/rt/driver/"];

/// Other places that may read a clock, sleep, or use a socket of the standard library.
const CLOCK_AND_SOCKET_EXCEPTIONS: &[Exception] = &[
    Exception {
        paths: &["harness/src/clock.rs"],
        reason: "the one clock of a program without a runtime, which watches other processes",
    },
    Exception {
        paths: &["harness/src/wire.rs", "harness/src/probe/"],
        reason: "single messages and idle crowds, looked at one by one: no load, so no runtime",
    },
    Exception {
        paths: &["hp-core/src/wire/date.rs"],
        reason: "the type that httpdate formats; it is made from a number, no clock is read",
    },
    Exception {
        paths: &["*/tests/", "*/tests.rs", "*/benches/", "*/examples/"],
        reason: "the other end of a real socket, or a stopwatch around the code under test",
    },
];

/// What each room of hp-core may name, besides itself.
const CORE_ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("sys", &["base"]),
    ("rt", &["base", "sys"]),
    ("wire", &["base"]),
    ("obs", &["base"]),
    ("tls", &["base", "rt"]),
    ("http", &["base", "obs", "rt", "tls", "wire"]),
];

/// Rooms of hp-proxy that choose, and what they must not know.
const PROXY_BANS: &[(&str, &[&str])] = &[
    (
        "route",
        &["exchange", "config", "worker", "listener", "cli"],
    ),
    (
        "upstream",
        &["exchange", "config", "worker", "listener", "cli"],
    ),
    (
        "limit",
        &["exchange", "config", "worker", "listener", "cli"],
    ),
];

/// Crates in which no room names one that names it, be it by way of others.
const CRATES_WITHOUT_CIRCLES: &[&str] = &["harness", "hp-bench", "hp-echo", "hp-proxy"];

/// Rooms without a single `await`: they get bytes, time and chance as arguments.
const ROOMS_WITHOUT_AWAIT: &[&str] = &[
    "hp-core/src/base/",
    "hp-core/src/wire/",
    "hp-core/src/obs/",
    "hp-proxy/src/route/",
    "hp-proxy/src/limit/",
    "hp-proxy/src/upstream/balance/",
    "hp-proxy/src/upstream/discovery/",
    "hp-proxy/src/upstream/health/",
    "hp-proxy/src/upstream/breaker.rs",
    "hp-proxy/src/upstream/retry_budget.rs",
];

/// Where all memory is listed that threads share.
const SHARED_MEMORY_PAGE: &str = "docs/scale.md";

/// What a session is derived from, and what people open first.
const SESSION_FILES: &[&str] = &["README.md", "env.json", "plan.toml", "summary.json"];

const BINARY_CRATES: &[&str] = &["hp_proxy", "hp_echo", "hp_bench", "harness"];
const BANNED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];
const SOURCE_LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 1000;

#[test]
fn rooms_name_only_what_they_may() {
    check_each(is_rust, arrows);
}

#[test]
fn rooms_are_in_no_circle() {
    report(&circles(&tree()));
}

#[test]
fn the_core_depends_on_no_binary() {
    check_each(|path| path == "hp-core/Cargo.toml", core_manifest);
}

#[test]
fn what_is_installed_has_no_simulation() {
    check_each(|path| path.ends_with("Cargo.toml"), simulation);
}

#[test]
fn pure_rooms_never_await() {
    check_each(is_rust, awaits);
}

#[test]
fn unsafe_stays_on_its_islands() {
    check_each(is_rust, unsafe_outside_islands);
}

#[test]
fn unsafe_blocks_say_why_they_are_sound() {
    check_each(is_rust, unsafe_without_safety);
}

#[test]
fn every_exception_is_still_needed() {
    let files = tree();
    let mut found = stale(&files, UNSAFE_ISLANDS, says_unsafe);
    found.extend(stale(&files, CLOCK_AND_SOCKET_EXCEPTIONS, |text| {
        !clock_and_socket_words(text).is_empty()
    }));
    report(&found);
}

#[test]
fn files_stay_short() {
    check_each(is_rust, length);
}

#[test]
fn nothing_is_left_unfinished() {
    check_each(is_rust, leftovers);
}

#[test]
fn names_say_something() {
    check_each(is_rust, names);
}

#[test]
fn markdown_has_one_title_and_no_path_of_a_machine() {
    check_each(|path| path.ends_with(".md"), markdown);
}

#[test]
fn clocks_and_sockets_stay_in_the_drivers() {
    check_each(is_rust, clocks_and_sockets);
}

#[test]
fn where_threads_meet_is_listed() {
    report(&meeting_places(&tree()));
}

#[test]
fn results_are_complete() {
    let files = tree();
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    report(&results(&paths));
}

impl Exception {
    fn covers(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(tail) if tail.ends_with('/') => path.contains(tail),
                Some(tail) => path.ends_with(tail),
                None if pattern.ends_with('/') => path.starts_with(pattern),
                None => path == *pattern,
            })
    }
}

fn arrows(path: &str, text: &str) -> Vec<String> {
    let Some((krate, inner)) = path.split_once("/src/") else {
        return Vec::new();
    };
    let modules = module_path(inner);
    let mut found = Vec::new();
    let room = modules.first().map_or("", String::as_str);
    let allowed = CORE_ARROWS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, to)| *to);
    if krate == "hp-core" && !room.is_empty() && allowed.is_none() {
        found.push(format!("{path}: no room of hp-core is called {room}"));
    }
    for (line, target) in named_paths(&Split::of(text).code, &modules) {
        let [root, first, rest @ ..] = target.as_slice() else {
            continue;
        };
        let to = first.as_str();
        if krate == "hp-core" && BINARY_CRATES.contains(&root.as_str()) {
            found.push(format!("{path}: line {line}: hp-core names {root}"));
        }
        if root != "crate" {
            continue;
        }
        let is_room = CORE_ARROWS.iter().any(|(name, _)| *name == to);
        let crosses = is_room && to != room && !room.is_empty();
        if krate == "hp-core" && crosses && !allowed.unwrap_or_default().contains(&to) {
            found.push(format!("{path}: line {line}: {room} must not name {to}"));
        }
        if krate != "hp-proxy" {
            continue;
        }
        if PROXY_BANS
            .iter()
            .any(|(from, bans)| *from == room && bans.contains(&to))
        {
            found.push(format!("{path}: line {line}: {room} must not name {to}"));
        }
        let reads_file = to == "config" && rest.first().is_some_and(|name| name == "file");
        let may_read = modules
            .get(1)
            .is_some_and(|name| name == "resolve" || name == "file");
        if reads_file && !(room == "config" && may_read) {
            found.push(format!(
                "{path}: line {line}: only config::resolve names config::file"
            ));
        }
    }
    found
}

/// A circle of each crate that has one. Tests may name what they like, and the root is no room.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let of_crate = |krate: &&str| {
        let source = format!("{krate}/src/");
        let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in files.iter().filter(|(path, _)| is_rust(path)) {
            let modules = path.strip_prefix(&source).map(module_path);
            let modules = modules
                .filter(|_modules| !is_test(path))
                .unwrap_or_default();
            let Some(room) = modules.first() else {
                continue;
            };
            let paths = named_paths(&without_tests(text), &modules);
            let rooms = paths.into_iter().filter_map(|(_line, target)| {
                let [root, to, ..] = target.as_slice() else {
                    return None;
                };
                (root == "crate" && to != room).then(|| to.clone())
            });
            named.entry(room.clone()).or_default().extend(rooms);
        }
        Some(format!("{krate}: {}", circle(named)?.join(" → ")))
    };
    CRATES_WITHOUT_CIRCLES.iter().filter_map(of_crate).collect()
}

/// Rooms each of which names the next one, from one of them back to itself.
fn circle(mut named: BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    // Who names nobody that is left is in none.
    loop {
        let left: BTreeSet<String> = named.keys().cloned().collect();
        for to in named.values_mut() {
            to.retain(|room| left.contains(room));
        }
        named.retain(|_room, to| !to.is_empty());
        if named.len() == left.len() {
            break;
        }
    }
    let mut way = vec![named.keys().next()?.clone()];
    loop {
        let next = named[way.last()?].first()?.clone();
        if let Some(place) = way.iter().position(|room| *room == next) {
            way.drain(..place);
            way.push(next);
            return Some(way);
        }
        way.push(next);
    }
}

fn core_manifest(path: &str, text: &str) -> Vec<String> {
    let names_binary = |line: &&str| {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        BINARY_CRATES.contains(&name.replace('-', "_").as_str())
    };
    let lines = text.lines().filter(names_binary);
    lines
        .map(|line| format!("{path}: hp-core depends on a binary: {line}"))
        .collect()
}

/// The feature is asked for by tests only; whoever defines it, or passes it on as a feature of the same name, does not begin
/// with it.
fn simulation(path: &str, text: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let is_installed = matches!(
            section,
            "[features]" | "[dependencies]" | "[workspace.dependencies]"
        );
        let passes_it_on = section == "[features]" && line.starts_with("sim = ");
        let names_it = line.contains("\"sim\"") || line.contains("hp-core/sim");
        if is_installed && names_it && !passes_it_on {
            found.push(format!("{path}: {section}: {line}: only tests simulate"));
        }
    }
    found
}

fn awaits(path: &str, text: &str) -> Vec<String> {
    if !ROOMS_WITHOUT_AWAIT
        .iter()
        .any(|room| path.starts_with(room))
    {
        return Vec::new();
    }
    let code = Split::of(text).code;
    let hits = tokens(&code)
        .into_iter()
        .filter(|(_, word)| *word == "await");
    hits.map(|(line, _)| format!("{path}: line {line}: an await in a pure room"))
        .collect()
}

fn unsafe_outside_islands(path: &str, text: &str) -> Vec<String> {
    if UNSAFE_ISLANDS.iter().any(|island| island.covers(path)) {
        return Vec::new();
    }
    let code = Split::of(text).code;
    let hits = tokens(&code)
        .into_iter()
        .filter(|(_, word)| *word == "unsafe");
    hits.map(|(line, _)| format!("{path}: line {line}: unsafe outside of the islands"))
        .collect()
}

/// The comment may stand above the statement that holds the block; a line that ends a statement or
/// opens a body ends the search. Clippy holds the finer rule.
fn unsafe_without_safety(path: &str, text: &str) -> Vec<String> {
    let split = Split::of(text);
    let code: Vec<&str> = split.code.lines().collect();
    let comments: Vec<&str> = split.comments.lines().collect();
    let words = tokens(&split.code);
    let mut found = Vec::new();
    for pair in words.windows(2) {
        let (line, word) = pair[0];
        if word != "unsafe" || pair[1].1 != "{" {
            continue;
        }
        let told = (0..line)
            .rev()
            .take_while(|&at| at + 1 == line || !ends_statement(code[at]));
        if !told.into_iter().any(|at| comments[at].contains("SAFETY:")) {
            found.push(format!(
                "{path}: line {line}: no SAFETY comment above the unsafe block"
            ));
        }
    }
    found
}

fn ends_statement(code_line: &str) -> bool {
    code_line.trim_end().ends_with([';', '{', '}'])
}

fn says_unsafe(text: &str) -> bool {
    tokens(&Split::of(text).code)
        .iter()
        .any(|(_, word)| *word == "unsafe")
}

fn stale(
    files: &[(String, String)],
    exceptions: &[Exception],
    needs: impl Fn(&str) -> bool,
) -> Vec<String> {
    let used = |exception: &&Exception| {
        !files
            .iter()
            .any(|(path, text)| exception.covers(path) && is_rust(path) && needs(text))
    };
    let unused = exceptions.iter().filter(used);
    unused
        .map(|exception| format!("stale entry: {:?}: {}", exception.paths, exception.reason))
        .collect()
}

fn length(path: &str, text: &str) -> Vec<String> {
    let max = if is_test(path) {
        TEST_LINES_MAX
    } else {
        SOURCE_LINES_MAX
    };
    let lines = without_tests(text).lines().count();
    if lines > max {
        vec![format!("{path}: {lines} lines, at most {max}")]
    } else {
        Vec::new()
    }
}

fn leftovers(path: &str, text: &str) -> Vec<String> {
    let split = Split::of(text);
    let mut found = Vec::new();
    let words = tokens(&split.code);
    for trio in words.windows(3) {
        let [(line, first), (_, second), (_, third)] = [trio[0], trio[1], trio[2]];
        let unfinished = matches!(first, "todo" | "unimplemented" | "dbg") && second == "!";
        if unfinished {
            found.push(format!("{path}: line {line}: {first}! is left"));
        }
        if first == "#" && second == "[" && third == "ignore" {
            found.push(format!(
                "{path}: line {line}: an ignored test is not a test"
            ));
        }
    }
    for (line, word) in tokens(&split.comments) {
        if [concat!("FIX", "ME"), concat!("X", "XX")].contains(&word) {
            found.push(format!("{path}: line {line}: {word} is left"));
        }
    }
    found
}

fn names(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parts = path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part));
    for part in parts.filter(|part| BANNED_NAMES.contains(part)) {
        found.push(format!("{path}: {part} says nothing about what is inside"));
    }
    let code = Split::of(text).code;
    for pair in tokens(&code).windows(2) {
        let ((line, word), (_, name)) = (pair[0], pair[1]);
        if word == "mod" && BANNED_NAMES.contains(&name) {
            found.push(format!(
                "{path}: line {line}: {name} says nothing about what is inside"
            ));
        }
    }
    found
}

fn markdown(path: &str, text: &str) -> Vec<String> {
    let machine_paths = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/tmp/tar", "get"),
    ];
    let (mut found, mut titles, mut fenced) = (Vec::new(), 0, false);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("# ") {
            titles += 1;
        }
        if machine_paths.iter().any(|part| line.contains(part)) {
            found.push(format!(
                "{path}: line {}: a path of somebody's machine",
                at + 1
            ));
        }
    }
    if titles != 1 {
        found.push(format!(
            "{path}: {titles} titles (lines that start with one #), must be 1"
        ));
    }
    found
}

fn clocks_and_sockets(path: &str, text: &str) -> Vec<String> {
    let excepted = |exception: &Exception| exception.covers(path);
    if CLOCK_AND_SOCKET_HOMES
        .iter()
        .any(|home| path.starts_with(home))
        || CLOCK_AND_SOCKET_EXCEPTIONS.iter().any(excepted)
    {
        return Vec::new();
    }
    let words = clock_and_socket_words(&without_tests(text));
    words
        .into_iter()
        .map(|(line, word)| format!("{path}: line {line}: {word}"))
        .collect()
}

fn clock_and_socket_words(text: &str) -> Vec<(usize, String)> {
    let code = Split::of(text).code;
    let words = tokens(&code);
    let mut found = Vec::new();
    for (at, (line, word)) in words.iter().enumerate() {
        let after = |distance: usize| words.get(at + distance).map_or("", |(_, next)| *next);
        let hit = match *word {
            "Instant" => after(1) == "::" && after(2) == "now",
            "thread" => after(1) == "::" && after(2) == "sleep",
            "SystemTime" | "TcpStream" | "TcpListener" | "UdpSocket" => true,
            _ => false,
        };
        if hit {
            found.push((*line, (*word).to_owned() + after(1) + after(2)));
        }
    }
    found
}

/// Files of the programs' workers that name an atomic, a lock, a channel or a counted reference, against the rows of a page that says of each
/// who writes there and who reads.
fn meeting_places(files: &[(String, String)]) -> Vec<String> {
    let is_of_workers =
        |path: &str| path.starts_with("hp-core/src/") || path.starts_with("hp-proxy/src/");
    let meets = |text: &str| {
        let code = without_tests(text);
        let words = tokens(&code);
        let mut trios = words.windows(3);
        // The tally of lines is no place to meet.
        trios.any(|trio| trio[0].1 == "sync" && trio[1].1 == "::" && trio[2].1 != "lines")
    };
    let page = files.iter().find(|(path, _)| path == SHARED_MEMORY_PAGE);
    let page = page.map_or("", |(_, text)| text.as_str());
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `hp-"));
    let listed: Vec<String> = rows
        .filter_map(|row| row.split_once('`'))
        .map(|(path, _)| format!("hp-{path}"))
        .collect();
    let met: Vec<&String> = files
        .iter()
        .filter(|(path, text)| is_rust(path) && is_of_workers(path) && meets(text))
        .map(|(path, _)| path)
        .collect();
    let unlisted = met.iter().filter(|path| !listed.contains(path));
    let mut found: Vec<String> = unlisted
        .map(|path| format!("{path}: threads meet here, and {SHARED_MEMORY_PAGE} does not say who"))
        .collect();
    let stale = listed.iter().filter(|path| !met.contains(path));
    found.extend(stale.map(|path| format!("{SHARED_MEMORY_PAGE}: no threads meet in {path}")));
    found
}

fn results(paths: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<&str> = Vec::new();
    for path in paths.iter().filter(|path| path.starts_with("results/")) {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["results", "README.md" | "INDEX.md" | "index.ndjson"] => (),
            ["results", machine, commit, _, ..]
                if machine.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                let folder = &path["results/".len()..][..machine.len() + 1 + commit.len()];
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
            _ => found.push(format!("{path}: belongs into results/DATE-MACHINE/COMMIT/")),
        }
    }
    for folder in folders {
        let prefix = format!("results/{folder}/");
        let inside: Vec<&str> = paths
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix))
            .collect();
        // A session has its raw file; a run of the first layout has machine.json.
        if inside.iter().any(|name| name.starts_with("raw.ndjson")) {
            let needed = SESSION_FILES.iter().filter(|name| !inside.contains(name));
            found.extend(needed.map(|name| format!("{prefix}: no {name}")));
            continue;
        }
        if !inside.contains(&"machine.json") {
            found.push(format!("{prefix}: no machine.json"));
        }
        if !inside
            .iter()
            .any(|name| name.ends_with(".json") && *name != "machine.json")
        {
            found.push(format!("{prefix}: no .json beside machine.json"));
        }
        if !inside.iter().any(|name| name.ends_with(".md")) {
            found.push(format!("{prefix}: no .md"));
        }
    }
    found
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn check_each(concerns: impl Fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<String>) {
    let files = tree();
    let chosen = files.iter().filter(|(path, _)| concerns(path));
    let found: Vec<String> = chosen.flat_map(|(path, text)| rule(path, text)).collect();
    report(&found);
}

fn report(found: &[String]) {
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
}
