//! Requests that share connections, in simulated time: each gets its own answer, and none waits for another's longer than is said.
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
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

facts! {
    many_clients_share_few_connections_and_most_sends_are_answers,
    nothing_is_shared_where_nobody_said_so,
    a_backend_that_stands_still_at_times_is_no_reason_to_share_less,
    a_backend_that_closes_after_so_many_requests_is_asked_few_twice,
    a_backend_that_closes_after_so_many_chunked_answers_shares_as_well,
    a_backend_that_closes_when_it_likes_is_asked_few_twice,
    chunked_answers_that_take_their_time_keep_few_waiting,
    a_backend_that_closes_what_idles_shares_as_well,
    a_backend_that_closes_behind_an_answer_that_nobody_follows_shares_as_well,
    a_part_of_a_head_is_no_answer_of_its_lane,
    a_slow_answer_keeps_those_behind_it_no_longer_than_the_stall,
    a_client_that_does_not_take_its_answer_keeps_those_behind_it_no_longer_than_the_stall,
    a_client_that_leaves_harms_nobody,
    a_client_that_leaves_alone_keeps_no_lane_from_others,
    a_backend_that_closes_without_an_answer_fails_only_who_asked_for_it,
    garbage_fails_only_who_got_it,
    an_answer_that_is_the_last_is_the_last_and_those_behind_it_are_sent_again,
    an_answer_until_close_reaches_its_client_whole,
    a_head_that_breaks_off_for_what_is_behind_its_request_is_asked_for_again,
    long_chunked_interim_and_torn_answers_go_to_whom_they_belong,
    an_answer_that_nobody_asked_for_goes_to_nobody,
    content_behind_an_answer_to_head_is_not_the_next_clients_answer,
    what_follows_an_answer_and_is_none_costs_nobody_an_answer,
    a_backend_that_stays_silent_is_given_up_in_time,
    requests_with_content_have_a_connection_of_their_own,
    a_connection_carries_no_more_requests_than_it_may,
    a_lane_that_nobody_uses_becomes_an_idle_connection_again,
    an_answer_that_a_lane_passes_on_is_timed_from_its_request,
    an_answer_that_a_lane_passes_on_counts_until_its_end,
    a_slow_answer_that_nobody_waits_behind_does_not_end_its_lane,
}

fn many_clients_share_few_connections_and_most_sends_are_answers(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    (0..64).for_each(|_| lab.ask("", 200, Duration::from_micros(100)));
    lab.run(&|| lab.answered("") > 64 * 100);
    let before = (lab.sends(), lab.answered(""), lab.multiplexed());
    lab.run(&|| lab.answered("") > 64 * 180);
    let sends = lab.sends() - before.0;
    let answers = lab.answered("") - before.1;
    let multiplexed = lab.multiplexed() - before.2;
    // One for each answer, and one for many requests; one to one that is two.
    assert!(sends * 10 < answers * 13, "{sends} for {answers} answers");
    assert!(multiplexed * 10 > answers * 9, "{multiplexed} of {answers}");
    lab.run_to_end();
}

fn nothing_is_shared_where_nobody_said_so(face: Face) {
    let lab = Lab::new(face, "");
    lab.warm();
    (0..16).for_each(|_| lab.ask("", 20, Duration::from_micros(100)));
    lab.run_to_end();
    assert_eq!(lab.multiplexed(), 0);
    assert!(lab.sends() >= 2 * lab.answered(""));
}

/// Its pauses are not for what is shared: requests alone wait as long. Lanes were halved for them, again and again, until nearly nothing was shared.
fn a_backend_that_stands_still_at_times_is_no_reason_to_share_less(face: Face) {
    let lab = Lab::new(face, "multiplex = { conns_max = 1 }");
    lab.warm();
    let [answers, multiplexed, _] = lab.second_half("shaken", (128, 200));
    assert!(lab.longest("shaken") > STILL, "it stood still");
    assert!(multiplexed * 10 > answers * 6, "{multiplexed} of {answers}");
}

/// nginx does after a thousand. Whatever was behind the last answer was sent again, for each connection anew.
fn a_backend_that_closes_after_so_many_requests_is_asked_few_twice(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    let [answers, multiplexed, retries] = lab.second_half("worn", (64, 1000));
    assert!(multiplexed * 10 > answers * 8, "{multiplexed} of {answers}");
    assert!(retries * 200 < answers, "{retries} for {answers}");
}

