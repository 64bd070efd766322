//! What was measured in an interval: the input of every controller, and what users see of it.

use std::time::Duration;

use super::Snapshot;
use crate::config::{MetricType, Tuning};

/// How a client did in the last interval. Totals since it began are in [`Snapshot`](crate::Snapshot).
///
/// Whatever was not measured reads 0: nothing happened in the interval, or nobody asked for it, which
/// [`is_collected`](Self::is_collected) tells apart.
///
/// ```
/// let mut metrics = otlp::monitoring::PerformanceMetrics::default();
/// metrics.throughput = 12_000.0;
/// assert!(!metrics.is_collected(otlp::monitoring::MetricType::Latency));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct PerformanceMetrics {
    /// How long the interval was.
    pub interval: Duration,
    /// Spans accepted by the receiver, per second.
    pub throughput: f64,
    /// Mean time from the end of a span until it was accepted.
    pub avg_latency: Duration,
    /// The median time from the end of a span until it was accepted.
    pub p50_latency: Duration,
    /// The 99th percentile of the time from the end of a span until it was accepted.
    pub p99_latency: Duration,
    /// The longest time from the end of a span until it was accepted.
    pub max_latency: Duration,
    /// Bytes the client holds at the interval's end.
    pub memory_usage: u64,
    /// CPU time of the client's own threads, as a share of one core: 1.5 is one core and a half.
    pub cpu_usage: f64,
    /// What went over the network.
    pub network: NetworkUsage,
    /// How full the queue is at the interval's end, from 0 to 1.
    pub load: f64,
    /// Spans lost, for any reason.
    pub dropped: u64,
    /// Answers that asked to slow down: 429, 503 and their like.
    pub throttled: u64,
    /// Mean spans of a request.
    pub avg_batch_size: f64,
    /// Mean time from the first byte of a request to the end of its answer.
    pub request_latency: Duration,
    /// Kilobits per second, from the time in which bodies of 16 KiB and more were sent and answered, less a round trip:
    /// a slow receiver counts as a slow network. 0 if there was none.
    pub bandwidth_kbits: f64,
    /// The settings in force.
    pub tuning: Tuning,
    /// What a tuner last changed in them, and why; none if it did not.
    pub decision: Option<String>,
    pub(crate) collected: Collected,
}

impl PerformanceMetrics {
    /// Whether metrics of this kind were asked for. If not, they read 0.
    pub fn is_collected(&self, metric: MetricType) -> bool {
        self.collected.contains(metric)
    }

    /// The same with only these kinds collected: what belongs to another reads 0. For the user's eyes; controllers
    /// take the metrics as they were measured.
    pub(crate) fn collecting(mut self, metrics: &[MetricType]) -> Self {
        let collected = Collected::new(metrics);
        self.collected = collected;
        for metric in MetricType::ALL.into_iter().filter(|metric| !collected.contains(*metric)) {
            match metric {
                MetricType::Throughput => self.throughput = 0.0,
                MetricType::Latency => {
                    self.avg_latency = Duration::ZERO;
                    self.p50_latency = Duration::ZERO;
                    self.p99_latency = Duration::ZERO;
                    self.max_latency = Duration::ZERO;
                    self.request_latency = Duration::ZERO;
                }
                MetricType::MemoryUsage => self.memory_usage = 0,
                MetricType::CpuUsage => self.cpu_usage = 0.0,
                MetricType::NetworkUsage => {
                    self.network = NetworkUsage::default();
                    self.bandwidth_kbits = 0.0;
                }
            }
        }
        self
    }
}

/// What went over the network in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NetworkUsage {
    /// Requests made, those that were made again counted each time.
    pub requests: u64,
    /// Bytes of the bodies before compression.
    pub uncompressed_bytes: u64,
    /// Bytes of the bodies as they were sent.
    pub body_bytes: u64,
    /// Bytes written to the connections: bodies, headers and framing.
    pub wire_bytes: u64,
}

impl NetworkUsage {
    /// Since the client began.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        Self {
            requests: snapshot.requests,
            uncompressed_bytes: snapshot.uncompressed_bytes,
            body_bytes: snapshot.sent_bytes,
            wire_bytes: snapshot.wire_bytes,
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            uncompressed_bytes: self.uncompressed_bytes - before.uncompressed_bytes,
            body_bytes: self.body_bytes - before.body_bytes,
            wire_bytes: self.wire_bytes - before.wire_bytes,
        }
    }

    /// The share of what was written that was bodies, from 0 to 1; 0 if nothing was written. A body counts when its
    /// request begins: where an interval ends inside one, the share is that of the totals only on average.
    pub fn efficiency(&self) -> f64 {
        if self.wire_bytes == 0 { 0.0 } else { (self.body_bytes as f64 / self.wire_bytes as f64).min(1.0) }
    }
}

/// A set of [`MetricType`]s, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Collected(u8);

const _: () = assert!(MetricType::COUNT <= u8::BITS as usize);

impl Collected {
    fn new(metrics: &[MetricType]) -> Self {
        Self(metrics.iter().fold(0, |set, metric| set | 1 << *metric as u8))
    }

    fn contains(self, metric: MetricType) -> bool {
        self.0 & 1 << metric as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_collected_reads_zero_and_what_is_stays() {
        let second = Duration::from_secs(1);
        let measured = PerformanceMetrics {
            throughput: 5.0,
            avg_latency: second,
            p50_latency: second,
            p99_latency: second,
            max_latency: second,
            request_latency: second,
            memory_usage: 6,
            cpu_usage: 0.5,
            network: NetworkUsage { requests: 1, uncompressed_bytes: 8, body_bytes: 3, wire_bytes: 4 },
            bandwidth_kbits: 7.0,
            ..Default::default()
        };
        for metric in MetricType::ALL {
            let one = measured.clone().collecting(&[metric]);
            assert!(MetricType::ALL.into_iter().all(|other| one.is_collected(other) == (other == metric)));
            let is = |kind| metric == kind;
            assert_eq!(one.throughput != 0.0, is(MetricType::Throughput));
            let times = [one.avg_latency, one.p50_latency, one.p99_latency, one.max_latency, one.request_latency];
            assert_eq!(times, [if is(MetricType::Latency) { second } else { Duration::ZERO }; 5]);
            assert_eq!(one.memory_usage != 0, is(MetricType::MemoryUsage));
            assert_eq!(one.cpu_usage != 0.0, is(MetricType::CpuUsage));
            assert_eq!(one.network != NetworkUsage::default(), is(MetricType::NetworkUsage));
            assert_eq!(one.bandwidth_kbits != 0.0, is(MetricType::NetworkUsage));
        }
        let all = measured.clone().collecting(&MetricType::ALL);
        assert_eq!(PerformanceMetrics { collected: Collected::default(), ..all }, measured);
    }

    #[test]
    fn efficiency_is_the_share_of_bodies() {
        let usage = NetworkUsage { body_bytes: 3, wire_bytes: 4, ..Default::default() };
        assert_eq!(usage.efficiency(), 0.75);
        assert_eq!(NetworkUsage::default().efficiency(), 0.0);
    }
}
