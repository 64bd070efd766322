//! Both ends of a ring, for benchmarks.

use super::{Limit, Producer, Ring};
use crate::{capture::memory::MemoryBudget, sync::Arc};

/// A ring and the handle that writes to it.
pub struct RingPair {
    budget: std::sync::Arc<MemoryBudget>,
    ring: Arc<Ring>,
    producer: Producer,
}

impl RingPair {
    /// Makes a ring that may take `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let (ring, producer) = Ring::new(0);
        Self { budget: MemoryBudget::with_pool(bytes, Default::default()), ring, producer }
    }

    /// Pushes one record; false if there is no room.
    pub fn push(&mut self, record: &[u8]) -> bool {
        self.producer.push(&self.budget, 0, record).is_ok()
    }

    /// Takes out all records, and returns how many.
    pub fn drain(&mut self) -> u64 {
        let before = self.ring.taken();
        let mut slices = Vec::new();
        self.ring.detach(&mut Limit { records: u32::MAX, bytes: usize::MAX }, &mut slices);
        self.ring.taken() - before
    }
}
