//! What the client reports and measures about itself.

use std::time::Duration;

use super::bounds::{positive, share};
use crate::error::{Error, LogLevel};

/// What the client reports about itself. Given in code, the whole struct counts and the environment's `OTEL_LOG_LEVEL`
/// is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringConfig {
    /// Whether the client's own metrics (`otel.sdk.*`) are exported over OTLP, to the same receiver's `/v1/metrics`.
    /// Default false.
    pub enable_metrics: bool,
    /// How often the metrics are exported, besides once at the end. Default 60 s; at least 1 ms.
    pub metrics_interval: Duration,
    /// Whether the client's own requests are recorded as spans of the scope `otlp`. Requests that carry only such spans
    /// are not recorded. Default false.
    pub enable_tracing: bool,
    /// How much the client logs about itself on stderr. Default `Info`. Environment: `OTEL_LOG_LEVEL`.
    pub log_level: LogLevel,
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        Self {
            enable_metrics: false,
            metrics_interval: Duration::from_secs(60),
            enable_tracing: false,
            log_level: LogLevel::default(),
        }
    }
}

impl MonitoringConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        interval("with_monitoring_config.metrics_interval", self.metrics_interval)
    }
}

/// Which measurements are taken, and over which interval. Measurements that are not enabled are not collected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct PerformanceMonitor {
    pub(crate) metrics_interval: Duration,
    pub(crate) enabled_metrics: Vec<MetricType>,
}

listed! {
    /// A kind of measurement.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum MetricType {
        /// Spans accepted per second.
        Throughput,
        /// The time from the end of a span until it is accepted.
        Latency,
        /// Bytes the client holds.
        MemoryUsage,
        /// CPU time of the client's own threads.
        CpuUsage,
        /// Bytes before and after compression and over the wire, and requests.
        NetworkUsage,
    }
}

impl Default for PerformanceMonitor {
    fn default() -> Self {
        Self { metrics_interval: Duration::from_secs(10), enabled_metrics: MetricType::ALL.to_vec() }
    }
}

impl PerformanceMonitor {
    /// Makes a monitor of all metrics, over intervals of 10 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the interval that one set of metrics covers. Default 10 s; at least 1 ms.
    pub fn with_metrics_interval(mut self, interval: Duration) -> Self {
        self.metrics_interval = interval;
        self
    }

    /// Sets what is measured. Default: everything. Metrics that are not measured are 0.
    pub fn with_enabled_metrics(mut self, metrics: Vec<MetricType>) -> Self {
        self.enabled_metrics = metrics;
        self
    }

    pub(crate) fn enabled_metrics(&self) -> &[MetricType] {
        &self.enabled_metrics
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        interval("with_performance_monitor.metrics_interval", self.metrics_interval)
    }
}

/// Watches how much memory the client holds.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it takes effect when it is given to a builder"]
pub struct MemoryMonitor {
    pub(crate) monitoring_interval: Duration,
    pub(crate) thresholds: MemoryThresholds,
    pub(crate) gc_trigger: bool,
}

/// Shares of `max_memory_usage` at which the client reacts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryThresholds {
    /// From this share on a line on stderr warns, once until memory has fallen below 95 % of it. Default 0.7; above 0,
    /// at most `critical`.
    pub warning: f64,
    /// From this share on idle memory is given back at once and fewer new traces are sampled, until memory has fallen
    /// below 95 % of it. Default 0.9; at most 1.
    pub critical: f64,
}

impl Default for MemoryThresholds {
    fn default() -> Self {
        Self { warning: 0.7, critical: 0.9 }
    }
}

impl Default for MemoryMonitor {
    fn default() -> Self {
        Self { monitoring_interval: Duration::from_secs(5), thresholds: MemoryThresholds::default(), gc_trigger: true }
    }
}

impl MemoryMonitor {
    /// Makes a monitor that looks every 5 s, with thresholds of 70 % and 90 %.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how often to look. Default 5 s; at least 1 ms.
    pub fn with_monitoring_interval(mut self, interval: Duration) -> Self {
        self.monitoring_interval = interval;
        self
    }

    pub(crate) fn interval(&self) -> Duration {
        self.monitoring_interval
    }

    /// Sets the shares of `max_memory_usage` at which the client reacts. Default 0.7 and 0.9.
    pub fn with_thresholds(mut self, thresholds: MemoryThresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Sets whether idle memory is given back at once beyond the critical threshold. Default true.
    pub fn with_gc_trigger(mut self, is_on: bool) -> Self {
        self.gc_trigger = is_on;
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        interval("with_memory_monitor.monitoring_interval", self.monitoring_interval)?;
        let MemoryThresholds { warning, critical } = self.thresholds;
        share("with_memory_monitor.thresholds.critical", critical)?;
        if !(warning > 0.0 && warning <= critical) {
            let allowed = format!("must be above 0 and at most critical, which is {critical}");
            return Err(Error::config("with_memory_monitor.thresholds.warning", warning, allowed));
        }
        Ok(())
    }
}

/// A shorter interval would keep a thread spinning.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

fn interval(knob: &'static str, interval: Duration) -> Result<(), Error> {
    positive(knob, Some(interval))?;
    if interval < SHORTEST_INTERVAL {
        return Err(Error::config(knob, format!("{interval:?}"), "must be at least 1ms"));
    }
    Ok(())
}
