//! What goes wrong around processors, exporters and handlers of the program's own: they call back, never return, panic
//! where nothing should, and end spans that are not theirs.
#![cfg(feature = "testing")]

mod support;

use std::{
    cell::RefCell,
    mem,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use otlp::{
    Client, LogLevel, Span, SpanContext, SpanData,
    config::TracesExporter,
    processing::{
        BatchSpanProcessor, EndedSpan, ExportError, ProcessorStats, SimpleSpanProcessor, SpanExporter, SpanProcessor,
    },
    testing::{Receiver, Response},
};
use support::{Counting, LONG, assert_accounted, client_of, gate};

/// What `f` answers, or a failure if it hangs.
#[track_caller]
fn in_time<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || drop(done.send(f())));
    is_done.recv_timeout(LONG).expect("it neither hangs nor panics")
}

#[track_caller]
fn assert_identity(stats: ProcessorStats) {
    assert_eq!(stats.ended, stats.exported + stats.failed + stats.dropped + stats.queued, "{stats:?}");
}

/// A processor and a client that has nothing but it.
fn batching(exporter: impl SpanExporter + 'static) -> (Arc<BatchSpanProcessor>, Client) {
    let batching = Arc::new(BatchSpanProcessor::new(exporter).with_schedule_delay(Duration::MAX));
    let builder = Client::builder().with_traces_exporter(TracesExporter::None).with_log_level(LogLevel::None);
    let client = builder.with_span_processor(Arc::clone(&batching)).build().unwrap();
    (batching, client)
}

#[test]
fn times_of_any_length_are_no_fault() {
    let counting = Arc::new(Counting::default());
    let (batching, client) = batching(Arc::clone(&counting));
    let tracer = client.tracer("test");
    tracer.start("span").end();
    let flushed = Arc::clone(&batching);
    assert!(in_time(move || flushed.force_flush(Duration::MAX).is_ok()));
    tracer.start("span").end();
    let (receipt, client) = in_time(move || (client.flush(Duration::MAX), client));
    assert!(receipt.is_complete() && counting.spans() == 2, "{receipt:?}");
    tracer.start("span").end();
    assert_eq!(client.flush(Duration::ZERO).failed_processors, 1);
    let ended = Arc::clone(&batching);
    assert!(in_time(move || ended.shutdown(Duration::MAX).is_ok()));
    tracer.start("too late").end();
    assert!(in_time(move || client.shutdown(Duration::MAX)).is_complete());
    let stats = batching.stats();
    assert_eq!((stats.ended, stats.exported), (3, 3), "{stats:?}");
}

#[test]
fn a_receiver_that_does_not_answer_takes_no_time_from_a_second_one() {
    // HTTP-08, PROC-03
    let (keeper, gate) = gate();
    let stuck = Receiver::builder().respond_with(move |_| {
        gate.wait();
        Response::ok()
    });
    let (stuck, second) = (stuck.start().unwrap(), Receiver::start().unwrap());
    for is_last in [false, true] {
        let mirror = Arc::new(client_of(&second).build().unwrap());
        let client = client_of(&stuck)
            .with_log_level(LogLevel::None)
            .with_span_processor(BatchSpanProcessor::new(mirror))
            .build()
            .unwrap();
        (0..10).for_each(|_| client.tracer("test").start("span").end());
        let before = second.span_count();
        let timeout = Duration::from_secs(2);
        let receipt = if is_last { client.shutdown(timeout) } else { client.flush(timeout) };
        assert_eq!((receipt.exported, receipt.failed_processors), (0, 0), "{receipt:?}");
        assert_eq!(second.span_count() - before, 10);
        client.shutdown(Duration::ZERO);
        assert_accounted(&client);
    }
    drop(keeper);
}

/// Calls the client it serves, wherever it is called.
#[derive(Clone, Default)]
struct Calling {
    client: Arc<OnceLock<Client>>,
    calls: Arc<AtomicU64>,
    shuts_down: bool,
}

impl Calling {
    fn call(&self) -> Result<(), ExportError> {
        let Some(client) = self.client.get() else { return Ok(()) };
        // Not for ever: flushing calls it again.
        if self.calls.fetch_add(1, Ordering::SeqCst) < 20 {
            client.tracer("called").start("by a plugin").end();
            client.flush(Duration::MAX);
            client.stats();
            if self.shuts_down {
                client.shutdown(Duration::MAX);
            }
        }
        Ok(())
    }