/// Answers that their exchanges pass on did not count for the lane: it ended as one that had been of no use, and its endpoint had none for a second,
/// and for longer each time.
fn a_backend_that_closes_after_so_many_chunked_answers_shares_as_well(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    let [answers, multiplexed, _] = lab.second_half("worn-chunked", (16, 1000));
    assert!(multiplexed * 10 > answers * 6, "{multiplexed} of {answers}");
}

/// No number of requests is learned of it, and each connection had carried enough to be one of use: one in ten requests was sent again.
fn a_backend_that_closes_when_it_likes_is_asked_few_twice(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    let [answers, _, retries] = lab.second_half("fickle", (64, 1000));
    assert!(retries * 30 < answers, "{retries} for {answers}");
}

/// Nor did they judge their lane's depth.
fn chunked_answers_that_take_their_time_keep_few_waiting(face: Face) {
    let lab = Lab::new(face, "multiplex = { conns_max = 1 }");
    lab.warm();
    (0..8).for_each(|_| lab.ask("busy-chunked", 100, Duration::ZERO));
    lab.run_to_end();
    let within = lab.share_within("busy-chunked", 4 * BUSY);
    assert!(within > 0.9, "{within}");
}

/// It has lost nothing by that, and was given no lane for a second, and for longer each time.
fn a_backend_that_closes_what_idles_shares_as_well(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    for _ in 0..7 {
        lab.ask("brief", 3, Duration::ZERO);
        lab.run(&|| lab.clients_left.get() == 0 && lab.open() == 0);
    }
    lab.shares_at_once();
    lab.run_to_end();
}

/// Nothing is sent again for it either.
fn a_backend_that_closes_behind_an_answer_that_nobody_follows_shares_as_well(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    for _ in 0..7 {
        lab.warm();
        lab.ask("close", 1, Duration::ZERO);
        lab.run(&|| lab.clients_left.get() == 0 && lab.open() == 0);
    }
    lab.shares_at_once();
    lab.run_to_end();
}

/// It was the answer with which the lane had been of use, and what its connection had carried was taken for all that any connection carries.
fn a_part_of_a_head_is_no_answer_of_its_lane(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.ask("", 1 + 63, Duration::ZERO);
    lab.run(&|| lab.clients_left.get() == 0);
    lab.ask_for("part", "HTTP/1.1 502 ");
    lab.run(&|| lab.clients_left.get() == 0);
    assert_eq!(lab.multiplexed(), 63 + 1);
    lab.ask("", 1 + 200, Duration::ZERO);
    lab.run_to_end();
    assert_eq!(lab.multiplexed(), 63 + 1 + 200);
}

fn a_slow_answer_keeps_those_behind_it_no_longer_than_the_stall(face: Face) {
    let lab = Lab::new(face, "multiplex = { stall = \"50ms\" }");
    lab.warm();
    lab.ask("slow", 1, Duration::ZERO);
    lab.run(&|| lab.waiting() == 1);
    (0..5).for_each(|_| lab.ask("", 1, Duration::ZERO));
    lab.run(&|| lab.waiting() == 6);
    lab.run_to_end();
    assert_eq!(lab.proxy.sum(|row| &row.multiplexed_moved), 5);
    assert!(lab.longest("") <= STALL + NETWORK, "{:?}", lab.longest(""));
    assert!(lab.longest("slow") >= SLOW);
    assert_eq!(
        lab.asked(),
        1 + 1 + 2 * 5,
        "each of those twice, the slow one once"
    );
}

fn a_client_that_does_not_take_its_answer_keeps_those_behind_it_no_longer_than_the_stall(
    face: Face,
) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask_and_dawdle("long");
    lab.run(&|| lab.waiting() == 1);
    (0..5).for_each(|_| lab.ask("", 1, Duration::ZERO));
    lab.run_to_end();
    assert!(lab.longest("") <= STALL + NETWORK, "{:?}", lab.longest(""));
    assert_eq!(
        lab.answered("long"),
        1,
        "it is whole, when it is taken at last"
    );
}

fn a_client_that_leaves_harms_nobody(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    for kind in ["slow", "", "long", "chunked"] {
        lab.ask_and_leave(kind);
        (0..5).for_each(|_| lab.ask("", 20, Duration::from_millis(1)));
        lab.run(&|| lab.clients_left.get() == 0);
    }
    lab.run_to_end();
    assert_eq!(lab.answered(""), 1 + 4 * 5 * 20);
}

