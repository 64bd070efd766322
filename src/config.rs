//! Every setting: what it means, in which unit, what holds by default and what is allowed.
//!
//! Code beats the signal's own environment variable (`OTEL_EXPORTER_OTLP_TRACES_…`), which beats the general one, which
//! beats the default. A value in code that makes no sense is an error that names the setting, the value and what is
//! allowed. A value in the environment that makes no sense costs one warning and counts as unset (ENV-03, ENV-04,
//! ENV-08): a typing error in a shell profile must not bring a program down.
//!
//! `(ENV-01)` and the like are rows of the checklist that the tests follow.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{error::LogLevel, value::KeyValue};

mod endpoint;
mod headers;
mod retry;
mod settings;
mod spool;
mod tls;

pub(crate) use endpoint::Endpoint;
pub(crate) use headers::Headers;
pub use retry::{ErrorType, RetryConfig};
pub(crate) use settings::Settings;
pub use spool::SpoolConfig;
pub(crate) use tls::Tls;

/// How ended spans are gathered into requests, and how many may wait.
///
/// A batch leaves as soon as one of these holds: it is *ready*, which it is at the smaller of 512 and
/// `max_batch_size` spans; its oldest span has waited for `batch_timeout`; somebody flushes. The specification's 512
/// spans are the most of one request where `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says so; by default a request grows with
/// the backlog, from 512 to 4096 spans, since large requests compress better and a backlog is best sent in few of them.
///
/// Given in code, the whole struct counts and the environment's `OTEL_BSP_*` sizes and delay do not.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchConfig {
    /// The most spans of one request. Default 4096; at least 1 and at most `max_queue_size`. If it was left at the
    /// default and `max_queue_size` is smaller, it follows. Environment: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch_size: usize,
    /// The most bytes of one request before compression. Default 1 MiB; at least 1, at most 64 MiB, and capped by
    /// `max_memory_usage`. A single larger span is sent alone. No environment variable.
    pub max_batch_bytes: usize,
    /// How long an ended span waits for its batch to become ready. Default 5 s; longer than zero. Environment:
    /// `OTEL_BSP_SCHEDULE_DELAY` in milliseconds, where 0 means 1 ms.
    pub batch_timeout: Duration,
    /// How many ended spans may wait until they are accepted, wherever they are. Default `usize::MAX`: only
    /// `max_memory_usage` bounds them, in bytes. At least 1. Environment: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_batch_size: 4096,
            max_batch_bytes: 1024 * 1024,
            batch_timeout: Duration::from_secs(5),
            max_queue_size: usize::MAX,
        }
    }
}

