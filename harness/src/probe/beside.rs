//! A load beside another one: slow readers, heads that come a byte at a time, slow uploads, or a backend that takes its time for a few. What
//! is asked is how the usual clients fare; the others are looked at only to know that they were there, and what became of them.
//!
//! `extra`: `background` (words for the other hp-bench), `background_path` (its path), `background_rate_of` (its rate as a part of the
//! row's; 0: none), `settle_s` (how long it runs before the window).

use std::time::Duration;

use hp_bench::result::Document;
use serde_json::json;

use super::{note, number, planned, words};
use crate::clock;
use crate::cpu::{self, Look};
use crate::error::Error;
use crate::label;
use crate::load::{self, Outcome, Scene};
use crate::process::Seat;
use crate::raw::{Record, Usage};
use crate::workload::Load;

/// A row's `extra`, read.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    background: Vec<String>,
    path: String,
    settle: Duration,
}

impl Plan {
    fn of(load: &Load) -> Result<Self, String> {
        let mut background = words(load, "background")?;
        if background.is_empty() {
            return Err("extra.background: write the words of the load that runs beside, such as [\"-c\", \"1000\"]".into());
        }
        let part = number(load, "background_rate_of", 0.0, (0.0, 1.0))?;
        match load.rate {
            Some(rate) if part > 0.0 => {
                background.extend(["-R".to_owned(), format!("{:.0}", (rate * part).max(1.0))]);
            }
            None if part > 0.0 => {
                return Err(
                    "extra.background_rate_of: the row has no rate to take a part of".into(),
                );
            }
            Some(_) | None => (),
        }
        let path = load.extra.get("background_path");
        let path = match path.map(|path| path.as_str()) {
            None => "/".to_owned(),
            Some(Some(path)) if path.starts_with('/') => path.to_owned(),
            Some(_) => return Err("extra.background_path: write a path that begins with /".into()),
        };
        let settle = number(load, "settle_s", 2.0, (0.0, 60.0))?;
        Ok(Self {
            background,
            path,
            settle: Duration::from_secs_f64(settle),
        })
    }
}

/// How long a visit should take: the window alone, then beside the others.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    let plan = Plan::of(load)?;
    let window =
        Duration::from_secs_f64(load.seconds) + Duration::from_millis(load.warmup_ms.into());
    Ok(window * 2 + plan.settle + END_LENGTH)
}

/// Runs the row's load alone, starts the other, and runs the row's load again.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let Some(plan) = planned(Plan::of(scene.load), record) else {
        return Ok(());
    };
    if let Some(document) = checked(scene, record, "alone")? {
        note_latency(record, "alone", &document);
    }
    note_memory(scene, record, "alone");

    let mut args = vec![format!("http://{}{}", scene.server.addr, plan.path)];
    let length = plan.settle.as_secs_f64() + scene.load.seconds + BACKGROUND_SECONDS_MORE;
    args.extend([
        "-d".to_owned(),
        format!("{length:.0}s"),
        "--warmup".to_owned(),
        "0".to_owned(),
    ]);
    args.extend(["-t", "1", "--progress", "none", "--json", "-"].map(str::to_owned));
    args.extend(plan.background);
    let seat = Seat::of_load(scene.workload.seats);
    let mut background = scene.launcher.start_own("hp-bench", &args, seat)?;
    let ended = background.wait_until(clock::now() + plan.settle, scene.interrupt);
    if scene.interrupt.came() {
        return Err(Error::Interrupted);
    }
    if let Some(status) = ended {
        let last = background.last_words();
        record
            .void
            .push(format!("the load beside ended at once ({status}){last}"));
        return Ok(());
    }

    let roots = scene.roots();
    let before = Look::take(&roots, clock::monotonic_ns());
    let document = checked(scene, record, "beside")?;
    let after = Look::take(&roots, clock::monotonic_ns());
    scene.fill_usage(&before, &after, record);
    if let Some(document) = document {
        note_latency(record, "beside", &document);
        record.client.cpu_ns = document.client.cpu_ns;
        load::keep(document, record);
    }
    note_memory(scene, record, "beside");

    background.ask_to_stop();
    match background.wait_until(clock::now() + END_TIMEOUT, scene.interrupt) {
        Some(_status) => match load::parse_document(&background.stdout()) {
            Ok(document) => note_background(record, &document),
            Err(cause) => record
                .void
                .push(format!("the load beside gave no document ({cause})")),
        },
        None if scene.interrupt.came() => return Err(Error::Interrupted),
        None => record.void.push("the load beside did not end".into()),
    }
    Ok(())
}

