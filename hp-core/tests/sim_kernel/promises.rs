//! What a connection promises on every engine, with a program at both ends of it. The same promises are proven over real
//! sockets by the conformance suite; here time costs nothing.

use crate::scene::{Scene, data, everything, exactly};
use hp_core::rt::net::{Conn, File, FilePart, Rx, Unparked};
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::{Chance, Face, Fault, Frequency, Profile};
use hp_core::rt::{Instant, Rt, RtOptions};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub(crate) fn a_receive_ends_at_its_deadline(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| assert!(matches!(conn.recv().await, Ok(Rx::Eof))),
        async |conn| {
            let rt = conn.rt().clone();
            let deadline = rt.now() + HOUR;
            conn.set_deadline(Some(deadline));
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(rt.now() >= deadline && rt.now() < deadline + SECOND);
        },
    );
}

pub(crate) fn a_flush_ends_at_its_deadline(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| conn.rt().sleep(HOUR * 2).await,
        async |conn| {
            conn.set_deadline(Some(conn.rt().now() + HOUR));
            conn.write(&vec![0; 1 << 20]).unwrap();
            let error = conn.flush().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        },
    );
}

pub(crate) fn a_part_of_a_file_arrives_whole_however_the_socket_takes_it(face: Face) {
    for seed in 1..20 {
        let profile = Profile::calm().with(Fault::ShortSend, Frequency::Storm);
        let scene = Scene::new(seed, &profile, face);
        scene.server.set_buffer_bytes(1000);
        let content: Vec<u8> = (0..=255).cycle().take(50_000).collect();
        let file = Rc::new(File::simulated(content.clone()));
        scene.play(
            async move |conn| {
                let part = FilePart {
                    file: Rc::clone(&file),
                    offset: 100,
                    left: 40_000,
                };
                conn.write_file(b"head", part).unwrap();
                conn.write(b"tail").unwrap();
                conn.finish().await.unwrap();
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            },
            async move |conn| {
                let bytes = everything(&conn).await.unwrap();
                let sent = [b"head", &content[100..40_100], b"tail"].concat();
                assert!(bytes == sent, "{} bytes came", bytes.len());
            },
        );
    }
}

pub(crate) fn discarded_bytes_are_counted_and_what_follows_them_is_received(face: Face) {
    let faults = [
        Fault::EndedMultishot,
        Fault::FullCompletions,
        Fault::NoBuffer,
        Fault::ReorderedCompletions,
        Fault::ShortSend,
        Fault::SpuriousReadiness,
    ];
    for seed in 1..40 {
        let storm = |profile: Profile, fault| profile.with(fault, Frequency::Storm);
        let profile = faults.into_iter().fold(Profile::calm(), storm);
        let scene = Scene::new(seed, &profile, face);
        scene.server.set_buffer_bytes(5000);
        let place_of = |place: usize| u8::try_from(place % 251).unwrap();
        scene.play(
            async move |conn| {
                for from in (0..50_000).step_by(10_000) {
                    let bytes: Vec<u8> = (from..from + 10_000).map(place_of).collect();
                    conn.write(&bytes).unwrap();
                    conn.flush().await.unwrap();
                }
                conn.finish().await.unwrap();
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            },
            async move |conn| {
                let mut place = 0;
                while place < 50_000 {
                    let left = (50_000 - place).min(3_000 + place / 7);
                    let count = conn.discard(left).await.unwrap();
                    assert!(count > 0 && count <= left, "{count} of {left}");
                    place += count;
                    if place < 50_000 {
                        assert_eq!(exactly(&conn, 1).await, [place_of(place)]);
                        place += 1;
                    }
                }
                assert_eq!(conn.discard(1).await.unwrap(), 0);
            },
        );
    }
}

/// The receiver does not look before its deadline has passed; the bytes were there in time.
pub(crate) fn what_came_before_a_deadline_is_received_after_it(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            conn.write(b"in time").unwrap();
            conn.flush().await.unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        },
        async |conn| {
            let rt = conn.rt().clone();
            conn.set_deadline(Some(rt.now() + SECOND));
            rt.sleep(SECOND * 2).await;
            assert_eq!(&*data(&conn).await, b"in time");
        },
    );
}

