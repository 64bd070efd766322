//! Signals that end a process, for programs that ask to have the client closed by them.
//!
//! A handler may do next to nothing, so a thread waits for the signals and closes the client. Only the signal itself
//! connects them: the thread that receives it passes it on to ours. There is no pipe or other descriptor, so a program
//! that closes all files breaks nothing.

use std::{
    ffi::{c_int, c_void},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    process, ptr,
    sync::{
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal, raise},
};

use super::Ending;
use crate::{
    fork,
    sync::{Runs, keep_loaded, spawn},
};

/// The signals that ask a process to end. SIGQUIT is not among them: it asks for a core dump of the current state.
const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// How long the thread is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of the signal that came; 0 before.
static CAME: AtomicI32 = AtomicI32::new(0);
/// Whether the signal was passed on to the thread, which has not seen it yet.
static PASSED_ON: AtomicBool = AtomicBool::new(false);
/// The waiting thread, as a `pthread_t`.
static THREAD: AtomicUsize = AtomicUsize::new(0);
/// The fork generation in which the thread was started.
static INSTALLED_IN: AtomicU32 = AtomicU32::new(fork::NEVER);
/// The id of the process in which the thread runs.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Has `end` called on a thread of its own when SIGTERM, SIGINT or SIGHUP comes; afterwards the signal has its default
/// effect. Signals that the program handles, ignores or blocks are left to it.
pub(crate) fn on_signals(end: fn(Ending<'_>)) -> io::Result<()> {
    let here = fork::generation();
    if INSTALLED_IN.swap(here, Ordering::SeqCst) == here {
        return Ok(());
    }
    // If it failed, or all signals were left to the program, it may be asked again.
    let installed = install(end);
    if !matches!(installed, Ok(true)) {
        INSTALLED_IN.store(fork::NEVER, Ordering::SeqCst);
    }
    installed.map(drop)
}

/// Installs the handlers; false if all signals are left to the program.
fn install(end: fn(Ending<'_>)) -> io::Result<bool> {
    let blocked = SigSet::thread_get_mask()?;
    // In the child of a fork our handler is still installed, on behalf of the parent.
    let ours = handler as *const () as libc::sighandler_t;
    let is_nobodys =
        |signal: &Signal| [libc::SIG_DFL, ours].contains(&action_of(*signal)) && !blocked.contains(*signal);
    let ours: SigSet = SIGNALS.into_iter().filter(is_nobodys).collect();
    if ours.iter().next().is_none() {
        return Ok(false);
    }
    CAME.store(0, Ordering::SeqCst);
    PASSED_ON.store(false, Ordering::SeqCst);
    keep_loaded();
    // The thread first: a handler without it would swallow the signals.
    let start = || {
        let (tell, told) = mpsc::channel();
        let waited_for = ours;
        spawn("otlp-signals", Runs::OwnCode, move || {
            if tell.send(this_thread()).is_ok() {
                wait(&waited_for, end);
            }
        })?;
        told.recv_timeout(PATIENCE).map_err(io::Error::other)
    };
    // Where one never begins, the next is started in another way.
    let thread = start().or_else(|_| start())?;
    THREAD.store(thread, Ordering::SeqCst);
    PROCESS.store(process::id(), Ordering::SeqCst);
    ours.iter().try_for_each(|signal| set_action(signal, handler as *const () as libc::sighandler_t))?;
    Ok(true)
}

/// Waits for one of `signals`, has the client closed, and gives the signal its default effect.
fn wait(signals: &SigSet, end: fn(Ending<'_>)) {
    let mut others = SigSet::all();
    signals.iter().for_each(|signal| others.remove(signal));
    while CAME.load(Ordering::SeqCst) == 0 {
        // The signals are delivered to this thread too, which may be the last one of the process.
        let _ = others.suspend();
    }
    // From here on each of the signals ends the process at once, on any thread.
    let _ = signals.thread_unblock();
    if let Ok(signal) = Signal::try_from(CAME.load(Ordering::SeqCst)) {
        let _ = catch_unwind(AssertUnwindSafe(|| end(Ending::Signalled(signal.as_str()))));
        end_by(signal);
    }
}

/// Runs on any thread the kernel chooses, at any point: it only touches atomics, and calls what POSIX lists as safe
/// there.
extern "C" fn handler(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    let before = Errno::last_raw();
    if let Ok(signal) = Signal::try_from(signal) {
        take(signal);
    }
    // The interrupted code must find `errno` unchanged.
    Errno::set_raw(before);
}

fn take(signal: Signal) {
    if action_of(signal) != handler as *const () as libc::sighandler_t {
        // A handler that was installed later calls this one: the signal is the program's now.
        return;
    }
    // The child of a fork has no thread to pass it on to, and has not asked for the handler.
    if INSTALLED_IN.load(Ordering::SeqCst) != fork::generation() || PROCESS.load(Ordering::SeqCst) != process::id() {
        do_default(signal);
        return;
    }
    let thread = THREAD.load(Ordering::SeqCst);
    let is_here = thread == this_thread();
    if is_here && PASSED_ON.swap(false, Ordering::SeqCst) {
        return;
    }
    let is_first = CAME.compare_exchange(0, signal as c_int, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if !is_first {
        end_by(signal);
    } else if !is_here {
        PASSED_ON.store(true, Ordering::SeqCst);
        // SAFETY: the thread exists: it waits until a signal comes, and then ends with the process.
        unsafe { libc::pthread_kill(thread as libc::pthread_t, signal as c_int) };
    }
}

/// Ends the process by the signal's default action. That has no effect if the process is the first of its namespace:
/// the kernel discards signals that such a process has no handler for. A program that asks for the signal to be handled
/// wants to be ended by it, so such a process exits, with the status that shells show for the signal.
fn end_by(signal: Signal) {
    do_default(signal);
    // SAFETY: takes a number, and does not return. A process that is ended by a signal runs no exit handlers either.
    unsafe { libc::_exit(128 + signal as c_int) };
}

/// Raises `signal` on this thread, with its default action.
fn do_default(signal: Signal) {
    let _ = set_action(signal, libc::SIG_DFL);
    let mut alone = SigSet::empty();
    alone.add(signal);
    let _ = alone.thread_unblock();
    let _ = raise(signal);
}

fn action_of(signal: Signal) -> libc::sighandler_t {
    // SAFETY: an all-zero `sigaction` is a valid value of that C struct.
    let mut current: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only asks; `current` is valid for the write.
    let asked = unsafe { libc::sigaction(signal as c_int, ptr::null(), &mut current) };
    if asked == 0 { current.sa_sigaction } else { libc::SIG_ERR }
}

fn set_action(signal: Signal, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value of that C struct.
    let mut wanted: libc::sigaction = unsafe { mem::zeroed() };
    wanted.sa_sigaction = action;
    if action != libc::SIG_DFL {
        // On the thread's alternate signal stack, if it has one: some programs demand that of every handler.
        wanted.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    }
    // SAFETY: `wanted` is valid; its action is the default one, or the handler above, which does what a handler may and
    // stays in memory.
    let set = unsafe { libc::sigaction(signal as c_int, &wanted, ptr::null_mut()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The calling thread, as a `pthread_t`.
fn this_thread() -> usize {
    // SAFETY: takes nothing, and always succeeds.
    (unsafe { libc::pthread_self() }) as usize
}
