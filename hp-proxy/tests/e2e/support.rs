//! The three parties of a test: the real program, and both its neighbours as plain sockets in the test's own hands.
//!
//! Nothing here runs beside the test: it writes what the client says, reads what the backend hears, and so on. Every read
//! has a bound, after which the test fails.

use crate::Engine;
use hp_core::sys::limits;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// No wait takes longer unless something is wrong.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A plain request; its answer is [`OK`].
pub(crate) const GET: &str = "GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The running program; killed when dropped.
pub(crate) struct Proxy {
    engine: Engine,
    pub(crate) addr: SocketAddr,
    /// Of the second listener, and of the one for operators, where there are such.
    others: BTreeMap<&'static str, SocketAddr>,
    child: Child,
    stderr: Receiver<String>,
    /// What it runs, for reloads.
    file: Option<tempfile::NamedTempFile>,
}

impl Proxy {
    /// One worker in front of one backend.
    pub(crate) fn before(engine: Engine, backend: &Backend, flags: &str) -> Self {
        Self::start(
            engine,
            &format!("--workers 1 --backend {} {flags}", backend.addr),
        )
    }

    /// A proxy that is called `hp-proxy` unless the flags say otherwise.
    pub(crate) fn start(engine: Engine, flags: &str) -> Self {
        let name = if flags.contains("--via ") {
            ""
        } else {
            "--via hp-proxy"
        };
        Self::start_as_it_is(engine, &format!("{name} {flags}"))
    }

    pub(crate) fn start_as_it_is(engine: Engine, flags: &str) -> Self {
        let flags = format!("--listen 127.0.0.1:0 {} {flags}", engine.flag());
        Self::follow(engine, &flags)
    }

    /// A proxy with one worker that does what a file says, called `hp-proxy`; listens on one address more than the file says.
    pub(crate) fn start_from_file(engine: Engine, text: &str) -> Self {
        let name = engine.flag().trim_start_matches("--engine ");
        let listener = "[[listener]]\naddress = \"127.0.0.1:0\"";
        let globals = format!("workers = 1\nvia = \"hp-proxy\"\nengine = \"{name}\"");
        // What is no table has to come before the first.
        let (keys, tables) = text.split_at(text.find('[').unwrap());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{globals}\n{keys}\n{listener}\n{tables}").unwrap();
        let mut proxy = Self::follow(engine, &format!("--config {}", file.path().display()));
        proxy.file = Some(file);
        if tables.contains("[[listener]]") {
            let line = proxy.says("listening on ");
            proxy
                .others
                .insert("second", line["listening on ".len()..].parse().unwrap());
        }
        proxy
    }

    /// A proxy that does what a file says, and nothing else.
    pub(crate) fn start_from_file_as_it_is(engine: Engine, text: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{text}").unwrap();
        let mut proxy = Self::follow(engine, &format!("--config {}", file.path().display()));
        proxy.file = Some(file);
        proxy
    }

    /// A new client of the second listener.
    pub(crate) fn client_of_second_listener(&self) -> Peer {
        Peer::new(TcpStream::connect_timeout(&self.others["second"], BOUND).unwrap())
    }

    /// A new client of the listener for operators.
    pub(crate) fn client_of_admin(&self) -> Peer {
        Peer::new(TcpStream::connect_timeout(&self.others["admin"], BOUND).unwrap())
    }

