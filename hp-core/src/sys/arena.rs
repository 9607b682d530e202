//! Slices that are made once and read often, side by side in memory of their own.
//!
//! In tables that requests are looked up in, each look is to another page. Where these are large pages, the processor has their addresses at hand, and they
//! fill its caches as evenly as memory, whichever pages were free when a table was made.
#![expect(
    clippy::disallowed_types,
    reason = "counted when a slice is made, copied or dropped, not when it is read"
)]

use super::memory::Pages;
use crate::base::sync::Arc;
use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

/// Memory that is filled with slices, one behind the other, each from the beginning of a cache line on.
#[derive(Debug)]
pub struct Arena {
    memory: Arc<Memory>,
    /// Bytes that slices have: `filled <= memory.len()`.
    filled: usize,
}

/// A slice in an [`Arena`], whose memory lives as long as one of its slices does. It never changes, and a clone is the same memory.
pub struct Kept<T> {
    start: NonNull<T>,
    len: usize,
    /// What `start` points into; none where the slice takes no room.
    memory: Option<Arc<Memory>>,
    values: PhantomData<T>,
}

/// Where slices lie. Only the arena writes there, and only behind all slices that there are.
#[derive(Debug)]
enum Memory {
    /// The lines, and where they begin.
    Heap(Vec<Line>, NonNull<u8>),
    Pages(Pages),
}

/// A cache line. A value that lies there may leave bytes between its parts without one of their own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line(
    #[expect(
        dead_code,
        reason = "its size and its place matter; it is written as what lies there"
    )]
    [MaybeUninit<u8>; LINE_BYTES],
);

impl Arena {
    /// An arena for slices that take so many bytes together, as [`Self::bytes_of`] tells of each. From 128 KiB on it is on large pages, if
    /// the kernel has some, and takes whole ones: 2 MiB each.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        let pages = (bytes >= LARGE_BYTES_MIN)
            .then(|| Pages::map_large(bytes).ok())
            .flatten();
        Self::of(pages.map_or_else(|| Memory::on_heap(bytes), Memory::Pages))
    }

    fn of(memory: Memory) -> Self {
        Self {
            memory: Arc::new(memory),
            filled: 0,
        }
    }

    /// How many bytes of an arena a slice takes.
    #[must_use]
    pub fn bytes_of<T>(values: &[T]) -> usize {
        size_of_val(values).next_multiple_of(LINE_BYTES)
    }

    /// Keeps a copy of a slice; in an arena of its own, where this one has no room for it.
    #[must_use]
    pub fn keep<T: Copy>(&mut self, values: &[T]) -> Kept<T> {
        const { assert!(align_of::<T>() <= LINE_BYTES) };
        let bytes = Self::bytes_of(values);
        if bytes == 0 {
            return Kept {
                len: values.len(), // Of values that take no room there may be some.
                ..Kept::default()
            };
        }
        if self.memory.len() - self.filled < bytes {
            return Self::with_room(bytes).keep(values);
        }
        let [start, end] = [self.filled, self.filled + bytes];
        // SAFETY: `filled` is at most the length of the memory, as was just asked.
        let start: NonNull<T> = unsafe { self.memory.start().add(start) }.cast();
        // SAFETY: from `start` on are at least as many bytes as the slice has, aligned for any type of up to a line; no slice lies there yet, so that
        // nobody reads them, and nobody else writes: it takes the arena itself to do so.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len()) };
        self.filled = end;
        Kept {
            start,
            len: values.len(),
            memory: Some(Arc::clone(&self.memory)),
            values: PhantomData,
        }
    }
}

impl Memory {
    fn on_heap(bytes: usize) -> Self {
        let mut lines = vec![Line([MaybeUninit::new(0); LINE_BYTES]); bytes.div_ceil(LINE_BYTES)];
        let start = NonNull::from(lines.as_mut_slice()).cast();
        Self::Heap(lines, start)
    }

