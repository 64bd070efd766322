//! Assembly: a builder becomes a client, a client hands out tracers and answers for delivery.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    capture::{Clock, Intake, Limits, Scope, Tracer, set_global},
    config::{BatchConfig, Compression, DropStrategy, ExitBudget, Options, RetryConfig, Settings},
    env::Environment,
    error::{Diagnostics, Error, LogLevel, Subject},
    exit,
    export::{ExportReport, Exporter, Patience, SpanData},
    stats::{Receipt, Snapshot},
    value::KeyValue,
};

/// What is held and not accounted for piece by piece: by the client, from the code that is loaded with its first
/// request to what an allocator cannot use again, and by each worker, for the compressor's tables, the body it
/// writes, the buffers of a connection, its stack.
const CLIENT_BYTES: usize = 2 * 1024 * 1024;
const WORKER_BYTES: usize = 512 * 1024;

/// A batch is worth a wake at this size; larger ones form while workers are busy.
const READY_SPANS: usize = 512;

/// An exporter and everything that belongs to it. Independent clients can coexist.
///
/// Making one reads the environment, starts no thread and opens no connection: both happen with the first
/// span. All methods take `&self`; the client is `Send + Sync`.
///
/// Dropping the client closes it, see [`close`](Self::close).
pub struct Client {
    /// `None` if the client is disabled.
    exporter: Option<Arc<Exporter>>,
    intake: Option<Arc<Intake>>,
    /// Held by the one call that shuts down.
    closing: Mutex<()>,
}

impl Client {
    /// A builder that starts from the environment; what is set on it wins.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { options: Options::default() }
    }

    fn assemble(options: Options, environment: Environment) -> Result<Self, Error> {
        let (settings, warnings) = Settings::resolve(options, environment)?;
        let diagnostics = Diagnostics::new(settings.log_level);
        for warning in warnings {
            diagnostics.say(LogLevel::Warn, Subject::Config, format_args!("{warning}"));
        }
        if settings.disabled {
            return Ok(Self { exporter: None, intake: None, closing: Mutex::new(()) });
        }
        Clock::warm_up();
        let apart = (CLIENT_BYTES + settings.worker_count * WORKER_BYTES).min(settings.max_memory_usage / 4);
        let batch = &settings.batch;
        let intake = Intake::new(Limits {
            memory_bytes: settings.max_memory_usage - apart,
            queue_spans: batch.max_queue_size,
            drop_strategy: settings.drop_strategy,
            ready_spans: READY_SPANS.min(batch.max_batch_size).min(batch.max_queue_size),
            workers: settings.worker_count,
        });
        let exporter = Exporter::new(settings, Arc::clone(&intake), diagnostics);
        Ok(Self { exporter: Some(exporter), intake: Some(intake), closing: Mutex::new(()) })
    }

    /// A tracer for one component. Takes a lock and may allocate: make it once and keep it.
    pub fn tracer(&self, scope: impl Into<Scope>) -> Tracer {
        Tracer::bound(self.intake.as_ref(), scope.into())
    }

    /// Encodes and sends complete spans on the calling thread, over the client's connections, and answers
    /// what the receiver said to them; a partial success is `Ok`. More spans than one request may hold become
    /// several requests.
    ///
    /// Blocks until the answer, or until the request timeout (10 s by default) is used up for one request.
    ///
    /// # Errors
    /// [`Error::InvalidSpan`] before anything is sent, [`Error::Refused`] or [`Error::Unreachable`] after the
    /// attempts the outcome allows, [`Error::Shutdown`] once the client is shut down, [`Error::Fault`] for a bug here. What was not accepted is
    /// then counted as dropped.
    pub fn export_spans(&self, spans: impl AsRef<[SpanData]>) -> Result<ExportReport, Error> {
        match &self.exporter {
            Some(exporter) => {
                let spans = spans.as_ref();
                // A fault of ours must not unwind into the program; the spans at hand are counted on the way.
                catch_unwind(AssertUnwindSafe(|| exporter.export_spans(spans))).unwrap_or(Err(Error::Fault))
            }
            None => Ok(ExportReport::default()),
        }
    }

    /// Sends what was ended before the call, on any thread, and waits for it, at most for `timeout`
    /// ([ForceFlush](https://opentelemetry.io/docs/specs/otel/trace/sdk/#forceflush)). Spans that are recorded
    /// meanwhile do not prolong it.
    pub fn flush(&self, timeout: Duration) -> Receipt {
        self.exporter.as_ref().map_or_else(Receipt::default, |exporter| exporter.flush(Patience::Until(timeout)))
    }

    /// Ends recording, sends what was ended before, and waits for it, at most for `timeout`; what has not
    /// arrived by then is dropped and counted as such
    /// ([Shutdown](https://opentelemetry.io/docs/specs/otel/trace/sdk/#shutdown)). Afterwards spans are no
    /// longer recorded. A second call answers the same counts; while another thread is shutting down it waits
    /// for that.
    pub fn shutdown(&self, timeout: Duration) -> Receipt {
        self.end(Patience::Until(timeout))
    }

    /// Shuts down with the configured exit budget: for as long as batches are being acknowledged, within a
    /// total (10 s by default), giving up after a time without progress (1 s by default).
    pub fn close(&self) -> Receipt {
        match &self.exporter {
            Some(exporter) => self.end(Patience::WhileProgress(exporter.settings().exit_budget.clone())),
            None => Receipt::default(),
        }
    }

    fn end(&self, patience: Patience) -> Receipt {
        let Some(exporter) = &self.exporter else { return Receipt::default() };
        // Whoever holds it is shutting down, within a time of its own.
        let _closing = self.closing.lock();
        if exporter.is_stopped() { exporter.receipt() } else { exporter.shutdown(patience) }
    }

    /// What was counted since the client began. Takes locks, but none that recording takes.
    pub fn stats(&self) -> Snapshot {
        self.exporter.as_ref().map_or_else(Snapshot::default, |exporter| exporter.snapshot())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exporter {
            Some(exporter) => f.debug_struct("Client").field("settings", exporter.settings()).finish_non_exhaustive(),
            None => f.write_str("Client(disabled)"),
        }
    }
}

