//! Binding what a server listens on: the sockets of all its workers, and the name that a Unix socket leaves behind.
//!
//! ```text
//! name ─nothing there─────────────────────────► bind
//!   ├──a socket, and nobody accepts─► remove ─► bind     (under the directory's lock)
//!   └──a living socket, or no socket at all───► refused, untouched
//! ```

use super::Address;
use crate::rt::driver::Socket;
use crate::sys::socket;
use crate::sys::unix::{self, Identity, Named};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How an address is bound.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Sockets wanted, one for each worker; at least one.
    pub count: u32,
    /// Connections that may wait in each; the kernel caps it.
    pub backlog: u32,
    /// Whether the port may be one that other servers of the same user share.
    pub port: PortUse,
    /// Permission bits of a Unix socket's name; `None`: those that the umask leaves.
    pub socket_mode: Option<u32>,
}

/// With whom a port is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortUse {
    /// With nobody: a port on which somebody listens is refused.
    #[default]
    Exclusive,
    /// With every server of the same user that says so, too; the kernel spreads connections (`SO_REUSEPORT`).
    Shared,
}

/// Sockets that listen on one address.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that the kernel chose.
    pub address: Address,
    /// One for each worker; more where more were inherited, and each of them must be accepted from.
    pub sockets: Vec<Socket>,
    /// The name of a Unix socket; keep it as long as the sockets listen.
    pub name: Option<SocketName>,
}

/// The name of a Unix socket that we bound; dropping it removes it, unless another socket has taken its place.
#[derive(Debug)]
pub struct SocketName {
    path: PathBuf,
    identity: Option<Identity>,
}

impl SocketName {
    /// The name of a socket that another process bound and gave us, as [`SocketName::identity`] was there. From now on it is ours
    /// to remove.
    #[must_use]
    pub fn taken_over(path: PathBuf, (device, inode): (u64, u64)) -> Self {
        let identity = Some(Identity { device, inode });
        Self { path, identity }
    }

    /// Tells which socket the name stands for, by the numbers of its device and inode; `None` when that is not known.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        let Identity { device, inode } = self.identity?;
        Some((device, inode))
    }

    /// Leaves the name to a process that has the socket now.
    pub fn pass_on(mut self) {
        self.identity = None;
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        let is_ours = |named| Some(named) == self.identity.map(Named::Socket);
        if unix::named(&self.path).is_ok_and(|named| named.is_some_and(is_ours)) {
            match unix::remove(&self.path) {
                Ok(()) => (),
                Err(_stays) => (), // The next server finds it dead and removes it.
            }
        }
    }
}

/// Why an address cannot be listened on; says what to do.
#[derive(Debug)]
pub struct BindError {
    pub(super) address: Address,
    pub(super) cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use io::ErrorKind::{
            AddrInUse, AddrNotAvailable, AlreadyExists, NotADirectory, NotFound, PermissionDenied,
            WouldBlock,
        };
        let Self { address, cause } = self;
        write!(f, "cannot listen on {address}: ")?;
        f.write_str(match (address, cause.kind()) {
            (_, AddrInUse) => {
                "address already in use; stop the other server or choose another address"
            }
            (_, AddrNotAvailable) => "no such address on this machine; choose another address",
            (Address::Tcp(_), PermissionDenied) => {
                "permission denied; ports below 1024 need a privilege; choose another address"
            }
            (Address::Unix(_), PermissionDenied) => {
                "permission denied; the directory must be one that this user may read and write; choose another address"
            }
            (Address::Unix(_), AlreadyExists) => {
                "something that is no socket has this name; remove it or choose another address"
            }
            (Address::Unix(_), NotFound | NotADirectory) => {
                "no such directory; make it or choose another address"
            }
            (Address::Unix(_), WouldBlock) => {
                "another program holds the lock of the directory; start again, or choose another address"
            }
            _ => return write!(f, "{cause}; choose another address"),
        })
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Binds one address for all workers. Of a Unix socket there is one, which all workers accept from: whoever pauses its
/// listener also takes what waits then, since the kernel may have told of a connection there and nowhere else.
///
/// # Errors
/// [`BindError`].
pub fn bind(address: &Address, options: &BindOptions) -> Result<Bound, BindError> {
    let bound = match address {
        Address::Tcp(addr) => bind_port(*addr, options),
        Address::Unix(path) => bind_name(path, options),
    };
    bound.map_err(|cause| BindError {
        address: address.clone(),
        cause,
    })
}

/// Reads permission bits for [`BindOptions::socket_mode`]: octal, 0 to 777.
///
/// # Errors
/// A line that says what to write.
pub fn parse_socket_mode(text: &str) -> Result<u32, String> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|&mode| mode <= 0o777);
    mode.filter(|_| is_octal)
        .ok_or_else(|| "not an octal mode up to 777; write for example 660".to_owned())
}

fn bind_port(addr: SocketAddr, options: &BindOptions) -> io::Result<Bound> {
    if addr.port() != 0 && options.port == PortUse::Exclusive {
        socket::probe_exclusive(addr)?;
    }
    let first = socket::listen(addr, options.backlog).map(Socket::from)?;
    let addr = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..options.count {
        sockets.push(socket::listen(addr, options.backlog).map(Socket::from)?);
    }
    Ok(Bound {
        address: Address::Tcp(addr),
        sockets,
        name: None,
    })
}

