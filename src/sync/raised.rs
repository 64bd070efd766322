//! Writing without a signal that would end or stop the program: what a write of ours raises is taken back.

use std::mem::MaybeUninit;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// What a write may raise: nobody reads any more, the file would exceed RLIMIT_FSIZE, the terminal stops who writes to
/// it from the background. The first two go to the thread that writes; the last is not raised where it is blocked.
const RAISED: [Signal; 3] = [Signal::SIGPIPE, Signal::SIGXFSZ, Signal::SIGTTOU];

/// Calls `write` so that no signal which this raises reaches the program, whatever it has these signals do: the write
/// fails instead, or in the case of the terminal succeeds. What was pending before stays pending.
pub(crate) fn with_write_signals_held<R>(write: impl FnOnce() -> R) -> R {
    let _held = Held::new();
    write()
}

/// These signals are blocked on this thread as long as this lives.
struct Held {
    /// What was blocked before; none if nothing could be blocked.
    before: Option<SigSet>,
    /// What somebody else had raised.
    pending: SigSet,
}

impl Held {
    fn new() -> Self {
        let before = SigSet::from_iter(RAISED).thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        Self { before, pending: pending() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        let pending = pending();
        let ours = RAISED.into_iter().filter(|signal| pending.contains(*signal) && !self.pending.contains(*signal));
        ours.for_each(take_back);
        let _ = before.thread_set_mask();
    }
}

/// The signals that have come and wait for being unblocked.
fn pending() -> SigSet {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: `pending` is valid for the write, and initialised by the C library where that answers 0.
    unsafe {
        if libc::sigpending(pending.as_mut_ptr()) != 0 {
            return SigSet::empty();
        }
        SigSet::from_sigset_t_unchecked(pending.assume_init())
    }
}

/// Takes a pending signal away, before it does what it is for.
#[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
fn take_back(signal: Signal) {
    let set = SigSet::from(signal);
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointers are valid for the call, or null, which asks for no details. It does not wait.
    unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &at_once) };
}

/// The same where no wait has a timeout. It is pending, and for this thread, so that it does not wait.
#[cfg(any(target_vendor = "apple", target_os = "openbsd"))]
fn take_back(signal: Signal) {
    let _ = SigSet::from(signal).wait();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    // SIGXFSZ ends this process wherever it is not held.

    #[test]
    fn what_a_write_raises_is_gone_afterwards_and_so_is_the_block() {
        let before = SigSet::thread_get_mask().unwrap();
        with_write_signals_held(|| raise(Signal::SIGXFSZ).unwrap());
        assert!(!pending().contains(Signal::SIGXFSZ));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        // Also where the write panics.
        let panicked = std::panic::catch_unwind(|| {
            with_write_signals_held(|| {
                raise(Signal::SIGXFSZ).unwrap();
                panic!("in the write");
            });
        });
        assert!(panicked.is_err());
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn what_was_pending_before_stays_pending() {
        let set = SigSet::from(Signal::SIGXFSZ);
        set.thread_block().unwrap();
        raise(Signal::SIGXFSZ).unwrap();
        with_write_signals_held(|| raise(Signal::SIGXFSZ).unwrap());
        assert!(pending().contains(Signal::SIGXFSZ));
        take_back(Signal::SIGXFSZ);
        assert!(!pending().contains(Signal::SIGXFSZ));
        set.thread_unblock().unwrap();
    }
}
