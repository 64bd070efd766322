//! How old spans are when they are accepted, where latencies are measured.

use std::time::Instant;

/// When the spans of a batch had ended, at the time it was packed.
pub(crate) struct Ages {
    at: Instant,
    /// Microseconds before that.
    micros: Vec<u32>,
}

impl Ages {
    /// Of spans that ended at `ends`, as it is `now`; both in nanoseconds since 1970.
    pub(in crate::export) fn new(now: u64, ends: impl Iterator<Item = u64>) -> Self {
        let age = |end: u64| u32::try_from(now.saturating_sub(end) / 1000).unwrap_or(u32::MAX);
        Self { at: Instant::now(), micros: ends.map(age).collect() }
    }

    /// Microseconds from the end of each span until now. What is longer than 71 minutes counts as that.
    pub(in crate::export) fn now(&self) -> impl Iterator<Item = u32> {
        let since = u32::try_from(self.at.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.micros.iter().map(move |age| age.saturating_add(since))
    }

    /// Bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.micros.capacity() * size_of::<u32>()
    }
}
