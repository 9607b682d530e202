//! Numbers for people and for programs: the summary, the percentile spectrum, the JSON.
//!
//! Must not know: how the numbers were measured. Writes nothing itself.

mod document;
mod spectrum;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use hp_core::rt::Engine;

use crate::plan::Plan;
use crate::record::Record;

pub use document::document;
pub use spectrum::spectrum;

/// A finished run, with all that its report says.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// All threads' records together.
    pub record: &'a Record,
    /// Where the requests went.
    pub addr: SocketAddr,
    /// What `auto` became: `uring` or `epoll`.
    pub engine: &'a str,
    /// One line about the engine, and about one that was passed over.
    pub engine_story: &'a str,
    /// When the clock started, in ns since 1970-01-01 UTC.
    pub started_wall_ns: u64,
    /// Whether a signal ended the run.
    pub interrupted: bool,
}

impl Report<'_> {
    /// Complete answers per second of the run; 0 for a run that has not begun.
    pub fn responses_per_second(&self) -> f64 {
        per_second(self.record.responses, self.record.elapsed)
    }

    /// CPU time of the client per complete answer; `None` where either is unknown.
    pub fn cpu_per_response(&self) -> Option<Duration> {
        let nanos = u64::try_from(self.record.cpu?.as_nanos()).ok()?;
        nanos
            .checked_div(self.record.responses)
            .map(Duration::from_nanos)
    }
}

/// The summary: a few lines, each with its name in front.
pub fn summary(report: &Report<'_>) -> String {
    let mut text = title(report);
    requests_line(&mut text, report);
    transfer_line(&mut text, report);
    latency_line(&mut text, report.record);
    connect_line(&mut text, report.record.connect());
    status_line(&mut text, report.record);
    if let Some(cpu) = report.cpu_per_response() {
        row(
            &mut text,
            "cost",
            format_args!("client {} CPU/request", one_time(cpu)),
        );
    }
    row(&mut text, "note", format_args!("{CLOSED_LOOP_NOTE}"));
    if report.plan.engine == Engine::Auto && report.engine == Engine::Epoll.to_string() {
        row(&mut text, "note", format_args!("{}", report.engine_story));
    }
    if report.interrupted {
        row(
            &mut text,
            "note",
            format_args!("interrupted: the run is shorter than planned"),
        );
    }
    text
}

fn title(report: &Report<'_>) -> String {
    let plan = report.plan;
    format!(
        "hp-bench {VERSION}  {}  {}, {}, {:.1} s, closed loop, {}\n",
        plan.target,
        counted(plan.connections.into(), "connection"),
        counted(plan.threads.into(), "thread"),
        plan.duration.as_secs_f64(),
        report.engine,
    )
}

fn requests_line(text: &mut String, report: &Report<'_>) {
    let record = report.record;
    let mut seconds = record.per_second.clone();
    seconds.sort_unstable();
    // Of one second alone the three would be one number.
    let spread = match seconds.as_slice() {
        [min, .., max] => format!(
            "   (per-second min {}  median {}  max {})",
            thousands(*min),
            thousands(seconds[seconds.len() / 2]),
            thousands(*max)
        ),
        _ => String::new(),
    };
    row(
        text,
        "requests",
        format_args!(
            "{} in {:.3} s   {:>12}/s{spread}",
            thousands(record.responses),
            record.elapsed.as_secs_f64(),
            thousands(whole(report.responses_per_second())),
        ),
    );
}

fn transfer_line(text: &mut String, report: &Report<'_>) {
    let record = report.record;
    let rate = per_second(record.bytes_in, record.elapsed);
    let per_answer = record.bytes_in.checked_div(record.responses).unwrap_or(0);
    row(
        text,
        "transfer",
        format_args!(
            "{}   {}/s   {} B per answer",
            bytes(record.bytes_in),
            bytes(whole(rate)),
            thousands(per_answer)
        ),
    );
}

