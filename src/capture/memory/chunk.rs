//! The memory of a ring: chunks that are filled from both ends, counted references to them, and the slices
//! that are cut from them.
//!
//! Invariants the `unsafe` blocks rely on:
//! - **P** Only the one producer of a ring writes to its tail chunk, at offsets that `published` does not
//!   cover yet; `published` only grows, with release ordering after the bytes it covers, but for a
//!   [rewind](Chunk::rewind).
//! - **C** Bytes below `published` (loaded with acquire ordering) are never written again while any
//!   [`ChunkRef`] to their chunk exists but the chain's, which is only read through under the consumer's claim.

use std::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
    sync::Weak,
};

use memmap2::{MmapMut, MmapOptions};

use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

/// Bytes of an index entry: where the record ends and which scope it belongs to.
pub(in crate::capture) const ENTRY_BYTES: usize = 8;

/// Where the memory of chunks is accounted for, and where they go back to.
pub(super) trait Home: Send + Sync {
    /// Whether a chunk of this many bytes is kept for another use.
    fn recycles_chunk(&self, capacity: usize) -> bool;

    /// Takes a chunk back, to be kept or freed.
    fn take_back(&self, chunk: ChunkRef);

    /// Notes that the memory of a chunk of `capacity` bytes is gone.
    fn freed(&self, capacity: usize);
}

/// Home of the chunk of no bytes.
enum Nowhere {}

impl Home for Nowhere {
    fn recycles_chunk(&self, _: usize) -> bool {
        false
    }

    fn take_back(&self, _: ChunkRef) {}

    fn freed(&self, _: usize) {}
}

/// What a batch still has room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) records: u32,
    pub(crate) bytes: usize,
}

/// A fixed piece of record memory.
pub(in crate::capture) struct Chunk {
    /// References: the chain's own and one for each detached slice.
    refs: AtomicUsize,
    /// Records readable. Written by the producer, with release ordering.
    published: AtomicU32,
    /// The chunk after this one; set once, by the producer, when this one is full. Owns a reference.
    next: AtomicPtr<Chunk>,
    memory: NonNull<u8>,
    /// What `memory` points into. Pages of the operating system, which gets them back at once when the chunk is
    /// freed: what an allocator keeps for itself is lost to bodies, and both together would exceed the bound.
    pages: Option<MmapMut>,
    /// Bytes of `memory`; a multiple of 8, or 0 for the chunk a ring starts with.
    capacity: usize,
    /// Where the memory is accounted for, and goes back to.
    home: Weak<dyn Home>,
    #[cfg(loom)]
    shadow: shadow::Shadow,
}

