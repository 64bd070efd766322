//! The memory bound of a client, in bytes: who may hold how much, and what happens when there is no room.
//!
//! `budget` accounts for everything, `pool` keeps chunks for their next use, `quota` bounds the spans that wait where
//! `max_queue_size` is set, and `overflow` decides what makes room. Rings import this module, never the other way
//! round.

mod budget;
mod chunk;
mod emergency;
mod idle;
mod overflow;
mod pool;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod process_limits;
mod quota;
mod reservation;

pub(crate) use budget::MemoryBudget;
pub(in crate::capture) use chunk::{Chunk, ChunkRef, ENTRY_BYTES};
pub(crate) use chunk::{Limit, Slice};
pub(in crate::capture) use overflow::Prospect;
pub(crate) use overflow::{Overflow, Shed};
pub(crate) use pool::Pooling;
pub(crate) use quota::{Arrivals, Quota};
pub(crate) use reservation::Reservation;
