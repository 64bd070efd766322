//! The two loads: a steady one that leaves time, and as much as there can be.

use std::{
    error::Error,
    fs, thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeVal,
};
use otlp::{
    BatchConfig, BatchStrategy, Client, DropStrategy, Tracer, config::MetricType, monitoring::PerformanceMonitor,
};

/// The steady load.
const RATE: u64 = 20_000;
const PERIOD: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes so many spans a second, in bursts.
pub(crate) struct Pace {
    burst: u64,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        Self { burst: rate * PERIOD.as_millis() as u64 / 1000, next: Instant::now() }
    }

    /// Calls `make` at that rate for so long, with a number that grows.
    pub(crate) fn keep(mut self, duration: Duration, mut make: impl FnMut(u64)) {
        let end = self.next + duration;
        let mut made = 0;
        while self.next < end {
            (made..made + self.burst).for_each(&mut make);
            made += self.burst;
            self.next += PERIOD;
            thread::sleep(self.next.saturating_duration_since(Instant::now()));
        }
    }
}

/// What the process took for something.
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    /// Of one core.
    pub(crate) cpu_share: f64,
    /// More than it took before.
    pub(crate) peak_megabytes: f64,
}

impl Cost {
    /// Does it, and answers what it took.
    pub(crate) fn of(work: impl FnOnce()) -> nix::Result<Self> {
        let (before, memory, begun) = (usage()?, resident_megabytes(), Instant::now());
        work();
        let (after, elapsed) = (usage()?, begun.elapsed().as_secs_f64());
        let cpu_seconds = cpu_seconds(&after) - cpu_seconds(&before);
        // The most there was since the process began, in units of 1024 bytes on Linux.
        let peak_megabytes = (after.max_rss() as f64 / 1024.0 - memory).max(0.0);
        Ok(Self { cpu_seconds, cpu_share: cpu_seconds / elapsed, peak_megabytes })
    }
}

/// What came of the steady load, in the last whole interval.
pub(crate) struct Steady {
    pub(crate) throughput: f64,
    pub(crate) mean_latency: f64,
    pub(crate) p99_latency: f64,
    /// Of one core.
    pub(crate) cpu: f64,
}

/// 20,000 spans/s from one thread, which are sent every 50 ms.
pub(crate) fn steady(endpoint: &str) -> Result<Steady, Box<dyn Error>> {
    let metrics = [MetricType::Throughput, MetricType::Latency, MetricType::CpuUsage];
    let client = Client::builder()
        .with_endpoint(endpoint)
        .with_batch_config(BatchConfig {
            strategy: BatchStrategy::TimeFirst,
            batch_timeout: Duration::from_millis(50),
            ..BatchConfig::default()
        })
        .with_performance_monitor(
            PerformanceMonitor::new().with_metrics_interval(INTERVAL).with_enabled_metrics(metrics.to_vec()),
        )
        .build()?;
    let tracer = client.tracer("suite");
    Pace::new(RATE).keep(3 * INTERVAL, |number| span(&tracer, number));
    let metrics = client.performance();
    assert!(client.shutdown(Duration::from_secs(10)).is_complete(), "something was lost: {:?}", client.stats());
    Ok(Steady {
        throughput: metrics.throughput,
        mean_latency: metrics.avg_latency.as_secs_f64(),
        p99_latency: metrics.p99_latency.as_secs_f64(),
        cpu: metrics.cpu_usage,
    })
}

/// What came of a run at full speed.
pub(crate) struct Full {
    /// Spans accepted per second.
    pub(crate) throughput: f64,
    /// Of the whole process: recording, compressing and sending.
    pub(crate) cpu_nanos: f64,
    pub(crate) lost: u64,
    /// More than the process took before.
    pub(crate) peak_megabytes: f64,
    /// Payload of all bytes sent.
    pub(crate) efficiency: f64,
    /// For each span.
    pub(crate) sent_bytes: f64,
    pub(crate) plain_bytes: f64,
}

/// `spans` spans, made by `threads` threads as fast as they can.
pub(crate) fn full_speed(endpoint: &str, threads: u64, spans: u64) -> Result<Full, Box<dyn Error>> {
    let client = Client::builder()
        .with_endpoint(endpoint)
        .with_drop_strategy(DropStrategy::Block(Duration::from_secs(60)))
        .build()?;
    let begun = Instant::now();
    let mut elapsed = 0.0;
    let cost = Cost::of(|| {
        thread::scope(|scope| {
            for _ in 0..threads {
                let tracer = client.tracer("suite");
                scope.spawn(move || {
                    let root = tracer.start("root");
                    let _entered = root.enter();
                    (0..spans / threads).for_each(|number| span(&tracer, number));
                });
            }
        });
        client.flush(Duration::from_secs(60));
        elapsed = begun.elapsed().as_secs_f64();
    })?;
    let stats = client.stats();
    let receipt = client.shutdown(Duration::from_secs(10));
    let spans = spans as f64;
    Ok(Full {
        throughput: receipt.exported as f64 / elapsed,
        cpu_nanos: 1e9 * cost.cpu_seconds / spans,
        lost: receipt.dropped_total() + receipt.pending,
        peak_megabytes: cost.peak_megabytes,
        efficiency: stats.sent_bytes as f64 / stats.wire_bytes as f64,
        sent_bytes: stats.wire_bytes as f64 / spans,
        plain_bytes: stats.uncompressed_bytes as f64 / spans,
    })
}

/// A span with five attributes.
fn span(tracer: &Tracer, number: u64) {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut span = tracer.start("GET /items/{id}");
    span.set_attribute("http.request.method", "GET");
    span.set_attribute("item.id", mixed as i64);
    span.set_attribute("http.response.status_code", 200);
    span.set_attribute("retry", false);
    span.set_attribute("user.id", (mixed >> 40) as i64);
}

fn usage() -> nix::Result<Usage> {
    getrusage(UsageWho::RUSAGE_SELF)
}

fn cpu_seconds(usage: &Usage) -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// What the process takes now; 0 where nobody says.
fn resident_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
