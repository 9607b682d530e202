//! HTTP/1.1 backend for tests and measurements: fixed answers and echoes, at the least cost.
//!
//! [`serve`] is one worker's whole work and needs no thread, signal or process: a simulator can run
//! it. [`run`] is the process around it.

// Both panic where their reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod batch;
pub mod cli;
mod counters;
mod drain;
mod files;
mod filler;
mod handler;
mod query;
mod request;
mod service;
mod thread;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use hp_core::obs::notice::say;
use hp_core::rt::crew::Crew;
use hp_core::rt::mesh::Mesh;
use hp_core::rt::net::{
    self, Accepted, Address, BindError, BindOptions, Bound, Listener, PortUse, Socket, SocketName,
};
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::{self, Context, Pin, WorkerId, Workers, WorkersError, WorkersOptions};
use hp_core::rt::{Engine, Rt, RtOptions};
use hp_core::sys::signal::{Signal, Signals};
use hp_core::sys::{heap, limits};

use crate::cli::Options;
use crate::drain::{Drain, Guest};
use crate::handler::{Session, Site};
pub use crate::service::Service;

/// Serves connections of `listener`, and those that other workers hand over, until
/// [`Order::Drain`] comes; then finishes what is under way.
///
/// Returns when the last connection is closed, or [`DRAIN_TIMEOUT`] after the order. `body_len` is
/// the length of the fixed body.
pub async fn serve(context: Context<Order>, listener: Listener, body_len: u64) {
    serve_all(context, vec![listener], &Service::fixed(body_len)).await;
}

/// The same for everything that can be served, on several listeners.
pub async fn serve_all(context: Context<Order>, listeners: Vec<Listener>, service: &Service) {
    let Context {
        rt,
        id,
        mailbox,
        mesh,
        ..
    } = context;
    let drain = Rc::new(Drain::default());
    let site = Rc::new(Site::new(rt.clone(), service, id.0, Rc::clone(&drain)));
    let door = Door {
        rt: rt.clone(),
        site,
        id,
        mesh,
    };
    for listener in listeners {
        let way = Way::Workers(door.clone());
        rt.spawn(accept(rt.clone(), way, listener, Rc::clone(&drain)));
    }
    loop {
        match mailbox.recv().await {
            Order::Serve(_second) => (), // A worker gets all its sockets at once.
            Order::Take(accepted) => door.take(accepted),
            Order::Drain => break,
        }
    }
    drain.begin();
    let finish = async {
        loop {
            let order = match race(drain.emptied(), mailbox.recv()).await {
                First::One(()) => mailbox.try_recv(),
                First::Other(order) => Some(order),
            };
            match order {
                None => return,
                Some(Order::Take(accepted)) => door.take(accepted),
                Some(Order::Serve(_) | Order::Drain) => (),
            }
        }
    };
    match race(finish, rt.sleep(DRAIN_TIMEOUT)).await {
        First::One(()) => (),
        First::Other(()) => (), // Who is still here after that long is cut off with the runtime.
    }
}

/// Accepts connections of `listeners` for a crew until [`Order::Drain`] comes.
async fn accept_for(crew: Crew<Accepted>, context: Context<Order>, listeners: Vec<Listener>) {
    let Context { rt, mailbox, .. } = context;
    let drain = Rc::new(Drain::default());
    for listener in listeners {
        let way = Way::Threads(crew.clone());
        rt.spawn(accept(rt.clone(), way, listener, Rc::clone(&drain)));
    }
    drop(crew);
    while !matches!(mailbox.recv().await, Order::Drain) {}
    drain.begin();
    drain.emptied().await;
}

