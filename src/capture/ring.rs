//! One thread's ring of records: a chain of chunks that the producer appends to and the consumer detaches
//! from, without a lock between them.
//!
//! A chunk is filled from both ends: records from the front, without gaps, so that neighbours are one
//! contiguous slice for the compressor; one 8-byte index entry per record from the back. Nothing in a chunk
//! is written twice: a full chunk is linked to a fresh one, and goes back to the [`MemoryBudget`] when the last
//! slice of it is dropped. So there is no wrapping, and a record never moves once it is written.
//!
//! ```text
//!   head (consumer)                                  tail (producer)
//!   ┌──────────────────────────┐  next  ┌──────────────────────────────┐
//!   │ r0 r1 r2 r3 r4 … i4 … i0 │ ─────► │ r5 r6 r7 ►        ◄ i7 i6 i5 │
//!   └──────────────────────────┘        └──────────────────────────────┘
//! ```
//!
//! Invariant the `unsafe` blocks rely on:
//! - **L** The consumer keeps its reference to a chunk until `next` is set, and the producer never touches a
//!   chunk after setting its `next`; so the producer's tail is alive as long as its ring is.

use std::{mem, ptr::NonNull};

use crossbeam_utils::CachePadded;

use super::memory::{Chunk, ChunkRef, ENTRY_BYTES, Limit, MemoryBudget, Shed, Slice};
use crate::{
    stats::{Started, Totals, Withheld},
    sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering},
};

mod counters;
#[cfg(feature = "bench")]
mod pair;

use counters::Counters;
#[cfg(feature = "bench")]
pub use pair::RingPair;

/// The shared part of one ring.
pub(crate) struct Ring {
    /// Written by the producer only.
    produced: CachePadded<Produced>,
    /// The consuming side. Claimed with a try-lock and held only to detach.
    consumer: Mutex<Consumer>,
    /// Records detached so far. Written under the claim; may be stale for other threads.
    taken: AtomicU64,
    /// Spans this ring may still queue without asking, if `max_queue_size` bounds them. The producer takes from it; a
    /// thread that was refused may empty it.
    pub(super) credit: AtomicU32,
    /// The ring's number among those of its client; never changes.
    number: usize,
}

/// Counters with the producer as their only writer: a load and a store instead of a locked addition.
#[derive(Default)]
struct Produced {
    pushed: AtomicU64,
    refused: AtomicU64,
    started: Counters<{ Started::KINDS }>,
    withheld: Counters<{ Withheld::COUNT }>,
}

struct Consumer {
    head: ChunkRef,
    /// Records of `head` already detached.
    at: u32,
}

impl Ring {
    /// A new ring and the only handle that writes to it. It holds no chunk until the first record.
    pub(crate) fn new(number: usize) -> (Arc<Self>, Producer) {
        let first = Chunk::empty();
        let tail = first.as_ptr();
        let ring = Arc::new(Self {
            produced: CachePadded::default(),
            consumer: Mutex::new(Consumer { head: first, at: 0 }),
            taken: AtomicU64::new(0),
            credit: AtomicU32::new(0),
            number,
        });
        let producer = Producer { ring: Arc::clone(&ring), tail, records: 0, used: 0, index: 0, pushed: 0 };
        (ring, producer)
    }

    /// The ring's number among those of its client.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Records pushed since the ring began. A push that is under way may be counted or not.
    pub(crate) fn pushed(&self) -> u64 {
        self.produced.pushed.load(Ordering::Acquire)
    }

    /// Records the producer was refused since the ring began.
    pub(crate) fn refused(&self) -> u64 {
        self.produced.refused.load(Ordering::Acquire)
    }

    /// Adds the spans that the producer's threads ended since the ring began to `totals`.
    pub(super) fn add_ended(&self, totals: &mut Totals) {
        totals.pushed += self.pushed();
        totals.refused += self.refused();
        self.produced.withheld.add_to(&mut totals.withheld);
    }

    /// Adds the spans that the producer's threads started since the ring began to `totals`.
    pub(super) fn add_started(&self, totals: &mut Totals) {
        self.produced.started.add_to(&mut totals.started.0);
    }

    /// Records detached since the ring began. Once it covers a position, the batch that holds the records
    /// up to there is in the ledger.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Records waiting, by the two positions. Never too small for what the caller pushed itself.
    pub(crate) fn waiting(&self) -> u64 {
        let taken = self.taken();
        self.pushed().saturating_sub(taken)
    }

