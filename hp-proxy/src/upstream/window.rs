//! How many new connections one endpoint is given at once. Pure: no clock, no socket; times and counts are arguments.
//!
//! A server takes connections from its backlog one after the other. Where that is full, the kernel drops what else arrives
//! and says nothing; the dialling kernel asks again only after a second. Whoever has fewer under way waits for less.
//!
//! ```text
//! begin ─→ connecting ─connect→ connected ─finish→ (no longer fresh)
//!              └─give_up→ (gone)
//! ```

use hp_core::rt::Instant;
use std::time::Duration;

/// The fresh connections of one endpoint: those that may wait in its backlog, for no exchange has ended on them yet.
///
/// `connecting + connected <= limit` when one is begun with room; a limit that shrinks cuts none of them off.
#[derive(Debug)]
pub(super) struct Window {
    connecting: u32,
    connected: u32,
    /// `1 <= limit <= LIMIT_MAX` once something has stalled; `None`: no limit.
    limit: Option<u32>,
    /// First exchanges that ended since the limit changed; `credit < GROWTH * limit`.
    credit: u32,
    /// A connection's time from its dial, as short as it gets; `None` while none was ever made.
    nearest: Option<Duration>,
    /// Whether each connection that comes lets another one be dialled: somebody was let past the limit, and nothing has stalled since.
    is_probing: bool,
    /// When somebody was let past the limit last. A stall moves it not, or a worker that is late again and again would let nobody past.
    tried_at: Instant,
    /// When the endpoint refused a connection while no other one had any to give; nobody dials it until a while after.
    refused_at: Option<Instant>,
}

/// What becomes of a dial that stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// It waits: another connection will end and tell that there is room.
    Wait,
    /// It dials again: nobody else would tell.
    Redial,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            connecting: 0,
            connected: 0,
            limit: None,
            credit: 0,
            nearest: None,
            is_probing: false,
            tried_at: Instant::START,
            refused_at: None,
        }
    }
}

impl Window {
    /// A dial begins.
    pub(super) fn begin(&mut self) {
        self.connecting += 1;
    }

    /// A dial ends without a connection.
    pub(super) fn give_up(&mut self) {
        assert!(self.connecting > 0);
        self.connecting -= 1;
    }

    /// A dial ends with a connection, so long after its last attempt began.
    pub(super) fn connect(&mut self, took: Duration) {
        assert!(self.connecting > 0);
        self.connecting -= 1;
        self.connected += 1;
        self.nearest = Some(match self.nearest {
            Some(nearest) if nearest < took => nearest + (took - nearest) / NEAREST_RISE,
            _ => took,
        });
        if let Some(limit) = self.limit
            && self.is_probing
        {
            // As many may be on their way as have come: each doubling takes one connect time, however long exchanges last.
            let ahead = self.connected.saturating_mul(2);
            if ahead > limit {
                self.grow_to(ahead);
            }
        }
    }

    /// The first exchange of a connection has ended, with or without an answer: the server has taken it.
    pub(super) fn finish(&mut self) {
        assert!(self.connected > 0);
        self.connected -= 1;
        let Some(limit) = self.limit else {
            return;
        };
        self.credit += 1;
        if self.credit >= limit * GROWTH {
            self.grow_to(limit + 1);
        }
    }

    /// A dial is undecided after its patience; it counts as connecting until [`Window::give_up`].
    pub(super) fn stall(&mut self) -> Stall {
        let taken = self.connected.clamp(1, LIMIT_MAX);
        self.limit = Some(self.limit.map_or(taken, |limit| limit.min(taken)));
        self.credit = 0;
        self.is_probing = false;
        if self.connected > 0 {
            Stall::Wait
        } else {
            Stall::Redial
        }
    }

    /// The endpoint refused a connection, and whoever wanted one waits for another endpoint. Without a pause this one, which has room all the time, would take
    /// every request that waits, and fail it.
    pub(super) fn refuse(&mut self, now: Instant) {
        self.refused_at = Some(now);
    }

    /// Whether its pause is over by now, if it was in one.
    pub(super) fn end_pause(&mut self, now: Instant) -> bool {
        let is_over = self.refused_at.is_some_and(|at| now - at >= HELD_BACK_MAX);
        if is_over {
            self.refused_at = None;
        }
        is_over
    }

