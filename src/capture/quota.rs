//! Two limits counted in spans, kept off the hot path: when a batch is worth a wake, and how many spans may
//! be queued where `max_queue_size` is set. Threads count for themselves and settle in steps.

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// The most spans a thread counts for itself before it tells the others.
const STEP: u32 = 64;

/// How many recorded spans wait for a worker, give or take a step per thread.
pub(crate) struct Arrivals {
    arrived: CachePadded<AtomicU64>,
    taken: CachePadded<AtomicU64>,
    /// Waiting spans that make a batch worth sending.
    ready: AtomicU64,
}

impl Arrivals {
    pub(crate) fn new(ready: usize) -> Self {
        Self { arrived: CachePadded::default(), taken: CachePadded::default(), ready: AtomicU64::new(ready as u64) }
    }

    /// How many spans a thread records between two calls of [`arrive`](Self::arrive).
    pub(crate) fn step(&self) -> u32 {
        (self.ready() / 8).clamp(1, STEP.into()) as u32
    }

    /// Counts `spans` more; true if a batch is ready.
    pub(crate) fn arrive(&self, spans: u32) -> bool {
        let arrived = self.arrived.fetch_add(spans.into(), Ordering::Relaxed) + u64::from(spans);
        // Taken can run ahead: workers also take what was not announced yet.
        arrived.saturating_sub(self.taken.load(Ordering::Relaxed)) >= self.ready()
    }

    /// Counts `spans` as detached.
    pub(crate) fn take(&self, spans: u64) {
        self.taken.fetch_add(spans, Ordering::Relaxed);
    }

    /// Waiting spans that make a batch worth sending.
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Changes that. Threads go by it once they have made the steps they are at.
    pub(crate) fn set_ready(&self, spans: usize) {
        self.ready.store(spans as u64, Ordering::Relaxed);
    }
}

/// `max_queue_size`: spans that may be queued, wherever they are, until they are accepted or dropped.
pub(crate) struct Quota {
    max: usize,
    granted: AtomicUsize,
}

impl Quota {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, granted: AtomicUsize::new(0) }
    }

    /// Without a bound in spans nothing is counted.
    #[inline]
    pub(crate) fn is_bounded(&self) -> bool {
        self.max != usize::MAX
    }

    /// How many spans a thread may ask for at a time, so that what idle threads hold back stays small.
    pub(crate) fn step(&self, threads: usize) -> usize {
        (self.max / (8 * threads.max(1))).clamp(1, STEP as usize)
    }

    /// Grants up to `spans`; 0 where the queue is full.
    pub(crate) fn grant(&self, spans: usize) -> usize {
        let mut granted = self.granted.load(Ordering::Relaxed);
        loop {
            let grant = spans.min(self.max.saturating_sub(granted));
            if grant == 0 {
                return 0;
            }
            match self.granted.compare_exchange_weak(granted, granted + grant, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return grant,
                Err(now) => granted = now,
            }
        }
    }

    /// Takes `spans` back: they left the queue, or were granted and not used.
    pub(crate) fn give_back(&self, spans: u64) {
        if self.is_bounded() && spans > 0 {
            self.granted.fetch_sub(spans as usize, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_ready_when_what_arrived_and_was_not_taken_reaches_it() {
        let arrivals = Arrivals::new(10);
        assert_eq!(arrivals.step(), 1, "small batches are counted exactly");
        assert!((0..9).all(|_| !arrivals.arrive(1)));
        assert!(arrivals.arrive(1));
        arrivals.take(10);
        assert!(!arrivals.arrive(1));
    }

    #[test]
    fn no_more_spans_are_granted_than_the_queue_may_hold() {
        // BSPV-03
        let quota = Quota::new(100);
        assert_eq!(quota.step(1), 12);
        let granted: usize = std::iter::from_fn(|| Some(quota.grant(12)).filter(|grant| *grant > 0)).sum();
        assert_eq!(granted, 100);
        quota.give_back(5);
        assert_eq!(quota.grant(12), 5);
    }
}