/// Its lane ends with it, since nobody knows what of its answer is still to come. That counted against the backend, which got no lane for a second, and
/// for longer each time: whoever gave downloads up took sharing from all others.
fn a_client_that_leaves_alone_keeps_no_lane_from_others(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    for leave in [Lab::ask_and_leave, Lab::ask_and_break_off] {
        lab.warm();
        leave(&lab, "long");
        lab.run(&|| lab.clients_left.get() == 0 && lab.open() == 0);
        lab.shares_at_once();
    }
    lab.run_to_end();
}

fn a_backend_that_closes_without_an_answer_fails_only_who_asked_for_it(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    check_failure(&lab, "vanish", "HTTP/1.1 502 ");
}

fn garbage_fails_only_who_got_it(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    check_failure(&lab, "garbage", "HTTP/1.1 502 ");
}

fn check_failure(lab: &Lab, kind: &'static str, status: &'static str) {
    lab.warm();
    lab.ask_for(kind, status);
    (0..5).for_each(|_| lab.ask("", 10, Duration::from_millis(1)));
    lab.run_to_end();
    assert_eq!(lab.answered(""), 1 + 5 * 10);
    assert!(lab.multiplexed() > 0);
}

fn an_answer_that_is_the_last_is_the_last_and_those_behind_it_are_sent_again(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask("close", 5, Duration::from_millis(1));
    (0..5).for_each(|_| lab.ask("", 50, Duration::from_millis(1)));
    lab.run_to_end();
    assert_eq!((lab.answered("close"), lab.answered("")), (5, 1 + 5 * 50));
}

fn an_answer_until_close_reaches_its_client_whole(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask("until-close", 5, Duration::from_millis(1));
    (0..5).for_each(|_| lab.ask("", 50, Duration::from_millis(1)));
    lab.run_to_end();
    assert_eq!(lab.answered("until-close"), 5);
    assert_eq!(lab.answered(""), 1 + 5 * 50);
}

/// A backend that leaves within the head of an answer when more is asked behind it, which is what a reset for unread requests looks like. The
/// head comes in pieces, so that its exchange reads the rest of it. That was a 502, although nothing had gone to the client.
fn a_head_that_breaks_off_for_what_is_behind_its_request_is_asked_for_again(face: Face) {
    check_bystanders("half", face);
}

fn long_chunked_interim_and_torn_answers_go_to_whom_they_belong(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    for kind in ["", "long", "chunked", "interim", "torn", "head"] {
        (0..4).for_each(|_| lab.ask(kind, 20, Duration::from_millis(1)));
    }
    lab.run_to_end();
    for kind in ["long", "chunked", "interim", "torn", "head"] {
        assert_eq!(lab.answered(kind), 4 * 20, "{kind}");
    }
    assert!(lab.multiplexed() > 100, "{}", lab.multiplexed());
}

fn an_answer_that_nobody_asked_for_goes_to_nobody(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask("unasked", 3, Duration::from_millis(300));
    lab.run(&|| lab.clients_left.get() == 0);
    lab.ask("", 3, Duration::from_millis(1));
    lab.run_to_end();
    assert_eq!((lab.answered("unasked"), lab.answered("")), (3, 1 + 3));
}

/// A server that sends content with its answer to HEAD, which may be whatever a client has stored there.
fn content_behind_an_answer_to_head_is_not_the_next_clients_answer(face: Face) {
    check_bystanders("head-with-content", face);
}

fn what_follows_an_answer_and_is_none_costs_nobody_an_answer(face: Face) {
    check_bystanders("too-long", face);
}

/// One request of a kind, and others that are sent while it is answered, and after it: where it comes first of all, it may have
/// the only connection, and those beside it share none.
fn check_bystanders(kind: &'static str, face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask(kind, 1, Duration::ZERO);
    (0..5).for_each(|_| lab.ask("", 4, Duration::ZERO));
    lab.run_to_end();
    assert_eq!((lab.answered(kind), lab.answered("")), (1, 1 + 5 * 4));
    assert!(lab.multiplexed() >= 5, "{}", lab.multiplexed());
}

fn a_backend_that_stays_silent_is_given_up_in_time(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask_for("silent", "HTTP/1.1 504 ");
    (0..5).for_each(|_| lab.ask("", 10, Duration::from_millis(1)));
    lab.run_to_end();
    let took = lab.longest("silent");
    assert!(
        took >= RESPONSE_TIMEOUT && took <= RESPONSE_TIMEOUT + NETWORK,
        "{took:?}"
    );
    assert!(lab.longest("") <= STALL + NETWORK, "{:?}", lab.longest(""));
}

