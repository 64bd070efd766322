//! A whole configuration as one struct, for code that fills in fields instead of calling setters.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::{
    BatchConfig, BatchStrategy, Compression, ConnectionPoolConfig, DropStrategy, ErrorType, ExitBudget, MemoryMonitor,
    MonitoringConfig, PerformanceConfig, PerformanceMonitor, ResourceDetector, RetryConfig, SpanLimits, SpoolConfig,
    endpoint,
};
use crate::{
    error::{ParseError, choice, name_of},
    value::KeyValue,
};

/// Everything that can be set, section by section; see [`Client::with_config`](crate::Client::with_config).
///
/// `default()` reads no environment. In `transport` and `resource`, `None` and empty lists mean the environment, then
/// the default. The other sections count as they stand, and the environment's variables for them are ignored: if one is
/// set to a different value, one line on stderr names it. [`from_env`](Self::from_env) fills these sections from the
/// environment:
///
/// ```
/// use otlp::config::{BatchConfig, OtlpConfig};
///
/// let config = OtlpConfig {
///     batch: BatchConfig { max_queue_size: 50_000, ..Default::default() },
///     ..OtlpConfig::from_env()
/// };
/// # assert_eq!(config.batch.max_queue_size, 50_000);
/// ```
#[derive(Debug, Clone, Default)]
pub struct OtlpConfig {
    /// Where and how to send.
    pub transport: TransportConfig,
    /// What describes the program in every request.
    pub resource: ResourceConfig,
    /// How spans are batched and how many may wait.
    pub batch: BatchConfig,
    /// Connections: how many, how long, and how they are used again.
    pub connection_pool: ConnectionPoolConfig,
    /// The memory bound, and how memory is reused.
    pub performance: PerformanceConfig,
    /// What the client reports about itself.
    pub monitoring: MonitoringConfig,
    /// Which failures are retried.
    pub retry: RetryConfig,
    /// What happens to spans for which there is no room.
    pub drop_strategy: DropStrategy,
    /// How long closing the client may take.
    pub exit_budget: ExitBudget,
    /// Where spans that could not be delivered in time are kept on disk.
    pub spool: SpoolConfig,
    /// How much one span may hold.
    pub span_limits: SpanLimits,
    /// How many worker threads may be started. Default `None`: `OTLP_WORKERS`, then the number of CPUs, at most 4.
    pub worker_count: Option<usize>,
    /// Measures performance. Default `None`: nothing is measured.
    pub performance_monitor: Option<PerformanceMonitor>,
    /// Watches memory. Default `None`: not watched; the bound holds in any case.
    pub memory_monitor: Option<MemoryMonitor>,
}

/// Where and how to send. Fields that are `None` come from the environment, then from the default.
///
/// `Debug` shows no header value and no user information.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TransportConfig {
    /// The base URL of a collector; see [`with_endpoint`](crate::ClientBuilder::with_endpoint).
    pub endpoint: Option<String>,
    /// The whole URL for traces; see [`with_traces_endpoint`](crate::ClientBuilder::with_traces_endpoint).
    pub traces_endpoint: Option<String>,
    /// Headers of every request, in addition to those of the environment.
    pub headers: Vec<(String, String)>,
    /// The protocol. Default [`Protocol::HttpProtobuf`].
    pub protocol: Option<Protocol>,
    /// How bodies are compressed. Default [`Compression::Gzip`].
    pub compression: Option<Compression>,
    /// How long connecting may take, including TLS. If set, it takes precedence over the pool's `connection_timeout`.
    /// Default 5 s.
    pub connect_timeout: Option<Duration>,
    /// How long the delivery of one batch may take, including all attempts and pauses. Default 10 s.
    pub request_timeout: Option<Duration>,
    /// How long a connection may be idle and still be reused. If set, it takes precedence over the pool's. Default 60
    /// s.
    pub keep_alive_timeout: Option<Duration>,
    /// How many idle connections are kept. Default 16.
    pub max_idle_connections: Option<usize>,
    /// A PEM or DER file with the only certificates trusted: the receiver's must be signed by one of them, or be one of
    /// them.
    pub certificate: Option<PathBuf>,
    /// PEM or DER files with a client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The most bytes of one request, before compression; see
    /// [`with_max_request_bytes`](crate::ClientBuilder::with_max_request_bytes). Default 64 MiB.
    pub max_request_bytes: Option<usize>,
    /// The most bytes of one answer; see
    /// [`with_max_response_bytes`](crate::ClientBuilder::with_max_response_bytes). Default 4 MiB.
    pub max_response_bytes: Option<usize>,
}

