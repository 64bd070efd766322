//! Whether and when a failed request is made again. Pure: time and chance are arguments.

use std::time::Duration;

use super::outcome::{Code, Failure, Outcome, StatusCode};
use crate::{
    config::{ErrorType, RetryConfig},
    error::DropReason,
};

/// What becomes of a batch after an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It arrived; so many of its spans were rejected.
    Done { rejected: u64 },
    /// Try again after this long.
    Wait(Duration),
    /// The receiver asks for a pause of this long, in which nothing is sent.
    Pause(Duration),
    /// The request is too large: try its halves.
    Split,
    /// It is lost.
    GiveUp(DropReason),
}

/// Decides after attempt number `attempt` (from 1), with `left` until the batch's deadline. `random` is uniform in
/// 0..1.
pub(crate) fn decide(config: &RetryConfig, attempt: u32, left: Duration, outcome: &Outcome, random: f64) -> Verdict {
    let (failure, after) = match outcome {
        Outcome::Accepted { rejected, .. } => return Verdict::Done { rejected: *rejected },
        Outcome::TooLarge { .. } | Outcome::Oversized { .. } => return Verdict::Split,
        Outcome::Refused { .. } => return Verdict::GiveUp(DropReason::Refused),
        Outcome::Failed { failure, retry_after, .. } => (failure, *retry_after),
    };
    let kind = match failure {
        Failure::Refused | Failure::Broken | Failure::Gone | Failure::Resolve | Failure::Tls => ErrorType::Network,
        Failure::Timeout => ErrorType::Timeout,
        Failure::Throttled(_) => ErrorType::Throttled,
        Failure::Unavailable(Code::Grpc(StatusCode::DEADLINE_EXCEEDED)) => ErrorType::Timeout,
        Failure::Unavailable(_) => ErrorType::Unavailable,
        Failure::Unusable => return Verdict::GiveUp(DropReason::Refused),
        // Nobody has seen it: it may wait in the spool for somebody to mend what is wrong.
        Failure::Untrusted | Failure::Barred => return Verdict::GiveUp(DropReason::Undelivered),
        Failure::Shutdown => return Verdict::GiveUp(DropReason::Shutdown),
    };
    if attempt >= config.max_attempts || !config.retryable_errors.contains(&kind) {
        return Verdict::GiveUp(DropReason::Undelivered);
    }
    // A delay of nothing, or a date that has passed by some clock, is no wish to be asked again at once.
    if let Some(pause) = after.filter(|after| *after >= config.initial_interval) {
        return Verdict::Pause(pause);
    }
    let wait = interval(config, attempt, random);
    // RTY-12: rather give up early than retry later than allowed.
    if wait >= left { Verdict::GiveUp(DropReason::Undelivered) } else { Verdict::Wait(wait) }
}

fn interval(config: &RetryConfig, attempt: u32, random: f64) -> Duration {
    let exponent = attempt.saturating_sub(1).min(64) as i32;
    let interval = config.initial_interval.as_secs_f64() * config.multiplier.powi(exponent);
    let interval = interval.min(config.max_interval.as_secs_f64());
    let jitter = 1.0 + config.randomization_factor * (2.0 * random - 1.0);
    Duration::try_from_secs_f64(interval * jitter).unwrap_or(config.max_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn failed(retry_after: Option<Duration>) -> Outcome {
        Outcome::Failed { failure: Failure::Unavailable(Code::Http(503)), message: String::new(), retry_after }
    }

    fn wait(verdict: Verdict) -> Duration {
        let Verdict::Wait(wait) = verdict else { panic!("{verdict:?}") };
        wait
    }

    #[test]
    fn intervals_grow_exponentially_to_the_maximum_and_vary() {
        // RTY-01
        let config = RetryConfig { max_attempts: u32::MAX, ..RetryConfig::default() };
        let middle = |attempt| wait(decide(&config, attempt, MINUTE, &failed(None), 0.5));
        assert_eq!([1, 2, 3].map(middle), [100, 200, 400].map(Duration::from_millis));
        assert_eq!(middle(60), config.max_interval);
        let low = wait(decide(&config, 1, MINUTE, &failed(None), 0.0));
        let high = wait(decide(&config, 1, MINUTE, &failed(None), 1.0));
        assert_eq!([low, high].map(|wait| wait.as_millis()), [80, 120]);
    }

    #[test]
    fn a_delay_the_receiver_asks_for_overrides_the_computed_one() {
        // RTY-04
        for asked in [2, 3600].map(Duration::from_secs) {
            let verdict = decide(&RetryConfig::default(), 1, MINUTE, &failed(Some(asked)), 0.5);
            assert_eq!(verdict, Verdict::Pause(asked), "the time of the batch stands still meanwhile");
        }
        let nothing = failed(Some(Duration::ZERO));
        assert_eq!(wait(decide(&RetryConfig::default(), 2, MINUTE, &nothing, 0.5)), Duration::from_millis(200));
    }

    #[test]
    fn nothing_is_retried_beyond_the_deadline() {
        // RTY-12
        let config = RetryConfig::default();
        let late = decide(&config, 1, Duration::from_millis(50), &failed(None), 0.5);
        assert_eq!(late, Verdict::GiveUp(DropReason::Undelivered));
        let last = RetryConfig { max_attempts: 1, ..config };
        let asked = decide(&last, 1, MINUTE, &failed(Some(Duration::from_secs(1))), 0.5);
        assert_eq!(asked, Verdict::GiveUp(DropReason::Undelivered), "the only attempt there is");
    }

    #[test]
    fn what_was_accepted_or_refused_is_final() {
        // RTY-03, RTY-05
        let config = RetryConfig::default();
        let accepted = Outcome::Accepted { rejected: 3, message: None };
        assert_eq!(decide(&config, 1, MINUTE, &accepted, 0.5), Verdict::Done { rejected: 3 });
        let refused = Outcome::Refused { code: Code::Http(400), message: String::new() };
        assert_eq!(decide(&config, 1, MINUTE, &refused, 0.5), Verdict::GiveUp(DropReason::Refused));
    }

    #[test]
    fn the_attempts_and_the_kinds_of_failure_that_are_tried_again_are_the_users_choice() {
        let config = RetryConfig {
            max_attempts: 3,
            retryable_errors: vec![ErrorType::Network, ErrorType::Timeout],
            ..RetryConfig::default()
        };
        let given_up = Verdict::GiveUp(DropReason::Undelivered);
        let after = |attempt, failure| {
            let outcome = Outcome::Failed { failure, message: String::new(), retry_after: None };
            decide(&config, attempt, MINUTE, &outcome, 0.5)
        };
        for failure in [Failure::Refused, Failure::Broken, Failure::Resolve, Failure::Tls, Failure::Timeout] {
            assert!(matches!(after(2, failure), Verdict::Wait(_)), "{failure:?}");
            assert_eq!(after(3, failure), given_up, "{failure:?}: the first try counts");
        }
        assert_eq!(after(1, Failure::Throttled(Code::Http(429))), given_up);
        assert_eq!(after(1, Failure::Unavailable(Code::Http(503))), given_up);
        assert_eq!(after(1, Failure::Untrusted), given_up);
        assert_eq!(after(1, Failure::Barred), given_up);
        assert_eq!(after(1, Failure::Shutdown), Verdict::GiveUp(DropReason::Shutdown));
        assert_eq!(after(1, Failure::Unusable), Verdict::GiveUp(DropReason::Refused));
    }
}
