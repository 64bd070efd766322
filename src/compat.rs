//! The guide's names: re-exports only. Nothing in the crate imports from here.

pub mod core;
pub mod monitoring;
