//! What the client measures of itself, against what the receiver and the operating system see.
#![cfg(feature = "testing")]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client,
    config::MetricType,
    monitoring::{PerformanceMetrics, PerformanceMonitor},
    testing::Receiver,
};
use support::{LONG, client_of};

const ALL: [MetricType; 5] = [
    MetricType::Throughput,
    MetricType::Latency,
    MetricType::MemoryUsage,
    MetricType::CpuUsage,
    MetricType::NetworkUsage,
];

fn monitor(metrics: &[MetricType], interval: Duration) -> PerformanceMonitor {
    PerformanceMonitor::new().with_metrics_interval(interval).with_enabled_metrics(metrics.to_vec())
}

/// The first metrics that `are_right`, looked for again and again.
#[track_caller]
fn metrics_until(client: &Client, are_right: impl Fn(&PerformanceMetrics) -> bool) -> PerformanceMetrics {
    let begun = Instant::now();
    loop {
        let metrics = client.get_performance_metrics();
        if are_right(&metrics) {
            return metrics;
        }
        assert!(begun.elapsed() < LONG, "{metrics:?}");
        thread::yield_now();
    }
}

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("test");
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// Whether anything of this kind was measured.
fn reads(metrics: &PerformanceMetrics, metric: MetricType) -> bool {
    match metric {
        MetricType::Throughput => metrics.throughput > 0.0,
        MetricType::Latency => metrics.p99_latency > Duration::ZERO && metrics.request_latency > Duration::ZERO,
        MetricType::MemoryUsage => metrics.memory_usage > 0,
        MetricType::CpuUsage => metrics.cpu_usage > 0.0,
        MetricType::NetworkUsage => metrics.network.requests > 0 && metrics.network.body_bytes > 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_enabled_is_not_collected_and_reads_zero() {
    let receiver = Receiver::start().unwrap();
    let sets = ALL.iter().map(|metric| vec![*metric]).chain([Vec::new(), ALL.to_vec()]);
    for enabled in sets {
        let client = client_of(&receiver)
            .with_performance_monitor(monitor(&enabled, Duration::from_secs(3600)))
            .build()
            .unwrap();
        record(&client, 1000);
        assert!(client.flush(LONG).is_complete());
        // A worker tells what it has spent once it is done with the job.
        let metrics = metrics_until(&client, |metrics| enabled.iter().all(|metric| reads(metrics, *metric)));
        for metric in ALL {
            let is_enabled = enabled.contains(&metric);
            assert_eq!((metrics.is_collected(metric), reads(&metrics, metric)), (is_enabled, is_enabled), "{metric:?}");
        }
    }
}

#[test]
fn metrics_are_those_of_the_last_interval() {
    let receiver = Receiver::start().unwrap();
    let client =
        client_of(&receiver).with_performance_monitor(monitor(&ALL, Duration::from_millis(50))).build().unwrap();
    record(&client, 1000);
    assert!(client.flush(LONG).is_complete());
    metrics_until(&client, |metrics| metrics.throughput > 0.0);
    let idle = metrics_until(&client, |metrics| metrics.throughput == 0.0);
    assert_eq!((idle.network.requests, idle.p99_latency), (0, Duration::ZERO));
    assert!(idle.interval >= Duration::from_millis(50) && idle.memory_usage > 0, "{idle:?}");
    assert_eq!(client.stats().exported, 1000, "totals stay");
}

#[test]
fn latency_is_from_the_end_of_a_span_until_it_is_accepted() {
    let delay = Duration::from_millis(300);
    let receiver = Receiver::builder().response_delay(delay).start().unwrap();
    let batch = BatchConfig {
        strategy: BatchStrategy::TimeFirst,
        batch_timeout: Duration::from_millis(200),
        ..BatchConfig::default()
    };
    let interval = Duration::from_secs(3600);
    let client = client_of(&receiver)
        .with_batch_config(batch)
        .with_performance_monitor(monitor(&[MetricType::Latency], interval))
        .build()
        .unwrap();
    let begun = Instant::now();
    record(&client, 100);
    let metrics = metrics_until(&client, |metrics| metrics.p99_latency > Duration::ZERO);
    let took = begun.elapsed();
    assert!(metrics.request_latency >= delay, "{metrics:?}");
    for latency in [metrics.avg_latency, metrics.p50_latency, metrics.p99_latency, metrics.max_latency] {
        // What waited for its batch, and for the answer; rounded to a thousandth.
        assert!(latency >= Duration::from_millis(480) && latency <= took.mul_f64(1.002), "{latency:?} of {took:?}");
    }
}

#[test]
fn percentiles_tell_a_few_slow_spans_from_many_quick_ones() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver)
        .with_performance_monitor(monitor(&[MetricType::Latency], Duration::from_secs(3600)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    let ago = |time: Duration| std::time::SystemTime::now() - time;
    for number in 0..1000 {
        let age = Duration::from_secs(if number % 50 == 0 { 20 } else { 2 });
        tracer.span("span").start_time(ago(age * 2)).start().end_at(ago(age));
    }
    assert!(client.flush(LONG).is_complete());
    let metrics = metrics_until(&client, |metrics| metrics.p99_latency > Duration::ZERO);
    let near = |latency: Duration, seconds: f64| (latency.as_secs_f64() / seconds - 1.0).abs() < 0.2;
    assert!(near(metrics.p50_latency, 2.0) && near(metrics.p99_latency, 20.0), "{metrics:?}");
    assert!(near(metrics.avg_latency, 2.36) && near(metrics.max_latency, 20.0), "{metrics:?}");
}

#[test]
fn network_usage_is_what_the_receiver_saw() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver)
        .with_performance_monitor(monitor(&[MetricType::NetworkUsage], Duration::from_secs(3600)))
        .build()
        .unwrap();
    record(&client, 5000);
    assert!(client.flush(LONG).is_complete());
    let (network, seen) = (client.get_performance_metrics().network, receiver.totals());
    assert_eq!(
        (network.requests, network.uncompressed_bytes, network.body_bytes),
        (seen.requests, seen.decoded_bytes, seen.encoded_bytes)
    );
}

