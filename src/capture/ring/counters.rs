//! How many spans of each kind a thread started or ended.

// Not loom's atomics: nothing else depends on what is counted here, so there is nothing to model.
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters with the producer as their only writer: a load and a store instead of a locked addition.
pub(crate) struct Counters<const KINDS: usize>([AtomicU64; KINDS]);

impl<const KINDS: usize> Default for Counters<KINDS> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; KINDS])
    }
}

impl<const KINDS: usize> Counters<KINDS> {
    /// Counts a span of the kind with this index. Only the producer calls it.
    #[inline]
    pub(super) fn count(&self, kind: usize) {
        let counter = &self.0[kind];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Adds what was counted so far to `sums`.
    pub(crate) fn add_to(&self, sums: &mut [u64; KINDS]) {
        for (sum, counter) in sums.iter_mut().zip(&self.0) {
            *sum += counter.load(Ordering::Acquire);
        }
    }
}
