//! From a request's head to its route, and what a route makes of a request or answers itself.

use super::Client;
use super::answer::{Answer, Connection, Content, Own, Page};
use super::operators;
use super::request::{Sender, encode_added};
use crate::config::forwarding;
use crate::config::plan::{Action, Listener, Mirror, Route, Serves};
use crate::route::rewrite::{append_location, rest_of};
use crate::route::rule::{PathRule, Rule};
use crate::route::split::Split;
use crate::route::template::Values;
use crate::route::{Facts, RouteId, path};
use crate::shared::Generation;
use crate::upstream::{Aim, balance};
use hp_core::wire::header::FieldName;
use hp_core::wire::http1::encode;
use hp_core::wire::http1::request::RequestHead;
use hp_core::wire::token;
use std::net::IpAddr;
use std::time::Duration;

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) route: RouteId,
    /// By place in the plan.
    pub(super) upstream: u32,
    /// From the request sent to the head of its answer.
    pub(super) response_timeout: Duration,
    /// The route changes the fields of answers.
    pub(super) changes_answer: bool,
    /// What its upstream hashes it by, and the endpoint that a cookie binds it to.
    pub(super) aim: Aim,
    pub(super) mirror: Mirroring,
}

/// Whether a request is copied to its route's mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mirroring {
    No,
    Yes,
    /// And what the mirror hashes it by.
    ByKey(u64),
}

impl Chosen {
    /// The first of each, with what the first route says.
    #[inline]
    pub(super) fn of_first(worker: &Generation) -> Self {
        Self {
            route: RouteId(0),
            upstream: 0,
            response_timeout: worker.first_response_timeout(),
            changes_answer: false,
            aim: Aim::default(),
            mirror: Mirroring::No,
        }
    }
}

