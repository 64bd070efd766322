//! Where the spans of a processor go.

use std::{sync::Arc, time::Duration};

use crate::{
    capture::{SpanData, processing},
    error::ExportError,
    plugin::guarded,
    value::KeyValue,
};

/// Takes spans that have ended somewhere
/// ([Span exporter](https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-exporter)); given to a
/// [`BatchSpanProcessor`](super::BatchSpanProcessor) or a [`SimpleSpanProcessor`](super::SimpleSpanProcessor).
///
/// These call `export` from one thread at a time, never again for the same spans, and only for spans of traces that are
/// sampled; the other two may be called at any time, by other threads too. What panics ends there and counts as a
/// failure. Spans that an exporter records itself reach no processor.
pub trait SpanExporter: Send + Sync {
    /// What all spans have in common. Called once, before the first batch.
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        let _ = resource;
    }

    /// Takes these spans. It may block, but must not for ever: the processor waits for it, and so does whoever flushes,
    /// up to a timeout.
    ///
    /// # Errors
    /// [`ExportError::Shutdown`] after the shutdown, others if the spans were not taken. They are lost then: an
    /// exporter that wants to try again does so itself.
    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError>;

    /// Hands on what it was given before the call, within `timeout`.
    ///
    /// # Errors
    /// [`ExportError::TimedOut`] if that takes longer, others if it failed.
    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        let _ = timeout;
        Ok(())
    }

    /// Ends, within `timeout`. Called once.
    ///
    /// # Errors
    /// Those of [`force_flush`](Self::force_flush).
    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        self.force_flush(timeout)
    }
}

impl<E: SpanExporter + ?Sized> SpanExporter for Arc<E> {
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        (**self).set_resource(resource);
    }

    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError> {
        (**self).export(batch)
    }

    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        (**self).force_flush(timeout)
    }

    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        (**self).shutdown(timeout)
    }
}

/// Calls an exporter: a panic counts as a failure, and what it records reaches no processor.
pub(super) fn call(act: impl FnOnce() -> Result<(), ExportError>) -> Result<(), ExportError> {
    guarded(|| processing(act)).unwrap_or_else(|| Err(ExportError::failed("the exporter panicked")))
}
