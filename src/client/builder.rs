//! The builder: what is set in code.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{Client, controls::Controls};
use crate::{
    capture::{IdGenerator, Sampler, SpanProcessor},
    config::{
        BackpressureController, BatchConfig, Compression, ConnectionManager, ConnectionPoolConfig, DropStrategy,
        ExitBudget, MemoryMonitor, MemoryPool, MonitoringConfig, Options, OtlpConfig, PerformanceConfig,
        PerformanceMonitor, Protocol, ResourceConfig, ResourceDetector, RetryConfig, SpanLimits, SpoolConfig,
        TracesExporter, TransportConfig, WorkerPool, ZeroCopyBuffer,
    },
    control::{AdaptiveCompression, AutoTuner, BatchManager},
    env::Environment,
    error::{Diagnostic, Error, LogLevel},
    value::KeyValue,
};

/// Settings of a client to be. Whatever is not set here comes from the environment, then from the default.
///
/// A value that makes no sense is an error from [`build`](Self::build) that names the setting, the value and
/// what is allowed.
#[derive(Clone, Default)]
#[must_use = "nothing happens until `build` is called"]
pub struct ClientBuilder {
    options: Options,
    controls: Controls,
}

impl ClientBuilder {
    /// Whether the client is off: it then records and sends nothing, starts no thread, and costs next to nothing.
    /// Context is passed on all the same, see [`propagation`](crate::propagation). Default `false`;
    /// `OTEL_SDK_DISABLED`.
    pub fn with_sdk_disabled(mut self, disabled: bool) -> Self {
        self.options.sdk_disabled = Some(disabled);
        self
    }

    /// Whether the client is [off](Self::with_sdk_disabled) unless somebody says where to send: in code, or with
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. For tools that are run by people who have
    /// no collector. Default `false`: it sends to the default endpoint.
    pub fn with_endpoint_required(mut self, required: bool) -> Self {
        self.options.endpoint_required = required;
        self
    }

    /// Which exporter gets the spans; see [`TracesExporter`]. Default `Otlp`; `OTEL_TRACES_EXPORTER`.
    pub fn with_traces_exporter(mut self, exporter: TracesExporter) -> Self {
        self.options.traces_exporter = Some(exporter);
        self
    }

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
    /// appear in no error, log or `Debug` output. Headers that describe the body, the connection or what an answer may
    /// look like (`Content-…`, `Expect`, `TE`, `Accept-Encoding` and the like) are errors of `build`.
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// How connections are opened, kept and retired; see [`ConnectionPoolConfig`]. Replaces what was said about the
    /// same by earlier calls of this and of the setters below, which in turn replace the fields they speak of.
    pub fn with_connection_pool_config(mut self, pool: ConnectionPoolConfig) -> Self {
        self.options.set_connection_pool(pool);
        self
    }

    /// How many connections there may be, how they are reused and how often they are probed; see
    /// [`ConnectionManager`]. Replaces what was said about the same before.
    pub fn with_connection_manager(mut self, manager: ConnectionManager) -> Self {
        self.options.set_connection_manager(manager);
        self
    }

