//! What workers lend each other, in simulated time: two workers, clients that stay with one of them, a backend that counts.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "borrowing/load.rs"]
mod load;
#[path = "borrowing/workers.rs"]
mod workers;

use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use load::Log;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use workers::Workers;

facts! {
    requests_of_one_worker_get_what_the_other_does_not_need,
    without_borrowing_they_wait,
    an_idle_connection_moves_to_where_a_request_waits,
    what_was_lent_comes_back_although_requests_wait_there,
    a_connection_is_borrowed_before_one_is_made,
    a_dial_waits_no_longer_than_a_moment_for_siblings,
    prewarmed_connections_are_not_lent,
    a_connection_that_is_lent_idles_no_longer_for_it,
    a_request_that_waits_in_a_drain_gets_what_another_worker_has_done_with,
    a_worker_that_ends_leaves_its_shares_to_those_that_go_on,
    a_request_of_an_older_plan_is_served_although_its_worker_has_lent_all_it_had,
    a_connection_that_has_news_when_it_comes_is_refused,
    a_share_on_its_way_survives_a_limit_that_grows,
    a_share_on_its_way_is_void_where_the_limit_shrinks,
    a_connection_on_its_way_to_an_endpoint_that_is_gone_is_closed,
    where_borrowing_ends_each_worker_has_what_the_plan_says,
    a_sibling_that_never_answers_changes_nothing,
    a_loan_that_cannot_be_sent_comes_back,
}

/// The limit is 4: two for each worker. All clients come to one worker.
fn requests_of_one_worker_get_what_the_other_does_not_need(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 4");
    for _ in 0..4 {
        lab.ask(ONE, "/slow", 1);
    }
    lab.run(&|| lab.served.borrow().len() == 4);
    // None waited for the answer to another: each had a connection of its own.
    assert!(lab.longest() < SLOW + SLOW / 2, "{:?}", lab.longest());
    assert_eq!(lab.accepted.get(), 4);
    assert_eq!(lab.shares(), [4, 0]);
    lab.run_to_end();
}

fn without_borrowing_they_wait(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 4\nborrow = \"never\"");
    for _ in 0..4 {
        lab.ask(ONE, "/slow", 1);
    }
    lab.run(&|| lab.served.borrow().len() == 4);
    assert!(lab.longest() >= SLOW * 2, "{:?}", lab.longest());
    assert_eq!(lab.accepted.get(), 2);
    lab.run_to_end();
}

fn an_idle_connection_moves_to_where_a_request_waits(face: Face) {
    let lab = with_both_idle(face);
    assert_eq!(lab.accepted.get(), 2);
    lab.pause(Duration::from_millis(10));
    lab.ask(OTHER, "/fast", 1);
    lab.run(&|| lab.served.borrow().len() == 3);
    let took = lab.served.borrow()[2];
    assert!(took <= BOUND, "{took:?}");
    assert_eq!((lab.accepted.get(), lab.shares()), (2, vec![1, 1]));
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrowed), 1);
    lab.run_to_end();
}

/// One worker has everything, and more requests than it can serve; whoever has lent gets it back in its turn.
fn what_was_lent_comes_back_although_requests_wait_there(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 2");
    for _ in 0..6 {
        lab.ask(ONE, "/slow", 5);
    }
    lab.run(&|| lab.shares() == [2, 0]);
    lab.ask(OTHER, "/marked", 1);
    lab.run(&|| lab.marked.get() > 0);
    // Its claim waits behind at most six others, two of which are served at a time.
    let took = lab.marked_took.get();
    assert!(took <= SLOW * 5, "{took:?}");
    lab.run_to_end();
    assert_eq!(lab.served.borrow().len(), 31);
}

fn a_connection_is_borrowed_before_one_is_made(face: Face) {
    for (borrow, made) in [("before_dial", 1), ("never", 2), ("waiting", 2)] {
        let lab = Lab::new(face, 1, &format!("borrow = \"{borrow}\""));
        for round in 0..4 {
            let port = if round % 2 == 0 { ONE } else { OTHER };
            lab.ask(port, "/fast", 1);
            lab.run(&|| lab.served.borrow().len() == round + 1);
            lab.pause(Duration::from_millis(100));
        }
        assert_eq!(lab.accepted.get(), made, "{borrow}");
        lab.run_to_end();
    }
}