    /// Records spans on several threads, and shuts down.
    #[track_caller]
    fn serve(self, build: impl FnOnce(Self, otlp::ClientBuilder) -> otlp::ClientBuilder) {
        let receiver = Receiver::start().unwrap();
        let client = build(self.clone(), client_of(&receiver).with_log_level(LogLevel::None)).build().unwrap();
        assert!(self.client.set(client).is_ok());
        let (served, calls) = (Arc::clone(&self.client), Arc::clone(&self.calls));
        in_time(move || {
            let client = served.get().unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..5).for_each(|_| client.tracer("test").start("span").end()));
                }
            });
            client.flush(LONG / 3);
            client.shutdown(LONG / 3);
            assert_accounted(client);
        });
        assert!(calls.load(Ordering::SeqCst) > 0);
    }
}

impl SpanProcessor for Calling {
    fn on_start(&self, _: &mut Span, _: Option<&SpanContext>) {
        let _ = self.call();
    }
    fn on_end(&self, _: &EndedSpan<'_>) {
        let _ = self.call();
    }
    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        self.call()
    }
    fn shutdown(&self, _: Duration) -> Result<(), ExportError> {
        self.call()
    }
}

impl SpanExporter for Calling {
    fn export(&self, _: &[SpanData]) -> Result<(), ExportError> {
        self.call()
    }
    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        self.call()
    }
    fn shutdown(&self, _: Duration) -> Result<(), ExportError> {
        self.call()
    }
}

#[test]
fn processors_and_exporters_that_flush_and_shut_down_the_client_hang_nobody() {
    for shuts_down in [false, true] {
        let calling = || Calling { shuts_down, ..Calling::default() };
        calling().serve(|calling, builder| builder.with_span_processor(calling));
        calling().serve(|calling, builder| builder.with_span_processor(SimpleSpanProcessor::new(calling)));
        let batching = Arc::new(Mutex::new(None));
        calling().serve(|calling, builder| {
            let processor = Arc::new(BatchSpanProcessor::new(calling).with_max_export_batch_size(1));
            *batching.lock().unwrap() = Some(Arc::clone(&processor));
            builder.with_span_processor(processor)
        });
        let stats = batching.lock().unwrap().as_ref().unwrap().stats();
        assert_identity(stats);
        assert_eq!(stats.queued, 0);
    }
}

/// Never finishes, and says so.
struct Unfinished;

impl SpanProcessor for Unfinished {
    fn on_end(&self, _: &EndedSpan<'_>) {}
    fn force_flush(&self, _: Duration) -> Result<(), ExportError> {
        Err(ExportError::failed("first line\nsecond line"))
    }
}

#[test]
fn an_error_handler_may_record_flush_and_shut_down() {
    // ERR-03, ERR-05
    let receiver = Receiver::start().unwrap();
    let (served, told) = (Arc::new(OnceLock::<Client>::new()), Arc::new(Mutex::new(Vec::new())));
    let (called, heard) = (Arc::clone(&served), Arc::clone(&told));
    let client = client_of(&receiver).with_span_processor(Unfinished).with_error_handler(move |said| {
        heard.lock().unwrap().push(said.message().to_owned());
        if let Some(client) = called.get() {
            client.tracer("handler").start("told").end();
            client.flush(Duration::MAX);
            client.shutdown(Duration::MAX);
        }
    });
    assert!(served.set(client.build().unwrap()).is_ok());
    served.get().unwrap().tracer("test").start("span").end();
    let receipt = in_time(move || {
        let client = served.get().unwrap();
        assert_eq!(client.flush(LONG).failed_processors, 1);
        client.shutdown(LONG)
    });
    assert_eq!((receipt.exported, receipt.failed_processors), (2, 1), "{receipt:?}");
    let told = told.lock().unwrap();
    assert!(told.iter().all(|line| !line.contains('\n')), "{told:?}");
    assert!(told.iter().any(|line| line.contains("1 of 1") && line.contains("first line")), "{told:?}");
}

#[test]
fn whoever_shuts_down_while_another_thread_does_is_not_told_that_processors_have_finished() {
    let (keeper, gate) = gate();
    let (arrived, has_arrived) = mpsc::channel();
    struct Held(Mutex<mpsc::Sender<()>>, support::Gate);
    impl SpanProcessor for Held {
        fn on_end(&self, _: &EndedSpan<'_>) {}
        fn shutdown(&self, _: Duration) -> Result<(), ExportError> {
            self.0.lock().unwrap().send(()).unwrap();
            self.1.wait();
            Ok(())
        }
    }
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_span_processor(Held(Mutex::new(arrived), gate)).build().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| client.shutdown(LONG));
        has_arrived.recv_timeout(LONG).unwrap();
        assert_eq!(client.shutdown(Duration::ZERO).failed_processors, 1);
        drop(keeper);
        assert!(first.join().unwrap().is_complete());
    });
    assert!(client.shutdown(Duration::ZERO).is_complete());
}

