//! Every setting: what it means, in which unit, what holds by default and what is allowed.
//!
//! Code beats the signal's own environment variable (`OTEL_EXPORTER_OTLP_TRACES_…`), which beats the general one, which
//! beats the default. A value in code that makes no sense is an error that names the setting, the value and what is
//! allowed. A value in the environment that makes no sense costs one warning and counts as unset (ENV-03, ENV-04,
//! ENV-08): a typing error in a shell profile must not bring a program down.
//!
//! `(ENV-01)` and the like are rows of `tests/conformance.md`, which the tests follow.
//!
//! Settings are public structs with public fields, all of which [`OtlpConfig`] holds, or made by setters where they
//! configure a companion of the client; each is given to a setter of [`ClientBuilder`](crate::ClientBuilder).
//!
//! Write literals of them with `..Default::default()`, and patterns with `..`, even where every field is named: a later
//! version may add fields, and such code goes on compiling.
//! [`RetryConfig`], [`ConnectionPoolConfig`], [`PerformanceConfig`], [`MonitoringConfig`] and [`MemoryThresholds`] never
//! get another one.
//!
//! ```
//! use std::time::Duration;
//!
//! use otlp::config::{BatchConfig, BatchStrategy};
//!
//! let batch = BatchConfig {
//!     batch_timeout: Duration::from_millis(200),
//!     strategy: BatchStrategy::Hybrid,
//!     ..Default::default()
//! };
//! ```
//!
//! A struct given in code counts as a whole, and the environment's variables for its fields do not: where one is set and
//! says something else, one line on stderr names it. [`OtlpConfig::from_env`] is where to begin if they are to count.

mod batch;
mod bounds;
mod client;
mod compression;
mod concurrency;
mod connections;
mod endpoint;
mod exit;
mod exporter;
mod headers;
mod memory;
mod monitoring;
mod options;
mod pooling;
mod propagators;
mod proxy;
mod retry;
mod sampler;
mod secrets;
mod settings;
mod span_limits;
mod spool;
mod tls;
mod tuning;

pub use batch::{BatchConfig, BatchStrategy};
pub use client::{OtlpConfig, Protocol, ResourceConfig, TransportConfig, production};
pub use compression::Compression;
pub use concurrency::{BackpressureController, DropStrategy, WorkerPool};
pub use connections::{ConnectionManager, ConnectionPoolConfig, ReuseStrategy};
pub use exit::ExitBudget;
pub use exporter::TracesExporter;
pub use memory::{MemoryPool, PerformanceConfig, ZeroCopyBuffer};
pub use monitoring::{MemoryMonitor, MemoryThresholds, MetricType, MonitoringConfig, PerformanceMonitor};
pub use propagators::{Propagator, Propagators};
pub use retry::{ErrorType, RetryConfig};
pub use span_limits::SpanLimits;
pub use spool::SpoolConfig;
pub use tuning::{Effort, Tuning};

pub use crate::{error::LogLevel, resource::ResourceDetector};

pub(crate) use endpoint::{Endpoint, base64};
pub(crate) use headers::Headers;
pub(crate) use options::Options;
pub(crate) use pooling::ConnectionSettings;
#[cfg(test)]
pub(crate) use proxy::tests::proxy_for_tests;
pub(crate) use proxy::{Credentials, Proxy, ProxyProtocol};
pub(crate) use sampler::{RootSampler, SamplerChoice};
pub(crate) use secrets::Secrets;
pub(crate) use settings::Settings;
pub(crate) use tls::Tls;
#[cfg(feature = "tls")]
pub(crate) use tls::{Certificates, NamedFile, Renewal, der};
pub(crate) use tuning::Encoding;
