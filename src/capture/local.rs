//! What a thread keeps for itself: its clock, its ids, its current spans, and a seat at each client it
//! records for. Everything the hot path touches is here, and nobody else writes to it.

use std::cell::{Cell, RefCell};

use super::{clock::Clock, context::CurrentSpans, id::RandomIds, seat::Seats};

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local::new()) };
    /// The thread is one of the client's own.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
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
    pub(super) seats: Seats,
}

/// Runs `f` with the calling thread's state. Where that is gone (in the destructors of other thread-locals)
/// or in use (in an allocator that records spans), `f` gets a state of its own, which is returned afterwards:
/// slow, but nothing is lost.
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
    f(&mut Local::new())
}

impl Local {
    const fn new() -> Self {
        Self { clock: Clock::new(), ids: RandomIds::new(), spans: CurrentSpans::new(), seats: Seats::NONE }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn a_thread_whose_state_is_in_use_gets_another_one() {
        assert_eq!(super::with(|_| super::with(|_| 1) + 1), 2);
    }
}
