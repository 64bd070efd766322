//! The rings of one client: a thread checks a producer out when it records its first span and returns it when
//! it ends, for the next thread to continue. So there are never more rings than threads that were alive at
//! once, whatever the churn.

use std::{collections::HashSet, mem};

use super::ring::{Producer, Ring};
use crate::{
    stats::Totals,
    sync::{Arc, AtomicUsize, Mutex, Ordering},
};

pub(crate) struct Registry {
    rings: Mutex<Rings>,
    /// Changes whenever the list of rings does, so that workers copy it only then.
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
    /// What was counted in the rings that are gone.
    gone: Totals,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { rings: Mutex::new(Rings::default()), version: AtomicUsize::new(0), count: AtomicUsize::new(0) }
    }

    /// A producer for the calling thread: one that an ended thread left, or a new one.
    pub(crate) fn check_out(&self) -> Producer {
        let mut rings = self.rings.lock();
        if let Some(producer) = rings.vacant.pop() {
            return producer;
        }
        let (ring, producer) = Ring::new(rings.made);
        rings.made += 1;
        rings.all.push(ring);
        self.changed(&rings);
        producer
    }

    /// Takes the producer of an ended thread back. What is in its ring stays there until it is drained.
    pub(crate) fn give_back(&self, producer: Producer) {
        self.rings.lock().vacant.push(producer);
    }

    /// Removes the rings that no thread uses and nothing waits in.
    pub(crate) fn reap(&self) {
        let mut rings = self.rings.lock();
        let before = rings.all.len();
        // Whoever owns the producer knows that nothing is being pushed, so "drained" is final here.
        let (drained, waiting): (Vec<_>, Vec<_>) =
            mem::take(&mut rings.vacant).into_iter().partition(|producer| producer.ring().waiting() == 0);
        rings.vacant = waiting;
        for producer in &drained {
            producer.ring().add_ended(&mut rings.gone);
            producer.ring().add_started(&mut rings.gone);
        }
        let gone: HashSet<_> = drained.iter().map(|producer| Arc::as_ptr(producer.ring())).collect();
        rings.all.retain(|ring| !gone.contains(&Arc::as_ptr(ring)));
        if rings.all.len() != before {
            self.changed(&rings);
        }
    }

    fn changed(&self, rings: &Rings) {
        self.count.store(rings.all.len(), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How many rings there are; may be stale.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Copies the list of rings if it changed since `version`.
    pub(crate) fn refresh(&self, version: &mut usize, list: &mut Vec<Arc<Ring>>) {
        if *version != self.version.load(Ordering::Acquire) {
            let rings = self.rings.lock();
            *version = self.version.load(Ordering::Relaxed);
            list.clone_from(&rings.all);
        }
    }

    /// Every ring there is now.
    pub(crate) fn rings(&self) -> Vec<Arc<Ring>> {
        self.rings.lock().all.clone()
    }

    /// Records waiting in all rings, by their positions.
    pub(crate) fn waiting(&self) -> u64 {
        self.rings.lock().all.iter().map(|ring| ring.waiting()).sum()
    }

    /// Records waiting in all rings, counted in the chunks themselves.
    pub(crate) fn count_queued(&self) -> u64 {
        self.rings().iter().map(|ring| ring.count_queued()).sum()
    }

    /// What every producer counted since the client began.
    pub(crate) fn totals(&self) -> Totals {
        let rings = self.rings.lock();
        let mut totals = rings.gone;
        // A span may end on another thread than it started on: none is to be seen ended and not started.
        rings.all.iter().for_each(|ring| ring.add_ended(&mut totals));
        rings.all.iter().for_each(|ring| ring.add_started(&mut totals));
        totals
    }
}

#[cfg(test)]
mod tests;
