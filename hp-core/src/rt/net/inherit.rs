//! Listening sockets that another process bound and left to this one: the program that it replaces, or a manager of services.
//!
//! What is inherited is served whole, whatever the number of workers: connections wait in each of the sockets.

use super::bind::{BindError, BindOptions, Bound};
use super::{Address, PortUse};
use crate::rt::driver::Socket;
use crate::sys::rights::{self, BoundTo};
use crate::sys::{socket, unix};
use std::io;
use std::os::fd::OwnedFd;

/// Sockets that listen on one address.
#[derive(Debug)]
pub struct Inherited {
    address: Address,
    sockets: Vec<Socket>,
    /// Whether more sockets can be bound to the address.
    is_shared: bool,
}

impl Inherited {
    /// Takes over what somebody else bound.
    ///
    /// # Errors
    /// `InvalidInput` for what is no stream socket that listens on an address or a name in the file system.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsFd;
        let (bound_to, is_shared) = rights::listening_on(fd.as_fd())?;
        Ok(Self {
            address: match bound_to {
                BoundTo::Inet(addr) => Address::Tcp(addr),
                BoundTo::Path(path) => Address::Unix(path),
            },
            sockets: vec![Socket::from(fd)],
            is_shared,
        })
    }

    /// The address that it listens on, as the kernel tells it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Adds the sockets of another one that listens on the same address.
    ///
    /// # Errors
    /// The other one, when its address is another one.
    pub fn join(&mut self, other: Self) -> Result<(), Self> {
        if other.address != self.address {
            return Err(other);
        }
        self.is_shared &= other.is_shared;
        self.sockets.extend(other.sockets);
        Ok(())
    }
}

/// Makes of inherited sockets what [`bind`](super::bind) makes of none. Where there are fewer than workers, more are bound to the
/// address; those of a port that is not shared, and of a name, are accepted from by several workers.
///
/// # Errors
/// [`BindError`].
pub fn bind_inherited(inherited: Inherited, options: &BindOptions) -> Result<Bound, BindError> {
    let address = inherited.address.clone();
    complete(inherited, options).map_err(|cause| BindError { address, cause })
}

fn complete(inherited: Inherited, options: &BindOptions) -> io::Result<Bound> {
    let Inherited {
        address,
        mut sockets,
        is_shared,
    } = inherited;
    if let (Address::Unix(path), Some(mode)) = (&address, options.socket_mode) {
        unix::set_mode(path, mode)?;
    }
    let missing = (options.count as usize).saturating_sub(sockets.len());
    for index in 0..missing {
        let more = match &address {
            Address::Tcp(addr) if is_shared => {
                Socket::from(socket::listen(*addr, options.backlog)?)
            }
            Address::Tcp(_) | Address::Unix(_) => match sockets.get(index) {
                Some(one) => one.try_clone()?,
                None => return Err(io::Error::from(io::ErrorKind::InvalidInput)), // Never: there is one at least.
            },
        };
        sockets.push(more);
    }
    if address.unix().is_some() {
        sockets.truncate(options.count as usize); // All are one socket.
    }
    Ok(Bound {
        address,
        sockets,
        name: None,
    })
}

impl BindOptions {
    /// The same for an address whose port a process that is about to be replaced shares with this one.
    #[must_use]
    pub fn beside_predecessor(self) -> Self {
        Self {
            port: PortUse::Shared,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::net::bind;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn options(count: u32) -> BindOptions {
        BindOptions {
            count,
            backlog: 16,
            port: PortUse::Exclusive,
            socket_mode: None,
        }
    }

    /// Takes over copies of what is bound, as another process would.
    fn inherit(bound: &Bound) -> Inherited {
        let mut all = bound.sockets.iter().map(|socket| {
            let fd = socket.as_fd().unwrap().try_clone_to_owned().unwrap();
            Inherited::new(fd).unwrap()
        });
        let mut first = all.next().unwrap();
        all.for_each(|more| first.join(more).unwrap());
        first
    }

    #[test]
    fn more_workers_get_sockets_of_their_own_and_fewer_get_all() {
        let first = bind(
            &"127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
            &options(2),
        )
        .unwrap();
        for (workers, sockets) in [(1, 2), (2, 2), (5, 5)] {
            let next = bind_inherited(inherit(&first), &options(workers)).unwrap();
            assert_eq!(next.address, first.address);
            assert_eq!(next.sockets.len(), sockets);
            for socket in &next.sockets {
                assert_eq!(socket.local_addr().unwrap(), first.address.tcp().unwrap());
            }
        }
    }

    /// As a manager of services binds it, who knows of no workers.
    #[test]
    fn a_port_that_is_not_shared_is_accepted_from_by_all() {
        let plain =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        plain.bind(&any.into()).unwrap();
        Inherited::new(plain.try_clone().unwrap().into()).unwrap_err(); // It does not listen.
        plain.listen(1).unwrap();
        let bound = bind_inherited(Inherited::new(plain.into()).unwrap(), &options(3)).unwrap();
        assert_eq!(bound.sockets.len(), 3);
    }

    #[test]
    fn a_name_is_left_to_whoever_takes_it_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let address = Address::Unix(path.clone());
        let first = bind(&address, &options(2)).unwrap();
        let next = bind_inherited(inherit(&first), &options(1)).unwrap();
        assert_eq!((next.sockets.len(), next.name.is_none()), (1, true));
        let name = first.name.unwrap();
        let identity = name.identity().unwrap();
        name.pass_on();
        drop(first.sockets);
        let mut client = UnixStream::connect(&path).unwrap();
        drop(next);
        let refused = client.read(&mut [0]);
        assert!(refused.is_ok_and(|read| read == 0) || UnixStream::connect(&path).is_err());
        drop(super::super::SocketName::taken_over(path.clone(), identity));
        assert!(!path.exists());
    }

    #[test]
    fn what_listens_elsewhere_is_not_joined() {
        let directory = tempfile::tempdir().unwrap();
        let listen = |name| {
            let listener = UnixListener::bind(directory.path().join(name)).unwrap();
            Inherited::new(listener.as_fd().try_clone_to_owned().unwrap()).unwrap()
        };
        let mut one = listen("one");
        assert_eq!(
            one.join(listen("other")).unwrap_err().address(),
            &Address::Unix(directory.path().join("other"))
        );
    }
}
