//! Received bytes that nobody has taken yet, and written ones that the socket has not.

use crate::rt::buf::Lent;
use crate::rt::driver::FilePart;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Received pieces that nobody has taken yet; holds no memory of its own while it has at most one.
#[derive(Debug, Default)]
pub(crate) struct RxQueue {
    first: Option<Lent>,
    /// Never empty.
    #[expect(
        clippy::box_collection,
        reason = "it has room in every slot, and nearly all connections idle"
    )]
    rest: Option<Box<VecDeque<Lent>>>,
}

impl RxQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds received bytes; small ones are copied behind the last piece, so that a peer that dribbles cannot hold many
    /// buffers.
    #[inline]
    pub(crate) fn push(&mut self, lent: Lent) {
        if self.first.is_none() && !lent.is_scarce() {
            self.first = Some(lent); // Nearly always.
            return;
        }
        if let Some(first) = &mut self.first {
            let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
            let last = rest.unwrap_or(first);
            if last.try_append(&lent) {
                return;
            }
        }
        lent.settle(|piece| match &self.first {
            None => self.first = Some(piece),
            Some(_) => self.rest.get_or_insert_default().push_back(piece),
        });
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.first
            .iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter()))
            .map(|piece| piece.len())
            .sum()
    }

    /// Puts a piece back before all others.
    pub(crate) fn unread(&mut self, lent: Lent) {
        if let Some(first) = self.first.replace(lent) {
            self.rest.get_or_insert_default().push_front(first);
        }
    }

    /// Drops bytes of the first piece, at most `max`; says how many, 0 where there is none.
    pub(crate) fn discard(&mut self, max: usize) -> usize {
        let Some(mut first) = self.pop() else {
            return 0;
        };
        let count = first.len().min(max);
        first.advance(count);
        if !first.is_empty() {
            self.unread(first);
        }
        count
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Lent> {
        let first = self.first.take()?;
        if let Some(rest) = &mut self.rest {
            self.first = rest.pop_front();
            if rest.is_empty() {
                self.rest = None; // Idle connections keep no memory.
            }
        }
        Some(first)
    }
}

/// Bytes that the socket has not taken yet; holds no memory while empty.
#[derive(Debug, Default)]
pub(crate) struct TxQueue {
    queue: Option<Box<TxSegments>>,
}

#[derive(Debug, Default)]
struct TxSegments {
    segments: VecDeque<TxSegment>,
    bytes: usize,
}

#[derive(Debug)]
enum TxSegment {
    Lent(Lent),
    Owned { bytes: Vec<u8>, sent: usize },
    File(FilePart),
}

/// What stands at the front of a queue.
#[derive(Debug)]
pub(crate) enum Front<'a> {
    /// Nothing: the queue is empty.
    Nothing,
    /// So many of the given places are filled with bytes in memory.
    Bytes(usize),
    /// A part of a file.
    File(&'a FilePart),
}

impl TxQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    pub(crate) fn push_lent(&mut self, lent: Lent) {
        if !lent.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.bytes += lent.len();
            lent.settle(|piece| queue.segments.push_back(TxSegment::Lent(piece)));
        }
    }

    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.queue.get_or_insert_default();
        queue.bytes += bytes.len();
        match queue.segments.back_mut() {
            Some(TxSegment::Owned { bytes: last, .. }) => last.extend_from_slice(bytes),
            _ => queue.segments.push_back(TxSegment::Owned {
                bytes: bytes.to_vec(),
                sent: 0,
            }),
        }
    }

    pub(crate) fn push_file(&mut self, part: FilePart) {
        if part.left > 0 {
            let queue = self.queue.get_or_insert_default();
            let len = usize::try_from(part.left).unwrap_or(usize::MAX);
            queue.bytes = queue.bytes.saturating_add(len);
            queue.segments.push_back(TxSegment::File(part));
        }
    }

    /// The first few segments, as a send takes them; a part of a file is one by itself.
    pub(crate) fn front<'a>(&'a self, place: &mut [IoSlice<'a>; FRONT_MAX]) -> Front<'a> {
        let Some(queue) = &self.queue else {
            return Front::Nothing;
        };
        let mut used = 0;
        for (slot, segment) in place.iter_mut().zip(&queue.segments) {
            match segment {
                TxSegment::File(part) if used == 0 => return Front::File(part),
                TxSegment::File(_) => break,
                TxSegment::Lent(_) | TxSegment::Owned { .. } => {
                    *slot = IoSlice::new(segment.unsent());
                }
            }
            used += 1;
        }
        Front::Bytes(used)
    }

    /// Drops the first `count` bytes: the socket took them.
    pub(crate) fn advance(&mut self, mut count: usize) {
        let Some(queue) = &mut self.queue else { return };
        queue.bytes -= count.min(queue.bytes);
        while count > 0 {
            let Some(front) = queue.segments.front_mut() else {
                break;
            };
            let taken = count.min(front.len());
            front.advance(taken);
            count -= taken;
            if front.len() == 0 {
                queue.segments.pop_front();
            }
        }
        if queue.segments.is_empty() {
            self.queue = None;
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.queue = None;
    }
}

impl TxSegment {
    fn unsent(&self) -> &[u8] {
        match self {
            Self::Lent(lent) => lent,
            Self::Owned { bytes, sent } => &bytes[*sent..],
            Self::File(_) => &[],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Lent(_) | Self::Owned { .. } => self.unsent().len(),
            Self::File(part) => usize::try_from(part.left).unwrap_or(usize::MAX),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Lent(lent) => lent.advance(count),
            Self::Owned { sent, .. } => *sent += count,
            Self::File(part) => part.advance(count),
        }
    }
}

/// Segments that one send names at most.
pub(crate) const FRONT_MAX: usize = 16;
