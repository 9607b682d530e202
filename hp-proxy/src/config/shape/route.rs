//! What a route may say.

use super::{ANY_COUNT, Kind, Shape, TEXT_OR_TEXTS, TEXTS, key};

const CONDITIONS: Kind = Kind::Map(&Kind::OneOf(&[Kind::Text, Kind::Section(&CONDITION)]));

pub(super) const ROUTE: Shape = Shape {
    name: "route",
    keys: &[
        key(
            "name",
            Kind::Text,
            "",
            "For messages and {route}; made of host and path where it is missing.",
        ),
        key(
            "host",
            TEXT_OR_TEXTS,
            "",
            "Hosts: a name, or *.name for all names below it. Missing: any.",
        ),
        key("path", Kind::Text, "", "The whole path."),
        key(
            "path_prefix",
            Kind::Text,
            "",
            "What the path begins with; it ends at a slash: /v1 takes /v1 and /v1/x, not /v10.",
        ),
        key(
            "path_regex",
            Kind::Text,
            "",
            "A regular expression that matches the path; linear in time.",
        ),
        key("methods", TEXTS, "", "One of these methods."),
        key(
            "headers",
            CONDITIONS,
            "",
            "Fields that must be there with these values.",
        ),
        key(
            "query",
            CONDITIONS,
            "",
            "Parameters of the query that must be there with these values.",
        ),
        key(
            "client_ip",
            TEXT_OR_TEXTS,
            "",
            "Networks that the client is in.",
        ),
        key(
            "upstream",
            Kind::Text,
            "",
            "The upstream that requests go to.",
        ),
        key(
            "split",
            Kind::List(&Kind::Section(&SHARE)),
            "",
            "Upstreams that requests go to, each its share.",
        ),
        key(
            "redirect",
            Kind::Section(&REDIRECT),
            "",
            "Answers with another place to ask.",
        ),
        key(
            "answer",
            Kind::Section(&ANSWER),
            "",
            "Answers always the same.",
        ),
        key(
            "maintenance",
            Kind::Flag,
            "false",
            "Answers with 503 for the time being.",
        ),
        key(
            "mirror",
            Kind::Section(&MIRROR),
            "",
            "Copies requests to a second upstream, whose answers nobody reads.",
        ),
        key(
            "strip_prefix",
            Kind::Text,
            "",
            "A prefix of the path that the upstream does not see.",
        ),
        key(
            "rewrite",
            Kind::Text,
            "",
            "The path that the upstream sees; may have places such as {path} and {1}.",
        ),
        key(
            "request_headers",
            Kind::Section(&FIELDS),
            "",
            "What the upstream sees of the request's fields.",
        ),
        key(
            "response_headers",
            Kind::Section(&FIELDS),
            "",
            "What the client sees of the answer's fields.",
        ),
        key(
            "timeout",
            Kind::Time,
            "",
            "Time from a request to the head of its response, instead of response_timeout.",
        ),
    ],
};

const CONDITION: Shape = Shape {
    name: "condition",
    keys: &[
        key(
            "present",
            Kind::Flag,
            "",
            "true: it must be there, whatever its value.",
        ),
        key(
            "regex",
            Kind::Text,
            "",
            "A regular expression that matches the value.",
        ),
    ],
};

const SHARE: Shape = Shape {
    name: "share",
    keys: &[
        key("upstream", Kind::Text, "", "The upstream."),
        key(
            "weight",
            ANY_COUNT,
            "1",
            "Its share, of the sum of all weights.",
        ),
    ],
};

const MIRROR: Shape = Shape {
    name: "mirror",
    keys: &[
        key(
            "upstream",
            Kind::Text,
            "",
            "The upstream that gets the copies.",
        ),
        key(
            "share",
            Kind::Percent,
            "100",
            "How many of the requests, in percent.",
        ),
        key(
            "body_max",
            Kind::Size,
            "\"64KiB\"",
            "Size of a request's content, up to 16MiB; a request with more is not copied.",
        ),
    ],
};

const REDIRECT: Shape = Shape {
    name: "redirect",
    keys: &[
        key(
            "to",
            Kind::Text,
            "",
            "Where to; may have places such as {path}, {uri}, {query}, {host} and {1}.",
        ),
        key(
            "status",
            Kind::Count(301, 308),
            "308",
            "301, 302, 303, 307 or 308.",
        ),
        key(
            "any_host",
            Kind::Flag,
            "false",
            "Lets it lead to a host that the request names.",
        ),
    ],
};

const ANSWER: Shape = Shape {
    name: "answer",
    keys: &[
        key("status", Kind::Count(200, 599), "200", "The status."),
        key(
            "body",
            Kind::Text,
            "\"\"",
            "The content; file:NAME reads it from a file when the proxy starts.",
        ),
        key(
            "content_type",
            Kind::Text,
            "\"text/plain; charset=utf-8\"",
            "Its type.",
        ),
    ],
};

const FIELDS: Shape = Shape {
    name: "fields",
    keys: &[
        key(
            "set",
            Kind::Map(&Kind::Text),
            "",
            "Fields that replace those of the same name; values may have places.",
        ),
        key(
            "add",
            Kind::Map(&Kind::Text),
            "",
            "Fields that are added; values may have places.",
        ),
        key("remove", TEXTS, "", "Names of fields that are removed."),
    ],
};
