//! A warm worker carries requests and answers without asking the allocator for anything.
#![expect(unsafe_code, reason = "a counting global allocator is an unsafe trait")]
#![expect(
    clippy::disallowed_methods,
    reason = "both other ends are real sockets"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use hp_core::rt::net::listen;
use hp_core::rt::worker::{Pin, WorkerId, WorkersOptions, start};
use hp_core::rt::{Engine, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::load_text;
use hp_proxy::config::plan::{Endpoint, Limits, ListenerId, MULTIPLEX, OneRoute, Plan, Timeouts};
use hp_proxy::counters::Rows;
use hp_proxy::shared::{Message, SharedPlan};
use hp_proxy::upstream::mux;
use hp_proxy::worker;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn ten_thousand_warm_requests_allocate_nothing_on_epoll() {
    check(Engine::Epoll, |addr| one_route(Engine::Epoll, addr));
}

#[test]
fn ten_thousand_warm_requests_allocate_nothing_on_uring() {
    // io_uring wherever that is allowed.
    check(Engine::Auto, |addr| one_route(Engine::Auto, addr));
}

#[test]
fn ten_thousand_warm_requests_by_routes_allocate_nothing() {
    check(Engine::Epoll, many_routes);
}

#[test]
fn ten_thousand_warm_requests_that_share_a_connection_allocate_nothing() {
    for engine in [Engine::Epoll, Engine::Auto] {
        let plan = |addr| {
            let mut plan = one_route(engine, addr);
            plan.upstreams[0].multiplex = Some(mux::Bounds {
                stall: Duration::from_secs(3600), // However slow the machine is.
                ..MULTIPLEX
            });
            plan
        };
        // Who comes at once with others is for the machine to say: a queue may meet its longest burst late, a few times.
        check_with(engine, plan, (exchange_together, 4));
    }
}

fn one_route(engine: Engine, backend: SocketAddr) -> Plan {
    Plan::from(OneRoute {
        listen: any().into(),
        backends: vec![Endpoint::new(String::from("backend"), backend.into())],
        workers: 1,
        engine,
        forwarding: Forwarding::default(),
        timeouts: Timeouts::default(),
        limits: Limits::default(),
    })
}

/// Routes that look at much, and one for each path of the requests: one plain, the other changing fields and path.
fn many_routes(backend: SocketAddr) -> Plan {
    let text = format!(
        r#"
        workers = 1
        engine = "epoll"
        [[listener]]
        address = "127.0.0.1:0"
        [[route]]
        host = ["a", "*.a"]
        path_prefix = "/pa"
        answer = {{ status = 403 }}
        [[route]]
        host = "a"
        path = "/path"
        headers = {{ Accept = {{ regex = "^.*$" }} }}
        split = [{{ upstream = "web" }}]
        request_headers = {{ set = {{ X-Env = "{{client_ip}} {{path}}" }}, remove = ["Cookie"] }}
        response_headers = {{ set = {{ Server = "{{endpoint}}" }} }}
        rewrite = "/inner/{{path}}"
        [[route]]
        path_prefix = "/"
        methods = ["POST"]
        upstream = "web"
        [upstream.web]
        endpoints = ["{backend}"]
        "#
    );
    let (plan, report) = load_text("routes.toml", &text, &|_| None);
    plan.unwrap_or_else(|| panic!("{:?}", report.errors()))
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn check(engine: Engine, plan: impl FnOnce(SocketAddr) -> Plan) {
    check_with(engine, plan, (exchange, 1));
}

/// Makes so many requests with the clients' connections, and answers them over the backend's.
type Play = fn(&mut [TcpStream], &mut TcpStream, usize) -> io::Result<()>;

/// Runs one worker in this process, and is its client and its backend in turn.
/// Of so many
/// times ten thousand requests, one must allocate nothing.
fn check_with(engine: Engine, plan: impl FnOnce(SocketAddr) -> Plan, (play, times): (Play, usize)) {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = plan(backend.local_addr().unwrap());
    let options = WorkersOptions {
        count: 1,
        rt: RtOptions {
            engine,
            ..RtOptions::default()
        },
        pin: Pin::Off,
        name: "watched",
    };
    let allocations: &AtomicU64 = Box::leak(Box::default());
    let (plan, rows) = (SharedPlan::new(plan), Rows::new(1, 0));
    let main = move |context| {
        WATCHED.set(Some(allocations)); // On the worker's thread.
        worker::main(context, plan.clone(), rows.clone(), None)
    };
    let workers = start(&options, main).unwrap();
    let socket = listen(any(), 16).unwrap();
    let addr = socket.local_addr().unwrap();
    let tell = |message| workers.mesh().send(WorkerId(0), message).unwrap();
    tell(Message::Listen(socket, ListenerId(0)));
    let counted = (|| {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(bounded(TcpStream::connect(addr)?)?);
        }
        clients[0].write_all(GET)?;
        let mut upstream = bounded(backend.accept()?.0)?;
        respond(&mut upstream, &mut clients[0], FORMS[0])?;
        play(&mut clients, &mut upstream, 1_000)?;
        let warm_up = allocations.load(Ordering::SeqCst);
        let mut fewest = u64::MAX;
        for _ in 0..times {
            let before = allocations.load(Ordering::SeqCst);
            play(&mut clients, &mut upstream, 10_000)?;
            let after = allocations.load(Ordering::SeqCst);
            fewest = fewest.min(after - before);
            if fewest == 0 {
                break;
            }
        }
        io::Result::Ok((warm_up, fewest))
    })();
    tell(Message::Drain);
    workers.join().unwrap();
    let (warm_up, warm) = counted.unwrap();
    assert!(warm_up > 0, "the counter counts");
    assert_eq!(warm, 0, "allocations in 10,000 requests");
}

/// One request after the other, in all forms, each over the next of the clients' connections.
fn exchange(clients: &mut [TcpStream], upstream: &mut TcpStream, count: usize) -> io::Result<()> {
    for index in 0..count {
        let turn = index % clients.len();
        let client = &mut clients[turn];
        let form = FORMS[index % FORMS.len()];
        client.write_all(form.0)?;
        respond(upstream, client, form)?;
    }
    Ok(())
}

/// Requests of all clients at once, which come to the backend over one connection; their answers come in two pieces, which end
/// anywhere.
fn exchange_together(
    clients: &mut [TcpStream],
    upstream: &mut TcpStream,
    count: usize,
) -> io::Result<()> {
    let (request, answer) = FORMS[0];
    let answers = answer.repeat(clients.len());
    let mut held = vec![0; 16 * 1024];
    for index in 0..count / clients.len() {
        for client in &mut *clients {
            client.write_all(request)?;
        }
        let (mut asked, mut len) = (0, 0);
        while asked < clients.len() {
            match upstream.read(&mut held[len..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => len += more,
            }
            asked = held[..len]
                .windows(4)
                .filter(|end| end == b"\r\n\r\n")
                .count();
        }
        let cut = index % answers.len();
        upstream.write_all(&answers[..cut])?;
        upstream.write_all(&answers[cut..])?;
        for client in &mut *clients {
            until(client, &answer[answer.len() - 5..])?;
        }
    }
    Ok(())
}

/// Answers the request that was sent, and receives the answer.
fn respond(
    upstream: &mut TcpStream,
    client: &mut TcpStream,
    (request, answer): Form,
) -> io::Result<()> {
    until(upstream, &request[request.len() - 4..])?;
    upstream.write_all(answer)?;
    until(client, &answer[answer.len() - 5..])
}

/// Reads until the bytes read end like this.
fn until(stream: &mut TcpStream, end: &[u8]) -> io::Result<()> {
    let mut held = [0; 4096];
    let mut len = 0;
    while !held[..len].ends_with(end) {
        match stream.read(&mut held[len..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => len += count,
        }
    }
    Ok(())
}

fn bounded(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// A request, and its answer.
type Form = (&'static [u8], &'static [u8]);

const GET: &[u8] = b"GET /path HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
const FORMS: [Form; 4] = [
    (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nend!"),
    (
        GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbodyend!",
        b"HTTP/1.1 201 Made\r\nContent-Length: 4\r\n\r\nend!",
    ),
    (
        GET,
        b"HTTP/1.1 404 No\r\nContent-Length: 8\r\nServer: x\r\n\r\nbodyend!",
    ),
];

struct Counting;

thread_local! {
    /// Where the allocations of this thread are counted.
    static WATCHED: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if let Some(allocations) = WATCHED.get() {
        allocations.fetch_add(1, Ordering::SeqCst);
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
