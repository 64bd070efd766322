//! What a client can be given besides its configuration, and the controllers that adjust it while it runs.
//!
//! Each is given to a setter of [`ClientBuilder`](crate::ClientBuilder). The controllers are pure:
//! [metrics](crate::monitoring::PerformanceMetrics) in, settings out; the client calls them at intervals, on a thread
//! of its own. They never block and never drop anything.

pub use crate::{
    config::{
        BackpressureController, ConnectionManager, DropStrategy, Effort, MemoryPool, ReuseStrategy, Tuning, WorkerPool,
        ZeroCopyBuffer,
    },
    control::{
        AdaptiveCompression, AutoTuner, BatchManager, PerformanceTargets, TuningStrategy, calculate_optimal_batch_size,
    },
    export::SpanBuffer,
};

/// Another name of [`Client`](crate::Client).
pub type EnhancedOtlpClient = crate::client::Client;