fn requests_with_content_have_a_connection_of_their_own(face: Face) {
    let lab = Lab::new(face, "multiplex = true\nmax_conns = 2");
    lab.warm();
    lab.run(&|| lab.waiting() == 0);
    (0..4).for_each(|_| lab.ask("post", 10, Duration::ZERO));
    (0..4).for_each(|_| lab.ask("", 10, Duration::ZERO));
    lab.run_to_end();
    assert_eq!((lab.answered("post"), lab.answered("")), (40, 41));
    assert!(lab.multiplexed() > 0 && lab.multiplexed() <= 41);
    assert!(lab.seen.most_open.get() <= 2);
}

fn a_connection_carries_no_more_requests_than_it_may(face: Face) {
    let lab = Lab::new(face, "multiplex = true\nconn_uses_max = 10");
    lab.warm();
    (0..8).for_each(|_| lab.ask("", 25, Duration::from_micros(100)));
    lab.run_to_end();
    assert_eq!(lab.answered(""), 1 + 8 * 25);
    assert!(lab.multiplexed() > 100, "{}", lab.multiplexed());
    let uses = lab.seen.uses.borrow();
    assert!(uses.iter().all(|count| *count <= 10), "{uses:?}");
}

fn a_lane_that_nobody_uses_becomes_an_idle_connection_again(face: Face) {
    let lab = Lab::new(face, "multiplex = true\nidle_timeout = \"10s\"");
    lab.warm();
    for _ in 0..3 {
        lab.ask("", 3, Duration::from_millis(10));
        lab.ask("", 1, Duration::from_secs(8));
        lab.run(&|| lab.clients_left.get() == 0);
    }
    assert!(lab.seen.accepted.get() <= 2, "they were used again");
    let begun = lab.world.now();
    lab.run(&|| lab.open() == 0);
    let took = lab.world.now() - begun;
    assert!(took <= Duration::from_secs(16), "{took:?}");
    lab.run_to_end();
}

/// It was timed from the beginning of the connection, so the endpoint seemed as slow as its lane was old.
fn an_answer_that_a_lane_passes_on_is_timed_from_its_request(face: Face) {
    let lab = Lab::new(
        face,
        &format!("multiplex = true\nbalance = \"least_time\"\n{BOTH}"),
    );
    lab.ask("", 30, Duration::from_millis(100));
    lab.run(&|| lab.clients_left.get() == 0);
    lab.ask("chunked", 1, Duration::ZERO);
    lab.run(&|| lab.clients_left.get() == 0);
    let before = lab.seen.asked.get()[NEAR];
    lab.ask("", 20, Duration::from_millis(1));
    lab.run(&|| lab.clients_left.get() == 0);
    let near = lab.seen.asked.get()[NEAR] - before;
    assert!(near >= 19, "{near} of 20 went to the one that is faster");
    assert!(lab.multiplexed() > 20, "{}", lab.multiplexed());
    lab.run_to_end();
}

fn an_answer_that_a_lane_passes_on_counts_until_its_end(face: Face) {
    let lab = Lab::new(
        face,
        &format!("multiplex = true\nbalance = \"least_conn\"\n{BOTH}"),
    );
    (0..2).for_each(|_| lab.ask("", 2, Duration::ZERO));
    lab.run(&|| lab.clients_left.get() == 0);
    lab.ask("paused", 1, Duration::ZERO);
    lab.run(&|| lab.seen.paused.get().is_some());
    let other = 1 - lab.seen.paused.get().unwrap();
    let before = lab.seen.asked.get()[other];
    lab.ask("", 10, Duration::ZERO);
    lab.run(&|| lab.clients_left.get() == 1);
    assert!(lab.seen.paused.get().is_some(), "it goes on");
    assert_eq!(lab.seen.asked.get()[other] - before, 10);
    lab.run_to_end();
    assert_eq!(lab.answered("paused"), 1);
}

fn a_slow_answer_that_nobody_waits_behind_does_not_end_its_lane(face: Face) {
    let lab = Lab::new(face, "multiplex = true");
    lab.warm();
    lab.ask("paused", 1, Duration::ZERO);
    lab.run(&|| lab.clients_left.get() == 0);
    let before = lab.multiplexed();
    lab.ask("", 5, Duration::ZERO);
    lab.run(&|| lab.clients_left.get() == 0);
    assert_eq!(
        (lab.multiplexed() - before, lab.seen.accepted.get()),
        (5, 1)
    );
    lab.run_to_end();
}

