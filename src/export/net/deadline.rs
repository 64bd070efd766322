//! The end of a step, however many system calls it takes, and which timeout is reported when it comes.

use std::{
    io,
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    unversioned::transport::{NextTimeout, time::Duration as UreqDuration},
};

/// The time `None` means no limit.
#[derive(Debug, Clone, Copy)]
pub(in crate::export) struct Deadline {
    at: Option<Instant>,
    reason: Timeout,
}

impl Deadline {
    /// The end of everything done for a request, `time` from now.
    pub(in crate::export) fn within(time: Duration) -> Self {
        Self::after(time, Timeout::Global)
    }

    /// The end of the time for a connection, `time` from now.
    pub(in crate::export) fn connecting(time: Duration) -> Self {
        Self::after(time, Timeout::Connect)
    }

    fn after(time: Duration, reason: Timeout) -> Self {
        Self { at: Instant::now().checked_add(time), reason }
    }

    /// The earlier of both deadlines.
    pub(in crate::export) fn or_sooner(self, other: Self) -> Self {
        match (self.at, other.at) {
            (Some(at), Some(sooner)) if sooner < at => other,
            (None, Some(_)) => other,
            _ => self,
        }
    }

    /// The deadline that a transport was given, if there is time left.
    pub(in crate::export) fn of(timeout: &NextTimeout) -> Result<Self, Error> {
        let deadline = Self { at: timeout.not_zero().map(|left| Instant::now() + *left), reason: timeout.reason };
        if timeout.after.is_zero() { Err(Error::Timeout(deadline.reason)) } else { Ok(deadline) }
    }

    /// The deadline in the form that a transport takes.
    pub(in crate::export) fn timeout(&self) -> NextTimeout {
        let Self { at, reason } = *self;
        let left = at.map(|at| at.saturating_duration_since(Instant::now()));
        let after = left.map_or(UreqDuration::NotHappening, Into::into);
        NextTimeout { after, reason, ..NextTimeout::default() }
    }

    /// The time that is left, never zero; `None` if there is no limit.
    pub(in crate::export) fn left(&self) -> Result<Option<Duration>, Error> {
        let Some(at) = self.at else { return Ok(None) };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::Timeout(self.reason)) } else { Ok(Some(left)) }
    }

    /// Converts an error of the system, which has its own codes for the end of the time.
    pub(in crate::export) fn error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(self.reason),
            _ => error.into(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_sooner_of_two_ends_counts_with_its_reason() {
        let (long, short) = (Deadline::within(2 * HOUR), Deadline::connecting(HOUR));
        let never = Deadline::within(Duration::MAX);
        for (one, other) in [(long, short), (short, long), (never, short), (short, never)] {
            let deadline = one.or_sooner(other);
            assert_eq!(deadline.reason, Timeout::Connect);
            assert!(deadline.left().unwrap().unwrap() > HOUR / 2 && *deadline.timeout().after <= HOUR);
        }
        assert!(never.or_sooner(never).left().unwrap().is_none());
        assert!(never.timeout().not_zero().is_none());
    }

    #[test]
    fn a_step_that_has_no_time_does_not_begin() {
        let over = Deadline::connecting(Duration::ZERO);
        assert!(matches!(over.left(), Err(Error::Timeout(Timeout::Connect))));
        assert!(matches!(Deadline::of(&over.timeout()), Err(Error::Timeout(Timeout::Connect))));
    }
}
