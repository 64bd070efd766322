//! Waiting for delivery: flush, shutdown, and the budget at exit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    Exporter,
    encode::compress::Encoder,
    failures::LastFailure,
    ledger::Open,
    queue::{Extent, Lane},
};
use crate::{
    capture::Ring,
    config::ExitBudget,
    error::DropReason,
    stats::Receipt,
    sync::{Arc as RingArc, BEGIN_GRACE, LONGEST},
};

/// How long a shutdown waits for the workers to leave once nothing is left to do.
const LEAVE_GRACE: Duration = Duration::from_millis(40);

/// What a flush covers: every record that was in a ring when it was called, and every batch that these and
/// earlier ones end up in.
pub(super) struct Watermark {
    /// Rings with what they had pushed.
    rings: Vec<(RingArc<Ring>, u64)>,
    /// Set when the rings are drained up to there: batches before it are covered.
    barrier: Option<u64>,
}

impl Watermark {
    pub(super) fn new(rings: Vec<RingArc<Ring>>) -> Self {
        let rings = rings.into_iter().map(|ring| {
            let pushed = ring.pushed();
            (ring, pushed)
        });
        Self { rings: rings.filter(|(ring, pushed)| ring.taken() < *pushed).collect(), barrier: None }
    }

    fn in_rings(&self) -> u64 {
        self.rings.iter().map(|(ring, pushed)| pushed.saturating_sub(ring.taken())).sum()
    }

    /// Whether everything covered has been settled.
    pub(super) fn is_passed(&mut self, open: &Open) -> bool {
        // A batch is in the ledger before its records leave the ring, so once the rings are drained the
        // barrier covers every batch that matters.
        if self.barrier.is_none() && self.in_rings() == 0 {
            self.barrier = Some(open.barrier());
        }
        self.barrier.is_some_and(|barrier| !open.any_before(barrier))
    }

    /// Spans covered that are not settled.
    fn pending(&self, open: &Open) -> u64 {
        self.in_rings() + open.spans_before(self.barrier.unwrap_or(open.barrier()))
    }
}

/// A mark behind all batches packed so far.
pub(crate) struct Barrier(u64);

/// How long a drain may last.
#[derive(Debug, Clone)]
pub(crate) enum Patience {
    /// For this long.
    Until(Duration),
    /// While there is progress, within a total.
    WhileProgress(ExitBudget),
}

impl Patience {
    /// The longest it may take in total, including the time for workers to leave.
    pub(crate) fn longest(&self) -> Duration {
        match self {
            Self::Until(timeout) => timeout.saturating_add(LEAVE_GRACE),
            Self::WhileProgress(budget) => budget.total + LEAVE_GRACE,
        }
    }

    /// When to give up on `others` that are waited for before the drain. Their progress cannot be seen, and none of
    /// them takes more than its share.
    pub(crate) fn deadline_of_others(&self, begun: Instant, others: u32) -> Instant {
        let (total, stall) = match self {
            Self::Until(timeout) => (*timeout, *timeout),
            Self::WhileProgress(budget) => (budget.total, budget.stall),
        };
        begun + (total.min(LONGEST) / (others + 1) * others).min(stall)
    }

    /// The patience that is left after `spent`.
    pub(crate) fn after(self, spent: Duration) -> Self {
        match self {
            Self::Until(timeout) => Self::Until(timeout.saturating_sub(spent)),
            Self::WhileProgress(budget) => {
                Self::WhileProgress(ExitBudget { total: budget.total.saturating_sub(spent), ..budget })
            }
        }
    }

    /// When to give up, if there was no progress since `progress`.
    fn deadline(&self, begun: Instant, progress: Instant) -> Instant {
        let after = |from: Instant, wait: Duration| from + wait.min(LONGEST);
        match self {
            Self::Until(timeout) => after(begun, *timeout),
            Self::WhileProgress(budget) => after(begun, budget.total).min(after(progress, budget.stall)),
        }
    }
}

impl Exporter {
    /// Sends all spans that ended before the call and waits for them.
    pub(crate) fn flush(&self, patience: Patience) -> Receipt {
        let pending = self.drain(&patience);
        Receipt::new(&self.snapshot(), pending)
    }

    /// Has everything that waits sent, while other clients are closed: the exit budget begins now.
    pub(crate) fn hurry(&self) {
        let _ = self.hurried.set(Instant::now());
        self.be_exiting();
        self.flushing.fetch_add(1, Ordering::SeqCst);
        self.ring_for_all();
    }

    fn be_exiting(&self) {
        self.exiting.store(true, Ordering::SeqCst);
        self.traces.sink.hurry(self.settings.exit_budget.stall);
        self.outbox.lock().hurry(Instant::now());
    }

    /// When patience began.
    fn begun(&self, patience: &Patience) -> Instant {
        match (patience, self.hurried.get()) {
            (Patience::WhileProgress(_), Some(hurried)) => *hurried,
            _ => Instant::now(),
        }
    }

    /// Spans ended before the call that are not settled when patience ends.
    fn drain(&self, patience: &Patience) -> u64 {
        let begun = self.begun(patience);
        let mut watermark = Watermark::new(self.recorder.registry.rings());
        self.flushing.fetch_add(1, Ordering::SeqCst);
        if !self.ledger.wait_until(Instant::now(), |open| watermark.is_passed(open)) {
            self.wake_or_work(&mut watermark, || patience.deadline(begun, self.progress_since(begun, patience)));
        }
        let mut pending = 0;
        loop {
            let progress = self.progress_since(begun, patience);
            let deadline = patience.deadline(begun, progress);
            let passed = self.ledger.wait_until(deadline, |open| {
                let passed = watermark.is_passed(open);
                pending = if passed { 0 } else { watermark.pending(open) };
                passed
            });
            let progressed = self.progress_since(begun, patience) > progress;
            if passed || !progressed || Instant::now() >= patience.deadline(begun, Instant::now()) {
                break;
            }
        }
        self.flushing.fetch_sub(1, Ordering::SeqCst);
        pending
    }

