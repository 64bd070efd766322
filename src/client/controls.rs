//! What a client was given in code: controllers, sampler, id generator and processors, and when each controller is
//! called.

use std::{sync::Arc, time::Duration};

use super::{scheduler::Task, throttling};
use crate::{
    capture::{
        AlwaysOff, AlwaysOn, IdGenerator, ParentBased, Processors, Recording, Sampler, SpanProcessor, TraceIdRatioBased,
    },
    config::{MetricType, RootSampler, SamplerChoice, Settings, Tuning},
    control::{AdaptiveCompression, AutoTuner, BatchManager, TuningLimits, TuningStrategy},
    error::{Error, ErrorHandler},
    export::{Barrier, Exporter, Interval},
};

/// How often batch size and compression are reconsidered, unless a performance monitor sets another interval.
const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// The range of batch sizes worth trying.
const SMALLEST_BATCH: usize = 64;
const LARGEST_BATCH: usize = 16_384;

/// Intervals after which a change is judged even if what was packed before it has not left.
const LONGEST_TRANSITION: u32 = 20;

/// What was plugged in by code.
#[derive(Clone, Default)]
pub(super) struct Controls {
    pub(super) batch_manager: Option<BatchManager>,
    pub(super) adaptive_compression: Option<AdaptiveCompression>,
    pub(super) auto_tuner: Option<AutoTuner>,
    pub(super) sampler: Option<Arc<dyn Sampler>>,
    pub(super) ids: Option<Arc<dyn IdGenerator>>,
    pub(super) processors: Vec<Arc<dyn SpanProcessor>>,
    /// The error handler; `None` for stderr.
    pub(super) error_handler: Option<ErrorHandler>,
}

impl Controls {
    /// Checks the controls and adds those that `settings` turn on. What they need to know is then measured.
    pub(super) fn checked(mut self, settings: &mut Settings) -> Result<Self, Error> {
        if self.batch_manager.is_none() && settings.batch.adaptive_sizing {
            self.batch_manager = Some(BatchManager::new().with_initial_config(settings.batch.clone()));
        }
        // A batch config that is set after a manager is meant for that manager.
        let manager = self.batch_manager.map(|manager| manager.with_initial_config(settings.batch.clone()));
        self.batch_manager = manager.map(BatchManager::checked).transpose()?;
        self.adaptive_compression = self.adaptive_compression.map(AdaptiveCompression::checked).transpose()?;
        if settings.backpressure.throttles() {
            throttling::throttle(settings)?;
        }
        self.auto_tuner = self.auto_tuner.map(AutoTuner::checked).transpose()?;
        if self.batch_manager.is_some() {
            settings.measured.push(MetricType::Latency);
        }
        if self.auto_tuner.is_some() {
            settings.measured.extend([MetricType::Latency, MetricType::CpuUsage]);
        }
        if self.adaptive_compression.is_some() {
            settings.measured.push(MetricType::CpuUsage);
        }
        Ok(self)
    }

    /// How spans are recorded, by what was plugged in and by `settings`.
    pub(super) fn recording(&self, settings: &Settings) -> Recording {
        Recording {
            sampler: self.sampler.clone().or_else(|| named_sampler(&settings.sampler)),
            span_limits: settings.span_limits.clone(),
            ids: self.ids.clone(),
            processors: Processors::new(self.processors.clone(), settings.exports),
        }
    }

    /// The recurring tasks, each with its first delay.
    pub(super) fn tasks(&self, exporter: &Arc<Exporter>) -> Vec<(Duration, Task)> {
        let settings = exporter.settings();
        let interval = settings.metrics_interval().unwrap_or(CONTROL_INTERVAL);
        let mut tasks = Vec::new();
        if let Some(manager) = self.batch_manager.as_ref().filter(|manager| manager.is_adaptive()) {
            tasks.push((interval, size_batches(manager.clone(), interval)));
        }
        if let Some(adaptive) = &self.adaptive_compression {
            tasks.extend(choose_compression(adaptive.clone(), exporter, interval).map(|task| (interval, task)));
        }
        if let Some(tuner) = &self.auto_tuner {
            let interval = tuner.tuning_interval();
            tasks.extend(tune(tuner.clone(), exporter, interval).map(|task| (interval, task)));
        }
        tasks.extend(throttling::tasks(settings));
        tasks
    }
}

