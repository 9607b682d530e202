//! Flags and words, and their meaning; the only place that knows the text of a flag's default.

mod ahead;
mod check;
mod ctl;
mod explain;
mod misuse;

use crate::config::address::AddressError;
use crate::config::forwarding::{self, Forwarding, Http10, Underscores};
use crate::config::plan::{Limits, Listen, Listener, MULTIPLEX, OneRoute, Plan, Serves, Timeouts};
use crate::config::problem::Report;
use crate::config::resolve::{HEAD_RANGE, is_same_listener, own_name};
use crate::config::watch::Watch;
use crate::config::{address, load, names, paths, schema, show, units};
use crate::reload::Source;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use hp_core::obs::notice::say;
use hp_core::rt::net::{self, Address, PortUse};
use hp_core::rt::{Engine, worker};
use hp_core::wire::forwarding::Via;
use hp_core::wire::http1::head::{FIELDS_CEILING, HeadLimits};
use ipnet::IpNet;
use misuse::one_line;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What the user typed, read but not resolved.
#[derive(Debug, Parser)]
#[command(
    name = "hp-proxy",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    allow_negative_numbers = true,
    about = "A reverse proxy for HTTP/1.1: listens on one address and spreads requests over backends.",
    after_help = "Sizes take B, KiB, MiB, GiB; times take ms, s, m, h.\n\
SIGTERM or SIGINT drains and exits 0; a second one exits at once; SIGUSR1 prints a summary;\n\
SIGUSR2 hands over to the program that is now at its path.\n\
SIGHUP reads the file of --config again; requests, tunnels and connections to backends that it leaves alone go on.\n\
Exit status: 0 done, 1 failed, 2 misuse."
)]
struct Flags {
    #[command(subcommand)]
    word: Option<Word>,
    /// Run what this file says; takes no other flag but --watch.
    #[arg(long, value_name = "FILE", conflicts_with_all = ALL_FLAGS)]
    config: Option<PathBuf>,
    /// Read the file again when it changes, or one that it includes: looked at every second.
    #[arg(long, requires = "config")]
    watch: bool,
    /// Address to listen on, or unix:PATH; port 0 takes a free one and prints it; give it again for more.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: Vec<String>,
    /// Permission bits of the socket of --listen unix:PATH, in octal [default: 777 less the umask]
    #[arg(long, value_name = "MODE", value_parser = net::parse_socket_mode)]
    socket_mode: Option<u32>,
    /// Share the port with other servers of the same user that say so, too.
    #[arg(long)]
    reuse_port: bool,
    /// A server that requests go to, HOST:PORT, unix:PATH or srv:NAME; give it again for more, they take turns.
    #[arg(
        long = "backend",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9001"
    )]
    backends: Vec<String>,
    /// Threads, 1 to 1024; with --engine threads those that accept [default: one for each CPU that the process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Address for operators: /ready, /live and /counters [default: none]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// How sockets are driven: auto (uring where it is allowed, else epoll), uring, epoll, or threads (a thread for each
    /// connection).
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: Engine,
    /// How long a worker looks for work again and again before it sleeps, up to 1000000; each then uses a whole CPU while requests
    /// come. Not with --engine threads.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    spin: u32,
    /// Threads for connections, 1 to 15000, with --engine threads; further connections wait, and those that idle are closed.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    threads_max: u32,
    /// Time for a request's head; then 408.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    head_timeout: Duration,
    /// Time between two pieces of a body.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    body_timeout: Duration,
    /// Bytes a second that a client sends or takes of a body, averaged over --body-timeout, while it is waited for; 0: any.
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = units::bytes)]
    body_rate_min: u64,
    /// Time for the backend to say 100 where it is expected; then the proxy says it. 0: never.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration_or_zero)]
    continue_timeout: Duration,
    /// Time from a request to the head of its response; then 504.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    response_timeout: Duration,
    /// Time for a connection to a backend; then the next one, at last 504.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::duration)]
    connect_timeout: Duration,
    /// How long an idle client connection is kept.
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = units::duration)]
    keepalive_timeout: Duration,
    /// How long a request waits for a free backend connection; then 503.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    queue_timeout: Duration,
    /// How long an idle backend connection is kept.
    #[arg(long, value_name = "TIME", default_value = "50s", value_parser = units::duration)]
    upstream_idle_timeout: Duration,
    /// How long nothing may move in a tunnel after an upgrade.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::duration)]
    tunnel_timeout: Duration,
    /// How long a drain waits for requests in flight.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    drain_timeout: Duration,
    /// Time over which clients are told to go, after an upgrade or with --ready-lead; at most half of --drain-timeout. 0: all at
    /// once [default: 1s, or a third of --drain-timeout where that is less]
    #[arg(long, value_name = "TIME", value_parser = units::duration_or_zero)]
    close_spread: Option<Duration>,
    /// How long it serves on after SIGTERM, while /ready says 503 already.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration_or_zero)]
    ready_lead: Duration,
    /// How long a new process may take to take over after SIGUSR2; then it is ended, and this one goes on.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    upgrade_timeout: Duration,
    /// File that names the process in charge [default: none]
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(paths::file))]
    pid_file: Option<PathBuf>,
    /// Idle connections kept per worker and backend; with --engine threads per backend. 0: none.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    idle_conns_max: u32,
    /// Connections per backend, all workers together; further requests wait. 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    upstream_conns_max: u32,
    /// Let requests that may be repeated share a few connections to each backend, one behind the other; not with --engine threads.
    #[arg(long)]
    multiplex: bool,
    /// Size of a head, 1KiB to 1MiB; then 431.
    #[arg(long, value_name = "SIZE", default_value = "32KiB", value_parser = units::bytes)]
    head_max: u64,
    /// Fields of a head, 1 to 256; then 431.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=256))]
    fields_max: u16,
    /// Size of a request's content; then 413. 0: no limit, bodies stream.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = units::bytes)]
    body_max: u64,
    /// A network of proxies whose Forwarded and X-Forwarded-* are believed, 10.0.0.0/8 or one address; give it again for more
    /// [default: none, what a client says of itself is dropped]
    #[arg(long = "trusted-proxy", value_name = "NETWORK", value_parser = forwarding::network)]
    trusted_proxies: Vec<IpNet>,
    /// Write Forwarded (RFC 7239) besides X-Forwarded-*.
    #[arg(long)]
    forwarded: bool,
    /// Our name in Via; a request that carries it has been here before and is refused [default: hp-proxy- and a random number]
    #[arg(long, value_name = "NAME", value_parser = forwarding::via)]
    via: Option<Via>,
    /// Fields with an underscore in their name: drop them, keep them, or refuse the request.
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    underscores: UnderscoresFlag,
    /// Requests in HTTP/1.0: serve them, or refuse them with 426.
    #[arg(long, value_name = "WHAT", default_value = "serve")]
    http10: Http10Flag,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Read a configuration file, resolve its names, and tell everything that is wrong or risky.
    Check {
        /// Fail where a name does not resolve, which is only told otherwise.
        #[arg(long)]
        strict_names: bool,
        /// The file.
        file: PathBuf,
    },
    /// Print what a configuration file comes to, with every default written out.
    PrintPlan {
        /// The file.
        file: PathBuf,
    },
    /// Tell which route of a configuration file takes a request, and why the others do not.
    Explain {
        /// The file.
        file: PathBuf,
        /// Such as 'GET http://host/path?query -H name:value --from 192.0.2.1'; the method may be left out.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        request: Vec<String>,
    },
    /// Ask a running proxy how its endpoints are, or change them.
    Ctl(ctl::Ctl),
    /// Tell what a running proxy would change if its file were this one, and which connections that touches. Exit status 1: it
    /// cannot be followed.
    Plan {
        /// The file.
        file: PathBuf,
        /// Where the running proxy has its listener for operators [default: where the file has it]
        #[arg(long, value_name = "HOST:PORT")]
        admin: Option<String>,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// To serve a plan, which was made from this.
    Run(Box<Plan>, Source),
    /// To print a result.
    Print(String),
    /// To print a result, and to fail for what it says.
    PrintAndFail(String),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UnderscoresFlag {
    Drop,
    Keep,
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Http10Flag {
    Serve,
    Refuse,
}

/// Why a command line does not run: help was asked for, or something is wrong with it.
#[derive(Debug)]
pub enum Refusal {
    /// What clap found, or the help that was asked for.
    Clap(clap::Error),
    /// A flag with a value that cannot be used; says what to do.
    Misuse(String),
    /// The command line is right, but the world is not: a name does not resolve.
    Failed(String),
    /// What is wrong with a configuration file.
    Config(Report),
}

impl Refusal {
    /// Tells the user and gives the exit code: 0 for help, 1 for failure, 2 for misuse.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Clap(error) if error.use_stderr() => {
                say(format_args!("hp-proxy: {}", one_line(&error.to_string())));
                ExitCode::from(2)
            }
            Self::Clap(help) => {
                match help.print() {
                    Ok(()) => (),
                    Err(_closed) => (), // Nobody reads; the exit code still tells.
                }
                ExitCode::SUCCESS
            }
            Self::Misuse(message) => {
                say(format_args!("hp-proxy: {message}"));
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                say(format_args!("hp-proxy: {message}"));
                ExitCode::FAILURE
            }
            Self::Config(report) => {
                report.errors().iter().for_each(say);
                ExitCode::FAILURE
            }
        }
    }
}

