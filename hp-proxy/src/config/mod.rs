//! From what the user says to what runs, one way: text, [`file::File`], [`resolve`], [`plan::Plan`].
//!
//! Everything after the plan finds no text and no default left open.

pub mod address;
pub mod difference;
pub mod disk;
pub mod file;
pub mod forwarding;
pub mod names;
pub mod overlay;
pub mod paths;
pub mod plan;
pub mod problem;
pub mod resolve;
pub mod schema;
pub mod shape;
pub mod show;
pub mod units;
pub mod watch;

use plan::Plan;
use problem::Report;
use std::path::Path;

/// Reads a file and those that it includes, with names resolved; the plan is there when the report has no errors.
#[must_use]
pub fn load(path: &Path) -> (Option<Plan>, Report) {
    let mut report = Report::default();
    let environment = |name: &str| std::env::var(name).ok();
    let file = file::read(path, &environment, &mut report);
    let plan = resolve::resolve(&file, &mut report);
    (plan, report)
}

/// The same for a text, with an environment of one's own; for tests.
#[must_use]
pub fn load_text(
    name: &str,
    text: &str,
    environment: file::Environment<'_>,
) -> (Option<Plan>, Report) {
    let mut report = Report::default();
    let file = file::read_text(name, text, environment, &mut report);
    let plan = resolve::resolve(&file, &mut report);
    (plan, report)
}
