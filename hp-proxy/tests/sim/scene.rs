//! What a run is like: who takes part, how everybody behaves, and how much there is room for. Drawn from the run's seed.

use super::hostile::Bounds;
use hp_core::http::detour::DetourLimits;
use hp_core::rt::RtOptions;
use hp_core::rt::sim::{Chance, Face, Fault, Frequency, Host, Limits, Profile, World};
use hp_core::wire::http1::head::HeadLimits;
use hp_proxy::config::plan::{Limits as ProxyLimits, MULTIPLEX, Plan};
use hp_proxy::upstream::Borrow;
use std::time::Duration;

/// What a run is like; drawn from its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) face: Face,
    pub(crate) network: Network,
    /// Clients and backends do as HTTP asks.
    pub(crate) is_well_behaved: bool,
    /// What the sockets of some hosts take; those of others take 64 KiB.
    pub(crate) buffer_bytes: usize,
    /// The drain begins in the middle, after so many requests.
    pub(crate) drains_after: Option<u64>,
    /// What messages may be no longer than.
    pub(crate) bounds: Bounds,
    /// Requests that may wait for a backend.
    pub(crate) queue_len_max: u32,
    /// Workers ask each other before each dial.
    pub(crate) borrows_before_dial: bool,
    /// Requests share connections to backends.
    pub(crate) multiplexes: bool,
    pub(crate) backends: Backends,
    /// Processes of the proxy replace one another meanwhile.
    pub(crate) hands_over: bool,
    /// How long a process that drains waits for what is in flight.
    pub(crate) drain_timeout: Duration,
    /// How long a process that was replaced takes to tell its clients.
    pub(crate) close_spread: Duration,
    pub(crate) detour: DetourLimits,
}

/// How kernels and links treat everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// No fault strikes.
    Calm,
    /// Faults strike that cost time and change orders, and break nothing.
    Gentle,
    /// Any fault may strike.
    Rough,
}

/// Who is there to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backends {
    Live(u8),
    /// A host where nobody listens.
    Deaf,
    /// An address without a host: nothing comes back.
    Nowhere,
    /// Nobody: no name of a server has an address.
    Unnamed,
}

impl Network {
    /// How often each fault strikes.
    pub(crate) fn profile(self, chance: &mut Chance) -> Profile {
        match self {
            Self::Calm => Profile::calm(),
            Self::Gentle => {
                let frequency = |chance: &mut Chance, fault| match chance.below(4) {
                    0 => Frequency::Sometimes,
                    // Where most segments are late, answers arrive after an idle connection's time.
                    1 if fault == Fault::LateSegment => Frequency::Sometimes,
                    1 => Frequency::Storm,
                    _ => Frequency::Never,
                };
                let calm = Profile::calm();
                HARMLESS.into_iter().fold(calm, |profile, fault| {
                    profile.with(fault, frequency(chance, fault))
                })
            }
            Self::Rough => Profile::swarm(),
        }
    }

    /// Whether nothing breaks but what somebody breaks on purpose.
    pub(crate) fn is_whole(self) -> bool {
        self != Self::Rough
    }
}