/// Reads a command line; resolves names, and reads the file that it names.
///
/// # Errors
/// [`Refusal`], with lines that say what, where and what to do.
pub fn command(args: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let flags = Flags::try_parse_from(args).map_err(Refusal::Clap)?;
    Ok(match flags.word {
        None => match &flags.config {
            Some(file) => {
                let (plan, watch) = plan_of_file(file)?;
                let source = Source {
                    file: Some(file.clone()),
                    watch: flags.watch.then_some(watch),
                };
                Command::Run(Box::new(plan), source)
            }
            None => Command::Run(Box::new(plan_of_flags(flags)?), Source::default()),
        },
        Some(Word::Check { file, strict_names }) => {
            Command::Print(check::check(&file, strict_names)?)
        }
        Some(Word::PrintPlan { file }) => Command::Print(show::text(&plan_of_file(&file)?.0)),
        Some(Word::Explain { file, request }) => {
            let told = explain::explain(&plan_of_file(&file)?.0, &request.join(" "));
            Command::Print(told.map_err(Refusal::Misuse)?)
        }
        Some(Word::Ctl(ctl)) => Command::Print(ctl::run(ctl)?),
        Some(Word::Plan { file, admin, json }) => {
            let (plan, _watch) = plan_of_file(&file)?;
            let ahead = ahead::look(plan, admin.as_deref(), json)?;
            if ahead.can_be_done {
                Command::Print(ahead.text)
            } else {
                Command::PrintAndFail(ahead.text)
            }
        }
        Some(Word::Schema) => Command::Print(schema::text()),
    })
}

