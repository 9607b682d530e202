//! The summary: a few lines, each with its name in front.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::{PERCENTILES, Shown};
use crate::format::{Unit, bytes, counted, float, one_time, thousands, whole};
use crate::result::{Gate, RESPONSE};

/// The summary of a result.
pub fn summary(shown: &Shown<'_>) -> String {
    let mut text = title(shown);
    requests_line(&mut text, shown);
    transfer_line(&mut text, shown);
    latency_line(&mut text, shown);
    parts_of_latency(&mut text, shown);
    status_line(&mut text, shown);
    limit_line(&mut text, shown);
    cost_line(&mut text, shown);
    for gate in &shown.document.verdict.slo {
        gate_line(&mut text, gate);
    }
    for note in &shown.document.verdict.notes {
        row(&mut text, "note", format_args!("{note}"));
    }
    if shown.document.interrupted {
        row(
            &mut text,
            "note",
            format_args!("interrupted: the run is shorter than planned"),
        );
    }
    text
}

fn title(shown: &Shown<'_>) -> String {
    let (document, plan) = (shown.document, &shown.document.plan);
    let mut text = format!(
        "{} {}  {}  {}, {}, {:.1} s",
        document.tool.name,
        document.tool.version,
        document
            .target
            .label
            .as_ref()
            .unwrap_or(&document.target.url),
        counted(plan.connections.into(), "connection"),
        counted(plan.threads.into(), "thread"),
        plan.duration_s,
    );
    if plan.warmup_s > 0.0 {
        let _infallible = write!(text, " (+{:.1} s warm-up)", plan.warmup_s);
    }
    match plan.rate {
        None => text.push_str(", closed loop"),
        Some(rate) => {
            let _infallible = write!(text, ", {}/s", thousands(whole(rate)));
            if let Some(to) = plan.rate_to {
                let _infallible = write!(text, " to {}/s", thousands(whole(to)));
            }
        }
    }
    let _infallible = writeln!(text, ", {}", document.tool.engine);
    text
}

fn requests_line(text: &mut String, shown: &Shown<'_>) {
    let (document, run) = (shown.document, &shown.document.run);
    // Only whole seconds compare; the last entry may be a part of one.
    let is_whole = |t: u64| float(t) <= run.elapsed_s;
    let mut seconds: Vec<u64> = document
        .series
        .iter()
        .filter(|second| is_whole(second.t))
        .map(|second| second.n)
        .collect();
    seconds.sort_unstable();
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0);
    // Of one second alone the three would be one number.
    let spread = match seconds.as_slice() {
        [min, .., max] => format!(
            "   (per-second min {}  median {}  max {})",
            thousands(*min),
            thousands(median),
            thousands(*max)
        ),
        _ => String::new(),
    };
    let ratio = match run.rate_ratio {
        Some(ratio) => format!("   {:.2} % of the asked rate", ratio * 100.0),
        None => String::new(),
    };
    let in_turn = match run.in_turn_s {
        Some(in_turn_s) => format!(", {in_turn_s:.3} s of them in turn,"),
        None => String::new(),
    };
    row(
        text,
        "requests",
        format_args!(
            "{} in {:.3} s{in_turn}   {:>12}/s{ratio}{spread}",
            thousands(run.responses),
            run.elapsed_s,
            thousands(whole(run.rps)),
        ),
    );
}

fn transfer_line(text: &mut String, shown: &Shown<'_>) {
    let run = &shown.document.run;
    let rate = if run.active_s() > 0.0 {
        float(run.bytes_in) / run.active_s()
    } else {
        0.0
    };
    let per_answer = run.bytes_in.checked_div(run.responses).unwrap_or(0);
    row(
        text,
        "transfer",
        format_args!(
            "{}   {}/s   {} B per answer",
            bytes(run.bytes_in),
            bytes(whole(rate)),
            thousands(per_answer)
        ),
    );
}

