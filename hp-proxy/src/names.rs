//! What the main thread knows of the names in its plan: it has them looked up before a plan runs, and gives another plan when
//! they lead elsewhere.
//!
//! ```text
//! plan ─complete─► the same with endpoints ─(it runs)─ settle ─► changed? ─► the next plan
//! ```

use crate::config::plan::Plan;
use crate::control::Control;
use crate::resolver::{Resolver, SETTLE_MAX, Update};
use crate::upstream::discovery::{Answers, Target};
use hp_core::obs::notice::say;
use hp_core::rt::worker::WorkersError;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};

/// Names of the plans that run here, one after the other.
#[derive(Debug)]
pub(crate) struct Names {
    /// Wakes the main thread.
    control: Control,
    /// There once a plan has had a name.
    resolver: Option<Resolver>,
    sender: Sender<Update>,
    updates: Receiver<Update>,
    /// What was heard last.
    latest: Answers,
    /// What the running plan was made from.
    known: Answers,
    wanted: BTreeSet<Target>,
    /// Names that were not asked about to an end when it was heard last.
    unsettled: Vec<Target>,
}

impl Names {
    /// Nothing is looked up as yet. The main thread is woken when there may be another plan.
    pub(crate) fn new(control: Control) -> Self {
        let (sender, updates) = mpsc::channel();
        Self {
            control,
            resolver: None,
            sender,
            updates,
            latest: Answers::default(),
            known: Answers::default(),
            wanted: BTreeSet::new(),
            unsettled: Vec::new(),
        }
    }

    /// Gives a plan that is to run the endpoints that its names lead to. Waits until all of them were asked about, at most
    /// about [`SETTLE_MAX`]: a plan runs with what there is.
    ///
    /// # Errors
    /// [`WorkersError`] when there is no thread to look names up.
    pub(crate) fn complete(&mut self, plan: &mut Plan) -> Result<(), WorkersError> {
        let targets = plan.targets();
        if targets.is_empty() {
            return Ok(());
        }
        let resolver = match &mut self.resolver {
            Some(resolver) => resolver,
            None => self.resolver.insert(begin(&self.sender, &self.control)?),
        };
        // The plan that runs goes on wanting its own, whatever becomes of this one.
        self.wanted.extend(targets.iter().cloned());
        let want = resolver.want(&plan.dns, self.wanted.clone());
        // Ends without an answer where the thread has died, or gets no turn.
        while let Ok(update) = self.updates.recv_timeout(SETTLE_MAX + SETTLE_MAX) {
            let is_answer = update.want >= want;
            self.hear(update);
            if is_answer {
                break;
            }
        }
        for target in &self.unsettled {
            if targets.contains(target) {
                say(format_args!(
                    "hp-proxy: {target}: no name server has answered yet; nothing goes there until it resolves"
                ));
            }
        }
        plan.follow(&Answers::default(), &self.latest);
        Ok(())
    }

    /// The plan runs that was completed last.
    pub(crate) fn settle(&mut self, plan: &Plan) {
        self.known.clone_from(&self.latest);
        self.stay(plan);
    }

    /// A plan goes on running; names that only others had are forgotten.
    pub(crate) fn stay(&mut self, plan: &Plan) {
        let targets = plan.targets();
        if targets != self.wanted
            && let Some(resolver) = &mut self.resolver
        {
            resolver.want(&plan.dns, targets.clone());
            self.wanted = targets;
        }
    }

    /// Takes note of what was heard since; whether there was anything.
    pub(crate) fn hear_news(&mut self) -> bool {
        let mut has_heard = false;
        while let Ok(update) = self.updates.try_recv() {
            self.hear(update);
            has_heard = true;
        }
        has_heard
    }

    /// The running plan with what was heard since it began, where that changes it.
    pub(crate) fn changed(&mut self, running: &Plan) -> Option<Plan> {
        if self.latest == self.known {
            return None;
        }
        let mut plan = running.clone();
        let has_changed = plan.follow(&self.known, &self.latest);
        self.known.clone_from(&self.latest);
        has_changed.then_some(plan)
    }

    fn hear(&mut self, update: Update) {
        for notice in update.notices {
            say(format_args!("hp-proxy: {notice}"));
        }
        self.latest = update.answers;
        self.unsettled = update.unsettled;
    }
}

fn begin(sender: &Sender<Update>, control: &Control) -> Result<Resolver, WorkersError> {
    let (sender, control) = (sender.clone(), control.clone());
    Resolver::start(move |update| match sender.send(update) {
        Ok(()) => control.ring(),
        Err(_ended) => (), // The proxy ends.
    })
}