impl fmt::Debug for TransportConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| url.as_deref().map(endpoint::redacted);
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("TransportConfig")
            .field("endpoint", &shown(&self.endpoint))
            .field("traces_endpoint", &shown(&self.traces_endpoint))
            .field("headers", &names)
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("keep_alive_timeout", &self.keep_alive_timeout)
            .field("max_idle_connections", &self.max_idle_connections)
            .field("certificate", &self.certificate)
            .field("client_certificate", &self.client_certificate.as_ref().map(|(certificate, _)| certificate))
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_response_bytes", &self.max_response_bytes)
            .finish()
    }
}

/// What describes the program in every request. Fields that are `None` come from the environment, then from the
/// default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceConfig {
    /// The resource attribute `service.name`; not empty.
    pub service_name: Option<String>,
    /// The resource attribute `service.version`.
    pub service_version: Option<String>,
    /// More attributes, which replace those of the environment with equal keys.
    pub attributes: Vec<KeyValue<'static>>,
    /// The detectors that add to them: exactly these, see [`ResourceDetector`].
    pub detectors: Option<Vec<ResourceDetector>>,
}

/// The protocol of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Protobuf over HTTP/1.1. The default.
    #[default]
    HttpProtobuf,
    /// gRPC: protobuf over HTTP/2. Needs the cargo feature `grpc`.
    Grpc,
}

impl Protocol {
    /// The values of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    const NAMES: [(&'static str, Self); 2] = [("http/protobuf", Self::HttpProtobuf), ("grpc", Self::Grpc)];

    /// Whether this build can speak it.
    pub(crate) fn is_compiled_in(self) -> bool {
        self != Self::Grpc || cfg!(feature = "grpc")
    }

    /// The type of component that exports spans by it (OBS-09).
    pub(crate) fn component(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "otlp_http_span_exporter",
            Self::Grpc => "otlp_grpc_span_exporter",
        }
    }
}

/// Parses a value of `OTEL_EXPORTER_OTLP_PROTOCOL`, in any case: `http/protobuf` or `grpc`.
impl FromStr for Protocol {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        choice(text, &Self::NAMES)
    }
}

/// Writes the value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(name_of(self, &Self::NAMES))
    }
}

/// Returns a profile for services that are always on: batches of 1,000 spans or 200 ms, of which 50,000 may wait; 10 to
/// 100 connections; gzip; 10 s to connect, 60 s for a request; three attempts; both monitors on.
///
/// ```
/// # fn main() -> Result<(), otlp::Error> {
/// let mut config = otlp::config::production();
/// config.transport.endpoint = Some("http://collector:4318".into());
/// config.resource.service_name = Some("checkout".into());
/// let client = otlp::Client::with_config(config)?;
/// # Ok(())
/// # }
/// ```
pub fn production() -> OtlpConfig {
    OtlpConfig {
        transport: TransportConfig {
            compression: Some(Compression::Gzip),
            connect_timeout: Some(Duration::from_secs(10)),
            request_timeout: Some(Duration::from_secs(60)),
            ..TransportConfig::default()
        },
        batch: BatchConfig {
            max_batch_size: 1000,
            batch_timeout: Duration::from_millis(200),
            max_queue_size: 50_000,
            strategy: BatchStrategy::Hybrid,
            ..BatchConfig::default()
        },
        connection_pool: ConnectionPoolConfig {
            min_connections: 10,
            max_connections: 100,
            ..ConnectionPoolConfig::default()
        },
        retry: RetryConfig {
            max_attempts: 3,
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            multiplier: 2.0,
            randomization_factor: 0.1,
            retryable_errors: vec![ErrorType::Network, ErrorType::Timeout],
        },
        performance_monitor: Some(PerformanceMonitor::new()),
        memory_monitor: Some(MemoryMonitor::new()),
        ..OtlpConfig::default()
    }
}
