//! The listening sockets of the process, as the main thread keeps them: bound or inherited, shared out to workers, passed on to a
//! successor. A worker has a descriptor of its own for each that it accepts from, so a socket is closed when both are.

pub(crate) mod inheritance;

use crate::config::plan::{Listener, ListenerId, Serves};
use crate::listener::BACKLOG;
use crate::shared::{Message, SharedPlan};
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{self, Address, BindError, BindOptions, Bound, PortUse, Socket, SocketName};
use inheritance::Inheritance;
use std::io;

/// Every socket that the process listens on.
#[derive(Debug)]
pub(crate) struct Listening {
    held: Vec<Held>,
    /// They were closed or passed on, and none is opened any more.
    is_over: bool,
}

/// The sockets of one listener of the plan.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: ListenerId,
    /// As the plan has it; the port may be 0.
    pub(crate) planned: Address,
    /// As the kernel has it.
    pub(crate) bound: Address,
    pub(crate) serves: Serves,
    pub(crate) sockets: Vec<Socket>,
    /// Ours to remove.
    name: Option<SocketName>,
    /// What is ours to remove once the predecessor has left it to us.
    promised: Option<(u64, u64)>,
}

impl Listening {
    /// Listens on every address of a plan: with what is inherited where it fits, else with sockets of its own, which are given
    /// back when one cannot be had.
    ///
    /// # Errors
    /// [`BindError`].
    pub(crate) fn open(
        plan: &SharedPlan,
        inheritance: &mut Inheritance,
    ) -> Result<Self, BindError> {
        Self::open_but(&[], plan, inheritance)
    }

    /// The same for the listeners of a plan that this process does not have as yet; for none once they were closed or passed on, since
    /// somebody else may listen there.
    ///
    /// # Errors
    /// [`BindError`].
    pub(crate) fn open_new(&self, plan: &SharedPlan) -> Result<Self, BindError> {
        let known: Vec<ListenerId> = if self.is_over {
            plan.listener_ids().to_vec()
        } else {
            self.held.iter().map(|held| held.id).collect()
        };
        Self::open_but(&known, plan, &mut Inheritance::default())
    }

    fn open_but(
        known: &[ListenerId],
        plan: &SharedPlan,
        inheritance: &mut Inheritance,
    ) -> Result<Self, BindError> {
        let listeners = plan.listener_ids().iter().zip(&plan.listeners);
        let new = listeners.filter(|(id, _)| !known.contains(id));
        let held = new.map(|(id, listener)| {
            let (bound, promised) = bind(listener, plan.workers, inheritance)?;
            Ok(Held {
                id: *id,
                planned: listener.address.clone(),
                bound: bound.address,
                serves: listener.serves,
                sockets: bound.sockets,
                name: bound.name,
                promised,
            })
        });
        Ok(Self {
            held: held.collect::<Result<_, _>>()?,
            is_over: false,
        })
    }

