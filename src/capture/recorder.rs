//! The recorder: what the recording side of one client shares (memory, rings, the bell, the counters).

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
    /// The program's id generator; `None` by default: threads then make random ids.
    pub(super) ids: Option<Arc<dyn IdGenerator>>,
    /// The limits of each span.
    pub(crate) span_limits: record::RecordLimits,
    pub(crate) stats: Stats,
    pub(crate) notices: Notices,
    /// The span processors; `None` by default.
    pub(crate) processors: Option<Arc<Processors>>,
    /// The process in which spans are recorded here; [`fork::NEVER`] once the client is shut down.
    open_in: AtomicU32,
    /// The process in which spans are recorded here, if nothing is plugged in that is asked about each span; otherwise
    /// [`fork::NEVER`]. The usual start of a span checks this alone instead of both.
    plain_in: AtomicU32,
    /// Whether losses so far have been logged: later ones are reported at the end of the process.
    has_said: AtomicBool,
    /// The process in which this recorder was made.
    made_in: u32,
    /// Makes the recorder that takes over in the child of a fork. Set once, at assembly.
    heir: OnceLock<Box<dyn Fn() -> Option<Arc<Recorder>> + Send + Sync>>,
}

/// The limits a [`Recorder`] is made with.
pub(crate) struct CaptureLimits {
    /// Bytes that rings, open spans and bodies may take together.
    pub(crate) memory_bytes: usize,
    /// How chunks are pooled.
    pub(crate) pooling: Pooling,
    /// Spans that may be queued; `usize::MAX` for no bound but memory.
    pub(crate) queue_spans: usize,
    /// Waiting spans that are worth waking a worker for.
    pub(crate) ready_spans: usize,
    /// What happens to spans beyond these limits.
    pub(crate) drop_strategy: DropStrategy,
    /// Workers that may be started.
    pub(crate) workers: usize,
    /// Whether each worker has its own rings.
    pub(crate) has_lanes: bool,
}

/// Limits for tests: room for their spans, and no worker.
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
    /// The sampler; `None` for the default one.
    pub(crate) sampler: Option<Arc<dyn Sampler>>,
    pub(crate) span_limits: SpanLimits,
    /// The id generator; `None` for random ids.
    pub(crate) ids: Option<Arc<dyn IdGenerator>>,
    /// The span processors; `None` if there are none.
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

    /// Ends recording. Spans that are still open are dropped when they end.
    pub(crate) fn close(&self) {
        self.plain_in.store(fork::NEVER, Ordering::Release);
        self.open_in.store(fork::NEVER, Ordering::Release);
        // Threads that wait for room must stop waiting.
        self.overflow.made_room();
    }

    /// Reports spans that end here from now on at the end of the process: earlier losses are logged now.
    pub(crate) fn tell_late(&self) {
        self.has_said.store(true, Ordering::Relaxed);
    }

    /// Whether losses so far have been logged.
    pub(super) fn has_said(&self) -> bool {
        self.has_said.load(Ordering::Relaxed)
    }

    /// Drops the oldest records of `ring`, or of the fullest ring if it has none, and counts them. Drops as much as one
    /// thread takes at a time.
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

    /// Counts a span whose record lacks something.
    pub(crate) fn count_lacking(&self, record: &Record) {
        self.stats.lacking(record.is_truncated().into(), record.is_limited().into());
        self.stats.lacking_memory(record.lacks_memory().into());
    }

    /// Whether recording has ended here: the client was shut down, or this is the child of a fork.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.open_in.load(Ordering::Relaxed) != fork::generation()
    }

    /// From now on, each start of a span first asks which client is to record it.
    pub(super) fn be_asked(&self) {
        self.plain_in.store(fork::NEVER, Ordering::Release);
    }

    /// Whether spans are recorded here, and nothing is plugged in that is asked about each of them.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.plain_in.load(Ordering::Relaxed) == fork::generation()
    }

    /// Whether a fork copied this recorder: its locks may be held for ever, and its spans are the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.made_in != fork::generation()
    }

    /// Sets how the child of a fork gets a recorder of its own.
    pub(crate) fn when_inherited(&self, heir: impl Fn() -> Option<Arc<Self>> + Send + Sync + 'static) {
        let _ = self.heir.set(Box::new(heir));
    }

    /// The recorder that takes over from one that a fork copied; `None` if the client is gone. Takes no lock from
    /// before the fork.
    pub(super) fn heir(&self) -> Option<Arc<Self>> {
        self.heir.get()?()
    }
}
