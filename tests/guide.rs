//! The user's guide, snippet by snippet as it stands there, run against the in-process receiver: a process of its own
//! runs it, which finds the receiver in its environment.
#![cfg(feature = "testing")]
#![allow(unused_variables)]

mod support;

use std::{env, error::Error, process::Command};

use otlp::testing::Receiver;
use support::LONG;

type Result = std::result::Result<(), Box<dyn Error>>;

/// Names the section a child process runs.
const SECTION: &str = "OTLP_TEST_SECTION";

/// Not a test of its own: what the child processes run.
#[test]
fn child() -> Result {
    match env::var(SECTION).as_deref() {
        Ok("client") => client(),
        Ok("batching") => batching(),
        Ok("connections") => connections(),
        Ok("compression") => compression(),
        Ok("memory") => memory(),
        Ok("concurrency") => concurrency(),
        Ok("monitoring and tuning") => monitoring_and_tuning(),
        Ok("command-line tools") => command_line_tools(),
        _ => Ok(()),
    }
}

/// Section 1.
#[rustfmt::skip]
fn client() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use otlp::config::*;
    use std::time::Duration;

    let client = EnhancedOtlpClient::builder()
        .with_endpoint("http://localhost:4317")
        .with_service_name("high-performance-app")
        .with_service_version("1.0.0")
        .with_connect_timeout(Duration::from_secs(5))
        .with_request_timeout(Duration::from_secs(30))
        .with_keep_alive_timeout(Duration::from_secs(60))
        .with_max_idle_connections(100)
        .with_grpc_transport()
        .with_compression(Compression::Gzip)
        .with_retry_config(RetryConfig {
            max_attempts: 3,
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            multiplier: 2.0,
            randomization_factor: 0.1,
            retryable_errors: vec![ErrorType::Network, ErrorType::Timeout],
        })
        .build()?;

    let custom_config = OtlpConfig {
        batch: BatchConfig {
            max_batch_size: 2000,
            batch_timeout: Duration::from_millis(100),
            max_queue_size: 50000,
            strategy: BatchStrategy::Hybrid,
            ..Default::default()
        },
        connection_pool: ConnectionPoolConfig {
            max_connections: 200,
            min_connections: 10,
            connection_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            keep_alive: true,
            ..Default::default()
        },
        performance: PerformanceConfig {
            enable_zero_copy: true,
            enable_memory_pool: true,
            max_memory_usage: 1024 * 1024 * 1024,
            gc_threshold: 0.8,
        },
        monitoring: MonitoringConfig {
            enable_metrics: true,
            metrics_interval: Duration::from_secs(10),
            enable_tracing: true,
            log_level: LogLevel::Info,
        },
        ..Default::default()
    };
    let client = EnhancedOtlpClient::with_config(custom_config)?;

    // Section 8: the production profile.
    client.tracer("guide").start("custom").end();
    assert!(client.flush(LONG).is_complete());
    let client = EnhancedOtlpClient::with_config(otlp::config::production())?;
    client.tracer("guide").start("production").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 2.
#[rustfmt::skip]
fn batching() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use otlp::config::*;
    use std::time::Duration;

    let time_first = BatchConfig { max_batch_size: 100, batch_timeout: Duration::from_millis(50),
        strategy: BatchStrategy::TimeFirst, ..Default::default() };
    let size_first = BatchConfig { max_batch_size: 2000, batch_timeout: Duration::from_secs(5),
        strategy: BatchStrategy::SizeFirst, ..Default::default() };
    let hybrid = BatchConfig { max_batch_size: 1000, batch_timeout: Duration::from_millis(200),
        strategy: BatchStrategy::Hybrid, adaptive_sizing: true, load_balancing: true, ..Default::default() };

    let client = EnhancedOtlpClient::builder()
        .with_endpoint("http://localhost:4318")
        .with_service_name("smart-batching")
        .with_batch_config(hybrid.clone())
        .build()?;

    use otlp::core::{BatchManager, PerformanceTargets};

    let mut batch_manager = BatchManager::new()
        .with_initial_config(hybrid.clone())
        .with_adaptive_adjustment(true)
        .with_performance_targets(PerformanceTargets {
            target_latency: Duration::from_millis(100),
            target_throughput: 10_000,
            max_memory_usage: 500 * 1024 * 1024,
            ..Default::default()
        });
    let metrics = client.get_performance_metrics();
    batch_manager.adjust_batch_size_based_on_performance(&metrics);

    use otlp::core::calculate_optimal_batch_size;
    assert_eq!(calculate_optimal_batch_size(0.2), 500);   // load < 0.3
    assert_eq!(calculate_optimal_batch_size(0.5), 1000);  // load < 0.7
    assert_eq!(calculate_optimal_batch_size(0.9), 2000);

    let batch_metrics = client.get_batch_metrics();
    println!("{batch_metrics:?}");

    assert_eq!(batch_manager.current_config().max_batch_size, 1000);
    for batch in [time_first, size_first] {
        let client = EnhancedOtlpClient::builder().with_batch_config(batch).build()?;
        client.tracer("guide").start("batched").end();
        assert!(client.flush(LONG).is_complete());
    }
    let client = EnhancedOtlpClient::builder().with_batch_manager(batch_manager).build()?;
    client.tracer("guide").start("managed").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 3.
