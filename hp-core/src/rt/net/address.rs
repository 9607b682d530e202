//! Where servers listen and are found: an address with a port, or the name of a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The address of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket: 1 to [`UNIX_PATH_BYTES_MAX`] bytes, none of them zero.
    Unix(PathBuf),
}

impl Address {
    /// Reads `unix:PATH`; `None` where the text does not begin so.
    ///
    /// # Errors
    /// [`BadPath`] for a path that no socket can have.
    pub fn parse_unix(text: &str) -> Option<Result<Self, BadPath>> {
        let path = text.strip_prefix(UNIX_PREFIX)?;
        let is_directory = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
        let is_usable =
            path.len() <= UNIX_PATH_BYTES_MAX && !is_directory && !path.as_bytes().contains(&0);
        Some(if is_usable {
            Ok(Self::Unix(PathBuf::from(path)))
        } else {
            Err(BadPath)
        })
    }

    /// The address and port, where it has one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The path, where it is a Unix socket's.
    #[must_use]
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// A path that no Unix socket can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadPath;

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the path of a socket has 1 to {UNIX_PATH_BYTES_MAX} bytes and does not end as that of a directory; write for example unix:/run/hp.sock"
        )
    }
}

impl std::error::Error for BadPath {}

/// `sun_path` without its final zero (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;
const UNIX_PREFIX: &str = "unix:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in ["unix:/run/a.sock", "unix:a:b", "unix:@x"] {
            let address = Address::parse_unix(text).unwrap().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.tcp(), None);
        }
        let tcp = Address::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!(
            (tcp.to_string().as_str(), tcp.unix()),
            ("127.0.0.1:80", None)
        );
    }

    #[test]
    fn paths_that_no_socket_can_have_are_refused() {
        let path = |bytes: usize| format!("unix:{}", "x".repeat(bytes));
        let directories = ["unix:/run/", "unix:.", "unix:a/.."];
        for text in directories {
            assert_eq!(Address::parse_unix(text), Some(Err(BadPath)), "{text:?}");
        }
        for text in ["unix:", "unix:a\0b", &path(UNIX_PATH_BYTES_MAX + 1)] {
            assert_eq!(Address::parse_unix(text), Some(Err(BadPath)), "{text:?}");
        }
        assert!(
            Address::parse_unix(&path(UNIX_PATH_BYTES_MAX))
                .unwrap()
                .is_ok()
        );
        assert_eq!(Address::parse_unix("127.0.0.1:80"), None);
    }
}
