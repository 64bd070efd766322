//! Settings that change while a client runs, by what is measured: observed in its metrics and at the receiver.
#![cfg(feature = "testing")]

mod support;

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, ClientBuilder, Compression, LogLevel,
    core::{AdaptiveCompression, AutoTuner, BatchManager, Effort, PerformanceTargets, TuningStrategy},
    monitoring::{BatchMetrics, PerformanceMonitor},
    testing::{Keep, Receiver},
};
use support::{LONG, assert_accounted, client_of, holds_within};

/// Controllers are asked this often.
const INTERVAL: Duration = Duration::from_millis(50);

fn quickly(builder: ClientBuilder) -> Client {
    builder.with_performance_monitor(PerformanceMonitor::new().with_metrics_interval(INTERVAL)).build().unwrap()
}

/// Records steadily until the batch metrics `are_right`.
#[track_caller]
fn record_until(client: &Client, are_right: impl Fn(&BatchMetrics) -> bool) {
    let done = AtomicBool::new(false);
    let right = thread::scope(|scope| {
        scope.spawn(|| {
            let tracer = client.tracer("test");
            while !done.load(Ordering::Relaxed) {
                (0..20).for_each(|_| tracer.start("span").end());
                // The pace of the load, not a wait.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let right = holds_within(LONG, || are_right(&client.get_batch_metrics()));
        done.store(true, Ordering::Relaxed);
        right
    });
    assert!(right, "{:?}", client.get_batch_metrics());
}

fn batch(adaptive_sizing: bool) -> BatchConfig {
    BatchConfig {
        max_batch_size: 1000,
        // The default one is ready at half of that, whose bodies tell nothing of the network.
        strategy: BatchStrategy::Hybrid,
        batch_timeout: Duration::from_millis(20),
        adaptive_sizing,
        ..BatchConfig::default()
    }
}

#[test]
fn adaptive_sizing_makes_batches_smaller_where_requests_take_too_long() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(250)).start().unwrap();
    let client = quickly(client_of(&receiver).with_batch_config(batch(true)));
    record_until(&client, |metrics| metrics.batch_size <= 250);
    assert!(client.flush(LONG).is_complete());
    let before = receiver.requests().len();
    let tracer = client.tracer("test");
    (0..1000).for_each(|_| tracer.start("span").end());
    assert!(client.flush(LONG).is_complete());
    let sizes: Vec<_> = receiver.requests()[before..].iter().map(|request| request.spans).collect();
    assert!(sizes.iter().all(|size| *size <= 250), "{sizes:?}");
    assert_accounted(&client);
}

#[test]
fn without_adaptive_sizing_the_size_stays() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(250)).start().unwrap();
    let client = quickly(client_of(&receiver).with_batch_config(batch(false)));
    record_until(&client, |metrics| metrics.batches >= 8);
    assert_eq!(client.get_batch_metrics().batch_size, 1000);
}

#[test]
fn a_batch_manager_brings_its_configuration_and_its_targets() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(100)).start().unwrap();
    let targets = |target_latency| PerformanceTargets { target_latency, ..PerformanceTargets::default() };
    let manager =
        |latency| BatchManager::new().with_initial_config(batch(false)).with_performance_targets(targets(latency));
    let hurried = quickly(client_of(&receiver).with_batch_manager(manager(Duration::from_millis(10))));
    assert_eq!(hurried.get_batch_metrics().batch_size, 1000);
    record_until(&hurried, |metrics| metrics.batch_size <= 250);
    let patient = quickly(client_of(&receiver).with_batch_manager(manager(Duration::from_secs(10))));
    record_until(&patient, |metrics| metrics.batches >= 8);
    assert_eq!(patient.get_batch_metrics().batch_size, 1000);
    let manager = manager(Duration::from_millis(10)).with_adaptive_adjustment(false);
    let fixed = quickly(client_of(&receiver).with_batch_manager(manager));
    record_until(&fixed, |metrics| metrics.batches >= 8);
    assert_eq!(fixed.get_batch_metrics().batch_size, 1000);
}