    /// Records waiting, counted by walking the chunks: independent of `pushed` and `taken`.
    pub(crate) fn count_queued(&self) -> u64 {
        let consumer = self.consumer.lock();
        let mut queued = 0;
        let mut skip = u64::from(consumer.at);
        let mut chunk = Some(consumer.head.clone());
        while let Some(current) = chunk {
            // `next` before `published`: with `next` set, `published` is final.
            chunk = current.next();
            queued += u64::from(current.published()) - skip;
            skip = 0;
        }
        queued
    }

    /// Detaches at most `limit` from the front of the ring into `slices`; nothing if another thread holds the claim.
    pub(crate) fn detach(&self, limit: &mut Limit, slices: &mut Vec<Slice>) {
        if let Some(mut consumer) = self.consumer.try_lock() {
            self.detach_claimed(&mut consumer, limit, slices, |_| ());
        }
    }

    /// Drops at most `limit` from the front of the ring. Calls `count` with the number of records before their absence
    /// can be seen; does not call it if there are none or another thread holds the claim.
    pub(crate) fn shed(&self, mut limit: Limit, count: impl FnOnce(u64)) -> Shed {
        let Some(mut consumer) = self.consumer.try_lock() else { return Shed::Busy };
        let mut slices = Vec::new();
        self.detach_claimed(&mut consumer, &mut limit, &mut slices, count);
        if slices.is_empty() { Shed::Nothing } else { Shed::Done }
    }

    fn detach_claimed(
        &self,
        consumer: &mut Consumer,
        limit: &mut Limit,
        slices: &mut Vec<Slice>,
        count: impl FnOnce(u64),
    ) {
        let before = limit.records;
        consumer.detach(limit, slices);
        let detached = u64::from(before - limit.records);
        if detached > 0 {
            count(detached);
            // Only the holder of the claim writes `taken`.
            let taken = self.taken.load(Ordering::Relaxed);
            self.taken.store(taken + detached, Ordering::Release);
        }
    }
}

impl Consumer {
    /// Leaves drained chunks behind.
    fn leave_drained(&mut self) {
        // In this order: having seen `next`, the count of records is final.
        while self.head.has_next() && self.at == self.head.published() {
            let Some(next) = self.head.take_next() else { return };
            self.head = next;
            self.at = 0;
        }
    }

    fn detach(&mut self, limit: &mut Limit, slices: &mut Vec<Slice>) {
        // Without memory for a longer list the rest stays where it is.
        while limit.records > 0 && slices.try_reserve(1).is_ok() {
            self.leave_drained();
            let published = self.head.published();
            if self.at == published {
                break;
            }
            let slice = Slice::cut(&self.head, self.at, published, *limit, slices.is_empty());
            let Some(slice) = slice else { break };
            self.at = slice.last;
            limit.records -= slice.records();
            limit.bytes = limit.bytes.saturating_sub(slice.bytes());
            slices.push(slice);
        }
        // If nothing more is recorded, no thread comes back for a drained chunk.
        self.leave_drained();
    }
}

/// The writing side of a ring. There is one per ring; it may move between threads but is never shared.
pub(crate) struct Producer {
    ring: Arc<Ring>,
    /// The last chunk of the chain (L).
    tail: NonNull<Chunk>,
    /// Records in the tail chunk.
    records: u32,
    /// Where the next record begins in it.
    used: usize,
    /// Where its index begins: the bytes between `used` and `index` are free.
    index: usize,
    pushed: u64,
}

// SAFETY: a handle with one owner; `tail` is kept alive by the ring (L) and moves with the handle.
unsafe impl Send for Producer {}

/// The ring has no room and the budget gave none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What a push did besides storing the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing.
    InPlace,
    /// A chunk was full and a new one was linked.
    Linked,
}

impl Producer {
    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Copies one record into the ring. Does not block; takes memory from `budget` when the chunk is full.
    #[inline]
    pub(crate) fn push(&mut self, budget: &MemoryBudget, scope: u32, record: &[u8]) -> Result<Pushed, Full> {
        if self.push_in_place(scope, record) { Ok(Pushed::InPlace) } else { self.push_elsewhere(budget, scope, record) }
    }

    /// Copies one record into the current chunk; false if that has no room for it.
    #[inline]
    pub(super) fn push_in_place(&mut self, scope: u32, record: &[u8]) -> bool {
        let fits = record.len() + ENTRY_BYTES <= self.free();
        if fits {
            // SAFETY: the record and its entry fit, as just checked.
            unsafe { self.write(scope, record) };
        }
        fits
    }

    /// Bytes between the records and the index.
    #[inline]
    fn free(&self) -> usize {
        self.index - self.used
    }

