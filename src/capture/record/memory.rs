//! The memory of a record, asked for before it is taken: a span that is open never grows beyond the bound.

use std::sync::Arc;

use super::{Record, RecordLimits, extras::TAIL_MARGIN};
use crate::capture::local;

/// Who the memory of records comes from.
pub(in crate::capture) trait Lender: Send + Sync {
    /// Lends so many bytes more, and with `is_patient` makes room for them if the drop strategy says so; false if there
    /// is none.
    fn lend(&self, bytes: usize, is_patient: bool) -> bool;
    /// Takes bytes back that were lent. Their memory is free already.
    fn take_back(&self, bytes: usize);
}

/// What one record was lent. It goes back when this is dropped, which is after the memory itself.
#[derive(Default)]
pub(super) struct Memory {
    /// Nobody for a record that is accounted for by whoever made it.
    lender: Option<Arc<dyn Lender>>,
    bytes: usize,
}

impl Memory {
    /// Of a record for which so many bytes were lent already.
    pub(super) fn lent(lender: Arc<dyn Lender>, bytes: usize) -> Self {
        Self { lender: Some(lender), bytes }
    }

    /// Bytes that were lent.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for more.
    pub(super) fn grow(&mut self, more: usize, is_patient: bool) -> bool {
        let Some(lender) = &self.lender else { return true };
        let is_lent = lender.lend(more, is_patient);
        if is_lent {
            self.bytes += more;
        }
        is_lent
    }

    /// Gives back what is not needed any more.
    pub(super) fn shrink(&mut self, fewer: usize) {
        if let Some(lender) = &self.lender {
            let fewer = fewer.min(self.bytes);
            self.bytes -= fewer;
            lender.take_back(fewer);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Why a span does not have all it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// The record would have been too large.
    TooLarge,
    /// A limit does not allow it.
    Limit,
    /// There was no memory for it, within the bound or at all.
    NoMemory,
}

impl Record {
    /// A record of spans within these limits, none of which takes more than `bytes`: it need not grow, unless the system
    /// has no memory for so many.
    pub(crate) fn for_spans_of(limits: RecordLimits, bytes: usize) -> Self {
        let mut record = Self::within(limits);
        let _ = record.grow_to(bytes + TAIL_MARGIN, false);
        record
    }

    /// A record of spans within these limits, for which `lender` lent so many bytes, and is asked for more before it
    /// grows.
    pub(in crate::capture) fn borrowing(limits: RecordLimits, lender: Arc<dyn Lender>, bytes: usize) -> Self {
        Self { memory: Memory::lent(lender, bytes), ..Self::within(limits) }
    }

    /// Bytes that were lent for it.
    pub(in crate::capture) fn borrowed(&self) -> usize {
        self.memory.bytes()
    }

    /// Makes room for so many bytes, if they may be appended.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), Lack> {
        if bytes > self.left() {
            Err(Lack::TooLarge)
        } else if self.has_room(bytes) {
            Ok(())
        } else {
            Err(Lack::NoMemory)
        }
    }

    /// Whether there is room for so many bytes, or can be made, with the margin behind them that the end needs. (An
    /// attribute that is written where nobody asks leaves that much of its window.)
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        let bytes = bytes + TAIL_MARGIN;
        self.buffer.has_room(bytes) || self.grow(bytes)
    }

    /// Makes room for so many bytes; false if there is none within the bound, or the system gives none.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, bytes: usize) -> bool {
        let needed = self.buffer.len() + bytes;
        // Nobody waits for more than is needed, nor twice for one span.
        self.grow_to(needed.next_power_of_two(), false)
            || self.grow_to(needed.next_multiple_of(64), !self.extras.lacks.no_memory)
    }

    fn grow_to(&mut self, capacity: usize, is_patient: bool) -> bool {
        // All of it: what it replaces goes back when it has been copied.
        if !self.memory.grow(capacity, is_patient) {
            return false;
        }
        let before = self.buffer.capacity();
        // What an allocator records of it is none of its own.
        let grown = local::inside(|| self.buffer.try_grow_to(capacity));
        self.memory.shrink(if grown { before } else { capacity });
        grown
    }
}
