//! The processor that exports each span at once, on the thread that ends it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::exporter::{SpanExporter, call};
use crate::{
    capture::{EndedSpan, SpanProcessor},
    error::ExportError,
    sync::Turn,
    value::KeyValue,
};

/// Exports each span as it ends, on its thread, which waits for it and for other threads' spans
/// ([Simple processor](https://opentelemetry.io/docs/specs/otel/trace/sdk/#simple-processor)): for tests, and for
/// exporters that only take note. A span that the exporter itself ends is lost, which the next flush tells.
#[derive(Debug)]
pub struct SimpleSpanProcessor<E> {
    exporter: E,
    state: Turn<State>,
    /// The exporter ended a span, which it could not be given.
    has_lost: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_shut_down: bool,
    /// Why the last span that was not exported was not.
    failure: Option<ExportError>,
}

impl<E: SpanExporter> SimpleSpanProcessor<E> {
    /// Exports to `exporter`.
    pub fn new(exporter: E) -> Self {
        Self { exporter, state: Turn::new(State::default()), has_lost: AtomicBool::new(false) }
    }

    fn finish(
        &self,
        timeout: Duration,
        is_last: bool,
        finish: impl FnOnce(&E, Duration) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let begun = Instant::now();
        // Whoever holds it is exporting; that may be the exporter that calls.
        let Some(mut state) = self.state.take_within(timeout) else { return Err(ExportError::TimedOut) };
        if state.is_shut_down {
            return Ok(());
        }
        state.is_shut_down = is_last;
        let lost = || ExportError::failed("a span that the exporter ended was not exported");
        let failure = state.failure.take().or(self.has_lost.swap(false, Ordering::Relaxed).then(lost));
        drop(state);
        let finished = call(|| finish(&self.exporter, timeout.saturating_sub(begun.elapsed())));
        finished.and(failure.map_or(Ok(()), Err))
    }
}

impl<E: SpanExporter> SpanProcessor for SimpleSpanProcessor<E> {
    fn set_resource(&self, resource: &[KeyValue<'static>]) {
        self.exporter.set_resource(resource);
    }

    fn on_end(&self, span: &EndedSpan<'_>) {
        if !span.context().is_sampled() {
            return;
        }
        let data = [span.to_data()];
        let Some(mut state) = self.state.take() else { return self.has_lost.store(true, Ordering::Relaxed) };
        if !state.is_shut_down {
            let exported = call(|| self.exporter.export(&data));
            state.failure = exported.err().or(state.failure.take());
        }
    }

    /// # Errors
    /// Those of the exporter; also why a span was not exported since the last call.
    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        self.finish(timeout, false, E::force_flush)
    }

    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        self.finish(timeout, true, E::shutdown)
    }
}
