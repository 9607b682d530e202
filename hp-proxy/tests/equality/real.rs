//! The real program on this machine's kernel, between plain blocking sockets.

use crate::play::{self, Conn, Neighbours, Received};
use crate::record::{End, Record};
use crate::scene::{Backend, Scene};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::pin;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Plays a scene with a program of its own.
///
/// # Errors
/// As [`play::play`].
pub(crate) fn play(engine: &str, scene: &Scene) -> Result<Record, String> {
    let backend = Listening::new(scene.backend).expect("loopback has free ports");
    let proxy = Program::start(engine, backend.addr);
    let neighbours = Sockets {
        proxy: proxy.addr,
        backend: backend.socket,
    };
    // Blocking calls leave nothing to wait for.
    let played = pin!(play::play(&neighbours, scene)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(played) = played else {
        unreachable!("every await in it is over at once");
    };
    let mut record = played?;
    record.settle(&proxy.addr.to_string(), scene.chunks);
    Ok(record)
}

/// The backend's address, held for as long as the scene lasts.
struct Listening {
    socket: Socket,
    addr: SocketAddr,
}

impl Listening {
    fn new(backend: Backend) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        // Bound and not listening refuses, and nobody else gets the port.
        if backend == Backend::Listens {
            socket.listen(16)?;
            socket.set_read_timeout(Some(BOUND))?;
        }
        let addr = socket.local_addr()?.as_socket().expect("it is IPv4");
        Ok(Self { socket, addr })
    }
}

/// The running program; killed when dropped.
struct Program {
    child: Child,
    addr: SocketAddr,
    /// Open for as long as the program may say something.
    _stderr: BufReader<ChildStderr>,
}

impl Program {
    fn start(engine: &str, backend: SocketAddr) -> Self {
        let backend = backend.to_string();
        let flags = "--listen 127.0.0.1:0 --workers 1 --via hp-proxy".split(' ');
        let mut child = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
            .args(flags)
            .args(["--engine", engine, "--backend", &backend])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built with its tests");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let mut said = String::new();
        let addr = loop {
            let before = said.len();
            let count = stderr.read_line(&mut said).expect("it speaks UTF-8");
            assert!(count > 0, "{engine} does not start: {said}");
            if let Some(addr) = said[before..].trim_end().strip_prefix("listening on ") {
                break addr.parse().expect("it names its address");
            }
        };
        Self {
            child,
            addr,
            _stderr: stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_status) => (),
            Err(_gone) => (), // It ended before.
        }
    }
}

struct Sockets {
    proxy: SocketAddr,
    backend: Socket,
}

impl Neighbours for Sockets {
    type Conn = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        bounded(TcpStream::connect_timeout(&self.proxy, BOUND)?)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        bounded(self.backend.accept()?.0.into())
    }
}

/// No wait takes longer unless something is wrong.
fn bounded(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    Ok(stream)
}

impl Conn for TcpStream {
    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self;
        stream.write_all(bytes)
    }

    async fn receive(&self, bytes: &mut Vec<u8>) -> io::Result<Received> {
        let mut space = [0; 16 * 1024];
        let mut stream = self;
        match stream.read(&mut space) {
            Ok(0) => Ok(Received::End(End::Finished)),
            Ok(count) => {
                bytes.extend_from_slice(&space[..count]);
                Ok(Received::Bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Ok(Received::End(End::Reset))
            }
            Err(error) => Err(error),
        }
    }

    async fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset(self) {
        let socket = SockRef::from(&self);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a socket takes the option");
    }
}

const BOUND: Duration = Duration::from_secs(20);