#[rustfmt::skip]
fn connections() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use otlp::config::*;
    use std::time::Duration;

    let pool = ConnectionPoolConfig {
        max_connections: 200, min_connections: 20,
        connection_timeout: Duration::from_secs(5), idle_timeout: Duration::from_secs(300),
        keep_alive: true, keep_alive_timeout: Duration::from_secs(60), max_lifetime: Duration::from_secs(3600),
        enable_connection_prewarming: true, enable_connection_validation: true,
        validation_interval: Duration::from_secs(30),
    };
    let client = EnhancedOtlpClient::builder().with_connection_pool_config(pool).build()?;

    client.tracer("guide").start("pooled").end();
    assert!(client.flush(LONG).is_complete());

    use otlp::core::{ConnectionManager, ReuseStrategy};
    let manager = ConnectionManager::new()
        .with_pool_size(100)
        .with_reuse_strategy(ReuseStrategy::Aggressive)
        .with_health_check_interval(Duration::from_secs(10));
    let client = EnhancedOtlpClient::builder().with_connection_manager(manager).build()?;

    client.tracer("guide").start("managed").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 4. Without the cargo features of brotli and zstd these two are errors that name them.
#[rustfmt::skip]
#[cfg_attr(not(all(feature = "brotli", feature = "zstd")), allow(unused_imports))]
fn compression() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use otlp::config::*;
    use std::time::Duration;

    #[cfg(all(feature = "brotli", feature = "zstd"))]
    for compression in [Compression::None, Compression::Gzip, Compression::Brotli, Compression::Zstd] {
        let client = EnhancedOtlpClient::builder().with_compression(compression).build()?;
        let spans = otlp::testing::generate_test_spans(1000);
        let start = std::time::Instant::now();
        client.export_spans(spans)?;
        println!("{compression:?}: {:?}", start.elapsed());
    }

    use otlp::core::AdaptiveCompression;
    let adaptive = AdaptiveCompression::new()
        .with_network_condition_threshold(1000)          // kbit/s
        .with_cpu_usage_threshold(0.8)
        .with_latency_threshold(Duration::from_millis(200));
    let client = EnhancedOtlpClient::builder().with_adaptive_compression(adaptive).build()?;

    client.tracer("guide").start("compressed").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 5.
#[rustfmt::skip]
fn memory() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use std::time::Duration;

    use otlp::core::MemoryPool;
    let memory_pool = MemoryPool::new()
        .with_initial_size(1024 * 1024).with_max_size(100 * 1024 * 1024)
        .with_chunk_size(64 * 1024).with_growth_factor(2.0).with_gc_threshold(0.8);
    let client = EnhancedOtlpClient::builder().with_memory_pool(memory_pool).build()?;

    client.tracer("guide").start("pooled").end();
    assert!(client.flush(LONG).is_complete());

    use otlp::core::ZeroCopyBuffer;
    let zero_copy_buffer = ZeroCopyBuffer::new()
        .with_capacity(1024 * 1024).with_alignment(64).with_prefetch_size(256 * 1024);
    let client = EnhancedOtlpClient::builder().with_zero_copy_buffer(zero_copy_buffer).build()?;
    let spans = otlp::testing::generate_test_spans(100);
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&spans)?;
    client.send_buffer(buffer)?;

    use otlp::monitoring::{MemoryMonitor, MemoryThresholds};
    let memory_monitor = MemoryMonitor::new()
        .with_monitoring_interval(Duration::from_secs(5))
        .with_thresholds(MemoryThresholds { warning: 0.7, critical: 0.9 })
        .with_gc_trigger(true);
    let client = EnhancedOtlpClient::builder().with_memory_monitor(memory_monitor).build()?;
    let memory_stats = client.get_memory_stats();
    println!("{memory_stats:?}");
    Ok(())
}

