//! A lock under which what a program plugged in is called, which may come back to it.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::locks::{Mutex, MutexGuard};

/// A lock that knows its holder, and has it not wait for itself.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    state: Mutex<T>,
    /// The thread that has it; 0 if none does.
    holder: AtomicUsize,
}

pub(crate) struct Held<'a, T> {
    state: MutexGuard<'a, T>,
    holder: &'a AtomicUsize,
}

impl<T> Turn<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::open_to_callbacks(state), holder: AtomicUsize::new(0) }
    }

    /// Waits for it; none for the thread that has it.
    pub(crate) fn take(&self) -> Option<Held<'_, T>> {
        (!self.is_mine()).then(|| self.hold(self.state.lock()))
    }

    /// Waits for it for so long; none at once for the thread that has it.
    pub(crate) fn take_within(&self, timeout: Duration) -> Option<Held<'_, T>> {
        let state = if self.is_mine() { None } else { self.state.try_lock_for(timeout) };
        state.map(|state| self.hold(state))
    }

    /// A thread finds here what it wrote itself, or what others did, which is not its own.
    fn is_mine(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread()
    }

    fn hold<'a>(&'a self, state: MutexGuard<'a, T>) -> Held<'a, T> {
        self.holder.store(this_thread(), Ordering::Relaxed);
        Held { state, holder: &self.holder }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Relaxed);
    }
}

/// Tells threads that run at the same time from each other, also in destructors of thread-locals, where the standard
/// library's handle of a thread is gone. Never 0.
pub(crate) fn this_thread() -> usize {
    thread_local! {
        static HERE: Cell<u8> = const { Cell::new(0) };
    }
    HERE.with(|here| ptr::from_ref(here).addr())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_has_it_does_not_wait_for_it_and_others_do() {
        let turn = Turn::new(1);
        let held = turn.take().expect("nobody has it");
        assert!(turn.take().is_none() && turn.take_within(Duration::MAX).is_none());
        thread::scope(|scope| {
            assert!(scope.spawn(|| turn.take_within(Duration::ZERO).is_none()).join().is_ok_and(|none| none));
            let other = scope.spawn(|| turn.take().map(|mut held| *held += 1));
            drop(held);
            assert_eq!(other.join().ok().flatten(), Some(()));
        });
        assert_eq!(turn.take_within(Duration::ZERO).map(|held| *held), Some(2));
    }
}
