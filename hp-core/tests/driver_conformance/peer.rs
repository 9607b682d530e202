//! The other end: blocking sockets, driven by plain threads.

use crate::lab::{Chance, PATIENCE, mix};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// An endless text that both ends can compute from any offset, so that the first wrong byte is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text(pub(crate) u64);

impl Text {
    pub(crate) fn bytes(self, offset: usize, len: usize) -> Vec<u8> {
        let first = offset / 8;
        let words = (first..=(offset + len) / 8).flat_map(|word| self.word(word));
        words.skip(offset % 8).take(len).collect()
    }

    /// Panics at the first byte that is not the text's.
    pub(crate) fn check(self, offset: usize, got: &[u8]) {
        let wanted = self.bytes(offset, got.len());
        if got != wanted {
            let wrong = got
                .iter()
                .zip(&wanted)
                .position(|(got, wanted)| got != wanted)
                .unwrap();
            panic!("byte {} of {self:?} is wrong", offset + wrong);
        }
    }

    fn word(self, word: usize) -> [u8; 8] {
        mix(self.0 ^ (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()
    }
}

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes with RST instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

pub(crate) fn thread<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().spawn(body).unwrap()
}

/// Says the first `len` bytes of a text in pieces of random size, then FIN.
pub(crate) fn say(mut stream: TcpStream, text: Text, len: usize, seed: u64) -> JoinHandle<()> {
    thread(move || {
        let mut chance = Chance::new(seed);
        let mut said = 0;
        while said < len {
            let size = chance.size(PIECE_MAX).min(len - said);
            let bytes = text.bytes(said, size);
            // Small pieces come in bursts: that is how 1-byte segments are worth testing.
            let burst = if size < 64 { 1 + size / 8 } else { size };
            for piece in bytes.chunks(burst) {
                stream.write_all(piece).unwrap();
            }
            said += size;
            if chance.below(4) == 0 {
                std::thread::yield_now();
            }
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    })
}

/// Hears a text until FIN; returns its length.
pub(crate) fn hear(mut stream: TcpStream, text: Text, seed: u64) -> JoinHandle<usize> {
    thread(move || {
        let mut chance = Chance::new(seed);
        let mut heard = 0;
        let mut buffer = vec![0; PIECE_MAX];
        loop {
            let size = chance.size(PIECE_MAX);
            let len = stream.read(&mut buffer[..size]).unwrap();
            if len == 0 {
                return heard;
            }
            text.check(heard, &buffer[..len]);
            heard += len;
        }
    })
}

const PIECE_MAX: usize = 1024 * 1024;
