//! The state of one thread: its clock, its ids, its current spans, and a queue at each client it records for.
//! Everything the hot path touches is here, and no other thread writes to it.
//!
//! The state can be asked for again while it is in use: an allocator that records spans is called by the allocations of
//! recording, and so are destructors and signal handlers. Such nested recording is [counted as
//! lost](ThreadQueues::inert), without a lock or an allocation: recording it would cause more of it.

use std::cell::{Cell, RefCell};

use super::{clock::Clock, context::CurrentSpans, id::RandomIds, thread_queue::ThreadQueues};

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local::new(ThreadQueues::NONE)) };
    /// Whether the thread is one of the client's own.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
    /// Whether something is being recorded without `LOCAL`, which is gone.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of the client's own while it lives. Such a thread makes room, so it never waits for
/// room. After the guard is dropped the thread may be the last one of the process, and close the client.
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

/// Whether the calling thread is one of the client's own.
pub(super) fn is_own_thread() -> bool {
    IS_OWN.try_with(Cell::get).unwrap_or(false)
}

/// A number that two threads rarely share.
pub(super) fn place() -> usize {
    IS_OWN.try_with(|is_own| std::ptr::from_ref(is_own).addr() >> 8).unwrap_or(0)
}

pub(crate) struct Local {
    pub(super) clock: Clock,
    pub(super) ids: RandomIds,
    pub(super) spans: CurrentSpans,
    pub(super) queues: ThreadQueues,
}

/// Runs `f` with the calling thread's state. If that is gone (in the destructors of other thread-locals), `f` gets a
/// temporary state, which is returned afterwards: slow, but nothing is lost. If it is in use (in an allocator that
/// records spans), `f` gets a state that counts what is recorded as lost.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&mut Local) -> R) -> R {
    let mut f = Some(f);
    let run = |local: &RefCell<Local>| {
        // Borrowed before `f` is moved: if that fails, `f` can still be run elsewhere.
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

/// Runs `f` with the calling thread's state, but only if that exists and is not in use.
#[inline]
pub(super) fn with_own<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| Some(f(&mut *local.try_borrow_mut().ok()?))).ok().flatten()
}

/// Whether the thread is recording something already, so that this is a nested call.
#[cold]
pub(super) fn is_inside() -> bool {
    LOCAL.try_with(|local| local.try_borrow_mut().is_err()).unwrap_or_else(|_| IS_INSIDE.get())
}

/// Runs `f`, which allocates or frees on behalf of recording. Spans that an allocator records meanwhile are counted as
/// lost, so that they never cause more spans.
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

/// Needed because the borrow of `LOCAL` tells nothing once that is gone.
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
