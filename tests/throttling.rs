//! Adaptive throttling: what arrives tells how much there was.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::HashMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, ClientBuilder, DropReason, DropStrategy, Snapshot,
    core::BackpressureController,
    monitoring::{MemoryMonitor, MemoryThresholds},
    testing::{Receiver, Request, Response},
};
use support::{LONG, assert_accounted, client_of, holds_within, wait_for};

/// Spans per second that leave: one worker sends 500 at a time, and waits for each answer.
const CAPACITY: f64 = 10_000.0;
const BATCH: usize = 500;
const DELAY: Duration = Duration::from_millis(50);

fn limited(builder: ClientBuilder) -> ClientBuilder {
    let batch = BatchConfig {
        max_batch_size: BATCH,
        batch_timeout: Duration::from_millis(20),
        max_queue_size: 20_000,
        ..BatchConfig::default()
    };
    builder.with_batch_config(batch).with_worker_count(2)
}

/// Records traces of two spans at ten times what can leave, for `time`.
fn overload(client: &Client, time: Duration) {
    let tracer = client.tracer("test");
    let begun = Instant::now();
    let mut made = 0;
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * 10.0 * CAPACITY / 2.0) as u64;
        for _ in made..due {
            tracer.in_span("root", |_| tracer.start("child").end());
        }
        made = made.max(due);
        // The pace of the load, not a wait.
        thread::sleep(Duration::from_millis(1));
    }
}

/// What each trace that arrived stands for, and how many of its spans did.
#[derive(Default)]
struct Arrived(Mutex<HashMap<Vec<u8>, (f64, u32)>>);

impl Arrived {
    fn add(&self, request: &Request) {
        let scopes =
            request.message.iter().flat_map(|message| &message.resource_spans).flat_map(|spans| &spans.scope_spans);
        for span in scopes.flat_map(|scope| &scope.spans) {
            let stands_for = stands_for(&span.trace_state);
            let mut traces = self.0.lock().unwrap();
            let trace = traces.entry(span.trace_id.clone()).or_insert((stands_for, 0));
            assert_eq!(trace.0, stands_for, "every span of a trace says the same");
            trace.1 += 1;
        }
    }
}

/// 2⁵⁶ / (2⁵⁶ − T), with T from `ot=th:`; 1 where there is none.
fn stands_for(trace_state: &str) -> f64 {
    let Some(digits) = trace_state.strip_prefix("ot=th:") else {
        assert_eq!(trace_state, "");
        return 1.0;
    };
    let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).unwrap();
    let values = (1_u64 << 56) as f64;
    values / (values - threshold as f64)
}

#[test]
fn under_ten_times_the_load_what_arrives_tells_how_much_there_was_and_traces_stay_whole() {
    // SMP-10, SMP-11
    static ARRIVED: Mutex<Option<Arrived>> = Mutex::new(None);
    *ARRIVED.lock().unwrap() = Some(Arrived::default());
    let note = |request: &Request| {
        if let Some(arrived) = &*ARRIVED.lock().unwrap() {
            arrived.add(request);
        }
        Response::ok()
    };
    let receiver = Receiver::builder().respond_with(note).response_delay(DELAY).start().unwrap();
    let controller = BackpressureController::new().with_queue_threshold(0.3).with_adaptive_throttling(true);
    let client = limited(client_of(&receiver)).with_backpressure_controller(controller).build().unwrap();
    overload(&client, Duration::from_secs(6));
    assert!(client.flush(LONG).is_complete());

    let stats = assert_accounted(&client);
    assert_eq!(stats.dropped.total(), 0, "nothing was lost for want of room: {stats:?}");
    assert_eq!(stats.started, stats.ended + stats.sampled_out, "{stats:?}");
    assert!(stats.sampled_out > stats.ended, "{stats:?}");
    let arrived = ARRIVED.lock().unwrap().take().unwrap().0.into_inner().unwrap();
    assert!(arrived.values().all(|(_, spans)| *spans == 2), "traces are whole");
    let estimate: f64 = arrived.values().map(|(stands_for, spans)| stands_for * f64::from(*spans)).sum();
    let error = estimate / stats.started as f64 - 1.0;
    assert!(error.abs() < 0.02, "{estimate} estimated, {} started: {:.2} % off", stats.started, error * 100.0);

    // With the load gone all traces are kept again.
    let tracer = client.tracer("test");
    wait_for("all traces to be kept", || (0..100).all(|_| tracer.start("after").is_recording()));
}

