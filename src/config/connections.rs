//! Connections: how many, for how long, and which idle ones are trusted.

use std::time::Duration;

use super::bounds::{positive, within};
use crate::error::Error;

/// How connections to the receiver are opened, kept and retired.
///
/// A worker uses one connection at a time, and so does each thread in `export_spans`: there are never more in use. If a
/// kept connection turns out to be dead, that costs neither spans nor one of the attempts of
/// [`RetryConfig`](super::RetryConfig): the request is repeated at once over a new one.
///
/// A connection is judged by the answers over it, because there may be many nodes behind one address. After an answer
/// that may be one node's fault (neither 2xx nor about the request itself, as 400, 413 and 415 are), the next attempt
/// takes another connection or opens one, within `max_connections`; doubted connections are closed first to make room.
/// A final refusal (401, 404, 500, …) is verified over another connection, once per batch and without using up an
/// attempt. If a new connection brings nothing better, the answer is taken as the receiver's: open connections are used
/// again, and a new one is tried after 1 s, 2 s, 4 s, and so on up to a minute; never more than eight in a minute.
///
/// A middlebox may silently drop an idle connection. So the first request over a connection that was idle for a second
/// or longer gets only a share of the available time (also of the exit budget): a quarter, or twice the recent answer
/// time, up to half. A large body gets half until one was answered. A request that is not answered in that time is sent
/// over a new connection, and other idle connections are closed. A receiver that takes longer than four tenths of the
/// time to answer gets all of it, and each batch only once.
///
/// So spans may arrive twice in two cases: the receiver took them but answered 500 or another refusal, or it takes much
/// longer to answer over an idle connection than it ever did before.
///
/// These settings have no environment variables. Durations beyond a year count as a year; a duration of zero is an
/// error of `build()`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionPoolConfig {
    /// The most connections in use at once, at least 1. `export_spans` waits for one of them as long as the request may
    /// take; that wait is not a failed attempt. Default `usize::MAX`: as many as there are workers and threads in
    /// `export_spans`. Of idle connections 16 are kept, or `min_connections` if that is more, unless
    /// [`with_max_idle_connections`](crate::ClientBuilder::with_max_idle_connections) sets the number.
    pub max_connections: usize,
    /// How many connections are opened ahead if `enable_connection_prewarming` is on; capped by the number of workers.
    /// Default 1; at most `max_connections`.
    pub min_connections: usize,
    /// How long connecting may take, including TLS. Default 5 s.
    pub connection_timeout: Duration,
    /// How long a connection may be idle before it is closed. The shorter of this and `keep_alive_timeout` counts: this
    /// one limits what the client wants to hold, the other what the receiver keeps open. A worker closes it; a client
    /// without workers, which only uses `export_spans`, does so when it next sends. Default 300 s.
    pub idle_timeout: Duration,
    /// Whether a connection serves more than one request. If not, each request says `Connection: close`, and nothing
    /// is opened ahead. Default true.
    pub keep_alive: bool,
    /// How long the receiver and any middlebox are assumed to keep an idle connection open; after that it is closed and
    /// not reused. The shorter of this and `idle_timeout` counts. Default 60 s.
    pub keep_alive_timeout: Duration,
    /// How old a connection may become, however busy it is: an older one serves no further request. So a receiver
    /// behind a load balancer is chosen anew now and then. Default 3600 s.
    pub max_lifetime: Duration,
    /// Whether `min_connections` are opened, including TLS, as soon as the first span has been recorded and before
    /// there is anything to send. A thread of the client opens them; failures are left for the first request to find.
    /// Default false.
    pub enable_connection_prewarming: bool,
    /// Whether idle connections are probed: each one after being idle for `validation_interval`, by a worker that has
    /// nothing else to do, or before a request if no worker did. A connection that the receiver has closed is closed
    /// here too, and with prewarming another one is opened in its place. Default false: the state of a connection is
    /// only checked before use, see [`ReuseStrategy`].
    pub enable_connection_validation: bool,
    /// How long a connection may be idle before it is probed again, if `enable_connection_validation` is on. Default 30
    /// s.
    pub validation_interval: Duration,
}

impl Default for ConnectionPoolConfig {
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            min_connections: 1,
            connection_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            keep_alive: true,
            keep_alive_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            enable_connection_prewarming: false,
            enable_connection_validation: false,
            validation_interval: Duration::from_secs(30),
        }
    }
}

/// Which idle connection a request takes, and how far it is trusted. The most recently used one is taken, so that
/// surplus ones grow old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReuseStrategy {
    /// Reused without a check. If the receiver has closed it, the request is made twice, the second time over a new
    /// connection.
    Aggressive,
    /// Probed before each reuse, which costs three system calls and detects that the receiver closed it or sent
    /// something meanwhile. The default.
    #[default]
    Conservative,
    /// Never reused: each request opens a connection and says `Connection: close`.
    Never,
}

/// How the connections of a client are managed, for
/// [`with_connection_manager`](crate::ClientBuilder::with_connection_manager). What is not set here stays as it was set
/// elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it does nothing until it is given to a builder"]
pub struct ConnectionManager {
    pub(super) pool_size: Option<usize>,
    pub(super) reuse_strategy: Option<ReuseStrategy>,
    pub(super) health_check_interval: Option<Duration>,
}

impl ConnectionManager {
    /// Makes a manager that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most connections, see [`ConnectionPoolConfig::max_connections`]; all of them are kept when idle. At
    /// least 1; caps a larger `min_connections`.
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// Sets which idle connection a request takes. Default [`ReuseStrategy::Conservative`].
    pub fn with_reuse_strategy(mut self, strategy: ReuseStrategy) -> Self {
        self.reuse_strategy = Some(strategy);
        self
    }

    /// Turns on [`ConnectionPoolConfig::enable_connection_validation`] with this interval: idle connections are probed
    /// this often. Longer than zero. Default: off.
    pub fn with_health_check_interval(mut self, interval: Duration) -> Self {
        self.health_check_interval = Some(interval);
        self
    }
}

impl ConnectionPoolConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        within("with_connection_pool_config.max_connections", Some(self.max_connections), 1..=usize::MAX)?;
        if self.min_connections > self.max_connections {
            let allowed = format!("must be at most max_connections, which is {}", self.max_connections);
            return Err(Error::config("with_connection_pool_config.min_connections", self.min_connections, allowed));
        }
        for (knob, duration) in [
            ("with_connection_pool_config.connection_timeout", self.connection_timeout),
            ("with_connection_pool_config.idle_timeout", self.idle_timeout),
            ("with_connection_pool_config.keep_alive_timeout", self.keep_alive_timeout),
            ("with_connection_pool_config.max_lifetime", self.max_lifetime),
            ("with_connection_pool_config.validation_interval", self.validation_interval),
        ] {
            positive(knob, Some(duration))?;
        }
        Ok(())
    }
}
