//! What a program may rely on in the simulated kernel: it answers as Linux does, its time is its own, and a seed repeats
//! it.
#![expect(
    clippy::unwrap_used,
    reason = "facts are functions of a test, not tests themselves"
)]

#[path = "sim_kernel/idling.rs"]
mod idling;
#[path = "sim_kernel/parting.rs"]
mod parting;
#[path = "sim_kernel/promises.rs"]
mod promises;
#[path = "sim_kernel/scene.rs"]
mod scene;

use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Chance, Face, Fault, Frequency, Limits, Link, Profile, World};
use hp_core::rt::worker::{Mesh, WorkerId};
use hp_core::rt::{Instant, RtOptions};
use scene::{Scene, Sockets, data, everything, exactly};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Makes a test of each fact, on one face of the kernel and one kind of sockets.
macro_rules! stamp {
    ($name:ident, $face:expr, $sockets:expr; $($fact:ident $(of $subject:ident)?),+ $(,)?) => {
        mod $name {
            use super::scene::Sockets;
            use super::Face;

            $(
                #[test]
                fn $fact() {
                    $sockets.play(|| super::$($subject::)?$fact($face));
                }
            )+
        }
    };
}

macro_rules! facts {
    ($($fact:ident $(of $subject:ident)?),+ $(,)?) => {
        stamp! { readiness, Face::Readiness, Sockets::Named; $($fact $(of $subject)?),+ }
        stamp! { completion, Face::Completion, Sockets::Named; $($fact $(of $subject)?),+ }
        stamp! { completion_of_local_sockets, Face::Completion, Sockets::Local; $($fact $(of $subject)?),+ }
    };
}

facts! {
    a_receive_ends_at_its_deadline of promises,
    a_flush_ends_at_its_deadline of promises,
    discarded_bytes_are_counted_and_what_follows_them_is_received of promises,
    what_came_before_a_deadline_is_received_after_it of promises,
    a_connection_attempt_ends_at_its_deadline of promises,
    a_connection_attempt_given_up_leaves_nothing of promises,
    a_parked_connection_returns_with_news_and_its_tag of promises,
    a_parked_connection_stays_where_readiness_brings_no_news of promises,
    a_parked_connection_returns_at_its_deadline of promises,
    a_dropped_accept_loses_no_connection of promises,
    what_a_paused_listener_does_not_take_waits_until_it_is_resumed of promises,
    a_hundred_connections_share_few_buffers_and_a_tiny_ring of promises,
    a_panic_resets_its_own_connection of promises,
    a_failure_is_noticed_behind_bytes_that_nobody_takes of promises,
    a_failure_is_noticed_behind_bytes_in_a_large_buffer_and_an_end_is_none of promises,
    a_failure_behind_many_bytes_is_found_without_taking_them_all of promises,
    an_accepted_connection_may_live_in_another_runtime of promises,
    a_connection_moves_again_and_again_and_loses_nothing of promises,
    a_part_of_a_file_arrives_whole_however_the_socket_takes_it of promises,
    what_idles_for_long_holds_one_poll_in_the_kernel of idling,
    news_and_deadlines_of_what_idles_reach_its_owner_at_any_time of idling,
    what_is_parked_for_a_moment_asks_nothing_of_the_kernel of idling,
    deadlines_of_what_idles_are_kept of idling,
    a_connection_has_one_timer_however_it_is_parked of idling,
    what_idled_can_be_taken_back_at_any_time of idling,
    the_end_of_what_idled_is_news of idling,
    a_connection_that_was_to_be_released_and_stayed_hears_of_its_end of parting,
    a_reset_is_no_end_in_order_whatever_comes_meanwhile of parting,
    an_echo_answers,
    both_ends_know_their_addresses,
    time_jumps_where_nobody_has_anything_to_do,
    a_seed_repeats_its_run_and_another_seed_is_another_run,
    another_seed_is_another_order_of_events,
    a_refused_connection_says_so,
    an_address_that_nobody_has_times_out,
    a_full_backlog_makes_the_client_try_again_after_a_second,
    what_came_before_a_reset_is_read_and_then_the_reset_is_told_once,
    a_reset_that_a_send_meets_first_is_no_end,
    closing_with_bytes_unread_is_a_reset,
    writing_to_a_side_that_was_closed_is_answered_with_a_reset,
    a_side_that_has_finished_still_receives,
    a_slow_reader_pushes_back,
    bytes_take_as_long_as_their_link_is_narrow,
    a_clogged_link_holds_back_until_its_time,
    a_partition_of_one_direction_loses_nothing,
    what_a_partition_held_overtakes_nothing,
    sockets_on_one_port_share_its_connections,
    messages_wake_another_runtime,
    descriptors_run_out_and_accepting_goes_on_when_one_is_closed,
    connections_that_nobody_accepted_are_reset_with_their_listener,
    a_world_where_nothing_will_happen_says_so_and_names_its_seed,
    a_task_that_never_rests_is_ended_by_the_limit_of_turns,
    a_task_that_always_sleeps_is_ended_by_the_limit_of_time,
    a_runtime_alone_in_its_world_may_block_and_speak_to_itself,
    faults_spare_whom_they_are_told_to_spare,
}

