//! A value that is replaced now and then, and read without a lock: whatever a thread does at a fork, the child reads on.

// Not the standard library's: a fork in the middle of its initialisation would leave the child waiting for a thread
// that is gone.
use once_cell::race::OnceBox;

/// The latest of the values it was given. Earlier ones are kept: somebody may still read them.
pub(crate) struct Latest<T>(OnceBox<Version<T>>);

/// One of the values.
pub(crate) struct Version<T> {
    pub(crate) value: T,
    next: OnceBox<Version<T>>,
}

impl<T> Latest<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceBox::new())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&Version<T>> {
        let mut latest = self.0.get()?;
        while let Some(next) = latest.next.get() {
            latest = next;
        }
        Some(latest)
    }

    /// From now on `value` is the latest, unless another thread replaces it.
    pub(crate) fn replace(&self, value: T) {
        let mut new = Box::new(Version { value, next: OnceBox::new() });
        let mut last = &self.0;
        while let Err(unset) = last.set(new) {
            new = unset;
            match last.get() {
                Some(version) => last = &version.next,
                None => return,
            }
        }
    }
}

impl<T> Version<T> {
    /// Whether no later value was there when it was asked.
    #[inline]
    pub(crate) fn is_latest(&self) -> bool {
        self.next.get().is_none()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_earlier_ones_stay_readable() {
        let latest = Latest::new();
        assert!(latest.get().is_none());
        latest.replace(1);
        let first = latest.get().unwrap();
        assert!(first.is_latest());
        latest.replace(2);
        assert!(!first.is_latest() && first.value == 1);
        assert_eq!(latest.get().unwrap().value, 2);
    }

    #[test]
    fn threads_that_replace_it_at_once_lose_no_value_of_each_other() {
        let latest = &Latest::new();
        std::thread::scope(|scope| (0..4).for_each(|number| drop(scope.spawn(move || latest.replace(number)))));
        let mut versions = 0;
        let mut last = latest.0.get();
        while let Some(version) = last {
            versions += 1;
            last = version.next.get();
        }
        assert_eq!(versions, 4);
    }
}
