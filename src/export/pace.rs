//! When what waits in the rings has to leave because of its age.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config::BatchStrategy;

/// Where only what is overdue leaves, ages are told apart in steps of this share of the batch timeout.
const STEPS: u32 = 8;

/// How old what waits is, as far as the looks of the workers tell. `P` is a position in the rings.
pub(crate) struct Pace<P> {
    batch_timeout: Duration,
    ages: Ages<P>,
}

enum Ages<P> {
    /// Since when anything waits: everything leaves with the oldest.
    Oldest(Option<Instant>),
    /// Oldest first; and when somebody last looked.
    Each(VecDeque<Mark<P>>, Option<Instant>),
}

/// What lies before `position`, and not before that of an older mark, has waited since `since` at the longest.
struct Mark<P> {
    since: Instant,
    position: P,
}

/// What has to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Overdue<P> {
    Nothing,
    Everything,
    /// What lies before it.
    Before(P),
}

impl<P: Clone> Pace<P> {
    pub(crate) fn new(strategy: BatchStrategy, batch_timeout: Duration) -> Self {
        let ages = match strategy {
            BatchStrategy::SizeFirst => Ages::Each(VecDeque::new(), None),
            _ => Ages::Oldest(None),
        };
        Self { batch_timeout, ages }
    }

    /// Notes whether anything waits `now`, all of it before `position`. `has_left` tells of a position whether nothing
    /// waits before it any more.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        is_waiting: bool,
        position: impl FnOnce() -> P,
        has_left: impl Fn(&P) -> bool,
    ) {
        match &mut self.ages {
            _ if !is_waiting => self.begin_anew(),
            Ages::Oldest(since) => _ = since.get_or_insert(now),
            Ages::Each(marks, looked) => {
                while marks.front().is_some_and(|mark| has_left(&mark.position)) {
                    marks.pop_front();
                }
                // What is new since the last look may be as old as that. What is the first to wait rings the bell.
                let since = looked.replace(now).unwrap_or(now);
                match marks.back_mut() {
                    Some(last) if since < last.since + self.batch_timeout / STEPS => last.position = position(),
                    _ => marks.push_back(Mark { since, position: position() }),
                }
            }
        }
    }

    /// Nothing waits any more that was there at the last look.
    pub(crate) fn begin_anew(&mut self) {
        match &mut self.ages {
            Ages::Oldest(since) => *since = None,
            Ages::Each(marks, looked) => {
                marks.clear();
                *looked = None;
            }
        }
    }

    /// What has waited for too long.
    pub(crate) fn overdue(&self, now: Instant) -> Overdue<P> {
        match &self.ages {
            Ages::Oldest(Some(since)) if *since + self.batch_timeout <= now => Overdue::Everything,
            Ages::Oldest(_) => Overdue::Nothing,
            Ages::Each(marks, _) => {
                let late = marks.iter().take_while(|mark| mark.since + self.batch_timeout <= now).last();
                late.map_or(Overdue::Nothing, |mark| Overdue::Before(mark.position.clone()))
            }
        }
    }

    /// When to look again, if something waits.
    pub(crate) fn next(&self) -> Option<Instant> {
        match &self.ages {
            Ages::Oldest(since) => Some((*since)? + self.batch_timeout),
            Ages::Each(marks, looked) => {
                let due = marks.front()?.since + self.batch_timeout;
                Some(looked.map_or(due, |looked| due.min(looked + self.batch_timeout / STEPS)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(800);

    /// A pace whose positions are numbers, with the time it began.
    fn pace(strategy: BatchStrategy) -> (Pace<u64>, impl Fn(u64) -> Instant) {
        let origin = Instant::now();
        (Pace::new(strategy, TIMEOUT), move |millis| origin + Duration::from_millis(millis))
    }

    #[test]
    fn everything_leaves_with_the_oldest() {
        for strategy in [BatchStrategy::TimeFirst, BatchStrategy::Hybrid, BatchStrategy::Growing] {
            let (mut pace, at) = pace(strategy);
            pace.look(at(0), true, || 1, |_| false);
            pace.look(at(700), true, || 9, |_| false);
            assert_eq!((pace.overdue(at(799)), pace.next()), (Overdue::Nothing, Some(at(800))));
            assert_eq!(pace.overdue(at(800)), Overdue::Everything);
            pace.look(at(800), false, || 9, |_| true);
            assert_eq!((pace.overdue(at(9000)), pace.next()), (Overdue::Nothing, None));
        }
    }

    #[test]
    fn size_first_lets_only_what_is_overdue_leave() {
        let (mut pace, at) = pace(BatchStrategy::SizeFirst);
        pace.look(at(0), true, || 10, |_| false);
        // What came by 400 may have waited since 200.
        pace.look(at(200), true, || 10, |_| false);
        pace.look(at(400), true, || 25, |_| false);
        assert_eq!(pace.overdue(at(799)), Overdue::Nothing);
        assert_eq!(pace.overdue(at(800)), Overdue::Before(10));
        pace.look(at(800), true, || 40, |left| *left <= 10);
        assert_eq!(pace.overdue(at(999)), Overdue::Nothing);
        assert_eq!(pace.overdue(at(1000)), Overdue::Before(25));
        assert_eq!(pace.overdue(at(1200)), Overdue::Before(40));
    }

    #[test]
    fn size_first_looks_often_enough_to_tell_ages_apart_and_keeps_few_marks() {
        let (mut pace, at) = pace(BatchStrategy::SizeFirst);
        pace.look(at(0), true, || 1, |_| false);
        assert_eq!(pace.next(), Some(at(100)));
        (0..=700).for_each(|millis| pace.look(at(millis), true, || millis, |_| false));
        let Ages::Each(marks, _) = &pace.ages else { panic!("size first") };
        assert!(marks.len() <= STEPS as usize, "{}", marks.len());
        assert_eq!(pace.next(), Some(at(800)));
        pace.look(at(701), false, || 700, |_| true);
        assert_eq!(pace.next(), None);
    }
}
