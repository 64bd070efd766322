//! Measurements of an interval: the counters and the meter, read at its beginning and its end.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::Exporter;
use crate::{
    error::DropReason,
    stats::{Histogram, NetworkUsage, PerformanceMetrics},
};

/// The counts at some time.
#[derive(Clone, Default)]
struct Reading {
    exported: u64,
    dropped: u64,
    network: NetworkUsage,
    batches: u64,
    batch_spans: u64,
    latency: Option<Histogram>,
    cpu: u64,
    answers: u64,
    requests_nanos: u64,
    throttled: u64,
    transfer_bytes: u64,
    transfer_nanos: u64,
}

/// An interval that is being measured.
#[derive(Clone)]
pub(crate) struct Interval {
    begun: Instant,
    before: Reading,
}

impl Interval {
    /// The first interval, which begins with the client.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), before: Reading::default() }
    }
}

/// Counts of spans by how far they came. Cheap to read; the counts are not of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    /// Started, and recorded.
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// Left the queue, delivered or not.
    pub(crate) drained: u64,
    /// Found no room.
    pub(crate) refused: u64,
}

impl Exporter {
    pub(crate) fn flow(&self) -> Flow {
        let counted = self.counted();
        let refused = counted.dropped.get(DropReason::QueueFull);
        Flow {
            started: counted.started - counted.sampled_out,
            ended: counted.ended,
            drained: counted.exported + counted.dropped.total() - refused + counted.spooled,
            refused,
        }
    }

    /// Keeps the traces whose random value is at least `threshold` from now on.
    pub(crate) fn sample(&self, threshold: u64) {
        self.recorder.sampling.set(threshold);
    }

    /// Returns the measurements since `interval` began, and begins another one.
    pub(crate) fn measure(&self, interval: &mut Interval) -> PerformanceMetrics {
        let (now, reading) = (Instant::now(), self.reading());
        let metrics = self.compare(&interval.before, &reading, now - interval.begun);
        *interval = Interval { begun: now, before: reading };
        metrics
    }

    fn reading(&self) -> Reading {
        let (stats, meter) = (&self.recorder.stats, &self.meter);
        let snapshot = self.snapshot();
        let (batches, batch_spans) = stats.batches.totals();
        Reading {
            exported: snapshot.exported,
            dropped: snapshot.dropped.total(),
            network: NetworkUsage::new(&snapshot),
            batches,
            batch_spans,
            latency: meter.latency.as_ref().map(|latency| latency.lock().clone()),
            cpu: meter.cpu.as_ref().map_or(0, |cpu| cpu.load(Ordering::Relaxed)),
            answers: meter.answers.load(Ordering::Relaxed),
            requests_nanos: meter.requests_nanos.load(Ordering::Relaxed),
            throttled: meter.throttled.load(Ordering::Relaxed),
            transfer_bytes: meter.transfer_bytes.load(Ordering::Relaxed),
            transfer_nanos: meter.transfer_nanos.load(Ordering::Relaxed),
        }
    }

    fn compare(&self, before: &Reading, now: &Reading, interval: Duration) -> PerformanceMetrics {
        let seconds = interval.as_secs_f64().max(1e-9);
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let answers = now.answers - before.answers;
        let network = now.network.since(&before.network);
        let mut metrics = PerformanceMetrics {
            interval,
            throughput: (now.exported - before.exported) as f64 / seconds,
            memory_usage: self.memory_stats().used,
            cpu_usage: Duration::from_nanos(now.cpu - before.cpu).as_secs_f64() / seconds,
            network,
            load: self.load(),
            dropped: now.dropped - before.dropped,
            throttled: now.throttled - before.throttled,
            avg_batch_size: share(now.batch_spans - before.batch_spans, now.batches - before.batches),
            request_latency: Duration::from_nanos(share(now.requests_nanos - before.requests_nanos, answers) as u64),
            bandwidth_kbits: share(
                (now.transfer_bytes - before.transfer_bytes) * 8_000_000,
                now.transfer_nanos - before.transfer_nanos,
            ),
            tuning: self.tuning(),
            decision: self.decision(),
            ..PerformanceMetrics::default()
        };
        if let Some(mut latency) = now.latency.clone() {
            if let Some(before) = &before.latency {
                latency.subtract(before);
            }
            if !latency.is_empty() {
                metrics.avg_latency = latency.mean();
                metrics.p50_latency = latency.quantile(0.5);
                metrics.p99_latency = latency.quantile(0.99);
                metrics.max_latency = latency.quantile(1.0);
            }
        }
        metrics
    }

    /// Adds the CPU time that the calling thread, one of the client's, has used since `spent`, which is updated.
    pub(crate) fn spend(&self, spent: &mut Duration) {
        self.meter.spend(spent);
    }

    /// How full the queue is, from 0 to 1, by spans or by bytes.
    pub(crate) fn load(&self) -> f64 {
        self.recorder.quota.fill().max(self.recorder.budget.fill()).clamp(0.0, 1.0)
    }
}
