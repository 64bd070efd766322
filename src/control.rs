//! Feedback: measurements in, new settings out.
//!
//! Everything here is pure. There is no clock, no thread, no randomness and no I/O: the caller of a controller tells it
//! how long the interval was and what happened in it, and applies the result. So each controller can be run for
//! thousands of steps against a model, which is how they are tested.
//!
//! Each controller has settings, a plain value that `checked` validates for `build()`, and a stepper that is made from
//! them. Settings are the public interface; the client runs the steppers. All steppers share these properties: under
//! constant metrics they come to rest; a value that was not measured (0) or is NaN changes nothing; and there is a gap
//! between the condition that starts a measure and the one that ends it, so that noise does not toggle it.

mod batch;
mod compression;
mod memory;
mod targets;
// These two are stepped by models outside: tests and the example `tuning`, through `bench`.
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
