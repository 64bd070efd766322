//! Bytes that grow in pages of the operating system: what is not written to takes no memory, and what is freed goes back
//! at once. For what is large: an allocator would keep it for the thread that freed it.

use std::ops::Deref;

use memmap2::MmapMut;

/// The system gave no memory for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// Bytes from which on something is worth pages of its own.
pub(crate) const LARGE_BYTES: usize = 32 * 1024;

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

/// Bytes one behind the other, wherever there is memory for them.
pub(crate) enum Bytes {
    Heap(Vec<u8>),
    Pages(Pages),
}

impl Bytes {
    /// None yet, of about `expected` in the end.
    pub(crate) fn expecting(expected: usize) -> Self {
        let pages = (expected >= LARGE_BYTES).then(|| Pages::with_room(expected)).flatten();
        pages.map_or_else(|| Self::Heap(Vec::new()), Self::Pages)
    }

    pub(crate) fn append(&mut self, more: &[u8]) -> Result<(), NoMemory> {
        match self {
            Self::Heap(bytes) => {
                // In no larger steps than are accounted for.
                bytes.try_reserve_exact(more.len().max(bytes.len() / 4)).map_err(|_| NoMemory)?;
                bytes.extend_from_slice(more);
            }
            Self::Pages(pages) => {
                if !pages.make_room(more.len()) {
                    return Err(NoMemory);
                }
                pages.append(more);
            }
        }
        Ok(())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_was_appended_wherever_they_lie() {
        for expected in [0, LARGE_BYTES - 1, LARGE_BYTES, 10 * LARGE_BYTES] {
            let (mut bytes, mut copy) = (Bytes::expecting(expected), Vec::new());
            assert_eq!(matches!(bytes, Bytes::Pages(_)), expected >= LARGE_BYTES);
            for number in 0..500_usize {
                let more = vec![number as u8; number * 7];
                bytes.append(&more).unwrap();
                copy.extend_from_slice(&more);
            }
            assert!(*bytes == copy[..], "{expected}: beyond what was expected too");
        }
    }
}
