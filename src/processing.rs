//! Spans as values, for programs that want more than export: processors, which are told of spans as they start and end,
//! and exporters, which are given those that have ended
//! ([Span processor](https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor),
//! [Span exporter](https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-exporter)).
//!
//! The client needs none of this to export: its own way from a span to the receiver is the fast one, and goes on beside
//! the processors it is given. With a processor each span costs several times as much: it takes the slow path at its
//! start and end, and is read back from its bytes. A client that is to do nothing else is given
//! `OTEL_TRACES_EXPORTER=none`.
//!
//! A [`Client`](crate::Client) is a [`SpanExporter`] itself: behind a [`BatchSpanProcessor`] of another client it sends
//! the same spans to a second receiver, with a queue and an outcome of its own.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use otlp::processing::{BatchSpanProcessor, EndedSpan, SpanProcessor};
//!
//! /// Counts what is slow.
//! #[derive(Default)]
//! struct Slow(std::sync::atomic::AtomicU64);
//!
//! impl SpanProcessor for Slow {
//!     fn on_end(&self, span: &EndedSpan<'_>) {
//!         let took = span.end_time().duration_since(span.start_time()).unwrap_or_default();
//!         if took.as_millis() >= 100 {
//!             self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!         }
//!     }
//! }
//!
//! # let (receiver, backup) = (otlp::testing::Receiver::start()?, otlp::testing::Receiver::start()?);
//! # let (first, second) = (receiver.endpoint(), backup.endpoint());
//! let mirror = otlp::Client::builder().with_endpoint(second).build()?;
//! let client = otlp::Client::builder()
//!     .with_endpoint(first)
//!     .with_span_processor(Slow::default())
//!     .with_span_processor(BatchSpanProcessor::new(mirror))
//!     .build()?;
//! client.tracer("job").start("step").end();
//! assert!(client.shutdown(std::time::Duration::from_secs(5)).is_complete());
//! # assert_eq!((receiver.span_count(), backup.span_count()), (1, 1));
//! # Ok(())
//! # }
//! ```

mod batch;
mod exporter;
mod simple;

pub use crate::{
    capture::{EndedSpan, SpanProcessor},
    error::ExportError,
};
pub use batch::{BatchSpanProcessor, ProcessorStats};
pub use exporter::SpanExporter;
pub use simple::SimpleSpanProcessor;
