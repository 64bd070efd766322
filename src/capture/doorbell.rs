//! How a producer wakes a worker without a lock, a system call or a lost wake.
//!
//! A worker that found nothing to do writes how it is about to rest, fences, looks once more, and only then sleeps. A
//! producer publishes its record, fences, and only then reads how the workers rest. In every interleaving, one of the
//! two sees the other; without the fences, both can miss.

use std::{sync::OnceLock, time::Instant};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, fence};

/// No awake worker will look at the rings again, and none will wake in time for what is recorded now: the next record
/// must ring.
const ASLEEP: u32 = 1;
/// A worker rests, or another could be started: a full batch must ring.
const RESTING: u32 = 2;

pub(crate) struct Doorbell {
    /// `ASLEEP` and `RESTING`. Read by producers on every record, written only when a worker goes to rest
    /// or is woken.
    rest: CachePadded<AtomicU32>,
    workers: Mutex<Workers>,
    rung: Condvar,
    /// Whether the bell wakes all workers, because one cannot do another one's work.
    wakes_all: bool,
    /// Starts another worker; called when the bell rings and no worker rests.
    unanswered: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Workers {
    /// How often the bell was rung.
    rings: u64,
    /// Workers that exist.
    started: usize,
    /// The numbers of the existing workers, one bit for each.
    numbers: u64,
    /// Those of them that have begun to run, a bit for each: one that was started may never get that far.
    begun: u64,
    /// Workers that may exist.
    allowed: usize,
    /// Workers that rest.
    resting: usize,
    /// For each resting worker that watches the rings, when it wakes by itself, if it does. A watching worker has seen
    /// that something waits: what is recorded meanwhile leaves with it.
    watching: Vec<Option<Instant>>,
    /// Workers that are blocked for long: they neither rest nor look.
    away: usize,
    /// Whether a worker has left because it had nothing to do.
    has_left: bool,
    /// Whether the last attempt to start a worker failed: single records do not try again.
    barren: bool,
}

impl Workers {
    fn remove(&mut self, number: usize) {
        self.started -= 1;
        self.numbers &= !bit(number);
        self.begun &= !bit(number);
    }

    /// Those that have begun to run.
    fn running(&self) -> usize {
        self.begun.count_ones() as usize
    }

    /// Whether other workers come for what is recorded, or there are none and `may_be_none`.
    fn can_spare_one(&self, may_be_none: bool) -> bool {
        if self.started == 1 { may_be_none } else { self.started - 1 > self.away }
    }

    fn rest(&self) -> u32 {
        let awake = self.started.saturating_sub(self.resting + self.away);
        // If all existing workers are away, none could come for a single record.
        let someone_to_wake = self.resting > 0 || self.started == 0 && !self.barren;
        if self.allowed == 0 {
            0
        } else if awake == 0 && self.watching.is_empty() && someone_to_wake {
            ASLEEP | RESTING
        } else if self.resting > 0 || self.running() < self.allowed {
            // What was started may never run: whoever rings finds out.
            RESTING
        } else {
            0
        }
    }
}

impl Doorbell {
    /// A bell for up to `allowed` workers, none of which exists yet. With `has_lanes` each of them has its own rings.
    pub(crate) fn new(allowed: usize, has_lanes: bool) -> Self {
        // Has room for all workers, so that nothing allocates while the lock is held.
        let workers = Workers { allowed, watching: Vec::with_capacity(allowed), ..Workers::default() };
        Self {
            rest: CachePadded::new(AtomicU32::new(workers.rest())),
            workers: Mutex::new(workers),
            rung: Condvar::new(),
            wakes_all: has_lanes,
            unanswered: OnceLock::new(),
        }
    }

    /// Sets how a worker is started when the bell rings and no worker rests. Set once, at assembly.
    pub(crate) fn when_unanswered(&self, start: impl Fn() + Send + Sync + 'static) {
        let _ = self.unanswered.set(Box::new(start));
    }

    /// Call after each record: rings if no worker would come otherwise. The fence makes a push cost a few nanoseconds;
    /// without it a wake is sometimes lost.
    #[inline]
    pub(crate) fn after_record(&self) {
        fence(Ordering::SeqCst);
        if self.rest.load(Ordering::Relaxed) & ASLEEP != 0 {
            self.ring();
        }
    }

