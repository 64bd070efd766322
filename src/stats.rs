//! One counter set for all stages, and the snapshots users see of it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam::utils::CachePadded;

use crate::error::DropReason;

mod batches;
mod memory;
mod performance;

pub use batches::BatchMetrics;
pub(crate) use batches::{Batches, Departure};
pub use memory::MemoryStats;
pub use performance::{NetworkUsage, PerformanceMetrics};

/// Counters that stages add to in steps of a batch. Per-span counting happens in the rings, by one writer
/// each.
#[derive(Default)]
pub(crate) struct Stats {
    /// Spans ended that never were in a ring, since they were exported directly.
    ended_elsewhere: AtomicU64,
    /// Spans that were started and lost before they reached a ring.
    lost: AtomicU64,
    outcome: CachePadded<Outcome>,
    truncated: AtomicU64,
    limited: AtomicU64,
    requests: AtomicU64,
    uncompressed_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    pub(crate) batches: Batches,
    copied_bytes: AtomicU64,
}

#[derive(Default)]
struct Outcome {
    exported: AtomicU64,
    /// Spans of this client that lie in the spool.
    spooled: AtomicU64,
    /// Spans of others that were taken out of it.
    restored: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Stats {
    /// Counts spans as ended that go to the receiver without passing a ring.
    pub(crate) fn ended_elsewhere(&self, spans: u64) {
        self.ended_elsewhere.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn exported(&self, spans: u64) {
        self.outcome.exported.fetch_add(spans, Ordering::Release);
    }

    pub(crate) fn dropped(&self, reason: DropReason, spans: u64) {
        self.outcome.dropped[reason.index()].fetch_add(spans, Ordering::Release);
    }

    /// Spans that were lost for `reason` since the client began, but for those counted in rings.
    pub(crate) fn lost_so_far(&self, reason: DropReason) -> u64 {
        self.outcome.dropped[reason.index()].load(Ordering::Relaxed)
    }

    /// Spans that were written into the spool: `is_own` for those of this client.
    pub(crate) fn spooled(&self, spans: u64, is_own: bool) {
        if is_own {
            self.outcome.spooled.fetch_add(spans, Ordering::Release);
        } else {
            self.outcome.restored.fetch_sub(spans, Ordering::Release);
        }
    }

    /// Spans that were taken out of the spool.
    pub(crate) fn restored(&self, spans: u64, is_own: bool) {
        if is_own {
            self.outcome.spooled.fetch_sub(spans, Ordering::Release);
        } else {
            self.outcome.restored.fetch_add(spans, Ordering::Release);
        }
    }

    /// A span that was lost before it reached a ring.
    pub(crate) fn lost(&self, reason: DropReason) {
        self.lost.fetch_add(1, Ordering::Release);
        self.dropped(reason, 1);
    }

    /// Spans that do not hold all they were given, since they would have been too large, or by the limits.
    pub(crate) fn lacking(&self, truncated: u64, limited: u64) {
        self.truncated.fetch_add(truncated, Ordering::Relaxed);
        self.limited.fetch_add(limited, Ordering::Relaxed);
    }

    /// Spans of which the limits left something out.
    pub(crate) fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// One request with a body of so many bytes, before and after compression.
    pub(crate) fn request(&self, uncompressed: usize, sent: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.uncompressed_bytes.fetch_add(uncompressed as u64, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
    }

    /// So many bytes were copied out of ring memory.
    pub(crate) fn copied(&self, bytes: usize) {
        self.copied_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The counters now. What is counted in rings is read by `rings`, as (pushed, refused, started), after everything
    /// that follows from it, so that a live snapshot never shows more spans arrived than ended.
    pub(crate) fn snapshot(&self, rings: impl FnOnce() -> (u64, u64, Started)) -> Snapshot {
        let exported = self.outcome.exported.load(Ordering::Acquire);
        let mut dropped = Dropped(std::array::from_fn(|at| self.outcome.dropped[at].load(Ordering::Acquire)));
        let spooled = self.outcome.spooled.load(Ordering::Acquire);
        let restored = self.outcome.restored.load(Ordering::Acquire);
        let lost_before = self.lost.load(Ordering::Acquire);
        let (pushed, refused, started) = rings();
        dropped.0[DropReason::QueueFull.index()] += refused;
        let lost = self.lost.load(Ordering::Acquire);
        Snapshot {
            started: started.total(),
            sampled_out: started.sampled_out(),
            // Without those that were lost only after the starts were read.
            open: started.recorded().saturating_sub(pushed + refused + lost_before),
            started_by: started,
            ended: pushed + refused + lost + self.ended_elsewhere.load(Ordering::Acquire),
            exported,
            dropped,
            spooled,
            restored,
            truncated: self.truncated.load(Ordering::Relaxed),
            limited: self.limited(),
            requests: self.requests.load(Ordering::Relaxed),
            uncompressed_bytes: self.uncompressed_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            copied_bytes: self.copied_bytes.load(Ordering::Relaxed),
            ..Snapshot::default()
        }
    }
}

/// Where the parent of a new span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentOrigin {
    None,
    Local,
    Remote,
}

/// Spans started, by where their parents are and whether they are recorded (OBS-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Started(pub(crate) [u64; Started::KINDS]);

impl Started {
    pub(crate) const KINDS: usize = 6;

    /// The place of such spans in the list.
    #[inline]
    pub(crate) const fn index(origin: ParentOrigin, is_recorded: bool) -> usize {
        origin as usize + if is_recorded { 0 } else { 3 }
    }

    /// The values of `otel.span.parent.origin` and `otel.span.sampling_result`, with the spans of that kind.
    pub(crate) fn by_kind(&self) -> [(&'static str, &'static str, u64); Self::KINDS] {
        let origins = ["none", "local", "remote"];
        std::array::from_fn(|at| (origins[at % 3], if at < 3 { "RECORD_AND_SAMPLE" } else { "DROP" }, self.0[at]))
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn recorded(&self) -> u64 {
        self.0[..3].iter().sum()
    }

    fn sampled_out(&self) -> u64 {
        self.0[3..].iter().sum()
    }
}

/// Lost spans by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Spans lost for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Spans lost for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }

    fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }
}

/// Shows the reasons that lost something.
impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.iter().filter(|(_, count)| *count > 0);
        f.debug_map().entries(lost.map(|(reason, count)| (reason.as_str(), count))).finish()
    }
}

