//! A plan as a configuration file that says everything: what runs, with no default left open. Loading it gives the same plan, but
//! for credentials, which are not shown.

use super::forwarding::{Http10, Underscores};
use super::names::{Dns, Place, Resolve, Source};
use super::plan::{Action, Balance, Endpoint, Listener, Plan, Route, Serves, Upstream};
use super::shape::BALANCES;
use crate::route::fields::FieldChanges;
use crate::route::rewrite::{Leads, PathChange, leads};
use crate::route::rule::{Condition, HostRule, PathRule, Rule};
use crate::upstream::Borrow;
use crate::upstream::balance::Method;
use crate::upstream::balance::member::Standing;
use crate::upstream::sticky::{SameSite, Sticky};
use hp_core::rt::net::PortUse;
use hp_core::wire::forwarding::is_credential;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// The plan as a text.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    match write_plan(&mut out, plan) {
        Ok(()) => out,
        Err(fmt::Error) => unreachable!("a String takes everything"),
    }
}

fn write_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    write_settings(out, plan)?;
    for listener in &plan.listeners {
        write_listener(out, listener)?;
    }
    for (route, rules) in plan.routes.iter().zip(rules_of(plan)) {
        write_route(out, plan, &rules, route)?;
    }
    plan.upstreams
        .iter()
        .try_for_each(|upstream| write_upstream(out, upstream))
}

/// The rules of each route, by the route's place.
pub(super) fn rules_of(plan: &Plan) -> Vec<Vec<&Rule>> {
    let mut rules: Vec<Vec<&Rule>> = plan.routes.iter().map(|_| Vec::new()).collect();
    for (route, rule) in plan.table.rules() {
        if let Some(of_route) = rules.get_mut(route.0 as usize) {
            of_route.push(rule);
        }
    }
    rules
}

/// What holds for the whole process, and where nothing else is said.
pub(super) fn write_settings(out: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(out, "workers = {}", plan.workers)?;
    writeln!(out, "engine = {}", quoted(plan.engine))?;
    writeln!(out, "spin = {}", quoted(short_text(plan.spin)))?;
    write_timeouts(out, plan)?;
    write_limits(out, plan)?;
    let forwarding = &plan.forwarding;
    writeln!(
        out,
        "trusted_proxies = {}",
        list(&forwarding.trusted_proxies)
    )?;
    writeln!(out, "forwarded = {}", forwarding.writes_forwarded)?;
    writeln!(out, "via = {}", quoted(forwarding.via.name()))?;
    let underscores = match forwarding.underscores {
        Underscores::Drop => "drop",
        Underscores::Keep => "keep",
        Underscores::Refuse => "refuse",
    };
    writeln!(out, "underscores = {}", quoted(underscores))?;
    let http10 = match forwarding.http10 {
        Http10::Serve => "serve",
        Http10::Refuse => "refuse",
    };
    writeln!(out, "http10 = {}", quoted(http10))?;
    write_dns(out, &plan.dns)
}

pub(super) fn write_listener(out: &mut String, listener: &Listener) -> fmt::Result {
    match listener.serves {
        Serves::Admin => writeln!(out, "\n[admin]\nlisten = {}", quoted(&listener.address)),
        Serves::Routes => {
            writeln!(
                out,
                "\n[[listener]]\naddress = {}",
                quoted(&listener.address)
            )?;
            if let Some(mode) = listener.socket_mode {
                writeln!(out, "socket_mode = {}", quoted(format!("{mode:o}")))?;
            }
            writeln!(out, "reuse_port = {}", listener.port == PortUse::Shared)?;
            writeln!(out, "trusted_proxies = {}", list(&listener.trusted_proxies))
        }
    }
}

fn write_dns(out: &mut String, dns: &Dns) -> fmt::Result {
    if !dns.servers.is_empty() {
        writeln!(out, "dns.servers = {}", list(&dns.servers))?;
    }
    if let Some(timeout) = dns.timeout {
        writeln!(out, "dns.timeout = {}", quoted(time_text(timeout)))?;
    }
    if let Some(attempts) = dns.attempts {
        writeln!(out, "dns.attempts = {attempts}")?;
    }
    let bounds = dns.bounds;
    writeln!(out, "dns.ttl_min = {}", quoted(time_text(bounds.ttl_min)))?;
    writeln!(out, "dns.ttl_max = {}", quoted(time_text(bounds.ttl_max)))?;
    if dns.hosts_file == Dns::default().hosts_file {
        return Ok(());
    }
    writeln!(out, "dns.hosts_file = {}", quoted(dns.hosts_file.display()))
}

