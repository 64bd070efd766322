//! The pool's threads: each sends what is due, else packs what is ready, else rests.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    Exporter,
    delivery::{QUICK_RETRY, Queued, Sent},
    encode::compress::{Encoder, NoMemory},
    policy::Situation,
    queue::{Batch, Extent, Lane, Look},
    request::Request,
};
use crate::{
    capture::{OwnThread, Shed},
    error::{DropReason, LogLevel, Subject},
    stats::Departure,
    sync::{self, Runs},
};

/// How long a worker without anything to do stays for what may come. Then it leaves, so that a process whose own
/// threads have all ended ends too; what comes later starts another one, which takes some ten microseconds.
const LINGER: Duration = Duration::from_secs(5);

/// What a worker does next.
#[expect(clippy::large_enum_variant, reason = "handed on at once, and kept nowhere")]
enum Job {
    Send(Request),
    Pack(Batch),
    Rest(Rest),
    Leave,
}

/// Nothing to do for now.
#[derive(Clone, Copy)]
struct Rest {
    /// When there will be something, if that is known.
    until: Option<Instant>,
    /// Records wait already, but not for long enough, or without room for their body.
    watches: bool,
    /// Bodies that wait to be sent are what they wait for.
    is_behind: bool,
}

/// Starts a worker if there is none, or if more waits than those there are get done: too much of it, or anything at
/// all where they are blocked and somebody is waiting or the receiver is in trouble.
pub(super) fn start_if_needed(exporter: &Arc<Exporter>) {
    let recorder = &exporter.recorder;
    if sync::are_held_up() {
        recorder.doorbell.give_up_unbegun();
    }
    let (started, _) = recorder.doorbell.workers();
    // One that is busy with the spool minds nothing else.
    let minding = started.saturating_sub(exporter.is_restoring().into());
    let backlog = recorder.registry.waiting() >= recorder.arrivals.ready().saturating_mul(2);
    let pressing = exporter.flushing.load(Ordering::SeqCst) > 0 || exporter.in_trouble.load(Ordering::Relaxed);
    if minding > 0 && !backlog && !(pressing && recorder.doorbell.is_deserted()) {
        return;
    }
    let Some(number) = recorder.doorbell.admit(started) else { return };
    let worker = Arc::clone(exporter);
    if let Some(start) = exporter.working.get() {
        start();
    }
    let run = move || run(&worker, number);
    let name = format!("otlp-worker-{number}");
    let mut spawned = sync::spawn(&name, Runs::OwnCode, run.clone());
    if spawned.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::OutOfMemory) && started == 0 {
        // The first one comes before what is kept in reserve.
        recorder.budget.note_want();
        spawned = sync::spawn(&name, Runs::OwnCode, run);
    }
    if let Err(error) = spawned {
        recorder.doorbell.give_up(number);
        exporter.diagnostics.say(
            LogLevel::Error,
            Subject::Worker,
            format_args!("no worker thread could be started: {error}; spans wait until one can, or are sent by flush"),
        );
    }
}

/// The place of a worker that exists. Whoever dies in it makes room for another one.
struct Place<'a> {
    exporter: &'a Exporter,
    number: usize,
    /// The worker has given it up.
    is_left: bool,
}

impl<'a> Place<'a> {
    /// Takes the place that was kept for it, if it still is: from now on who waits for delivery leaves the work to it.
    fn take(exporter: &'a Exporter, number: usize) -> Option<Self> {
        let is_taken = exporter.recorder.doorbell.begin(number);
        exporter.ledger.nudge();
        // Made only then: one that is dropped counts a worker off.
        is_taken.then(|| Self { exporter, number, is_left: false })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let doorbell = &self.exporter.recorder.doorbell;
        if !self.is_left {
            doorbell.dismiss(self.number);
        }
        self.exporter.ledger.nudge();
        if thread::panicking() {
            doorbell.ring();
        }
    }
}

/// What came of looking for a job.
enum Done {
    Job,
    Rested,
    /// There will never be another one.
    All,
    /// There was none for so long that the worker has left.
    Left,
}

