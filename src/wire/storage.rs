//! The memory of a buffer: the allocator's while it is small, pages of the operating system when it is large.
//!
//! Pages go back to the system as soon as they are freed. What an allocator keeps of large blocks for the thread that
//! freed them is lost to everybody else, and would be memory beyond what is accounted for.
//!
//! Invariant the `unsafe` blocks rely on:
//! - **O** `bytes` is what `pages` map, or if there are none a leaked box. They are initialised, and nobody else has a
//!   pointer to them; neither moves when this does.

use std::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use memmap2::MmapMut;

/// Bytes from which on it is pages.
const PAGED_BYTES: usize = 32 * 1024;

pub(super) struct Storage {
    bytes: NonNull<[u8]>,
    pages: Option<MmapMut>,
}

// SAFETY: it owns its bytes (O), as a box does.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    /// `len` bytes that are all zero; none if the system gives no memory for them.
    pub(super) fn try_zeroed(len: usize) -> Option<Self> {
        if len >= PAGED_BYTES {
            let mut pages = MmapMut::map_anon(len).ok()?;
            return Some(Self { bytes: NonNull::from(&mut pages[..]), pages: Some(pages) });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        Some(Self::boxed(bytes.into_boxed_slice()))
    }

    /// As `try_zeroed`, where the allocator decides what becomes of the process if there is no memory.
    pub(super) fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len).unwrap_or_else(|| Self::boxed(vec![0; len].into_boxed_slice()))
    }

    fn boxed(bytes: Box<[u8]>) -> Self {
        Self { bytes: NonNull::from(Box::leak(bytes)), pages: None }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::boxed(Box::default())
    }
}

impl Deref for Storage {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: O, and `self` is borrowed for as long.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for Storage {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: O, and `self` is borrowed for as long, by nobody else.
        unsafe { self.bytes.as_mut() }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.pages.is_none() {
            // SAFETY: a leaked box then (O), and nobody uses it afterwards.
            drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_wherever_it_lies_and_wherever_it_is_moved() {
        for len in [0, 1, 1024, PAGED_BYTES - 1, PAGED_BYTES, 100_000] {
            let mut storage = Storage::try_zeroed(len).unwrap();
            assert_eq!((storage.len(), storage.iter().all(|byte| *byte == 0)), (len, true));
            assert_eq!(storage.pages.is_some(), len >= PAGED_BYTES);
            storage.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
            let moved = std::thread::spawn(move || Box::new(storage)).join().unwrap();
            assert!(moved.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        }
        assert!(Storage::try_zeroed(isize::MAX as usize).is_none());
    }
}
