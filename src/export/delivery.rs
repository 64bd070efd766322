//! The driver of delivery: makes an attempt, decides what follows from it, and reports when a request's fate is
//! decided.
//!
//! Workers, `export_spans` and the client's own metrics send through it, each with a [`Settle`] of its own.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    Exporter,
    destination::Destination,
    encode::{Body, compress::NoMemory},
    ledger,
    net::pool::Over,
    outcome::{Failure, Outcome},
    request::{Arrival, Request, Signal},
    retry::{Verdict, decide},
    sink::Reply,
};
use crate::{
    error::{Count, DropReason, LogLevel, Subject},
    sync::Ordering,
};

/// The pause before the one extra attempt at exit.
pub(super) const QUICK_RETRY: Duration = Duration::from_millis(20);

/// A queue this full has no room to spare for spans of the client's own.
const FULL_ENOUGH: f64 = 0.5;

/// The final outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver accepted it; it rejected `rejected` of its spans.
    Accepted {
        rejected: u64,
    },
    Lost(DropReason),
}

/// Counts and reports the final outcome of requests.
pub(super) trait Settle {
    /// The fate of `request` was decided by `outcome`. Returns `Break` if the rest of the batch shares that fate.
    fn settle(&mut self, exporter: &Exporter, request: &mut Request, fate: Fate, outcome: &Outcome) -> ControlFlow<()>;

    /// Whether a request may wait for a pause that ends after the request's own deadline.
    fn waits_for_pauses(&self, exporter: &Exporter) -> bool;
}

/// What is left after an attempt.
pub(super) enum Sent {
    /// The request is settled; its body is free.
    Settled(Body, ControlFlow<()>),
    /// Try these, some of them later.
    Again(Vec<Request>),
}

impl Exporter {
    /// Where a signal goes; `None` for metrics that are not enabled.
    pub(super) fn destination(&self, signal: Signal) -> Option<&Destination> {
        match signal {
            Signal::Traces => Some(&self.traces),
            Signal::Metrics => self.metrics.as_ref(),
        }
    }

    /// Makes one attempt and has the request settled if that decides its fate.
    pub(super) fn drive(&self, mut request: Request, settle: &mut dyn Settle) -> Sent {
        let Some(destination) = self.destination(request.signal) else {
            return Sent::Settled(request.take_body(), ControlFlow::Break(()));
        };
        let (verdict, outcome) = self.attempt(&mut request, destination);
        let fate = match verdict {
            Verdict::Pause(wait) => {
                let wait = destination.pause.begin(wait);
                if self.outlasts(&mut request, wait, settle) {
                    self.say_failure(LogLevel::Debug, &request, &outcome, format_args!("trying again in {wait:?}"));
                    if settle.waits_for_pauses(self) {
                        request.wait_out(wait);
                    } else {
                        request.not_before = Some(Instant::now() + wait);
                    }
                    return Sent::Again(vec![request]);
                }
                Fate::Lost(DropReason::Undelivered)
            }
            Verdict::Wait(wait) => {
                self.say_failure(LogLevel::Debug, &request, &outcome, format_args!("trying again in {wait:?}"));
                request.not_before = Some(Instant::now() + wait);
                return Sent::Again(vec![request]);
            }
            Verdict::Split => match request.halves() {
                Err(NoMemory) => {
                    self.say_unsplit(&request);
                    // What lies in the spool can wait there.
                    let is_spooled = request.claimed.is_some();
                    Fate::Lost(if is_spooled { DropReason::Undelivered } else { DropReason::NoMemory })
                }
                Ok(Some(halves)) if request.claimed.is_some() => {
                    self.replace_by_halves(&mut request, &halves, &outcome);
                    return Sent::Settled(request.take_body(), ControlFlow::Continue(()));
                }
                Ok(Some(halves)) => {
                    self.say_failure(LogLevel::Debug, &request, &outcome, format_args!("trying its halves"));
                    return Sent::Again(halves.into());
                }
                Ok(None) if request.spans > 1 && self.put_aside(&mut request) => {
                    return Sent::Settled(request.take_body(), ControlFlow::Continue(()));
                }
                Ok(None) => {
                    if matches!(outcome, Outcome::TooLarge { .. }) {
                        request.is_too_large();
                    }
                    Fate::Lost(DropReason::TooLarge)
                }
            },
            Verdict::Done { rejected } => Fate::Accepted { rejected: rejected.min(request.spans) },
            Verdict::GiveUp(reason) => Fate::Lost(reason),
        };
        let next = self.conclude(&mut request, fate, &outcome, settle);
        Sent::Settled(request.take_body(), next)
    }

