//! A client as the exporter of another client's spans: a second receiver.

use std::time::Duration;

use super::Client;
use crate::{
    capture::SpanData,
    error::{Error, ExportError},
    processing::SpanExporter,
    stats::Receipt,
};

/// Sends spans of another client to its own receiver, on the calling thread, with its own resource. Behind a
/// [`BatchSpanProcessor`](crate::processing::BatchSpanProcessor) each receiver has a queue, attempts and an outcome of
/// its own.
impl SpanExporter for Client {
    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError> {
        match self.export_spans(batch) {
            Ok(_) => Ok(()),
            Err(Error::Shutdown) => Err(ExportError::Shutdown),
            Err(error) => Err(ExportError::caused_by(error)),
        }
    }

    fn force_flush(&self, timeout: Duration) -> Result<(), ExportError> {
        finished(&Self::flush(self, timeout))
    }

    fn shutdown(&self, timeout: Duration) -> Result<(), ExportError> {
        finished(&Self::shutdown(self, timeout))
    }
}

/// Spans that were lost earlier are in the client's own counts, and were reported to the caller that exported them.
fn finished(receipt: &Receipt) -> Result<(), ExportError> {
    if receipt.pending == 0 { Ok(()) } else { Err(ExportError::TimedOut) }
}