    /// Gives every socket to a worker, in turn where there are more of them; says how many that were.
    ///
    /// # Errors
    /// When descriptors run out, or a worker has died.
    pub(crate) fn share_out(&self, mesh: &Mesh<Message>) -> io::Result<u32> {
        let mut given = 0;
        for held in &self.held {
            let workers = (0..mesh.workers()).cycle().map(WorkerId);
            for (socket, worker) in held.sockets.iter().zip(workers) {
                let message = Message::Listen(socket.try_clone()?, held.id);
                let sent = mesh.send(worker, message);
                sent.map_err(|_ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
                given += 1;
            }
        }
        Ok(given)
    }

    /// Binds a socket for each worker that an inherited listener had none for, and gives it to them. Only whoever is in charge may do
    /// so: connections come to such a socket from the first moment on.
    ///
    /// # Errors
    /// A line that says what cannot be bound; the workers that have sockets share their connections out.
    pub(crate) fn complete(&mut self, mesh: &Mesh<Message>) -> Result<(), String> {
        for held in &mut self.held {
            let missing = held.missing(mesh.workers());
            if missing == 0 {
                continue;
            }
            let options = BindOptions {
                count: missing,
                backlog: BACKLOG,
                port: PortUse::Shared,
                socket_mode: None,
            };
            let more = net::bind(&held.bound, &options).map_err(|error| error.to_string())?;
            let first = mesh.workers() - missing;
            for (socket, worker) in more.sockets.iter().zip((first..).map(WorkerId)) {
                let copy = socket.try_clone();
                let copy = copy.map_err(|error| format!("cannot pass a socket on: {error}"))?;
                let message = Message::Listen(copy, held.id);
                let sent = mesh.send(worker, message);
                sent.map_err(|_ended| String::from("a worker has ended"))?;
            }
            held.sockets.extend(more.sockets);
        }
        Ok(())
    }

    /// Keeps these of the listeners; the names of the others may be somebody else's at once.
    pub(crate) fn keep(&mut self, listeners: &[ListenerId]) {
        self.held.retain(|held| listeners.contains(&held.id));
    }

    /// Adds listeners of a new plan.
    pub(crate) fn add(&mut self, more: Self) {
        self.held.extend(more.held);
    }

    /// One line for each listener. Who reads the first one of the routes may go on at once: what operators need stands before it.
    pub(crate) fn lines(&self) -> String {
        let line = |held: &Held| match held.serves {
            Serves::Routes => format!("listening on {}\n", held.bound),
            Serves::Admin => format!("hp-proxy: admin on {}\n", held.bound),
        };
        let (admin, routes): (Vec<&Held>, Vec<&Held>) = self
            .held
            .iter()
            .partition(|held| held.serves == Serves::Admin);
        admin.into_iter().chain(routes).map(line).collect()
    }

    /// The listeners, in the order in which they came.
    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    /// The predecessor has left its names to us.
    pub(crate) fn take_names_over(&mut self) {
        for held in &mut self.held {
            if let (Some(identity), Some(path)) = (held.promised.take(), held.bound.unix()) {
                held.name = Some(SocketName::taken_over(path.to_owned(), identity));
            }
        }
    }

    /// A successor has these: their names are left to it. Those of the others are removed.
    pub(crate) fn pass_on(&mut self, passed: &[ListenerId]) {
        self.is_over = true;
        for held in self.held.drain(..) {
            if passed.contains(&held.id)
                && let Some(name) = held.name
            {
                name.pass_on();
            }
        }
    }

    /// From now on only workers have the sockets, and somebody else may have the names.
    pub(crate) fn close(&mut self) {
        self.is_over = true;
        self.held.clear();
    }
}

impl Held {
    /// Workers without a socket of this listener; those of a name are as many as workers from the beginning.
    fn missing(&self, workers: u32) -> u32 {
        let sockets = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX);
        match self.bound {
            Address::Tcp(_) => workers.saturating_sub(sockets),
            Address::Unix(_) => 0,
        }
    }

    /// What is to be passed on: of a Unix socket one descriptor, for all are the same socket.
    pub(crate) fn passed_sockets(&self) -> &[Socket] {
        match self.bound {
            Address::Tcp(_) => &self.sockets,
            Address::Unix(_) => self.sockets.get(..1).unwrap_or_default(),
        }
    }

    /// Which socket its name stands for, where the name is ours.
    pub(crate) fn name_identity(&self) -> Option<(u64, u64)> {
        self.name.as_ref()?.identity()
    }
}

fn bind(
    listener: &Listener,
    workers: u32,
    inheritance: &mut Inheritance,
) -> Result<(Bound, Option<(u64, u64)>), BindError> {
    let options = BindOptions {
        count: workers,
        backlog: BACKLOG,
        port: listener.port,
        socket_mode: listener.socket_mode,
    };
    match inheritance.take(&listener.address) {
        Some(given) => Ok((
            net::bind_inherited(given.sockets, &options)?,
            given.name_identity,
        )),
        // Its predecessor listens there as yet, on another address of the same port.
        None if inheritance.has_port_of(&listener.address) => {
            let bound = net::bind(&listener.address, &options.beside_predecessor());
            Ok((bound?, None))
        }
        None => Ok((net::bind(&listener.address, &options)?, None)),
    }
}
