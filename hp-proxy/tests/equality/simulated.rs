//! The proxy's own code on the simulated kernel.

use crate::one_worker::OneWorker;
use crate::play::{self, Conn, Neighbours, Received};
use crate::record::{End, Record};
use crate::scene::{Backend, Scene};
use hp_core::rt::net::{self, Listener, Rx};
use hp_core::rt::sim::{Face, Limits, Profile, World};
use hp_core::rt::{Engine, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::plan::{
    Endpoint as Server, Limits as ProxyLimits, MULTIPLEX, OneRoute, Plan, Timeouts,
};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// What the proxy sees of the kernel.
    pub(crate) face: Face,
    pub(crate) profile: Profile,
    /// Decides the order of turns, and when what strikes.
    pub(crate) seed: u64,
    /// What a socket holds in each direction, if not what the world says.
    pub(crate) buffer_bytes: Option<usize>,
    /// Requests that may be repeated share connections.
    pub(crate) multiplexes: bool,
}

/// Plays a scene in a world of its own, in which all is one host: its loopback address is everybody's, as on the real kernel.
///
/// # Errors
/// As [`play::play`]; what the world was stuck in, or was not given back.
pub(crate) fn play(conditions: &Conditions, scene: &Scene) -> Result<Record, String> {
    let world = World::new(conditions.seed, &conditions.profile);
    let host = world.host(PROXY.ip());
    if let Some(bytes) = conditions.buffer_bytes {
        host.set_buffer_bytes(bytes);
    }
    let proxy_rt = host
        .rt(conditions.face, &RtOptions::default())
        .expect(RUNTIME);
    let proxy = OneWorker::start(&host, proxy_rt, plan(conditions)).expect("the address is free");
    let rt = host
        .rt(Face::Readiness, &RtOptions::default())
        .expect(RUNTIME);
    let backend = (scene.backend == Backend::Listens).then(|| {
        let socket = host.listen(BACKEND, 16).expect("the address is free");
        rt.listener(socket).expect("a simulated kernel registers")
    });
    let played = Rc::new(RefCell::new(None));
    let neighbours = Simulated {
        rt: rt.clone(),
        backend,
    };
    let (scene_played, into) = (scene.clone(), Rc::clone(&played));
    rt.spawn(async move {
        let outcome = play::play(&neighbours, &scene_played).await;
        into.replace(Some(outcome));
    });
    proxy.play_to_end((&world, &rt), LIMITS, || played.borrow().is_some())?;
    let mut record = played.take().expect("it was waited for")?;
    record.settle(&PROXY.to_string(), scene.chunks);
    Ok(record)
}

/// The plan that the program has without flags, or with `--multiplex`.
fn plan(conditions: &Conditions) -> Plan {
    let mut plan = Plan::from(OneRoute {
        listen: PROXY.into(),
        backends: vec![Server::new(BACKEND.to_string(), BACKEND.into())],
        workers: 1,
        engine: Engine::Auto,
        forwarding: Forwarding::default(),
        timeouts: Timeouts::default(),
        limits: ProxyLimits::default(),
    });
    for upstream in &mut plan.upstreams {
        upstream.multiplex = conditions.multiplexes.then_some(MULTIPLEX);
    }
    plan
}

struct Simulated {
    rt: Rt,
    backend: Option<Listener>,
}

impl Neighbours for Simulated {
    type Conn = net::Conn;

    async fn connect(&self) -> io::Result<net::Conn> {
        let deadline = self.rt.now() + LIMITS.time;
        self.rt.connect(PROXY, deadline).await
    }

    async fn accept(&self) -> io::Result<net::Conn> {
        let listener = self.backend.as_ref();
        listener
            .expect("a scene takes only where it listens")
            .accept()
            .await
    }
}

impl Conn for net::Conn {
    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)
    }

    async fn receive(&self, bytes: &mut Vec<u8>) -> io::Result<Received> {
        match self.recv().await {
            Ok(Rx::Data(lent)) => {
                bytes.extend_from_slice(&lent);
                Ok(Received::Bytes)
            }
            Ok(Rx::Eof) => Ok(Received::End(End::Finished)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Ok(Received::End(End::Reset))
            }
            Err(error) => Err(error),
        }
    }

    async fn finish(&self) -> io::Result<()> {
        Self::finish(self).await
    }

    fn reset(self) {
        Self::reset(self);
    }
}

const PROXY: SocketAddr = loopback(8080);
const BACKEND: SocketAddr = loopback(9001);
const RUNTIME: &str = "a simulated kernel has everything that a runtime needs";
const LIMITS: Limits = Limits {
    turns: 1_000_000,
    time: Duration::from_secs(3600),
};

const fn loopback(port: u16) -> SocketAddr {
    let ip = std::net::Ipv4Addr::LOCALHOST;
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, port))
}
