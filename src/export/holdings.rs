//! The memory that the client holds: reported and given back.

use std::time::{Duration, Instant};

use super::{Exporter, queue::Batch, room::Room};
use crate::{capture::Slice, stats::MemoryStats, sync::locks::MutexGuard};

/// A batch of more bytes is a large one: its body may take more than is set aside.
const LARGE_BYTES: usize = 512 * 1024;

/// Batches are larger only where a single span is, or where somebody chose so: there are never many at once.
const HUGE_BYTES: usize = 1280 * 1024;

/// Spans of more bytes hold something that may not compress.
const LARGE_SPAN_BYTES: u64 = 8 * 1024;

/// How long a large batch waits for bodies that are under way to make room.
const ROOM_WAIT: Duration = Duration::from_millis(100);

/// What keeps the bodies of large batches within the bound.
pub(super) enum Large<'e> {
    Room {
        _room: Room<'e>,
    },
    /// There was no room. One at a time is made all the same: what it is made of is what takes the room, and goes as
    /// soon as it is made.
    Alone {
        _alone: MutexGuard<'e, ()>,
    },
}

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

    /// Room for the body of a batch, unless it is as small as most.
    pub(super) fn room_for_large(&self, batch: &Batch) -> Option<Large<'_>> {
        let bytes: usize = batch.slices.iter().flat_map(Slice::runs).map(|(_, run)| run.len()).sum();
        if bytes < LARGE_BYTES {
            return None;
        }
        match Room::try_of(&self.recorder, bytes) {
            Some(_room) => Some(Large::Room { _room }),
            // Many small spans make a small body.
            None if bytes < HUGE_BYTES && bytes as u64 / batch.spans.max(1) < LARGE_SPAN_BYTES => None,
            None => Some(self.room_or_alone(bytes)),
        }
    }

    /// Large batches that found no room take their turn: the first waits for room, those behind it for the first.
    fn room_or_alone(&self, bytes: usize) -> Large<'_> {
        let alone = self.packs_large.lock();
        let recorder = &self.recorder;
        let until = Instant::now() + ROOM_WAIT;
        let attempt = || if recorder.is_closed() { Some(None) } else { Room::try_of(recorder, bytes).map(Some) };
        match recorder.overflow.wait_for_room(until, || (), attempt).flatten() {
            Some(_room) => Large::Room { _room },
            None => Large::Alone { _alone: alone },
        }
    }

    /// Gives everything that is idle back to the system at once, and answers how many bytes that were: chunks, spare
    /// bodies and buffers. What threads keep for their next spans stays with them.
    pub(crate) fn trim_now(&self) -> usize {
        let bodies = self.outbox.lock().drop_spare();
        let buffers = self.buffers.clear();
        self.recorder.budget.release_buffer(buffers);
        self.recorder.budget.trim_all(bodies + buffers)
    }
}
