//! Clients of a process that was replaced leave over the whole spread, and not in one turn; whoever asks meanwhile is answered.

use super::{LISTENER, PATIENCE, Play, Setting, ask, ask_for, runtime};
use hp_core::rt::net::Rx;
use hp_core::rt::sim::Face;
use hp_core::rt::{Instant, Rt};
use hp_proxy::shared::Message;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn busy_clients_are_told_to_go_over_the_whole_spread() {
    for setting in settings(SPREAD) {
        let left = leave(setting, Manner::Asks);
        // Whoever was to leave at the end of a tenth may have asked in the next one.
        check_tenths(&left, Duration::ZERO, by_the_rule(setting) + 1);
    }
}

#[test]
fn idle_connections_are_closed_over_the_whole_spread() {
    for setting in settings(SPREAD) {
        let left = leave(setting, Manner::Idles);
        check_tenths(&left, IDLE_KEPT, by_the_rule(setting));
    }
}

#[test]
fn without_a_spread_all_leave_at_once() {
    for setting in settings(Duration::ZERO) {
        let told = leave(setting, Manner::Asks);
        assert!(told.iter().all(|after| *after < SETTLES), "{told:?}");
        let closed = leave(setting, Manner::Idles);
        let is_in_time = |after: &Duration| (IDLE_KEPT..IDLE_KEPT + SETTLES).contains(after);
        assert!(closed.iter().all(is_in_time), "{closed:?}");
    }
}

/// Requests go on as ever before the spread is over, and nothing is dialled for them.
#[test]
fn connections_to_backends_are_kept_while_clients_are() {
    for setting in settings(SPREAD) {
        let dialled = Cell::new([0; 2]);
        leave_beside(setting, Manner::Asks, &|at, connects| {
            let mut seen = dialled.get();
            seen[at] = connects;
            dialled.set(seen);
        });
        let [before, after] = dialled.get();
        assert!(before >= CLIENTS, "they ask at the same time");
        assert_eq!(after, before);
    }
}

/// Its answer began before its moment and ends when all that idles is closed: it was told that its connection lives on, and asks at once.
#[test]
fn who_was_told_nothing_asks_once_more_however_long_its_answer_takes() {
    asks_once_more(SPREAD + IDLE_KEPT * 2, PAUSE);
}

/// The same where its answer ends when less is left than idle connections are kept for: it idles while the others are closed, and was closed with them.
#[test]
fn who_was_told_nothing_has_its_whole_second_where_the_others_are_closed_in_it() {
    // Of workers with one connection; its moment is in the middle.
    let closed = [SPREAD / 2 + IDLE_KEPT, SPREAD + IDLE_KEPT];
    for closed in closed {
        asks_once_more(closed - IDLE_KEPT / 2, IDLE_KEPT * 3 / 4);
    }
}

/// A client asks when the drain has not begun, gets an answer that takes so long, and asks again after a pause.
fn asks_once_more(takes: Duration, pause: Duration) {
    for setting in settings(SPREAD) {
        let play = Play::new(u64::from(setting.workers));
        let mut process = play.start_as(None, setting);
        let rt = runtime(&play.client, Face::Readiness);
        play.clients_left.set(1);
        let (asking, proxy) = (rt.clone(), SocketAddr::from((play.proxy.addr(), 80)));
        let (lost, left) = (Rc::clone(&play.lost), Rc::clone(&play.clients_left));
        let answered = Rc::clone(&play.answered);
        rt.spawn(async move {
            match ask_long_and_once_more(&asking, proxy, (takes, pause)).await {
                Ok(()) => answered.set(2),
                Err(why) => lost.borrow_mut().push(why),
            }
            left.set(0);
        });
        play.rts.borrow_mut().push(rt);
        play.wait(&mut || process.rows.sum(|row| &row.requests) == 1);
        process.rows.readiness().keep_idle(IDLE_KEPT);
        process.tell_all(|| Message::HandOver(vec![LISTENER]));
        process.sockets.clear();
        play.wait(&mut || play.clients_left.get() == 0 && process.workers_left.get() == 0);
        let lost = play.judge(&[process]);
        assert!(lost.is_empty(), "{takes:?}, {pause:?}: {lost:?}");
    }
}

async fn ask_long_and_once_more(
    rt: &Rt,
    proxy: SocketAddr,
    (takes, pause): (Duration, Duration),
) -> Result<(), String> {
    let conn = rt.connect(proxy, rt.now() + PATIENCE).await;
    let conn = conn.map_err(|error| format!("connect: {error}"))?;
    let long = format!("/long/{}", takes.as_millis());
    for (path, is_last) in [(long.as_str(), false), ("/", true)] {
        let answer = ask_for(&conn, path, "").await;
        let answer = answer.map_err(|error| format!("{path}: {error}"))?;
        if answer.contains("Connection: close") != is_last {
            return Err(format!("{path}: {answer}"));
        }
        rt.sleep(pause).await;
    }
    Ok(())
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// One request after the other, until it is told that the answer is the last one.
    Asks,
    /// Nothing after its first request.
    Idles,
}

impl Manner {
    /// How long clients are there when the drain begins: all have asked, and who idles is parked.
    fn lead(self) -> Duration {
        match self {
            Self::Asks => PAUSE * 10,
            Self::Idles => IDLE_KEPT * 3,
        }
    }
}

