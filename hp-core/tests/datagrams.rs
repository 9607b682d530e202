//! Datagrams on the readiness engines: each is received by itself, and only the peer's are.
#![expect(
    clippy::unwrap_used,
    reason = "a check is a function of a test, not a test itself"
)]

use hp_core::rt::net::Rx;
use hp_core::rt::{Engine, Rt, RtOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

fn rt(engine: Engine) -> Rt {
    let options = RtOptions {
        engine,
        ..RtOptions::default()
    };
    Rt::new(&options).unwrap()
}

fn check(engine: Engine) {
    let rt = rt(engine);
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (peer, stranger) = (bind(), bind());
    let conn = rt.connect_datagram(peer.local_addr().unwrap()).unwrap();
    rt.block_on(async {
        conn.write(b"question").unwrap();
        conn.flush().await.unwrap();
        let mut buffer = [0; 16];
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"question");
        // All of them wait before the first is asked for.
        stranger.send_to(b"forged", from).unwrap();
        peer.send_to(b"one", from).unwrap();
        peer.send_to(b"two", from).unwrap();
        for expected in ["one", "two"] {
            let Ok(Rx::Data(datagram)) = conn.recv().await else {
                panic!("no {expected}")
            };
            assert_eq!(&datagram[..], expected.as_bytes());
        }
        // Nobody is there any more, which the kernel tells.
        drop(peer);
        conn.write(b"question").unwrap();
        let Err(error) = conn.recv().await else {
            panic!("somebody answers")
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
    drop(conn);
    rt.shut_down();
}

#[test]
fn epoll_receives_datagrams_one_by_one() {
    check(Engine::Epoll);
}

#[test]
fn ppoll_receives_datagrams_one_by_one() {
    check(Engine::Threads);
}
