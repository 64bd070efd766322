//! Allowed ranges of numbers, from any source.

use std::{ops::RangeInclusive, time::Duration};

use crate::{env::allowed, error::Error, sync::LONGEST};

const MIB: usize = 1024 * 1024;

pub(super) const SPANS: RangeInclusive<usize> = 1..=usize::MAX;
pub(super) const MEMORY: RangeInclusive<usize> = MIB..=usize::MAX;
pub(super) const BATCH_BYTES: RangeInclusive<usize> = 1..=DEFAULT_REQUEST_BYTES;
pub(super) const SPOOL_BYTES: RangeInclusive<usize> = 1..=usize::MAX;
/// A delay of zero would keep a worker spinning.
pub(super) const SHORTEST_DELAY: Duration = Duration::from_millis(1);
/// The specification's default for both limits (OTLPV-15).
pub(super) const DEFAULT_REQUEST_BYTES: usize = 64 * MIB;

pub(super) fn within(
    knob: &'static str,
    value: Option<usize>,
    range: RangeInclusive<usize>,
) -> Result<Option<usize>, Error> {
    match value {
        Some(value) if !range.contains(&value) => Err(Error::config(knob, value, allowed(&range))),
        value => Ok(value),
    }
}

/// Checks that a share is from 0 to 1.
pub(super) fn share(knob: &'static str, share: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(Error::config(knob, share, "must be from 0 to 1")) }
}

pub(super) fn positive(knob: &'static str, value: Option<Duration>) -> Result<Option<Duration>, Error> {
    match value {
        Some(Duration::ZERO) => Err(Error::config(knob, "0s", "must be longer than zero")),
        value => Ok(value.map(|value| value.min(LONGEST))),
    }
}