/// Listens, starts the workers, and returns after a signal and the drain that follows it.
///
/// Says `listening on ADDR`, and which engine that is, on stderr once connections are served.
///
/// # Errors
/// [`RunError`] where it could not begin, or a worker did not end well.
pub fn run(options: &Options) -> Result<(), RunError> {
    // Blocked here, so that every thread started below has them blocked too.
    let signals =
        Signals::block(&[Signal::Terminate, Signal::Interrupt]).map_err(RunError::Signals)?;
    heap::keep_tables_apart();
    let _as_it_was = limits::raise_open_files(); // With the old limit fewer connections fit.
    let _as_it_grows = limits::make_room_for_files(); // Else some connections wait while it does.
    let count = options
        .workers
        .unwrap_or_else(worker::count_for_this_process);
    let service = Service::new(options, count).map_err(|cause| RunError::Root {
        path: options.root.clone().unwrap_or_default(),
        cause,
    })?;
    let bound = listen(options, count)?;
    let has_crew = options.engine == Engine::Threads;
    let rt = RtOptions {
        engine: options.engine,
        ..RtOptions::default()
    };
    let workers = WorkersOptions {
        count,
        rt,
        // Threads that a pinned one starts would be pinned as well.
        pin: if has_crew { Pin::Off } else { Pin::Auto },
        name: "hp-echo",
    };
    let crew = has_crew.then(|| thread::crew(options, &service, count));
    let workers = {
        let crew = crew.clone();
        worker::start(&workers, move |context| {
            work(context, service.clone(), crew.clone())
        })
    }
    .map_err(RunError::Workers)?;
    let (addresses, names) = hand_out(bound, &workers);
    announce(&addresses, workers.engine());
    let mut signal = None;
    // Workers end by themselves only when something is wrong, which `join` then tells.
    while signal.is_none() && !workers.are_finished() {
        signal = signals.wait_for(SIGNAL_PAUSE).map_err(RunError::Signals)?;
    }
    drop(names); // From now on a successor may have them.
    for id in (0..count).map(WorkerId) {
        tell(workers.mesh(), id, Order::Drain);
    }
    let ended = workers.join().map_err(RunError::Workers)?;
    if let Some(crew) = crew {
        crew.end();
        crew.join();
        if crew.has_died() {
            return Err(RunError::Workers(WorkersError::Died));
        }
    }
    ended
        .into_iter()
        .collect::<io::Result<()>>()
        .map_err(RunError::Adopt)
}

/// Why the process ends with 1.
#[derive(Debug)]
pub enum RunError {
    /// The signals cannot be read.
    Signals(io::Error),
    /// The directory for files cannot be opened.
    Root {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
    /// A name has no address.
    Resolve {
        /// As it was given.
        name: String,
        /// The resolver's word.
        cause: io::Error,
    },
    /// An address cannot be listened on.
    Listen(BindError),
    /// The workers cannot start, or one did not end well.
    Workers(WorkersError),
    /// A worker could not take its listener over.
    Adopt(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signals(cause) => write!(f, "cannot wait for signals: {cause}"),
            Self::Root { path, cause } => {
                let cause = match cause.kind() {
                    io::ErrorKind::NotFound => "no such directory",
                    io::ErrorKind::NotADirectory => "not a directory",
                    io::ErrorKind::PermissionDenied => "permission denied",
                    _ => {
                        let path = path.display();
                        return write!(f, "cannot open --root {path}: {cause}; give a directory");
                    }
                };
                let path = path.display();
                write!(
                    f,
                    "cannot open --root {path}: {cause}; give a directory that can be read"
                )
            }
            Self::Resolve { name, cause } => write!(
                f,
                "cannot resolve --listen {name}: {cause}; check the name or give an address"
            ),
            Self::Listen(error) => error.fmt(f),
            Self::Workers(error) => write!(f, "{error}"),
            Self::Adopt(cause) => write!(f, "a worker cannot listen: {cause}; try --workers 1"),
        }
    }
}

impl std::error::Error for RunError {}

/// What a worker is told, by the main thread and by other workers.
#[derive(Debug)]
pub enum Order {
    /// Begin with these listening sockets.
    Serve(Vec<Socket>),
    /// Serve this connection, for which a place with you is reserved.
    Take(Accepted),
    /// Finish and end.
    Drain,
}

async fn work(
    context: Context<Order>,
    service: Service,
    crew: Option<Crew<Accepted>>,
) -> io::Result<()> {
    let Order::Serve(sockets) = context.mailbox.recv().await else {
        return Ok(()); // The end came before the beginning.
    };
    let listeners = sockets
        .into_iter()
        .map(|socket| context.rt.listener(socket));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    match crew {
        None => serve_all(context, listeners, &service).await,
        Some(crew) => accept_for(crew, context, listeners).await,
    }
    Ok(())
}

/// Sends an order to a worker that lives; one that ended needs none.
fn tell(mesh: &Mesh<Order>, id: WorkerId, order: Order) {
    match mesh.send(id, order) {
        Ok(()) => (),
        Err(_order) => (), // Why it ended is told by its output.
    }
}

/// Binds every address for all workers; what is bound is given back where one cannot be.
fn listen(options: &Options, count: u32) -> Result<Vec<Bound>, RunError> {
    let binding = BindOptions {
        count,
        backlog: BACKLOG,
        port: if options.reuse_port {
            PortUse::Shared
        } else {
            PortUse::Exclusive
        },
        socket_mode: options.socket_mode,
    };
    let bind = |text: &String| {
        let address = cli::resolve(text).map_err(|cause| RunError::Resolve {
            name: text.clone(),
            cause,
        })?;
        net::bind(&address, &binding).map_err(RunError::Listen)
    };
    options.listen.iter().map(bind).collect()
}