/// The sampler with that name; `None` for the default one, which recording implements itself.
fn named_sampler(choice: &SamplerChoice) -> Option<Arc<dyn Sampler>> {
    let SamplerChoice::Named { is_parent_based, root } = choice else { return None };
    Some(match (is_parent_based, *root) {
        (true, RootSampler::AlwaysOn) => return None,
        (true, RootSampler::AlwaysOff) => Arc::new(ParentBased::new(AlwaysOff)),
        (true, RootSampler::TraceIdRatio(ratio)) => Arc::new(ParentBased::new(TraceIdRatioBased::new(ratio))),
        (false, RootSampler::AlwaysOn) => Arc::new(AlwaysOn),
        (false, RootSampler::AlwaysOff) => Arc::new(AlwaysOff),
        (false, RootSampler::TraceIdRatio(ratio)) => Arc::new(TraceIdRatioBased::new(ratio)),
    })
}

fn size_batches(mut manager: BatchManager, interval: Duration) -> Task {
    let mut window = Interval::new();
    Box::new(move |exporter| {
        manager.adjust_batch_size_based_on_performance(&exporter.measure(&mut window));
        let batch_size = manager.current_config().max_batch_size;
        exporter.tune(Tuning { batch_size, ..exporter.tuning() });
        interval
    })
}

/// The task that chooses the compression. `None` if the settings are invalid, which was checked when the client was
/// made.
fn choose_compression(adaptive: AdaptiveCompression, exporter: &Exporter, interval: Duration) -> Option<Task> {
    let Tuning { compression, effort, .. } = exporter.tuning();
    let mut chooser = adaptive.start(compression, effort).ok()?;
    let mut window = Interval::new();
    Some(Box::new(move |exporter| {
        let metrics = exporter.measure(&mut window);
        // If nothing was sent there is nothing to judge by.
        if metrics.network.wire_bytes > 0 {
            let (compression, effort) = chooser.choose(&metrics, &exporter.understood());
            exporter.tune(Tuning { compression, effort, ..exporter.tuning() });
        }
        interval
    }))
}

/// The task that tunes. `None` if the limits leave nothing to tune, which they never do.
fn tune(tuner: AutoTuner, exporter: &Exporter, interval: Duration) -> Option<Task> {
    let settings = exporter.settings();
    let initial = exporter.tuning();
    let limits = TuningLimits {
        batch_size: SMALLEST_BATCH.min(initial.batch_size)..=LARGEST_BATCH.min(settings.batch.max_queue_size),
        connections: 1..=settings.max_senders(),
        compressions: exporter.understood(),
    };
    let strategies = tuner.strategies().to_vec();
    let mut tuner = tuner.start(initial, limits).ok()?;
    let mut window = Interval::new();
    let mut changed: Option<(Barrier, u32)> = None;
    Some(Box::new(move |exporter| {
        let metrics = exporter.measure(&mut window);
        // What was packed before the last change says nothing about it.
        if let Some((barrier, intervals)) = &mut changed {
            *intervals += 1;
            if !exporter.has_settled(barrier) && *intervals < LONGEST_TRANSITION {
                return interval;
            }
            changed = None;
        }
        let before = tuner.tuning();
        let tuning = tuner.step(&metrics);
        let mut moved = exporter.tuning();
        // A setting that the tuner may not change may belong to another controller.
        if strategies.contains(&TuningStrategy::BatchSize) {
            moved.batch_size = tuning.batch_size;
        }
        if strategies.contains(&TuningStrategy::ConnectionPool) {
            moved.connections = tuning.connections;
        }
        if strategies.contains(&TuningStrategy::Compression) {
            (moved.compression, moved.effort) = (tuning.compression, tuning.effort);
        }
        exporter.tune(moved);
        if tuning != before {
            tuner.last_decision().into_iter().for_each(|decision| exporter.explain(decision));
            changed = Some((exporter.barrier(), 0));
        }
        interval
    }))
}