// SAFETY: `memory` is owned by the chunk; P and C order every access to it.
unsafe impl Send for Chunk {}
// SAFETY: `memory` is owned by the chunk, and P and C order every access to it; everything else in a chunk is atomic or
// never changes while it is shared.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Makes a chunk of `capacity` bytes (rounded up to a multiple of 8); the caller has accounted for them. With
    /// `is_touched` its pages are there at once, where the system can do that, and not one by one as they are written.
    pub(super) fn allocate(capacity: usize, is_touched: bool, home: Weak<dyn Home>) -> Option<ChunkRef> {
        let capacity = capacity.next_multiple_of(ENTRY_BYTES);
        let mut options = MmapOptions::new();
        if is_touched {
            options.populate();
        }
        let mut pages = if capacity == 0 { None } else { Some(options.len(capacity).map_anon().ok()?) };
        let memory = match &mut pages {
            Some(pages) => NonNull::new(pages.as_mut_ptr())?,
            None => NonNull::dangling(),
        };
        let chunk = Box::new(Self {
            refs: AtomicUsize::new(1),
            published: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            memory,
            pages,
            capacity,
            home,
            #[cfg(loom)]
            shadow: shadow::Shadow::new(capacity),
        });
        Some(ChunkRef(NonNull::from(Box::leak(chunk))))
    }

    /// The chunk of no bytes that a ring begins with.
    pub(in crate::capture) fn empty() -> ChunkRef {
        let nowhere: Weak<Nowhere> = Weak::new();
        Self::allocate(0, false, nowhere).expect("a chunk of no bytes allocates no record memory")
    }

    /// Bytes of record memory.
    pub(in crate::capture) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many records are readable; they stay so.
    pub(in crate::capture) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// Writes a record at offset `at` and its entry at offset `entry`, unseen by the consumer until it is published.
    ///
    /// # Safety
    /// The caller is the ring's producer, and the entry is that of the first unpublished record (P): it lies right
    /// before those written so far, and the bytes of the record between the records and it.
    #[inline]
    pub(in crate::capture) unsafe fn write(&self, at: usize, entry: usize, scope: u32, bytes: &[u8]) {
        #[cfg(loom)]
        self.shadow.write(at, bytes.len());
        #[cfg(loom)]
        self.shadow.write(entry, ENTRY_BYTES);
        let end = at + bytes.len();
        // SAFETY: inside the memory by the caller's promise, the entry at a multiple of 8; no thread reads here before
        // it is published.
        unsafe {
            self.memory.as_ptr().add(entry).cast::<u64>().write(end as u64 | u64::from(scope) << 32);
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_ptr().add(at), bytes.len());
        }
    }

    /// Makes the records up to number `records` readable. Only the producer calls it.
    #[inline]
    pub(in crate::capture) fn publish(&self, records: u32) {
        self.published.store(records, Ordering::Release);
    }

    /// Whether the chain's is the only reference. The caller holds the consumer's claim, without which there is no
    /// way to another one; what others read through theirs has happened before.
    pub(in crate::capture) fn is_only_chained(&self) -> bool {
        self.refs.load(Ordering::Acquire) == 1
    }

    /// Forgets what is in it. The caller is the ring's producer, holds the consumer's claim and has seen that the
    /// chain's reference is the only one, so what is written from now on is not read until it is published.
    pub(in crate::capture) fn rewind(&self) {
        self.published.store(0, Ordering::Relaxed);
        #[cfg(loom)]
        self.shadow.write(0, self.capacity);
    }

    /// Links the chunk after `chunk`.
    ///
    /// # Safety
    /// The caller is the ring's producer, does this once for each chunk, and never touches `chunk` again. It
    /// is a pointer because no reference may be around for longer than the store: the consumer may free the
    /// chunk at once.
    pub(in crate::capture) unsafe fn set_next(chunk: NonNull<Self>, next: ChunkRef) {
        // SAFETY: the chunk is alive until its `next` is set.
        let link = unsafe { &(*chunk.as_ptr()).next };
        link.store(next.into_raw(), Ordering::Release);
    }

    /// Whether this chunk is full and another follows; then `published` is final.
    pub(in crate::capture) fn has_next(&self) -> bool {
        !self.next.load(Ordering::Acquire).is_null()
    }

    /// Another reference to the chunk after this one. The caller holds the consumer's claim, so that the
    /// chain's own reference stays.
    pub(in crate::capture) fn next(&self) -> Option<ChunkRef> {
        let next = NonNull::new(self.next.load(Ordering::Acquire))?;
        // Not ours: the chain's reference is copied and left where it is.
        let chained = ManuallyDrop::new(ChunkRef(next));
        Some(ChunkRef::clone(&chained))
    }

    /// Takes the chain's reference to the chunk after this one.
    pub(in crate::capture) fn take_next(&self) -> Option<ChunkRef> {
        NonNull::new(self.next.swap(ptr::null_mut(), Ordering::Acquire)).map(ChunkRef)
    }

    fn entry(&self, record: u32) -> *const u64 {
        let offset = self.capacity - ENTRY_BYTES * (record as usize + 1);
        // The capacity and so the offset are multiples of 8, and the memory is aligned to 8.
        self.memory.as_ptr().wrapping_add(offset).cast()
    }

    /// Where a published record ends, and its scope.
    fn read_entry(&self, record: u32) -> (usize, u32) {
        #[cfg(loom)]
        self.shadow.read(self.capacity - ENTRY_BYTES * (record as usize + 1), ENTRY_BYTES);
        // SAFETY: the caller saw `record < published`, so the entry is written and stays (C).
        let entry = unsafe { self.entry(record).read() };
        (entry as u32 as usize, (entry >> 32) as u32)
    }

    /// Where a published record begins: where the one before it ends.
    fn start_of(&self, record: u32) -> usize {
        record.checked_sub(1).map_or(0, |before| self.read_entry(before).0)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        #[cfg(loom)]
        self.shadow.write(0, self.capacity);
        // The memory first: what is accounted for as free is.
        if self.pages.take().is_some()
            && let Some(home) = self.home.upgrade()
        {
            home.freed(self.capacity);
        }
    }
}

/// A counted reference to a chunk. The last one gives the chunk back to its budget.
pub(in crate::capture) struct ChunkRef(NonNull<Chunk>);

// SAFETY: a reference count of an object that is Send and Sync.
unsafe impl Send for ChunkRef {}
// SAFETY: a reference count of an object that is Send and Sync.
unsafe impl Sync for ChunkRef {}

impl Deref for ChunkRef {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        // SAFETY: the count is at least 1 as long as this reference exists.
        unsafe { self.0.as_ref() }
    }
}

impl ChunkRef {
    /// The chunk's address, for a caller that knows the chunk stays alive.
    pub(in crate::capture) fn as_ptr(&self) -> NonNull<Chunk> {
        self.0
    }

    /// Frees the memory instead of recycling it. The caller must be the last owner, as the budget is of its
    /// idle chunks; otherwise the chunk lives on with the others.
    pub(in crate::capture) fn free(self) {
        let chunk = self.0;
        std::mem::forget(self);
        // SAFETY: the reference was ours and is given up here.
        unsafe { release(chunk, false) };
    }