fn run(exporter: &Arc<Exporter>, number: usize) {
    let Some(mut place) = Place::take(exporter, number) else { return };
    let _own = OwnThread::mark();
    exporter.open_ahead();
    exporter.recorder.budget.prepare();
    let mut encoder = Encoder::new(exporter.encoding());
    let mut spent = Duration::ZERO;
    let mut idle_since = Instant::now();
    loop {
        let done = catch_unwind(AssertUnwindSafe(|| exporter.work(number, idle_since, &mut encoder)));
        exporter.meter.spend(&mut spent);
        match done {
            Ok(Done::Job) => idle_since = Instant::now(),
            Ok(Done::Rested) => {}
            Ok(Done::All) => break,
            Ok(Done::Left) => {
                place.is_left = true;
                break;
            }
            // The batch at hand was counted as lost on the way here; the encoder may be in any state.
            Err(_) => encoder = Encoder::new(exporter.encoding()),
        }
    }
}

impl Exporter {
    /// Does one job, or waits for one on a worker that had none since `idle_since`.
    fn work(&self, worker: usize, idle_since: Instant, encoder: &mut Encoder) -> Done {
        match self.next_job(Some(worker)) {
            Job::Send(request) => self.send_one(request),
            Job::Pack(batch) => self.pack_one(batch, encoder),
            Job::Rest(rest) => {
                if !self.restore() {
                    self.look_after_connections();
                    return self.rest(worker, rest, idle_since);
                }
            }
            Job::Leave => return Done::All,
        }
        Done::Job
    }

    /// Does one job on a thread that waits for delivery until `deadline`; false if all that is left is to wait.
    pub(super) fn work_for_flush(&self, encoder: &mut Encoder, deadline: Instant) -> bool {
        match self.next_job(None) {
            Job::Send(mut request) => {
                request.expires = Some(deadline);
                self.send_one(request);
            }
            Job::Pack(batch) => self.pack_one(batch, encoder),
            Job::Rest(Rest { until: Some(until), .. }) => {
                self.ledger.wait_until(until.min(deadline), |_| self.stopping.load(Ordering::SeqCst));
            }
            Job::Rest(_) | Job::Leave => return false,
        }
        true
    }

    fn next_job(&self, worker: Option<usize>) -> Job {
        let now = Instant::now();
        let all_hands = self.is_all_hands();
        if let Some(request) = self.take_request(now, all_hands) {
            return Job::Send(request);
        }
        let stopping = self.stopping.load(Ordering::Acquire);
        let (due, has_room, is_behind, nothing_to_send) = {
            let outbox = self.outbox.lock();
            (outbox.next_due(now, all_hands), outbox.has_room(), outbox.is_behind(now), outbox.is_empty())
        };
        let lane = self.lane(worker);
        let mut gatherer = self.gatherer.lock();
        let Look { waiting, next, overdue } = gatherer.look(lane, now);
        let situation = Situation {
            waiting,
            ready: self.recorder.arrivals.ready(),
            is_urgent: self.is_urgent(),
            is_overdue: overdue.is_some(),
            is_behind,
            has_room,
        };
        // What is only overdue takes along what is as old, and leaves the rest.
        let extent = |why| if why == Departure::TimedOut { overdue } else { None }.unwrap_or(Extent::Everything);
        if let Some(why) = situation.departure()
            && let extent = extent(why)
            && let Some(batch) = gatherer.gather(lane, &extent, self.batch_limits(), &self.ledger)
        {
            self.recorder.stats.batches.left(why, batch.spans);
            if batch.spans >= waiting {
                gatherer.begin_anew(lane);
            }
            let left = gatherer.waiting(lane);
            drop(gatherer);
            if left >= self.recorder.arrivals.ready() {
                self.recorder.doorbell.after_batch();
            }
            return Job::Pack(batch);
        }
        if stopping && waiting == 0 && nothing_to_send {
            return Job::Leave;
        }
        // Without room for its body, or with others before it, no batch is overdue: the bell rings when that is over.
        let until = next.filter(|_| has_room && !is_behind).into_iter().chain(due).min();
        Job::Rest(Rest { until, watches: waiting > 0, is_behind })
    }

    /// Which rings a worker looks after; where it is urgent, or it is no worker, all of them.
    fn lane(&self, worker: Option<usize>) -> Lane {
        match worker {
            Some(worker) if !self.settings.batch.load_balancing && !self.is_urgent() => {
                Lane::Part { worker, of: self.recorder.doorbell.workers().0 }
            }
            _ => Lane::Whole,
        }
    }

    /// Whether even the last worker may send: somebody waits for delivery, and there is nothing to compress.
    fn is_all_hands(&self) -> bool {
        self.flushing.load(Ordering::SeqCst) > 0 && self.recorder.registry.waiting() == 0
    }

