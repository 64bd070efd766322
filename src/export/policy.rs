//! Whether what waits in the rings leaves now, and why. Pure: what there is to know is handed in.

use crate::stats::Departure;

/// What is known of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Situation {
    /// Spans that wait.
    pub(super) waiting: u64,
    /// Of them it takes as many to make a batch.
    pub(super) ready: u64,
    /// All of it is to leave: somebody waits for delivery or for room, or the client is being shut down.
    pub(super) is_urgent: bool,
    /// Some of it has waited for as long as it may.
    pub(super) is_overdue: bool,
    /// More bodies are due than can be sent: what is packed now does not leave before they have.
    pub(super) is_behind: bool,
    /// There is room for another body.
    pub(super) has_room: bool,
}

impl Situation {
    /// Why a batch leaves now; none if it does not.
    pub(super) fn departure(&self) -> Option<Departure> {
        if !self.has_room || self.waiting == 0 {
            None
        } else if self.is_urgent {
            Some(Departure::Urgent)
        } else if self.waiting >= self.ready {
            Some(Departure::Full)
        } else {
            // A batch that is not full gains nothing by being packed behind others.
            (self.is_overdue && !self.is_behind).then_some(Departure::TimedOut)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_leaves_when_it_is_full_or_old_or_somebody_waits_and_never_without_room() {
        let waits = Situation { waiting: 10, ready: 512, has_room: true, ..Situation::default() };
        let full = Situation { waiting: 512, ..waits };
        let old = Situation { is_overdue: true, ..waits };
        for (situation, expected) in [
            (waits, None),
            (full, Some(Departure::Full)),
            (old, Some(Departure::TimedOut)),
            (Situation { is_behind: true, ..old }, None),
            (Situation { is_behind: true, ..full }, Some(Departure::Full)),
            (Situation { is_urgent: true, ..waits }, Some(Departure::Urgent)),
            (Situation { is_urgent: true, ..full }, Some(Departure::Urgent)),
            (Situation { is_urgent: true, waiting: 0, ..waits }, None),
            (Situation { has_room: false, is_urgent: true, ..full }, None),
        ] {
            assert_eq!(situation.departure(), expected, "{situation:?}");
        }
    }
}
