//! The requests under way on one connection.
//!
//! Must not know: connections, what a request is.

use std::collections::VecDeque;

use hp_core::rt::Instant;

use crate::pacer::Due;

/// A request that was sent and not answered yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Flight {
    pub(crate) due: Due,
    /// With several under way on a connection when it was written, else at least that.
    pub(crate) sent: Instant,
}

/// In the order in which they were sent. One has its place here; only pipelining takes memory elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    oldest: Option<Flight>,
    /// Empty where there is no oldest.
    later: Option<Box<Later>>,
}

#[derive(Debug, Default)]
struct Later {
    flights: VecDeque<Flight>,
}

impl Flights {
    /// One more is under way.
    pub(crate) fn depart(&mut self, flight: Flight) {
        if self.oldest.is_none() {
            self.oldest = Some(flight);
        } else {
            let later = self.later.get_or_insert_default();
            later.flights.push_back(flight);
        }
    }

    /// The oldest is not under way any more.
    pub(crate) fn arrive(&mut self) -> Option<Flight> {
        let next = self
            .later
            .as_mut()
            .and_then(|later| later.flights.pop_front());
        std::mem::replace(&mut self.oldest, next)
    }

    /// The one whose answer comes next.
    pub(crate) fn oldest(&self) -> Option<Flight> {
        self.oldest
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let later = self.later.as_ref().map_or(0, |later| later.flights.len());
        usize::from(self.oldest.is_some()) + later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_their_requests() {
        let flight = |request| Flight {
            due: Due {
                at: Instant::START,
                able: Instant::START,
                request,
            },
            sent: Instant::START,
        };
        let mut flights = Flights::default();
        assert_eq!((flights.arrive(), flights.len()), (None, 0));
        (0..3).for_each(|request| flights.depart(flight(request)));
        assert_eq!(flights.arrive(), Some(flight(0)));
        flights.depart(flight(3));
        assert_eq!((flights.oldest(), flights.len()), (Some(flight(1)), 3));
        for request in 1..=3 {
            assert_eq!(flights.arrive(), Some(flight(request)));
        }
        assert_eq!(
            (flights.oldest(), flights.arrive(), flights.len()),
            (None, None, 0)
        );
    }
}
