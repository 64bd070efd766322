//! Which process this is: a number that every `fork` advances in the child.
//!
//! What threads shared before a fork is of no use to the child: the other threads are gone, and a lock that one of
//! them held is held for ever. So everything that belongs to a client remembers the generation it was made in, and
//! is left alone in any other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[cfg(unix)]
use crate::sync::forked;
use crate::sync::keep_loaded;

/// Whether this process is the child of such a fork.
pub(crate) static FORKED: AtomicBool = AtomicBool::new(false);

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// No generation: a process forks fewer times before its children do.
pub(crate) const NEVER: u32 = u32::MAX;

/// The number of this process; 0 where [`watch`] was never called.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has forks noticed from now on. A child made by a bare `clone` system call is not.
pub(crate) fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Ordering::Relaxed) {
        keep_loaded();
        register();
    }
}

#[cfg(unix)]
fn register() {
    // SAFETY: the handler is a function of this crate that takes nothing, only touches atomics, and never unwinds.
    // Registering can fail for want of memory; forks then go unnoticed, as without it.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(unix)]
unsafe extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    FORKED.store(true, Ordering::Relaxed);
    forked();
}

/// Elsewhere there is no fork.
#[cfg(not(unix))]
fn register() {}
