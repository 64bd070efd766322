//! A thread's place at one client: its ring, its spare records, and the handling of spans that end.

use std::sync::Arc;

use super::{
    local::{self, is_own_thread},
    memory::{MemoryBudget, Prospect, Shed},
    open_span::OpenSpan,
    recorder::Recorder,
    ring::{Producer, Pushed},
};
use crate::{
    error::DropReason,
    stats::{Fate, ParentOrigin, Started, Withheld},
    sync::{Ordering, holds_any},
};

/// How many records a thread keeps ready for its next spans.
const POOLED_RECORDS: usize = 32;
/// How many records a thread keeps even if memory is short.
const LEAST_POOLED_RECORDS: usize = 2;

/// A thread's queues at the clients it records for.
pub(super) struct ThreadQueues {
    /// The queue at the first client the thread recorded for; most threads have no other.
    first: Option<ThreadQueue>,
    others: Vec<ThreadQueue>,
    term: Term,
}

/// How long a thread uses its queues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Term {
    /// As long as the thread lives.
    Life,
    /// For one span, because the thread is ending: nothing is kept for the next.
    Passing,
    /// The thread was called back while it was recording: there is no ring, and everything recorded counts as lost.
    Inert,
}

impl ThreadQueues {
    pub(super) const NONE: Self = Self { first: None, others: Vec::new(), term: Term::Life };

    /// The queues of a thread whose own are gone.
    pub(super) fn passing() -> Self {
        Self { term: Term::Passing, ..Self::NONE }
    }

    /// The queues of a thread whose own are in use. Neither this call nor any use of the result takes a lock or
    /// allocates.
    pub(super) fn inert() -> Self {
        Self { term: Term::Inert, ..Self::NONE }
    }

    /// The queue at the client of `recorder`.
    #[inline]
    pub(super) fn at(&mut self, recorder: &Arc<Recorder>) -> &mut ThreadQueue {
        let is_first = self.first.as_ref().is_some_and(|first| Arc::ptr_eq(&first.recorder, recorder));
        if !is_first && let Some(at) = self.find_other(recorder) {
            return &mut self.others[at];
        }
        let term = &self.term;
        self.first.get_or_insert_with(|| ThreadQueue::new(Arc::clone(recorder), *term))
    }

    /// The index in `others` of the queue at this client; `None` if it should become the first.
    #[cold]
    #[inline(never)]
    fn find_other(&mut self, recorder: &Arc<Recorder>) -> Option<usize> {
        let found = self.others.iter().position(|queue| Arc::ptr_eq(&queue.recorder, recorder));
        if found.is_some() {
            return found;
        }
        // A client that was shut down keeps its queue until the thread meets another one.
        self.others.retain(|queue| !queue.recorder.is_closed());
        if self.first.take_if(|first| first.recorder.is_closed()).is_some() || self.first.is_none() {
            return None;
        }
        self.others.push(ThreadQueue::new(Arc::clone(recorder), self.term));
        Some(self.others.len() - 1)
    }
}

/// A thread's place at one client.
pub(super) struct ThreadQueue {
    recorder: Arc<Recorder>,
    /// `Some` until the queue is dropped, unless it never had one.
    producer: Option<Producer>,
    /// How many records it keeps even if memory is short.
    least_pooled: usize,
    /// Boxed, since a span holds one pointer and moves between the pool and spans.
    #[expect(clippy::vec_box)]
    pool: Vec<Box<OpenSpan>>,
    /// How many more records until the thread announces its records, and the step it counts down from.
    countdown: u32,
    step: u32,
    /// Whether the last record found no room.
    refusing: bool,
    /// Whether it waited for open spans of other threads, and none of them made room.
    in_vain: bool,
}

