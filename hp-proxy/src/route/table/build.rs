//! Makes the index of a list of rules.

use super::index::{Asks, Check, Index, Kind, Leaf, NearText, Part, Text, bit_of};
use super::names::Names;
use crate::route::RouteId;
use crate::route::automaton::{self, Automata};
use crate::route::radix::{Forest, NONE, Root};
use crate::route::rule::{Condition, HostRule, PathRule, Pattern, Rule};
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
            index: Self {
                names: Names::default(),
                forest: Forest::default(),
                any_host: Root::EMPTY,
                leaves: Vec::new(),
                checks: Vec::new(),
                automata: Automata::default(),
                texts: String::new(),
            },
            texts: BTreeMap::new(),
            automata: automaton::Builder::default(),
        };
        let names = by_name.into_iter().map(|(name, named)| {
            let paths = (builder.paths(&named.is), builder.paths(&named.below));
            (name, paths)
        });
        let names = names.collect();
        builder.index.names = Names::new(&names);
        builder.index.any_host = builder.paths(&any_host);
        builder.index.automata = builder.automata.finish();
        builder.index
    }
}

/// The rules of a name, and of those below it.
#[derive(Default)]
struct Named {
    is: Vec<u32>,
    below: Vec<u32>,
}

struct Builder<'r> {
    rules: &'r [(RouteId, Rule)],
    index: Index,
    /// Those that are there already.
    texts: BTreeMap<String, Text>,
    automata: automaton::Builder,
}

impl Builder<'_> {
    /// Makes the tree of the paths of some rules, with their leaves.
    fn paths(&mut self, list: &[u32]) -> Root {
        let rules = self.rules;
        let numbered = list
            .iter()
            .filter_map(|index| Some((*index, rules.get(*index as usize)?)));
        let mut sorted: Vec<_> = numbered.collect();
        sorted.sort_by_key(|(_, (_, rule))| Reverse(rule.rank()));
        let mut literals: BTreeMap<&str, Vec<Leaf>> = BTreeMap::new();
        for (index, (route, rule)) in sorted {
            let leaf = self.leaf(index, *route, rule);
            literals.entry(rule.path.literal()).or_default().push(leaf);
        }
        let mut keys: Vec<(&[u8], u32)> = Vec::with_capacity(literals.len());
        let mut first = number(self.index.leaves.len());
        for (literal, leaves) in &literals {
            keys.push((literal.as_bytes(), first));
            first += number(leaves.len());
        }
        let (root, outer) = self.index.forest.grow(&keys);
        for (mut leaves, outer) in literals.into_values().zip(outer) {
            for leaf in &mut leaves {
                leaf.outer = outer;
            }
            if let Some(last) = leaves.last_mut() {
                last.is_last = true;
            }
            self.index.leaves.extend(leaves);
        }
        root
    }

    fn leaf(&mut self, index: u32, route: RouteId, rule: &Rule) -> Leaf {
        let literal = rule.path.literal();
        let (kind, automaton, back) = match &rule.path {
            PathRule::Is(_) => (Kind::Is, NONE, 0),
            PathRule::Any => (Kind::All, NONE, 0),
            PathRule::Prefix(_) if literal.is_empty() || literal.ends_with('/') => {
                (Kind::All, NONE, 0)
            }
            PathRule::Prefix(_) => (Kind::Prefix, NONE, 0),
            PathRule::Matches(pattern) => self.search(pattern, literal),
        };
        let (methods, asks) = self.asks(rule);
        Leaf {
            literal: NearText::new(literal, |literal| self.text(literal)),
            outer: NONE,
            rule: index,
            route,
            asks,
            automaton,
            methods,
            kind,
            back,
            is_last: false,
        }
    }

    /// How the rest of a path that begins with an expression's literal is searched.
    fn search(&mut self, pattern: &Pattern, literal: &str) -> (Kind, u32, u8) {
        let (_, before) = pattern.rest();
        let back = literal.len().checked_sub(before);
        let back = back.and_then(|back| u8::try_from(back).ok());
        let automaton = self.automata.add(pattern, literal);
        match (automaton, back) {
            (Some(automaton), Some(back)) => (Kind::Matches, automaton, back),
            _ => (Kind::Searched, NONE, 0),
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
        let first = number(self.index.checks.len());
        self.index.checks.extend(checks);
        (methods, Asks(first))
    }

    /// A text's place, where it goes if it is not there yet.
    fn text(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return *known;
        }
        let place = Text::new(self.index.texts.len(), text.len());
        self.index.texts.push_str(text);
        self.texts.insert(text.to_owned(), place);
        place
    }
}

/// Rules are fewer than 2^32 - 2, and so are the bytes of their texts: those of a configuration have a bound.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("the text of a configuration is bounded")
}
