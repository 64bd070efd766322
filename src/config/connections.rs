//! Connections: how many, for how long, and which of them are trusted.

use std::time::Duration;

use super::{
    Options,
    settings::{positive, within},
};
use crate::{error::Error, sync::LONGEST};

/// Idle connections that are kept where nobody says how many.
const IDLE_CONNECTIONS: usize = 16;

/// How connections to the receiver are opened, kept and retired.
///
/// A worker uses one connection at a time, and so does each thread in `export_spans`: no more than that many are ever
/// in use. A connection that was kept open and turns out to be dead costs neither spans nor one of the attempts of
/// [`RetryConfig`](super::RetryConfig): the request is made again over a new one at once.
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

impl Options {
    /// Sets everything a pool's configuration speaks of: what was said about it before does not count any more.
    pub(crate) fn set_connection_pool(&mut self, pool: ConnectionPoolConfig) {
        (self.connect_timeout, self.keep_alive_timeout, self.max_idle_connections) = (None, None, None);
        (self.connection_manager.pool_size, self.connection_manager.health_check_interval) = (None, None);
        self.connection_pool = Some(pool);
    }

    /// Sets what `manager` speaks of.
    pub(crate) fn set_connection_manager(&mut self, manager: ConnectionManager) {
        let before = std::mem::take(&mut self.connection_manager);
        if manager.pool_size.is_some() {
            self.max_idle_connections = None;
        }
        self.connection_manager = ConnectionManager {
            pool_size: manager.pool_size.or(before.pool_size),
            reuse_strategy: manager.reuse_strategy.or(before.reuse_strategy),
            health_check_interval: manager.health_check_interval.or(before.health_check_interval),
        };
    }
}

/// What of all this is in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnectionSettings {
    /// For one connection, TLS included.
    pub(crate) connect_timeout: Duration,
    /// In use at once.
    pub(crate) max_connections: usize,
    /// Kept while they are idle.
    pub(crate) max_idle: usize,
    /// Opened ahead; zero unless asked for.
    pub(crate) prewarmed: usize,
    /// How long an idle connection is kept.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_lifetime: Duration,
    pub(crate) reuse: ReuseStrategy,
    /// How long an idle connection is trusted, if they are probed.
    pub(crate) validation_interval: Option<Duration>,
}

impl ConnectionSettings {
    /// What `options` come to.
    pub(super) fn resolve(options: &Options) -> Result<Self, Error> {
        let default = ConnectionPoolConfig::default();
        let pool = options.connection_pool.as_ref().unwrap_or(&default);
        pool.check()?;
        let manager = &options.connection_manager;
        let pool_size = within("with_connection_manager.pool_size", manager.pool_size, 1..=usize::MAX)?;
        let health_check = "with_connection_manager.health_check_interval";
        let health_check_interval = positive(health_check, manager.health_check_interval)?;
        let connect_timeout = positive("with_connect_timeout", options.connect_timeout)?;

        let max_connections = pool_size.unwrap_or(pool.max_connections);
        let kept = pool_size.unwrap_or(IDLE_CONNECTIONS.max(pool.min_connections));
        let max_idle = options.max_idle_connections.unwrap_or(kept).min(max_connections);
        let idle_timeout = options.keep_alive_timeout.unwrap_or(pool.keep_alive_timeout).min(pool.idle_timeout);
        // Where nothing is kept each request has a connection of its own, whatever it was that said so.
        let is_kept = pool.keep_alive && max_idle > 0 && !idle_timeout.is_zero();
        let reuse = manager.reuse_strategy.filter(|_| is_kept);
        let reuse = reuse.unwrap_or(if is_kept { ReuseStrategy::default() } else { ReuseStrategy::Never });
        let is_prewarmed = pool.enable_connection_prewarming && reuse != ReuseStrategy::Never;
        let validated = pool.enable_connection_validation.then_some(pool.validation_interval);
        Ok(Self {
            connect_timeout: connect_timeout.unwrap_or(pool.connection_timeout).min(LONGEST),
            max_connections,
            max_idle,
            prewarmed: if is_prewarmed { pool.min_connections.min(max_idle) } else { 0 },
            idle_timeout: idle_timeout.min(LONGEST),
            max_lifetime: pool.max_lifetime.min(LONGEST),
            reuse,
            validation_interval: health_check_interval.or(validated).map(|interval| interval.min(LONGEST)),
        })
    }

