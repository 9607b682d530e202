//! Starts the real program on a free port and speaks raw bytes to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

/// `auto` is io_uring wherever that is allowed.
pub(crate) const ENGINES: [&str; 3] = ["epoll", "auto", "threads"];

/// A running hp-echo; killed when dropped.
pub(crate) struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) addr: SocketAddr,
}

/// A connection to it. Every read gives up after ten seconds.
pub(crate) struct Client(TcpStream);

/// One answer, its body decoded.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Runs `check` against a fresh server on each engine.
pub(crate) fn on_each_engine(args: &[&str], check: impl Fn(&Server)) {
    for engine in ENGINES {
        let server = Server::start(&[args, &["--engine", engine]].concat());
        check(&server);
    }
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hp-echo"))
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let addr = line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        let addr = addr.trim_end().parse().unwrap();
        Self {
            child,
            stderr,
            addr,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Client(stream)
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the program's end; also what else it said.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// A second handle, to send and receive at the same time.
    pub(crate) fn twin(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer()
    }

    /// Reads one answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let (status, head) = self.head();
        let length = field(&head, "Content-Length").map(|length| length.parse().unwrap());
        let mut body = Vec::new();
        if field(&head, "Transfer-Encoding").is_some() {
            self.chunks(&mut body);
        } else if let Some(length) = length {
            body.resize(length, 0);
            self.0.read_exact(&mut body).unwrap();
        }
        Answer { status, head, body }
    }

    /// Reads one head to its blank line, and not a byte more.
    pub(crate) fn head(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap();
        (status.parse().unwrap(), head)
    }

    /// Everything up to the server's end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    /// The same, and how it failed, if it did not end in order.
    pub(crate) fn rest_and_failure(&mut self) -> (Vec<u8>, Option<std::io::Error>) {
        let mut rest = Vec::new();
        let failure = self.0.read_to_end(&mut rest).err();
        (rest, failure)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let size = usize::from_str_radix(&self.line(), 16).unwrap();
            let start = body.len();
            body.resize(start + size, 0);
            self.0.read_exact(&mut body[start..]).unwrap();
            assert_eq!(self.line(), "");
            if size == 0 {
                return;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }
}

/// The value of a field that is there once.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
