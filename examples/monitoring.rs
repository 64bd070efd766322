//! What a client tells about itself under a steady load: an interval at a time in code, and over OTLP to whoever
//! collects its metrics.
//!
//! ```text
//! cargo run --release --example monitoring
//! ```
//!
//! It needs no collector: a receiver inside the process takes one's place. The exit status is not 0 if metrics are
//! missing or wrong, or a target is missed; those that speed decides are judged in release builds only.
//!
//! Left out: what can be done about it while the program runs (`tuning`), memory that gets short, of which the memory
//! monitor warns on stderr (`overload` fills it), and the most a client can do: it idles most of the time here.

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, LogLevel, Snapshot, Tracer,
    config::{MetricType, MonitoringConfig},
    monitoring::{MemoryMonitor, MemoryThresholds, PerformanceMetrics, PerformanceMonitor},
    testing::{
        Keep, Receiver,
        proto::metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point::Value},
    },
};

/// The load: on each thread so many spans, then a pause. 20,000 spans/s in all.
const THREADS: usize = 2;
const BURST: u64 = 100;
const PERIOD: Duration = Duration::from_millis(10);

const INTERVAL: Duration = Duration::from_millis(500);
const INTERVALS: u32 = 4;

const METRICS: [MetricType; 5] = [
    MetricType::Throughput,
    MetricType::Latency,
    MetricType::MemoryUsage,
    MetricType::CpuUsage,
    MetricType::NetworkUsage,
];

fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::builder().keep(Keep::Ids).start()?;
    let client = client(&receiver)?;
    let tracer = client.tracer("load");

    let until = Instant::now() + INTERVAL * (INTERVALS + 1);
    let (rows, made) = thread::scope(|scope| {
        let load: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| record(&tracer, until))).collect();
        let rows = watch(&client);
        (rows, load.into_iter().map(|thread| thread.join().expect("recording does not panic")).sum::<u64>())
    });
    // The flush makes requests, and these make spans: shutting down sends those, too.
    assert!(client.flush(Duration::from_secs(10)).is_complete(), "something was lost: {:?}", client.stats());
    let receipt = client.shutdown(Duration::from_secs(10));
    assert!(receipt.is_complete(), "something was lost: {receipt:?}");

    // What was exported beyond what the program recorded are the client's own requests.
    let own = receipt.exported - made;
    println!("\n{made} spans recorded, and {own} of the client's own requests. Its last metrics:\n");
    let last = told(&receiver);
    assert!(own > 0, "the client's own requests are not there");
    assert_eq!(last, Some(receipt.exported), "the metrics tell another number of spans than the receipt");
    compare(&rows, &client.stats())
}

fn client(receiver: &Receiver) -> Result<Client, otlp::Error> {
    Client::builder()
        .with_endpoint(receiver.endpoint())
        .with_service_name("monitoring")
        // Low latency: whatever is there leaves every 50 ms.
        .with_batch_config(BatchConfig {
            strategy: BatchStrategy::TimeFirst,
            batch_timeout: Duration::from_millis(50),
            ..BatchConfig::default()
        })
        // For `performance`.
        .with_performance_monitor(
            PerformanceMonitor::new().with_metrics_interval(INTERVAL).with_enabled_metrics(METRICS.to_vec()),
        )
        // Warns on stderr, and trims and throttles when it gets critical.
        .with_memory_monitor(
            MemoryMonitor::new()
                .with_monitoring_interval(Duration::from_millis(100))
                .with_thresholds(MemoryThresholds { warning: 0.7, critical: 0.9 }),
        )
        // For the collector: the client's metrics, posted beside the spans, and a span for each of its requests.
        .with_monitoring_config(MonitoringConfig {
            enable_metrics: true,
            metrics_interval: INTERVAL,
            enable_tracing: true,
            log_level: LogLevel::Info,
        })
        .build()
}

