//! How many connections there may be, where that cannot be seen from outside.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    Exporter, Patience,
    outcome::{Failure, Outcome},
    request::Request,
    retry::Verdict,
    sink::{Counting, Sink},
};
use crate::{
    capture::{CaptureLimits, Recorder, Tracer},
    config::{BatchConfig, Compression, ConnectionPoolConfig, ExitBudget, Options, RetryConfig, Settings},
    error::{Diagnostics, LogLevel},
    testing::{Receiver, Response, generate_test_spans},
};

const LONG: Duration = Duration::from_secs(30);

/// An exporter with four workers at most, three connections and one attempt for each batch.
fn exporter(receiver: &Receiver) -> Arc<Exporter> {
    let mut options = Options {
        endpoint: Some(receiver.endpoint()),
        worker_count: Some(4),
        compression: Some(Compression::None),
        retry: Some(RetryConfig { max_attempts: 1, ..RetryConfig::default() }),
        ..Options::default()
    };
    options.set_connection_pool(ConnectionPoolConfig { max_connections: 3, ..ConnectionPoolConfig::default() });
    let (settings, _) = Settings::resolve(options, Default::default()).unwrap();
    let recorder = Recorder::new(CaptureLimits { memory_bytes: 1 << 20, workers: 4, ..CaptureLimits::default() });
    Exporter::new(settings, recorder, Diagnostics::new(LogLevel::None, None))
}

/// The most requests that the receiver sees at once of so many threads.
fn peak(exporter: &Exporter, receiver: &Receiver, threads: usize) -> u64 {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| exporter.export_spans(&generate_test_spans(1)).unwrap());
        }
    });
    receiver.connection_counts().peak_requests
}

#[test]
fn the_number_of_connections_can_be_changed_within_what_is_configured() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(50)).start().unwrap();
    let exporter = exporter(&receiver);
    exporter.set_max_connections(0);
    assert_eq!(peak(&exporter, &receiver, 3), 1);
    exporter.set_max_connections(2);
    assert_eq!(peak(&exporter, &receiver, 6), 2);
    exporter.set_max_connections(usize::MAX);
    assert_eq!(peak(&exporter, &receiver, 9), 3);
    // Those that are too many go when they have served.
    exporter.set_max_connections(1);
    peak(&exporter, &receiver, 1);
    assert!(exporter.snapshot().idle_connections <= 1);
}

#[test]
fn as_many_workers_send_at_once_as_there_may_be_connections() {
    // PROC-04, HTTP-05
    let receiver = Receiver::start().unwrap();
    let exporter = exporter(&receiver);
    let senders = |most: usize| {
        exporter.set_max_connections(most);
        let mut outbox = exporter.outbox.lock();
        (0..6).for_each(|id| {
            assert!(outbox.put(Request::new(id, 1, Vec::new())).is_ok());
        });
        let taken = std::iter::from_fn(|| outbox.take(Instant::now(), true)).count();
        (0..taken).for_each(|_| outbox.sent());
        outbox.clear();
        taken
    };
    assert_eq!([senders(1), senders(2), senders(9)], [1, 2, 3]);
}

#[test]
fn who_has_to_be_back_before_a_connection_is_free_has_used_no_attempt_up() {
    let receiver = Receiver::builder().respond_with(|_| Response::ok()).start().unwrap();
    let exporter = exporter(&receiver);
    exporter.set_max_connections(1);
    let permit = exporter.traces.sink.permit(Instant::now()).unwrap();
    let mut request = Request::new(0, 1, Vec::new());
    request.expires = Some(Instant::now() + Duration::from_millis(20));
    let (verdict, outcome) = exporter.attempt(&mut request, &exporter.traces);
    assert!(
        matches!(&outcome, Outcome::Failed { failure: Failure::Timeout, message, .. } if message.contains("in use"))
    );
    assert_eq!((verdict, request.is_retry()), (Verdict::Wait(Duration::ZERO), false));
    drop(permit);
    assert!(exporter.traces.sink.permit(Instant::now() + LONG).is_ok());
    exporter.attempt(&mut request, &exporter.traces);
    assert!(request.is_retry());
    assert_eq!(receiver.totals().requests, 1);
}

#[test]
fn a_sink_that_only_counts_is_enough_to_settle_spans() {
    let recorder = Recorder::new(CaptureLimits { memory_bytes: 1 << 20, workers: 1, ..CaptureLimits::default() });
    let (settings, _) = Settings::resolve(Options::default(), Default::default()).unwrap();
    let diagnostics = Diagnostics::new(LogLevel::None, None);
    let sink = Sink::Counting(Counting::default());
    let exporter = Exporter::with_sink(settings, Arc::clone(&recorder), diagnostics, sink);
    let tracer = Tracer::bound(Some(&recorder), "counted".into());
    (0..5).for_each(|_| tracer.start("span").end());
    assert!(exporter.flush(Patience::Until(LONG)).is_complete());
    let Sink::Counting(counting) = &exporter.traces.sink else { unreachable!("made above") };
    assert_eq!((counting.spans.load(Ordering::Relaxed), counting.requests.load(Ordering::Relaxed)), (5, 1));
    let counted = exporter.snapshot();
    assert_eq!((counted.exported, counted.queued, counted.requests), (5, 0, 1));
    exporter.shutdown(Patience::Until(LONG));
}

#[test]
fn without_any_thread_the_end_goes_on_for_as_long_as_it_makes_progress() {
    // PROC-07
    let receiver = Receiver::builder().response_delay(Duration::from_millis(60)).start().unwrap();
    let batch = BatchConfig { max_batch_size: 10, ..BatchConfig::default() };
    let options = Options { endpoint: Some(receiver.endpoint()), batch: Some(batch), ..Options::default() };
    let (settings, _) = Settings::resolve(options, Default::default()).unwrap();
    let recorder = Recorder::new(CaptureLimits { memory_bytes: 1 << 20, workers: 0, ..CaptureLimits::default() });
    let exporter = Exporter::new(settings, Arc::clone(&recorder), Diagnostics::new(LogLevel::None, None));
    let tracer = Tracer::bound(Some(&recorder), "test".into());
    (0..80).for_each(|_| tracer.start("span").end());
    let budget = ExitBudget { stall: Duration::from_millis(300), total: LONG };
    let receipt = exporter.shutdown(Patience::WhileProgress(budget));
    assert_eq!((receipt.exported, receipt.pending, receiver.span_count()), (80, 0, 80));
}
