//! What could not be delivered goes into the spool instead of being lost, and comes back when the receiver answers.
//!
//! A body is written where it would have been given up: its time was over, or the client shut down. It counts as
//! `spooled` then. Taken out, it goes the way of every other request, counted as `queued` meanwhile: accepted, it is
//! `exported` and its file removed; not delivered, its file is simply let go and it is where it was.
//!
//! What another client had written adds to `restored` while it is here, so that `ended + restored = exported + dropped
//! + queued + spooled` holds in each process. What was cut off by a shutdown may have arrived: it is kept all the same.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Exporter,
    delivery::{Queued, Sent},
    encode::compress::{Encoder, NoMemory},
    ledger,
    outcome::Outcome,
    queue::{Extent, Lane},
    request::Request,
    spool::{Claimed, Expired, Found, StoreError},
    workers::LoseOnPanic,
};
use crate::{
    capture::Reservation,
    error::{DropReason, LogLevel, Subject},
    stats::Receipt,
};

mod gate;
mod state;

use gate::Gate;
pub(super) use state::Spooling;

/// How long a shutdown waits for bodies that its workers hold: they come back as soon as their sockets are shut.
const RETURN_GRACE: Duration = Duration::from_millis(500);

/// How often it looks meanwhile whether one was put down.
const TICK: Duration = Duration::from_millis(10);

/// How long a shutdown writes, unless a single file takes longer.
const WRITE_BUDGET: Duration = Duration::from_secs(5);

/// How often the whole directory is looked through for what is too old.
const SWEEP_AFTER: Duration = Duration::from_secs(60);

/// Into the spool.
impl Exporter {
    /// Settles a request by writing it into the spool, or leaving it there. False where it is lost all the same: there
    /// is no spool, or it is full, or the receiver does not want the request.
    pub(super) fn set_aside(&self, request: &mut Request, reason: DropReason) -> bool {
        let Some(spooling) = &self.spooling else { return false };
        let is_final = !matches!(reason, DropReason::Undelivered | DropReason::Shutdown);
        if request.claimed.is_some() {
            // A receiver that refuses whatever it is sent would empty the spool: a refusal counts from one that
            // accepted something since the last failure, and is a failure.
            let counts = is_final && *spooling.gate.lock() == Gate::Open;
            spooling.gate.lock().failed(Instant::now());
            if counts {
                return false;
            }
            request.claimed = None;
            self.put_back(request.id, request.spans);
            return true;
        }
        if is_final {
            return false;
        }
        match self.store(spooling, request) {
            Ok(claimed) => {
                let mut counted = 0;
                self.ledger.settle(request.id, request.spans, None, |spans| {
                    counted = spans;
                    self.recorder.stats.spooled(spans, true);
                    self.recorder.quota.give_back(spans);
                });
                if counted == 0 {
                    // A shutdown that could not wait any longer has counted its spans as lost.
                    claimed.done();
                }
                true
            }
            Err(error) => {
                let (dir, spans) = (spooling.spool.dir().display(), request.spans);
                let advice = error.advice();
                self.diagnostics.say(
                    LogLevel::Error,
                    Subject::Spool,
                    format_args!(
                        "the spool {dir} took no more: {error}; {spans} spans were dropped ({reason}); {advice}"
                    ),
                );
                false
            }
        }
    }

    fn store(&self, spooling: &Spooling, request: &Request) -> Result<Claimed, StoreError> {
        spooling.gate.lock().failed(Instant::now());
        let now = SystemTime::now();
        let stored = spooling.spool.store(&request.contents(), now);
        if matches!(stored, Err(StoreError::Full { .. })) && self.sweep(spooling) {
            return spooling.spool.store(&request.contents(), now);
        }
        stored
    }

    /// As `set_aside`, and counts the request as lost where that fails.
    pub(super) fn set_aside_or_lose(&self, mut request: Request, reason: DropReason) {
        if !self.set_aside(&mut request, reason) {
            self.lose_batch(request.id, request.spans, reason);
        }
    }