/// Reads a command line that serves into its plan.
///
/// # Errors
/// [`Refusal`]; a command line that asks for something else is misuse.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Plan, Refusal> {
    match command(args)? {
        Command::Run(plan, _source) => Ok(*plan),
        Command::Print(_) | Command::PrintAndFail(_) => {
            Err(Refusal::Misuse(String::from("nothing is to be served")))
        }
    }
}

/// The plan of a file, and a watch over the files that it depends on; tells warnings at once.
fn plan_of_file(file: &Path) -> Result<(Plan, Watch), Refusal> {
    let (plan, report) = load(file);
    let watch = Watch::new(report.files());
    let Some(plan) = plan else {
        return Err(Refusal::Config(report));
    };
    for warning in report.warnings() {
        say(format_args!("warning: {warning}"));
    }
    Ok((plan, watch))
}

fn plan_of_flags(flags: Flags) -> Result<Plan, Refusal> {
    let workers = flags.workers.unwrap_or_else(worker::count_for_this_process);
    let shares_out = flags.engine != Engine::Threads; // Threads have one limit together.
    if shares_out && (1..workers).contains(&flags.upstream_conns_max) {
        let limit = flags.upstream_conns_max;
        return Err(Refusal::Misuse(format!(
            "--upstream-conns-max {limit} is less than one connection for each of {workers} workers; \
             raise it or lower --workers"
        )));
    }
    if flags.spin > 0 && flags.engine == Engine::Threads {
        return Err(Refusal::Misuse(String::from(
            "--spin does nothing with --engine threads, where each connection has a thread; leave one of them out",
        )));
    }
    if flags.multiplex {
        check_multiplex(&flags, workers)?;
    }
    check_close_spread(&flags)?;
    if !HEAD_RANGE.contains(&flags.head_max) {
        let message = format!(
            "--head-max {} is out of range; write 1KiB to 1MiB",
            flags.head_max
        );
        return Err(Refusal::Misuse(message));
    }
    let admin = flags.admin.as_deref().map(|text| resolve("--admin", text));
    let admin = admin.transpose()?;
    let listen = listen(&flags)?;
    check_listeners(listen.addresses.iter().chain(&admin))?;
    let backends = flags.backends.iter().map(|text| backend(text));
    let backends: Vec<names::Source> = backends.collect::<Result<_, _>>()?;
    let (timeouts, limits) = (timeouts(&flags), limits(&flags));
    let pid_file = flags.pid_file.clone();
    let spin = Duration::from_micros(flags.spin.into());
    let multiplex = flags.multiplex.then_some(MULTIPLEX);
    let mut plan = Plan::from(OneRoute {
        listen,
        backends: Vec::new(),
        workers,
        engine: flags.engine,
        forwarding: forwarding_of(flags),
        timeouts,
        limits,
    });
    plan.pid_file = pid_file;
    plan.spin = spin;
    for upstream in &mut plan.upstreams {
        upstream.come_from(backends.clone());
        upstream.multiplex = multiplex;
    }
    plan.listeners.extend(admin.map(|address| Listener {
        address,
        port: PortUse::Exclusive,
        socket_mode: None,
        serves: Serves::Admin,
        trusted_proxies: Vec::new(),
    }));
    Ok(plan)
}

