//! What a proxy makes of one request: the bytes that it sends to the backend, and those that it sends to the client. They
//! are saved beside the results, and their lengths are columns: who sends more has more to do, and who drops fields less.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{error, fmt, fs};

use serde::{Deserialize, Serialize};

use crate::clock;

/// A backend that answers one request with [`ANSWER`] and keeps what came, by TCP or by a Unix socket.
#[derive(Debug)]
pub struct Recorder {
    listener: TcpListener,
    addr: SocketAddr,
    local: UnixListener,
    path: PathBuf,
}

/// Both messages as one proxy wrote them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wire {
    /// The request as it reached the backend.
    pub to_backend: Vec<u8>,
    /// The answer as it reached the client.
    pub to_client: Vec<u8>,
}

/// How long they are, in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lengths {
    /// The request, a few bytes of which are the port in Host.
    pub to_backend_bytes: usize,
    /// The answer with its body of 13 bytes.
    pub to_client_bytes: usize,
}

/// Why there is nothing to save.
#[derive(Debug)]
pub struct WireError {
    step: &'static str,
    addr: SocketAddr,
    cause: io::Error,
}

impl Recorder {
    /// Listens on a free port of 127.0.0.1, and on a Unix socket of this name, which it removes at its end.
    ///
    /// # Errors
    /// [`WireError`] where the kernel refuses.
    #[expect(
        clippy::disallowed_methods,
        reason = "the harness has no runtime; what it reads here is one message"
    )]
    pub fn bind(path: &Path) -> Result<Self, WireError> {
        let asked = SocketAddr::from(([127, 0, 0, 1], 0));
        let failed = |cause| WireError {
            step: "listening",
            addr: asked,
            cause,
        };
        let listener = TcpListener::bind(asked).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let local = UnixListener::bind(path).map_err(failed)?;
        local.set_nonblocking(true).map_err(failed)?;
        let path = path.to_owned();
        Ok(Self {
            listener,
            addr,
            local,
            path,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends one request, as hp-bench writes it, to a proxy whose only backend this is.
    ///
    /// # Errors
    /// [`WireError`] where the proxy refuses, leaves early, says more than [`WIRE_BYTES_MAX`], or is not done within
    /// `patience`.
    pub fn exchange(&self, proxy: SocketAddr, patience: Duration) -> Result<Wire, WireError> {
        let failed = |step| {
            move |cause| WireError {
                step,
                addr: proxy,
                cause,
            }
        };
        let deadline = clock::now() + patience;
        let mut client = connect(proxy, patience).map_err(failed("connecting"))?;
        client
            .write_all(&request_to(proxy))
            .map_err(failed("sending a request"))?;
        client
            .set_nonblocking(true)
            .map_err(failed("sending a request"))?;
        self.relay(client, deadline)
            .map_err(failed("waiting for an answer"))
    }

    /// Who has come, if anybody has.
    fn accept(&self) -> io::Result<Option<Guest>> {
        match self.listener.accept() {
            Ok((guest, _addr)) => {
                guest.set_nonblocking(true)?;
                return Ok(Some(Guest::Remote(guest)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
        match self.local.accept() {
            Ok((guest, _addr)) => {
                guest.set_nonblocking(true)?;
                Ok(Some(Guest::Local(guest)))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn relay(&self, mut client: TcpStream, deadline: Instant) -> io::Result<Wire> {
        let mut guests: Vec<(Guest, Vec<u8>)> = Vec::new();
        let mut asked = None;
        let mut to_client = Vec::new();
        loop {
            let mut moved = false;
            // A proxy may open more than it uses; more than a few is none of ours, and closed by leaving it.
            if let Some(guest) = self.accept()?
                && guests.len() < GUESTS_MAX
            {
                guests.push((guest, Vec::new()));
                moved = true;
            }
            if asked.is_none() {
                for (guest, bytes) in &mut guests {
                    // One that breaks is a connection that the proxy did not use.
                    moved |= matches!(take(guest, bytes), Ok(Taken::Some));
                    if is_head_whole(bytes) {
                        guest.write_all(ANSWER)?; // shorter than any socket's buffer
                        asked = Some(bytes.clone());
                        break;
                    }
                }
            }
            let taken = take(&mut client, &mut to_client)?;
            moved |= taken == Taken::Some;
            match (asked.take(), taken) {
                (Some(to_backend), _) if is_answered(&to_client) => {
                    return Ok(Wire {
                        to_backend,
                        to_client,
                    });
                }
                (_, Taken::End) => return Err(ErrorKind::UnexpectedEof.into()),
                (still, Taken::Some | Taken::None) => asked = still,
            }
            if clock::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            if !moved {
                clock::pause(LOOK_INTERVAL);
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => (),
            Err(_gone) => (), // Its folder may have gone before.
        }
    }
}

/// A connection of the proxy's.
#[derive(Debug)]
enum Guest {
    Remote(TcpStream),
    Local(UnixStream),
}

impl Read for Guest {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Remote(stream) => stream.read(space),
            Self::Local(stream) => stream.read(space),
        }
    }
}

impl Write for Guest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Remote(stream) => stream.write(bytes),
            Self::Local(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // Neither keeps anything back.
    }
}

impl Wire {
    /// Both lengths.
    pub fn lengths(&self) -> Lengths {
        Lengths {
            to_backend_bytes: self.to_backend.len(),
            to_client_bytes: self.to_client.len(),
        }
    }

    /// Writes `NAME.to-backend` and `NAME.to-client` into a folder, which is made where it is missing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn save(&self, folder: &Path, subject: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let name = subject.replace('/', "-");
        fs::write(folder.join(format!("{name}.to-backend")), &self.to_backend)?;
        fs::write(folder.join(format!("{name}.to-client")), &self.to_client)
    }
}

/// The request that hp-bench sends where it is told nothing else.
pub fn request_to(addr: SocketAddr) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n").into_bytes()
}

/// Connects within a time, and sends what is written at once.
///
/// # Errors
/// What the kernel answers.
pub fn connect(addr: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, patience)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Taken {
    Some,
    None,
    End,
}

/// Adds what has come; fails at more than [`WIRE_BYTES_MAX`].
fn take(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Taken> {
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(0) => Ok(Taken::End),
        Ok(count) if bytes.len() + count > WIRE_BYTES_MAX => Err(ErrorKind::FileTooLarge.into()),
        Ok(count) => {
            bytes.extend(piece.iter().take(count));
            Ok(Taken::Some)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Taken::None),
        Err(error) => Err(error),
    }
}

fn is_head_whole(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Whether the body has come whole, alone or as the only chunk.
fn is_answered(bytes: &[u8]) -> bool {
    let body = ANSWER.rsplit(|&byte| byte == b'\n').next();
    let chunked = b"\r\n0\r\n\r\n";
    let plain = bytes.strip_suffix(chunked).unwrap_or(bytes);
    is_head_whole(bytes) && body.is_some_and(|body| plain.ends_with(body))
}

impl fmt::Display for WireError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, addr, cause } = self;
        write!(
            out,
            "{addr}: {step} failed ({cause}); see the peer's own messages in log/"
        )
    }
}

impl error::Error for WireError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What hp-echo answers where it is told nothing else.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nxxxxxxxxxxxxx";
/// The longest message that is taken.
pub const WIRE_BYTES_MAX: usize = 64 * 1024;

const GUESTS_MAX: usize = 16;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the proxy of a test is a plain thread with plain sockets"
)]
mod tests {
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A recorder, and the folder of its socket.
    fn recorder() -> (Recorder, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::bind(&folder.path().join("socket")).unwrap();
        (recorder, folder)
    }

    #[test]
    fn without_a_proxy_nothing_is_added() {
        let (recorder, _folder) = recorder();
        let wire = recorder.exchange(recorder.addr(), PATIENCE).unwrap();
        assert_eq!(wire.to_backend, request_to(recorder.addr()));
        assert_eq!(wire.to_client, ANSWER);
    }

    #[test]
    fn a_recorder_answers_again() {
        let (recorder, _folder) = recorder();
        for _ in 0..3 {
            recorder.exchange(recorder.addr(), PATIENCE).unwrap();
        }
    }

    #[test]
    fn a_proxy_may_come_by_the_unix_socket() {
        let (recorder, folder) = recorder();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = proxy.local_addr().unwrap();
        let path = folder.path().join("socket");
        let proxying = thread::spawn(move || {
            let (mut client, _addr) = proxy.accept().unwrap();
            let mut backend = UnixStream::connect(path).unwrap();
            let mut request = vec![0; request_to(addr).len()];
            client.read_exact(&mut request).unwrap();
            backend.write_all(&request).unwrap();
            io::copy(&mut backend.take(ANSWER.len() as u64), &mut client).unwrap();
        });
        let wire = recorder.exchange(addr, PATIENCE).unwrap();
        assert_eq!(wire.to_backend, request_to(addr));
        assert_eq!(wire.to_client, ANSWER);
        proxying.join().unwrap();
    }

    #[test]
    fn a_proxy_that_is_not_there_is_named() {
        let gone = recorder().0.addr();
        let (recorder, _folder) = recorder();
        let error = recorder.exchange(gone, PATIENCE).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{gone}: connecting failed")),
            "{error}"
        );
    }

    #[test]
    fn a_silent_proxy_is_not_waited_for_without_end() {
        let (silent, _its_folder) = recorder();
        let (recorder, _folder) = recorder();
        let error = recorder
            .exchange(silent.addr(), Duration::from_millis(20))
            .unwrap_err();
        assert_eq!(error.cause.kind(), ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn an_answer_ends_with_its_body_in_either_framing() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nxxxxxxxxxxxxx"[..], true),
            (
                b"HTTP/1.1 200 OK\r\n\r\nd\r\nxxxxxxxxxxxxx\r\n0\r\n\r\n",
                true,
            ),
            (b"HTTP/1.1 200 OK\r\n\r\nd\r\nxxxxxxxxxxxxx\r\n0\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\nxxxxxxxxxxxx", false),
            (b"HTTP/1.1 200 OK\r\nx: xxxxxxxxxxxxx", false),
            (b"", false),
        ] {
            assert_eq!(is_answered(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn both_messages_are_saved_under_the_subjects_name() {
        let folder = tempfile::tempdir().unwrap();
        let wire = Wire {
            to_backend: b"a".to_vec(),
            to_client: b"b".to_vec(),
        };
        wire.save(&folder.path().join("wire"), "nginx@stock/aa")
            .unwrap();
        let read = |name: &str| fs::read(folder.path().join("wire").join(name)).unwrap();
        assert_eq!(read("nginx@stock-aa.to-backend"), b"a");
        assert_eq!(read("nginx@stock-aa.to-client"), b"b");
    }
}
