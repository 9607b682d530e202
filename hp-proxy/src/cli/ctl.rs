//! The words that ask a running proxy to change something, or how its endpoints are.

use super::{Refusal, resolve};
use crate::admin::client::{self, AskError, Question, Reply};
use crate::admin::order::escape;
use crate::config::units;
use crate::upstream::balance::member::WEIGHT_MAX;
use clap::{Args, Subcommand, ValueEnum};
use hp_core::obs::notice::say;
use hp_core::rt::net::Address;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// What is asked, and whom.
#[derive(Debug, Args)]
#[command(arg_required_else_help = false)]
pub(super) struct Ctl {
    /// Where the running proxy's admin listener is: HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR")]
    admin: String,
    /// Print what it answers as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// How long the answer is waited for; what was asked may be done all the same. A reload looks up names, and waits for workers.
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
    #[command(subcommand)]
    word: Word,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Show upstreams with their endpoints: standing, weight, requests in flight, idle connections.
    Upstreams,
    /// Give an upstream one more endpoint.
    Add {
        #[command(flatten)]
        of: Endpoint,
        /// Its share beside the others', 0 to 1000.
        #[arg(long, value_name = "N", value_parser = weight())]
        weight: Option<u32>,
        /// Used while none with a lower number can be, 0 to 1000.
        #[arg(long, value_name = "N", value_parser = weight())]
        priority: Option<u32>,
        /// Used while none can be that is no backup.
        #[arg(long)]
        backup: bool,
        /// How long its share grows, e.g. 30s.
        #[arg(long, value_name = "TIME")]
        slow_start: Option<String>,
        #[command(flatten)]
        hold: Hold,
    },
    /// Take an endpoint away; what is in flight there is finished.
    Remove {
        #[command(flatten)]
        of: Endpoint,
        #[command(flatten)]
        hold: Hold,
    },
    /// Give an endpoint another weight.
    Weight {
        #[command(flatten)]
        of: Endpoint,
        /// 0 to 1000; 0: only what is bound to it.
        #[arg(value_parser = weight())]
        weight: u32,
        #[command(flatten)]
        hold: Hold,
    },
    /// Give an endpoint only what a sticky cookie binds to it.
    Drain {
        #[command(flatten)]
        of: Endpoint,
        #[command(flatten)]
        hold: Hold,
    },
    /// Give an endpoint no requests at all; what is in flight there is finished.
    Out {
        #[command(flatten)]
        of: Endpoint,
        #[command(flatten)]
        hold: Hold,
    },
    /// Give an endpoint requests again.
    Resume {
        #[command(flatten)]
        of: Endpoint,
        #[command(flatten)]
        hold: Hold,
    },
    /// Answer a route with 503, or serve it again.
    Maintenance {
        /// on or off.
        switch: Switch,
        /// The route's name, as print-plan shows it.
        route: String,
        #[command(flatten)]
        hold: Hold,
    },
    /// Read the configuration file again.
    Reload {
        /// Keep all changes that were made since it was read.
        #[arg(long)]
        keep: bool,
    },
}

#[derive(Debug, Args)]
struct Endpoint {
    /// The upstream's name.
    upstream: String,
    /// The endpoint as the file names it: HOST:PORT or unix:PATH.
    address: String,
}

#[derive(Clone, Copy, Debug, Args)]
struct Hold {
    /// Let the change outlive a reload.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn weight() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=i64::from(WEIGHT_MAX))
}

/// Asks, and tells what came of it.
///
/// # Errors
/// [`Refusal`]: nobody answers at the address, or the answer is no.
pub(super) fn run(ctl: Ctl) -> Result<String, Refusal> {
    let address = resolve("--admin", &ctl.admin)?;
    let (awaited, kind) = (awaited(&ctl.word), kind(&ctl.word));
    let Request {
        method,
        target,
        body,
    } = request(ctl.word);
    let question = Question {
        method,
        target: &target,
        body: &body,
        timeout: ctl.timeout,
    };
    let whom = format!("--admin {}", ctl.admin);
    let reply = tell_and_ask((&address, &whom), question, awaited, LONGER)?;
    let Some(text) = kind.read(&reply.body) else {
        return Err(failed(&whom, &AskError::Body));
    };
    Ok(if ctl.json { reply.body } else { text })
}

/// What a proxy answers with when it has done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// JSON with a list of this name.
    List(&'static str),
    /// A line for each difference, the first one of the plan.
    Difference,
}

impl Told {
    /// The answer, for people; `None` where no proxy says such a thing. Any web server answers, and has done nothing.
    fn read(self, body: &str) -> Option<String> {
        match self {
            Self::List(name) => {
                let told: Value = serde_json::from_str(body).ok()?;
                told.get(name)?.as_array()?;
                Some(table(&told))
            }
            Self::Difference => {
                let signs = ["+ ", "- ", "~ ", "nothing changes\n"];
                let is_ours = signs.iter().any(|sign| body.starts_with(sign));
                is_ours.then(|| body.to_owned())
            }
        }
    }
}

