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
    /// For each kind of byte values that some automaton tells apart: which of its columns belongs to a value.
    classes: Vec<[u8; 256]>,
    /// States of all automata: for each, a column per class and one for the end of the path. In it is [`DEAD`], [`MATCHED`], or where among those of its
    /// automaton the next state begins, so that a step adds and does not multiply.
    steps: Vec<u16>,
}

/// Where the classes of one of them are, and its states. Whoever has it looks at nothing else on the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Automaton {
    classes: u32,
    steps: u32,
    columns: u32,
}

/// Makes automata; equal ones once.
#[derive(Debug, Default)]
pub(super) struct Builder {
    automata: Automata,
    /// By the expression, and the byte that stands before it in a path; `None` where it has no automaton.
    known: BTreeMap<(String, Option<u8>), Option<Automaton>>,
    classes: BTreeMap<Vec<u8>, u32>,
}

impl Automata {
    /// How many bytes they take.
    pub(super) fn size(&self) -> usize {
        size_of_val(self.classes.as_slice()) + size_of_val(self.steps.as_slice())
    }

    /// Whether a path whose rest this is matches; the automaton is that of [`Builder::add`].
    #[inline]
    pub(super) fn matches(&self, automaton: Automaton, rest: &[u8]) -> bool {
        let classes = self.classes.get(automaton.classes as usize);
        let (Some(classes), Some(steps)) = (classes, self.steps.get(automaton.steps as usize..))
        else {
            return false; // Never: it was added.
        };
        let step = |state: u16, column: usize| {
            let next = steps.get(usize::from(state - FIRST) + column);
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
        step(state, automaton.columns as usize - 1) == MATCHED
    }
}

impl Builder {
    /// The automaton of what [`Pattern::rest`] is; `None` where it would be too large, or there are too many.
    pub(super) fn add(&mut self, pattern: &Pattern, literal: &str) -> Option<Automaton> {
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

    fn make(&mut self, expression: &str, behind: Option<u8>) -> Option<Automaton> {
        let rows = rows_of(expression, behind)?;
        // Byte values that lead to the same states from everywhere are one class.
        let mut classes = vec![0; 256];
        let mut columns: BTreeMap<Vec<u16>, u8> = BTreeMap::new();
        for (value, class) in classes.iter_mut().enumerate() {
            let column = rows.iter().filter_map(|row| row.get(value).copied());
            let next = u8::try_from(columns.len()).unwrap_or(u8::MAX); // At most 256.
            *class = *columns.entry(column.collect()).or_insert(next);
        }
        let width = u16::try_from(columns.len() + 1).ok()?;
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
        let place_of = |state: u16| match state.checked_sub(FIRST) {
            None => Some(state),
            Some(row) => row.checked_mul(width)?.checked_add(FIRST),
        };
        for row in &rows {
            let start = automata.steps.len();
            automata
                .steps
                .resize(start + automaton.columns as usize, DEAD);
            let places = classes.iter().map(|class| usize::from(*class));
            for (place, next) in places.chain([columns.len()]).zip(row) {
                if let Some(step) = automata.steps.get_mut(start + place) {
                    *step = place_of(*next)?;
                }
            }
        }
        Some(automaton)
    }
}

/// For each state, from [`FIRST`] on: where each byte value leads, and then where the end does.
fn rows_of(expression: &str, behind: Option<u8>) -> Option<Vec<[u16; 257]>> {
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
        let mut name = |next: LazyStateID| -> Option<u16> {
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
            let number = u8::try_from(states.len()).ok()?; // So that where it begins has 16 bits.
            let name = u16::from(number) + FIRST;
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
const DEAD: u16 = 0;
/// Every path that goes on from here matches.
const MATCHED: u16 = 1;
/// The state at the beginning, and the first that has a row.
const FIRST: u16 = 2;
/// Different ends of expressions, so that building takes an end: each takes some tens of microseconds, and at most 128 KiB.
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
    fn an_automaton_may_have_two_hundred_states() {
        for (len, last) in [(0, "a"), (198, "b"), (199, "e"), (199, "f"), (200, "c")] {
            let path = format!("/{}{last}", "abc".repeat(67).get(..len).unwrap());
            assert!(check("^/[a-e]{200}$", &path), "{path}");
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
        let behind_a_slash = add("^/a/([0-9]+)$").unwrap();
        assert_eq!(add("^/b/([0-9]+)$"), Some(behind_a_slash));
        let behind_a_letter = add("^/b([0-9]+)$").unwrap();
        assert_ne!(behind_a_letter.steps, behind_a_slash.steps);
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