/// Thresholds that are never reached, but for those a test sets.
fn adaptive() -> AdaptiveCompression {
    AdaptiveCompression::new()
        .with_network_condition_threshold(1)
        .with_cpu_usage_threshold(1000.0)
        .with_latency_threshold(Duration::from_secs(1000))
}

#[test]
fn bodies_are_compressed_harder_where_latency_is_high() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(60)).start().unwrap();
    let adaptive = adaptive().with_latency_threshold(Duration::from_millis(20));
    let client = quickly(client_of(&receiver).with_batch_config(batch(false)).with_adaptive_compression(adaptive));
    record_until(&client, |metrics| metrics.effort == Effort::Most);
    assert!(client.get_batch_metrics().compression != Compression::None);
    assert!(client.flush(LONG).is_complete());
    assert_accounted(&client);
}

/// Passes connections on to `receiver`, from there at so many bytes per 10 ms: a narrow network.
fn narrow(receiver: &Receiver, bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, receiver) = (listener.local_addr().unwrap(), receiver.address());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Small, so that what does not get through is felt at once.
            let _ = socket2::SockRef::from(&client).set_recv_buffer_size(4096);
            let server = TcpStream::connect(receiver).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let mut piece = vec![0; bytes];
                while let Ok(read @ 1..) = from.read(&mut piece) {
                    if to.write_all(&piece[..read]).is_err() {
                        break;
                    }
                    // The pace of the network, not a wait.
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let (mut from, mut to) = (server, client);
            thread::spawn(move || io::copy(&mut from, &mut to));
        }
    });
    format!("http://{address}")
}

#[test]
fn bodies_are_compressed_harder_where_the_network_is_slow() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    // 4 KB in 10 ms are 3,200 kbit/s at most.
    let endpoint = narrow(&receiver, 4_000);
    let effort_after = |threshold, time: Duration| {
        let adaptive = adaptive().with_network_condition_threshold(threshold);
        // Batches of a thousand: smaller bodies tell nothing of the network.
        let builder = Client::builder().with_endpoint(&endpoint).with_batch_config(batch(false));
        let client = quickly(builder.with_adaptive_compression(adaptive));
        let tracer = client.tracer("test");
        let begun = Instant::now();
        while client.get_batch_metrics().effort != Effort::Most && begun.elapsed() < time {
            // Ids alone make bodies of more than 16 KiB.
            (0..1000).for_each(|_| tracer.start("span").end());
            client.flush(LONG);
        }
        client.get_batch_metrics().effort
    };
    assert_eq!(effort_after(10_000, 3 * LONG), Effort::Most);
    assert_eq!(effort_after(1, Duration::from_secs(2)), Effort::Least, "it is wide enough");
}

#[test]
fn bodies_are_compressed_less_where_the_cpu_is_busy() {
    let receiver = Receiver::start().unwrap();
    let adaptive = adaptive().with_cpu_usage_threshold(1e-9);
    let client = quickly(client_of(&receiver).with_batch_config(batch(false)).with_adaptive_compression(adaptive));
    record_until(&client, |metrics| metrics.compression == Compression::None);
    client.tracer("test").start("last").end();
    assert!(client.flush(LONG).is_complete());
    let encodings: Vec<_> =
        receiver.requests().iter().map(|request| request.header("content-encoding").map(str::to_owned)).collect();
    assert_eq!(encodings.first(), Some(&Some("gzip".to_owned())));
    assert_eq!(encodings.last(), Some(&None));
    assert_eq!(receiver.errors(), Vec::<String>::new());
}

#[test]
fn without_adaptive_compression_the_choice_stays() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(60)).start().unwrap();
    let client = quickly(client_of(&receiver).with_batch_config(batch(false)));
    record_until(&client, |metrics| metrics.batches >= 20);
    let metrics = client.get_batch_metrics();
    assert_eq!((metrics.compression, metrics.effort), (Compression::Gzip, Effort::Least));
}

