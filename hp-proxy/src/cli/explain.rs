//! Which route takes a request, and why the others do not, for people.

use crate::config::plan::{Action, Plan};
use crate::config::show::percent_text;
use crate::route::rule::{Refused, Rule};
use crate::route::table::Verdict;
use crate::route::{Facts, RouteId, path};
use hp_core::wire::http1::head::{HeaderScratch, Parse};
use hp_core::wire::http1::request::parse_request;
use std::fmt::Write;
use std::net::IpAddr;

/// Explains a request in words: `GET http://host/path?query -H name:value --from 192.0.2.1`.
///
/// # Errors
/// What is wrong with the request, in a line.
pub(super) fn explain(plan: &Plan, words: &str) -> Result<String, String> {
    let asked = Asked::read(words)?;
    let mut scratch = HeaderScratch::new();
    let parsed = parse_request(asked.head.as_bytes(), &plan.limits.head, &mut scratch);
    let head = match parsed {
        Ok(Parse::Complete(head)) => head,
        Ok(Parse::Partial) => return Err(format!("{words:?} is no whole request")),
        Err(error) => {
            return Err(format!(
                "{words:?} is refused with {}: {}",
                error.status(),
                error.reason()
            ));
        }
    };
    let path = path::normal(head.target.path());
    let facts = Facts {
        host: head.authority.map_or(b"", |authority| authority.host()),
        path: &path,
        query: head.target.query(),
        method: head.method.as_str(),
        fields: &head.fields,
        client: Some(asked.client),
    };
    let explained = plan.table.explain(&facts);
    let mut out = format!("{} {} from {}\n", facts.method, asked.url, asked.client);
    let winner = explained
        .iter()
        .find(|(_, _, verdict)| *verdict == Verdict::Wins);
    let told = match winner {
        Some((id, ..)) => writeln!(out, "goes to {}: {}", name(plan, *id), action(plan, *id)),
        None => writeln!(out, "goes nowhere: no route takes it; the answer is 404"),
    };
    debug_assert!(told.is_ok(), "a String takes everything");
    out.push_str("routes in the order in which they win:\n");
    let whole_width = explained.iter().map(|(id, ..)| name(plan, *id).len()).max();
    let width = whole_width.unwrap_or(0).min(WIDTH_MAX);
    for (id, rule, verdict) in &explained {
        let verdict = match verdict {
            Verdict::Wins => String::from("wins"),
            Verdict::LessSpecific => {
                String::from("lost: it takes the request, but is less specific")
            }
            Verdict::Refused(refused) => format!("lost: {}", why(refused, rule, &facts)),
        };
        let told = writeln!(out, "  {:width$}  {verdict}", name(plan, *id));
        debug_assert!(told.is_ok(), "a String takes everything");
    }
    Ok(out)
}

/// A request as it was asked about.
struct Asked {
    url: String,
    head: String,
    client: IpAddr,
}

impl Asked {
    fn read(words: &str) -> Result<Self, String> {
        let (words, client) = match words.rsplit_once(" --from ") {
            None => (words, IpAddr::from([127, 0, 0, 1])),
            Some((words, from)) => {
                let client = from.trim().parse();
                (
                    words,
                    client.map_err(|_no_address| format!("--from {from}: this is no address"))?,
                )
            }
        };
        let mut parts = words.split(" -H ");
        let line = parts.next().unwrap_or_default().trim();
        let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
        let (authority, target) = match url.split_once("://") {
            Some((_, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, target) = rest.split_at(end);
                (
                    authority,
                    if target.starts_with('/') {
                        target.to_owned()
                    } else {
                        format!("/{target}")
                    },
                )
            }
            None if url.starts_with('/') || url == "*" => ("localhost", url.to_owned()),
            None => {
                return Err(format!(
                    "{url:?} is no URL; write http://HOST/PATH or /PATH"
                ));
            }
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let mut has_host = false;
        for field in parts {
            let (name, value) = field
                .split_once(':')
                .ok_or_else(|| format!("-H {field}: this is no field; write -H name:value"))?;
            has_host |= name.trim().eq_ignore_ascii_case("host");
            head += &format!("{}: {}\r\n", name.trim(), value.trim());
        }
        if !has_host {
            head += &format!("Host: {authority}\r\n");
        }
        head += "\r\n";
        Ok(Self {
            url: url.to_owned(),
            head,
            client,
        })
    }
}

fn name(plan: &Plan, id: RouteId) -> &str {
    plan.routes
        .get(id.0 as usize)
        .map_or("", |route| &route.name)
}

/// What a route does, in words.
fn action(plan: &Plan, id: RouteId) -> String {
    let route = plan.routes.get(id.0 as usize);
    match route.map(|route| &route.action) {
        Some(Action::Forward(split)) => {
            let shares: Vec<(u32, u32)> = split.shares().collect();
            let total: u32 = shares.iter().map(|(_, weight)| weight).sum();
            let one = |(upstream, weight): &(u32, u32)| {
                let name = plan
                    .upstreams
                    .get(*upstream as usize)
                    .map_or("", |upstream| &upstream.name);
                if shares.len() == 1 {
                    format!("upstream {name}")
                } else {
                    format!("upstream {name} ({weight} of {total})")
                }
            };
            let mut told = shares.iter().map(one).collect::<Vec<_>>().join(", ");
            if let Some(mirror) = route.and_then(|route| route.mirror.as_ref()) {
                let shadow = plan.upstreams.get(mirror.upstream as usize);
                let name = shadow.map_or("", |upstream| &upstream.name);
                told += &format!(
                    "; {} % are copied to upstream {name}",
                    percent_text(mirror.share_millionths)
                );
            }
            told
        }
        Some(Action::Redirect { status, to }) => format!("a redirect with {status} to {to}"),
        Some(Action::Answer { status, .. }) => format!("an answer with {status}"),
        Some(Action::Maintenance) | None => String::from("503, closed for maintenance"),
    }
}

fn why(refused: &Refused<'_>, rule: &Rule, facts: &Facts<'_>) -> String {
    match refused {
        Refused::Host => format!("its host is {}", rule.host),
        Refused::Path => format!("its path is {}", rule.path),
        Refused::Method => format!("it takes {}, not {}", rule.methods.join(", "), facts.method),
        Refused::Header(name) => format!("the field {name} is not as it asks"),
        Refused::Query(key) => format!("the parameter {key} is not as it asks"),
        Refused::ClientIp => String::from("the client is in none of its networks"),
    }
}

/// Longer names push their verdict to the right.
const WIDTH_MAX: usize = 40;
