//! Connections: how many, how long, and how they are used again.

use std::time::Duration;

/// Connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPoolConfig {
    /// x
    pub max_connections: usize,
    /// x
    pub min_connections: usize,
    /// x
    pub connection_timeout: Duration,
    /// x
    pub idle_timeout: Duration,
    /// x
    pub keep_alive: bool,
    /// x
    pub keep_alive_timeout: Duration,
    /// x
    pub max_lifetime: Duration,
    /// x
    pub enable_connection_prewarming: bool,
    /// x
    pub enable_connection_validation: bool,
    /// x
    pub validation_interval: Duration,
}

impl Default for ConnectionPoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 100,
            min_connections: 1,
            connection_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            keep_alive: true,
            keep_alive_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            enable_connection_prewarming: false,
            enable_connection_validation: false,
            validation_interval: Duration::from_secs(30),
        }
    }
}