fn settings(close_spread: Duration) -> impl Iterator<Item = Setting> {
    let faces = [Face::Readiness, Face::Completion];
    faces.into_iter().flat_map(move |face| {
        (1..=3).map(move |workers| Setting {
            workers,
            face,
            close_spread,
        })
    })
}

/// How many more or fewer than a tenth of 100 connections leave in a tenth of the spread: one, where they are the first hundred
/// numbers. Workers have not equally many, and so leave numbers out.
fn by_the_rule(setting: Setting) -> u64 {
    if setting.workers == 1 { 1 } else { 3 }
}

/// Each tenth of the spread has a tenth of the clients, with so many more or fewer.
fn check_tenths(left: &[Duration], since: Duration, off: u64) {
    let mut tenths = [0_u64; 10];
    for after in left {
        let within = after
            .checked_sub(since)
            .expect("nobody has to leave sooner");
        assert!(within < SPREAD + SETTLES, "{after:?}");
        let tenth = within.as_nanos() * 10 / SPREAD.as_nanos();
        tenths[usize::try_from(tenth).expect("below 11").min(9)] += 1;
    }
    let allowed = CLIENTS / 10 - off..=CLIENTS / 10 + off;
    assert!(
        tenths.iter().all(|count| allowed.contains(count)),
        "{tenths:?}"
    );
}

/// When each client has left, counted from the begin of the drain.
fn leave(setting: Setting, manner: Manner) -> Vec<Duration> {
    leave_beside(setting, manner, &|_at, _connects| ())
}

/// The same; `note` is told of connections to backends that were dialled: when the drain begins (0), and at the end (1).
fn leave_beside(setting: Setting, manner: Manner, note: &dyn Fn(usize, u64)) -> Vec<Duration> {
    let play = Play::new(u64::from(setting.workers));
    let mut process = play.start_as(None, setting);
    let rt = runtime(&play.client, Face::Readiness);
    let left: Rc<RefCell<Vec<Instant>>> = Rc::default();
    play.clients_left.set(CLIENTS);
    for _ in 0..CLIENTS {
        let client = Kept {
            rt: rt.clone(),
            proxy: SocketAddr::from((play.proxy.addr(), 80)),
            manner,
            answered: Rc::clone(&play.answered),
        };
        let (left, lost) = (Rc::clone(&left), Rc::clone(&play.lost));
        let clients_left = Rc::clone(&play.clients_left);
        rt.spawn(async move {
            match client.live().await {
                Ok(at) => left.borrow_mut().push(at),
                Err(why) => lost.borrow_mut().push(why),
            }
            clients_left.set(clients_left.get() - 1);
        });
    }
    let (clock, is_time) = (rt.clone(), Rc::new(Cell::new(false)));
    let rings = Rc::clone(&is_time);
    rt.spawn(async move {
        clock.sleep(manner.lead()).await;
        rings.set(true);
    });
    play.rts.borrow_mut().push(rt);
    play.wait(&mut || is_time.get());
    assert_eq!(process.rows.sum(|row| &row.conns_open), CLIENTS);
    let connects = |process: &super::Process| process.rows.sum(|row| &row.upstream_connects);
    note(0, connects(&process));
    let begun = play.world.now();
    process.rows.readiness().keep_idle(IDLE_KEPT);
    process.tell_all(|| Message::HandOver(vec![LISTENER]));
    process.sockets.clear();
    play.wait(&mut || play.clients_left.get() == 0 && process.workers_left.get() == 0);
    note(1, connects(&process));
    let lost = play.judge(&[process]);
    assert!(lost.is_empty(), "{lost:?}");
    let left = left.borrow();
    left.iter().map(|at| *at - begun).collect()
}

/// A client that keeps its connection as long as it may.
struct Kept {
    rt: Rt,
    proxy: SocketAddr,
    manner: Manner,
    answered: Rc<Cell<u64>>,
}

impl Kept {
    /// When it was told to go, or its connection was closed.
    async fn live(self) -> Result<Instant, String> {
        let conn = self.rt.connect(self.proxy, self.rt.now() + IDLE_KEPT).await;
        let conn = conn.map_err(|error| format!("connect: {error}"))?;
        loop {
            let answer = ask(&conn, true).await?;
            if !answer.starts_with("HTTP/1.1 200 ") {
                return Err(answer);
            }
            self.answered.set(self.answered.get() + 1);
            if answer.contains("Connection: close") {
                return Ok(self.rt.now());
            }
            if self.manner == Manner::Idles {
                break;
            }
            self.rt.sleep(PAUSE).await;
        }
        match conn.recv().await {
            Ok(Rx::Eof) => Ok(self.rt.now()),
            Ok(Rx::Data(_)) => Err(String::from("something came unasked")),
            Err(error) => Err(error.to_string()),
        }
    }
}

const CLIENTS: u64 = 100;
const SPREAD: Duration = Duration::from_secs(2);
/// How long an idle connection is kept where clients have somewhere else to go.
const IDLE_KEPT: Duration = Duration::from_secs(1);
/// Between a client's requests: little beside a tenth of the spread.
const PAUSE: Duration = Duration::from_millis(20);
/// A pause, a request and its answer, and what a worker's clock and timers are late.
const SETTLES: Duration = Duration::from_millis(60);
