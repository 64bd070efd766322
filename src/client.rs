//! Assembly: a builder becomes a client; a client hands out tracers and is responsible for delivery.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use once_cell::race::OnceBox;

use crate::{
    capture::{CaptureLimits, Clock, Pooling, Processors, Recorder, Scope, SpanData, Tracer, ask_about},
    config::{Compression, DropStrategy, Options, OtlpConfig, Settings},
    env::Environment,
    error::{Diagnostics, Error, ExportError, LogLevel, Subject},
    exit,
    export::{ExportReport, Exporter, Patience, SpanBuffer},
    fork,
    plugin::guarded,
    propagation,
    stats::{BatchMetrics, MemoryStats, PerformanceMetrics, Receipt, Snapshot},
    sync::{Turn, holds_any},
};

mod builder;
mod controls;
mod default;
mod ending;
mod global;
mod housekeeping;
mod scheduler;
mod span_exporter;
mod throttling;

use controls::Controls;
use housekeeping::Housekeeping;

pub use builder::ClientBuilder;
pub use default::DefaultGuard;
pub use global::{Guard, client, init, tracer};

/// Memory that is not accounted for piece by piece. By the client: from the code that is loaded with its first request
/// to what an allocator cannot reuse. By each worker: the compressor's tables, the body it writes, the buffers of a
/// connection, its stack.
const CLIENT_BYTES: usize = 3 * 512 * 1024;
const WORKER_BYTES: usize = 512 * 1024;
/// What the encoders of other compressions than gzip take beside that.
const ENCODER_BYTES: usize = 768 * 1024;
/// A body that is accounted for before what it was made of is free, which happens all the time where the oldest body
/// makes room for the next.
const BODY_BYTES: usize = 512 * 1024;

/// A handle of an exporter and everything that belongs to it. Several independent clients can coexist.
///
/// Making a client reads the environment, but starts no thread and opens no connection: both happen with the first
/// span. All methods take `&self`; the client is `Send + Sync`.
///
/// The child of a `fork` without `exec` continues with a client of its own, with the same settings, from its first span
/// on. It has no part in what its parent recorded, and its counts begin at zero.
///
/// Cloning makes another handle of the same client. Dropping the last handle closes the client, see
/// [`close`](Self::close). On Unix it is also closed when the process exits before that, for example if it is in a
/// `static`.
#[derive(Clone)]
pub struct Client(State);

#[derive(Clone)]
enum State {
    /// There is no client: stands for the process-wide one if there never was any.
    Missing,
    Disabled,
    Enabled(Arc<Owner>),
}

/// What the handles of a client share. The client is closed with the last of them.
struct Owner(Arc<Engine>);

impl Client {
    /// Returns a builder that starts from the environment; settings made on it take precedence.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Makes a client with these settings. For a setting that is `None`, the environment counts, then the default; the
    /// other sections count as they stand, see [`OtlpConfig`].
    ///
    /// # Errors
    /// [`Error::Config`] under the conditions of [`ClientBuilder::build`].
    pub fn with_config(config: OtlpConfig) -> Result<Self, Error> {
        Self::builder().with_config(config).build()
    }

    fn assemble(mut options: Options, controls: Controls, environment: Environment) -> Result<Self, Error> {
        options.sampler = controls.sampler.as_ref().map(|sampler| {
            let description = guarded(|| sampler.description().into_owned());
            description.unwrap_or_else(|| "(its description panicked)".to_owned())
        });
        options.has_processors = !controls.processors.is_empty();
        let (mut settings, warnings) = Settings::resolve(options, environment)?;
        let controls = controls.checked(&mut settings)?;
        let diagnostics = Diagnostics::new(settings.log_level, controls.error_handler.clone());
        for warning in warnings {
            diagnostics.say(LogLevel::Warn, Subject::Config, format_args!("{warning}"));
        }
        if propagation::adopt(settings.propagators) {
            diagnostics.say(LogLevel::Debug, Subject::Config, format_args!("TRACEPARENT is malformed and ignored"));
        }
        if let Some(by) = settings.disabled {
            diagnostics.say(LogLevel::Debug, Subject::Config, format_args!("nothing is recorded: {by}"));
            return Ok(Self(State::Disabled));
        }
        Clock::warm_up();
        fork::watch();
        let engine = Engine::new(settings, controls, diagnostics);
        engine.exporter.say_where_to();
        ending::remember(&engine);
        exit::at_exit(ending::end_process);
        Ok(Self(State::Enabled(Arc::new(Owner(engine)))))
    }

    fn owner(&self) -> Option<&Arc<Owner>> {
        match &self.0 {
            State::Enabled(owner) => Some(owner),
            State::Missing | State::Disabled => None,
        }
    }

