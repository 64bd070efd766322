//! Several intervals under the same settings, and how much two such windows differ by noise.

use std::time::Duration;

use super::cost::{is_strained, throttled_share};
use crate::{control::PerformanceTargets, stats::PerformanceMetrics};

/// The factor by which the request time or the bandwidth changes if conditions have changed.
const OTHER_FACTOR: f64 = 1.3;
const OTHER_SHARE: f64 = 0.15;

/// Degrees of freedom above which the noise counts as known.
const ENOUGH: f64 = 4.0;
/// The weight of older knowledge after each window.
const FADING: f64 = 0.97;

/// Sums over the intervals of a window; its results are means.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    len: u32,
    cost: f64,
    squared_cost: f64,
    throughput: f64,
    lost: f64,
    latency: f64,
    request_latency: f64,
    bandwidth: f64,
    throttled: f64,
    cpu: f64,
    memory: f64,
    strained: u32,
}

impl Window {
    pub(super) fn add(&mut self, cost: f64, metrics: &PerformanceMetrics) {
        self.len += 1;
        self.cost += cost;
        self.squared_cost += cost * cost;
        self.throughput += metrics.throughput;
        self.lost += metrics.dropped as f64 / metrics.interval.as_secs_f64().max(1e-3);
        self.latency += metrics.avg_latency.as_secs_f64();
        self.request_latency += metrics.request_latency.as_secs_f64();
        self.bandwidth += metrics.bandwidth_kbits.max(0.0);
        self.throttled += throttled_share(metrics);
        self.cpu += metrics.cpu_usage;
        self.memory += metrics.memory_usage as f64;
        self.strained += u32::from(is_strained(metrics));
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn cost(&self) -> f64 {
        self.mean(self.cost)
    }

    /// Takes the window so far, and leaves an empty one.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Whether the path to the receiver, or what the receiver asks for, has changed.
    pub(super) fn has_other_conditions(&self, before: &Self) -> bool {
        let differs = |now: f64, before: f64| now > before * OTHER_FACTOR || before > now * OTHER_FACTOR;
        differs(self.mean(self.request_latency), before.mean(before.request_latency))
            || differs(self.mean(self.bandwidth), before.mean(before.bandwidth))
            || (self.mean(self.throttled) - before.mean(before.throttled)).abs() > OTHER_SHARE
    }

    /// The largest part of the cost, in words.
    pub(super) fn complaint(&self, targets: &PerformanceTargets) -> String {
        let throughput = self.mean(self.throughput);
        let cpu = self.mean(self.cpu);
        let memory = self.mean(self.memory);
        if self.is_strained() {
            let (lost, wanted) = (self.mean(self.lost), targets.target_throughput);
            format!("{throughput:.0} spans/s are accepted and {lost:.0} lost while {wanted} are wanted")
        } else if memory > targets.max_memory_usage as f64 {
            format!("{memory:.0} bytes are held while {} are allowed", targets.max_memory_usage)
        } else if cpu > targets.max_cpu_usage {
            format!("{:.0} % of a core are used while {:.0} % are allowed", 100.0 * cpu, 100.0 * targets.max_cpu_usage)
        } else if self.mean(self.throttled) > OTHER_SHARE {
            format!("the receiver asks to slow down in {:.0} % of its answers", 100.0 * self.mean(self.throttled))
        } else {
            format!("latency is {:.1?} while {:?} are wanted", self.latency(), targets.target_latency)
        }
    }

    /// Compares this window with another one, in words.
    pub(super) fn compare(&self, after: &Self) -> String {
        let (before, now) = (self.mean(self.throughput), after.mean(after.throughput));
        let (lost, lost_now) = (self.mean(self.lost), after.mean(after.lost));
        let (cost, cost_now) = (self.cost(), after.cost());
        let (latency, latency_now) = (self.latency(), after.latency());
        format!(
            "{before:.0} → {now:.0} spans/s accepted, {lost:.0} → {lost_now:.0} lost, latency {latency:.1?} → \
             {latency_now:.1?} (cost {cost:.2} → {cost_now:.2})"
        )
    }

    fn is_strained(&self) -> bool {
        2 * self.strained > self.len
    }

    fn latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.mean(self.latency)).unwrap_or_default()
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / f64::from(self.len.max(1))
    }
}

/// How much the cost varies between intervals under the same settings, learnt from all windows. Windows under strain
/// are kept apart, because their cost is made of other metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Noise {
    calm: Spread,
    strained: Spread,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Spread {
    freedom: f64,
    squares: f64,
}

impl Noise {
    /// Learns from a window; knowledge older than some dozens of windows fades.
    pub(super) fn learn(&mut self, window: &Window) {
        let deviation = window.squared_cost - window.cost * window.cost / f64::from(window.len.max(1));
        let spread = if window.is_strained() { &mut self.strained } else { &mut self.calm };
        spread.freedom = spread.freedom * FADING + f64::from(window.len.saturating_sub(1));
        spread.squares = spread.squares * FADING + deviation.max(0.0);
    }

    /// Whether enough is known to say that noise makes two windows like this differ by less than `difference`.
    pub(super) fn is_below(&self, difference: f64, window: &Window) -> bool {
        self.of(window).freedom >= ENOUGH && self.of_difference(window, window) < difference
    }

    /// The standard error of the difference between the costs of two windows.
    pub(super) fn of_difference(&self, one: &Window, other: &Window) -> f64 {
        let variance = |window: &Window| {
            let Spread { freedom, squares } = self.of(window);
            squares / freedom.max(1.0) / f64::from(window.len.max(1))
        };
        (variance(one) + variance(other)).sqrt()
    }

    fn of(&self, window: &Window) -> Spread {
        if window.is_strained() { self.strained } else { self.calm }
    }
}
