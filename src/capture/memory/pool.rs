//! The chunks of one client: how large they are, how many there may be, and which of them wait to be used again.
//!
//! It counts chunks and keeps the idle ones; that they also fit the memory bound is the budget's to see to.

use std::sync::atomic::{AtomicBool, AtomicU64};

use super::{chunk::ChunkRef, idle::Idle};
use crate::{
    config::Settings,
    sync::{AtomicUsize, Ordering},
};

/// Bytes of the largest standard chunk if none is configured. Large enough that linking one costs a span less than a
/// nanosecond, small enough that a thousand mostly idle threads hold a quarter of the default bound.
#[cfg(not(loom))]
const CHUNK_BYTES: usize = 16 * 1024;
/// Two records of eight bytes to a chunk: a model must meet every boundary within a few steps.
#[cfg(loom)]
const CHUNK_BYTES: usize = 32;

/// Chunks are pages. Where the bound is small they are, too: each thread that recorded a span keeps one.
const PAGE_BYTES: usize = 4 * 1024;

/// Idle chunks that are probably still in a cache: handed out first, and given up last.
const WARM_CHUNKS: usize = 64;

/// A pool that is smaller counts as one of this many chunks (or, if chunks are large, of the same number of bytes) when
/// the share of idle ones is judged: what one burst takes and gives back is not worth a system call each.
const SMALL_POOL_CHUNKS: usize = 80;
const SMALL_POOL_BYTES: usize = SMALL_POOL_CHUNKS * 16 * 1024;

/// How a client pools its chunks.
#[derive(Debug, Clone)]
pub(crate) struct Pooling {
    /// Bytes of a standard chunk; chosen by the bound where it is not given.
    pub(crate) chunk_bytes: Option<usize>,
    /// Bytes that are made ahead, and never given back while workers rest.
    pub(crate) initial_bytes: usize,
    /// The most bytes of all chunks.
    pub(crate) max_bytes: usize,
    /// By how much an exhausted pool grows; 1 for a chunk at a time.
    pub(crate) growth_factor: f64,
    /// The share that may be idle.
    pub(crate) idle_share: f64,
    /// Whether chunks and records are used again.
    pub(crate) recycles: bool,
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            chunk_bytes: None,
            initial_bytes: 0,
            max_bytes: usize::MAX,
            growth_factor: 1.0,
            idle_share: 0.8,
            recycles: true,
        }
    }
}

impl From<&Settings> for Pooling {
    fn from(settings: &Settings) -> Self {
        let pool = &settings.memory_pool;
        Self {
            chunk_bytes: pool.chunk_size,
            initial_bytes: pool.initial_size.unwrap_or(0),
            max_bytes: pool.max_size.unwrap_or(usize::MAX),
            growth_factor: pool.growth_factor.unwrap_or(1.0),
            idle_share: settings.gc_threshold,
            recycles: settings.recycles,
        }
    }
}

pub(super) struct Pool {
    config: Pooling,
    /// Bytes of a standard chunk.
    chunk_bytes: usize,
    /// Bytes of chunks, idle ones included.
    total: AtomicUsize,
    /// Bytes of idle chunks.
    idle: AtomicUsize,
    warm: Idle,
    cold: Idle,
    is_prepared: AtomicBool,
    is_growing: AtomicBool,
    /// How often idle memory went back to the system because it was not needed, and how many bytes that were.
    trims: AtomicU64,
    trimmed: AtomicU64,
}

