//! Another program's load generator, called as its users call it. What it prints is read by its own rules, so the numbers are what it
//! says, not what is true; hp-bench stands beside it for that.
//!
//! `extra`: `tool` (its name: ab, hey, siege, wrk or wrk2), `args` (its words; `{url}`, `{host}` and `{port}` are filled in).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{note, words};
use crate::clock;
use crate::cpu::Look;
use crate::error::Error;
use crate::load::Scene;
use crate::peers;
use crate::process::{Launch, Seat};
use crate::raw::Record;
use crate::workload::Load;

/// What a tool said, in its own terms: a value in ns is what it printed, however coarse.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    requests: Option<u64>,
    elapsed_s: Option<f64>,
    rps: Option<f64>,
    /// Percentile to latency in ns.
    latency_ns: BTreeMap<&'static str, u64>,
    mean_ns: Option<u64>,
    max_ns: Option<u64>,
    /// Failures by the tool's own class, those above 0.
    errors: BTreeMap<&'static str, u64>,
}

/// Reads what a tool printed.
type Parse = fn(&str) -> Said;

/// A row's `extra`, read.
#[derive(Clone, Debug)]
struct Plan {
    tool: &'static str,
    parse: Parse,
    args: Vec<String>,
}

impl Plan {
    fn of(load: &Load) -> Result<Self, String> {
        let asked = load.extra.get("tool").and_then(Value::as_str);
        let found = TOOLS.iter().find(|(name, _parse)| Some(*name) == asked);
        let Some(&(tool, parse)) = found else {
            let names: Vec<&str> = TOOLS.iter().map(|(name, _parse)| *name).collect();
            return Err(format!("extra.tool: write one of {}", names.join(", ")));
        };
        let args = words(load, "args")?;
        if !args
            .iter()
            .any(|word| word.contains("{url}") || word.contains("{host}"))
        {
            return Err("extra.args: no word says where the load goes; write {url} in one".into());
        }
        Ok(Self { tool, parse, args })
    }
}

/// How long a visit should take.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    Plan::of(load)?;
    Ok(Duration::from_secs_f64(load.seconds) + Duration::from_secs(1))
}

/// Runs the tool to its end, or to [`LATE_TIMEOUT`] after it should have come.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let plan = match Plan::of(scene.load) {
        Ok(plan) => plan,
        Err(cause) => {
            record.void.push(cause);
            return Ok(());
        }
    };
    let path = std::env::var_os("PATH");
    let folders = peers::folders(path.as_deref(), &scene.launcher.own(""));
    note(record, "tool", plan.tool);
    let Some(program) = peers::find(plan.tool, &folders) else {
        record
            .void
            .push(format!("MISSING {} is not installed", plan.tool));
        return Ok(());
    };
    let (args, shown) = filled(&plan.args, scene);
    note(
        record,
        "command",
        format!("{} {}", plan.tool, shown.join(" ")),
    );

    // Some keep settings in the user's folder, and make them there where there are none.
    let home = tempfile::tempdir().map_err(|cause| Error::Spawn {
        command: plan.tool.to_owned(),
        cause,
    })?;
    let launch = Launch {
        program: plan.tool.to_owned(),
        path: program,
        args,
        env: BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]),
        dir: Some(PathBuf::from(home.path())),
    };
    let roots = scene.roots();
    let before = Look::take(&roots, clock::monotonic_ns());
    let mut process = scene
        .launcher
        .start(&launch, Seat::of_load(scene.workload.seats))?;
    let length = Duration::from_secs_f64(scene.load.seconds) + LATE_TIMEOUT;
    let status = process.wait_until(clock::now() + length, scene.interrupt);
    if scene.interrupt.came() {
        return Err(Error::Interrupted);
    }
    let after = Look::take(&roots, clock::monotonic_ns());
    scene.fill_usage(&before, &after, record);
    let text = format!("{}\n{}", process.stdout(), process.stderr());
    let said = (plan.parse)(&text);
    match status {
        None => record
            .void
            .push(format!("{} did not end in time", plan.tool)),
        Some(status) if said.rps.is_none() => {
            let last = text.lines().rfind(|line| !line.trim().is_empty());
            let last = last.unwrap_or_default().trim();
            record
                .void
                .push(format!("{} gave no result ({status}): {last}", plan.tool));
        }
        Some(_status) => said.note(record),
    }
    Ok(())
}

