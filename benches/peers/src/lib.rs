//! The same work for each contender, and what is read off while it does it.
//!
//! Each contender is a program of its own, so that its start, its memory and its size are its own. What they share is
//! here: the [`work`], the [tasks](task) that drive a [`Contender`] through it, the [counting
//! allocator](allocations) and the [readings](usage) of CPU time and memory.

pub mod allocations;
mod contender;
#[cfg(feature = "otel")]
pub mod otel;
pub mod task;
pub mod usage;
pub mod work;

pub use contender::{Contender, Queue, Setup};

/// Counts what each thread allocates, in every contender alike.
#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;
