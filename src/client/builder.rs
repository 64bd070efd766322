//! The builder: settings made in code.

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

/// The settings of a client to be made. Whatever is not set here comes from the environment, then from the default.
///
/// An invalid value is an error of [`build`](Self::build) that names the setting, the value and what is allowed.
#[derive(Clone, Default)]
#[must_use = "nothing happens until `build` is called"]
pub struct ClientBuilder {
    options: Options,
    controls: Controls,
}

impl ClientBuilder {
    /// Sets whether the client is off: it then records and sends nothing, starts no thread, and costs next to nothing.
    /// Context is still passed on, see [`propagation`](crate::propagation). Default `false`; `OTEL_SDK_DISABLED`.
    pub fn with_sdk_disabled(mut self, disabled: bool) -> Self {
        self.options.sdk_disabled = Some(disabled);
        self
    }

    /// Sets whether the client is [off](Self::with_sdk_disabled) unless an endpoint is configured: in code, or with
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. For tools whose users may have no
    /// collector. Default `false`: the client sends to the default endpoint.
    pub fn with_endpoint_required(mut self, required: bool) -> Self {
        self.options.endpoint_required = required;
        self
    }

    /// Sets which exporter gets the spans; see [`TracesExporter`]. Default `Otlp`; `OTEL_TRACES_EXPORTER`.
    pub fn with_traces_exporter(mut self, exporter: TracesExporter) -> Self {
        self.options.traces_exporter = Some(exporter);
        self
    }

