//! Listening sockets that another process bound and left to this one: the program that it replaces, or a manager of services.
//!
//! What is inherited is served whole, whatever the number of workers: connections wait in each of the sockets.

use super::bind::{BindError, BindOptions, Bound};
use super::{Address, PortUse};
use crate::rt::driver::Socket;
use crate::sys::rights::{self, BoundTo};
use crate::sys::unix;
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

/// Makes of inherited sockets what [`bind`](super::bind) makes of none. Where there are fewer than workers, those of a port that is
/// not shared, and of a name, are accepted from by several workers. Of a shared port there are fewer then: the kernel would
/// send connections to another socket at once, where they are lost if whoever takes over comes to nothing. Once it is in charge,
/// [`bind`](super::bind) makes more, for a [shared](PortUse::Shared) port.
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
    let copies = if is_shared { 0 } else { missing };
    for index in 0..copies {
        let one = sockets.get(index);
        let one = one.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?; // Never: there is one at least.
        sockets.push(one.try_clone()?);
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
    /// The same for a port that sockets of this user have already: those of a process that is about to be replaced, or our own.
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
    use socket2::Socket as Socket2;
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

    fn loopback() -> Address {
        Address::Tcp("127.0.0.1:0".parse().unwrap())
    }

    /// A successor with more workers bound more sockets before it was in charge, and what connected to those was reset when it came
    /// to nothing.
    #[test]
    fn who_takes_over_listens_on_nothing_more_and_fewer_workers_get_all() {
        let first = bind(&loopback(), &options(2)).unwrap();
        let addr = first.address.tcp().unwrap();
        for workers in [1, 2, 5] {
            let next = bind_inherited(inherit(&first), &options(workers)).unwrap();
            assert_eq!(next.address, first.address);
            assert_eq!(next.sockets.len(), 2);
            for socket in &next.sockets {
                assert_eq!(socket.local_addr().unwrap(), addr);
            }
        }
        let next = bind_inherited(inherit(&first), &options(5)).unwrap();
        let client = |_| {
            let client = Socket2::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.connect(&addr.into()).unwrap();
            client
        };
        let clients: Vec<Socket2> = (0..16).map(client).collect();
        drop(next); // It comes to nothing.
        let mut waiting = 0;
        for socket in &first.sockets {
            let fd = socket.as_fd().unwrap().try_clone_to_owned().unwrap();
            let listener = Socket2::from(fd);
            listener.set_nonblocking(true).unwrap();
            waiting += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert_eq!(waiting, clients.len());
    }

    #[test]
    fn who_is_in_charge_binds_more_beside_what_it_has() {
        let first = bind(&loopback(), &options(1)).unwrap();
        let more = bind(&first.address, &options(3).beside_predecessor()).unwrap();
        assert_eq!((more.address, more.sockets.len()), (first.address, 3));
    }

    /// As a manager of services binds it, who knows of no workers.
    #[test]
    fn a_port_that_is_not_shared_is_accepted_from_by_all() {
        let plain = Socket2::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
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