    /// Writes one record into the current chunk.
    ///
    /// # Safety
    /// The record and its entry fit between what is written so far.
    #[inline]
    unsafe fn write(&mut self, scope: u32, record: &[u8]) {
        // SAFETY: the ring keeps its tail alive (L).
        let chunk = unsafe { self.tail.as_ref() };
        let (at, records) = (self.used, self.records + 1);
        // What is known before the copy is written before it: values that live across the call would have to be saved.
        self.used += record.len();
        self.index -= ENTRY_BYTES;
        self.records = records;
        self.pushed += 1;
        // Before the record is published: a thread that sees the record also sees it counted as ended.
        self.ring.produced.pushed.store(self.pushed, Ordering::Relaxed);
        // SAFETY: we are the producer, and by the caller's promise there is room (P).
        unsafe { chunk.write(at, self.index, scope, record) };
        chunk.publish(records);
    }

    /// Finds a chunk for one record and copies it there.
    #[cold]
    #[inline(never)]
    pub(super) fn push_elsewhere(&mut self, budget: &MemoryBudget, scope: u32, record: &[u8]) -> Result<Pushed, Full> {
        let needed = record.len() + ENTRY_BYTES;
        let mut fresh = budget.chunk(needed);
        if fresh.is_none() {
            if self.rewind(needed) {
                // SAFETY: `rewind` returned true, so the record and its entry fit.
                unsafe { self.write(scope, record) };
                return Ok(Pushed::Linked);
            }
            // Looking for drained chunks may have given some back.
            fresh = budget.chunk(needed);
        }
        let fresh = fresh.ok_or(Full)?;
        if budget.is_standard(fresh.capacity()) {
            self.go_on_in(fresh);
            // SAFETY: the budget gave a chunk with room for the record and its entry.
            unsafe { self.write(scope, record) };
        } else {
            self.link_alone(fresh, scope, record);
        }
        Ok(Pushed::Linked)
    }

    /// Links a chunk with one large record in it and behind that another one of no bytes, so that the large one is
    /// freed when the record has left, and not held until the thread's next record. Both are linked at once: a consumer
    /// that took the record in between would not come back for the chunk.
    fn link_alone(&mut self, fresh: ChunkRef, scope: u32, record: &[u8]) {
        let before = self.begin(&fresh);
        // SAFETY: the chunk is our tail, not yet known to any other thread, and made for the record.
        unsafe { self.write(scope, record) };
        self.go_on_in(Chunk::empty());
        // SAFETY: the ring keeps the tail alive that it had before (L), and this is our last access to it.
        unsafe { Chunk::set_next(before, fresh) };
    }

    /// Bytes that `budget` has to give for a record of `len` bytes; 0 if the current chunk has room for it.
    pub(crate) fn needs(&self, budget: &MemoryBudget, len: usize) -> usize {
        let needed = len + ENTRY_BYTES;
        if needed > self.free() { budget.chunk_for(needed) } else { 0 }
    }

    /// Counts a record that was refused.
    pub(crate) fn refuse(&mut self) {
        let refused = &self.ring.produced.refused;
        refused.store(refused.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Counts a span that was started, of the kind with this index ([`Started::index`]).
    #[inline]
    pub(crate) fn started(&mut self, kind: usize) {
        self.ring.produced.started.count(kind);
    }

    /// Counts a span that ended and is not exported, with the reason.
    pub(crate) fn withhold(&mut self, why: Withheld) {
        self.ring.produced.withheld.count(why as usize);
    }

    /// Restarts the current chunk if a record fits into it and no reader holds any of its old records. Otherwise, when
    /// no other chunk can be had, threads whose records have all left would block each other for ever, each with a
    /// half-used chunk.
    fn rewind(&mut self, needed: usize) -> bool {
        let Some(mut consumer) = self.ring.consumer.try_lock() else { return false };
        consumer.leave_drained();
        let head = &consumer.head;
        let is_drained = head.as_ptr() == self.tail && consumer.at == self.records;
        // No other thread can take another reference: that is done under the claim, which is ours.
        if !is_drained || needed > head.capacity() || !head.is_only_chained() {
            return false;
        }
        let capacity = head.capacity();
        head.rewind();
        consumer.at = 0;
        (self.records, self.used, self.index) = (0, 0, capacity);
        true
    }

    fn go_on_in(&mut self, fresh: ChunkRef) {
        let before = self.begin(&fresh);
        // SAFETY: the ring keeps its tail alive (L), and this is our last access to it.
        unsafe { Chunk::set_next(before, fresh) };
    }

    /// Makes `fresh` the tail, and returns the previous one, to which the caller links it.
    fn begin(&mut self, fresh: &ChunkRef) -> NonNull<Chunk> {
        (self.records, self.used, self.index) = (0, 0, fresh.capacity());
        mem::replace(&mut self.tail, fresh.as_ptr())
    }
}

#[cfg(test)]
mod tests;
