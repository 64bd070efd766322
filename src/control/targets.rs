//! The targets of controllers.

use std::time::Duration;

use crate::error::Error;

/// What a client should reach, and what it may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceTargets {
    /// The mean time from the end of a span until it is accepted, and so the longest a request should take. Default
    /// 100 ms; longer than zero.
    pub target_latency: Duration,
    /// Spans per second that should be accepted if that many are ended; fewer are enough if all of them arrive. Default
    /// 10,000; at least 1.
    pub target_throughput: u64,
    /// Bytes the client may hold. Default 64 MiB; at least 1.
    pub max_memory_usage: usize,
    /// CPU time of the client's threads as a share of one core: 2.0 is two cores. Default 0.8; finite and greater
    /// than 0.
    pub max_cpu_usage: f64,
}

impl Default for PerformanceTargets {
    fn default() -> Self {
        Self {
            target_latency: Duration::from_millis(100),
            target_throughput: 10_000,
            max_memory_usage: 64 * 1024 * 1024,
            max_cpu_usage: 0.8,
        }
    }
}

/// The names of the targets as parts of another setting.
pub(super) struct Knobs {
    pub(super) latency: &'static str,
    pub(super) throughput: &'static str,
    pub(super) memory: &'static str,
    pub(super) cpu: &'static str,
}

impl PerformanceTargets {
    /// Returns an error that names the first invalid target.
    pub(super) fn check(&self, knobs: &Knobs) -> Result<(), Error> {
        if self.target_latency.is_zero() {
            return Err(Error::config(knobs.latency, "0s", "must be longer than zero"));
        }
        if self.target_throughput == 0 {
            return Err(Error::config(knobs.throughput, 0, "must be at least 1"));
        }
        if self.max_memory_usage == 0 {
            return Err(Error::config(knobs.memory, 0, "must be at least 1"));
        }
        if !(self.max_cpu_usage.is_finite() && self.max_cpu_usage > 0.0) {
            return Err(Error::config(knobs.cpu, self.max_cpu_usage, "must be finite and greater than 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Invalid targets, each with the field that its error has to name.
    pub(in crate::control) fn senseless() -> Vec<(&'static str, PerformanceTargets)> {
        let sound = PerformanceTargets::default;
        let mut senseless = vec![
            ("target_latency", PerformanceTargets { target_latency: Duration::ZERO, ..sound() }),
            ("target_throughput", PerformanceTargets { target_throughput: 0, ..sound() }),
            ("max_memory_usage", PerformanceTargets { max_memory_usage: 0, ..sound() }),
        ];
        for cpu in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            senseless.push(("max_cpu_usage", PerformanceTargets { max_cpu_usage: cpu, ..sound() }));
        }
        senseless
    }
}
