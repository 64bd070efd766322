//! Which controllers a client was given, and when each of them is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::conductor::Task;
use crate::{
    config::{BackpressureController, MemoryMonitor, MemoryThresholds, MetricType, Settings, Tuning},
    control::{
        AdaptiveCompression, AutoTuner, BatchManager, MemoryWatch, Pressure, SamplingThreshold, Throttle, TuningLimits,
        TuningStrategy,
    },
    error::{Error, LogLevel, Subject},
    export::{Barrier, Exporter, Flow, Window},
};

/// How often batch size and compression are thought over, where no performance monitor says otherwise.
const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// Batch sizes that are worth trying.
const SMALLEST_BATCH: usize = 64;
const LARGEST_BATCH: usize = 16_384;

/// Intervals after which a change is judged even if what was packed before it has not left.
const LONGEST_TRANSITION: u32 = 20;

/// How long throttling may be blind: what comes in this time has to fit above its threshold.
const LONGEST_TICK: Duration = Duration::from_millis(20);

/// Bytes of a span in the queue, about, where only bytes bound it.
const USUAL_SPAN_BYTES: usize = 300;

/// While memory is critical no fewer traces are kept than this share.
const LEAST_KEPT: f64 = 1.0 / 64.0;

/// The controllers that were set in code.
#[derive(Debug, Clone, Default)]
pub(super) struct Controls {
    pub(super) batch_manager: Option<BatchManager>,
    pub(super) adaptive_compression: Option<AdaptiveCompression>,
    pub(super) auto_tuner: Option<AutoTuner>,
}