/// Ends what starts, exchanges it for something else, or keeps it.
struct Taking(AtomicUsize, Mutex<Vec<Span>>);

impl SpanProcessor for Taking {
    fn on_start(&self, span: &mut Span, _: Option<&SpanContext>) {
        let taken = mem::replace(span, Span::from_context(span.context()));
        match self.0.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => taken.end(),
            1 => self.1.lock().unwrap().push(taken),
            _ => thread::spawn(|| taken.end()).join().unwrap(),
        }
    }
    fn on_end(&self, span: &EndedSpan<'_>) {
        assert!(span.context().is_sampled());
    }
}

#[test]
fn spans_that_a_processor_takes_away_are_counted_and_told_once() {
    let receiver = Receiver::start().unwrap();
    let counting = Arc::new(Counting::default());
    let taking = Arc::new(Taking(AtomicUsize::new(0), Mutex::default()));
    let client = client_of(&receiver)
        .with_span_processor(Arc::clone(&taking))
        .with_span_processor(SimpleSpanProcessor::new(Arc::clone(&counting)))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    (0..9).for_each(|_| tracer.start("taken").end());
    assert_eq!((counting.spans(), taking.1.lock().unwrap().len()), (6, 3));
    taking.1.lock().unwrap().pop();
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!((counting.spans(), receiver.span_count()), (7, 7));
    // They outlive the client, which counts them as lost and tells nobody.
    taking.1.lock().unwrap().clear();
    assert_eq!(assert_accounted(&client).dropped.total(), 2);
    assert_eq!(counting.spans(), 7);
}

/// Ends a span of the program's while it exports.
struct Ending(Mutex<Option<Span>>);

impl SpanExporter for Ending {
    fn export(&self, _: &[SpanData]) -> Result<(), ExportError> {
        drop(self.0.lock().unwrap().take());
        Ok(())
    }
}

#[test]
fn an_exporter_that_ends_spans_of_the_program_hangs_nobody() {
    let receiver = Receiver::start().unwrap();
    for is_batching in [false, true] {
        let ending = Arc::new(Ending(Mutex::new(None)));
        let builder = client_of(&receiver).with_log_level(LogLevel::None);
        let builder = match is_batching {
            true => builder.with_span_processor(BatchSpanProcessor::new(Arc::clone(&ending))),
            false => builder.with_span_processor(SimpleSpanProcessor::new(Arc::clone(&ending))),
        };
        let client = builder.build().unwrap();
        let tracer = client.tracer("test");
        *ending.0.lock().unwrap() = Some(tracer.start("ended by the exporter"));
        let receipt = in_time(move || {
            tracer.start("span").end();
            let receipt = client.flush(LONG);
            client.shutdown(LONG);
            assert_accounted(&client);
            receipt
        });
        assert_eq!((receipt.exported, receipt.dropped_total()), (2, 0));
        // What cannot be exported by an exporter that is at it is told.
        assert_eq!(receipt.failed_processors, u32::from(!is_batching));
    }
}

/// Panics at whatever it is told, and so does the value it panics with.
struct Bombs;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("again");
    }
}

impl SpanProcessor for Bombs {
    fn on_start(&self, _: &mut Span, _: Option<&SpanContext>) {
        std::panic::panic_any(Bomb);
    }
    fn on_end(&self, _: &EndedSpan<'_>) {
        std::panic::panic_any(Bomb);
    }
}