/// What a client counted since it began.
///
/// At rest `ended + restored = exported + dropped + queued + spooled`; while spans are being recorded
/// `exported + dropped` is at most `ended + restored`. Without a spool `restored` and `spooled` are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Spans started, recorded or not; those of a disabled client do not count.
    pub started: u64,
    /// Spans started that were not recorded, since their trace is not sampled. They do not count as ended.
    pub sampled_out: u64,
    /// Spans that are being recorded: started, and not ended yet.
    pub open: u64,
    /// `started`, by where the parent is and whether they are recorded.
    pub(crate) started_by: Started,
    /// Spans ended, and spans given to `export_spans`.
    pub ended: u64,
    /// Spans the receiver accepted.
    pub exported: u64,
    /// Spans lost, by reason; those the receiver rejected are among them.
    pub dropped: Dropped,
    /// Spans waiting or on their way, counted in the rings and batches themselves.
    pub queued: u64,
    /// Spans of this client that it wrote into the spool and did not take out again. Another process may have sent
    /// them since.
    pub spooled: u64,
    /// Spans that other clients, in earlier runs or beside this one, had written into the spool and this one took out
    /// to send. Those it had to leave there after all do not count.
    pub restored: u64,
    /// Spans that were cut because they exceeded the 4 MiB a record may take; they were exported all the same.
    pub truncated: u64,
    /// Spans of which attributes, events or links were left out, since there were more than the
    /// [limits](crate::SpanLimits) allow; they were exported all the same.
    pub limited: u64,
    /// Export requests made, those that were made again counted each time.
    pub requests: u64,
    /// Bytes of the request bodies before compression.
    pub uncompressed_bytes: u64,
    /// Bytes of the request bodies as they were sent.
    pub sent_bytes: u64,
    /// Bytes that were really sent: request heads, bodies, and what TLS and a proxy on the way add. `sent_bytes`
    /// divided by this is the network's efficiency, as long as no request was cut off.
    pub wire_bytes: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections that are open now and serve no request.
    pub idle_connections: u64,
    /// Bytes that were copied before they were compressed, which only happens without
    /// [`enable_zero_copy`](crate::config::PerformanceConfig::enable_zero_copy).
    pub copied_bytes: u64,
    /// Bytes the client holds now: rings, idle chunks, open spans, bodies, buffers.
    pub memory_bytes: u64,
}