    /// Somebody has waited for long. Perhaps the fresh connections are slow, not queueing (a download, a tunnel), and that some of them end says nothing about
    /// that: twice as many are allowed, and more as they come, unless one stalls. Whether that has happened.
    pub(super) fn widen(&mut self, now: Instant) -> bool {
        if self.end_pause(now) {
            return self.has_room();
        }
        let Some(limit) = self.limit else {
            return false;
        };
        if self.has_room() || now - self.tried_at < HELD_BACK_MAX {
            return false;
        }
        self.tried_at = now;
        self.is_probing = true;
        self.grow_to(limit.max(self.fresh()).saturating_mul(2));
        true
    }

    fn grow_to(&mut self, limit: u32) {
        self.limit = (limit <= LIMIT_MAX).then_some(limit);
        self.credit = 0;
    }

    /// Whether one more may be begun.
    pub(super) fn has_room(&self) -> bool {
        self.refused_at.is_none() && self.limit.is_none_or(|limit| self.fresh() < limit)
    }

    /// Whether something has stalled, or was refused, not long ago.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some() || self.is_refusing()
    }

    /// Whether nobody dials it for a while.
    pub(super) fn is_refusing(&self) -> bool {
        self.refused_at.is_some()
    }

    /// How long an attempt may stay undecided, after so many that stalled. `None` while nobody knows how far the endpoint
    /// is: what is far would be dialled again in vain.
    pub(super) fn patience(&self, stalls: u32) -> Option<Duration> {
        let first = (self.nearest? * PATIENCE_TIMES).max(PATIENCE_MIN);
        Some(first.saturating_mul(1 << stalls.min(DOUBLINGS_MAX)))
    }

    fn fresh(&self) -> u32 {
        self.connecting + self.connected
    }
}

/// The shortest patience. Within one machine or room a server's kernel answers in well under a millisecond; the rest is for
/// a worker that the scheduler keeps waiting. It is also about what a small server needs to empty a backlog of five.
pub(super) const PATIENCE_MIN: Duration = Duration::from_millis(15);

/// How long those who wait were not let past the limit before they are: far above the time of an exchange that a
/// crowded backlog is made of, and a fraction of any queue timeout that is not meant to fail.
pub(super) const HELD_BACK_MAX: Duration = Duration::from_millis(250);

/// Patience in connect times: room for one lost turn of a far network's jitter, and less than the kernel's own second for
/// whatever is nearer than 250 ms.
const PATIENCE_TIMES: u32 = 4;

/// A slower connection moves the connect time by one part in so many; a faster one replaces it. So the way may become
/// longer, and a single late connection is forgotten with the next.
const NEAREST_RISE: u32 = 8;

/// The limit grows by one after so many first exchanges for each connection that it allows: a probe of the backlog costs
/// one stalled dial, which is one request in hundreds.
const GROWTH: u32 = 8;

/// Connections. A backlog of more is none that anybody made small; beyond it there is no limit.
const LIMIT_MAX: u32 = 1024;

/// Of the patience; 15 ms become 16 minutes, which is past any connect timeout.
const DOUBLINGS_MAX: u32 = 16;

