//! A plan that follows another while the proxy runs: read, compared, bound, and only then told to the workers. What cannot be
//! followed changes nothing. It is read and made on a thread that gives way to workers; all else runs on the main thread.

use crate::admin::order::Order;
use crate::admin::status;
use crate::background::{Background, Progress};
use crate::config::difference::Difference;
use crate::config::load;
use crate::config::overlay::{ChangeError, Hold, Overlay};
use crate::config::plan::Plan;
use crate::config::problem::Report;
use crate::config::show;
use crate::config::watch::Watch;
use crate::control::{Answer, Asked, Command, Control, Verdict};
use crate::counters::Rows;
use crate::listening::Listening;
use crate::live::Live;
use crate::names::Names;
use crate::shared::{Message, Next, SharedPlan, Threads};
use hp_core::obs::notice::{say, say_lines};
use hp_core::rt::worker::{WorkerId, Workers};
use hp_core::rt::{Engine, Instant};
use hp_core::sys::clock;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What a plan is made from, and whether that is looked at while the proxy runs.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The configuration file; `None`: flags, which say the same for ever.
    pub file: Option<PathBuf>,
    /// All files that the plan depends on, where they are looked at.
    pub watch: Option<Watch>,
}

/// The running proxy, as the main thread has it.
pub(crate) struct Running {
    plan: SharedPlan,
    /// Plans before it, as long as somebody else has them: what is freed with them takes its time, which workers do not have.
    left: Vec<SharedPlan>,
    /// The plan as the file has it.
    file: Plan,
    /// What operators have changed of it.
    overlay: Overlay,
    source: Source,
    /// A plan that is being made of the file as it is now.
    making: Option<Making>,
    pub(crate) control: Control,
    pub(crate) rows: Rows,
    pub(crate) workers: Workers<Message, ()>,
    pub(crate) threads: Option<Threads>,
    /// Names of servers.
    servers: Names,
    /// What the workers listen on.
    pub(crate) listening: Listening,
}

/// A plan that another thread makes.
struct Making {
    made: Background<(Option<Plan>, Report)>,
    wanted: Wanted,
    /// It was asked for again: what is being made may be of the file as it was before.
    again: Option<Wanted>,
}

/// Who wants the file read again, and how.
#[derive(Debug)]
struct Wanted {
    hold: Hold,
    asked: Vec<Asked>,
}

impl Running {
    /// Workers that run, and have not been given what they will listen on.
    pub(crate) fn new(
        (plan, servers): (SharedPlan, Names),
        source: Source,
        (control, rows): (Control, Rows),
        (workers, threads): (Workers<Message, ()>, Option<Threads>),
        listening: Listening,
    ) -> Self {
        Self {
            file: Plan::clone(&plan),
            overlay: Overlay::default(),
            plan,
            left: Vec::new(),
            source,
            making: None,
            control,
            rows,
            workers,
            threads,
            servers,
            listening,
        }
    }

    /// The running plan.
    pub(crate) fn plan(&self) -> &SharedPlan {
        &self.plan
    }

