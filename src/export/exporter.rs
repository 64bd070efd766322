//! The state that the workers of one client share.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use super::{
    destination::Destination,
    encode::{compress::Encoder, protobuf::EncodedResource},
    failures::Failures,
    idle_buffers::IdleBuffers,
    ledger::Ledger,
    meter::Meter,
    operations::Operations,
    outbox::Outbox,
    queue::Gatherer,
    recording_reports::RecordingReports,
    spooling::Spooling,
    tracing::OwnTracing,
};
use crate::{
    capture::{Recorder, TraceId},
    config::{Settings, Tuning},
    error::{Diagnostics, LogLevel, Subject},
    stats::{BatchMetrics, Departure, Receipt, Snapshot},
    sync::locks::Mutex,
};

/// The state that the workers of one client share.
pub(crate) struct Exporter {
    pub(super) recorder: Arc<Recorder>,
    pub(super) settings: Settings,
    pub(super) diagnostics: Arc<Diagnostics>,
    pub(super) resource: EncodedResource,
    /// Where spans go.
    pub(super) traces: Destination,
    /// Where the client's own metrics go, if they are enabled.
    pub(super) metrics: Option<Destination>,
    pub(super) meter: Meter,
    pub(super) operations: Operations,
    pub(super) own_tracing: Option<OwnTracing>,
    /// The number of this client in the process.
    pub(super) number: usize,
    pub(super) began: SystemTime,
    pub(super) ledger: Ledger,
    pub(super) outbox: Mutex<Outbox>,
    /// Encoders that wait to be used again by who sends directly: a few for all threads, each of which would otherwise
    /// leave the memory of its own with the allocator.
    pub(super) spare_encoders: Mutex<Vec<Encoder>>,
    /// Who sends directly uses the one that is set aside for that.
    pub(super) encodes_directly: AtomicBool,
    pub(super) buffers: IdleBuffers,
    /// Held while a large batch is packed that found no room.
    pub(super) packs_large: Mutex<()>,
    pub(super) gatherer: Mutex<Gatherer>,
    /// Calls of `flush` in progress: everything that waits is due.
    pub(super) flushing: AtomicUsize,
    /// Whether the program is about to end: steps that would only delay it are skipped.
    pub(super) exiting: AtomicBool,
    /// When the process began to end, for this client too, although others are closed before it.
    pub(super) hurried: OnceLock<Instant>,
    /// Whether nothing more comes; workers leave when nothing is left.
    pub(super) stopping: AtomicBool,
    pub(super) tuning: Mutex<Tuning>,
    /// The last change of the tuning, and its reason.
    pub(super) decision: Mutex<Option<String>>,
    /// Whether the last request that was begun was a retry.
    pub(super) in_trouble: AtomicBool,
    /// Undelivered bodies on disk, if a spool is configured.
    pub(super) spooling: Option<Spooling>,
    pub(super) recording_reports: RecordingReports,
    pub(super) failures: Failures,
    /// The trace id of a span that was sent, as an example in messages.
    pub(super) example: OnceLock<TraceId>,
    /// State of the generator behind the retry jitter.
    pub(super) chance: AtomicU64,
    /// Called when the first worker starts. Set once, at assembly.
    pub(super) working: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Exporter {
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets what to do when the first worker starts.
    pub(crate) fn when_working(&self, start: impl Fn() + Send + Sync + 'static) {
        let _ = self.working.set(Box::new(start));
    }

    pub(crate) fn diagnostics(&self) -> &Arc<Diagnostics> {
        &self.diagnostics
    }

    /// Logs the news of the recording side, which cannot log itself.
    pub(super) fn report_recording(&self) {
        self.recording_reports.report(&self.recorder, self.load(), &self.diagnostics);
    }

    pub(super) fn is_exiting(&self) -> bool {
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
            // A thread that saw the client open just before it was closed may have recorded after everything was given
            // up, and a worker that has not left yet may still hold a batch.
            self.write_off();
        }
        let counted = self.counted();
        // Nothing moves from the rings to the ledger meanwhile, so that each span is counted exactly once.
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

    /// Takes a snapshot without any lock that is held while foreign code is called: for calls from an allocator in the
    /// middle of one of the client's own steps. Every span without another count is counted as waiting, and connections
    /// are left out.
    pub(crate) fn snapshot_at_a_glance(&self) -> Snapshot {
        let counted = self.counted();
        let settled = counted.exported + counted.dropped.total() + counted.spooled;
        let queued = (counted.ended + counted.restored).saturating_sub(settled);
        Snapshot { queued, memory_bytes: self.recorder.budget.held() as u64, ..counted }
    }

    /// The receipt from `snapshot_at_a_glance`.
    pub(crate) fn receipt_at_a_glance(&self) -> Receipt {
        let snapshot = self.snapshot_at_a_glance();
        Receipt::new(&snapshot, snapshot.queued)
    }

    /// The counters, without what waits.
    pub(super) fn counted(&self) -> Snapshot {
        let recorder = &self.recorder;
        recorder.stats.snapshot(|| recorder.registry.totals())
    }

    /// Has the connections opened that are configured to be opened ahead.
    pub(super) fn open_ahead(&self) {
        let (diagnostics, endpoint) = (Arc::clone(&self.diagnostics), self.settings.endpoint.clone());
        let recorder = Arc::clone(&self.recorder);
        self.traces.sink.open_ahead(move |opened| {
            if let Err(why) = opened {
                let line = format_args!("{endpoint}: no connection could be opened ahead: {why}");
                diagnostics.say(LogLevel::Debug, Subject::Export, line);
            }
            // There is something to maintain that was not there when the workers went to rest.
            recorder.doorbell.after_batch();
        });
    }

    /// Closes idle connections that have expired, and replaces those that the receiver closed.
    pub(super) fn look_after_connections(&self) {
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

    /// A random number, uniform in 0..1, good enough for jitter.
    pub(super) fn random(&self) -> f64 {
        // A Weyl sequence through the finaliser of splitmix64.
        let mut word = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
