//! The proxy between a host of clients and a host of backends, each party a script.

use crate::faces;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Conn, Listener, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::worker::Context;
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::plan::{
    Endpoint, Limits as ProxyLimits, ListenerId, OneRoute, Plan, Timeouts,
};
use hp_proxy::counters::Rows;
use hp_proxy::shared::{Message, SharedPlan};
use hp_proxy::worker;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct Lab {
    world: World,
    clients: Rt,
    backends: Rt,
    listener: Rc<Listener>,
    pub(crate) proxy: Rt,
    mesh: Mesh<Message>,
    has_drained: Rc<Cell<bool>>,
    /// Scripts that came to their end.
    ended: Rc<Cell<usize>>,
}

/// A world's hosts before anything runs on them.
pub(crate) struct Hosts {
    pub(crate) clients: Host,
    pub(crate) proxy: Host,
    pub(crate) backends: Host,
}

impl Lab {
    /// One worker with the defaults of the program, but for what `change` changes.
    pub(crate) fn new(face: Face, change: impl FnOnce(&mut OneRoute, &Hosts)) -> Self {
        Self::with(&RtOptions::default(), face, change)
    }

    /// The same with another runtime of the proxy.
    pub(crate) fn with(
        options: &RtOptions,
        face: Face,
        change: impl FnOnce(&mut OneRoute, &Hosts),
    ) -> Self {
        let world = World::new(1, &Profile::calm());
        let hosts = Hosts {
            clients: world.host([10, 0, 0, 1]),
            proxy: world.host([10, 0, 0, 2]),
            backends: world.host([10, 0, 0, 3]),
        };
        let mut plan = OneRoute {
            listen: proxy_addr().into(),
            backends: vec![Endpoint::new(
                backend_addr().to_string(),
                backend_addr().into(),
            )],
            workers: 1,
            engine: Engine::Auto,
            forwarding: Forwarding::default(),
            timeouts: Timeouts::default(),
            limits: ProxyLimits::default(),
        };
        change(&mut plan, &hosts);
        let start = |host: &Host| host.rt(face, &RtOptions::default()).unwrap();
        let proxy = hosts.proxy.rt(face, options).unwrap();
        let mesh = Mesh::new(1);
        let id = WorkerId(0);
        let context = Context {
            rt: proxy.clone(),
            id,
            mailbox: mesh.mailbox(id),
            mesh: mesh.clone(),
        };
        let plan = SharedPlan::new(Plan::from(plan));
        let has_drained = Rc::new(Cell::new(false));
        let told = Rc::clone(&has_drained);
        proxy.spawn(async move {
            worker::main(context, plan, Rows::new(1, 0), None).await;
            told.set(true);
        });
        let socket = hosts.proxy.listen(proxy_addr(), 4096).unwrap();
        mesh.send(id, Message::Listen(socket, ListenerId(0)))
            .unwrap();
        let backends = start(&hosts.backends);
        let socket = hosts.backends.listen(backend_addr(), 4096).unwrap();
        let listener = Rc::new(backends.listener(socket).unwrap());
        Self {
            clients: start(&hosts.clients),
            backends,
            listener,
            proxy,
            mesh,
            has_drained,
            world,
            ended: Rc::default(),
        }
    }

    /// Plays `count` clients, and a backend's script for each connection that the proxy makes; gives how
    /// many bytes of buffers the proxy held at once.
    pub(crate) fn play(
        self,
        count: usize,
        client: impl AsyncFn(Conn) + 'static,
        backend: impl AsyncFn(Conn) + 'static,
    ) -> u64 {
        let (client, backend) = (Rc::new(client), Rc::new(backend));
        for _ in 0..count {
            let (rt, script) = (self.clients.clone(), Rc::clone(&client));
            self.part(&self.clients, async move {
                let conn = rt.connect(proxy_addr(), Instant::NEVER).await.unwrap();
                script(conn).await;
            });
        }
        let accepted = self.serve(backend);
        let mut lent_bytes_max = 0;
        self.run(|| {
            lent_bytes_max = lent_bytes_max.max(self.proxy.holdings().lent_bytes);
            self.ended.get() == count + accepted.get()
        });
        self.mesh.send(WorkerId(0), Message::Drain).unwrap();
        self.run(|| self.has_drained.get());
        self.world.shut_down().unwrap();
        lent_bytes_max
    }

