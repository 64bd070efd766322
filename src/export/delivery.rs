//! One batch's journey, top to bottom: framed, compressed, sent, settled.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use memmap2::MmapMut;

use super::{
    Exporter,
    encode::compress::{self, Encoder, NoMemory},
    encode::protobuf::{CopiedRuns, Frame, Runs, runs_by_scope},
    ledger,
    meter::Ages,
    outcome::{Failure, Outcome},
    queue::Batch,
    request::body::Body,
    request::split,
    retry::{Verdict, decide},
    spool::Claimed,
    summary::LastFailure,
    tracing::OwnTracing,
};
use crate::{
    config::{Compression, Effort, Encoding},
    error::{DropReason, LogLevel, Subject},
};

/// The pause before the one more attempt at exit.
pub(super) const QUICK_RETRY: Duration = Duration::from_millis(20);

/// A queue this full has no room to spare for spans of the client's own.
const FULL_ENOUGH: f64 = 0.5;

/// A batch that is ready to be sent.
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) spans: u64,
    pub(crate) body: Body,
    pub(crate) compression: Compression,
    /// Bytes of the body before compression.
    pub(super) uncompressed: usize,
    /// The file it was taken from, if it comes from the spool.
    pub(super) claimed: Option<Claimed>,
    /// Its requests are to be recorded as spans.
    traced: bool,
    /// When its spans had ended, if latencies are measured.
    pub(super) ages: Option<Ages>,
    attempts: u32,
    /// When delivery was first tried; the batch's time runs from there.
    begun: Option<Instant>,
    /// Whether a broken connection was replaced once, at no cost.
    reconnected: bool,
    /// The last attempt found that nobody listens at a port of this machine.
    pub(crate) nobody_listens: bool,
    /// When the thread that sends it wants to be back, if it is not a worker.
    pub(crate) expires: Option<Instant>,
    /// Not to be tried again before.
    pub(crate) not_before: Option<Instant>,
}

impl Request {
    pub(super) fn new(id: u64, spans: u64, body: Vec<u8>) -> Self {
        Self {
            id,
            spans,
            body: Body::Buffer(body),
            compression: Compression::None,
            uncompressed: 0,
            claimed: None,
            traced: false,
            ages: None,
            attempts: 0,
            begun: None,
            reconnected: false,
            nobody_listens: false,
            expires: None,
            not_before: None,
        }
    }

    /// How often it was sent before the attempt at hand.
    pub(super) fn resends(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.body.capacity() + self.ages.as_ref().map_or(0, Ages::memory)
    }

    /// Whether it may be sent `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// Whether it was tried before.
    pub(crate) fn is_retry(&self) -> bool {
        self.attempts > 0
    }
}

/// What became of an attempt.
pub(crate) enum Sent {
    /// The request is settled; its body is free.
    Settled(Body),
    /// Try these, some of them later.
    Again(Vec<Request>),
}

impl Exporter {
    /// Frames and compresses a batch into `body`, straight from ring memory, or by way of a copy that frees it first.
    pub(super) fn pack(&self, batch: &mut Batch, encoder: &mut Encoder, body: Vec<u8>) -> Result<Request, NoMemory> {
        let request = Request::new(batch.id, batch.spans, body);
        if self.settings.zero_copy {
            return self.pack_batch(&runs_by_scope(&batch.slices)?, encoder, request);
        }
        let copied = CopiedRuns::of(&runs_by_scope(&batch.slices)?)?;
        let _held = self.recorder.budget.hold_for_now(copied.memory());
        self.recorder.stats.copied(copied.len());
        batch.slices.clear();
        self.recorder.overflow.made_room();
        self.pack_batch(&copied.runs()?, encoder, request)
    }

    /// Packs spans that come from rings, and notes when they ended.
    fn pack_batch(&self, runs: &Runs<'_>, encoder: &mut Encoder, request: Request) -> Result<Request, NoMemory> {
        self.note_example(runs);
        let mut request = self.pack_runs(runs, encoder, request)?;
        request.ages = self.meter.ages(runs);
        Ok(request)
    }