    fn start(&self) -> NonNull<u8> {
        match self {
            Self::Heap(_, start) => *start,
            Self::Pages(pages) => pages.start(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Heap(lines, _) => size_of_val(lines.as_slice()),
            Self::Pages(pages) => pages.len(),
        }
    }
}

// SAFETY: it owns what its pointer points to, and gives nobody but the arena a way to write there, which takes a `&mut Arena`.
unsafe impl Send for Memory {}
// SAFETY: as above; whoever reads, reads slices that were whole before they were given out.
unsafe impl Sync for Memory {}

// SAFETY: it is a shared slice that keeps its memory alive, as `Arc<[T]>` is.
unsafe impl<T: Send + Sync> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Kept<T> {}

impl<T> Default for Kept<T> {
    /// An empty slice.
    fn default() -> Self {
        Self {
            start: NonNull::dangling(),
            len: 0,
            memory: None,
            values: PhantomData,
        }
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            len: self.len,
            memory: self.memory.clone(),
            values: PhantomData,
        }
    }
}

impl<T: Copy> From<Vec<T>> for Kept<T> {
    /// In an arena of its own, on no large page.
    fn from(values: Vec<T>) -> Self {
        let memory = Memory::on_heap(Arena::bytes_of(&values));
        Arena::of(memory).keep(&values)
    }
}

impl<T> Deref for Kept<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values were copied there before this was made; `memory` keeps them, and nobody writes there any more.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_ref() }
    }
}

impl<T: Debug> Debug for Kept<T> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

const LINE_BYTES: usize = 64;
/// Less lies in few pages of any size, and is not worth a large one.
const LARGE_BYTES_MIN: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::super::memory::LARGE_PAGE_BYTES;
    use super::*;

    /// Slices of two types that fill an arena, as many of the second as given.
    fn check(len: u32) {
        let [small, large]: [Vec<u8>; 2] = [vec![7; 65], vec![9; 1]];
        let numbers: Vec<[u64; 3]> = (0..u64::from(len)).map(|number| [number; 3]).collect();
        let bytes = Arena::bytes_of(&small) + Arena::bytes_of(&numbers) + Arena::bytes_of(&large);
        let mut arena = Arena::with_room(bytes);
        let kept = (
            arena.keep(&small),
            arena.keep(&numbers),
            arena.keep(&large),
            arena.keep(&numbers), // For which there may be no room.
        );
        assert!(arena.filled <= arena.memory.len());
        let copies = kept.clone();
        drop((arena, kept));
        let (first, second, third, fourth) = &copies;
        assert_eq!((&**first, &**third), (&*small, &*large), "{len}");
        assert_eq!((&**second, &**fourth), (&*numbers, &*numbers), "{len}");
        for start in [
            first.as_ptr().addr(),
            second.as_ptr().addr(),
            third.as_ptr().addr(),
        ] {
            assert!(start.is_multiple_of(LINE_BYTES) || len == 0);
        }
    }

    #[test]
    fn slices_are_what_they_were_made_of_wherever_they_lie() {
        for len in [0, 1, 2, 3, 100, 6000, 100_000] {
            check(len);
        }
    }

    #[test]
    fn large_arenas_are_on_pages_that_may_be_large() {
        let mut arena = Arena::with_room(LARGE_BYTES_MIN);
        let kept = arena.keep(&[1_u64; 8]);
        assert!(kept.as_ptr().addr().is_multiple_of(LARGE_PAGE_BYTES));
        assert!(matches!(*arena.memory, Memory::Pages(_)));
        let arena = Arena::with_room(LARGE_BYTES_MIN - 1);
        assert!(matches!(*arena.memory, Memory::Heap(..)));
    }

    #[test]
    fn an_empty_slice_needs_no_memory() {
        let kept: Kept<u64> = Vec::new().into();
        assert!(kept.is_empty() && kept.memory.is_none());
    }

    #[test]
    fn a_slice_of_values_without_a_byte_keeps_its_length() {
        let kept = Arena::with_room(0).keep(&[(); 5]);
        assert_eq!(kept.len(), 5);
    }

    /// A value may have bytes between its parts that hold nothing; reading those is undefined.
    #[test]
    fn an_arena_is_shown_without_a_look_at_what_lies_there() {
        let mut arena = Arena::with_room(1);
        let kept = arena.keep(&[(7_u8, 7_u32)]);
        assert_eq!(kept[0], (7, 7));
        let text = format!("{arena:?}");
        assert!(
            text.contains("MaybeUninit") && !text.contains("7,"),
            "{text}"
        );
    }

    #[test]
    fn slices_may_go_to_other_threads() {
        fn check<T: Send + Sync>() {}
        check::<Kept<u64>>();
        check::<Arena>();
    }
}
