//! Sections that code gives as a whole: the variables that are then ignored, and the sections as the environment sets
//! them.

use super::chooser::Chooser;
use crate::{
    config::{
        BatchConfig, DropStrategy, MonitoringConfig, OtlpConfig, PerformanceConfig,
        bounds::{MEMORY, SPANS},
    },
    env::{self, Environment, whole_number},
    error::LogLevel,
};

impl OtlpConfig {
    /// Returns the default, with the environment's values for the sections that count as they stand: sizes and times of
    /// batches, the memory bound, the log level, the drop strategy, the exit budget, the spool and the span limits.
    /// Reads the environment now. An unusable value counts as unset, and is reported when a client is made.
    pub fn from_env() -> Self {
        from_environment(&Environment::from_process())
    }
}

/// The default, with the environment's values for the sections that count as they stand. Unusable values are ignored
/// silently: they are reported when the client is made.
pub(super) fn from_environment(environment: &Environment) -> OtlpConfig {
    let mut choose = Chooser::new(environment);
    let spans = |text: &str| whole_number(text, SPANS);
    let (batch, monitoring) = (BatchConfig::default(), MonitoringConfig::default());
    let performance = PerformanceConfig::default();
    let bytes = |text: &str| whole_number(text, MEMORY);
    OtlpConfig {
        batch: BatchConfig {
            max_batch_size: choose.one(None, env::BSP_MAX_EXPORT_BATCH_SIZE, spans, batch.max_batch_size),
            batch_timeout: choose.one(None, env::BSP_SCHEDULE_DELAY, super::schedule_delay, batch.batch_timeout),
            max_queue_size: choose.one(None, env::BSP_MAX_QUEUE_SIZE, spans, batch.max_queue_size),
            ..batch
        },
        performance: PerformanceConfig {
            max_memory_usage: choose.one(None, env::MAX_MEMORY_USAGE, bytes, performance.max_memory_usage),
            ..performance
        },
        monitoring: MonitoringConfig {
            log_level: choose.one(None, env::LOG_LEVEL, str::parse, LogLevel::default()),
            ..monitoring
        },
        drop_strategy: choose.one(None, env::DROP_STRATEGY, str::parse, DropStrategy::default()),
        exit_budget: choose.exit_budget(None).unwrap_or_default(),
        spool: choose.spool(None).unwrap_or_default(),
        span_limits: choose.span_limits(None),
        ..OtlpConfig::default()
    }
}
