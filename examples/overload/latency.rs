//! Latencies by size: buckets that are a sixteenth of a power of two wide, so that each is off by at most 6 %.

use std::time::Duration;

/// Buckets to a power of two.
const STEPS: u64 = 16;

pub(crate) struct Latency {
    buckets: Vec<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1] }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        self.buckets[bucket(latency.as_nanos() as u64)] += 1;
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The nanoseconds that so large a share of all stayed below.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count() as f64 * share) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen > rank
        });
        at.map_or(0, upper_end)
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS);
    let power = u64::from(nanos.ilog2());
    let step = (nanos >> (power - 4)) - STEPS;
    ((power - 4) * STEPS + step) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let (power, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    ((STEPS + step + 1) << power) - 1
}