fn a_dial_waits_no_longer_than_a_moment_for_siblings(face: Face) {
    let lab = Lab::new(face, 1, "borrow = \"before_dial\"");
    lab.workers.hold_letters_to(Some(1));
    lab.ask(ONE, "/fast", 1);
    lab.run(&|| lab.served.borrow().len() == 1);
    assert!(lab.longest() <= BOUND, "{:?}", lab.longest());
    assert_eq!(lab.accepted.get(), 1);
    lab.workers.hold_letters_to(None);
    lab.run_to_end();
}

fn prewarmed_connections_are_not_lent(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 4\nprewarm = 1");
    lab.run(&|| lab.accepted.get() == 2);
    lab.pause(Duration::from_millis(10));
    for _ in 0..4 {
        lab.ask(ONE, "/slow", 1);
    }
    lab.run(&|| lab.served.borrow().len() == 4);
    assert_eq!(lab.shares(), [3, 1]);
    assert_eq!(lab.accepted.get(), 4);
    lab.run_to_end();
}

/// It comes when its request has made another one already, so nobody uses it. Its idle time began anew with the borrower.
fn a_connection_that_is_lent_idles_no_longer_for_it(face: Face) {
    let lab = Lab::new(face, 1, "borrow = \"before_dial\"\nidle_timeout = \"10s\"");
    lab.ask(ONE, "/fast", 1);
    lab.run(&|| lab.served.borrow().len() == 1);
    lab.pause(Duration::from_secs(6));
    lab.workers.hold_letters_to(Some(1));
    lab.ask(OTHER, "/fast", 1);
    lab.run(&|| lab.served.borrow().len() == 2);
    lab.workers.hold_letters_to(None);
    lab.run(&|| lab.workers.sum(|row| &row.upstream_borrowed) == 1);
    assert_eq!(lab.open.get(), 2);
    lab.pause(Duration::from_secs(5));
    assert_eq!(lab.open.get(), 1, "11 s after its request it is gone");
    lab.pause(Duration::from_secs(6));
    assert_eq!(lab.open.get(), 0);
    lab.run_to_end();
}

/// The first worker has borrowed everything. One of its requests ends before the other: nobody lent anything in a drain, so a request of the
/// other worker was refused after its time in the queue.
fn a_request_that_waits_in_a_drain_gets_what_another_worker_has_done_with(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 2");
    lab.ask(ONE, "/slow", 1);
    lab.pause(SLOW / 2);
    lab.ask(ONE, "/slow", 1);
    lab.run(&|| lab.accepted.get() == 2);
    assert_eq!(lab.shares(), [2, 0]);
    lab.ask(OTHER, "/slow", 1);
    lab.run(&|| lab.workers.sum(|row| &row.requests) == 3);
    lab.workers.drain();
    lab.run(&|| lab.workers.have_ended() && lab.clients_left.get() == 0);
    // It waits for the first of them, and not for the second one as well.
    assert!(lab.longest() < SLOW * 2, "{:?}", lab.longest());
    assert_eq!(lab.served.borrow().len(), 3);
}

/// The first worker has borrowed everything, and has ended when a client of the other one is done with its head. The shares ended with their
/// worker, and the request was refused after its time in the queue.
fn a_worker_that_ends_leaves_its_shares_to_those_that_go_on(face: Face) {
    let lab = with_both_busy(face);
    lab.ask_haltingly(OTHER, SLOW * 2);
    lab.pause(SLOW / 4);
    lab.workers.drain();
    lab.run(&|| lab.workers.have_ended() && lab.clients_left.get() == 0);
    assert_eq!(lab.served.borrow().len(), 3);
}

/// The first worker has borrowed everything when a plan follows that has no such upstream. A request of the other worker which began before that found
/// nobody who would give anything back, and was refused after its time in the queue.
fn a_request_of_an_older_plan_is_served_although_its_worker_has_lent_all_it_had(face: Face) {
    let lab = with_both_busy(face);
    lab.ask_haltingly(OTHER, SLOW * 2);
    lab.pause(SLOW / 4);
    lab.workers
        .follow(&text("max_conns = 2").replace("web", "other"));
    lab.run_to_end();
    assert_eq!(lab.served.borrow().len(), 3);
    assert!(lab.longest() < SLOW * 2, "{:?}", lab.longest());
}

/// The first worker has borrowed what there is, and both connections have a request.
fn with_both_busy(face: Face) -> Lab {
    let lab = with_two_asked(face);
    lab.run(&|| lab.accepted.get() == 2);
    assert_eq!(lab.shares(), [2, 0]);
    lab
}