/// Gives each worker its socket of each address; tells where these are, and which names have to be kept.
fn hand_out<T>(bound: Vec<Bound>, workers: &Workers<Order, T>) -> (Vec<Address>, Vec<SocketName>) {
    let mut shares: Vec<Vec<Socket>> = Vec::new();
    shares.resize_with(workers.mesh().workers() as usize, Vec::new);
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for Bound {
        address,
        sockets,
        name,
    } in bound
    {
        addresses.push(address);
        names.extend(name);
        for (share, socket) in shares.iter_mut().zip(sockets) {
            share.push(socket);
        }
    }
    for (id, share) in (0..).map(WorkerId).zip(shares) {
        tell(workers.mesh(), id, Order::Serve(share));
    }
    (addresses, names)
}

/// Says where connections are served, and how, in one write: nothing of anybody else comes between.
fn announce(addresses: &[Address], engine: &str) {
    let listening = |address| format!("listening on {address}\n");
    let lines: Vec<String> = addresses.iter().map(listening).collect();
    say(format_args!("{}{engine}", lines.concat()));
}

/// Takes connections until the drain begins, and then those that wait already.
async fn accept(rt: Rt, way: Way, listener: Listener, drain: Rc<Drain>) {
    let guest = Guest::enter(&drain).await;
    loop {
        let next = async {
            way.has_room().await;
            listener.accept_raw().await
        };
        match guest.unless_drained(next).await {
            Some(Ok(accepted)) => way.place(accepted),
            // At a limit of the process or the machine: those who wait are served when it passes.
            Some(Err(_at_limit)) => rt.sleep(ACCEPT_PAUSE).await,
            None => break,
        }
    }
    listener.pause();
    // A turn later the kernel has handed over what it had accepted for us.
    rt.sleep(PAUSE_SETTLES).await;
    // As many as can have waited: clients that come meanwhile must not keep it open.
    let waiting = std::iter::from_fn(|| listener.try_accept_raw());
    for accepted in waiting.take(BACKLOG as usize) {
        way.place(accepted);
    }
}

/// Where accepted connections go.
enum Way {
    /// To tasks, of this worker or another.
    Workers(Door),
    /// To a thread each.
    Threads(Crew<Accepted>),
}

impl Way {
    async fn has_room(&self) {
        match self {
            Self::Workers(_) => (),
            Self::Threads(crew) => crew.has_room().await,
        }
    }

    fn place(&self, accepted: Accepted) {
        match self {
            Self::Workers(door) => door.place(accepted),
            Self::Threads(crew) => match crew.hand_over(accepted) {
                Ok(()) => (),
                Err(_no_thread) => (), // It waits for those that are there, or is closed where there are none.
            },
        }
    }
}

/// Where accepted connections become tasks, of this worker or another.
#[derive(Clone)]
struct Door {
    rt: Rt,
    site: Rc<Site>,
    id: WorkerId,
    mesh: Mesh<Order>,
}

impl Door {
    /// Finds the worker for a connection that this one accepted.
    fn place(&self, accepted: Accepted) {
        let to = self.mesh.loads().place(self.id);
        if to == self.id {
            return self.take(accepted);
        }
        if let Err(order) = self.mesh.send(to, Order::Take(accepted)) {
            // That worker has ended: better here than not at all, though nobody counts it.
            self.mesh.loads().release(to);
            if let Order::Take(accepted) = order {
                self.start(accepted, None);
            }
        }
    }

    /// Begins to serve a connection for which a place here is reserved.
    fn take(&self, accepted: Accepted) {
        let place = Place {
            mesh: self.mesh.clone(),
            id: self.id,
        };
        self.start(accepted, Some(place));
    }

    fn start(&self, accepted: Accepted, place: Option<Place>) {
        let conn = match self.rt.adopt_accepted(accepted) {
            Ok(conn) => conn,
            Err(_closed) => return, // No room in the engine: the client sees its connection end.
        };
        let site = Rc::clone(&self.site);
        self.rt.spawn(async move {
            let _place = place;
            Session::new(site, conn).await.serve().await;
        });
    }
}

/// A connection's share of its worker's load; given back when it ends.
struct Place {
    mesh: Mesh<Order>,
    id: WorkerId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.mesh.loads().release(self.id);
    }
}

/// Longest that a drain waits for answers under way.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the main thread looks whether there is anything left to wait for.
const SIGNAL_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_SETTLES: Duration = Duration::from_millis(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: u32 = 4096;
