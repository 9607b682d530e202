//! Dials over several ways in a simulated world, whose clock tells how long each took.

use crate::counters::Rows;
use crate::upstream::balance::Balancing;
use crate::upstream::{AcquireError, Aim, Identity, Lease, Settings, Upstream};
use hp_core::rt::net::{Address, Socket};
use hp_core::rt::sim::{Face, Limits, Profile, World};
use hp_core::rt::{Rt, RtOptions};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

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
    Upstream::own(
        rt,
        (&Balancing::even(1), &identity(ways), None),
        (Settings::OF_TESTS, 0),
        (Rows::new(1, 0), 0),
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
