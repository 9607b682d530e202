//! The standard library's atomics, lock and counted reference, with a note of each use.
#![expect(clippy::disallowed_types, reason = "it is these that are counted")]

use super::lines::{note_read, note_write};
use std::ops::Deref;
use std::sync::{LockResult, MutexGuard, atomic};

use atomic::Ordering;

/// [`atomic::AtomicBool`]
#[derive(Debug, Default)]
pub struct AtomicBool(atomic::AtomicBool);

/// [`atomic::AtomicU32`]
#[derive(Debug, Default)]
pub struct AtomicU32(atomic::AtomicU32);

/// [`atomic::AtomicU64`]
#[derive(Debug, Default)]
pub struct AtomicU64(atomic::AtomicU64);

/// [`std::sync::Mutex`]; what it guards is not noted: whoever touches that has written to the lock before.
#[derive(Debug, Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

/// [`std::sync::Arc`]
#[derive(Debug)]
pub struct Arc<T: ?Sized>(std::sync::Arc<T>);

impl AtomicBool {
    /// See [`atomic::AtomicBool::new`].
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self(atomic::AtomicBool::new(value))
    }

    /// See [`atomic::AtomicBool::load`].
    pub fn load(&self, order: Ordering) -> bool {
        note_read(address_of(self));
        self.0.load(order)
    }

    /// See [`atomic::AtomicBool::store`].
    pub fn store(&self, value: bool, order: Ordering) {
        note_write(address_of(self));
        self.0.store(value, order);
    }
}

impl AtomicU32 {
    /// See [`atomic::AtomicU32::new`].
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }

    /// See [`atomic::AtomicU32::load`].
    pub fn load(&self, order: Ordering) -> u32 {
        note_read(address_of(self));
        self.0.load(order)
    }

    /// See [`atomic::AtomicU32::store`].
    pub fn store(&self, value: u32, order: Ordering) {
        note_write(address_of(self));
        self.0.store(value, order);
    }

    /// See [`atomic::AtomicU32::fetch_add`].
    pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
        note_write(address_of(self));
        self.0.fetch_add(value, order)
    }

    /// See [`atomic::AtomicU32::fetch_sub`].
    pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
        note_write(address_of(self));
        self.0.fetch_sub(value, order)
    }
}

impl From<u32> for AtomicU32 {
    fn from(value: u32) -> Self {
        Self::new(value)
    }
}

impl AtomicU64 {
    /// See [`atomic::AtomicU64::new`].
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    /// See [`atomic::AtomicU64::load`].
    pub fn load(&self, order: Ordering) -> u64 {
        note_read(address_of(self));
        self.0.load(order)
    }

    /// See [`atomic::AtomicU64::store`].
    pub fn store(&self, value: u64, order: Ordering) {
        note_write(address_of(self));
        self.0.store(value, order);
    }
}

impl<T> Mutex<T> {
    /// See [`std::sync::Mutex::new`].
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// See [`std::sync::Mutex::lock`].
    ///
    /// # Errors
    /// When somebody panicked with the lock taken.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        note_write(address_of(self));
        self.0.lock()
    }
}

impl<T> Arc<T> {
    /// See [`std::sync::Arc::new`].
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(std::sync::Arc::new(value))
    }
}

impl<T: ?Sized> Arc<T> {
    /// See [`std::sync::Arc::strong_count`].
    #[must_use]
    pub fn strong_count(this: &Self) -> usize {
        note_read(this.count_address());
        std::sync::Arc::strong_count(&this.0)
    }

    /// The count of references lies before the value, as far from it as its alignment asks.
    fn count_address(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        address_of(&*self.0) - counts.max(align_of_val(&*self.0))
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    fn clone(&self) -> Self {
        note_write(self.count_address());
        Self(std::sync::Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Drop for Arc<T> {
    fn drop(&mut self) {
        note_write(self.count_address());
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Default> Default for Arc<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Arc<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> FromIterator<T> for Arc<[T]> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<T: ?Sized + PartialEq> PartialEq for Arc<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

fn address_of<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<()>().addr()
}
