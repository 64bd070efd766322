//! Whether it is worth taking bodies out of the spool. Pure: time is an argument.

use std::time::{Duration, Instant};

/// How long after a failure one body is tried again, if nothing else is delivered meanwhile.
const PROBE_AFTER: Duration = Duration::from_secs(30);

/// How often a spool that was empty is looked at again: other processes may have written into it.
const LOOK_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// The receiver answers, and there may be something to send.
    Open,
    /// The receiver did not answer, or was not asked yet: one body finds out, from then on.
    Shut { probe: Instant },
    /// There was nothing when it was looked at.
    Empty { looked: Instant },
}

impl Gate {
    /// Nothing is known yet: one body may be tried at once.
    pub(super) fn new(now: Instant) -> Self {
        Self::Shut { probe: now }
    }

    /// Whether a body may be taken out and sent.
    pub(super) fn admits(self, now: Instant) -> bool {
        match self {
            Self::Open => true,
            Self::Shut { probe } => probe <= now,
            Self::Empty { .. } => false,
        }
    }

    /// When a body should be tried, though nothing else happens, where the receiver wants nothing before the end of
    /// `pause`; never for what is due already.
    pub(super) fn next_probe(self, now: Instant, pause: Option<Instant>) -> Option<Instant> {
        let due = match self {
            Self::Open => pause,
            Self::Shut { probe } => pause.max(Some(probe)),
            Self::Empty { .. } => None,
        };
        due.filter(|due| *due > now)
    }

    /// The receiver accepted something.
    pub(super) fn answered(&mut self, now: Instant) {
        match *self {
            Self::Empty { looked } if now.saturating_duration_since(looked) < LOOK_AFTER => {}
            _ => *self = Self::Open,
        }
    }

    /// Something was written into the spool or left there, since the receiver does not answer or does not accept it.
    pub(super) fn failed(&mut self, now: Instant) {
        *self = Self::Shut { probe: now + PROBE_AFTER };
    }

    /// There is nothing to take.
    pub(super) fn found_nothing(&mut self, now: Instant) {
        *self = Self::Empty { looked: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_body_may_be_tried_at_once_and_an_answer_lets_the_others_through() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        assert_eq!((gate.admits(now), gate.next_probe(now, None)), (true, None));
        gate.answered(now);
        assert_eq!(gate, Gate::Open);
    }

    #[test]
    fn after_a_failure_nothing_is_tried_until_something_arrives_or_half_a_minute_has_passed() {
        let now = Instant::now();
        let mut gate = Gate::Open;
        gate.failed(now);
        assert_eq!((gate.admits(now), gate.next_probe(now, None)), (false, Some(now + PROBE_AFTER)));
        assert_eq!((gate.admits(now + PROBE_AFTER), gate.next_probe(now + PROBE_AFTER, None)), (true, None));
        gate.answered(now);
        assert_eq!(gate, Gate::Open);
    }

    #[test]
    fn what_is_due_in_a_pause_is_tried_when_it_is_over() {
        let now = Instant::now();
        let (soon, late) = (Some(now + PROBE_AFTER / 2), Some(now + PROBE_AFTER * 2));
        let mut gate = Gate::Open;
        assert_eq!((gate.next_probe(now, soon), gate.next_probe(now, None)), (soon, None));
        gate.failed(now);
        assert_eq!((gate.next_probe(now, soon), gate.next_probe(now, late)), (Some(now + PROBE_AFTER), late));
        gate.found_nothing(now);
        assert_eq!(gate.next_probe(now, late), None);
    }

    #[test]
    fn an_empty_spool_is_looked_at_again_after_an_answer_but_not_after_each() {
        let now = Instant::now();
        let mut gate = Gate::Open;
        gate.found_nothing(now);
        gate.answered(now + LOOK_AFTER / 2);
        assert_eq!((gate.admits(now), gate.next_probe(now, None)), (false, None));
        gate.answered(now + LOOK_AFTER);
        assert_eq!(gate, Gate::Open);
        gate.found_nothing(now);
        gate.failed(now);
        gate.answered(now);
        assert_eq!(gate, Gate::Open, "what was just written is there");
    }
}