    fn take_request(&self, now: Instant, all_hands: bool) -> Option<Request> {
        let mut outbox = self.outbox.lock();
        let was_behind = !outbox.has_room() || outbox.is_behind(now);
        let request = outbox.take(now, all_hands)?;
        let is_behind = !outbox.has_room() || outbox.is_behind(now);
        drop(outbox);
        if was_behind && !is_behind {
            self.recorder.doorbell.after_batch();
        }
        Some(request)
    }

    /// Whether so many waiting spans leave now, whatever their age.
    fn would_leave(&self, waiting: u64, has_room: bool) -> bool {
        let (ready, is_urgent) = (self.recorder.arrivals.ready(), self.is_urgent());
        Situation { waiting, ready, is_urgent, has_room, ..Situation::default() }.departure().is_some()
    }

    /// Whether all that waits is to leave now, whatever it is.
    fn is_urgent(&self) -> bool {
        self.flushing.load(Ordering::SeqCst) > 0
            || self.recorder.overflow.is_waited_for()
            || self.stopping.load(Ordering::SeqCst)
            || self.recorder.budget.is_pressed()
    }

    fn rest(&self, worker: usize, rest: Rest, idle_since: Instant) -> Done {
        let is_idle = rest.until.is_none() && !rest.watches && !rest.is_behind;
        let linger = is_idle.then(|| idle_since + LINGER);
        if linger.is_some_and(|over| over <= Instant::now()) && self.leave(worker, rest) {
            return Done::Left;
        }
        if rest.until.is_none() {
            self.recorder.registry.reap();
            self.recorder.budget.trim();
        }
        // Whoever else watches minds rings of its own.
        let unseen =
            !self.settings.batch.load_balancing && rest.until.is_none() && self.recorder.registry.waiting() > 0;
        let look = unseen.then(|| Instant::now() + self.settings.batch.batch_timeout / 4);
        let own = rest.until.into_iter().chain(look).chain(linger.filter(|over| *over > Instant::now()));
        let until = own.chain(self.next_probe()).chain(self.traces.sink.next_upkeep()).min();
        let is_due_sooner = || self.traces.sink.next_upkeep().is_some_and(|at| until.is_none_or(|until| at < until));
        self.recorder.doorbell.rest(until, rest.watches, || self.has_job(worker, rest) || is_due_sooner());
        Done::Rested
    }

    /// Has a worker leave that had nothing to do for long: one of several, or the last of them if there is nothing it
    /// would look after, or nobody left who would record anything.
    fn leave(&self, worker: usize, rest: Rest) -> bool {
        let has_upkeep = self.next_probe().is_some() || self.traces.sink.next_upkeep().is_some();
        let is_free = !has_upkeep || sync::are_alone();
        self.recorder
            .doorbell
            .leave(worker, is_free, || self.has_job(worker, rest) || self.recorder.registry.waiting() > 0)
    }

    /// Whether `next_job` would answer anything but the rest that was announced.
    fn has_job(&self, worker: usize, rest: Rest) -> bool {
        let (now, all_hands) = (Instant::now(), self.is_all_hands());
        let waiting = self.gatherer.lock().waiting(self.lane(Some(worker)));
        let outbox = self.outbox.lock();
        // Something that begins to wait sets a time to leave.
        let begins = !rest.watches && waiting > 0;
        outbox.can_take(now, all_hands)
            || begins
            || rest.is_behind && rest.watches && !outbox.is_behind(now)
            || self.would_leave(waiting, outbox.has_room())
            || self.stopping.load(Ordering::SeqCst) && waiting == 0 && outbox.is_empty()
    }

    /// Whether there is anything to look after while this worker is blocked: records, or a request that another
    /// one may send, now or later.
    pub(super) fn has_more(&self) -> bool {
        let all_hands = self.is_all_hands();
        let waiting = self.gatherer.lock().waiting(Lane::Whole);
        let outbox = self.outbox.lock();
        let now = Instant::now();
        waiting > 0 || outbox.can_take(now, all_hands) || outbox.next_due(now, all_hands).is_some()
    }

    fn pack_one(&self, mut batch: Batch, encoder: &mut Encoder) {
        let unsettled = LoseOnPanic::packed(self, batch.id);
        if encoder.encoding() != self.encoding() || encoder.is_makeshift() {
            *encoder = Encoder::new(self.encoding());
        }
        // Until the body is accounted for.
        let room = self.room_for_large(&batch);
        let packed = self.pack_or_spare(&mut batch, encoder, self.spare_body());
        std::mem::forget(unsettled);
        let Ok(request) = packed else { return self.lose_unpacked(batch) };
        self.put(request);
        drop((batch, room));
        self.recorder.overflow.made_room();
        self.report_recording();
    }