/// Sharing takes workers, and two connections each where there is a limit: one is never shared.
fn check_multiplex(flags: &Flags, workers: u32) -> Result<(), Refusal> {
    let limit = flags.upstream_conns_max;
    if flags.engine == Engine::Threads {
        return Err(Refusal::Misuse(String::from(
            "--multiplex does nothing with --engine threads, where each connection has a thread; leave one of them out",
        )));
    }
    if limit > 0 && limit / workers < 2 {
        return Err(Refusal::Misuse(format!(
            "--upstream-conns-max {limit} for {workers} workers leaves none to --multiplex: each needs two; \
             raise it or lower --workers"
        )));
    }
    Ok(())
}

fn listen(flags: &Flags) -> Result<Listen, Refusal> {
    let addresses = flags.listen.iter().map(|text| resolve("--listen", text));
    Ok(Listen {
        addresses: addresses.collect::<Result<_, _>>()?,
        port: if flags.reuse_port {
            PortUse::Shared
        } else {
            PortUse::Exclusive
        },
        socket_mode: flags.socket_mode,
    })
}

/// The kernel would refuse one of them as that of another server.
fn check_listeners<'a>(addresses: impl Iterator<Item = &'a Address>) -> Result<(), Refusal> {
    let mut taken: Vec<&Address> = Vec::new();
    for address in addresses {
        let mut others = taken.iter();
        match others.find(|other| is_same_listener(other, address)) {
            None => taken.push(address),
            Some(other) if *other == address => {
                let message = format!("{address} is listened on twice; write it once");
                return Err(Refusal::Misuse(message));
            }
            Some(other) => {
                return Err(Refusal::Misuse(format!(
                    "{address} and {other} cannot both be listened on; leave one of them out"
                )));
            }
        }
    }
    Ok(())
}

