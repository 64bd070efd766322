//! What a client can be given beside its configuration, and the controllers that adjust it while it runs.
//!
//! The controllers are pure: [metrics](crate::monitoring::PerformanceMetrics) in, settings out. They have no clock
//! and no thread, never block and never drop anything, and can be run against a model as well as a client.

pub use crate::{
    config::{
        BackpressureController, ConnectionManager, DropStrategy, Effort, MemoryPool, ReuseStrategy, Tuning, WorkerPool,
        ZeroCopyBuffer,
    },
    control::{
        AdaptiveCompression, AutoTuner, BatchManager, CompressionChooser, PerformanceTargets, Pressure,
        SamplingThreshold, Throttle, Tuner, TuningLimits, TuningStrategy, calculate_optimal_batch_size,
    },
    export::SpanBuffer,
};

/// The guide's name of [`Client`](crate::Client).
pub type EnhancedOtlpClient = crate::client::Client;