/// What `flush` and `shutdown` answer: cumulative counts since the client began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Receipt {
    /// Spans ended before the call that the receiver accepted, and any later ones it accepted meanwhile; those that
    /// were taken out of the spool are among them.
    pub exported: u64,
    /// Spans the receiver rejected in a partial success; also in `dropped`.
    pub rejected: u64,
    /// Lost spans by reason.
    pub dropped: Dropped,
    /// Spans ended before the call that had neither arrived nor been given up when it returned.
    pub pending: u64,
    /// Spans of this client that lie in the spool: not lost, and not arrived either.
    pub spooled: u64,
    /// Span [processors](crate::processing) that did not finish: they failed, or there was no time. Why is told on stderr.
    pub failed_processors: u32,
}

impl Receipt {
    pub(crate) fn new(snapshot: &Snapshot, pending: u64) -> Self {
        let Snapshot { exported, dropped, spooled, .. } = *snapshot;
        let rejected = dropped.get(DropReason::Rejected);
        Self { exported, rejected, dropped, pending, spooled, failed_processors: 0 }
    }

    /// Whether every span ended before the call has arrived: nothing is pending or in the spool, nothing was lost since
    /// the client began (or since the earlier receipt, for one made by [`since`](Self::since)), and every processor has
    /// finished.
    pub fn is_complete(&self) -> bool {
        self.pending == 0 && self.spooled == 0 && self.dropped.total() == 0 && self.failed_processors == 0
    }

    /// Spans lost for any reason, rejected ones included.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.total()
    }

    /// The same counts for the time since an earlier receipt of the same client; `pending`, `spooled` and
    /// `failed_processors` are as they are now.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            exported: self.exported.saturating_sub(earlier.exported),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            dropped: self.dropped.since(&earlier.dropped),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Started = Started([11, 20, 20, 4, 5, 6]);

    #[test]
    fn a_receipt_is_complete_only_if_nothing_is_pending_and_nothing_was_lost() {
        // TPR-06
        let stats = Stats::default();
        stats.exported(5);
        let earlier = Receipt::new(&stats.snapshot(|| (5, 0, STARTED)), 0);
        assert!(earlier.is_complete());
        assert!(!Receipt { pending: 1, ..earlier }.is_complete());
        assert!(!Receipt { spooled: 1, ..earlier }.is_complete());
        stats.dropped(DropReason::Rejected, 2);
        let later = Receipt::new(&stats.snapshot(|| (7, 0, STARTED)), 0);
        assert!(!later.is_complete());
        assert_eq!((later.rejected, later.dropped_total()), (2, 2));
        assert_eq!(later.since(&earlier).exported, 0);
        stats.exported(3);
        assert!(Receipt::new(&stats.snapshot(|| (10, 0, STARTED)), 0).since(&later).is_complete());
    }

    #[test]
    fn refused_records_are_ended_and_dropped() {
        let stats = Stats::default();
        stats.exported(3);
        stats.lost(DropReason::Shutdown);
        let snapshot = stats.snapshot(|| (3, 4, STARTED));
        assert_eq!((snapshot.ended, snapshot.exported, snapshot.dropped.total()), (8, 3, 5));
        assert_eq!((snapshot.started, snapshot.sampled_out, snapshot.open), (66, 15, 43));
        assert_eq!(format!("{:?}", snapshot.dropped), r#"{"queue_full": 4, "shutdown": 1}"#);
    }
}