    fn engine(&self) -> Option<&Arc<Engine>> {
        self.owner().map(|owner| &owner.0)
    }

    /// The receipt of a client that is disabled or missing.
    fn no_receipt(&self) -> Receipt {
        Receipt { has_client: matches!(self.0, State::Disabled), ..Receipt::default() }
    }

    /// Returns a tracer for one component. Takes a lock and may allocate: make it once and keep it.
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        let engine = self.engine().map(Engine::in_this_process);
        Tracer::bound(engine.map(|engine| &engine.recorder), scope.into())
    }

    /// Encodes and sends complete spans on the calling thread, over the client's connections, and returns the
    /// receiver's answer; a partial success is `Ok`. Spans that exceed the limit of one request are sent in several.
    ///
    /// Blocks until the answer, or until the request timeout (10 s by default) is used up for one request: first, where
    /// memory is short, until there is room to make it.
    ///
    /// # Errors
    /// [`Error::InvalidSpan`] before anything is sent, [`Error::TooLarge`] for a span that no request may hold,
    /// [`Error::NoMemory`] if `max_memory_usage` leaves no room to make the request, at once or in that time,
    /// [`Error::Refused`] or [`Error::Unreachable`] after the attempts the outcome allows, [`Error::Shutdown`] once the
    /// client is shut down, [`Error::Fault`] for a bug here. What was not accepted is then counted as dropped.
    pub fn export_spans(&self, spans: impl AsRef<[SpanData]>) -> Result<ExportReport, Error> {
        match self.engine().map(Engine::in_this_process) {
            Some(engine) => {
                let (exporter, spans) = (&engine.exporter, spans.as_ref());
                // A fault of this crate must not unwind into the program; the current spans are counted on the way.
                catch_unwind(AssertUnwindSafe(|| exporter.export_spans(spans))).unwrap_or(Err(Error::Fault))
            }
            None => Ok(ExportReport::default()),
        }
    }

    /// Returns a buffer to write complete spans into: another name of [`buffer`](Self::buffer).
    pub fn get_zero_copy_buffer(&self) -> SpanBuffer {
        self.buffer()
    }

    /// Returns a buffer to write complete spans into, as configured by
    /// [`ZeroCopyBuffer`](crate::config::ZeroCopyBuffer): a recycled one if there is one, else one in new memory. If
    /// `max_memory_usage` leaves no room for it, writing spans into the returned buffer is an error. Does not block;
    /// allocates, and touches the memory that is to be prefetched.
    pub fn buffer(&self) -> SpanBuffer {
        let engine = self.engine().map(Engine::in_this_process);
        engine.map_or_else(SpanBuffer::disabled, |engine| engine.exporter.lend_buffer())
    }

    /// Sends the spans in `buffer` as one request, without another copy of them: uncompressed from where they stand, or
    /// compressed from there. The limits of a batch do not apply, but
    /// [`max_request_bytes`](ClientBuilder::with_max_request_bytes) does: beyond it the spans are copied into several
    /// requests. An empty buffer is not sent. Returns the receiver's answer, as [`export_spans`](Self::export_spans)
    /// does.
    ///
    /// Blocks until the answer, or until the request timeout (10 s by default) is over.
    ///
    /// # Errors
    /// The errors of [`export_spans`](Self::export_spans). The spans are then counted as dropped, except for
    /// [`Error::Shutdown`] before anything was sent.
    pub fn send_buffer(&self, buffer: SpanBuffer) -> Result<ExportReport, Error> {
        match self.engine().map(Engine::in_this_process) {
            Some(engine) => {
                let exporter = &engine.exporter;
                catch_unwind(AssertUnwindSafe(|| exporter.send_buffer(buffer))).unwrap_or(Err(Error::Fault))
            }
            None => Ok(ExportReport::default()),
        }
    }

    /// Sends all spans that ended before the call, on any thread, and blocks until they are delivered, at most for
    /// `timeout` ([ForceFlush](https://opentelemetry.io/docs/specs/otel/trace/sdk/#forceflush)). Spans recorded
    /// meanwhile do not prolong it. Span [processors](crate::processing::SpanProcessor::force_flush) finish first, each
    /// within its share of the time.
    pub fn flush(&self, timeout: Duration) -> Receipt {
        self.flush_with(|_| Patience::Until(timeout))
    }

    /// Flushes within the configured exit budget.
    fn flush_patiently(&self) -> Receipt {
        self.flush_with(|exporter| Patience::WhileProgress(exporter.settings().exit_budget.clone()))
    }

    fn flush_with(&self, patience: impl FnOnce(&Exporter) -> Patience) -> Receipt {
        self.used().map_or_else(
            || self.no_receipt(),
            |engine| match holds_any() {
                true => engine.exporter.receipt_at_a_glance(),
                false => engine.flush(patience(&engine.exporter)),
            },
        )
    }

    /// Ends recording, sends all spans that ended before, and blocks until they are delivered, at most for `timeout`
    /// ([Shutdown](https://opentelemetry.io/docs/specs/otel/trace/sdk/#shutdown)). Spans that are not delivered by then
    /// are dropped and counted, or written into the spool if there is one, which takes time beyond `timeout`.
    /// Afterwards spans are no longer recorded. A second call returns the same counts; while another thread is shutting
    /// down, it waits for that, also at most for `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Receipt {
        self.used().map_or_else(|| self.no_receipt(), |engine| engine.end(Patience::Until(timeout)))
    }

    /// Shuts down with the configured exit budget. It continues while there is progress (batches are acknowledged,
    /// connections made, bytes taken), within a total (10 s by default), and gives up after a time without progress (1
    /// s by default).
    pub fn close(&self) -> Receipt {
        self.used().map_or_else(|| self.no_receipt(), Engine::close)
    }

    /// Returns the counts since the client began. Takes locks, but none that recording takes.
    pub fn stats(&self) -> Snapshot {
        self.used().map_or_else(Snapshot::default, |engine| match holds_any() {
            true => engine.exporter.snapshot_at_a_glance(),
            false => engine.exporter.snapshot(),
        })
    }

    /// Returns the measurements of the last interval: another name of [`performance`](Self::performance).
    pub fn get_performance_metrics(&self) -> PerformanceMetrics {
        self.performance()
    }

    /// Returns the measurements of the last interval of the client's
    /// [`PerformanceMonitor`](crate::monitoring::PerformanceMonitor); before the end of the first interval, those so
    /// far. Values that the monitor was not asked for are 0; without a monitor, that is everything except the load, the
    /// losses and the current settings. Takes locks, but none that recording takes.
    pub fn performance(&self) -> PerformanceMetrics {
        self.used().filter(|_| !holds_any()).map_or_else(PerformanceMetrics::default, |engine| {
            let exporter = &engine.exporter;
            let monitor = exporter.settings().performance_monitor.as_ref();
            let metrics = monitor.map_or(&[][..], |monitor| monitor.enabled_metrics());
            engine.housekeeping.performance(exporter).collecting(metrics)
        })
    }

    /// Returns how spans are batched: another name of [`batches`](Self::batches).
    pub fn get_batch_metrics(&self) -> BatchMetrics {
        self.batches()
    }

    /// Returns how spans were batched since the client began, and the current state. Takes locks, but none that
    /// recording takes.
    pub fn batches(&self) -> BatchMetrics {
        self.used()
            .filter(|_| !holds_any())
            .map_or_else(BatchMetrics::default, |engine| engine.exporter.batch_metrics())
    }

    /// Returns how much memory the client holds: another name of [`memory`](Self::memory).
    pub fn get_memory_stats(&self) -> MemoryStats {
        self.memory()
    }

    /// Returns how much memory the client holds now, and for what; all zero if it is disabled. Takes locks, but none
    /// that recording takes.
    pub fn memory(&self) -> MemoryStats {
        self.used().filter(|_| !holds_any()).map_or_else(MemoryStats::default, |engine| engine.exporter.memory_stats())
    }

    /// The engine if this process has used it; `None` in the child of a fork that has recorded nothing yet.
    fn used(&self) -> Option<&Engine> {
        self.engine()?.used()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.used().map(Engine::close);
        if self.0.recorder.is_inherited() {
            // Its locks may be held for ever, and its connections are the parent's.
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Enabled(owner) => {
                f.debug_struct("Client").field("settings", owner.0.exporter.settings()).finish_non_exhaustive()
            }
            State::Disabled => f.write_str("Client(disabled)"),
            State::Missing => f.write_str("Client(none)"),
        }
    }
}

