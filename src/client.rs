//! Assembly: a builder becomes a client, a client hands out tracers and answers for delivery.

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

/// What is held and not accounted for piece by piece: by the client, from the code that is loaded with its first
/// request to what an allocator cannot use again, and by each worker, for the compressor's tables, the body it
/// writes, the buffers of a connection, its stack.
const CLIENT_BYTES: usize = 3 * 512 * 1024;
const WORKER_BYTES: usize = 512 * 1024;
/// What the encoders of other compressions than gzip take beside that.
const ENCODER_BYTES: usize = 768 * 1024;
/// A body that is accounted for before what it was made of is free, which happens all the time where the oldest body
/// makes room for the next.
const BODY_BYTES: usize = 512 * 1024;

/// A handle of an exporter and everything that belongs to it. Independent clients can coexist.
///
/// Making one reads the environment, starts no thread and opens no connection: both happen with the first
/// span. All methods take `&self`; the client is `Send + Sync`.
///
/// The child of a `fork` without `exec` continues with a client of its own, with the same settings, from the first
/// span it records: it has no part in what its parent recorded, and its counts begin at zero.
///
/// Cloning it makes another handle of the same client. Dropping the last handle closes it, see [`close`](Self::close);
/// on Unix it is closed too when the process exits before that, as one in a `static` is.
#[derive(Clone)]
pub struct Client(State);

#[derive(Clone)]
enum State {
    /// There is no client: what stands for the process-wide one where there never was any.
    Missing,
    Disabled,
    Enabled(Arc<Owner>),
}

/// What the handles of a client share: the client is closed with the last of them.
struct Owner(Arc<Engine>);

impl Client {
    /// A builder that starts from the environment; what is set on it wins.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client with these settings; what is `None` in them comes from the environment, then from the default, and the
    /// other sections count as they stand, see [`OtlpConfig`].
    ///
    /// # Errors
    /// [`Error::Config`], like [`ClientBuilder::build`].
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

    /// The receipt of a client that records nothing, or is none.
    fn no_receipt(&self) -> Receipt {
        Receipt { has_client: matches!(self.0, State::Disabled), ..Receipt::default() }
    }

