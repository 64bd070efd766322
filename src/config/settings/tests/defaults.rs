//! No setting is recognised by its value: the default written out has the effect of the default, and one less gives one
//! less and changes nothing else.

use super::*;
use crate::config::{
    ConnectionManager, ConnectionPoolConfig, MonitoringConfig, OtlpConfig, PerformanceConfig, RetryConfig,
    TransportConfig, WorkerPool, ZeroCopyBuffer,
};

/// A field's name, a function that makes it one less, and one that reads it.
type Knob = (&'static str, fn(&mut OtlpConfig), fn(&OtlpConfig) -> u128);

macro_rules! knobs {
    ($($section:ident . $field:ident - $one:expr,)+) => {
        &[$((
            concat!(stringify!($section), ".", stringify!($field)),
            |config| config.$section.$field -= $one,
            |config| u128::from(Size(config.$section.$field)),
        )),+]
    };
}

/// A number, or the nanoseconds of a duration.
struct Size<T>(T);

impl From<Size<usize>> for u128 {
    fn from(Size(size): Size<usize>) -> Self {
        size as u128
    }
}

impl From<Size<u64>> for u128 {
    fn from(Size(size): Size<u64>) -> Self {
        size.into()
    }
}

impl From<Size<u32>> for u128 {
    fn from(Size(size): Size<u32>) -> Self {
        size.into()
    }
}

impl From<Size<Duration>> for u128 {
    fn from(Size(size): Size<Duration>) -> Self {
        size.as_nanos()
    }
}

const KNOBS: &[Knob] = knobs![
    batch.max_batch_size - 1,
    batch.max_batch_bytes - 1,
    batch.batch_timeout - MS,
    batch.max_queue_size - 1,
    connection_pool.max_connections - 1,
    connection_pool.connection_timeout - MS,
    connection_pool.idle_timeout - MS,
    connection_pool.keep_alive_timeout - MS,
    connection_pool.max_lifetime - MS,
    connection_pool.validation_interval - MS,
    performance.max_memory_usage - 1,
    monitoring.metrics_interval - MS,
    retry.max_attempts - 1,
    retry.initial_interval - MS,
    retry.max_interval - MS,
    exit_budget.stall - MS,
    exit_budget.total - MS,
    spool.max_bytes - 1,
    spool.max_age - MS,
    span_limits.attribute_count_limit - 1,
    span_limits.attribute_depth_limit - 1,
    span_limits.event_count_limit - 1,
    span_limits.link_count_limit - 1,
    span_limits.event_attribute_count_limit - 1,
    span_limits.link_attribute_count_limit - 1,
];

fn settings(config: &OtlpConfig) -> Settings {
    let mut options = Options::default();
    options.set_all(config.clone());
    from_code(options)
}

/// Lines in which two settings differ.
fn differences(one: &Settings, other: &Settings) -> Vec<(String, String)> {
    let [one, other] = [one, other].map(|settings| format!("{settings:#?}"));
    assert_eq!(one.lines().count(), other.lines().count());
    let pairs = one.lines().zip(other.lines()).filter(|(one, other)| one != other);
    pairs.map(|(one, other)| (one.trim().to_owned(), other.trim().to_owned())).collect()
}

#[test]
fn one_less_than_the_default_gives_one_less_and_changes_nothing_else() {
    let default = settings(&OtlpConfig::default());
    for (name, lessen, of) in KNOBS {
        let mut config = OtlpConfig::default();
        lessen(&mut config);
        assert!(of(&config) < of(&OtlpConfig::default()), "{name}");
        let lessened = settings(&config);
        let mut differences = differences(&default, &lessened);
        match *name {
            // The other of the two timeouts counts by default.
            "connection_pool.idle_timeout" => {}
            // By default nothing is probed.
            "connection_pool.validation_interval" => {}
            _ => {
                let (before, after) = differences.pop().unwrap_or_else(|| panic!("{name} changes nothing"));
                let of_field = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
                assert_eq!(of_field(&before), of_field(&after), "{name}");
            }
        }
        assert_eq!(differences, [], "{name} changes more than itself");
        assert_eq!(lessened.batch.ready_spans().min(1 << 40), default.batch.ready_spans(), "{name}");
    }
}

#[test]
fn sizes_and_times_arrive_as_they_were_written_one_less_than_the_default() {
    let mut config = OtlpConfig::default();
    KNOBS.iter().for_each(|(_, lessen, _)| lessen(&mut config));
    let settings = settings(&config);
    assert_eq!(settings.batch, config.batch);
    assert_eq!(settings.retry, config.retry);
    assert_eq!(settings.exit_budget, config.exit_budget);
    assert_eq!(settings.spool, config.spool);
    assert_eq!(settings.span_limits, config.span_limits);
    assert_eq!(settings.monitoring, config.monitoring);
    assert_eq!(settings.max_memory_usage, config.performance.max_memory_usage);
    let (connections, pool) = (&settings.connections, &config.connection_pool);
    assert_eq!((connections.max_connections, connections.max_idle), (pool.max_connections, 16));
    assert_eq!((connections.connect_timeout, connections.max_lifetime), (pool.connection_timeout, pool.max_lifetime));
    assert_eq!(connections.idle_timeout, pool.keep_alive_timeout);
}

/// A setter, or a section, with the documented default written out.
type WrittenOut = (&'static str, fn(&mut Options));

const WRITTEN_OUT: &[WrittenOut] = &[
    ("batch", |o| o.set_batch(BatchConfig::default())),
    ("connection_pool", |o| o.set_connection_pool(ConnectionPoolConfig::default())),
    ("performance", |o| o.set_performance(PerformanceConfig::default())),
    ("monitoring", |o| o.set_monitoring(MonitoringConfig::default())),
    ("retry", |o| o.retry = Some(RetryConfig::default())),
    ("exit_budget", |o| o.exit_budget = Some(ExitBudget::default())),
    ("spool", |o| o.spool = Some(SpoolConfig::default())),
    ("span_limits", |o| o.span_limits = Some(SpanLimits::default())),
    ("transport", |o| o.set_transport(TransportConfig::default())),
    ("everything", |o| o.set_all(OtlpConfig::default())),
    ("drop_strategy", |o| o.drop_strategy = Some(DropStrategy::NewestFirst)),
    ("max_memory_usage", |o| o.max_memory_usage = Some(64 * MIB)),
    ("max_request_bytes", |o| o.max_request_bytes = Some(64 * MIB)),
    ("max_response_bytes", |o| o.max_response_bytes = Some(4 * MIB)),
    ("connect_timeout", |o| o.connect_timeout = Some(5_000 * MS)),
    ("request_timeout", |o| o.request_timeout = Some(10_000 * MS)),
    ("keep_alive_timeout", |o| o.keep_alive_timeout = Some(60_000 * MS)),
    ("max_idle_connections", |o| o.max_idle_connections = Some(16)),
    ("compression", |o| o.compression = Some(Compression::Gzip)),
    ("worker_count", |o| o.worker_count = Some(1)),
    ("connection_manager", |o| o.set_connection_manager(ConnectionManager::new())),
    ("worker_pool", |o| o.set_worker_pool(WorkerPool::new().with_timeout(10_000 * MS))),
    ("batch_size", |o| o.set_worker_pool(WorkerPool::new().with_batch_size(4096).with_queue_size(usize::MAX))),
    ("zero_copy_buffer", |o| o.zero_copy_buffer = Some(ZeroCopyBuffer::new().with_capacity(MIB).with_alignment(64))),
];

#[test]
fn the_documented_default_written_out_does_what_the_default_does() {
    let default = settings(&OtlpConfig::default());
    for (name, write) in WRITTEN_OUT {
        let mut options = Options::default();
        write(&mut options);
        assert_eq!(differences(&default, &from_code(options)), [], "{name}");
    }
}

/// Settings that meet in another setting: neighbours of a value are treated like the value.
#[test]
fn where_two_bounds_meet_neighbours_of_the_default_are_treated_alike() {
    let default = BatchConfig::default();
    for queue in [1, 100, 512, 2048, 4095, 4096, 4097] {
        for size in [default.max_batch_size - 1, default.max_batch_size, default.max_batch_size + 1] {
            let config = BatchConfig { max_batch_size: size, max_queue_size: queue, ..default.clone() };
            let batch = settings(&OtlpConfig { batch: config, ..OtlpConfig::default() }).batch;
            assert_eq!((batch.max_batch_size, batch.max_queue_size), (size.min(queue), queue));
            assert_eq!(batch.ready_spans(), 512.min(queue / 2 + 1));
        }
    }
    for bytes in [default.max_batch_bytes - 1, default.max_batch_bytes] {
        let batch = BatchConfig { max_batch_bytes: bytes, ..default.clone() };
        let performance = PerformanceConfig { max_memory_usage: MIB, ..PerformanceConfig::default() };
        let settings = settings(&OtlpConfig { batch, performance, ..OtlpConfig::default() });
        assert_eq!(settings.batch.max_batch_bytes, MIB / 8, "without a word, as documented");
    }
    for connections in [17, 200, usize::MAX - 1, usize::MAX] {
        let pool = ConnectionPoolConfig { max_connections: connections, ..ConnectionPoolConfig::default() };
        let kept = |pool| settings(&OtlpConfig { connection_pool: pool, ..OtlpConfig::default() }).connections.max_idle;
        assert_eq!(kept(pool.clone()), 16);
        assert_eq!(kept(ConnectionPoolConfig { min_connections: 17, ..pool }), 17);
    }
}