fn an_echo_answers(face: Face) {
    let scene = Scene::calm(1, face);
    let counts = scene.play(
        async |conn| {
            while let Ok(Rx::Data(lent)) = conn.recv().await {
                conn.queue(lent).unwrap();
                conn.flush().await.unwrap();
            }
        },
        async |conn| {
            conn.write(b"are you there?").unwrap();
            assert_eq!(exactly(&conn, 14).await, b"are you there?");
        },
    );
    assert_eq!((counts.connections, counts.bytes), (1, 28));
}

fn both_ends_know_their_addresses(face: Face) {
    let scene = Scene::calm(1, face);
    let server_addr = scene.server_addr;
    let client_ip = scene.client.addr();
    let sockets = Sockets::played();
    scene.play(
        async move |conn| {
            assert_eq!(conn.local_addr().unwrap(), server_addr);
            let peer = conn.peer_addr().map(|addr| addr.ip());
            assert_eq!(peer, sockets.names(client_ip));
            conn.write(b"x").unwrap();
        },
        async move |conn| {
            assert_eq!(conn.peer_addr(), sockets.names(server_addr));
            assert_eq!(conn.local_addr().unwrap().ip(), client_ip);
            assert_eq!(exactly(&conn, 1).await, b"x");
        },
    );
}

fn time_jumps_where_nobody_has_anything_to_do(face: Face) {
    let scene = Scene::calm(1, face);
    let rt = scene.client_rt();
    let woke = Rc::new(Cell::new(None));
    let (began, told) = (rt.now(), Rc::clone(&woke));
    let sleeper = rt.clone();
    rt.spawn(async move {
        sleeper.sleep(Duration::from_secs(24 * 3600)).await;
        told.set(Some(sleeper.now()));
    });
    let limits = Limits {
        turns: 100,
        time: Duration::MAX,
    };
    let result = scene.world.run_until(&mut || woke.get().is_some(), limits);
    assert_eq!(result, Ok(()));
    let slept = woke.get().unwrap() - began;
    assert!(slept >= Duration::from_secs(24 * 3600));
    assert!(slept < Duration::from_secs(24 * 3600 + 1));
    scene.end();
}

fn a_seed_repeats_its_run_and_another_seed_is_another_run(face: Face) {
    let hashes: Vec<u64> = (0..8).map(|seed| busy_world(seed, face).0).collect();
    let again: Vec<u64> = (0..8).map(|seed| busy_world(seed, face).0).collect();
    assert_eq!(hashes, again);
    for (place, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..place].contains(hash));
    }
}

fn another_seed_is_another_order_of_events(face: Face) {
    let orders: Vec<Vec<u32>> = (0..8).map(|seed| busy_world(seed, face).1).collect();
    assert!(orders.iter().any(|order| *order != orders[0]));
    for order in orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..BUSY_CLIENTS).collect::<Vec<u32>>());
    }
}

