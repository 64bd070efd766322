//! One counter set for all stages, and the snapshots users see of it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

use crate::error::DropReason;

mod batches;
mod histogram;
mod memory;
mod performance;
mod rings;
mod shown;

pub use batches::BatchMetrics;
pub(crate) use batches::{Batches, Departure};
pub(crate) use histogram::Histogram;
pub use memory::MemoryStats;
pub use performance::{NetworkUsage, PerformanceMetrics};
pub(crate) use rings::{Fate, Live, ParentOrigin, Started, Totals, Withheld};

/// Counters that stages add to in steps of a batch. Per-span counting happens in the rings, by one writer
/// each.
#[derive(Default)]
pub(crate) struct Stats {
    /// Spans ended that never were in a ring, since they were exported directly.
    ended_elsewhere: AtomicU64,
    /// Spans that were started and lost before they reached a ring.
    lost: AtomicU64,
    /// Spans started where no ring counts them.
    started_elsewhere: [AtomicU64; Started::KINDS],
    /// Spans of the client's own threads that were started and neither arrived nor count as lost.
    forgotten: AtomicU64,
    /// Spans ended after the client that would not have been exported, by why.
    withheld: [AtomicU64; Withheld::COUNT],
    outcome: CachePadded<Settled>,
    truncated: AtomicU64,
    limited: AtomicU64,
    no_memory: AtomicU64,
    requests: AtomicU64,
    uncompressed_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    pub(crate) batches: Batches,
    copied_bytes: AtomicU64,
    possible_duplicates: AtomicU64,
}

#[derive(Default)]
struct Settled {
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

    /// A span was started where no ring counts it, of the kind with this index ([`Started::index`]).
    pub(crate) fn started_elsewhere(&self, kind: usize) {
        self.started_elsewhere[kind].fetch_add(1, Ordering::Release);
    }

    /// A span that was lost before it reached a ring.
    pub(crate) fn lost(&self, reason: DropReason) {
        self.lost.fetch_add(1, Ordering::Release);
        self.dropped(reason, 1);
    }

    /// A span of the client's own threads has ended, and it is no loss to anybody.
    pub(crate) fn forgotten(&self) {
        self.forgotten.fetch_add(1, Ordering::Release);
    }

    /// A span ended where rings count no more, that would not have been exported.
    pub(crate) fn withheld(&self, why: Withheld) {
        self.withheld[why as usize].fetch_add(1, Ordering::Release);
    }

    /// Spans that do not hold all they were given, since they would have been too large, or by the limits.
    pub(crate) fn lacking(&self, truncated: u64, limited: u64) {
        self.truncated.fetch_add(truncated, Ordering::Relaxed);
        self.limited.fetch_add(limited, Ordering::Relaxed);
    }

