//! Idle chunks, lock-free at both ends.

#[cfg(not(loom))]
mod queues {
    use crossbeam_queue::{ArrayQueue, SegQueue};

    use crate::capture::memory::chunk::ChunkRef;

    pub(in crate::capture::memory) enum Idle {
        Bounded(ArrayQueue<ChunkRef>),
        Unbounded(SegQueue<ChunkRef>),
    }

    impl Idle {
        pub(in crate::capture::memory) fn bounded(chunks: usize) -> Self {
            Self::Bounded(ArrayQueue::new(chunks))
        }

        pub(in crate::capture::memory) fn unbounded() -> Self {
            Self::Unbounded(SegQueue::new())
        }

        pub(in crate::capture::memory) fn give(&self, chunk: ChunkRef) -> Result<(), ChunkRef> {
            match self {
                Self::Bounded(queue) => queue.push(chunk),
                Self::Unbounded(queue) => {
                    queue.push(chunk);
                    Ok(())
                }
            }
        }

        pub(in crate::capture::memory) fn take(&self) -> Option<ChunkRef> {
            match self {
                Self::Bounded(queue) => queue.pop(),
                Self::Unbounded(queue) => queue.pop(),
            }
        }
    }
}

/// crossbeam's queues are not modelled; a lock gives loom the same order of events.
#[cfg(loom)]
mod queues {
    use std::collections::VecDeque;

    use crate::{capture::memory::chunk::ChunkRef, sync::Mutex};

    pub(in crate::capture::memory) struct Idle(Mutex<VecDeque<ChunkRef>>);

    impl Idle {
        pub(in crate::capture::memory) fn bounded(_chunks: usize) -> Self {
            Self::unbounded()
        }

        pub(in crate::capture::memory) fn unbounded() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub(in crate::capture::memory) fn give(&self, chunk: ChunkRef) -> Result<(), ChunkRef> {
            self.0.lock().push_back(chunk);
            Ok(())
        }

        pub(in crate::capture::memory) fn take(&self) -> Option<ChunkRef> {
            self.0.lock().pop_front()
        }
    }
}

pub(super) use queues::Idle;