/// Some clients at once; the hash, and the order in which they were served.
fn busy_world(seed: u64, face: Face) -> (u64, Vec<u32>) {
    let scene = Scene::calm(seed, face);
    scene.serve(async |conn| {
        let bytes = everything(&conn).await.unwrap();
        conn.write(&bytes).unwrap();
        conn.finish().await.unwrap();
    });
    let rt = scene.client_rt();
    let order = Rc::new(RefCell::new(Vec::new()));
    for client in 0..BUSY_CLIENTS {
        let (rt, order) = (rt.clone(), Rc::clone(&order));
        let addr = scene.server_addr;
        rt.clone().spawn(async move {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            conn.write(&[7; 5000]).unwrap();
            conn.finish().await.unwrap();
            assert_eq!(everything(&conn).await.unwrap(), [7; 5000]);
            order.borrow_mut().push(client);
        });
    }
    scene.run(|| order.borrow().len() == BUSY_CLIENTS as usize);
    let hash = scene.world.hash();
    scene.end();
    (hash, order.take())
}

const BUSY_CLIENTS: u32 = 6;

fn a_refused_connection_says_so(face: Face) {
    let scene = Scene::calm(1, face);
    let mut addr = scene.server_addr;
    addr.set_port(1);
    scene.alone(async move |rt| {
        let error = rt.connect(addr, Instant::NEVER).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

fn an_address_that_nobody_has_times_out(face: Face) {
    let scene = Scene::calm(1, face);
    scene.alone(async |rt| {
        let nobody = "10.9.9.9:80".parse().unwrap();
        let began = rt.now();
        let error = rt.connect(nobody, Instant::NEVER).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(110), "ETIMEDOUT");
        assert_eq!((rt.now() - began).as_secs(), 127);
        let error = rt
            .connect(nobody, rt.now() + Duration::from_millis(300))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

fn a_full_backlog_makes_the_client_try_again_after_a_second(face: Face) {
    let scene = Scene::calm(1, face);
    let socket = scene.server.listen(scene.free_server_addr(), 0).unwrap();
    let addr = socket.local_addr().unwrap();
    let server_rt = scene.server_rt();
    let listener = server_rt.listener(socket).unwrap();
    listener.pause();
    server_rt.spawn({
        let rt = server_rt.clone();
        async move {
            rt.sleep(Duration::from_millis(500)).await;
            listener.resume();
            let _first = listener.accept().await.unwrap();
            let _second = listener.accept().await.unwrap();
            rt.sleep(Duration::from_secs(2)).await;
        }
    });
    scene.alone(async move |rt| {
        let began = rt.now();
        let _first = rt.connect(addr, Instant::NEVER).await.unwrap();
        assert!(rt.now() - began < Duration::from_millis(10));
        let _second = rt.connect(addr, Instant::NEVER).await.unwrap();
        let waited = rt.now() - began;
        assert!(waited >= Duration::from_secs(1) && waited < Duration::from_millis(1200));
        drop((_first, _second));
        rt.sleep(Duration::from_secs(3)).await;
    });
}

fn what_came_before_a_reset_is_read_and_then_the_reset_is_told_once(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            conn.write(b"not whole").unwrap();
            conn.send_now().unwrap();
            conn.reset();
        },
        async |conn| {
            conn.rt().sleep(Duration::from_millis(10)).await;
            assert_eq!(exactly(&conn, 9).await, b"not whole");
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let error = write_until_it_fails(&conn).await;
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        },
    );
}

async fn write_until_it_fails(conn: &Conn) -> io::Error {
    loop {
        let written = conn.write(&[0; 4096]);
        let flushed = match written {
            Ok(()) => conn.flush().await,
            Err(error) => return error,
        };
        if let Err(error) = flushed {
            return error;
        }
        conn.rt().sleep(Duration::from_millis(1)).await;
    }
}

fn a_reset_that_a_send_meets_first_is_no_end(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| conn.reset(),
        async |conn| {
            conn.rt().sleep(Duration::from_millis(10)).await;
            conn.write(b"met at the end of the turn").unwrap();
            conn.rt().yield_now().await;
            let error = conn.recv().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        },
    );
}

fn closing_with_bytes_unread_is_a_reset(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            conn.rt().sleep(Duration::from_millis(10)).await;
            drop(conn);
        },
        async |conn| {
            conn.write(b"nobody reads this").unwrap();
            let error = everything(&conn).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        },
    );
}

