//! What the benchmarks reach into; no part of the interface, and compiled for them only.

#![doc(hidden)]

pub use crate::{capture::RingPair, export::Stages};
