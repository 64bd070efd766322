//! Assembles an exporter, and connects it to the recording side.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use super::{
    Exporter,
    destination::Destination,
    encode::protobuf::EncodedResource,
    failures::Failures,
    idle_buffers::IdleBuffers,
    ledger::Ledger,
    meter::Meter,
    metrics,
    operations::Operations,
    outbox::{Outbox, OutboxLimits},
    queue::Gatherer,
    recording_reports::RecordingReports,
    request::Signal,
    sink::Sink,
    spooling::Spooling,
    tracing::OwnTracing,
    tune, workers,
};
use crate::{
    capture::{Recorder, Shed},
    config::Settings,
    error::Diagnostics,
    sync::locks::Mutex,
};

/// Clients that were made in this process.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

impl Exporter {
    pub(crate) fn new(settings: Settings, recorder: Arc<Recorder>, diagnostics: Diagnostics) -> Arc<Self> {
        let sink = Sink::new(&settings, Signal::Traces);
        Self::with_sink(settings, recorder, diagnostics, sink)
    }

    pub(super) fn with_sink(
        settings: Settings,
        recorder: Arc<Recorder>,
        diagnostics: Diagnostics,
        sink: Sink,
    ) -> Arc<Self> {
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
            spare_encoders: Mutex::default(),
            encodes_directly: AtomicBool::new(false),
            buffers: IdleBuffers::default(),
            packs_large: Mutex::open_to_callbacks(()),
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
}
