//! Processes that replace one another in the middle of a run, by the real machine of the one that is replaced; the other end of its
//! conversation is a model, which may die, hang, or talk nonsense at any step.

use super::process::{LISTENER, Process};
use super::scene::LIMITS;
use hp_core::rt::net::Socket;
use hp_core::rt::sim::{Chance, Face, Host, Stuck, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use hp_proxy::config::plan::Plan;
use hp_proxy::shared::SharedPlan;
use hp_proxy::upgrade::handover::{Failure, Far, Handover, Progress, Word};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// When processes replace one another in a run, and how that goes.
pub(crate) struct Upgrades {
    chance: Chance,
    /// After so many requests of all clients; in order, the next one last.
    after: Vec<u64>,
}

/// What an operator does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    Never,
    /// Immediately before the hand-over: workers have not followed when it begins.
    Before,
    /// At the moment when the successor is in charge.
    After,
}

/// What becomes of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    TakesOver,
    Dies(Step),
    Hangs(Step),
    Babbles(Step),
}

/// How far a successor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It reads its file and starts its workers.
    Preparing,
    /// It has said that it is prepared.
    Prepared,
    /// It was told to go.
    Told,
    /// Its listeners were given to its workers.
    Listening,
}

/// A process that is to replace another.
pub(crate) struct Successor {
    world: World,
    process: Process,
    /// What it was passed on.
    sockets: Vec<Socket>,
    given: usize,
    fate: Fate,
    step: Step,
    /// It does and says nothing before.
    until: Instant,
    accepting: u32,
    reports: Option<Receiver<u32>>,
    chance: Chance,
}

/// How an upgrade ended.
pub(crate) struct Ended {
    /// What to count.
    pub(crate) way: &'static str,
    /// It ended otherwise than it must.
    pub(crate) mistake: Option<String>,
    /// The other process, which is in charge or about to end.
    pub(crate) process: Process,
    pub(crate) is_in_charge: bool,
}

impl Upgrades {
    /// As many as somebody asks for.
    pub(crate) fn unplanned(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed ^ SALT),
            after: Vec::new(),
        }
    }

    /// Those of a seed: a third of the seeds have 1 to 10, of which a third share connections to backends. Not drawn from the run's own chance, whose other choices stay as they were.
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ SALT);
        let count = if NINTHS.contains(&(seed % 9)) {
            1 + chance.below(10)
        } else {
            0
        };
        let mut after: Vec<u64> = (0..count).map(|_| chance.below(40)).collect();
        after.sort_unstable_by_key(|after| std::cmp::Reverse(*after));
        Self { chance, after }
    }

    /// Whether there are any.
    pub(crate) fn are_any(&self) -> bool {
        !self.after.is_empty()
    }

    /// For what else is drawn because there are some.
    pub(crate) fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// After how many requests the next upgrade begins; `u64::MAX`: none does.
    pub(crate) fn next_after(&self) -> u64 {
        self.after.last().copied().unwrap_or(u64::MAX)
    }

    /// The next one, and what is done beside it.
    pub(crate) fn next(&mut self) -> Reload {
        self.after.pop();
        match self.chance.below(6) {
            0 | 1 => Reload::Before,
            2 | 3 => Reload::After,
            _ => Reload::Never,
        }
    }

    /// Starts the process that is to replace another: of any number of workers, on any engine, under a plan of its own.
    pub(crate) fn start(
        &mut self,
        (world, host): (&World, &Host),
        (before, plan): (&Process, Plan),
        mut options: impl FnMut(&mut Chance) -> RtOptions,
    ) -> (Successor, Handover) {
        let fate = self.fate();
        let mut chance = self.chance.fork();
        let workers = 1 + u32::try_from(chance.below(3)).expect("below 3");
        let face = [Face::Readiness, Face::Completion][chance.index(2)];
        let plan = Plan { workers, ..plan };
        let process = Process::start(host, SharedPlan::new(plan), face, || options(&mut chance));
        let sockets = before.copies();
        let timeout = match fate {
            Fate::Hangs(_) => Duration::from_micros(chance.below(300_000)),
            Fate::TakesOver | Fate::Dies(_) | Fate::Babbles(_) => Duration::from_secs(600),
        };
        let deadline = world.now() + timeout;
        let successor = Successor {
            world: world.clone(),
            process,
            given: sockets.len(),
            sockets,
            fate,
            step: Step::Preparing,
            until: world.now() + Duration::from_micros(chance.below(40_000)),
            accepting: 0,
            reports: None,
            chance,
        };
        (successor, Handover::new(deadline.as_nanos()))
    }

    fn fate(&mut self) -> Fate {
        let step = [Step::Preparing, Step::Prepared, Step::Told][self.chance.index(3)];
        match self.chance.below(8) {
            0 => Fate::Dies(step),
            1 => Fate::Hangs(step),
            2 => Fate::Babbles(step),
            _ => Fate::TakesOver,
        }
    }
}

