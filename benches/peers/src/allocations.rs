//! What the calling thread allocates. A count costs one instruction on the thread's own memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::Sub,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static REALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// What a thread allocated since it began.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// Calls of `malloc` and `calloc`.
    pub allocations: u64,
    /// Calls of `realloc`: a buffer that grows.
    pub reallocations: u64,
}

impl Count {
    /// What this thread allocated so far.
    pub fn now() -> Self {
        Self { allocations: ALLOCATIONS.get(), reallocations: REALLOCATIONS.get() }
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations - earlier.allocations,
            reallocations: self.reallocations - earlier.reallocations,
        }
    }
}

/// The system's allocator, counting.
pub struct Counting;

// SAFETY: everything is handed to the system's allocator as it came; the counters are constant-initialised thread
// locals without destructor, whose use never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        REALLOCATIONS.set(REALLOCATIONS.get() + 1);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}
