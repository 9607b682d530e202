//! `HOST:PORT` and `unix:PATH`, as users write addresses.

use hp_core::rt::net::{Address, BadPath};
use std::fmt;
use std::net::ToSocketAddrs;

/// Why a text gives no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is no `HOST:PORT`.
    Form,
    /// No Unix socket can have this path.
    Path(BadPath),
    /// The name does not resolve, for this reason.
    Unknown(String),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "this is no address; write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or unix:PATH",
            ),
            Self::Path(bad) => bad.fmt(f),
            Self::Unknown(cause) => write!(
                f,
                "the name does not resolve ({cause}); check its spelling, or write an address"
            ),
        }
    }
}

/// Reads an address; resolves a name, which may take its time.
///
/// # Errors
/// [`AddressError`].
pub fn resolve(text: &str) -> Result<Address, AddressError> {
    if let Some(unix) = Address::parse_unix(text) {
        return unix.map_err(AddressError::Path);
    }
    let port_is_number = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !port_is_number {
        return Err(AddressError::Form);
    }
    let addrs = text.to_socket_addrs();
    let mut addrs = addrs.map_err(|error| AddressError::Unknown(error.to_string()))?;
    let first = addrs.next().map(Address::Tcp);
    first.ok_or_else(|| AddressError::Unknown(String::from("it has no address")))
}