/// Leads an upgrade to its end, which comes with that of the run at the latest; the main thread looks again and again meanwhile,
/// by the clock of `rt`. `is_over` is asked after every turn.
///
/// # Errors
/// The run does not go on.
pub(crate) fn lead(
    (world, rt): (&World, &Rt),
    before: &Process,
    (mut successor, mut handover): (Successor, Handover),
    is_over: &dyn Fn() -> bool,
) -> Result<Ended, Stuck> {
    let looks = Rc::new(Cell::new(true));
    let (clock, goes_on) = (rt.clone(), Rc::clone(&looks));
    rt.spawn(async move {
        while goes_on.get() {
            clock.sleep(LOOK_AT_SUCCESSOR).await;
        }
    });
    let mut ended = Ok(Progress::Waiting);
    let mut is_over_first = false;
    let led = world.run_until(
        &mut || {
            let is_over = is_over();
            successor.process.bury();
            ended = handover.poll(world.now().as_nanos(), &mut successor, &before.mesh);
            is_over_first = matches!(ended, Ok(Progress::Waiting)) && is_over;
            is_over_first || !matches!(ended, Ok(Progress::Waiting))
        },
        LIMITS,
    );
    looks.set(false);
    led?;
    let is_deserved = is_over_first || successor.deserves(&ended);
    let mistake = (!is_deserved).then(|| format!("an upgrade ended with {ended:?}"));
    let way = match &ended {
        Ok(Progress::Waiting) => GIVEN_UP,
        Ok(Progress::Replaced(_)) => REPLACED,
        Err(Failure::Ended) => DIED,
        Err(Failure::Late) => HUNG,
        Err(Failure::Nonsense(_)) => BABBLED,
    };
    let is_in_charge = if let Ok(Progress::Replaced(listeners)) = &ended {
        before.hand_over(listeners, world.now());
        true
    } else {
        handover.roll_back(&before.mesh);
        successor.process.cut();
        false
    };
    Ok(Ended {
        way,
        mistake,
        process: successor.process,
        is_in_charge,
    })
}

impl Successor {
    /// Whether this is the end that it must come to.
    fn deserves(&self, ended: &Result<Progress, Failure>) -> bool {
        matches!(
            (self.fate, ended),
            (Fate::TakesOver, Ok(_))
                | (Fate::Dies(_), Err(Failure::Ended))
                | (Fate::Hangs(_), Err(Failure::Late))
                | (Fate::Babbles(_), Err(Failure::Nonsense(_)))
        )
    }

    fn nonsense(&mut self) -> io::Result<Option<Word>> {
        if self.chance.one_in(2) {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        // A good word at a bad time.
        Ok(Some(match self.step {
            Step::Preparing => Word::Ready,
            Step::Prepared | Step::Told | Step::Listening => Word::Prepared(vec![LISTENER]),
        }))
    }
}

impl Far for Successor {
    fn give(&mut self) -> io::Result<()> {
        if self.chance.one_in(2) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(())
    }

    fn hear(&mut self) -> io::Result<Option<Word>> {
        if self.world.now() < self.until {
            return Ok(None);
        }
        match self.fate {
            Fate::Dies(step) if step == self.step => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Fate::Hangs(step) if step == self.step => return Ok(None),
            Fate::Babbles(step) if step == self.step => return self.nonsense(),
            _ => (),
        }
        match self.step {
            Step::Preparing => {
                self.step = Step::Prepared;
                Ok(Some(Word::Prepared(vec![LISTENER])))
            }
            Step::Prepared => Ok(None),
            Step::Told => {
                self.reports = Some(self.process.take_over(std::mem::take(&mut self.sockets)));
                self.step = Step::Listening;
                Ok(None)
            }
            Step::Listening => {
                let reports = self.reports.as_ref().map(Receiver::try_iter);
                self.accepting += reports.into_iter().flatten().sum::<u32>();
                Ok((self.accepting as usize == self.given).then_some(Word::Ready))
            }
        }
    }

    fn go(&mut self) -> io::Result<()> {
        if self.fate == Fate::Dies(Step::Prepared) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        if self.fate != Fate::Hangs(Step::Prepared) && self.fate != Fate::Babbles(Step::Prepared) {
            self.step = Step::Told;
        }
        self.until = self.world.now() + Duration::from_micros(self.chance.below(20_000));
        Ok(())
    }
}

/// The ninths of all seeds in which processes replace one another.
pub(crate) const NINTHS: [u64; 3] = [1, 5, 6];
/// How upgrades end.
pub(crate) const ENDS: [&str; 5] = [REPLACED, DIED, HUNG, BABBLED, GIVEN_UP];
const REPLACED: &str = "process replaced";
const DIED: &str = "upgrade undone: its process died";
const HUNG: &str = "upgrade undone: its process hung";
const BABBLED: &str = "upgrade undone: its process talked nonsense";
const GIVEN_UP: &str = "upgrade undone: the old process was to end";
/// As often as the main thread looks.
const LOOK_AT_SUCCESSOR: Duration = Duration::from_millis(1);
const SALT: u64 = 0x0A4D_0FE2_15AB_0005;
