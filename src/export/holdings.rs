//! The memory that the client holds: reported and given back.

use super::Exporter;
use crate::stats::MemoryStats;

impl Exporter {
    /// Memory held now, by its holder. Takes locks, but none that recording takes.
    pub(crate) fn memory_stats(&self) -> MemoryStats {
        let budget = &self.recorder.budget;
        let buffers_idle = self.buffers.idle_bytes();
        // Under the lock: bodies that come and go meanwhile are in both sums or in neither.
        let outbox = self.outbox.lock();
        let (waiting, spare) = (outbox.waiting_bytes(), outbox.spare_bytes());
        let held = budget.holdings();
        drop(outbox);
        let (trims, trimmed_bytes) = budget.trims();
        MemoryStats {
            limit: self.settings.max_memory_usage as u64,
            chunks_in_use: held.chunks_in_use as u64,
            chunks_idle: held.chunks_idle as u64,
            open_spans: held.spans as u64,
            bodies_waiting: waiting as u64,
            bodies_in_flight: held.bodies.saturating_sub(waiting + spare) as u64,
            bodies_spare: spare as u64,
            buffers: held.buffers.saturating_sub(buffers_idle) as u64,
            buffers_idle: buffers_idle as u64,
            set_aside: self.settings.max_memory_usage.saturating_sub(budget.limit()) as u64,
            trims,
            trimmed_bytes,
            ..MemoryStats::default()
        }
        .summed()
    }

    /// Gives all idle memory back to the system at once, and returns how many bytes that were: chunks, spare bodies and
    /// buffers. Records that threads keep for their next spans stay with them.
    pub(crate) fn trim_now(&self) -> usize {
        let bodies = self.outbox.lock().drop_spare();
        let buffers = self.buffers.clear();
        self.recorder.budget.release_buffer(buffers);
        self.recorder.budget.trim_all(bodies + buffers)
    }
}