impl ThreadQueue {
    #[cold]
    #[inline(never)]
    fn new(recorder: Arc<Recorder>, term: Term) -> Self {
        let step = recorder.arrivals.step(recorder.registry.count());
        let is_kept = term == Term::Life;
        Self {
            producer: (term != Term::Inert).then(|| recorder.registry.check_out()),
            least_pooled: if is_kept && recorder.budget.recycles() { LEAST_POOLED_RECORDS } else { 0 },
            pool: Vec::with_capacity(if is_kept { POOLED_RECORDS } else { 0 }),
            countdown: step,
            step,
            refusing: false,
            in_vain: false,
            recorder,
        }
    }

    /// Counts a span that was started, by its parent: in another process, in this one, or none.
    #[inline]
    pub(super) fn started(&mut self, is_remote: Option<bool>, fate: Fate) {
        let origin = match is_remote {
            None => ParentOrigin::None,
            Some(false) => ParentOrigin::Local,
            Some(true) => ParentOrigin::Remote,
        };
        let kind = Started::index(origin, fate);
        match &mut self.producer {
            Some(producer) => producer.started(kind),
            None => self.started_inert(kind),
        }
    }

    #[cold]
    #[inline(never)]
    fn started_inert(&self, kind: usize) {
        self.recorder.stats.started_elsewhere(kind);
    }

    /// Whether there is a recycled record.
    #[inline]
    pub(super) fn has_pooled(&self) -> bool {
        !self.pool.is_empty()
    }

    /// A recycled record to write a span called `name` into, if there is one.
    #[inline]
    pub(super) fn pooled(&mut self, scope: u32, name: &str) -> Option<Box<OpenSpan>> {
        let mut open = self.pool.pop()?;
        open.scope = scope;
        open.record.begin(name);
        Some(open)
    }

    /// A record to write a span called `name` into; `None` if memory is used up. Report a span that starts anyway to
    /// [`lose`](Self::lose).
    #[inline]
    pub(super) fn open(&mut self, scope: u32, name: &str) -> Option<Box<OpenSpan>> {
        self.pooled(scope, name).or_else(|| self.allocate(scope, name))
    }

    #[cold]
    #[inline(never)]
    fn allocate(&mut self, scope: u32, name: &str) -> Option<Box<OpenSpan>> {
        self.producer.as_ref()?;
        let recorder = Arc::clone(&self.recorder);
        let prospect = |budget: &MemoryBudget| budget.could_start(OpenSpan::INITIAL_BYTES);
        let made = OpenSpan::new(&recorder).or_else(|| self.make_room(prospect, |_| OpenSpan::new(&recorder)));
        let mut open = made?;
        open.scope = scope;
        open.record.begin(name);
        Some(open)
    }

    /// Counts a span that was started without a record to write it into.
    #[cold]
    #[inline(never)]
    pub(super) fn lose(&self) {
        let reason = match self.producer {
            _ if self.recorder.is_closed() => DropReason::Shutdown,
            Some(_) => self.recorder.budget.why_full(),
            None => DropReason::Nested,
        };
        self.recorder.stats.lost(reason);
    }

    /// Hands over a finished span, and keeps its memory for the next.
    #[inline]
    pub(super) fn hand_over(&mut self, mut open: Box<OpenSpan>) {
        if open.record.is_unusual() {
            return self.hand_over_unusual(open);
        }
        self.push(&mut open);
        self.keep(open);
    }

    #[cold]
    #[inline(never)]
    fn hand_over_unusual(&mut self, mut open: Box<OpenSpan>) {
        self.push(&mut open);
        self.recorder.count_lacking(&open.record);
        self.recycle(open);
    }

    /// Ends a span of which nothing is exported.
    #[cold]
    #[inline(never)]
    pub(super) fn discard(&mut self, mut open: Box<OpenSpan>, why: Withheld) {
        self.withhold(why);
        open.withheld = None;
        self.recycle(open);
    }