    /// Counts spans of a batch that was taken out of the spool as left there.
    pub(super) fn put_back(&self, id: u64, spans: u64) {
        let is_own = ledger::restored(id) == Some(true);
        self.ledger.settle(id, spans, None, |spans| self.recorder.stats.spooled(spans, is_own));
    }

    /// Spans of a batch are no longer queued; those from the spool never were in the users' queue.
    pub(super) fn leave_queue(&self, id: u64, spans: u64) {
        if ledger::restored(id).is_none() {
            self.recorder.quota.give_back(spans);
        }
    }

    /// Writes everything that is left, at the end of a shutdown. What workers hold comes back to them now, and they
    /// write it themselves.
    pub(super) fn spool_rest(&self) {
        let Some(spooling) = &self.spooling else { return };
        let mut encoder = Encoder::new(self.encoding());
        let end = Instant::now() + WRITE_BUDGET;
        let mut patience = Instant::now() + RETURN_GRACE;
        loop {
            while Instant::now() < end && self.spool_one(&mut encoder) {
                patience = Instant::now() + RETURN_GRACE;
            }
            let now = Instant::now();
            if self.ledger.wait_until(patience.min(now + TICK), |open| open.is_empty()) || now >= patience.min(end) {
                break;
            }
        }
        for id in self.ledger.restored() {
            // Its worker is stuck; its file is there.
            self.put_back(id, u64::MAX);
        }
        spooling.rest_written.store(true, Ordering::SeqCst);
    }

    /// Whether what a shutdown had left is written, as far as it could be, or there is no spool for it.
    pub(super) fn has_spooled_rest(&self) -> bool {
        self.spooling.as_ref().is_none_or(|spooling| spooling.rest_written.load(Ordering::SeqCst))
    }

    /// Writes a body that waits, or else one of spans that are in no body yet; false if nothing waits.
    fn spool_one(&self, encoder: &mut Encoder) -> bool {
        let waiting = self.outbox.lock().pop_oldest();
        if let Some(request) = waiting {
            self.set_aside_or_lose(request, DropReason::Shutdown);
            return true;
        }
        let batch = self.gatherer.lock().gather(Lane::Whole, &Extent::Everything, self.batch_limits(), &self.ledger);
        let Some(mut batch) = batch else { return false };
        let packed = catch_unwind(AssertUnwindSafe(|| {
            let unsettled = LoseOnPanic::packed(self, batch.id);
            let _room = self.room_for_large(&batch);
            match self.pack_or_spare(&mut batch, encoder, Vec::new()) {
                Ok(request) => self.set_aside_or_lose(request, DropReason::Shutdown),
                Err(NoMemory) => self.lose_batch(batch.id, u64::MAX, DropReason::NoMemory),
            }
            std::mem::forget(unsettled);
        }));
        if packed.is_err() {
            *encoder = Encoder::new(self.encoding());
        }
        true
    }

    pub(super) fn say_set_aside(&self, request: &Request, outcome: &Outcome) {
        if let Some(spooling) = self.spooling.as_ref().filter(|_| !self.recorder.is_closed()) {
            let level = self.level_of_loss(self.is_default_and_refused(outcome)).max(LogLevel::Info);
            let (spans, dir) = (request.spans, spooling.spool.dir().display());
            self.say_failure(level, request, outcome, format_args!("{spans} spans are kept in the spool {dir}"));
        }
    }

    /// At the end, one line for what is left to a later run.
    pub(super) fn say_spooled(&self, receipt: &Receipt) {
        let Some(spooling) = self.spooling.as_ref().filter(|_| receipt.spooled > 0) else { return };
        let failure = self.failures.standing();
        let why = failure.as_ref().map_or("did not answer in time", |failure| &failure.message);
        let nobody_at_default = failure.as_ref().is_some_and(|failure| failure.nobody_at_default);
        let level = self.level_of_loss(nobody_at_default).max(LogLevel::Info);
        let (spans, dir, endpoint) = (receipt.spooled, spooling.spool.dir().display(), &self.settings.endpoint);
        self.diagnostics.say(
            level,
            Subject::Shutdown,
            format_args!("{spans} spans are kept in the spool {dir} and sent by a later run; {endpoint}: {why}"),
        );
    }
}

