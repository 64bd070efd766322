//! Fewer new traces while the queue or the memory is short.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::scheduler::Task;
use crate::{
    config::{BackpressureController, MemoryMonitor, MemoryThresholds, Settings},
    control::{MemoryWatch, Pressure, SamplingThreshold, Throttle},
    error::{Error, LogLevel, Subject},
    export::{Exporter, Flow},
};

/// How long throttling may wait between two looks: what arrives in this time has to fit above its threshold.
const LONGEST_TICK: Duration = Duration::from_millis(20);

/// How often a queue is looked at that is only to be reported.
const QUEUE_LOOK: Duration = Duration::from_millis(100);

/// Approximate bytes of a span in the queue, if only bytes bound it.
const USUAL_SPAN_BYTES: usize = 300;

/// While memory is critical, at least this share of traces is kept.
const LEAST_KEPT: f64 = 1.0 / 64.0;

/// The recurring tasks for these settings, each with its first delay.
pub(super) fn tasks(settings: &Settings) -> Vec<(Duration, Task)> {
    let throttling = Arc::new(Throttling::default());
    let mut tasks = Vec::new();
    if let Some(monitor) = &settings.memory_monitor {
        let interval = monitor.interval();
        let watch = MemoryWatch::new(monitor);
        tasks.push((interval, watch_memory(watch, Arc::clone(&throttling), interval)));
    }
    let backpressure = &settings.backpressure;
    if backpressure.throttles()
        // The settings were checked when the client was made.
        && let Ok(throttle) = throttle(settings)
    {
        tasks.push((Duration::ZERO, sample_down(throttle, throttling)));
    } else if let Some(threshold) = backpressure.queue_threshold {
        tasks.push((Duration::ZERO, watch_queue(threshold)));
    }
    tasks
}

fn watch_memory(mut watch: MemoryWatch, throttling: Arc<Throttling>, interval: Duration) -> Task {
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
            // Memory that was only idle is no reason to record less.
            response = watch.step(share().2);
        }
        kept = if response.throttle { f64::max(kept / 2.0, LEAST_KEPT) } else { f64::min(kept * 2.0, 1.0) };
        throttling.memory.store(SamplingThreshold::with_probability(kept).value(), Ordering::Relaxed);
        throttling.apply(exporter);
        interval
    })
}

/// The throttle that `settings` ask for.
pub(super) fn throttle(settings: &Settings) -> Result<Throttle, Error> {
    let spans_in_memory = settings.max_memory_usage / USUAL_SPAN_BYTES;
    let threshold = settings.backpressure.queue_threshold.unwrap_or(BackpressureController::DEFAULT_THRESHOLD);
    Throttle::new(threshold, settings.batch.max_queue_size.min(spans_in_memory))
}

fn sample_down(mut throttle: Throttle, throttling: Arc<Throttling>) -> Task {
    let (mut at, mut before) = (Instant::now(), Flow::default());
    Box::new(move |exporter| {
        let (now, flow) = (Instant::now(), exporter.flow());
        let is_idle = flow.ended == before.ended && flow.started == before.started;
        let threshold = throttle.step(&Pressure {
            elapsed: now - at,
            fill: exporter.load(),
            // Read one after the other, so a difference may seem negative.
            started: flow.started.saturating_sub(before.started),
            ended: flow.ended.saturating_sub(before.ended),
            drained: flow.drained.saturating_sub(before.drained),
            refused: flow.refused.saturating_sub(before.refused),
        });
        (at, before) = (now, flow);
        throttling.queue.store(threshold.value(), Ordering::Relaxed);
        throttling.apply(exporter);
        if is_idle { throttle.tick() } else { throttle.tick().min(LONGEST_TICK) }
    })
}

/// Warns that the queue fills up, once each time.
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
        QUEUE_LOOK
    })
}

/// The parties that reduce the number of traces, and the share each asks for; the smallest counts.
#[derive(Default)]
struct Throttling {
    memory: AtomicU64,
    queue: AtomicU64,
}

impl Throttling {
    fn apply(&self, exporter: &Exporter) {
        exporter.sample(self.memory.load(Ordering::Relaxed).max(self.queue.load(Ordering::Relaxed)));
    }
}
