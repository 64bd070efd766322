//! Why attempts failed, kept for the last line of a client.

use super::outcome::{Failure, Outcome};
use crate::{error::DropReason, sync::locks::Mutex};

/// Why an attempt failed.
#[derive(Debug, Clone)]
pub(super) struct LastFailure {
    pub(super) message: String,
    /// Whether no collector was configured, and none is there.
    pub(super) nobody_at_default: bool,
    /// Whether there was no address to send to: no receiver has seen anything.
    pub(super) is_nameless: bool,
    /// Whether more time would not help; the message says what does.
    pub(super) is_final: bool,
    /// Whether the receiver is overloaded for now.
    pub(super) is_throttled: bool,
    /// How informative it is.
    weight: u8,
}

/// The failures of one client.
#[derive(Default)]
pub(super) struct Failures(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The most informative failure since the receiver last accepted something.
    standing: Option<LastFailure>,
    /// The last failure that lost spans, by their drop reason.
    of_losses: Vec<(DropReason, LastFailure)>,
}

impl LastFailure {
    /// The failure in an outcome; `None` if it was none.
    pub(super) fn of(outcome: &Outcome, is_default: bool) -> Option<Self> {
        let failure = match outcome {
            Outcome::Failed { failure: Failure::Shutdown, .. } => return None,
            Outcome::Failed { failure, .. } => Some(*failure),
            _ => None,
        };
        let message = match outcome {
            Outcome::Accepted { rejected: 0, .. } => return None,
            Outcome::Accepted { message, .. } => message.clone().unwrap_or_else(|| "no reason given".to_owned()),
            _ => outcome.words(),
        };
        Some(Self {
            message,
            nobody_at_default: is_default && failure == Some(Failure::Refused),
            is_nameless: failure == Some(Failure::Resolve),
            is_final: matches!(failure, Some(Failure::Untrusted | Failure::Barred)),
            is_throttled: outcome.asks_to_slow_down(),
            weight: outcome.weight(),
        })
    }

    /// The failure that the host's name has no address so far.
    pub(super) fn unresolved(host: &str) -> Self {
        let message = format!("the host name {host} was not resolved in time");
        Self { message, nobody_at_default: false, is_nameless: true, is_final: false, is_throttled: false, weight: 1 }
    }
}

impl Failures {
    /// Notes the outcome of an attempt. A success ends earlier failures.
    pub(super) fn note(&self, outcome: &Outcome, is_default: bool) {
        let mut kept = self.0.lock();
        if matches!(outcome, Outcome::Accepted { .. }) {
            kept.standing = None;
        } else if let Some(failure) = LastFailure::of(outcome, is_default)
            && kept.standing.as_ref().is_none_or(|standing| failure.weight >= standing.weight)
        {
            kept.standing = Some(failure);
        }
    }

    /// Makes this the standing failure: nothing that was tried is more informative.
    pub(super) fn stand(&self, failure: LastFailure) {
        self.0.lock().standing = Some(failure);
    }

    /// Notes that spans were lost for `reason` by this outcome.
    pub(super) fn cost(&self, reason: DropReason, outcome: &Outcome, is_default: bool) {
        if let Some(failure) = LastFailure::of(outcome, is_default) {
            let mut kept = self.0.lock();
            kept.of_losses.retain(|(other, _)| *other != reason);
            kept.of_losses.push((reason, failure));
        }
    }

    /// The failure that still stands.
    pub(super) fn standing(&self) -> Option<LastFailure> {
        self.0.lock().standing.clone()
    }

    /// What lost the spans that are counted for `reason`; else the failure that still stands.
    pub(super) fn of(&self, reason: DropReason) -> Option<LastFailure> {
        let kept = self.0.lock();
        let of_loss = kept.of_losses.iter().find(|(other, _)| *other == reason);
        of_loss.map(|(_, failure)| failure.clone()).or_else(|| kept.standing.clone())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::export::outcome::Code;

    fn failed(failure: Failure, message: &str) -> Outcome {
        Outcome::Failed { failure, message: message.into(), retry_after: None }
    }

    #[test]
    fn what_a_receiver_said_is_told_rather_than_that_it_did_not_answer_later() {
        let failures = Failures::default();
        let standing = || failures.standing().map(|failure| failure.message);
        failures.note(&failed(Failure::Timeout, "no answer"), false);
        failures.note(&failed(Failure::Unavailable(Code::Http(503)), "status 503"), false);
        failures.note(&failed(Failure::Timeout, "no answer"), false);
        assert_eq!(standing().as_deref(), Some("status 503"));
        failures.note(&Outcome::Accepted { rejected: 0, message: None }, false);
        assert_eq!(standing(), None, "it is over");
    }

    #[test]
    fn each_loss_keeps_the_failure_that_caused_it() {
        let failures = Failures::default();
        let rejected = Outcome::Accepted { rejected: 2, message: Some("too old".into()) };
        failures.cost(DropReason::Rejected, &rejected, false);
        failures.note(&failed(Failure::Timeout, "no answer"), false);
        let of = |reason| failures.of(reason).unwrap().message;
        assert_eq!((of(DropReason::Rejected).as_str(), of(DropReason::Shutdown).as_str()), ("too old", "no answer"));
    }
}
