//! What a tuner may change, and how far.

use std::ops::RangeInclusive;

use crate::{config::Compression, error::Error};

/// A setting that an [`AutoTuner`](super::AutoTuner) may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TuningStrategy {
    /// [`Tuning::batch_size`](crate::config::Tuning::batch_size).
    BatchSize,
    /// [`Tuning::connections`](crate::config::Tuning::connections).
    ConnectionPool,
    /// [`Tuning::compression`](crate::config::Tuning::compression) and [`Tuning::effort`](crate::config::Tuning::effort).
    Compression,
}

/// How far a [`Tuner`](super::Tuner) may go.
#[derive(Debug, Clone, PartialEq)]
pub struct TuningLimits {
    /// Allowed spans of a request. Default 64 to 16,384; from at least 1.
    pub batch_size: RangeInclusive<usize>,
    /// Allowed connections. Default 1 to 4; from at least 1.
    pub connections: RangeInclusive<usize>,
    /// Compressions that the receiver accepts. Default none, gzip and zstd; those not compiled in are never tried.
    pub compressions: Vec<Compression>,
}

impl Default for TuningLimits {
    fn default() -> Self {
        let compressions = vec![Compression::None, Compression::Gzip, Compression::Zstd];
        Self { batch_size: 64..=16_384, connections: 1..=4, compressions }
    }
}

impl TuningLimits {
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        let ranges = [("TuningLimits.batch_size", &self.batch_size), ("TuningLimits.connections", &self.connections)];
        for (knob, range) in ranges {
            if *range.start() == 0 || range.is_empty() {
                return Err(Error::config(knob, format!("{range:?}"), "must begin at 1 at least and not be empty"));
            }
        }
        self.compressions.retain(|compression| compression.is_compiled_in());
        Ok(self)
    }
}