fn write_timeouts(out: &mut String, plan: &Plan) -> fmt::Result {
    let timeouts = &plan.timeouts;
    let or_zero = |time: Option<Duration>| {
        time.map_or_else(|| String::from("\"0\""), |time| quoted(time_text(time)))
    };
    writeln!(
        out,
        "continue_timeout = {}",
        or_zero(timeouts.until_continue)
    )?;
    let ready_lead = Some(timeouts.ready_lead).filter(|lead| !lead.is_zero());
    writeln!(out, "ready_lead = {}", or_zero(ready_lead))?;
    let close_spread = Some(timeouts.close_spread).filter(|spread| !spread.is_zero());
    writeln!(out, "close_spread = {}", or_zero(close_spread))?;
    if let Some(path) = &plan.pid_file {
        writeln!(out, "pid_file = {}", quoted(path.display()))?;
    }
    for (key, time) in [
        ("head_timeout", timeouts.head),
        ("body_timeout", timeouts.body),
        ("response_timeout", timeouts.response),
        ("connect_timeout", timeouts.connect),
        ("keepalive_timeout", timeouts.keepalive),
        ("queue_timeout", timeouts.queue),
        ("upstream_idle_timeout", timeouts.upstream_idle),
        ("tunnel_timeout", timeouts.tunnel),
        ("drain_timeout", timeouts.drain),
        ("upgrade_timeout", timeouts.upgrade),
    ] {
        writeln!(out, "{key} = {}", quoted(time_text(time)))?;
    }
    Ok(())
}

fn write_limits(out: &mut String, plan: &Plan) -> fmt::Result {
    let limits = &plan.limits;
    writeln!(out, "head_max = {}", limits.head.head_bytes_max)?;
    writeln!(out, "fields_max = {}", limits.head.fields_max)?;
    writeln!(out, "body_max = {}", limits.body_bytes_max)?;
    writeln!(out, "body_rate_min = {}", limits.body_rate_min)?;
    writeln!(out, "idle_conns_max = {}", limits.idle_conns_max)?;
    writeln!(out, "idle_conns_total = {}", limits.idle_conns_total)?;
    writeln!(out, "upstream_conns_max = {}", limits.upstream_conns_max)?;
    writeln!(out, "queue_len_max = {}", limits.queue_len_max)?;
    writeln!(out, "threads_max = {}", limits.threads_max)?;
    writeln!(out, "mirrors_max = {}", limits.mirrors_max)
}

pub(super) fn write_route(
    out: &mut String,
    plan: &Plan,
    rules: &[&Rule],
    route: &Route,
) -> fmt::Result {
    writeln!(out, "\n[[route]]\nname = {}", quoted(&route.name))?;
    let hosts: Vec<&HostRule> = rules
        .iter()
        .map(|rule| &rule.host)
        .filter(|host| **host != HostRule::Any)
        .collect();
    if !hosts.is_empty() {
        writeln!(out, "host = {}", list(&hosts))?;
    }
    if let Some(rule) = rules.first() {
        write_rule(out, rule)?;
    }
    write_action(out, plan, &route.action)?;
    if let Some(mirror) = &route.mirror {
        writeln!(
            out,
            "mirror = {{ upstream = {}, share = {}, body_max = {} }}",
            quoted(upstream_name(plan, mirror.upstream)),
            percent_text(mirror.share_millionths),
            mirror.body_bytes_max
        )?;
    }
    match &route.path {
        PathChange::None => (),
        PathChange::Strip(prefix) => writeln!(out, "strip_prefix = {}", quoted(prefix))?,
        PathChange::Write(template) => writeln!(out, "rewrite = {}", quoted(template))?,
    }
    write_fields(out, "request_headers", &route.request)?;
    write_fields(out, "response_headers", &route.response)?;
    writeln!(
        out,
        "timeout = {}",
        quoted(time_text(route.response_timeout))
    )
}

fn write_rule(out: &mut String, rule: &Rule) -> fmt::Result {
    match &rule.path {
        PathRule::Any => (),
        PathRule::Is(path) => writeln!(out, "path = {}", quoted(path))?,
        PathRule::Prefix(path) => writeln!(out, "path_prefix = {}", quoted(path))?,
        PathRule::Matches(pattern) => writeln!(out, "path_regex = {}", quoted(pattern.as_str()))?,
    }
    if !rule.methods.is_empty() {
        writeln!(out, "methods = {}", list(&rule.methods))?;
    }
    for (key, conditions) in [("headers", &rule.headers), ("query", &rule.query)] {
        let one = |(name, condition): &(String, Condition)| match condition {
            Condition::Present => format!("{} = {{ present = true }}", quoted(name)),
            Condition::Is(value) => format!("{} = {}", quoted(name), quoted(value)),
            Condition::Matches(pattern) => {
                format!(
                    "{} = {{ regex = {} }}",
                    quoted(name),
                    quoted(pattern.as_str())
                )
            }
        };
        if !conditions.is_empty() {
            let each: Vec<String> = conditions.iter().map(one).collect();
            writeln!(out, "{key} = {{ {} }}", each.join(", "))?;
        }
    }
    if !rule.client_ips.is_empty() {
        writeln!(out, "client_ip = {}", list(&rule.client_ips))?;
    }
    Ok(())
}