pub(crate) fn a_connection_attempt_ends_at_its_deadline(face: Face) {
    let scene = Scene::calm(1, face);
    scene.world.partition(&scene.client, &scene.server);
    let addr = scene.server_addr;
    scene.serve(async |conn| drop(conn));
    scene.alone(async move |rt| {
        let deadline = rt.now() + SECOND * 5;
        let error = rt.connect(addr, deadline).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(rt.now() >= deadline && rt.now() < deadline + SECOND);
    });
}

pub(crate) fn a_connection_attempt_given_up_leaves_nothing(face: Face) {
    let scene = Scene::calm(1, face);
    let addr = scene.server_addr;
    scene.serve(async |conn| drop(conn.recv().await));
    let client = scene.client.clone();
    scene.alone(async move |rt| {
        for micros in 0..200 {
            let moment = rt.sleep(Duration::from_micros(micros));
            match race(rt.connect(addr, Instant::NEVER), moment).await {
                First::One(connected) => drop(connected.unwrap()),
                First::Other(()) => (),
            }
        }
        rt.sleep(SECOND).await;
        assert_eq!(rt.holdings().conns, 0);
        assert_eq!(client.descriptors(), 0);
    });
}

pub(crate) fn a_parked_connection_returns_with_news_and_its_tag(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            conn.rt().sleep(HOUR).await;
            conn.write(b"news").unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        },
        async |conn| {
            let rt = conn.rt().clone();
            let key = conn.park(42, Instant::NEVER);
            let (conn, tag, why) = rt.next_unparked().await;
            assert_eq!((tag, why), (42, Unparked::News));
            assert!(conn.was_parked_as(key));
            assert_eq!(&*data(&conn).await, b"news");
        },
    );
}

/// It came back as if it had news, and whoever kept it for later use had to let it go.
pub(crate) fn a_parked_connection_stays_where_readiness_brings_no_news(face: Face) {
    for seed in 0..16 {
        let profile = Profile::calm().with(Fault::SpuriousReadiness, Frequency::Storm);
        let scene = Scene::new(seed, &profile, face);
        scene.play(
            async |conn| {
                for _ in 0..100 {
                    conn.rt().sleep(SECOND).await; // Each turn may report the other end as ready.
                }
                conn.write(b"news").unwrap();
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            },
            async |conn| {
                let rt = conn.rt().clone();
                let begun = rt.now();
                conn.park(42, Instant::NEVER);
                for _ in 0..100 {
                    rt.yield_now().await;
                }
                let (conn, _, why) = rt.next_unparked().await;
                assert_eq!(why, Unparked::News);
                assert!(rt.now() - begun >= SECOND * 100);
                assert!(conn.has_news());
                assert_eq!(&*data(&conn).await, b"news");
            },
        );
    }
}

pub(crate) fn a_parked_connection_returns_at_its_deadline(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| assert!(matches!(conn.recv().await, Ok(Rx::Eof))),
        async |conn| {
            let rt = conn.rt().clone();
            conn.park(42, rt.now() + HOUR);
            let (_conn, tag, why) = rt.next_unparked().await;
            assert_eq!((tag, why), (42, Unparked::Expired));
        },
    );
}

pub(crate) fn a_dropped_accept_loses_no_connection(face: Face) {
    let scene = Scene::calm(1, face);
    let server_rt = scene.server_rt();
    let socket = scene.server.listen(scene.server_addr, 64).unwrap();
    let listener = server_rt.listener(socket).unwrap();
    let accepted = Rc::new(Cell::new(0));
    let count = Rc::clone(&accepted);
    server_rt.spawn({
        let rt = server_rt.clone();
        async move {
            loop {
                let moment = rt.sleep(Duration::from_millis(1));
                if let First::One(conn) = race(listener.accept(), moment).await {
                    count.set(count.get() + 1);
                    drop(conn.unwrap());
                }
                rt.yield_now().await;
            }
        }
    });
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        for _ in 0..CONNS {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        }
    });
    assert_eq!(accepted.get(), CONNS);
}

pub(crate) fn what_a_paused_listener_does_not_take_waits_until_it_is_resumed(face: Face) {
    let scene = Scene::calm(1, face);
    let server_rt = scene.server_rt();
    let socket = scene.server.listen(scene.server_addr, 64).unwrap();
    let listener = server_rt.listener(socket).unwrap();
    let resumed_at = server_rt.now() + HOUR;
    server_rt.spawn({
        let rt = server_rt.clone();
        async move {
            listener.pause();
            rt.sleep_until(resumed_at).await;
            listener.resume();
            let conn = listener.accept().await.unwrap();
            conn.write(b"at last").unwrap();
            conn.flush().await.unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        }
    });
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        rt.sleep(SECOND).await;
        let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
        assert_eq!(exactly(&conn, 7).await, b"at last");
        assert!(rt.now() >= resumed_at);
    });
}