    /// Tells each worker the same.
    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        let mesh = self.workers.mesh();
        for worker in 0..mesh.workers() {
            match mesh.send(WorkerId(worker), message()) {
                Ok(()) => (),
                Err(_ended) => (), // Its death is told by `join`.
            }
        }
    }

    /// Does what another thread asks, and answers: a reload when it has ended.
    pub(crate) fn obey(&mut self, asked: Asked) {
        if let Command::Reload(hold) = asked.command {
            return self.reload(Wanted {
                hold,
                asked: vec![asked],
            });
        }
        let answer = self.answer(&asked.command);
        asked.answer(answer);
    }

    fn answer(&mut self, command: &Command) -> Answer {
        match command {
            Command::Reload(_) => Answer::new(Verdict::Unavailable, "no reload from here\n"),
            Command::Live => Answer::new(Verdict::Done, format!("{:#}\n", self.live().json())),
            Command::Upgrade => Answer::new(Verdict::Unavailable, "no upgrade from here\n"),
            Command::Plan => Answer::new(Verdict::Done, show::text(&self.plan)),
            Command::Change(order) => self.change(order.clone()),
            Command::Upstreams => self.tell_upstreams(),
        }
    }

    /// Puts a change over what the file says, and follows what comes of it.
    fn change(&mut self, order: Order) -> Answer {
        let (change, hold) = match order.resolve() {
            Ok(resolved) => resolved,
            Err(error) => return refused(Verdict::Refused, &error),
        };
        let line = change.to_string();
        let mut overlay = self.overlay.clone();
        if let Err(error) = overlay.change(&self.file, change, hold) {
            return refused(verdict_of(&error), &error);
        }
        let answer = self.follow(overlay.over(&self.file));
        if answer.verdict != Verdict::Done {
            return refused(answer.verdict, &answer.text.trim());
        }
        self.overlay = overlay;
        say(format_args!("hp-proxy: {line}"));
        Answer::new(Verdict::Done, format!("{}\n", json!({ "changes": [line] })))
    }

    /// How the endpoints are doing, of all workers together.
    fn tell_upstreams(&self) -> Answer {
        let text = status::upstreams(&self.plan, &self.overlay, &self.live());
        Answer::new(Verdict::Done, format!("{text}\n"))
    }

    /// What is connected where; without workers that do not answer in time.
    fn live(&self) -> Live {
        let mut live = Live::default();
        self.plan.count_shared(&mut live);
        let (who_asks, told) = mpsc::channel();
        self.tell_all(|| Message::Tell(who_asks.clone()));
        drop(who_asks);
        for _ in 0..self.workers.mesh().workers() {
            match told.recv_timeout(TOLD_WITHIN) {
                Ok(more) => live.add(more),
                Err(_late) => break,
            }
        }
        live
    }

    /// Reads the file again because somebody wants it who reads the log.
    pub(crate) fn reload_for_operators(&mut self) {
        self.reload(Wanted {
            hold: Hold::UntilReload,
            asked: Vec::new(),
        });
    }

    /// Reads the files again where they are watched and have changed.
    pub(crate) fn look_at_files(&mut self) {
        let is_at_rest = self.making.is_none();
        if is_at_rest && self.source.watch.as_mut().is_some_and(Watch::look) {
            self.reload_for_operators();
        }
    }

    /// Somebody wants the file to be read again.
    fn reload(&mut self, wanted: Wanted) {
        self.overlay.expect_reload();
        self.read(wanted);
    }

    /// Begins to read the file again, or does so once what is being made has been.
    fn read(&mut self, wanted: Wanted) {
        if let Some(making) = &mut self.making {
            match &mut making.again {
                Some(again) => again.join(wanted),
                None => making.again = Some(wanted),
            }
            return;
        }
        let Some(file) = self.source.file.clone() else {
            let text = "there is no configuration file to read again; start with --config FILE\n";
            return self.tell(wanted, &Answer::new(Verdict::Refused, text));
        };
        let bell = self.control.clone();
        match Background::start(move || load(&file), move || bell.ring()) {
            Ok(made) => {
                self.making = Some(Making {
                    made,
                    wanted,
                    again: None,
                });
            }
            Err(error) => {
                let text = format!("no thread to read it on: {error}\n");
                self.tell(wanted, &Answer::new(Verdict::Unavailable, text));
            }
        }
    }

    /// Follows what has been made of the file. Whether nothing is being made.
    pub(crate) fn look_at_reload(&mut self) -> bool {
        let Some(making) = self.making.take() else {
            return true;
        };
        let answer = match making.made.look() {
            Progress::Making => {
                self.making = Some(making);
                return false;
            }
            Progress::Made(read) => self.follow_file(read, making.wanted.hold),
            Progress::Failed => Answer::new(Verdict::Refused, "reading it ended in a panic\n"),
        };
        self.tell(making.wanted, &answer);
        if let Some(again) = making.again {
            self.read(again);
        }
        self.making.is_none()
    }

    /// What is being made is not wanted any more; those who wait for it are told.
    pub(crate) fn forget_reload(&mut self) {
        self.making = None;
    }

    /// Tells what came of a reload, in the log and to those who asked.
    fn tell(&self, wanted: Wanted, answer: &Answer) {
        let counts = self.rows.of_process();
        if answer.verdict == Verdict::Done {
            counts.reloads.add(1);
            say_lines(format_args!(
                "hp-proxy: reloaded\n{}",
                indented(&answer.text)
            ));
        } else {
            counts.reloads_failed.add(1);
            say_lines(format_args!(
                "hp-proxy: not reloaded; going on as before\n{}",
                indented(&answer.text)
            ));
        }
        for asked in wanted.asked {
            asked.answer(answer.clone());
        }
    }

    /// Follows what was read. `hold`: whether all changes are kept, or only those that were made to be.
    fn follow_file(&mut self, (plan, report): (Option<Plan>, Report), hold: Hold) -> Answer {
        if let Some(watch) = &mut self.source.watch {
            watch.follow(report.files());
        }
        let Some(plan) = plan else {
            let errors = report.errors().into_iter();
            let lines: Vec<String> = errors.map(|error| format!("{error}\n")).collect();
            return Answer::new(Verdict::Refused, lines.concat());
        };
        for warning in report.warnings() {
            say(format_args!("warning: {warning}"));
        }
        let mut overlay = self.overlay.clone();
        if hold == Hold::Kept {
            overlay.keep_all();
        }
        self.look_up_and_follow(plan, overlay)
    }

    /// Follows a plan whose names were not looked up, with what operators have changed.
    fn look_up_and_follow(&mut self, mut plan: Plan, mut overlay: Overlay) -> Answer {
        if let Err(error) = self.servers.complete(&mut plan) {
            return Answer::new(Verdict::Refused, format!("{error}\n"));
        }
        let dropped = overlay.reload(&plan);
        let mut answer = self.follow(overlay.over(&plan));
        if answer.verdict == Verdict::Done {
            (self.file, self.overlay) = (plan, overlay);
            self.servers.settle(&self.plan);
            dropped
                .iter()
                .for_each(|line| answer.text += &format!("{line}\n"));
        } else {
            self.servers.stay(&self.plan);
        }
        answer
    }

    /// Frees plans that no worker has any more.
    pub(crate) fn look_at_plans(&mut self) {
        self.left.retain(|plan| !plan.is_left());
    }

    /// Follows names that lead elsewhere. Whether anything was heard of names.
    pub(crate) fn look_at_servers(&mut self) -> bool {
        let has_heard = self.servers.hear_news();
        if let Some(file) = self.servers.changed(&self.file) {
            let answer = self.follow(self.overlay.over(&file));
            if answer.verdict == Verdict::Done {
                self.file = file;
            }
            say_lines(format_args!(
                "hp-proxy: names lead elsewhere\n{}",
                indented(&answer.text)
            ));
        }
        has_heard
    }

    /// Follows a plan, or says why that cannot be.
    fn follow(&mut self, mut plan: Plan) -> Answer {
        plan.forwarding.keep_name(&self.plan.forwarding);
        plan.process_key.clone_from(&self.plan.process_key);
        let difference = Difference::between(&self.plan, &plan);
        if !difference.refusals.is_empty() {
            return Answer::new(Verdict::Refused, difference.to_string());
        }
        if difference.is_empty() {
            return Answer::new(Verdict::Done, difference.to_string());
        }
        let next = self.plan.followed_by(plan);
        // What may fail comes first: then nothing has changed.
        let new = match self.listening.open_new(&next) {
            Ok(new) => new,
            Err(error) => return Answer::new(Verdict::Refused, format!("{error}\n")),
        };
        next.renew_ledgers(&self.plan, Instant::from_nanos(clock::monotonic_ns()));
        if let Some(threads) = &self.threads {
            threads.latest.publish(next.clone());
        }
        // A name that is not listened on any more may be somebody else's at once.
        self.listening.keep(next.listener_ids());
        let followed = self.tell_workers(&next);
        self.left.push(std::mem::replace(&mut self.plan, next));
        let mut told = difference.to_string();
        match new.share_out(self.workers.mesh()) {
            Ok(_given) => told += &new.lines(),
            Err(error) => told += &format!("a worker cannot be given a socket: {error}\n"),
        }
        self.listening.add(new);
        if let Err(RecvTimeoutError::Timeout) = followed.recv_timeout(FOLLOWED_WITHIN) {
            told += "a worker has not followed within 10 s; it is overloaded or stuck\n";
        }
        Answer::new(Verdict::Done, told)
    }

    /// Gives each worker the plan; what it gives ends when all of them follow.
    fn tell_workers(&self, next: &SharedPlan) -> mpsc::Receiver<()> {
        let (followed, all_followed) = mpsc::channel();
        let has_own_tables = next.engine != Engine::Threads && next.table.has_patterns();
        self.tell_all(|| {
            Message::Follow(Box::new(Next {
                plan: next.clone(),
                own_table: has_own_tables.then(|| next.own_table()),
                followed: followed.clone(),
            }))
        });
        all_followed
    }
}

