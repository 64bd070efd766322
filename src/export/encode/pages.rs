//! Bytes that grow in pages of the operating system: what is not written to takes no memory, and what is freed goes back
//! at once. For what is large: an allocator would keep it for the thread that freed it.

use std::ops::Deref;

use memmap2::MmapMut;

/// The system gave no memory for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// What was written to some pages.
pub(crate) struct Pages {
    map: MmapMut,
    len: usize,
}

impl Pages {
    /// Room for so many bytes, none of which takes memory yet; none if the system has no room in its tables.
    pub(crate) fn with_room(bytes: usize) -> Option<Self> {
        Some(Self { map: MmapMut::map_anon(bytes.max(1)).ok()?, len: 0 })
    }

    /// Sees to it that so many bytes can be [written](Self::free); false if the system gives no memory for them.
    pub(crate) fn make_room(&mut self, bytes: usize) -> bool {
        if self.map.len() - self.len < bytes {
            let Some(mut larger) = Self::with_room(self.len + bytes.max(self.len / 4)) else { return false };
            larger.map[..self.len].copy_from_slice(self);
            self.map = larger.map;
        }
        true
    }

    /// Where to write what comes next.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        &mut self.map[self.len..]
    }

    /// So many bytes of what was free have been written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.len += bytes;
    }

    /// Writes `bytes`, after [`make_room`](Self::make_room).
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.free()[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// The pages, and how many bytes of them were written.
    pub(crate) fn into_parts(self) -> (MmapMut, usize) {
        (self.map, self.len)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}