/// Finds the route of a request. Writes the head that its upstream gets into `out`, or gives what it is answered with here;
/// `out` then holds the field lines of that answer.
#[inline]
pub(super) fn choose(
    worker: &Generation,
    (client, listener): (&Client, Option<&Listener>),
    (head, sender): (&RequestHead<'_, '_>, &Sender<'_>),
    chosen: &mut Chosen,
    out: &mut Vec<u8>,
) -> Option<Own> {
    if listener.is_some_and(|listener| listener.serves == Serves::Admin) {
        return Some(operators::page(head, out));
    }
    if worker.has_plain_route() {
        sender.encode_head(head, &client.conn, out);
        return None;
    }
    choose_among_many(worker, (client, listener), (head, sender), chosen, out)
}

/// The same for a plan with more than one plain route. Apart, so that it costs nothing where there is but one.
#[inline(never)]
fn choose_among_many(
    worker: &Generation,
    (client, listener): (&Client, Option<&Listener>),
    (head, sender): (&RequestHead<'_, '_>, &Sender<'_>),
    chosen: &mut Chosen,
    out: &mut Vec<u8>,
) -> Option<Own> {
    let host = head.authority.map(|authority| authority.host());
    let host = host.unwrap_or_default();
    let among = worker.table().of_host(host);
    let seen = Seen::of(worker, listener, (head, host), sender);
    let facts = seen.facts(head);
    let Some(winner) = worker.table().find_among(among, &facts) else {
        return Some(Own::Refusal(Answer::NO_ROUTE));
    };
    let is_as_it_came = matches!(seen.path, std::borrow::Cow::Borrowed(_));
    if let Some(passage) = worker.shared_plan().passage(winner.route)
        && let Some(upstream) = passage.upstream
        && is_as_it_came
    {
        chosen.route = winner.route;
        chosen.upstream = upstream;
        chosen.response_timeout = passage.response_timeout;
        sender.encode_head(head, &client.conn, out);
        return None;
    }
    let Some(route) = worker.plan().routes.get(winner.route.0 as usize) else {
        return Some(Own::Refusal(Answer::NO_ROUTE));
    };
    chosen.route = winner.route;
    chosen.response_timeout = route.response_timeout;
    chosen.changes_answer = !route.response.is_empty();
    if let Action::Forward(split) = &route.action {
        let bound = if worker.shared_plan().is_sticky() {
            bound_to(worker, split, &facts)
        } else {
            None
        };
        chosen.upstream = match bound {
            Some((upstream, endpoint)) => {
                chosen.aim.bound_to = Some(endpoint);
                upstream
            }
            None => split.pick(|| worker.draw()),
        };
        let cookies = worker.shared_plan().cookies(chosen.upstream);
        chosen.changes_answer |= cookies.is_some();
        chosen.aim.key = key_of(worker, chosen.upstream, &facts);
        if let Some(mirror) = &route.mirror {
            chosen.mirror = mirroring(worker, mirror, &facts);
        }
        if route.is_plain() && is_as_it_came {
            sender.encode_head(head, &client.conn, out);
            return None;
        }
    }
    let captures = match &winner.rule.path {
        PathRule::Matches(pattern) => pattern.captures(&seen.path),
        PathRule::Any | PathRule::Prefix(_) | PathRule::Is(_) => None,
    };
    let upstream = worker.plan().upstreams.get(chosen.upstream as usize);
    let values = Values {
        route: &route.name,
        upstream: upstream.map_or("", |upstream| &upstream.name),
        captures: captures.as_ref(),
        ..seen.values(&facts, winner.rule)
    };
    act(worker, (client, head, sender), (route, &values), out)
}

/// What an upstream hashes a request by.
fn key_of(worker: &Generation, upstream: u32, facts: &Facts<'_>) -> Option<u64> {
    let upstream = worker.plan().upstreams.get(upstream as usize);
    let key = upstream.and_then(|upstream| upstream.balance.key.as_ref());
    key.and_then(|key| key.hash(facts, balance::hash))
}

#[cold]
fn mirroring(worker: &Generation, mirror: &Mirror, facts: &Facts<'_>) -> Mirroring {
    if !worker.mirrors().takes(mirror) {
        return Mirroring::No;
    }
    let key = key_of(worker, mirror.upstream, facts);
    key.map_or(Mirroring::Yes, Mirroring::ByKey)
}

/// The upstream and the endpoint that a cookie binds a request to, among those that its route leads to: a client stays on its
/// side of a split.
#[cold]
fn bound_to(worker: &Generation, split: &Split, facts: &Facts<'_>) -> Option<(u32, u64)> {
    split.shares().find_map(|(upstream, _weight)| {
        let cookies = worker.shared_plan().cookies(upstream)?;
        Some((upstream, cookies.endpoint_of(facts.fields)?))
    })
}

/// Does what a route does that is not plain.
fn act(
    worker: &Generation,
    (client, head, sender): (&Client, &RequestHead<'_, '_>, &Sender<'_>),
    (route, values): (&Route, &Values<'_>),
    out: &mut Vec<u8>,
) -> Option<Own> {
    match &route.action {
        Action::Forward(_) => {
            let mut target = worker.take_scratch();
            route.path.append(values, &mut target);
            if let Some(query) = values.query {
                target.push(b'?');
                target.extend_from_slice(query.as_bytes());
            }
            let changes = (&route.request, values);
            sender.encode_changed_head((head, &client.conn), &target, changes, out);
            worker.give_scratch(target);
            None
        }
        Action::Redirect { to, .. } => {
            out.extend_from_slice(b"Location: ");
            append_location(to, values, out);
            out.extend_from_slice(b"\r\n");
            encode_added(&route.response, values, out);
            Some(Own::OfRoute)
        }
        Action::Answer { .. } => {
            encode_added(&route.response, values, out);
            Some(Own::OfRoute)
        }
        Action::Maintenance => Some(Own::Refusal(Answer::MAINTENANCE)),
    }
}

/// What a route may see of a request.
struct Seen<'a> {
    host: &'a [u8],
    path: std::borrow::Cow<'a, str>,
    query: Option<&'a str>,
    client: Option<IpAddr>,
}

impl<'a> Seen<'a> {
    fn of(
        worker: &Generation,
        listener: Option<&Listener>,
        (head, host): (&RequestHead<'_, 'a>, &'a [u8]),
        sender: &Sender<'_>,
    ) -> Self {
        let (path, query) = head.target.path_then_query();
        Self {
            host,
            path: if worker.table().looks_at_paths() {
                path::normal(path)
            } else {
                path.into()
            },
            query,
            client: client_of(listener, head, sender),
        }
    }

    fn facts<'s>(&'s self, head: &'s RequestHead<'_, '_>) -> Facts<'s> {
        Facts {
            host: self.host,
            path: &self.path,
            query: self.query,
            method: head.method.as_str(),
            fields: &head.fields,
            client: self.client,
        }
    }

    fn values<'s>(&'s self, facts: &Facts<'s>, rule: &Rule) -> Values<'s> {
        Values {
            client: self.client,
            host: self.host,
            path: &self.path,
            rest: rest_of(rule, &self.path),
            query: facts.query,
            ..Values::default()
        }
    }
}

/// Who asks: the peer, or, where the peer is a trusted proxy, the last in X-Forwarded-For that is not one itself.
fn client_of(
    listener: Option<&Listener>,
    head: &RequestHead<'_, '_>,
    sender: &Sender<'_>,
) -> Option<IpAddr> {
    let peer = sender.peer?.ip().to_canonical();
    let Some(listener) = listener.filter(|_| sender.is_trusted) else {
        return Some(peer);
    };
    let mut client = peer;
    // From the last line to the first, and in each from its end to its beginning; lines are few, and bounded.
    let lines = head.fields.all(FieldName::XForwardedFor).count();
    for line in (0..lines).rev() {
        let value = head.fields.all(FieldName::XForwardedFor).nth(line);
        for member in value.unwrap_or_default().rsplit(|byte| *byte == b',') {
            let text = std::str::from_utf8(token::trim_ows(member)).unwrap_or_default();
            let Ok(named) = text.parse::<IpAddr>() else {
                return Some(client); // What stands before it was not said by anybody trusted.
            };
            client = named.to_canonical();
            if !forwarding::contains(&listener.trusted_proxies, client) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// What an answer that the proxy makes of its plan, or of what it knows, is made with.
pub(super) struct Made<'a> {
    pub(super) connection: Connection,
    pub(super) content: Content,
    /// Whole field lines.
    pub(super) fields: &'a [u8],
}

impl Made<'_> {
    /// Appends and counts what a route answers.
    pub(super) fn encode_of_route(&self, worker: &Generation, route: RouteId, out: &mut Vec<u8>) {
        let action = worker.plan().routes.get(route.0 as usize);
        match action.map(|route| &route.action) {
            Some(Action::Redirect { status, .. }) => self.encode(worker, *status, ("", &[]), out),
            Some(Action::Answer {
                status,
                content_type,
                body,
            }) => self.encode(worker, *status, (content_type, body), out),
            Some(Action::Forward(_) | Action::Maintenance) | None => {
                self.encode(worker, 500, ("", &[]), out); // Never: it was chosen for what it answers.
            }
        }
    }

    /// Appends and counts what operators ask; `told` is what the main thread has said, if it was asked.
    pub(super) fn encode_page(
        &self,
        worker: &Generation,
        (page, told): (Page, &[u8]),
        out: &mut Vec<u8>,
    ) {
        let counters;
        let (status, text) = match page {
            Page::Ready if worker.is_draining() => (503, &b"draining\n"[..]),
            Page::Ready if !worker.rows().readiness().is_ready() => (503, &b"leaving\n"[..]),
            Page::Ready | Page::Live => (200, &b"ok\n"[..]),
            Page::Counters => {
                counters = worker.rows().to_string();
                (200, counters.as_bytes())
            }
            Page::Asked => (500, &[][..]), // Never: it is answered with what was told.
            Page::Told(status) => (status, told),
            Page::Takes(_methods) => (405, told),
        };
        let allow = match page {
            Page::Takes(methods) => format!("Allow: {methods}\r\n"),
            _ => String::new(),
        };
        let fields = allow.as_bytes();
        // What is told for people never begins with a brace.
        let content_type = if text.starts_with(b"{") {
            "application/json"
        } else {
            PLAIN_TEXT
        };
        Made { fields, ..*self }.encode(worker, status, (content_type, text), out);
    }

    fn encode(
        &self,
        worker: &Generation,
        status: u16,
        (content_type, body): (&str, &[u8]),
        out: &mut Vec<u8>,
    ) {
        let row = worker.row();
        match status {
            ..400 => row.answered_here.add(1),
            400..500 => row.refused_by_client_fault.add(1),
            500.. => row.failed_by_backend_fault.add(1),
        }
        encode::status_line(out, status, encode::reason_phrase(status).as_bytes());
        out.extend_from_slice(&worker.date_line());
        if !content_type.is_empty() {
            encode::field(out, "Content-Type", content_type.as_bytes());
        }
        let has_content = !matches!(status, 204 | 304);
        if has_content {
            encode::content_length(out, body.len() as u64);
        }
        out.extend_from_slice(self.fields);
        self.connection.encode(out);
        encode::end_of_head(out);
        if has_content && self.content == Content::Sent {
            out.extend_from_slice(body);
        }
    }
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
