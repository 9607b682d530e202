//! Requests at random, and the look-up of one.

use super::mixture;
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_proxy::route::table::Table;
use hp_proxy::route::{Facts, path};

/// Routes at random, the same in each run: one request in twenty is for none of them.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self, routes: u32) -> (u32, bool) {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let is_miss = ((self.0 >> 24) & 0xFFFF).is_multiple_of(20);
        let route = ((self.0 >> 32) * u64::from(routes)) >> 32;
        (u32::try_from(route).unwrap_or_default(), is_miss)
    }
}

/// Requests that were written some at a time: what writes them is not in the caches when they are looked up.
pub(crate) struct Requests {
    draws: Draws,
    routes: u32,
    /// Their routes, whether those take them, and where they begin among the texts.
    written: Vec<(u32, bool, usize)>,
    /// Side by side, since each page that is read takes room in the caches.
    texts: String,
}

impl Requests {
    pub(crate) fn new(routes: u32) -> Self {
        Self {
            draws: Draws(1),
            routes,
            written: Vec::with_capacity(REQUESTS),
            texts: String::new(),
        }
    }

    /// Copies the next one to where all are read; which route it is for, and whether that takes it.
    pub(crate) fn next(&mut self, text: &mut String) -> (u32, bool) {
        if self.written.is_empty() {
            for _ in 0..REQUESTS {
                let (route, is_miss) = self.draws.next(self.routes);
                self.written.push((route, is_miss, self.texts.len()));
                mixture::write_request(text, route, is_miss);
                self.texts.push_str(text);
            }
        }
        let Some((route, is_miss, start)) = self.written.pop() else {
            return Default::default(); // Never: so many were written.
        };
        text.clear();
        text.push_str(self.texts.get(start..).unwrap_or_default());
        self.texts.truncate(start);
        (route, is_miss)
    }
}

/// What is under test. Not inlined, so that a profile finds it.
#[inline(never)]
pub(crate) fn look_up(table: &Table, head: &RequestHead<'_, '_>) -> Option<u32> {
    let host = head.authority.map(|authority| authority.host());
    let host = host.unwrap_or_default();
    let among = table.of_host(host);
    let (path, query) = head.target.path_then_query();
    let path = path::normal(path);
    let facts = Facts {
        host,
        path: &path,
        query,
        method: head.method.as_str(),
        fields: &head.fields,
        client: None,
    };
    let winner = table.find_among(among, &facts);
    winner.map(|winner| winner.route.0)
}

/// Reads a request that was written here, and looks at it.
pub(crate) fn with_head<T>(text: &str, look: impl FnOnce(&RequestHead<'_, '_>) -> T) -> Option<T> {
    let mut scratch = HeaderScratch::new();
    match parse_request(text.as_bytes(), &HeadLimits::default(), &mut scratch) {
        Ok(Parse::Complete(head)) => Some(look(&head)),
        _ => None, // Never: it is whole.
    }
}

/// Requests that are written at once: few look-ups come just after that, and all of them take some 70 KiB.
const REQUESTS: usize = 256;
