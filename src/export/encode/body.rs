//! The bytes of a request: in a buffer that is used again, or, while they wait for long, in pages of their own.

use std::{mem, ops::Deref, sync::Arc};

use memmap2::MmapMut;

use super::pages::Pages;

/// Smaller bodies stay where they are: pages are counted in whole.
const PAGED_BYTES: usize = 16 * 1024;
const PAGE_BYTES: usize = 4 * 1024;

/// One body.
pub(crate) enum Body {
    Buffer(Vec<u8>),
    /// Memory of the operating system, which gets it back at once when the body is gone. What an allocator keeps
    /// for this thread is lost to the rings, and both together would exceed the bound.
    Pages {
        pages: MmapMut,
        len: usize,
    },
    /// The program's own buffer, which is accounted for as that.
    Lent {
        pages: Arc<MmapMut>,
        len: usize,
    },
}

impl Default for Body {
    fn default() -> Self {
        Self::Buffer(Vec::new())
    }
}

impl Body {
    /// What was written to pages.
    pub(crate) fn of(pages: Pages) -> Self {
        let (pages, len) = pages.into_parts();
        Self::Pages { pages, len }
    }

    /// Bytes of memory it takes.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Buffer(buffer) => buffer.capacity(),
            Self::Pages { len, .. } => len.next_multiple_of(PAGE_BYTES),
            Self::Lent { .. } => 0,
        }
    }

    /// The buffer to write it into.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if let Self::Pages { .. } | Self::Lent { .. } = self {
            *self = Self::Buffer(self.to_vec());
        }
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Pages { .. } | Self::Lent { .. } => unreachable!("made a buffer above"),
        }
    }

    /// What of it can be used again; the rest is free.
    pub(crate) fn into_spare(self) -> Self {
        if let Self::Buffer(_) = self { self } else { Self::default() }
    }

    /// Makes it take no more memory than it needs, and answers the buffer that was freed by that, if one was.
    pub(crate) fn park(&mut self) -> Option<Vec<u8>> {
        let Self::Buffer(buffer) = self else { return None };
        let len = buffer.len();
        if len < PAGED_BYTES {
            buffer.shrink_to_fit();
            return None;
        }
        // Where the system gives no pages it might give no smaller buffer either.
        let mut pages = MmapMut::map_anon(len).ok()?;
        pages.copy_from_slice(buffer);
        let buffer = mem::take(buffer);
        *self = Self::Pages { pages, len };
        Some(buffer)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Pages { pages, len } => &pages[..*len],
            Self::Lent { pages, len } => &pages[..*len],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_body_holds_the_same_bytes_in_little_more_memory() {
        for len in [0, 100, PAGED_BYTES - 1, PAGED_BYTES, 100_000] {
            let bytes: Vec<_> = (0..len).map(|at| at as u8).collect();
            let mut buffer = Vec::with_capacity(1 << 20);
            buffer.extend_from_slice(&bytes);
            let mut body = Body::Buffer(buffer);
            let freed = body.park();
            assert_eq!(*body, bytes[..]);
            assert!(body.capacity() < len + PAGE_BYTES, "{} for {len}", body.capacity());
            assert_eq!(freed.map(|buffer| buffer.capacity()), (len >= PAGED_BYTES).then_some(1 << 20));
            assert_eq!(*body.buffer(), bytes);
        }
    }
}
