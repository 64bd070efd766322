//! The memory of buffers that are not in use.

use std::mem;

use memmap2::MmapMut;

use crate::sync::locks::Mutex;

pub(super) const PAGE_BYTES: usize = 4 * 1024;

/// The most of them.
const IDLE_BUFFERS: usize = 4;

/// Buffers that wait to be handed out again. All of a client's are of one size.
#[derive(Default)]
pub(super) struct IdleBuffers(Mutex<Vec<MmapMut>>);

impl IdleBuffers {
    pub(super) fn take(&self) -> Option<MmapMut> {
        self.0.lock().pop()
    }

    /// Keeps a buffer, unless there are enough, which together take no more than `most` bytes.
    pub(super) fn keep(&self, pages: MmapMut, most: usize) -> Result<(), MmapMut> {
        let mut idle = self.0.lock();
        if idle.len() >= IDLE_BUFFERS || (idle.len() + 1) * mapped(pages.len()) > most {
            return Err(pages);
        }
        idle.push(pages);
        Ok(())
    }

    /// Bytes of memory they take.
    pub(super) fn idle_bytes(&self) -> usize {
        self.0.lock().iter().map(|pages| mapped(pages.len())).sum()
    }

    /// Frees them, and answers how many bytes they took.
    pub(super) fn clear(&self) -> usize {
        let idle = mem::take(&mut *self.0.lock());
        idle.iter().map(|pages| mapped(pages.len())).sum()
    }
}

/// Bytes of the pages that hold `bytes`.
pub(super) fn mapped(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}