    /// Sends a request and its parts on the calling thread, which waits between attempts, until `until` at the latest.
    pub(super) fn drive_here(&self, request: Request, until: Option<Instant>, settle: &mut dyn Settle) {
        let mut requests = vec![request];
        while let Some(mut request) = requests.pop() {
            let now = Instant::now();
            let paused = self.destination(request.signal).and_then(|destination| destination.pause.until(now));
            if let Some(pause) = paused
                && !self.outlasts(&mut request, pause - now, settle)
            {
                let outcome = Outcome::paused(pause - now, self.settings.protocol);
                if self.conclude(&mut request, Fate::Lost(DropReason::Undelivered), &outcome, settle).is_break() {
                    return;
                }
                continue;
            }
            if let Some(not_before) = request.not_before.max(paused) {
                let end = until.map_or(not_before, |until| not_before.min(until));
                if self.ledger.wait_until(end, |_| self.stopping.load(Ordering::SeqCst)) {
                    let outcome = Outcome::shut_down();
                    if self.conclude(&mut request, Fate::Lost(DropReason::Shutdown), &outcome, settle).is_break() {
                        return;
                    }
                    continue;
                }
            }
            request.expires = until;
            match self.drive(request, settle) {
                Sent::Settled(_, ControlFlow::Break(())) => return,
                Sent::Settled(_, ControlFlow::Continue(())) => {}
                Sent::Again(again) => requests.extend(again.into_iter().rev()),
            }
        }
    }

    /// Whether a request is still worth sending after a pause of `wait`.
    fn outlasts(&self, request: &mut Request, wait: Duration, settle: &dyn Settle) -> bool {
        settle.waits_for_pauses(self) || Instant::now() + wait < request.deadline(self.settings.export_timeout)
    }

    /// Notes how an export ended, with its last attempt, and has it settled.
    fn conclude(
        &self,
        request: &mut Request,
        fate: Fate,
        outcome: &Outcome,
        settle: &mut dyn Settle,
    ) -> ControlFlow<()> {
        if request.signal == Signal::Traces {
            self.operations.concluded(outcome, self.settings.protocol, request.age());
        }
        settle.settle(self, request, fate, outcome)
    }

