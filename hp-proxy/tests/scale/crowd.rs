//! A runtime with any number of parked connections, and nothing else: what the tables of connections and timers cost when they are large. No
//! proxy is in it, so that a million fit.

use crate::faces;
use crate::load::{CONNS_PER_CLIENT_HOST, DESCRIPTORS_MAX, LIMITS, started};
use hp_core::rt::net::{Conn, Rx, Unparked};
use hp_core::rt::sim::{Calls, Face, Footprint, Host, Profile, Work, World};
use hp_core::rt::{Instant, Rt};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A server that sends back what it gets, and parks a connection whenever it has nothing to say.
pub(crate) struct Crowd {
    world: World,
    host: Host,
    server: Rt,
    conns: Rc<RefCell<Vec<Conn>>>,
}

impl Crowd {
    /// So many connections, all of them parked.
    pub(crate) fn new(face: Face, conns: usize) -> Self {
        let world = World::new(1, &Profile::calm());
        let host = world.host([10, 0, 0, 2]);
        host.set_descriptors_max(DESCRIPTORS_MAX);
        let crowd = Self {
            server: started(&host, face),
            world,
            host,
            conns: Rc::default(),
        };
        crowd.listen();
        let mut left = conns;
        for client in 0_u16.. {
            if left == 0 {
                break;
            }
            let [high, low] = client.to_be_bytes();
            let here = left.min(CONNS_PER_CLIENT_HOST);
            left -= here;
            let host = crowd.world.host([10, 1, high, low]);
            host.set_descriptors_max(DESCRIPTORS_MAX);
            crowd.open(&started(&host, Face::Readiness), here);
        }
        let server = crowd.server.clone();
        crowd.run(&|| server.footprint().conns.occupied == conns);
        crowd
    }

    /// The last `conns` of them say so much each, one byte after the other, all connections at once. What that cost the server.
    pub(crate) fn talk(&self, conns: usize, each: u32) -> (Calls, Work) {
        let before = (self.host.calls(), self.server.work());
        let left = Rc::new(Cell::new(conns));
        for _ in 0..conns {
            let conn = self.conns.borrow_mut().pop().unwrap();
            let (all, left) = (Rc::clone(&self.conns), Rc::clone(&left));
            conn.rt().clone().spawn(async move {
                for _ in 0..each {
                    conn.write(b"x").unwrap();
                    assert!(matches!(conn.recv().await, Ok(Rx::Data(_))));
                }
                all.borrow_mut().push(conn);
                left.set(left.get() - 1);
            });
        }
        self.run(&|| left.get() == 0);
        let calls = self.host.calls();
        let calls = Calls {
            calls: calls.calls - before.0.calls,
            entries: calls.entries - before.0.entries,
        };
        (calls, self.server.work().since(before.1))
    }

    /// What the server's tables take.
    pub(crate) fn footprint(&self) -> Footprint {
        self.server.footprint()
    }

    fn listen(&self) {
        let socket = self.host.listen(LISTEN, 1024).unwrap();
        let listener = self.server.listener(socket).unwrap();
        let rt = self.server.clone();
        self.server.spawn(async move {
            while let Ok(conn) = listener.accept().await {
                conn.park(0, rt.now() + KEPT_FOR);
            }
        });
        let rt = self.server.clone();
        self.server.spawn(async move {
            loop {
                let (conn, tag, why) = rt.next_unparked().await;
                assert_eq!(why, Unparked::News);
                if let Ok(Rx::Data(lent)) = conn.recv().await {
                    conn.write(&lent).unwrap();
                    drop(lent);
                    conn.park(tag, rt.now() + KEPT_FOR);
                }
            }
        });
    }

    fn open(&self, rt: &Rt, conns: usize) {
        let wanted = self.conns.borrow().len() + conns;
        let left = Rc::new(Cell::new(conns));
        for _ in 0..LANES {
            let (rt2, all, left) = (rt.clone(), Rc::clone(&self.conns), Rc::clone(&left));
            rt.spawn(async move {
                while let Some(less) = left.get().checked_sub(1) {
                    left.set(less);
                    let conn = rt2.connect(LISTEN, Instant::NEVER).await.unwrap();
                    all.borrow_mut().push(conn);
                }
            });
        }
        let all = Rc::clone(&self.conns);
        self.run(&|| all.borrow().len() == wanted);
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        faces::run(&self.world, [&self.server], LIMITS, done);
    }
}

const LISTEN: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::new(10, 0, 0, 2),
    80,
));
/// Longer than any play.
const KEPT_FOR: Duration = Duration::from_secs(7200);
const LANES: usize = 256;
