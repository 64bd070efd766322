//! Settings in sections: filling in a field has the effect of the setter with the same name.

use super::*;
use crate::config::{
    BackpressureController, BatchStrategy, ConnectionManager, ConnectionPoolConfig, ErrorType, MemoryMonitor,
    MemoryPool, MonitoringConfig, OtlpConfig, PerformanceConfig, PerformanceMonitor, ResourceDetector, RetryConfig,
    ReuseStrategy, WorkerPool, ZeroCopyBuffer,
};

fn all(config: OtlpConfig) -> Options {
    let mut options = Options::default();
    options.set_all(config);
    options
}

fn shown(options: Options) -> String {
    format!("{:?}", resolve(options, &[]).unwrap().0)
}

const SECOND: Duration = Duration::from_secs(1);

/// A field of `OtlpConfig` by its path, a function that sets it to a value other than the default, and the setter with
/// the same effect.
type Field = (&'static str, fn(&mut OtlpConfig), fn(&mut Options));

const TRANSPORT_AND_RESOURCE: &[Field] = &[
    (
        "transport.endpoint",
        |c| c.transport.endpoint = Some("http://h:1".into()),
        |o| o.endpoint = Some("http://h:1".into()),
    ),
    (
        "transport.traces_endpoint",
        |c| c.transport.traces_endpoint = Some("http://h:2/x".into()),
        |o| o.traces_endpoint = Some("http://h:2/x".into()),
    ),
    (
        "transport.headers",
        |c| c.transport.headers = vec![("a".into(), "1".into())],
        |o| o.headers = vec![("a".into(), "1".into())],
    ),
    (
        "transport.compression",
        |c| c.transport.compression = Some(Compression::None),
        |o| o.compression = Some(Compression::None),
    ),
    ("transport.connect_timeout", |c| c.transport.connect_timeout = Some(SECOND), |o| o.connect_timeout = Some(SECOND)),
    ("transport.request_timeout", |c| c.transport.request_timeout = Some(SECOND), |o| o.request_timeout = Some(SECOND)),
    (
        "transport.keep_alive_timeout",
        |c| c.transport.keep_alive_timeout = Some(SECOND),
        |o| o.keep_alive_timeout = Some(SECOND),
    ),
    (
        "transport.max_idle_connections",
        |c| c.transport.max_idle_connections = Some(3),
        |o| o.max_idle_connections = Some(3),
    ),
    (
        "transport.certificate",
        |c| c.transport.certificate = Some(CERTIFICATE.into()),
        |o| o.certificate = Some(CERTIFICATE.into()),
    ),
    (
        "transport.client_certificate",
        |c| c.transport.client_certificate = Some((CERTIFICATE.into(), KEY.into())),
        |o| o.client_certificate = Some((CERTIFICATE.into(), KEY.into())),
    ),
    (
        "transport.max_request_bytes",
        |c| c.transport.max_request_bytes = Some(5000),
        |o| o.max_request_bytes = Some(5000),
    ),
    (
        "transport.max_response_bytes",
        |c| c.transport.max_response_bytes = Some(5000),
        |o| o.max_response_bytes = Some(5000),
    ),
    (
        "resource.service_name",
        |c| c.resource.service_name = Some("tool".into()),
        |o| o.service_name = Some("tool".into()),
    ),
    (
        "resource.service_version",
        |c| c.resource.service_version = Some("2".into()),
        |o| o.service_version = Some("2".into()),
    ),
    (
        "resource.attributes",
        |c| c.resource.attributes = vec![KeyValue::new("a", 1)],
        |o| o.resource_attributes = vec![KeyValue::new("a", 1)],
    ),
    (
        "resource.detectors",
        |c| c.resource.detectors = Some(vec![ResourceDetector::Os]),
        |o| o.resource_detectors = Some(vec![ResourceDetector::Os]),
    ),
    ("worker_count", |c| c.worker_count = Some(3), |o| o.worker_count = Some(3)),
    (
        "drop_strategy",
        |c| c.drop_strategy = DropStrategy::OldestFirst,
        |o| o.drop_strategy = Some(DropStrategy::OldestFirst),
    ),
    (
        "exit_budget",
        |c| c.exit_budget = ExitBudget { stall: SECOND / 2, total: SECOND },
        |o| o.exit_budget = Some(ExitBudget { stall: SECOND / 2, total: SECOND }),
    ),
    (
        "spool",
        |c| c.spool.dir = Some("/var/spool/otlp".into()),
        |o| o.spool = Some(SpoolConfig { dir: Some("/var/spool/otlp".into()), ..SpoolConfig::default() }),
    ),
    (
        "span_limits.attribute_count_limit",
        |c| c.span_limits.attribute_count_limit = 7,
        |o| o.span_limits = Some(SpanLimits { attribute_count_limit: 7, ..SpanLimits::default() }),
    ),
    (
        "span_limits.event_count_limit",
        |c| c.span_limits.event_count_limit = 7,
        |o| o.span_limits = Some(SpanLimits { event_count_limit: 7, ..SpanLimits::default() }),
    ),
    (
        "span_limits.link_count_limit",
        |c| c.span_limits.link_count_limit = 7,
        |o| o.span_limits = Some(SpanLimits { link_count_limit: 7, ..SpanLimits::default() }),
    ),
    (
        "span_limits.event_attribute_count_limit",
        |c| c.span_limits.event_attribute_count_limit = 7,
        |o| o.span_limits = Some(SpanLimits { event_attribute_count_limit: 7, ..SpanLimits::default() }),
    ),
    (
        "span_limits.link_attribute_count_limit",
        |c| c.span_limits.link_attribute_count_limit = 7,
        |o| o.span_limits = Some(SpanLimits { link_attribute_count_limit: 7, ..SpanLimits::default() }),
    ),
    (
        "span_limits.attribute_value_length_limit",
        |c| c.span_limits.attribute_value_length_limit = Some(7),
        |o| o.span_limits = Some(SpanLimits { attribute_value_length_limit: Some(7), ..SpanLimits::default() }),
    ),
    (
        "span_limits.attribute_depth_limit",
        |c| c.span_limits.attribute_depth_limit = 7,
        |o| o.span_limits = Some(SpanLimits { attribute_depth_limit: 7, ..SpanLimits::default() }),
    ),
    ("retry", |c| c.retry = retry(), |o| o.retry = Some(retry())),
    ("batch", |c| c.batch = batch(), |o| o.set_batch(batch())),
    ("connection_pool", |c| c.connection_pool = pool(), |o| o.set_connection_pool(pool())),
    ("performance", |c| c.performance = performance(), |o| o.set_performance(performance())),
    ("monitoring", |c| c.monitoring = monitoring(), |o| o.set_monitoring(monitoring())),
    (
        "performance_monitor",
        |c| c.performance_monitor = Some(PerformanceMonitor::new()),
        |o| o.performance_monitor = Some(PerformanceMonitor::new()),
    ),
    (
        "memory_monitor",
        |c| c.memory_monitor = Some(MemoryMonitor::new()),
        |o| o.memory_monitor = Some(MemoryMonitor::new()),
    ),
];

fn retry() -> RetryConfig {
    RetryConfig { max_attempts: 2, retryable_errors: vec![ErrorType::Timeout], ..RetryConfig::default() }
}

fn batch() -> BatchConfig {
    BatchConfig { max_batch_size: 7, strategy: BatchStrategy::SizeFirst, ..BatchConfig::default() }
}

fn pool() -> ConnectionPoolConfig {
    ConnectionPoolConfig { max_connections: 7, ..ConnectionPoolConfig::default() }
}

fn performance() -> PerformanceConfig {
    PerformanceConfig { max_memory_usage: 8 * MIB, gc_threshold: 0.5, ..PerformanceConfig::default() }
}

fn monitoring() -> MonitoringConfig {
    MonitoringConfig { enable_tracing: true, log_level: LogLevel::Debug, ..MonitoringConfig::default() }
}

#[test]
fn a_field_that_is_filled_in_does_what_its_setter_does() {
    let defaults = shown(all(OtlpConfig::default()));
    assert_eq!(defaults, shown(Options::default()));
    for (name, fill_in, set) in TRANSPORT_AND_RESOURCE {
        let mut config = OtlpConfig::default();
        fill_in(&mut config);
        let mut options = all(OtlpConfig::default());
        set(&mut options);
        let filled_in = shown(all(config));
        assert_ne!(filled_in, defaults, "{name} changes nothing");
        assert_eq!(filled_in, shown(options), "{name}");
    }
}

#[test]
fn none_in_transport_and_resource_means_the_environment_and_other_sections_count_as_they_stand() {
    let pairs = [
        (env::ENDPOINT, "http://h:1"),
        (env::SERVICE_NAME, "tool"),
        (env::WORKERS, "3"),
        (env::BSP_SCHEDULE_DELAY, "100"),
        (env::MAX_MEMORY_USAGE, "1048576"),
        (env::LOG_LEVEL, "debug"),
        (env::DROP_STRATEGY, "oldest_first"),
    ];
    let (settings, _) = resolve(all(OtlpConfig::default()), &pairs).unwrap();
    assert_eq!(settings.endpoint.to_string(), "http://h:1/v1/traces");
    assert_eq!((attribute(&settings, "service.name").as_deref(), settings.worker_count), (Some("tool"), 3));
    let default = OtlpConfig::default();
    assert_eq!(settings.batch, default.batch);
    assert_eq!((settings.max_memory_usage, settings.log_level), (64 * MIB, LogLevel::Info));
    assert_eq!(settings.drop_strategy, DropStrategy::NewestFirst);
}

#[test]
#[cfg(not(feature = "grpc"))]
fn grpc_that_is_not_compiled_in_is_an_error_that_names_the_feature() {
    use crate::config::{Protocol, TransportConfig};
    let transport = TransportConfig { protocol: Some(Protocol::Grpc), ..TransportConfig::default() };
    let text = error(all(OtlpConfig { transport, ..OtlpConfig::default() }));
    assert_eq!(text, "with_grpc_transport = grpc: must be compiled in: turn on the cargo feature `grpc` of otlp");
}

#[test]
fn of_knobs_that_turn_the_same_setting_the_last_call_wins() {
    let pool = || WorkerPool::new().with_worker_count(2).with_queue_size(1000).with_batch_size(10).with_timeout(SECOND);
    let controller =
        || BackpressureController::new().with_max_queue_size(500).with_drop_strategy(DropStrategy::OldestFirst);
    let of = |set: &[&dyn Fn(&mut Options)]| {
        let mut options = Options::default();
        set.iter().for_each(|set| set(&mut options));
        from_code(options)
    };
    let to_pool = |o: &mut Options| o.set_worker_pool(pool());
    let settings = of(&[&|o| o.worker_count = Some(5), &|o| o.request_timeout = Some(2 * SECOND), &to_pool]);
    assert_eq!((settings.worker_count, settings.export_timeout), (2, SECOND));
    assert_eq!((settings.batch.max_queue_size, settings.batch.max_batch_size), (1000, 10));
    let settings = of(&[&to_pool, &|o| o.worker_count = Some(5), &|o| o.request_timeout = Some(2 * SECOND)]);
    assert_eq!((settings.worker_count, settings.export_timeout), (5, 2 * SECOND));
    let settings = of(&[&to_pool, &|o| o.set_batch(batch())]);
    assert_eq!((settings.batch.max_queue_size, settings.batch.max_batch_size), (usize::MAX, 7));
    let settings = of(&[&|o| o.set_batch(batch()), &to_pool]);
    assert_eq!((settings.batch.max_queue_size, settings.batch.max_batch_size), (1000, 10));
    assert_eq!(settings.batch.strategy, BatchStrategy::SizeFirst, "what a pool says nothing about stays");
    let to_controller = |o: &mut Options| o.set_backpressure(controller());
    assert_eq!(of(&[&to_pool, &to_controller]).batch.max_queue_size, 500);
    assert_eq!(of(&[&to_controller, &to_pool]).batch.max_queue_size, 1000);
    let newest = |o: &mut Options| o.drop_strategy = Some(DropStrategy::NewestFirst);
    assert_eq!(of(&[&newest, &to_controller]).drop_strategy, DropStrategy::OldestFirst);
    assert_eq!(of(&[&to_controller, &newest]).drop_strategy, DropStrategy::NewestFirst);
    // What a companion does not set stays as it was set elsewhere, including by another companion.
    let settings = of(&[&to_pool, &|o| o.set_worker_pool(WorkerPool::new().with_queue_size(777))]);
    assert_eq!((settings.worker_count, settings.batch.max_queue_size, settings.batch.max_batch_size), (2, 777, 10));
    let threshold = |o: &mut Options| o.set_backpressure(BackpressureController::new().with_queue_threshold(0.5));
    let settings = of(&[&to_controller, &threshold]);
    assert_eq!((settings.drop_strategy, settings.batch.max_queue_size), (DropStrategy::OldestFirst, 500));
    let everything = |o: &mut Options| o.set_all(OtlpConfig::default());
    assert_eq!(of(&[&to_pool, &everything]).worker_count, 2, "companions stay");
    let to_performance = |o: &mut Options| o.set_performance(performance());
    let bound = |o: &mut Options| o.max_memory_usage = Some(4 * MIB);
    assert_eq!(of(&[&bound, &to_performance]).max_memory_usage, 8 * MIB);
    assert_eq!(of(&[&to_performance, &bound]).max_memory_usage, 4 * MIB);
    let level = |o: &mut Options| o.log_level = Some(LogLevel::Error);
    assert_eq!(of(&[&level, &|o| o.set_monitoring(monitoring())]).log_level, LogLevel::Debug);
    assert_eq!(of(&[&|o| o.set_monitoring(monitoring()), &level]).log_level, LogLevel::Error);
}

#[test]
fn a_companion_that_makes_no_sense_is_named_with_its_knob() {
    let zero = Duration::ZERO;
    type Case = (&'static str, Box<dyn FnOnce(&mut Options)>);
    let cases: Vec<Case> = vec![
        ("with_worker_pool.worker_count = 0", Box::new(|o| o.set_worker_pool(WorkerPool::new().with_worker_count(0)))),
        ("with_worker_pool.queue_size = 0", Box::new(|o| o.set_worker_pool(WorkerPool::new().with_queue_size(0)))),
        ("with_worker_pool.batch_size = 0", Box::new(|o| o.set_worker_pool(WorkerPool::new().with_batch_size(0)))),
        (
            "with_worker_pool.batch_size = 11",
            Box::new(|o| o.set_worker_pool(WorkerPool::new().with_queue_size(10).with_batch_size(11))),
        ),
        ("with_worker_pool.timeout = 0s", Box::new(move |o| o.set_worker_pool(WorkerPool::new().with_timeout(zero)))),
        (
            "with_backpressure_controller.max_queue_size = 0",
            Box::new(|o| o.set_backpressure(BackpressureController::new().with_max_queue_size(0))),
        ),
        (
            "with_backpressure_controller.drop_strategy = 0s",
            Box::new(move |o| {
                o.set_backpressure(BackpressureController::new().with_drop_strategy(DropStrategy::Block(zero)));
            }),
        ),
        (
            "with_performance_config.gc_threshold = NaN",
            Box::new(|o| o.set_performance(PerformanceConfig { gc_threshold: f64::NAN, ..performance() })),
        ),
        (
            "with_performance_config.max_memory_usage = 1",
            Box::new(|o| o.set_performance(PerformanceConfig { max_memory_usage: 1, ..performance() })),
        ),
        (
            "with_monitoring_config.metrics_interval = 0s",
            Box::new(move |o| o.set_monitoring(MonitoringConfig { metrics_interval: zero, ..monitoring() })),
        ),
        (
            "with_performance_monitor.metrics_interval = 1ns",
            Box::new(|o| {
                let monitor = PerformanceMonitor::new().with_metrics_interval(Duration::from_nanos(1));
                o.performance_monitor = Some(monitor);
            }),
        ),
        (
            "with_memory_monitor.monitoring_interval = 0s",
            Box::new(move |o| o.memory_monitor = Some(MemoryMonitor::new().with_monitoring_interval(zero))),
        ),
        (
            "with_memory_pool.growth_factor = 0.5",
            Box::new(|o| o.memory_pool = Some(MemoryPool::new().with_growth_factor(0.5))),
        ),
        (
            "with_memory_pool.initial_size = 9000000",
            Box::new(|o| o.memory_pool = Some(MemoryPool::new().with_initial_size(9_000_000).with_max_size(8_000_000))),
        ),
        (
            "with_zero_copy_buffer.alignment = 48",
            Box::new(|o| o.zero_copy_buffer = Some(ZeroCopyBuffer::new().with_alignment(48))),
        ),
        (
            "with_connection_manager.pool_size = 0",
            Box::new(|o| {
                o.set_connection_manager(
                    ConnectionManager::new().with_pool_size(0).with_reuse_strategy(ReuseStrategy::Never),
                );
            }),
        ),
    ];
    for (begins, set) in cases {
        let mut options = Options::default();
        set(&mut options);
        let text = error(options);
        assert!(text.starts_with(begins), "{begins}: {text}");
    }
}

#[test]
fn memory_thresholds_out_of_order_are_named() {
    for (warning, critical, knob) in [
        (0.0, 0.9, "thresholds.warning = 0"),
        (0.8, 0.7, "thresholds.warning = 0.8"),
        (f64::NAN, 0.9, "thresholds.warning = NaN"),
        (0.7, 1.1, "thresholds.critical = 1.1"),
        (0.7, f64::NAN, "thresholds.critical = NaN"),
    ] {
        let thresholds = crate::config::MemoryThresholds { warning, critical };
        let memory_monitor = Some(MemoryMonitor::new().with_thresholds(thresholds));
        let text = error(Options { memory_monitor, ..Options::default() });
        assert!(text.starts_with(&format!("with_memory_monitor.{knob}")), "{text}");
    }
}

#[test]
fn sizes_beyond_the_memory_bound_are_capped_with_one_line_each() {
    // The settings of the guide's own snippet, within the default bound.
    let memory_pool = Some(MemoryPool::new().with_max_size(100 * MIB).with_initial_size(MIB));
    let (settings, warnings) = resolve(Options { memory_pool, ..Options::default() }, &[]).unwrap();
    assert_eq!(settings.memory_pool.max_size, Some(64 * MIB));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("with_memory_pool.max_size = 104857600: is more than "), "{warnings:?}");
}