/// What a client and the backend have to say to each other.
#[derive(Debug, Default)]
struct Heard {
    /// By the kind of request: whole answers, and how long each took.
    took: BTreeMap<&'static str, Vec<Duration>>,
}

struct Lab {
    world: World,
    clients: Rt,
    backend: Rt,
    proxy: Proxy,
    clients_left: Rc<Cell<u32>>,
    next_id: Rc<Cell<u32>>,
    heard: Rc<RefCell<Heard>>,
    seen: Rc<Seen>,
}

/// What the backend has seen.
#[derive(Debug, Default)]
struct Seen {
    accepted: Cell<usize>,
    closed: Cell<usize>,
    most_open: Cell<usize>,
    /// Requests that each connection has brought.
    uses: RefCell<Vec<u32>>,
    /// Requests that each endpoint has got.
    asked: Cell<[u32; 2]>,
    /// The endpoint that pauses in the middle of an answer.
    paused: Cell<Option<usize>>,
}

impl Seen {
    fn begin(&self) -> usize {
        let place = self.accepted.get();
        self.accepted.set(place + 1);
        self.most_open.set(self.most_open.get().max(self.open()));
        self.uses.borrow_mut().push(0);
        place
    }

    fn count(&self, (endpoint, place): (usize, usize)) {
        self.uses.borrow_mut()[place] += 1;
        let mut asked = self.asked.get();
        asked[endpoint] += 1;
        self.asked.set(asked);
    }

    fn open(&self) -> usize {
        self.accepted.get() - self.closed.get()
    }
}

impl Lab {
    fn new(face: Face, lines: &str) -> Self {
        let world = World::new(1, &Profile::calm());
        let start = |host: &Host, face| host.rt(face, &RtOptions::default()).unwrap();
        let client_host = world.host([10, 0, 0, 1]);
        let proxy_host = world.host([10, 0, 0, 2]);
        let host = world.host([10, 0, 1, 1]);
        let seconds = RESPONSE_TIMEOUT.as_secs();
        let endpoints = if lines.contains("endpoints") {
            String::new()
        } else {
            String::from("endpoints = [\"10.0.1.1:8000\"]\n")
        };
        let text = format!(
            "workers = 1\nresponse_timeout = \"{seconds}s\"\n[[listener]]\naddress = \"{PROXY}\"\n[[route]]\nupstream = \"u\"\n\
             [upstream.u]\n{endpoints}{lines}\n"
        );
        let seen: Rc<Seen> = Rc::default();
        let backend = start(&host, Face::Readiness);
        let count = 1 + usize::from(lines.contains(BOTH));
        for (endpoint, port) in [8000, 8001].into_iter().take(count).enumerate() {
            let seen = Rc::clone(&seen);
            serve(
                &backend,
                &host,
                SocketAddr::from((host.addr(), port)),
                move |conn| {
                    let seen = Rc::clone(&seen);
                    async move {
                        let place = seen.begin();
                        answer(&conn, (endpoint, place), &seen).await;
                        drop(conn);
                        seen.closed.set(seen.closed.get() + 1);
                    }
                },
            );
        }
        Self {
            clients: start(&client_host, Face::Readiness),
            proxy: Proxy::start(&proxy_host, face, &text),
            backend,
            world,
            clients_left: Rc::default(),
            next_id: Rc::default(),
            heard: Rc::default(),
            seen,
        }
    }

    /// One request, after which its connection may be shared.
    fn warm(&self) {
        self.ask("", 1, Duration::ZERO);
        self.run(&|| self.clients_left.get() == 0);
    }

    /// All requests behind the first one are shared.
    fn shares_at_once(&self) {
        self.warm();
        let before = self.multiplexed();
        self.ask("", 5, Duration::ZERO);
        self.run(&|| self.clients_left.get() == 0);
        assert_eq!(self.multiplexed() - before, 5);
    }

    /// A client that asks so often, with a pause after each answer.
    fn ask(&self, kind: &'static str, times: u32, pause: Duration) {
        self.spawn(kind, move |client| async move {
            for _ in 0..times {
                client.exchange(Duration::ZERO).await;
                client.conn.rt().sleep(pause).await;
            }
        });
    }

    /// A client that begins to read its answer after a while.
    fn ask_and_dawdle(&self, kind: &'static str) {
        self.spawn(kind, move |client| async move {
            client.exchange(Duration::from_secs(5)).await;
        });
    }

