//! A finished run as a [`Document`] of schema `hp-bench/1`.

use std::time::Duration;

use hdrhistogram::Histogram;
use hp_core::rt::Engine;

use super::{PERCENTILES, Report, VERSION};
use crate::format::whole;
use crate::plan::{Pace, RatePlan};
use crate::rate::Arrival;
use crate::record::Clock;
use crate::request::CHUNK_BYTES;
use crate::result::{
    Cost, Counted, Document, Encoded, Histograms, Latency, Machine, Planned, RESPONSE, SCHEMA,
    SERVICE, Target, TargetCost, Tool,
};
use crate::units::RateWords;
use crate::verdict::{judge, rate_ratio};

/// The report as the document that other programs read.
pub fn document(report: &Report<'_>) -> Document {
    let record = report.record;
    let classes = record.status.iter().zip(1..);
    let clock = match record.clock() {
        Clock::Service => SERVICE,
        Clock::Response => RESPONSE,
    };
    let mut verdict = judge(report.plan, record, report.costs);
    // Only then is the engine not what the user would have got elsewhere.
    if report.plan.engine == Engine::Auto && report.engine == Engine::Epoll.to_string() {
        verdict.notes.push(report.engine_story.to_owned());
    }
    Document {
        schema: SCHEMA.to_owned(),
        tool: Tool {
            name: "hp-bench".to_owned(),
            version: VERSION.to_owned(),
            commit: None,
            engine: report.engine.to_owned(),
        },
        started: utc(report.started_wall_ns),
        interrupted: report.interrupted,
        target: Target {
            url: report.plan.target.to_string(),
            addr: report.addr.to_string(),
            label: None,
        },
        plan: planned(report),
        run: counted(report),
        status: classes
            .filter(|&(count, _)| *count > 0)
            .map(|(count, class)| (format!("{class}xx"), *count))
            .collect(),
        errors: record
            .errors
            .iter()
            .map(|(class, count)| (class.name().to_owned(), count))
            .collect(),
        latency_ns: Latency::of(record.latency(), clock.to_owned(), record.censored),
        histograms: Histograms {
            service: Some(Encoded::encode(record.service())),
            response: record.response().map(Encoded::encode),
            lag: record.lag().map(Encoded::encode),
            connect: Some(Encoded::encode(record.connect())),
            tls: None,
            ttfb: Some(Encoded::encode(record.first_byte())),
        },
        series: report.series.to_vec(),
        client: Cost {
            cpu_ns: record.cpu.and_then(nanos),
            cpu_ns_per_req: report.cpu_per_response().and_then(nanos),
            ctx_switches: report.costs.client_ctx_switches,
            rss_kib: report.costs.client_rss_kib,
        },
        target_cost: report.costs.target.as_ref().map(|target| TargetCost {
            source: target.source.to_owned(),
            cpu_ns: Some(target.cpu_ns),
            cpu_ns_per_req: target.cpu_ns.checked_div(record.responses),
            ctx_switches: target.ctx_switches,
            rss_kib: target.rss_kib,
        }),
        machine: report.costs.steal_pct.map(|steal| Machine {
            steal_pct: Some(steal),
            softirq_pct: report.costs.softirq_pct.clone(),
            env: None,
        }),
        verdict,
    }
}

fn planned(report: &Report<'_>) -> Planned {
    let (plan, words) = (report.plan, &report.plan.words);
    let first = plan.requests.first();
    let named =
        |file: &Option<std::path::PathBuf>| file.as_ref().map(|file| file.display().to_string());
    let mut planned = Planned {
        mode: if plan.pace == Pace::Closed {
            "closed"
        } else {
            "rate"
        }
        .to_owned(),
        connections: plan.connections,
        threads: plan.threads,
        duration_s: plan.duration.as_secs_f64(),
        warmup_s: plan.warmup.as_secs_f64(),
        cooldown_s: plan.cooldown.as_secs_f64(),
        requests: plan.requests_max,
        turn_s: plan.turns.map(|turns| turns.length.as_secs_f64()),
        turn: words.turn.clone(),
        ramp_conns_s: plan.ramp_conns.as_secs_f64(),
        reuse: plan.reuse,
        close: plan.requests.iter().any(|request| !request.keep_alive),
        idle: plan.idle,
        pipeline: plan.pipeline,
        src: plan.src.iter().map(ToString::to_string).collect(),
        connect_timeout_s: plan.connect_timeout.as_secs_f64(),
        timeout_s: plan.timeout.as_secs_f64(),
        method: first.map_or_else(String::new, |request| request.method.clone()),
        body: first.map_or(0, |request| request.body_len as u64),
        chunked: words.chunked,
        chunk_bytes: words
            .chunked
            .then(|| words.chunk_size.unwrap_or(CHUNK_BYTES).get()),
        mix: named(&words.mix),
        replay: named(&words.replay),
        speed: words.speed,
        raw: named(&words.raw),
        pin: plan
            .pin
            .iter()
            .filter_map(|cpu| u32::try_from(*cpu).ok())
            .collect(),
        spin_s: plan.spin.as_secs_f64(),
        drain: Some(plan.drain.name().to_owned()),
        stamp: Some(plan.stamp.name().to_owned()),
        read_rate: words.read_rate,
        write_rate: words.write_rate,
        stall: words.stall.clone(),
        expect: words.expect.clone(),
        expect_size: words.expect_size,
        verify: words.verify.clone(),
        start_at: words.start_at.clone(),
        ..Planned::default()
    };
    if let Pace::Rate(pace) = &plan.pace {
        rate_words(&mut planned, pace);
    } else if plan.pace == Pace::Recorded {
        planned.rate = plan.rate_asked();
    }
    planned
}

