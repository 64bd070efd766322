//! What a thread keeps for itself: its clock, its ids, its current spans, and a queue at each client it
//! records for. Everything the hot path touches is here, and nobody else writes to it.
//!
//! While it is in use the thread may come back: an allocator that records spans is called by what recording allocates,
//! and so are destructors and signal handlers. What is recorded then is [counted as lost](ThreadQueues::inert), without a lock
//! or an allocation: whatever was recorded of it would have to be recorded again.

use std::cell::{Cell, RefCell};

use super::{clock::Clock, context::CurrentSpans, id::RandomIds, thread_queue::ThreadQueues};

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local::new(ThreadQueues::NONE)) };
    /// The thread is one of the client's own.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
    /// `LOCAL` is gone, and something is being recorded without it.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Says that the calling thread is one of the client's own, as long as it lives: the thread makes room, and so never
/// waits for any. When it is over the thread may be the last one of the process, and close the client.
#[must_use = "the thread is the client's own as long as this lives"]
pub(crate) struct OwnThread(());

impl OwnThread {
    pub(crate) fn mark() -> Self {
        Self::set(true);
        Self(())
    }

    fn set(is_own: bool) {
        let _ = IS_OWN.try_with(|cell| cell.set(is_own));
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        Self::set(false);
    }
}

/// Whether it is.
pub(super) fn is_own_thread() -> bool {
    IS_OWN.try_with(Cell::get).unwrap_or(false)
}

/// A number that threads rarely share with each other.
pub(super) fn place() -> usize {
    IS_OWN.try_with(|is_own| std::ptr::from_ref(is_own).addr() >> 8).unwrap_or(0)
}

pub(crate) struct Local {
    pub(super) clock: Clock,
    pub(super) ids: RandomIds,
    pub(super) spans: CurrentSpans,
    pub(super) queues: ThreadQueues,
}

/// Runs `f` with the calling thread's state. Where that is gone (in the destructors of other thread-locals) `f` gets a
/// state of its own, which is returned afterwards: slow, but nothing is lost. Where it is in use (in an allocator that
/// records spans) `f` gets one that counts what is recorded as lost.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&mut Local) -> R) -> R {
    let mut f = Some(f);
    let run = |local: &RefCell<Local>| {
        // Borrowed before `f` is taken: where that fails, `f` is still there to be run elsewhere.
        let mut local = local.try_borrow_mut().ok()?;
        Some((f.take()?)(&mut local))
    };
    match LOCAL.try_with(run) {
        Ok(Some(result)) => result,
        _ => without_thread_local(f),
    }
}

#[cold]
#[inline(never)]
fn without_thread_local<R>(f: Option<impl FnOnce(&mut Local) -> R>) -> R {
    let f = f.expect("not run yet");
    if is_inside() {
        return f(&mut Local::new(ThreadQueues::inert()));
    }
    let _inside = Inside::enter();
    let mut local = Local::new(ThreadQueues::passing());
    f(&mut local)
}

/// As [`with`], but only where the thread's own state is there and not in use.
#[inline]
pub(super) fn with_own<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| Some(f(&mut *local.try_borrow_mut().ok()?))).ok().flatten()
}

/// Whether the thread is recording something just now: it was called back.
#[cold]
pub(super) fn is_inside() -> bool {
    LOCAL.try_with(|local| local.try_borrow_mut().is_err()).unwrap_or_else(|_| IS_INSIDE.get())
}

/// Runs `f`, which allocates or frees for the sake of recording: what an allocator records of that is counted as lost,
/// and so on no account leads to more of the same.
#[cold]
pub(super) fn inside<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    let run = |local: &RefCell<Local>| {
        let _borrowed = local.try_borrow_mut();
        f.take().map(|f| f())
    };
    match LOCAL.try_with(run) {
        Ok(Some(result)) => result,
        _ => {
            let _inside = Inside::enter();
            f.expect("not run yet")()
        }
    }
}

/// Where `LOCAL` is gone, its borrow cannot tell.
struct Inside(bool);

impl Inside {
    fn enter() -> Self {
        Self(IS_INSIDE.replace(true))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        IS_INSIDE.set(self.0);
    }
}

impl Local {
    const fn new(queues: ThreadQueues) -> Self {
        Self { clock: Clock::new(), ids: RandomIds::new(), spans: CurrentSpans::new(), queues }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_whose_state_is_in_use_gets_another_one() {
        assert_eq!(with(|_| with(|_| 1) + 1), 2);
        assert_eq!(with(|_| with_own(|_| 1)), None);
        assert_eq!(with_own(|_| 1), Some(1));
    }

    #[test]
    fn a_thread_is_inside_while_its_state_is_in_use_and_no_longer() {
        assert!(!is_inside());
        assert!(with(|_| is_inside()) && inside(is_inside) && with(|_| inside(is_inside)));
        assert!(!is_inside());
    }
}