/// The words with their address, and as they are shown: a port of the moment says nothing to a reader.
fn filled(args: &[String], scene: &Scene<'_>) -> (Vec<String>, Vec<String>) {
    let addr = scene.server.addr;
    let fill = |word: &String, host: &str, port: &str| {
        let url = format!("http://{host}:{port}{}", scene.load.path);
        let word = word.replace("{url}", &url);
        word.replace("{host}", host).replace("{port}", port)
    };
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let real = args.iter().map(|word| fill(word, &host, &port)).collect();
    let shown = args.iter().map(|word| fill(word, &host, "PORT")).collect();
    (real, shown)
}

impl Said {
    fn note(&self, record: &mut Record) {
        note(record, "requests", json!(self.requests));
        note(record, "elapsed_s", json!(self.elapsed_s));
        note(record, "rps", json!(self.rps));
        note(record, "latency_ns", json!(self.latency_ns));
        note(record, "mean_ns", json!(self.mean_ns));
        note(record, "max_ns", json!(self.max_ns));
        note(record, "errors", json!(self.errors));
    }

    fn add_error(&mut self, class: &'static str, count: Option<f64>) {
        if let Some(count) = count.and_then(whole).filter(|&count| count > 0) {
            self.errors.insert(class, count);
        }
    }
}

/// The first number behind a label, wherever its line has it.
fn number_behind(text: &str, label: &str) -> Option<f64> {
    let (_before, rest) = text.split_once(label)?;
    let rest = rest.trim_start_matches([':', ' ', '\t']);
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// A length such as `618.00us`, `5.74ms`, `1.07s` or `2.00m`, in ns.
fn parse_length(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    ns(number.parse::<f64>().ok()?, factor)
}

fn ns(value: f64, factor: f64) -> Option<u64> {
    whole(value * factor)
}

/// The nearest whole number, where it is none below 0 or beyond all sense.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is cast is a whole number of the range that is checked first"
)]
fn whole(value: f64) -> Option<u64> {
    let is_sensible = (0.0..1e18).contains(&value);
    is_sensible.then_some(value.round() as u64)
}

/// ApacheBench: times are whole milliseconds.
fn parse_ab(text: &str) -> Said {
    let mut said = Said {
        requests: number_behind(text, "Complete requests:").and_then(whole),
        elapsed_s: number_behind(text, "Time taken for tests:"),
        rps: number_behind(text, "Requests per second:"),
        mean_ns: number_behind(text, "Time per request:").and_then(|ms| ns(ms, 1e6)),
        max_ns: number_behind(text, "100%").and_then(|ms| ns(ms, 1e6)),
        ..Said::default()
    };
    for name in ["50", "90", "99"] {
        let value = number_behind(text, &format!("  {name}%")).and_then(|ms| ns(ms, 1e6));
        said.latency_ns.extend(value.map(|ns| (name, ns)));
    }
    said.add_error("failed", number_behind(text, "Failed requests:"));
    said.add_error("status", number_behind(text, "Non-2xx responses:"));
    said
}

/// wrk and wrk2.
fn parse_wrk(text: &str) -> Said {
    let mut said = Said {
        rps: number_behind(text, "Requests/sec:"),
        ..Said::default()
    };
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["Latency", mean, _deviation, max, _share] => {
                (said.mean_ns, said.max_ns) = (parse_length(mean), parse_length(max));
            }
            [count, "requests", "in", length, ..] => {
                said.requests = count.parse().ok();
                let length = parse_length(length.trim_end_matches(','));
                said.elapsed_s = length.map(|ns| ns as f64 / 1e9);
            }
            [percent, length] => {
                let share = percent.strip_suffix('%').unwrap_or_default();
                // wrk writes 50%, wrk2 50.000%.
                let share = match share.contains('.') {
                    true => share.trim_end_matches('0').trim_end_matches('.'),
                    false => share,
                };
                let name = PERCENTILES.iter().find(|name| **name == share);
                if let (Some(name), Some(ns)) = (name, parse_length(length)) {
                    said.latency_ns.entry(name).or_insert(ns);
                }
            }
            _ => (),
        }
    }
    let errors = text
        .split_once("Socket errors:")
        .map_or("", |(_before, errors)| errors);
    let errors = errors.lines().next().unwrap_or_default();
    for class in ["connect", "read", "write", "timeout"] {
        said.add_error(class, number_behind(errors, &format!("{class} ")));
    }
    said.add_error("status", number_behind(text, "Non-2xx or 3xx responses:"));
    said
}

