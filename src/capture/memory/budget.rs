//! The one memory bound: who may hold how much.
//!
//! Everything a client holds (chunks in rings, idle chunks, open spans, bodies, buffers) is accounted for here, in
//! steps of a chunk or a buffer, never per span.

use std::sync::{Arc, Weak};

use super::{
    chunk::{Chunk, ChunkRef, Home},
    emergency::EmergencyReserve,
    overflow::Prospect,
    pool::{Pool, Pooling},
};
use crate::{
    error::DropReason,
    sync::{AtomicUsize, Ordering},
};

pub(crate) struct MemoryBudget {
    limit: usize,
    /// Bytes of open spans beyond which threads keep no more records than they need.
    ample: usize,
    /// Bytes accounted for, idle chunks included; never above `limit`, but for [`hold`](Self::hold).
    held: AtomicUsize,
    /// Bytes of open spans and of the records that threads keep for their next ones.
    spans: AtomicUsize,
    /// Bytes of bodies.
    bodies: AtomicUsize,
    /// Bytes of the buffers that the program writes spans into.
    buffers: AtomicUsize,
    pool: Pool,
    emergency: EmergencyReserve,
    this: Weak<Self>,
}

/// What is held, by what holds it; in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holdings {
    pub(crate) chunks_in_use: usize,
    pub(crate) chunks_idle: usize,
    pub(crate) spans: usize,
    pub(crate) bodies: usize,
    pub(crate) buffers: usize,
}

impl MemoryBudget {
    /// A budget of at most `limit` bytes.
    pub(crate) fn with_pool(limit: usize, pooling: Pooling) -> Arc<Self> {
        // Without recycling no record is worth keeping, so the record that has just ended counts as too much.
        let ample = if pooling.recycles { limit / 4 } else { 0 };
        Arc::new_cyclic(|this| Self {
            limit,
            ample,
            held: AtomicUsize::new(0),
            spans: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            buffers: AtomicUsize::new(0),
            pool: Pool::new(limit, pooling),
            emergency: EmergencyReserve::new(limit),
            this: this.clone(),
        })
    }

