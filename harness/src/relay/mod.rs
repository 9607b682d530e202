//! hp-relay, the floor under every proxy on this runtime: it accepts, opens one connection to the backend for each client,
//! and moves bytes both ways. It parses nothing, keeps no connection for later and has no deadline but that of connecting.
//!
//! What hp-proxy costs more than this is the price of HTTP, pooling and policy.

mod cli;
mod pump;

pub use cli::{Options, parse};

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use hp_bench::cli::Stop;
use hp_core::obs::notice::say;
use hp_core::rt::net::{self, Address, Conn, Listener, Socket};
use hp_core::rt::worker::{self, Context, Pin, WorkerId, Workers, WorkersError, WorkersOptions};
use hp_core::rt::{Rt, RtOptions};
use hp_core::sys::signal::{Signal, Signals};
use hp_core::sys::{heap, limits};

use crate::output::show;

/// Runs the command line: 0 after SIGTERM or SIGINT, 1 where it could not serve, 2 misuse.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match parse(words) {
        Ok(options) => options,
        Err(Stop::Asked(text)) => {
            return match show(text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(1, &error.to_string()),
            };
        }
        Err(Stop::Misuse(line)) => return fail(2, &line),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

/// Listens, starts the workers, and returns after a signal; what is connected then is cut.
///
/// Says `listening on ADDR`, and which engine that is, on stderr once connections are taken.
///
/// # Errors
/// [`RunError`] where it could not begin, or a worker died.
pub fn run(options: &Options) -> Result<(), RunError> {
    // Blocked here, so that every thread started below has them blocked too.
    let signals =
        Signals::block(&[Signal::Terminate, Signal::Interrupt]).map_err(RunError::Signals)?;
    heap::keep_tables_apart();
    let _as_it_was = limits::raise_open_files(); // With the old limit fewer connections fit.
    let _as_it_grows = limits::make_room_for_files(); // Else some connections wait while it does.
    let (addr, sockets) =
        listen(options).map_err(|cause| RunError::Listen(options.listen, cause))?;
    let workers = WorkersOptions {
        count: options.workers,
        rt: RtOptions {
            engine: options.engine,
            ..RtOptions::default()
        },
        pin: Pin::Auto,
        name: "hp-relay",
    };
    let route = Route {
        backend: options.backend.clone(),
        splice: options.splice,
    };
    let workers = worker::start(&workers, move |context| work(context, route.clone()))
        .map_err(RunError::Workers)?;
    for (id, socket) in (0..).map(WorkerId).zip(sockets) {
        tell(&workers, id, Order::Serve(socket));
    }
    match writeln!(io::stderr(), "listening on {addr}\n{}", workers.engine()) {
        Ok(()) => (),
        Err(_unheard) => (), // Nobody wants to know, but there may be clients.
    }
    // Workers end by themselves only when something is wrong, which `join` then tells.
    let mut signal = None;
    while signal.is_none() && !workers.are_finished() {
        signal = signals.wait_for(SIGNAL_PAUSE).map_err(RunError::Signals)?;
    }
    for id in (0..options.workers).map(WorkerId) {
        tell(&workers, id, Order::End);
    }
    let ended = workers.join().map_err(RunError::Workers)?;
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
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The workers cannot start, or one died.
    Workers(WorkersError),
    /// A worker could not take its listener over.
    Adopt(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signals(cause) => write!(f, "cannot wait for signals: {cause}"),
            Self::Listen(addr, cause) => {
                write!(
                    f,
                    "cannot listen on {addr}: {cause}; choose another --listen"
                )
            }
            Self::Workers(error) => error.fmt(f),
            Self::Adopt(cause) => write!(f, "a worker cannot listen: {cause}; try --workers 1"),
        }
    }
}

impl std::error::Error for RunError {}

/// Where bytes go, and how.
#[derive(Clone, Debug)]
struct Route {
    backend: Address,
    splice: bool,
}

/// What a worker is told.
#[derive(Debug)]
enum Order {
    Serve(Socket),
    End,
}

async fn work(context: Context<Order>, route: Route) -> io::Result<()> {
    let Order::Serve(socket) = context.mailbox.recv().await else {
        return Ok(()); // The end came before the beginning.
    };
    let listener = context.rt.listener(socket)?;
    context
        .rt
        .spawn(accept(context.rt.clone(), listener, Rc::new(route)));
    while !matches!(context.mailbox.recv().await, Order::End) {}
    Ok(())
}

async fn accept(rt: Rt, listener: Listener, route: Rc<Route>) {
    loop {
        match listener.accept().await {
            Ok(client) => rt.spawn(serve(rt.clone(), client, Rc::clone(&route))),
            // At a limit of the process or the machine: those who wait are taken when it passes.
            Err(_at_limit) => rt.sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(rt: Rt, client: Conn, route: Rc<Route>) {
    let deadline = rt.now() + CONNECT_TIMEOUT;
    let Ok(backend) = rt.connect_to(&route.backend, deadline).await else {
        return client.reset(); // A FIN would say that there was an answer, and that it was empty.
    };
    let ended = if route.splice {
        pump::splice(&client, &backend).await
    } else {
        pump::copy(&client, &backend).await
    };
    if ended.is_err() {
        client.reset();
        backend.reset();
    }
}

/// Sends an order to a worker that lives; one that ended needs none.
fn tell(workers: &Workers<Order, io::Result<()>>, id: WorkerId, order: Order) {
    match workers.mesh().send(id, order) {
        Ok(()) => (),
        Err(_order) => (), // Why it ended is told by its output.
    }
}

/// One listening socket for each worker, all on one address; port 0 is chosen by the first.
fn listen(options: &Options) -> io::Result<(SocketAddr, Vec<Socket>)> {
    if options.listen.port() != 0 {
        hp_core::sys::socket::probe_exclusive(options.listen)?;
    }
    let first = net::listen(options.listen, BACKLOG)?;
    let addr = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..options.workers {
        sockets.push(net::listen(addr, BACKLOG)?);
    }
    Ok((addr, sockets))
}

fn fail(status: u8, line: &str) -> ExitCode {
    say(format_args!("hp-relay: {line}"));
    ExitCode::from(status)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the main thread looks whether a worker has died.
const SIGNAL_PAUSE: Duration = Duration::from_millis(500);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: u32 = 4096;