const _: () = assert!(LIMIT_MAX.checked_mul(GROWTH).is_some());

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);
    const NEAR: Duration = Duration::from_micros(100);

    /// A window with so many connected and so many that connect.
    fn window(connected: u32, connecting: u32) -> Window {
        let mut window = Window::default();
        for _ in 0..connected {
            window.begin();
            window.connect(NEAR);
        }
        (0..connecting).for_each(|_| window.begin());
        window
    }

    #[test]
    fn there_is_no_limit_until_something_stalls() {
        let mut window = window(500, 2000);
        assert!(window.has_room() && !window.is_limited());
        assert_eq!(window.stall(), Stall::Wait);
        assert_eq!(window.limit, Some(500));
        assert!(!window.has_room());
    }

    #[test]
    fn a_stall_leaves_as_many_as_are_connected_and_at_least_one() {
        for (connected, limit, then) in [
            (0, 1, Stall::Redial),
            (1, 1, Stall::Wait),
            (6, 6, Stall::Wait),
        ] {
            let mut window = window(connected, 3);
            assert_eq!(window.stall(), then);
            assert_eq!(window.limit, Some(limit));
            // The others that stall with it change nothing; a later one never raises the limit.
            window.connect(NEAR);
            window.stall();
            assert_eq!(window.limit, Some(limit));
        }
    }

    #[test]
    fn room_comes_back_when_a_first_exchange_ends_and_when_a_dial_is_given_up() {
        let mut window = window(2, 1);
        window.stall();
        window.give_up();
        assert!(!window.has_room());
        window.finish();
        assert!(window.has_room());
        window.begin();
        assert!(!window.has_room());
        window.give_up();
        assert!(window.has_room());
    }

    #[test]
    fn the_limit_grows_slowly_and_goes_in_the_end() {
        let mut window = window(5, 1);
        window.stall();
        window.give_up();
        let mut exchanges = 0;
        for limit in 5..=LIMIT_MAX {
            assert_eq!(window.limit, Some(limit));
            for _ in 0..limit * GROWTH {
                window.finish();
                window.begin();
                window.connect(NEAR);
                exchanges += 1;
            }
        }
        assert_eq!(window.limit, None);
        assert!(exchanges > 4_000_000);
    }

    #[test]
    fn a_stall_takes_the_credit_away() {
        let mut window = window(10, 1);
        window.stall();
        (0..9).for_each(|_| window.finish());
        window.stall();
        assert_eq!((window.limit, window.credit), (Some(1), 0));
    }

    #[test]
    fn who_waits_for_slow_exchanges_is_let_past_them_once_in_a_while() {
        let mut window = window(3, 1);
        window.stall();
        window.give_up();
        let later = NOW + HELD_BACK_MAX;
        assert!(window.widen(later));
        assert_eq!(window.limit, Some(6));
        assert!(!window.widen(later + HELD_BACK_MAX), "there is room");
        (0..3).for_each(|_| window.begin());
        assert!(!window.widen(later + HELD_BACK_MAX / 2), "it was tried");
        (0..8).for_each(|round| {
            let now = later + HELD_BACK_MAX * (round + 1);
            assert!(window.widen(now));
            while window.is_limited() && window.has_room() {
                window.begin();
            }
        });
        assert!(!window.is_limited());
    }

    #[test]
    fn who_waits_is_let_past_however_often_something_stalls() {
        let mut window = window(3, 1);
        assert!(!window.widen(NOW), "there is no limit");
        for round in 1..5 {
            window.stall();
            assert!(window.widen(NOW + HELD_BACK_MAX * round));
        }
    }

    #[test]
    fn connections_that_come_let_others_be_dialled_until_one_stalls() {
        let mut window = window(1, 1);
        window.stall();
        window.give_up();
        assert!(window.widen(NOW + HELD_BACK_MAX));
        for _ in 0..300 {
            assert!(window.has_room());
            window.begin();
            window.connect(NEAR);
        }
        assert_eq!(window.limit, Some(602));
        window.begin();
        assert_eq!(window.stall(), Stall::Wait);
        window.give_up();
        assert_eq!(window.limit, Some(301));
        window.finish();
        window.begin();
        window.connect(NEAR);
        assert_eq!(window.limit, Some(301), "it probes no more");
    }

    #[test]
    fn who_refused_has_no_room_until_a_pause_is_over() {
        let mut window = window(0, 0);
        window.refuse(NOW);
        assert!(!window.has_room() && window.is_limited());
        assert!(!window.widen(NOW + HELD_BACK_MAX / 2) && !window.has_room());
        assert!(window.widen(NOW + HELD_BACK_MAX));
        assert!(window.has_room() && !window.is_limited());
        assert!(!window.end_pause(NOW + HELD_BACK_MAX), "it is over");
    }

    #[test]
    fn patience_follows_the_way_and_doubles() {
        let ms = Duration::from_millis;
        let mut window = window(0, 12);
        assert_eq!(window.patience(0), None);
        window.connect(ms(100));
        assert_eq!(window.patience(0), Some(ms(400)));
        window.connect(ms(1));
        assert_eq!(window.patience(0), Some(PATIENCE_MIN));
        assert_eq!(window.patience(3), Some(PATIENCE_MIN * 8));
        assert_eq!(window.patience(u32::MAX), window.patience(DOUBLINGS_MAX));
        (0..9).for_each(|_| window.connect(ms(101)));
        assert!(window.patience(0) > Some(ms(250)), "the way became longer");
        window.connect(ms(1));
        assert_eq!(window.patience(0), Some(PATIENCE_MIN));
    }
}