    /// Gives up a batch that there is no memory to pack. What is recorded when there is some again is sent.
    fn lose_unpacked(&self, batch: Batch) {
        self.lose_batch(batch.id, u64::MAX, DropReason::NoMemory);
        drop(batch);
        self.recorder.overflow.made_room();
        self.report_recording();
    }

    /// Packs a batch. Where there is no memory for that, what the client can spare goes back to the system, and it tries
    /// once more.
    pub(super) fn pack_or_spare(
        &self,
        batch: &mut Batch,
        encoder: &mut Encoder,
        body: Vec<u8>,
    ) -> Result<Request, NoMemory> {
        let packed = self.pack(batch, encoder, body);
        if packed.is_ok() {
            return packed;
        }
        self.outbox.lock().drop_spare();
        self.recorder.budget.note_want();
        // Copied already, they are gone with the copy.
        if batch.slices.is_empty() { packed } else { self.pack(batch, encoder, Vec::new()) }
    }

    fn spare_body(&self) -> Vec<u8> {
        self.outbox.lock().spare_body()
    }

    fn put(&self, request: Request) {
        let mut outbox = self.outbox.lock();
        if let Err(request) = outbox.put(request) {
            drop(outbox);
            return self.set_aside_or_lose(request, DropReason::NoMemory);
        }
        if self.is_exiting() {
            outbox.hurry(Instant::now() + QUICK_RETRY);
        }
        let shed: Vec<_> = std::iter::from_fn(|| outbox.take_shed()).collect();
        drop(outbox);
        shed.into_iter().for_each(|request| self.lose_shed(request));
    }

    /// Drops the oldest body that waits to be sent, on a thread that needs its room.
    pub(super) fn shed_oldest(&self) -> Shed {
        let Some(mut outbox) = self.outbox.try_lock() else { return Shed::Busy };
        let Some(request) = outbox.shed() else { return Shed::Nothing };
        drop(outbox);
        self.lose_shed(request);
        Shed::Done
    }

    fn lose_shed(&self, request: Request) {
        self.lose_batch(request.id, request.spans, DropReason::QueueFull);
    }

    fn send_one(&self, request: Request) {
        // While this worker is blocked, another one minds the time.
        let away = self.recorder.doorbell.hand_over(|| self.has_more());
        let is_retry = request.is_retry();
        self.in_trouble.store(is_retry, Ordering::Relaxed);
        if is_retry && self.recorder.doorbell.is_deserted() {
            // It may take all the time there is, and what is recorded meanwhile has its own.
            self.recorder.doorbell.ring();
        }
        let unsettled = LoseOnPanic { exporter: self, id: request.id, is_sending: true, is_queued: true };
        let sent = self.drive(request, &mut Queued);
        std::mem::forget(unsettled);
        drop(away);
        self.recorder.overflow.made_room();
        match sent {
            Sent::Settled(body, _) => {
                let mut outbox = self.outbox.lock();
                outbox.sent();
                outbox.keep(body);
            }
            Sent::Again(requests) => {
                self.outbox.lock().sent();
                // The first of them goes before the others, and is put before them.
                for request in requests.into_iter().rev() {
                    if self.is_stopped() {
                        // Written off, or about to be: nobody waits for another attempt.
                        self.set_aside_or_lose(request, DropReason::Shutdown);
                    } else {
                        self.put(request);
                    }
                }
            }
        }
    }
}

/// Counts the batch at hand as lost if its worker panics; forgotten if it does not.
pub(super) struct LoseOnPanic<'a> {
    exporter: &'a Exporter,
    id: u64,
    /// It was sending, on a worker.
    is_sending: bool,
    /// Its spans count towards `max_queue_size`.
    is_queued: bool,
}

impl<'a> LoseOnPanic<'a> {
    /// For a batch whose body is not being sent by a worker.
    pub(super) fn packed(exporter: &'a Exporter, id: u64) -> Self {
        Self { exporter, id, is_sending: false, is_queued: true }
    }

    /// For a batch of spans that never were in the queue.
    pub(super) fn direct(exporter: &'a Exporter, id: u64) -> Self {
        Self { exporter, id, is_sending: false, is_queued: false }
    }
}

