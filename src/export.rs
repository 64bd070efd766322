//! Exporting: runs on our threads, and may block. Never on the application's behalf, but for `export_spans`,
//! `flush` and `shutdown`, which say so.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

mod advice;
mod delivery;
mod destination;
mod direct;
mod drain;
mod encode;
mod failures;
mod holdings;
mod ledger;
mod meter;
mod metrics;
mod net;
mod operations;
mod outbox;
mod outcome;
mod pace;
mod packing;
mod policy;
mod queue;
mod recording_reports;
mod request;
mod retry;
mod sink;
mod span_buffer;
mod spool;
mod spooling;
#[cfg(feature = "bench")]
mod stages;
mod summary;
mod tracing;
mod tune;
mod workers;

pub use direct::ExportReport;
pub(crate) use drain::{Barrier, Patience};
pub(crate) use meter::{Flow, Window};
pub use span_buffer::SpanBuffer;
#[cfg(feature = "bench")]
pub use stages::Stages;

use destination::Destination;
use encode::protobuf::EncodedResource;
use failures::Failures;
use ledger::Ledger;
use meter::Meter;
use operations::Operations;
use outbox::{Outbox, OutboxLimits};
use queue::Gatherer;
use recording_reports::RecordingReports;
use sink::Sink;
use span_buffer::IdleBuffers;
use spooling::Spooling;
use tracing::OwnTracing;

use crate::{
    capture::{Recorder, Shed, TraceId},
    config::{Settings, Tuning},
    error::{Diagnostics, LogLevel, Subject},
    stats::{BatchMetrics, Departure, Receipt, Snapshot},
    sync::locks::Mutex,
};

/// Clients that were made in this process.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// What the workers of one client share.
pub(crate) struct Exporter {
    recorder: Arc<Recorder>,
    settings: Settings,
    diagnostics: Arc<Diagnostics>,
    resource: EncodedResource,
    /// Where spans go.
    traces: Destination,
    /// Where the client's own metrics go, if anybody asked for them.
    metrics: Option<Destination>,
    meter: Meter,
    operations: Operations,
    own_tracing: Option<OwnTracing>,
    /// Which client of the process this is.
    number: usize,
    began: SystemTime,
    ledger: Ledger,
    outbox: Mutex<Outbox>,
    buffers: IdleBuffers,
    gatherer: Mutex<Gatherer>,
    /// Calls of `flush` under way: everything that waits is due.
    flushing: AtomicUsize,
    /// The program is about to end: what would only delay it is not waited for.
    exiting: AtomicBool,
    /// The process ends, for this client too since then, although others are closed before it.
    hurried: OnceLock<Instant>,
    /// Nothing more comes; workers leave when nothing is left.
    stopping: AtomicBool,
    tuning: Mutex<Tuning>,
    /// What was last changed in it, and why.
    decision: Mutex<Option<String>>,
    /// The last request that was begun was one made again.
    in_trouble: AtomicBool,
    /// Undelivered bodies on disk, if the user wants them there.
    spooling: Option<Spooling>,
    recording_reports: RecordingReports,
    failures: Failures,
    /// The trace of some span that was sent, for who asks what was.
    example: OnceLock<TraceId>,
    /// State of the generator behind the retry jitter.
    chance: AtomicU64,
    /// What to do when the first worker starts. Set once, at assembly.
    working: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Exporter {
    pub(crate) fn new(settings: Settings, recorder: Arc<Recorder>, diagnostics: Diagnostics) -> Arc<Self> {
        let sink = Sink::new(&settings);
        Self::with_sink(settings, recorder, diagnostics, sink)
    }

    fn with_sink(settings: Settings, recorder: Arc<Recorder>, diagnostics: Diagnostics, sink: Sink) -> Arc<Self> {
        let (attributes, schema_url) = settings.resource.in_this_process();
        let traces = Destination::new(settings.endpoint.clone(), sink);
        let exporter = Arc::new(Self {
            resource: EncodedResource::new(&attributes, schema_url),
            metrics: metrics::destination(&settings),
            meter: Meter::new(&settings.measured),
            operations: Operations::default(),
            own_tracing: OwnTracing::new(&settings, &recorder),
            number: CLIENTS.fetch_add(1, Ordering::Relaxed),
            began: SystemTime::now(),
            ledger: Ledger::default(),
            outbox: Mutex::new(Outbox::new(OutboxLimits::of(&settings), &recorder.budget, Arc::clone(&traces.pause))),
            traces,
            buffers: IdleBuffers::default(),
            gatherer: Mutex::new(Gatherer::new(Arc::clone(&recorder), &settings)),
            flushing: AtomicUsize::new(0),
            exiting: AtomicBool::new(false),
            hurried: OnceLock::new(),
            stopping: AtomicBool::new(false),
            tuning: Mutex::new(tune::initial(&settings)),
            decision: Mutex::new(None),
            in_trouble: AtomicBool::new(false),
            spooling: Spooling::new(&settings),
            recording_reports: RecordingReports::default(),
            failures: Failures::default(),
            example: OnceLock::new(),
            chance: AtomicU64::new(std::process::id().into()),
            working: OnceLock::new(),
            recorder,
            settings,
            diagnostics: Arc::new(diagnostics),
        });
        if let Some(processors) = &exporter.recorder.processors {
            processors.set_resource(attributes);
        }
        let weak = Arc::downgrade(&exporter);
        exporter.recorder.doorbell.when_unanswered(move || {
            if let Some(exporter) = weak.upgrade() {
                workers::start_if_needed(&exporter);
            }
        });
        let weak = Arc::downgrade(&exporter);
        exporter
            .recorder
            .overflow
            .when_shedding(move || weak.upgrade().map_or(Shed::Nothing, |exporter| exporter.shed_oldest()));
        exporter
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What to do when a worker starts.
    pub(crate) fn when_working(&self, start: impl Fn() + Send + Sync + 'static) {
        let _ = self.working.set(Box::new(start));
    }

    pub(crate) fn diagnostics(&self) -> &Arc<Diagnostics> {
        &self.diagnostics
    }

    fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::SeqCst)
    }