impl Scene {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let is_well_behaved = chance.one_in(2);
        let buffer_bytes = chance.size(BUFFER_BYTES_MAX);
        let backends = match chance.below(40) {
            0 if !is_well_behaved => Backends::Deaf,
            1 if !is_well_behaved => Backends::Nowhere,
            2 if !is_well_behaved => Backends::Unnamed,
            live => Backends::Live(u8::try_from(1 + live % 3).expect("at most 3")),
        };
        Self {
            face: [Face::Readiness, Face::Completion][chance.index(2)],
            network: if chance.one_in(4) {
                Network::Calm
            } else {
                Network::Rough
            },
            is_well_behaved,
            buffer_bytes,
            drains_after: chance.one_in(4).then(|| 1 + chance.below(20)),
            bounds: Bounds {
                head: if buffer_bytes < BUFFER_BYTES_MAX / 16 || chance.one_in(2) {
                    SMALL_HEADS
                } else {
                    HeadLimits::default()
                },
                body_bytes_max: if chance.one_in(2) {
                    content_bytes_max(buffer_bytes)
                } else {
                    0
                },
                is_strict: chance.one_in(8),
                has_routes: false,
            },
            queue_len_max: if !is_well_behaved && chance.one_in(4) {
                1
            } else {
                ProxyLimits::default().queue_len_max
            },
            borrows_before_dial: false,
            multiplexes: false,
            backends,
            hands_over: false,
            drain_timeout: PATIENCE * 4, // Longer than a silent tunnel: nothing is cut.
            close_spread: Duration::ZERO,
            detour: detour(0),
        }
    }

    /// Processes replace one another. Drawn apart from the rest, which stays as it was.
    pub(crate) fn hand_over(&mut self, chance: &mut Chance) {
        self.hands_over = true;
        match (self.network, self.is_well_behaved, chance.one_in(2)) {
            (Network::Rough, true, true) => self.network = Network::Gentle,
            (Network::Rough, _, true) => self.drain_timeout = DRAIN_TIMEOUT_SHORT,
            _ => (),
        }
    }

    /// A plan under which workers share connections, and requests do, where the scene says so.
    pub(crate) fn sharing(&self, mut plan: Plan) -> Plan {
        for upstream in &mut plan.upstreams {
            if self.borrows_before_dial {
                upstream.borrow = Borrow::BeforeDial;
            }
            upstream.multiplex = self.multiplexes.then_some(MULTIPLEX);
        }
        plan
    }

    pub(crate) fn host(&self, world: &World, addr: [u8; 4], chance: &mut Chance) -> Host {
        let host = world.host(addr);
        host.set_buffer_bytes(if chance.one_in(2) {
            self.buffer_bytes
        } else {
            BUFFER_BYTES_MAX
        });
        host
    }
}

/// All at once, for longer than most clients are there, or as long as where nobody says anything. Not drawn: other choices stay as
/// they were.
pub(crate) fn close_spread(seed: u64) -> Duration {
    Duration::from_secs([0, 10, 1, 1, 1][usize::try_from(seed % 5).expect("below 5")])
}

/// Content from which on a pipe is used: hardly any, some, or none in a simulation. Not drawn: other choices stay as they were.
pub(crate) fn detour(seed: u64) -> DetourLimits {
    let bytes_min = [1, 5_000, 96 * 1024][usize::try_from(seed % 3).expect("below 3")];
    DetourLimits {
        content_bytes_min: bytes_min,
        chunk_bytes_min: bytes_min,
    }
}

/// What can be sent in a bearable number of pieces.
pub(crate) fn content_bytes_max(buffer_bytes: usize) -> usize {
    (buffer_bytes * 64).min(60_000)
}

pub(crate) fn draw_options(chance: &mut Chance) -> RtOptions {
    let [entries, completions] = [[8, 16], [512, 8192]][chance.index(2)];
    RtOptions {
        head_buffers: [2, 8, 128][chance.index(3)],
        bulk_buffers: [1, 2, 32][chance.index(3)],
        ring_entries: entries,
        ring_completions: completions,
        ..RtOptions::default()
    }
}

/// Faults after which everything can still come to its end in good order.
const HARMLESS: [Fault; 9] = [
    Fault::ShortSegment,
    Fault::ShortSend,
    Fault::LateSegment,
    Fault::NoBuffer,
    Fault::EndedMultishot,
    Fault::FullCompletions,
    Fault::ReorderedCompletions,
    Fault::LateCancel,
    Fault::SpuriousReadiness,
];
/// What heads of well-behaved clients and backends fit in.
const SMALL_HEADS: HeadLimits = HeadLimits {
    head_bytes_max: 2048,
    line_bytes_max: 512,
    fields_max: 16,
};
/// Shorter than what some backends and clients take.
const DRAIN_TIMEOUT_SHORT: Duration = Duration::from_secs(20);
/// A drain that cuts what is left has ended by then, with clocks that jump and workers that stall.
pub(crate) const DRAIN_SETTLES: Duration = Duration::from_secs(120);
/// Longer than anything that happens by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3600);
pub(crate) const BUFFER_BYTES_MAX: usize = 64 * 1024;
pub(crate) const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
