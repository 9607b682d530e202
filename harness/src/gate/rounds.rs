//! What two revisions cost in CPU time and in latency: visited in turn, each visit with processes of its own, so that what
//! one process was lucky with is not its revision's.
//!
//! ```text
//! round 1:  base  head  base'  relay
//! round 2:  relay  base'  head  base      what drifts over two rounds drifts alike for all
//! round 3:  head  base'  relay  base ...
//! ```

use hp_bench::result::Document;

use super::rule::{Finding, Ratio, Verdict, judge_ratio};
use crate::counters::{Lab, Seats, Subject};
use crate::yardstick::Yardstick;
use hp_bench::statistics::{Interval, Resampler, median};

/// Who is visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The older revision.
    Base,
    /// The newer one.
    Head,
    /// The older one again.
    Control,
    /// The floor, for the reader.
    Relay,
}

/// All roles, in the order of the first round.
pub const ROLES: [Role; 4] = [Role::Base, Role::Head, Role::Control, Role::Relay];

/// A load that revisions are compared under.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// Bytes of an answer's body.
    pub body_bytes: u32,
    /// Flags of hp-bench but for the length.
    flags: &'static [&'static str],
    /// Whether the latency is judged, too.
    at_rate: bool,
}

/// The loads by their names.
pub const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "small",
        body_bytes: 1024,
        flags: &["-c", "100"],
        at_rate: false,
    },
    Workload {
        name: "64k",
        body_bytes: 65_536,
        flags: &["-c", "16"],
        at_rate: false,
    },
    Workload {
        name: "churn",
        body_bytes: 13,
        flags: &["-c", "32", "--reuse", "1"],
        at_rate: false,
    },
    Workload {
        name: "latency",
        body_bytes: 13,
        flags: &["-c", "100", "-R", "10k"],
        at_rate: true,
    },
];

/// What one visit brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// CPU time of the server by complete answers, in ns.
    pub cpu_ns: f64,
    /// CPU time of a turn of the yardstick on the server's CPU meanwhile, in ns; none for a load at a rate, or where nothing is pinned.
    pub turn_ns: Option<f64>,
    /// The 99th percentile of the latency, in ns.
    pub p99_ns: f64,
}

/// The visits of one round, in the order of [`ROLES`].
pub type Round = [Visit; 4];

/// How a session is made.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Rounds of each workload.
    pub rounds: u32,
    /// Seconds of a visit, after a warm-up of a third of a second.
    pub seconds: u32,
    /// Which CPU is whose.
    pub(crate) seats: Seats,
}

/// Makes the rounds of a workload. A round with a failed visit, or with a CPU that was stolen, is made again, thrice at most.
///
/// # Errors
/// One line of the last attempt's failure.
pub fn run(
    session: &Session,
    workload: &Workload,
    subject_of: impl Fn(Role) -> Subject,
    mut say: impl FnMut(&str),
) -> Result<Vec<Round>, String> {
    let mut rounds = Vec::new();
    for number in 0..session.rounds {
        let mut attempts = 0;
        let round = loop {
            attempts += 1;
            match visit_all(session, workload, number, &subject_of) {
                Ok(round) => break round,
                Err(reason) if attempts == ATTEMPTS_MAX => return Err(reason),
                Err(reason) => say(&format!("{}: again: {reason}", workload.name)),
            }
        };
        say(&line_of(workload, number + 1, &round));
        rounds.push(round);
    }
    Ok(rounds)
}

fn visit_all(
    session: &Session,
    workload: &Workload,
    number: u32,
    subject_of: &impl Fn(Role) -> Subject,
) -> Result<Round, String> {
    let nothing = Visit {
        cpu_ns: 0.0,
        turn_ns: None,
        p99_ns: 0.0,
    };
    let mut round = [nothing; 4];
    for place in order(number) {
        let Some((role, slot)) = ROLES.iter().zip(&mut round).nth(place) else {
            continue;
        };
        let subject = Subject {
            body_bytes: workload.body_bytes,
            ..subject_of(*role)
        };
        let lab = Lab::start(&subject, session.seats, &[])?;
        let length = format!("{}s", session.seconds);
        let size = workload.body_bytes.to_string();
        let rest = ["-d", &length, "--warmup", "300ms", "--expect-size", &size];
        let flags: Vec<&str> = workload.flags.iter().copied().chain(rest).collect();
        let cpu = session.seats.server.filter(|_cpu| !workload.at_rate);
        let yardstick = cpu.and_then(|cpu| Yardstick::lay(&[cpu]).ok());
        let document = lab.measure(&flags)?;
        *slot = read(&document, yardstick.and_then(Yardstick::read))?;
    }
    Ok(round)
}