    /// A client that asks, and resets its connection before it can have been answered.
    fn ask_and_leave(&self, kind: &'static str) {
        self.spawn(kind, move |client| async move {
            client.say();
            client.conn.flush().await.unwrap();
            client.conn.rt().sleep(Duration::from_micros(700)).await;
            client.conn.reset();
        });
    }

    /// A client that resets its connection when its answer begins to come.
    fn ask_and_break_off(&self, kind: &'static str) {
        self.spawn(kind, move |client| async move {
            client.say();
            Inbox::new(&client.conn).more().await.unwrap();
            client.conn.reset();
        });
    }

    /// A client that asks once, and is answered with this.
    fn ask_for(&self, kind: &'static str, status: &'static str) {
        self.spawn(kind, move |client| async move {
            let begun = client.conn.rt().now();
            client.say();
            let head = Inbox::new(&client.conn).until(b"\r\n\r\n").await;
            assert!(head.is_some_and(|head| head.starts_with(status)));
            client.note(begun);
        });
    }

    fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        kind: &'static str,
        live: impl FnOnce(Client) -> F + 'static,
    ) {
        let rt = self.clients.clone();
        let left = Rc::clone(&self.clients_left);
        let (next_id, heard) = (Rc::clone(&self.next_id), Rc::clone(&self.heard));
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            let client = Client {
                conn,
                kind,
                next_id,
                heard,
            };
            live(client).await;
            left.set(left.get() - 1);
        });
    }

    fn answered(&self, kind: &str) -> u64 {
        let heard = self.heard.borrow();
        heard.took.get(kind).map_or(0, |took| took.len() as u64)
    }

    fn longest(&self, kind: &str) -> Duration {
        let heard = self.heard.borrow();
        let took = heard.took.get(kind);
        took.and_then(|took| took.iter().max())
            .copied()
            .unwrap_or_default()
    }

    /// So many clients ask so often each, to the end. Of what happened behind half of the answers, when lanes had settled: answers, requests that were
    /// shared, and requests that were sent again.
    fn second_half(&self, kind: &'static str, (clients, each): (u64, u32)) -> [u64; 3] {
        let counts = || [self.answered(kind), self.multiplexed(), self.retries()];
        (0..clients).for_each(|_| self.ask(kind, each, Duration::from_micros(100)));
        self.run(&|| self.answered(kind) > clients * u64::from(each) / 2);
        let before = counts();
        self.run_to_end();
        let after = counts();
        std::array::from_fn(|at| after[at] - before[at])
    }

    fn share_within(&self, kind: &str, time: Duration) -> f64 {
        let heard = self.heard.borrow();
        let took = &heard.took[kind];
        let within = took.iter().filter(|took| **took <= time).count();
        within as f64 / took.len() as f64
    }

    fn multiplexed(&self) -> u64 {
        self.proxy.sum(|row| &row.multiplexed)
    }

    fn retries(&self) -> u64 {
        self.proxy.sum(|row| &row.retries)
    }

    fn waiting(&self) -> u64 {
        self.proxy.sum(|row| &row.multiplexed_waiting)
    }

    fn sends(&self) -> u64 {
        self.proxy.rts.iter().map(|rt| rt.stats().sends).sum()
    }

    /// Requests that the backend has got.
    fn asked(&self) -> u32 {
        self.seen.asked.get().iter().sum()
    }

    /// Connections that the backend has.
    fn open(&self) -> usize {
        self.seen.open()
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        let ends = [&self.clients, &self.backend];
        let rts = ends.into_iter().chain(&self.proxy.rts);
        faces::run(&self.world, rts, LIMITS, done);
    }

    /// Until all clients have ended, and a drain after them.
    fn run_to_end(&self) {
        self.run(&|| self.clients_left.get() == 0);
        assert_eq!(self.waiting(), 0);
        self.proxy.drain();
        self.run(&|| self.proxy.has_ended());
        self.run(&|| self.open() == 0);
    }
}

struct Client {
    conn: Conn,
    kind: &'static str,
    next_id: Rc<Cell<u32>>,
    heard: Rc<RefCell<Heard>>,
}

impl Client {
    /// Sends a request; its number.
    fn say(&self) -> u32 {
        let id = self.next_id.get() + 1;
        self.next_id.set(id);
        let (method, content) = match self.kind {
            "post" => ("POST", "Content-Length: 4\r\n\r\nbody"),
            "head" | "head-with-content" => ("HEAD", "\r\n"),
            _ => ("GET", "\r\n"),
        };
        let kind = self.kind;
        let text = format!("{method} /{id}/{kind} HTTP/1.1\r\nHost: a\r\n{content}");
        self.conn.write(text.as_bytes()).unwrap();
        id
    }