/// Settings of a client to be. Whatever is not set here comes from the environment, then from the default.
///
/// A value that makes no sense is an error from [`build`](Self::build) that names the setting, the value and
/// what is allowed.
#[derive(Clone)]
#[must_use = "nothing happens until `build` is called"]
pub struct ClientBuilder {
    options: Options,
}

impl ClientBuilder {
    /// Where to send: the base URL of a collector, to which `/v1/traces` is appended. Default
    /// `http://localhost:4318`; `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.options.endpoint = Some(url.into());
        self
    }

    /// Where to send, as it is: nothing is appended. Wins over `with_endpoint`;
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    pub fn with_traces_endpoint(mut self, url: impl Into<String>) -> Self {
        self.options.traces_endpoint = Some(url.into());
        self
    }

    /// Adds a header to every request, replacing one of the same name. Values are treated as secrets: they
    /// appear in no error, log or `Debug` output. `OTEL_EXPORTER_OTLP_HEADERS`.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// How long connecting may take, TLS included. Default 5 s.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = Some(timeout);
        self
    }

    /// How long one batch may take to be delivered, all attempts and pauses included. Default 10 s;
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = Some(timeout);
        self
    }

    /// How long a connection may be idle and still be used again. Default 60 s; zero for not at all.
    pub fn with_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.options.keep_alive_timeout = Some(timeout);
        self
    }

    /// How many idle connections are kept. Default 16; more than there are workers are never needed.
    pub fn with_max_idle_connections(mut self, connections: usize) -> Self {
        self.options.max_idle_connections = Some(connections);
        self
    }

    /// How bodies are compressed. Default gzip; `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// The resource attribute `service.name`. Default `unknown_service:` and the executable's name;
    /// `OTEL_SERVICE_NAME`.
    pub fn with_service_name(mut self, name: impl Into<String>) -> Self {
        self.options.service_name = Some(name.into());
        self
    }

    /// The resource attribute `service.version`.
    pub fn with_service_version(mut self, version: impl Into<String>) -> Self {
        self.options.service_version = Some(version.into());
        self
    }

    /// Adds an attribute to the resource, replacing one of the same key. `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn with_resource_attribute(mut self, attribute: KeyValue<'static>) -> Self {
        self.options.resource_attributes.push(attribute);
        self
    }

    /// Adds several attributes to the resource.
    pub fn with_resource_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.options.resource_attributes.extend(attributes);
        self
    }

    /// How spans are batched and how many may wait; see [`BatchConfig`]. `OTEL_BSP_*`.
    pub fn with_batch_config(mut self, batch: BatchConfig) -> Self {
        self.options.batch = Some(batch);
        self
    }

    /// How many worker threads may be started, 1 to 64. Default: the number of CPUs, at most 4;
    /// `OTLP_WORKERS`. The first starts with the first span, the others when more waits than it gets done.
    pub fn with_worker_count(mut self, workers: usize) -> Self {
        self.options.worker_count = Some(workers);
        self
    }

    /// The most memory the client holds, in bytes, at least 1 MiB: what is recorded beyond it is dropped and
    /// counted. Default 64 MiB, which takes a burst of 200,000 spans of 300 bytes whole;
    /// `OTLP_MAX_MEMORY_USAGE`.
    pub fn with_max_memory_usage(mut self, bytes: usize) -> Self {
        self.options.max_memory_usage = Some(bytes);
        self
    }

    /// What becomes of spans for which there is no room; see [`DropStrategy`]. Default: they are dropped.
    /// `OTLP_DROP_STRATEGY`.
    pub fn with_drop_strategy(mut self, strategy: DropStrategy) -> Self {
        self.options.drop_strategy = Some(strategy);
        self
    }

    /// Which failures are tried again, how often and how far apart; see [`RetryConfig`].
    pub fn with_retry_config(mut self, retry: RetryConfig) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// How long closing the client may take. `OTLP_EXIT_STALL_TIMEOUT`, `OTLP_EXIT_TIMEOUT`.
    pub fn with_exit_budget(mut self, budget: ExitBudget) -> Self {
        self.options.exit_budget = Some(budget);
        self
    }

    /// How much the library says about itself on stderr. Default `Info`; `OTEL_LOG_LEVEL`.
    pub fn with_log_level(mut self, level: LogLevel) -> Self {
        self.options.log_level = Some(level);
        self
    }

    /// Makes the client. Reads the environment; starts no thread and opens no connection.
    ///
    /// # Errors
    /// [`Error::Config`] for the first setting made in code that makes no sense. A variable of the
    /// environment that makes none is reported once on stderr and ignored.
    pub fn build(self) -> Result<Client, Error> {
        Client::assemble(self.options, Environment::from_process())
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientBuilder").field(&self.options).finish()
    }
}