#[test]
fn a_tuner_moves_what_it_was_given_towards_its_target_and_says_why() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(50)).start().unwrap();
    let targets = PerformanceTargets {
        target_throughput: 100_000,
        target_latency: Duration::from_secs(1),
        ..PerformanceTargets::default()
    };
    let tuner = AutoTuner::new()
        .with_tuning_interval(Duration::from_millis(200))
        .with_performance_targets(targets)
        .with_tuning_strategies(vec![TuningStrategy::BatchSize]);
    let batch = BatchConfig { max_batch_size: 16, max_queue_size: 400, ..batch(false) };
    let client = client_of(&receiver)
        .with_worker_count(2)
        .with_batch_config(batch)
        .with_log_level(LogLevel::Info)
        .with_auto_tuner(tuner)
        .build()
        .unwrap();
    let before = client.get_performance_metrics().tuning;
    assert_eq!((before.batch_size, client.get_performance_metrics().decision), (16, None));
    record_until(&client, |metrics| metrics.batch_size >= 128);
    let metrics = client.get_performance_metrics();
    let mut tuning = metrics.tuning;
    tuning.batch_size = 16;
    assert_eq!(tuning, before, "only the batch size was its to move");
    let decision = metrics.decision.expect("it says what it did");
    assert!(decision.contains("batch_size"), "{decision}");
    client.flush(LONG);
    assert_accounted(&client);
}

#[test]
fn a_batch_config_that_is_set_after_a_manager_is_what_it_begins_with() {
    let receiver = Receiver::start().unwrap();
    let of = |manager: BatchManager| {
        let config = BatchConfig { max_batch_size: 100, ..batch(false) };
        quickly(client_of(&receiver).with_batch_manager(manager).with_batch_config(config))
    };
    for manager in [BatchManager::new(), BatchManager::new().with_adaptive_adjustment(false)] {
        let client = of(manager);
        record_until(&client, |metrics| metrics.batches >= 20);
        assert!(client.get_batch_metrics().batch_size <= 100, "{:?}", client.get_batch_metrics());
    }
}

#[test]
fn intervals_without_end_adjust_nothing_and_break_nothing() {
    let receiver = Receiver::start().unwrap();
    let forever = Duration::MAX;
    let client = client_of(&receiver)
        .with_batch_config(batch(true))
        .with_performance_monitor(PerformanceMonitor::new().with_metrics_interval(forever))
        .with_memory_monitor(otlp::monitoring::MemoryMonitor::new().with_monitoring_interval(forever))
        .with_auto_tuner(AutoTuner::new().with_tuning_interval(forever))
        .build()
        .unwrap();
    record_until(&client, |metrics| metrics.batches >= 5);
    assert!(client.flush(LONG).is_complete());
    assert!(client.get_performance_metrics().throughput > 0.0, "the first interval is still measured");
    assert!(
        Client::builder()
            .with_auto_tuner(AutoTuner::new().with_tuning_interval(Duration::from_nanos(1)))
            .build()
            .is_err()
    );
}

#[test]
fn controllers_that_make_no_sense_are_errors_that_name_the_knob() {
    let targets = PerformanceTargets { target_latency: Duration::ZERO, ..PerformanceTargets::default() };
    let manager = BatchManager::new().with_performance_targets(targets);
    let builds = [
        Client::builder().with_batch_manager(manager).build(),
        Client::builder().with_adaptive_compression(adaptive().with_cpu_usage_threshold(f64::NAN)).build(),
        Client::builder().with_auto_tuner(AutoTuner::new().with_tuning_strategies(Vec::new())).build(),
    ];
    let knobs = ["with_batch_manager", "with_adaptive_compression", "with_auto_tuner"];
    for (build, knob) in builds.into_iter().zip(knobs) {
        let error = build.unwrap_err().to_string();
        assert!(error.starts_with(knob), "{error}");
    }
}