    /// Asks, begins to read after a pause, and expects the answer to just this.
    async fn exchange(&self, pause: Duration) {
        let begun = self.conn.rt().now();
        let id = self.say();
        self.conn.rt().sleep(pause).await;
        let mut inbox = Inbox::new(&self.conn);
        let mut head = inbox.until(b"\r\n\r\n").await.unwrap();
        if head.starts_with("HTTP/1.1 103 ") {
            head = inbox.until(b"\r\n\r\n").await.unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains(&format!("X-Id: {id}\r\n")), "{id}: {head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let content = match length {
            _ if self.kind.starts_with("head") => String::new(),
            Some(length) => inbox.exactly(length.parse().unwrap()).await,
            None => inbox.until(b"0\r\n\r\n").await.unwrap(),
        };
        if !self.kind.starts_with("head") {
            assert!(content.contains(&format!("<{id}>")), "{id}: {content}");
        }
        assert!(inbox.bytes.is_empty(), "more than one answer");
        self.note(begun);
    }

    fn note(&self, begun: Instant) {
        let took = self.conn.rt().now() - begun;
        let mut heard = self.heard.borrow_mut();
        heard.took.entry(self.kind).or_default().push(took);
    }
}

/// Answers each request as its target says.
async fn answer(conn: &Conn, (endpoint, place): (usize, usize), seen: &Seen) {
    let rt = conn.rt();
    let mut inbox = Inbox::new(conn);
    while let Some(request) = inbox.until(b"\r\n\r\n").await {
        seen.count((endpoint, place));
        if endpoint == FAR {
            rt.sleep(FAR_AWAY).await;
        }
        let target = request.split(' ').nth(1).unwrap().to_owned();
        let (id, kind) = target[1..].split_once('/').unwrap();
        match kind {
            "post" => drop(inbox.exactly(4).await),
            "slow" => rt.sleep(SLOW).await,
            "shaken" => rt.sleep_until(after_standing_still(rt.now())).await,
            "silent" => return rt.sleep(2 * RESPONSE_TIMEOUT).await,
            "vanish" => return,
            "head-with-content" | "too-long" | "half" | "busy-chunked" => rt.sleep(BUSY).await,
            _ => (),
        }
        let uses_max = match kind {
            "fickle" => 150 + u32::try_from(place * 61 % 137).unwrap(),
            kind if kind.starts_with("worn") => USES_MAX,
            _ => u32::MAX,
        };
        let is_worn = seen.uses.borrow()[place] == uses_max;
        let says_so = is_worn && kind != "worn-chunked";
        let (mut pieces, mut is_last) = pieces(if says_so { "close" } else { kind }, id);
        is_last |= is_worn;
        if kind == "half" && inbox.has_more().await {
            pieces.pop();
            is_last = true;
        }
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                seen.paused.set((kind == "paused").then_some(endpoint));
                rt.sleep(pause_in(kind)).await;
                seen.paused.set(None);
            }
            if conn.write(piece.as_bytes()).is_err() {
                return;
            }
        }
        if conn.flush().await.is_err() || is_last {
            return; // What was not read resets the connection.
        }
        let patience = (kind == "brief").then(|| rt.now() + BRIEF);
        conn.set_deadline(patience);
    }
}

/// When a backend goes on that stands still for a while, once in so long.
fn after_standing_still(now: Instant) -> Instant {
    let pauses = (now - Instant::START).as_micros() / PERIOD.as_micros();
    let pauses = u32::try_from(pauses).unwrap();
    (Instant::START + PERIOD * pauses + STILL).max(now)
}

