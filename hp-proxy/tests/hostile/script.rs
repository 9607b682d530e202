//! What the peers of one run say, as a file or a seed gives it.
//!
//! A file is one byte of manners, then the clients' bytes with a line `++++` between two of them, then after a line `====` each of
//! the backend's answers. A missing answer is a plain one.

use hp_core::rt::sim::Face;
use hp_oracle::choices::Choices;
use hp_oracle::hostile;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(super) manners: u8,
    pub(super) clients: Vec<Vec<u8>>,
    pub(super) answers: Vec<Vec<u8>>,
}

impl Script {
    /// Reads a file; any bytes are one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (manners, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let mut parts = split(rest, b"\n====\n").into_iter();
        let clients = split(parts.next().unwrap_or_default(), b"\n++++\n");
        let own = |part: &[u8]| part.to_vec();
        Self {
            manners: *manners,
            clients: clients.into_iter().take(CLIENTS_MAX).map(own).collect(),
            answers: parts.take(ANSWERS_MAX).map(own).collect(),
        }
    }

    /// Writes the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let clients = self.clients.join(&b"\n++++\n"[..]);
        let mut bytes = [&[self.manners], &clients[..]].concat();
        for answer in &self.answers {
            bytes.extend_from_slice(b"\n====\n");
            bytes.extend_from_slice(answer);
        }
        bytes
    }

    /// The run of a seed: hostile clients, one after the other, and a backend that is hostile in half of its answers.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut choices = Choices::from_seed(seed);
        let manners = u8::try_from(choices.below(256)).unwrap_or(0);
        let clients = 1 + choices.below(CLIENTS_MAX);
        let clients = (0..clients)
            .map(|_| made(&mut choices, hostile::requests))
            .collect();
        let answers = choices.below(ANSWERS_MAX);
        let answer = |choices: &mut Choices<'_>| match choices.below(2) {
            0 => PLAIN.to_vec(),
            _ => made(choices, hostile::responses),
        };
        Self {
            manners,
            clients,
            answers: (0..answers).map(|_| answer(&mut choices)).collect(),
        }
    }

    /// What the proxy sees of the kernel.
    pub(super) fn face(&self) -> Face {
        if self.manners & 1 == 0 {
            Face::Readiness
        } else {
            Face::Completion
        }
    }

    /// Clients say that they have said all.
    pub(super) fn clients_finish(&self) -> bool {
        self.manners & 2 != 0
    }

    /// The backend closes behind an answer.
    pub(super) fn backend_finishes(&self) -> bool {
        self.manners & 12 == 12
    }

    /// The backend answers before it has the content.
    pub(super) fn answers_early(&self) -> bool {
        self.manners & 16 != 0
    }

    /// In how many pieces everybody says what there is to say.
    pub(super) fn pieces(&self) -> usize {
        1 + usize::from(self.manners >> 6)
    }

    /// The answer to this request, counted from 0.
    pub(super) fn answer(&self, index: usize) -> &[u8] {
        self.answers.get(index).map_or(PLAIN, Vec::as_slice)
    }
}

/// What a backend says whose script is over.
const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const CLIENTS_MAX: usize = 8;
const ANSWERS_MAX: usize = 12;

fn made(choices: &mut Choices<'_>, make: fn(&mut Choices<'_>, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    make(choices, &mut bytes);
    bytes
}

fn split<'b>(mut bytes: &'b [u8], line: &[u8]) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(line.len()).position(|window| window == line) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + line.len()..];
    }
    parts.push(bytes);
    parts
}
