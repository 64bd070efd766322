//! What benchmarks and models reach into; no part of the interface, and compiled for them only.

#![doc(hidden)]

use crate::{config::Tuning, control::AutoTuner, error::Error};

pub use crate::{
    capture::RingPair,
    control::{Pressure, SamplingThreshold, Throttle, Tuner, TuningLimits},
    export::Stages,
};

/// The stepper of a tuner with these settings, which a client would step.
///
/// # Errors
/// [`Error::Config`] where a setting or a limit makes no sense.
pub fn start(tuner: AutoTuner, initial: Tuning, limits: TuningLimits) -> Result<Tuner, Error> {
    tuner.start(initial, limits)
}
