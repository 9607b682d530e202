//! The words of the command line and what they mean.

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::Parser;
use hp_bench::cli::Stop;
use hp_core::rt::Engine;
use hp_core::rt::net::Address;

/// What to relay, and with how much of the machine.
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "hp-relay", version, about = ABOUT, after_help = AFTER)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where each client's connection goes on; unix:PATH is a Unix socket
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9001", value_parser = parse_backend)]
    pub backend: Address,

    /// How the kernel is asked: auto, uring or epoll
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = parse_engine)]
    pub engine: Engine,

    /// Move bytes through pipes, without receive buffers
    #[arg(long)]
    pub splice: bool,

    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: u32,
}

/// Reads the words; the first is the program's name.
///
/// # Errors
/// [`Stop`] where there is nothing to relay.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Options, Stop> {
    Options::try_parse_from(words).map_err(|error| Stop::of(&error, "hp-relay"))
}

fn parse_backend(text: &str) -> Result<Address, String> {
    match Address::parse_unix(text) {
        Some(unix) => unix.map_err(|error| error.to_string()),
        None => text
            .parse()
            .map(Address::Tcp)
            .map_err(|_error| "write an address and a port, or unix:PATH".to_owned()),
    }
}

fn parse_engine(text: &str) -> Result<Engine, String> {
    match text.parse() {
        Ok(engine @ (Engine::Auto | Engine::Uring | Engine::Epoll)) => Ok(engine),
        Ok(Engine::Threads) | Err(_) => Err("write auto, uring or epoll".to_owned()),
    }
}

const ABOUT: &str = "Moves bytes between clients and a backend and does nothing else: the floor that proxies are measured against";

const AFTER: &str = "\
Each client's connection gets one of its own to the backend. A FIN is passed on and leaves the other direction open; a reset
resets both.

SIGTERM and SIGINT: cuts what is connected, exits 0.
Exit status: 0; 1 where it could not serve; 2 misuse.";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Options, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn flags_are_read() {
        let line =
            "hp-relay --listen [::1]:0 --backend 127.0.0.1:2 --engine epoll --splice --workers 3";
        let options = words(line).unwrap();
        assert_eq!(options.listen.to_string(), "[::1]:0");
        assert_eq!(options.backend.to_string(), "127.0.0.1:2");
        assert_eq!(
            (options.engine, options.splice, options.workers),
            (Engine::Epoll, true, 3)
        );
        assert_eq!(words("hp-relay").unwrap().workers, 1);
        let local = words("hp-relay --backend unix:/a").unwrap();
        assert_eq!(local.backend, Address::Unix("/a".into()));
    }

    #[test]
    fn misuse_is_one_line_that_says_what_to_do() {
        for (line, part) in [
            (
                "hp-relay --engine threads",
                "write auto, uring or epoll; see hp-relay --help",
            ),
            ("hp-relay --workers 0", "0 is not in 1..=1024"),
            (
                "hp-relay --backend localhost",
                "write an address and a port",
            ),
            ("hp-relay --backend unix:", "1 to 107 bytes"),
            ("hp-relay --fast", "--fast"),
        ] {
            match words(line) {
                Err(Stop::Misuse(text)) => {
                    assert!(text.contains(part) && !text.contains('\n'), "{text}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(words("hp-relay --help"), Err(Stop::Asked(_))));
    }
}
