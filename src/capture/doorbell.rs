//! How a producer wakes a worker without a lock, a system call or a lost wake.
//!
//! A worker that found nothing to do writes how it is about to rest, fences, looks once more, and only then
//! sleeps. A producer publishes its record, fences, and only then reads how the workers rest. Whatever the
//! interleaving, one of the two sees the other; without the fences, both can miss.

use std::{sync::OnceLock, time::Instant};

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, fence};

/// Nobody is awake and nobody will wake by itself: the next record must ring.
const ASLEEP: u32 = 1;
/// A worker rests, or another could be started: a full batch must ring.
const RESTING: u32 = 2;

pub(crate) struct Doorbell {
    /// `ASLEEP` and `RESTING`. Read by producers on every record, written only when a worker goes to rest
    /// or is woken.
    rest: CachePadded<AtomicU32>,
    workers: Mutex<Workers>,
    rung: Condvar,
    /// Starts another worker; called when the bell rings and nobody rests.
    unanswered: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Workers {
    /// How often the bell was rung.
    rings: u64,
    /// Workers that exist.
    started: usize,
    /// Workers that may exist.
    allowed: usize,
    /// When the resting workers that wake by themselves do so.
    timed: Vec<Instant>,
    /// Resting workers that have to be woken.
    untimed: usize,
}

impl Workers {
    fn resting(&self) -> usize {
        self.timed.len() + self.untimed
    }

    fn rest(&self) -> u32 {
        let resting = self.resting();
        if self.allowed == 0 {
            0
        } else if resting == self.started && self.timed.is_empty() {
            ASLEEP | RESTING
        } else if resting > 0 || self.started < self.allowed {
            RESTING
        } else {
            0
        }
    }
}

impl Doorbell {
    /// A bell for up to `allowed` workers, none of which exists yet.
    pub(crate) fn new(allowed: usize) -> Self {
        let workers = Workers { allowed, ..Workers::default() };
        Self {
            rest: CachePadded::new(AtomicU32::new(workers.rest())),
            workers: Mutex::new(workers),
            rung: Condvar::new(),
            unanswered: OnceLock::new(),
        }
    }

    /// What to do when the bell rings and no worker rests: start one. Set once, at assembly.
    pub(crate) fn when_unanswered(&self, start: impl Fn() + Send + Sync + 'static) {
        let _ = self.unanswered.set(Box::new(start));
    }

    /// After a record: rings if nobody would come otherwise. The fence makes a push cost a few
    /// nanoseconds, and without it a wake is lost now and then.
    #[inline]
    pub(crate) fn after_record(&self) {
        fence(Ordering::SeqCst);
        if self.rest.load(Ordering::Relaxed) & ASLEEP != 0 {
            self.ring();
        }
    }

    /// After a record that made a batch full: rings if anybody rests or could be started.
    pub(crate) fn after_batch(&self) {
        fence(Ordering::SeqCst);
        if self.rest.load(Ordering::Relaxed) != 0 {
            self.ring();
        }
    }

    /// Wakes one resting worker, or has one started.
    #[cold]
    #[inline(never)]
    pub(crate) fn ring(&self) {
        let mut workers = self.workers.lock();
        workers.rings += 1;
        if workers.resting() == 0 {
            drop(workers);
            if let Some(start) = self.unanswered.get() {
                start();
            }
            return;
        }
        // Whoever is woken looks at everything; until it rests again nobody has to ring for a record.
        self.rest.store(workers.rest() & !ASLEEP, Ordering::Relaxed);
        drop(workers);
        self.rung.notify_one();
    }

    /// Wakes every resting worker.
    pub(crate) fn ring_all(&self) {
        let mut workers = self.workers.lock();
        workers.rings += 1;
        self.rest.store(workers.rest() & !ASLEEP, Ordering::Relaxed);
        drop(workers);
        self.rung.notify_all();
    }

    /// Wakes a resting worker if none of them would wake by itself: before the caller blocks for long.
    pub(crate) fn hand_over(&self) {
        let watched = {
            let workers = self.workers.lock();
            !workers.timed.is_empty() || workers.untimed == 0
        };
        if !watched {
            self.ring();
        }
    }

    /// Rests until the bell rings or `until` comes, unless `has_work` finds something after the rest was
    /// announced. Where another worker wakes by itself no later than that, this one waits for the bell alone.
    pub(crate) fn rest(&self, until: Option<Instant>, has_work: impl FnOnce() -> bool) {
        let mut workers = self.workers.lock();
        let until = until.filter(|until| workers.timed.iter().all(|other| other > until));
        match until {
            Some(until) => workers.timed.push(until),
            None => workers.untimed += 1,
        }
        let seen = workers.rings;
        self.rest.store(workers.rest(), Ordering::Relaxed);
        drop(workers);
        fence(Ordering::SeqCst);
        let found = has_work();
        let mut workers = self.workers.lock();
        // A ring since `seen` may have been for another worker: looking once too often is harmless.
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
        match until {
            Some(until) => workers.timed.retain(|other| *other != until),
            None => workers.untimed -= 1,
        }
        self.rest.store(workers.rest(), Ordering::Relaxed);
    }

    /// A place for one more worker, if one may be started.
    pub(crate) fn admit(&self) -> Option<usize> {
        let mut workers = self.workers.lock();
        if workers.started >= workers.allowed {
            return None;
        }
        workers.started += 1;
        self.rest.store(workers.rest(), Ordering::Relaxed);
        Some(workers.started - 1)
    }

    /// A worker has ended, or could not be started.
    pub(crate) fn dismiss(&self) {
        let mut workers = self.workers.lock();
        workers.started -= 1;
        self.rest.store(workers.rest(), Ordering::Relaxed);
    }

    /// Workers that exist, and how many of them rest.
    pub(crate) fn workers(&self) -> (usize, usize) {
        let workers = self.workers.lock();
        (workers.started, workers.resting())
    }

    /// No more workers are started.
    pub(crate) fn close(&self) {
        let mut workers = self.workers.lock();
        workers.allowed = 0;
        self.rest.store(0, Ordering::Relaxed);
    }
}