    /// How long connecting may take, TLS included. Default 5 s. [`ConnectionPoolConfig::connection_timeout`].
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = Some(timeout);
        self
    }

    /// How long one batch may take to be delivered, all attempts and pauses included. Default 10 s;
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`. `OTEL_BSP_EXPORT_TIMEOUT` lowers it where it is set; the specification's 30 s are
    /// no bound beside it.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = Some(timeout);
        self
    }

    /// How long a connection may be idle and still be used again. Default 60 s; zero for not at all.
    /// [`ConnectionPoolConfig::keep_alive_timeout`], beside which `idle_timeout` counts too (300 s by default).
    pub fn with_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.options.keep_alive_timeout = Some(timeout);
        self
    }

    /// How many idle connections are kept, up to as many as there may be. Default 16; or a pool's `min_connections`
    /// where that is more, or as many as a [`ConnectionManager`] allows. More than there are workers and threads in
    /// [`Client::export_spans`] are hardly ever needed.
    pub fn with_max_idle_connections(mut self, connections: usize) -> Self {
        self.options.max_idle_connections = Some(connections);
        self
    }

    /// How bodies are compressed. Default gzip; `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// Trusts only servers whose certificate is derived from one of those in this file (PEM, or DER with one), as a
    /// private authority's are, or is itself one of them, byte for byte; the usual roots do not count then. Name and
    /// dates of the server's certificate are checked in any case. Default: the roots bundled with the crate, or those
    /// of the machine with the feature `platform-verifier`; `OTEL_EXPORTER_OTLP_CERTIFICATE`. The file is read by
    /// `build`, for which it is an error without the feature `tls`, and again by the first new connection after it
    /// changed; what cannot be used then changes nothing and costs one warning.
    pub fn with_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.certificate = Some(file.into());
        self
    }

    /// Shows a certificate to a server that asks for one (mutual TLS): a file with it and, behind it, those that signed
    /// it, and one with its key, not encrypted: P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits. Both are PEM or
    /// DER, and may be the same PEM file. Default: none; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`,
    /// `OTEL_EXPORTER_OTLP_CLIENT_KEY`. The files are read by `build`, for which they are an error without the
    /// feature `tls`, and again by the first new connection after they changed: a pair that does not belong together,
    /// because one of them is still old, leaves the old pair in use. Nothing of the key appears in any error, log or
    /// `Debug` output.
    pub fn with_client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.options.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// The most bytes of one request, before compression: 1 KiB to 1 GiB, 64 MiB by default
    /// ([exporter options](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options)). Batches
    /// are cut so that they stay below it, whatever
    /// [`max_batch_bytes`](crate::config::BatchConfig::max_batch_bytes) says. A larger request is not sent: it is cut
    /// into halves until they fit. A span that is too large alone is dropped as
    /// [`TooLarge`](crate::DropReason::TooLarge), which is said on stderr; the resource counts too, as it stands in
    /// every request.
    pub fn with_max_request_bytes(mut self, bytes: usize) -> Self {
        self.options.max_request_bytes = Some(bytes);
        self
    }

    /// The most bytes of one answer's body: 1 KiB to 1 GiB, 4 MiB by default. No compressed answer is asked for and
    /// none is inflated, so that an answer takes no more memory than that. A larger one is final, whatever its status
    /// was: the request is not made again, and its spans count as [`Refused`](crate::DropReason::Refused)
    /// ([OTLP/HTTP response](https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)).
    pub fn with_max_response_bytes(mut self, bytes: usize) -> Self {
        self.options.max_response_bytes = Some(bytes);
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

    /// What is found out about the process and its machine and added to the resource: exactly these, and nothing for an
    /// empty list; see [`ResourceDetector`]. Default: the instance, the process, the host without its id, and the
    /// operating system; `OTLP_RESOURCE_DETECTORS`.
    pub fn with_resource_detectors(mut self, detectors: impl IntoIterator<Item = ResourceDetector>) -> Self {
        self.options.resource_detectors = Some(detectors.into_iter().collect());
        self
    }

    /// How spans are batched and how many may wait; see [`BatchConfig`]. `OTEL_BSP_*`.
    pub fn with_batch_config(mut self, batch: BatchConfig) -> Self {
        self.options.set_batch(batch);
        self
    }

    /// How many worker threads may be started, 1 to 64. Default: the number of CPUs, at most 4;
    /// `OTLP_WORKERS`. The first starts with the first span, the others when more waits than it gets done.
    ///
    /// Workers export at the same time, so that a slow answer holds up nothing else. The specification's batching
    /// processor would wait for one export to return before it begins the next: so it is with 1.
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

    /// Where spans are kept on disk that could not be delivered in time; see [`SpoolConfig`]. Default nowhere: they are
    /// dropped. `OTLP_SPOOL_*`.
    pub fn with_spool_config(mut self, spool: SpoolConfig) -> Self {
        self.options.spool = Some(spool);
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

    /// Tells `processor` of each recorded span, after those that were given before; see
    /// [`SpanProcessor`](crate::processing::SpanProcessor). Default: there is none, and spans go to the receiver only,
    /// as they do beside processors. With one, each span takes a slower path.
    pub fn with_span_processor(mut self, processor: impl SpanProcessor + 'static) -> Self {
        self.controls.processors.push(Arc::new(processor));
        self
    }

    /// Tells `handler` what the library says about itself, in place of stderr: what went wrong with the configuration,
    /// with delivery, with the queue and with limits
    /// ([error handlers](https://opentelemetry.io/docs/specs/otel/error-handling/#configuring-error-handlers)). The
    /// [level](Self::with_log_level) decides what is told, and each subject speaks at most once in ten seconds, as on
    /// stderr.
    ///
    /// It is called on the client's threads, on those that build, flush and shut it down, and where no thread can be
    /// started on those that record; it should be quick, since delivery waits for it, and on the client's threads for
    /// what it flushes as well. What its own calls would have it told goes to stderr. If it panics, the panic ends
    /// here. In the child of a `fork` it is the same one.
    pub fn with_error_handler(mut self, handler: impl Fn(&Diagnostic<'_>) + Send + Sync + 'static) -> Self {
        self.controls.error_handler = Some(Arc::new(handler));
        self
    }

    /// Everything at once, replacing what was set before. What is `None` in it comes from the environment; its
    /// companions (batch manager, tuner and the like) stay as they were set.
    pub fn with_config(mut self, config: OtlpConfig) -> Self {
        self.options.set_all(config);
        self
    }

    /// Where to send, and how, in one struct.
    pub fn with_transport_config(mut self, transport: TransportConfig) -> Self {
        self.options.set_transport(transport);
        self
    }

    /// Who the spans come from, in one struct.
    pub fn with_resource_config(mut self, resource: ResourceConfig) -> Self {
        self.options.set_resource(resource);
        self
    }

    /// Sends protobuf over HTTP/1.1. The default, and all that `OTEL_EXPORTER_OTLP_PROTOCOL` can ask for.
    pub fn with_http_transport(mut self) -> Self {
        self.options.protocol = Some(Protocol::HttpProtobuf);
        self
    }

    /// Asks for gRPC, which this version does not speak: [`build`](Self::build) answers an error that says so.
    pub fn with_grpc_transport(mut self) -> Self {
        self.options.protocol = Some(Protocol::Grpc);
        self
    }

    /// Memory and copies; see [`PerformanceConfig`].
    pub fn with_performance_config(mut self, performance: PerformanceConfig) -> Self {
        self.options.set_performance(performance);
        self
    }

    /// What the client says about itself; see [`MonitoringConfig`].
    pub fn with_monitoring_config(mut self, monitoring: MonitoringConfig) -> Self {
        self.options.set_monitoring(monitoring);
        self
    }

    /// Adjusts the batch size while the client runs; see [`BatchManager`]. Its configuration becomes the client's.
    pub fn with_batch_manager(mut self, manager: BatchManager) -> Self {
        self.options.set_batch(manager.current_config().clone());
        self.controls.batch_manager = Some(manager);
        self
    }

    /// Chooses the compression while the client runs; see [`AdaptiveCompression`]. It begins with the one that is set.
    pub fn with_adaptive_compression(mut self, adaptive: AdaptiveCompression) -> Self {
        self.controls.adaptive_compression = Some(adaptive);
        self
    }

    /// Tunes the client while it runs; see [`AutoTuner`].
    pub fn with_auto_tuner(mut self, tuner: AutoTuner) -> Self {
        self.controls.auto_tuner = Some(tuner);
        self
    }

    /// Where memory for records comes from; see [`MemoryPool`].
    pub fn with_memory_pool(mut self, pool: MemoryPool) -> Self {
        self.options.memory_pool = Some(pool);
        self
    }

    /// How the buffers are made that the client hands out; see [`ZeroCopyBuffer`].
    pub fn with_zero_copy_buffer(mut self, buffer: ZeroCopyBuffer) -> Self {
        self.options.zero_copy_buffer = Some(buffer);
        self
    }

    /// The threads that send; see [`WorkerPool`].
    pub fn with_worker_pool(mut self, pool: WorkerPool) -> Self {
        self.options.set_worker_pool(pool);
        self
    }

    /// What happens when more is recorded than can be sent; see [`BackpressureController`].
    pub fn with_backpressure_controller(mut self, controller: BackpressureController) -> Self {
        self.options.set_backpressure(controller);
        self
    }

    /// Measures performance; see [`PerformanceMonitor`]. Default: nothing is measured.
    pub fn with_performance_monitor(mut self, monitor: PerformanceMonitor) -> Self {
        self.options.performance_monitor = Some(monitor);
        self
    }

    /// Watches memory; see [`MemoryMonitor`]. Default: nobody does, and the bound holds all the same.
    pub fn with_memory_monitor(mut self, monitor: MemoryMonitor) -> Self {
        self.options.memory_monitor = Some(monitor);
        self
    }

    /// Decides which spans are recorded; see [`Sampler`] and the samplers beside it. Default: spans do as their parent
    /// did, and all roots are recorded, which costs a span nothing; another sampler is asked about each one, also where
    /// it answers the same. `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`. While
    /// [throttling](crate::core::BackpressureController::with_adaptive_throttling) asks for fewer traces, of those that
    /// the sampler keeps a part is left out too.
    pub fn with_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.controls.sampler = Some(Arc::new(sampler));
        self
    }

    /// Makes the ids of traces and spans; see [`IdGenerator`]. Default: each thread makes random ones by itself, which
    /// is faster than asking anybody.
    pub fn with_id_generator(mut self, generator: impl IdGenerator + 'static) -> Self {
        self.controls.ids = Some(Arc::new(generator));
        self
    }

    /// How much one span may hold; see [`SpanLimits`]. Default: 128 of each kind, values of any length,
    /// nested in 30 levels at most.
    /// `OTEL_SPAN_*_LIMIT`, `OTEL_ATTRIBUTE_*_LIMIT`, `OTEL_EVENT_*_LIMIT`, `OTEL_LINK_*_LIMIT`.
    pub fn with_span_limits(mut self, limits: SpanLimits) -> Self {
        self.options.span_limits = Some(limits);
        self
    }

    /// Makes the client. Reads the environment; starts no thread and opens no connection.
    ///
    /// # Errors
    /// [`Error::Config`] for the first setting made in code that makes no sense. A variable of the
    /// environment that makes none is reported once on stderr and ignored.
    pub fn build(self) -> Result<Client, Error> {
        Client::assemble(self.options, self.controls, Environment::from_process())
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientBuilder").field(&self.options).finish()
    }
}
