//! Times by how often they came, from which percentiles are read: a histogram whose buckets grow with what they count.

use std::time::Duration;

/// Each power of two has `1 << DIGITS` buckets: times are told apart to a thousandth.
const DIGITS: u32 = 10;

/// Counts times in microseconds. Its memory grows with the longest: 8 KiB up to 1 ms, 90 KiB up to 1 s, 190
/// KiB at most.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    /// Of all times, exactly.
    sum_micros: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, micros: u32) {
        let bucket = bucket(micros);
        if bucket >= self.buckets.len() {
            let buckets = (bucket + 1).next_multiple_of(1 << DIGITS);
            self.buckets.reserve_exact(buckets - self.buckets.len());
            self.buckets.resize(buckets, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_micros += u64::from(micros);
    }

    /// Takes out what was there `before`, when this same histogram was copied.
    pub(crate) fn subtract(&mut self, before: &Self) {
        self.buckets.iter_mut().zip(&before.buckets).for_each(|(now, before)| *now -= before);
        self.count -= before.count;
        self.sum_micros -= before.sum_micros;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Zero if there is no time to take it from, like the next.
    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos((self.sum_micros as f64 * 1e3 / self.count.max(1) as f64) as u64)
    }

    /// The time that a share of `quantile` of all times do not exceed, rounded up by less than a thousandth.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.count as f64 * quantile).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let holds_rank = |count: &u64| {
            seen += count;
            seen >= rank
        };
        let bucket = self.buckets.iter().position(holds_rank);
        Duration::from_micros(bucket.map_or(0, longest))
    }
}

/// The bucket of a time: its first `DIGITS + 1` binary digits, and how many follow.
fn bucket(micros: u32) -> usize {
    let shift = (32 - DIGITS - 1).saturating_sub(micros.leading_zeros());
    ((shift << DIGITS) + (micros >> shift)) as usize
}

/// The longest time in a bucket, in microseconds.
fn longest(bucket: usize) -> u64 {
    let shift = (bucket >> DIGITS).saturating_sub(1);
    let digits = (bucket - (shift << DIGITS)) as u64;
    ((digits + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u32]) -> Histogram {
        let mut histogram = Histogram::default();
        times.iter().for_each(|micros| histogram.record(*micros));
        histogram
    }

    fn times() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec((any::<u32>(), 0_u32..32).prop_map(|(micros, shift)| micros >> shift), 0..200)
    }

    proptest! {
        #[test]
        fn a_quantile_is_that_of_the_sorted_times_to_a_thousandth(mut times in times(), quantile in 0.0_f64..=1.0) {
            let histogram = of(&times);
            times.sort_unstable();
            let rank = ((times.len() as f64 * quantile).ceil() as usize).max(1);
            let exact = u64::from(times.get(rank - 1).copied().unwrap_or(0));
            let told = histogram.quantile(quantile).as_micros() as u64;
            prop_assert!(told >= exact && told - exact <= exact >> DIGITS, "{told} for {exact}");
        }

        #[test]
        fn the_mean_is_that_of_the_times(times in times()) {
            let sum: f64 = times.iter().map(|micros| f64::from(*micros) / 1e6).sum();
            let exact = sum / times.len().max(1) as f64;
            prop_assert!((of(&times).mean().as_secs_f64() - exact).abs() <= 1e-9 + exact * 1e-9);
        }

        #[test]
        fn what_came_before_can_be_taken_out(before in times(), after in times()) {
            let earlier = of(&before);
            let mut later = earlier.clone();
            after.iter().for_each(|micros| later.record(*micros));
            later.subtract(&earlier);
            let alone = of(&after);
            prop_assert_eq!(later.is_empty(), after.is_empty());
            prop_assert_eq!(later.mean(), alone.mean());
            for quantile in [0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(later.quantile(quantile), alone.quantile(quantile));
            }
        }
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        let mut expected = 0;
        for next in 0..=bucket(u32::MAX) {
            assert_eq!(bucket(u32::try_from(expected).unwrap()), next);
            expected = longest(next) + 1;
        }
        assert_eq!(expected, 1 << 32);
    }
}