    /// Whether the client was shut down.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The counts of a client that was shut down, or is being shut down.
    pub(crate) fn receipt(&self) -> Receipt {
        let snapshot = self.snapshot();
        Receipt::new(&snapshot, snapshot.queued)
    }

    /// Everything counted so far.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let recorder = &self.recorder;
        let waits = || recorder.registry.waiting() > 0 || self.ledger.spans() > 0;
        if self.is_stopped() && self.has_spooled_rest() && waits() {
            // Whoever saw the client open just before it was closed may have recorded after everything was given up, and
            // a worker that had not left yet may have it in hand.
            self.write_off();
        }
        let counted = self.counted();
        // Nothing moves from the rings to the ledger meanwhile, so that no span is counted in both or in neither.
        let gathering = self.gatherer.lock();
        let queued = recorder.registry.count_queued() + self.ledger.spans();
        drop(gathering);
        let vitals = self.traces.sink.vitals();
        Snapshot {
            queued,
            memory_bytes: recorder.budget.held() as u64,
            wire_bytes: vitals.carried.bytes,
            connections: vitals.carried.connections,
            idle_connections: vitals.idle_connections as u64,
            diagnostics_lost: self.diagnostics.lost(),
            ..counted
        }
    }

    /// As `snapshot`, without a lock that is held where others are called: by what an allocator calls in the midst of
    /// one of the client's own steps. What waits is what is not counted otherwise, and of connections it tells nothing.
    pub(crate) fn snapshot_at_a_glance(&self) -> Snapshot {
        let counted = self.counted();
        let settled = counted.exported + counted.dropped.total() + counted.spooled;
        let queued = (counted.ended + counted.restored).saturating_sub(settled);
        Snapshot { queued, memory_bytes: self.recorder.budget.held() as u64, ..counted }
    }

    /// As `receipt`, from such a snapshot.
    pub(crate) fn receipt_at_a_glance(&self) -> Receipt {
        let snapshot = self.snapshot_at_a_glance();
        Receipt::new(&snapshot, snapshot.queued)
    }

    /// What counters tell, without what waits.
    fn counted(&self) -> Snapshot {
        let recorder = &self.recorder;
        recorder.stats.snapshot(|| recorder.registry.totals())
    }

    /// Has connections opened that are to be there before they are needed.
    fn open_ahead(&self) {
        let (diagnostics, endpoint) = (Arc::clone(&self.diagnostics), self.settings.endpoint.clone());
        let recorder = Arc::clone(&self.recorder);
        self.traces.sink.open_ahead(move |opened| {
            if let Err(why) = opened {
                let line = format_args!("{endpoint}: no connection could be opened ahead: {why}");
                diagnostics.say(LogLevel::Debug, Subject::Export, line);
            }
            // There is something to look after that was not there when the workers went to rest.
            recorder.doorbell.after_batch();
        });
    }

    /// Closes idle connections that have had their day, and replaces what the receiver closed.
    fn look_after_connections(&self) {
        if self.traces.sink.upkeep(Instant::now()) {
            self.open_ahead();
        }
    }

    /// How spans are batched.
    pub(crate) fn batch_metrics(&self) -> BatchMetrics {
        let left = &self.recorder.stats.batches;
        let ((batches, spans), tuning) = (left.totals(), self.tuning());
        BatchMetrics {
            batches,
            spans,
            full: left.of(Departure::Full),
            timed_out: left.of(Departure::TimedOut),
            urgent: left.of(Departure::Urgent),
            waiting: self.recorder.registry.waiting(),
            load: self.load(),
            batch_size: tuning.batch_size,
            strategy: self.settings.batch.strategy,
            compression: tuning.compression,
            effort: tuning.effort,
        }
    }

    /// Uniform in 0..1, well enough for jitter.
    fn random(&self) -> f64 {
        // A Weyl sequence through the finaliser of splitmix64.
        let mut word = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
