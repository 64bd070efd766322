//! Reserved bytes of the memory budget, held beside a body and given back when dropped.

use std::{fmt, sync::Arc};

use super::MemoryBudget;

/// Bytes that a budget has accounted for while this value lives. The default one belongs to no budget, and counts
/// nowhere.
#[derive(Default)]
pub(crate) struct Reservation {
    budget: Option<Arc<MemoryBudget>>,
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` that are not allocated yet; `None` if they do not fit.
    pub(crate) fn reserve(budget: &Arc<MemoryBudget>, bytes: usize) -> Option<Self> {
        budget.reserve(bytes).then(|| Self { budget: Some(Arc::clone(budget)), bytes })
    }

    /// Accounts for `bytes` that exist already, even if they do not fit.
    pub(crate) fn hold(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        budget.hold(bytes);
        Self { budget: Some(Arc::clone(budget)), bytes }
    }

    /// Makes another reservation in the same budget, for `bytes` that exist already.
    pub(crate) fn beside(&self, bytes: usize) -> Self {
        self.budget.as_ref().map_or_else(Self::default, |budget| Self::hold(budget, bytes))
    }

    /// Changes the reservation to `bytes`, after what it stands for has grown or shrunk.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let Some(budget) = &self.budget else { return };
        if bytes > before {
            budget.hold(bytes - before);
        } else {
            budget.release(before - bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.bytes).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back_however_it_grew_and_shrank() {
        let budget = MemoryBudget::new(1000);
        let mut first = Reservation::reserve(&budget, 600).unwrap();
        assert!(Reservation::reserve(&budget, 401).is_none());
        let beside = first.beside(100);
        first.resize(900);
        assert_eq!(budget.held(), 1000);
        first.resize(50);
        assert_eq!((budget.held(), budget.holdings().bodies), (150, 150));
        drop(first);
        drop(beside);
        assert_eq!((budget.held(), budget.holdings().bodies), (0, 0));
        let mut nowhere = Reservation::default();
        nowhere.resize(10);
        assert_eq!(budget.held(), 0);
    }
}