    /// Where the listener for operators is.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.others["admin"]
    }

    /// Starts the program, and waits until it listens.
    pub(crate) fn follow(engine: Engine, flags: &str) -> Self {
        Self::of(engine, spawn(flags))
    }

    /// Follows a program that was started with stderr in a pipe, and waits until it listens.
    pub(crate) fn of(engine: Engine, mut child: Child) -> Self {
        let (lines, stderr) = mpsc::channel();
        let reader = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let said = reader.lines().map_while(Result::ok);
            said.map(|line| lines.send(line)).all(|sent| sent.is_ok())
        });
        let mut proxy = Self {
            engine,
            addr: "0.0.0.0:0".parse().unwrap(),
            others: BTreeMap::new(),
            child,
            stderr,
            file: None,
        };
        let line = loop {
            let line = proxy.says(" on ");
            match line.strip_prefix("hp-proxy: admin on ") {
                Some(addr) => proxy.others.insert("admin", addr.parse().unwrap()),
                None if line.starts_with("listening on ") => break line,
                None => None,
            };
        };
        proxy.addr = line["listening on ".len()..].parse().unwrap();
        proxy
    }

    /// A new client.
    pub(crate) fn client(&self) -> Peer {
        Peer::new(TcpStream::connect_timeout(&self.addr, BOUND).unwrap())
    }

    /// A new client that has sent something.
    pub(crate) fn asked(&self, request: impl AsRef<[u8]>) -> Peer {
        let mut client = self.client();
        client.send(request);
        client
    }

    /// Returns when the program has dealt with everything that was sent to it before. Its only worker takes its news in the
    /// order of arrival, and this is later; threads with a connection each sleep again when they have nothing to do.
    pub(crate) fn fence(&self) {
        if let Engine::Threads = self.engine {
            let is_asleep = || self.thread_states().iter().all(|state| *state == 'S');
            assert!(
                (0..100_000).any(|_| is_asleep()),
                "some thread never sleeps"
            );
            return;
        }
        let mut client = self.asked("\0\r\n\r\n");
        assert_eq!(client.response().status(), 400);
    }

    /// What each of the program's threads is doing, by the letters of proc(5).
    pub(crate) fn thread_states(&self) -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let state = |stat: &str| {
            stat.rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next())
        };
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
            .filter_map(|stat| state(&stat))
            .collect()
    }

    /// The next line of stderr that contains `part`.
    pub(crate) fn says(&self, part: &str) -> String {
        self.says_within(part, BOUND)
    }

    /// The same where each line may take so long.
    pub(crate) fn says_within(&self, part: &str, bound: Duration) -> String {
        let mut others = Vec::new();
        loop {
            let line = self.stderr.recv_timeout(bound);
            let line = line
                .unwrap_or_else(|error| panic!("{error}: no line has {part:?}, but {others:#?}"));
            if line.contains(part) {
                return line;
            }
            others.push(line);
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.process(), name);
    }

    /// Its number.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, which it has said before.
    pub(crate) fn status(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The counters, by the names that the summary gives them.
    pub(crate) fn counts(&self) -> BTreeMap<String, String> {
        self.signal("USR1");
        self.says("so far");
        self.summary()
    }

    /// A counter comes to a value, now or as soon as the workers have put down what they did last.
    pub(crate) fn counts_to(&self, name: &str, value: u64) {
        let mut counted = String::new();
        for _ in 0..1000 {
            counted = self.counts().remove(name).unwrap();
            if counted == value.to_string() {
                return;
            }
        }
        panic!("{name}: {counted}, not {value}");
    }

    /// What follows the title of a summary.
    pub(crate) fn summary(&self) -> BTreeMap<String, String> {
        let mut counts = BTreeMap::new();
        while !counts.contains_key("accepted by each worker") {
            let line = self.says("  ");
            let (name, value) = line[2..].split_at_checked(24).unwrap();
            counts.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        counts
    }

    /// Waits for the program's end; also what it still said.
    pub(crate) fn ends(&mut self) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.stderr.recv_timeout(BOUND) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: the program goes on; it said {lines:?}"),
            }
        }
        (self.child.wait().unwrap(), lines)
    }

    /// Kilobytes of memory that are the program's own.
    pub(crate) fn memory_kb(&self) -> u64 {
        self.status_of("RssAnon:")
    }

    /// Places in the program's table of descriptors, used or not.
    pub(crate) fn descriptor_places(&self) -> u64 {
        self.status_of("FDSize:")
    }

    /// A number that the kernel tells of the program, by its name in proc_pid_status(5).
    fn status_of(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.unwrap().split_whitespace().nth(1);
        number.unwrap().parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_status) => (),
            Err(_gone) => (), // It ended before.
        }
    }
}

/// Makes room for the connections of all tests, before any of them waits for something: they share a table of descriptors, and on a busy machine
/// its growth has held up a test's backend for longer than [`BOUND`].
pub(crate) fn make_room() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        limits::raise_open_files().unwrap();
        limits::make_room_for_files().unwrap();
    });
}