/// Out of the spool.
impl Exporter {
    /// The receiver accepted something: what lies in the spool may follow.
    pub(super) fn note_answer(&self) {
        if let Some(spooling) = &self.spooling {
            spooling.gate.lock().answered(Instant::now());
        }
    }

    /// When the spool should be looked at, though nothing else happens.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        let (spooling, now) = (self.spooling.as_ref()?, Instant::now());
        spooling.gate.lock().next_probe(now, self.traces.pause.until(now))
    }

    /// Whether a body may be taken out and sent: the receiver answers, or it is time to ask, and it wants no pause.
    fn may_restore(&self, spooling: &Spooling) -> bool {
        let now = Instant::now();
        spooling.gate.lock().admits(now) && self.traces.pause.until(now).is_none()
    }

    /// Whether a worker is busy with what lies in the spool.
    pub(super) fn is_restoring(&self) -> bool {
        self.spooling.as_ref().is_some_and(|spooling| spooling.restoring.is_locked())
    }

    /// Takes a body out of the spool and sends it, if it is time for that; false if there was none. For a worker that
    /// has nothing else to do.
    pub(super) fn restore(&self) -> bool {
        let Some(spooling) = &self.spooling else { return false };
        if !self.may_restore(spooling) || self.is_stopped() || !self.has_room_for_restored() {
            return false;
        }
        let Some(_restoring) = spooling.restoring.try_lock() else { return false };
        self.sweep(spooling);
        // Until the one that is found is a request, which accounts for itself.
        let reserved = RefCell::new(Vec::new());
        let room = |bytes: u64| {
            let reservation = Reservation::reserve(&self.recorder.budget, usize::try_from(bytes).unwrap_or(usize::MAX));
            let fits = reservation.is_some();
            reserved.borrow_mut().extend(reservation);
            fits
        };
        loop {
            let found = spooling.spool.claim(SystemTime::now(), room);
            let memory = reserved.take().pop();
            match found {
                Some(Found::Body { claimed, header, body }) => {
                    let (spans, is_own) = (header.spans, claimed.is_own());
                    let count = || self.recorder.stats.restored(spans, is_own);
                    let id = self.ledger.begin_restored(spans, is_own, count);
                    let mut request = Request::new(id, spans, body);
                    (request.compression, request.uncompressed) = (header.compression, header.uncompressed);
                    request.claimed = Some(claimed);
                    request.take_over(memory.unwrap_or_default());
                    self.send_restored(request);
                    return true;
                }
                Some(Found::Expired(expired)) => self.count_expired(spooling, &[expired]),
                Some(Found::Damaged { path, why }) => {
                    let path = path.display();
                    self.diagnostics.say(
                        LogLevel::Warn,
                        Subject::Spool,
                        format_args!("a spooled file was set aside, {path}: {why}; its spans are not sent"),
                    );
                }
                None => {
                    spooling.gate.lock().found_nothing(Instant::now());
                    self.ledger.nudge();
                    return false;
                }
            }
        }
    }

    fn send_restored(&self, request: Request) {
        // Another worker minds what is ended meanwhile, even if nothing waits yet. It takes no sender's place from it.
        let away = self.recorder.doorbell.hand_over(|| self.has_more());
        if self.recorder.doorbell.workers().1 == 0 {
            self.recorder.doorbell.ring();
        }
        let unsettled = LoseOnPanic::packed(self, request.id);
        let sent = self.drive(request, &mut Queued);
        std::mem::forget(unsettled);
        drop(away);
        if let Sent::Again(requests) = sent {
            requests.into_iter().for_each(|request| self.set_aside_or_lose(request, DropReason::Undelivered));
        }
    }

    /// Whether nothing waits that was ended since, and memory is not short.
    fn has_room_for_restored(&self) -> bool {
        self.outbox.lock().is_empty() && !self.recorder.budget.is_pressed()
    }

    /// Has the workers send what lies in the spool, now that nothing else is left, for no longer than a stalled exit
    /// waits, and not beyond `deadline`. A client that never had a worker recorded nothing, and sends nothing for others.
    pub(super) fn restore_before_exit(&self, deadline: Instant) {
        let Some(spooling) = &self.spooling else { return };
        let doorbell = &self.recorder.doorbell;
        if !doorbell.has_worked() {
            return;
        }
        doorbell.ring_all();
        if doorbell.workers().0 == 0 && self.may_restore(spooling) {
            // They had nothing to do for so long that they left.
            doorbell.ring();
        }
        let until = deadline.min(Instant::now() + self.settings.exit_budget.stall);
        self.ledger.wait_until(until, |open| open.restored() == 0 && !self.may_restore(spooling));
    }

    /// Puts a body from the spool aside that is too large and cannot be halved: it is not what its header says. False for
    /// one that is not from there.
    pub(super) fn put_aside(&self, request: &mut Request) -> bool {
        let Some(claimed) = request.claimed.take() else { return false };
        let (path, spans, limit) = (claimed.set_aside(), request.spans, self.settings.max_request_bytes);
        self.put_back(request.id, spans);
        let path = path.display();
        self.diagnostics.say(
            LogLevel::Warn,
            Subject::Spool,
            format_args!(
                "a spooled file was set aside, {path}: it inflates to more than max_request_bytes = {limit} and cannot be \
                 halved; its {spans} spans are not sent"
            ),
        );
        true
    }

    /// Says that there was no memory to halve a body that is too large.
    pub(super) fn say_unsplit(&self, request: &Request) {
        let what = if request.claimed.is_some() { "it stays in the spool" } else { "its spans are lost" };
        let (bytes, limit) = (request.body.len(), self.settings.max_memory_usage);
        self.diagnostics.say(
            LogLevel::Warn,
            Subject::Memory,
            format_args!(
                "max_memory_usage = {limit} leaves no room to halve a body of {bytes} bytes that is too large; {what}; \
                 raise OTLP_MAX_MEMORY_USAGE"
            ),
        );
    }

    /// Settles a body from the spool that is too large: from now on its halves are there instead.
    pub(super) fn replace_by_halves(&self, request: &mut Request, halves: &[Request; 2], outcome: &Outcome) {
        let (Some(spooling), Some(claimed)) = (&self.spooling, request.claimed.take()) else { return };
        let contents = [halves[0].contents(), halves[1].contents()];
        match spooling.spool.split(claimed, &contents) {
            Ok(()) if outcome.is_answered() => self.note_answer(),
            // Nobody was asked.
            Ok(()) => {}
            Err(error) => {
                spooling.gate.lock().failed(Instant::now());
                let (dir, advice) = (spooling.spool.dir().display(), error.advice());
                self.diagnostics.say(
                    LogLevel::Error,
                    Subject::Spool,
                    format_args!(
                        "the spool {dir} took no more: {error}; a body that is too large stays there; {advice}"
                    ),
                );
            }
        }
        self.put_back(request.id, request.spans);
    }

    /// Removes from the whole directory what nobody will send, once in a while; true if that was anything.
    fn sweep(&self, spooling: &Spooling) -> bool {
        {
            let mut swept = spooling.swept.lock();
            if swept.is_some_and(|swept| swept.elapsed() < SWEEP_AFTER) {
                return false;
            }
            *swept = Some(Instant::now());
        }
        let expired = spooling.spool.sweep(SystemTime::now());
        self.count_expired(spooling, &expired);
        !expired.is_empty()
    }

    fn count_expired(&self, spooling: &Spooling, expired: &[Expired]) {
        for body in expired {
            self.recorder.stats.restored(body.spans, body.is_own);
            self.recorder.stats.dropped(DropReason::Expired, body.spans);
        }
        let spans: u64 = expired.iter().map(|body| body.spans).sum();
        if spans > 0 {
            let dir = spooling.spool.dir().display();
            self.diagnostics.say(
                LogLevel::Warn,
                Subject::Spool,
                format_args!(
                    "{spans} spans waited in the spool {dir} for longer than OTLP_SPOOL_MAX_AGE and were removed"
                ),
            );
        }
    }
}
