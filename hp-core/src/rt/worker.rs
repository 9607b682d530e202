//! Workers: threads with a runtime each, started together and joined together.

pub use super::mesh::{Mailbox, Mesh, WorkerId};

use super::{Rt, RtOptions, StartError};
use crate::sys::cpu;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// Whether a worker keeps to one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Each worker its own CPU when there are exactly as many workers as CPUs that the process may use.
    #[default]
    Auto,
    /// The scheduler decides.
    Off,
    /// These, which the process may use, one after the other; again from the first where there are more workers.
    To(Vec<usize>),
}

/// How many workers, and what each is made of.
#[derive(Clone, Debug)]
pub struct WorkersOptions {
    /// Number of workers, at least 1.
    pub count: u32,
    /// Each worker's runtime.
    pub rt: RtOptions,
    /// Whether workers keep to CPUs.
    pub pin: Pin,
    /// Name of the threads, without a number; at most 11 bytes are shown.
    pub name: &'static str,
}

/// What a worker's main function is given.
#[derive(Debug)]
pub struct Context<M> {
    /// Its runtime.
    pub rt: Rt,
    /// Its number.
    pub id: WorkerId,
    /// Its messages.
    pub mailbox: Mailbox<M>,
    /// Everybody's mailboxes.
    pub mesh: Mesh<M>,
}

/// Running workers.
#[derive(Debug)]
pub struct Workers<M, T> {
    threads: Vec<JoinHandle<Option<T>>>,
    mesh: Mesh<M>,
    engine: String,
}

/// How many workers fit this process: one for each CPU that it may use.
#[must_use]
pub fn count_for_this_process() -> u32 {
    cpu::allowed().map_or(1, |cpus| u32::try_from(cpus.len()).unwrap_or(1).max(1))
}

/// Starts the workers and returns when each has its runtime. `main` runs once on each; what is left when it ends is shut
/// down.
///
/// # Errors
/// [`WorkersError`] when a thread or a runtime cannot be had; the workers that did start are ended then.
pub fn start<M, T, F, Fut>(options: &WorkersOptions, main: F) -> Result<Workers<M, T>, WorkersError>
where
    M: Send + 'static,
    T: Send + 'static,
    F: Fn(Context<M>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T>,
{
    let count = options.count.max(1);
    let mesh = Mesh::new(count);
    let cpus = cpus_for(&options.pin, count);
    let mut threads = Vec::new();
    let mut starts = Vec::new();
    for index in 0..count {
        let (report, reported) = mpsc::channel::<Result<String, StartError>>();
        let (go, may_go) = mpsc::channel::<()>();
        let seat = Seat {
            id: WorkerId(index),
            cpu: cpus.as_ref().map(|cpus| cpus[index as usize]),
            rt: options.rt.clone(),
            mesh: mesh.clone(),
        };
        let main = main.clone();
        let body = move || seat.run(&main, &report, &may_go);
        let thread = Builder::new()
            .name(format!("{}-{index}", options.name))
            .spawn(body);
        threads.push(thread.map_err(WorkersError::Thread)?);
        starts.push((reported, go));
    }
    let mut engine = String::new();
    for (reported, _) in &starts {
        match reported.recv() {
            Ok(Ok(description)) => engine = description,
            Ok(Err(error)) => return Err(WorkersError::Runtime(error)), // Dropping `starts` ends the others.
            Err(_thread_gone) => return Err(WorkersError::Died),
        }
    }
    for (_, go) in starts {
        match go.send(()) {
            Ok(()) => (),
            Err(_thread_gone) => return Err(WorkersError::Died),
        }
    }
    Ok(Workers {
        threads,
        mesh,
        engine,
    })
}

impl<M, T> Workers<M, T> {
    /// Reaches the workers' mailboxes.
    #[must_use]
    pub fn mesh(&self) -> &Mesh<M> {
        &self.mesh
    }

    /// One line about the engine that the workers run on.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Whether every worker has ended.
    #[must_use]
    pub fn are_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for all workers, also when some have died; their results in the order of their numbers.
    ///
    /// # Errors
    /// [`WorkersError::Died`] when one panicked.
    pub fn join(self) -> Result<Vec<T>, WorkersError> {
        let join = |thread: JoinHandle<Option<T>>| match thread.join() {
            Ok(Some(output)) => Ok(output),
            Ok(None) | Err(_) => Err(WorkersError::Died),
        };
        let ended: Vec<Result<T, WorkersError>> = self.threads.into_iter().map(join).collect();
        ended.into_iter().collect()
    }
}

/// Why workers could not start or did not end well.
#[derive(Debug)]
pub enum WorkersError {
    /// The system gives no thread.
    Thread(io::Error),
    /// A runtime could not start.
    Runtime(StartError),
    /// A worker panicked outside any task.
    Died,
}

impl fmt::Display for WorkersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(error) => write!(f, "cannot start a worker's thread: {error}"),
            Self::Runtime(error) => error.fmt(f),
            Self::Died => f.write_str("a worker died; its panic is in the log above"),
        }
    }
}

impl std::error::Error for WorkersError {}

/// What a worker's thread is made with.
struct Seat<M> {
    id: WorkerId,
    cpu: Option<usize>,
    rt: RtOptions,
    mesh: Mesh<M>,
}

impl<M> Seat<M> {
    fn run<T, Fut: Future<Output = T>>(
        self,
        main: impl Fn(Context<M>) -> Fut,
        report: &mpsc::Sender<Result<String, StartError>>,
        may_go: &mpsc::Receiver<()>,
    ) -> Option<T> {
        if let Some(cpu) = self.cpu {
            match cpu::pin(cpu) {
                Ok(()) => (),
                Err(_taken_away) => (), // The allowed set shrank meanwhile: the scheduler decides.
            }
        }
        let (rt, started) = match Rt::new(&self.rt) {
            Ok(rt) => {
                let description = rt.describe_engine();
                (Some(rt), Ok(description))
            }
            Err(error) => (None, Err(error)),
        };
        let heard = report.send(started);
        let rt = rt.filter(|_| heard.is_ok() && may_go.recv().is_ok())?;
        let mailbox = self.mesh.mailbox(self.id);
        let context = Context {
            rt: rt.clone(),
            id: self.id,
            mailbox,
            mesh: self.mesh,
        };
        let output = rt.block_on(main(context));
        rt.shut_down();
        Some(output)
    }
}

/// One CPU for each worker, or none for all.
fn cpus_for(pin: &Pin, count: u32) -> Option<Vec<usize>> {
    let count = count as usize;
    match pin {
        Pin::Auto => cpu::allowed().ok().filter(|cpus| cpus.len() == count),
        Pin::Off => None,
        Pin::To(cpus) if cpus.is_empty() => None,
        Pin::To(cpus) => Some(cpus.iter().copied().cycle().take(count).collect()),
    }
}
