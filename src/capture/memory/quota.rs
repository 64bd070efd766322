//! Two limits counted in spans, kept off the hot path: when a batch is worth a wake, and how many spans may
//! be queued where `max_queue_size` is set. Threads count for themselves and settle in steps.

use crossbeam_utils::CachePadded;

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

    /// How many spans one of `threads` threads records before it calls [`arrive`](Self::arrive): never more than its
    /// share of what a batch lacks, so that a thread that records alone completes it exactly.
    pub(crate) fn step(&self, threads: usize) -> u32 {
        match self.lacking() {
            // While a full batch waits there is no hurry.
            0 => STEP,
            lacking => (lacking / threads.max(1) as u64).clamp(1, STEP.into()) as u32,
        }
    }

    /// Counts `spans` more; true if a batch is ready.
    pub(crate) fn arrive(&self, spans: u32) -> bool {
        self.arrived.fetch_add(spans.into(), Ordering::Relaxed);
        self.lacking() == 0
    }

    /// Spans that a batch lacks to be ready.
    fn lacking(&self) -> u64 {
        // Taken can run ahead: workers also take what was not announced yet.
        let taken = self.taken.load(Ordering::Relaxed);
        let waiting = self.arrived.load(Ordering::Relaxed).saturating_sub(taken);
        self.ready().saturating_sub(waiting)
    }

    /// Counts `spans` as detached.
    pub(crate) fn take(&self, spans: u64) {
        self.taken.fetch_add(spans, Ordering::Relaxed);
    }

    /// Waiting spans that make a batch worth sending.
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Changes how many waiting spans make a batch. Threads apply it after their current step.
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

    /// Whether there is a bound in spans; without one nothing is counted.
    #[inline]
    pub(crate) fn is_bounded(&self) -> bool {
        self.max != usize::MAX
    }

    /// The bound in spans, if there is one.
    pub(crate) fn capacity(&self) -> Option<usize> {
        self.is_bounded().then_some(self.max)
    }

    /// How full the queue is, from 0 to 1; 0 without a bound.
    pub(crate) fn fill(&self) -> f64 {
        if self.is_bounded() { self.granted.load(Ordering::Relaxed) as f64 / self.max as f64 } else { 0.0 }
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
        assert_eq!((arrivals.step(1), arrivals.step(4), arrivals.step(40)), (10, 2, 1));
        assert!((0..9).all(|_| !arrivals.arrive(1)));
        assert!(arrivals.arrive(1));
        assert_eq!(arrivals.step(1), STEP, "no hurry while a batch is ready");
        arrivals.take(10);
        assert!(!arrivals.arrive(1));
    }

    #[test]
    fn a_thread_that_records_alone_makes_a_batch_full_exactly() {
        for ready in [1, 51, 512, 1000] {
            let arrivals = Arrivals::new(ready);
            for _ in 0..3 {
                let mut recorded = 0;
                let is_ready = loop {
                    let step = arrivals.step(1);
                    recorded += step as usize;
                    if arrivals.arrive(step) || recorded >= ready {
                        break recorded == ready;
                    }
                };
                assert!(is_ready, "{recorded} of {ready}");
                arrivals.take(ready as u64);
            }
        }
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
