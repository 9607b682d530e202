//! The JSON Schema of the configuration file, made from its shape. JSON Schema 2020-12.

use super::shape::{Key, Kind, ROOT, Shape};
use serde_json::{Map, Value, json};

/// The schema, indented, with a line feed at its end.
#[must_use]
pub fn text() -> String {
    let mut whole = of_shape(&ROOT);
    if let Some(object) = whole.as_object_mut() {
        object.insert(
            String::from("$schema"),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        object.insert(
            String::from("title"),
            json!("The configuration file of hp-proxy"),
        );
    }
    let mut text = format!("{whole:#}");
    text.push('\n');
    text
}

fn of_shape(shape: &Shape) -> Value {
    let properties = shape
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), of_key(key)));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties.collect::<Map<String, Value>>(),
    })
}

fn of_key(key: &Key) -> Value {
    let mut value = of_kind(&key.kind);
    if let Some(object) = value.as_object_mut() {
        object.insert(String::from("description"), json!(key.about));
        if let Ok(default) = serde_json::from_str::<Value>(key.default) {
            object.insert(String::from("default"), default);
        }
    }
    value
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Time => json!({ "type": "string", "pattern": with_environment("[0-9]+(ms|s|m|h)") }),
        Kind::TimeOrZero => json!({ "oneOf": [
            { "type": "string", "pattern": with_environment("(0|[0-9]+(ms|s|m|h))") },
            { "const": 0 },
        ] }),
        Kind::ShortTimeOrZero => json!({ "oneOf": [
            { "type": "string", "pattern": with_environment("(0|[0-9]+(us|ms))") },
            { "const": 0 },
        ] }),
        Kind::Size => json!({ "oneOf": [
            { "type": "string", "pattern": with_environment("[0-9]+(B|KiB|MiB|GiB)?") },
            { "type": "integer", "minimum": 0 },
        ] }),
        Kind::Percent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Kind::List(kind) => json!({ "type": "array", "items": of_kind(kind) }),
        Kind::Section(shape) => of_shape(shape),
        Kind::Map(kind) => json!({ "type": "object", "additionalProperties": of_kind(kind) }),
        Kind::OneOf(kinds) => json!({ "oneOf": kinds.iter().map(of_kind).collect::<Vec<_>>() }),
    }
}

/// A pattern for a value that may also come from the environment or a file.
fn with_environment(pattern: &str) -> String {
    format!("^({pattern}|file:.*|.*\\$\\{{.*\\}}.*)$")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_schema_is_the_one_that_the_reader_has() {
        let published = include_str!("../../../docs/schema/hp-proxy-config.json");
        assert!(
            published == super::text(),
            "write it anew: hp-proxy schema > docs/schema/hp-proxy-config.json"
        );
    }

    #[test]
    fn every_default_is_a_value() {
        fn check(shape: &super::Shape) {
            for key in shape.keys {
                let is_value = serde_json::from_str::<serde_json::Value>(key.default).is_ok();
                assert!(
                    key.default.is_empty() || is_value,
                    "{}: {}",
                    shape.name,
                    key.name
                );
                assert!(key.about.ends_with('.'), "{}: {}", shape.name, key.name);
            }
        }
        check(&super::ROOT);
    }
}