/// Runs the row's load; what is wrong with it voids the record.
fn checked(scene: &Scene<'_>, record: &mut Record, name: &str) -> Result<Option<Document>, Error> {
    match load::run(scene)? {
        Outcome::Reported(document, code) => {
            let reasons = label::void_reasons(scene.load, &document, code);
            record.void.extend(
                reasons
                    .into_iter()
                    .map(|reason| format!("{name}: {reason}")),
            );
            Ok(Some(*document))
        }
        Outcome::Silent(reason) => {
            record.void.push(format!("{name}: {reason}"));
            Ok(None)
        }
    }
}

fn note_latency(record: &mut Record, name: &str, document: &Document) {
    for percentile in ["50", "99", "99.9"] {
        let value = document.latency_ns.p.get(percentile).copied();
        note(record, &format!("p{percentile}_ns_{name}"), json!(value));
    }
    note(record, &format!("rps_{name}"), document.run.rps);
}

fn note_memory(scene: &Scene<'_>, record: &mut Record, name: &str) {
    let mut usage = Usage::default();
    cpu::add_memory(&mut usage, scene.server.process.pid());
    note(record, &format!("pss_kib_{name}"), json!(usage.pss_kib));
    note(
        record,
        &format!("private_dirty_kib_{name}"),
        json!(usage.private_dirty_kib),
    );
}

/// What became of the others. Errors among them are what is asked, so they void nothing.
fn note_background(record: &mut Record, document: &Document) {
    note(
        record,
        "background",
        json!({
            "connections": document.plan.connections,
            "connections_opened": document.run.connections_opened,
            "responses": document.run.responses,
            "bytes_in": document.run.bytes_in,
            "status": document.status,
            "errors": document.errors,
        }),
    );
}

/// The load beside outlasts the window by this, and is ended before.
const BACKGROUND_SECONDS_MORE: f64 = 30.0;
const END_TIMEOUT: Duration = Duration::from_secs(20);
const END_LENGTH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn the_background_takes_its_part_of_the_rate() {
        let mut row = load(
            "background = [\"-c\", \"50\"], background_path = \"/?t=100\", background_rate_of = 0.01",
        );
        assert!(Plan::of(&row).unwrap_err().contains("has no rate"));
        row.rate = Some(10_000.0);
        let plan = Plan::of(&row).unwrap();
        assert_eq!(plan.background, ["-c", "50", "-R", "100"]);
        assert_eq!(
            (plan.path.as_str(), plan.settle),
            ("/?t=100", Duration::from_secs(2))
        );
    }

    #[test]
    fn a_wrong_row_says_what_to_write() {
        for (text, part) in [
            ("", "extra.background"),
            ("background = []", "extra.background"),
            ("background = [1]", "a list of words"),
            (
                "background = [\"-c\", \"1\"], background_path = \"x\"",
                "begins with /",
            ),
            (
                "background = [\"-c\", \"1\"], settle_s = 99",
                "from 0 to 60",
            ),
        ] {
            let cause = Plan::of(&load(text)).unwrap_err();
            assert!(cause.contains(part), "{text}: {cause}");
        }
    }

    #[test]
    fn the_length_has_both_windows() {
        let mut row = load("background = [\"-c\", \"1\"], settle_s = 3");
        row.seconds = 5.0;
        assert_eq!(length(&row), Ok(Duration::from_secs(14)));
    }
}
