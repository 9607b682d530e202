//! What a process finds open when it starts, and which listener of its plan each belongs to.

use hp_core::rt::net::{Address, Inherited};

/// Listening sockets from outside, by address.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    given: Vec<Given>,
    /// Places of those that were taken.
    taken: Vec<u32>,
    ports: Vec<u16>,
}

/// The sockets of one listener.
#[derive(Debug)]
pub(crate) struct Given {
    /// Its place with whoever gave it.
    pub(crate) place: u32,
    /// How whoever gave it had it in its plan, where the port may be 0.
    pub(crate) planned: Option<Address>,
    pub(crate) sockets: Inherited,
    /// Which socket its name stands for, where the name becomes ours.
    pub(crate) name_identity: Option<(u64, u64)>,
    /// What whoever gave it calls it.
    pub(crate) label: String,
}

impl Inheritance {
    pub(crate) fn new(given: Vec<Given>) -> Self {
        let ports = given
            .iter()
            .filter_map(|given| port(given.sockets.address()));
        Self {
            ports: ports.collect(),
            given,
            taken: Vec::new(),
        }
    }

    /// The sockets for an address of the plan: those that were planned so by the predecessor come first.
    pub(crate) fn take(&mut self, address: &Address) -> Option<Given> {
        let mut places = self.given.iter();
        let planned = places.position(|given| given.planned.as_ref() == Some(address));
        let bound = || {
            let mut places = self.given.iter();
            places.position(|given| given.sockets.address() == address)
        };
        let given = self.given.remove(planned.or_else(bound)?);
        self.taken.push(given.place);
        Some(given)
    }

    /// Whether somebody who is about to leave listens on the same port.
    pub(crate) fn has_port_of(&self, address: &Address) -> bool {
        port(address).is_some_and(|port| port != 0 && self.ports.contains(&port))
    }

    /// Those that nobody took.
    pub(crate) fn left(&self) -> &[Given] {
        &self.given
    }

    /// The places of those that were taken; closes the others.
    pub(crate) fn into_taken(self) -> Vec<u32> {
        self.taken
    }
}

fn port(address: &Address) -> Option<u16> {
    address.tcp().map(|addr| addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::rt::net::{BindOptions, PortUse, bind};

    fn given(place: u32, planned: Option<&str>) -> Given {
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let options = BindOptions {
            count: 1,
            backlog: 1,
            port: PortUse::Exclusive,
            socket_mode: None,
        };
        let bound = bind(&any, &options).unwrap();
        let fd = bound.sockets[0].as_fd().unwrap().try_clone_to_owned();
        Given {
            place,
            planned: planned.map(|text| Address::Tcp(text.parse().unwrap())),
            sockets: Inherited::new(fd.unwrap()).unwrap(),
            name_identity: None,
            label: String::new(),
        }
    }

    #[test]
    fn a_plan_takes_what_was_planned_alike_and_then_what_is_bound_alike() {
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let all = vec![
            given(0, Some("127.0.0.1:0")),
            given(1, Some("127.0.0.1:0")),
            given(2, None),
        ];
        let third = all[2].sockets.address().clone();
        let mut inheritance = Inheritance::new(all);
        assert_eq!(inheritance.take(&any).unwrap().place, 0);
        assert_eq!(inheritance.take(&any).unwrap().place, 1);
        assert!(inheritance.take(&any).is_none());
        assert!(inheritance.has_port_of(&third) && !inheritance.has_port_of(&any));
        assert_eq!(inheritance.left().len(), 1);
        assert_eq!(inheritance.take(&third).unwrap().place, 2);
        assert!(inheritance.take(&third).is_none());
        assert_eq!(inheritance.into_taken(), [0, 1, 2]);
    }
}
