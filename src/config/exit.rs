//! How long the end of a program may be delayed.

use std::time::Duration;

/// How long closing the client, and with it the exit of the program, may take.
///
/// Sending continues as long as there is progress: batches are acknowledged, connections made, bytes of a request
/// taken; repeated work does not count. A receiver that takes longer than `stall` to answer needs a longer one.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitBudget {
    /// The longest time without progress. Default 1 s; longer than zero, and never longer than `total`. Environment:
    /// `OTLP_EXIT_STALL_TIMEOUT` in milliseconds, where 0 means no limit (one hour stands in).
    pub stall: Duration,
    /// The longest time in all. Default 10 s; longer than zero. Environment: `OTLP_EXIT_TIMEOUT` in milliseconds, where
    /// 0 means no limit (one hour stands in).
    pub total: Duration,
}

impl Default for ExitBudget {
    fn default() -> Self {
        Self { stall: Duration::from_secs(1), total: Duration::from_secs(10) }
    }
}
