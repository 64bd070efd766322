//! Complete spans: encoded and sent on the caller's thread, which gets the receiver's answer.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Instant};

use super::{
    Exporter, SpanBuffer,
    delivery::{Fate, Settle},
    encode::{
        compress::{Encoder, NoMemory, encoder_bytes},
        pages::Bytes,
    },
    outcome::{Failure, Outcome},
    request::Request,
    room::{EncoderPlace, Room},
    workers::LoseOnPanic,
};
use crate::{
    capture::{Record, SpanData},
    config::Compression,
    error::{DropReason, Error, LogLevel},
};

/// How many encoders wait to be used again at most.
const SPARE_ENCODERS: usize = 4;

/// What is packed at once takes no larger share of the bound, unless it is a single span: others have to be able to wait
/// for room with some prospect.
const SHARE: usize = 8;

/// What the receiver said to spans that were sent directly.
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
            let begun = Instant::now();
            let sent = self.room_for_spans(rest, begun).and_then(|(share, room)| {
                let (request, taken) = self.pack_spans(share);
                rest = &rest[taken..];
                let mut request = request?;
                room.hand_over(&mut request);
                self.deliver_from(begun, request, &mut report)
            });
            if let Err(error) = sent {
                // Spans that were not even tried are lost too, for the same reason.
                self.recorder.stats.ended_elsewhere(rest.len() as u64);
                self.recorder.stats.dropped(reason_of(&error), rest.len() as u64);
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
        self.recorder.stats.lacking_memory(buffer.lacking_memory());
        let unsettled = LoseOnPanic::direct(self, id);
        let begun = Instant::now();
        // What is not compressed is sent from where it stands.
        let is_lent = self.encoding().compression == Compression::None;
        let sent = match self.wait_for_room(if is_lent { 0 } else { Self::bytes_to_pack(len) }, len, begun) {
            Ok(room) => match self.pack_request(id, spans, &pages, len) {
                Ok(mut request) => {
                    room.hand_over(&mut request);
                    self.deliver_from(begun, request, &mut report)
                }
                Err(NoMemory) => Err(self.lose_for_memory(id)),
            },
            Err(error) => {
                let count = |spans| self.recorder.stats.dropped(reason_of(&error), spans);
                self.ledger.settle(id, u64::MAX, None, count);
                Err(error)
            }
        };
        std::mem::forget(unsettled);
        buffer.put_pages(Arc::into_inner(pages));
        sent.map(|()| report)
    }

    /// As many of `spans` as are best packed at once, at least one, and room for that, waited for as long as a request may
    /// take from `begun` on.
    fn room_for_spans<'s>(&self, spans: &'s [SpanData], begun: Instant) -> Result<(&'s [SpanData], Room<'_>), Error> {
        let limits = self.batch_limits();
        let most = limits.bytes.min(self.recorder.budget.limit() / SHARE);
        let (mut taken, mut bytes, mut largest) = (0, 0, 0);
        for span in spans.iter().take(limits.spans) {
            let len = span.most_encoded_len(self.recorder.span_limits);
            if taken > 0 && bytes + len > most {
                break;
            }
            (taken, bytes, largest) = (taken + 1, bytes + len, largest.max(len));
        }
        // While records are copied out of one another, and then while what became of them is compressed.
        let needed = (largest + bytes).max(bytes + Self::bytes_to_pack(bytes));
        Ok((&spans[..taken], self.wait_for_room(needed, bytes, begun)?))
    }

    /// Bytes that the body of so many takes. What does not compress is not much longer afterwards, and grows in steps of
    /// a quarter.
    fn bytes_to_pack(len: usize) -> usize {
        len + len / 4 + 1024
    }

    /// Room to pack `len` bytes, and for `bytes` in all, waited for as long as a request may take from `begun` on.
    fn wait_for_room(&self, bytes: usize, len: usize, begun: Instant) -> Result<Room<'_>, Error> {
        let encoder = encoder_bytes(self.encoding().compression, len).min(self.recorder.budget.limit() / 2);
        let encoder = EncoderPlace { bytes: encoder, is_taken: &self.encodes_directly };
        let until = begun + self.settings.export_timeout;
        Room::wait_for(&self.recorder, bytes, encoder, self.settings.max_memory_usage, until)
    }

    /// A request of as many of `spans` as one request may hold, and how many that are. Where there is no memory for one
    /// they are counted as lost.
    fn pack_spans(&self, spans: &[SpanData]) -> (Result<Request, Error>, usize) {
        let limits = self.batch_limits();
        let mut record = self.record_for(spans);
        let mut scopes = BTreeMap::<u32, Bytes>::new();
        let mut expected = BTreeMap::<u32, usize>::new();
        for span in spans {
            *expected.entry(self.recorder.scopes.id(&span.scope)).or_default() +=
                span.most_encoded_len(self.recorder.span_limits);
        }
        let (mut taken, mut bytes, mut is_lost) = (0, 0, false);
        for span in spans.iter().take(limits.spans) {
            let encoded = span.encode(&mut record);
            if taken > 0 && bytes + encoded.len() > limits.bytes {
                break;
            }
            let scope = self.recorder.scopes.id(&span.scope);
            let run = scopes.entry(scope).or_insert_with(|| Bytes::expecting(expected[&scope]));
            if run.append(encoded).is_err() {
                // What there is memory for goes first.
                is_lost = taken == 0;
                taken = taken.max(1);
                break;
            }
            bytes += encoded.len();
            taken += 1;
            self.recorder.count_lacking(&record);
        }
        let spans = taken as u64;
        let id = self.ledger.begin(|| {
            self.recorder.stats.ended_elsewhere(spans);
            spans
        });
        drop(record);
        let id = id.unwrap_or(u64::MAX);
        let runs = scopes.iter().map(|(scope, bytes)| (*scope, &**bytes)).collect();
        let request = if is_lost { Err(NoMemory) } else { self.pack_records(id, spans, &runs) };
        (request.map_err(|NoMemory| self.lose_for_memory(id)), taken)
    }

    /// Something to encode `spans` in one after the other.
    fn record_for(&self, spans: &[SpanData]) -> Record {
        let limits = self.recorder.span_limits;
        let largest = spans.iter().map(|span| span.most_encoded_len(limits)).max().unwrap_or(0);
        Record::for_spans_of(limits, largest)
    }

    /// Runs `pack` with an encoder that was used before, if there is one.
    pub(super) fn with_encoder<R>(&self, pack: impl FnOnce(&mut Encoder) -> R) -> R {
        let spare = self.spare_encoders.lock().pop();
        let spare = spare.filter(|encoder| encoder.encoding() == self.encoding() && !encoder.is_makeshift());
        let mut encoder = spare.unwrap_or_else(|| Encoder::new(self.encoding()).paging());
        let packed = pack(&mut encoder);
        if self.recorder.budget.recycles() && !self.is_stopped() {
            let mut spare = self.spare_encoders.lock();
            // Others take more memory.
            let most = if encoder.compression() == Compression::Gzip { SPARE_ENCODERS } else { SPARE_ENCODERS / 2 };
            if spare.len() < most {
                spare.push(encoder);
            }
        }
        packed
    }

    /// Counts a batch as lost that there is no memory to send.
    fn lose_for_memory(&self, id: u64) -> Error {
        self.ledger.settle(id, u64::MAX, None, |spans| self.recorder.stats.dropped(DropReason::NoMemory, spans));
        let endpoint = self.settings.endpoint.to_string();
        Error::Unreachable { endpoint, message: "the system gives no memory for the request; nothing was sent".into() }
    }

    /// Sends one request, or its parts, and settles them. Waiting for room since `begun` has used some of its time up.
    fn deliver_from(&self, begun: Instant, mut request: Request, report: &mut ExportReport) -> Result<(), Error> {
        request.begin_at(begun);
        let unsettled = LoseOnPanic::direct(self, request.id);
        let mut direct = Direct { report, error: None };
        self.drive_here(request, None, &mut direct);
        std::mem::forget(unsettled);
        self.recorder.overflow.made_room();
        direct.error.map_or(Ok(()), Err)
    }

    fn error(&self, outcome: Outcome) -> Error {
        let endpoint = self.settings.endpoint.to_string();
        match outcome {
            Outcome::Refused { code, message } | Outcome::TooLarge { code, message } => {
                let message = match code.name() {
                    Some(name) => format!("{name}: {message}"),
                    None => message,
                };
                Error::Refused { endpoint, status: code.number(), message }
            }
            Outcome::Oversized { bytes, limit } => Error::TooLarge { bytes, limit },
            Outcome::Failed { failure: Failure::Shutdown, .. } => Error::Shutdown,
            Outcome::Failed { message, .. } => Error::Unreachable { endpoint, message },
            Outcome::Accepted { .. } => Error::Unreachable { endpoint, message: "accepted, but not settled".into() },
        }
    }
}

/// Why spans are lost that were not even tried.
fn reason_of(error: &Error) -> DropReason {
    match error {
        Error::NoMemory { .. } => DropReason::QueueFull,
        _ => DropReason::Undelivered,
    }
}

/// Settles what a caller waits for. Its spans never were in the queue, so that nothing goes back to its quota.
struct Direct<'a> {
    report: &'a mut ExportReport,
    error: Option<Error>,
}

impl Settle for Direct<'_> {
    fn settle(&mut self, exporter: &Exporter, request: &mut Request, fate: Fate, outcome: &Outcome) -> ControlFlow<()> {
        match fate {
            Fate::Accepted { rejected } => {
                exporter.failures.cost(DropReason::Rejected, outcome, false);
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
                let told = request.most_telling(outcome);
                self.error = Some(exporter.error(told.clone()));
                exporter.failures.cost(reason, told, exporter.settings.endpoint_is_default);
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
