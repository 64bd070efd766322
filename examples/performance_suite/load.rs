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

/// The steady load: so many spans, then a pause.
const BURST: u64 = 200;
const PERIOD: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_secs(1);

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
    let begun = Instant::now();
    let mut next = begun;
    while begun.elapsed() < 3 * INTERVAL {
        (0..BURST).for_each(|number| span(&tracer, number));
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let metrics = client.get_performance_metrics();
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
    let before = usage()?;
    let memory = resident_megabytes();
    let client = Client::builder()
        .with_endpoint(endpoint)
        .with_drop_strategy(DropStrategy::Block(Duration::from_secs(60)))
        .build()?;
    let begun = Instant::now();
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
    let receipt = client.flush(Duration::from_secs(60));
    let elapsed = begun.elapsed().as_secs_f64();
    let (after, stats) = (usage()?, client.stats());
    client.shutdown(Duration::from_secs(10));
    let spans = spans as f64;
    Ok(Full {
        throughput: receipt.exported as f64 / elapsed,
        cpu_nanos: 1e9 * (cpu_seconds(&after) - cpu_seconds(&before)) / spans,
        lost: receipt.dropped_total() + receipt.pending,
        // The most there was since the process began, in units of 1024 bytes on Linux.
        peak_megabytes: (after.max_rss() as f64 / 1024.0 - memory).max(0.0),
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