/// The parts of one client, in one process.
struct Engine {
    recorder: Arc<Recorder>,
    exporter: Arc<Exporter>,
    controls: Controls,
    housekeeping: Housekeeping,
    /// Held by the one call that shuts down.
    closing: Turn<()>,
    /// Processors that did not finish at the shutdown.
    failed_processors: AtomicU32,
    /// The engine that takes over in the child of a fork.
    heir: OnceBox<Arc<Engine>>,
}

impl Engine {
    fn new(settings: Settings, controls: Controls, diagnostics: Diagnostics) -> Arc<Self> {
        let each = WORKER_BYTES + if settings.drop_strategy == DropStrategy::OldestFirst { BODY_BYTES } else { 0 };
        let more =
            if matches!(settings.compression, Compression::Brotli | Compression::Zstd) { ENCODER_BYTES } else { 0 };
        let apart = CLIENT_BYTES + more + settings.worker_count * (each + more);
        let apart = apart.min(settings.max_memory_usage / 4);
        let batch = &settings.batch;
        let limits = CaptureLimits {
            memory_bytes: settings.max_memory_usage - apart,
            pooling: Pooling::from(&settings),
            queue_spans: batch.max_queue_size,
            drop_strategy: settings.drop_strategy,
            ready_spans: batch.ready_spans(),
            workers: settings.worker_count,
            has_lanes: !batch.load_balancing,
        };
        let recorder = Recorder::recording(limits, controls.recording(&settings));
        ask_about(&recorder);
        let exporter = Exporter::new(settings, Arc::clone(&recorder), diagnostics);
        Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            recorder.when_inherited(move || Some(Arc::clone(&this.upgrade()?.in_this_process().recorder)));
            let housekeeping = Housekeeping::new(&exporter, &controls);
            Self {
                recorder,
                exporter,
                controls,
                housekeeping,
                closing: Turn::new(()),
                failed_processors: AtomicU32::new(0),
                heir: OnceBox::new(),
            }
        })
    }

    /// The engine of this process; made if this is the child of a fork and has none yet.
    fn in_this_process(self: &Arc<Self>) -> &Arc<Self> {
        let mut engine = self;
        while engine.recorder.is_inherited() {
            engine = engine.heir.get_or_init(|| {
                let settings = engine.exporter.settings().clone();
                let diagnostics = engine.exporter.diagnostics().anew();
                // Threads and locks of processors are the parent's.
                let controls = Controls { processors: Vec::new(), ..engine.controls.clone() };
                Box::new(Self::new(settings, controls, diagnostics))
            });
        }
        engine
    }

    /// The engine that this process has used; `None` in the child of a fork that has recorded nothing yet.
    fn used(&self) -> Option<&Self> {
        let mut engine = self;
        while engine.recorder.is_inherited() {
            engine = engine.heir.get()?;
        }
        Some(engine)
    }

    /// Shuts down within the exit budget.
    fn close(&self) -> Receipt {
        self.end(Patience::WhileProgress(self.exporter.settings().exit_budget.clone()))
    }

    fn flush(&self, patience: Patience) -> Receipt {
        let begun = Instant::now();
        let failed_processors = self.finish_processors(&patience, Processors::force_flush);
        let receipt = self.exporter.flush(patience.after(begun.elapsed()));
        Receipt { failed_processors, ..receipt }
    }

    fn end(&self, patience: Patience) -> Receipt {
        // The holder of that lock is shutting down, within its own time limit. It has processors end and the error
        // handler called, which may call back here.
        if holds_any() {
            return self.exporter.receipt_at_a_glance();
        }
        let Some(_closing) = self.closing.take_within(patience.longest()) else {
            let failed_processors = self.recorder.processors.as_ref().map_or(0, |processors| processors.count());
            return Receipt { failed_processors, ..self.exporter.receipt() };
        };
        if self.exporter.is_stopped() {
            let failed_processors = self.failed_processors.load(Ordering::Relaxed);
            return Receipt { failed_processors, ..self.exporter.receipt() };
        }
        let begun = Instant::now();
        self.recorder.close();
        let failed_processors = self.finish_processors(&patience, Processors::shutdown);
        self.failed_processors.store(failed_processors, Ordering::Relaxed);
        let receipt = self.exporter.shutdown(patience.after(begun.elapsed()));
        self.housekeeping.stop();
        ending::closed(self.exporter.diagnostics());
        Receipt { failed_processors, ..receipt }
    }

    /// Has processors finish, reports which did not, and returns how many. Runs before the client's own flush, which
    /// would take all the time if its receiver does not answer; processors that are done at once cost it none.
    fn finish_processors(
        &self,
        patience: &Patience,
        finish: impl FnOnce(&Processors, Instant) -> Vec<(u32, ExportError)>,
    ) -> u32 {
        let Some(processors) = &self.recorder.processors else { return 0 };
        let count = processors.count();
        let failures = finish(processors, patience.deadline_of_others(Instant::now(), count));
        for (number, failure) in &failures {
            let failure = failure.to_string();
            let why = failure.lines().next().unwrap_or_default();
            let line = format_args!("span processor {number} of {count} did not finish: {why}");
            self.exporter.diagnostics().say(LogLevel::Error, Subject::Shutdown, line);
        }
        failures.len() as u32
    }
}
