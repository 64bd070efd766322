//! From when the age of a spooled file counts: from when a clock that can be believed first told it. Pure.
//!
//! A machine without a clock of its own starts in 1970, or at whatever time its system was built, and writes files
//! before its clock is set; one whose clock was ahead leaves files of times to come. What such a name says means
//! nothing. Whoever meets the file first by a clock that can be believed stamps it: its time of modification is from
//! then on what all processes that share the directory count from, in this run and in later ones.

use std::time::{Duration, SystemTime};

/// No file was written before: 2026-01-01. A clock that shows less was never set.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// What is known of a file's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// So long.
    Told(Duration),
    /// Nobody knows: it counts from now on.
    FromNow,
    /// Nobody knows, and the clock at hand does not tell either.
    Unknown,
}

impl Age {
    /// The age `now` of a file whose name says that it was written at `named`, and which was `modified` then.
    pub(super) fn of(named: Option<SystemTime>, modified: Option<SystemTime>, now: SystemTime) -> Self {
        let earliest = SystemTime::UNIX_EPOCH + EARLIEST;
        if now < earliest {
            return Self::Unknown;
        }
        let told = [named, modified].into_iter().flatten().find(|time| (earliest..=now).contains(time));
        let age = told.and_then(|since| now.duration_since(since).ok());
        age.map_or(Self::FromNow, Self::Told)
    }

    /// Whether that is more than `most`.
    pub(super) fn exceeds(self, most: Duration) -> bool {
        matches!(self, Self::Told(age) if age > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// So many days after the earliest time there is.
    fn day(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + EARLIEST + DAY * days
    }

    #[test]
    fn a_name_that_can_be_believed_counts_whatever_the_file_system_says() {
        for modified in [None, Some(SystemTime::UNIX_EPOCH), Some(day(2)), Some(day(99))] {
            assert_eq!(Age::of(Some(day(1)), modified, day(4)), Age::Told(3 * DAY), "{modified:?}");
        }
    }

    #[test]
    fn a_name_from_before_the_clock_was_set_or_of_a_time_to_come_gives_way_to_the_stamp() {
        let never_set = SystemTime::UNIX_EPOCH + Duration::from_secs(30);
        let system_was_built = day(0) - 300 * DAY;
        for named in [None, Some(never_set), Some(system_was_built), Some(day(9)), Some(day(40_000))] {
            assert_eq!(Age::of(named, Some(day(2)), day(4)), Age::Told(2 * DAY), "{named:?}");
            assert_eq!(Age::of(named, named, day(4)), Age::FromNow, "{named:?}");
            assert_eq!(Age::of(named, None, day(4)), Age::FromNow, "{named:?}");
        }
    }

    #[test]
    fn a_clock_that_was_never_set_makes_nothing_old_and_stamps_nothing() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(30);
        for time in [SystemTime::UNIX_EPOCH, day(1)] {
            assert_eq!(Age::of(Some(time), Some(time), now), Age::Unknown);
        }
        assert!(!Age::Unknown.exceeds(Duration::ZERO) && !Age::FromNow.exceeds(Duration::ZERO));
        assert!(Age::Told(DAY).exceeds(Duration::ZERO) && !Age::Told(DAY).exceeds(DAY));
    }
}