fn latency_line(text: &mut String, record: &Record) {
    let latency = record.latency();
    if latency.is_empty() {
        return row(text, "latency", format_args!("no answer"));
    }
    let unit = Unit::of(latency.mean());
    let mut line = format!(
        "mean {} {} sd {} {}",
        unit.show(latency.mean()),
        unit.name,
        unit.show(latency.stdev()),
        unit.name,
    );
    for (name, quantile) in PERCENTILES {
        let value = float(latency.value_at_quantile(quantile));
        let _infallible = write!(line, " p{name} {}", unit.show(value));
    }
    let censored = if record.censored > 0 { ">" } else { "" };
    let max = unit.show(float(latency.max()));
    row(
        text,
        "latency",
        format_args!("{line} max {censored}{max} {}", unit.name),
    );
    if record.censored > 0 {
        let given_up = counted(record.censored, "request");
        row(
            text,
            "",
            format_args!("{given_up} given up: the waited time stands for the latency"),
        );
    }
}

fn connect_line(text: &mut String, connect: &Histogram<u64>) {
    if connect.is_empty() {
        return;
    }
    let (p50, p99) = (
        connect.value_at_quantile(0.5),
        connect.value_at_quantile(0.99),
    );
    row(
        text,
        "connect",
        format_args!(
            "p50 {}  p99 {}  ({})",
            one_time(Duration::from_nanos(p50)),
            one_time(Duration::from_nanos(p99)),
            counted(connect.len(), "connection"),
        ),
    );
}

fn status_line(text: &mut String, record: &Record) {
    let mut line = String::new();
    for (count, class) in record
        .status
        .iter()
        .zip(1..)
        .filter(|&(count, _)| *count > 0)
    {
        let _infallible = write!(line, "{class}xx {}  ", thousands(*count));
    }
    line.push_str(" errors ");
    if record.errors.iter().next().is_none() {
        line.push('0');
    }
    for (class, count) in record.errors.iter() {
        let _infallible = write!(line, "{class} {}  ", thousands(count));
    }
    row(text, "status", format_args!("{}", line.trim()));
}

fn row(text: &mut String, name: &str, rest: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(text, "  {name:<10} {rest}");
}

/// `1 thread`, `2 threads`.
fn counted(count: u64, what: &str) -> String {
    format!(
        "{} {what}{}",
        thousands(count),
        if count == 1 { "" } else { "s" }
    )
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    let value = float(number);
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{:.1} KiB", value / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.1} GiB", value / 1_073_741_824.0),
    }
}

/// The unit in which one line of the summary shows all its times.
struct Unit {
    name: &'static str,
    nanos: f64,
    decimals: usize,
}

impl Unit {
    /// Fit for times around `nanos`.
    fn of(nanos: f64) -> Self {
        match nanos {
            n if n < 1e6 => Self {
                name: "us",
                nanos: 1e3,
                decimals: 1,
            },
            n if n < 1e10 => Self {
                name: "ms",
                nanos: 1e6,
                decimals: 2,
            },
            _ => Self {
                name: "s",
                nanos: 1e9,
                decimals: 2,
            },
        }
    }

    fn show(&self, nanos: f64) -> String {
        format!("{:.*}", self.decimals, nanos / self.nanos)
    }
}

fn one_time(time: Duration) -> String {
    let nanos = time.as_secs_f64() * 1e9;
    let unit = Unit::of(nanos);
    format!("{} {}", unit.show(nanos), unit.name)
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        float(count) / elapsed.as_secs_f64()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with a few digits; exact up to 2^53"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float saturates when cast"
)]
#[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// Said wherever a closed loop's latency is shown.
pub const CLOSED_LOOP_NOTE: &str =
    "closed loop: a stall of the server hides the requests that were not sent";

/// Percentiles of every report, with the quantile of each.
pub const PERCENTILES: [(&str, f64); 6] = [
    ("50", 0.5),
    ("75", 0.75),
    ("90", 0.9),
    ("99", 0.99),
    ("99.9", 0.999),
    ("99.99", 0.9999),
];

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;