impl Pool {
    /// A pool within a memory bound of `limit` bytes.
    pub(super) fn new(limit: usize, config: Pooling) -> Self {
        let chunk_bytes = config.chunk_bytes.unwrap_or_else(|| {
            let a_thousandth = (limit / 1024).next_multiple_of(PAGE_BYTES);
            // A thread holds two while it goes from one to the next.
            let half = (config.max_bytes / 2 / PAGE_BYTES * PAGE_BYTES).max(PAGE_BYTES);
            a_thousandth.min(CHUNK_BYTES).min(half)
        });
        Self {
            chunk_bytes,
            total: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            warm: Idle::bounded(WARM_CHUNKS),
            cold: Idle::unbounded(),
            is_prepared: AtomicBool::new(false),
            is_growing: AtomicBool::new(false),
            trims: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
            config,
        }
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Bytes of a new chunk for `needed` bytes: a standard one, or one of its own in whole pages.
    pub(super) fn chunk_for(&self, needed: usize) -> usize {
        let step = if self.chunk_bytes.is_multiple_of(PAGE_BYTES) { PAGE_BYTES } else { 8 };
        if needed <= self.chunk_bytes { self.chunk_bytes } else { needed.next_multiple_of(step) }
    }

    pub(super) fn is_standard(&self, capacity: usize) -> bool {
        capacity == self.chunk_bytes
    }

    /// Whether chunks and records are used again.
    pub(super) fn recycles(&self) -> bool {
        self.config.recycles
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.config.max_bytes
    }

    /// Bytes of chunks, idle ones included.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes of idle chunks.
    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Whether one more chunk of `capacity` bytes may be made. Writes nothing.
    pub(super) fn has_room(&self, capacity: usize) -> bool {
        self.config.max_bytes == usize::MAX || self.total().saturating_add(capacity) <= self.config.max_bytes
    }

    /// Counts a chunk that is about to be made; false if there would be too many.
    pub(super) fn admit(&self, capacity: usize) -> bool {
        if self.config.max_bytes == usize::MAX {
            self.total.fetch_add(capacity, Ordering::Relaxed);
            return true;
        }
        let fits = |total: usize| total.checked_add(capacity).filter(|sum| *sum <= self.config.max_bytes);
        self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Notes that a chunk of `capacity` bytes is gone.
    pub(super) fn gone(&self, capacity: usize) {
        self.total.fetch_sub(capacity, Ordering::Relaxed);
    }

    /// Keeps an idle chunk.
    pub(super) fn keep(&self, chunk: ChunkRef) {
        self.idle.fetch_add(chunk.capacity(), Ordering::Relaxed);
        if let Err(chunk) = self.warm.give(chunk)
            && let Err(chunk) = self.cold.give(chunk)
        {
            self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
            chunk.free();
        }
    }

    /// An idle chunk, a warm one if there is one.
    pub(super) fn take(&self) -> Option<ChunkRef> {
        // Cheaper than a look into two empty queues, and most of what a full client does.
        if self.idle() == 0 {
            return None;
        }
        let chunk = self.warm.take().or_else(|| self.cold.take())?;
        self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
        Some(chunk)
    }

    fn take_coldest(&self) -> Option<ChunkRef> {
        let chunk = self.cold.take().or_else(|| self.warm.take())?;
        self.idle.fetch_sub(chunk.capacity(), Ordering::Relaxed);
        Some(chunk)
    }

    /// Gives idle chunks back to the system, the warm ones last, until the share of those that are left is no larger
    /// than it may be, or all of them if `all`. Answers the bytes.
    pub(super) fn trim(&self, all: bool) -> usize {
        let mut given = 0;
        while (all || self.has_excess())
            && let Some(chunk) = self.take_coldest()
        {
            given += chunk.capacity();
            chunk.free();
        }
        given
    }

    fn has_excess(&self) -> bool {
        let total = self.total();
        let small = SMALL_POOL_BYTES.min(self.chunk_bytes.saturating_mul(SMALL_POOL_CHUNKS));
        let may_be_idle = self.config.idle_share * total.max(small) as f64;
        self.config.idle_share < 1.0 && total > self.config.initial_bytes && self.idle() as f64 > may_be_idle
    }

    /// How many chunks are to be made ahead, the first time it is asked.
    pub(super) fn initial_chunks(&self) -> usize {
        if self.config.initial_bytes == 0 || !self.config.recycles || self.is_prepared.swap(true, Ordering::Relaxed) {
            return 0;
        }
        self.config.initial_bytes.saturating_sub(self.total()) / self.chunk_bytes
    }

    /// Has `make` make the chunks by which a pool grows that was exhausted before its newest chunk. One thread at a
    /// time: each would multiply what the others made.
    pub(super) fn grow(&self, make: impl FnOnce(usize)) {
        if self.config.growth_factor <= 1.0 || !self.config.recycles || self.is_growing.swap(true, Ordering::Relaxed) {
            return;
        }
        let total = self.total();
        let target = total.saturating_sub(self.chunk_bytes) as f64 * self.config.growth_factor;
        make((target as usize).saturating_sub(total) / self.chunk_bytes);
        self.is_growing.store(false, Ordering::Relaxed);
    }

    /// Counts what was given back, if anything was.
    pub(super) fn trimmed(&self, bytes: usize) {
        if bytes > 0 {
            self.trims.fetch_add(1, Ordering::Relaxed);
            self.trimmed.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// How often memory was given back, and how many bytes.
    pub(super) fn trims(&self) -> (u64, u64) {
        (self.trims.load(Ordering::Relaxed), self.trimmed.load(Ordering::Relaxed))
    }
}