fn write_action(out: &mut String, plan: &Plan, action: &Action) -> fmt::Result {
    match action {
        Action::Forward(split) => {
            let name = |index: u32| upstream_name(plan, index);
            let shares: Vec<(u32, u32)> = split.shares().collect();
            if let [(upstream, 1)] = shares.as_slice() {
                return writeln!(out, "upstream = {}", quoted(name(*upstream)));
            }
            let each = shares.iter().map(|(upstream, weight)| {
                format!(
                    "{{ upstream = {}, weight = {weight} }}",
                    quoted(name(*upstream))
                )
            });
            writeln!(out, "split = [{}]", each.collect::<Vec<_>>().join(", "))
        }
        Action::Redirect { status, to } => {
            let permission = match leads(to) {
                Leads::ToKnownHosts => "",
                Leads::ToTheHostAskedFor | Leads::Anywhere => ", any_host = true",
            };
            writeln!(
                out,
                "redirect = {{ to = {}, status = {status}{permission} }}",
                quoted(to)
            )
        }
        Action::Answer {
            status,
            content_type,
            body,
        } => {
            write!(out, "answer = {{ status = {status}")?;
            if !content_type.is_empty() {
                write!(out, ", content_type = {}", quoted(content_type))?;
            }
            writeln!(out, ", body = {} }}", quoted(String::from_utf8_lossy(body)))
        }
        Action::Maintenance => writeln!(out, "maintenance = true"),
    }
}

fn upstream_name(plan: &Plan, index: u32) -> &str {
    let upstream = plan.upstreams.get(index as usize);
    upstream.map_or("", |upstream| &upstream.name)
}

/// A share in percent.
pub(crate) fn percent_text(millionths: u32) -> String {
    let (whole, rest) = (millionths / 10_000, millionths % 10_000);
    let text = format!("{whole}.{rest:04}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn write_fields(out: &mut String, key: &str, changes: &FieldChanges) -> fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    let is_set = |name: &str| changes.removes(name);
    let of = |wanted: bool| {
        let added = changes
            .added
            .iter()
            .filter(move |(name, _)| is_set(name) == wanted);
        added.map(|(name, value)| {
            let value = value.to_string();
            let shown = if is_credential(name) {
                NOT_SHOWN
            } else {
                &value
            };
            format!("{} = {}", quoted(name), quoted(shown))
        })
    };
    let host = changes
        .host
        .iter()
        .map(|host| format!("\"Host\" = {}", quoted(host)));
    let set: Vec<String> = of(true).chain(host).collect();
    let add: Vec<String> = of(false).collect();
    let is_added = |name: &String| {
        changes
            .added
            .iter()
            .any(|(added, _)| added.eq_ignore_ascii_case(name))
    };
    let removed: Vec<&String> = changes
        .removed
        .iter()
        .filter(|name| !is_added(name))
        .collect();
    let mut parts = Vec::new();
    if !set.is_empty() {
        parts.push(format!("set = {{ {} }}", set.join(", ")));
    }
    if !add.is_empty() {
        parts.push(format!("add = {{ {} }}", add.join(", ")));
    }
    if !removed.is_empty() {
        parts.push(format!("remove = {}", list(&removed)));
    }
    writeln!(out, "{key} = {{ {} }}", parts.join(", "))
}

pub(super) fn write_upstream(out: &mut String, upstream: &Upstream) -> fmt::Result {
    writeln!(out, "\n[upstream.{}]", quoted(&upstream.name))?;
    let mut endpoints: Vec<String> = upstream.sources.iter().map(source_text).collect();
    if upstream.sources.is_empty() {
        endpoints = upstream.endpoints.iter().map(endpoint_text).collect();
    }
    writeln!(out, "endpoints = [{}]", endpoints.join(", "))?;
    writeln!(out, "balance = {}", balance_text(&upstream.balance))?;
    if let Some(sticky) = &upstream.sticky {
        writeln!(out, "sticky = {}", sticky_text(sticky))?;
    }
    writeln!(out, "idle_conns_max = {}", upstream.idle_conns_max)?;
    writeln!(out, "max_conns = {}", upstream.conns_max)?;
    writeln!(
        out,
        "connect_timeout = {}",
        quoted(time_text(upstream.connect_timeout))
    )?;
    writeln!(
        out,
        "idle_timeout = {}",
        quoted(time_text(upstream.idle_timeout))
    )?;
    let age_max = upstream.conn_age_max;
    let age_max = age_max.map_or_else(|| String::from("0"), time_text);
    writeln!(out, "conn_age_max = {}", quoted(age_max))?;
    writeln!(out, "conn_uses_max = {}", upstream.conn_uses_max)?;
    writeln!(out, "prewarm = {}", upstream.prewarm)?;
    writeln!(out, "borrow = {}", quoted(borrow_text(upstream.borrow)))?;
    match &upstream.multiplex {
        None => writeln!(out, "multiplex = false"),
        Some(bounds) => {
            let stall = quoted(time_text(bounds.stall));
            writeln!(
                out,
                "multiplex = {{ depth = {}, conns_max = {}, stall = {stall} }}",
                bounds.depth_max, bounds.lanes_max
            )
        }
    }
}

fn borrow_text(borrow: Borrow) -> &'static str {
    match borrow {
        Borrow::Never => "never",
        Borrow::Waiting => "waiting",
        Borrow::BeforeDial => "before_dial",
    }
}