impl Drop for LoseOnPanic<'_> {
    fn drop(&mut self) {
        if self.is_sending {
            self.exporter.outbox.lock().sent();
        }
        // All that is left of the batch: which part was at hand is not known any more.
        if self.is_queued {
            self.exporter.lose_batch(self.id, u64::MAX, DropReason::Panicked);
        } else {
            let count = |spans| self.exporter.recorder.stats.dropped(DropReason::Panicked, spans);
            self.exporter.ledger.settle(self.id, u64::MAX, None, count);
        }
        self.exporter.recorder.overflow.made_room();
        self.exporter.diagnostics.say(
            LogLevel::Error,
            Subject::Worker,
            format_args!("a fault in the exporter cost a batch; this is a bug in otlp, and the exporter goes on"),
        );
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        capture::{CaptureLimits, Recorder, Tracer},
        config::{BatchConfig, Encoding, Options, Settings},
        error::Diagnostics,
        export::{
            Patience,
            encode::compress::Encoder,
            queue::{Extent, Lane},
        },
        testing::Receiver,
    };

    /// An exporter whose only worker there may be does not work.
    fn held_up(receiver: &Receiver) -> (Arc<Exporter>, Tracer) {
        let batch = BatchConfig { batch_timeout: Duration::from_millis(10), ..BatchConfig::default() };
        let options = Options {
            endpoint: Some(receiver.endpoint()),
            batch: Some(batch),
            worker_count: Some(1),
            ..Options::default()
        };
        let (settings, _) = Settings::resolve(options, Default::default()).unwrap();
        let recorder = Recorder::new(CaptureLimits { memory_bytes: 1 << 20, workers: 1, ..CaptureLimits::default() });
        let exporter = Exporter::new(settings, Arc::clone(&recorder), Diagnostics::new(LogLevel::None, None));
        assert_eq!(recorder.doorbell.admit(0), Some(0));
        (exporter, Tracer::bound(Some(&recorder), "test".into()))
    }

    /// Has the worker die that does not work.
    fn die(exporter: &Arc<Exporter>) {
        let dying = Arc::clone(exporter);
        let died = thread::spawn(move || {
            let _place = Place::take(&dying, 0).unwrap();
            panic!("on purpose");
        });
        assert!(died.join().is_err());
    }

    #[test]
    fn a_worker_that_dies_is_replaced() {
        // ERR-04
        let receiver = Receiver::start().unwrap();
        let (exporter, tracer) = held_up(&receiver);
        tracer.start("waits").end();
        die(&exporter);
        assert!(receiver.wait_for_spans(1, Duration::from_secs(30)));
    }

    #[test]
    fn who_waits_for_delivery_does_the_work_of_a_worker_that_never_begins() {
        let receiver = Receiver::start().unwrap();
        let (exporter, tracer) = held_up(&receiver);
        for sent in 1..=2 {
            tracer.start("waits").end();
            assert!(exporter.flush(Patience::Until(Duration::from_secs(30))).is_complete());
            assert_eq!(receiver.span_count(), sent);
        }
    }

    #[test]
    fn a_worker_that_begins_after_its_place_was_given_up_leaves_and_counts_nobody_off() {
        let receiver = Receiver::start().unwrap();
        let (exporter, tracer) = held_up(&receiver);
        exporter.recorder.doorbell.give_up_unbegun();
        run(&exporter, 0);
        assert_eq!(exporter.recorder.doorbell.workers(), (0, 0));
        tracer.start("next").end();
        assert!(receiver.wait_for_spans(1, Duration::from_secs(30)));
    }

    #[test]
    fn what_a_fault_costs_is_counted_and_the_next_spans_are_delivered() {
        // ERR-04
        let receiver = Receiver::start().unwrap();
        let (exporter, tracer) = held_up(&receiver);
        (0..3).for_each(|_| tracer.start("lost").end());
        let gathered = exporter.gatherer.lock().gather(
            Lane::Whole,
            &Extent::Everything,
            exporter.batch_limits(),
            &exporter.ledger,
        );
        let request = exporter.pack(&mut gathered.unwrap(), &mut Encoder::new(Encoding::NONE), Vec::new()).unwrap();
        let faulty = || {
            let _unsettled = LoseOnPanic::packed(&exporter, request.id);
            panic!("on purpose");
        };
        assert!(catch_unwind(AssertUnwindSafe(faulty)).is_err());
        let counted = exporter.snapshot();
        assert_eq!((counted.ended, counted.dropped.get(DropReason::Panicked), counted.queued), (3, 3, 0));
        tracer.start("next").end();
        die(&exporter);
        assert!(receiver.wait_for_spans(1, Duration::from_secs(30)));
        assert_eq!(receiver.span_count(), 1);
    }
}
