//! What a fault is told with.

use std::time::Duration;

use super::dial::Route;
use crate::config::Secrets;

/// What is told of a fault that is not for its own words alone.
pub(in crate::export) struct Circumstances<'a> {
    /// The way to the receiver.
    pub(in crate::export) route: &'a Route,
    /// The time for a connection.
    pub(in crate::export) connecting: Duration,
    /// The time for all.
    pub(in crate::export) timeout: Duration,
    pub(in crate::export) secrets: &'a Secrets,
}

/// A time as it is told: nobody reads nanoseconds.
pub(in crate::export) fn shown(time: Duration) -> Duration {
    match time.as_micros() {
        short @ 0..1_000 => Duration::from_micros(short as u64),
        micros => Duration::from_millis(u64::try_from((micros + 500) / 1_000).unwrap_or(u64::MAX)),
    }
}
