//! Dials over several ways in a simulated world, whose clock tells how long each took.

use crate::counters::Rows;
use crate::upstream::balance::Balancing;
use crate::upstream::window::PATIENCE_MIN;
use crate::upstream::{AcquireError, Aim, Identity, Lease, Settings, Upstream};
use hp_core::rt::net::{Address, Socket};
use hp_core::rt::sim::{Face, Limits, Profile, World};
use hp_core::rt::{Rt, RtOptions};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// How far others are from us.
const V6: &str = "2001:db8::1";
const V4: &str = "192.0.2.1";

/// What stands at an address.
#[derive(Clone, Copy, PartialEq)]
enum Stands {
    /// Nobody: what is sent there is lost.
    Nobody,
    /// A host on which nobody listens.
    Closed,
    Server,
}

/// Where a connection led, or why there is none; with the milliseconds that it took.
type Dialled = (Result<IpAddr, AcquireError>, u128);

/// Dials one after another, each on a fresh connection, over a second of its own.
fn check(v6: Stands, v4: Stands, dials: usize) -> Vec<Dialled> {
    let world = World::new(1, &Profile::calm());
    let us = world.host("192.0.2.9".parse::<IpAddr>().unwrap());
    let mut sockets: Vec<Socket> = Vec::new();
    for (ip, stands) in [(V6, v6), (V4, v4)] {
        if stands == Stands::Nobody {
            continue;
        }
        let host = world.host(ip.parse::<IpAddr>().unwrap());
        if stands == Stands::Server {
            let addr = SocketAddr::new(host.addr(), 80);
            sockets.push(host.listen(addr, 128).unwrap());
        }
    }
    let rt = us.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let upstream = upstream(&rt, &[V4, V6]);
    let seen: Rc<RefCell<Vec<Dialled>>> = Rc::default();
    let (told, of_task) = (Rc::clone(&seen), rt.clone());
    rt.spawn(async move {
        for _ in 0..dials {
            let begun = of_task.now();
            let acquired = upstream.acquire(Aim::default()).await;
            let took = (of_task.now() - begun).as_millis();
            let led = acquired.map(|lease: Lease| lease.conn().peer_addr().unwrap().ip());
            told.borrow_mut().push((led, took));
        }
    });
    let mut done = || seen.borrow().len() == dials;
    world.run_until(&mut done, Limits::default()).unwrap();
    drop(sockets);
    seen.borrow().clone()
}

/// An endpoint with these ways.
fn identity(ways: &[&str]) -> [Identity; 1] {
    let ways: Vec<SocketAddr> = ways
        .iter()
        .map(|ip| SocketAddr::new(ip.parse().unwrap(), 80))
        .collect();
    [Identity::new("web:80", Address::Tcp(ways[0])).with_others(&ways[1..])]
}

fn upstream(rt: &Rt, ways: &[&str]) -> Rc<Upstream> {
    upstream_counting(rt, ways, &Rows::new(1, 0))
}

/// One where any number may wait.
fn upstream_counting(rt: &Rt, ways: &[&str], rows: &Rows) -> Rc<Upstream> {
    let settings = Settings {
        queue_len_max: u32::MAX,
        ..Settings::OF_TESTS
    };
    Upstream::own(
        rt,
        (&Balancing::even(1), &identity(ways), None),
        (settings, 0),
        (rows.clone(), 0),
    )
}

fn ip(text: &str) -> Result<IpAddr, AcquireError> {
    Ok(text.parse().unwrap())
}

#[test]
fn ipv6_is_dialled_first_where_it_answers() {
    let dialled = check(Stands::Server, Stands::Server, 1);
    assert_eq!(dialled[0].0, ip(V6));
    assert!(dialled[0].1 < 250, "{dialled:?}");
}

#[test]
fn a_black_hole_costs_a_quarter_of_a_second_once() {
    let dialled = check(Stands::Nobody, Stands::Server, 3);
    assert!(dialled.iter().all(|(led, _)| *led == ip(V4)), "{dialled:?}");
    assert!((250..300).contains(&dialled[0].1), "{dialled:?}");
    assert!(
        dialled[1..].iter().all(|(_, took)| *took < 100),
        "{dialled:?}"
    );
}

