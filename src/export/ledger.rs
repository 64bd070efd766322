//! Which batches are on their way: the one place that decides, once per batch, what became of its spans.

use std::{collections::BTreeMap, time::Instant};

use crate::sync::{Condvar, Mutex};

/// Batches between "detached from the rings" and "accepted or lost".
#[derive(Default)]
pub(crate) struct Ledger {
    open: Mutex<Open>,
    changed: Condvar,
}

/// The batches that are open.
#[derive(Default)]
pub(crate) struct Open {
    next: u64,
    /// Spans by batch.
    batches: BTreeMap<u64, u64>,
    /// When a batch was last acknowledged.
    acknowledged: Option<Instant>,
}

impl Open {
    /// The id the next batch will have.
    pub(crate) fn barrier(&self) -> u64 {
        self.next
    }

    /// Spans in batches that were opened before `barrier`.
    pub(crate) fn spans_before(&self, barrier: u64) -> u64 {
        self.batches.range(..barrier).map(|(_, spans)| spans).sum()
    }

    /// Whether a batch that was opened before `barrier` is still on its way.
    pub(crate) fn any_before(&self, barrier: u64) -> bool {
        self.batches.range(..barrier).next().is_some()
    }
}

impl Ledger {
    /// Opens a batch that `fill` takes out of the rings; none if it took nothing. The batch is in the ledger
    /// before its records leave the rings, so that a flush sees them in one or the other.
    pub(crate) fn begin(&self, fill: impl FnOnce() -> u64) -> Option<u64> {
        let id = {
            let mut open = self.open.lock();
            let id = open.next;
            open.next += 1;
            open.batches.insert(id, 0);
            id
        };
        let spans = fill();
        let mut open = self.open.lock();
        if spans == 0 {
            open.batches.remove(&id);
        } else {
            open.batches.insert(id, spans);
        }
        drop(open);
        // Whoever waits for rings to be drained, too.
        self.changed.notify_all();
        (spans > 0).then_some(id)
    }

    /// Settles `spans` spans of a batch and tells `count` how many that were: fewer, or none, if their fate was
    /// decided before. The last of them close the batch.
    pub(crate) fn settle(&self, id: u64, spans: u64, acknowledged: Option<Instant>, count: impl FnOnce(u64)) {
        let mut open = self.open.lock();
        if let Some(left) = open.batches.get_mut(&id) {
            let spans = spans.min(*left);
            *left -= spans;
            if *left == 0 {
                open.batches.remove(&id);
            }
            // Under the lock: whoever sees the spans gone sees them counted.
            count(spans);
            open.acknowledged = acknowledged.or(open.acknowledged);
        }
        drop(open);
        self.changed.notify_all();
    }

    /// Closes every batch there is; whoever still works on one counts nothing.
    pub(crate) fn write_off(&self, count: impl FnOnce(u64)) {
        let mut open = self.open.lock();
        let spans = std::mem::take(&mut open.batches).into_values().sum();
        count(spans);
        drop(open);
        self.changed.notify_all();
    }

    /// Spans in batches.
    pub(crate) fn spans(&self) -> u64 {
        self.open.lock().batches.values().sum()
    }

    /// When a batch was last acknowledged, if ever.
    pub(crate) fn acknowledged(&self) -> Option<Instant> {
        self.open.lock().acknowledged
    }

    /// Waits until `done` holds or `until` comes; true if it holds. `done` is asked after each change.
    pub(crate) fn wait_until(&self, until: Instant, mut done: impl FnMut(&Open) -> bool) -> bool {
        let mut open = self.open.lock();
        loop {
            if done(&open) {
                return true;
            }
            if self.changed.wait_until(&mut open, until).timed_out() {
                return done(&open);
            }
        }
    }

    /// Wakes whoever waits, so that it asks again.
    pub(crate) fn nudge(&self) {
        drop(self.open.lock());
        self.changed.notify_all();
    }
}
