//! An uneven load on a small limit: what one worker has too much of, the other one uses within a bound.

use crate::{BOUND, Lab, ONE, OTHER, try_hear};
use hp_core::rt::net::Conn;
use hp_core::rt::sim::{Chance, Face, Fault, Frequency, Profile};
use hp_core::rt::{Instant, Rt};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What became of each request, by its number.
#[derive(Default)]
pub(crate) struct Log(RefCell<Vec<Request>>);

#[derive(Clone, Copy)]
struct Request {
    sent: Instant,
    /// At the backend.
    begun: Instant,
    ended: Instant,
}

impl Log {
    fn send(&self, now: Instant) -> usize {
        let request = Request {
            sent: now,
            begun: Instant::NEVER,
            ended: Instant::NEVER,
        };
        self.0.borrow_mut().push(request);
        self.0.borrow().len() - 1
    }

    /// Works on a request whose target says which it is and for how long.
    pub(crate) async fn work(&self, rt: &Rt, request: &str) -> String {
        let target = request.split(' ').nth(1).unwrap();
        let mut parts = target.trim_start_matches("/task/").split('/');
        let mut part = || parts.next().unwrap().parse::<usize>().unwrap();
        let (number, millis) = (part(), part());
        self.0.borrow_mut()[number].begun = rt.now();
        rt.sleep(Duration::from_millis(millis as u64)).await;
        self.0.borrow_mut()[number].ended = rt.now();
        format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\nContent-Length: 2\r\n\r\nok")
    }

    /// A request that waited while fewer connections than there may be had something to do, for longer than the bound.
    fn waited(&self, conns_max: usize) -> Option<usize> {
        let requests = self.0.borrow();
        let mut changes: Vec<(Instant, bool)> = requests
            .iter()
            .flat_map(|request| [(request.begun, true), (request.ended, false)])
            .collect();
        changes.sort_unstable();
        let mut busy = 0;
        let mut free_since = Instant::START;
        for (at, begins) in changes {
            if begins {
                let waited = |request: &Request| {
                    let from = request.sent.max(free_since);
                    request.begun.min(at) > from + BOUND
                };
                if let Some(late) = requests.iter().position(waited) {
                    return Some(late);
                }
                busy += 1;
            } else {
                if busy == conns_max {
                    free_since = at;
                }
                busy -= 1;
            }
        }
        assert_eq!(busy, 0);
        None
    }
}

async fn live(conn: Conn, log: Rc<Log>, mut chance: Chance) {
    let rt = conn.rt().clone();
    for _ in 0..REQUESTS {
        rt.sleep(Duration::from_millis(chance.below(60))).await;
        let number = log.send(rt.now());
        let millis = 5 + chance.below(40);
        let request = format!("GET /task/{number}/{millis} HTTP/1.1\r\nHost: a\r\n\r\n");
        conn.write(request.as_bytes()).unwrap();
        let heard = try_hear(&conn, b"\r\n\r\nok").await.unwrap();
        // Its own answer, and whole.
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
        assert!(
            heard.contains(&format!("X-Number: {number}\r\n")),
            "{heard}"
        );
    }
}

/// Clients of both workers, more of one than of the other, have come to their end.
fn played(face: Face, seed: u64, upstream: &str) -> Lab {
    println!("seed {seed}");
    let profile = Profile::calm()
        .with(Fault::LateCancel, Frequency::Storm)
        .with(Fault::ReorderedCompletions, Frequency::Storm)
        .with(Fault::SpuriousReadiness, Frequency::Sometimes)
        .with(Fault::EndedMultishot, Frequency::Sometimes);
    let lab = Lab::with(face, (seed, &profile), upstream);
    let mut chance = Chance::new(seed);
    let skew = chance.below(9);
    for _ in 0..CLIENTS {
        let port = if chance.below(8) < skew { ONE } else { OTHER };
        let (rt, left) = (lab.clients.clone(), Rc::clone(&lab.clients_left));
        let (log, chance) = (Rc::clone(&lab.log), chance.fork());
        left.set(left.get() + 1);
        lab.clients.spawn(async move {
            let conn = rt.connect(port, Instant::NEVER).await.unwrap();
            live(conn, log, chance).await;
            left.set(left.get() - 1);
        });
    }
    lab.run(&|| lab.clients_left.get() == 0);
    lab
}

pub(crate) fn no_request_waits_while_a_connection_idles_for_long(face: Face) {
    let mut borrowed = 0;
    for seed in 0..20 {
        let lab = played(face, seed, "max_conns = 3");
        assert_eq!(lab.log.waited(3), None);
        lab.pause(Duration::from_secs(1));
        assert_eq!(lab.shares().iter().sum::<u64>(), 3);
        assert!(lab.open.get() <= 3);
        borrowed += lab.workers.sum(|row| &row.upstream_borrowed);
        lab.run_to_end();
    }
    assert!(borrowed > 20, "{borrowed}");
}

/// An alarm that never rang is none.
pub(crate) fn without_borrowing_some_do(face: Face) {
    let waits = |seed| {
        let lab = played(face, seed, "max_conns = 3\nborrow = \"never\"");
        lab.log.waited(3).is_some()
    };
    assert!((0..20).any(waits));
}

const CLIENTS: u32 = 8;
const REQUESTS: u32 = 12;
