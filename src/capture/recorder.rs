//! What the recording side of one client shares: memory, rings, the bell, the counters.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::{
    doorbell::Doorbell,
    generator::IdGenerator,
    memory::{Arrivals, Limit, MemoryBudget, Overflow, Pooling, Quota, Shed},
    notice::Notices,
    processor::Processors,
    record::{self, Record},
    registry::Registry,
    ring::Ring,
    sampler::{Sampler, Sampling},
    scope::Scopes,
};
use crate::{
    config::{DropStrategy, SpanLimits},
    error::DropReason,
    fork,
    stats::Stats,
};

/// The shared state of one client's recording side. Threads reach it through their queue; workers drain it.
pub(crate) struct Recorder {
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) registry: Registry,
    pub(crate) doorbell: Doorbell,
    pub(crate) arrivals: Arrivals,
    pub(crate) quota: Quota,
    pub(crate) overflow: Overflow,
    pub(crate) scopes: Scopes,
    pub(crate) sampling: Sampling,
    /// Who makes ids; nobody by default, and threads do.
    pub(super) ids: Option<Arc<dyn IdGenerator>>,
    /// Of each span.
    pub(crate) span_limits: record::RecordLimits,
    pub(crate) stats: Stats,
    pub(crate) notices: Notices,
    /// Who is told of spans; nobody by default.
    pub(crate) processors: Option<Arc<Processors>>,
    /// The process in which spans are recorded here; [`fork::NEVER`] once the client is shut down.
    open_in: AtomicU32,
    /// As `open_in`, but only where nothing was plugged in that is asked about each span: so that the usual start of
    /// one asks once for both.
    plain_in: AtomicU32,
    /// What was lost has been said: what is lost from then on is told at the end of the process.
    has_said: AtomicBool,
    /// The process this was made in.
    made_in: u32,
    /// Makes what takes over in the child of a fork. Set once, at assembly.
    heir: OnceLock<Box<dyn Fn() -> Option<Arc<Recorder>> + Send + Sync>>,
}

/// The limits an [`Recorder`] is made with.
pub(crate) struct CaptureLimits {
    /// Bytes that rings, open spans and bodies may take together.
    pub(crate) memory_bytes: usize,
    /// How chunks are pooled.
    pub(crate) pooling: Pooling,
    /// Spans that may be queued; `usize::MAX` for no bound but memory.
    pub(crate) queue_spans: usize,
    /// Waiting spans that are worth waking a worker for.
    pub(crate) ready_spans: usize,
    /// What becomes of spans beyond these limits.
    pub(crate) drop_strategy: DropStrategy,
    /// Workers that may be started.
    pub(crate) workers: usize,
    /// Whether each of them has rings of its own.
    pub(crate) has_lanes: bool,
}

/// Room for a test's spans, and no worker.
#[cfg(any(test, feature = "bench"))]
impl Default for CaptureLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            pooling: Pooling::default(),
            queue_spans: usize::MAX,
            ready_spans: 512,
            drop_strategy: DropStrategy::NewestFirst,
            workers: 0,
            has_lanes: false,
        }
    }
}

/// How spans are recorded.
#[derive(Clone, Default)]
pub(crate) struct Recording {
    /// Who decides which spans are; `None` for the default.
    pub(crate) sampler: Option<Arc<dyn Sampler>>,
    pub(crate) span_limits: SpanLimits,
    /// Who makes ids; `None` for random ones.
    pub(crate) ids: Option<Arc<dyn IdGenerator>>,
    /// Who is told of spans; `None` for nobody.
    pub(crate) processors: Option<Arc<Processors>>,
}

impl Recorder {
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn new(limits: CaptureLimits) -> Arc<Self> {
        Self::recording(limits, Recording::default())
    }

