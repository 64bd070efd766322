//! Whether and when a failed request is made again. Pure: time and chance are arguments.

use std::time::Duration;

use super::transport::{Failure, Outcome};
use crate::error::DropReason;

/// Exponential backoff with jitter, until the batch's deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    pub(crate) initial_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) multiplier: f64,
    /// Share by which an interval varies, up and down.
    pub(crate) randomization_factor: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            multiplier: 2.0,
            randomization_factor: 0.2,
        }
    }
}

/// What becomes of a batch after an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It arrived; so many of its spans were rejected.
    Done { rejected: u64 },
    /// Try again after this long.
    Wait(Duration),
    /// It is lost.
    GiveUp(DropReason),
}

impl RetryPolicy {
    /// Decides after attempt number `attempt` (from 1), with `left` until the batch's deadline. `random` is
    /// uniform in 0..1.
    pub(crate) fn decide(&self, attempt: u32, left: Duration, outcome: &Outcome, random: f64) -> Verdict {
        let (failure, after) = match outcome {
            Outcome::Accepted { rejected, .. } => return Verdict::Done { rejected: *rejected },
            Outcome::Refused { .. } => return Verdict::GiveUp(DropReason::Refused),
            Outcome::Failed { failure, retry_after, .. } => (failure, *retry_after),
        };
        if *failure == Failure::Shutdown {
            return Verdict::GiveUp(DropReason::Shutdown);
        }
        let wait = after.unwrap_or_else(|| self.interval(attempt, random));
        // RTY-12: rather give up early than retry sooner than asked or later than allowed.
        if wait >= left { Verdict::GiveUp(DropReason::Undelivered) } else { Verdict::Wait(wait) }
    }

    fn interval(&self, attempt: u32, random: f64) -> Duration {
        let exponent = attempt.saturating_sub(1).min(64) as i32;
        let interval = self.initial_interval.as_secs_f64() * self.multiplier.powi(exponent);
        let interval = interval.min(self.max_interval.as_secs_f64());
        let jitter = 1.0 + self.randomization_factor * (2.0 * random - 1.0);
        Duration::try_from_secs_f64(interval * jitter).unwrap_or(self.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn failed(retry_after: Option<Duration>) -> Outcome {
        Outcome::Failed { failure: Failure::Unavailable, message: String::new(), retry_after }
    }

    fn wait(verdict: Verdict) -> Duration {
        let Verdict::Wait(wait) = verdict else { panic!("{verdict:?}") };
        wait
    }

    #[test]
    fn intervals_grow_exponentially_to_the_maximum_and_vary() {
        // RTY-01
        let policy = RetryPolicy::default();
        let middle = |attempt| wait(policy.decide(attempt, MINUTE, &failed(None), 0.5));
        assert_eq!([1, 2, 3].map(middle), [100, 200, 400].map(Duration::from_millis));
        assert_eq!(middle(60), policy.max_interval);
        let low = wait(policy.decide(1, MINUTE, &failed(None), 0.0));
        let high = wait(policy.decide(1, MINUTE, &failed(None), 1.0));
        assert_eq!([low, high].map(|wait| wait.as_millis()), [80, 120]);
    }

    #[test]
    fn a_delay_the_receiver_asks_for_overrides_the_computed_one() {
        // RTY-04
        let asked = Duration::from_secs(2);
        assert_eq!(wait(RetryPolicy::default().decide(1, MINUTE, &failed(Some(asked)), 0.5)), asked);
    }

    #[test]
    fn nothing_is_retried_beyond_the_deadline() {
        // RTY-12
        let policy = RetryPolicy::default();
        let late = policy.decide(1, Duration::from_millis(50), &failed(None), 0.5);
        assert_eq!(late, Verdict::GiveUp(DropReason::Undelivered));
        let asked = policy.decide(1, MINUTE, &failed(Some(Duration::from_secs(3600))), 0.5);
        assert_eq!(asked, Verdict::GiveUp(DropReason::Undelivered));
    }

    #[test]
    fn what_was_accepted_or_refused_is_final() {
        // RTY-03, RTY-05
        let policy = RetryPolicy::default();
        let accepted = Outcome::Accepted { rejected: 3, message: None };
        assert_eq!(policy.decide(1, MINUTE, &accepted, 0.5), Verdict::Done { rejected: 3 });
        let refused = Outcome::Refused { status: 400, message: String::new() };
        assert_eq!(policy.decide(1, MINUTE, &refused, 0.5), Verdict::GiveUp(DropReason::Refused));
    }
}
