//! The batches on their way: the one place that decides, once per batch, the fate of its spans.

use std::{collections::BTreeMap, time::Instant};

use crate::sync::{Condvar, Mutex};

/// Set in the id of a batch that was taken out of the spool. No flush waits for it.
const RESTORED: u64 = 1 << 63;
/// Set in addition if this client had written the batch.
const OWN: u64 = 1 << 62;

/// Whether a batch comes from the spool, and then whether this client had written it.
pub(crate) fn restored(id: u64) -> Option<bool> {
    (id & RESTORED != 0).then_some(id & OWN != 0)
}

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

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches that were taken out of the spool.
    pub(crate) fn restored(&self) -> usize {
        self.batches.range(RESTORED..).count()
    }
}

impl Ledger {
    /// Opens a batch that `fill` takes out of the rings; `None` if it took nothing. The batch is in the ledger before
    /// its records leave the rings, so that a flush sees them in one or the other.
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
        // Also wakes threads that wait for rings to be drained.
        self.changed.notify_all();
        (spans > 0).then_some(id)
    }

    /// Opens a batch of `spans` spans that was taken out of the spool; `count` counts them as taken.
    pub(crate) fn begin_restored(&self, spans: u64, is_own: bool, count: impl FnOnce()) -> u64 {
        let mut open = self.open.lock();
        let id = RESTORED | if is_own { OWN } else { 0 } | open.next;
        open.next += 1;
        open.batches.insert(id, spans);
        count();
        id
    }

    /// Batches that were taken out of the spool.
    pub(crate) fn restored(&self) -> Vec<u64> {
        self.open.lock().batches.range(RESTORED..).map(|(id, _)| *id).collect()
    }

    /// Settles `spans` spans of a batch and calls `count` with how many that were: fewer, or none, if their fate was
    /// decided before. The batch closes with its last spans.
    pub(crate) fn settle(&self, id: u64, spans: u64, acknowledged: Option<Instant>, count: impl FnOnce(u64)) {
        let mut open = self.open.lock();
        if let Some(left) = open.batches.get_mut(&id) {
            let spans = spans.min(*left);
            *left -= spans;
            if *left == 0 {
                open.batches.remove(&id);
            }
            // Under the lock: a thread that sees the spans gone sees them counted.
            count(spans);
            open.acknowledged = acknowledged.or(open.acknowledged);
        }
        drop(open);
        self.changed.notify_all();
    }

    /// Closes every batch; later settling of any of them counts nothing.
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

    /// Waits until `done` holds or `until` comes; true if it holds. `done` is checked after each change.
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

    /// Wakes all waiting threads, so that they check again.
    pub(crate) fn nudge(&self) {
        drop(self.open.lock());
        self.changed.notify_all();
    }
}
