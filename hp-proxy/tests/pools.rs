//! How long connections to endpoints live and how many idle, in simulated time.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "from_file/mod.rs"]
mod from_file;

use from_file::{Proxy, serve};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

facts! {
    a_connection_ends_with_its_last_use,
    a_connection_ends_with_its_age_and_those_of_one_time_end_apart,
    an_idle_connection_ends_with_its_age,
    the_longest_idle_connection_goes_when_too_many_idle,
    shared_connections_count_among_those_that_idle_once_they_do,
    connections_are_open_before_anybody_asks_and_again_when_they_are_lost,
    an_endpoint_that_is_gone_is_tried_ever_more_rarely,
}

fn a_connection_ends_with_its_last_use(face: Face) {
    let lab = Lab::new(face, "", &["conn_uses_max = 3\nconn_age_max = 0"]);
    lab.ask(7, Duration::from_millis(1), "/0");
    lab.run_to_end();
    // Three, three and one.
    assert_eq!(lab.lives.borrow().len(), 3);
    assert_eq!(lab.proxy.sum(|row| &row.upstream_connects), 3);
    assert_eq!(lab.proxy.sum(|row| &row.upstream_reuses), 4);
}

fn a_connection_ends_with_its_age_and_those_of_one_time_end_apart(face: Face) {
    let lab = Lab::new(face, "", &["conn_age_max = \"10m\""]);
    for _ in 0..8 {
        lab.ask(1200, SECOND, "/0/slow"); // All at once, each with a connection for itself.
    }
    lab.run_to_end();
    let lives = lab.lives.borrow();
    let ages: Vec<Duration> = lives.iter().map(|(begun, ended)| *ended - *begun).collect();
    assert!(
        ages.iter().all(|age| *age <= 10 * MINUTE + SECOND),
        "{ages:?}"
    );
    assert_eq!(
        lab.proxy.sum(|row| &row.upstream_connects),
        ages.len() as u64
    );
    let first = lives
        .iter()
        .filter(|(begun, _)| *begun - lab.begun < MINUTE);
    let mut ends: Vec<Duration> = first.map(|(_, ended)| *ended - lab.begun).collect();
    ends.sort_unstable();
    assert_eq!(ends.len(), 8);
    assert!(ends[0] >= 9 * MINUTE, "{ends:?}");
    assert!(ends[7] - ends[0] > 10 * SECOND, "{ends:?}");
}

fn an_idle_connection_ends_with_its_age(face: Face) {
    let lab = Lab::new(face, "", &["conn_age_max = \"20s\"\nidle_timeout = \"1h\""]);
    lab.ask(1, SECOND, "/0");
    lab.run(&|| lab.lives.borrow().len() == 1);
    let (begun, ended) = lab.lives.borrow()[0];
    let age = ended - begun;
    assert!(age > 17 * SECOND && age <= 21 * SECOND, "{age:?}");
    lab.run_to_end();
}

fn the_longest_idle_connection_goes_when_too_many_idle(face: Face) {
    let lab = Lab::new(face, "idle_conns_total = 4", &["", "", "", "", "", ""]);
    for index in 0..6 {
        lab.ask(1, SECOND, &format!("/{index}"));
        lab.run(&|| lab.clients_left.get() == 0);
    }
    lab.run(&|| lab.lives.borrow().len() == 2);
    assert_eq!(lab.open(), 4);
    assert_eq!(*lab.ended.borrow(), [0, 1], "the two that were used first");
    // The others are used again.
    for index in 2..6 {
        lab.ask(1, SECOND, &format!("/{index}"));
        lab.run(&|| lab.clients_left.get() == 0);
    }
    assert_eq!(lab.proxy.sum(|row| &row.upstream_reuses), 4);
    assert_eq!(lab.open(), 4);
    lab.run_to_end();
}

/// Nobody looked at how many there were when one was not shared any more.
fn shared_connections_count_among_those_that_idle_once_they_do(face: Face) {
    let lab = Lab::new(face, "idle_conns_total = 4", &["multiplex = true"; 6]);
    for index in 0..6 {
        lab.ask(1, SECOND / 10, &format!("/{index}"));
        lab.run(&|| lab.clients_left.get() == 0);
    }
    assert_eq!(lab.open(), 6, "they may be shared for a while");
    let begun = lab.world.now();
    lab.run(&|| lab.lives.borrow().len() == 2);
    let took = lab.world.now() - begun;
    assert!(took < 10 * SECOND, "{took:?}");
    assert_eq!(*lab.ended.borrow(), [0, 1], "the two that were used first");
    lab.run_to_end();
}

fn connections_are_open_before_anybody_asks_and_again_when_they_are_lost(face: Face) {
    let lab = Lab::new(face, "", &["prewarm = 3"]);
    let prewarmed = || lab.proxy.sum(|row| &row.upstream_prewarmed);
    lab.run(&|| lab.open() == 3 && prewarmed() == 3);
    lab.ask(5, SECOND, "/0");
    lab.run(&|| lab.clients_left.get() == 0);
    assert_eq!(lab.proxy.sum(|row| &row.upstream_reuses), 5);
    assert_eq!(lab.proxy.sum(|row| &row.upstream_connects), 3);
    // A request that ends its connection makes room for another one.
    lab.ask(1, SECOND, "/0/close");
    lab.run(&|| lab.clients_left.get() == 0 && lab.lives.borrow().len() == 1);
    lab.run(&|| lab.open() == 3 && prewarmed() == 4);
    lab.run_to_end();
}

