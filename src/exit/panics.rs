//! Panics that end a process, for programs that ask to flush the client then.

use std::{
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use super::Ending;
use crate::sync::{is_own_thread, keep_loaded};

/// The standard library's messages when it is about to abort instead of unwinding.
const NOT_UNWOUND: [&str; 2] = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

/// Has every panic call `flush`, after the current hook, with the way the process ends if the panic is not unwound.
/// Threads that only run code of this crate are left out: they would wait for themselves.
pub(crate) fn on_panic(flush: fn(Option<Ending<'_>>)) {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    keep_loaded();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        if is_own_thread() {
            return;
        }
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let message = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)");
        let ends = cfg!(panic = "abort") || NOT_UNWOUND.contains(&message);
        flush(ends.then_some(Ending::Panicked(message)));
    }));
}