/// The places of a round: odd rounds turn the order of the round before, and each pair begins with another one.
fn order(number: u32) -> [usize; 4] {
    let mut places = [0, 1, 2, 3];
    places.rotate_left((number as usize / 2) % 4);
    if number % 2 == 1 {
        places.reverse();
    }
    places
}

fn read(document: &Document, turn_ns: Option<f64>) -> Result<Visit, String> {
    let steal = document
        .machine
        .as_ref()
        .and_then(|machine| machine.steal_pct);
    if let Some(steal) = steal.filter(|&steal| steal > STEAL_PCT_MAX) {
        return Err(format!("{steal:.1} % of the CPUs went to other guests"));
    }
    let cost = document.target_cost.as_ref();
    let cpu_ns = cost
        .and_then(|cost| cost.cpu_ns)
        .filter(|&cpu_ns| cpu_ns > 0);
    let cpu_ns = cpu_ns.ok_or("hp-bench could not read the server's CPU time")?;
    let responses = document.run.responses;
    if responses == 0 {
        return Err(String::from("nothing was answered"));
    }
    let p99 = document.latency_ns.p.get("99").copied();
    Ok(Visit {
        cpu_ns: cpu_ns as f64 / responses as f64,
        turn_ns,
        p99_ns: p99.ok_or("hp-bench told no p99")? as f64,
    })
}

/// Judges a workload's rounds: CPU time, and at a rate the latency.
pub fn judge(workload: &Workload, rounds: &[Round]) -> Vec<Finding> {
    let mut findings = vec![judge_figure(
        workload,
        rounds,
        CPU_RATIO_MAX,
        "CPU us / request",
        (|visit| visit.cpu_ns, at_equal_speed(rounds)),
    )];
    if workload.at_rate {
        findings.push(judge_figure(
            workload,
            rounds,
            P99_RATIO_MAX,
            "p99 us",
            (|visit| visit.p99_ns, |visit| visit.p99_ns),
        ));
    }
    findings
}

/// What is taken of a visit.
type Figure = fn(&Visit) -> f64;

/// A visit's CPU time per answer by that of a turn of the yardstick, where every visit has one; else as it is.
fn at_equal_speed(rounds: &[Round]) -> Figure {
    let mut visits = rounds.iter().flatten();
    if visits.all(|visit| visit.turn_ns.is_some_and(|nanos| nanos > 0.0)) {
        |visit| visit.cpu_ns / visit.turn_ns.unwrap_or(1.0)
    } else {
        |visit| visit.cpu_ns
    }
}

/// The figure of each visit is shown as the first of `figures` says, and compared as the second does.
fn judge_figure(
    workload: &Workload,
    rounds: &[Round],
    limit: f64,
    what: &str,
    figures: (Figure, Figure),
) -> Finding {
    let of = |role: usize, figure: Figure| -> Vec<f64> {
        let visits = rounds.iter().filter_map(|round| round.get(role));
        visits.map(figure).collect()
    };
    let [base_shown, head_shown, relay] = [0, 1, 3].map(|role| of(role, figures.0));
    let [base, head, control] = [0, 1, 2].map(|role| of(role, figures.1));
    let micros = |values: &[f64]| {
        let middle = median(values).unwrap_or(f64::NAN);
        format!("{:.2}", middle / 1_000.0)
    };
    // The base was there twice: their middle is a better reference than one of them.
    let middle = |(one, other): (&f64, &f64)| (one * other).sqrt();
    let both: Vec<f64> = base.iter().zip(&control).map(middle).collect();
    let (verdict, change) = match (ratio(&head, &both), ratio(&control, &base)) {
        (Some(head), Some(control)) => {
            let verdict = judge_ratio(&Ratio {
                limit,
                head,
                control,
            });
            let Interval { mid, low, high } = head;
            let change = format!(
                "{mid:.3} [{low:.3}, {high:.3}], limit {limit}, A/A {:.3} [{:.3}, {:.3}], relay {}",
                control.mid,
                control.low,
                control.high,
                micros(&relay)
            );
            (verdict, change)
        }
        _ => (Verdict::Unknown, String::from("no round")),
    };
    Finding {
        place: workload.name.to_owned(),
        what: what.to_owned(),
        base: micros(&base_shown),
        head: micros(&head_shown),
        change,
        verdict,
    }
}

/// The trimmed mean of the rounds' ratios with its interval.
fn ratio(values: &[f64], references: &[f64]) -> Option<Interval> {
    let pairs = values.iter().zip(references);
    let logs: Vec<f64> = pairs
        .map(|(value, reference)| (value / reference).ln())
        .collect();
    let interval = Resampler::new(SEED).trimmed_mean(&logs)?;
    Some(interval.map(f64::exp))
}

fn line_of(workload: &Workload, number: u32, round: &Round) -> String {
    let mut line = format!("{:8} round {number:2}:", workload.name);
    for (role, visit) in ROLES.iter().zip(round) {
        let micros = visit.cpu_ns / 1_000.0;
        line += &format!("  {role:?} {micros:.2} us");
    }
    line
}

