//! A model of a client and a receiver: what would be measured under which settings.
//!
//! Spans come at a constant rate into a bounded queue. Requests leave it over a number of connections, each of which
//! compresses a batch, waits for the receiver's latency and shares the bandwidth with the others. What a span costs was
//! measured: 0.1 µs to record, 13 ns to frame, 0.6 µs to gzip 155 bytes to a quarter, 40 % less for zstd and 29 % fewer
//! bytes.

use std::time::Duration;

use otlp::{
    Compression,
    bench::TuningLimits,
    core::{Effort, Tuning},
    monitoring::PerformanceMetrics,
};

use crate::chance::Chance;

const RECORD_BYTES: f64 = 155.0;
const HEADER_BYTES: f64 = 350.0;
const FRAME_SECONDS: f64 = 13e-9;
/// CPU of a request beside its body: system calls, headers, the answer.
const REQUEST_SECONDS: f64 = 40e-6;
/// A batch leaves at the latest after this many seconds.
const BATCH_TIMEOUT: f64 = 1.0;
/// How many spans of a request that was refused are lost to waiting, as a share of its time.
const WASTE: f64 = 0.5;

/// The world around a client.
#[derive(Clone)]
pub(crate) struct World {
    /// Spans per second that are ended.
    pub(crate) offered: f64,
    /// Seconds until the receiver has answered, the body's transfer left out.
    pub(crate) latency: f64,
    /// Bits per second of the way to it.
    pub(crate) bandwidth: f64,
    /// Requests per second above which it answers 429.
    pub(crate) rate_limit: f64,
    /// Spans that may wait.
    pub(crate) queue_size: f64,
    /// CPUs.
    pub(crate) cores: f64,
    /// How much each measurement is off at most, as a share.
    pub(crate) noise: f64,
    /// Spans that wait now.
    pub(crate) queue: f64,
}

impl World {
    /// A receiver nearby that takes everything: 50,000 spans/s, 1 ms, 1 Gbit/s.
    pub(crate) fn near() -> Self {
        Self {
            offered: 50_000.0,
            latency: 0.001,
            bandwidth: 1e9,
            rate_limit: f64::INFINITY,
            queue_size: 50_000.0,
            cores: 4.0,
            noise: 0.0,
            queue: 0.0,
        }
    }