fn forwarding_of(flags: Flags) -> Forwarding {
    Forwarding {
        via_is_made_up: flags.via.is_none(),
        via: flags.via.unwrap_or_else(own_name),
        trusted_proxies: flags.trusted_proxies,
        writes_forwarded: flags.forwarded,
        underscores: match flags.underscores {
            UnderscoresFlag::Drop => Underscores::Drop,
            UnderscoresFlag::Keep => Underscores::Keep,
            UnderscoresFlag::Refuse => Underscores::Refuse,
        },
        http10: match flags.http10 {
            Http10Flag::Serve => Http10::Serve,
            Http10Flag::Refuse => Http10::Refuse,
        },
    }
}

fn timeouts(flags: &Flags) -> Timeouts {
    Timeouts {
        head: flags.head_timeout,
        body: flags.body_timeout,
        until_continue: (!flags.continue_timeout.is_zero()).then_some(flags.continue_timeout),
        response: flags.response_timeout,
        connect: flags.connect_timeout,
        keepalive: flags.keepalive_timeout,
        queue: flags.queue_timeout,
        upstream_idle: flags.upstream_idle_timeout,
        tunnel: flags.tunnel_timeout,
        drain: flags.drain_timeout,
        close_spread: close_spread(flags),
        ready_lead: flags.ready_lead,
        upgrade: flags.upgrade_timeout,
    }
}

fn close_spread(flags: &Flags) -> Duration {
    let within = || Timeouts::close_spread_within(flags.drain_timeout);
    flags.close_spread.unwrap_or_else(within)
}

/// Longer, and clients would be cut that were not told.
fn check_close_spread(flags: &Flags) -> Result<(), Refusal> {
    let (spread, drain) = (close_spread(flags), flags.drain_timeout);
    if spread <= Timeouts::close_spread_max(drain) {
        return Ok(());
    }
    Err(Refusal::Misuse(format!(
        "--close-spread {spread:?} is more than half of --drain-timeout {drain:?}: who is told last would be cut; \
         lower it, or raise that"
    )))
}

fn limits(flags: &Flags) -> Limits {
    let head_bytes_max = u32::try_from(flags.head_max).expect("held within HEAD_RANGE");
    let default = HeadLimits::default();
    let line_bytes_max = default.line_bytes_max.min(head_bytes_max);
    Limits {
        head: HeadLimits {
            head_bytes_max,
            line_bytes_max,
            fields_max: flags.fields_max,
        },
        body_rate_min: flags.body_rate_min,
        body_bytes_max: flags.body_max,
        idle_conns_max: flags.idle_conns_max,
        upstream_conns_max: flags.upstream_conns_max,
        threads_max: flags.threads_max,
        ..Limits::default()
    }
}

fn resolve(flag: &str, text: &str) -> Result<Address, Refusal> {
    address::resolve(text).map_err(|error| refusal(flag, text, &error))
}

/// A server; its name is looked up while the proxy runs.
fn backend(text: &str) -> Result<names::Source, Refusal> {
    let at = address::endpoint(text).map_err(|error| refusal("--backend", text, &error))?;
    Ok(names::Source::written(text, at))
}

fn refusal(flag: &str, text: &str, error: &AddressError) -> Refusal {
    let message = format!("{flag} {text}: {error}");
    match error {
        AddressError::Form
        | AddressError::Path(_)
        | AddressError::Name(_)
        | AddressError::PortZero => Refusal::Misuse(message),
        AddressError::Unknown(_) => Refusal::Failed(message),
    }
}

/// What a file says in its own words.
const ALL_FLAGS: [&str; 35] = [
    "listen",
    "socket_mode",
    "reuse_port",
    "backends",
    "workers",
    "admin",
    "engine",
    "spin",
    "threads_max",
    "head_timeout",
    "body_timeout",
    "body_rate_min",
    "continue_timeout",
    "response_timeout",
    "connect_timeout",
    "keepalive_timeout",
    "queue_timeout",
    "upstream_idle_timeout",
    "tunnel_timeout",
    "drain_timeout",
    "close_spread",
    "ready_lead",
    "upgrade_timeout",
    "pid_file",
    "idle_conns_max",
    "upstream_conns_max",
    "multiplex",
    "head_max",
    "fields_max",
    "body_max",
    "trusted_proxies",
    "forwarded",
    "via",
    "underscores",
    "http10",
];