    /// Counts the end of a span of which nothing is exported.
    #[cold]
    pub(super) fn withhold(&mut self, why: Withheld) {
        match &mut self.producer {
            Some(producer) => producer.withhold(why),
            None => self.recorder.stats.withheld(why),
        }
    }

    /// Takes back a record that is not needed.
    pub(super) fn recycle(&mut self, mut open: Box<OpenSpan>) {
        if open.record.is_unusual() {
            open.context.clear_trace_state();
            open.record.shrink();
        }
        self.keep(open);
    }

    /// Keeps a record for the next spans, if they may need it.
    #[inline]
    fn keep(&mut self, open: Box<OpenSpan>) {
        let kept = self.pool.len();
        if kept < self.least_pooled || kept < POOLED_RECORDS && !self.recorder.budget.is_short_of_records() {
            self.pool.push(open);
        } else {
            free(open);
        }
    }

    #[inline]
    fn push(&mut self, open: &mut OpenSpan) {
        let record = open.record.framed();
        let Some(producer) = &mut self.producer else { return self.lose() };
        if self.recorder.quota.is_bounded() && !take_credit(&self.recorder, producer, !self.refusing) {
            self.overflow(open);
        } else if producer.push_in_place(open.scope, record) {
            (self.refusing, self.in_vain) = (false, false);
            self.countdown -= 1;
            if self.countdown == 0 {
                self.checkpoint();
            } else {
                self.recorder.doorbell.after_record();
            }
        } else if !self.push_elsewhere(open.scope, record) {
            self.overflow(open);
        }
    }

    /// The chunk at hand is full; false if there is no other one.
    #[cold]
    #[inline(never)]
    fn push_elsewhere(&mut self, scope: u32, record: &[u8]) -> bool {
        let Some(producer) = &mut self.producer else { return true };
        let pushed = producer.push_elsewhere(&self.recorder.budget, scope, record).is_ok();
        if pushed {
            self.pushed();
        } else {
            self.recorder.quota.give_back(1);
        }
        pushed
    }

    fn pushed(&mut self) {
        (self.refusing, self.in_vain) = (false, false);
        self.countdown -= 1;
        self.checkpoint();
    }

    /// Called every few records: announces how many there are, and has a full batch fetched.
    #[cold]
    #[inline(never)]
    fn checkpoint(&mut self) {
        let recorder = &*self.recorder;
        let mut ready = recorder.budget.is_pressed();
        if self.countdown == 0 {
            ready |= recorder.arrivals.arrive(self.step);
            self.step = recorder.arrivals.step(recorder.registry.count());
            self.countdown = self.step;
        }
        if ready { recorder.doorbell.after_batch() } else { recorder.doorbell.after_record() }
    }

    #[cold]
    #[inline(never)]
    fn overflow(&mut self, open: &mut OpenSpan) {
        let (scope, held, record) = (open.scope, open.record.borrowed(), open.record.framed());
        let needed = self.producer.as_ref().map_or(0, |producer| producer.needs(&self.recorder.budget, record.len()));
        let pushed = self.make_room(
            |budget| if needed == 0 { Prospect::Room } else { budget.could_end(held, needed) },
            |queue| try_push(&queue.recorder, queue.producer.as_mut()?, true, scope, record),
        );
        match pushed {
            Some(_) => self.pushed(),
            // Spans that the client records of its own requests do not count as lost.
            None if is_own_thread() => self.recorder.stats.forgotten(),
            None if self.recorder.is_closed() => self.recorder.stats.lost(DropReason::Shutdown),
            None => self.refuse(),
        }
    }

