//! How much memory the client holds, and how it is reused.

use std::ops::RangeInclusive;

use super::bounds::{MEMORY, share, within};
use crate::error::Error;

/// Memory of rings comes in whole pages.
const PAGE_BYTES: usize = 4 * 1024;
const CHUNK: RangeInclusive<usize> = PAGE_BYTES..=1024 * 1024;
/// The sizes allowed for a buffer: at most what one request may hold.
const BUFFER: RangeInclusive<usize> = PAGE_BYTES..=64 * 1024 * 1024;

/// How memory is bounded and reused. Given in code, the whole struct counts and the environment's
/// `OTLP_MAX_MEMORY_USAGE` is ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceConfig {
    /// Whether bodies are compressed straight from the memory that spans were recorded into. Default true. If false,
    /// each batch is first copied and its ring memory freed, which costs one more copy and its memory; meant for
    /// measuring the difference. [`Snapshot::copied_bytes`](crate::Snapshot::copied_bytes) tells how much was copied.
    pub enable_zero_copy: bool,
    /// Whether buffers are reused: chunks of rings, bodies, records of open spans, zero-copy buffers. Default true. If
    /// false, each is allocated when needed and freed afterwards, by the recording threads too; meant for measuring the
    /// difference.
    pub enable_memory_pool: bool,
    /// The hard bound on what the client holds, in bytes. Default 64 MiB; at least 1 MiB. Environment:
    /// `OTLP_MAX_MEMORY_USAGE`.
    pub max_memory_usage: usize,
    /// The share of the pool's chunks that may be idle, from 0 to 1. Beyond it, a worker that has nothing else to do
    /// gives idle chunks back to the operating system. A pool of less than 80 chunks (1.25 MiB if chunks are larger) is
    /// judged as if it had that size, so that memory for one burst is kept. Default 0.8; 0 keeps nothing, 1 everything.
    pub gc_threshold: f64,
}

impl Default for PerformanceConfig {
    fn default() -> Self {
        Self { enable_zero_copy: true, enable_memory_pool: true, max_memory_usage: 64 * 1024 * 1024, gc_threshold: 0.8 }
    }
}

impl PerformanceConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        within("with_performance_config.max_memory_usage", Some(self.max_memory_usage), MEMORY)?;
        share("with_performance_config.gc_threshold", self.gc_threshold)
    }
}

/// The pool that memory for records comes from. Settings not made here keep their defaults.
///
/// Sizes above `max_memory_usage` are capped by it, with one line on stderr.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct MemoryPool {
    pub(crate) initial_size: Option<usize>,
    pub(crate) max_size: Option<usize>,
    pub(crate) chunk_size: Option<usize>,
    pub(crate) growth_factor: Option<f64>,
    pub(crate) gc_threshold: Option<f64>,
}

impl MemoryPool {
    /// Makes a pool that is empty at first, grows by single chunks of 4 to 16 KiB, and is only bounded by
    /// `max_memory_usage`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes of chunks the first worker makes when it starts, which is when the first span is recorded.
    /// They are touched, so that recording into them causes no page fault. The pool is not trimmed below that while
    /// workers rest. Default 0; at most `max_size`. Without
    /// [`enable_memory_pool`](PerformanceConfig::enable_memory_pool) nothing is made ahead.
    pub fn with_initial_size(mut self, bytes: usize) -> Self {
        self.initial_size = Some(bytes);
        self
    }

    /// Sets the most bytes of all chunks together, idle or not. A span that would need more finds no room, and the
    /// [`DropStrategy`](crate::DropStrategy) decides; if that sheds the oldest data, spans in rings are dropped but no
    /// bodies. Default `max_memory_usage`; at least two chunks, because a thread keeps one until it continues in the
    /// next.
    pub fn with_max_size(mut self, bytes: usize) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Sets the bytes of one chunk, which holds spans of one thread: 4 KiB to 1 MiB, rounded up to whole pages, and at
    /// most an eighth of `max_memory_usage`. Default 16 KiB, less if the bound is below 16 MiB. Each thread that
    /// records keeps one; a span that needs more than a chunk gets one of its own, which is not reused.
    pub fn with_chunk_size(mut self, bytes: usize) -> Self {
        self.chunk_size = Some(bytes);
        self
    }