    /// What would be measured in an interval of so many seconds under these settings.
    pub(crate) fn step(&mut self, tuning: Tuning, seconds: f64, chance: &mut Chance) -> PerformanceMetrics {
        let (compress_seconds, ratio) = compression(tuning.compression, tuning.effort);
        // Few spans leave in small batches, and a backlog in full ones.
        let waiting = self.queue + self.offered * BATCH_TIMEOUT;
        let batch = (tuning.batch_size as f64).min(waiting).max(1.0);
        let connections = tuning.connections as f64;
        let body = batch * RECORD_BYTES / ratio + 0.3 * HEADER_BYTES;
        let wire = body + HEADER_BYTES;
        let cpu = batch * (FRAME_SECONDS + compress_seconds) + REQUEST_SECONDS;
        let transfer = wire * 8.0 / self.bandwidth;

        // Requests per second: what the connections can do one after the other, what the network and the CPUs can.
        let able = (connections / (cpu + self.latency + transfer)).min(1.0 / transfer).min(self.cores / cpu);
        let needed = (self.queue / seconds + self.offered) / batch;
        let sent = able.min(needed);
        let refused = (sent - self.rate_limit).max(0.0);
        // A refused batch waits, and holds its connection meanwhile.
        let wasted = (WASTE * refused / sent).min(0.9);
        let requests = (sent - refused) * if refused > 0.0 { 1.0 - wasted } else { 1.0 };

        let accepted = requests * batch;
        let backlog = self.queue + (self.offered - accepted) * seconds;
        self.queue = backlog.clamp(0.0, self.queue_size);
        let dropped = (backlog - self.queue_size).max(0.0);

        let crowding = (able * transfer).max(1.0) * (connections * transfer / (cpu + self.latency + transfer)).max(1.0);
        let request = cpu + self.latency + transfer * crowding;
        let filling = batch / self.offered / 2.0;
        let latency = self.queue / accepted.max(1.0) + filling.min(BATCH_TIMEOUT) + request;

        let mut metrics = PerformanceMetrics::default();
        let mut seen = |value: f64| chance.blurred(value, self.noise);
        metrics.interval = Duration::from_secs_f64(seconds);
        metrics.throughput = seen(accepted);
        metrics.avg_latency = Duration::from_secs_f64(seen(latency));
        metrics.p50_latency = metrics.avg_latency;
        metrics.p99_latency = metrics.avg_latency * 2;
        metrics.max_latency = metrics.avg_latency * 3;
        metrics.memory_usage = seen((self.queue + connections * batch) * RECORD_BYTES) as u64;
        metrics.cpu_usage = seen(requests * cpu);
        metrics.network.requests = (sent * seconds) as u64;
        metrics.network.uncompressed_bytes = (sent * batch * RECORD_BYTES * seconds) as u64;
        metrics.network.body_bytes = (sent * body * seconds) as u64;
        metrics.network.wire_bytes = (sent * wire * seconds) as u64;
        metrics.load = seen(self.queue / self.queue_size).min(1.0);
        metrics.dropped = seen(dropped) as u64;
        metrics.throttled = seen(refused * seconds) as u64;
        metrics.avg_batch_size = batch;
        metrics.request_latency = Duration::from_secs_f64(seen(request));
        metrics.bandwidth_kbits = seen(self.bandwidth / 1000.0);
        metrics.tuning = tuning;
        metrics
    }

    /// What one setting achieves once everything has come to rest.
    pub(crate) fn at_rest(&self, tuning: Tuning) -> PerformanceMetrics {
        let mut world = Self { noise: 0.0, queue: 0.0, ..self.clone() };
        let mut chance = Chance::new(0);
        (0..200).map(|_| world.step(tuning, 10.0, &mut chance)).last().unwrap_or_default()
    }
}

/// Seconds of CPU for a span, and bytes before for each byte after.
fn compression(compression: Compression, effort: Effort) -> (f64, f64) {
    let (seconds, ratio) = match compression {
        Compression::None => return (0.0, 1.0),
        Compression::Zstd => (0.36e-6, 4.0 / 0.71),
        _ => (0.6e-6, 4.0),
    };
    match effort {
        Effort::Least => (seconds, ratio),
        Effort::Normal => (seconds * 1.7, ratio * 1.05),
        _ => (seconds * 3.0, ratio * 1.1),
    }
}

/// Settings with the least effort.
pub(crate) fn settings(batch_size: usize, connections: usize, compression: Compression) -> Tuning {
    let mut tuning = Tuning::default();
    (tuning.batch_size, tuning.connections, tuning.compression) = (batch_size, connections, compression);
    tuning
}

/// Every setting of a grid within the limits: powers of two and what lies between, each compression and effort.
pub(crate) fn grid(limits: &TuningLimits) -> Vec<Tuning> {
    let ladder = |range: &std::ops::RangeInclusive<usize>| {
        let (start, end) = (*range.start() as f64, *range.end() as f64);
        let steps = ((end / start).log2() * 2.0).ceil() as i32;
        let mut values: Vec<usize> =
            (0..=steps).map(|step| (start * 2f64.powf(f64::from(step) / 2.0)).min(end) as usize).collect();
        values.dedup();
        values
    };
    let mut grid = Vec::new();
    for batch_size in ladder(&limits.batch_size) {
        for connections in ladder(&limits.connections) {
            for compression in &limits.compressions {
                for effort in [Effort::Least, Effort::Normal, Effort::Most] {
                    let mut tuning = settings(batch_size, connections, *compression);
                    tuning.effort = effort;
                    grid.push(tuning);
                }
            }
        }
    }
    grid
}
