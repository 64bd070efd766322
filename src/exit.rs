//! How a process ends: the handler that closes the process-wide client when `process::exit` is called, or
//! when `main` returns without having dropped the guard.

use std::{
    panic::catch_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// What to do at exit.
static AT_EXIT: OnceLock<fn()> = OnceLock::new();

/// The process that registered the handler: a child that was forked from it has nothing of its own to send.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Has `close` called when the process exits, once. It runs after the destructors of the exiting thread's
/// thread-locals, on that thread; a panic in it is caught, since it must not unwind into the C library.
pub(crate) fn at_exit(close: fn()) {
    if AT_EXIT.set(close).is_ok() {
        OWNER.store(std::process::id(), Ordering::Relaxed);
        register();
    }
}

#[cfg(unix)]
fn register() {
    // SAFETY: the handler is a function of this crate that takes nothing and never unwinds. Registering can fail
    // for want of memory, which loses the handler and nothing else.
    unsafe { libc::atexit(run) };
}

/// Elsewhere dropping the guard is what closes the client.
#[cfg(not(unix))]
fn register() {}

extern "C" fn run() {
    if OWNER.load(Ordering::Relaxed) == std::process::id()
        && let Some(close) = AT_EXIT.get()
    {
        let _ = catch_unwind(close);
    }
}
