//! What a client measures of itself, and what it does when memory gets short.

pub use crate::{
    config::{MemoryMonitor, MemoryThresholds, MetricType, PerformanceMonitor},
    stats::{BatchMetrics, MemoryStats, NetworkUsage, PerformanceMetrics},
};
