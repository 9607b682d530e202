//! When a change is a loss. Pure: readings and intervals in, findings out.

use std::fmt;

use crate::counters::{Counter, Counters, Reading};
use hp_bench::statistics::Interval;

/// What is said of one number of the two revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Of which subject or workload.
    pub place: String,
    /// What was counted or measured.
    pub what: String,
    /// The figure of the base.
    pub base: String,
    /// The figure of the head.
    pub head: String,
    /// How the second differs from the first.
    pub change: String,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows from a number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// No loss.
    Pass,
    /// A commit says that the loss is meant.
    Accepted,
    /// A loss that may be chance.
    Warn,
    /// Nothing can be said.
    Unknown,
    /// A loss.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Pass => "pass",
            Self::Accepted => "accepted",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "FAIL",
        })
    }
}

/// How far a counter may rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In its own unit.
    pub absolute: f64,
    /// As a part of the base.
    pub relative: f64,
}

impl Tolerance {
    /// What a gate between two builds by one toolchain on one machine allows.
    pub fn of_gate(counter: Counter) -> Self {
        match counter {
            Counter::Syscalls | Counter::Allocations => Self::absolute(0.01),
            Counter::Instructions => Self::relative(0.005),
            // Others who want the CPU switch, too.
            Counter::Switches => Self::absolute(0.2),
            Counter::MinorFaults => Self::absolute(0.05),
            // Pages that a busy moment left behind are some bytes for each of some thousand connections.
            Counter::IdleBytes => Self {
                absolute: 32.0,
                relative: 0.05,
            },
        }
    }

    /// What a look at a committed file allows: other machines have other copies of memcpy, other compilers other code, and on
    /// a slow machine more timers fire in the time that the requests take. One more of anything in each request is more.
    pub fn of_baseline(counter: Counter) -> Self {
        match counter {
            Counter::Syscalls => Self::absolute(0.2),
            Counter::Allocations => Self::absolute(0.05),
            _ => Self::relative(0.1),
        }
    }

    const fn absolute(absolute: f64) -> Self {
        Self {
            absolute,
            relative: 0.0,
        }
    }

    const fn relative(relative: f64) -> Self {
        Self {
            absolute: 0.0,
            relative,
        }
    }

    /// Whether a rise is more than both allow.
    pub fn is_exceeded(self, base: f64, head: f64) -> bool {
        head - base > self.absolute.max(base * self.relative)
    }
}

/// Judges counters that both subjects have, and says of the others that nothing can be said.
pub fn judge_counters(place: &str, base: &Counters, head: &Counters) -> Vec<Finding> {
    let judged = base.iter().filter_map(|(&counter, base)| {
        let head = head.get(&counter)?;
        Some(judge_counter(place, counter, base, head))
    });
    judged.collect()
}

fn judge_counter(place: &str, counter: Counter, base: &Reading, head: &Reading) -> Finding {
    let (verdict, change) = match (base, head) {
        (Reading::Value(base), Reading::Value(head)) => {
            let rises = match counter {
                // Fails at 64 bytes, too, where 5 % are more.
                Counter::IdleBytes if head - base > IDLE_BYTES_MAX => true,
                _ => Tolerance::of_gate(counter).is_exceeded(*base, *head),
            };
            let loss = match counter {
                Counter::Switches | Counter::MinorFaults => Verdict::Warn,
                _ => Verdict::Fail,
            };
            let verdict = if rises { loss } else { Verdict::Pass };
            (verdict, change_of(*base, *head))
        }
        // What neither has cannot have risen; a tool that failed on one of them only hides something.
        (Reading::Missing(_), Reading::Missing(_)) => (Verdict::Pass, String::from("not counted")),
        (Reading::Value(_), Reading::Missing(_)) | (Reading::Missing(_), Reading::Value(_)) => {
            (Verdict::Unknown, String::from("one of them only"))
        }
    };
    Finding {
        place: place.to_owned(),
        what: counter.to_string(),
        base: base.to_string(),
        head: head.to_string(),
        change,
        verdict,
    }
}

