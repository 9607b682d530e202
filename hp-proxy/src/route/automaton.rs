//! Regular expressions of paths as tables of states, for what follows the letters that a path was found by. Built once; immutable, so
//! that threads share them; a search is one look into a table for each byte.
//!
//! Routes whose expressions end alike, such as `([0-9]+)$`, have one table together, which is in the cache for all of them when it was
//! used for one. An expression whose table would be large has none, and is searched for as `regex` does it.

use super::rule::Pattern;
use regex_automata::Anchored;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa;
use regex_automata::nfa::thompson;
use regex_automata::util::start;
use std::collections::BTreeMap;

/// The automata of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Automata {
    all: Vec<Automaton>,
    /// For each kind of byte values that some automaton tells apart: which of its columns belongs to a value.
    classes: Vec<[u8; 256]>,
    /// States of all automata: for each, a column per class and one for the end of the path.
    steps: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Automaton {
    classes: u32,
    steps: u32,
    columns: u32,
}

/// Makes automata; equal ones once.
#[derive(Debug, Default)]
pub(super) struct Builder {
    automata: Automata,
    /// By the expression, and the byte that stands before it in a path; `None` where it has no automaton.
    known: BTreeMap<(String, Option<u8>), Option<u32>>,
    classes: BTreeMap<Vec<u8>, u32>,
}

impl Automata {
    /// How many bytes they take.
    pub(super) fn size(&self) -> usize {
        let classes = size_of_val(self.classes.as_slice());
        size_of_val(self.all.as_slice()) + classes + self.steps.len()
    }

    /// Whether a path whose rest this is matches; the automaton is that of [`Builder::add`].
    #[inline]
    pub(super) fn matches(&self, automaton: u32, rest: &[u8]) -> bool {
        let Some(automaton) = self.all.get(automaton as usize) else {
            return false; // Never: it was added.
        };
        let classes = self.classes.get(automaton.classes as usize);
        let (Some(classes), Some(steps)) = (classes, self.steps.get(automaton.steps as usize..))
        else {
            return false;
        };
        let columns = automaton.columns as usize;
        let step = |state: u8, column: usize| {
            let next = steps.get((usize::from(state) - usize::from(FIRST)) * columns + column);
            next.copied().unwrap_or(DEAD)
        };
        let mut state = FIRST;
        for byte in rest {
            let class = classes.get(usize::from(*byte)).copied();
            state = step(state, usize::from(class.unwrap_or_default()));
            if state < FIRST {
                return state == MATCHED;
            }
        }
        step(state, columns - 1) == MATCHED
    }
}

impl Builder {
    /// The automaton of what [`Pattern::rest`] is; `None` where it would be too large, or there are too many.
    pub(super) fn add(&mut self, pattern: &Pattern, literal: &str) -> Option<u32> {
        let (rest, before) = pattern.rest();
        let behind = before.checked_sub(1);
        let behind = behind.and_then(|last| literal.as_bytes().get(last).copied());
        let key = (rest.to_owned(), behind);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let made = (self.known.len() < AUTOMATA_MAX)
            .then(|| self.make(rest, behind))
            .flatten();
        if self.known.len() < AUTOMATA_MAX {
            self.known.insert(key, made);
        }
        made
    }

    pub(super) fn finish(self) -> Automata {
        self.automata
    }

    fn make(&mut self, expression: &str, behind: Option<u8>) -> Option<u32> {
        let rows = rows_of(expression, behind)?;
        // Byte values that lead to the same states from everywhere are one class.
        let mut classes = vec![0; 256];
        let mut columns: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
        for (value, class) in classes.iter_mut().enumerate() {
            let column = rows.iter().filter_map(|row| row.get(value).copied());
            let next = u8::try_from(columns.len()).unwrap_or(u8::MAX); // At most 256.
            *class = *columns.entry(column.collect()).or_insert(next);
        }
        let automata = &mut self.automata;
        let automaton = Automaton {
            classes: match self.classes.get(&classes) {
                Some(known) => *known,
                None => {
                    let place = number(automata.classes.len())?;
                    automata.classes.push(classes.as_slice().try_into().ok()?);
                    self.classes.insert(classes.clone(), place);
                    place
                }
            },
            steps: number(automata.steps.len())?,
            columns: number(columns.len() + 1)?,
        };
        for row in &rows {
            let start = automata.steps.len();
            automata
                .steps
                .resize(start + automaton.columns as usize, DEAD);
            let places = classes.iter().map(|class| usize::from(*class));
            for (place, next) in places.chain([columns.len()]).zip(row) {
                if let Some(step) = automata.steps.get_mut(start + place) {
                    *step = *next;
                }
            }
        }
        automata.all.push(automaton);
        number(automata.all.len() - 1)
    }
}