    pub(crate) fn recording(limits: CaptureLimits, recording: Recording) -> Arc<Self> {
        let sampling = Sampling::new(recording.sampler);
        let is_plain = sampling.is_default() && recording.ids.is_none() && recording.processors.is_none();
        let plain_in = if is_plain { fork::generation() } else { fork::NEVER };
        Arc::new(Self {
            budget: MemoryBudget::with_pool(limits.memory_bytes, limits.pooling),
            registry: Registry::new(),
            doorbell: Doorbell::new(limits.workers, limits.has_lanes),
            arrivals: Arrivals::new(limits.ready_spans),
            quota: Quota::new(limits.queue_spans),
            overflow: Overflow::new(limits.drop_strategy),
            scopes: Scopes::default(),
            sampling,
            ids: recording.ids,
            span_limits: record::RecordLimits::from(&recording.span_limits),
            stats: Stats::default(),
            notices: Notices::default(),
            processors: recording.processors,
            open_in: AtomicU32::new(fork::generation()),
            plain_in: AtomicU32::new(plain_in),
            has_said: AtomicBool::new(false),
            made_in: fork::generation(),
            heir: OnceLock::new(),
        })
    }

    /// From now on nothing is recorded; what is open is dropped when it ends.
    pub(crate) fn close(&self) {
        self.plain_in.store(fork::NEVER, Ordering::Release);
        self.open_in.store(fork::NEVER, Ordering::Release);
        // Threads that wait for room need not any more.
        self.overflow.made_room();
    }

    /// From now on spans that end here are told at the end of the process: what was lost before is said now.
    pub(crate) fn tell_late(&self) {
        self.has_said.store(true, Ordering::Relaxed);
    }

    /// Whether what was lost here before has been said.
    pub(super) fn has_said(&self) -> bool {
        self.has_said.load(Ordering::Relaxed)
    }

    /// Drops the oldest records of `ring`, or where it has none those of the fullest ring, and counts them: as
    /// much as one thread takes at a time.
    pub(super) fn shed_records(&self, ring: &Ring) -> Shed {
        let count = |spans| {
            self.stats.dropped(DropReason::QueueFull, spans);
            self.quota.give_back(spans);
            self.arrivals.take(spans);
        };
        let records = if self.quota.is_bounded() { self.quota.step(self.registry.count()) as u32 } else { u32::MAX };
        let limit = Limit { records, bytes: self.budget.chunk_bytes() };
        match ring.shed(limit, count) {
            Shed::Nothing => {
                let fullest = self.registry.rings().into_iter().max_by_key(|ring| ring.waiting());
                fullest.map_or(Shed::Nothing, |fullest| fullest.shed(limit, count))
            }
            shed => shed,
        }
    }

    /// Counts what a record could not hold.
    pub(crate) fn count_lacking(&self, record: &Record) {
        self.stats.lacking(record.is_truncated().into(), record.is_limited().into());
        self.stats.lacking_memory(record.lacks_memory().into());
    }

    /// Whether nothing is recorded here: the client was shut down, or this is the child of a fork.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.open_in.load(Ordering::Relaxed) != fork::generation()
    }

    /// From now on each start of a span asks first which client is to record it.
    pub(super) fn be_asked(&self) {
        self.plain_in.store(fork::NEVER, Ordering::Release);
    }

    /// Whether spans are recorded here, and nothing was plugged in that is asked about each of them.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.plain_in.load(Ordering::Relaxed) == fork::generation()
    }

    /// Whether this was copied by a fork: its locks may be held for ever, and its spans are the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.made_in != fork::generation()
    }

    /// How the child of a fork gets an recorder of its own.
    pub(crate) fn when_inherited(&self, heir: impl Fn() -> Option<Arc<Self>> + Send + Sync + 'static) {
        let _ = self.heir.set(Box::new(heir));
    }

    /// What takes over from an inherited recorder; none if the client is gone. Takes no lock from before the fork.
    pub(super) fn heir(&self) -> Option<Arc<Self>> {
        self.heir.get()?()
    }
}
