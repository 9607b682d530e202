//! A warm worker answers without asking the allocator for anything.
#![expect(unsafe_code, reason = "a counting global allocator is an unsafe trait")]
#![expect(clippy::disallowed_methods, reason = "the other end of a real socket")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::worker::Context;
use hp_core::rt::{Engine, Rt, RtOptions, net};
use hp_echo::{Order, serve};

#[test]
fn ten_thousand_warm_requests_allocate_nothing() {
    for engine in [Engine::Epoll, Engine::Auto] {
        let socket = net::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let addr = socket.local_addr().unwrap();
        let mesh = Mesh::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let rt = Rt::new(&RtOptions {
                    engine,
                    ..RtOptions::default()
                })
                .unwrap();
                let listener = rt.listener(socket).unwrap();
                let (id, mesh) = (WorkerId(0), mesh.clone());
                let mailbox = mesh.mailbox(id);
                WATCHED.set(true);
                rt.block_on(serve(
                    Context {
                        rt: rt.clone(),
                        id,
                        mailbox,
                        mesh,
                    },
                    listener,
                    13,
                ));
                WATCHED.set(false);
                rt.shut_down();
            });
            let counted = count_requests(addr);
            mesh.send(WorkerId(0), Order::Drain).unwrap(); // First, or a failure would hang here.
            let (warm_up, warm) = counted.unwrap();
            assert!(warm_up > 0, "the counter counts");
            assert_eq!(warm, 0, "allocations in 10,000 requests");
        });
    }
}

/// Allocations of the worker while it warms up, and of 10,000 requests then.
fn count_requests(addr: SocketAddr) -> io::Result<(u64, u64)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let start = ALLOCATIONS.load(Ordering::SeqCst);
    exchange(&mut stream, 200)?;
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    exchange(&mut stream, 1_000)?;
    Ok((before - start, ALLOCATIONS.load(Ordering::SeqCst) - before))
}

/// Each round is a request alone, and then nine together.
fn exchange(stream: &mut TcpStream, rounds: u32) -> io::Result<()> {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let pipelined = request.repeat(9);
    let mut answers = vec![0; 9 * ANSWER_LEN];
    for _ in 0..rounds {
        stream.write_all(request)?;
        stream.read_exact(&mut answers[..ANSWER_LEN])?;
        stream.write_all(&pipelined)?;
        stream.read_exact(&mut answers)?;
    }
    Ok(())
}

/// Head and body of the fixed answer with 13 bytes.
const ANSWER_LEN: usize =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n".len() + 13;

struct Counting;

/// Requests of the watched thread.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if WATCHED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `address` came from `System`.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `address` came from `System`.
        unsafe { System.realloc(address, layout, size) }
    }
}