fn an_endpoint_that_is_gone_is_tried_ever_more_rarely(face: Face) {
    let lab = Lab::new(face, "", &["prewarm = 2\nendpoints = [\"10.0.0.9:1\"]"]);
    let errors = || lab.proxy.sum(|row| &row.upstream_connect_errors);
    lab.run(&|| lab.world.now() - lab.begun > MINUTE);
    let in_a_minute = errors();
    assert!((4..=12).contains(&in_a_minute), "{in_a_minute}");
    lab.run(&|| lab.world.now() - lab.begun > 60 * MINUTE);
    let in_an_hour = errors();
    assert!((100..=130).contains(&in_an_hour), "{in_an_hour}");
    lab.run_to_end();
}

/// When a connection began and when it ended, as the backend saw it.
type Life = (Instant, Instant);

struct Lab {
    world: World,
    begun: Instant,
    clients: Rt,
    backends: Vec<Rt>,
    proxy: Proxy,
    clients_left: Rc<Cell<u32>>,
    accepted: Rc<Cell<usize>>,
    lives: Rc<RefCell<Vec<Life>>>,
    /// Which upstream each connection belonged to that has ended.
    ended: Rc<RefCell<Vec<usize>>>,
}

impl Lab {
    /// One worker. Upstream N has a route for paths that begin with `/N`, one endpoint, and these lines.
    fn new(face: Face, root: &str, upstreams: &[&str]) -> Self {
        let world = World::new(1, &Profile::calm());
        let start = |host: &Host, face| host.rt(face, &RtOptions::default()).unwrap();
        let client_host = world.host([10, 0, 0, 1]);
        let proxy_host = world.host([10, 0, 0, 2]);
        let _nobody_listens = world.host([10, 0, 0, 9]);
        let mut text = format!("workers = 1\n{root}\n[[listener]]\naddress = \"{PROXY}\"\n");
        let accepted: Rc<Cell<usize>> = Rc::default();
        let lives: Rc<RefCell<Vec<Life>>> = Rc::default();
        let ended: Rc<RefCell<Vec<usize>>> = Rc::default();
        let mut backends = Vec::new();
        for (number, lines) in upstreams.iter().enumerate() {
            let host = world.host([10, 0, 1, u8::try_from(number).unwrap()]);
            let addr = SocketAddr::from((host.addr(), 8000));
            let endpoints = if lines.contains("endpoints") {
                String::new()
            } else {
                format!("endpoints = [\"{addr}\"]\n")
            };
            text += &format!(
                "[[route]]\npath_prefix = \"/{number}\"\nupstream = \"u{number}\"\n[upstream.u{number}]\n{endpoints}{lines}\n"
            );
            let rt = start(&host, Face::Readiness);
            let (accepted, lives, ended) =
                (Rc::clone(&accepted), Rc::clone(&lives), Rc::clone(&ended));
            serve(&rt, &host, addr, move |conn| {
                let (accepted, lives, ended) =
                    (Rc::clone(&accepted), Rc::clone(&lives), Rc::clone(&ended));
                async move {
                    let begun = conn.rt().now();
                    count(&accepted, 1);
                    answer(&conn).await;
                    lives.borrow_mut().push((begun, conn.rt().now()));
                    ended.borrow_mut().push(number);
                }
            });
            backends.push(rt);
        }
        Self {
            clients: start(&client_host, Face::Readiness),
            proxy: Proxy::start(&proxy_host, face, &text),
            backends,
            begun: world.now(),
            world,
            clients_left: Rc::default(),
            accepted,
            lives,
            ended,
        }
    }

    /// A client that asks so often, with a pause after each answer.
    fn ask(&self, times: u32, pause: Duration, target: &str) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            for _ in 0..times {
                conn.write(request.as_bytes()).unwrap();
                hear(&conn, b"\r\n\r\nok").await;
                rt.sleep(pause).await;
            }
            left.set(left.get() - 1);
        });
    }

    /// Connections that the backends have.
    fn open(&self) -> usize {
        self.accepted.get() - self.lives.borrow().len()
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        let ends = std::iter::once(&self.clients).chain(&self.backends);
        faces::run(&self.world, ends.chain(&self.proxy.rts), LIMITS, done);
    }

    /// Until all clients have ended, and a drain after them.
    fn run_to_end(&self) {
        self.run(&|| self.clients_left.get() == 0);
        self.proxy.drain();
        self.run(&|| self.proxy.has_ended());
        self.run(&|| self.open() == 0);
    }
}

fn count(cell: &Cell<usize>, more: usize) {
    cell.set(cell.get() + more);
}

/// Answers each request; `slow` after a while, `close` for the last time.
async fn answer(conn: &Conn) {
    loop {
        let Some(request) = try_hear(conn, b"\r\n\r\n").await else {
            return;
        };
        let is_last = request.contains("/close ");
        if request.contains("/slow ") {
            conn.rt().sleep(Duration::from_millis(500)).await;
        }
        let end = if is_last { "Connection: close\r\n" } else { "" };
        let said = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{end}\r\nok");
        if conn.write(said.as_bytes()).is_err() || is_last {
            return;
        }
    }
}

async fn hear(conn: &Conn, text: &[u8]) {
    let heard = try_hear(conn, text).await;
    assert!(heard.is_some_and(|heard| heard.starts_with("HTTP/1.1 200 ")));
}

/// What comes, up to a text that ends it; `None` at the end.
async fn try_hear(conn: &Conn, text: &[u8]) -> Option<String> {
    let mut heard: Vec<u8> = Vec::new();
    while !heard.ends_with(text) {
        match conn.recv().await {
            Ok(Rx::Data(lent)) => heard.extend_from_slice(&lent),
            Ok(Rx::Eof) | Err(_) => return None,
        }
    }
    String::from_utf8(heard).ok()
}

const PROXY: SocketAddr = {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 2);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, 80))
};
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