/// The same when both have been answered.
fn with_both_idle(face: Face) -> Lab {
    let lab = with_two_asked(face);
    lab.run(&|| lab.served.borrow().len() == 2);
    assert_eq!(lab.shares(), [2, 0]);
    lab
}

fn with_two_asked(face: Face) -> Lab {
    let lab = Lab::new(face, 1, "max_conns = 2");
    for _ in 0..2 {
        lab.ask(ONE, "/slow", 1);
    }
    lab
}

/// Two idle connections of the first worker; a request of the second one waits for one of them, which has left its runtime and has not come.
fn with_one_on_its_way(face: Face) -> Lab {
    let lab = with_both_idle(face);
    lab.pause(Duration::from_millis(10));
    lab.workers.hold_letters_to(Some(1));
    lab.ask(OTHER, "/fast", 1);
    lab.run(&|| lab.workers.held() == 1);
    assert_eq!(lab.shares(), [1, 0], "one is on its way");
    lab
}

/// The backend says something unasked meanwhile, which must not be taken for the answer to the request that comes next.
fn a_connection_that_has_news_when_it_comes_is_refused(face: Face) {
    let lab = with_one_on_its_way(face);
    lab.babbles.set(true);
    lab.pause(Duration::from_millis(10));
    lab.babbles.set(false);
    lab.workers.hold_letters_to(None);
    lab.run(&|| lab.served.borrow().len() == 3);
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrow_refused), 1);
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrowed), 0);
    assert_eq!(lab.shares(), [1, 1], "its share came with it");
    lab.run_to_end();
}

fn a_share_on_its_way_survives_a_limit_that_grows(face: Face) {
    let lab = with_one_on_its_way(face);
    lab.follow("max_conns = 7");
    lab.run(&|| lab.shares().iter().sum::<u64>() == 6);
    lab.workers.hold_letters_to(None);
    lab.run(&|| lab.served.borrow().len() == 3);
    assert_eq!(lab.shares().iter().sum::<u64>(), 7);
    lab.run_to_end();
}

fn a_share_on_its_way_is_void_where_the_limit_shrinks(face: Face) {
    let lab = with_one_on_its_way(face);
    lab.follow("max_conns = 6");
    lab.run(&|| lab.shares().iter().sum::<u64>() == 5);
    lab.follow("max_conns = 4");
    lab.run(&|| lab.shares() == [2, 2]);
    lab.workers.hold_letters_to(None);
    lab.run(&|| lab.served.borrow().len() == 3);
    lab.pause(Duration::from_millis(10));
    assert_eq!(lab.shares(), [2, 2]);
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrowed), 0);
    lab.run_to_end();
}

fn a_connection_on_its_way_to_an_endpoint_that_is_gone_is_closed(face: Face) {
    let lab = with_one_on_its_way(face);
    let other = "endpoints = [\"10.0.1.1:8001\"]\nmax_conns = 2";
    lab.follow(other);
    lab.run(&|| lab.shares() == [1, 1]);
    lab.workers.hold_letters_to(None);
    // Its request goes where the plan says by now.
    lab.run(&|| lab.served.borrow().len() == 3);
    lab.pause(Duration::from_millis(10));
    assert_eq!((lab.accepted.get(), lab.open.get()), (3, 1));
    assert_eq!(lab.shares(), [1, 1]);
    lab.run_to_end();
}

fn where_borrowing_ends_each_worker_has_what_the_plan_says(face: Face) {
    let lab = with_both_idle(face);
    lab.follow("max_conns = 2\nborrow = \"never\"");
    lab.run(&|| lab.shares() == [1, 1]);
    lab.ask(OTHER, "/fast", 1);
    lab.run(&|| lab.served.borrow().len() == 3);
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrowed), 0);
    lab.run_to_end();
}

fn a_sibling_that_never_answers_changes_nothing(face: Face) {
    let lab = Lab::new(face, 1, "max_conns = 2");
    lab.workers.hold_letters_to(Some(1));
    for _ in 0..3 {
        lab.ask(ONE, "/slow", 1);
    }
    lab.run(&|| lab.served.borrow().len() == 3);
    assert_eq!(lab.accepted.get(), 1);
    assert!(lab.longest() < SLOW * 4);
    lab.workers.hold_letters_to(None);
    lab.run_to_end();
}

