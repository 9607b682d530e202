//! `hp-proxy plan FILE`: what a running proxy would change if it followed the file, and what is connected where that happens.

use super::{Refusal, ctl, resolve};
use crate::config::difference::{Change, Difference, Kind, Part};
use crate::config::plan::{Plan, Serves};
use crate::config::{load_text, show};
use crate::live::Live;
use hp_core::rt::net::Address;
use serde_json::{Value, json};

/// What is told, and whether it can be done.
pub(super) struct Ahead {
    pub(super) text: String,
    pub(super) can_be_done: bool,
}

/// Asks the running proxy, and compares. `admin` is where it has its listener for operators; the file says it otherwise.
///
/// # Errors
/// [`Refusal`]: there is nobody to ask, or what it says cannot be read.
pub(super) fn look(new: Plan, admin: Option<&str>, is_json: bool) -> Result<Ahead, Refusal> {
    let addr = match admin {
        Some(text) => resolve("--admin", text)?,
        None => admin_of(&new)?,
    };
    let whom = format!("the proxy at {addr}");
    let failed = |why: String| Refusal::Failed(format!("{whom}: {why}"));
    let ask = |path| ctl::ask(&addr, &whom, path);
    let running = read(&ask("/plan")?.body).map_err(&failed)?;
    let live = ask("/connections")?.body;
    let live: Value = serde_json::from_str(&live)
        .map_err(|error| failed(format!("what it says of /connections is no JSON: {error}")))?;
    // Both without their secrets, which a running proxy does not tell.
    let mut new = read(&show::text(&new)).map_err(|why| Refusal::Failed(why.clone()))?;
    if is_made_up(new.forwarding.via.name()) && is_made_up(running.forwarding.via.name()) {
        new.forwarding.via = running.forwarding.via.clone();
    }
    let difference = Difference::between(&running, &new);
    let live = Live::of_json(&live);
    Ok(Ahead {
        text: if is_json {
            json_of(&difference, &live)
        } else {
            lines_of(&difference, &live)
        },
        can_be_done: difference.refusals.is_empty(),
    })
}

fn admin_of(plan: &Plan) -> Result<Address, Refusal> {
    let mut listeners = plan.listeners.iter();
    let admin = listeners.find(|listener| listener.serves == Serves::Admin);
    admin.map(|admin| admin.address.clone()).ok_or_else(|| {
        let message =
            "the file has no [admin] listener to ask the running proxy by; write --admin HOST:PORT";
        Refusal::Misuse(String::from(message))
    })
}

fn read(text: &str) -> Result<Plan, String> {
    let (plan, report) = load_text("plan", text, &|_name| None);
    plan.ok_or_else(|| {
        let first = report.errors().first().map(ToString::to_string);
        format!(
            "its plan cannot be read ({}); is it another version?",
            first.unwrap_or_default()
        )
    })
}

/// Whether nobody chose this name: one that the program makes up has this form.
fn is_made_up(via: &str) -> bool {
    via.strip_prefix("hp-proxy-")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn lines_of(difference: &Difference, live: &Live) -> String {
    let mut out = String::new();
    for refusal in &difference.refusals {
        out += &format!("! {refusal}\n");
    }
    for change in &difference.changes {
        out += &format!("{change}");
        if let Some((touched, what)) = touched(change, live) {
            out += &format!(" ({touched}: {what})");
        }
        out.push('\n');
    }
    if difference.is_empty() {
        out += "nothing changes\n";
    }
    out
}

fn json_of(difference: &Difference, live: &Live) -> String {
    let mut whole = difference.json();
    if let Some(Value::Array(changes)) = whole.get_mut("changes") {
        for (value, change) in changes.iter_mut().zip(&difference.changes) {
            if let (Value::Object(members), Some((touched, what))) = (value, touched(change, live))
            {
                members.insert(String::from("touches"), json!(touched));
                members.insert(String::from("effect"), json!(what));
            }
        }
    }
    format!("{whole:#}\n")
}

/// What is connected where something changes, and what becomes of it; `None` where nothing that is connected notices.
fn touched(change: &Change, live: &Live) -> Option<(String, &'static str)> {
    match (change.part, change.kind) {
        (Part::Listener, Kind::Removed) => {
            let conns = live.listeners.get(&change.name)?;
            Some((
                format!("{conns} client connections"),
                "they end with their next answer; tunnels stay",
            ))
        }
        (Part::Upstream, Kind::Removed) => {
            let of = live.of_upstream(&change.name);
            Some((conns_text(of), GOING))
        }
        (Part::Endpoint, Kind::Removed) => {
            let (upstream, endpoint) = change.name.split_once(' ')?;
            let of = live.upstreams.get(upstream)?.get(endpoint)?;
            Some((conns_text(*of), GOING))
        }
        (Part::Upstream | Part::Endpoint, Kind::Changed) => {
            let upstream = change.name.split(' ').next()?;
            let of = live.of_upstream(upstream);
            Some((conns_text(of), "they are kept"))
        }
        _ => None, // Requests end by the plan that they began with.
    }
}

fn conns_text(of: crate::live::Conns) -> String {
    let crate::live::Conns {
        in_use,
        tunnels,
        idle,
        ..
    } = of;
    format!("{in_use} connections in use, {tunnels} of them tunnels, {idle} idle")
}

const GOING: &str = "idle ones close at once, the others after what they carry";
