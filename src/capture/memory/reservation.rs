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

    /// Another one in the same budget, for `bytes` that are not there yet; none where they do not fit.
    pub(crate) fn reserve_beside(&self, bytes: usize) -> Option<Self> {
        self.budget.as_ref().map_or_else(|| Some(Self::default()), |budget| Self::reserve(budget, bytes))
    }

    /// Of what is reserved, `bytes` or as many as there are.
    pub(crate) fn part(&mut self, bytes: usize) -> Self {
        let part = bytes.min(self.bytes);
        self.bytes -= part;
        Self { budget: self.budget.clone(), bytes: part }
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
        let mut beside = first.reserve_beside(100).unwrap();
        assert!(first.reserve_beside(301).is_none());
        first.resize(900);
        assert_eq!(budget.held(), 1000);
        first.resize(50);
        assert_eq!((budget.held(), budget.holdings().bodies), (150, 150));
        let part = beside.part(60);
        drop(first);
        drop(beside);
        assert_eq!(budget.held(), 60);
        drop(part);
        assert_eq!((budget.held(), budget.holdings().bodies), (0, 0));
        let mut nowhere = Reservation::default();
        nowhere.resize(10);
        assert!(nowhere.reserve_beside(10_000).is_some());
        assert_eq!(budget.held(), 0);
    }
}
