//! Plays a scene on whatever carries bytes: the same steps for real sockets and simulated ones.

use crate::record::{End, Record, Said, find};
use crate::scene::{Act, Scene, Step};
use std::io;

/// Both neighbours of a running proxy.
pub(crate) trait Neighbours {
    type Conn: Conn;

    /// A client's new connection to the proxy.
    async fn connect(&self) -> io::Result<Self::Conn>;

    /// The proxy's next connection to the backend.
    async fn accept(&self) -> io::Result<Self::Conn>;
}

/// One connection with the proxy.
pub(crate) trait Conn {
    async fn send(&self, bytes: &[u8]) -> io::Result<()>;

    /// Appends what comes next.
    async fn receive(&self, bytes: &mut Vec<u8>) -> io::Result<Received>;

    /// Sends FIN.
    async fn finish(&self) -> io::Result<()>;

    /// Sends RST.
    fn reset(self);
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes,
    End(End),
}

/// Plays a scene to the end of all its connections.
///
/// # Errors
/// The step that could not be done, and why.
pub(crate) async fn play<N: Neighbours>(neighbours: &N, scene: &Scene) -> Result<Record, String> {
    let (mut clients, mut backends) = (Vec::new(), Vec::new());
    for (number, step) in scene.steps.iter().enumerate() {
        let done = match step {
            Step::Client(Act::Opens) => neighbours
                .connect()
                .await
                .map(|conn| clients.push(Party::new(conn))),
            Step::Backend(Act::Opens) => neighbours
                .accept()
                .await
                .map(|conn| backends.push(Party::new(conn))),
            Step::Client(act) => newest(&mut clients).act(act).await,
            Step::Backend(act) => newest(&mut backends).act(act).await,
        };
        done.map_err(|error| format!("step {number}, {}: {error}", brief(step)))?;
    }
    // A kept connection lasts until a neighbour ends it. The clients do so first: then no exchange needs a backend.
    Ok(Record {
        to_clients: end_all(clients).await.map_err(|error| error.to_string())?,
        to_backends: end_all(backends).await.map_err(|error| error.to_string())?,
    })
}

/// A neighbour's end of a connection, and what the proxy said there so far.
struct Party<C> {
    /// `None` after it was reset.
    conn: Option<C>,
    bytes: Vec<u8>,
    /// What was asked for already; `read <= bytes.len()`.
    read: usize,
    end: Option<End>,
}

impl<C: Conn> Party<C> {
    fn new(conn: C) -> Self {
        Self {
            conn: Some(conn),
            bytes: Vec::new(),
            read: 0,
            end: None,
        }
    }

    async fn act(&mut self, act: &Act) -> io::Result<()> {
        match act {
            Act::Opens => unreachable!("opening makes a party"),
            Act::Sends(bytes) => self.conn()?.send(bytes).await,
            Act::ReadsUntil(text) => self.read_until(text.as_bytes()).await,
            Act::ReadsEnd => self.read_end().await,
            Act::Finishes => self.conn()?.finish().await,
            Act::Resets => {
                self.end = Some(End::Left);
                self.conn.take().ok_or_else(gone)?.reset();
                Ok(())
            }
        }
    }

    async fn read_until(&mut self, text: &[u8]) -> io::Result<()> {
        let mut searched = self.read;
        loop {
            if let Some(at) = find(&self.bytes[searched..], text) {
                self.read = searched + at + text.len();
                return Ok(());
            }
            // The text may have begun.
            searched = self
                .read
                .max((self.bytes.len() + 1).saturating_sub(text.len()));
            if self.fill().await? != Received::Bytes {
                let rest = String::from_utf8_lossy(&self.bytes[self.read..]);
                let told = format!("{:?} after {rest:.200}", self.end);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, told));
            }
        }
    }

    async fn read_end(&mut self) -> io::Result<()> {
        while self.end.is_none() {
            self.fill().await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<Received> {
        let conn = self.conn.as_ref().ok_or_else(gone)?;
        let received = conn.receive(&mut self.bytes).await?;
        if let Received::End(end) = received {
            self.end = Some(end);
        }
        Ok(received)
    }

    fn conn(&self) -> io::Result<&C> {
        self.conn.as_ref().ok_or_else(gone)
    }
}

fn newest<C>(parties: &mut [Party<C>]) -> &mut Party<C> {
    parties.last_mut().expect("a scene opens before it acts")
}

async fn end_all<C: Conn>(parties: Vec<Party<C>>) -> io::Result<Vec<Said>> {
    let mut said = Vec::new();
    for mut party in parties {
        if party.end.is_none() {
            match party.conn()?.finish().await {
                Ok(()) | Err(_) => (), // The proxy may have ended it, which reading tells.
            }
        }
        party.read_end().await?;
        said.push(Said {
            bytes: party.bytes,
            end: party.end.expect("it was read"),
        });
    }
    Ok(said)
}

fn brief(step: &Step) -> String {
    format!("{step:.120?}").chars().take(120).collect()
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the scene has reset it")
}
