//! What companions of a client do that shows in threads, in memory or on stderr: each case is a process of its own.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    process::{Command, Output},
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, ClientBuilder, DropReason, LogLevel,
    config::{MonitoringConfig, PerformanceConfig},
    core::{AutoTuner, BackpressureController, PerformanceTargets, TuningStrategy, WorkerPool},
    monitoring::{MemoryMonitor, MemoryThresholds, PerformanceMonitor},
    testing::{Receiver, Response},
};
use support::{LONG, assert_accounted, client_of, holds_within, wait_for_intervals};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("three workers") => workers(3),
        Ok("one worker") => workers(1),
        Ok("queue threshold") => fill_queue(BackpressureController::new().with_queue_threshold(0.5)),
        Ok("no queue threshold") => fill_queue(BackpressureController::new()),
        Ok("memory warning") => fill_memory(0.2),
        Ok("no memory warning") => fill_memory(1.0),
        Ok("tuner") => tune(),
        Ok("log level") => refuse(LogLevel::Error),
        Ok("log level none") => refuse(LogLevel::None),
        _ => {}
    }
}

/// Runs a child in `role`.
fn run(role: &str) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["child", "--exact", "--nocapture"]).env(ROLE, role).output().unwrap();
    assert!(output.status.success(), "{role}: {}", stderr(&output));
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("test");
    (0..spans).for_each(|_| tracer.start("a span").end());
}

/// How many threads of this process have such a name.
#[cfg(target_os = "linux")]
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default().starts_with(prefix))
        .count()
}

/// As many workers as there may be, where more waits than they get done.
fn workers(expected: usize) {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(20)).start().unwrap();
    let pool = WorkerPool::new().with_worker_count(expected).with_batch_size(10);
    let client = client_of(&receiver).with_worker_pool(pool).build().unwrap();
    #[cfg(target_os = "linux")]
    {
        let begun = Instant::now();
        let mut most = 0;
        // Longer where there should be no more.
        while begun.elapsed() < if most < expected { LONG } else { Duration::from_millis(300) } {
            record(&client, 100);
            most = most.max(threads_named("otlp-worker"));
        }
        assert_eq!(most, expected);
    }
    client.shutdown(Duration::ZERO);
}

#[test]
fn a_worker_pool_starts_as_many_workers_as_it_was_given() {
    run("three workers");
    run("one worker");
}

#[test]
fn a_worker_pool_bounds_the_queue_the_batch_and_the_time_of_a_request() {
    let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
    let pool = WorkerPool::new().with_queue_size(100).with_timeout(Duration::from_millis(300));
    let client = client_of(&receiver).with_log_level(LogLevel::None).with_worker_pool(pool).build().unwrap();
    let begun = Instant::now();
    record(&client, 150);
    assert_eq!(client.stats().dropped.get(DropReason::QueueFull), 50);
    let is_given_up = || client.stats().dropped.get(DropReason::Undelivered) == 100;
    assert!(holds_within(LONG / 2, is_given_up), "{:?}", client.stats());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_accounted(&client);

    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_worker_pool(WorkerPool::new().with_batch_size(25)).build().unwrap();
    record(&client, 500);
    assert!(client.flush(LONG).is_complete());
    assert!(receiver.requests().iter().all(|request| request.spans <= 25));
}

/// A client that tells when it has looked at its queue and at its memory, which is more often than this.
fn watched(builder: ClientBuilder) -> Client {
    let monitor = PerformanceMonitor::new().with_metrics_interval(Duration::from_millis(100));
    builder.with_performance_monitor(monitor).build().unwrap()
}

/// Fills the queue to more than half, where nothing leaves.
fn fill_queue(controller: BackpressureController) {
    let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
    let client = watched(client_of(&receiver).with_backpressure_controller(controller.with_max_queue_size(1000)));
    record(&client, 700);
    wait_for_intervals(&client, 5);
    client.shutdown(Duration::ZERO);
}

#[test]
fn a_queue_beyond_its_threshold_is_told_once() {
    let told = stderr(&run("queue threshold"));
    assert_eq!(told.matches("% full; raise").count(), 1, "{told}");
    let silent = stderr(&run("no queue threshold"));
    assert!(!silent.contains("% full"), "{silent}");
}

fn monitor(warning: f64, critical: f64) -> MemoryMonitor {
    MemoryMonitor::new()
        .with_monitoring_interval(Duration::from_millis(5))
        .with_thresholds(MemoryThresholds { warning, critical })
}