fn bind_name(path: &Path, options: &BindOptions) -> io::Result<Bound> {
    // Two servers that start at once must not both find the same dead socket, and one of them remove the other's new one.
    let locked = lock(path)?;
    clear_dead(path)?;
    let first = unix::listen(path, options.socket_mode, options.backlog)?;
    let identity = match unix::named(path)? {
        Some(Named::Socket(identity)) => Some(identity),
        Some(Named::Other) | None => None, // Somebody was faster at removing it: then it is not ours to remove.
    };
    drop(locked);
    let name = SocketName {
        path: path.to_owned(),
        identity,
    };
    let mut sockets = Vec::new();
    for _ in 1..options.count {
        sockets.push(Socket::from(first.try_clone()?));
    }
    sockets.push(Socket::from(first));
    Ok(Bound {
        address: Address::Unix(path.to_owned()),
        sockets,
        name: Some(name),
    })
}

/// Removes what stands under a name if it is a socket that nobody listens on any more.
fn clear_dead(path: &Path) -> io::Result<()> {
    match unix::named(path)? {
        None => return Ok(()),
        Some(Named::Other) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        Some(Named::Socket(_)) => (),
    }
    for _ in 0..PROBES {
        match socket::connect_unix(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return unix::remove(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // It has just gone by itself.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // It accepts, its queue is full, or it is a socket of another kind. The kernel ends what a ring held only a while
            // after the process was killed.
            Ok(_) | Err(_) => unix::pause_millis(PROBE_PAUSE_MILLIS),
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// The lock is held for less than a millisecond by whoever starts.
fn lock(path: &Path) -> io::Result<File> {
    for _ in 1..LOCK_TRIES {
        match unix::lock_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                unix::pause_millis(LOCK_PAUSE_MILLIS);
            }
            locked => return locked,
        }
    }
    unix::lock_directory(path)
}

/// How often a socket that accepts is tried before it counts as living: for a quarter of a second.
const PROBES: u32 = 13;
const PROBE_PAUSE_MILLIS: u16 = 20;
/// Longer than all probes together.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE_MILLIS: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn try_bind(path: &Path, socket_mode: Option<u32>) -> Result<Bound, BindError> {
        let options = BindOptions {
            count: 2,
            backlog: 16,
            port: PortUse::Exclusive,
            socket_mode,
        };
        bind(&Address::Unix(path.to_owned()), &options)
    }

    fn in_directory(check: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        check(&directory.path().join("a.sock"));
    }

    fn check_refused(path: &Path, part: &str) {
        let said = try_bind(path, None).unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }

    #[test]
    fn a_name_is_bound_for_all_workers_and_removed_at_the_end() {
        in_directory(|path| {
            let bound = try_bind(path, None).unwrap();
            assert_eq!(bound.sockets.len(), 2);
            UnixStream::connect(path).unwrap();
            drop(bound);
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_dead_socket_makes_room() {
        in_directory(|path| {
            drop(UnixListener::bind(path).unwrap());
            assert!(path.exists());
            let _bound = try_bind(path, None).unwrap();
            UnixStream::connect(path).unwrap();
        });
    }

    #[test]
    fn a_living_socket_of_any_kind_stays() {
        in_directory(|path| {
            let living = UnixListener::bind(path).unwrap();
            check_refused(path, "already in use");
            UnixStream::connect(path).unwrap();
            drop(living);
            fs::remove_file(path).unwrap();
            let _bound = try_bind(path, None).unwrap();
            check_refused(path, "already in use");
            fs::remove_file(path).unwrap();
            let _datagrams = UnixDatagram::bind(path).unwrap();
            check_refused(path, "already in use");
            assert!(path.exists());
        });
    }

    #[test]
    fn what_is_no_socket_stays() {
        in_directory(|path| {
            fs::write(path, "precious").unwrap();
            check_refused(path, "no socket");
            assert_eq!(fs::read(path).unwrap(), b"precious");
            fs::remove_file(path).unwrap();
            let target = path.with_extension("target");
            drop(UnixListener::bind(&target).unwrap());
            std::os::unix::fs::symlink(&target, path).unwrap();
            check_refused(path, "no socket");
            assert!(path.is_symlink() && target.exists());
            check_refused(&path.join("b.sock"), "no such directory");
            check_refused(&path.with_file_name("none").join("b"), "no such directory");
        });
    }

    #[test]
    fn a_name_that_somebody_else_has_taken_over_stays() {
        in_directory(|path| {
            let bound = try_bind(path, None).unwrap();
            fs::remove_file(path).unwrap();
            let _successor = UnixListener::bind(path).unwrap();
            drop(bound);
            UnixStream::connect(path).unwrap();
        });
    }

    #[test]
    fn permission_bits_are_those_that_were_asked_for() {
        in_directory(|path| {
            for mode in [0o600, 0o660, 0o777] {
                let _bound = try_bind(path, Some(mode)).unwrap();
                let found = fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(found & 0o777, mode);
            }
        });
    }

    #[test]
    fn a_directory_whose_lock_another_holds_is_told() {
        in_directory(|path| {
            let _held = unix::lock_directory(path).unwrap();
            check_refused(path, "holds the lock");
        });
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_socket_mode("660"), Ok(0o660));
        assert_eq!(parse_socket_mode("0777"), Ok(0o777));
        for text in ["", "8", "1777", "+60", "u=rw", "00660", "rw"] {
            assert!(
                parse_socket_mode(text).unwrap_err().contains("octal"),
                "{text}"
            );
        }
    }
}
