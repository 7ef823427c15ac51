//! `Cell` and `RefCell` as in the standard library, which tell [`crate::footprint`] when they are
//! looked at and changed.
//!
//! Code that runs on the machine shares state between tasks only through these, so that explorers
//! know which steps commute. A mutable borrow counts as a change, whatever is done with it.

use crate::footprint::{self, Touch};
use std::cell;
use std::fmt;

pub use std::cell::{Ref, RefMut};

/// A mutable location that is copied in and out.
pub struct Cell<T> {
    value: cell::Cell<T>,
    object: u32,
}

impl<T> Cell<T> {
    /// A cell of this value.
    #[inline]
    pub fn new(value: T) -> Self {
        Cell { value: cell::Cell::new(value), object: footprint::fresh() }
    }

    /// Changes the value.
    #[inline]
    pub fn set(&self, value: T) {
        footprint::touch(self.object.into(), Touch::Change);
        self.value.set(value);
    }

    /// Changes the value and returns the old one.
    #[inline]
    pub fn replace(&self, value: T) -> T {
        footprint::touch(self.object.into(), Touch::Change);
        self.value.replace(value)
    }

    /// Leaves the default value and returns the old one.
    #[inline]
    pub fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }

    /// The value, of a cell that nobody else has.
    #[inline]
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Copy> Cell<T> {
    /// The value.
    #[inline]
    pub fn get(&self) -> T {
        footprint::touch(self.object.into(), Touch::Look);
        self.value.get()
    }
}

impl<T: Default> Default for Cell<T> {
    fn default() -> Self {
        Cell::new(T::default())
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A mutable location with borrows checked at run time.
pub struct RefCell<T> {
    object: u32,
    value: cell::RefCell<T>,
}

impl<T> RefCell<T> {
    /// A location of this value.
    #[inline]
    pub fn new(value: T) -> Self {
        RefCell { object: footprint::fresh(), value: cell::RefCell::new(value) }
    }

    /// Borrows the value.
    #[inline]
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        footprint::touch(self.object.into(), Touch::Look);
        self.value.borrow()
    }

    /// Borrows the value to change it.
    #[inline]
    #[track_caller]
    pub fn borrow_mut(&self) -> RefMut<'_, T> {
        footprint::touch(self.object.into(), Touch::Change);
        self.value.borrow_mut()
    }

    /// Changes the value and returns the old one.
    #[inline]
    #[track_caller]
    pub fn replace(&self, value: T) -> T {
        std::mem::replace(&mut *self.borrow_mut(), value)
    }

    /// Leaves the default value and returns the old one.
    #[inline]
    #[track_caller]
    pub fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }

    /// The value, of a location that nobody else has.
    #[inline]
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Default> Default for RefCell<T> {
    fn default() -> Self {
        RefCell::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for RefCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
