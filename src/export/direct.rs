//! Spans that are complete already: encoded and sent on the caller's thread, with the answer returned.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    Exporter, SpanBuffer,
    compress::NoMemory,
    pipeline::Parcel,
    retry::Verdict,
    transport::{Failure, Outcome},
    worker::LoseOnPanic,
};
use crate::{
    capture::{Record, SpanData},
    error::{DropReason, Error, LogLevel},
};

/// What the receiver said to spans that were sent directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Spans it accepted.
    pub accepted: u64,
    /// Spans it rejected (partial success).
    pub rejected: u64,
    /// What it said about them, or as a hint; empty if nothing.
    pub message: String,
}

impl Exporter {
    /// Encodes and sends `spans` on the calling thread.
    pub(crate) fn export_spans(&self, spans: &[SpanData]) -> Result<ExportReport, Error> {
        if let Some(index) = spans.iter().position(|span| !span.context.is_valid()) {
            return Err(Error::InvalidSpan { index });
        }
        if self.intake.is_closed() {
            return Err(Error::Shutdown);
        }
        let mut report = ExportReport::default();
        let mut rest = spans;
        while !rest.is_empty() {
            let (parcel, taken) = self.pack_spans(rest);
            rest = &rest[taken..];
            let sent = parcel.and_then(|parcel| {
                let unsettled = LoseOnPanic::direct(self, parcel.id);
                let _held = self.intake.supply.hold_for_now(parcel.memory());
                let sent = self.deliver(parcel, &mut report);
                std::mem::forget(unsettled);
                sent
            });
            if let Err(error) = sent {
                // What was not even tried is lost too, for the same reason.
                self.intake.stats.ended_elsewhere(rest.len() as u64);
                self.intake.stats.dropped(DropReason::Undelivered, rest.len() as u64);
                return Err(error);
            }
        }
        Ok(report)
    }

    /// Sends what stands in `buffer` on the calling thread, from there.
    pub(crate) fn send_buffer(&self, mut buffer: SpanBuffer) -> Result<ExportReport, Error> {
        if self.intake.is_closed() {
            return Err(Error::Shutdown);
        }
        let mut report = ExportReport::default();
        let (spans, len) = (buffer.spans(), buffer.len());
        let Some(pages) = buffer.take_pages().filter(|_| spans > 0) else { return Ok(report) };
        let pages = Arc::new(pages);
        let id = self.ledger.begin(|| {
            self.intake.stats.ended_elsewhere(spans);
            spans
        });
        let id = id.unwrap_or(u64::MAX);
        let (truncated, limited) = buffer.lacking();
        self.intake.stats.lacking(truncated, limited);
        let unsettled = LoseOnPanic::direct(self, id);
        let sent = match self.pack_request(id, spans, &pages, len) {
            Ok(parcel) => {
                let _held = self.intake.supply.hold_for_now(parcel.memory());
                self.deliver(parcel, &mut report)
            }
            Err(NoMemory) => Err(self.lose_for_memory(id)),
        };
        std::mem::forget(unsettled);
        buffer.put_pages(Arc::into_inner(pages));
        sent.map(|()| report)
    }

    /// A parcel of as many of `spans` as one request may hold, and how many that are. Where there is no memory for one
    /// they are counted as lost.
    fn pack_spans(&self, spans: &[SpanData]) -> (Result<Parcel, Error>, usize) {
        let limits = self.batch_limits();
        let mut record = Record::within(self.intake.span_limits);
        let mut scopes = BTreeMap::<u32, Vec<u8>>::new();
        let (mut taken, mut bytes, mut is_lost) = (0, 0, false);
        for span in spans.iter().take(limits.spans) {
            let encoded = span.encode(&mut record);
            if taken > 0 && bytes + encoded.len() > limits.bytes {
                break;
            }
            let run = scopes.entry(self.intake.scopes.id(&span.scope)).or_default();
            if run.try_reserve(encoded.len()).is_err() {
                // What there is memory for goes first.
                is_lost = taken == 0;
                taken = taken.max(1);
                break;
            }
            bytes += encoded.len();
            taken += 1;
            run.extend_from_slice(encoded);
            self.intake.count_lacking(&record);
        }
        let spans = taken as u64;
        let id = self.ledger.begin(|| {
            self.intake.stats.ended_elsewhere(spans);
            spans
        });
        let id = id.unwrap_or(u64::MAX);
        let runs = scopes.iter().map(|(scope, bytes)| (*scope, bytes.as_slice())).collect();
        let parcel = if is_lost { Err(NoMemory) } else { self.pack_records(id, spans, &runs) };
        (parcel.map_err(|NoMemory| self.lose_for_memory(id)), taken)
    }

    /// Counts a batch as lost that there is no memory to send.
    fn lose_for_memory(&self, id: u64) -> Error {
        self.ledger.settle(id, u64::MAX, None, |spans| self.intake.stats.dropped(DropReason::NoMemory, spans));
        let endpoint = self.settings.endpoint.to_string();
        Error::Unreachable { endpoint, message: "the system gives no memory for the request; nothing was sent".into() }
    }

    /// Sends one parcel, or its parts, and settles them. Their spans never were in the queue, so that nothing goes
    /// back to its quota.
    fn deliver(&self, parcel: Parcel, report: &mut ExportReport) -> Result<(), Error> {
        let id = parcel.id;
        let mut parcels = vec![parcel];
        while let Some(mut parcel) = parcels.pop() {
            let (verdict, outcome) = self.attempt(&mut parcel);
            if matches!(verdict, Verdict::Done { .. } | Verdict::GiveUp(_)) {
                self.conclude(&parcel, &outcome);
            }
            let last = outcome.clone();
            let lost = match verdict {
                Verdict::Wait(wait) => {
                    let until = Instant::now() + wait;
                    parcels.push(parcel);
                    if !self.ledger.wait_until(until, |_| self.stopping.load(Ordering::SeqCst)) {
                        continue;
                    }
                    (DropReason::Shutdown, Error::Shutdown)
                }
                Verdict::Done { rejected } => {
                    let rejected = rejected.min(parcel.spans);
                    self.ledger.settle(id, parcel.spans, Some(Instant::now()), |spans| {
                        self.intake.stats.exported(spans - rejected.min(spans));
                        self.intake.stats.dropped(DropReason::Rejected, rejected.min(spans));
                    });
                    report.accepted += parcel.spans - rejected;
                    report.rejected += rejected;
                    if let Outcome::Accepted { message: Some(message), .. } = outcome {
                        report.message = message;
                    }
                    continue;
                }
                Verdict::Split => match self.split(&parcel) {
                    Some(halves) => {
                        parcels.extend(halves.into_iter().rev());
                        continue;
                    }
                    None => {
                        if matches!(outcome, Outcome::Oversized { .. }) {
                            self.say_failure(LogLevel::Error, &parcel, &outcome, format_args!("the span was dropped"));
                        }
                        (DropReason::TooLarge, self.error(outcome))
                    }
                },
                Verdict::GiveUp(reason) => (reason, self.error(outcome)),
            };
            let (reason, error) = lost;
            // The rest of the batch shares the fate of the part that failed.
            self.ledger.settle(id, u64::MAX, None, |spans| {
                self.intake.stats.dropped(reason, spans);
                self.operations.lose(&last, spans);
            });
            return Err(error);
        }
        Ok(())
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
