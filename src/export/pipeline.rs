//! One batch's journey, top to bottom: framed, compressed, sent, settled.

use std::time::{Duration, Instant};

use super::{
    Exporter,
    batch::Batch,
    compress::Encoder,
    frame::{Frame, Runs, runs_by_scope},
    retry::Verdict,
    transport::{Failure, Outcome},
};
use crate::{
    config::Compression,
    error::{DropReason, LogLevel, Subject},
};

/// A batch that is ready to be sent.
pub(crate) struct Parcel {
    pub(crate) id: u64,
    pub(crate) spans: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) compression: Compression,
    /// Bytes of the body before compression.
    uncompressed: usize,
    attempts: u32,
    /// When delivery was first tried; the batch's time runs from there.
    begun: Option<Instant>,
    /// Not to be tried again before.
    pub(crate) not_before: Option<Instant>,
}

impl Parcel {
    fn new(id: u64, spans: u64, body: Vec<u8>) -> Self {
        Self {
            id,
            spans,
            body,
            compression: Compression::None,
            uncompressed: 0,
            attempts: 0,
            begun: None,
            not_before: None,
        }
    }
}

/// What became of an attempt.
pub(crate) enum Sent {
    /// The batch is settled; its body is free.
    Settled(Vec<u8>),
    /// Try again later.
    Again(Parcel),
}

impl Exporter {
    /// Frames and compresses a batch into `body`, and frees the memory it was recorded into.
    pub(super) fn pack(&self, batch: Batch, encoder: &mut Encoder, body: Vec<u8>) -> Parcel {
        self.pack_runs(&runs_by_scope(&batch.slices), encoder, Parcel::new(batch.id, batch.spans, body))
    }

    /// Packs spans that are in no ring.
    pub(super) fn pack_records(&self, id: u64, spans: u64, runs: &Runs<'_>) -> Parcel {
        self.pack_runs(runs, &mut Encoder::new(self.settings.compression), Parcel::new(id, spans, Vec::new()))
    }

    /// Writes the body of a request that holds `runs`, in which equal scopes stand next to each other.
    fn pack_runs(&self, runs: &Runs<'_>, encoder: &mut Encoder, mut parcel: Parcel) -> Parcel {
        let frame = Frame::new(&self.resource, &self.intake, runs);
        parcel.compression = self.settings.compression;
        parcel.uncompressed = frame.len();
        encoder.encode(&mut parcel.body, |sink| frame.pieces(sink));
        parcel
    }

    /// Makes one attempt and settles the batch if that decides its fate.
    pub(super) fn send(&self, mut parcel: Parcel) -> Sent {
        match self.attempt(&mut parcel) {
            (Verdict::Wait(wait), outcome) => {
                self.say_failure(LogLevel::Debug, &parcel, &outcome, format_args!("trying again in {wait:?}"));
                parcel.not_before = Some(Instant::now() + wait);
                Sent::Again(parcel)
            }
            (Verdict::Done { rejected }, outcome) => {
                let rejected = rejected.min(parcel.spans);
                self.settle_accepted(parcel.id, rejected);
                self.say_partial(rejected, &outcome);
                Sent::Settled(parcel.body)
            }
            (Verdict::GiveUp(reason), outcome) => {
                self.lose(parcel.id, reason);
                if !matches!(outcome, Outcome::Failed { failure: Failure::Shutdown, .. }) {
                    let level = if self.is_default_and_refused(&outcome) { LogLevel::Info } else { LogLevel::Error };
                    let spans = parcel.spans;
                    self.say_failure(level, &parcel, &outcome, format_args!("{spans} spans were dropped ({reason})"));
                }
                Sent::Settled(parcel.body)
            }
        }
    }

    /// Counts the spans of a batch as exported, but for those the receiver rejected.
    pub(super) fn settle_accepted(&self, id: u64, rejected: u64) {
        self.ledger.settle(id, Some(Instant::now()), |spans| {
            self.intake.stats.exported(spans - rejected);
            self.intake.stats.dropped(DropReason::Rejected, rejected);
            self.intake.quota.give_back(spans);
        });
    }

    /// Counts the spans of a batch as lost, unless its fate was decided before.
    pub(super) fn lose(&self, id: u64, reason: DropReason) {
        self.ledger.settle(id, None, |spans| {
            self.intake.stats.dropped(reason, spans);
            self.intake.quota.give_back(spans);
        });
    }

    /// One attempt at delivering `parcel`, and what follows from it.
    pub(super) fn attempt(&self, parcel: &mut Parcel) -> (Verdict, Outcome) {
        let now = Instant::now();
        let deadline = *parcel.begun.get_or_insert(now) + self.settings.export_timeout;
        parcel.attempts += 1;
        self.intake.stats.request(parcel.uncompressed, parcel.body.len());
        let left = deadline.saturating_duration_since(now).max(Duration::from_millis(1));
        let outcome = self.transport.send(&parcel.body, parcel.compression, left);
        let left = deadline.saturating_duration_since(Instant::now());
        (self.retry.decide(parcel.attempts, left, &outcome, self.random()), outcome)
    }

    /// Nobody asked for a collector and none is there: not worth a line at the default level's errors.
    fn is_default_and_refused(&self, outcome: &Outcome) -> bool {
        self.settings.endpoint_is_default && matches!(outcome, Outcome::Failed { failure: Failure::Refused, .. })
    }

    fn say_failure(&self, level: LogLevel, parcel: &Parcel, outcome: &Outcome, consequence: std::fmt::Arguments<'_>) {
        let attempt = parcel.attempts;
        let endpoint = &self.settings.endpoint;
        let what = match outcome {
            Outcome::Refused { status, message } => format!("answered {status}: {message}"),
            Outcome::Failed { message, .. } => message.clone(),
            Outcome::Accepted { .. } => return,
        };
        self.diagnostics.say(
            level,
            Subject::Export,
            format_args!("{endpoint}: {what} (attempt {attempt}); {consequence}"),
        );
    }

    fn say_partial(&self, rejected: u64, outcome: &Outcome) {
        if let Outcome::Accepted { message, .. } = outcome
            && (rejected > 0 || message.is_some())
        {
            let message = message.as_deref().unwrap_or("no reason given");
            let endpoint = &self.settings.endpoint;
            self.diagnostics.say(
                LogLevel::Warn,
                Subject::Export,
                format_args!("{endpoint} rejected {rejected} spans: {message}"),
            );
        }
    }
}
