//! Connections: how many, for how long, and which of them are trusted.

use std::time::Duration;

use super::bounds::{positive, within};
use crate::error::Error;

/// How connections to the receiver are opened, kept and retired.
///
/// A worker uses one connection at a time, and so does each thread in `export_spans`: no more than that many are ever
/// in use. A connection that was kept open and turns out to be dead costs neither spans nor one of the attempts of
/// [`RetryConfig`](super::RetryConfig): the request is made again over a new one at once.
///
/// A connection is judged by what was answered over it, since behind one address there may be many nodes. After an answer
/// that may be a node's fault (neither 2xx nor about the request, as 400, 413 and 415 are) the next attempt takes another
/// connection or opens one, within `max_connections`, for which those that are doubted are closed first. A refusal that is
/// final (401, 404, 500, …) is made sure of over another connection, once for a batch and at no cost in attempts. Where
/// a new connection brings nothing better the answer is the receiver's: those that are open are used again, and a new one
/// is tried after 1 s, 2 s, 4 s, and so on up to a minute; never more than eight in a minute.
///
/// What is between may drop an idle connection without telling. So the first request over one that was idle for a second
/// or longer has a share of the time there is, of the exit budget too: a quarter, or twice what answers took of late, up
/// to half. A large body has half until one was answered. What is not answered in that is sent over a new connection, and
/// others that were idle are closed. A receiver that takes longer than four tenths of the time to answer has all of it,
/// and gets each batch once.
///
/// So spans may arrive twice: where a receiver took them and answered 500 or another refusal nevertheless, and where it
/// takes much longer to answer over an idle connection than it ever did before.
///
/// None of it has an environment variable. Durations beyond a year count as a year; a duration
/// of zero is an error of `build()`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionPoolConfig {
    /// The most connections in use at once, at least 1; `export_spans` waits for one of them as long as the request may
    /// take, which is no failed attempt. Default `usize::MAX`: as many as there are workers and threads in
    /// `export_spans`. When they are idle 16 of them are kept, or `min_connections` where that is more, unless
    /// [`with_max_idle_connections`](crate::ClientBuilder::with_max_idle_connections) says how many.
    pub max_connections: usize,
    /// The connections that are opened ahead where `enable_connection_prewarming` is on; capped by the number of
    /// workers. Default 1; at most `max_connections`.
    pub min_connections: usize,
    /// How long connecting may take, TLS included. Default 5 s.
    pub connection_timeout: Duration,
    /// How long a connection may be idle before it is closed. The shorter of this and `keep_alive_timeout` counts:
    /// this one is about what the client wants to hold, the other about what the receiver does. A worker closes it; a
    /// client that has none, since it only uses `export_spans`, does so when it sends again. Default 300 s.
    pub idle_timeout: Duration,
    /// Whether a connection serves more than one request. If not, each request says `Connection: close`, and nothing
    /// is opened ahead. Default true.
    pub keep_alive: bool,
    /// How long an idle connection is believed to be kept open by the receiver, and what is between; after that it is
    /// closed and not used again. The shorter of this and `idle_timeout` counts. Default 60 s.
    pub keep_alive_timeout: Duration,
    /// How old a connection may become, however busy it is: one that is older serves no further request. So a receiver
    /// behind a load balancer is chosen anew now and then. Default 3600 s.
    pub max_lifetime: Duration,
    /// Whether `min_connections` are opened, TLS included, as soon as the first span has been recorded and before
    /// there is anything to send. A thread of the client's own does so; what fails is left for the first request to
    /// find out. Default false.
    pub enable_connection_prewarming: bool,
    /// Whether idle connections are looked after: each one is probed whenever it was idle for `validation_interval`, by
    /// a worker that has nothing else to do, and before a request if no worker came to it. One that the receiver has
    /// closed is closed here too, and with prewarming another one opened in its place. Default false: what a connection
    /// has become is seen when it is to be used, see [`ReuseStrategy`].
    pub enable_connection_validation: bool,
    /// How long a connection may be idle before it is probed again, where `enable_connection_validation` is on. Default
    /// 30 s.
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

/// Which idle connection a request takes, and how far it is trusted. Of several it is the one that was used last, so
/// that those which are too many grow old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReuseStrategy {
    /// Trusted without a look. If the receiver has closed it, the request is made twice, the second time over a new
    /// connection.
    Aggressive,
    /// Probed before each reuse, which costs three system calls and finds what the receiver closed or sent meanwhile.
    /// The default.
    #[default]
    Conservative,
    /// Never reused: each request opens a connection and says `Connection: close`.
    Never,
}

/// How the connections of a client are managed, for `with_connection_manager`. What is not set here is left as it was.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it does nothing until it is given to a builder"]
pub struct ConnectionManager {
    pub(super) pool_size: Option<usize>,
    pub(super) reuse_strategy: Option<ReuseStrategy>,
    pub(super) health_check_interval: Option<Duration>,
}

impl ConnectionManager {
    /// A manager that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections, as [`ConnectionPoolConfig::max_connections`]; all of them are kept when they are idle. At
    /// least 1; a `min_connections` that is larger is capped by it.
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// Which idle connection a request takes. Default [`ReuseStrategy::Conservative`].
    pub fn with_reuse_strategy(mut self, strategy: ReuseStrategy) -> Self {
        self.reuse_strategy = Some(strategy);
        self
    }

    /// Has idle connections probed so often: [`ConnectionPoolConfig::enable_connection_validation`] with this as its
    /// interval. Longer than zero. Default: not at all.
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