/// Of the repeatable resampling.
const SEED: u64 = 1;
const ATTEMPTS_MAX: u32 = 3;
const STEAL_PCT_MAX: f64 = 2.0;
/// How much more CPU time a request may cost.
const CPU_RATIO_MAX: f64 = 1.02;
/// How much later the slowest hundredth may be answered: latency on two shared CPUs is too noisy for less.
const P99_RATIO_MAX: f64 = 1.15;

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(head: f64, p99: f64) -> Vec<Round> {
        let visit = |factor: f64, p99: f64, number: u32| Visit {
            // Drift of the machine, common to a round, and noise of 1 % that is not.
            cpu_ns: 20_000.0 * factor * (1.0 + f64::from(number) / 10.0),
            turn_ns: None,
            p99_ns: 800_000.0 * p99,
        };
        let noise = |number: u32| 1.0 + f64::from(number * 7 % 5) / 500.0;
        (0..11)
            .map(|number| {
                [
                    visit(noise(number), 1.0, number),
                    visit(head * noise(number + 1), p99, number),
                    visit(noise(number + 2), 1.0, number),
                    visit(0.7, 0.9, number),
                ]
            })
            .collect()
    }

    fn check(workload: usize, head: f64, p99: f64, expected: &[Verdict]) {
        let findings = judge(&WORKLOADS[workload], &rounds(head, p99));
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, expected, "{findings:?}");
    }

    #[test]
    fn drift_is_no_loss_and_ten_percent_are_one() {
        check(0, 1.0, 1.0, &[Verdict::Pass]);
        check(0, 1.1, 1.0, &[Verdict::Fail]);
        check(0, 0.9, 1.0, &[Verdict::Pass]);
    }

    /// Each visit meets a machine of another speed, as its yardstick does.
    #[test]
    fn a_visit_on_a_slower_machine_is_no_loss() {
        let mut uneven = rounds(1.0, 1.0);
        for (number, visit) in uneven.iter_mut().flatten().enumerate() {
            let slowness = 1.0 + (number * 7 % 11) as f64 / 10.0;
            visit.cpu_ns *= slowness;
            visit.turn_ns = Some(20_000.0 * slowness);
        }
        let finding = &judge(&WORKLOADS[0], &uneven)[0];
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        let mut slower = uneven.clone();
        for [_base, head, ..] in &mut slower {
            head.cpu_ns *= 1.05;
        }
        let finding = &judge(&WORKLOADS[0], &slower)[0];
        assert_eq!(finding.verdict, Verdict::Fail, "{finding:?}");
        uneven[3][1].turn_ns = None; // Without one, all are taken as they are, and noise hides everything.
        let finding = &judge(&WORKLOADS[0], &uneven)[0];
        assert_ne!(finding.verdict, Verdict::Fail, "{finding:?}");
    }

    #[test]
    fn latency_is_judged_at_a_rate_only_and_by_a_wider_limit() {
        check(0, 1.0, 2.0, &[Verdict::Pass]);
        check(3, 1.0, 1.1, &[Verdict::Pass, Verdict::Pass]);
        check(3, 1.0, 1.3, &[Verdict::Pass, Verdict::Fail]);
    }

    #[test]
    fn without_rounds_nothing_is_said() {
        let findings = judge(&WORKLOADS[0], &[]);
        assert_eq!(findings[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn pairs_of_rounds_are_mirrored_and_every_role_begins_as_often() {
        for pair in 0..8 {
            let (mut one, other) = (order(pair * 2), order(pair * 2 + 1));
            one.reverse();
            assert_eq!(one, other);
        }
        for role in 0..4 {
            let firsts = (0..8).filter(|&number| order(number)[0] == role).count();
            assert_eq!(firsts, 2, "{role}");
        }
    }

    #[test]
    fn a_visit_needs_the_cost_of_the_server_and_a_cpu_that_was_its_own() {
        let mut document = Document::default();
        assert!(read(&document, None).unwrap_err().contains("CPU time"));
        document.target_cost = Some(hp_bench::result::TargetCost {
            cpu_ns: Some(30_000_000),
            ..Default::default()
        });
        assert!(
            read(&document, None)
                .unwrap_err()
                .contains("nothing was answered")
        );
        document.run.responses = 1_000;
        assert!(read(&document, None).unwrap_err().contains("p99"));
        document.latency_ns.p.insert("99".into(), 5_000);
        let visit = read(&document, None).unwrap();
        assert_eq!((visit.cpu_ns, visit.p99_ns), (30_000.0, 5_000.0));
        document.machine = Some(hp_bench::result::Machine {
            steal_pct: Some(9.0),
            ..Default::default()
        });
        assert!(read(&document, None).unwrap_err().contains("other guests"));
    }
}