    /// Spans that do not hold all they were given, since there was no memory for it.
    pub(crate) fn lacking_memory(&self, spans: u64) {
        self.no_memory.fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans of which something was left out because there was no memory for it.
    pub(crate) fn no_memory(&self) -> u64 {
        self.no_memory.load(Ordering::Relaxed)
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

    /// So many spans were sent again that may have arrived before.
    pub(crate) fn possibly_duplicated(&self, spans: u64) {
        self.possible_duplicates.fetch_add(spans, Ordering::Relaxed);
    }

    /// So many bytes were copied out of ring memory.
    pub(crate) fn copied(&self, bytes: usize) {
        self.copied_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The counters now. What is counted in rings is read by `rings`, after everything that follows from it, so that
    /// a live snapshot never shows more spans arrived than ended.
    pub(crate) fn snapshot(&self, rings: impl FnOnce() -> Totals) -> Snapshot {
        let exported = self.outcome.exported.load(Ordering::Acquire);
        let mut dropped = Dropped(std::array::from_fn(|at| self.outcome.dropped[at].load(Ordering::Acquire)));
        let spooled = self.outcome.spooled.load(Ordering::Acquire);
        let restored = self.outcome.restored.load(Ordering::Acquire);
        let lost_before = self.lost.load(Ordering::Acquire) + self.forgotten.load(Ordering::Acquire);
        let withheld_late = self.withheld.each_ref().map(|spans| spans.load(Ordering::Acquire));
        let Totals { pushed, refused, withheld, mut started } = rings();
        for (started, elsewhere) in started.0.iter_mut().zip(&self.started_elsewhere) {
            *started += elsewhere.load(Ordering::Acquire);
        }
        dropped.0[DropReason::QueueFull.index()] += refused;
        let lost = self.lost.load(Ordering::Acquire);
        // Without those that were lost only after the starts were read.
        let to_export = started.exported().saturating_sub(pushed + refused + lost_before);
        let to_withhold = |why: Withheld| {
            let why = why as usize;
            started.withheld()[why].saturating_sub(withheld[why] + withheld_late[why])
        };
        let live =
            Live { sampled: to_export + to_withhold(Withheld::Sampled), unsampled: to_withhold(Withheld::Unsampled) };
        Snapshot {
            started: started.total(),
            sampled_out: started.sampled_out(),
            open: live.total(),
            started_by: started,
            live,
            ended: pushed + refused + lost + self.ended_elsewhere.load(Ordering::Acquire),
            exported,
            dropped,
            spooled,
            restored,
            truncated: self.truncated.load(Ordering::Relaxed),
            limited: self.limited(),
            no_memory: self.no_memory(),
            requests: self.requests.load(Ordering::Relaxed),
            uncompressed_bytes: self.uncompressed_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            copied_bytes: self.copied_bytes.load(Ordering::Relaxed),
            possible_duplicates: self.possible_duplicates.load(Ordering::Relaxed),
            ..Snapshot::default()
        }
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
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Spans started, recorded or not; those of a disabled client do not count.
    pub started: u64,
    /// Spans started that are not exported: those whose trace is not sampled, whether they
    /// [are recorded](crate::sampling::SamplingDecision::RecordOnly) or not, and all of a client that exports to nobody
    /// but its span processors. They never count as ended.
    pub sampled_out: u64,
    /// Spans that are being recorded, whether they are exported or not: started, and not ended yet.
    pub open: u64,
    /// `started`, by where the parent is and what becomes of them.
    pub(crate) started_by: Started,
    /// `open`, by what samplers decided.
    pub(crate) live: Live,
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
    /// Spans of which attributes, events, links or text were left out, since `max_memory_usage` or the system left no
    /// room for them; they were exported all the same. What was left out is in the span's dropped counts.
    pub no_memory: u64,
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
    /// Spans that were sent again although they may have arrived before, each counted once: the whole request was sent,
    /// and the connection broke or was silent, or the answer came from a gateway (502 or 504; over gRPC also CANCELLED,
    /// DEADLINE_EXCEEDED or UNAVAILABLE without a pause). The receiver has at most so many spans twice, as far as this
    /// process has sent them.
    pub possible_duplicates: u64,
    /// Bytes the client holds now: rings, idle chunks, open spans, bodies, buffers.
    pub memory_bytes: u64,
    /// Lines about itself that the client could not write, since stderr was closed, broken or full, or was not stderr
    /// any more. The client never waits for it; the next line that can be written says how many are missing.
    pub diagnostics_lost: u64,
}

/// What `flush` and `shutdown` answer: cumulative counts since the client began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whether there is a client; a disabled one is one. Without it nothing was recorded, and nothing is counted.
    pub has_client: bool,
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
    /// Span [processors](crate::processing) that did not finish: they failed, or there was no time. Why is told on
    /// stderr.
    pub failed_processors: u32,
}

/// The receipt of a client that recorded nothing.
impl Default for Receipt {
    fn default() -> Self {
        Self {
            has_client: true,
            exported: 0,
            rejected: 0,
            dropped: Dropped::default(),
            pending: 0,
            spooled: 0,
            failed_processors: 0,
        }
    }
}

impl Receipt {
    pub(crate) fn new(snapshot: &Snapshot, pending: u64) -> Self {
        let Snapshot { exported, dropped, spooled, .. } = *snapshot;
        let rejected = dropped.get(DropReason::Rejected);
        Self { exported, rejected, dropped, pending, spooled, ..Self::default() }
    }

    /// Whether every span ended before the call has arrived: nothing is pending or in the spool, nothing was lost since
    /// the client began (or since the earlier receipt, for one made by [`since`](Self::since)), and every processor has
    /// finished. Never where there is no client.
    pub fn is_complete(&self) -> bool {
        self.has_client
            && self.pending == 0
            && self.spooled == 0
            && self.dropped.total() == 0
            && self.failed_processors == 0
    }

    /// Spans lost for any reason, rejected ones included.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.total()
    }

    /// The counts for the time since an earlier receipt of the same client; `pending`, `spooled` and
    /// `failed_processors` are as they are now.
    #[must_use]
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

    const STARTED: Started = Started([11, 20, 20, 1, 2, 3, 10, 20, 30, 4, 5, 6]);

    fn pushed(pushed: u64) -> Totals {
        Totals { pushed, started: STARTED, ..Totals::default() }
    }

    #[test]
    fn a_receipt_is_complete_only_if_nothing_is_pending_and_nothing_was_lost() {
        // TPR-06
        let stats = Stats::default();
        stats.exported(5);
        let earlier = Receipt::new(&stats.snapshot(|| pushed(5)), 0);
        assert!(earlier.is_complete());
        assert!(!Receipt { pending: 1, ..earlier }.is_complete());
        assert!(!Receipt { spooled: 1, ..earlier }.is_complete());
        stats.dropped(DropReason::Rejected, 2);
        let later = Receipt::new(&stats.snapshot(|| pushed(7)), 0);
        assert!(!later.is_complete());
        assert_eq!((later.rejected, later.dropped_total()), (2, 2));
        assert_eq!(later.since(&earlier).exported, 0);
        stats.exported(3);
        assert!(Receipt::new(&stats.snapshot(|| pushed(10)), 0).since(&later).is_complete());
    }

    #[test]
    fn refused_records_are_ended_and_dropped() {
        let stats = Stats::default();
        stats.exported(3);
        stats.lost(DropReason::Shutdown);
        let snapshot = stats.snapshot(|| Totals { refused: 4, ..pushed(3) });
        assert_eq!((snapshot.ended, snapshot.exported, snapshot.dropped.total()), (8, 3, 5));
        assert_eq!((snapshot.started, snapshot.sampled_out), (132, 81));
        assert_eq!(snapshot.live, Live { sampled: 43 + 6, unsampled: 60 });
        assert_eq!(format!("{:?}", snapshot.dropped), r#"{"queue_full": 4, "shutdown": 1}"#);
    }

    #[test]
    fn spans_that_are_not_exported_are_open_until_they_end_and_are_never_ended_or_lost() {
        // OBS-02
        let stats = Stats::default();
        stats.withheld(Withheld::Sampled);
        (0..3).for_each(|_| stats.withheld(Withheld::Unsampled));
        let snapshot = stats.snapshot(|| Totals { withheld: [4, 50], ..pushed(51) });
        assert_eq!(snapshot.live.by_result(), [("RECORD_AND_SAMPLE", 1), ("RECORD_ONLY", 7)]);
        assert_eq!((snapshot.open, snapshot.ended, snapshot.dropped.total()), (8, 51, 0));
    }

    #[test]
    fn what_is_sampled_is_told_as_sampled_whoever_exports_it() {
        // OBS-02
        let of = |result| STARTED.by_kind().into_iter().filter(move |kind| kind.1 == result);
        let spans = |result| of(result).map(|(origin, _, spans)| (origin, spans)).collect::<Vec<_>>();
        assert_eq!(spans("RECORD_AND_SAMPLE"), [("none", 12), ("local", 22), ("remote", 23)]);
        assert_eq!(spans("RECORD_ONLY"), [("none", 10), ("local", 20), ("remote", 30)]);
        assert_eq!(spans("DROP"), [("none", 4), ("local", 5), ("remote", 6)]);
    }
}
