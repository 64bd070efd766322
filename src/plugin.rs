//! Calling what a program plugged in.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What `call` answers; none if it panics, which ends here. What it panics with is never dropped: that may panic again.
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(mem::forget).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_ends_here_whatever_it_carries() {
        // ERR-03
        assert_eq!(guarded(|| 7), Some(7));
        assert_eq!(guarded(|| std::panic::panic_any(PanicsWhenDropped)), None::<()>);
    }
}
