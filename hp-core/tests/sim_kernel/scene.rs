//! Two hosts, a client's and a server's, and what they play to each other.

use hp_core::rt::net::{Conn, Lent, Rx};
use hp_core::rt::sim::{Counts, Face, Host, Limits, Profile, World};
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What the sockets of each world are, in the tests of one thread.
#[derive(Clone, Copy)]
pub(crate) enum Sockets {
    /// Those of TCP.
    Named,
    /// As Unix sockets are.
    Local,
}

thread_local! {
    static SOCKETS: Cell<Sockets> = const { Cell::new(Sockets::Named) };
}

impl Sockets {
    /// Plays a fact with these sockets. A test has its thread for itself.
    pub(crate) fn play(self, fact: impl FnOnce()) {
        SOCKETS.set(self);
        fact();
    }

    pub(crate) fn played() -> Self {
        SOCKETS.get()
    }

    /// What is known of a peer's address.
    pub(crate) fn names<T>(self, addr: T) -> Option<T> {
        match self {
            Self::Named => Some(addr),
            Self::Local => None,
        }
    }
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) client: Host,
    pub(crate) server: Host,
    /// Where [`Scene::serve`] listens.
    pub(crate) server_addr: SocketAddr,
    face: Face,
}

impl Scene {
    pub(crate) fn new(seed: u64, profile: &Profile, face: Face) -> Self {
        let profile = match Sockets::played() {
            Sockets::Named => profile.clone(),
            Sockets::Local => profile.clone().of_local_sockets(),
        };
        let world = World::new(seed, &profile);
        let client = world.host([10, 0, 0, 1]);
        let server = world.host([10, 0, 0, 2]);
        let server_addr = SocketAddr::from(([10, 0, 0, 2], 80));
        Self {
            world,
            client,
            server,
            server_addr,
            face,
        }
    }

    pub(crate) fn calm(seed: u64, face: Face) -> Self {
        Self::new(seed, &Profile::calm(), face)
    }

    pub(crate) fn free_server_addr(&self) -> SocketAddr {
        SocketAddr::new(self.server_addr.ip(), 0)
    }

    pub(crate) fn client_rt(&self) -> Rt {
        start(&self.client, self.face, &RtOptions::default())
    }

    pub(crate) fn server_rt(&self) -> Rt {
        start(&self.server, self.face, &RtOptions::default())
    }

    pub(crate) fn server_rt_with(&self, options: &RtOptions) -> Rt {
        start(&self.server, self.face, options)
    }

    /// One more runtime of the server's, with a task for each connection.
    pub(crate) fn serve(&self, serve: impl AsyncFn(Conn) + 'static) -> Rt {
        let rt = self.server_rt();
        self.serve_on(&rt, serve);
        rt
    }

    /// The same on a runtime that is there already.
    pub(crate) fn serve_on(&self, rt: &Rt, serve: impl AsyncFn(Conn) + 'static) {
        let socket = self.server.listen(self.server_addr, 1024).unwrap();
        let listener = rt.listener(socket).unwrap();
        let serve = Rc::new(serve);
        rt.spawn({
            let rt = rt.clone();
            async move {
                loop {
                    let conn = listener.accept().await.unwrap();
                    let serve = Rc::clone(&serve);
                    rt.spawn(async move { serve(conn).await });
                }
            }
        });
    }

    /// One connection, with a part for each end; both must come to their end.
    pub(crate) fn play(
        &self,
        server: impl AsyncFn(Conn) + 'static,
        client: impl AsyncFnOnce(Conn) + 'static,
    ) -> Counts {
        let ended = Rc::new(Cell::new(0));
        let server_ended = Rc::clone(&ended);
        let server_rt = self.serve(async move |conn| {
            server(conn).await;
            server_ended.set(server_ended.get() + 1);
        });
        let (rt, addr) = (self.client_rt(), self.server_addr);
        let client_ended = Rc::clone(&ended);
        rt.spawn({
            let rt = rt.clone();
            async move {
                let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
                client(conn).await;
                client_ended.set(client_ended.get() + 1);
            }
        });
        self.run(|| ended.get() == 2 || rt.panics() + server_rt.panics() > 0);
        let counts = self.world.counts();
        assert_eq!(rt.panics() + server_rt.panics(), 0, "its message is above");
        self.end();
        counts
    }

    /// A part for the client alone, which must come to its end.
    pub(crate) fn alone(&self, part: impl AsyncFnOnce(Rt) + 'static) {
        let rt = self.client_rt();
        let ended = Rc::new(Cell::new(false));
        let told = Rc::clone(&ended);
        rt.spawn({
            let rt = rt.clone();
            async move {
                part(rt).await;
                told.set(true);
            }
        });
        self.run(|| ended.get() || rt.panics() > 0);
        assert_eq!(rt.panics(), 0, "its message is above");
        self.end();
    }

    pub(crate) fn run(&self, mut done: impl FnMut() -> bool) {
        let limits = Limits {
            time: Duration::from_secs(24 * 3600),
            ..Limits::default()
        };
        let result = self.world.run_until(&mut done, limits);
        result.unwrap_or_else(|stuck| panic!("{stuck}"));
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) {
        let result = self.world.shut_down();
        result.unwrap_or_else(|leaks| panic!("{leaks}"));
    }
}

fn start(host: &Host, face: Face, options: &RtOptions) -> Rt {
    let rt = host.rt(face, options).unwrap();
    let engine = match face {
        Face::Readiness => Engine::Epoll,
        Face::Completion => Engine::Uring,
    };
    assert_eq!(rt.engine(), engine);
    rt
}

/// The next piece, which must be data.
pub(crate) async fn data(conn: &Conn) -> Lent {
    match conn.recv().await {
        Ok(Rx::Data(lent)) => lent,
        other => panic!("data was expected, not {other:?}"),
    }
}

/// Exactly the next `len` bytes.
pub(crate) async fn exactly(conn: &Conn, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let mut lent = data(conn).await;
        let front = lent.split_to(len - bytes.len());
        bytes.extend_from_slice(&front);
        drop(front);
        conn.unread(lent);
    }
    bytes
}

/// All bytes until the end.
pub(crate) async fn everything(conn: &Conn) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Rx::Data(lent) = conn.recv().await? {
        bytes.extend_from_slice(&lent);
    }
    Ok(bytes)
}