pub(crate) fn a_hundred_connections_share_few_buffers_and_a_tiny_ring(face: Face) {
    let scene = Scene::calm(1, face);
    let options = RtOptions {
        head_buffers: 1,
        bulk_buffers: 1,
        ring_entries: 8,
        ring_completions: 16,
        ..RtOptions::default()
    };
    let server_rt = scene.server_rt_with(&options);
    scene.serve_on(&server_rt, async |conn| {
        let bytes = everything(&conn).await.unwrap();
        conn.write(&bytes).unwrap();
        conn.finish().await.unwrap();
    });
    let rt = scene.client_rt();
    let ended = Rc::new(Cell::new(0));
    for name in 0..100_u8 {
        let (rt, ended, addr) = (rt.clone(), Rc::clone(&ended), scene.server_addr);
        rt.clone().spawn(async move {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            conn.write(&[name; 20_000]).unwrap();
            conn.finish().await.unwrap();
            assert_eq!(everything(&conn).await.unwrap(), [name; 20_000]);
            ended.set(ended.get() + 1);
        });
    }
    scene.run(|| ended.get() == 100 || rt.panics() > 0);
    assert_eq!(rt.panics(), 0);
    scene.end();
}

pub(crate) fn a_panic_resets_its_own_connection(face: Face) {
    let scene = Scene::calm(1, face);
    let server_rt = scene.serve(async |conn| {
        drop(data(&conn).await);
        panic!("planted: this task dies with its connection");
    });
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        let bystander = rt.connect(addr, Instant::NEVER).await.unwrap();
        let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
        conn.write(b"go").unwrap();
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        rt.sleep(SECOND).await;
        assert!(!bystander.has_news());
    });
    assert_eq!(server_rt.panics(), 1);
}

pub(crate) fn a_failure_is_noticed_behind_bytes_that_nobody_takes(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            say_and_wait(&conn, b"nobody takes this").await;
            conn.reset();
        },
        async |conn| {
            let error = conn.failure().await;
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(&*data(&conn).await, b"nobody takes this");
        },
    );
}

/// What a ring receives into large buffers it receives by calls: nothing that was armed would have told.
pub(crate) fn a_failure_is_noticed_behind_bytes_in_a_large_buffer_and_an_end_is_none(face: Face) {
    for leaves in [false, true] {
        let scene = Scene::calm(1, face);
        scene.play(
            async move |conn| {
                say_and_wait(&conn, &[7; LONG]).await;
                say_and_wait(&conn, b"nobody takes this").await;
                if leaves {
                    return conn.reset();
                }
                conn.finish().await.unwrap();
                assert_eq!(everything(&conn).await.unwrap(), b"answered");
            },
            async move |conn| {
                let mut heard = 0;
                while heard < LONG {
                    heard += data(&conn).await.len();
                }
                let noticed = race(conn.failure(), conn.rt().sleep(SECOND * 10)).await;
                assert_eq!(&*data(&conn).await, b"nobody takes this");
                if leaves {
                    let kind = io::ErrorKind::ConnectionReset;
                    assert!(matches!(noticed, First::One(error) if error.kind() == kind));
                    return;
                }
                assert!(matches!(noticed, First::Other(())));
                assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
                conn.write(b"answered").unwrap();
                conn.finish().await.unwrap();
            },
        );
    }
}

/// All of it was read, as much as the socket held, into buffers that others then wanted for. And a ring, which takes so much by itself and then no
/// more, did not see the failure.
pub(crate) fn a_failure_behind_many_bytes_is_found_without_taking_them_all(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async move |conn| {
            say_and_wait(&conn, &[7; LONG]).await;
            conn.reset();
        },
        async |conn| {
            assert_eq!(conn.failure().await.kind(), io::ErrorKind::ConnectionReset);
            let held = conn.rt().holdings().lent_bytes;
            assert!(held <= 32 << 10, "{held}");
        },
    );
}