/// Sends a signal to a process.
pub(crate) fn signal(process: u32, name: &str) {
    let kill = format!("kill -{name} {process}");
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success());
}

/// Starts the program with stderr in a pipe.
pub(crate) fn spawn(flags: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(flags.split_whitespace())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A backend's listening socket; the test accepts from it when it wants to.
pub(crate) struct Backend {
    listener: TcpListener,
    /// Has the same port and does not listen: while it lives, no other socket is given that port.
    place: Socket,
    pub(crate) addr: SocketAddr,
}

impl Backend {
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn at(addr: SocketAddr) -> Self {
        let (place, addr) = bound(addr);
        let (listener, _) = bound(addr);
        listener.listen(128).unwrap();
        listener.set_read_timeout(Some(BOUND)).unwrap();
        let listener = listener.into();
        Self {
            listener,
            place,
            addr,
        }
    }

    /// Refuses connections as long as the socket lives. A port that was let go may be another test's in no time. It is not closed alone: a program
    /// that another test starts has a copy of the listener for a moment, which would go on taking connections.
    pub(crate) fn refuse(self) -> Socket {
        let listener = SockRef::from(&self.listener);
        listener.shutdown(Shutdown::Both).unwrap();
        self.place
    }

    /// Has room for one connection that nobody has accepted; the kernel is silent to the next.
    pub(crate) fn shorten_backlog(&self) {
        SockRef::from(&self.listener).listen(0).unwrap();
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Peer {
        Peer::new(self.listener.accept().unwrap().0)
    }

    /// A connection that waits already.
    pub(crate) fn try_accept(&self) -> Option<Peer> {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        match accepted {
            Ok((stream, _)) => Some(Peer::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next connection and the request that came over it.
    pub(crate) fn request(&self) -> (Peer, Message) {
        let mut peer = self.accept();
        let request = peer.request();
        (peer, request)
    }

    /// The next connection, its request answered.
    pub(crate) fn answers(&self, answer: impl AsRef<[u8]>) -> Peer {
        let (mut peer, _request) = self.request();
        peer.send(answer);
        peer
    }

    /// No connection waits to be accepted.
    pub(crate) fn has_nobody(&self) {
        assert!(self.try_accept().is_none(), "somebody has connected");
    }
}

/// An address that refuses connections as long as the socket lives.
pub(crate) fn refusing() -> (Socket, SocketAddr) {
    bound("127.0.0.1:0".parse().unwrap())
}

/// A socket at this address, which several may have of which one listens.
fn bound(addr: SocketAddr) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// An address that never answers a connection: its queue is full of those that nobody accepts.
pub(crate) fn silent() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let (socket, addr) = refusing();
    socket.listen(0).unwrap();
    let connect = || TcpStream::connect_timeout(&addr, Duration::from_millis(100));
    let queue: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(16).collect();
    assert!(queue.len() < 16, "the queue is full at last");
    (socket, queue, addr)
}

/// One end of a connection, and what was read from it too early.
pub(crate) struct Peer {
    stream: TcpStream,
    held: Vec<u8>,
}

/// One request or response.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Trailer lines, each with its end.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        assert!(self.head.starts_with("HTTP/1.1 "), "{}", self.head);
        self.head[9..12].parse().unwrap()
    }

    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        let named = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} is repeated in {}", self.head);
        values.first().copied()
    }
}

