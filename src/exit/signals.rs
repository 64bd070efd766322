//! Signals that end a process, for who asks to have the client closed by them.

use std::{
    ffi::c_int,
    io, mem, ptr,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
    low_level::{emulate_default_handler, signal_name},
};

use super::Ending;
use crate::{
    fork,
    sync::{Runs, spawn},
};

/// A signal has come: the next one does what it does by default, at once.
static CAME: AtomicBool = AtomicBool::new(false);

/// Has `end` called on a thread of its own when SIGTERM or SIGINT comes, and lets the signal do afterwards what it
/// does by default. Signals that the program handles or ignores are left to it.
pub(crate) fn on_signals(end: fn(Ending<'_>)) -> io::Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // Who could not have it may ask again.
    install(end).inspect_err(|_| INSTALLED.store(false, Ordering::Relaxed))
}

fn install(end: fn(Ending<'_>)) -> io::Result<()> {
    let ours: Vec<_> = [SIGTERM, SIGINT].into_iter().filter(|signal| has_default_action(*signal)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    // The thread first: a handler without it would swallow the signals.
    let (hand_over, handed_over) = mpsc::channel::<Signals>();
    spawn("otlp-signals", Runs::OwnCode, move || {
        let Ok(mut signals) = handed_over.recv() else { return };
        for signal in signals.forever() {
            end(Ending::Signalled(signal_name(signal).unwrap_or("a signal")));
            let _ = emulate_default_handler(signal);
        }
    })?;
    let _ = hand_over.send(Signals::new(&ours)?);
    for signal in ours {
        // In the child of a fork there is no thread to hand the signal to.
        flag::register_conditional_default(signal, &fork::FORKED)?;
        flag::register_conditional_default(signal, &CAME)?;
        flag::register(signal, &CAME)?;
    }
    Ok(())
}

/// Whether nobody has said yet what the signal does.
fn has_default_action(signal: c_int) -> bool {
    // SAFETY: an all-zero `sigaction` is a valid value of that C struct.
    let mut current: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only asks; `current` is valid for the write.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &mut current) };
    asked == 0 && current.sa_sigaction == libc::SIG_DFL
}
