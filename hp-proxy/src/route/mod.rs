//! Which route takes a request, and what it makes of it. Pure: it gets facts, and gives a number and bytes; it awaits nothing
//! and knows no connection.
//!
//! Which of several routes wins is decided in `docs/decisions/0019-which-route-wins.md`.

mod automaton;
pub mod fields;
pub mod key;
pub mod path;
mod radix;
pub mod rewrite;
pub mod rule;
pub mod split;
pub mod table;
pub mod template;

use hp_core::wire::header::Fields;
use std::net::IpAddr;

/// A route's place in the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// What of a request a route may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host without its port, in any case; empty where a client of HTTP/1.0 names none.
    pub host: &'a [u8],
    /// The path as [`path::normal`] gives it, `*` where OPTIONS asks for the server itself.
    pub path: &'a str,
    /// What follows the first question mark, if there is one.
    pub query: Option<&'a str>,
    /// The method; case matters.
    pub method: &'a str,
    /// The field lines.
    pub fields: &'a Fields<'a, 'a>,
    /// Who asks, as far as that is believed; `None` over a unix socket.
    pub client: Option<IpAddr>,
}
