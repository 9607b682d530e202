//! Bugs planted on purpose, which prove that the simulation finds bugs of their kind. Without the feature `sim` none can be,
//! and what asks for them is compiled to nothing.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A backend connection is kept although its answer was not read.
    UnreadKept,
    /// A request that must not be executed twice is sent again.
    PostRetried,
    /// News of a connection wakes nobody, once in 32 times.
    LostWake,
    /// A receive buffer is given back twice.
    BufferTwice,
    /// Nothing limits the wait for an answer.
    NoDeadline,
    /// An answer that broke off ends as if it were whole.
    TruncatedAsWhole,
    /// What a gone endpoint has left behind is taken for another's, although connections of it are open.
    SlotTooSoon,
    /// Of what a worker is lent of a limit, nothing is left when it comes.
    LostShare,
    /// A process that was replaced closes at once what idles.
    IdleCut,
    /// Listeners stay paused although the successor came to nothing.
    PauseKept,
    /// A successor signs cookies with a key of its own.
    KeyForgotten,
    /// An endpoint that is out is asked for clients that are bound to it.
    OutAsked,
    /// A drain ends tunnels when it begins.
    TunnelCut,
}

impl Plant {
    /// Every one of them.
    pub const ALL: [Self; 13] = [
        Self::UnreadKept,
        Self::PostRetried,
        Self::LostWake,
        Self::BufferTwice,
        Self::NoDeadline,
        Self::TruncatedAsWhole,
        Self::SlotTooSoon,
        Self::LostShare,
        Self::IdleCut,
        Self::PauseKept,
        Self::KeyForgotten,
        Self::OutAsked,
        Self::TunnelCut,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnreadKept => "unread-kept",
            Self::PostRetried => "post-retried",
            Self::LostWake => "lost-wake",
            Self::BufferTwice => "buffer-twice",
            Self::NoDeadline => "no-deadline",
            Self::TruncatedAsWhole => "truncated-as-whole",
            Self::SlotTooSoon => "slot-too-soon",
            Self::LostShare => "lost-share",
            Self::IdleCut => "idle-cut",
            Self::PauseKept => "pause-kept",
            Self::KeyForgotten => "key-forgotten",
            Self::OutAsked => "out-asked",
            Self::TunnelCut => "tunnel-cut",
        }
    }
}

/// Whether a bug is planted on this thread.
#[cfg(feature = "sim")]
#[must_use]
pub fn is_planted(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}

/// Whether a bug is planted on this thread.
#[cfg(not(feature = "sim"))]
#[must_use]
#[inline]
pub const fn is_planted(_plant: Plant) -> bool {
    false
}

/// Plants a bug on this thread until the guard is dropped.
#[cfg(feature = "sim")]
#[must_use]
pub fn plant(plant: Option<Plant>) -> Planted {
    Planted {
        before: PLANTED.replace(plant),
    }
}

/// Takes the bug out on drop.
#[cfg(feature = "sim")]
#[derive(Debug)]
pub struct Planted {
    before: Option<Plant>,
}

#[cfg(feature = "sim")]
impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(self.before);
    }
}

#[cfg(feature = "sim")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Plant>> = const { std::cell::Cell::new(None) };
}