/// An entry as it was written; what its name leads to is another day's.
fn source_text(source: &Source) -> String {
    match &source.place {
        Place::Host {
            resolve: Resolve::Each,
            ..
        } => entry_text(&source.like, ", resolve = \"each\""),
        _ => endpoint_text(&source.like),
    }
}

fn sticky_text(sticky: &Sticky) -> String {
    let max_age = sticky.max_age.map(time_text).map(quoted);
    let max_age = max_age.map_or_else(String::new, |time| format!(", max_age = {time}"));
    let same_site = match sticky.same_site {
        SameSite::Lax => "lax",
        SameSite::None => "none",
        SameSite::Strict => "strict",
    };
    let key = if sticky.key.is_some() {
        format!(", key = {}", quoted(NOT_SHOWN))
    } else {
        String::new()
    };
    format!(
        "{{ cookie = {}{max_age}, path = {}, secure = {}, http_only = {}, same_site = {}{key} }}",
        quoted(&sticky.cookie),
        quoted(&sticky.path),
        sticky.is_secure,
        sticky.is_http_only,
        quoted(same_site),
    )
}

pub(super) fn endpoint_text(endpoint: &Endpoint) -> String {
    entry_text(endpoint, "")
}

fn entry_text(endpoint: &Endpoint, more: &str) -> String {
    let name = quoted(&endpoint.name);
    let mut more = more.to_owned();
    if endpoint.weight != 1 {
        more += &format!(", weight = {}", endpoint.weight);
    }
    if endpoint.priority != 0 {
        more += &format!(", priority = {}", endpoint.priority);
    }
    if let Some(time) = endpoint.slow_start {
        more += &format!(", slow_start = {}", quoted(time_text(time)));
    }
    match endpoint.standing {
        Standing::Serving => (),
        Standing::Draining => more += ", standing = \"drain\"",
        Standing::Out => more += ", standing = \"out\"",
    }
    if endpoint.is_backup {
        more += ", backup = true";
    }
    if more.is_empty() {
        name
    } else {
        format!("{{ address = {name}{more} }}")
    }
}

fn balance_text(balance: &Balance) -> String {
    let method = if balance.method == Method::Rendezvous {
        "rendezvous"
    } else {
        "maglev"
    };
    match &balance.key {
        Some(key) => format!("{{ hash = {}, method = \"{method}\" }}", quoted(key)),
        None => {
            let mut named = BALANCES.iter();
            let name = named.find(|(_, method)| *method == balance.method);
            quoted(name.map_or("round_robin", |(name, _)| name))
        }
    }
}

fn list(values: &[impl Display]) -> String {
    let each: Vec<String> = values.iter().map(quoted).collect();
    format!("[{}]", each.join(", "))
}

/// In the place of a secret.
const NOT_SHOWN: &str = "(not shown)";

/// The largest unit that says it whole.
fn time_text(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units
        .into_iter()
        .find(|(length, _)| millis.is_multiple_of(*length));
    whole.map_or_else(
        || format!("{millis}ms"),
        |(length, unit)| format!("{}{unit}", millis / length),
    )
}

fn short_text(time: Duration) -> String {
    match time.as_micros() {
        0 => String::from("0"),
        micros => format!("{micros}us"),
    }
}

/// A basic string of TOML, in which `${` stands for itself.
fn quoted(value: impl Display) -> String {
    let text = value.to_string().replace("${", "$${");
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => out += &format!("\\u{:04X}", u32::from(control)),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