#[test]
fn a_refusal_costs_nothing() {
    for (v6, v4, led) in [
        (Stands::Closed, Stands::Server, V4),
        (Stands::Server, Stands::Closed, V6),
    ] {
        let dialled = check(v6, v4, 2);
        assert!(dialled.iter().all(|(is, _)| *is == ip(led)), "{dialled:?}");
        assert!(dialled.iter().all(|(_, took)| *took < 100), "{dialled:?}");
    }
}

#[test]
fn all_ways_together_have_one_timeout() {
    let dialled = check(Stands::Nobody, Stands::Nobody, 1);
    assert_eq!(dialled[0].0, Err(AcquireError::ConnectTimeout));
    assert!((3000..3100).contains(&dialled[0].1), "{dialled:?}");
}

#[test]
fn where_all_refuse_nobody_waits() {
    let dialled = check(Stands::Closed, Stands::Closed, 1);
    assert_eq!(dialled[0].0, Err(AcquireError::Refused));
    assert!(dialled[0].1 < 100, "{dialled:?}");
}

#[test]
fn what_idles_goes_with_a_way_and_stays_when_one_comes() {
    let world = World::new(1, &Profile::calm());
    let us = world.host("192.0.2.9".parse::<IpAddr>().unwrap());
    let them = world.host(V4.parse::<IpAddr>().unwrap());
    let _listening = them.listen(SocketAddr::new(them.addr(), 80), 128).unwrap();
    let rt = us.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let upstream = upstream(&rt, &[V4, V6]);
    let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
    let told = Rc::clone(&seen);
    rt.spawn(async move {
        upstream.acquire(Aim::default()).await.unwrap().put_back();
        told.borrow_mut().push(upstream.open_conns());
        for ways in [&[V4, V6, "2001:db8::2"][..], &[V4, "2001:db8::2"][..]] {
            upstream.renew(
                &Balancing::even(1),
                &identity(ways),
                None,
                Settings::OF_TESTS,
            );
            told.borrow_mut().push(upstream.open_conns());
        }
    });
    let mut done = || seen.borrow().len() == 3;
    world.run_until(&mut done, Limits::default()).unwrap();
    assert_eq!(*seen.borrow(), [1, 1, 0]);
}

/// What came of requests that each hold a connection of their own for a while.
#[derive(Debug, Default)]
struct Outcome {
    failed: Vec<AcquireError>,
    waited_max: Duration,
    ended: u32,
}

impl Outcome {
    fn note(&mut self, waited: Duration, failed: Option<&AcquireError>) {
        self.waited_max = self.waited_max.max(waited);
        self.failed.extend(failed);
    }
}

/// A server that is well and takes whatever comes, and a proxy of which one SYN was lost. Requests come so long after that, and hold a
/// connection for a second.
fn after_a_lost_syn(coming: &[Duration]) -> Outcome {
    let world = World::new(1, &Profile::calm());
    let us = world.host("192.0.2.9".parse::<IpAddr>().unwrap());
    let them = world.host(V4.parse::<IpAddr>().unwrap());
    let server = them.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let socket = them.listen(SocketAddr::new(them.addr(), 80), 4096).unwrap();
    let listener = server.listener(socket).unwrap();
    server.spawn(async move {
        let mut accepted = Vec::new();
        while let Ok(conn) = listener.accept().await {
            accepted.push(conn);
        }
    });
    let rt = us.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let rows = Rows::new(1, 0);
    let upstream = upstream_counting(&rt, &[V4], &rows);
    let outcome: Rc<RefCell<Outcome>> = Rc::default();
    let hold = |after: Duration, lasting: Duration| {
        let (of_task, upstream, told) = (rt.clone(), Rc::clone(&upstream), Rc::clone(&outcome));
        rt.spawn(async move {
            of_task.sleep(after).await;
            let begun = of_task.now();
            let acquired = upstream.acquire(Aim::default()).await;
            let waited = of_task.now() - begun;
            told.borrow_mut().note(waited, acquired.as_ref().err());
            of_task.sleep(lasting).await; // With the lease, if there is one.
            told.borrow_mut().ended += 1;
        });
    };
    let run = |done: &mut dyn FnMut() -> bool| world.run_until(done, Limits::default()).unwrap();
    hold(Duration::ZERO, Duration::ZERO); // Now it is known how far the server is.
    run(&mut || outcome.borrow().ended == 1);
    world.partition(&us, &them);
    hold(Duration::ZERO, LASTING);
    run(&mut || rows.sum(|row| &row.upstream_redials) == 1);
    world.heal(&us, &them);
    coming.iter().for_each(|after| hold(*after, LASTING));
    run(&mut || outcome.borrow().ended as usize == coming.len() + 2);
    outcome.take()
}

