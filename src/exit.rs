//! The end of a process and what happens then: the handler that runs when `process::exit` is called or `main` returns,
//! the signals and panics that end a process, and the span that covers all of it.

use std::{
    panic::catch_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

mod panics;
mod process_span;
#[cfg(unix)]
mod signals;

pub(crate) use panics::on_panic;
pub use process_span::ProcessSpan;
#[cfg(unix)]
pub(crate) use signals::on_signals;

use crate::sync::{exiting, keep_loaded};

/// How the process ends, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending<'a> {
    /// The guard was dropped; what follows is unknown.
    Returned,
    /// The guard was dropped by a panic.
    Unwound,
    /// By an exit, with the exit code if the platform tells it.
    Exited(Option<i32>),
    /// By a signal of this name.
    #[cfg_attr(not(unix), expect(dead_code))]
    Signalled(&'a str),
    /// By a panic with this message, which nothing will unwind.
    Panicked(&'a str),
}

/// What to do when the process exits.
static AT_EXIT: OnceLock<fn(Ending<'_>)> = OnceLock::new();

/// Has `end` called once, when the process exits. It runs after the destructors of the exiting thread's thread-locals,
/// on that thread; a panic in it is caught, since it must not unwind into the C library.
pub(crate) fn at_exit(end: fn(Ending<'_>)) {
    if AT_EXIT.set(end).is_ok() {
        keep_loaded();
        register();
    }
}

fn run(code: Option<i32>) {
    static RUN: AtomicBool = AtomicBool::new(false);
    if !RUN.swap(true, Ordering::Relaxed)
        && let Some(end) = AT_EXIT.get()
    {
        exiting();
        let _ = catch_unwind(|| end(Ending::Exited(code)));
    }
}

/// Only glibc passes the exit code to its handlers.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }

    extern "C" fn handler(status: c_int, _: *mut c_void) {
        // The part of the status that a parent process sees.
        run(Some(status & 0xff));
    }

    // SAFETY: declared as in glibc's stdlib.h. The handler is a function of this crate that ignores its pointer and
    // never unwinds. Registering can fail for lack of memory, which only loses the handler.
    unsafe { on_exit(handler, std::ptr::null_mut()) };
}

#[cfg(all(unix, not(all(target_os = "linux", target_env = "gnu"))))]
fn register() {
    extern "C" fn handler() {
        run(None);
    }

    // SAFETY: the handler is a function of this crate that takes nothing and never unwinds. Registering can fail for
    // lack of memory, which only loses the handler.
    unsafe { libc::atexit(handler) };
}

/// On other platforms, only dropping the guard closes the client.
#[cfg(not(unix))]
fn register() {}