fn writing_to_a_side_that_was_closed_is_answered_with_a_reset(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| drop(conn),
        async |conn| {
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
            let error = write_until_it_fails(&conn).await;
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        },
    );
}

fn a_side_that_has_finished_still_receives(face: Face) {
    let scene = Scene::calm(1, face);
    scene.play(
        async |conn| {
            assert_eq!(everything(&conn).await.unwrap(), b"question");
            conn.write(b"answer").unwrap();
            conn.finish().await.unwrap();
        },
        async |conn| {
            conn.write(b"question").unwrap();
            conn.finish().await.unwrap();
            assert_eq!(everything(&conn).await.unwrap(), b"answer");
        },
    );
}

fn a_slow_reader_pushes_back(face: Face) {
    const BYTES: usize = 1 << 20;
    let scene = Scene::calm(1, face);
    scene.client.set_buffer_bytes(8 * 1024);
    scene.server.set_buffer_bytes(8 * 1024);
    scene.play(
        async |conn| {
            let rt = conn.rt().clone();
            rt.sleep(Duration::from_secs(5)).await;
            let mut bytes = 0;
            while let Rx::Data(lent) = conn.recv().await.unwrap() {
                bytes += lent.len();
                rt.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(bytes, BYTES);
        },
        async |conn| {
            let began = conn.rt().now();
            conn.write(&vec![1; BYTES]).unwrap();
            assert!(conn.queued() >= BYTES - 16 * 1024);
            conn.finish().await.unwrap();
            assert!(conn.rt().now() - began >= Duration::from_secs(5));
        },
    );
}

fn bytes_take_as_long_as_their_link_is_narrow(face: Face) {
    const BYTES: usize = 1_000_000;
    let scene = Scene::calm(1, face);
    let link = Link {
        latency: Duration::from_millis(20),
        jitter: Duration::ZERO,
        bytes_per_second: 500_000,
    };
    scene.world.set_link(&scene.client, &scene.server, link);
    scene.play(
        async |conn| {
            let began = conn.rt().now();
            assert_eq!(everything(&conn).await.unwrap().len(), BYTES);
            let took = conn.rt().now() - began;
            assert!(took > Duration::from_millis(1950), "{took:?}");
            assert!(took < Duration::from_millis(2100), "{took:?}");
        },
        async |conn| {
            conn.write(&vec![1; BYTES]).unwrap();
            conn.finish().await.unwrap();
        },
    );
}

fn a_clogged_link_holds_back_until_its_time(face: Face) {
    let scene = Scene::calm(1, face);
    let until = scene.world.now() + Duration::from_millis(700);
    scene.world.clog(&scene.client, &scene.server, until);
    scene.play(
        async |conn| drop(conn),
        async move |conn| assert!(conn.rt().now() >= until),
    );
}

fn a_partition_of_one_direction_loses_nothing(face: Face) {
    let scene = Scene::calm(1, face);
    let (world, client, server) = (
        scene.world.clone(),
        scene.client.clone(),
        scene.server.clone(),
    );
    scene.play(
        async |conn| {
            conn.write(b"ping").unwrap();
            assert_eq!(exactly(&conn, 8).await, b"pongpong");
        },
        async move |conn| {
            let rt = conn.rt().clone();
            world.partition(&client, &server);
            assert_eq!(exactly(&conn, 4).await, b"ping");
            conn.write(b"pong").unwrap();
            rt.sleep(Duration::from_secs(3)).await;
            world.heal(&client, &server);
            conn.write(b"pong").unwrap();
            conn.finish().await.unwrap();
            assert_eq!(everything(&conn).await.unwrap(), b"");
        },
    );
}

/// What is late when a partition begins arrives before what the partition held.
fn what_a_partition_held_overtakes_nothing(face: Face) {
    let scene = Scene::calm(1, face);
    let (world, client, server) = (
        scene.world.clone(),
        scene.client.clone(),
        scene.server.clone(),
    );
    scene.play(
        async |conn| assert_eq!(everything(&conn).await.unwrap(), b"late, held"),
        async move |conn| {
            let rt = conn.rt().clone();
            world.clog(&client, &server, rt.now() + Duration::from_secs(2));
            conn.write(b"late, ").unwrap();
            conn.flush().await.unwrap();
            world.partition(&client, &server);
            conn.write(b"held").unwrap();
            conn.finish().await.unwrap();
            world.clog(&client, &server, rt.now());
            world.heal(&client, &server);
        },
    );
}

fn sockets_on_one_port_share_its_connections(face: Face) {
    let scene = Scene::calm(3, face);
    let served = Rc::new(RefCell::new([0_u32; 2]));
    for worker in 0..2 {
        let served = Rc::clone(&served);
        scene.serve(async move |conn| {
            served.borrow_mut()[worker] += 1;
            drop(conn);
        });
    }
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        for _ in 0..32 {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            assert!(matches!(conn.recv().await, Ok(Rx::Eof)));
        }
    });
    let [one, other] = *served.borrow();
    assert!(one > 4 && other > 4, "{one} and {other}");
}

