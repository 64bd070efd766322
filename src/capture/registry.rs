//! The rings of one client: a thread checks a producer out when it records its first span and returns it when it ends,
//! for the next thread to continue. So there are never more rings than threads that were alive at the same time.
//!
//! Threads take the registry's lock when they record their first span, whatever other locks they hold, and an allocator
//! may record spans: so nothing is allocated or freed while the lock is held.

use std::mem;

use super::ring::{Producer, Ring};
use crate::{
    stats::Totals,
    sync::{Arc, AtomicUsize, Mutex, Ordering},
};

/// How many rings the lists have room for at first.
const LEAST_CAPACITY: usize = 8;

pub(crate) struct Registry {
    rings: Mutex<Rings>,
    /// Changes whenever the list of rings does, so that workers copy the list only then.
    version: AtomicUsize,
    /// How many rings there are.
    count: AtomicUsize,
}

#[derive(Default)]
struct Rings {
    all: Vec<Arc<Ring>>,
    /// How many were ever made.
    made: usize,
    /// Producers of ended threads, most recently used last.
    vacant: Vec<Producer>,
    /// The counts of the rings that are gone.
    gone: Totals,
}

impl Rings {
    /// Moves the lists into those of `larger`, which have room for them.
    fn exchange(&mut self, larger: &mut Self) {
        larger.all.append(&mut self.all);
        larger.vacant.append(&mut self.vacant);
        mem::swap(&mut self.all, &mut larger.all);
        mem::swap(&mut self.vacant, &mut larger.vacant);
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { rings: Mutex::new(Rings::default()), version: AtomicUsize::new(0), count: AtomicUsize::new(0) }
    }

    /// A producer for the calling thread: one that an ended thread left, or a new one.
    pub(crate) fn check_out(&self) -> Producer {
        let number = {
            let mut rings = self.rings.lock();
            if let Some(producer) = rings.vacant.pop() {
                return producer;
            }
            rings.made += 1;
            rings.made - 1
        };
        let (ring, producer) = Ring::new(number);
        let mut larger = Rings::default();
        loop {
            let mut rings = self.rings.lock();
            if larger.all.capacity() > rings.all.capacity() {
                rings.exchange(&mut larger);
            }
            if rings.all.len() < rings.all.capacity() {
                rings.all.push(ring);
                self.changed(&rings);
                return producer;
            }
            let most = (2 * rings.all.len()).max(LEAST_CAPACITY);
            drop(rings);
            // Room for the producer of every ring, which is put here when its thread ends.
            larger = Rings { all: Vec::with_capacity(most), vacant: Vec::with_capacity(most), ..Rings::default() };
        }
    }

    /// Takes the producer of an ended thread back. What is in its ring stays there until it is drained.
    pub(crate) fn give_back(&self, producer: Producer) {
        self.rings.lock().vacant.push(producer);
    }

    /// Removes the rings that no thread uses and that hold no records.
    pub(crate) fn reap(&self) {
        // The owner of the producer knows that nothing is being pushed, so "drained" is final here.
        let is_drained = |producer: &mut Producer| producer.ring().waiting() == 0;
        let vacant = self.rings.lock().vacant.len();
        if vacant == 0 {
            return;
        }
        let (mut drained, mut gone) = (Vec::with_capacity(vacant), Vec::with_capacity(vacant));
        let mut rings = self.rings.lock();
        let Rings { all, vacant: left, gone: counted, .. } = &mut *rings;
        // Takes no more than there is room for: other threads may have ended meanwhile.
        drained.extend(left.extract_if(.., is_drained).take(vacant));
        for producer in &drained {
            producer.ring().add_ended(counted);
            producer.ring().add_started(counted);
        }
        drained.sort_unstable_by_key(|producer| Arc::as_ptr(producer.ring()));
        let is_gone = |ring: &Arc<Ring>| {
            drained.binary_search_by_key(&Arc::as_ptr(ring), |producer| Arc::as_ptr(producer.ring())).is_ok()
        };
        gone.extend(all.extract_if(.., |ring| is_gone(ring)));
        if !gone.is_empty() {
            self.changed(&rings);
        }
        // Freed after the lock is released.
        drop(rings);
    }

    fn changed(&self, rings: &Rings) {
        self.count.store(rings.all.len(), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The number of rings; may be stale.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Copies the list of rings if it changed since `version`.
    pub(crate) fn refresh(&self, version: &mut usize, list: &mut Vec<Arc<Ring>>) {
        if *version != self.version.load(Ordering::Acquire) {
            *version = self.copy(list);
        }
    }

    /// Every current ring.
    pub(crate) fn rings(&self) -> Vec<Arc<Ring>> {
        let mut list = Vec::new();
        self.copy(&mut list);
        list
    }

    /// Copies the list of rings and returns its version.
    fn copy(&self, list: &mut Vec<Arc<Ring>>) -> usize {
        list.clear();
        loop {
            list.reserve(self.count());
            let rings = self.rings.lock();
            if rings.all.len() <= list.capacity() {
                list.extend(rings.all.iter().cloned());
                return self.version.load(Ordering::Relaxed);
            }
        }
    }

    /// Records waiting in all rings, by their positions.
    pub(crate) fn waiting(&self) -> u64 {
        self.rings.lock().all.iter().map(|ring| ring.waiting()).sum()
    }

    /// Records waiting in all rings, counted in the chunks themselves.
    pub(crate) fn count_queued(&self) -> u64 {
        self.rings().iter().map(|ring| ring.count_queued()).sum()
    }

    /// The counts of all producers since the client began.
    pub(crate) fn totals(&self) -> Totals {
        let rings = self.rings.lock();
        let mut totals = rings.gone;
        // A span may end on another thread than it started on: no span may be seen as ended and not started.
        rings.all.iter().for_each(|ring| ring.add_ended(&mut totals));
        rings.all.iter().for_each(|ring| ring.add_started(&mut totals));
        totals
    }
}

#[cfg(test)]
mod tests;
