//! The synchronisation primitives of this crate: the standard library's, or loom's
//! when the crate is built with `--cfg loom`. Decided here once, so that the code that ships is the code
//! that is model-checked.

#[cfg(unix)]
mod bare;
mod image;
mod latest;
#[cfg(unix)]
mod raised;
mod threads;
mod turn;

pub(crate) use image::keep as keep_loaded;
pub(crate) use latest::{Latest, Version};
#[cfg(unix)]
pub(crate) use raised::with_write_signals_held;
#[cfg(unix)]
pub(crate) use threads::forked;
pub(crate) use threads::{BEGIN_GRACE, Runs, are_alone, are_held_up, exiting, is_own_thread, spawn};
pub(crate) use turn::{Turn, this_thread};

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
pub(crate) use locks::{Condvar, Mutex};

/// Whether the calling thread holds a lock of the client's: what it is called back to, by an allocator say, waits for
/// nothing then.
#[cfg(not(loom))]
pub(crate) use locks::holds_any;

#[cfg(loom)]
pub(crate) fn holds_any() -> bool {
    false
}

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use modelled::{Condvar, Mutex};

/// No wait is longer: added to any point in time, this overflows on no platform.
pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);

/// The standard library's locks without poisoning: a panic elsewhere in the host must not disable delivery.
///
/// Not `parking_lot`'s: whoever waits for one of those stands in a table that all locks of a process share, and that
/// leads the child of a fork to threads that are gone.
#[cfg_attr(loom, allow(dead_code))]
pub(crate) mod locks {
    use std::{
        cell::Cell,
        ops::{Deref, DerefMut},
        sync::{self, PoisonError, TryLockError, WaitTimeoutResult},
        time::{Duration, Instant},
    };

    thread_local! {
        /// How many of these locks the thread holds. It has no destructor, and so is there until the very end.
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    /// Whether the calling thread holds one of these locks, but for those that are [open](Mutex::open_to_callbacks).
    pub(crate) fn holds_any() -> bool {
        HELD.get() > 0
    }

    /// How often a lock is tried that is waited for with a timeout.
    const TICK: Duration = Duration::from_millis(1);

    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        inner: sync::Mutex<T>,
        /// 1 if who holds it counts as [holding one](holds_any).
        counts: u32,
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    pub(crate) struct MutexGuard<'a, T> {
        /// Empty only while its thread waits.
        held: Option<sync::MutexGuard<'a, T>>,
        counted: u32,
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.held = None;
            HELD.set(HELD.get() - self.counted);
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(sync::Condvar);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self { inner: sync::Mutex::new(value), counts: 1 }
        }

        /// One that recording never takes, and under which others are called, who may record as at any other time.
        pub(crate) const fn open_to_callbacks(value: T) -> Self {
            Self { inner: sync::Mutex::new(value), counts: 0 }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // Counted before: some systems allocate a lock when it is first taken.
            HELD.set(HELD.get() + self.counts);
            let held = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            MutexGuard { held: Some(held), counted: self.counts }
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            let held = match self.inner.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            HELD.set(HELD.get() + self.counts);
            Some(MutexGuard { held: Some(held), counted: self.counts })
        }

        /// For locks that hardly anybody waits for: it looks now and then.
        pub(crate) fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
            let begun = Instant::now();
            let (pause, nobody) = (Condvar::default(), Mutex::new(()));
            loop {
                let locked = self.try_lock();
                if locked.is_some() || begun.elapsed() >= timeout {
                    return locked;
                }
                pause.wait_until(&mut nobody.lock(), Instant::now() + TICK);
            }
        }

        pub(crate) fn is_locked(&self) -> bool {
            self.try_lock().is_none()
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.held.as_ref().expect("empty only while its thread waits")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("empty only while its thread waits")
        }
    }

    impl Condvar {
        pub(crate) const fn new() -> Self {
            Self(sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.held = guard.held.take().map(|held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }

        /// Timed out only if `deadline` has come.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
            let held = guard.held.take().expect("empty only while its thread waits");
            let left = deadline.saturating_duration_since(Instant::now());
            let (held, result) = self.0.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner);
            guard.held = Some(held);
            result
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

/// loom's lock and condition variable behind the signatures of [`locks`].
#[cfg(loom)]
mod modelled {
    use std::{
        ops::{Deref, DerefMut},
        time::Instant,
    };

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    /// Mirrors the standard library's.
    pub(crate) struct WaitTimeoutResult;

    impl WaitTimeoutResult {
        /// A model has no clock: a timed wait ends by a wake or never.
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("a model never panics under a lock")))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("taken only while waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("taken only while waiting")
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("held");
            guard.0 = Some(self.0.wait(held).expect("a model never panics under a lock"));
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> WaitTimeoutResult {
            self.wait(guard);
            WaitTimeoutResult
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

/// Elsewhere a write raises no signal.
#[cfg(not(unix))]
pub(crate) fn with_write_signals_held<R>(write: impl FnOnce() -> R) -> R {
    write()
}

/// One scenario, two judges: loom goes through its interleavings, real threads run it over and over.
#[cfg(test)]
pub(crate) mod scenario {
    #[cfg(loom)]
    pub(crate) use loom::thread::{spawn, yield_now};
    #[cfg(not(loom))]
    pub(crate) use std::thread::{spawn, yield_now};

    /// Runs `scenario` in every interleaving, or, where that takes too long, in those with at most so many
    /// forced switches between threads; known bugs of this kind need two or three. `LOOM_MAX_PREEMPTIONS`
    /// overrides it.
    #[cfg(loom)]
    pub(crate) fn explore(preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(preemptions);
        model.check(scenario);
    }

    /// Runs `scenario` on real threads for a second.
    #[cfg(not(loom))]
    pub(crate) fn explore(_preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
        within_a_minute(move || {
            let begun = std::time::Instant::now();
            while begun.elapsed().as_secs() < 1 {
                scenario();
            }
        });
    }

    /// Runs `test`, and fails if it hangs: a lost wake is a failure and not a stuck build.
    #[cfg(not(loom))]
    pub(crate) fn within_a_minute(test: impl FnOnce() + Send + 'static) {
        let (done, is_done) = std::sync::mpsc::channel();
        let test = spawn(move || {
            test();
            let _ = done.send(());
        });
        let hangs = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        assert_ne!(is_done.recv_timeout(std::time::Duration::from_secs(60)), hangs, "hangs");
        test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
