//! Texts that answers are made of, and room for more: what all requests of a thread use, one after the other.

use hp_core::rt::{Instant, Rt};
use hp_core::wire::date::{self, DateLine};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Lives as long as its thread.
#[derive(Debug)]
pub(super) struct Texts {
    scratch: RefCell<Vec<Vec<u8>>>,
    date: Cell<Date>,
}

/// The Date field for now, and until when that is true.
#[derive(Clone, Copy, Debug)]
struct Date {
    line: DateLine,
    until: Instant,
}

impl Texts {
    pub(super) fn new(rt: &Rt) -> Self {
        Self {
            scratch: RefCell::default(),
            date: Cell::new(Date {
                line: date::line(rt.wall_clock()),
                until: rt.now(),
            }),
        }
    }

    /// The Date field of what is answered now; a second's text is made once.
    #[inline]
    pub(super) fn date_line(&self, rt: &Rt) -> DateLine {
        let Date { line, until } = self.date.get();
        if rt.now() < until {
            line
        } else {
            self.next_date_line(rt)
        }
    }

    #[cold]
    fn next_date_line(&self, rt: &Rt) -> DateLine {
        let clock = rt.wall_clock();
        let into_second = Duration::from_nanos(u64::from(clock.subsec_nanos()));
        let line = date::line(clock);
        let until = rt.now() + Duration::from_secs(1).saturating_sub(into_second);
        self.date.set(Date { line, until });
        line
    }

    /// An empty buffer for a head, with room from its last use.
    #[inline]
    pub(super) fn take_scratch(&self) -> Vec<u8> {
        self.scratch
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(SCRATCH_BYTES))
    }

    /// Gives a buffer back for the next head.
    #[inline]
    pub(super) fn give_scratch(&self, mut buffer: Vec<u8>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX && SCRATCH_KEPT_BYTES.contains(&buffer.capacity()) {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// Most heads fit.
const SCRATCH_BYTES: usize = 1024;
const SCRATCH_KEPT_MAX: usize = 1024;
/// One without room was never taken from here.
const SCRATCH_KEPT_BYTES: std::ops::RangeInclusive<usize> = SCRATCH_BYTES..=16 * 1024;