/// One thread's load.
fn record(tracer: &Tracer, until: Instant) -> u64 {
    let mut made = 0;
    let mut next = Instant::now();
    while next < until {
        for number in made..made + BURST {
            let mut span = tracer.span("GET /items/{id}").root().attribute("http.request.method", "GET").start();
            span.set_attribute("url.path", "/items/4711").set_attribute("number", number);
        }
        made += BURST;
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    made
}

/// Prints each interval.
fn watch(client: &Client) -> Vec<PerformanceMetrics> {
    println!(
        "{:>9}{:>10}{:>10}{:>10}{:>8}{:>10}{:>10}{:>12}{:>9}",
        "spans/s", "mean", "p99", "memory", "CPU", "sent", "requests", "spans each", "waiting"
    );
    // The metrics are those of the last whole interval, and it is best to look in the middle of the next.
    thread::sleep(INTERVAL / 2);
    let look = |_| {
        thread::sleep(INTERVAL);
        let (metrics, batches) = (client.performance(), client.batches());
        println!(
            "{:>9.0}{:>7.1} ms{:>7.1} ms{:>7.2} MB{:>6.1} %{:>7.2} MB{:>10}{:>12.0}{:>9}",
            metrics.throughput,
            millis(metrics.avg_latency),
            millis(metrics.p99_latency),
            megabytes(metrics.memory_usage),
            100.0 * metrics.cpu_usage,
            megabytes(metrics.network.wire_bytes),
            metrics.network.requests,
            metrics.avg_batch_size,
            batches.waiting,
        );
        metrics
    };
    (0..INTERVALS).map(look).collect()
}

/// Prints the metrics that the receiver got last. Answers how many spans they say were exported.
fn told(receiver: &Receiver) -> Option<u64> {
    let request = receiver.metrics().pop()?;
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let metrics: Vec<_> = scopes.flat_map(|scope| scope.metrics).collect();
    for metric in &metrics {
        println!("{:<42}{:>10}  {}", metric.name, total(metric), metric.unit);
    }
    metrics.iter().find(|metric| metric.name == "otel.sdk.exporter.span.exported").map(total)
}

/// The sum over all attributes; of a histogram the count.
fn total(metric: &Metric) -> u64 {
    let sum = |points: &[NumberDataPoint]| {
        let value = |point: &NumberDataPoint| match point.value {
            Some(Value::AsInt(value)) => value as u64,
            _ => 0,
        };
        points.iter().map(value).sum()
    };
    match &metric.data {
        Some(Data::Sum(data)) => sum(&data.data_points),
        Some(Data::Gauge(data)) => sum(&data.data_points),
        Some(Data::Histogram(data)) => data.data_points.iter().map(|point| point.count).sum(),
        _ => 0,
    }
}

/// The worst of all intervals against the targets; of the network the whole run, since a request that is under way when
/// an interval ends counts in both.
fn compare(rows: &[PerformanceMetrics], stats: &Snapshot) -> Result<(), Box<dyn Error>> {
    assert!(METRICS.iter().all(|metric| rows.iter().all(|row| row.is_collected(*metric))), "not all was measured");
    let least = |value: fn(&PerformanceMetrics) -> f64| rows.iter().map(value).fold(f64::INFINITY, f64::min);
    let most = |value: fn(&PerformanceMetrics) -> f64| rows.iter().map(value).fold(0.0, f64::max);
    let throughput = least(|row| row.throughput);
    let latency = most(|row| millis(row.p99_latency));
    let cpu = most(|row| 100.0 * row.cpu_usage);
    let memory = most(|row| megabytes(row.memory_usage));
    let payload = 100.0 * stats.sent_bytes as f64 / stats.wire_bytes as f64;

    let by_speed = [
        ("throughput", "> 10,000 spans/s", format!("{throughput:.0} spans/s"), throughput > 10_000.0),
        ("p99, end to accepted", "< 100 ms", format!("{latency:.1} ms"), latency > 0.0 && latency < 100.0),
        ("CPU, of one core", "< 50 %", format!("{cpu:.1} %"), cpu > 0.0 && cpu < 50.0),
    ];
    let by_design = [
        ("memory", "< 500 MB", format!("{memory:.2} MB"), memory > 0.0 && memory < 500.0),
        ("bodies, of bytes sent", "> 80 %", format!("{payload:.1} %"), payload > 80.0),
    ];
    println!("\n{:<24}{:<20}{:<18}", "measure", "target", "worst");
    for (measure, target, worst, is_met) in by_speed.iter().chain(&by_design) {
        println!("{measure:<24}{target:<20}{worst:<18}{}", if *is_met { "met" } else { "missed" });
    }
    let is_debug = cfg!(debug_assertions);
    if is_debug {
        println!("\nA debug build: only the last two count.");
    }
    let mut judged = by_speed.iter().filter(|_| !is_debug).chain(&by_design);
    if judged.all(|(_, _, _, is_met)| *is_met) { Ok(()) } else { Err("a target is missed".into()) }
}

fn millis(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
