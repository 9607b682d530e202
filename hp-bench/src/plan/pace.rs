//! The plan's schedule, from its flags.

use std::time::Duration;

use super::{Pace, PlanError, RatePlan, flag};
use crate::cli::load::{ArrivalKind, LoadArgs, PacingKind};
use crate::rate::{Arrival, Rate};
use crate::units::{RateWords, parse_rate_words, parse_steps};

/// When requests are sent; the warm-up has the rate that the window begins with.
pub(super) fn pace(
    load: &LoadArgs,
    is_recorded: bool,
    warmup: Duration,
    duration: Duration,
) -> Result<Pace, PlanError> {
    let words = match (&load.rate, &load.steps) {
        (Some(text), _) => Some(parse_rate_words(text).map_err(|cause| flag("-R", cause))?),
        (None, Some(text)) => Some(parse_steps(text).map_err(|cause| flag("--steps", cause))?),
        (None, None) => None,
    };
    let per_conn = load.pacing == PacingKind::Conn;
    if words.is_none() {
        let alone = [
            ("--pacing", per_conn),
            ("--arrival", load.arrival == ArrivalKind::Poisson),
            ("--catch-up", load.catch_up.is_some()),
            ("--max-backlog", load.max_backlog.is_some()),
            ("--spin", load.spin.is_some() && !is_recorded),
        ];
        if let Some((name, _)) = alone.into_iter().find(|(_, is_given)| *is_given) {
            return Err(flag(name, "means nothing without a rate; give -R"));
        }
    }
    let Some(words) = words else {
        return Ok(if is_recorded {
            Pace::Recorded
        } else {
            Pace::Closed
        });
    };
    if per_conn && (load.catch_up.is_some() || load.max_backlog.is_some()) {
        return Err(flag(
            "--pacing",
            "conn has no common backlog; leave --catch-up and --max-backlog out",
        ));
    }
    if load
        .catch_up
        .is_some_and(|factor| !(1.0..=1e6).contains(&factor))
    {
        return Err(flag("--catch-up", "out of range; give 1 or more"));
    }
    let rate = match &words {
        RateWords::Constant(rate) => Rate::constant(*rate),
        RateWords::Ramp(from, to, time) => Rate::new(&[
            (warmup, *from, *from),
            (time.unwrap_or(duration), *from, *to),
        ]),
        RateWords::Steps(rates, time) => {
            let first = rates.first().copied().unwrap_or(1.0);
            let steps = rates.iter().map(|rate| (*time, *rate, *rate));
            let shape: Vec<_> = std::iter::once((warmup, first, first))
                .chain(steps)
                .collect();
            Rate::new(&shape)
        }
    };
    Ok(Pace::Rate(RatePlan {
        words,
        rate,
        arrival: match load.arrival {
            ArrivalKind::Uniform => Arrival::Uniform,
            ArrivalKind::Poisson => Arrival::Poisson,
        },
        per_conn,
        max_backlog: load.max_backlog,
        catch_up: load.catch_up,
    }))
}
