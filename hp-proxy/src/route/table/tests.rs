use super::*;
use crate::route::rule::{Condition, HostRule, Pattern};
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::parse_request;
use proptest::prelude::*;

/// What a request in text is to the table, as the proxy sees it.
fn with_facts<T>(text: &str, look: impl FnOnce(&Facts<'_>) -> T) -> T {
    let mut scratch = HeaderScratch::new();
    let parsed = parse_request(text.as_bytes(), &HeadLimits::default(), &mut scratch);
    let Ok(Parse::Complete(head)) = parsed else {
        panic!("{text}: {parsed:?}");
    };
    look(&Facts {
        host: head.authority.map_or(b"", |authority| authority.host()),
        path: head.target.path(),
        query: head.target.query(),
        method: head.method.as_str(),
        fields: &head.fields,
        client: Some("192.0.2.7".parse().unwrap()),
    })
}

fn request(method: &str, host: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// Each rule is a line: `HOST PATH CONDITION...`, where `-` is any.
fn rule(line: &str) -> Rule {
    let mut words = line.split(' ');
    let host = match words.next().unwrap() {
        "-" => HostRule::Any,
        name => match name.strip_prefix("*.") {
            Some(name) => HostRule::Below(name.to_owned()),
            None => HostRule::Is(name.to_owned()),
        },
    };
    let path = match words.next().unwrap() {
        "-" => PathRule::Any,
        path => match (path.strip_prefix('='), path.strip_prefix('~')) {
            (Some(path), _) => PathRule::Is(path.to_owned()),
            (_, Some(path)) => PathRule::Matches(Pattern::new(path).unwrap()),
            _ => PathRule::Prefix(path.to_owned()),
        },
    };
    let mut rule = Rule {
        host,
        path,
        ..Rule::default()
    };
    for word in words {
        let (kind, value) = word.split_once(':').unwrap();
        let pair = || {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            let condition = match value {
                "" => Condition::Present,
                value => Condition::Is(value.to_owned()),
            };
            (name.to_owned(), condition)
        };
        match kind {
            "m" => rule.methods.extend(value.split(',').map(str::to_owned)),
            "h" => rule.headers.push(pair()),
            "q" => rule.query.push(pair()),
            "c" => rule.client_ips.push(value.parse().unwrap()),
            _ => panic!("{word}"),
        }
    }
    rule
}

fn table(lines: &[&str]) -> Table {
    let numbered = (0..).map(RouteId).zip(lines.iter().map(|line| rule(line)));
    Table::new(numbered.collect())
}

/// The rule that wins, whatever the order of the rules.
fn check(lines: &[&str], request: &str, expected: Option<&str>) {
    for turn in 0..lines.len() {
        let mut turned = lines.to_vec();
        turned.rotate_left(turn);
        let table = table(&turned);
        with_facts(request, |facts| {
            let found = table
                .find(facts)
                .map(|winner| turned[winner.route.0 as usize]);
            assert_eq!(found, expected, "{request:?} of {turned:?}");
            let explained = table.explain(facts);
            let mut won = explained
                .iter()
                .filter(|(_, _, verdict)| *verdict == Verdict::Wins);
            let won = won.next().map(|(route, ..)| turned[route.0 as usize]);
            assert_eq!(won, expected, "explained: {request:?} of {turned:?}");
        });
    }
}

#[test]
fn the_most_specific_host_wins_among_those_whose_path_fits() {
    let lines = ["a.test -", "*.a.test -", "*.b.a.test /x/", "- /x/", "- -"];
    let check =
        |host, target, expected| check(&lines, &request("GET", host, target, ""), Some(expected));
    check("a.test", "/", "a.test -");
    check("A.TEST:8080", "/x/", "a.test -");
    check("a.test.", "/", "a.test -");
    check("c.a.test", "/x/", "*.a.test -");
    check("c.b.a.test", "/x/1", "*.b.a.test /x/");
    check("c.b.a.test", "/y", "*.a.test -");
    check("other", "/x/1", "- /x/");
    check("other", "/x", "- -");
    check("aa.test", "/", "- -");
}

#[test]
fn the_longest_literal_wins_and_then_the_exacter_kind() {
    let lines = [
        "- =/u/7",
        "- ~^/u/([0-9]+)$",
        "- /u/",
        "- /u/7",
        "- ~^/(u|v)/7$",
        "- -",
    ];
    let check = |target, expected| check(&lines, &request("GET", "a", target, ""), Some(expected));
    check("/u/7", "- =/u/7");
    check("/u/8", "- ~^/u/([0-9]+)$");
    check("/u/x", "- /u/");
    check("/u/7/x", "- /u/7");
    check("/u/77/x", "- /u/");
    check("/v/7", "- ~^/(u|v)/7$");
    check("/w", "- -");
}

#[test]
fn conditions_make_a_route_more_specific() {
    let lines = [
        "- / m:GET",
        "- / m:GET,PUT",
        "- / m:GET h:X-A=1",
        "- / h:X-A=1 q:k",
        "- / h:X-A=1",
        "- / q:k=v",
        "- / c:192.0.2.0/24",
        "- / c:192.0.0.0/16",
        "- /",
    ];
    let check = |method, target, fields, expected| {
        check(
            &lines,
            &request(method, "a", target, fields),
            Some(expected),
        );
    };
    check("GET", "/", "", "- / m:GET");
    check("PUT", "/", "Content-Length: 0\r\n", "- / m:GET,PUT");
    check("GET", "/", "x-a: 1\r\n", "- / m:GET h:X-A=1");
    check("DELETE", "/?k", "X-A: 1\r\n", "- / h:X-A=1 q:k");
    check("DELETE", "/", "X-A: 1\r\n", "- / h:X-A=1");
    check("DELETE", "/?a&k=v", "", "- / q:k=v");
    check("DELETE", "/?kk=v", "", "- / c:192.0.2.0/24");
}

#[test]
fn a_path_does_not_go_on_with_a_zero_that_a_literal_has() {
    let table = table(&["- =/a\0", "- ~^/b\0\0.?$"]);
    with_facts(&request("GET", "a", "/", ""), |facts| {
        let find = |path| {
            table
                .find(&Facts { path, ..*facts })
                .map(|winner| winner.route.0)
        };
        assert_eq!((find("/a"), find("/a\0")), (None, Some(0)));
        assert_eq!((find("/b"), find("/b\0")), (None, None));
        assert_eq!(find("/b\0\0"), Some(1));
    });
}

#[test]
fn where_nothing_fits_there_is_no_route() {
    check(&["a.test /x"], &request("GET", "a.test", "/y", ""), None);
    check(
        &["a.test /x", "- / m:PUT"],
        &request("GET", "b", "/x", ""),
        None,
    );
    check(&["- /"], "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check(
        &["- /", "- -"],
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        Some("- -"),
    );
}

#[test]
fn one_route_for_everything_is_found_without_a_look() {
    assert_eq!(table(&["- -"]).sole(), Some(RouteId(0)));
    assert_eq!(table(&["- /"]).sole(), None);
    assert_eq!(table(&["- -", "a -"]).sole(), None);
    assert_eq!(table(&[]).sole(), None);
}

#[test]
fn hosts_of_any_length_are_looked_for() {
    let long = "a".repeat(300);
    check(
        &["*.a -", "- -"],
        &request("GET", &long, "/", ""),
        Some("- -"),
    );
    check(
        &["*.a -"],
        &request("GET", &format!("{long}.a"), "/", ""),
        None,
    );
}

#[test]
fn names_and_paths_of_any_length_are_told_apart() {
    for len in (1..36).chain([47, 48, 49, 60, 63, 64, 65, 66, 200]) {
        let (a, b) = ("a".repeat(len), "b".repeat(len));
        let lines = [
            format!("{a}.t /{a}"),
            format!("{a}.t =/{a}{b}"),
            format!("{b}.t /{a}/{b}/"),
            format!("*.{b}.t /{b}"),
            String::from("- -"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let check = |host: String, target: String, expected: usize| {
            check(
                &lines,
                &request("GET", &host, &target, ""),
                Some(lines[expected]),
            );
        };
        check(format!("{a}.t"), format!("/{a}/x"), 0);
        check(format!("{a}.t"), format!("/{a}{b}"), 1);
        check(format!("{a}.t"), format!("/{a}{b}b"), 4);
        check(format!("{b}.T"), format!("/{a}/{b}/"), 2);
        check(format!("{b}.t"), format!("/{a}/{b}b/"), 4);
        check(format!("x.{b}.t"), format!("/{b}"), 3);
        check(format!("x{b}.t"), format!("/{b}"), 4);
    }
}

#[test]
fn a_route_need_not_have_the_number_of_its_rule() {
    let lines = ["a.t /", "b.t /", "- /x h:X=1", "- /y h:X=1"];
    let routes = [4, 4, 0, 9];
    let rules = lines.iter().map(|line| rule(line));
    let table = Table::new(routes.into_iter().map(RouteId).zip(rules).collect());
    let check = |host, target, expected: usize| {
        with_facts(&request("GET", host, target, "X: 1\r\n"), |facts| {
            let winner = table.find(facts).unwrap();
            assert_eq!(winner.route, RouteId(routes[expected]), "{host} {target}");
            assert_eq!(*winner.rule, rule(lines[expected]), "{host} {target}");
        });
    };
    check("a.t", "/z", 0);
    check("b.t", "/z", 1);
    check("c.t", "/x", 2);
    check("c.t", "/y", 3);
}

#[test]
fn what_look_ups_read_of_alike_rules_is_there_once() {
    let part = |rules: u32, wanted| {
        let lines = (0..rules).map(|rule| format!("h{rule}.t /service-{rule:04}/v1/ m:GET h:X=1"));
        let lines: Vec<String> = lines.collect();
        let table = table(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let sizes = table.sizes();
        let (_, bytes) = *sizes.iter().find(|(part, _)| *part == wanted).unwrap();
        bytes
    };
    assert_eq!(part(500, "leaves"), 500 * 16);
    for shared in ["what leaves share", "fields and parameters", "texts"] {
        assert_eq!(part(500, shared), part(1, shared), "{shared}");
    }
}

/// Words that often meet.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let host = prop::sample::select(vec!["-", "a.t", "*.t", "*.a.t", "b.a.t"]);
    let path = prop::sample::select(vec![
        "-",
        "/",
        "/a",
        "/a/",
        "/a/b",
        "=/a",
        "=/a/b",
        "/b",
        "=/",
        "~^/a/?.*b",
        "~^/a+$",
        "~^/a/(b|c)$",
        r"~^/a\b",
        "~b$",
    ]);
    let conditions = prop::sample::select(vec![
        "",
        " m:GET",
        " m:PUT,PURGE",
        " m:PUT h:X=1",
        " h:X=1",
        " q:k",
        " h:X q:k=1",
        " c:192.0.2.7/32",
    ]);
    let line =
        (host, path, conditions).prop_map(|(host, path, rest)| format!("{host} {path}{rest}"));
    prop::collection::vec(line, 0..16)
}

/// Rules whose literals are beginnings of one text, or differ from it at one place, and paths likewise: the text's bytes decide where.
fn alike() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let letter = prop::sample::select(vec!['a', 'b', '/', 'é']);
    let text = prop::collection::vec(letter, 1..70);
    let cut = || (0..80_usize, 0..80_usize, 0..3_usize);
    let rules = prop::collection::vec((cut(), 0..4_usize), 1..12);
    let paths = prop::collection::vec((cut(), 0..3_usize), 1..12);
    (text, rules, paths).prop_map(|(text, rules, paths)| {
        let beginning = |(len, at, change): (usize, usize, usize)| {
            let mut letters: Vec<char> = text.iter().take(len).copied().collect();
            if change == 0 && at < letters.len() {
                letters[at] = if letters[at] == 'a' { 'b' } else { 'a' };
            }
            format!("/{}", letters.into_iter().collect::<String>())
        };
        let rules = rules.into_iter().map(|(cut, kind)| {
            let start = beginning(cut);
            match kind {
                0 => format!("- ={start}"),
                1 => format!("- ~^{start}b?$"),
                2 => format!("- ~^{start}+"),
                _ => format!("- {start}"),
            }
        });
        let paths = paths.into_iter().map(|(cut, end)| {
            let start = beginning(cut);
            start + ["", "b", "/a"][end]
        });
        (rules.collect(), paths.collect())
    })
}

proptest! {
    #[test]
    fn literals_that_begin_alike_are_told_apart((lines, paths) in alike()) {
        let mut kept: Vec<(RouteId, Rule)> = Vec::new();
        for (number, line) in (0..).map(RouteId).zip(&lines) {
            let rule = rule(line);
            if !kept.iter().any(|(_, other)| other.overlaps(&rule)) {
                kept.push((number, rule));
            }
        }
        let table = Table::new(kept);
        with_facts(&request("GET", "a", "/", ""), |facts| {
            for path in &paths {
                let facts = Facts { path, ..*facts };
                let found = table.find(&facts).map(|winner| winner.route);
                let explained = table.explain(&facts);
                let won = explained.iter().find(|(_, _, verdict)| *verdict == Verdict::Wins);
                assert_eq!(found, won.map(|(route, ..)| *route), "{lines:?} {path}");
            }
        });
    }
}

/// Rules whose literals have one length or another around what a leaf and what leaves share have room for, differ at one place, and ask for
/// what others ask for, too.
fn sharing() -> impl Strategy<Value = Vec<String>> {
    let host = prop::sample::select(vec!["-", "a.t", "*.t"]);
    let kind = prop::sample::select(vec!["", "=", "~^"]);
    let conditions = prop::sample::select(vec![
        "",
        " m:GET",
        " m:GET h:X=1",
        " h:X=1",
        " h:X=2",
        " h:X=1 q:k=1",
        " q:k=1",
        " q:k",
    ]);
    let line = (host, kind, literal(), conditions)
        .prop_map(|(host, kind, literal, rest)| format!("{host} {kind}{literal}{rest}"));
    prop::collection::vec(line, 1..14)
}

/// A path of 1 to 34 bytes, of which at most one is not as in the others.
fn literal() -> impl Strategy<Value = String> {
    let lens = prop::sample::select(vec![1, 7, 8, 9, 16, 17, 23, 24, 25, 26, 33]);
    (lens, 0..40_usize).prop_map(|(len, at)| {
        let letters = (0..len).map(|place| if place == at { 'b' } else { 'a' });
        letters.fold(String::from("/"), |text, letter| text + &letter.to_string())
    })
}

proptest! {
    #[test]
    fn rules_that_have_much_in_common_are_told_apart(
        lines in sharing(),
        method in prop::sample::select(vec!["GET", "PUT"]),
        host in prop::sample::select(vec!["a.t", "b.t", "b"]),
        path in literal(),
        end in prop::sample::select(vec!["", "/", "/a", "a"]),
        query in prop::sample::select(vec!["", "?k=1", "?k=2&k=1", "?kk=1&k"]),
        fields in prop::sample::select(vec!["", "X: 1\r\n", "x: 2\r\n", "A: 1\r\nx: 1\r\n"]),
    ) {
        let mut kept: Vec<&str> = Vec::new();
        for line in &lines {
            if !kept.iter().any(|other| rule(other).overlaps(&rule(line))) {
                kept.push(line);
            }
        }
        let table = table(&kept);
        let target = format!("{path}{end}{query}");
        with_facts(&request(method, host, &target, fields), |facts| {
            let found = table.find(facts).map(|winner| winner.route);
            let explained = table.explain(facts);
            let won = explained.iter().find(|(_, _, verdict)| *verdict == Verdict::Wins);
            assert_eq!(found, won.map(|(route, ..)| *route), "{kept:?} {method} {host} {target} {fields}");
        });
    }
}

#[test]
fn what_no_literal_of_a_host_fits_is_looked_for_further() {
    let lines = [
        "a.test /service-1/",
        "a.test /service-2/v1",
        "*.test /static/page",
        "*.test -",
        "- /service-3/",
        "- /",
    ];
    let check =
        |host, target, expected| check(&lines, &request("GET", host, target, ""), Some(expected));
    check("a.test", "/service-1/x", "a.test /service-1/");
    check("a.test", "/service-3/x", "*.test -");
    check("a.test", "/static/page", "*.test /static/page");
    check("a.test", "/", "*.test -");
    check("b.test", "/service-1/x", "*.test -");
    check("other", "/service-1/x", "- /");
    check("other", "/service-3/x", "- /service-3/");
    check("other", "/s", "- /");
    check(".test", "/service-3/x", "- /service-3/"); // Below of nothing: it has no label before the dot.
}

proptest! {
    #[test]
    fn hosts_are_passed_by_only_where_nothing_of_them_fits(
        lines in prop::collection::vec(beginning_lines(), 0..12),
        host in prop::sample::select(vec!["a.t", "b.a.t", "x.t", ".t", ".a.t", "z"]),
        path in prop::sample::select(BEGINNINGS.to_vec()),
        end in prop::sample::select(vec!["", "/", "x", "/x"]),
    ) {
        check_index(&lines, &request("GET", host, &format!("{path}{end}"), ""));
    }
}

/// The index of those of the rules that do not overlap finds what a look at all of them finds.
fn check_index(lines: &[String], request: &str) {
    let mut kept: Vec<&str> = Vec::new();
    for line in lines {
        if !kept.iter().any(|other| rule(other).overlaps(&rule(line))) {
            kept.push(line);
        }
    }
    let table = table(&kept);
    with_facts(request, |facts| {
        let found = table.find(facts).map(|winner| winner.route);
        let explained = table.explain(facts);
        let mut winners = explained
            .iter()
            .filter(|(_, _, verdict)| *verdict == Verdict::Wins);
        let won = winners.next().map(|(route, ..)| *route);
        assert_eq!(found, won, "{kept:?} {request}");
    });
}

/// Rules of few hosts, with paths that differ in the bytes that a filter looks at, or behind them.
fn beginning_lines() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["-", "a.t", "*.t", "*.a.t"]);
    let kind = prop::sample::select(vec!["", "=", "~^"]);
    let path = prop::sample::select(BEGINNINGS.to_vec());
    let is_any = prop::bool::weighted(0.15);
    (host, kind, path, is_any).prop_map(|(host, kind, path, is_any)| {
        if is_any {
            format!("{host} -")
        } else {
            format!("{host} {kind}{path}")
        }
    })
}

const BEGINNINGS: [&str; 10] = [
    "/",
    "/s",
    "/se",
    "/service",
    "/service-1",
    "/service-2",
    "/static",
    "/static/",
    "/t",
    "/team/users",
];

proptest! {
    #[test]
    fn the_index_finds_what_a_look_at_all_rules_finds(
        lines in lines(),
        method in prop::sample::select(vec!["GET", "PUT", "PURGE", "get"]),
        host in prop::sample::select(vec!["a.t", "b.a.t", "x.t", "t", "x.a.t", "z", "A.T:1", "y.B.a.T.", "ba.t", "a", ".t"]),
        target in prop::sample::select(vec![
            "/", "/a", "/a/", "/a/b", "/ab", "/a?k=1", "/a/b?k", "/c", "/aaa", "/a/c", "/a/bb", "/b/", "//", "/a-",
        ]),
        fields in prop::sample::select(vec!["", "X: 1\r\n", "X: 2\r\n"]),
    ) {
        check_index(&lines, &request(method, host, target, fields));
    }
}