    /// Repeats an `attempt` that found no room, if the drop strategy makes some and the client is not shut down. If
    /// open spans are in the way nothing is shed, and a thread waits for them only briefly, and once: it may itself
    /// hold them.
    fn make_room<T>(
        &mut self,
        prospect: impl FnOnce(&MemoryBudget) -> Prospect,
        mut attempt: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        // Before the reference count is touched, which all threads share.
        if self.recorder.overflow.drops_newest() || is_own_thread() || holds_any() {
            // A thread that holds a lock of the client's was called back, and others may be waiting for it.
            return None;
        }
        let recorder = Arc::clone(&self.recorder);
        let prospect = prospect(&recorder.budget);
        let is_hopeless = prospect == Prospect::None || prospect == Prospect::OpenSpans && self.in_vain;
        if is_hopeless || recorder.is_closed() {
            return None;
        }
        let ring = self.producer.as_ref().map(|producer| producer.ring().clone());
        let made = recorder.overflow.retry(
            prospect,
            || ring.as_deref().map_or(Shed::Nothing, |ring| recorder.shed_records(ring)),
            || recorder.doorbell.after_batch(),
            || if recorder.is_closed() { Some(None) } else { attempt(self).map(Some) },
        );
        let made = made.flatten();
        self.in_vain = made.is_none() && prospect == Prospect::OpenSpans;
        made
    }

    fn refuse(&mut self) {
        match (&mut self.producer, self.recorder.budget.why_full()) {
            (Some(producer), DropReason::QueueFull) => producer.refuse(),
            (_, reason) => self.recorder.stats.lost(reason),
        }
        // A worker may rest although the queue is full, because threads announce their records in steps.
        if !self.refusing {
            self.refusing = true;
            self.recorder.doorbell.after_batch();
        }
    }
}

/// Gives a record back that is not kept.
#[cold]
#[inline(never)]
fn free(open: Box<OpenSpan>) {
    drop(open);
}

/// Pushes a record if there is room for it, in spans and in bytes.
fn try_push(recorder: &Recorder, producer: &mut Producer, reclaim: bool, scope: u32, record: &[u8]) -> Option<Pushed> {
    if recorder.quota.is_bounded() && !take_credit(recorder, producer, reclaim) {
        return None;
    }
    let pushed = producer.push(&recorder.budget, scope, record);
    if pushed.is_err() {
        recorder.quota.give_back(1);
    }
    pushed.ok()
}

/// Takes one span's worth of `max_queue_size`. With `reclaim` it also collects what idle threads hold back, which takes
/// a lock: done once when the queue turns out to be full, not for every span while it is.
fn take_credit(recorder: &Recorder, producer: &Producer, reclaim: bool) -> bool {
    let credit = &producer.ring().credit;
    loop {
        let left = credit.load(Ordering::Relaxed);
        if left > 0 {
            if credit.compare_exchange_weak(left, left - 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
            continue;
        }
        let wanted = recorder.quota.step(recorder.registry.count());
        let granted = recorder.quota.grant(wanted);
        if granted == 0 {
            if !reclaim || holds_any() {
                return false;
            }
            let reclaimed =
                recorder.registry.rings().iter().map(|ring| ring.credit.swap(0, Ordering::Relaxed)).sum::<u32>();
            if reclaimed == 0 {
                return false;
            }
            recorder.quota.give_back(reclaimed.into());
            continue;
        }
        credit.fetch_add(granted as u32, Ordering::Relaxed);
    }
}

impl Drop for ThreadQueue {
    fn drop(&mut self) {
        let pool = std::mem::take(&mut self.pool);
        if !pool.is_empty() {
            local::inside(|| drop(pool));
        }
        if let Some(producer) = self.producer.take() {
            if self.recorder.is_inherited() {
                // The ring belongs to another process, and the registry's lock may stay locked for ever in this one.
                std::mem::forget(producer);
                return;
            }
            self.recorder.quota.give_back(producer.ring().credit.swap(0, Ordering::Relaxed).into());
            self.recorder.overflow.made_room();
            let unannounced = self.step - self.countdown;
            if unannounced > 0 && self.recorder.arrivals.arrive(unannounced) {
                self.recorder.doorbell.after_batch();
            }
            self.recorder.registry.give_back(producer);
        }
    }
}
