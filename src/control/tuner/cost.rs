//! What "better" means: how far measurements are from the targets, as one number.

use crate::{control::PerformanceTargets, stats::PerformanceMetrics};

/// A queue this full is not emptied as fast as it fills, and the queue determines the latency.
const STRAINED: f64 = 0.1;

/// Weights. Lost spans weigh more than used resources, and those more than delay.
const LACK: f64 = 4.0;
const EXCESS: f64 = 2.0;
const LATE: f64 = 1.0;
const THROTTLED: f64 = 1.0;

/// The cost; 0 if all targets are met. Every part is a logarithm of "how many times too much", so that a tenth more
/// weighs the same everywhere. `None` if nothing happened, or a measurement is NaN.
pub(super) fn cost(targets: &PerformanceTargets, metrics: &PerformanceMetrics) -> Option<f64> {
    if metrics.throughput <= 0.0 && metrics.dropped == 0 && metrics.load <= 0.0 {
        return None;
    }
    let times = |value: f64, bound: f64| libm::log((value / bound).max(1.0));
    let accepted = metrics.throughput.max(1.0);
    let mut cost = 0.0;
    if is_strained(metrics) {
        let lost = metrics.dropped as f64 / metrics.interval.as_secs_f64().max(1e-3);
        cost += LACK * (times(targets.target_throughput as f64, accepted) + libm::log(1.0 + lost / accepted));
    } else {
        cost += LATE * times(metrics.avg_latency.as_secs_f64(), targets.target_latency.as_secs_f64());
    }
    cost += EXCESS * times(metrics.memory_usage as f64, targets.max_memory_usage as f64);
    cost += EXCESS * times(metrics.cpu_usage, targets.max_cpu_usage);
    cost += THROTTLED * libm::log(1.0 + throttled_share(metrics));
    let numbers = [metrics.throughput, metrics.load, metrics.cpu_usage];
    numbers.iter().all(|number| number.is_finite()).then_some(cost)
}

/// Whether more spans arrive than leave.
pub(super) fn is_strained(metrics: &PerformanceMetrics) -> bool {
    metrics.dropped > 0 || metrics.load > STRAINED
}

/// The share of requests that were answered with a request to slow down.
pub(super) fn throttled_share(metrics: &PerformanceMetrics) -> f64 {
    metrics.throttled as f64 / metrics.network.requests.max(metrics.throttled).max(1) as f64
}