/// Records until spans take more than 40 % of the memory bound, where nothing leaves.
fn fill_memory(warning: f64) {
    let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
    let client =
        watched(client_of(&receiver).with_max_memory_usage(8 << 20).with_memory_monitor(monitor(warning, 1.0)));
    let tracer = client.tracer("test");
    let text = "some text that takes memory".repeat(30);
    while client.get_memory_stats().used * 5 < client.get_memory_stats().limit * 2 {
        tracer.span("span").attribute("text", &*text).start().end();
    }
    wait_for_intervals(&client, 3);
    client.shutdown(Duration::ZERO);
}

#[test]
fn memory_beyond_its_warning_threshold_is_told_once() {
    let told = stderr(&run("memory warning"));
    assert_eq!(told.matches(" of 8388608 bytes").count(), 1, "{told}");
    let silent = stderr(&run("no memory warning"));
    assert!(!silent.contains(" of 8388608 bytes"), "{silent}");
}

/// Bytes that are idle after a burst, with a memory monitor that finds them critical.
fn idle_after_a_burst(gc_trigger: bool, interval: Duration) -> u64 {
    let receiver = Receiver::builder().keep(otlp::testing::Keep::Ids).start().unwrap();
    // Nothing else gives memory back.
    let performance = PerformanceConfig { gc_threshold: 1.0, ..PerformanceConfig::default() };
    // All of it waits in the rings until it is flushed.
    let batch = BatchConfig {
        strategy: BatchStrategy::TimeFirst,
        batch_timeout: Duration::from_secs(3600),
        ..BatchConfig::default()
    };
    let client = client_of(&receiver)
        .with_batch_config(batch)
        .with_log_level(LogLevel::None)
        .with_performance_config(performance)
        .with_memory_monitor(monitor(0.001, 0.001).with_gc_trigger(gc_trigger).with_monitoring_interval(interval))
        .build()
        .unwrap();
    record(&client, 100_000);
    assert!(client.flush(LONG).is_complete());
    holds_within(Duration::from_secs(1), || client.get_memory_stats().chunks_idle <= 1 << 20);
    client.get_memory_stats().chunks_idle
}

#[test]
fn memory_that_is_critical_is_trimmed_at_once_if_it_is_to_be() {
    let often = Duration::from_millis(5);
    let kept = idle_after_a_burst(false, often);
    assert!(kept > 2 << 20, "{kept} bytes are idle");
    let left = idle_after_a_burst(true, often);
    assert!(left <= 1 << 20, "{left} of {kept} bytes are still idle");
    let not_looked_at = idle_after_a_burst(true, Duration::from_secs(3600));
    assert!(not_looked_at > 2 << 20, "{not_looked_at} bytes are idle");
}

/// A receiver that is far away, and batches that are too small for it.
fn tune() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(50)).start().unwrap();
    let targets = PerformanceTargets { target_throughput: 100_000, ..PerformanceTargets::default() };
    let interval = env::var("OTLP_TEST_INTERVAL").map_or(100, |interval| interval.parse().unwrap());
    let tuner = AutoTuner::new()
        .with_tuning_interval(Duration::from_millis(interval))
        .with_performance_targets(targets)
        .with_tuning_strategies(vec![TuningStrategy::BatchSize]);
    let batch = BatchConfig { max_batch_size: 16, max_queue_size: 400, ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).with_auto_tuner(tuner).build().unwrap();
    holds_within(Duration::from_secs(8), || {
        record(&client, 20);
        client.get_performance_metrics().decision.is_some()
    });
    client.shutdown(Duration::ZERO);
}

#[test]
fn a_tuner_says_what_it_does_and_why() {
    let told = stderr(&run("tuner"));
    assert!(told.contains("try batch_size 16 → 32, since "), "{told}");
    // With intervals this long nothing is decided yet.
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture"]).env(ROLE, "tuner").env("OTLP_TEST_INTERVAL", "60000");
    let silent = stderr(&command.output().unwrap());
    assert!(!silent.contains("try "), "{silent}");
}

/// Loses spans to a receiver that refuses them.
fn refuse(log_level: LogLevel) {
    let receiver = Receiver::builder().respond_with(|_| Response::status(400)).start().unwrap();
    let monitoring = MonitoringConfig { log_level, ..MonitoringConfig::default() };
    let client = client_of(&receiver).with_monitoring_config(monitoring).build().unwrap();
    record(&client, 10);
    client.flush(LONG);
}

#[test]
fn the_log_level_of_the_monitoring_section_bounds_what_is_said() {
    assert!(stderr(&run("log level")).contains("answered 400"));
    assert!(!stderr(&run("log level none")).contains("otlp:"));
}