    /// One attempt at delivering `request`, and what follows from it.
    pub(super) fn attempt(&self, request: &mut Request, destination: &Destination) -> (Verdict, Outcome) {
        let (bytes, limit) = (request.uncompressed, self.settings.max_request_bytes);
        if bytes > limit {
            let outcome = Outcome::Oversized { bytes, limit };
            return (Verdict::Split, outcome);
        }
        if request.is_hopeless() {
            return (Verdict::GiveUp(DropReason::TooLarge), Outcome::hopeless(self.settings.protocol));
        }
        let deadline = request.deadline(self.settings.export_timeout);
        let until = request.expires.take().map_or(deadline, |expires| expires.min(deadline));
        let _permit = match destination.sink.permit(until) {
            Ok(permit) => permit,
            Err(outcome) => return (decide_untried(&outcome, deadline), outcome),
        };
        request.attempts += 1;
        if destination.takes_only_gzip() {
            request.recompress();
        }
        let Reply { mut outcome, elsewhere, .. } = self.post(request, destination, until, Over::Any);
        let is_free = match &outcome {
            // The receiver had closed a connection that was kept alive: not its fault, and not counted as an attempt.
            Outcome::Failed { failure: Failure::Gone, .. } => true,
            // For a new connection that is done once.
            Outcome::Failed { failure: Failure::Broken, .. } => !request.reconnected,
            _ => false,
        };
        if is_free {
            request.reconnected = true;
            outcome = self.post(request, destination, until, Over::Another).outcome;
        } else if elsewhere && !request.moved {
            request.moved = true;
            let second = self.post(request, destination, until, Over::Another).outcome;
            // If there is no other way, the first answer counts.
            outcome = if second.is_answered() { second } else { outcome };
        }
        if destination.may_not_know(request.compression, &outcome) && request.recompress() {
            let second = self.post(request, destination, until, Over::Any).outcome;
            if matches!(second, Outcome::Accepted { .. }) && destination.settle_for_gzip() {
                self.stay_on_gzip(destination);
            }
            outcome = second;
        }
        destination.note_answer(request.compression, &outcome);
        self.advise(&mut outcome);
        if request.signal == Signal::Traces {
            self.failures.note(&outcome, self.settings.endpoint_is_default);
        }
        request.note(&outcome);
        let left = deadline.saturating_duration_since(Instant::now());
        let verdict = decide(&self.settings.retry, request.attempts, left, &outcome, self.random());
        request.nobody_listens =
            destination.endpoint.is_loopback() && matches!(outcome, Outcome::Failed { failure: Failure::Refused, .. });
        let verdict = match verdict {
            // What lies in the spool can wait there.
            Verdict::Wait(_) if request.claimed.is_some() => Verdict::GiveUp(DropReason::Undelivered),
            Verdict::Pause(wait) if request.claimed.is_some() => {
                destination.pause.begin(wait);
                Verdict::GiveUp(DropReason::Undelivered)
            }
            // At exit a collector on this machine that is not there gets one quick second chance.
            Verdict::Wait(_) if request.nobody_listens && self.is_exiting() => match request.attempts {
                1 => Verdict::Wait(QUICK_RETRY),
                _ => Verdict::GiveUp(DropReason::Undelivered),
            },
            verdict => verdict,
        };
        (verdict, outcome)
    }

    fn stay_on_gzip(&self, destination: &Destination) {
        self.tune(self.tuning());
        let (endpoint, chosen) = (&destination.endpoint, self.settings.compression.name());
        self.diagnostics.say(
            LogLevel::Warn,
            Subject::Export,
            format_args!("{endpoint} does not support compression {chosen}; using gzip from now on"),
        );
    }

    /// One request over a connection of this kind, answered or given up by `until`.
    fn post(&self, request: &mut Request, destination: &Destination, until: Instant, over: Over) -> Reply {
        let is_again = request.arrival == Arrival::Possible;
        if is_again {
            request.arrival = Arrival::PossiblyTwice;
        }
        let reply = self.submit(request, destination, until, over, is_again);
        if reply.may_have_arrived && request.arrival == Arrival::Open {
            request.arrival = Arrival::Possible;
        }
        reply
    }

    /// The same, counted: `is_again` what may have arrived before.
    fn submit(
        &self,
        request: &Request,
        destination: &Destination,
        until: Instant,
        over: Over,
        is_again: bool,
    ) -> Reply {
        let sink = &destination.sink;
        if request.signal == Signal::Metrics {
            return sink.submit(request, until, over);
        }
        self.recorder.stats.request(request.uncompressed, request.body.len());
        if is_again {
            self.recorder.stats.possibly_duplicated(request.spans);
        }
        let span = self
            .own_tracing
            .as_ref()
            .filter(|_| request.traced && self.load() < FULL_ENOUGH)
            .map(|own| own.begin(request));
        let begun = Instant::now();
        let reply = sink.submit(request, until, over);
        for remark in sink.take_remarks() {
            self.diagnostics.say(LogLevel::Warn, Subject::Config, format_args!("{remark}"));
        }
        self.meter.request(request.body.len(), begun.elapsed(), sink.vitals().round_trip, &reply.outcome);
        if let (Some(own), Some(span)) = (&self.own_tracing, span) {
            own.end(span, &reply.outcome);
        }
        reply
    }

