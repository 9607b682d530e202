//! What goes wrong, how often, and how often it did.
//!
//! Each run draws for each fault whether it happens never, sometimes or in storms, so that most runs have few kinds of
//! faults and meet states that a constant mixture would never let come about.

use super::chance::Chance;

/// One thing that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A segment carries fewer bytes than it could, down to one.
    ShortSegment,
    /// A send takes fewer bytes than there is room for.
    ShortSend,
    /// A segment is late, and what follows it arrives together with it.
    LateSegment,
    /// Both ends of a connection are reset.
    Reset,
    /// A sender ends its direction, before what it has not sent yet.
    HalfClose,
    /// A connection attempt is answered with a reset.
    RefusedConnect,
    /// A connection attempt is not answered.
    LostConnect,
    /// `accept` or `connect` finds no free descriptor.
    NoDescriptor,
    /// A receive finds no buffer although there are some.
    NoBuffer,
    /// A multishot operation ends early, though it goes on to be wanted.
    EndedMultishot,
    /// Completions do not fit in their queue.
    FullCompletions,
    /// Completions of different sockets change places.
    ReorderedCompletions,
    /// A cancel comes after what it was to end.
    LateCancel,
    /// A connection is reported ready, and is not.
    SpuriousReadiness,
    /// The clock jumps forward.
    ClockJump,
    /// A worker does not run for a while.
    StalledWorker,
}

impl Fault {
    /// Every fault, in the order of their counters.
    pub const ALL: [Self; 16] = [
        Self::ShortSegment,
        Self::ShortSend,
        Self::LateSegment,
        Self::Reset,
        Self::HalfClose,
        Self::RefusedConnect,
        Self::LostConnect,
        Self::NoDescriptor,
        Self::NoBuffer,
        Self::EndedMultishot,
        Self::FullCompletions,
        Self::ReorderedCompletions,
        Self::LateCancel,
        Self::SpuriousReadiness,
        Self::ClockJump,
        Self::StalledWorker,
    ];

    /// The name of its counter.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShortSegment => "short_segment",
            Self::ShortSend => "short_send",
            Self::LateSegment => "late_segment",
            Self::Reset => "reset",
            Self::HalfClose => "half_close",
            Self::RefusedConnect => "refused_connect",
            Self::LostConnect => "lost_connect",
            Self::NoDescriptor => "no_descriptor",
            Self::NoBuffer => "no_buffer",
            Self::EndedMultishot => "ended_multishot",
            Self::FullCompletions => "full_completions",
            Self::ReorderedCompletions => "reordered_completions",
            Self::LateCancel => "late_cancel",
            Self::SpuriousReadiness => "spurious_readiness",
            Self::ClockJump => "clock_jump",
            Self::StalledWorker => "stalled_worker",
        }
    }

    /// Once in how many occasions it happens: sometimes, and in a storm.
    fn odds(self) -> (u64, u64) {
        match self {
            Self::ShortSegment | Self::ShortSend => (16, 2),
            Self::LateSegment | Self::SpuriousReadiness => (32, 4),
            Self::ReorderedCompletions | Self::LateCancel => (8, 2),
            Self::EndedMultishot | Self::NoBuffer => (16, 3),
            Self::RefusedConnect | Self::LostConnect | Self::NoDescriptor => (24, 4),
            Self::FullCompletions => (64, 8),
            Self::Reset | Self::HalfClose => (512, 64),
            Self::ClockJump | Self::StalledWorker => (512, 64),
        }
    }
}

/// How often something goes wrong in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency {
    /// Not at all.
    Never,
    /// Now and then.
    Sometimes,
    /// As often as not.
    Storm,
}

/// How often each thing goes wrong: given, or drawn from the seed of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    drawn: bool,
    frequencies: [Frequency; Fault::ALL.len()],
    is_local: bool,
}

impl Profile {
    /// Nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self::all(Frequency::Never)
    }

    /// Everything goes wrong equally often.
    #[must_use]
    pub fn all(frequency: Frequency) -> Self {
        Self {
            drawn: false,
            frequencies: [frequency; Fault::ALL.len()],
            is_local: false,
        }
    }

    /// Each run draws a frequency for each fault.
    #[must_use]
    pub fn swarm() -> Self {
        Self {
            drawn: true,
            ..Self::calm()
        }
    }

    /// The same, but for one fault that happens as often as told. A drawn profile becomes one without any other fault.
    #[must_use]
    pub fn with(mut self, fault: Fault, frequency: Frequency) -> Self {
        self.drawn = false;
        self.frequencies[fault as usize] = frequency;
        self
    }

    /// The same with sockets as Unix sockets are: who accepts one learns no address, and a ring's receive that goes on from the last bytes is not told of an
    /// end that has come together with them.
    #[must_use]
    pub fn of_local_sockets(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Whether sockets are as Unix sockets are.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}

/// The faults of one world: their frequencies, and what has happened.
#[derive(Debug)]
pub(super) struct Faults {
    frequencies: [Frequency; Fault::ALL.len()],
    counts: [u64; Fault::ALL.len()],
    chance: Chance,
}

impl Faults {
    pub(super) fn new(profile: &Profile, mut chance: Chance) -> Self {
        let mut frequencies = profile.frequencies;
        if profile.drawn {
            frequencies = std::array::from_fn(|_| match chance.below(4) {
                0 => Frequency::Sometimes,
                1 => Frequency::Storm,
                _ => Frequency::Never,
            });
        }
        Self {
            frequencies,
            counts: [0; Fault::ALL.len()],
            chance,
        }
    }

    /// Whether this occasion is one; counts it then. Draws nothing for a fault that never happens.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let (sometimes, storm) = fault.odds();
        let struck = match self.frequencies[fault as usize] {
            Frequency::Never => false,
            Frequency::Sometimes => self.chance.one_in(sometimes),
            Frequency::Storm => self.chance.one_in(storm),
        };
        self.counts[fault as usize] += u64::from(struck);
        struck
    }

    /// What struck found nothing to strike: it does not count.
    pub(super) fn miss(&mut self, fault: Fault) {
        self.counts[fault as usize] -= 1;
    }

    /// For the details of what strikes.
    pub(super) fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Fault::ALL
            .iter()
            .map(|fault| (fault.name(), self.counts[*fault as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_counter() {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_told() {
        let strikes = |frequency| {
            let profile = Profile::calm().with(Fault::Reset, frequency);
            let mut faults = Faults::new(&profile, Chance::new(1));
            (0..64_000).filter(|_| faults.strikes(Fault::Reset)).count()
        };
        assert_eq!(strikes(Frequency::Never), 0);
        assert!((60..250).contains(&strikes(Frequency::Sometimes)));
        assert!((700..1300).contains(&strikes(Frequency::Storm)));
    }
}