const LASTING: Duration = Duration::from_secs(1);

/// A window of one doubled four times in a second, and then all others had waited for too long.
#[test]
fn a_lost_syn_fails_nobody_in_a_burst_of_long_exchanges() {
    let outcome = after_a_lost_syn(&[Duration::ZERO; 1000]);
    assert_eq!(outcome.failed, []);
    assert!(
        outcome.waited_max < Duration::from_millis(600),
        "{outcome:?}"
    );
}

/// A window in which an exchange ended each 50 ms did not double, for something had moved; those who came in greater numbers later waited until
/// their time was up.
#[test]
fn a_lost_syn_fails_nobody_who_comes_while_long_exchanges_end_one_by_one() {
    let ms = Duration::from_millis;
    let few = (0..100).map(|index| ms(50) * index);
    let many = (0..1000).map(|index| ms(5000) + ms(5) * index);
    let outcome = after_a_lost_syn(&few.chain(many).collect::<Vec<_>>());
    assert_eq!(outcome.failed, []);
    assert!(outcome.waited_max < ms(600), "{outcome:?}");
}

/// A server with a short backlog that takes so long for each connection, one after the other, and clients that each want the next one once
/// the last one has ended. Gives what came of it, and how often a dial was given up.
fn before_a_short_backlog(clients: u32, times: u32, takes: Duration) -> (Outcome, u64) {
    let world = World::new(1, &Profile::calm());
    let us = world.host("192.0.2.9".parse::<IpAddr>().unwrap());
    let them = world.host(V4.parse::<IpAddr>().unwrap());
    let server = them.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let socket = them.listen(SocketAddr::new(them.addr(), 80), 5).unwrap();
    let listener = server.listener(socket).unwrap();
    let of_server = server.clone();
    server.spawn(async move {
        while let Ok(conn) = listener.accept().await {
            of_server.sleep(takes).await;
            drop(conn);
        }
    });
    let rt = us.rt(Face::Readiness, &RtOptions::default()).unwrap();
    let rows = Rows::new(1, 0);
    let upstream = upstream_counting(&rt, &[V4], &rows);
    let outcome: Rc<RefCell<Outcome>> = Rc::default();
    for _ in 0..clients {
        let (of_task, upstream, told) = (rt.clone(), Rc::clone(&upstream), Rc::clone(&outcome));
        rt.spawn(async move {
            for _ in 0..times {
                let begun = of_task.now();
                let acquired = upstream.acquire(Aim::default()).await;
                if let Ok(lease) = &acquired {
                    drop(lease.conn().recv().await); // Its end.
                }
                let waited = of_task.now() - begun;
                told.borrow_mut().note(waited, acquired.as_ref().err());
            }
            told.borrow_mut().ended += 1;
        });
    }
    let mut done = || outcome.borrow().ended == clients;
    world.run_until(&mut done, Limits::default()).unwrap();
    (outcome.take(), rows.sum(|row| &row.upstream_redials))
}

/// A SYN that the kernel resends takes a second. Those who waited for long let themselves past the window again and again: that costs next to
/// nothing where a turn takes less than the while after which they do, and less than a dial for each connection where it takes longer.
#[test]
fn before_a_short_backlog_nobody_waits_for_much_longer_than_the_server_takes() {
    for (clients, takes, each_redials_max) in [(20, 3, 0.05), (20, 15, 0.05), (40, 20, 1.0)] {
        let takes = Duration::from_millis(takes);
        let (outcome, redials) = before_a_short_backlog(clients, EACH, takes);
        assert_eq!(outcome.failed, []);
        let turn = takes * clients;
        assert!(
            outcome.waited_max < turn * 5 / 4 + PATIENCE_MIN,
            "{outcome:?}"
        );
        let each_redials = redials as f64 / f64::from(clients * EACH);
        assert!(each_redials < each_redials_max, "{each_redials}");
    }
}

const EACH: u32 = 50;