/// The one who asks has ended before it could be answered: both connections stay, with their shares.
fn a_loan_that_cannot_be_sent_comes_back(face: Face) {
    let lab = with_both_idle(face);
    lab.pause(Duration::from_millis(10));
    lab.workers.close_mailbox_of(1, &lab.clients);
    lab.ask(OTHER, "/fast", 1);
    lab.pause(Duration::from_millis(300));
    assert_eq!(lab.shares(), [2, 0]);
    for _ in 0..2 {
        lab.ask(ONE, "/slow", 1);
    }
    lab.run(&|| lab.served.borrow().len() == 4);
    assert_eq!((lab.accepted.get(), lab.open.get()), (2, 2));
    assert_eq!(lab.workers.sum(|row| &row.upstream_borrowed), 0);
}

struct Lab {
    world: World,
    clients: Rt,
    backend: Rt,
    workers: Workers,
    clients_left: Rc<Cell<u32>>,
    accepted: Rc<Cell<u32>>,
    /// Connections that the backend has.
    open: Rc<Cell<u32>>,
    /// How long each request took.
    served: Rc<RefCell<Vec<Duration>>>,
    marked: Rc<Cell<u32>>,
    marked_took: Rc<Cell<Duration>>,
    /// The backend says something unasked on each idle connection, once.
    babbles: Rc<Cell<bool>>,
    log: Rc<Log>,
}

impl Lab {
    /// Two workers, each with a port of its own, and an upstream with one endpoint and these lines.
    fn new(face: Face, seed: u64, upstream: &str) -> Self {
        Self::with(face, (seed, &Profile::calm()), upstream)
    }

    /// The same where something goes wrong.
    fn with(face: Face, (seed, profile): (u64, &Profile), upstream: &str) -> Self {
        let world = World::new(seed, profile);
        let client_host = world.host([10, 0, 0, 1]);
        let proxy_host = world.host([10, 0, 0, 2]);
        let host = world.host([10, 0, 1, 1]);
        let start = |host: &Host| host.rt(Face::Readiness, &RtOptions::default()).unwrap();
        let backend = start(&host);
        let (accepted, open): (Rc<Cell<u32>>, Rc<Cell<u32>>) = Default::default();
        let (babbles, log): (Rc<Cell<bool>>, Rc<Log>) = Default::default();
        for addr in BACKENDS {
            let (accepted, open) = (Rc::clone(&accepted), Rc::clone(&open));
            let (babbles, log) = (Rc::clone(&babbles), Rc::clone(&log));
            let listener = backend.listener(host.listen(addr, 64).unwrap()).unwrap();
            let tasks = backend.clone();
            backend.spawn(async move {
                while let Ok(conn) = listener.accept().await {
                    accepted.set(accepted.get() + 1);
                    open.set(open.get() + 1);
                    let (open, babbles) = (Rc::clone(&open), Rc::clone(&babbles));
                    let log = Rc::clone(&log);
                    tasks.spawn(async move {
                        answer(conn, babbles, log).await;
                        open.set(open.get() - 1);
                    });
                }
            });
        }
        let clients = start(&client_host);
        Self {
            workers: Workers::start(
                (&proxy_host, face),
                &clients,
                (&text(upstream), [ONE, OTHER]),
            ),
            clients,
            backend,
            world,
            clients_left: Rc::default(),
            accepted,
            open,
            served: Rc::default(),
            marked: Rc::default(),
            marked_took: Rc::default(),
            babbles,
            log,
        }
    }

    /// Another plan, with these lines for the upstream.
    fn follow(&self, upstream: &str) {
        self.workers.follow(&text(upstream));
    }

