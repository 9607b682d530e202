//! Look-ups with a clock.

use super::Wanted;
use super::mixture::{self, Kind};
use super::requests::{Draws, Requests, look_up, with_head};
use super::times::{STEP, Times, nanos};
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_proxy::route::table::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

/// What single look-ups took, in nanoseconds without that of reading the clock.
pub(crate) struct Timed {
    /// Of the clock, in the middle: what is subtracted.
    clock: u64,
    /// Of nothing, beside each look-up.
    nothing: Times,
    /// Of the same request each time, beside each look-up.
    same: Times,
    /// Of a computation about as long as a look-up that reads no memory, beside each look-up.
    computed: Times,
    /// Of look-ups for the first time, by kind.
    by_kind: BTreeMap<Kind, Times>,
    /// Of all again, at once.
    again: Times,
    lookups: u32,
    right: u32,
}

/// A look-up that took long.
#[derive(Clone, Copy)]
struct Slow {
    /// In the order in which they were made.
    number: u32,
    kind: Kind,
}

impl Timed {
    /// Times single look-ups, each with something before it that takes no part, and tells of each: its number, its kind and its time. With a twin, an
    /// equal table, each is made there just before.
    fn new(
        (table, twin): (&Table, Option<&Table>),
        wanted: &Wanted,
        mut before: impl FnMut(),
        mut note: impl FnMut(u32, Kind, u64),
    ) -> Self {
        let mut clock = Times::default();
        (0..100_000).for_each(|_| clock.count(nanos(|| None).0));
        let mut timed = Self {
            clock: clock.percentile(500),
            nothing: Times::default(),
            same: Times::default(),
            computed: Times::default(),
            by_kind: BTreeMap::new(),
            again: Times::default(),
            lookups: wanted.lookups,
            right: 0,
        };
        let mut requests = Requests::new(wanted.routes);
        let mut text = String::new();
        let mut fixed = String::new();
        mixture::write_request(&mut fixed, 0, false);
        let _whole: Option<()> = with_head(&fixed, |fixed| {
            for number in 0..wanted.lookups {
                let (route, is_miss) = requests.next(&mut text);
                before();
                // As in the proxy, the head was read just before.
                let times = with_head(&text, |head| {
                    if let Some(twin) = twin {
                        black_box((computation(), look_up(twin, black_box(head)), computation()));
                    }
                    timed.one(table, head, fixed)
                });
                let (first, found) = times.unwrap_or_default();
                let expected = if is_miss { wanted.routes } else { route };
                timed.right += u32::from(found == Some(expected));
                let kind = Kind::of(route, is_miss);
                timed.by_kind.entry(kind).or_default().count(first);
                note(number, kind, first);
            }
        });
        timed
    }

    /// Looks one request up twice, between nothing and the one that is always the same; what it took first, and what was found.
    fn one(
        &mut self,
        table: &Table,
        head: &RequestHead<'_, '_>,
        fixed: &RequestHead<'_, '_>,
    ) -> (u64, Option<u32>) {
        let (empty, _) = nanos(|| nothing(table, black_box(head)));
        let (first, found) = nanos(|| look_up(table, black_box(head)));
        let (again, _) = nanos(|| look_up(table, black_box(head)));
        let (same, _) = nanos(|| look_up(table, black_box(fixed)));
        let (computed, _) = nanos(computation);
        let [empty, first, again, same, computed] =
            [empty, first, again, same, computed].map(|took| took.saturating_sub(self.clock));
        self.nothing.count(empty);
        self.again.count(again);
        self.same.count(same);
        self.computed.count(computed);
        (first, found)
    }

    /// Of all kinds, for the first time.
    fn all(&self) -> Times {
        let mut all = Times::default();
        self.by_kind.values().for_each(|times| all.add(times));
        all
    }

    /// Of look-ups for the first time, the 99th percentile: the last of its step.
    pub(crate) fn p99(&self) -> u64 {
        self.all().percentile(990) + STEP - 1
    }

    /// Whether each found what it should.
    pub(crate) fn is_right(&self) -> bool {
        self.right == self.lookups
    }

    fn tell(&self, told: &str) {
        println!(
            "{told}: {} look-ups, {} of them right; the clock takes {} ns, which is subtracted",
            self.lookups, self.right, self.clock
        );
        for (kind, times) in &self.by_kind {
            times.tell(kind.name());
        }
        self.all().tell("all");
        self.again.tell("all, at once again");
        self.same.tell("the same one each time");
        self.computed.tell("no memory, only computed");
        self.nothing.tell("nothing");
    }
}

/// Times single look-ups, with something before each that takes no part, and tells what they took.
pub(crate) fn one_by_one(
    table: &Table,
    wanted: &Wanted,
    told: &str,
    before: impl FnMut(),
) -> Timed {
    let timed = Timed::new((table, None), wanted, before, |_, _, _| ());
    timed.tell(told);
    timed
}

