//! The memory of the ring as the model checker sees it.

use std::ops::Range;

/// Replaces the memory under the model checker, which checks for each cell who may touch it when.
pub(super) struct Shadow(Vec<loom::cell::UnsafeCell<()>>);

impl Shadow {
    const CELL: usize = 8;

    pub(super) fn new(size: usize) -> Shadow {
        Shadow((0..size.div_ceil(Self::CELL)).map(|_| loom::cell::UnsafeCell::new(())).collect())
    }

    fn cells(&self, bytes: Range<usize>) -> &[loom::cell::UnsafeCell<()>] {
        &self.0[bytes.start / Self::CELL..bytes.end.div_ceil(Self::CELL)]
    }

    pub(super) fn fills(&self, bytes: Range<usize>) {
        self.cells(bytes).iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    pub(super) fn reads(&self, bytes: Range<usize>) {
        self.cells(bytes).iter().for_each(|cell| cell.with(|_| ()));
    }
}