fn rate_words(planned: &mut Planned, pace: &RatePlan) {
    match &pace.words {
        RateWords::Constant(rate) => planned.rate = Some(*rate),
        RateWords::Ramp(from, to, time) => {
            (planned.rate, planned.rate_to) = (Some(*from), Some(*to));
            planned.rate_time_s =
                time.map_or(Some(planned.duration_s), |time| Some(time.as_secs_f64()));
        }
        RateWords::Steps(rates, time) => {
            planned.rate = rates.first().copied();
            planned.rate_steps.clone_from(rates);
            planned.rate_time_s = Some(time.as_secs_f64());
        }
    }
    let arrival = match pace.arrival {
        Arrival::Uniform => "uniform",
        Arrival::Poisson => "poisson",
    };
    planned.arrival = Some(arrival.to_owned());
    planned.pacing = Some(if pace.per_conn { "conn" } else { "global" }.to_owned());
    planned.max_backlog = pace.max_backlog;
    planned.catch_up = pace.catch_up;
}

fn counted(report: &Report<'_>) -> Counted {
    let record = report.record;
    Counted {
        elapsed_s: record.elapsed.as_secs_f64(),
        in_turn_s: record.in_turn.map(|time| time.as_secs_f64()),
        requests: record.requests,
        responses: record.responses,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        rps: (report.responses_per_second() * 10.0).round() / 10.0,
        rate_ratio: rate_ratio(report.plan, record),
        connections_min: Some(record.connections_min),
        connections_opened: record.connections_opened,
    }
}

impl Latency {
    /// The numbers of a histogram.
    pub fn of(times: &Histogram<u64>, clock: String, censored: u64) -> Self {
        Self {
            clock,
            min: if times.is_empty() { 0 } else { times.min() },
            mean: whole(times.mean()),
            stdev: whole(times.stdev()),
            max: times.max(),
            censored,
            p: PERCENTILES
                .map(|(name, q)| (name.to_owned(), times.value_at_quantile(q)))
                .into(),
        }
    }
}

fn nanos(time: Duration) -> Option<u64> {
    u64::try_from(time.as_nanos()).ok()
}

/// `2026-11-20T23:10:00Z` from ns since 1970.
fn utc(wall_ns: u64) -> String {
    let seconds = wall_ns / 1_000_000_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Gregorian date of a day since 1970-01-01.
///
/// Counts in eras of 400 years that begin on the first of March, so that the leap day is a year's
/// last. 719,468 days lie between 0000-03-01 and 1970-01-01.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leaps = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Seconds since 1970 of a document's start; `None` where it is no such text.
pub fn unix_seconds(started: &str) -> Option<u64> {
    let (date, time) = started.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !in_range || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years and months from March on, as in `date`.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_is_shown_in_utc() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_216_200, "2026-11-20T23:10:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), want);
            assert_eq!(unix_seconds(want), Some(seconds));
        }
    }

    #[test]
    fn text_that_is_no_start_is_refused() {
        for text in [
            "",
            "Z",
            "2026-11-20",
            "2026-13-20T00:00:00Z",
            "1-1-1T1:1:1Z",
            "2026-11-20T24:00:00Z",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
        assert_eq!(unix_seconds("99999999999999999999-01-01T00:00:00Z"), None);
    }
}
