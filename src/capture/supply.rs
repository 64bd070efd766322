//! The one memory bound: who may hold how much, and the chunks that wait to be used again.
//!
//! Everything a client holds (chunks in rings, idle chunks, open spans, bodies) is accounted for here, in
//! steps of a chunk or a buffer, never per span.

use std::sync::{Arc, Weak};

use super::{
    overflow::Prospect,
    ring::{Chunk, ChunkRef},
};
use crate::sync::{AtomicUsize, Ordering};

/// Bytes of the largest standard chunk. Large enough that linking one costs a span less than a nanosecond, small
/// enough that a thousand mostly idle threads hold a quarter of the default bound.
#[cfg(not(loom))]
const CHUNK_BYTES: usize = 16 * 1024;
/// Two records of eight bytes to a chunk: a model must meet every boundary within a few steps.
#[cfg(loom)]
const CHUNK_BYTES: usize = 32;

/// Chunks are pages. Where the bound is small they are, too: each thread that recorded a span keeps one.
const PAGE_BYTES: usize = 4 * 1024;

/// Idle chunks that are probably still in a cache: handed out first.
const WARM_CHUNKS: usize = 64;

pub(crate) struct Supply {
    limit: usize,
    chunk_bytes: usize,
    /// Bytes accounted for, idle chunks included; never above `limit`, but for [`hold`](Self::hold).
    held: AtomicUsize,
    /// Bytes of chunks, idle ones included.
    chunks: AtomicUsize,
    /// Bytes of idle chunks.
    idle: AtomicUsize,
    /// Bytes of open spans and of the records that threads keep for their next ones.
    spans: AtomicUsize,
    warm: Idle,
    cold: Idle,
    this: Weak<Self>,
}