/// What happens under the same load, for a moment, with this controller.
fn counts(controller: BackpressureController) -> Snapshot {
    let receiver = Receiver::builder().response_delay(DELAY).start().unwrap();
    let client = limited(client_of(&receiver)).with_backpressure_controller(controller).build().unwrap();
    overload(&client, Duration::from_secs(1));
    client.stats()
}

#[test]
fn without_throttling_nothing_is_sampled_out_and_what_finds_no_room_is_lost() {
    let stats = counts(BackpressureController::new().with_queue_threshold(0.3));
    assert_eq!(stats.sampled_out, 0);
    assert!(stats.dropped.get(DropReason::QueueFull) > 0, "{stats:?}");
}

#[test]
fn throttling_begins_beyond_the_threshold_and_not_before() {
    let below = counts(BackpressureController::new().with_queue_threshold(0.99).with_adaptive_throttling(true));
    let beyond = counts(BackpressureController::new().with_queue_threshold(0.1).with_adaptive_throttling(true));
    assert!(below.ended > 2 * beyond.ended && beyond.sampled_out > 0, "{below:?} {beyond:?}");
}

#[test]
fn the_controller_sets_the_queue_and_the_drop_strategy() {
    let controller = BackpressureController::new()
        .with_max_queue_size(100)
        .with_drop_strategy(DropStrategy::Block(Duration::from_millis(10)));
    let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
    let client = client_of(&receiver).with_backpressure_controller(controller).build().unwrap();
    let tracer = client.tracer("test");
    let begun = Instant::now();
    (0..105).for_each(|_| tracer.start("span").end());
    assert!(begun.elapsed() >= Duration::from_millis(50), "five of them waited for room");
    assert_eq!(client.stats().dropped.get(DropReason::QueueFull), 5);
    client.shutdown(Duration::ZERO);
}

#[test]
fn memory_that_is_critical_samples_traces_down() {
    let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
    let monitor = |critical| {
        MemoryMonitor::new()
            .with_monitoring_interval(Duration::from_millis(5))
            .with_thresholds(MemoryThresholds { warning: 0.01, critical })
    };
    let is_thinned = |critical| {
        let client = client_of(&receiver)
            .with_max_memory_usage(4 << 20)
            .with_log_level(otlp::LogLevel::None)
            .with_memory_monitor(monitor(critical))
            .build()
            .unwrap();
        let tracer = client.tracer("test");
        let thinned = holds_within(Duration::from_secs(1), || {
            // Beyond the lower of the thresholds, and far below the other.
            if client.get_memory_stats().used < 3 << 20 {
                (0..100).for_each(|_| tracer.start("a span that takes some memory").end());
            }
            tracer.start("is it sampled?").end();
            client.stats().sampled_out > 0
        });
        client.shutdown(Duration::ZERO);
        thinned
    };
    assert!(is_thinned(0.1));
    assert!(!is_thinned(1.0));
}

#[test]
fn thresholds_that_make_no_sense_are_errors_that_name_the_knob() {
    for controller in [
        BackpressureController::new().with_queue_threshold(0.0),
        BackpressureController::new().with_queue_threshold(f64::NAN),
        BackpressureController::new().with_queue_threshold(1.0).with_adaptive_throttling(true),
    ] {
        let error = Client::builder().with_backpressure_controller(controller).build().unwrap_err().to_string();
        assert!(error.starts_with("with_backpressure_controller.queue_threshold"), "{error}");
    }
}
