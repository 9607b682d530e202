//! Makes the index of a list of rules.

use super::filter::Filter;
use super::index::{
    Asks, Check, END_MAX, Index, LAST, Leaf, More, NEAR_MAX, Part, Text, Traits, bit_of,
};
use super::names::{Names, Trees};
use crate::route::RouteId;
use crate::route::automaton::{self, Automaton};
use crate::route::radix::{NONE, Nursery, Root};
use crate::route::rule::{Condition, HostRule, PathRule, Pattern, Rule};
use hp_core::sys::arena::Arena;
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Index {
    /// The index of these rules.
    pub(super) fn new(rules: &[(RouteId, Rule)]) -> Self {
        let mut by_name: BTreeMap<String, Named> = BTreeMap::new();
        let mut any_host = Vec::new();
        for (index, (_, rule)) in (0..).zip(rules) {
            match &rule.host {
                HostRule::Any => any_host.push(index),
                HostRule::Is(name) => {
                    let name = name.to_ascii_lowercase();
                    by_name.entry(name).or_default().is.push(index);
                }
                HostRule::Below(name) => {
                    let name = format!(".{}", name.to_ascii_lowercase());
                    by_name.entry(name).or_default().below.push(index);
                }
            }
        }
        let mut builder = Builder {
            rules,
            ..Builder::default()
        };
        let names = by_name.into_iter().map(|(name, named)| {
            let leaves = number(builder.leaves.len());
            let [(is, filter_is), (below, filter_below)] =
                [&named.is, &named.below].map(|list| builder.paths(list));
            let filter = match (is == Root::EMPTY, below == Root::EMPTY) {
                (false, true) => filter_is,
                (true, false) => filter_below,
                _ => Filter::EVERY, // A name has room for one.
            };
            let trees = Trees {
                is,
                below,
                filter,
                leaves,
            };
            (name, trees)
        });
        let names = names.collect();
        let any_host = builder.paths(&any_host);
        builder.finish(&names, any_host)
    }
}

/// The rules of a name, and of those below it.
#[derive(Default)]
struct Named {
    is: Vec<u32>,
    below: Vec<u32>,
}

#[derive(Default)]
struct Builder<'r> {
    rules: &'r [(RouteId, Rule)],
    nursery: Nursery,
    leaves: Vec<Leaf>,
    more: Vec<More>,
    checks: Vec<Check>,
    automata: automaton::Builder,
    texts: String,
    /// Those that are there already.
    known_more: BTreeMap<More, u32>,
    known_checks: BTreeMap<Vec<Check>, u32>,
    known_texts: BTreeMap<String, Text>,
}

