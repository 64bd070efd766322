//! Feedback: what was measured in, new settings out.
//!
//! Everything here is pure. There is no clock, no thread, no chance and no I/O: who calls a controller says how long
//! the interval was and what happened in it, and applies what comes back. So each of them can be run for thousands of
//! steps against a model, which is how they are tested.
//!
//! Each controller has settings, a plain value that `checked` judges for `build()`, and a stepper that is made from
//! them. Settings are the interface; who steps is the client. What all steppers have in common: under constant metrics they come to rest, a value that was not measured (0)
//! or is no number moves nothing, and between the condition that begins a measure and the one that ends it there is
//! room, so that noise does not switch it on and off.

mod batch;
mod compression;
mod memory;
mod targets;
// Models step these two from outside: tests and the example `tuning`, through `bench`.
#[cfg_attr(not(feature = "bench"), allow(unreachable_pub))]
mod throttle;
#[cfg_attr(not(feature = "bench"), allow(unreachable_pub))]
mod tuner;

pub use batch::{BatchManager, calculate_optimal_batch_size};
pub use compression::AdaptiveCompression;
pub(crate) use memory::MemoryWatch;
pub use targets::PerformanceTargets;
pub use tuner::{AutoTuner, TuningStrategy};

#[cfg(feature = "bench")]
pub use throttle::{Pressure, SamplingThreshold, Throttle};
#[cfg(not(feature = "bench"))]
pub(crate) use throttle::{Pressure, SamplingThreshold, Throttle};
#[cfg(not(feature = "bench"))]
pub(crate) use tuner::TuningLimits;
#[cfg(feature = "bench")]
pub use tuner::{Tuner, TuningLimits};