    /// Sets where to send: the base URL of a collector, to which `/v1/traces` is appended. Default
    /// `http://localhost:4318`; `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.options.endpoint = Some(url.into());
        self
    }

    /// Sets where to send traces: the whole URL, to which nothing is appended. Takes precedence over `with_endpoint`;
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    pub fn with_traces_endpoint(mut self, url: impl Into<String>) -> Self {
        self.options.traces_endpoint = Some(url.into());
        self
    }

    /// Adds a header to every request, replacing one of the same name. Values are treated as secrets: they appear in no
    /// error, log or `Debug` output. Headers that describe the body, the connection or the form of an answer
    /// (`Content-…`, `Expect`, `TE`, `Accept-Encoding` and the like) are errors of `build`.
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how connections are opened, kept and retired; see [`ConnectionPoolConfig`]. Replaces what earlier calls of
    /// this and of the single setters have set; later calls of those replace their own fields again.
    pub fn with_connection_pool_config(mut self, pool: ConnectionPoolConfig) -> Self {
        self.options.set_connection_pool(pool);
        self
    }

    /// Sets how many connections there may be, how they are reused and how often they are probed; see
    /// [`ConnectionManager`]. Replaces what was set before for the fields it sets.
    pub fn with_connection_manager(mut self, manager: ConnectionManager) -> Self {
        self.options.set_connection_manager(manager);
        self
    }

    /// Sets how long connecting may take, including TLS. Default 5 s; [`ConnectionPoolConfig::connection_timeout`].
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = Some(timeout);
        self
    }

    /// Sets how long the delivery of one batch may take, including all attempts and pauses. Default 10 s;
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`. `OTEL_BSP_EXPORT_TIMEOUT` lowers it if set; the specification's default of 30 s
    /// for that variable is not applied.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = Some(timeout);
        self
    }

    /// Sets how long a connection may be idle and still be reused. Default 60 s; zero disables reuse.
    /// [`ConnectionPoolConfig::keep_alive_timeout`]; the pool's `idle_timeout` (300 s by default) applies as well.
    pub fn with_keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.options.keep_alive_timeout = Some(timeout);
        self
    }

    /// Sets how many idle connections are kept, up to the most that there may be. Default 16, or a pool's
    /// `min_connections` if that is more, or as many as a [`ConnectionManager`] allows. More than the number of workers
    /// plus threads in [`Client::export_spans`] are hardly ever needed.
    pub fn with_max_idle_connections(mut self, connections: usize) -> Self {
        self.options.max_idle_connections = Some(connections);
        self
    }

    /// Sets how bodies are compressed. Default gzip; `OTEL_EXPORTER_OTLP_COMPRESSION`.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// Trusts only servers whose certificate is signed, directly or indirectly, by one of those in this file, or is
    /// itself one of them, byte for byte; the usual roots are not trusted then. The file is PEM, or DER with a single
    /// certificate. Name and dates of the server's certificate are checked in any case. Default: the roots bundled with
    /// the crate, or those of the machine with the feature `platform-verifier`; `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    /// `build` reads the file, and fails without the feature `tls`. The first new connection after the file changed
    /// reads it again; an unusable new file changes nothing and causes one warning.
    pub fn with_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.certificate = Some(file.into());
        self
    }

    /// Presents a client certificate to a server that asks for one (mutual TLS). One file has the certificate followed
    /// by the certificates that signed it, the other its unencrypted key: P-256, P-384, Ed25519, or RSA of 2048 to 4096
    /// bits. Both are PEM or DER, and may be the same PEM file. Default: none; `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`,
    /// `OTEL_EXPORTER_OTLP_CLIENT_KEY`. `build` reads the files, and fails without the feature `tls`. The first new
    /// connection after they changed reads them again; if certificate and key do not match, because one file is still
    /// the old one, the old pair stays in use. The key appears in no error, log or `Debug` output.
    pub fn with_client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.options.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sets the most bytes of one request, before compression: 1 KiB to 1 GiB, 64 MiB by default ([exporter
    /// options](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options)). Batches are cut to
    /// stay below it, whatever [`max_batch_bytes`](crate::config::BatchConfig::max_batch_bytes) says. A larger request
    /// is not sent: it is halved until the parts fit. A span that is too large alone is dropped as
    /// [`TooLarge`](crate::DropReason::TooLarge), which is logged on stderr. The resource counts too, because it is
    /// part of every request.
    pub fn with_max_request_bytes(mut self, bytes: usize) -> Self {
        self.options.max_request_bytes = Some(bytes);
        self
    }

    /// Sets the most bytes of one answer's body: 1 KiB to 1 GiB, 4 MiB by default. Compressed answers are not asked for
    /// and not inflated, so an answer takes no more memory than that. A larger answer is final, whatever its status:
    /// the request is not repeated, and its spans count as [`Refused`](crate::DropReason::Refused) ([OTLP/HTTP
    /// response](https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)).
    pub fn with_max_response_bytes(mut self, bytes: usize) -> Self {
        self.options.max_response_bytes = Some(bytes);
        self
    }

    /// Sets the resource attribute `service.name`. Default `unknown_service:` and the executable's name;
    /// `OTEL_SERVICE_NAME`.
    pub fn with_service_name(mut self, name: impl Into<String>) -> Self {
        self.options.service_name = Some(name.into());
        self
    }

    /// Sets the resource attribute `service.version`. Default: not sent.
    pub fn with_service_version(mut self, version: impl Into<String>) -> Self {
        self.options.service_version = Some(version.into());
        self
    }

    /// Adds an attribute to the resource, replacing one of the same key. `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn with_resource_attribute(mut self, attribute: KeyValue<'static>) -> Self {
        self.options.resource_attributes.push(attribute);
        self
    }

    /// Adds several attributes to the resource, each replacing one of the same key.
    pub fn with_resource_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.options.resource_attributes.extend(attributes);
        self
    }

    /// Sets which detectors describe the process and its machine in the resource: exactly these, or none for an empty
    /// list; see [`ResourceDetector`]. Default: the instance, the process, the host without its id, and the operating
    /// system; `OTLP_RESOURCE_DETECTORS`.
    pub fn with_resource_detectors(mut self, detectors: impl IntoIterator<Item = ResourceDetector>) -> Self {
        self.options.resource_detectors = Some(detectors.into_iter().collect());
        self
    }

    /// Sets how spans are batched and how many may wait; see [`BatchConfig`]. `OTEL_BSP_*`.
    pub fn with_batch_config(mut self, batch: BatchConfig) -> Self {
        self.options.set_batch(batch);
        self
    }

    /// Sets how many worker threads may be started, 1 to 64. Default: the number of CPUs, at most 4; `OTLP_WORKERS`.
    /// The first worker starts with the first span, the others when the running ones cannot keep up.
    ///
    /// Workers export concurrently, so that a slow answer delays nothing else. The specification's batching processor
    /// waits for one export to return before it begins the next: set 1 for that behaviour.
    pub fn with_worker_count(mut self, workers: usize) -> Self {
        self.options.worker_count = Some(workers);
        self
    }

    /// Sets the most memory the client holds, in bytes, at least 1 MiB: spans beyond it are dropped and counted.
    /// Default 64 MiB, enough for a burst of 200,000 spans of 300 bytes; `OTLP_MAX_MEMORY_USAGE`.
    pub fn with_max_memory_usage(mut self, bytes: usize) -> Self {
        self.options.max_memory_usage = Some(bytes);
        self
    }

    /// Sets what happens to spans for which there is no room; see [`DropStrategy`]. Default: they are dropped.
    /// `OTLP_DROP_STRATEGY`.
    pub fn with_drop_strategy(mut self, strategy: DropStrategy) -> Self {
        self.options.drop_strategy = Some(strategy);
        self
    }

    /// Sets which failures are retried, how often and at what intervals; see [`RetryConfig`].
    pub fn with_retry_config(mut self, retry: RetryConfig) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// Sets where spans that could not be delivered in time are kept on disk; see [`SpoolConfig`]. Default nowhere:
    /// they are dropped. `OTLP_SPOOL_*`.
    pub fn with_spool_config(mut self, spool: SpoolConfig) -> Self {
        self.options.spool = Some(spool);
        self
    }

    /// Sets how long closing the client may take. Default 10 s in all, and 1 s without progress.
    /// `OTLP_EXIT_STALL_TIMEOUT`, `OTLP_EXIT_TIMEOUT`.
    pub fn with_exit_budget(mut self, budget: ExitBudget) -> Self {
        self.options.exit_budget = Some(budget);
        self
    }

    /// Sets how much the library logs about itself on stderr. Default `Info`; `OTEL_LOG_LEVEL`.
    pub fn with_log_level(mut self, level: LogLevel) -> Self {
        self.options.log_level = Some(level);
        self
    }

    /// Adds a processor that is told of each recorded span, after the processors added before; see
    /// [`SpanProcessor`](crate::processing::SpanProcessor). Default: none. Spans also go to the receiver, with or
    /// without processors. With a processor, each span takes a slower path.
    pub fn with_span_processor(mut self, processor: impl SpanProcessor + 'static) -> Self {
        self.controls.processors.push(Arc::new(processor));
        self
    }

    /// Calls `handler` with what the library would log on stderr: problems with the configuration, with delivery, with
    /// the queue and with limits ([error
    /// handlers](https://opentelemetry.io/docs/specs/otel/error-handling/#configuring-error-handlers)). The
    /// [level](Self::with_log_level) decides what is reported, and each subject is reported at most once in ten
    /// seconds, as on stderr.
    ///
    /// The handler is called on the client's threads, on those that build, flush and shut it down, and, if no thread
    /// can be started, on those that record. It should be quick, because delivery waits for it, and so does a flush.
    /// Diagnostics caused by its own calls go to stderr. A panic in it is caught. The child of a `fork` uses the same
    /// handler.
    pub fn with_error_handler(mut self, handler: impl Fn(&Diagnostic<'_>) + Send + Sync + 'static) -> Self {
        self.controls.error_handler = Some(Arc::new(handler));
        self
    }

    /// Sets everything at once, replacing earlier settings. Fields that are `None` come from the environment;
    /// companions (batch manager, tuner and the like) stay as they were set.
    pub fn with_config(mut self, config: OtlpConfig) -> Self {
        self.options.set_all(config);
        self
    }

    /// Sets where and how to send, in one struct; see [`TransportConfig`].
    pub fn with_transport_config(mut self, transport: TransportConfig) -> Self {
        self.options.set_transport(transport);
        self
    }

    /// Sets what describes the program in every request, in one struct; see [`ResourceConfig`].
    pub fn with_resource_config(mut self, resource: ResourceConfig) -> Self {
        self.options.set_resource(resource);
        self
    }

    /// Sends protobuf over HTTP/1.1, by default to port 4318. This is the default.
    pub fn with_http_transport(mut self) -> Self {
        self.options.protocol = Some(Protocol::HttpProtobuf);
        self
    }

    /// Sends over gRPC: protobuf over HTTP/2, by default to `http://localhost:4317`. The endpoint is a URL without a path,
    /// or host and port alone, see [`with_insecure`](Self::with_insecure). One call at a time is made over a connection.
    ///
    /// Needs the cargo feature `grpc`; without it [`build`](Self::build) returns an error that names it.
    pub fn with_grpc_transport(mut self) -> Self {
        self.options.protocol = Some(Protocol::Grpc);
        self
    }

    /// Sets whether a gRPC endpoint without a scheme, such as `collector:4317`, is spoken to without TLS. Default false:
    /// `OTEL_EXPORTER_OTLP_INSECURE`, then TLS. A scheme in the endpoint counts in any case, and over HTTP this does
    /// nothing ([OTLP exporter](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options)).
    pub fn with_insecure(mut self, is_insecure: bool) -> Self {
        self.options.insecure = Some(is_insecure);
        self
    }

    /// Sets how memory is used and bounded; see [`PerformanceConfig`].
    pub fn with_performance_config(mut self, performance: PerformanceConfig) -> Self {
        self.options.set_performance(performance);
        self
    }

    /// Sets what the client reports about itself; see [`MonitoringConfig`].
    pub fn with_monitoring_config(mut self, monitoring: MonitoringConfig) -> Self {
        self.options.set_monitoring(monitoring);
        self
    }

    /// Adjusts the batch size while the client runs; see [`BatchManager`]. The manager's batch configuration becomes
    /// the client's.
    pub fn with_batch_manager(mut self, manager: BatchManager) -> Self {
        self.options.set_batch(manager.current_config().clone());
        self.controls.batch_manager = Some(manager);
        self
    }

    /// Chooses the compression while the client runs; see [`AdaptiveCompression`]. It begins with the configured one.
    pub fn with_adaptive_compression(mut self, adaptive: AdaptiveCompression) -> Self {
        self.controls.adaptive_compression = Some(adaptive);
        self
    }

    /// Tunes the client while it runs; see [`AutoTuner`].
    pub fn with_auto_tuner(mut self, tuner: AutoTuner) -> Self {
        self.controls.auto_tuner = Some(tuner);
        self
    }

    /// Sets the pool that memory for records comes from; see [`MemoryPool`].
    pub fn with_memory_pool(mut self, pool: MemoryPool) -> Self {
        self.options.memory_pool = Some(pool);
        self
    }

    /// Sets how the client's buffers for complete spans are made; see [`ZeroCopyBuffer`].
    pub fn with_zero_copy_buffer(mut self, buffer: ZeroCopyBuffer) -> Self {
        self.options.zero_copy_buffer = Some(buffer);
        self
    }

    /// Sets the threads that send; see [`WorkerPool`].
    pub fn with_worker_pool(mut self, pool: WorkerPool) -> Self {
        self.options.set_worker_pool(pool);
        self
    }

    /// Sets what happens when more is recorded than can be sent; see [`BackpressureController`].
    pub fn with_backpressure_controller(mut self, controller: BackpressureController) -> Self {
        self.options.set_backpressure(controller);
        self
    }

    /// Measures performance; see [`PerformanceMonitor`]. Default: nothing is measured.
    pub fn with_performance_monitor(mut self, monitor: PerformanceMonitor) -> Self {
        self.options.performance_monitor = Some(monitor);
        self
    }

    /// Watches memory; see [`MemoryMonitor`]. Default: not watched; the bound holds in any case.
    pub fn with_memory_monitor(mut self, monitor: MemoryMonitor) -> Self {
        self.options.memory_monitor = Some(monitor);
        self
    }

    /// Sets which spans are recorded; see [`Sampler`] and the samplers beside it. Default: spans follow their parent's
    /// decision and all roots are recorded, which costs a span nothing. Any other sampler is called for each span, even
    /// if it decides the same. `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`. While
    /// [throttling](crate::core::BackpressureController::with_adaptive_throttling) reduces the number of traces, a part
    /// of those that the sampler keeps is left out too.
    pub fn with_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.controls.sampler = Some(Arc::new(sampler));
        self
    }

    /// Sets the generator of trace and span ids; see [`IdGenerator`]. Default: each thread makes random ids itself,
    /// which is faster than calling a generator.
    pub fn with_id_generator(mut self, generator: impl IdGenerator + 'static) -> Self {
        self.controls.ids = Some(Arc::new(generator));
        self
    }

    /// Sets how much one span may hold; see [`SpanLimits`]. Default: 128 attributes, events and links each, values of
    /// any length, nested in 30 levels at most. `OTEL_SPAN_*_LIMIT`, `OTEL_ATTRIBUTE_*_LIMIT`, `OTEL_EVENT_*_LIMIT`,
    /// `OTEL_LINK_*_LIMIT`.
    pub fn with_span_limits(mut self, limits: SpanLimits) -> Self {
        self.options.span_limits = Some(limits);
        self
    }

    /// Makes the client. Reads the environment; starts no thread and opens no connection.
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid setting made in code. An invalid environment variable is reported once
    /// on stderr and ignored.
    pub fn build(self) -> Result<Client, Error> {
        Client::assemble(self.options, self.controls, Environment::from_process())
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientBuilder").field(&self.options).finish()
    }
}