impl Builder<'_> {
    /// The index of what was made, in one arena: what takes little and is read most often comes first.
    fn finish(self, names: &BTreeMap<String, Trees>, any_host: (Root, Filter)) -> Index {
        let (mut names, mut forest) = (Names::new(names), self.nursery.finish());
        let shared = Arena::bytes_of(&self.checks) + Arena::bytes_of(&self.more);
        let own = forest.room() + Arena::bytes_of(&self.leaves);
        let mut arena = Arena::with_room(shared + names.room() + own);
        let (checks, more) = (arena.keep(&self.checks), arena.keep(&self.more));
        names.move_to(&mut arena);
        forest.move_to(&mut arena);
        Index {
            names,
            forest,
            any_host,
            leaves: arena.keep(&self.leaves),
            more,
            checks,
            automata: self.automata.finish(),
            texts: self.texts,
            routes: routes_of(self.rules),
        }
    }

    /// Makes the tree of the paths of some rules, with its filter and their leaves.
    fn paths(&mut self, list: &[u32]) -> (Root, Filter) {
        let rules = self.rules;
        let numbered = list
            .iter()
            .filter_map(|index| Some((*index, rules.get(*index as usize)?)));
        let mut sorted: Vec<_> = numbered.collect();
        sorted.sort_by_key(|(_, (_, rule))| Reverse(rule.rank()));
        let mut literals: BTreeMap<&str, Vec<(Leaf, More)>> = BTreeMap::new();
        for (index, (_, rule)) in sorted {
            let leaf = self.leaf(index, rule);
            literals.entry(rule.path.literal()).or_default().push(leaf);
        }
        let mut keys: Vec<(&[u8], u32)> = Vec::with_capacity(literals.len());
        let mut first = number(self.leaves.len());
        for (literal, leaves) in &literals {
            keys.push((literal.as_bytes(), first));
            first += number(leaves.len());
        }
        let filter = Filter::new(&keys);
        let (root, outer) = self.nursery.grow(&keys);
        for (leaves, outer) in literals.into_values().zip(outer) {
            let last = leaves.len() - 1; // It was made with one.
            for (number, (mut leaf, more)) in leaves.into_iter().enumerate() {
                leaf.more = self.more(More { outer, ..more });
                if number == last {
                    leaf.more |= LAST;
                }
                self.leaves.push(leaf);
            }
        }
        (root, filter)
    }

    /// A leaf and what is more to it, both without what depends on other literals.
    fn leaf(&mut self, index: u32, rule: &Rule) -> (Leaf, More) {
        let literal = rule.path.literal();
        let (before, end) = split(literal, END_MAX);
        let (far, near) = split(before, NEAR_MAX);
        let everything = Traits::END | Traits::SLASH | Traits::OTHER;
        let behind = match &rule.path {
            PathRule::Is(_) => Traits::END,
            PathRule::Prefix(_) if !literal.is_empty() && !literal.ends_with('/') => {
                Traits::END | Traits::SLASH
            }
            PathRule::Any | PathRule::Prefix(_) | PathRule::Matches(_) => everything,
        };
        let (methods, asks) = self.asks(rule);
        let (automaton, back) = match &rule.path {
            PathRule::Matches(pattern) => self.automaton(pattern, literal),
            _ => (None, 0),
        };
        let is_pattern = matches!(rule.path, PathRule::Matches(_));
        let is_plain = asks == Asks::NOTHING && !is_pattern;
        let is_searched = is_pattern && automaton.is_none();
        let more = More {
            len: number(literal.len()),
            end_len: u8::try_from(end.len()).unwrap_or(u8::MAX), // At most 8.
            methods,
            traits: behind
                | if methods == 0 { Traits::ANY_METHOD } else { 0 }
                | if is_plain { Traits::PLAIN } else { 0 }
                | if is_searched { Traits::SEARCHED } else { 0 },
            back,
            far: if far.is_empty() {
                Text::default()
            } else {
                self.text(far)
            },
            near: padded(near),
            outer: NONE,
            asks,
            automaton,
        };
        let leaf = Leaf {
            end: padded(end),
            rule: index,
            more: NONE,
        };
        (leaf, more)
    }

    /// Where what leaves have in common lies; it goes there if it is not there yet.
    fn more(&mut self, more: More) -> u32 {
        let next = number(self.more.len());
        let place = *self.known_more.entry(more).or_insert(next);
        if place == next {
            self.more.push(more);
        }
        place
    }

    /// How the rest of a path that begins with an expression's literal is searched, and how many bytes before the end of that.
    fn automaton(&mut self, pattern: &Pattern, literal: &str) -> (Option<Automaton>, u8) {
        let (_, before) = pattern.rest();
        let back = literal.len().checked_sub(before);
        match back.map(u8::try_from) {
            Some(Ok(back)) => (self.automata.add(pattern, literal), back),
            _ => (None, 0),
        }
    }

    /// What a rule asks for besides host and path: the bits of methods, and the rest.
    fn asks(&mut self, rule: &Rule) -> (u8, Asks) {
        let bits = rule.methods.iter().map(|method| bit_of(method));
        let is_standard = bits.clone().all(|bit| bit != 0);
        if !is_standard || !rule.client_ips.is_empty() {
            return (0, Asks::RULE);
        }
        let methods = bits.fold(0, |all, bit| all | bit);
        let mut checks = Vec::with_capacity(rule.headers.len() + rule.query.len());
        let fields = rule.headers.iter().map(|asked| (Part::Fields, asked));
        let parameters = rule.query.iter().map(|asked| (Part::Query, asked));
        for (of, (name, condition)) in fields.chain(parameters) {
            let value = match condition {
                Condition::Present => None,
                Condition::Is(value) => Some(self.text(value)),
                Condition::Matches(_) => return (0, Asks::RULE),
            };
            checks.push(Check {
                of,
                name: self.text(name),
                value,
                is_last: false,
            });
        }
        let Some(last) = checks.last_mut() else {
            return (methods, Asks::NOTHING);
        };
        last.is_last = true;
        if let Some(known) = self.known_checks.get(&checks) {
            return (methods, Asks(*known));
        }
        let next = number(self.checks.len());
        self.checks.extend(&checks);
        self.known_checks.insert(checks, next);
        (methods, Asks(next))
    }

    /// A text's place, where it goes if it is not there yet.
    fn text(&mut self, text: &str) -> Text {
        if let Some(known) = self.known_texts.get(text) {
            return *known;
        }
        let place = Text::new(self.texts.len(), text.len());
        self.texts.push_str(text);
        self.known_texts.insert(text.to_owned(), place);
        place
    }
}

/// The route of each rule, if not all have the rule's number.
fn routes_of(rules: &[(RouteId, Rule)]) -> Vec<RouteId> {
    let mut numbered = (0..).map(RouteId).zip(rules);
    if numbered.all(|(number, (route, _))| number == *route) {
        return Vec::new();
    }
    rules.iter().map(|(route, _)| *route).collect()
}

/// A text in two: its last bytes, up to so many, and what stands before them.
fn split(literal: &str, last: usize) -> (&str, &str) {
    let mut start = literal.len().saturating_sub(last);
    while !literal.is_char_boundary(start) {
        start += 1; // Ends: its end is one.
    }
    literal.split_at(start)
}

/// A text of up to `N` bytes, with zeros behind it.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut padded = [0; N];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    padded
}

/// Rules are fewer than 2^32 - 2, and so are the bytes of their texts: those of a configuration have a bound.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("the text of a configuration is bounded")
}