fn messages_wake_another_runtime(face: Face) {
    let scene = Scene::calm(1, face);
    let mesh: Mesh<u32> = Mesh::new(1);
    let mailbox = mesh.mailbox(WorkerId(0));
    let got = Rc::new(Cell::new(0));
    let seen = Rc::clone(&got);
    scene.server_rt().spawn(async move {
        for _ in 0..3 {
            seen.set(seen.get() + mailbox.recv().await);
        }
    });
    scene.alone(async move |rt| {
        for number in [1, 10, 100] {
            mesh.send(WorkerId(0), number).unwrap();
            rt.sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(got.get(), 111);
}

fn descriptors_run_out_and_accepting_goes_on_when_one_is_closed(face: Face) {
    let scene = Scene::calm(1, face);
    scene.server.set_descriptors_max(2); // One listens.
    let server_rt = scene.server_rt();
    let socket = scene.server.listen(scene.server_addr, 16).unwrap();
    let listener = server_rt.listener(socket).unwrap();
    let addr = scene.server_addr;
    server_rt.spawn({
        let rt = server_rt.clone();
        async move {
            let first = listener.accept().await.unwrap();
            let error = listener.accept().await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(24), "EMFILE");
            drop(first);
            rt.sleep(Duration::from_millis(10)).await;
            let _second = listener.accept().await.unwrap();
        }
    });
    scene.alone(async move |rt| {
        let first = rt.connect(addr, Instant::NEVER).await.unwrap();
        let second = rt.connect(addr, Instant::NEVER).await.unwrap();
        assert!(matches!(first.recv().await, Ok(Rx::Eof)));
        assert!(matches!(second.recv().await, Ok(Rx::Eof)));
    });
}

fn connections_that_nobody_accepted_are_reset_with_their_listener(face: Face) {
    let scene = Scene::calm(1, face);
    let server_rt = scene.server_rt();
    let socket = scene.server.listen(scene.server_addr, 16).unwrap();
    let listener = server_rt.listener(socket).unwrap();
    listener.pause();
    let addr = scene.server_addr;
    scene.alone(async move |rt| {
        let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
        drop(listener);
        let error = conn.recv().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

fn a_world_where_nothing_will_happen_says_so_and_names_its_seed(face: Face) {
    let scene = Scene::calm(77, face);
    scene.client_rt().spawn(std::future::pending::<()>());
    let stuck = scene
        .world
        .run_until(&mut || false, Limits::default())
        .unwrap_err();
    assert!(
        stuck
            .to_string()
            .starts_with("seed 77: nobody has anything to do")
    );
    scene.end();
}

fn a_task_that_never_rests_is_ended_by_the_limit_of_turns(face: Face) {
    let scene = Scene::calm(78, face);
    let rt = scene.client_rt();
    rt.spawn({
        let rt = rt.clone();
        async move {
            loop {
                rt.yield_now().await;
            }
        }
    });
    let limits = Limits {
        turns: 1000,
        ..Limits::default()
    };
    let stuck = scene.world.run_until(&mut || false, limits).unwrap_err();
    assert!(stuck.to_string().starts_with("seed 78: too many turns"));
    scene.end();
}

fn a_task_that_always_sleeps_is_ended_by_the_limit_of_time(face: Face) {
    let scene = Scene::calm(79, face);
    let rt = scene.client_rt();
    rt.spawn({
        let rt = rt.clone();
        async move {
            loop {
                rt.sleep(Duration::from_secs(10)).await;
            }
        }
    });
    let stuck = scene
        .world
        .run_until(&mut || false, Limits::default())
        .unwrap_err();
    assert!(stuck.to_string().starts_with("seed 79: too much time"));
    scene.end();
}

#[test]
fn what_is_not_given_back_is_told() {
    let world = World::new(5, &Profile::calm());
    let host = world.host([10, 0, 0, 1]);
    let _socket = host.listen("10.0.0.1:80".parse().unwrap(), 1).unwrap();
    let leaks = world.shut_down().unwrap_err();
    assert_eq!(leaks.descriptors, [1]);
    assert!(leaks.to_string().starts_with("seed 5: not given back"));
}

fn a_runtime_alone_in_its_world_may_block_and_speak_to_itself(face: Face) {
    let world = World::new(1, &Profile::calm());
    let host = world.host([10, 0, 0, 1]);
    let rt = host.rt(face, &RtOptions::default()).unwrap();
    let other = world.host([10, 0, 0, 2]);
    let loopback = "127.0.0.1:80".parse().unwrap();
    let socket = host.listen(loopback, 1).unwrap();
    assert!(other.listen("10.0.0.1:80".parse().unwrap(), 1).is_err());
    rt.block_on(async {
        let listener = rt.listener(socket).unwrap();
        let addr = listener.local_addr().unwrap();
        let client = rt.connect(addr, Instant::NEVER).await.unwrap();
        let server = listener.accept().await.unwrap();
        client.write(b"alone").unwrap();
        assert_eq!(&*data(&server).await, b"alone");
        rt.sleep(Duration::from_secs(3600)).await;
    });
    assert_eq!(world.shut_down(), Ok(()));
}

fn faults_spare_whom_they_are_told_to_spare(face: Face) {
    let profile = Profile::calm().with(Fault::RefusedConnect, Frequency::Storm);
    let refused = |spares: bool| {
        let scene = Scene::new(4, &profile, face);
        if spares {
            scene.server.spare();
        }
        scene.serve(async |conn| drop(conn));
        let refused = Rc::new(Cell::new(0));
        let (count, addr) = (Rc::clone(&refused), scene.server_addr);
        scene.alone(async move |rt| {
            for _ in 0..64 {
                if rt.connect(addr, Instant::NEVER).await.is_err() {
                    count.set(count.get() + 1);
                }
            }
        });
        refused.get()
    };
    assert_eq!(refused(true), 0);
    assert!(refused(false) > 4);
}

#[test]
fn streams_of_chance_do_not_disturb_each_other() {
    let mut one = Chance::new(1);
    let mut fork = one.fork();
    let mut same = Chance::new(1);
    let _ = same.fork();
    let _ = fork.draw();
    assert_eq!(one.draw(), same.draw());
}
