//! What is measured beside the counters: times, and CPU. Nothing here is touched by a thread that records.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{Exporter, encode::protobuf::Runs, outcome::Outcome, request::Ages};
use crate::{
    capture::{ends, unix_nanos},
    config::MetricType,
    error::DropReason,
    stats::{Histogram, NetworkUsage, PerformanceMetrics},
    sync::locks::Mutex,
};

/// Of a smaller body the receiver's own time would count for more than the network's.
const TELLING_BYTES: usize = 16 * 1024;

/// Measures what somebody asked for.
pub(crate) struct Meter {
    /// Times from the end of a span until it was accepted. What is longer than 71 minutes counts as that.
    latency: Option<Mutex<Histogram>>,
    /// CPU time of the client's threads, in nanoseconds.
    cpu: Option<AtomicU64>,
    answers: AtomicU64,
    /// The time all requests took, in nanoseconds.
    requests_nanos: AtomicU64,
    throttled: AtomicU64,
    /// Large bodies that were answered, and the time that took beyond a round trip.
    transfer_bytes: AtomicU64,
    transfer_nanos: AtomicU64,
}

impl Meter {
    pub(crate) fn new(metrics: &[MetricType]) -> Self {
        Self {
            latency: metrics.contains(&MetricType::Latency).then(Mutex::default),
            cpu: metrics.contains(&MetricType::CpuUsage).then(AtomicU64::default),
            answers: AtomicU64::new(0),
            requests_nanos: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            transfer_bytes: AtomicU64::new(0),
            transfer_nanos: AtomicU64::new(0),
        }
    }

    /// One request with a body of so many bytes, from its beginning to the end of its answer.
    ///
    /// The bandwidth is taken from the time that large bodies need beyond a round trip: how soon the system takes
    /// them tells nothing, since its buffers hold most of them whole.
    pub(super) fn request(&self, body: usize, took: Duration, round_trip: Duration, outcome: &Outcome) {
        if body >= TELLING_BYTES && outcome.status().is_some() {
            let transfer = took.saturating_sub(round_trip).as_nanos() as u64;
            self.transfer_bytes.fetch_add(body as u64, Ordering::Relaxed);
            self.transfer_nanos.fetch_add(transfer, Ordering::Relaxed);
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.requests_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if outcome.asks_to_slow_down() {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// When the spans of `runs` ended, if latencies are measured.
    pub(super) fn ages(&self, runs: &Runs<'_>) -> Option<Ages> {
        self.latency.as_ref()?;
        let now = unix_nanos(SystemTime::now());
        Some(Ages::new(now, runs.iter().flat_map(|(_, run)| ends(run))))
    }

    /// Spans of these ages were accepted.
    pub(super) fn accepted(&self, ages: Option<&Ages>) {
        if let (Some(latency), Some(ages)) = (&self.latency, ages) {
            let mut latency = latency.lock();
            ages.now().for_each(|age| latency.record(age));
        }
    }

    /// Adds what the calling thread, one of the client's, has spent since `spent` was last given.
    pub(super) fn spend(&self, spent: &mut Duration) {
        if let Some(cpu) = &self.cpu {
            let now = thread_cpu_time();
            cpu.fetch_add(now.saturating_sub(*spent).as_nanos() as u64, Ordering::Relaxed);
            *spent = now;
        }
    }
}

#[cfg(unix)]
fn thread_cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(not(unix))]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}

/// What had been counted at some time.
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
pub(crate) struct Window {
    begun: Instant,
    before: Reading,
}

impl Window {
    /// Begins with the client.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), before: Reading::default() }
    }
}

/// Spans so far, by how far they came. Cheap to read, and of no single moment.
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

    /// What was measured since `window` began; and another one begins.
    pub(crate) fn measure(&self, window: &mut Window) -> PerformanceMetrics {
        let (now, reading) = (Instant::now(), self.reading());
        let metrics = self.compare(&window.before, &reading, now - window.begun);
        *window = Window { begun: now, before: reading };
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

    /// Adds what the calling thread, one of the client's, has spent since `spent` was last given.
    pub(crate) fn spend(&self, spent: &mut Duration) {
        self.meter.spend(spent);
    }

    /// How full the queue is, from 0 to 1, by spans or by bytes.
    pub(crate) fn load(&self) -> f64 {
        self.recorder.quota.fill().max(self.recorder.budget.fill()).clamp(0.0, 1.0)
    }
}
