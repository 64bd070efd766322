//! Internals that benchmarks and models reach; not part of the public interface, and compiled only for them.

#![doc(hidden)]

use crate::{config::Tuning, control::AutoTuner, error::Error};

pub use crate::{
    capture::RingPair,
    control::{Pressure, SamplingThreshold, Throttle, Tuner, TuningLimits},
    export::Stages,
};

/// Returns the stepper of a tuner with these settings, as a client would run it.
///
/// # Errors
/// [`Error::Config`] where a setting or a limit makes no sense.
pub fn start(tuner: AutoTuner, initial: Tuning, limits: TuningLimits) -> Result<Tuner, Error> {
    tuner.start(initial, limits)
}