    /// Packs spans that are in no ring.
    pub(super) fn pack_records(&self, id: u64, spans: u64, runs: &Runs<'_>) -> Result<Request, NoMemory> {
        self.pack_runs(runs, &mut Encoder::new(self.encoding()), Request::new(id, spans, Vec::new()))
    }

    /// Packs a request that stands in memory: as it is, or compressed from there.
    pub(super) fn pack_request(
        &self,
        id: u64,
        spans: u64,
        pages: &Arc<MmapMut>,
        len: usize,
    ) -> Result<Request, NoMemory> {
        let mut request = Request::new(id, spans, Vec::new());
        let mut encoder = Encoder::new(self.encoding());
        (request.compression, request.uncompressed) = (encoder.compression(), len);
        if request.compression == Compression::None {
            request.body = Body::Lent { pages: Arc::clone(pages), len };
        } else {
            let body = request.body.buffer();
            // Without memory for so much it may still do with less.
            let _ = body.try_reserve_exact(compress::usual_len(request.compression, len));
            encoder.encode_whole(body, &pages[..len])?;
        }
        Ok(request)
    }

    /// Writes the body of a request that holds `runs`, in which equal scopes stand next to each other.
    fn pack_runs(&self, runs: &Runs<'_>, encoder: &mut Encoder, mut request: Request) -> Result<Request, NoMemory> {
        let frame = Frame::new(&self.resource, &self.recorder, runs);
        request.traced = self.own_tracing.as_ref().is_some_and(|own| own.is_worth_it(runs));
        request.compression = encoder.compression();
        request.uncompressed = frame.len();
        let body = request.body.buffer();
        body.clear();
        let _ = body.try_reserve_exact(compress::usual_len(request.compression, request.uncompressed));
        encoder.encode(body, |sink| frame.pieces(sink))?;
        Ok(request)
    }

    /// Makes one attempt and settles the request if that decides its fate.
    pub(super) fn send(&self, mut request: Request) -> Sent {
        let (verdict, outcome) = self.attempt(&mut request);
        match verdict {
            Verdict::Wait(wait) => {
                self.say_failure(LogLevel::Debug, &request, &outcome, format_args!("trying again in {wait:?}"));
                request.not_before = Some(Instant::now() + wait);
                return Sent::Again(vec![request]);
            }
            Verdict::Split => {
                if let Some(halves) = self.split(&request) {
                    if request.claimed.is_some() {
                        self.replace_by_halves(&mut request, &halves, &outcome);
                        return Sent::Settled(request.body);
                    }
                    self.say_failure(LogLevel::Debug, &request, &outcome, format_args!("trying its halves"));
                    return Sent::Again(halves.into());
                }
                request.leave_spool();
                self.conclude(&request, &outcome);
                self.lose(&request, DropReason::TooLarge, &outcome);
                self.say_failure(LogLevel::Error, &request, &outcome, format_args!("the span was dropped"));
            }
            Verdict::Done { rejected } => {
                // At once: a process that is killed before this sends the spans again.
                request.leave_spool();
                self.conclude(&request, &outcome);
                self.settle_accepted(&request, rejected);
                self.meter.accepted(&request);
                self.say_partial(rejected, &outcome);
                self.say_progress();
            }
            Verdict::GiveUp(reason) => {
                self.conclude(&request, &outcome);
                if self.set_aside(&mut request, reason) {
                    self.say_set_aside(&request, &outcome);
                    return Sent::Settled(request.body);
                }
                request.leave_spool();
                // Asked before: who waits for the outcome may shut down as soon as it is counted.
                let is_ending = self.recorder.is_closed();
                self.lose(&request, reason, &outcome);
                // During a shutdown one line at the end is enough.
                if !is_ending {
                    let level = self.level_of_loss(self.is_default_and_refused(&outcome));
                    let spans = request.spans;
                    self.say_failure(level, &request, &outcome, format_args!("{spans} spans were dropped ({reason})"));
                }
            }
        }
        Sent::Settled(request.body)
    }

