//! Complete spans: encoded and sent on the caller's thread, which gets the receiver's answer.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Instant};

use super::{
    Exporter, SpanBuffer,
    delivery::{Fate, Settle},
    encode::compress::NoMemory,
    outcome::{Failure, Outcome},
    request::Request,
    workers::LoseOnPanic,
};
use crate::{
    capture::{Record, SpanData},
    error::{DropReason, Error, LogLevel},
};

/// The receiver's answer to spans that were sent directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// How many spans the receiver accepted.
    pub accepted: u64,
    /// How many spans it rejected (partial success).
    pub rejected: u64,
    /// Its message about rejected spans, or a hint; empty if there is none.
    pub message: String,
}

impl Exporter {
    /// Encodes and sends `spans` on the calling thread.
    pub(crate) fn export_spans(&self, spans: &[SpanData]) -> Result<ExportReport, Error> {
        if let Some(index) = spans.iter().position(|span| !span.context.is_valid()) {
            return Err(Error::InvalidSpan { index });
        }
        if self.recorder.is_closed() {
            return Err(Error::Shutdown);
        }
        let mut report = ExportReport::default();
        let mut rest = spans;
        while !rest.is_empty() {
            let (request, taken) = self.pack_spans(rest);
            rest = &rest[taken..];
            let sent = request.and_then(|request| {
                let unsettled = LoseOnPanic::direct(self, request.id);
                let sent = self.deliver(request, &mut report);
                std::mem::forget(unsettled);
                sent
            });
            if let Err(error) = sent {
                // Spans that were not even tried are lost too, for the same reason.
                self.recorder.stats.ended_elsewhere(rest.len() as u64);
                self.recorder.stats.dropped(DropReason::Undelivered, rest.len() as u64);
                return Err(error);
            }
        }
        Ok(report)
    }

    /// Sends the content of `buffer` on the calling thread, without copying it first.
    pub(crate) fn send_buffer(&self, mut buffer: SpanBuffer) -> Result<ExportReport, Error> {
        if self.recorder.is_closed() {
            return Err(Error::Shutdown);
        }
        let mut report = ExportReport::default();
        let (spans, len) = (buffer.spans(), buffer.len());
        let Some(pages) = buffer.take_pages().filter(|_| spans > 0) else { return Ok(report) };
        let pages = Arc::new(pages);
        let id = self.ledger.begin(|| {
            self.recorder.stats.ended_elsewhere(spans);
            spans
        });
        let id = id.unwrap_or(u64::MAX);
        let (truncated, limited) = buffer.lacking();
        self.recorder.stats.lacking(truncated, limited);
        let unsettled = LoseOnPanic::direct(self, id);
        let sent = match self.pack_request(id, spans, &pages, len) {
            Ok(request) => self.deliver(request, &mut report),
            Err(NoMemory) => Err(self.lose_for_memory(id)),
        };
        std::mem::forget(unsettled);
        buffer.put_pages(Arc::into_inner(pages));
        sent.map(|()| report)
    }

    /// Packs as many of `spans` as one request may hold, and returns how many that are. Without memory for a request
    /// they are counted as lost.
    fn pack_spans(&self, spans: &[SpanData]) -> (Result<Request, Error>, usize) {
        let limits = self.batch_limits();
        let mut record = Record::within(self.recorder.span_limits);
        let mut scopes = BTreeMap::<u32, Vec<u8>>::new();
        let (mut taken, mut bytes, mut is_lost) = (0, 0, false);
        for span in spans.iter().take(limits.spans) {
            let encoded = span.encode(&mut record);
            if taken > 0 && bytes + encoded.len() > limits.bytes {
                break;
            }
            let run = scopes.entry(self.recorder.scopes.id(&span.scope)).or_default();
            if run.try_reserve(encoded.len()).is_err() {
                // The spans that there is memory for go first.
                is_lost = taken == 0;
                taken = taken.max(1);
                break;
            }
            bytes += encoded.len();
            taken += 1;
            run.extend_from_slice(encoded);
            self.recorder.count_lacking(&record);
        }
        let spans = taken as u64;
        let id = self.ledger.begin(|| {
            self.recorder.stats.ended_elsewhere(spans);
            spans
        });
        let id = id.unwrap_or(u64::MAX);
        let runs = scopes.iter().map(|(scope, bytes)| (*scope, bytes.as_slice())).collect();
        let request = if is_lost { Err(NoMemory) } else { self.pack_records(id, spans, &runs) };
        (request.map_err(|NoMemory| self.lose_for_memory(id)), taken)
    }

    /// Counts a batch as lost because there is no memory to send it.
    fn lose_for_memory(&self, id: u64) -> Error {
        self.ledger.settle(id, u64::MAX, None, |spans| self.recorder.stats.dropped(DropReason::NoMemory, spans));
        let endpoint = self.settings.endpoint.to_string();
        Error::Unreachable { endpoint, message: "the system gives no memory for the request; nothing was sent".into() }
    }

    /// Sends one request, or its parts, and settles them.
    fn deliver(&self, request: Request, report: &mut ExportReport) -> Result<(), Error> {
        let mut direct = Direct { report, error: None };
        self.drive_here(request, None, &mut direct);
        direct.error.map_or(Ok(()), Err)
    }

    fn error(&self, outcome: Outcome) -> Error {
        let endpoint = self.settings.endpoint.to_string();
        match outcome {
            Outcome::Refused { status, message } | Outcome::TooLarge { status, message } => {
                Error::Refused { endpoint, status, message }
            }
            Outcome::Oversized { bytes, limit } => Error::TooLarge { bytes, limit },
            Outcome::Failed { failure: Failure::Shutdown, .. } => Error::Shutdown,
            Outcome::Failed { message, .. } => Error::Unreachable { endpoint, message },
            Outcome::Accepted { .. } => Error::Unreachable { endpoint, message: "accepted, but not settled".into() },
        }
    }
}

/// Settles requests that a caller waits for. Their spans never were in the queue, so nothing goes back to its quota.
struct Direct<'a> {
    report: &'a mut ExportReport,
    error: Option<Error>,
}

impl Settle for Direct<'_> {
    fn settle(&mut self, exporter: &Exporter, request: &mut Request, fate: Fate, outcome: &Outcome) -> ControlFlow<()> {
        match fate {
            Fate::Accepted { rejected } => {
                exporter.ledger.settle(request.id, request.spans, Some(Instant::now()), |spans| {
                    let rejected = rejected.min(spans);
                    exporter.recorder.stats.exported(spans - rejected);
                    exporter.recorder.stats.dropped(DropReason::Rejected, rejected);
                });
                self.report.accepted += request.spans - rejected;
                self.report.rejected += rejected;
                if let Outcome::Accepted { message: Some(message), .. } = outcome {
                    self.report.message.clone_from(message);
                }
                ControlFlow::Continue(())
            }
            Fate::Lost(reason) => {
                if matches!(outcome, Outcome::Oversized { .. }) {
                    exporter.say_failure(LogLevel::Error, request, outcome, format_args!("the span was dropped"));
                }
                self.error = Some(exporter.error(request.most_telling(outcome).clone()));
                // The rest of the batch shares the fate of the part that failed.
                exporter.ledger.settle(request.id, u64::MAX, None, |spans| {
                    exporter.recorder.stats.dropped(reason, spans);
                    exporter.operations.lose(outcome, spans);
                });
                ControlFlow::Break(())
            }
        }
    }

    /// The call has its own time limit.
    fn waits_for_pauses(&self, _: &Exporter) -> bool {
        false
    }
}