impl Controls {
    /// The same, if they make sense; with those that `settings` turn on. What they need to know is measured.
    pub(super) fn checked(mut self, settings: &mut Settings) -> Result<Self, Error> {
        if self.batch_manager.is_none() && settings.batch.adaptive_sizing {
            self.batch_manager = Some(BatchManager::new().with_initial_config(settings.batch.clone()));
        }
        self.batch_manager = self.batch_manager.map(BatchManager::checked).transpose()?;
        self.adaptive_compression = self.adaptive_compression.map(AdaptiveCompression::checked).transpose()?;
        if settings.backpressure.adaptive_throttling {
            throttle(settings)?;
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

    /// What there is to do, and after which time first.
    pub(super) fn tasks(&self, exporter: &Arc<Exporter>) -> Vec<(Duration, Task)> {
        let settings = exporter.settings();
        let interval = settings.metrics_interval().unwrap_or(CONTROL_INTERVAL);
        let mut tasks = Vec::new();
        if let Some(manager) = &self.batch_manager {
            tasks.push((interval, size_batches(manager.clone(), interval)));
        }
        if let Some(adaptive) = &self.adaptive_compression {
            let Tuning { compression, effort, .. } = exporter.tuning();
            // It was checked when the client was made.
            if let Ok(mut chooser) = adaptive.clone().start(compression, effort) {
                let mut window = Window::new();
                let choose: Task = Box::new(move |exporter| {
                    let metrics = exporter.measure(&mut window);
                    if metrics.network.wire_bytes == 0 {
                        // Nothing was sent, which is no evidence of anything.
                        return interval;
                    }
                    let (compression, effort) = chooser.choose(&metrics, &exporter.understood());
                    exporter.tune(Tuning { compression, effort, ..exporter.tuning() });
                    interval
                });
                tasks.push((interval, choose));
            }
        }
        if let Some(tuner) = &self.auto_tuner {
            let interval = tuner.tuning_interval();
            tasks.extend(tune(tuner.clone(), exporter, interval).map(|task| (interval, task)));
        }
        let thinning = Arc::new(Thinning::default());
        if let Some(monitor) = &settings.memory_monitor {
            let interval = monitor.interval();
            let watch = MemoryWatch::new(monitor);
            tasks.push((interval, watch_memory(watch, Arc::clone(&thinning), interval)));
        }
        let backpressure = &settings.backpressure;
        if backpressure.adaptive_throttling
            && let Ok(throttle) = throttle(settings)
        {
            tasks.push((Duration::ZERO, sample_down(throttle, thinning)));
        } else if let Some(threshold) = backpressure.queue_threshold {
            tasks.push((Duration::ZERO, watch_queue(threshold)));
        }
        if settings.metrics_url().is_some() {
            let interval = settings.monitoring.metrics_interval;
            let export: Task = Box::new(move |exporter| {
                exporter.export_metrics(interval);
                interval
            });
            tasks.push((interval, export));
        }
        tasks
    }
}

fn size_batches(mut manager: BatchManager, interval: Duration) -> Task {
    let mut window = Window::new();
    Box::new(move |exporter| {
        manager.adjust_batch_size_based_on_performance(&exporter.measure(&mut window));
        let batch_size = manager.current_config().max_batch_size;
        exporter.tune(Tuning { batch_size, ..exporter.tuning() });
        interval
    })
}

/// None where the limits leave nothing to tune, which they never do.
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
    let (mut window, mut before) = (Window::new(), initial);
    let mut changed: Option<(Barrier, u32)> = None;
    Some(Box::new(move |exporter| {
        let metrics = exporter.measure(&mut window);
        // What was packed before the last change tells nothing about it.
        if let Some((barrier, intervals)) = &mut changed {
            *intervals += 1;
            if !exporter.has_settled(barrier) && *intervals < LONGEST_TRANSITION {
                return interval;
            }
            changed = None;
        }
        let tuning = tuner.step(&metrics);
        let mut moved = exporter.tuning();
        // What it was not given to move may be in somebody else's hands.
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
        if tuning != before
            && let Some(decision) = tuner.last_decision()
        {
            exporter.explain(decision);
        }
        if tuning != before {
            changed = Some((exporter.barrier(), 0));
        }
        before = tuning;
        interval
    }))
}

fn watch_memory(mut watch: MemoryWatch, thinning: Arc<Thinning>, interval: Duration) -> Task {
    let mut kept = 1.0;
    Box::new(move |exporter| {
        let share = || {
            let memory = exporter.memory_stats();
            (memory.used, memory.limit, memory.used as f64 / memory.limit.max(1) as f64)
        };
        let (used, limit, full) = share();
        let mut response = watch.step(full);
        if response.trim {
            exporter.trim_now();
        }
        if response.warn {
            exporter.diagnostics().say(
                LogLevel::Warn,
                Subject::Memory,
                format_args!(
                    "spans take {used} of {limit} bytes; raise OTLP_MAX_MEMORY_USAGE if the receiver keeps up on average"
                ),
            );
        }
        if response.trim {
            // What only was idle is no reason to record less.
            response = watch.step(share().2);
        }
        kept = if response.throttle { f64::max(kept / 2.0, LEAST_KEPT) } else { f64::min(kept * 2.0, 1.0) };
        thinning.memory.store(SamplingThreshold::with_probability(kept).value(), Ordering::Relaxed);
        thinning.apply(exporter);
        interval
    })
}

/// The throttle that `settings` ask for.
fn throttle(settings: &Settings) -> Result<Throttle, Error> {
    let spans_in_memory = settings.max_memory_usage / USUAL_SPAN_BYTES;
    let threshold = settings.backpressure.queue_threshold.unwrap_or(BackpressureController::DEFAULT_THRESHOLD);
    Throttle::new(threshold, settings.batch.max_queue_size.min(spans_in_memory))
}

fn sample_down(mut throttle: Throttle, thinning: Arc<Thinning>) -> Task {
    let (mut at, mut before) = (Instant::now(), Flow::default());
    Box::new(move |exporter| {
        let (now, flow) = (Instant::now(), exporter.flow());
        let threshold = throttle.step(&Pressure {
            elapsed: now - at,
            fill: exporter.load(),
            // Read one after the other: what was counted between may seem to go back.
            started: flow.started.saturating_sub(before.started),
            ended: flow.ended.saturating_sub(before.ended),
            drained: flow.drained.saturating_sub(before.drained),
            refused: flow.refused.saturating_sub(before.refused),
        });
        (at, before) = (now, flow);
        thinning.queue.store(threshold.value(), Ordering::Relaxed);
        thinning.apply(exporter);
        throttle.tick().min(LONGEST_TICK)
    })
}

/// Says that the queue fills up, once each time.
fn watch_queue(threshold: f64) -> Task {
    let thresholds = MemoryThresholds { warning: threshold, critical: 1.0 };
    let mut watch = MemoryWatch::new(&MemoryMonitor::new().with_thresholds(thresholds));
    Box::new(move |exporter| {
        let load = exporter.load();
        if watch.step(load).warn {
            exporter.diagnostics().say(
                LogLevel::Warn,
                Subject::Tuning,
                format_args!(
                    "the queue is {:.0} % full; raise OTEL_BSP_MAX_QUEUE_SIZE, or sample new traces down with \
                              with_adaptive_throttling, if the receiver does not keep up",
                    load * 100.0
                ),
            );
        }
        LONGEST_TICK
    })
}

/// Who asks for fewer traces, and how few; the least counts.
#[derive(Default)]
struct Thinning {
    memory: AtomicU64,
    queue: AtomicU64,
}

impl Thinning {
    fn apply(&self, exporter: &Exporter) {
        exporter.sample(self.memory.load(Ordering::Relaxed).max(self.queue.load(Ordering::Relaxed)));
    }
}