    /// Notes how an export ended, with its last attempt.
    pub(super) fn conclude(&self, request: &Request, outcome: &Outcome) {
        self.operations.concluded(outcome, request.begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
    }

    /// Two requests with half of the spans each; none for a single span. They share the batch and its time.
    pub(super) fn split(&self, request: &Request) -> Option<[Request; 2]> {
        let plain = compress::decode(&request.body, request.compression, request.uncompressed)?;
        let mut encoder = Encoder::new(Encoding { compression: request.compression, effort: Effort::Least });
        let halves = split::halves(&plain)?.map(|half| {
            let traced = request.traced;
            let mut request =
                Request { begun: request.begun, traced, ..Request::new(request.id, half.spans, Vec::new()) };
            request.compression = encoder.compression();
            request.uncompressed = half.request.len();
            encoder.encode(request.body.buffer(), |sink| sink(&half.request)).ok()?;
            Some(request)
        });
        let [Some(first), Some(second)] = halves else { return None };
        Some([first, second])
    }

    /// Counts the spans of a request as exported, but for those the receiver rejected.
    fn settle_accepted(&self, request: &Request, rejected: u64) {
        self.ledger.settle(request.id, request.spans, Some(Instant::now()), |spans| {
            let rejected = rejected.min(spans);
            self.recorder.stats.exported(spans - rejected);
            self.recorder.stats.dropped(DropReason::Rejected, rejected);
            self.leave_queue(request.id, spans);
        });
        self.note_answer();
    }

    /// Counts the spans of a request as lost after this last attempt, unless their fate was decided before.
    fn lose(&self, request: &Request, reason: DropReason, outcome: &Outcome) {
        self.ledger.settle(request.id, request.spans, None, |spans| {
            self.recorder.stats.dropped(reason, spans);
            self.operations.lose(outcome, spans);
            self.leave_queue(request.id, spans);
        });
    }

    /// Counts so many spans of a batch as lost, unless their fate was decided before.
    pub(super) fn lose_batch(&self, id: u64, spans: u64, reason: DropReason) {
        if reason == DropReason::Panicked && ledger::restored(id).is_some() {
            // Its file is still there.
            return self.put_back(id, spans);
        }
        self.ledger.settle(id, spans, None, |spans| {
            self.recorder.stats.dropped(reason, spans);
            self.leave_queue(id, spans);
        });
    }

    /// One attempt at delivering `request`, and what follows from it.
    pub(super) fn attempt(&self, request: &mut Request) -> (Verdict, Outcome) {
        let (bytes, limit) = (request.uncompressed, self.settings.max_request_bytes);
        if bytes > limit {
            let outcome = Outcome::Oversized { bytes, limit };
            if request.spans == 1 {
                self.remember(&outcome);
            }
            return (Verdict::Split, outcome);
        }
        let deadline = *request.begun.get_or_insert_with(Instant::now) + self.settings.export_timeout;
        let until = request.expires.take().map_or(deadline, |expires| expires.min(deadline));
        let _permit = match self.transport.permit(until) {
            Ok(permit) => permit,
            Err(outcome) => return (self.decide_untried(&outcome, deadline), outcome),
        };
        request.attempts += 1;
        if self.only_gzip.load(Ordering::Relaxed) {
            self.recompress(request);
        }
        let mut outcome = self.post(request, until);
        let is_free = match &outcome {
            // The receiver had closed a connection that was kept alive: not its fault, and no attempt.
            Outcome::Failed { failure: Failure::Gone, .. } => true,
            // Of a new connection that is said once.
            Outcome::Failed { failure: Failure::Broken, .. } => !request.reconnected,
            _ => false,
        };
        if is_free {
            request.reconnected = true;
            outcome = self.post(request, until);
        }
        if is_unsupported(&outcome) && self.recompress(request) {
            outcome = self.post(request, until);
            if matches!(outcome, Outcome::Accepted { .. }) {
                self.stay_on_gzip();
            }
        }
        self.advise(&mut outcome);
        if !matches!(outcome, Outcome::Accepted { .. } | Outcome::Failed { failure: Failure::Shutdown, .. }) {
            self.remember(&outcome);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let verdict = decide(&self.settings.retry, request.attempts, left, &outcome, self.random());
        request.nobody_listens = self.settings.endpoint.is_loopback()
            && matches!(outcome, Outcome::Failed { failure: Failure::Refused, .. });
        let verdict = match verdict {
            // What lies in the spool can wait there.
            Verdict::Wait(_) if request.claimed.is_some() => Verdict::GiveUp(DropReason::Undelivered),
            // At exit a collector on this machine that is not there gets one quick second chance.
            Verdict::Wait(_) if request.nobody_listens && self.is_exiting() => match request.attempts {
                1 => Verdict::Wait(QUICK_RETRY),
                _ => Verdict::GiveUp(DropReason::Undelivered),
            },
            verdict => verdict,
        };
        (verdict, outcome)
    }

    /// Keeps why an attempt failed, for the line at the end.
    fn remember(&self, outcome: &Outcome) {
        let (message, nobody_at_default) = (failure_message(outcome), self.is_default_and_refused(outcome));
        let is_nameless = matches!(outcome, Outcome::Failed { failure: Failure::Resolve, .. });
        *self.last_failure.lock() = Some(LastFailure { message, nobody_at_default, is_nameless });
    }

    /// What becomes of a request for which no connection was free: it has used no attempt up.
    fn decide_untried(&self, outcome: &Outcome, deadline: Instant) -> Verdict {
        match outcome {
            Outcome::Failed { failure: Failure::Shutdown, .. } => Verdict::GiveUp(DropReason::Shutdown),
            // Whoever sent it had to be back earlier.
            _ if Instant::now() < deadline => Verdict::Wait(Duration::ZERO),
            _ => Verdict::GiveUp(DropReason::Undelivered),
        }
    }

    /// Makes the body one that every receiver understands; false if it is one.
    fn recompress(&self, request: &mut Request) -> bool {
        if request.compression == Compression::Gzip {
            return false;
        }
        let Some(plain) = compress::decode(&request.body, request.compression, request.uncompressed) else {
            return false;
        };
        let (mut encoder, mut body) = (Encoder::new(Encoding::GZIP), Vec::new());
        if encoder.encode(&mut body, |sink| sink(&plain)).is_err() {
            return false;
        }
        (request.compression, request.body) = (encoder.compression(), Body::Buffer(body));
        true
    }

    fn stay_on_gzip(&self) {
        if !self.only_gzip.swap(true, Ordering::Relaxed) {
            self.tune(self.tuning());
            let (endpoint, chosen) = (&self.settings.endpoint, self.settings.compression.name());
            self.diagnostics.say(
                LogLevel::Warn,
                Subject::Export,
                format_args!("{endpoint} does not support compression {chosen}; using gzip from now on"),
            );
        }
    }

    /// One request, answered or given up by `until`.
    fn post(&self, request: &Request, until: Instant) -> Outcome {
        self.recorder.stats.request(request.uncompressed, request.body.len());
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let span = self
            .own_tracing
            .as_ref()
            .filter(|_| request.traced && self.load() < FULL_ENOUGH)
            .map(|own| own.begin(request));
        let begun = Instant::now();
        let outcome = self.transport.send(&request.body, request.compression, left);
        for remark in self.transport.take_remarks() {
            self.diagnostics.say(LogLevel::Warn, Subject::Config, format_args!("{remark}"));
        }
        self.meter.request(request.body.len(), begun.elapsed(), self.transport.round_trip(), &outcome);
        if let Some(span) = span {
            OwnTracing::end(span, &outcome);
        }
        outcome
    }

    /// Nobody asked for a collector, and none is there.
    pub(super) fn is_default_and_refused(&self, outcome: &Outcome) -> bool {
        self.settings.endpoint_is_default && matches!(outcome, Outcome::Failed { failure: Failure::Refused, .. })
    }

    pub(super) fn say_failure(
        &self,
        level: LogLevel,
        request: &Request,
        outcome: &Outcome,
        consequence: std::fmt::Arguments<'_>,
    ) {
        let attempt = match request.attempts {
            0 => "not sent".to_owned(),
            attempt => format!("attempt {attempt}"),
        };
        let endpoint = &self.settings.endpoint;
        let what = failure_message(outcome);
        self.diagnostics.say(level, Subject::Export, format_args!("{endpoint}: {what} ({attempt}); {consequence}"));
    }

    fn say_partial(&self, rejected: u64, outcome: &Outcome) {
        if let Outcome::Accepted { message, .. } = outcome
            && (rejected > 0 || message.is_some())
        {
            let message = message.as_deref().unwrap_or("no reason given");
            let endpoint = &self.settings.endpoint;
            let line = match rejected {
                0 => format!("{endpoint} accepted all spans, and says: {message}"),
                _ => format!("{endpoint} rejected {rejected} spans: {message}"),
            };
            self.diagnostics.say(LogLevel::Warn, Subject::Export, format_args!("{line}"));
        }
    }
}

/// The receiver does not know what to do with the body: it may know another compression.
fn is_unsupported(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { status: 415, .. })
}

fn failure_message(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { status, message } | Outcome::TooLarge { status, message } => {
            format!("answered {status}: {message}")
        }
        Outcome::Oversized { bytes, limit } => {
            format!("a request of {bytes} bytes is larger than max_request_bytes = {limit}")
        }
        Outcome::Failed { message, .. } => message.clone(),
        Outcome::Accepted { .. } => String::new(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        capture::{Limits, Recorder},
        config::{Options, PerformanceConfig, Settings},
        error::Diagnostics,
        export::queue::{Extent, Lane},
    };

    #[test]
    fn a_batch_that_is_copied_gives_its_ring_memory_back_before_it_is_compressed() {
        let packed = [true, false].map(|enable_zero_copy| {
            let performance = PerformanceConfig { enable_zero_copy, ..PerformanceConfig::default() };
            // Two clients would be two instances.
            let resource_detectors = Some(Vec::new());
            let options = Options { performance: Some(performance), resource_detectors, ..Options::default() };
            let (settings, _) = Settings::resolve(options, Default::default()).expect("valid settings");
            let recorder = Recorder::new(Limits { memory_bytes: 1 << 20, workers: 1, ..Limits::default() });
            let exporter = Exporter::new(settings, Arc::clone(&recorder), Diagnostics::new(LogLevel::None, None));
            let scopes = ["a", "b"].map(|name| recorder.scopes.id(&name.into()));
            let mut producer = recorder.registry.check_out();
            for number in 0..200_usize {
                let record = [b'x'; 100];
                assert!(producer.push(&recorder.budget, scopes[number % 2], &record).is_ok());
            }
            let gathered = exporter.gatherer.lock().gather(
                Lane::Whole,
                &Extent::Everything,
                exporter.batch_limits(),
                &exporter.ledger,
            );
            let mut batch = gathered.expect("there is something");
            let request = exporter.pack(&mut batch, &mut Encoder::new(Encoding::NONE), Vec::new()).unwrap();
            assert_eq!(batch.slices.is_empty(), !enable_zero_copy);
            let copied = exporter.snapshot().copied_bytes;
            assert_eq!(copied, if enable_zero_copy { 0 } else { 200 * 100 });
            assert_eq!(exporter.memory_stats().bodies_in_flight, 0, "the copy is not accounted for any more");
            request.body.to_vec()
        });
        assert!(packed[0].len() > 20_000 && packed[0] == packed[1]);
    }
}