    #[cfg(test)]
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Self::with_pool(limit, Pooling::default())
    }

    #[cfg(test)]
    pub(crate) fn with_chunks_of(limit: usize, chunk_bytes: usize) -> Arc<Self> {
        Self::with_pool(limit, Pooling { chunk_bytes: Some(chunk_bytes), ..Pooling::default() })
    }

    /// The most bytes that may be accounted for.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A chunk for a record that needs `needed` bytes: a used one if there is one, else a new one within
    /// the bound, else nothing. Does not block.
    pub(in crate::capture) fn chunk(&self, needed: usize) -> Option<ChunkRef> {
        let is_standard = needed <= self.pool.chunk_bytes();
        if is_standard && let Some(chunk) = self.pool.take() {
            return Some(chunk);
        }
        let capacity = self.chunk_for(needed);
        if capacity > self.pool.max_bytes() {
            return None;
        }
        // Checked before anything is written: most calls of a full client end here.
        while !self.pool.has_room(capacity) {
            self.pool.take()?.free();
        }
        if !self.account(capacity) {
            return None;
        }
        let chunk = self.make_chunk(capacity, false);
        if is_standard && chunk.is_some() {
            self.pool.grow(|chunks| self.make_ahead(chunks, false));
        }
        chunk
    }

    /// A new chunk, whose bytes are accounted for already.
    fn make_chunk(&self, capacity: usize, is_touched: bool) -> Option<ChunkRef> {
        if !self.has_memory() || !self.pool.admit(capacity) {
            self.held.fetch_sub(capacity, Ordering::Relaxed);
            return None;
        }
        let chunk = Chunk::allocate(capacity, is_touched, self.this.clone());
        if chunk.is_none() {
            self.freed(capacity);
            self.note_want();
        }
        chunk
    }

    /// Whether the system gave what it was last asked for, or would now.
    pub(crate) fn has_memory(&self) -> bool {
        self.emergency.is_there()
    }

    /// Whether the system gave no memory, and there is little of it since.
    pub(crate) fn is_in_want(&self) -> bool {
        self.emergency.is_given_up()
    }

    /// Notes that the system gave no memory, and gives idle chunks back to it.
    #[cold]
    pub(crate) fn note_want(&self) {
        self.emergency.give_up();
        self.pool.trimmed(self.pool.trim(true));
    }

    /// Why there is no room.
    #[cold]
    pub(crate) fn why_full(&self) -> DropReason {
        if self.is_in_want() { DropReason::NoMemory } else { DropReason::QueueFull }
    }

    /// Makes `chunks` idle chunks, or fewer if there is no room.
    fn make_ahead(&self, chunks: usize, is_touched: bool) {
        let capacity = self.pool.chunk_bytes();
        for _ in 0..chunks {
            if !self.try_account(capacity) {
                return;
            }
            let Some(chunk) = self.make_chunk(capacity, is_touched) else { return };
            self.pool.keep(chunk);
        }
    }

    /// Makes the chunks that the pool begins with, if that was not done yet. Takes a system call and the first touch of
    /// its pages for each.
    pub(crate) fn prepare(&self) {
        self.make_ahead(self.pool.initial_chunks(), true);
    }

    /// Bytes of a standard chunk.
    pub(in crate::capture) fn chunk_bytes(&self) -> usize {
        self.pool.chunk_bytes()
    }

    /// Bytes of a new chunk for a record that needs `needed`.
    pub(in crate::capture) fn chunk_for(&self, needed: usize) -> usize {
        self.pool.chunk_for(needed)
    }

    /// Accounts for `bytes` if they fit as it is.
    fn try_account(&self, bytes: usize) -> bool {
        // Never added in advance: a large request that fails must not make a small one fail at the same time.
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Accounts for `bytes`, giving idle chunks back to the system if it must; false if they exceed the bound all
    /// the same.
    fn account(&self, bytes: usize) -> bool {
        while !self.try_account(bytes) {
            let Some(idle) = self.pool.take() else { return false };
            idle.free();
        }
        true
    }

    /// Accounts for `bytes` that exist already. Idle chunks make room for them; where there are none, the next
    /// chunks that come back do.
    fn account_anyway(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        while self.held() > self.limit
            && let Some(idle) = self.pool.take()
        {
            idle.free();
        }
    }

    /// Accounts for `bytes` of a body if there is room for them.
    pub(in crate::capture) fn reserve(&self, bytes: usize) -> bool {
        let reserved = self.account(bytes);
        if reserved {
            self.bodies.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Accounts for `bytes` of a body that exists already.
    pub(super) fn hold(&self, bytes: usize) {
        self.bodies.fetch_add(bytes, Ordering::Relaxed);
        self.account_anyway(bytes);
    }

    /// Gives bytes of a body back.
    pub(in crate::capture) fn release(&self, bytes: usize) {
        self.emergency.note_freed();
        self.bodies.fetch_sub(bytes, Ordering::Relaxed);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Accounts for a buffer if there is room for it.
    pub(crate) fn reserve_buffer(&self, bytes: usize) -> bool {
        let reserved = self.account(bytes);
        if reserved {
            self.buffers.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Gives the bytes of a buffer back.
    pub(crate) fn release_buffer(&self, bytes: usize) {
        self.buffers.fetch_sub(bytes, Ordering::Relaxed);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Accounts for a span that is about to start, or to grow, if there is room for it.
    pub(in crate::capture) fn reserve_span(&self, bytes: usize) -> bool {
        let reserved = self.could_start(bytes) == Prospect::Room && self.has_memory() && self.account(bytes);
        if reserved {
            self.spans.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Gives bytes of a span back.
    pub(in crate::capture) fn release_span(&self, bytes: usize) {
        self.spans.fetch_sub(bytes, Ordering::Relaxed);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a span could start if nothing waited to be sent. A quarter of the bound is left to what has ended:
    /// spans that all wait for room to end in would never make any.
    pub(in crate::capture) fn could_start(&self, bytes: usize) -> Prospect {
        Self::prospect(bytes, self.spans(), self.limit / 4 * 3)
    }

    /// Whether a span that holds `held` bytes could end in a chunk of `needed` more, if nothing waited to be sent.
    pub(in crate::capture) fn could_end(&self, held: usize, needed: usize) -> Prospect {
        if needed > self.pool.max_bytes() {
            return Prospect::None;
        }
        match Self::prospect(held.saturating_add(needed), self.spans().saturating_sub(held), self.limit) {
            Prospect::Room if !self.pool.has_room(needed) => Prospect::Rings,
            prospect => prospect,
        }
    }

    fn prospect(bytes: usize, others: usize, limit: usize) -> Prospect {
        if bytes > limit {
            Prospect::None
        } else if bytes.saturating_add(others) > limit {
            Prospect::OpenSpans
        } else {
            Prospect::Room
        }
    }

    /// Whether spans take so much that threads should keep no more records than they need: what idle threads keep is
    /// of no use to others.
    pub(in crate::capture) fn is_short_of_records(&self) -> bool {
        self.spans() > self.ample
    }

    fn spans(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }

    /// Bytes held, idle chunks included.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How full the bound is, idle chunks left out: from 0 to 1, and beyond where bodies exceed it for a moment.
    pub(crate) fn fill(&self) -> f64 {
        self.held().saturating_sub(self.pool.idle()) as f64 / self.limit as f64
    }

    /// The bytes held, by their holder. Each number is read on its own: together they are exact only while nothing
    /// changes.
    pub(crate) fn holdings(&self) -> Holdings {
        let chunks_idle = self.pool.idle();
        Holdings {
            chunks_in_use: self.pool.total().saturating_sub(chunks_idle),
            chunks_idle,
            spans: self.spans(),
            bodies: self.bodies.load(Ordering::Relaxed),
            buffers: self.buffers.load(Ordering::Relaxed),
        }
    }

    /// Rings fill more than half of what bodies and open spans leave them: what waits should leave at once.
    pub(crate) fn is_pressed(&self) -> bool {
        let chunks = self.pool.total();
        let others = self.held().saturating_sub(chunks);
        let in_rings = chunks.saturating_sub(self.pool.idle());
        in_rings > self.limit.saturating_sub(others).min(self.pool.max_bytes()) / 2
    }

    /// Gives idle chunks back to the system until no larger share of the pool is idle than may be. Takes a system call
    /// for each.
    pub(crate) fn trim(&self) {
        self.pool.trimmed(self.pool.trim(false));
    }

    /// Gives all idle chunks back, and counts that together with `more` bytes that went back beside them. Answers how
    /// many bytes those are in all.
    pub(crate) fn trim_all(&self, more: usize) -> usize {
        let bytes = self.pool.trim(true) + more;
        self.pool.trimmed(bytes);
        bytes
    }

    /// How often idle memory was given back because nobody needed it, and how many bytes.
    pub(crate) fn trims(&self) -> (u64, u64) {
        self.pool.trims()
    }

    /// Whether chunks of `capacity` bytes are standard ones, shared by many records.
    pub(in crate::capture) fn is_standard(&self, capacity: usize) -> bool {
        self.pool.is_standard(capacity)
    }

    /// Whether records, bodies and buffers are used again.
    pub(crate) fn recycles(&self) -> bool {
        self.pool.recycles()
    }
}

impl Home for MemoryBudget {
    fn recycles_chunk(&self, capacity: usize) -> bool {
        self.pool.recycles() && self.pool.is_standard(capacity)
    }

    fn take_back(&self, chunk: ChunkRef) {
        if self.held() > self.limit || self.emergency.is_given_up() {
            // Bodies took the room of the rings, so the chunk makes room for them. Or the system has no memory left.
            chunk.free();
            return;
        }
        self.pool.keep(chunk);
    }

    fn freed(&self, capacity: usize) {
        self.pool.gone(capacity);
        self.emergency.note_freed();
        self.held.fetch_sub(capacity, Ordering::Relaxed);
    }
}

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        // Not recycled again: `home` cannot be upgraded any more.
        while self.pool.take().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
