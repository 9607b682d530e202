//! Routes as a large site may have them, and requests for them.

use std::fmt::Write;

/// What a route asks for besides its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A host, and a prefix or a whole path.
    Host,
    /// The same below a name.
    Below,
    /// Nothing.
    AnyHost,
    /// A method.
    Method,
    /// A field, or a parameter of the query.
    Field,
    /// An expression instead of a path.
    Expression,
    /// No route but the one for all that is left.
    Miss,
}

impl Kind {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host and path",
            Self::Below => "names below and path",
            Self::AnyHost => "any host, path",
            Self::Method => "with a method",
            Self::Field => "with a field or query",
            Self::Expression => "with an expression",
            Self::Miss => "none but the last",
        }
    }

    /// Of the route with this number.
    pub(crate) fn of(route: u32) -> Self {
        match route % KINDS {
            0..=6 => Self::Host,
            7..=9 | 15 => Self::Method,
            10 | 11 | 19 => Self::Field,
            12..=14 => Self::Below,
            16 | 17 => Self::Expression,
            _ => Self::AnyHost,
        }
    }
}

/// `routes` routes and one for all that they leave, over about 700 hosts and 250 names with hosts below: 35 in a hundred by host and
/// path, 20 with methods, 15 below a name, 15 with a field or a parameter of the query, 10 with an expression, 5 for any host.
pub(crate) fn configuration(routes: u32, upstreams: u32) -> String {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    append_routes(&mut text, routes, upstreams);
    put(&mut text, format_args!("[[route]]\nupstream = \"u0\"\n"));
    for index in 0..upstreams {
        let (port, host) = (1024 + index % 64_000, index / 64_000 + 1);
        put(
            &mut text,
            format_args!("[upstream.u{index}]\nendpoints = [\"127.0.0.{host}:{port}\"]\n"),
        );
    }
    text
}

/// The routes alone.
pub(crate) fn append_routes(text: &mut String, routes: u32, upstreams: u32) {
    for route in 0..routes {
        text.push_str("[[route]]\n");
        if let Some(host) = host_of(route, "*") {
            put(text, format_args!("host = \"{host}\"\n"));
        }
        match route % KINDS {
            5 | 6 | 15 => put(text, format_args!("path = \"{}\"\n", path_of(route))),
            16 | 17 => put(
                text,
                format_args!("path_regex = '^/item-{route}/{}$'\n", ends_of(route).0),
            ),
            _ => put(text, format_args!("path_prefix = \"{}\"\n", path_of(route))),
        }
        match route % KINDS {
            7..=9 | 15 => text.push_str("methods = [\"GET\", \"POST\"]\n"),
            10 | 11 => put(
                text,
                format_args!("headers = {{ X-Kind = \"{}\" }}\n", route % 7),
            ),
            19 => put(
                text,
                format_args!("query = {{ kind = \"{}\" }}\n", route % 7),
            ),
            _ => (),
        }
        put(
            text,
            format_args!("upstream = \"u{}\"\n", route % upstreams),
        );
    }
}

/// A request that only this route takes, with the fields that a browser sends; for [`Kind::Miss`], one that none takes.
pub(crate) fn write_request(text: &mut String, route: u32, is_miss: bool) {
    text.clear();
    let host = host_of(route, "a.b").unwrap_or_else(|| {
        // For any host: one of those that have routes of their own.
        host_of(route - route % KINDS, "a.b").unwrap_or_default()
    });
    let name = if is_miss { "nowhere" } else { "" };
    put(
        text,
        format_args!("GET {}{name}", request_path(route, is_miss)),
    );
    put(
        text,
        format_args!(
            "?page=2&kind={kind} HTTP/1.1\r\nHost: {host}:8080\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: a=b\r\nX-Kind: {kind}\r\n\r\n",
            kind = route % 7
        ),
    );
}

fn request_path(route: u32, is_miss: bool) -> String {
    match route % KINDS {
        5 | 6 | 15 if is_miss => format!("{}/x/", path_of(route)),
        5 | 6 | 15 => path_of(route),
        16 | 17 if is_miss => format!("/item-{route}/-/"),
        16 | 17 => format!("/item-{route}/{}", ends_of(route).1),
        _ if is_miss => String::from("/team7/"),
        _ => format!("{}users/17", path_of(route)),
    }
}

fn host_of(route: u32, below: &str) -> Option<String> {
    let number = route.wrapping_mul(7919) % 1000;
    match route % KINDS {
        18 => None,
        12..=15 | 17 => Some(format!("{below}.zone{}.example.net", number % 300)),
        _ => Some(match number % 3 {
            0 => format!("api-{}.eu.example.test", number % 700),
            1 => format!("shop{}.example.org", number % 700),
            _ => format!("www.customer-{}.test", number % 700),
        }),
    }
}

fn path_of(route: u32) -> String {
    match route % KINDS {
        5 | 6 => format!("/static/page-{route}.html"),
        15 => format!("/login/{route}"),
        7..=9 => format!("/service-{route}/v1/"),
        10 | 11 | 19 => format!("/api/{route}/"),
        _ => format!("/team{}/{route}/", route % 40),
    }
}

/// How an expression ends, and a path that it takes.
fn ends_of(route: u32) -> (&'static str, &'static str) {
    match route % 5 {
        0 => ("([0-9]+)", "4711"),
        1 => ("([a-z]+)/edit", "profile/edit"),
        2 => ("[0-9]{4}-[0-9]{2}", "2024-07"),
        3 => (r"(.+)\.json", "a/b/list.json"),
        _ => ("[^/]+", "a-name"),
    }
}

/// A `String` takes everything.
pub(crate) fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    match text.write_fmt(more) {
        Ok(()) => (),
        Err(_never) => unreachable!("a String takes everything"),
    }
}

/// Of routes.
const KINDS: u32 = 20;
