//! Measurements besides the counters: times, and CPU. Threads that record touch nothing here.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{encode::protobuf::Runs, outcome::Outcome, request::Ages};
use crate::{
    capture::{ends, unix_nanos},
    config::MetricType,
    stats::Histogram,
    sync::locks::Mutex,
};

/// For smaller bodies the receiver's own time would outweigh the network's.
const TELLING_BYTES: usize = 16 * 1024;

/// Takes the measurements that are enabled.
pub(crate) struct Meter {
    /// Times from the end of a span until it was accepted. More than 71 minutes count as 71 minutes.
    pub(super) latency: Option<Mutex<Histogram>>,
    /// CPU time of the client's threads, in nanoseconds.
    pub(super) cpu: Option<AtomicU64>,
    pub(super) answers: AtomicU64,
    /// The time all requests took, in nanoseconds.
    pub(super) requests_nanos: AtomicU64,
    pub(super) throttled: AtomicU64,
    /// Large bodies that were answered, and the time that took beyond a round trip.
    pub(super) transfer_bytes: AtomicU64,
    pub(super) transfer_nanos: AtomicU64,
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

    /// One request with a body of `body` bytes, from its beginning to the end of its answer.
    ///
    /// The bandwidth is derived from the time that large bodies need beyond a round trip: how soon the system takes
    /// them says nothing, because its buffers hold most of them whole.
    pub(super) fn request(&self, body: usize, took: Duration, round_trip: Duration, outcome: &Outcome) {
        if body >= TELLING_BYTES && outcome.is_answered() {
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

    /// Adds the CPU time that the calling thread, one of the client's, has used since `spent`, which is updated.
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