    /// Call after a record that completes a batch: rings if a worker rests or could be started.
    pub(crate) fn after_batch(&self) {
        fence(Ordering::SeqCst);
        if self.rest.load(Ordering::Relaxed) != 0 {
            self.ring();
        }
    }

    /// Wakes one resting worker (all of them if each has its own rings), or has one started.
    #[cold]
    #[inline(never)]
    pub(crate) fn ring(&self) {
        let mut workers = self.workers.lock();
        workers.rings += 1;
        if workers.resting == 0 {
            drop(workers);
            if let Some(start) = self.unanswered.get() {
                start();
            }
            return;
        }
        // The woken worker looks at everything; until it rests again, a record does not have to ring.
        self.rest.store(workers.rest() & !ASLEEP, Ordering::Relaxed);
        drop(workers);
        if self.wakes_all {
            self.rung.notify_all();
        } else {
            self.rung.notify_one();
        }
    }

    /// Wakes every resting worker.
    pub(crate) fn ring_all(&self) {
        let mut workers = self.workers.lock();
        workers.rings += 1;
        self.rest.store(workers.rest() & !ASLEEP, Ordering::Relaxed);
        drop(workers);
        self.rung.notify_all();
    }

    /// Call before a worker blocks for long: it counts as away until the returned guard is dropped, so that the next
    /// record wakes a resting one. One is woken at once if no worker watches and `has_more` finds something to do.
    pub(crate) fn hand_over(&self, has_more: impl FnOnce() -> bool) -> Away<'_> {
        let unwatched = {
            let mut workers = self.workers.lock();
            workers.away += 1;
            self.rest.store(workers.rest(), Ordering::Relaxed);
            workers.watching.is_empty() && workers.resting > 0
        };
        // As in `rest`: a producer that did not see the change has published what is seen here.
        fence(Ordering::SeqCst);
        if unwatched && has_more() {
            self.ring();
        }
        Away(self)
    }

    /// Blocks until the bell rings or `until` comes, unless `has_work` finds something after the rest was announced.
    /// `watches` says that records wait already and the caller knows when they have to leave; if another watching
    /// worker wakes no later, this one waits for the bell alone.
    pub(crate) fn rest(&self, until: Option<Instant>, watches: bool, has_work: impl FnOnce() -> bool) {
        let mut workers = self.workers.lock();
        let is_in_time = |other: &Option<Instant>| until.is_some() && other.is_some() && *other <= until;
        let spare = watches && !self.wakes_all && workers.watching.iter().any(is_in_time);
        let (until, watches) = if spare { (None, false) } else { (until, watches) };
        workers.resting += 1;
        if watches {
            workers.watching.push(until);
        }
        let seen = workers.rings;
        self.rest.store(workers.rest(), Ordering::Relaxed);
        drop(workers);
        fence(Ordering::SeqCst);
        let found = has_work();
        let mut workers = self.workers.lock();
        // A ring since `seen` may have been for another worker: one look too many is harmless.
        while !found && workers.rings == seen {
            match until {
                Some(until) => {
                    if self.rung.wait_until(&mut workers, until).timed_out() {
                        break;
                    }
                }
                None => self.rung.wait(&mut workers),
            }
        }
        workers.resting -= 1;
        if watches && let Some(at) = workers.watching.iter().position(|other| *other == until) {
            workers.watching.swap_remove(at);
        }
        self.rest.store(workers.rest(), Ordering::Relaxed);
    }

