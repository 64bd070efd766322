//! How long a connection that was idle is given to answer before the request goes over a new one.
//!
//! What is between may have forgotten it, and swallows what is sent without a word. So the first request over a
//! connection that was idle for [`STALE`] has a share of the time there is, and what it takes to make it once more is
//! left. Who answers slowly has a larger share, by what answers took so far: a request that is only slow is delivered
//! twice. Where two answers find no place in the time, the first request has all of it.

use std::time::{Duration, Instant};

use ureq::{Error, unversioned::transport::Transport};

use super::{deadline::Deadline, fault::Fault};
use crate::sync::locks::Mutex;

/// How long a connection may be idle without being on trial.
pub(in crate::export) const STALE: Duration = Duration::from_secs(1);
/// The least share, where the time allows it: no healthy receiver pauses for so long often.
const LEAST: Duration = Duration::from_millis(200);
/// How often it is looked whether the program has begun to exit, which leaves less time.
const STEP: Duration = Duration::from_millis(100);
/// From so many bytes on a body says how long a byte takes.
const TELLING_BYTES: usize = 16 * 1024;

/// What is known about the time answers take.
#[derive(Debug, Default)]
pub(in crate::export) struct Trials(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    times: Times,
    /// Since when there is a hurry, and the time that is left without an answer.
    hurry: Option<(Instant, Duration)>,
}

/// The longest that answers took of late, a quarter of the way back with each that took less.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    answer: Option<Duration>,
    /// Of a byte, in nanoseconds.
    byte: Option<f64>,
}

impl Times {
    fn note(&mut self, bytes: usize, took: Duration) {
        let before = self.answer.unwrap_or_default();
        self.answer = Some(took.max(before - before.saturating_sub(took) / 4));
        if bytes >= TELLING_BYTES {
            let (byte, before) = (took.as_nanos() as f64 / bytes as f64, self.byte.unwrap_or_default());
            self.byte = Some(byte.max(before - (before - byte) / 4.0));
        }
    }

    /// How long an answer to a body of so many bytes may take by that.
    fn expected(&self, bytes: usize) -> Option<Duration> {
        if bytes < TELLING_BYTES {
            return self.answer;
        }
        let by_bytes = Duration::from_nanos((self.byte? * bytes as f64) as u64);
        Some(self.answer.unwrap_or_default().max(by_bytes))
    }
}

/// The share of `left` that an answer has that is expected to take so long; none if it has all of it.
fn share(left: Duration, expected: Option<Duration>, is_large: bool) -> Option<Duration> {
    let (least, most) = (left / 4, left / 2);
    match expected {
        Some(expected) if expected > most - most / 5 => None,
        Some(expected) => Some(expected.saturating_mul(2).max(LEAST).clamp(least, most)),
        // Nobody knows how long a large body is on its way.
        None => Some(if is_large { most } else { LEAST.clamp(least, most) }),
    }
}

impl Trials {
    /// A request with a body of so many bytes was answered.
    pub(in crate::export) fn answered(&self, bytes: usize, took: Duration) {
        self.0.lock().times.note(bytes, took);
    }

    /// From now on everything is given up when so long nothing happens.
    pub(in crate::export) fn hurry(&self, within: Duration) {
        self.0.lock().hurry = Some((Instant::now(), within));
    }

    /// Begins one, for a request with a body of so many bytes that has so much time.
    pub(in crate::export) fn begin(&self, bytes: usize, left: Duration) -> Trial<'_> {
        Trial { trials: self, begun: Instant::now(), left, bytes }
    }
}

/// A request over a connection that was idle.
pub(in crate::export) struct Trial<'a> {
    trials: &'a Trials,
    begun: Instant,
    left: Duration,
    bytes: usize,
}

impl Trial<'_> {
    /// When it is over; none if it goes on as long as there is time.
    fn end(&self) -> Option<Instant> {
        let State { times, hurry } = *self.trials.0.lock();
        let (expected, is_large) = (times.expected(self.bytes), self.bytes >= TELLING_BYTES);
        let end = |begun: Instant, left| share(left, expected, is_large).and_then(|share| begun.checked_add(share));
        let usual = end(self.begun, self.left);
        let hurried = hurry.and_then(|(since, within)| end(self.begun.max(since), within.min(self.left)));
        usual.into_iter().chain(hurried).min()
    }

    /// The same as the end of a step.
    pub(in crate::export) fn deadline(&self, deadline: Deadline) -> Deadline {
        match self.end() {
            Some(end) => deadline.or_sooner(Deadline::within(end.saturating_duration_since(Instant::now()))),
            None => deadline,
        }
    }

    /// Waits for the first byte of an answer. What has brought that is no worse than a new connection.
    pub(in crate::export) fn wait(&self, transport: &mut dyn Transport, deadline: Deadline) -> Result<(), Fault> {
        while transport.buffers().input().is_empty() {
            let end = self.deadline(deadline);
            end.left()?;
            match transport.await_input(end.or_sooner(Deadline::within(STEP)).timeout()) {
                Ok(true) | Err(Error::Timeout(_)) => {}
                Ok(false) => return Err(Fault::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_share_of_a_connection_that_was_idle_grows_with_what_answers_take_and_leaves_time_for_another() {
        let all = None;
        for (left, expected, is_large, right) in [
            (10_000, None, false, Some(2_500)),
            (10_000, None, true, Some(5_000)),
            (10_000, Some(1), false, Some(2_500)),
            (10_000, Some(2_000), false, Some(4_000)),
            (10_000, Some(4_000), true, Some(5_000)),
            (10_000, Some(4_001), false, all),
            (10_000, Some(20_000), false, all),
            // The budget at exit.
            (1_000, Some(1), false, Some(250)),
            (1_000, Some(200), false, Some(400)),
            (1_000, Some(600), false, all),
            (400, None, false, Some(200)),
            (100, Some(1), false, Some(50)),
            (0, None, false, Some(0)),
        ] {
            let given = share(left * MS, expected.map(|expected| expected * MS), is_large);
            assert_eq!(given, right.map(|right| right * MS), "{left}, {expected:?}, {is_large}");
        }
        assert_eq!(share(Duration::MAX, Some(Duration::MAX), false), None);
        assert!(share(Duration::MAX, Some(Duration::ZERO), false).is_some());
    }

    #[test]
    fn a_slow_answer_is_remembered_and_forgotten_step_by_step() {
        let mut times = Times::default();
        assert_eq!((times.expected(10), times.expected(1 << 20)), (None, None));
        times.note(10, 2_000 * MS);
        times.note(10, 400 * MS);
        assert_eq!((times.expected(10), times.expected(1 << 20)), (Some(1_600 * MS), None));
        (0..40).for_each(|_| times.note(10, 10 * MS));
        assert!(times.expected(10).unwrap() < 11 * MS);
        // A mebibyte in a second.
        times.note(1 << 20, 1_000 * MS);
        let four = times.expected(4 << 20).unwrap();
        assert!(four > 3_999 * MS && four < 4_001 * MS, "{four:?}");
    }

    #[test]
    fn who_hurries_shortens_what_is_under_way() {
        let trials = Trials::default();
        let trial = trials.begin(10, 10_000 * MS);
        assert_eq!(trial.end(), Some(trial.begun + 2_500 * MS));
        trials.hurry(1_000 * MS);
        assert!(trial.end().unwrap() < trial.begun + 2_000 * MS);
        // Who is known to take longer is waited for.
        trials.answered(10, 600 * MS);
        assert_eq!(trial.end(), Some(trial.begun + 2_500 * MS));
    }
}
