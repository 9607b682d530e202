//! JSON Schema 2020-12, as far as the published schema uses it. What it does not know is told by [`unknown_words`], so
//! that no rule of the schema is silently left out.

use serde_json::Value;

/// Each key of the objects at these places is needed, and no other is known.
pub(crate) fn check_keys(schema: &Value, good: &Value, pointers: &[&str]) {
    for pointer in pointers {
        for key in good.pointer(pointer).unwrap().as_object().unwrap().keys() {
            let mut less = good.clone();
            let object = less.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            object.remove(key);
            assert_eq!(
                violations(schema, &less).len(),
                1,
                "{pointer} without {key}"
            );
        }
        let mut more = good.clone();
        more.pointer_mut(pointer).unwrap()["unheard_of"] = Value::from(1);
        assert_eq!(
            violations(schema, &more).len(),
            1,
            "{pointer} with another key"
        );
    }
}

/// What in `document` the schema does not allow, each with where it is.
pub(crate) fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Validator { root: schema }.check(schema, document, "", &mut found);
    found
}

/// Keywords in the schema that [`violations`] would pass over.
pub(crate) fn unknown_words(schema: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    collect_unknown(schema, &mut unknown);
    unknown
}

const ANNOTATIONS: &[&str] = &["$schema", "$defs", "title", "description"];
const RULES: &[&str] = &[
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "enum",
    "items",
    "maxLength",
    "maximum",
    "minimum",
    "properties",
    "propertyNames",
    "required",
    "type",
];

fn collect_unknown(schema: &Value, unknown: &mut Vec<String>) {
    let Some(words) = schema.as_object() else {
        return; // true or false
    };
    for (word, rule) in words {
        match word.as_str() {
            "$defs" | "properties" => {
                for inner in rule
                    .as_object()
                    .into_iter()
                    .flat_map(|inner| inner.values())
                {
                    collect_unknown(inner, unknown);
                }
            }
            "items" | "additionalProperties" | "propertyNames" => collect_unknown(rule, unknown),
            "anyOf" => rule
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|inner| collect_unknown(inner, unknown)),
            word if RULES.contains(&word) || ANNOTATIONS.contains(&word) => (),
            word => unknown.push(word.to_owned()),
        }
    }
}

struct Validator<'a> {
    root: &'a Value,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let Some(rules) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                found.push(format!("{at}: not allowed"));
            }
            return;
        };
        for (word, rule) in rules {
            let holds = match word.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.check(
                        self.root.pointer(pointer).expect("a definition"),
                        value,
                        at,
                        found,
                    );
                    true
                }
                "anyOf" => rule.as_array().unwrap().iter().any(|inner| {
                    let mut inside = Vec::new();
                    self.check(inner, value, at, &mut inside);
                    inside.is_empty()
                }),
                "type" => match rule {
                    Value::Array(names) => names.iter().any(|name| is_type(value, name)),
                    name => is_type(value, name),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value
                    .as_f64()
                    .is_none_or(|number| number >= rule.as_f64().unwrap()),
                "maximum" => value
                    .as_f64()
                    .is_none_or(|number| number <= rule.as_f64().unwrap()),
                "maxLength" => value
                    .as_str()
                    .is_none_or(|text| text.len() as u64 <= rule.as_u64().unwrap()),
                "required" => {
                    for name in rule.as_array().unwrap() {
                        let name = name.as_str().unwrap();
                        if value
                            .as_object()
                            .is_some_and(|object| !object.contains_key(name))
                        {
                            found.push(format!("{at}: no {name}"));
                        }
                    }
                    true
                }
                _ => {
                    self.check_inside(schema, word, value, at, found);
                    true
                }
            };
            if !holds {
                found.push(format!("{at}: {word} {rule}: {value}"));
            }
        }
    }

    /// The rules for what is inside of an object or an array.
    fn check_inside(
        &self,
        schema: &Value,
        word: &str,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let rule = &schema[word];
        let known = |name: &str| schema["properties"].get(name).is_some();
        for (name, inner) in value.as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            match word {
                "properties" if known(name) => self.check(&rule[name], inner, &at, found),
                "additionalProperties" if !known(name) => self.check(rule, inner, &at, found),
                "propertyNames" => self.check(rule, &Value::from(name.as_str()), &at, found),
                _ => (),
            }
        }
        if word == "items" {
            for (idx, inner) in value.as_array().into_iter().flatten().enumerate() {
                self.check(rule, inner, &format!("{at}/{idx}"), found);
            }
        }
    }
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("no type {other}"),
    }
}