    /// The same where no more than so many workers send.
    pub(super) fn for_workers(mut self, workers: usize) -> Self {
        self.prewarmed = self.prewarmed.min(workers);
        self
    }
}

impl ConnectionPoolConfig {
    fn check(&self) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn resolved(set: impl FnOnce(&mut Options)) -> ConnectionSettings {
        let mut options = Options::default();
        set(&mut options);
        ConnectionSettings::resolve(&options).unwrap().for_workers(4)
    }

    fn pool(change: impl FnOnce(&mut ConnectionPoolConfig)) -> ConnectionPoolConfig {
        let mut pool = ConnectionPoolConfig::default();
        change(&mut pool);
        pool
    }

    #[test]
    fn a_pool_of_defaults_is_what_holds_without_one() {
        let without = resolved(|_| {});
        assert_eq!(resolved(|options| options.set_connection_pool(ConnectionPoolConfig::default())), without);
        assert_eq!(resolved(|options| options.set_connection_manager(ConnectionManager::new())), without);
        let ConnectionSettings { max_connections, max_idle, prewarmed, validation_interval, .. } = without;
        assert_eq!((max_connections, max_idle, prewarmed, validation_interval), (usize::MAX, 16, 0, None));
        assert_eq!((without.connect_timeout, without.idle_timeout), (5_000 * MS, 60_000 * MS));
        assert_eq!((without.max_lifetime, without.reuse), (3_600_000 * MS, ReuseStrategy::Conservative));
    }

    #[test]
    fn of_setters_that_speak_of_the_same_the_last_call_wins() {
        let config = pool(|pool| {
            (pool.connection_timeout, pool.keep_alive_timeout, pool.max_connections) = (2 * MS, 3 * MS, 7);
            (pool.enable_connection_validation, pool.validation_interval) = (true, 5 * MS);
        });
        let manager = ConnectionManager::new().with_pool_size(9).with_health_check_interval(8 * MS);
        let single = |options: &mut Options| {
            options.connect_timeout = Some(20 * MS);
            options.keep_alive_timeout = Some(30 * MS);
            options.max_idle_connections = Some(1);
        };
        let seen = |settings: ConnectionSettings| {
            let ConnectionSettings { connect_timeout, idle_timeout, max_connections, max_idle, .. } = settings;
            (connect_timeout, idle_timeout, max_connections, max_idle, settings.validation_interval)
        };
        let pool_last = resolved(|options| {
            single(options);
            options.set_connection_manager(manager.clone());
            options.set_connection_pool(config.clone());
        });
        assert_eq!(seen(pool_last), (2 * MS, 3 * MS, 7, 7, Some(5 * MS)));
        let single_last = resolved(|options| {
            options.set_connection_pool(config.clone());
            single(options);
        });
        assert_eq!(seen(single_last), (20 * MS, 30 * MS, 7, 1, Some(5 * MS)));
        let manager_last = resolved(|options| {
            options.set_connection_pool(config.clone());
            single(options);
            options.set_connection_manager(manager.clone());
        });
        assert_eq!(seen(manager_last), (20 * MS, 30 * MS, 9, 9, Some(8 * MS)));
    }

    #[test]
    fn a_manager_leaves_alone_what_it_does_not_speak_of() {
        let reuse = ConnectionManager::new().with_reuse_strategy(ReuseStrategy::Aggressive);
        let settings = resolved(|options| {
            options.set_connection_pool(pool(|pool| pool.max_connections = 3));
            options.set_connection_manager(reuse);
            options.set_connection_manager(ConnectionManager::new().with_health_check_interval(MS));
        });
        assert_eq!((settings.max_connections, settings.max_idle), (3, 3));
        assert_eq!((settings.reuse, settings.validation_interval), (ReuseStrategy::Aggressive, Some(MS)));
    }

