//! A run while it goes on, on stderr: a line each second, or a panel on a terminal.
//!
//! Drawing costs time on the machine that measures, so nothing is drawn more than once a second, and
//! by the thread that waits anyway.
//!
//! Must not know: where the numbers come from.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format::{Unit, float, thousands};
use crate::output::{Output, ProgressForm};
use crate::result::Second;

/// Shows seconds as they come.
#[derive(Debug)]
pub struct Progress {
    form: Form,
    seconds_planned: u64,
}

#[derive(Debug)]
enum Form {
    Nothing,
    Lines,
    Panel {
        bar: ProgressBar,
        /// The last seconds, oldest first; at most [`SPARKS`].
        seen: VecDeque<Second>,
        errors: u64,
    },
}

impl Progress {
    /// In the form that is asked for and possible.
    pub fn new(output: &Output, planned: Duration) -> Self {
        let seconds_planned = planned.as_secs(); // A part of one is not shown.
        let is_terminal = io::stderr().is_terminal();
        let form = match chosen(output, is_terminal) {
            ProgressForm::None => Form::Nothing,
            ProgressForm::Tty | ProgressForm::Auto => panel(seconds_planned),
            ProgressForm::Line => Form::Lines,
        };
        Self {
            form,
            seconds_planned,
        }
    }

    /// Shows a second that is over; what comes after the last whole one is a part of one.
    pub fn show(&mut self, second: &Second) {
        if second.t > self.seconds_planned {
            return;
        }
        match &mut self.form {
            Form::Nothing => (),
            Form::Lines => match writeln!(io::stderr(), "{}", line(second, self.seconds_planned)) {
                Ok(()) => (),
                Err(_unheard) => self.form = Form::Nothing,
            },
            Form::Panel { bar, seen, errors } => {
                *errors = errors.saturating_add(second.err);
                if seen.len() == SPARKS {
                    seen.pop_front();
                }
                seen.push_back(second.clone());
                bar.set_message(rows(seen, *errors));
                bar.set_position(second.t);
            }
        }
    }

    /// Takes the panel away.
    pub fn end(&mut self) {
        if let Form::Panel { bar, .. } = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn chosen(output: &Output, is_terminal: bool) -> ProgressForm {
    match output.progress {
        None if output.quiet => ProgressForm::None,
        None | Some(ProgressForm::Auto | ProgressForm::Tty) if is_terminal => ProgressForm::Tty,
        None | Some(ProgressForm::Auto | ProgressForm::Tty) => ProgressForm::Line,
        Some(form) => form,
    }
}

fn panel(seconds_planned: u64) -> Form {
    let style = ProgressStyle::with_template("{msg}\n  {bar:40} {pos}/{len} s")
        .expect("the template is a constant");
    let target = ProgressDrawTarget::stderr_with_hz(4);
    let bar = ProgressBar::with_draw_target(Some(seconds_planned), target);
    bar.set_style(style.progress_chars("#>."));
    Form::Panel {
        bar,
        seen: VecDeque::new(),
        errors: 0,
    }
}

/// `  3.0s       48,260/s  p50 2.04 p99 3.12 ms  err 0  [###.......]`
fn line(second: &Second, seconds_planned: u64) -> String {
    let done = (second.t.saturating_mul(BAR) / seconds_planned.max(1)).min(BAR);
    let bar: String = (0..BAR)
        .map(|idx| if idx < done { '#' } else { '.' })
        .collect();
    let unit = Unit::of(float(second.p50));
    format!(
        "{:>5}.0s {:>12}/s  p50 {} p99 {} {}  err {}  [{bar}]",
        second.t,
        thousands(second.n),
        unit.show(float(second.p50)),
        unit.show(float(second.p99)),
        unit.name,
        thousands(second.err),
    )
}

/// The panel's rows above its bar.
fn rows(seen: &VecDeque<Second>, errors: u64) -> String {
    let Some(last) = seen.back() else {
        return String::new();
    };
    let unit = Unit::of(float(last.p50));
    format!(
        "  rate    {} {}/s\n  latency p50 {} p99 {} max {} {}\n  errors  {}   send lag p99 {:.1} us",
        sparks(seen.iter().map(|second| second.n)),
        thousands(last.n),
        unit.show(float(last.p50)),
        unit.show(float(last.p99)),
        unit.show(float(last.max)),
        unit.name,
        thousands(errors),
        float(last.lag_p99) / 1e3,
    )
}

/// Heights from nothing to the largest, an eighth each.
fn sparks(numbers: impl Iterator<Item = u64> + Clone) -> String {
    let largest = numbers.clone().max().unwrap_or(0).max(1);
    let heights = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = heights.len() as u64 - 1;
    numbers
        .filter_map(|number| {
            let height = u128::from(number) * u128::from(top) / u128::from(largest);
            heights.get(usize::try_from(height).ok()?).copied()
        })
        .collect()
}

/// Characters of the bar on a line.
const BAR: u64 = 10;
/// Seconds in the panel.
const SPARKS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn second(t: u64, n: u64) -> Second {
        Second {
            t,
            n,
            err: 1,
            p50: 2_040_000,
            p99: 3_120_000,
            max: 5_000_000,
            lag_p99: 12_300,
            ..Second::default()
        }
    }

    #[test]
    fn second_is_one_line() {
        assert_eq!(
            line(&second(3, 48_260), 10),
            "    3.0s       48,260/s  p50 2.04 p99 3.12 ms  err 1  [###.......]"
        );
        assert!(line(&second(99, 1), 10).ends_with("[##########]"));
        assert!(line(&Second::default(), 0).ends_with("[..........]"));
    }

    #[test]
    fn panel_shows_the_last_seconds() {
        let seen: VecDeque<Second> = (0..=7).map(|n| second(n, n * 100)).collect();
        assert_eq!(
            rows(&seen, 8),
            "  rate    ▁▂▃▄▅▆▇█ 700/s\n  latency p50 2.04 p99 3.12 max 5.00 ms\n  errors  8   send lag \
             p99 12.3 us"
        );
        assert_eq!(rows(&VecDeque::new(), 0), "");
    }

    #[test]
    fn panel_keeps_a_bounded_past_and_draws_nothing_off_a_terminal() {
        let mut progress = Progress {
            form: panel(10),
            seconds_planned: 10,
        };
        for t in 0..1_000 {
            progress.show(&second(t % 10, u64::MAX));
        }
        let Form::Panel { seen, errors, .. } = &progress.form else {
            panic!("the form stays");
        };
        assert_eq!((seen.len(), *errors), (SPARKS, 1_000));
        progress.end();
    }

    #[test]
    fn form_follows_the_terminal_and_the_flags() {
        let of = |progress, quiet| Output {
            progress,
            quiet,
            ..Output::default()
        };
        let (tty, line) = (ProgressForm::Tty, ProgressForm::Line);
        for (asked, quiet, is_terminal, want) in [
            (None, false, true, tty),
            (None, false, false, line),
            (None, true, true, ProgressForm::None),
            (Some(ProgressForm::Auto), true, true, tty),
            (Some(tty), false, false, line),
            (Some(line), false, true, line),
            (Some(ProgressForm::None), false, true, ProgressForm::None),
        ] {
            assert_eq!(chosen(&of(asked, quiet), is_terminal), want, "{asked:?}");
        }
    }
}