/// hey: seconds with four digits, of the first million requests.
fn parse_hey(text: &str) -> Said {
    let seconds = |label: &str| number_behind(text, label).and_then(|seconds| ns(seconds, 1e9));
    let mut said = Said {
        elapsed_s: number_behind(text, "Total:"),
        rps: number_behind(text, "Requests/sec:"),
        mean_ns: seconds("Average:"),
        max_ns: seconds("Slowest:"),
        ..Said::default()
    };
    for name in ["50", "90", "99"] {
        let value = seconds(&format!(" {name}% in"));
        said.latency_ns.extend(value.map(|ns| (name, ns)));
    }
    let (mut good, mut bad, mut broken, mut in_errors) = (0.0, 0.0, 0.0, false);
    for line in text.lines().map(str::trim) {
        in_errors |= line.starts_with("Error distribution");
        let Some((code, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        else {
            continue;
        };
        match (in_errors, number_behind(rest, "")) {
            (true, _) => broken += code.parse::<f64>().unwrap_or_default(),
            (false, Some(count)) if code.starts_with('2') => good += count,
            (false, Some(count)) => bad += count,
            (false, None) => (),
        }
    }
    said.requests = said.rps.and_then(|_rps| whole(good + bad));
    said.add_error("status", Some(bad));
    said.add_error("failed", Some(broken));
    said
}

/// siege: hundredths of a second, and no percentiles. Its report is text in older versions and JSON in newer ones.
fn parse_siege(text: &str) -> Said {
    let text = text.to_ascii_lowercase().replace('"', "").replace('_', " ");
    let behind = |label: &str| number_behind(&text, label);
    let mut said = Said {
        requests: behind("transactions:").and_then(whole),
        elapsed_s: behind("elapsed time:"),
        rps: behind("transaction rate:"),
        mean_ns: behind("response time:").and_then(|seconds| ns(seconds, 1e9)),
        max_ns: behind("longest transaction:").and_then(|seconds| ns(seconds, 1e9)),
        ..Said::default()
    };
    said.add_error("failed", behind("failed transactions:"));
    said
}

/// The percentiles that are kept, of those that a tool prints.
const PERCENTILES: [&str; 5] = ["50", "90", "99", "99.9", "99.99"];

/// The tools, with the reader of what each prints.
const TOOLS: [(&str, Parse); 5] = [
    ("ab", parse_ab),
    ("hey", parse_hey),
    ("siege", parse_siege),
    ("wrk", parse_wrk),
    ("wrk2", parse_wrk),
];

const LATE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn ab_counts_in_milliseconds() {
        let said = parse_ab(
            "Time taken for tests:   0.977 seconds\nComplete requests:      4000\nFailed requests:        2\n\
             Non-2xx responses:      7\nRequests per second:    4092.31 [#/sec] (mean)\n\
             Time per request:       19.549 [ms] (mean)\nTime per request:       0.244 [ms] (mean, across all)\n\
             \x20 50%     19\n  66%     20\n  90%     21\n  99%     24\n 100%     29 (longest request)\n",
        );
        assert_eq!((said.requests, said.rps), (Some(4_000), Some(4_092.31)));
        assert_eq!(
            said.latency_ns,
            BTreeMap::from([("50", 19_000_000), ("90", 21_000_000), ("99", 24_000_000)])
        );
        assert_eq!(
            (said.mean_ns, said.max_ns),
            (Some(19_549_000), Some(29_000_000))
        );
        assert_eq!(said.errors, BTreeMap::from([("failed", 2), ("status", 7)]));
    }

    #[test]
    fn wrk_tells_what_it_did_not_record() {
        let said = parse_wrk(
            "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     6.40ms    5.99ms  90.30ms   91.28%\n\
             \x20   Req/Sec    15.74k     1.20k   17.05k    75.10%\n  Latency Distribution\n     50%    5.74ms\n     75%  7.00ms\n\
             \x20    99%   16.68ms\n  471396 requests in 27.31s, 76.42MB read\n\
             \x20 Socket errors: connect 0, read 0, write 0, timeout 89\nRequests/sec:  17259.88\nTransfer/sec:      2.80MB\n",
        );
        assert_eq!(
            (said.requests, said.elapsed_s),
            (Some(471_396), Some(27.31))
        );
        assert_eq!(said.rps, Some(17_259.88));
        assert_eq!(
            said.latency_ns,
            BTreeMap::from([("50", 5_740_000), ("99", 16_680_000)])
        );
        assert_eq!(
            (said.mean_ns, said.max_ns),
            (Some(6_400_000), Some(90_300_000))
        );
        assert_eq!(said.errors, BTreeMap::from([("timeout", 89)]));
    }

    #[test]
    fn the_recorded_percentiles_of_wrk2_win_over_the_uncorrected_ones() {
        let said = parse_wrk(
            "  Latency Distribution (HdrHistogram - Recorded Latency)\n 50.000%  618.00us\n 99.990%    2.07ms\n100.000%    2.07ms\n\
             \x20 Latency Distribution (HdrHistogram - Uncorrected Latency (measured without taking delayed starts into account))\n\
             \x2050.000%   95.00us\nRequests/sec:    100.19\n",
        );
        assert_eq!(
            said.latency_ns,
            BTreeMap::from([("50", 618_000), ("99.99", 2_070_000)])
        );
    }

    #[test]
    fn hey_tells_statuses_and_failures_apart() {
        let said = parse_hey(
            "Summary:\n  Total:\t0.5000 secs\n  Slowest:\t0.0183 secs\n  Average:\t0.0009 secs\n  Requests/sec:\t4010.6103\n\
             Response time histogram:\n  0.002 [94]\t|x\nLatency distribution:\n  50% in 0.0002 secs\n  99% in 0.0183 secs\n\
             Status code distribution:\n  [200]\t90 responses\n  [502]\t10 responses\n\nError distribution:\n  [3]\tGet: EOF 7\n",
        );
        assert_eq!((said.requests, said.rps), (Some(100), Some(4_010.610_3)));
        assert_eq!(said.max_ns, Some(18_300_000));
        assert_eq!(said.errors, BTreeMap::from([("failed", 3), ("status", 10)]));
    }

    #[test]
    fn siege_is_read_in_both_of_its_forms() {
        for text in [
            "{\t\"transactions\":\t4130,\n\"elapsed_time\":\t0.73,\n\"response_time\":\t0.05,\n\"transaction_rate\":\t5657.53,\n\
             \"successful_transactions\":\t4131,\n\"failed_transactions\":\t1,\n\"longest_transaction\":\t0.13,\n}",
            "Transactions:\t4130 hits\nElapsed time:\t0.73 secs\nResponse time:\t0.05 secs\nTransaction rate:\t5657.53 trans/sec\n\
             Successful transactions: 4131\nFailed transactions:\t1\nLongest transaction:\t0.13\n",
        ] {
            let said = parse_siege(text);
            assert_eq!(
                (said.requests, said.rps),
                (Some(4_130), Some(5_657.53)),
                "{text}"
            );
            assert_eq!(
                (said.mean_ns, said.max_ns),
                (Some(50_000_000), Some(130_000_000))
            );
            assert_eq!(said.errors, BTreeMap::from([("failed", 1)]));
        }
    }

    #[test]
    fn text_of_another_program_says_nothing() {
        for text in [
            "",
            "Requests/sec:",
            "unable to connect",
            "50% x",
            "Latency a b c d",
        ] {
            for (tool, parse) in TOOLS {
                assert_eq!(parse(text).rps, None, "{tool}: {text}");
            }
        }
    }

    #[test]
    fn a_wrong_row_says_what_to_write() {
        for (text, part) in [
            ("", "extra.tool"),
            ("tool = \"curl\"", "ab, hey, siege, wrk, wrk2"),
            ("tool = \"wrk\"", "{url}"),
            ("tool = \"wrk\", args = [\"-t1\"]", "{url}"),
            ("tool = \"wrk\", args = 3", "list of words"),
        ] {
            let cause = Plan::of(&load(text)).unwrap_err();
            assert!(cause.contains(part), "{text}: {cause}");
        }
    }
}
