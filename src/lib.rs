//! Traces for programs without an async runtime.
//!
//! [`init`] makes the process-wide [`Client`] from the environment, [`tracer`] hands out [`Tracer`]s for it, and
//! each tracer starts [`Span`]s. Ending a span, or dropping it, hands it to a few OS threads that batch, compress
//! and post it; [`Client::flush`] and [`Client::shutdown`] wait for that and answer a [`Receipt`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let receiver = otlp::testing::Receiver::start()?;
//! # let client = otlp::Client::builder().with_endpoint(receiver.endpoint()).build()?;
//! let tracer = client.tracer("import");
//! tracer.in_span("load", |span| {
//!     span.set_attribute("file", "a.csv");
//! });
//! assert!(client.flush(std::time::Duration::from_secs(5)).is_complete());
//! # Ok(())
//! # }
//! ```
//!
//! # The journey of a span
//!
//! 1. `capture`, on the application's thread: [`Tracer::start`] takes a buffer from the thread's pool and writes
//!    ids and start time into it as protobuf. Each attribute and event is appended as it is set.
//! 2. Ending the span copies the finished bytes into the thread's ring: a chain of chunks with one writer.
//!    No lock is taken, no system call made and, once the thread is warm, nothing allocated.
//! 3. `export`, on a worker: when 512 spans wait, or the oldest has waited for
//!    [`batch_timeout`](BatchConfig::batch_timeout), or somebody flushes, slices of all rings are detached.
//! 4. The worker writes the request envelope around them, grouped by [`Scope`], and compresses straight from ring
//!    memory; the chunks are then free for the next spans.
//! 5. The body is posted over a kept-alive connection. Temporary failures are retried with exponential backoff
//!    until the batch's time is over, while other workers go on.
//! 6. The outcome is settled once: exported, rejected, or dropped with a [`DropReason`]. With a spool
//!    ([`SpoolConfig`]), what could not be delivered is written to disk instead, and sent later.
//!
//! # Limits and defaults
//!
//! [`ClientBuilder`] documents each setting with its default; [`VARIABLES`] lists the environment variables. The
//! default bound on memory is 64 MiB, for everything a client holds.
//!
//! # Features
//!
//! Only `tls` is on by default. A program that sends to a collector beside it does not need it: with
//! `default-features = false` the client speaks plain HTTP, and is 30 crates in all.
//!
//! - `tls`: receivers behind https, with rustls. Without it an https endpoint, or a certificate, is an error of
//!   `build()`.
//! - `testing`: the module of this name, and the message types of OTLP that it shows. Tests of a program ask for it, and
//!   the program does not link it: `otlp = { version = "0.1", features = ["testing"] }` in `[dev-dependencies]`, beside
//!   the line in `[dependencies]`.
//! - `platform-verifier`: TLS trusts what the machine trusts.
//! - `brotli`, `zstd`: these [`Compression`]s.
//!
//! # Further on
//!
//! [`config`] holds every setting as structs with public fields. [`core`](mod@core) has what a client can be given
//! beside them: pools, controllers, a tuner. [`monitoring`] is what it measures of itself. [`propagation`] passes a
//! trace on to other processes, and [`testing`] receives spans in this one.

// The module that is linked to may not be there.
#![cfg_attr(not(feature = "testing"), allow(rustdoc::broken_intra_doc_links))]

// First, for its macro.
#[macro_use]
mod listed;

#[cfg(feature = "bench")]
pub mod bench;
mod capture;
mod client;
mod compat;
pub mod config;
mod control;
mod env;
mod error;
mod exit;
mod export;
mod fork;
#[cfg(test)]
mod hostile;
#[cfg(any(test, feature = "grpc", feature = "testing"))]
// The receiver for tests alone sends less than a client does.
#[cfg_attr(not(feature = "grpc"), allow(dead_code, unused_imports))]
mod http2;
mod plugin;
pub mod processing;
pub mod propagation;
mod proto;
mod resource;
mod stats;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod value;
mod wire;

pub use capture::{
    Entered, Event, IdGenerator, Link, Scope, Span, SpanBuilder, SpanContext, SpanData, SpanId, SpanKind, Status,
    TraceId, TraceState, Tracer, current_span,
};
pub use client::{Client, ClientBuilder, DefaultGuard, Guard, client, init, tracer};
pub use compat::{core, monitoring};
pub use config::{
    BatchConfig, BatchStrategy, Compression, DropStrategy, ErrorType, ExitBudget, OtlpConfig, RetryConfig, SpanLimits,
    SpoolConfig,
};
pub use env::{VARIABLES, Variable};
pub use error::{Diagnostic, DropReason, Error, LogLevel, ParseError};
pub use exit::ProcessSpan;
pub use export::{ExportReport, SpanBuffer};
pub use stats::{Dropped, MemoryStats, Receipt, Snapshot};
pub use value::{KeyValue, Value};

/// Samplers: which spans are recorded ([Sampling](https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling)).
pub mod sampling {
    pub use crate::capture::{
        AlwaysOff, AlwaysOn, AlwaysRecord, ParentBased, ProbabilitySampler, Sampler, SamplingDecision, SamplingInput,
        SamplingResult, TraceIdRatioBased,
    };
}

/// What a program that records spans needs, with one `use`. It hides nothing of the standard library: neither `Result`
/// nor `Error` is among it, and the functions are called by their paths.
///
/// ```
/// use otlp::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let _guard: Guard = otlp::init()?;
/// let tracer: Tracer = otlp::tracer("import");
/// tracer.span("load").kind(SpanKind::Client).in_span(|span: &mut Span| {
///     span.add_event("retrying", [KeyValue::new("attempt", 2)]);
///     span.set_status(Status::error("disk full"));
/// });
/// std::process::Command::new("true").with_trace_context().status()?;
/// # Ok(())
/// # }
/// ```
pub mod prelude {
    pub use crate::{
        Client, Guard, KeyValue, ProcessSpan, Span, SpanContext, SpanKind, Status, Tracer, Value,
        propagation::CommandExt as _,
    };
}

/// The snippets of the README and of the documents, compiled and run.
#[cfg(all(doctest, feature = "testing", feature = "tls"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/recipes.md")]
    struct Recipes;
    #[doc = include_str!("../docs/tuning.md")]
    struct Tuning;
}