const _: () = assert!(
    FIELDS_CEILING == 256,
    "the help text of --fields-max says so"
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn check(line: &str) -> Result<Plan, Refusal> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn no_flags_listen_on_8080_and_go_to_9001() {
        let plan = check("hp-proxy").unwrap();
        let port = |port| Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(plan.listeners[0].address, port(8080));
        let endpoints = &plan.upstreams[0].endpoints;
        assert_eq!((endpoints.len(), &endpoints[0].addr), (1, &port(9001)));
        assert_eq!(
            (plan.timeouts, plan.limits),
            (Timeouts::default(), Limits::default())
        );
        assert!(plan.workers >= 1);
    }

    /// --pid-file beside --config was read by nobody.
    #[test]
    fn no_flag_beside_a_file_is_ignored() {
        use clap::CommandFactory as _;
        use std::collections::BTreeSet;
        let command = Flags::command();
        let names = command.get_arguments().map(|one| one.get_id().as_str());
        let own = ["config", "watch", "help", "version"];
        let others: BTreeSet<&str> = names.filter(|name| !own.contains(name)).collect();
        assert_eq!(others, BTreeSet::from(ALL_FLAGS));
    }

    #[test]
    fn backends_keep_their_order() {
        let plan = check("hp-proxy --backend 127.0.0.1:1 --backend 127.0.0.1:2").unwrap();
        let ports: Vec<u16> = plan.upstreams[0]
            .endpoints
            .iter()
            .map(|backend| backend.addr.tcp().unwrap().port())
            .collect();
        assert_eq!(ports, [1, 2]);
    }

    #[test]
    fn misuse_is_told_in_one_line() {
        let told = |line: &str| match check(line) {
            Err(Refusal::Clap(error)) => one_line(&error.to_string()),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            told("hp-proxy --lisen x"),
            "unexpected argument '--lisen' found; a similar argument exists: '--listen'; \
             hp-proxy --help lists the options"
        );
        assert_eq!(
            told("hp-proxy --head-timeout 5"),
            "invalid value '5' for '--head-timeout <TIME>': \"5\" has no unit; write 5s or 5ms; \
             hp-proxy --help lists the options"
        );
    }

    #[test]
    fn misuse_is_told_apart_from_failure() {
        let misuse = [
            "hp-proxy --listen nonsense",
            "hp-proxy --backend 127.0.0.1:99999",
            "hp-proxy --backend :80",
            "hp-proxy --workers 2 --upstream-conns-max 1",
            "hp-proxy --head-max 5",
            "hp-proxy --admin x",
            "hp-proxy --listen unix:",
        ];
        for line in misuse {
            assert!(matches!(check(line), Err(Refusal::Misuse(_))), "{line}");
        }
        let unknown = [
            "hp-proxy tcp",
            "hp-proxy --config x.toml --workers 2",
            "hp-proxy check",
            "hp-proxy --workers 2 check x.toml",
            "hp-proxy --engine sim",
            "hp-proxy --threads-max 0",
            "hp-proxy --head-timeout 5",
        ];
        for line in unknown {
            let Err(Refusal::Clap(error)) = check(line) else {
                panic!("{line}")
            };
            assert!(error.use_stderr(), "{line}");
        }
        let unresolved = check("hp-proxy --listen no-such-host.invalid:80");
        assert!(matches!(unresolved, Err(Refusal::Failed(_))));
        assert!(check("hp-proxy --backend no-such-host.invalid:80").is_ok());
    }

    #[test]
    fn bad_values_are_told_with_what_to_write() {
        let rows = [
            ("--underscores maybe", "drop, keep, refuse"),
            ("--http10 maybe", "serve, refuse"),
            ("--engine maybe", "auto, uring, epoll or threads"),
            ("--workers 0", "1..=1024"),
            ("--workers 99999999999999999999", "--workers"),
            ("--workers -1", "-1 is not in 1..=1024"),
            ("--workers x", "write a whole number"),
            ("--workers=", "write a whole number"),
            ("--idle-conns-max -1", "-1 is not in 0..=4294967295"),
            ("--head-timeout -1s", "no value is below 0"),
            ("--body-max -1", "does not begin with a whole number"),
            ("--spin 50us", "write a whole number"),
            ("--spin 1000001", "0..=1000000"),
            ("--spin 50 --engine threads", "each connection has a thread"),
            ("--threads-max 15001", "1..=15000"),
            ("--idle-conns-max 99999999999", "0..=4294967295"),
            ("--close-spread 16s", "half of --drain-timeout 30s"),
            ("--close-spread 1s --drain-timeout 1s", "lower it, or raise"),
            ("--close-spread 1", "1s or 1ms"),
            ("--head-timeout=", "--head-timeout"),
            ("--head-timeout 5", "5s or 5ms"),
            ("--head-max 5X", "--head-max"),
            ("--fields-max 257", "1..=256"),
            ("--socket-mode 999", "660"),
            ("--trusted-proxy 10.0.0.1/8", "10.0.0.0/8"),
            ("--listen=", "HOST:PORT"),
            ("--backend=", "HOST:PORT"),
            ("--listen unix:", "unix:/run/hp.sock"),
            ("--pid-file=", "--pid-file <FILE>"),
            ("--pid-file run/", "write that of a file"),
            ("--backend unix:", "unix:/run/hp.sock"),
            ("--listen 127.0.0.1:99999", "HOST:PORT"),
            ("--listen no-such-host.invalid:80", "check its spelling"),
            ("--backend 127.0.0.1:0", "no server has port 0; write"),
            ("--listen ::1:80", "[::1]:8080"),
            ("--listen http://127.0.0.1:80", "HOST:PORT"),
            (
                "--listen 127.0.0.1:81 --listen 127.0.0.1:81",
                "twice; write it once",
            ),
            (
                "--listen 127.0.0.1:81 --admin 0.0.0.0:81",
                "0.0.0.0:81 and 127.0.0.1:81",
            ),
            ("--listen unix:a --listen unix:./a", "unix:./a"),
            ("--backend localhost:0", "no server has port 0"),
            ("--head-timeout 0", "write 1ms to 24h"),
            ("ctl", "upstreams"),
            ("--backend 300.1.1.1:80", "does not end in digits"),
            ("--backend srv:", "labels of 1 to 63"),
        ];
        for (flags, part) in rows {
            let told = match check(&format!("hp-proxy {flags}")) {
                Err(Refusal::Clap(error)) => one_line(&error.to_string()),
                Err(Refusal::Misuse(line) | Refusal::Failed(line)) => line,
                other => panic!("{flags}: {other:?}"),
            };
            assert!(
                told.contains(part) && !told.contains('\n'),
                "{flags}: {told}"
            );
        }
    }

    #[test]
    fn a_drain_is_spread_over_a_second_or_a_third_of_it() {
        let spread = |flags: &str| {
            check(&format!("hp-proxy {flags}"))
                .unwrap()
                .timeouts
                .close_spread
        };
        assert_eq!(spread(""), Duration::from_secs(1));
        assert_eq!(spread("--drain-timeout 3s"), Duration::from_secs(1));
        assert_eq!(spread("--drain-timeout 1s"), Duration::from_millis(333));
        assert_eq!(spread("--drain-timeout 1ms"), Duration::ZERO);
        assert_eq!(spread("--close-spread 0"), Duration::ZERO);
        assert_eq!(spread("--close-spread 15s"), Duration::from_secs(15));
    }

    #[test]
    fn several_addresses_of_both_kinds_are_listened_on() {
        let line =
            "hp-proxy --listen 127.0.0.1:0 --listen unix:a.sock --reuse-port --socket-mode 660";
        let listeners = check(line).unwrap().listeners;
        let shown: Vec<String> = listeners
            .iter()
            .map(|listener| listener.address.to_string())
            .collect();
        assert_eq!(shown, ["127.0.0.1:0", "unix:a.sock"]);
        for listener in listeners {
            assert_eq!(
                (listener.port, listener.socket_mode),
                (PortUse::Shared, Some(0o660))
            );
        }
        let plan = check("hp-proxy --backend unix:b.sock").unwrap();
        let endpoint = &plan.upstreams[0].endpoints[0];
        assert_eq!(endpoint.addr, Address::Unix("b.sock".into()));
    }
}