fn kind(word: &Word) -> Told {
    match word {
        Word::Upstreams => Told::List("upstreams"),
        Word::Reload { .. } => Told::Difference,
        _ => Told::List("changes"),
    }
}

/// What a proxy does before it answers.
fn awaited(word: &Word) -> &'static str {
    match word {
        Word::Reload { .. } => "it reads its file, looks names up, and waits for its workers",
        _ => BUSY,
    }
}

/// Asks the admin listener at an address, which the user knows under this name, for what is at a path.
///
/// # Errors
/// [`Refusal::Failed`], for an answer with an error status, too.
pub(super) fn ask(address: &Address, whom: &str, path: &str) -> Result<Reply, Refusal> {
    let question = Question {
        method: "GET",
        target: path,
        body: "",
        timeout: PATIENCE,
    };
    tell_and_ask((address, whom), question, BUSY, "")
}

/// Tells what is waited for where the answer does not come at once. `longer` says how to wait for longer.
fn tell_and_ask(
    (address, whom): (&Address, &str),
    question: Question<'_>,
    awaited: &str,
    longer: &str,
) -> Result<Reply, Refusal> {
    let timeout = question.timeout;
    let waits = || {
        say(format_args!(
            "hp-proxy: {whom} has not answered yet: {awaited}; waiting for up to {timeout:?}"
        ));
    };
    let reply = client::ask(address, question, waits);
    let reply = reply.map_err(|error| match error {
        AskError::Timeout => Refusal::Failed(format!(
            "{whom}: no answer came within {timeout:?}; what was asked may be done all the same: its log tells{longer}"
        )),
        error => failed(whom, &error),
    })?;
    match reply.status {
        200 => Ok(reply),
        ..400 => Err(failed(whom, &AskError::Body)), // No proxy of ours answers so.
        status => Err(Refusal::Failed(format!(
            "{status}: {}",
            reason(&reply.body)
        ))),
    }
}

fn failed(whom: &str, error: &AskError) -> Refusal {
    Refusal::Failed(format!(
        "{whom}: {error}; is hp-proxy running with this admin address?"
    ))
}

/// What the proxy says of a refusal, in one line.
fn reason(body: &str) -> String {
    let told: Option<Value> = serde_json::from_str(body).ok();
    let errors = told.as_ref().and_then(|told| told.get("error")?.as_str());
    errors.unwrap_or(body).trim().replace('\n', "; ")
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: &'static str,
    target: String,
    /// JSON, or nothing.
    body: String,
}

fn request(word: Word) -> Request {
    match word {
        Word::Upstreams => Request {
            method: "GET",
            target: String::from("/upstreams"),
            body: String::new(),
        },
        Word::Add {
            of,
            weight,
            priority,
            backup,
            slow_start,
            hold,
        } => {
            let mut body = Map::new();
            body.insert(String::from("address"), json!(of.address));
            body.extend(weight.map(|weight| (String::from("weight"), json!(weight))));
            body.extend(priority.map(|number| (String::from("priority"), json!(number))));
            body.extend(backup.then(|| (String::from("backup"), json!(true))));
            body.extend(slow_start.map(|time| (String::from("slow_start"), json!(time))));
            body.insert(String::from("keep"), json!(hold.keep));
            Request {
                method: "POST",
                target: format!("/upstreams/{}/endpoints", escape(&of.upstream)),
                body: Value::Object(body).to_string(),
            }
        }
        Word::Remove { of, hold } => {
            let keep = if hold.keep { "?keep=true" } else { "" };
            Request {
                method: "DELETE",
                target: format!("{}{keep}", path(&of)),
                body: String::new(),
            }
        }
        Word::Weight { of, weight, hold } => {
            patch(&of, &json!({ "weight": weight, "keep": hold.keep }))
        }
        Word::Drain { of, hold } => stand(&of, "drain", hold),
        Word::Out { of, hold } => stand(&of, "out", hold),
        Word::Resume { of, hold } => stand(&of, "active", hold),
        Word::Maintenance {
            switch,
            route,
            hold,
        } => Request {
            method: "POST",
            target: format!("/routes/{}/maintenance", escape(&route)),
            body: json!({ "on": switch == Switch::On, "keep": hold.keep }).to_string(),
        },
        Word::Reload { keep } => Request {
            method: "POST",
            target: String::from(if keep { "/reload?keep=true" } else { "/reload" }),
            body: String::new(),
        },
    }
}

fn path(of: &Endpoint) -> String {
    let (upstream, endpoint) = (escape(&of.upstream), escape(&of.address));
    format!("/upstreams/{upstream}/endpoints/{endpoint}")
}

