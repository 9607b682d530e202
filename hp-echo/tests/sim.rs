//! The backend in a simulated kernel and network, where an hour costs nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Face, Fault, Frequency, Limits, Profile, World};
use hp_core::rt::worker::Context;
use hp_core::rt::{Instant, RtOptions};
use hp_echo::{Order, Service, serve_all};

#[test]
fn bodies_to_order_are_whole_however_the_socket_takes_them() {
    let profile = Profile::calm().with(Fault::ShortSend, Frequency::Storm);
    for seed in 0..20 {
        on_each_face(seed, &profile, async |conn| {
            conn.write(&get("/?s=100k&k=0")).unwrap();
            let (head, body) = split(&everything(&conn).await.unwrap());
            assert!(head.contains("Content-Length: 102400\r\n"), "{head}");
            assert!(body == vec![b'x'; 102_400], "{} bytes", body.len());
        });
    }
}

#[test]
fn drops_keep_their_time() {
    on_each_face(1, &Profile::calm(), async |conn| {
        let begun = conn.rt().now();
        conn.write(&get("/?s=50&drip=10&every=60000&k=0")).unwrap();
        let (_head, body) = split(&everything(&conn).await.unwrap());
        assert_eq!(body.len(), 50);
        let took = conn.rt().now() - begun;
        assert!((240..250).contains(&took.as_secs()), "{took:?}");
    });
}

#[test]
fn delay_keeps_its_time() {
    on_each_face(1, &Profile::calm(), async |conn| {
        let begun = conn.rt().now();
        conn.write(&get("/?t=7000&s=5&k=0")).unwrap();
        let (_head, body) = split(&everything(&conn).await.unwrap());
        assert_eq!(body, b"xxxxx");
        let took = conn.rt().now() - begun;
        assert_eq!(took.as_secs(), 7, "{took:?}");
    });
}

#[test]
fn silence_lasts_an_hour() {
    on_each_face(1, &Profile::calm(), async |conn| {
        let begun = conn.rt().now();
        conn.write(&get("/?silent=1")).unwrap();
        assert_eq!(everything(&conn).await.unwrap(), b"");
        let took = conn.rt().now() - begun;
        assert!((3600..3610).contains(&took.as_secs()), "{took:?}");
    });
}

#[test]
fn truncation_is_an_end_and_a_reset_is_none() {
    on_each_face(1, &Profile::calm(), async |conn| {
        conn.write(&get("/?s=100&truncate=30")).unwrap();
        let (head, body) = split(&everything(&conn).await.unwrap());
        assert!(head.contains("Content-Length: 100\r\n"), "{head}");
        assert_eq!(body.len(), 30);
    });
    on_each_face(1, &Profile::calm(), async |conn| {
        conn.write(&get("/?s=100&reset=30")).unwrap();
        let error = everything(&conn).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn interim_answers_all_come_before_the_final_one() {
    on_each_face(1, &Profile::calm(), async |conn| {
        conn.write(&get("/?interims=2000&s=5&k=0")).unwrap();
        let all = String::from_utf8(everything(&conn).await.unwrap()).unwrap();
        let heads: Vec<&str> = all.split("\r\n\r\n").collect();
        let (interims, last) = heads.split_at(2000);
        assert!(
            interims
                .iter()
                .all(|&head| head == "HTTP/1.1 103 Early Hints")
        );
        assert_eq!(last.len(), 2);
        assert!(last[0].starts_with("HTTP/1.1 200 OK\r\n"), "{}", last[0]);
        assert_eq!(last[1], "xxxxx");
    });
}

#[test]
fn counters_say_what_was_asked() {
    let service = on_each_face(1, &Profile::calm(), async |conn| {
        conn.write(&get("/").repeat(3)).unwrap();
        conn.write(&get("/?r=404&k=0")).unwrap();
        everything(&conn).await.unwrap();
    });
    let told = service.counters();
    for part in [
        r#"{"requests":4,"#,
        r#""connections_accepted":1,"connections_open":0,"#,
        r#""statuses":{"200":3,"404":1}}"#,
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// Plays a client against the backend on both faces of the kernel; what the second one served. Nothing may be left.
fn on_each_face(seed: u64, profile: &Profile, client: impl AsyncFn(Conn) + 'static) -> Service {
    let client = Rc::new(client);
    play(seed, profile, Face::Readiness, Rc::clone(&client));
    play(seed, profile, Face::Completion, client)
}

fn play(
    seed: u64,
    profile: &Profile,
    face: Face,
    client: Rc<impl AsyncFn(Conn) + 'static>,
) -> Service {
    let world = World::new(seed, profile);
    let [client_host, echo_host] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|addr| world.host(addr));
    let addr = SocketAddr::from((echo_host.addr(), 9001));
    let mesh = Mesh::new(1);
    let service = Service::fixed(13);
    let rt = echo_host.rt(face, &RtOptions::default()).unwrap();
    let listener = rt.listener(echo_host.listen(addr, 16).unwrap()).unwrap();
    let context = Context {
        rt: rt.clone(),
        id: WorkerId(0),
        mailbox: mesh.mailbox(WorkerId(0)),
        mesh: mesh.clone(),
    };
    rt.spawn({
        let service = service.clone();
        async move { serve_all(context, vec![listener], &service).await }
    });
    let client_rt = client_host.rt(face, &RtOptions::default()).unwrap();
    let ended = Rc::new(Cell::new(false));
    client_rt.spawn({
        let (rt, ended) = (client_rt.clone(), Rc::clone(&ended));
        async move {
            let conn = rt.connect(addr, Instant::NEVER).await.unwrap();
            client(conn).await;
            ended.set(true);
        }
    });
    let wait = |done: &mut dyn FnMut() -> bool| {
        let limits = Limits {
            time: Duration::from_secs(24 * 3600),
            ..Limits::default()
        };
        let result = world.run_until(done, limits);
        result.unwrap_or_else(|stuck| panic!("{stuck}"));
    };
    wait(&mut || ended.get() || client_rt.panics() > 0);
    assert_eq!(client_rt.panics() + rt.panics(), 0, "its message is above");
    assert!(mesh.send(WorkerId(0), Order::Drain).is_ok());
    wait(&mut || echo_host.descriptors() == 0);
    world.shut_down().unwrap_or_else(|leaks| panic!("{leaks}"));
    service
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

async fn everything(conn: &Conn) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Rx::Data(lent) = conn.recv().await? {
        bytes.extend_from_slice(&lent);
    }
    Ok(bytes)
}

fn split(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.unwrap() + 4);
    (String::from_utf8(head.to_vec()).unwrap(), body.to_vec())
}
