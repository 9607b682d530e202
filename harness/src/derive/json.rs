//! JSON with a line for each cell: a change of one is a change of one line, and the file stays small.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// The value's text, with a line feed at its end.
pub(super) fn text(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Shallow::default());
    value
        .serialize(&mut serializer)
        .expect("keys are text, and writing to memory works");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Indents what is not deeper than [`DEPTH_MAX`]; the rest stays on its line.
#[derive(Default)]
struct Shallow<'a> {
    depth: u32,
    pretty: PrettyFormatter<'a>,
}

/// Passes a call on to one of two formatters, which differ in blanks alone.
macro_rules! passed {
    ($name:ident $(, $argument:ident : $kind:ty)?) => {
        fn $name<W: ?Sized + io::Write>(&mut self, out: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            if self.depth > DEPTH_MAX {
                CompactFormatter.$name(out $(, $argument)?)
            } else {
                self.pretty.$name(out $(, $argument)?)
            }
        }
    };
}

impl Formatter for Shallow<'_> {
    passed!(begin_array_value, first: bool);
    passed!(end_array_value);
    passed!(begin_object_key, first: bool);
    passed!(begin_object_value);
    passed!(end_object_value);

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return CompactFormatter.begin_array(out);
        }
        self.pretty.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth >= DEPTH_MAX {
            return CompactFormatter.end_array(out);
        }
        self.pretty.end_array(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return CompactFormatter.begin_object(out);
        }
        self.pretty.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth >= DEPTH_MAX {
            return CompactFormatter.end_object(out);
        }
        self.pretty.end_object(out)
    }
}

/// Session, workloads, workload, rows, row, cells: a cell is the first that stays on a line.
const DEPTH_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_deep_stays_on_a_line_and_reads_back() {
        let value = json!({"a": [{"rows": [{"cells": [{"x": [1, {"y": 2}]}, {}], "none": []}]}]});
        let text = text(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(
            text.contains("\n            {\"x\":[1,{\"y\":2}]},\n"),
            "{text}"
        );
        assert!(text.ends_with("}\n"), "{text}");
    }
}