/// What a request of a kind is answered with, in pieces, and whether nothing follows.
fn pieces(kind: &str, id: &str) -> (Vec<String>, bool) {
    let content = format!("<{id}>");
    let length = content.len();
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\n{fields}\r\n");
    let plain = head(&format!("Content-Length: {length}\r\n")) + &content;
    let chunked =
        head("Transfer-Encoding: chunked\r\n") + &format!("{length:x}\r\n{content}\r\n0\r\n\r\n");
    let cut = |text: &str, places: &[usize]| {
        let ends = places.iter().copied().chain([text.len()]);
        let begins = [0].into_iter().chain(places.iter().copied());
        let pieces = begins.zip(ends).map(|(from, to)| text[from..to].to_owned());
        pieces.collect()
    };
    match kind {
        "garbage" => (vec![String::from("nonsense\r\n\r\n")], false),
        "part" => (vec![plain[..20].to_owned()], true),
        "close" => {
            let fields = format!("Content-Length: {length}\r\nConnection: close\r\n");
            (vec![head(&fields) + &content], true)
        }
        "until-close" => (vec![head("") + &content], true),
        "long" => {
            let padded = content + &"x".repeat(200_000);
            let fields = format!("Content-Length: {}\r\n", padded.len());
            (vec![head(&fields) + &padded], false)
        }
        "chunked" | "busy-chunked" | "worn-chunked" => (vec![chunked], false),
        "paused" => (cut(&chunked, &[chunked.len() - 5]), false),
        "interim" => {
            let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
            (vec![format!("{interim}{plain}")], false)
        }
        "head-with-content" | "too-long" => (vec![with_too_much(kind, id, plain)], false),
        "head" => (vec![head("Content-Length: 1000\r\n")], false),
        // In more pieces than a lane reads itself; all but the last are of the head.
        "half" => (cut(&plain, &[10, 14, 20]), false),
        // One piece ends within the head.
        "torn" => (cut(&plain, &[20, plain.len() - 2]), false),
        "unasked" => (vec![plain.clone(), plain], false),
        _ => (vec![plain], false),
    }
}

fn pause_in(kind: &str) -> Duration {
    match kind {
        "paused" => SLOW,
        "unasked" => Duration::from_millis(100),
        _ => Duration::from_millis(2),
    }
}

/// An answer, and behind it what does not belong there.
fn with_too_much(kind: &str, id: &str, plain: String) -> String {
    if kind == "too-long" {
        return plain + "more than it said\r\n\r\n";
    }
    let stored = "HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 3\r\n\r\n<0>";
    let length = stored.len();
    format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nContent-Length: {length}\r\n\r\n{stored}")
}

struct Inbox<'a> {
    conn: &'a Conn,
    bytes: Vec<u8>,
}

impl<'a> Inbox<'a> {
    fn new(conn: &'a Conn) -> Self {
        Self {
            conn,
            bytes: Vec::new(),
        }
    }

    async fn more(&mut self) -> Option<()> {
        match self.conn.recv().await {
            Ok(Rx::Data(lent)) => {
                self.bytes.extend_from_slice(&lent);
                Some(())
            }
            Ok(Rx::Eof) | Err(_) => None,
        }
    }

    /// Whether anything has come by now.
    async fn has_more(&mut self) -> bool {
        let now = self.conn.rt().now();
        self.conn.set_deadline(Some(now + Duration::from_millis(1)));
        let has_come = !self.bytes.is_empty() || self.more().await.is_some();
        self.conn.set_deadline(None);
        has_come
    }

    /// What comes up to a text, which is part of it; `None` when it ends before.
    async fn until(&mut self, text: &[u8]) -> Option<String> {
        loop {
            let mut windows = self.bytes.windows(text.len());
            if let Some(place) = windows.position(|window| window == text) {
                return Some(self.take(place + text.len()));
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> String {
        while self.bytes.len() < length {
            self.more().await.unwrap();
        }
        self.take(length)
    }

    fn take(&mut self, length: usize) -> String {
        let rest = self.bytes.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.bytes, rest)).unwrap()
    }
}

const PROXY: SocketAddr = {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 2);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, 80))
};
const NEAR: usize = 0;
/// The endpoint that takes longer for each answer.
const FAR: usize = 1;
const FAR_AWAY: Duration = Duration::from_millis(20);
const BOTH: &str = "endpoints = [\"10.0.1.1:8000\", \"10.0.1.1:8001\"]";
const STALL: Duration = Duration::from_millis(50);
/// Long enough for others to be sent behind, and too short to be late.
const BUSY: Duration = Duration::from_millis(10);
/// Shorter than a lane idles, and than a lane is kept from an endpoint.
const BRIEF: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(500);
/// Requests after which a connection is worn.
const USES_MAX: u32 = 400;
/// Longer than an answer may take that is not late, and shorter than a stall; most of the time passes so.
const STILL: Duration = Duration::from_millis(20);
const PERIOD: Duration = Duration::from_millis(24);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// More than it takes to connect to the backend and to get an answer from it, there and back.
const NETWORK: Duration = Duration::from_millis(10);
const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(3600),
};