    /// Stands behind every batch that is packed already.
    pub(crate) fn barrier(&self) -> Barrier {
        let mut barrier = 0;
        self.ledger.wait_until(Instant::now(), |open| {
            barrier = open.barrier();
            true
        });
        Barrier(barrier)
    }

    /// Whether everything before `barrier` has been settled.
    pub(crate) fn has_settled(&self, barrier: &Barrier) -> bool {
        self.ledger.wait_until(Instant::now(), |open| !open.any_before(barrier.0))
    }

    /// When there was last progress since `begun`. A pause that the receiver asked for is not counted as standstill:
    /// its end counts, if there is time for what comes after it.
    fn progress_since(&self, begun: Instant, patience: &Patience) -> Instant {
        let progress = self.progress().map_or(begun, |at| at.max(begun));
        match self.traces.pause.until(progress) {
            Some(until) if until < patience.deadline(begun, until) => until,
            _ => progress,
        }
    }

    /// When there was last progress: a batch was acknowledged, a connection made, bytes of a request taken. Repeated
    /// work does not count.
    fn progress(&self) -> Option<Instant> {
        let on_the_way = self.traces.sink.vitals().progress.filter(|_| !self.in_trouble.load(Ordering::Relaxed));
        self.ledger.acknowledged().max(on_the_way)
    }

    /// Has the workers look at once. As long as none runs, because no thread can be started or none of them begins, the
    /// calling one does their work.
    fn wake_or_work(&self, watermark: &mut Watermark, deadline: impl Fn() -> Instant) {
        self.ring_for_all();
        let doorbell = &self.recorder.doorbell;
        let grace = deadline().min(Instant::now() + BEGIN_GRACE);
        self.ledger.wait_until(grace, |open| !doorbell.is_awaiting() || watermark.is_passed(open));
        let mut encoder = None;
        while doorbell.begun() == 0 && !self.ledger.wait_until(Instant::now(), |open| watermark.is_passed(open)) {
            let deadline = deadline();
            if Instant::now() >= deadline {
                break;
            }
            let encoder = encoder.get_or_insert_with(|| Encoder::new(self.encoding()));
            // A fault costs the current batch, as in a worker, and does not unwind into the program.
            match catch_unwind(AssertUnwindSafe(|| self.work_for_flush(encoder, deadline))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => *encoder = Encoder::new(self.encoding()),
            }
        }
    }

    fn ring_for_all(&self) {
        self.recorder.doorbell.ring_all();
        // Unless a worker has taken everything meanwhile: a short program pays for no second thread.
        if self.recorder.doorbell.is_deserted() && self.has_more() {
            self.recorder.doorbell.ring();
        }
    }

    /// Ends recording, delivers as much as possible while patience lasts, and counts the rest as dropped.
    pub(crate) fn shutdown(&self, patience: Patience) -> Receipt {
        self.recorder.close();
        match &patience {
            Patience::WhileProgress(_) => self.be_exiting(),
            Patience::Until(timeout) => self.traces.sink.hurry(*timeout),
        }
        let begun = self.begun(&patience);
        let pending = self.drain(&patience);
        if pending == 0 {
            self.restore_before_exit(patience.deadline(begun, Instant::now()));
            let left = patience.deadline(begun, Instant::now()).saturating_duration_since(Instant::now());
            self.export_last_metrics(left.min(self.settings.exit_budget.stall));
        }
        if pending > 0 {
            self.remember_unresolved();
        }
        self.stopping.store(true, Ordering::SeqCst);
        self.recorder.doorbell.close();
        if pending > 0 || !self.ledger.restored().is_empty() {
            // Threads blocked in an exchange return now.
            self.traces.sink.close();
        }
        self.spool_rest();
        self.write_off();
        self.recorder.doorbell.ring_all();
        self.ledger.wait_until(Instant::now() + LEAVE_GRACE, |_| self.recorder.doorbell.workers().0 == 0);
        self.traces.sink.close();
        if let Some(metrics) = &self.metrics {
            metrics.sink.close();
        }
        // Threads that recorded here keep what they share with the client until they record for another one.
        self.trim_now();
        self.recorder.tell_late();
        let receipt = self.receipt();
        self.report_recording();
        self.say_spooled(&receipt);
        self.say_lost(&receipt, pending);
        self.say_delivered();
        receipt
    }

    /// Notes for the last line that everything waits for the name to be resolved.
    fn remember_unresolved(&self) {
        if let Some(host) = self.traces.sink.unresolved() {
            self.failures.stand(LastFailure::unresolved(&host));
        }
    }

    /// Gives up everything that is left.
    pub(super) fn write_off(&self) {
        // If there was no address to send to, the shutdown is not what lost them.
        let is_nameless = self.failures.standing().is_some_and(|failure| failure.is_nameless);
        let reason = if is_nameless { DropReason::Undelivered } else { DropReason::Shutdown };
        let mut gatherer = self.gatherer.lock();
        while gatherer.gather(Lane::Whole, &Extent::Everything, self.batch_limits(), &self.ledger).is_some() {}
        drop(gatherer);
        self.outbox.lock().clear();
        self.ledger.write_off(|spans| {
            self.recorder.stats.dropped(reason, spans);
            self.recorder.quota.give_back(spans);
        });
    }
}

#[cfg(test)]
mod tests;