pub(crate) fn an_accepted_connection_may_live_in_another_runtime(face: Face) {
    let scene = Scene::calm(1, face);
    let (one, other) = (scene.server_rt(), scene.server_rt());
    let socket = scene.server.listen(scene.server_addr, 64).unwrap();
    let listener = one.listener(socket).unwrap();
    one.spawn(async move {
        let accepted = listener.accept_raw().await.unwrap();
        let conn = other.adopt_accepted(accepted).unwrap();
        other.spawn(async move {
            assert_eq!(everything(&conn).await.unwrap(), b"moved");
            conn.write(b"and answered").unwrap();
            conn.finish().await.unwrap();
        });
    });
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
        conn.write(b"moved").unwrap();
        conn.finish().await.unwrap();
        assert_eq!(everything(&conn).await.unwrap(), b"and answered");
    });
}

/// Between two runtimes, at moments that a seed draws: in storms of whatever can go wrong with what is armed, and with resets.
pub(crate) fn a_connection_moves_again_and_again_and_loses_nothing(face: Face) {
    let storms = [
        Fault::LateCancel,
        Fault::EndedMultishot,
        Fault::NoBuffer,
        Fault::ReorderedCompletions,
        Fault::FullCompletions,
        Fault::SpuriousReadiness,
        Fault::LateSegment,
        Fault::ShortSegment,
        Fault::Reset,
    ];
    for (seed, fault) in (0..).zip(storms) {
        println!("seed {seed}, {}", fault.name());
        let profile = Profile::calm()
            .with(Fault::LateCancel, Frequency::Sometimes)
            .with(fault, Frequency::Storm);
        let scene = Scene::new(seed, &profile, face);
        let trip = Rc::new(Trip::new(Chance::new(seed)));
        let (one, other) = (scene.server_rt(), scene.server_rt());
        let socket = scene.server.listen(scene.server_addr, 64).unwrap();
        let listener = one.listener(socket).unwrap();
        let begun = Rc::clone(&trip);
        one.spawn(async move {
            let conn = listener.accept().await.unwrap();
            travel(conn, other, begun);
        });
        let addr = scene.server_addr;
        let told = Rc::clone(&trip);
        scene.alone(async move |rt| {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            for byte in 0..TRIP_BYTES {
                rt.sleep(told.pause()).await;
                if conn.write(&[byte]).is_err() {
                    break; // Reset.
                }
            }
            match conn.finish().await {
                Ok(()) => (),
                Err(_reset) => (),
            }
            while !told.is_over.get() {
                rt.sleep(SECOND).await;
            }
        });
        let sent: Vec<u8> = (0..TRIP_BYTES).collect();
        let heard = trip.heard.borrow();
        let is_cut = fault == Fault::Reset && sent.starts_with(&heard);
        assert!(is_cut || *heard == sent, "{heard:?}");
        assert!(is_cut || trip.moves.get() > 20, "{}", trip.moves.get());
    }
}

/// What became of a connection that moves.
struct Trip {
    chance: RefCell<Chance>,
    heard: RefCell<Vec<u8>>,
    moves: Cell<u32>,
    is_over: Cell<bool>,
}

impl Trip {
    fn new(chance: Chance) -> Self {
        Self {
            chance: RefCell::new(chance),
            heard: RefCell::default(),
            moves: Cell::new(0),
            is_over: Cell::new(false),
        }
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.chance.borrow_mut().below(4))
    }
}

/// Sends bytes, and a second later nothing else is on its way.
async fn say_and_wait(conn: &Conn, bytes: &[u8]) {
    conn.write(bytes).unwrap();
    conn.flush().await.unwrap();
    conn.rt().sleep(SECOND).await;
}

/// Receives for a moment, then has the other runtime go on; to the connection's end.
fn travel(mut conn: Conn, next: Rt, trip: Rc<Trip>) {
    let rt = conn.rt().clone();
    rt.clone().spawn(async move {
        loop {
            let until = rt.now() + trip.pause();
            match rt.timeout_at(until, conn.recv()).await {
                Ok(Ok(Rx::Data(lent))) => trip.heard.borrow_mut().extend_from_slice(&lent),
                Ok(Ok(Rx::Eof) | Err(_)) => return trip.is_over.set(true),
                Err(_time_to_go) => match conn.release_idle().await {
                    Ok(released) => {
                        trip.moves.set(trip.moves.get() + 1);
                        let conn = next.adopt_released(released).unwrap();
                        return travel(conn, rt, trip);
                    }
                    Err(stays) => conn = stays,
                },
            }
        }
    });
}

/// Enough for large buffers.
const LONG: usize = 60_000;
const TRIP_BYTES: u8 = 100;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const CONNS: u32 = 50;