    /// Lets worker `number` leave, unless the bell rings or `has_work` finds something after that was announced.
    /// Returns true if it has left. The last worker leaves only with `may_be_last`. No worker leaves while all others
    /// are away, because those would not come for a single record. If workers have their own rings, only the one with
    /// the highest number leaves, so that the others take over all rings. If no worker is left, the next record starts
    /// one.
    pub(crate) fn leave(&self, number: usize, may_be_last: bool, has_work: impl FnOnce() -> bool) -> bool {
        let mut workers = self.workers.lock();
        let has_later_ones = workers.numbers.checked_shr(number as u32 + 1).is_some_and(|later| later != 0);
        if self.wakes_all && has_later_ones || !workers.can_spare_one(may_be_last) {
            return false;
        }
        // As in `rest`: a producer that does not see the change has published what is seen here.
        workers.resting += 1;
        let seen = workers.rings;
        self.rest.store(workers.rest(), Ordering::Relaxed);
        drop(workers);
        fence(Ordering::SeqCst);
        let found = has_work();
        let mut workers = self.workers.lock();
        workers.resting -= 1;
        let leaves = !found && workers.rings == seen && workers.can_spare_one(may_be_last);
        if leaves {
            workers.remove(number);
            workers.has_left = true;
            // The other workers now own the rings of the one that leaves.
            workers.rings += u64::from(self.wakes_all);
        }
        self.rest.store(workers.rest(), Ordering::Relaxed);
        drop(workers);
        if leaves && self.wakes_all {
            self.rung.notify_all();
        }
        leaves
    }

    /// Reserves a place for one more worker beside `started` others and returns its number, the lowest free one. `None`
    /// if no more may be started, or another thread was faster.
    pub(crate) fn admit(&self, started: usize) -> Option<usize> {
        let mut workers = self.workers.lock();
        if workers.started != started || started >= workers.allowed {
            return None;
        }
        workers.started += 1;
        workers.barren = false;
        let number = workers.numbers.trailing_ones();
        workers.numbers |= bit(number as usize);
        self.rest.store(workers.rest(), Ordering::Relaxed);
        Some(number as usize)
    }

    /// A worker that was admitted runs; false where another one has its place.
    pub(crate) fn begin(&self, number: usize) -> bool {
        let mut workers = self.workers.lock();
        let is_awaited = (workers.numbers & !workers.begun & bit(number)) != 0;
        workers.begun |= workers.numbers & bit(number);
        self.rest.store(workers.rest(), Ordering::Relaxed);
        is_awaited
    }

    /// Those that were admitted and have not begun to run give up their places.
    pub(crate) fn give_up_unbegun(&self) {
        let mut workers = self.workers.lock();
        workers.numbers = workers.begun;
        workers.started = workers.running();
        self.rest.store(workers.rest(), Ordering::Relaxed);
    }

    /// A worker has ended.
    pub(crate) fn dismiss(&self, number: usize) {
        self.take_back(number, false);
    }

    /// Removes a worker that was admitted and could not be started. The next full batch asks for one again.
    pub(crate) fn give_up(&self, number: usize) {
        self.take_back(number, true);
    }

    fn take_back(&self, number: usize, barren: bool) {
        let mut workers = self.workers.lock();
        workers.remove(number);
        workers.barren = barren;
        self.rest.store(workers.rest(), Ordering::Relaxed);
    }

    /// The number of existing workers, and how many of them rest.
    pub(crate) fn workers(&self) -> (usize, usize) {
        let workers = self.workers.lock();
        (workers.started, workers.resting)
    }

    /// Workers that have begun to run.
    pub(crate) fn begun(&self) -> usize {
        self.workers.lock().running()
    }

    /// Whether a worker was started, and none has begun.
    pub(crate) fn is_awaiting(&self) -> bool {
        let workers = self.workers.lock();
        workers.started > 0 && workers.begun == 0
    }

    /// Whether there are workers, or were until they had nothing to do.
    pub(crate) fn has_worked(&self) -> bool {
        let workers = self.workers.lock();
        workers.begun > 0 || workers.has_left
    }

    /// Whether all existing workers are blocked for long, and another could be started.
    pub(crate) fn is_deserted(&self) -> bool {
        let workers = self.workers.lock();
        workers.started == workers.away && workers.started < workers.allowed
    }

    /// Prevents that more workers are started.
    pub(crate) fn close(&self) {
        let mut workers = self.workers.lock();
        workers.allowed = 0;
        self.rest.store(0, Ordering::Relaxed);
    }
}

/// The bit of worker `number`.
fn bit(number: usize) -> u64 {
    1_u64.checked_shl(number as u32).unwrap_or(0)
}

/// A worker that is blocked for long: it looks at nothing until this is dropped.
#[must_use = "the worker counts as away as long as this lives"]
pub(crate) struct Away<'a>(&'a Doorbell);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let mut workers = self.0.workers.lock();
        workers.away -= 1;
        self.0.rest.store(workers.rest(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
