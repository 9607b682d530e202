//! Whether a configuration file can be used: everything that is wrong with it or risky in it, names that do not resolve
//! included.

use super::Refusal;
use crate::config::load;
use crate::config::names::{Place, Resolve, Source};
use crate::config::plan::Plan;
use crate::config::problem::Report;
use crate::resolver;
use crate::upstream::discovery::book::Notice;
use crate::upstream::discovery::lookup::Failure;
use crate::upstream::discovery::{Answers, Target};
use hp_core::obs::notice::say;
use std::collections::BTreeMap;
use std::path::Path;

/// Tells warnings; gives the line that says what the file comes to.
///
/// # Errors
/// [`Refusal::Config`] with all that is wrong; with `is_strict`, names that do not resolve are wrong, too.
pub(super) fn check(file: &Path, is_strict: bool) -> Result<String, Refusal> {
    let (plan, mut report) = load(file);
    let Some(plan) = plan else {
        return Err(Refusal::Config(report));
    };
    let lost = look_up(&plan, &mut report)?;
    for (target, why) in &lost {
        if is_strict {
            report.refuse_name(target, why);
        } else {
            report.warn_of_name(target, why);
        }
    }
    for warning in report.warnings() {
        say(format_args!("warning: {warning}"));
    }
    if report.errors().is_empty() {
        Ok(describe(file, &plan))
    } else {
        Err(Refusal::Config(report))
    }
}

/// Looks all names up; gives those of the file that do not resolve, each with what is wrong.
fn look_up(plan: &Plan, report: &mut Report) -> Result<BTreeMap<Target, String>, Refusal> {
    let targets = plan.targets();
    let mut lost = BTreeMap::new();
    if targets.is_empty() {
        return Ok(lost);
    }
    let update = resolver::look_up(&plan.dns, targets.clone());
    let update = update.map_err(|error| Refusal::Failed(error.to_string()))?;
    let (answers, notices) =
        update.map_or_else(Default::default, |update| (update.answers, update.notices));
    for target in targets {
        if !is_found(&target, &answers) {
            lost.insert(target, Failure::Silent.to_string());
        }
    }
    for notice in notices {
        let Notice::Lost { target, why, .. } = notice else {
            continue;
        };
        // A host that only a service names is told where the service stands.
        let services = answers.services.iter().filter(|(_, services)| {
            let mut hosts = services
                .iter()
                .map(crate::upstream::discovery::book::host_of);
            hosts.any(|host| Target::Host(host) == target)
        });
        for (service, _) in services {
            lost.insert(Target::Service(service.clone()), format!("{target}: {why}"));
        }
        if lost.contains_key(&target) {
            lost.insert(target, why.to_string());
        }
    }
    let sources = plan.upstreams.iter().flat_map(|upstream| &upstream.sources);
    sources.for_each(|source| warn_of_idle(source, &answers, report));
    Ok(lost)
}

fn is_found(target: &Target, answers: &Answers) -> bool {
    match target {
        Target::Host(host) => !answers.host(host).is_empty(),
        Target::Service(name) => !answers.service(name).is_empty(),
    }
}

/// Several addresses of a family are more likely several servers than several ways to one.
fn warn_of_idle(source: &Source, answers: &Answers, report: &mut Report) {
    let Place::Host {
        host,
        resolve: Resolve::Happy,
        ..
    } = &source.place
    else {
        return;
    };
    let addrs = answers.host(host);
    let v4 = addrs.iter().filter(|addr| addr.is_ipv4()).count();
    let most = v4.max(addrs.len() - v4);
    if most > 1 {
        let reason = format!(
            "it has {most} addresses of one family, of which one is used at a time; write resolve = \"each\" where each is a server"
        );
        report.warn_of_name(&Target::Host(host.clone()), &reason);
    }
}

/// What a file comes to, in a line.
fn describe(file: &Path, plan: &Plan) -> String {
    let count = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {what}{plural}")
    };
    format!(
        "{}: ok: {}, {}, {}\n",
        file.display(),
        count(plan.listeners.len(), "listener"),
        count(plan.routes.len(), "route"),
        count(plan.upstreams.len(), "upstream"),
    )
}
