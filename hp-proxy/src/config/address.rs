//! `HOST:PORT`, `unix:PATH` and `srv:NAME`, as users write addresses.

use super::names::{Place, Resolve};
use crate::upstream::discovery::Host;
use hp_core::rt::net::{Address, BadPath};
use hp_core::wire::dns::{BadName, Name};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// Why a text gives no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is no `HOST:PORT`.
    Form,
    /// No Unix socket can have this path.
    Path(BadPath),
    /// No host can have this name.
    Name(BadName),
    /// A server would have port 0.
    PortZero,
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
            Self::Name(bad) => bad.fmt(f),
            Self::PortZero => f.write_str("no server has port 0; write the port that it listens on"),
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
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(Address::Tcp(addr));
    }
    split(text)?;
    let addrs = text.to_socket_addrs();
    let mut addrs = addrs.map_err(|error| AddressError::Unknown(error.to_string()))?;
    let first = addrs.next().map(Address::Tcp);
    first.ok_or_else(|| AddressError::Unknown(String::from("it has no address")))
}

/// Where an endpoint is: at an address, or wherever its name leads to, which is looked up later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// It is given.
    At(Address),
    /// It has a name.
    Named(Place),
}

/// Reads where an endpoint is; looks no name up.
///
/// # Errors
/// [`AddressError`], but for [`AddressError::Unknown`].
pub fn endpoint(text: &str) -> Result<Where, AddressError> {
    if let Some(unix) = Address::parse_unix(text) {
        return unix.map(Where::At).map_err(AddressError::Path);
    }
    if let Some(service) = text.strip_prefix(SERVICE_PREFIX) {
        return service_named(service).map(Where::Named);
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        server_port(addr.port())?;
        return Ok(Where::At(Address::Tcp(addr)));
    }
    let (host, port) = split(text)?;
    server_port(port)?;
    let name = Name::parse(host).map_err(AddressError::Name)?;
    Ok(Where::Named(Place::Host {
        host: Host {
            name,
            is_absolute: host.ends_with('.'),
        },
        port,
        resolve: Resolve::default(),
    }))
}

/// The place that the name of a service leads to.
///
/// # Errors
/// [`AddressError::Name`].
pub fn service_named(text: &str) -> Result<Place, AddressError> {
    let name = Name::parse(text).map_err(AddressError::Name)?;
    Ok(Place::Service(name))
}

/// Refuses the port that stands for any free one: that is for who listens.
///
/// # Errors
/// [`AddressError::PortZero`].
pub fn server_port(port: u16) -> Result<u16, AddressError> {
    match port {
        0 => Err(AddressError::PortZero),
        port => Ok(port),
    }
}

/// A name with its port.
fn split(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::Form)?;
    let port = port.parse().map_err(|_no_number| AddressError::Form)?;
    if host.is_empty() || host.contains(':') {
        return Err(AddressError::Form); // An address of IPv6 without its brackets, or a URL, which no server of names need be asked for.
    }
    Ok((host, port))
}

/// What the name of a service is written after.
pub const SERVICE_PREFIX: &str = "srv:";
