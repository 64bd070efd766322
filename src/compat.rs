//! The names used in the user's guide: re-exports only. No other module imports from here.

pub mod core;
pub mod monitoring;
