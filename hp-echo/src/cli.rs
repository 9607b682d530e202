//! The words of the command line and what they mean.
//!
//! Must not know: sockets, workers, HTTP.

use std::ffi::OsString;
use std::io;
use std::net::ToSocketAddrs;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;
use hp_core::rt::Engine;
use hp_core::rt::net::{Address, parse_socket_mode};

/// What to serve, where, and with how much of the machine.
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "hp-echo", version, about = ABOUT, after_help = AFTER)]
pub struct Options {
    /// Address to listen on, or unix:PATH; port 0 takes a free one; give it again for more
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9001")]
    #[arg(value_parser = check_listen)]
    pub listen: Vec<String>,

    /// Permission bits of the socket of unix:PATH, in octal [default: 777 less the umask]
    #[arg(long, value_name = "MODE", value_parser = parse_socket_mode)]
    pub socket_mode: Option<u32>,

    /// Share the port with other servers of the same user that say so, too
    #[arg(long)]
    pub reuse_port: bool,

    /// Worker threads; with --engine threads those that accept [default: the CPUs it may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX))]
    pub workers: Option<u32>,

    /// How the kernel is asked: auto, uring, epoll, or threads (a thread for each connection)
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    pub engine: Engine,

    /// Threads for connections, with --engine threads; further connections wait
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub threads_max: u32,

    /// Length of the fixed body
    #[arg(long, value_name = "BYTES", default_value_t = 13)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=BODY_BYTES_MAX))]
    pub body: u64,

    /// Directory whose files GET answers with
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Why [`parse`] has no [`Options`] to give.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// `--help` or `--version`: the text for stdout.
    Asked(String),
    /// One line that says what is wrong and what to do.
    Misuse(String),
}

/// Reads the words; the first is the program's name.
///
/// # Errors
/// [`Stop`] where there is nothing to serve.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Options, Stop> {
    Options::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Asked(error.to_string()),
        _ => Stop::Misuse(one_line(&error.to_string())),
    })
}

/// What the program prints for misuse is one line: the first paragraph of clap's text and its tip.
fn one_line(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let what: Vec<&str> = first.split_whitespace().collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let tip = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .find(|tip| !tip.starts_with("to pass")); // No value begins with a dash.
    match tip {
        Some(tip) => format!("{what}; {tip}; see hp-echo --help"),
        None => format!("{what}; see hp-echo --help"),
    }
}

/// The address that a word of `--listen` means.
///
/// # Errors
/// What the resolver answers; `NotFound` for a name without an address.
pub(crate) fn resolve(text: &str) -> io::Result<Address> {
    if let Some(Ok(unix)) = Address::parse_unix(text) {
        return Ok(unix);
    }
    let first = text.to_socket_addrs()?.next();
    first
        .map(Address::Tcp)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn check_listen(text: &str) -> Result<String, String> {
    if let Some(unix) = Address::parse_unix(text) {
        return unix
            .map(|_usable| text.to_owned())
            .map_err(|bad| bad.to_string());
    }
    let port_is_number = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if port_is_number {
        Ok(text.to_owned())
    } else {
        Err("not HOST:PORT; write for example 127.0.0.1:9001 or unix:/run/echo.sock".to_owned())
    }
}

const WORKERS_MAX: i64 = 1024;
/// With the workers, fewer than runtimes a process can have.
const THREADS_MAX: i64 = 15_000;
/// 1 TiB: more than anybody waits for, and far from overflowing a sum.
const BODY_BYTES_MAX: u64 = 1 << 40;

const ABOUT: &str = "HTTP/1.1 backend for tests and measurements: fixed answers and echoes";

const AFTER: &str = "\
GET, HEAD          a fixed text of --body bytes under any path; with --root the file that the path names
POST, PUT, PATCH   the request's body, streamed back as it comes
/discard           POST: the body is read and dropped, the answer is the fixed text
/status/NNN        an answer with that status, 200 to 599
/delay/MS          the answer after MS milliseconds, at most 60000
/close             the answer, then the end of the connection
/counters          requests, answers, bytes and connections so far, as JSON; asking is not counted as a request

With --root: index.html for a directory, single ranges, ETag, Last-Modified and the conditions on them. Nothing outside of
the directory is served, whatever links lead there.

Any path takes orders in its query, in any order: /?s=20k&t=700&r=503&c=1&k=0&R=1
  s=SIZE           length of the body, with k, m or g; --body where it is not given
  t=MS             wait first, at most 60000
  r=NNN            status, 200 to 599
  c=1              chunked (to HTTP/1.0: until the end of the connection)
  k=0              close after the answer
  R=1              random bytes instead of a repeated one
and faults, for tests of clients and proxies:
  truncate=SIZE    end the connection in order after SIZE bytes of the body
  reset=SIZE       reset it after SIZE bytes (which the reset may overtake)
  drip=SIZE        send the body SIZE bytes at a time, 1 to 64k ...
  every=MS         ... so many milliseconds apart [default: 100]
  interims=N       N answers 103 before the final one, at most 1000000 (none to HTTP/1.0)
  garbage=1        bytes that are no answer, then the end
  hangup=1         the end instead of an answer
  silent=1         no answer, until the client leaves or an hour is over
A value that a key does not take is answered with 400 and the key. Other keys mean nothing. Except for t and k, an order
makes POST drop its body.

SIGTERM and SIGINT: takes no more connections, finishes what is under way, exits 0.
Exit status: 0; 1 where it could not serve; 2 misuse.";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Options, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    fn check_misuse(line: &str, part: &str) {
        match words(line) {
            Err(Stop::Misuse(text)) => {
                assert!(text.contains(part), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let options = words("hp-echo").unwrap();
        assert_eq!(options.listen, ["127.0.0.1:9001"]);
        assert_eq!((options.workers, options.body), (None, 13));
        assert_eq!(options.root, None);
        assert_eq!(options.engine, Engine::Auto);
    }

    #[test]
    fn flags_are_read() {
        let line = "hp-echo --listen [::1]:0 --workers 3 --engine epoll --body 0 --root a/b";
        let options = words(line).unwrap();
        assert_eq!(options.listen, ["[::1]:0"]);
        assert_eq!((options.workers, options.body), (Some(3), 0));
        assert_eq!(options.root, Some(PathBuf::from("a/b")));
        assert_eq!(options.engine, Engine::Epoll);
    }

    #[test]
    fn misuse_is_one_line() {
        check_misuse("hp-echo --listn a", "a similar argument exists: '--listen'");
        check_misuse("hp-echo --listen 9001", "not HOST:PORT");
        check_misuse("hp-echo --listen 127.0.0.1:x", "not HOST:PORT");
        check_misuse("hp-echo --workers 0", "0 is not in 1..=1024");
        check_misuse("hp-echo --engine kqueue", "kqueue");
        check_misuse("hp-echo --body 1k", "--body");
        check_misuse("hp-echo --threads-max 0", "0 is not in 1..=15000");
        check_misuse("hp-echo extra", "extra");
    }

    #[test]
    fn help_is_not_misuse() {
        assert!(matches!(words("hp-echo --help"), Err(Stop::Asked(_))));
        assert!(matches!(words("hp-echo --version"), Err(Stop::Asked(_))));
    }
}