    /// Sets by how much the pool grows when a thread finds it exhausted: 2.0 doubles it, within its bounds. That thread
    /// makes the chunks at once, with a system call for each, and others find them ready. Default 1.0, one chunk at a
    /// time; finite and at least 1. Without [`enable_memory_pool`](PerformanceConfig::enable_memory_pool) it is always
    /// one.
    pub fn with_growth_factor(mut self, factor: f64) -> Self {
        self.growth_factor = Some(factor);
        self
    }

    /// Sets the share of the pool that may be idle; see [`gc_threshold`](PerformanceConfig::gc_threshold).
    pub fn with_gc_threshold(mut self, share: f64) -> Self {
        self.gc_threshold = Some(share);
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        within("with_memory_pool.chunk_size", self.chunk_size, CHUNK)?;
        // A thread needs a second chunk to continue when the first is full.
        let least = 2 * self.chunk_size.unwrap_or(*CHUNK.start()).next_multiple_of(PAGE_BYTES);
        within("with_memory_pool.max_size", self.max_size, least..=usize::MAX)?;
        if let (Some(initial), Some(max)) = (self.initial_size, self.max_size)
            && initial > max
        {
            let allowed = format!("must be at most max_size, which is {max}");
            return Err(Error::config("with_memory_pool.initial_size", initial, allowed));
        }
        if let Some(factor) = self.growth_factor.filter(|factor| !(factor.is_finite() && *factor >= 1.0)) {
            return Err(Error::config("with_memory_pool.growth_factor", factor, "must be finite and at least 1"));
        }
        self.gc_threshold.map_or(Ok(()), |threshold| share("with_memory_pool.gc_threshold", threshold))
    }
}

/// How the buffers of [`Client::buffer`](crate::Client::buffer) are made.
///
/// Sizes above `max_memory_usage` are capped by it, with one line on stderr. The whole capacity of a buffer counts
/// towards that bound, from when it is handed out until it is sent or dropped; a few used buffers are kept for reuse.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct ZeroCopyBuffer {
    /// Always `Some` in resolved settings.
    pub(super) capacity: Option<usize>,
    pub(crate) alignment: usize,
    pub(crate) prefetch_size: usize,
}

impl Default for ZeroCopyBuffer {
    fn default() -> Self {
        Self { capacity: None, alignment: 64, prefetch_size: 0 }
    }
}

impl ZeroCopyBuffer {
    /// The capacity if none is set and there is memory for eight buffers of it.
    pub(super) const USUAL_CAPACITY: usize = 1024 * 1024;

    /// Makes buffers of 1 MiB, aligned to 64 bytes, with nothing prefetched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bytes of one buffer, which is the most it may hold. Default 1 MiB, or an eighth of `max_memory_usage`
    /// if that is less; 4 KiB to 64 MiB.
    pub fn with_capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Sets the alignment of a buffer's first byte, in bytes. Default 64; a power of two, at most 4096.
    pub fn with_alignment(mut self, bytes: usize) -> Self {
        self.alignment = bytes;
        self
    }

    /// Sets how many bytes of a buffer are touched when it is handed out, so that writing them later causes no page
    /// fault. Default 0; at most `capacity`.
    pub fn with_prefetch_size(mut self, bytes: usize) -> Self {
        self.prefetch_size = bytes;
        self
    }

    /// Bytes of one buffer.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.unwrap_or(Self::USUAL_CAPACITY)
    }

    /// Checks the settings; `usual` is the capacity if none is set.
    pub(super) fn check(&self, usual: usize) -> Result<(), Error> {
        within("with_zero_copy_buffer.capacity", self.capacity, BUFFER)?;
        if !self.alignment.is_power_of_two() || self.alignment > PAGE_BYTES {
            let allowed = format!("must be a power of two, at most {PAGE_BYTES}");
            return Err(Error::config("with_zero_copy_buffer.alignment", self.alignment, allowed));
        }
        within("with_zero_copy_buffer.prefetch_size", Some(self.prefetch_size), 0..=self.capacity.unwrap_or(usual))?;
        Ok(())
    }
}