    #[test]
    fn what_is_opened_ahead_is_capped_by_workers_and_by_what_is_kept() {
        let prewarmed = |min, max, is_on, keep_alive| {
            let config = pool(|pool| {
                (pool.min_connections, pool.max_connections) = (min, max);
                (pool.enable_connection_prewarming, pool.keep_alive) = (is_on, keep_alive);
            });
            resolved(|options| options.set_connection_pool(config)).prewarmed
        };
        assert_eq!(prewarmed(2, 10, true, true), 2);
        assert_eq!(prewarmed(10, 10, true, true), 4, "there are four workers");
        assert_eq!(prewarmed(3, 3, true, true), 3);
        assert_eq!((prewarmed(2, 10, false, true), prewarmed(2, 10, true, false)), (0, 0));
    }

    #[test]
    fn where_nothing_is_kept_each_request_has_its_own() {
        let never = |set: fn(&mut Options)| resolved(set).reuse == ReuseStrategy::Never;
        assert!(never(|options| options.set_connection_pool(pool(|pool| pool.keep_alive = false))));
        assert!(never(|options| options.max_idle_connections = Some(0)));
        assert!(never(|options| options.keep_alive_timeout = Some(Duration::ZERO)));
        assert!(!never(|options| options.max_idle_connections = Some(1)));
    }

    #[test]
    fn durations_without_end_are_cut_so_that_no_deadline_overflows() {
        let forever = pool(|pool| {
            (pool.connection_timeout, pool.idle_timeout, pool.keep_alive_timeout) = (Duration::MAX, Duration::MAX, MS);
            (pool.max_lifetime, pool.validation_interval) = (Duration::MAX, Duration::MAX);
            pool.enable_connection_validation = true;
        });
        let settings = resolved(|options| {
            options.set_connection_pool(forever);
            options.keep_alive_timeout = Some(Duration::MAX);
        });
        let ConnectionSettings { connect_timeout, idle_timeout, max_lifetime, validation_interval, .. } = settings;
        assert_eq!([connect_timeout, idle_timeout, max_lifetime, validation_interval.unwrap()], [LONGEST; 4]);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_told_by_setting_and_field() {
        type Change = fn(&mut ConnectionPoolConfig);
        let told = |set: &dyn Fn(&mut Options)| {
            let mut options = Options::default();
            set(&mut options);
            ConnectionSettings::resolve(&options).unwrap_err().to_string()
        };
        let in_pool = |change: Change| told(&|options| options.set_connection_pool(pool(change)));
        assert_eq!(
            in_pool(|pool| (pool.min_connections, pool.max_connections) = (3, 2)),
            "with_connection_pool_config.min_connections = 3: must be at most max_connections, which is 2"
        );
        assert_eq!(
            in_pool(|pool| pool.max_connections = 0),
            "with_connection_pool_config.max_connections = 0: must be a whole number, at least 1"
        );
        let zeros: [(&str, Change); 5] = [
            ("connection_timeout", |pool| pool.connection_timeout = Duration::ZERO),
            ("idle_timeout", |pool| pool.idle_timeout = Duration::ZERO),
            ("keep_alive_timeout", |pool| pool.keep_alive_timeout = Duration::ZERO),
            ("max_lifetime", |pool| pool.max_lifetime = Duration::ZERO),
            ("validation_interval", |pool| pool.validation_interval = Duration::ZERO),
        ];
        for (field, zero) in zeros {
            let expected = format!("with_connection_pool_config.{field} = 0s: must be longer than zero");
            assert_eq!(in_pool(zero), expected);
        }
        let manager = |manager: ConnectionManager| told(&|options| options.set_connection_manager(manager.clone()));
        assert_eq!(
            manager(ConnectionManager::new().with_pool_size(0)),
            "with_connection_manager.pool_size = 0: must be a whole number, at least 1"
        );
        assert_eq!(
            manager(ConnectionManager::new().with_health_check_interval(Duration::ZERO)),
            "with_connection_manager.health_check_interval = 0s: must be longer than zero"
        );
    }
}
