//! Every setting: its meaning, unit, default and allowed values.
//!
//! Code beats the signal's own environment variable (`OTEL_EXPORTER_OTLP_TRACES_…`), which beats the general one, which
//! beats the default. An invalid value in code is an error that names the setting, the value and what is allowed. An
//! invalid value in the environment causes one warning and counts as unset (ENV-03, ENV-04, ENV-08): a typing error in
//! a shell profile must not bring a program down.
//!
//! `(ENV-01)` and similar marks are rows of `tests/conformance.md`, which the tests follow.
//!
//! Settings are public structs with public fields, all contained in [`OtlpConfig`], except those that configure a
//! companion of the client, which are made by setters. Each is given to a setter of
//! [`ClientBuilder`](crate::ClientBuilder).
//!
//! Write literals of these structs with `..Default::default()`, and patterns with `..`, even if every field is named: a
//! later version may add fields, and such code keeps compiling. [`RetryConfig`], [`ConnectionPoolConfig`],
//! [`PerformanceConfig`], [`MonitoringConfig`] and [`MemoryThresholds`] will never get more fields.
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
//! A struct given in code counts as a whole, and the environment's variables for its fields are ignored: if one is set
//! to a different value, one line on stderr names it. Start from [`OtlpConfig::from_env`] if they are to count.

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
#[cfg(feature = "grpc")]
pub(crate) use secrets::base64_decoded;
pub(crate) use settings::Settings;
pub(crate) use tls::Tls;
#[cfg(feature = "tls")]
pub(crate) use tls::{Certificates, NamedFile, Renewal, der};
pub(crate) use tuning::Encoding;