/// For each state, from [`FIRST`] on: where each byte value leads, and then where the end does.
fn rows_of(expression: &str, behind: Option<u8>) -> Option<Vec<[u8; 257]>> {
    // With a literal before it, it begins where that ends; else anywhere, as it says itself.
    let anchored = match behind {
        Some(_) => Anchored::Yes,
        None => Anchored::No,
    };
    // Its states are made as they are asked for, and kept: where they have no room, it gives up.
    let limits = dfa::Config::new()
        .cache_capacity(BUILD_BYTES_MAX)
        .minimum_cache_clear_count(Some(0));
    let built = dfa::Builder::new()
        .configure(limits)
        .thompson(thompson::Config::new().nfa_size_limit(Some(BUILD_BYTES_MAX)))
        .build(expression);
    let dfa = built.ok()?;
    let start = start::Config::new().anchored(anchored).look_behind(behind);
    let cache = &mut dfa.create_cache();
    let mut states = vec![dfa.start_state(cache, &start).ok()?];
    let mut names = BTreeMap::from([(*states.first()?, FIRST)]);
    let mut rows = Vec::new();
    while let Some(state) = states.get(rows.len()).copied() {
        let mut row = [DEAD; 257];
        let mut name = |next: LazyStateID| -> Option<u8> {
            if next.is_quit() {
                return None;
            }
            // The first match is enough: nobody asks where it ends.
            if next.is_match() {
                return Some(MATCHED);
            }
            if next.is_dead() {
                return Some(DEAD);
            }
            if let Some(known) = names.get(&next) {
                return Some(*known);
            }
            let name = u8::try_from(states.len() + usize::from(FIRST)).ok()?;
            states.push(next);
            names.insert(next, name);
            Some(name)
        };
        for (value, next) in (0..=u8::MAX).zip(&mut row) {
            *next = name(dfa.next_state(cache, state, value).ok()?)?;
        }
        if let Some(end) = row.last_mut() {
            let is_matched = dfa.next_eoi_state(cache, state).ok()?.is_match();
            *end = if is_matched { MATCHED } else { DEAD };
        }
        rows.push(row);
    }
    Some(rows)
}

fn number(value: usize) -> Option<u32> {
    u32::try_from(value).ok()
}

/// No path that goes on from here matches.
const DEAD: u8 = 0;
/// Every path that goes on from here matches.
const MATCHED: u8 = 1;
/// The state at the beginning, and the first that has a row.
const FIRST: u8 = 2;
/// Different ends of expressions, so that building takes an end: each takes some tens of microseconds, and at most 64 KiB.
const AUTOMATA_MAX: usize = 1024;
/// Of memory, while one is made.
const BUILD_BYTES_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::rule::PathRule;
    use proptest::prelude::*;

    const EXPRESSIONS: [&str; 22] = [
        "^/u/([0-9]+)$",
        "^/u/[0-9]+",
        r"^/u/\d+$",
        "^/u/7?$",
        "^/u+",
        "^/u+/$",
        "^/+",
        "/u",
        "7$",
        "^$",
        "",
        "^/u|7$",
        "^(/u|/7)*$",
        r"^/u(?-u:\b)",
        r"^/u(?-u:\B)7",
        r"^/(?-u:\b)u",
        r"^/u\b",
        "^/u^",
        "(?i)^/U",
        "^/(?i)U",
        "^/u.7",
        "^/u{2,3}7$",
    ];

    /// Whether it is found, as often as it is asked with an automaton.
    fn check(expression: &str, path: &str) -> bool {
        let pattern = Pattern::new(expression).unwrap();
        let expected = pattern.matches(path);
        let (_, before) = pattern.rest();
        let rule = PathRule::Matches(pattern.clone());
        if !path.starts_with(rule.literal()) {
            assert!(!expected, "{expression} {path}");
            return true; // The tree leads no such path here.
        }
        let mut builder = Builder::default();
        let Some(automaton) = builder.add(&pattern, rule.literal()) else {
            return false;
        };
        let found = builder
            .finish()
            .matches(automaton, &path.as_bytes()[before..]);
        assert_eq!(found, expected, "{expression} {path}");
        true
    }

    #[test]
    fn all_but_boundaries_of_unicode_words_have_an_automaton() {
        for expression in EXPRESSIONS {
            assert_eq!(check(expression, "/u"), expression != r"^/u\b");
        }
    }

    #[test]
    fn an_expression_that_would_be_large_has_none() {
        assert!(!check("^/[^/]{300}$", "/a"));
        assert!(!check("^/(.*a.{9}b)*$", "/a"));
    }

    #[test]
    fn ends_that_are_alike_have_one_automaton() {
        let mut builder = Builder::default();
        let mut add = |expression: &str| {
            let rule = PathRule::Matches(Pattern::new(expression).unwrap());
            let PathRule::Matches(pattern) = &rule else {
                unreachable!()
            };
            builder.add(pattern, rule.literal())
        };
        assert_eq!(add("^/a/([0-9]+)$"), Some(0));
        assert_eq!(add("^/b/([0-9]+)$"), Some(0));
        assert_eq!(
            add("^/b([0-9]+)$"),
            Some(1),
            "another byte stands before it"
        );
        assert_eq!(builder.finish().classes.len(), 1);
    }

    proptest! {
        #[test]
        fn an_automaton_finds_what_the_expression_finds(
            expression in prop::sample::select(EXPRESSIONS.to_vec()),
            path in "[/uU7é]{0,6}",
        ) {
            check(expression, &path);
        }
    }
}