    fn into_raw(self) -> *mut Chunk {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Clone for ChunkRef {
    fn clone(&self) -> Self {
        self.refs.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for ChunkRef {
    fn drop(&mut self) {
        // SAFETY: this reference is counted and ends here.
        unsafe { release(self.0, true) };
    }
}

/// Gives up one reference. The last one recycles the chunk (or frees it) and the chain behind it.
///
/// # Safety
/// The caller owns the reference and does not use it again.
unsafe fn release(chunk: NonNull<Chunk>, recycle: bool) {
    let mut last = Some(chunk);
    // A loop instead of recursion: a chain can be thousands of chunks long.
    while let Some(chunk) = last.take() {
        // SAFETY: we own a reference.
        let shared = unsafe { chunk.as_ref() };
        // Release: what was read through this reference happens before the memory is reused. Acquire (the fence): reuse
        // happens after every other release.
        if shared.refs.fetch_sub(1, Ordering::Release) != 1 {
            break;
        }
        fence(Ordering::Acquire);
        let next = shared.next.swap(ptr::null_mut(), Ordering::Relaxed);
        let home = if recycle { shared.home.upgrade() } else { None };
        match home {
            Some(home) if home.recycles_chunk(shared.capacity) => {
                shared.published.store(0, Ordering::Relaxed);
                shared.refs.store(1, Ordering::Relaxed);
                #[cfg(loom)]
                shared.shadow.write(0, shared.capacity);
                home.take_back(ChunkRef(chunk));
            }
            // SAFETY: the count reached 0, and the chunk was leaked from a box.
            _ => drop(unsafe { Box::from_raw(chunk.as_ptr()) }),
        }
        last = NonNull::new(next);
    }
}

/// Consecutive records of one chunk, detached from their ring. They stay readable until it is dropped.
pub(crate) struct Slice {
    chunk: ChunkRef,
    first: u32,
    pub(in crate::capture) last: u32,
    start: usize,
    end: usize,
}

impl Slice {
    /// The longest run of records `first..published` within `limit`; at least one if `must`.
    pub(in crate::capture) fn cut(
        chunk: &ChunkRef,
        first: u32,
        published: u32,
        limit: Limit,
        must: bool,
    ) -> Option<Self> {
        let start = chunk.start_of(first);
        let mut last = published.min(first.saturating_add(limit.records));
        if chunk.read_entry(last - 1).0 - start > limit.bytes {
            // Ends grow with the record, so the cut is found by bisection.
            let (mut fits, mut over) = (first, last);
            while over - fits > 1 {
                let middle = fits + (over - fits) / 2;
                if chunk.read_entry(middle - 1).0 - start > limit.bytes {
                    over = middle;
                } else {
                    fits = middle;
                }
            }
            last = if fits == first && must { first + 1 } else { fits };
        }
        (last > first).then(|| Self { chunk: chunk.clone(), first, last, start, end: chunk.read_entry(last - 1).0 })
    }

    /// How many records it holds.
    pub(crate) fn records(&self) -> u32 {
        self.last - self.first
    }

    /// How many bytes its records take.
    pub(crate) fn bytes(&self) -> usize {
        self.end - self.start
    }

    /// Its records as runs of one scope each: (scope, bytes of the run).
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let chunk = &*self.chunk;
        let (mut record, mut start) = (self.first, self.start);
        std::iter::from_fn(move || {
            if record == self.last {
                return None;
            }
            let from = start;
            let scope = chunk.read_entry(record).1;
            while record < self.last {
                let (end, of) = chunk.read_entry(record);
                if of != scope {
                    break;
                }
                start = end;
                record += 1;
            }
            Some((scope, self.read(from, start)))
        })
    }

    fn read(&self, from: usize, to: usize) -> &[u8] {
        let chunk = &*self.chunk;
        #[cfg(loom)]
        chunk.shadow.read(from, to - from);
        // SAFETY: the bytes belong to published records, which stay as they are while `chunk` lives (C).
        unsafe { std::slice::from_raw_parts(chunk.memory.as_ptr().add(from), to - from) }
    }
}

/// Stands in for the chunk's bytes under loom, which then reports every access that is not ordered.
#[cfg(loom)]
mod shadow {
    use loom::cell::UnsafeCell;

    pub(super) struct Shadow(Box<[UnsafeCell<()>]>);

    impl Shadow {
        pub(super) fn new(bytes: usize) -> Self {
            Self((0..bytes).map(|_| UnsafeCell::new(())).collect())
        }

        pub(super) fn read(&self, from: usize, len: usize) {
            self.0[from..from + len].iter().for_each(|cell| cell.with(|_| ()));
        }

        pub(super) fn write(&self, from: usize, len: usize) {
            self.0[from..from + len].iter().for_each(|cell| cell.with_mut(|_| ()));
        }
    }
}