/// CPU time of the threads whose names begin with `otlp-w` or `otlp-c`, in seconds, as the system counts it.
#[cfg(target_os = "linux")]
fn cpu_of_threads_of(pid_threads: &str) -> f64 {
    let mut total = 0.0;
    for entry in std::fs::read_dir(pid_threads).unwrap().flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("otlp-worker") || name.starts_with("otlp-conductor") {
            // Nanoseconds on a CPU come first.
            let spent = std::fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            total += spent.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
        }
    }
    total
}

/// Alone in its process, where no other test has threads of these names.
#[cfg(target_os = "linux")]
#[test]
fn cpu_usage_is_what_the_system_counts_for_the_clients_threads() {
    if std::env::var_os("OTLP_TEST_ALONE").is_none() {
        let name = "cpu_usage_is_what_the_system_counts_for_the_clients_threads";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let status = command.args([name, "--exact"]).env("OTLP_TEST_ALONE", "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let receiver = Receiver::builder().keep(otlp::testing::Keep::Ids).start().unwrap();
    let client = client_of(&receiver)
        .with_performance_monitor(monitor(&[MetricType::CpuUsage], Duration::from_secs(3600)))
        .build()
        .unwrap();
    let begun = Instant::now();
    for _ in 0..20 {
        record(&client, 10_000);
        assert!(client.flush(LONG).is_complete());
    }
    let counted = cpu_of_threads_of("/proc/self/task");
    // What a worker does after the last answer may not have been added yet.
    let near = |share: f64| (share * begun.elapsed().as_secs_f64() / counted - 1.0).abs() < 0.1;
    metrics_until(&client, |metrics| near(metrics.cpu_usage) || begun.elapsed() > LONG / 2);
    assert!(counted > 0.01, "{counted} s of CPU");
    let metrics = client.get_performance_metrics();
    assert!(near(metrics.cpu_usage), "{counted} s of CPU in {:?}, measured {metrics:?}", begun.elapsed());
}

#[test]
fn batch_metrics_tell_why_batches_left() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_batch_size: 100, batch_timeout: Duration::from_secs(3600), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch.clone()).build().unwrap();
    record(&client, 100);
    assert!(receiver.wait_for_spans(100, LONG));
    record(&client, 7);
    assert!(client.flush(LONG).is_complete());
    let metrics = client.get_batch_metrics();
    assert_eq!((metrics.batches, metrics.spans, metrics.full, metrics.urgent, metrics.timed_out), (2, 107, 1, 1, 0));
    assert_eq!((metrics.avg_size(), metrics.batch_size, metrics.waiting), (53.5, 100, 0));

    let batch = BatchConfig { batch_timeout: Duration::from_millis(1), ..batch };
    let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
    record(&client, 1);
    assert!(receiver.wait_for_spans(108, LONG));
    assert_eq!(client.get_batch_metrics().timed_out, 1);
}

#[test]
fn the_guides_names_and_the_short_ones_answer_the_same() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    record(&client, 3);
    assert!(client.close().is_complete());
    assert_eq!((client.batches().spans, client.get_batch_metrics()), (3, client.batches()));
    assert!(client.memory().limit > 0);
    assert_eq!(client.get_memory_stats().limit, client.memory().limit);
    assert_eq!(client.get_performance_metrics().tuning, client.performance().tuning);
    assert_eq!(client.get_zero_copy_buffer().capacity(), client.buffer().capacity());
}