/// Section 6.
#[rustfmt::skip]
fn concurrency() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use std::time::Duration;

    use std::sync::Arc;
    let client = Arc::new(EnhancedOtlpClient::builder().with_service_name("high-concurrency").build()?);
    let threads: Vec<_> = (0..8).map(|i| {
        let client = Arc::clone(&client);
        std::thread::spawn(move || {
            let tracer = client.tracer("concurrent-component");
            let mut span = tracer.start("concurrent-operation");
            span.set_attribute("task.id", i);
            span.end();
        })
    }).collect();
    for t in threads { t.join().unwrap(); }

    assert!(client.flush(LONG).is_complete());

    use otlp::core::WorkerPool;
    let worker_pool = WorkerPool::new()
        .with_worker_count(num_cpus::get()).with_queue_size(10000)
        .with_batch_size(100).with_timeout(Duration::from_secs(30));
    let client = EnhancedOtlpClient::builder().with_worker_pool(worker_pool).build()?;

    client.tracer("guide").start("worked").end();
    assert!(client.flush(LONG).is_complete());

    use otlp::core::{BackpressureController, DropStrategy};
    let backpressure = BackpressureController::new()
        .with_max_queue_size(50000).with_queue_threshold(0.8)
        .with_drop_strategy(DropStrategy::OldestFirst)
        .with_adaptive_throttling(true);
    let client = EnhancedOtlpClient::builder().with_backpressure_controller(backpressure).build()?;

    client.tracer("guide").start("controlled").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 7.
#[rustfmt::skip]
fn monitoring_and_tuning() -> Result {
    use otlp::core::EnhancedOtlpClient;
    use std::time::Duration;

    use otlp::monitoring::{MetricType, PerformanceMonitor};
    let performance_monitor = PerformanceMonitor::new()
        .with_metrics_interval(Duration::from_secs(10))
        .with_enabled_metrics(vec![MetricType::Throughput, MetricType::Latency, MetricType::MemoryUsage,
                                   MetricType::CpuUsage, MetricType::NetworkUsage]);
    let client = EnhancedOtlpClient::builder().with_performance_monitor(performance_monitor).build()?;
    let m = client.get_performance_metrics();
    println!("{:.2} spans/s", m.throughput);
    println!("mean {:?}, p99 {:?}", m.avg_latency, m.p99_latency);
    println!("{:.2} MB", m.memory_usage as f64 / 1024.0 / 1024.0);
    println!("{:.2} % CPU", m.cpu_usage * 100.0);

    assert!(m.is_collected(MetricType::Latency));
    client.tracer("guide").start("measured").end();
    assert!(client.flush(LONG).is_complete());

    use otlp::core::{AutoTuner, PerformanceTargets, TuningStrategy};
    let auto_tuner = AutoTuner::new()
        .with_tuning_interval(Duration::from_secs(30))
        .with_performance_targets(PerformanceTargets { target_throughput: 10_000,
            target_latency: Duration::from_millis(100), max_memory_usage: 500 * 1024 * 1024, max_cpu_usage: 0.8 })
        .with_tuning_strategies(vec![TuningStrategy::BatchSize, TuningStrategy::ConnectionPool, TuningStrategy::Compression]);
    let client = EnhancedOtlpClient::builder().with_auto_tuner(auto_tuner).build()?;

    client.tracer("guide").start("tuned").end();
    assert!(client.flush(LONG).is_complete());
    Ok(())
}