impl Wanted {
    /// Both at once: whoever wants changes to be kept decides.
    fn join(&mut self, other: Self) {
        if other.hold == Hold::Kept {
            self.hold = Hold::Kept;
        }
        let room = ASKED_MAX.saturating_sub(self.asked.len());
        self.asked.extend(other.asked.into_iter().take(room)); // Being dropped tells the others that there is too much to do.
    }
}

/// Why a change is not made, for programs.
fn refused(verdict: Verdict, why: &impl ToString) -> Answer {
    let text = json!({ "error": why.to_string() });
    Answer::new(verdict, format!("{text}\n"))
}

fn verdict_of(error: &ChangeError) -> Verdict {
    match error {
        ChangeError::NoUpstream(_) | ChangeError::NoEndpoint { .. } | ChangeError::NoRoute(_) => {
            Verdict::Missing
        }
        ChangeError::Twice { .. }
        | ChangeError::Last(_)
        | ChangeError::Weightless(_)
        | ChangeError::ClosedByFile(_)
        | ChangeError::TooMany => Verdict::Conflict,
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        match writeln!(out, "  {line}") {
            Ok(()) => out,
            Err(std::fmt::Error) => unreachable!("a String takes everything"),
        }
    })
}

/// So many may wait for the same reload.
const ASKED_MAX: usize = 256;
/// How long is waited for a worker that has to count.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How long is waited for workers that do not take the plan up at once.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);
