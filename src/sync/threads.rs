//! The threads of this crate: the one way to start one, and when they are all that is left of a process.

use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    thread,
    time::Duration,
};

#[cfg(unix)]
use super::bare;
use super::image;

/// A thread's stack, and what the standard library and the allocator set up for it, with as much to spare as others
/// may take meanwhile.
const THREAD_BYTES: usize = 5 * 1024 * 1024;

/// What all their names begin with.
const PREFIX: &str = "otlp-";

thread_local! {
    /// The thread is one of these, and runs no code that the program plugged in.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// The handlers that run when a process exits have begun to.
static EXITING: AtomicBool = AtomicBool::new(false);

/// How long a thread that was started is waited for by who needs it. It begins within some ten microseconds; on a busy
/// machine that takes its time, and where a lock of the standard library is held for ever it never does.
pub(crate) const BEGIN_GRACE: Duration = Duration::from_millis(20);

/// This process is the child of a fork, where the standard library may start no thread.
static IS_FORKED: AtomicBool = AtomicBool::new(false);

/// Threads that the standard library was to start, and that have not begun; and when it was last asked for one, in
/// milliseconds of the monotonic clock. Once that is the grace ago, it starts none.
static AWAITED: AtomicU32 = AtomicU32::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);

/// What a thread runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// Code of this crate alone.
    OwnCode,
    /// What the program plugged in, too.
    Plugins,
}

/// Starts a thread with all signals blocked, so that handlers of the host stay on the host's threads. Its name begins
/// with "otlp-". Fails where the system gives no thread, or not the memory that one takes.
pub(crate) fn spawn(name: &str, runs: Runs, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    debug_assert!(name.starts_with(PREFIX), "{name}");
    can_start_thread()?;
    // It needs its code, whatever the host closes meanwhile.
    image::keep();
    let run = move || {
        // However it ends.
        let _ends = End;
        IS_OWN.set(runs == Runs::OwnCode);
        run();
        IS_OWN.set(false);
    };
    with_signals_blocked(|| start(name, run))
}

/// Has it started by the standard library, which names it and tells of an overflow of its stack, unless that gets
/// nowhere in this process.
fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(unix)]
    if IS_FORKED.load(Ordering::Relaxed) || are_held_up() {
        return bare::spawn(name, run);
    }
    AWAITED.fetch_add(1, Ordering::Relaxed);
    ASKED.store(milliseconds(), Ordering::Relaxed);
    let run = || {
        AWAITED.fetch_sub(1, Ordering::Relaxed);
        run();
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(run).map(drop);
    if started.is_err() {
        AWAITED.fetch_sub(1, Ordering::Relaxed);
    }
    started
}

/// Whether the threads that the standard library was to start do not begin. In a process that was forked before
/// anybody watched for it, nothing else tells.
pub(crate) fn are_held_up() -> bool {
    let since = || Duration::from_millis(milliseconds().saturating_sub(ASKED.load(Ordering::Relaxed)));
    AWAITED.load(Ordering::Relaxed) > 0 && since() >= BEGIN_GRACE
}

#[cfg(unix)]
fn milliseconds() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_millis() as u64)
}

/// Elsewhere there is no fork, and what was asked for begins.
#[cfg(not(unix))]
fn milliseconds() -> u64 {
    0
}

/// This is the child of a fork from now on. Called in the midst of it: touches an atomic and nothing else.
#[cfg(unix)]
pub(crate) fn forked() {
    IS_FORKED.store(true, Ordering::Relaxed);
}

/// Whether the system gives what a thread of ours takes. The standard library aborts the process where a thread has
/// its stack and not the rest.
fn can_start_thread() -> io::Result<()> {
    // As a stack is. An allocator may keep what it is given back.
    memmap2::MmapMut::map_anon(THREAD_BYTES).map(drop)
}

/// Whether the calling thread is one of these, and runs code of this crate alone.
pub(crate) fn is_own_thread() -> bool {
    IS_OWN.try_with(Cell::get).unwrap_or(false)
}

/// Has no thread end from now on: the process exits as soon as its handlers have run. They may run because the last
/// thread that the process had has ended. For glibc a thread that is started after that, and ends, is the last one
/// again: it would exit once more, and not wait for the handlers that still run.
pub(crate) fn exiting() {
    EXITING.store(true, Ordering::SeqCst);
}

/// The end of a thread.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        while EXITING.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Whether the process has no thread left but those of this crate, so that nobody is there any more whom they would
/// serve. Reads files: for threads that have nothing to do.
#[cfg(target_os = "linux")]
pub(crate) fn are_alone() -> bool {
    use std::{ffi::OsStr, fs};

    // What this file says of a process is what is true of its main thread, whose number is that of the process. Where
    // it has not ended, which is nearly always, that is all there is to know.
    let Ok(main) = fs::read_to_string("/proc/self/stat") else { return false };
    let (Some((number, _)), Some((_, state))) = (main.split_once(' '), main.rsplit_once(") ")) else { return false };
    if !state.starts_with('Z') {
        return false;
    }
    let Ok(mut tasks) = fs::read_dir("/proc/self/task") else { return false };
    tasks.all(|task| {
        let Ok(task) = task else { return false };
        let name = || fs::read_to_string(task.path().join("comm"));
        // By its name, so that two libraries of a process that both bring this crate know each other's.
        task.file_name() == OsStr::new(number) || name().is_ok_and(|name| name.starts_with(PREFIX))
    })
}

/// Nobody tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn are_alone() -> bool {
    false
}

/// It inherits the mask of the one that starts it.
fn with_signals_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, SigmaskHow};
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let result = spawn();
        if let Ok(before) = before {
            let _ = before.thread_set_mask();
        }
        result
    }
    #[cfg(not(unix))]
    spawn()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_knows_whether_it_runs_what_was_plugged_in() {
        for (runs, is_own) in [(Runs::OwnCode, true), (Runs::Plugins, false)] {
            let (tell, told) = mpsc::channel();
            spawn("otlp-test", runs, move || tell.send(is_own_thread()).unwrap()).unwrap();
            assert_eq!(told.recv(), Ok(is_own));
        }
        assert!(!is_own_thread());
    }

    #[test]
    fn a_program_whose_main_thread_lives_is_not_left_alone() {
        assert!(!are_alone());
    }
}