    /// Logs why a request failed, and what follows.
    pub(super) fn say_failure(
        &self,
        level: LogLevel,
        request: &Request,
        outcome: &Outcome,
        consequence: std::fmt::Arguments<'_>,
    ) {
        let Some(destination) = self.destination(request.signal) else { return };
        let attempt = match request.attempts {
            0 => "not sent".to_owned(),
            attempt => format!("attempt {attempt}"),
        };
        let (endpoint, subject) = (&destination.endpoint, request.signal.subject());
        let words = request.most_telling(outcome).words();
        let line = format_args!("{endpoint}: {words} ({attempt}); {consequence}");
        self.diagnostics.say(level, subject, line);
    }
}

/// What follows if no connection was free: the request has used up no attempt.
fn decide_untried(outcome: &Outcome, deadline: Instant) -> Verdict {
    match outcome {
        Outcome::Failed { failure: Failure::Shutdown, .. } => Verdict::GiveUp(DropReason::Shutdown),
        // The caller that sent it had an earlier deadline of its own.
        _ if Instant::now() < deadline => Verdict::Wait(Duration::ZERO),
        _ => Verdict::GiveUp(DropReason::Undelivered),
    }
}

/// Settles requests that came from the queue, or from the spool.
pub(super) struct Queued;

impl Settle for Queued {
    fn settle(&mut self, exporter: &Exporter, request: &mut Request, fate: Fate, outcome: &Outcome) -> ControlFlow<()> {
        match fate {
            Fate::Accepted { rejected } => {
                // At once: a process that is killed before this sends the spans again.
                request.leave_spool();
                exporter.failures.cost(DropReason::Rejected, outcome, false);
                exporter.settle_accepted(request, rejected);
                exporter.meter.accepted(request.ages.as_ref());
                exporter.say_partial(rejected, outcome);
                exporter.say_progress();
            }
            Fate::Lost(DropReason::TooLarge) => {
                request.leave_spool();
                exporter.lose(request, DropReason::TooLarge, outcome);
                let spans = Count(request.spans, "span");
                let were = spans.were();
                let consequence = format_args!("{spans} {were} dropped ({})", DropReason::TooLarge);
                exporter.say_failure(LogLevel::Error, request, outcome, consequence);
            }
            Fate::Lost(reason) => {
                if exporter.set_aside(request, reason) {
                    exporter.say_set_aside(request, outcome);
                    return ControlFlow::Continue(());
                }
                request.leave_spool();
                // Read before: a thread that waits for the outcome may shut down as soon as it is counted.
                let is_ending = exporter.recorder.is_closed();
                exporter.lose(request, reason, outcome);
                // During a shutdown one line at the end is enough.
                if !is_ending {
                    let level = exporter.level_of_loss(exporter.is_default_and_refused(outcome));
                    let spans = request.spans;
                    let consequence = format_args!("{spans} spans were dropped ({reason})");
                    exporter.say_failure(level, request, outcome, consequence);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The queue keeps it, or the spool does.
    fn waits_for_pauses(&self, exporter: &Exporter) -> bool {
        exporter.spooling.is_none()
    }
}

impl Exporter {
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
        let told = request.most_telling(outcome);
        self.failures.cost(reason, told, self.settings.endpoint_is_default);
        self.ledger.settle(request.id, request.spans, None, |spans| {
            self.recorder.stats.dropped(reason, spans);
            self.operations.lose(outcome, spans);
            self.leave_queue(request.id, spans);
        });
    }

    /// Counts `spans` spans of a batch as lost, unless their fate was decided before.
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

    /// Whether no collector was configured, and none is there.
    pub(super) fn is_default_and_refused(&self, outcome: &Outcome) -> bool {
        self.settings.endpoint_is_default && matches!(outcome, Outcome::Failed { failure: Failure::Refused, .. })
    }

    fn say_partial(&self, rejected: u64, outcome: &Outcome) {
        if let Outcome::Accepted { message, .. } = outcome
            && (rejected > 0 || message.is_some())
        {
            let message = message.as_deref().unwrap_or("no reason given");
            let endpoint = &self.traces.endpoint;
            let line = match rejected {
                0 => format!("{endpoint} accepted all spans, and says: {message}"),
                _ => format!("{endpoint} rejected {rejected} spans: {message}"),
            };
            self.diagnostics.say(LogLevel::Warn, Subject::Export, format_args!("{line}"));
        }
    }
}