/// Tells of which kinds the slowest hundredth of single look-ups is, and whether they are slow because of what they are: then the same ones are slow in a second
/// run. Those that something else made slow come close to each other, or at random.
pub(crate) fn slowest(table: &Table, wanted: &Wanted) -> bool {
    let timed = one_by_one(table, wanted, "one by one", || ());
    let p99 = timed.p99();
    let [one, other] = [(); 2].map(|()| slow_ones(table, wanted, p99));
    let numbers: BTreeSet<u32> = other.iter().map(|slow| slow.number).collect();
    let twice = one.iter().filter(|slow| numbers.contains(&slow.number));
    let pairs = one.iter().zip(one.iter().skip(1));
    let close = pairs.filter(|(slow, next)| next.number - slow.number <= CLOSE);
    let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    println!(
        "above {p99} ns: {} look-ups, {:.1} % of all; {:.1} % of them within {CLOSE} of the one before, and {:.1} % slow in another run, too ({:.1} % of all were)",
        one.len(),
        share(one.len(), wanted.lookups as usize),
        share(close.count(), one.len()),
        share(twice.count(), one.len()),
        share(other.len(), wanted.lookups as usize),
    );
    for (kind, times) in &timed.by_kind {
        let of_kind = one.iter().filter(|slow| slow.kind == *kind).count();
        let [all, above] = times.above(p99);
        println!(
            "  {:28} {:5.1} % of the slowest, {:5.1} % of all; {above} of {all} in the first run",
            kind.name(),
            share(of_kind, one.len()),
            100.0 * all as f64 / f64::from(wanted.lookups),
        );
    }
    let twin = Table::new(table.rules().to_vec());
    let few = Wanted {
        lookups: (wanted.lookups / TURNS).max(1),
        ..wanted.clone()
    };
    // In turns, since others may use the same processor now and then.
    let mut sums = [Times::default(), Times::default()];
    for _ in 0..TURNS {
        for (sum, twin) in sums.iter_mut().zip([None, Some(&twin)]) {
            sum.add(&Timed::new((table, twin), &few, || (), |_, _, _| ()).all());
        }
    }
    let [plain, known] = sums;
    println!("in turns, {TURNS} of each:");
    plain.tell("as above");
    known.tell("branches known, memory not");
    timed.is_right()
}

/// The look-ups of a run that take longer than so many nanoseconds.
fn slow_ones(table: &Table, wanted: &Wanted, above: u64) -> Vec<Slow> {
    let mut slow = Vec::new();
    Timed::new(
        (table, None),
        wanted,
        || (),
        |number, kind, took| {
            if took > above {
                slow.push(Slow { number, kind });
            }
        },
    );
    slow
}

/// What takes about as long as a look-up, always the same, without memory and with one branch that is always known: what varies in it is the machine's. Its
/// steps do several things at once, as look-ups do, so that it tells of another thread on the same core. Behind it the processor knows the same branches, whatever
/// was before.
#[inline(never)]
fn computation() -> Option<u32> {
    let step = |word: u64| (word ^ (word >> 7)).wrapping_mul(MULTIPLIER);
    let mixed = (0..COMPUTED).fold(black_box([1_u64, 2, 3, 4]), |words, _| words.map(step));
    let mixed = mixed.into_iter().fold(0, |all, word| all ^ word);
    u32::try_from(mixed >> 32).ok()
}

/// What is not under test.
#[inline(never)]
fn nothing(table: &Table, head: &RequestHead<'_, '_>) -> Option<u32> {
    black_box((table, head));
    None
}

/// Times look-ups of requests whose heads were all read before.
pub(crate) fn in_batches(table: &Table, wanted: &Wanted) {
    let mut draws = Draws(2);
    let mut texts = vec![String::new(); BATCH];
    let mut means = Times::default();
    for _ in 0..wanted.lookups as usize / BATCH {
        for text in &mut texts {
            let (route, is_miss) = draws.next(wanted.routes);
            mixture::write_request(text, route, is_miss);
        }
        let mut scratches: Vec<HeaderScratch<'_>> =
            (0..BATCH).map(|_| HeaderScratch::new()).collect();
        let mut heads = Vec::with_capacity(BATCH);
        for (text, scratch) in texts.iter().zip(&mut scratches) {
            if let Ok(Parse::Complete(head)) =
                parse_request(text.as_bytes(), &HeadLimits::default(), scratch)
            {
                heads.push(head);
            }
        }
        let (took, found) = nanos(|| {
            let found = heads.iter().map(|head| look_up(table, black_box(head)));
            found.fold(None, Ord::max)
        });
        black_box(found);
        means.count(took / BATCH as u64);
    }
    means.tell(&format!("in batches of {BATCH}, the mean"));
}

/// Steps of a computation.
const COMPUTED: u32 = 100;
/// Any odd number.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
/// Parts of a run, where two are compared.
const TURNS: u32 = 10;
/// Look-ups that are timed together.
const BATCH: usize = 16;
/// So many look-ups from each other, two may be slow for the same reason.
const CLOSE: u32 = 10;