/// The process-wide client.
static GLOBAL: OnceLock<Client> = OnceLock::new();

/// Makes the process-wide client from the environment. Keep what it answers until the end of `main`:
/// dropping it closes the client. On Unix the client is also closed when the process exits without that, by
/// [`std::process::exit`] or because the guard was forgotten; spans that are open then are not ended, and
/// `abort` and fatal signals run no handler.
///
/// # Errors
/// [`Error::AlreadyInitialized`] for a second call. What the environment gets wrong is no error.
pub fn init() -> Result<Guard, Error> {
    if GLOBAL.get().is_some() {
        return Err(Error::AlreadyInitialized);
    }
    let client = Client::builder().build()?;
    let intake = client.intake.clone();
    GLOBAL.set(client).map_err(|_| Error::AlreadyInitialized)?;
    set_global(intake);
    exit::at_exit(|| {
        GLOBAL.get().map(Client::close);
    });
    Ok(Guard { _private: () })
}

/// A tracer of the process-wide client. Before [`init`] it records nothing; it begins to when there is a
/// client. Allocates: make it once and keep it.
pub fn tracer(scope: impl Into<Scope>) -> Tracer {
    Tracer::late(scope.into())
}

/// The process-wide client; a disabled one before [`init`].
pub fn client() -> &'static Client {
    static NONE: Client = Client { exporter: None, intake: None, closing: Mutex::new(()) };
    GLOBAL.get().unwrap_or(&NONE)
}

/// Closes the process-wide client when it is dropped.
#[must_use = "dropping the guard closes the client"]
pub struct Guard {
    _private: (),
}

impl Drop for Guard {
    fn drop(&mut self) {
        client().close();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}