    /// A script for each connection that the proxy makes; counts them.
    fn serve(&self, script: Rc<impl AsyncFn(Conn) + 'static>) -> Rc<Cell<usize>> {
        let accepted = Rc::new(Cell::new(0));
        let (listener, count) = (Rc::clone(&self.listener), Rc::clone(&accepted));
        let (rt, ended) = (self.backends.clone(), Rc::clone(&self.ended));
        self.backends.spawn(async move {
            loop {
                let conn = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let (script, ended) = (Rc::clone(&script), Rc::clone(&ended));
                rt.spawn(async move {
                    script(conn).await;
                    ended.set(ended.get() + 1);
                });
            }
        });
        accepted
    }

    fn run(&self, done: impl FnMut() -> bool) {
        let rts = [&self.clients, &self.backends, &self.proxy];
        faces::run(&self.world, rts, LIMITS, done);
    }

    fn part(&self, rt: &Rt, part: impl Future<Output = ()> + 'static) {
        let ended = Rc::clone(&self.ended);
        rt.spawn(async move {
            part.await;
            ended.set(ended.get() + 1);
        });
    }
}

/// Writes all, and waits until the socket has taken it.
pub(crate) async fn say(conn: &Conn, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    conn.write(bytes.as_ref())?;
    conn.flush().await
}

/// Reads up to a text that must come; gives everything up to its end.
pub(crate) async fn hear(conn: &Conn, text: &str) -> String {
    let mut heard = Vec::new();
    loop {
        let found = heard
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        if let Some(at) = found {
            assert_eq!(at + text.len(), heard.len(), "more than {text:?} came");
            return String::from_utf8(heard).unwrap();
        }
        match conn.recv().await {
            Ok(Rx::Data(mut lent)) => {
                let wanted = (1..=lent.len()).find(|end| {
                    let seen = [heard.as_slice(), &lent[..*end]].concat();
                    seen.ends_with(text.as_bytes())
                });
                let count = wanted.unwrap_or(lent.len());
                heard.extend_from_slice(&lent[..count]);
                lent.advance(count);
                conn.unread(lent);
            }
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
}

/// Reads up to the end; gives how many bytes came, and whether it was an end in order.
pub(crate) async fn drink(conn: &Conn) -> (u64, bool) {
    let mut count = 0;
    loop {
        match conn.recv().await {
            Ok(Rx::Data(lent)) => count += lent.len() as u64,
            Ok(Rx::Eof) => return (count, true),
            Err(_reset) => return (count, false),
        }
    }
}

/// Reads so many bytes a second, up to the end or to `bytes_max`; gives how many came.
pub(crate) async fn sip(conn: &Conn, bytes_a_second: u64, bytes_max: u64) -> u64 {
    let rt = conn.rt().clone();
    let mut count = 0;
    let mut thirst = 0;
    while count < bytes_max {
        if thirst == 0 {
            rt.sleep(SECOND).await;
            thirst = bytes_a_second;
        }
        match conn.recv().await {
            Ok(Rx::Data(mut lent)) => {
                let taken = thirst.min(lent.len() as u64);
                lent.advance(usize::try_from(taken).unwrap());
                conn.unread(lent);
                count += taken;
                thirst -= taken;
            }
            Ok(Rx::Eof) | Err(_) => return count,
        }
    }
    count
}

fn proxy_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 80))
}

fn backend_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 3], 8000))
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const LIMITS: Limits = Limits {
    turns: 30_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
