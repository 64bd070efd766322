//! The connection settings that are in force, resolved from all places that set them.

use std::time::Duration;

use super::{
    ConnectionManager, ConnectionPoolConfig, Options, ReuseStrategy,
    bounds::{positive, within},
};
use crate::{error::Error, sync::LONGEST};

/// How many idle connections are kept by default.
const IDLE_CONNECTIONS: usize = 16;

impl Options {
    /// Sets everything a pool's configuration contains, replacing earlier settings.
    pub(crate) fn set_connection_pool(&mut self, pool: ConnectionPoolConfig) {
        (self.connect_timeout, self.keep_alive_timeout, self.max_idle_connections) = (None, None, None);
        (self.connection_manager.pool_size, self.connection_manager.health_check_interval) = (None, None);
        self.connection_pool = Some(pool);
    }

    /// Sets what `manager` contains.
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

/// The connection settings in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnectionSettings {
    /// How long connecting may take, including TLS.
    pub(crate) connect_timeout: Duration,
    /// The most connections in use at once.
    pub(crate) max_connections: usize,
    /// The most connections kept while idle.
    pub(crate) max_idle: usize,
    /// How many are opened ahead; zero unless asked for.
    pub(crate) prewarmed: usize,
    /// How long an idle connection is kept.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_lifetime: Duration,
    pub(crate) reuse: ReuseStrategy,
    /// How long an idle connection is trusted, if connections are probed.
    pub(crate) validation_interval: Option<Duration>,
}

impl ConnectionSettings {
    /// Resolves `options`.
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
        // If nothing is kept, for whatever reason, each request has a connection of its own.
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

    /// Caps the settings for at most `workers` sending threads.
    pub(super) fn for_workers(mut self, workers: usize) -> Self {
        self.prewarmed = self.prewarmed.min(workers);
        self
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
