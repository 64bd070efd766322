//! What batches looked like, and why they left.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{BatchStrategy, Compression, Effort};

listed! {
    /// Why a batch left the rings.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Departure {
        /// There was enough for a batch.
        Full,
        /// Its spans had waited for `batch_timeout`.
        TimedOut,
        /// Somebody flushed or shut down, or the queue was above half its bound.
        Urgent,
    }
}

/// Counts of one client, in steps of a batch.
#[derive(Default)]
pub(crate) struct Batches {
    left: [AtomicU64; Departure::COUNT],
    spans: AtomicU64,
}

impl Batches {
    pub(crate) fn left(&self, why: Departure, spans: u64) {
        self.left[why as usize].fetch_add(1, Ordering::Relaxed);
        self.spans.fetch_add(spans, Ordering::Relaxed);
    }

    /// Batches, and the spans in them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let batches = self.left.iter().map(|left| left.load(Ordering::Relaxed)).sum();
        (batches, self.spans.load(Ordering::Relaxed))
    }

    pub(crate) fn of(&self, why: Departure) -> u64 {
        self.left[why as usize].load(Ordering::Relaxed)
    }
}

/// How spans were batched since the client began, and how they are now.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct BatchMetrics {
    /// Batches that left the queue.
    pub batches: u64,
    /// Spans in the batches that left.
    pub spans: u64,
    /// Batches that left because there were enough spans for one.
    pub full: u64,
    /// Batches that left because their spans had waited for `batch_timeout`.
    pub timed_out: u64,
    /// Batches that left because of a flush or a shutdown, or because the queue was above half its bound.
    pub urgent: u64,
    /// Spans that wait in the queue, not yet in a batch.
    pub waiting: u64,
    /// How full the queue is, from 0 to 1: by spans where `max_queue_size` bounds them, or by bytes, whichever is
    /// fuller.
    pub load: f64,
    /// The most spans of one request, as it is now.
    pub batch_size: usize,
    /// When batches leave.
    pub strategy: BatchStrategy,
    /// How bodies are compressed now.
    pub compression: Compression,
    /// How hard the compressor tries now.
    pub effort: Effort,
}

impl BatchMetrics {
    /// Mean spans of a batch; 0 before the first.
    pub fn avg_size(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.spans as f64 / self.batches as f64 }
    }
}