/// Section 9.
#[rustfmt::skip]
fn command_line_tools() -> Result {
    use std::time::Duration;

    let _otlp = otlp::init()?;               // everything from the environment; flushes when dropped, and at process::exit
    let tracer = otlp::tracer("my-tool");    // the process-wide client
    let _job = _otlp.root("nightly-import");  // the process span: ended however the process ends, its exit code and signal noted
    let rows = tracer.in_span("load", |span| { span.set_attribute("file", "a.csv"); 42 });

    let mut parent = tracer.start("job");
    let child = tracer.span("step").parent(&parent.context()).kind(otlp::SpanKind::Client).attribute("n", 1).start();
    child.end();
    parent.add_event("retrying", [otlp::KeyValue::new("attempt", 2)]);
    parent.set_status(otlp::Status::error("disk full"));
    parent.record_error(&std::io::Error::other("disk full"));
    parent.end();

    use otlp::propagation::CommandExt as _;
    std::process::Command::new("env").with_trace_context().spawn()?.wait()?;   // TRACEPARENT, TRACESTATE, BAGGAGE

    let client = otlp::client();
    let receipt = client.flush(Duration::from_secs(5));      // likewise client.shutdown(timeout)
    assert!(receipt.is_complete());
    println!("{} exported, {} rejected, {} dropped {:?}, {} pending",
        receipt.exported, receipt.rejected, receipt.dropped_total(), receipt.dropped, receipt.pending);

    assert_eq!((rows, receipt.exported), (42, 3));
    Ok(())
}

/// Runs a section in a process of its own and answers what it printed, and the names of the spans that arrived.
fn run(section: &str) -> (String, Vec<String>) {
    let receiver = Receiver::start().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture"]).env(SECTION, section);
    let ours = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("OTEL_") || name.starts_with("OTLP_EXIT") || name.starts_with("TRACE") || name == "BAGGAGE"
    });
    ours.for_each(|name| _ = command.env_remove(name));
    let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{section}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(receiver.errors(), Vec::<String>::new(), "{section}");
    let mut names: Vec<_> = receiver.spans().into_iter().map(|received| received.span.name).collect();
    names.sort();
    (text, names)
}

#[test]
fn section_1_the_client() {
    let (_, names) = run("client");
    // The first is the request of the second, since tracing is on there.
    assert_eq!(names, ["POST", "custom", "production"]);
}

#[test]
fn section_1_each_transport_carries_the_spans() {
    let receiver = Receiver::start().unwrap();
    let builder = || otlp::Client::builder().with_endpoint(receiver.endpoint());
    for client in [builder().with_grpc_transport(), builder().with_grpc_transport().with_http_transport()] {
        let client = client.build().unwrap();
        client.tracer("guide").start("span").end();
        assert!(client.shutdown(LONG).is_complete());
    }
    let paths: Vec<_> = receiver.requests().iter().map(|request| request.path.clone()).collect();
    assert_eq!(paths, ["/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces"]);
}

#[test]
fn section_2_batching() {
    let (text, names) = run("batching");
    assert!(text.contains("BatchMetrics {"), "{text}");
    assert_eq!(names, ["batched", "batched", "managed"]);
}

#[test]
fn section_3_connections() {
    assert_eq!(run("connections").1, ["managed", "pooled"]);
}

#[test]
fn section_4_compression() {
    let (text, names) = run("compression");
    let with_all = cfg!(all(feature = "brotli", feature = "zstd"));
    assert_eq!(text.contains("Zstd: "), with_all, "{text}");
    assert_eq!(names.len(), if with_all { 4001 } else { 1 });
}

#[test]
fn section_5_memory() {
    let (text, names) = run("memory");
    assert!(text.contains("MemoryStats {"), "{text}");
    assert_eq!(names.len(), 101);
}

#[test]
fn section_6_concurrency() {
    let (_, names) = run("concurrency");
    assert_eq!(names.len(), 10);
    assert_eq!(names.iter().filter(|name| *name == "concurrent-operation").count(), 8);
}

#[test]
fn section_7_monitoring_and_tuning() {
    let (text, names) = run("monitoring and tuning");
    assert!(text.contains(" spans/s") && text.contains(" % CPU"), "{text}");
    assert_eq!(names, ["measured", "tuned"]);
}

#[test]
fn section_9_command_line_tools() {
    let (text, names) = run("command-line tools");
    assert!(text.contains("TRACEPARENT=00-"), "{text}");
    assert!(text.contains("3 exported, 0 rejected, 0 dropped {}, 0 pending"), "{text}");
    assert_eq!(names, ["job", "load", "nightly-import", "step"]);
}