impl Supply {
    /// A supply of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let a_thousandth = (limit / 1024).next_multiple_of(PAGE_BYTES);
        Self::with_chunks_of(limit, a_thousandth.min(CHUNK_BYTES))
    }

    pub(crate) fn with_chunks_of(limit: usize, chunk_bytes: usize) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            limit,
            chunk_bytes,
            held: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            spans: AtomicUsize::new(0),
            warm: Idle::bounded(WARM_CHUNKS),
            cold: Idle::unbounded(),
            this: this.clone(),
        })
    }

    /// A chunk for a record that needs `needed` bytes: a used one if there is one, else a new one within
    /// the bound, else nothing. Does not block.
    pub(super) fn chunk(&self, needed: usize) -> Option<ChunkRef> {
        if needed <= self.chunk_bytes
            && let Some(chunk) = self.take_idle()
        {
            return Some(chunk);
        }
        let capacity = self.chunk_for(needed);
        if !self.reserve(capacity) {
            return None;
        }
        self.chunks.fetch_add(capacity, Ordering::Relaxed);
        let chunk = Chunk::allocate(capacity, self.this.clone());
        if chunk.is_none() {
            self.freed(capacity);
        }
        chunk
    }

    /// Bytes of a standard chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Bytes of a new chunk for a record that needs `needed`.
    pub(super) fn chunk_for(&self, needed: usize) -> usize {
        needed.max(self.chunk_bytes).next_multiple_of(8)
    }

    /// Accounts for `bytes`, giving idle chunks back to the allocator if it must; false if they exceed the
    /// bound all the same.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        // Never added in advance: a large request that fails must not make a small one fail beside it.
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.limit);
        while self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            let Some(idle) = self.take_idle() else { return false };
            idle.free();
        }
        true
    }

    /// Accounts for `bytes` that exist already. Idle chunks make room for them; where there are none, the next
    /// chunks that come back do.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        while self.held() > self.limit
            && let Some(idle) = self.take_idle()
        {
            idle.free();
        }
    }

    /// Accounts for a span that is about to start, as [`reserve`](Self::reserve) does.
    pub(super) fn reserve_span(&self, bytes: usize) -> bool {
        let reserved = self.could_start(bytes) == Prospect::Room && self.reserve(bytes);
        if reserved {
            self.spans.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Accounts for a span that has grown from `before` bytes, or shrunk.
    pub(super) fn resize_span(&self, before: usize, bytes: usize) {
        self.spans.fetch_add(bytes, Ordering::Relaxed);
        self.hold(bytes);
        self.release_span(before);
    }

    /// Gives the bytes of a span back.
    pub(super) fn release_span(&self, bytes: usize) {
        self.spans.fetch_sub(bytes, Ordering::Relaxed);
        self.release(bytes);
    }

    /// Whether a span could start if nothing waited to be sent. A quarter of the bound is left to what has ended:
    /// spans that all wait for room to end in would never make any.
    pub(super) fn could_start(&self, bytes: usize) -> Prospect {
        Self::prospect(bytes, self.spans(), self.limit / 4 * 3)
    }

    /// Whether a span that holds `held` bytes could end in `needed` more, if nothing waited to be sent.
    pub(super) fn could_end(&self, held: usize, needed: usize) -> Prospect {
        Self::prospect(held.saturating_add(needed), self.spans().saturating_sub(held), self.limit)
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
    pub(super) fn is_short_of_records(&self) -> bool {
        self.spans() > self.limit / 4
    }

    fn spans(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }

    /// Gives accounted bytes back.
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes held, idle chunks included.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How full the bound is, idle chunks left out: from 0 to 1, and beyond where bodies exceed it for a moment.
    pub(crate) fn fill(&self) -> f64 {
        self.held().saturating_sub(self.idle.load(Ordering::Relaxed)) as f64 / self.limit as f64
    }

    /// A chunk of so many bytes is gone.
    pub(super) fn freed(&self, capacity: usize) {
        self.chunks.fetch_sub(capacity, Ordering::Relaxed);
        self.release(capacity);
    }

    /// Rings fill more than half of what bodies and open spans leave them: what waits should leave at once.
    pub(crate) fn is_pressed(&self) -> bool {
        let chunks = self.chunks.load(Ordering::Relaxed);
        let others = self.held().saturating_sub(chunks);
        let in_rings = chunks.saturating_sub(self.idle.load(Ordering::Relaxed));
        in_rings > self.limit.saturating_sub(others) / 2
    }

    /// Gives idle chunks back to the allocator, but for those probably still in a cache.
    pub(crate) fn trim(&self) {
        while let Some(chunk) = self.cold.take() {
            self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
            chunk.free();
        }
    }

    pub(super) fn recycles(&self, capacity: usize) -> bool {
        capacity == self.chunk_bytes
    }

    pub(super) fn take_back(&self, chunk: ChunkRef) {
        if self.held() > self.limit {
            // Bodies took what the rings had: the chunk makes room for them.
            chunk.free();
            return;
        }
        self.idle.fetch_add(chunk.capacity(), Ordering::Relaxed);
        if let Err(chunk) = self.warm.give(chunk)
            && let Err(chunk) = self.cold.give(chunk)
        {
            self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
            chunk.free();
        }
    }

    fn take_idle(&self) -> Option<ChunkRef> {
        // Cheaper than a look into two empty queues, and most of what a full client does.
        if self.idle.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let chunk = self.warm.take().or_else(|| self.cold.take())?;
        self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
        Some(chunk)
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        // Not recycled again: `home` cannot be upgraded any more.
        while self.take_idle().is_some() {}
    }
}

use idle::Idle;

#[cfg(not(loom))]
mod idle {
    use crossbeam::queue::{ArrayQueue, SegQueue};

    use super::ChunkRef;

    /// Idle chunks, lock-free at both ends.
    pub(super) enum Idle {
        Bounded(ArrayQueue<ChunkRef>),
        Unbounded(SegQueue<ChunkRef>),
    }

    impl Idle {
        pub(super) fn bounded(chunks: usize) -> Self {
            Self::Bounded(ArrayQueue::new(chunks))
        }

        pub(super) fn unbounded() -> Self {
            Self::Unbounded(SegQueue::new())
        }

        pub(super) fn give(&self, chunk: ChunkRef) -> Result<(), ChunkRef> {
            match self {
                Self::Bounded(queue) => queue.push(chunk),
                Self::Unbounded(queue) => {
                    queue.push(chunk);
                    Ok(())
                }
            }
        }

        pub(super) fn take(&self) -> Option<ChunkRef> {
            match self {
                Self::Bounded(queue) => queue.pop(),
                Self::Unbounded(queue) => queue.pop(),
            }
        }
    }
}

/// crossbeam's queues are not modelled; a lock gives loom the same order of events.
#[cfg(loom)]
mod idle {
    use std::collections::VecDeque;

    use super::ChunkRef;
    use crate::sync::Mutex;

    pub(super) struct Idle(Mutex<VecDeque<ChunkRef>>);

    impl Idle {
        pub(super) fn bounded(_chunks: usize) -> Self {
            Self::unbounded()
        }

        pub(super) fn unbounded() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub(super) fn give(&self, chunk: ChunkRef) -> Result<(), ChunkRef> {
            self.0.lock().push_back(chunk);
            Ok(())
        }

        pub(super) fn take(&self) -> Option<ChunkRef> {
            self.0.lock().pop_front()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_a_returned_chunk_is_handed_out_again() {
        let supply = Supply::with_chunks_of(200, 64);
        let chunks: Vec<_> = std::iter::from_fn(|| supply.chunk(10)).collect();
        assert_eq!((chunks.len(), supply.held()), (3, 192));
        drop(chunks);
        assert_eq!(supply.held(), 192, "idle chunks stay accounted for");
        assert!(supply.chunk(10).is_some());
    }

    #[test]
    fn idle_chunks_make_room_for_what_is_needed_instead() {
        let supply = Supply::with_chunks_of(200, 64);
        drop(std::iter::from_fn(|| supply.chunk(10)).collect::<Vec<_>>());
        assert!(supply.reserve(150));
        assert!(!supply.reserve(51));
        supply.release(150);
        assert!(supply.chunk(200).is_some(), "a large record gets a chunk of its own");
    }

    #[test]
    fn a_request_that_is_refused_does_not_stand_in_the_way_of_one_that_fits() {
        let supply = Supply::with_chunks_of(1000, 64);
        std::thread::scope(|threads| {
            threads.spawn(|| (0..200_000).for_each(|_| assert!(!supply.reserve(1001))));
            for _ in 0..200_000 {
                assert!(supply.reserve(1000));
                supply.release(1000);
            }
        });
    }

    #[test]
    fn what_is_held_beyond_the_bound_is_taken_from_the_chunks() {
        let supply = Supply::with_chunks_of(256, 64);
        let mut chunks: Vec<_> = std::iter::from_fn(|| supply.chunk(10)).collect();
        supply.hold(100);
        assert_eq!(supply.held(), 356, "it exists already");
        chunks.truncate(2);
        assert_eq!(supply.held(), 228, "two chunks were freed, not kept");
        drop(chunks);
        supply.hold(100);
        assert_eq!(supply.held(), 200, "idle chunks made room");
    }

    #[test]
    fn rings_are_pressed_beyond_half_of_what_the_others_leave_them() {
        let supply = Supply::with_chunks_of(1000, 64);
        let mut chunks: Vec<_> = (0..7).filter_map(|_| supply.chunk(10)).collect();
        assert!(!supply.is_pressed(), "448 of 1000");
        assert!(supply.reserve(200));
        assert!(supply.is_pressed(), "448 of 800");
        chunks.truncate(3);
        assert!(!supply.is_pressed(), "192 of 800, the idle ones do not count");
    }

    #[test]
    fn the_default_bound_takes_200_000_spans_of_300_bytes_whole_with_four_workers() {
        // What the client leaves of 64 MiB for rings beside four workers, and the head around each span.
        let supply = Supply::new((64 << 20) - (3 + 4) * 512 * 1024);
        let record = [7; 300 + 3];
        let mut producers: Vec<_> = (0..4).map(|_| crate::capture::ring::Ring::new(0).1).collect();
        for producer in &mut producers {
            for number in 0..50_000 {
                assert!(producer.push(&supply, 0, &record).is_ok(), "span {number}");
            }
        }
    }

    #[test]
    fn a_large_chunk_is_freed_and_not_kept() {
        let supply = Supply::with_chunks_of(1000, 64);
        drop(supply.chunk(500));
        assert_eq!(supply.held(), 0);
    }

    #[test]
    fn trimming_keeps_the_warm_chunks_only() {
        let supply = Supply::with_chunks_of(64 * 100, 64);
        drop(std::iter::from_fn(|| supply.chunk(10)).collect::<Vec<_>>());
        supply.trim();
        assert_eq!(supply.held(), 64 * WARM_CHUNKS);
    }
}
