//! Sections that code gives as a whole: the variables that lose against them, and the same sections as the environment
//! has them.

use super::{MEMORY, SPANS, chooser::Chooser};
use crate::{
    config::{BatchConfig, DropStrategy, MonitoringConfig, OtlpConfig, PerformanceConfig},
    env::{self, Environment, whole_number},
    error::LogLevel,
};

/// A variable that is set, would say something else, and does not count since code gives a section as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) section: &'static str,
    pub(super) variable: &'static str,
}

impl Chooser<'_> {
    /// The one line about variables that do not count.
    pub(super) fn tell_lost(&mut self) {
        let variables: Vec<_> = self.lost.iter().map(|lost| lost.variable).collect();
        let mut sections: Vec<_> = self.lost.iter().map(|lost| lost.section).collect();
        sections.dedup();
        let does = match variables[..] {
            [] => return,
            [_] => "does",
            _ => "do",
        };
        self.warnings.push(format!(
            "{}: set, and {does} not count, since code gives {} as a whole; OtlpConfig::from_env() has them as the \
             environment says",
            variables.join(", "),
            sections.join(", ")
        ));
    }
}

/// The default, with what the environment says of the sections that count as they stand. What cannot be used is left
/// out in silence: it is told when the client is made.
pub(in crate::config) fn from_environment(environment: &Environment) -> OtlpConfig {
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