impl Peer {
    /// The test's own end of a connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        Self {
            stream,
            held: Vec::new(),
        }
    }

    /// A client of this address.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&addr, BOUND).unwrap())
    }

    /// A client whose kernel holds little for it.
    pub(crate) fn with_small_buffer(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self::new(socket.into())
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    pub(crate) fn peer_port(&self) -> u16 {
        self.stream.peer_addr().unwrap().port()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Reads up to the end of a line or a head, which is part of the result.
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .held
                .windows(end.len())
                .position(|part| part == end.as_bytes());
            if let Some(at) = found {
                return String::from_utf8(self.take(at + end.len())).unwrap();
            }
            self.fill();
        }
    }

    /// Until the kernel has so many bytes that nobody has read.
    pub(crate) fn waits_for(&self, count: usize) {
        assert_eq!(self.held, b"");
        let (begun, mut space) = (Instant::now(), vec![0; count]);
        while self.stream.peek(&mut space).unwrap() < count {
            assert!(begun.elapsed() < BOUND);
            std::thread::yield_now();
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        if let Some(missing) = count.checked_sub(self.held.len()) {
            let mut rest = vec![0; missing];
            self.stream.read_exact(&mut rest).unwrap();
            self.held.append(&mut rest);
        }
        self.take(count)
    }

    /// Everything up to the end, and whether that is a reset.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = std::mem::take(&mut self.held);
        match self.stream.read_to_end(&mut bytes) {
            Ok(_count) => (bytes, false),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (bytes, true),
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// The other side closes, one way or the other, and says nothing before.
    pub(crate) fn sees_end(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.rest().0), "");
    }

    /// The other side has said nothing so far, and is there.
    pub(crate) fn sees_nothing(&mut self) {
        let found = self.read_now();
        assert!(found.is_none() && self.held.is_empty(), "{:?}", self.held);
    }

    /// Whether the other side has closed by now, and said nothing before.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.read_now() == Some(0)
    }

    /// Itself if a request without a body is there; takes it.
    pub(crate) fn asks(&mut self) -> Option<&mut Self> {
        self.read_now();
        self.held.ends_with(b"\r\n\r\n").then(|| {
            self.held.clear();
            self
        })
    }

    /// What is there at once: a number of bytes, 0 for the end.
    fn read_now(&mut self) -> Option<usize> {
        let mut space = [0; 4096];
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.read(&mut space);
        self.stream.set_nonblocking(false).unwrap();
        match read {
            Ok(count) => {
                self.held.extend_from_slice(&space[..count]);
                Some(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next request, its body decoded.
    pub(crate) fn request(&mut self) -> Message {
        let head = self.until("\r\n\r\n");
        self.framed(head)
    }

    /// The next response to anything but HEAD; one without a length goes on until the end.
    pub(crate) fn response(&mut self) -> Message {
        let head = self.until("\r\n\r\n");
        let mut message = self.framed(head);
        let is_framed = ["Content-Length", "Transfer-Encoding"].map(|name| message.field(name));
        let is_bodiless = matches!(message.status(), 100..=199 | 204 | 304);
        if is_framed == [None, None] && !is_bodiless {
            let (body, is_reset) = self.rest();
            assert!(!is_reset, "a body that ends with the connection is whole");
            message.body = body;
        }
        message
    }

    /// A head that no body follows, whatever its fields say.
    pub(crate) fn head(&mut self) -> Message {
        Message {
            head: self.until("\r\n\r\n"),
            body: Vec::new(),
            trailers: String::new(),
        }
    }

    fn framed(&mut self, head: String) -> Message {
        let mut message = Message {
            head,
            body: Vec::new(),
            trailers: String::new(),
        };
        let is_bodiless = ["HTTP/1.1 1", "HTTP/1.1 204", "HTTP/1.1 304"]
            .iter()
            .any(|start| message.head.starts_with(start));
        if is_bodiless {
            return message;
        }
        if let Some(length) = message.field("Content-Length") {
            message.body = self.exactly(length.parse().unwrap());
        } else if message.field("Transfer-Encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.until("\r\n").trim_end(), 16).unwrap();
                if size == 0 {
                    break;
                }
                message.body.extend(self.exactly(size));
                assert_eq!(self.exactly(2), b"\r\n");
            }
            loop {
                match self.until("\r\n").as_str() {
                    "\r\n" => break,
                    line => message.trailers.push_str(line),
                }
            }
        }
        message
    }

    fn fill(&mut self) {
        let mut space = [0; 16 * 1024];
        let read = self.stream.read(&mut space);
        match read {
            Ok(count) if count > 0 => self.held.extend_from_slice(&space[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&self.held)),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.held.split_off(count);
        std::mem::replace(&mut self.held, rest)
    }
}