/// The counters by which a head is a loss.
pub fn losses(base: &Counters, head: &Counters) -> Vec<Counter> {
    let pairs = base
        .iter()
        .filter_map(|(&counter, base)| Some((counter, base, head.get(&counter)?)));
    pairs
        .filter(|(counter, base, head)| {
            judge_counter("", *counter, base, head).verdict == Verdict::Fail
        })
        .map(|(counter, _, _)| counter)
        .collect()
}

/// A figure whose ratio, head by base, was measured in rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio's limit: its interval may not lie above.
    pub limit: f64,
    /// Head by base.
    pub head: Interval,
    /// The base under a second name, by the base: what this machine calls equal.
    pub control: Interval,
}

/// Judges a ratio: a loss is one whose whole interval lies above the limit, and above all that the control shows.
pub fn judge_ratio(ratio: &Ratio) -> Verdict {
    let Ratio {
        limit,
        head,
        control,
    } = *ratio;
    if head.low > limit.max(control.high) {
        Verdict::Fail
    } else if head.mid > limit {
        Verdict::Warn
    } else {
        Verdict::Pass
    }
}

/// Takes failures of counters back that a commit message accepts. What was measured in rounds is not accepted by words.
pub fn accept(findings: &mut [Finding], reasons: &[String]) {
    if reasons.is_empty() {
        return;
    }
    for finding in findings {
        if finding.verdict == Verdict::Fail {
            finding.verdict = Verdict::Accepted;
        }
    }
}

/// The reasons in commit messages: what follows `bench-accept:` on a line of its own.
pub fn accepted_reasons(messages: &str) -> Vec<String> {
    let lines = messages
        .lines()
        .filter_map(|line| line.strip_prefix("bench-accept:"));
    lines
        .map(|reason| reason.trim().to_owned())
        .filter(|reason| !reason.is_empty())
        .collect()
}

/// The exit code of a gate: 3 for a loss, 1 where something could not be judged, else 0.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Fail) => 3,
        Some(Verdict::Unknown) | None => 1,
        Some(Verdict::Pass | Verdict::Accepted | Verdict::Warn) => 0,
    }
}

/// The findings as a table, a line each.
pub fn table(findings: &[Finding]) -> String {
    let mut text = format!(
        "{:9} {:16} {:28} {:>14} {:>14}  change\n",
        "verdict", "of", "what", "base", "head"
    );
    for finding in findings {
        let Finding {
            place,
            what,
            base,
            head,
            change,
            verdict,
        } = finding;
        text += &format!("{verdict:9} {place:16} {what:28} {base:>14} {head:>14}  {change}\n");
    }
    text
}

fn change_of(base: f64, head: f64) -> String {
    let change = head - base;
    if base > 0.0 {
        format!("{change:+.3} ({:+.2} %)", change / base * 100.0)
    } else {
        format!("{change:+.3}")
    }
}