impl SpanExporter for Bombs {
    fn export(&self, _: &[SpanData]) -> Result<(), ExportError> {
        std::panic::panic_any(Bomb);
    }
}

#[test]
fn panics_end_where_they_began_also_while_a_thread_panics_and_if_what_they_carry_panics() {
    // ERR-03
    let receiver = Receiver::start().unwrap();
    let batching = Arc::new(BatchSpanProcessor::new(Bombs));
    let client = client_of(&receiver)
        .with_log_level(LogLevel::None)
        .with_span_processor(Bombs)
        .with_span_processor(SimpleSpanProcessor::new(Bombs))
        .with_span_processor(Arc::clone(&batching))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    let panicked = thread::spawn(move || {
        tracer.start("before").end();
        let _span = tracer.start("unwound");
        panic!("of the program");
    });
    assert_eq!(panicked.join().unwrap_err().downcast_ref(), Some(&"of the program"));
    let receipt = client.flush(LONG);
    assert_eq!((receipt.exported, receipt.failed_processors), (2, 2));
    assert_eq!(batching.stats().failed, 2);
}

#[test]
fn spans_that_end_in_destructors_of_thread_locals_are_told_and_exported() {
    thread_local! {
        static BEFORE: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
        static AFTER: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
    }
    let receiver = Receiver::start().unwrap();
    let (simple, batched) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let batching = Arc::new(BatchSpanProcessor::new(Arc::clone(&batched)));
    let client = client_of(&receiver)
        .with_span_processor(SimpleSpanProcessor::new(Arc::clone(&simple)))
        .with_span_processor(Arc::clone(&batching))
        .build()
        .unwrap();
    let tracer = client.tracer("test");
    thread::spawn(move || {
        BEFORE.with(|spans| spans.borrow_mut().push(tracer.start("before")));
        AFTER.with(|spans| spans.borrow_mut().push(tracer.start("after")));
    })
    .join()
    .unwrap();
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!((simple.spans(), batched.spans(), receiver.span_count()), (2, 2, 2));
    assert_identity(batching.stats());
}

#[test]
fn every_span_is_counted_once_while_threads_end_spans_flush_shut_down_and_leave() {
    for round in 0..20 {
        let receiver = Receiver::start().unwrap();
        let batching = BatchSpanProcessor::new(Counting::default()).with_max_queue_size(16);
        let batching = Arc::new(batching.with_max_export_batch_size(1 + round % 4));
        let client = client_of(&receiver).with_log_level(LogLevel::None);
        let client = client.with_span_processor(Arc::clone(&batching)).build().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| client.tracer("test").start("span").end()));
            }
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(client.flush(Duration::from_micros(50)).rejected, 0)));
            scope.spawn(|| (0..100).for_each(|_| assert_identity(batching.stats())));
            scope.spawn(|| client.shutdown(Duration::from_millis(round as u64)));
            scope.spawn(|| batching.shutdown(Duration::from_micros(200)));
        });
        client.shutdown(LONG);
        let stats = batching.stats();
        assert_identity(stats);
        assert_eq!((stats.queued, stats.failed), (0, 0));
        assert_accounted(&client);
    }
}

#[test]
fn a_processor_sees_no_end_before_the_start() {
    struct Ends(Mutex<Vec<Duration>>);
    impl SpanProcessor for Ends {
        fn on_end(&self, span: &EndedSpan<'_>) {
            self.0.lock().unwrap().push(span.end_time().duration_since(span.start_time()).unwrap());
        }
    }
    let receiver = Receiver::start().unwrap();
    let ends = Arc::new(Ends(Mutex::default()));
    let client = client_of(&receiver).with_span_processor(Arc::clone(&ends)).build().unwrap();
    let tracer = client.tracer("test");
    tracer.start("now").end_at(UNIX_EPOCH);
    tracer.span("given").start_time(UNIX_EPOCH + LONG).start().end_at(UNIX_EPOCH);
    tracer.span("both").start_time(UNIX_EPOCH).start().end_at(UNIX_EPOCH + LONG);
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(*ends.0.lock().unwrap(), [Duration::ZERO, Duration::ZERO, LONG]);
}