/// How request bodies are compressed. Environment: `OTEL_EXPORTER_OTLP_COMPRESSION` or
/// `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION`, `none` or `gzip`, and beyond the specification `brotli` or `zstd`.
///
/// Choosing one that is not compiled in is an error of `build()` that names the cargo feature to turn on.
///
/// A receiver that answers 415 (unsupported media type) to anything else gets the same batch again as gzip, once. If it
/// accepts that, the client stays on gzip, and says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Bodies are sent as they are: the least CPU, about six times the bytes.
    None,
    /// Bodies are sent with `Content-Encoding: gzip`, which every OTLP receiver understands. The default.
    #[default]
    Gzip,
    /// Bodies are sent with `Content-Encoding: br`: twice the CPU of gzip and no fewer bytes, for receivers that want it.
    /// Needs the cargo feature `brotli`.
    Brotli,
    /// Bodies are sent with `Content-Encoding: zstd`, which the OpenTelemetry Collector understands: less CPU and fewer
    /// bytes than gzip. Needs the cargo feature `zstd`, and a C compiler to build it.
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in the environment, and that of the cargo feature, where it needs one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }

    /// The value of `Content-Encoding`, if there is one.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    pub(crate) fn is_compiled_in(self) -> bool {
        match self {
            Self::None | Self::Gzip => true,
            Self::Brotli => cfg!(feature = "brotli"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// What becomes of spans for which there is no room: `max_queue_size` spans wait already, or what the client holds
/// has reached `max_memory_usage`. Whatever is dropped is counted as
/// [`DropReason::QueueFull`](crate::DropReason::QueueFull).
///
/// Environment: `OTLP_DROP_STRATEGY`, one of `newest_first`, `oldest_first` and `block:` with a number of
/// milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropStrategy {
    /// The span that finds no room is dropped. The default: it costs the thread that records nothing.
    #[default]
    NewestFirst,
    /// What waits longest makes room: the oldest batch that is not being sent, and the oldest spans of this thread
    /// (else of another) only when there is no batch. For those who look at what happened last. Where two threads
    /// shed at once, one of them drops its own span instead of waiting.
    OldestFirst,
    /// Ending a span waits for room, at most for so long each time; then that span is dropped. Starting one waits too,
    /// where what has ended leaves no memory for it. Where spans that are still open fill the bound, it waits 0.1 s at
    /// most: the thread might wait for itself. For batch jobs that must lose nothing and may rather be slowed down. Longer than zero.
    Block(Duration),
}

/// How long closing the client, and with it the exit of the program, may take.
///
/// Sending goes on as long as it goes forward: batches are acknowledged, connections made, bytes of a request taken;
/// what is done over again does not count. A receiver that takes longer than `stall` to answer needs a longer one.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitBudget {
    /// The longest time without progress. Default 1 s; longer than zero, and never longer than `total`. Environment:
    /// `OTLP_EXIT_STALL_TIMEOUT` in milliseconds, where 0 means no limit (one hour stands in).
    pub stall: Duration,
    /// The longest time in all. Default 10 s; longer than zero. Environment: `OTLP_EXIT_TIMEOUT` in milliseconds, where
    /// 0 means no limit (one hour stands in).
    pub total: Duration,
}

impl Default for ExitBudget {
    fn default() -> Self {
        Self { stall: Duration::from_secs(1), total: Duration::from_secs(10) }
    }
}

/// What was set in code; `None` leaves it to the environment, then to the default. Durations beyond a year count as a
/// year.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The receiver's base URL: `/v1/traces` is appended unless it is there already. Default
    /// `http://localhost:4318`.
    pub(crate) endpoint: Option<String>,
    /// The receiver's URL for traces, used as it is. It beats `endpoint`.
    pub(crate) traces_endpoint: Option<String>,
    /// Request headers, in the order of the calls. One that the environment names too is replaced, the others stay.
    pub(crate) headers: Vec<(String, String)>,
    /// For one connection, TLS included. Default 5 s; longer than zero.
    pub(crate) connect_timeout: Option<Duration>,
    /// One absolute limit for one batch, all attempts included. Default 10 s; longer than zero.
    pub(crate) request_timeout: Option<Duration>,
    /// How long an idle connection is kept. Default 60 s; zero keeps none.
    pub(crate) keep_alive_timeout: Option<Duration>,
    /// How many idle connections are kept. Default 16; zero keeps none.
    pub(crate) max_idle_connections: Option<usize>,
    pub(crate) compression: Option<Compression>,
    /// A PEM file with the only certificates that the receiver's may be derived from.
    pub(crate) certificate: Option<PathBuf>,
    /// PEM files with a client certificate and its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    /// `service.name`; not empty.
    pub(crate) service_name: Option<String>,
    /// `service.version`. Default: not sent.
    pub(crate) service_version: Option<String>,
    pub(crate) resource_attributes: Vec<KeyValue<'static>>,
    pub(crate) batch: Option<BatchConfig>,
    /// Threads, 1 to 64. Default: the CPUs this process may use, at most 4.
    pub(crate) worker_count: Option<usize>,
    /// Bytes; the hard bound on what the client holds. Default 64 MiB, at least 1 MiB.
    pub(crate) max_memory_usage: Option<usize>,
    pub(crate) drop_strategy: Option<DropStrategy>,
    pub(crate) exit_budget: Option<ExitBudget>,
    pub(crate) retry: Option<RetryConfig>,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) spool: Option<SpoolConfig>,
}

/// URLs and headers may hold secrets here, unlike in [`Settings`].
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}
