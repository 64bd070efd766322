//! Spans that no client recorded: there was none yet, or it was closed.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

use super::local;

listed! {
    /// Why there was no client.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Untaken {
        /// There was no process-wide client yet.
        Early,
        /// The client was closed.
        Late,
    }
}

const KINDS: usize = Untaken::COUNT;

/// How many counters the threads are spread over.
const SHARDS: usize = 16;

static COUNTS: [CachePadded<[AtomicU64; KINDS]>; SHARDS] =
    [const { CachePadded::new([const { AtomicU64::new(0) }; KINDS]) }; SHARDS];

static WHEN_FIRST: OnceLock<fn()> = OnceLock::new();

/// Has `act` called on the thread of the first span that no client records.
pub(crate) fn when_first_untaken(act: fn()) {
    let _ = WHEN_FIRST.set(act);
}

/// Counts a span. Spans of the client's own threads do not count as lost.
#[cold]
pub(super) fn note(why: Untaken) {
    if local::is_own_thread() {
        return;
    }
    COUNTS[local::place() % SHARDS][why as usize].fetch_add(1, Ordering::Relaxed);
    static NOTED: AtomicBool = AtomicBool::new(false);
    if !NOTED.load(Ordering::Relaxed)
        && let Some(act) = WHEN_FIRST.get()
        && !NOTED.swap(true, Ordering::Relaxed)
    {
        act();
    }
}

/// How many spans no client recorded so far.
pub(crate) fn untaken(why: Untaken) -> u64 {
    COUNTS.iter().map(|counts| counts[why as usize].load(Ordering::Relaxed)).sum()
}