const IDLE_BYTES_MAX: f64 = 64.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn check_counter(counter: Counter, base: f64, head: f64, expected: Verdict) {
        let (base, head) = (Reading::Value(base), Reading::Value(head));
        let finding = judge_counter("hp-epoll", counter, &base, &head);
        assert_eq!(finding.verdict, expected, "{finding:?}");
    }

    #[test]
    fn counters_fail_beyond_their_tolerance() {
        use Counter::{Allocations, IdleBytes, Instructions, MinorFaults, Switches, Syscalls};
        use Verdict::{Fail, Pass, Warn};
        for (counter, base, head, expected) in [
            (Syscalls, 6.0, 6.0, Pass),
            (Syscalls, 6.0, 6.009, Pass),
            (Syscalls, 6.0, 6.02, Fail),
            (Syscalls, 6.0, 7.0, Fail),
            (Syscalls, 6.0, 5.0, Pass),
            (Allocations, 0.0, 0.0, Pass),
            (Allocations, 0.0, 0.005, Pass),
            (Allocations, 0.0, 1.0, Fail),
            (Instructions, 10_000.0, 10_049.0, Pass),
            (Instructions, 10_000.0, 10_051.0, Fail),
            (Instructions, 10_000.0, 9_000.0, Pass),
            (IdleBytes, 240.0, 270.0, Pass),
            (IdleBytes, 240.0, 273.0, Fail),
            (IdleBytes, 2_000.0, 2_060.0, Pass),
            (IdleBytes, 2_000.0, 2_065.0, Fail),
            (Switches, 2.0, 2.1, Pass),
            (Switches, 2.0, 3.0, Warn),
            (MinorFaults, 0.0, 1.0, Warn),
        ] {
            check_counter(counter, base, head, expected);
        }
    }

    #[test]
    fn what_one_side_alone_has_is_unknown() {
        let value = Reading::Value(1.0);
        let missing = Reading::Missing("strace is not installed".into());
        for (base, head, expected) in [
            (&value, &missing, Verdict::Unknown),
            (&missing, &value, Verdict::Unknown),
            (&missing, &missing, Verdict::Pass),
        ] {
            let finding = judge_counter("hp-epoll", Counter::Syscalls, base, head);
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn a_ratio_fails_when_its_whole_interval_is_beyond_the_limit_and_the_control() {
        let interval = |low, mid, high| Interval { low, mid, high };
        let quiet = interval(0.99, 1.0, 1.01);
        for (head, control, expected) in [
            (interval(0.98, 1.0, 1.02), quiet, Verdict::Pass),
            (interval(1.01, 1.03, 1.05), quiet, Verdict::Warn),
            (interval(1.021, 1.03, 1.05), quiet, Verdict::Fail),
            (interval(0.7, 0.8, 0.9), quiet, Verdict::Pass),
            (
                interval(1.03, 1.05, 1.06),
                interval(0.97, 1.0, 1.04),
                Verdict::Warn,
            ),
            (
                interval(1.05, 1.08, 1.1),
                interval(0.97, 1.0, 1.04),
                Verdict::Fail,
            ),
        ] {
            let ratio = Ratio {
                limit: 1.02,
                head,
                control,
            };
            assert_eq!(judge_ratio(&ratio), expected, "{ratio:?}");
        }
    }

    fn failing() -> Vec<Finding> {
        let base = Counters::from([(Counter::Allocations, Reading::Value(0.0))]);
        let head = Counters::from([
            (Counter::Allocations, Reading::Value(1.0)),
            (Counter::Syscalls, Reading::Value(9.0)), // The base was not asked for it.
        ]);
        judge_counters("hp-epoll", &base, &head)
    }

    #[test]
    fn a_loss_is_exit_code_3_unless_a_commit_accepts_it() {
        let mut findings = failing();
        assert_eq!((findings.len(), exit_code(&findings)), (1, 3));
        let value = |value| Counters::from([(Counter::Syscalls, Reading::Value(value))]);
        assert_eq!(losses(&value(6.0), &value(7.0)), [Counter::Syscalls]);
        assert_eq!(losses(&value(6.0), &value(6.0)), []);
        accept(&mut findings, &[]);
        assert_eq!(exit_code(&findings), 3);
        let message = "pool: remember more\n\nbench-accept: one box for each request, for now\n";
        let reasons = accepted_reasons(message);
        assert_eq!(reasons, ["one box for each request, for now"]);
        accept(&mut findings, &reasons);
        assert_eq!(findings[0].verdict, Verdict::Accepted);
        assert_eq!(exit_code(&findings), 0);
        assert!(table(&findings).contains("accepted  hp-epoll"));
    }

    #[test]
    fn an_acceptance_without_a_reason_is_none() {
        assert!(accepted_reasons("bench-accept:\nwe talk of bench-accept: nothing\n").is_empty());
        assert_eq!(exit_code(&[]), 1);
    }
}