fn stand(of: &Endpoint, standing: &str, hold: Hold) -> Request {
    patch(of, &json!({ "standing": standing, "keep": hold.keep }))
}

fn patch(of: &Endpoint, body: &Value) -> Request {
    Request {
        method: "PATCH",
        target: path(of),
        body: body.to_string(),
    }
}

/// What was answered, for people.
fn table(told: &Value) -> String {
    let Some(upstreams) = told.get("upstreams").and_then(Value::as_array) else {
        return lines(told);
    };
    let text = |value: &Value, key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let mut out = String::new();
    for upstream in upstreams {
        let mut told = writeln!(out, "{}", text(upstream, "name"));
        let endpoints = upstream.get("endpoints").and_then(Value::as_array);
        for endpoint in endpoints.into_iter().flatten() {
            told = told.and_then(|()| {
                writeln!(
                    out,
                    "  {:<24} {:<6} weight {:>4}  in flight {:>5}  idle {:>5}",
                    text(endpoint, "address"),
                    text(endpoint, "standing"),
                    text(endpoint, "weight"),
                    text(endpoint, "in_flight"),
                    text(endpoint, "idle_conns"),
                )
            });
        }
        debug_assert!(told.is_ok(), "a String takes everything");
    }
    out
}

/// A line for each thing that was done.
fn lines(told: &Value) -> String {
    let changes = told.get("changes").and_then(Value::as_array);
    let each = changes.into_iter().flatten().filter_map(Value::as_str);
    let all: String = each.map(|line| format!("{line}\n")).collect();
    if all.is_empty() {
        String::from("done\n")
    } else {
        all
    }
}

/// What it does before it answers anything else.
const BUSY: &str = "it has something else to do first";
const LONGER: &str = ", and --timeout TIME waits longer";
/// As long as `--timeout` unless that says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ctl: Ctl,
    }

    fn asked(words: &str) -> Result<Request, clap::Error> {
        let line = format!("ctl --admin 127.0.0.1:1 {words}");
        Line::try_parse_from(line.split_whitespace()).map(|line| request(line.ctl.word))
    }

    #[test]
    fn each_word_is_a_request() {
        let endpoint = "/upstreams/web/endpoints/127.0.0.1:2";
        let rows = [
            ("upstreams", "GET", "/upstreams", ""),
            (
                "add web unix:/run/a --weight 3 --keep",
                "POST",
                "/upstreams/web/endpoints",
                r#"{"address":"unix:/run/a","keep":true,"weight":3}"#,
            ),
            ("remove web 127.0.0.1:2", "DELETE", endpoint, ""),
            (
                "weight web 127.0.0.1:2 0",
                "PATCH",
                endpoint,
                r#"{"keep":false,"weight":0}"#,
            ),
            (
                "drain web 127.0.0.1:2",
                "PATCH",
                endpoint,
                r#"{"keep":false,"standing":"drain"}"#,
            ),
            (
                "out web 127.0.0.1:2 --keep",
                "PATCH",
                endpoint,
                r#"{"keep":true,"standing":"out"}"#,
            ),
            (
                "resume web 127.0.0.1:2",
                "PATCH",
                endpoint,
                r#"{"keep":false,"standing":"active"}"#,
            ),
            (
                "maintenance on /old/...",
                "POST",
                "/routes/%2Fold%2F.../maintenance",
                r#"{"keep":false,"on":true}"#,
            ),
            ("reload --keep", "POST", "/reload?keep=true", ""),
        ];
        for (words, method, target, body) in rows {
            let request = asked(words).unwrap();
            let expected = Request {
                method,
                target: target.to_owned(),
                body: body.to_owned(),
            };
            assert_eq!(request, expected, "{words}");
        }
    }

    #[test]
    fn what_is_no_word_is_misuse() {
        for words in [
            "",
            "add web",
            "weight web a:1",
            "weight web a:1 1001",
            "weight web a:1 -1",
            "maintenance maybe x",
            "drain web a:1 b:1",
        ] {
            assert!(asked(words).is_err(), "{words}");
        }
    }

    #[test]
    fn answers_are_shown_for_people() {
        let told = json!({ "upstreams": [{ "name": "web", "endpoints": [{
            "address": "127.0.0.1:2", "standing": "drain", "weight": 3, "in_flight": 1, "idle_conns": 20,
        }] }] });
        assert_eq!(
            table(&told),
            "web\n  127.0.0.1:2              drain  weight    3  in flight     1  idle    20\n"
        );
        assert_eq!(table(&json!({})), "done\n");
        assert_eq!(table(&json!({ "changes": ["a", "b"] })), "a\nb\n");
        assert_eq!(reason("{\"error\": \"no\\nway\"}"), "no; way");
        assert_eq!(reason("plain\n"), "plain");
    }
}
