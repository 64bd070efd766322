//! How many spans a thread started, by kind.

// Not loom's: nothing else depends on what is counted here, so there is nothing to model.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::Started;

/// Counters with the producer as their only writer: a load and a store instead of a locked addition.
#[derive(Default)]
pub(crate) struct Starts([AtomicU64; Started::KINDS]);

impl Starts {
    /// Counts a span of the kind with this index ([`Started::index`]). Only the producer does.
    #[inline]
    pub(super) fn count(&self, kind: usize) {
        let counter = &self.0[kind];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Adds what was counted so far to `sums`.
    pub(crate) fn add_to(&self, sums: &mut Started) {
        for (sum, counter) in sums.0.iter_mut().zip(&self.0) {
            *sum += counter.load(Ordering::Acquire);
        }
    }
}