    /// A client of one worker that asks so often.
    fn ask(&self, port: SocketAddr, target: &'static str, times: u32) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let served = Rc::clone(&self.served);
        let (marked, marked_took) = (Rc::clone(&self.marked), Rc::clone(&self.marked_took));
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(port, Instant::NEVER).await.unwrap();
            for _ in 0..times {
                let begun = rt.now();
                conn.write(request.as_bytes()).unwrap();
                let heard = try_hear(&conn, b"\r\n\r\nok").await.unwrap();
                assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
                let took = rt.now() - begun;
                served.borrow_mut().push(took);
                if target == "/marked" {
                    marked.set(marked.get() + 1);
                    marked_took.set(took);
                }
            }
            left.set(left.get() - 1);
        });
    }

    /// A client that pauses within the head of its request.
    fn ask_haltingly(&self, port: SocketAddr, pause: Duration) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let served = Rc::clone(&self.served);
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(port, Instant::NEVER).await.unwrap();
            conn.write(b"GET / HTTP/1.1\r\n").unwrap();
            conn.flush().await.unwrap();
            rt.sleep(pause).await;
            let begun = rt.now();
            conn.write(b"Host: a\r\n\r\n").unwrap();
            let heard = try_hear(&conn, b"\r\n\r\nok").await.unwrap();
            assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
            served.borrow_mut().push(rt.now() - begun);
            left.set(left.get() - 1);
        });
    }

    /// What each worker may open, by its own account.
    fn shares(&self) -> Vec<u64> {
        (0..2).map(|worker| self.share_of(worker)).collect()
    }

    fn share_of(&self, worker: u32) -> u64 {
        let told = self.workers.ask_live(worker);
        let live = RefCell::new(None);
        self.run(&|| {
            let mut live = live.borrow_mut();
            *live = live.take().or_else(|| told.try_recv().ok());
            live.is_some()
        });
        let live = live.into_inner().unwrap();
        match live.upstreams.get("web") {
            Some(_) => live.of_upstream("web").share,
            None => self.workers.share_at_first(worker), // It has not begun with it.
        }
    }

    fn longest(&self) -> Duration {
        self.served.borrow().iter().copied().max().unwrap()
    }

    fn pause(&self, time: Duration) {
        let (rt, is_over) = (self.clients.clone(), Rc::new(Cell::new(false)));
        let told = Rc::clone(&is_over);
        self.clients.spawn(async move {
            rt.sleep(time).await;
            told.set(true);
        });
        self.run(&|| is_over.get());
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        let ends = [&self.clients, &self.backend];
        let rts = ends.into_iter().chain(&self.workers.rts);
        faces::run(&self.world, rts, LIMITS, done);
    }

    /// Until all clients have ended, and a drain after them.
    fn run_to_end(&self) {
        self.run(&|| self.clients_left.get() == 0);
        self.workers.drain();
        self.run(&|| self.workers.have_ended());
        self.run(&|| self.workers.rts.iter().all(|rt| rt.holdings().conns == 0));
    }
}

/// Answers each request, `slow` and `marked` after a while. Says something that nobody asked for when it is to, once.
async fn answer(conn: Conn, babbles: Rc<Cell<bool>>, log: Rc<Log>) {
    let rt = conn.rt().clone();
    let mut has_babbled = false;
    loop {
        let babble = async {
            while has_babbled || !babbles.get() {
                rt.sleep(Duration::from_millis(1)).await;
            }
        };
        let said = match race(try_hear(&conn, b"\r\n\r\n"), babble).await {
            First::One(None) => return,
            First::One(Some(request)) if request.contains("/task/") => {
                log.work(&rt, &request).await
            }
            First::One(Some(request)) => {
                if !request.contains("/fast ") {
                    rt.sleep(SLOW).await;
                }
                String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
            First::Other(()) => {
                has_babbled = true;
                String::from("HTTP/1.1 418 Nobody asked\r\nContent-Length: 2\r\n\r\nok")
            }
        };
        if conn.write(said.as_bytes()).is_err() {
            return;
        }
    }
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

fn text(upstream: &str) -> String {
    let endpoints = if upstream.contains("endpoints") {
        String::new()
    } else {
        format!("endpoints = [\"{}\"]\n", BACKENDS[0])
    };
    format!(
        "workers = 2\nqueue_timeout = \"1h\"\n[[listener]]\naddress = \"{ONE}\"\n[[listener]]\naddress = \"{OTHER}\"\n\
         [[route]]\nupstream = \"web\"\n[upstream.web]\n{endpoints}{upstream}\n"
    )
}

const fn port(port: u16) -> SocketAddr {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 2);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, port))
}

/// Where each of the workers listens.
const ONE: SocketAddr = port(80);
const OTHER: SocketAddr = port(81);
const BACKENDS: [SocketAddr; 2] = {
    let ip = std::net::Ipv4Addr::new(10, 0, 1, 1);
    [
        SocketAddr::V4(std::net::SocketAddrV4::new(ip, 8000)),
        SocketAddr::V4(std::net::SocketAddrV4::new(ip, 8001)),
    ]
};
const SLOW: Duration = Duration::from_millis(500);
/// The pause between questions, and what the network takes.
const BOUND: Duration = Duration::from_millis(15);
const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