/// The guide's names, where the guide says they are. Those whose fields are fixed for ever have no others.
#[test]
fn every_name_of_the_guide_is_where_it_was_promised() {
    use otlp::{
        config::{
            BatchConfig, BatchStrategy, Compression, ConnectionPoolConfig, ErrorType, LogLevel, MonitoringConfig,
            OtlpConfig, PerformanceConfig, RetryConfig, production,
        },
        core::{
            AdaptiveCompression, AutoTuner, BackpressureController, BatchManager, ConnectionManager, DropStrategy,
            EnhancedOtlpClient, MemoryPool, PerformanceTargets, ReuseStrategy, TuningStrategy, WorkerPool,
            ZeroCopyBuffer, calculate_optimal_batch_size,
        },
        monitoring::{MemoryMonitor, MemoryThresholds, MetricType, PerformanceMonitor},
    };
    fn is_shared<T: Send + Sync + 'static>() {}
    fn is_a_config<T: Clone + std::fmt::Debug + Default>(_: &T) {}

    is_shared::<EnhancedOtlpClient>();
    is_shared::<otlp::Tracer>();
    is_shared::<otlp::Span>();
    is_shared::<otlp::Error>();

    let config: OtlpConfig = production();
    is_a_config(&config);
    let OtlpConfig { transport, resource, batch, connection_pool, performance, monitoring, retry, .. } = config;
    let BatchConfig {
        max_batch_size, batch_timeout, max_queue_size, strategy, adaptive_sizing, load_balancing, ..
    } = batch;
    assert_eq!((max_batch_size, max_queue_size, strategy), (1000, 50_000, BatchStrategy::Hybrid));
    assert_eq!(
        (batch_timeout, transport.compression),
        (std::time::Duration::from_millis(200), Some(Compression::Gzip))
    );
    assert_eq!((adaptive_sizing, load_balancing), (false, true));
    let RetryConfig {
        max_attempts,
        initial_interval,
        max_interval,
        multiplier,
        randomization_factor,
        retryable_errors,
    } = retry;
    assert_eq!((max_attempts, retryable_errors), (3, vec![ErrorType::Network, ErrorType::Timeout]));
    let ConnectionPoolConfig {
        max_connections,
        min_connections,
        connection_timeout,
        idle_timeout,
        keep_alive,
        keep_alive_timeout,
        max_lifetime,
        enable_connection_prewarming,
        enable_connection_validation,
        validation_interval,
    } = connection_pool;
    assert_eq!((max_connections, min_connections, keep_alive), (100, 10, true));
    assert!(!enable_connection_prewarming && !enable_connection_validation);
    let PerformanceConfig { enable_zero_copy, enable_memory_pool, max_memory_usage, gc_threshold } = performance;
    assert!(enable_zero_copy && enable_memory_pool);
    let MonitoringConfig { enable_metrics, metrics_interval, enable_tracing, log_level } = monitoring;
    assert!(!enable_metrics && !enable_tracing && log_level == LogLevel::Info);
    let PerformanceTargets { target_latency, target_throughput, max_memory_usage, max_cpu_usage } = Default::default();
    let MemoryThresholds { warning, critical } = MemoryThresholds::default();
    is_a_config(&resource);

    let _: fn(f64) -> usize = calculate_optimal_batch_size;
    let _ = [DropStrategy::NewestFirst, DropStrategy::OldestFirst, DropStrategy::Block(target_latency)];
    let _ = [ReuseStrategy::Aggressive, ReuseStrategy::Conservative, ReuseStrategy::Never];
    let _ = [TuningStrategy::BatchSize, TuningStrategy::ConnectionPool, TuningStrategy::Compression];
    let _ = [ErrorType::Network, ErrorType::Timeout, ErrorType::Throttled, ErrorType::Unavailable];
    let _ = (AdaptiveCompression::new(), AutoTuner::new(), BackpressureController::new(), BatchManager::new());
    let _ = (ConnectionManager::new(), MemoryPool::new(), WorkerPool::new(), ZeroCopyBuffer::new());
    let _ = (MemoryMonitor::new(), PerformanceMonitor::new().with_enabled_metrics(vec![MetricType::Throughput]));
    let _ = otlp::ExitBudget { stall: target_latency, total: target_latency };
    // `Compression` is `Copy`.
    let one = Compression::Gzip;
    let (_, _) = (one, one);
}
