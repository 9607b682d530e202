//! A name server of a test's own, over both UDP and TCP on one port of the loopback. It writes its messages by hand.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a server with threads and blocking sockets, for tests alone"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;

/// What is answered to a question.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// Records of these types, each with its data.
    Records(u32, Vec<(u16, Vec<u8>)>),
    /// This response code.
    Code(u16),
    /// Nothing.
    Silence,
    /// In a datagram that there is more than fits it; over a stream these records.
    MoreThanFits(u32, Vec<(u16, Vec<u8>)>),
    /// First what others might forge: from another port, with another identifier, about another name, and nonsense; then
    /// these records.
    AfterForgeries(u32, Vec<(u16, Vec<u8>)>),
    /// A name that points at itself.
    Loop,
}

/// A question as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) is_stream: bool,
    pub(crate) from: SocketAddr,
    pub(crate) id: u16,
}

type Zone = Arc<Mutex<BTreeMap<(String, u16), Says>>>;

/// A running server; its threads end with the process.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    zone: Zone,
    asked: Receiver<Asked>,
}

impl Server {
    pub(crate) fn start() -> Self {
        // A port that is free for both; whoever takes it in between makes us look again.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        let addr = tcp.local_addr().unwrap();
        let zone = Zone::default();
        let (sender, asked) = mpsc::channel();
        let (of_udp, of_tcp) = ((zone.clone(), sender.clone()), (zone.clone(), sender));
        thread::spawn(move || serve_datagrams(&udp, &of_udp.0, &of_udp.1));
        thread::spawn(move || {
            for stream in tcp.incoming() {
                serve_stream(stream.unwrap(), &of_tcp.0, &of_tcp.1);
            }
        });
        Self { addr, zone, asked }
    }

    /// Says this from now on; names without a word of their own do not exist.
    pub(crate) fn say(&self, name: &str, kind: u16, says: Says) {
        let mut zone = self.zone.lock().unwrap();
        zone.insert((name.to_owned(), kind), says);
    }

    /// The same for IPv4 addresses, with no other.
    pub(crate) fn say_v4(&self, name: &str, ttl: u32, addrs: &[[u8; 4]]) {
        let records = addrs.iter().map(|addr| (A, addr.to_vec())).collect();
        self.say(name, A, Says::Records(ttl, records));
        self.say(name, AAAA, Says::Records(ttl, Vec::new()));
    }

    /// The questions so far, which nobody waited for.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

pub(crate) fn service(priority: u16, weight: u16, port: u16, target: &str) -> (u16, Vec<u8>) {
    let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
    data.extend(wire(target));
    (SRV, data)
}

fn serve_datagrams(udp: &UdpSocket, zone: &Zone, sender: &Sender<Asked>) {
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let (len, from) = udp.recv_from(&mut buffer).unwrap();
        let question = Question::read(&buffer[..len]);
        let says = question.look_up(zone);
        let asked = question.asked(false, from);
        if sender.send(asked).is_err() {
            return; // The test has ended.
        }
        let send = |bytes: &[u8]| drop(udp.send_to(bytes, from));
        match says {
            Says::Silence => (),
            Says::Records(ttl, records) => send(&question.answer(0, ttl, &records)),
            Says::Code(code) => send(&question.answer(code, 0, &[])),
            Says::MoreThanFits(..) => send(&question.answer(TRUNCATED, 0, &[])),
            Says::Loop => send(&question.loops()),
            Says::AfterForgeries(ttl, records) => {
                let wrong = [(A, vec![6, 6, 6, 6])];
                drop(other.send_to(&question.answer(0, ttl, &wrong), from));
                let mut other_id = question.clone();
                other_id.id ^= 1;
                send(&other_id.answer(0, ttl, &wrong));
                let mut other_name = question.clone();
                other_name.name = String::from("bank.test");
                send(&other_name.answer(0, ttl, &wrong));
                send(b"nonsense that is longer than a header");
                send(&question.answer(0, ttl, &records));
            }
        }
    }
}

fn serve_stream(mut stream: TcpStream, zone: &Zone, sender: &Sender<Asked>) {
    let from = stream.peer_addr().unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).unwrap();
    let question = Question::read(&message);
    let says = question.look_up(zone);
    if sender.send(question.asked(true, from)).is_err() {
        return;
    }
    let answer = match says {
        Says::Silence => return,
        Says::Records(ttl, records)
        | Says::MoreThanFits(ttl, records)
        | Says::AfterForgeries(ttl, records) => question.answer(0, ttl, &records),
        Says::Code(code) => question.answer(code, 0, &[]),
        Says::Loop => question.loops(),
    };
    let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
    // In two pieces, as streams may come.
    stream.write_all(&len).unwrap();
    stream.write_all(&answer).unwrap();
}

#[derive(Clone, Debug)]
struct Question {
    id: u16,
    name: String,
    kind: u16,
}

impl Question {
    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (mut at, mut labels) = (12, Vec::new());
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(String::from_utf8(bytes[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        Self {
            id: number(0),
            name: labels.join("."),
            kind: number(at + 1),
        }
    }

    fn look_up(&self, zone: &Zone) -> Says {
        let zone = zone.lock().unwrap();
        let key = (self.name.clone(), self.kind);
        zone.get(&key).cloned().unwrap_or(Says::Code(NO_NAME))
    }

    fn asked(&self, is_stream: bool, from: SocketAddr) -> Asked {
        Asked {
            name: self.name.clone(),
            kind: self.kind,
            is_stream,
            from,
            id: self.id,
        }
    }

    fn head(&self, flags: u16, answers: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let count = u16::try_from(answers).unwrap();
        for number in [self.id, 0x8180 | flags, 1, count, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(wire(&self.name));
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes
    }

    fn answer(&self, flags: u16, ttl: u32, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = self.head(flags, records.len());
        for (kind, data) in records {
            bytes.extend([0xC0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(1u16.to_be_bytes());
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    fn loops(&self) -> Vec<u8> {
        let mut bytes = self.head(0, 1);
        let at = u8::try_from(bytes.len()).unwrap();
        bytes.extend([0xC0, at, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 6, 6, 6, 6]);
        bytes
    }
}

const NO_NAME: u16 = 3;
const TRUNCATED: u16 = 0x0200;
