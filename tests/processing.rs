//! Span processors and exporters of the program's own.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant, SystemTime},
};

use otlp::{
    Client, DropReason, KeyValue, SpanContext, SpanData, SpanId, SpanKind, SpanLimits, Status, TraceId, TraceState,
    Value,
    processing::{BatchSpanProcessor, EndedSpan, ExportError, SimpleSpanProcessor, SpanExporter, SpanProcessor},
    propagation::{Baggage, Context},
    sampling::{AlwaysOff, AlwaysRecord, ParentBased},
    testing::{ReceivedSpan, Receiver},
};
use support::{LONG, assert_accounted, client_of, gate};

/// A time without an end, as far as a test goes.
const NEVER: Duration = Duration::from_secs(3600);

type Log = Arc<Mutex<Vec<(&'static str, &'static str, String, ThreadId)>>>;

/// Writes down what it is told.
struct Logging(&'static str, Log);

impl Logging {
    fn log(&self, what: &'static str, name: &str) {
        self.1.lock().unwrap().push((self.0, what, name.to_owned(), thread::current().id()));
    }
}

impl SpanProcessor for Logging {
    fn on_start(&self, _: &mut otlp::Span, parent: Option<&SpanContext>) {
        self.log("start", if parent.is_some() { "child" } else { "root" });
    }

    fn on_end(&self, span: &EndedSpan<'_>) {
        self.log("end", span.name());
    }

    fn shutdown(&self, _: Duration) -> Result<(), ExportError> {
        self.log("shutdown", "");
        Ok(())
    }
}

#[test]
fn processors_are_told_in_their_order_on_the_thread_of_the_span() {
    // PROC-01, PROC-08, TPR-04, TPR-05
    let log = Log::default();
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver)
        .with_span_processor(Logging("a", Arc::clone(&log)))
        .with_span_processor(Logging("b", Arc::clone(&log)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    let other = thread::scope(|scope| {
        let spans = scope.spawn(|| {
            tracer.in_span("outer", |_| tracer.start("inner").end());
            thread::current().id()
        });
        spans.join().unwrap()
    });
    assert!(client.shutdown(LONG).is_complete());
    client.shutdown(LONG);
    tracer.start("too late").end();
    let log = log.lock().unwrap();
    let told: Vec<_> = log.iter().map(|(who, what, name, _)| format!("{who} {what} {name}")).collect();
    #[rustfmt::skip]
    assert_eq!(told, [
        "a start root", "b start root", "a start child", "b start child", "a end inner", "b end inner", "a end outer",
        "b end outer", "a shutdown ", "b shutdown ",
    ]);
    assert!(log[..8].iter().all(|(.., thread)| *thread == other));
    assert_eq!(receiver.span_count(), 2);
}

/// Changes what starts, and keeps what ends.
#[derive(Default)]
struct Keeping {
    ended: Mutex<Vec<(SpanData, Vec<KeyValue<'static>>)>>,
    parents: Mutex<Vec<Option<SpanContext>>>,
}

impl SpanProcessor for Keeping {
    fn on_start(&self, span: &mut otlp::Span, parent: Option<&SpanContext>) {
        assert!(span.is_recording());
        let tenant = Context::current().baggage().get("tenant").unwrap_or("none").to_owned();
        span.set_attribute("tenant", tenant).set_attribute("given", 2);
        self.parents.lock().unwrap().push(parent.cloned());
    }

    fn on_end(&self, span: &EndedSpan<'_>) {
        assert!(span.end_time() >= span.start_time());
        self.ended.lock().unwrap().push((span.to_data(), span.resource().to_vec()));
    }
}

fn remote_parent() -> SpanContext {
    let state = TraceState::parse("a=1,b=2").unwrap();
    SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), 3, true).with_trace_state(state)
}

/// One span with everything a span can have.
fn record_everything(client: &Client) -> SpanContext {
    let scope = otlp::Scope::new("scope").with_version("1.2").with_schema_url("https://example.com/1");
    let tracer = client.tracer(scope.with_attribute(KeyValue::new("strict", true)));
    let parent = remote_parent();
    let _baggage = Baggage::default().insert("tenant", "blue").enter();
    let mut span = tracer.span("before").parent(&parent).kind(SpanKind::Consumer).attribute("given", 1).start();
    span.set_attribute("text", "日本語").set_attribute("float", 0.5).set_attribute("none", Value::Empty);
    span.set_attribute("list", vec![1, 2]).set_attribute("map", Value::Map(vec![KeyValue::new("k", &b"\0"[..])]));
    span.add_event("first", [KeyValue::new("k", 1)]).add_event_at("second", SystemTime::UNIX_EPOCH, []);
    span.add_link(&parent, [KeyValue::new("k", false)]);
    for at in 0..5 {
        span.add_event("too many", [KeyValue::new("at", at)]);
    }
    span.set_status(Status::error("because")).update_name("after");
    let context = span.context();
    span.end();
    context
}

fn only(receiver: &Receiver) -> ReceivedSpan {
    let mut spans = receiver.spans();
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

#[test]
fn a_processor_changes_what_starts_and_reads_every_field_of_what_has_ended() {
    // PROC-02
    let (receiver, second) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let keeping = Arc::new(Keeping::default());
    let limits = SpanLimits { event_count_limit: 3, ..SpanLimits::default() };
    let builder = client_of(&receiver).with_span_limits(limits).with_resource_attribute(KeyValue::new("k", "v"));
    let client = builder.with_span_processor(Arc::clone(&keeping)).build().unwrap();
    let context = record_everything(&client);
    assert!(client.shutdown(LONG).is_complete());
    let (data, resource) = keeping.ended.lock().unwrap().remove(0);
    assert_eq!((&data.context, &data.parent), (&context, &Some(remote_parent())));
    assert_eq!(*keeping.parents.lock().unwrap(), [Some(remote_parent())]);
    assert_eq!((data.name.as_ref(), data.kind, &data.status), ("after", SpanKind::Consumer, &Status::error("because")));
    assert_eq!((data.dropped_attributes, data.dropped_events, data.dropped_links), (0, 4, 0));
    assert!(resource.contains(&KeyValue::new("k", "v")), "{resource:?}");
    let arrived = only(&receiver);
    let tenant = arrived.span.attributes.iter().find(|attribute| attribute.key == "tenant").unwrap();
    assert!(format!("{tenant:?}").contains("blue"), "{tenant:?}");
    // What was read, written once more, is what was sent.
    let again = client_of(&second).build().unwrap();
    assert_eq!(again.export_spans([data]).unwrap().accepted, 1);
    let mut again = only(&second);
    again.span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
    let mut arrived = arrived;
    arrived.span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!((again.span, again.scope), (arrived.span, arrived.scope));
}

/// Counts the spans it is given, and how many threads were in it at once.
#[derive(Default)]
struct Counting {
    batches: Mutex<Vec<usize>>,
    names: Mutex<HashSet<String>>,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    shutdowns: AtomicUsize,
    flushes: AtomicUsize,
}

impl Counting {
    fn spans(&self) -> usize {
        self.batches.lock().unwrap().iter().sum()
    }
}

impl SpanExporter for Counting {
    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_inside.fetch_max(inside, Ordering::SeqCst);
        self.batches.lock().unwrap().push(batch.len());
        self.names.lock().unwrap().extend(batch.iter().map(|span| span.name.to_string()));
        thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn shutdown(&self, _: Duration) -> Result<(), ExportError> {
        self.shutdowns.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn spans_that_are_recorded_but_not_sampled_reach_processors_and_no_exporter() {
    // SMP-02, SMP-09
    let receiver = Receiver::start().unwrap();
    let (log, counting) = (Log::default(), Arc::new(Counting::default()));
    let client = client_of(&receiver)
        .with_sampler(AlwaysRecord::new(ParentBased::new(AlwaysOff)))
        .with_span_processor(Logging("a", Arc::clone(&log)))
        .with_span_processor(SimpleSpanProcessor::new(Arc::clone(&counting)))
        .with_span_processor(BatchSpanProcessor::new(Arc::clone(&counting)))
        .build()
        .unwrap();
    client.tracer("test").start("recorded").end();
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(log.lock().unwrap().iter().filter(|(_, what, ..)| *what == "end").count(), 1);
    assert_eq!((counting.spans(), receiver.span_count()), (0, 0));
    assert_accounted(&client);
}

#[test]
fn an_exporter_is_never_called_by_two_threads_at_once_and_gets_each_span_once() {
    // PROC-04, EXP-04, PROC-06
    for is_batching in [true, false] {
        let (receiver, counting) = (Receiver::start().unwrap(), Arc::new(Counting::default()));
        let builder = client_of(&receiver);
        let builder = match is_batching {
            true => builder.with_span_processor(
                BatchSpanProcessor::new(Arc::clone(&counting))
                    .with_max_queue_size(100_000)
                    .with_max_export_batch_size(7),
            ),
            false => builder.with_span_processor(SimpleSpanProcessor::new(Arc::clone(&counting))),
        };
        let client = builder.build().unwrap();
        thread::scope(|scope| {
            for thread in 0..16 {
                let client = &client;
                scope.spawn(move || {
                    let tracer = client.tracer("test");
                    for number in 0..100 {
                        tracer.start(&format!("{thread} {number}")).end();
                        if number % 20 == 0 {
                            assert!(client.flush(LONG).is_complete());
                        }
                    }
                });
            }
        });
        let ended = thread::scope(|scope| {
            let ending: Vec<_> = (0..8).map(|_| scope.spawn(|| client.shutdown(LONG))).collect();
            ending.into_iter().all(|ending| ending.join().unwrap().is_complete())
        });
        assert!(ended);
        assert_eq!((counting.most_inside.load(Ordering::SeqCst), counting.spans()), (1, 1600));
        assert_eq!(counting.names.lock().unwrap().len(), 1600);
        assert_eq!(counting.shutdowns.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_batch_leaves_when_it_is_full_when_its_time_has_come_and_when_somebody_flushes() {
    // PROC-05
    let receiver = Receiver::start().unwrap();
    let (patient, hasty) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let client = client_of(&receiver)
        .with_span_processor(
            BatchSpanProcessor::new(Arc::clone(&patient)).with_schedule_delay(NEVER).with_max_export_batch_size(10),
        )
        .with_span_processor(BatchSpanProcessor::new(Arc::clone(&hasty)).with_schedule_delay(Duration::from_millis(1)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    (0..19).for_each(|_| tracer.start("span").end());
    support::wait_for("the full batch", || *patient.batches.lock().unwrap() == [10]);
    support::wait_for("those whose time has come", || hasty.spans() == 19);
    assert!(client.flush(LONG).is_complete());
    assert_eq!(*patient.batches.lock().unwrap(), [10, 9]);
    assert_eq!(patient.flushes.load(Ordering::SeqCst), 1);
}

/// Holds the first batch for as long as it is told.
struct Held(Mutex<Option<(mpsc::Sender<()>, support::Gate)>>);

impl SpanExporter for Held {
    fn export(&self, _: &[SpanData]) -> Result<(), ExportError> {
        let held = self.0.lock().unwrap().take();
        if let Some((arrived, gate)) = held {
            arrived.send(()).unwrap();
            gate.wait();
        }
        Ok(())
    }
}

#[test]
fn an_exporter_that_does_not_return_holds_nobody_beyond_the_timeout_and_every_span_is_counted() {
    // PROC-03, PROC-07, PROC-08, TPR-06, EXP-03
    let receiver = Receiver::start().unwrap();
    let (keeper, gate) = gate();
    let (arrived, has_arrived) = mpsc::channel();
    let exporter = Held(Mutex::new(Some((arrived, gate))));
    let batching = Arc::new(BatchSpanProcessor::new(exporter).with_max_queue_size(20).with_max_export_batch_size(5));
    let client = client_of(&receiver).with_span_processor(Arc::clone(&batching)).build().unwrap();
    let tracer = client.tracer("test");
    (0..5).for_each(|_| tracer.start("held").end());
    has_arrived.recv_timeout(LONG).unwrap();
    (0..30).for_each(|_| tracer.start("behind").end());
    let stats = batching.stats();
    assert_eq!((stats.ended, stats.queued, stats.dropped), (35, 20, 15));
    let timeout = Duration::from_millis(500);
    let begun = Instant::now();
    let receipt = client.flush(timeout);
    assert_eq!((receipt.exported, receipt.failed_processors, receipt.is_complete()), (35, 1, false));
    let receipt = client.shutdown(timeout);
    assert_eq!((receipt.failed_processors, receipt.dropped_total(), receipt.is_complete()), (1, 0, false));
    assert_eq!(client.shutdown(timeout).failed_processors, 1);
    assert!(begun.elapsed() < 10 * timeout, "{:?}", begun.elapsed());
    let stats = batching.stats();
    assert_eq!((stats.ended, stats.queued, stats.dropped, stats.exported), (35, 0, 35, 0));
    drop(keeper);
}

/// Takes nothing.
struct Failing(AtomicUsize);

impl SpanExporter for Failing {
    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError> {
        self.0.fetch_add(batch.len(), Ordering::SeqCst);
        Err(ExportError::failed("the disk is full"))
    }
}

#[test]
fn a_batch_that_fails_is_not_exported_again_and_the_failure_is_told() {
    // PROC-09, EXP-01, EXP-03, ERR-06
    let receiver = Receiver::start().unwrap();
    let failing = Arc::new(Failing(AtomicUsize::new(0)));
    let batching = Arc::new(BatchSpanProcessor::new(Arc::clone(&failing)));
    let simple = SimpleSpanProcessor::new(Arc::clone(&failing));
    let told = Arc::new(Mutex::new(Vec::new()));
    let client = client_of(&receiver)
        .with_span_processor(Arc::clone(&batching))
        .with_span_processor(simple)
        .with_error_handler({
            let told = Arc::clone(&told);
            move |said| told.lock().unwrap().push(said.message().to_owned())
        })
        .build()
        .unwrap();
    (0..10).for_each(|_| client.tracer("test").start("span").end());
    let receipt = client.flush(LONG);
    assert_eq!((receipt.failed_processors, receipt.exported), (2, 10));
    assert!(client.flush(LONG).is_complete(), "a failure is told once");
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(failing.0.load(Ordering::SeqCst), 20);
    let stats = batching.stats();
    assert_eq!((stats.ended, stats.failed, stats.queued), (10, 10, 0));
    assert_eq!(told.lock().unwrap().iter().filter(|line| line.contains("the disk is full")).count(), 2);
}

struct Panicking;

impl SpanProcessor for Panicking {
    fn on_start(&self, _: &mut otlp::Span, _: Option<&SpanContext>) {
        panic!("at the start");
    }

    fn on_end(&self, _: &EndedSpan<'_>) {
        panic!("at the end");
    }

    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        panic!("at the flush");
    }
}

impl SpanExporter for Panicking {
    fn export(&self, _: &[SpanData]) -> Result<(), ExportError> {
        panic!("at the export");
    }
}

#[test]
fn what_panics_in_a_processor_or_an_exporter_ends_there() {
    // ERR-03
    let receiver = Receiver::start().unwrap();
    let (counting, batching) = (Arc::new(Counting::default()), Arc::new(BatchSpanProcessor::new(Panicking)));
    let client = client_of(&receiver)
        .with_span_processor(Panicking)
        .with_span_processor(SimpleSpanProcessor::new(Panicking))
        .with_span_processor(Arc::clone(&batching))
        .with_span_processor(SimpleSpanProcessor::new(Arc::clone(&counting)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    for _ in 0..2 {
        tracer.start("span").end();
        let receipt = client.flush(LONG);
        assert_eq!((receipt.failed_processors, receipt.dropped_total()), (3, 0));
    }
    client.shutdown(LONG);
    assert_eq!((receiver.span_count(), counting.spans(), batching.stats().failed), (2, 2, 2));
}

/// Records spans itself, through the client that it serves.
struct Recursive(Mutex<Option<otlp::Tracer>>, AtomicBool);

impl SpanProcessor for Recursive {
    fn on_end(&self, _: &EndedSpan<'_>) {
        assert!(!self.1.swap(true, Ordering::SeqCst), "told of its own span");
        let tracer = self.0.lock().unwrap().clone();
        tracer.unwrap().start("by the processor").end();
        self.1.store(false, Ordering::SeqCst);
    }
}

#[test]
fn spans_of_a_processor_are_exported_and_no_processor_is_told_of_them() {
    let receiver = Receiver::start().unwrap();
    let recursive = Arc::new(Recursive(Mutex::new(None), AtomicBool::new(false)));
    let client = client_of(&receiver).with_span_processor(Arc::clone(&recursive)).build().unwrap();
    let tracer = client.tracer("test");
    *recursive.0.lock().unwrap() = Some(tracer.clone());
    (0..3).for_each(|_| tracer.start("by the program").end());
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(receiver.span_count(), 6);
    recursive.0.lock().unwrap().take();
}

#[test]
fn a_second_receiver_has_a_queue_and_an_outcome_of_its_own() {
    // HTTP-08, TPR-03
    let (first, second) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let mirror = Arc::new(client_of(&second).build().unwrap());
    let dead = Client::builder().with_endpoint("http://127.0.0.1:1").with_request_timeout(NEVER).build().unwrap();
    let silent = Arc::new(BatchSpanProcessor::new(dead));
    let client = client_of(&first)
        .with_span_processor(Arc::clone(&silent))
        .with_span_processor(BatchSpanProcessor::new(Arc::clone(&mirror)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    (0..1_000).for_each(|_| tracer.start("span").end());
    assert!(first.wait_for_spans(1_000, LONG) && second.wait_for_spans(512, LONG));
    let begun = Instant::now();
    let receipt = client.shutdown(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((receipt.exported, receipt.dropped.get(DropReason::Shutdown)), (1_000, 0));
    assert_eq!((receipt.failed_processors, second.span_count()), (1, 1_000));
    let stats = silent.stats();
    assert_eq!(stats.ended, stats.exported + stats.failed + stats.dropped);
    assert_eq!(stats.exported, 0);
}

#[test]
fn threads_that_end_spans_never_wait_for_an_exporter() {
    // SPAN-08
    let receiver = Receiver::start().unwrap();
    let (keeper, gate) = gate();
    let (arrived, has_arrived) = mpsc::channel();
    let exporter = Held(Mutex::new(Some((arrived, gate))));
    let batching = BatchSpanProcessor::new(exporter).with_max_export_batch_size(1);
    let client = client_of(&receiver).with_span_processor(batching).build().unwrap();
    let tracer = client.tracer("test");
    tracer.start("held").end();
    has_arrived.recv_timeout(LONG).unwrap();
    // While the exporter is held, all of them come back.
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                (0..1_000).for_each(|_| tracer.start("span").end());
            });
        }
    });
    drop(keeper);
    assert_eq!(assert_accounted(&client).ended, 4_001);
}