    /// A tracer for one component. Takes a lock and may allocate: make it once and keep it.
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        let engine = self.engine().map(Engine::in_this_process);
        Tracer::bound(engine.map(|engine| &engine.recorder), scope.into())
    }

    /// Encodes and sends complete spans on the calling thread, over the client's connections, and answers
    /// what the receiver said to them; a partial success is `Ok`. More spans than one request may hold become
    /// several requests.
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
                // A fault of ours must not unwind into the program; the spans at hand are counted on the way.
                catch_unwind(AssertUnwindSafe(|| exporter.export_spans(spans))).unwrap_or(Err(Error::Fault))
            }
            None => Ok(ExportReport::default()),
        }
    }

    /// A buffer to write complete spans into: the guide's name of [`buffer`](Self::buffer).
    pub fn get_zero_copy_buffer(&self) -> SpanBuffer {
        self.buffer()
    }

    /// A buffer to write complete spans into, as [`ZeroCopyBuffer`](crate::config::ZeroCopyBuffer) says: one that was
    /// used before if there is one, else new memory of the system. Where `max_memory_usage` leaves no room for one,
    /// writing spans into what is answered is an error. Does not block; allocates, and touches the memory that is to be
    /// prefetched.
    pub fn buffer(&self) -> SpanBuffer {
        let engine = self.engine().map(Engine::in_this_process);
        engine.map_or_else(SpanBuffer::disabled, |engine| engine.exporter.lend_buffer())
    }

    /// Sends the spans in `buffer` as one request, without another copy of them: as they stand there, or compressed
    /// from there. Otherwise as [`export_spans`](Self::export_spans); the limits of a batch do not apply, but
    /// [`max_request_bytes`](ClientBuilder::with_max_request_bytes) does, beyond which the spans are copied into
    /// several requests. An empty buffer is sent nowhere.
    ///
    /// Blocks until the answer, or until the request timeout (10 s by default) is used up.
    ///
    /// # Errors
    /// Those of [`export_spans`](Self::export_spans). The spans are then counted as dropped, but for [`Error::Shutdown`]
    /// before anything was sent.
    pub fn send_buffer(&self, buffer: SpanBuffer) -> Result<ExportReport, Error> {
        match self.engine().map(Engine::in_this_process) {
            Some(engine) => {
                let exporter = &engine.exporter;
                catch_unwind(AssertUnwindSafe(|| exporter.send_buffer(buffer))).unwrap_or(Err(Error::Fault))
            }
            None => Ok(ExportReport::default()),
        }
    }

    /// Sends what was ended before the call, on any thread, and waits for it, at most for `timeout`
    /// ([ForceFlush](https://opentelemetry.io/docs/specs/otel/trace/sdk/#forceflush)). Spans that are recorded
    /// meanwhile do not prolong it. Span [processors](crate::processing::SpanProcessor::force_flush) finish first, each
    /// within its share of the time.
    pub fn flush(&self, timeout: Duration) -> Receipt {
        self.flush_with(|_| Patience::Until(timeout))
    }

    /// Flushes within the exit budget.
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

    /// Ends recording, sends what was ended before, and waits for it, at most for `timeout`; what has not
    /// arrived by then is dropped and counted as such, or written into the spool if there is one, which comes on top of
    /// `timeout`
    /// ([Shutdown](https://opentelemetry.io/docs/specs/otel/trace/sdk/#shutdown)). Afterwards spans are no
    /// longer recorded. A second call answers the same counts; while another thread is shutting down it waits
    /// for that, at most for `timeout` too.
    pub fn shutdown(&self, timeout: Duration) -> Receipt {
        self.used().map_or_else(|| self.no_receipt(), |engine| engine.end(Patience::Until(timeout)))
    }

    /// Shuts down with the configured exit budget: for as long as it goes forward (batches are acknowledged,
    /// connections made, bytes taken), within a total (10 s by default), giving up after a time without progress (1 s
    /// by default).
    pub fn close(&self) -> Receipt {
        self.used().map_or_else(|| self.no_receipt(), Engine::close)
    }

    /// What was counted since the client began. Takes locks, but none that recording takes.
    pub fn stats(&self) -> Snapshot {
        self.used().map_or_else(Snapshot::default, |engine| match holds_any() {
            true => engine.exporter.snapshot_at_a_glance(),
            false => engine.exporter.snapshot(),
        })
    }

    /// What was measured in the last interval: the guide's name of [`performance`](Self::performance).
    pub fn get_performance_metrics(&self) -> PerformanceMetrics {
        self.performance()
    }

    /// What was measured in the last interval of the client's
    /// [`PerformanceMonitor`](crate::monitoring::PerformanceMonitor); before the end of the first, what there is of it.
    /// What it was not asked for reads 0; without one that is all but the load, the losses and the settings in force.
    /// Takes locks, but none that recording takes.
    pub fn performance(&self) -> PerformanceMetrics {
        self.used().filter(|_| !holds_any()).map_or_else(PerformanceMetrics::default, |engine| {
            let exporter = &engine.exporter;
            let monitor = exporter.settings().performance_monitor.as_ref();
            let metrics = monitor.map_or(&[][..], |monitor| monitor.enabled_metrics());
            engine.housekeeping.performance(exporter).collecting(metrics)
        })
    }

    /// How spans are batched: the guide's name of [`batches`](Self::batches).
    pub fn get_batch_metrics(&self) -> BatchMetrics {
        self.batches()
    }

    /// How spans were batched since the client began, and how they are now. Takes locks, but none that recording takes.
    pub fn batches(&self) -> BatchMetrics {
        self.used()
            .filter(|_| !holds_any())
            .map_or_else(BatchMetrics::default, |engine| engine.exporter.batch_metrics())
    }

    /// How much memory the client holds: the guide's name of [`memory`](Self::memory).
    pub fn get_memory_stats(&self) -> MemoryStats {
        self.memory()
    }

    /// How much memory the client holds now, and for what; all zero for one that is disabled. Takes locks, but none
    /// that recording takes.
    pub fn memory(&self) -> MemoryStats {
        self.used().filter(|_| !holds_any()).map_or_else(MemoryStats::default, |engine| engine.exporter.memory_stats())
    }

    /// What this process has used of the client; nothing in the child of a fork that has recorded nothing yet.
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

/// What one client is made of, in one process.
struct Engine {
    recorder: Arc<Recorder>,
    exporter: Arc<Exporter>,
    controls: Controls,
    housekeeping: Housekeeping,
    /// Held by the one call that shuts down.
    closing: Turn<()>,
    /// Processors that did not finish at the shutdown.
    failed_processors: AtomicU32,
    /// What takes over in the child of a fork.
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

    /// The engine of this process, made if it is the child of a fork and has none yet.
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

    /// What this process has used of it; nothing in the child of a fork that has recorded nothing yet.
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
        // Whoever holds it is shutting down, within a time of its own, and has processors end and the error handler
        // told, which may come back here.
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

    /// Has processors finish, tells which did not, and answers how many. Before the client itself, which would take all
    /// the time where its receiver does not answer; those that are done at once cost it none.
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
