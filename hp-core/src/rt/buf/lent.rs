//! A piece of a receive buffer.
#![expect(unsafe_code, reason = "reads memory that the kernel wrote")]

use super::pool::{Group, Pool};
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

/// Bytes borrowed from the worker's pool; dropping the last piece of a buffer gives it back.
///
/// Hold it for one turn or hand it to a send queue; bytes that must wait for somebody else are copied out.
pub struct Lent {
    pool: Rc<Pool>,
    start: NonNull<u8>,
    len: u32,
    id: u16,
    group: Group,
}

impl Lent {
    pub(super) fn new(pool: Rc<Pool>, group: Group, id: u16, start: NonNull<u8>, len: u32) -> Self {
        Self {
            pool,
            start,
            len,
            id,
            group,
        }
    }

    /// Drops the first `count` bytes; all of them when it has fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.len);
        // SAFETY: `count` is at most the piece's length, so the result stays within the buffer or one past its end.
        self.start = unsafe { self.start.add(count as usize) };
        self.len -= count;
    }

    /// Keeps the first `len` bytes only.
    pub fn truncate(&mut self, len: usize) {
        self.len = u32::try_from(len).unwrap_or(u32::MAX).min(self.len);
    }

    /// Splits the first `count` bytes off (all of them when it has fewer); both pieces share the buffer.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        self.pool.hold(self.group, self.id);
        let pool = Rc::clone(&self.pool);
        let mut front = Self::new(pool, self.group, self.id, self.start, self.len);
        front.truncate(count);
        self.advance(count);
        front
    }

    /// Whether so many buffers of its kind are held that bytes which are going to wait should be copied elsewhere.
    #[must_use]
    pub(crate) fn is_scarce(&self) -> bool {
        self.pool.aside_of(self.group).is_some()
    }

    /// Makes the piece one that may wait for long: itself, or copies of its parts where buffers of its kind run short.
    #[inline]
    pub(crate) fn settle(mut self, mut keep: impl FnMut(Self)) {
        let Some(aside) = self.pool.aside_of(self.group).map(Rc::clone) else {
            return keep(self);
        };
        while !self.is_empty() {
            let Some(mut spare) = aside.take(Group::Head) else {
                return keep(self); // There, too, is a bound: it stays where it is.
            };
            let room = spare.as_mut_slice();
            let len = room.len().min(self.len());
            room[..len].copy_from_slice(&self[..len]);
            keep(spare.into_lent(u32::try_from(len).expect("buffers are under 4 GiB")));
            self.advance(len);
        }
    }

    /// Appends bytes behind this piece if its buffer has room there and nobody else holds it; says whether it did.
    pub(crate) fn try_append(&mut self, bytes: &[u8]) -> bool {
        if !self.pool.is_exclusive(self.group, self.id) {
            return false;
        }
        let buffer_start = self.pool.address(self.group, self.id).as_ptr().addr();
        let buffer_end = buffer_start + self.pool.buffer_bytes(self.group) as usize;
        let piece_end = self.start.as_ptr().addr() + self.len as usize;
        let Ok(added) = u32::try_from(bytes.len()) else {
            return false;
        };
        if buffer_end - piece_end < bytes.len() {
            return false;
        }
        // SAFETY: `len` bytes from `start` lie within the buffer.
        let end = unsafe { self.start.add(self.len as usize) };
        // SAFETY: the room behind the piece was just measured; this is the buffer's only handle, so nobody reads there,
        // and the source is another buffer.
        unsafe { end.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.len += added;
        true
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` lie within the buffer, are initialised, and are written by nobody while a
        // handle exists: the kernel gets the buffer back only when the last one is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Lent {
    #[inline]
    fn drop(&mut self) {
        self.pool.release(self.group, self.id);
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lent({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(pool: &Rc<Pool>, bytes: &[u8]) -> Lent {
        let mut spare = pool.take(Group::Head).unwrap();
        spare.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        spare.into_lent(u32::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn a_buffer_returns_when_its_last_piece_is_dropped() {
        let pool = Pool::new(2, 1, 0).unwrap();
        let mut back = lent(&pool, b"hello world");
        let front = back.split_to(6);
        assert_eq!((&*front, &*back), (&b"hello "[..], &b"world"[..]));
        assert_eq!(pool.lent_len(), 1);
        drop(back);
        assert_eq!(&*front, b"hello ");
        assert_eq!(pool.free_len(Group::Head), 1);
        drop(front);
        assert_eq!((pool.lent_len(), pool.free_len(Group::Head)), (0, 2));
    }

    #[test]
    fn a_buffer_is_lent_only_if_something_was_put_there() {
        let pool = Pool::new(1, 1, 0).unwrap();
        let fill = |bytes: &'static [u8]| {
            let filled = pool.fill(Group::Head, |buffer| {
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            });
            filled.unwrap().unwrap()
        };
        assert!(fill(b"").is_none());
        let failed = pool.fill(Group::Head, |_| Err(std::io::ErrorKind::WouldBlock.into()));
        assert!(failed.unwrap().is_err());
        assert_eq!((pool.lent_len(), pool.free_len(Group::Head)), (0, 1));
        let (piece, is_full) = fill(b"hello").unwrap();
        assert_eq!((&*piece, is_full), (&b"hello"[..], false));
        let (other, is_full) = fill(&[7; 4096]).unwrap();
        assert!(is_full && *other == [7; 4096] && *piece == *b"hello");
        assert_eq!(pool.lent_len(), 2);
        let held: Vec<Lent> = (0..30).map(|_| fill(b"x").unwrap().0).collect();
        assert!(
            pool.fill(Group::Head, |_| unreachable!("a buffer"))
                .is_none()
        );
        drop((piece, other, held));
        assert_eq!((pool.lent_len(), pool.free_len(Group::Head)), (0, 32));
    }

    #[test]
    fn a_shared_buffer_takes_no_more_bytes() {
        let pool = Pool::new(1, 1, 0).unwrap();
        let mut back = lent(&pool, b"ab");
        assert!(back.try_append(b"cd"));
        let front = back.split_to(1);
        assert!(!back.try_append(b"e"));
        drop(front);
        assert!(back.try_append(b"e"));
        assert_eq!(&*back, b"bcde");
        assert!(!back.try_append(&[0; 4096]));
    }

    #[test]
    fn a_group_grows_up_to_its_bound_and_then_refuses() {
        let pool = Pool::new(1, 1, 0).unwrap();
        let held: Vec<Spare> = std::iter::from_fn(|| pool.take(Group::Bulk)).collect();
        assert_eq!(held.len(), 32);
        drop(held);
        assert_eq!(pool.free_len(Group::Bulk), 32);
        use super::super::pool::Spare;
    }

    #[test]
    fn bytes_that_wait_leave_half_of_the_buffers_to_others() {
        let pool = Pool::new(1, 1, 128).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..100 {
            lent(&pool, b"hello").settle(|piece| waiting.push(piece));
        }
        assert!(waiting.iter().all(|piece| **piece == *b"hello"));
        assert_eq!(pool.lent_len(), 100);
        let rest: Vec<Lent> = (0..15).map(|_| lent(&pool, b"x")).collect();
        assert!(pool.lent_bytes() == 115 * 4096 && rest.iter().all(Lent::is_scarce));
        drop((waiting, rest));
        assert_eq!((pool.lent_len(), pool.lent_bytes()), (0, 0));
    }

    #[test]
    fn a_large_piece_waits_in_several_small_buffers_and_at_the_bound_where_it_is() {
        let pool = Pool::new(1, 1, 128).unwrap();
        let mut waiting = Vec::new();
        for number in 0..32 {
            let mut spare = pool.take(Group::Bulk).unwrap();
            spare.as_mut_slice()[..9000].fill(number);
            spare.into_lent(9000).settle(|piece| waiting.push(piece));
        }
        let lens: Vec<usize> = waiting.iter().map(|piece| piece.len()).collect();
        assert_eq!(lens[..16], [9000; 16]);
        assert_eq!(lens[16..], [4096, 4096, 808].repeat(16));
        let numbers = waiting.iter().flat_map(|piece| piece.iter().copied());
        assert!(numbers.eq((0..32).flat_map(|number| [number; 9000])));
        let pool = Pool::new(1, 1, 0).unwrap();
        let held: Vec<Lent> = (0..20).map(|_| lent(&pool, b"x")).collect();
        let mut kept = 0;
        held.into_iter()
            .for_each(|piece| piece.settle(|_same| kept += 1));
        assert_eq!(kept, 20);
    }

    #[test]
    fn the_kernel_may_not_name_a_buffer_that_is_held_or_unknown() {
        let pool = Pool::new(1, 1, 0).unwrap();
        let held = lent(&pool, b"x");
        assert!(pool.claim(Group::Head, 0, 1).is_none());
        assert!(pool.claim(Group::Head, 99, 1).is_none());
        drop(held);
        assert!(pool.claim(Group::Head, 0, 4097).is_none());
    }
}