fn latency_line(text: &mut String, shown: &Shown<'_>) {
    let censored = shown.document.latency_ns.censored;
    let Some(latency) = shown.headline() else {
        return row(text, "latency", format_args!("no answer"));
    };
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
    let at_least = if censored > 0 { ">" } else { "" };
    let max = unit.show(float(latency.max()));
    row(
        text,
        "latency",
        format_args!("{line} max {at_least}{max} {}", unit.name),
    );
    if censored > 0 {
        let given_up = counted(censored, "request");
        row(
            text,
            "",
            format_args!("{given_up} given up: the waited time stands for the latency"),
        );
    }
}

/// What the headline consists of, and what it leaves out.
fn parts_of_latency(text: &mut String, shown: &Shown<'_>) {
    if shown.document.latency_ns.clock == RESPONSE {
        part_line(text, "service", shown.service.as_ref(), "");
        part_line(text, "send lag", shown.lag.as_ref(), "");
    }
    part_line(text, "first byte", shown.ttfb.as_ref(), "");
    let connections = shown.connect.as_ref().map_or(0, Histogram::len);
    let count = format!("  ({})", counted(connections, "connection"));
    part_line(text, "connect", shown.connect.as_ref(), &count);
}

fn part_line(text: &mut String, name: &str, times: Option<&Histogram<u64>>, rest: &str) {
    let Some(times) = times.filter(|times| !times.is_empty()) else {
        return;
    };
    let [p50, p99] = [0.5, 0.99].map(|q| one_time(float(times.value_at_quantile(q))));
    row(text, name, format_args!("p50 {p50}  p99 {p99}{rest}"));
}

fn status_line(text: &mut String, shown: &Shown<'_>) {
    let document = shown.document;
    let mut line = String::new();
    for (class, count) in &document.status {
        let _infallible = write!(line, "{class} {}  ", thousands(*count));
    }
    line.push_str(" errors ");
    if document.errors.is_empty() {
        line.push('0');
    }
    for (class, count) in &document.errors {
        let _infallible = write!(line, "{class} {}  ", thousands(*count));
    }
    row(text, "status", format_args!("{}", line.trim()));
}

/// Who was the limit, with the numbers that say so.
fn limit_line(text: &mut String, shown: &Shown<'_>) {
    let document = shown.document;
    let Some(limited_by) = &document.verdict.limited_by else {
        return;
    };
    let share = |cpu_ns: Option<u64>| {
        let of_one = float(cpu_ns?) / 1e7 / document.run.active_s();
        of_one.is_finite().then_some(of_one)
    };
    let target = document.target_cost.as_ref();
    let steal = document
        .machine
        .as_ref()
        .and_then(|machine| machine.steal_pct);
    let mut line = limited_by.to_uppercase();
    let shares = [
        ("target cpu", share(target.and_then(|cost| cost.cpu_ns))),
        ("client cpu", share(document.client.cpu_ns)),
        ("steal", steal),
    ];
    let mut separator = ": ";
    for (name, percent) in shares {
        if let Some(percent) = percent {
            let _infallible = write!(line, "{separator}{name} {percent:.1} %");
            separator = ", ";
        }
    }
    row(text, "limited by", format_args!("{line}"));
}

fn cost_line(text: &mut String, shown: &Shown<'_>) {
    let document = shown.document;
    let target = document.target_cost.as_ref();
    let costs = [
        ("target", target.and_then(|cost| cost.cpu_ns_per_req)),
        ("client", document.client.cpu_ns_per_req),
    ];
    let line: Vec<String> = costs
        .into_iter()
        .filter_map(|(name, nanos)| Some(format!("{name} {}", one_time(float(nanos?)))))
        .map(|cost| format!("{cost} CPU/request"))
        .collect();
    if !line.is_empty() {
        row(text, "cost", format_args!("{}", line.join(", ")));
    }
}

fn gate_line(text: &mut String, gate: &Gate) {
    let outcome = if gate.ok { "ok" } else { "FAILED" };
    let value = match gate.value {
        None => String::new(),
        Some(value) if gate.expr.starts_with("err") => format!(" ({:.4} %)", value * 100.0),
        Some(value) if gate.expr.starts_with("rate") => format!(" ({value:.1}/s)"),
        Some(nanos) => format!(" ({})", one_time(nanos)),
    };
    row(text, "slo", format_args!("{} {outcome}{value}", gate.expr));
}

fn row(text: &mut String, name: &str, rest: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(text, "  {name:<10} {rest}");
}
