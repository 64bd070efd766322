//! Limits how many connections are in use at once: each sender holds a permit, and waits for one if there are no more.

use std::time::Instant;

use crate::sync::locks::{Condvar, Mutex};

/// One permit for each connection that may be in use.
#[derive(Debug)]
pub(in crate::export) struct Permits {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    held: usize,
    most: usize,
    closed: bool,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum NoPermit {
    /// None became free in time.
    Timeout,
    /// The pool is closed.
    Closed,
}

/// The right to use one connection, until it is dropped.
#[derive(Debug)]
#[must_use = "the connection may be used as long as this lives"]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(in crate::export) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { held: 0, most, closed: false }), changed: Condvar::new() }
    }

    /// Waits for a permit until `deadline`.
    pub(in crate::export) fn acquire(&self, deadline: Instant) -> Result<Permit<'_>, NoPermit> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Err(NoPermit::Closed);
            }
            if state.held < state.most {
                state.held += 1;
                return Ok(Permit(self));
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() && state.held >= state.most && !state.closed {
                return Err(NoPermit::Timeout);
            }
        }
    }

    /// The number of permits.
    pub(in crate::export) fn most(&self) -> usize {
        self.state.lock().most
    }

    /// Changes the number of permits. If more are held, the next ones are given out when enough came back.
    pub(in crate::export) fn set_most(&self, most: usize) {
        self.state.lock().most = most.max(1);
        self.changed.notify_all();
    }

    /// Makes all waiting threads fail.
    pub(in crate::export) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state.lock().held -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn within(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn one_more_than_there_are_waits_until_one_comes_back() {
        let permits = Permits::new(2);
        let (first, _second) = (permits.acquire(within(0)).unwrap(), permits.acquire(within(0)).unwrap());
        assert_eq!(permits.acquire(within(10)).unwrap_err(), NoPermit::Timeout);
        thread::scope(|scope| {
            let third = scope.spawn(|| permits.acquire(within(30_000)).map(drop));
            drop(first);
            assert_eq!(third.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn a_changed_number_counts_at_once() {
        let permits = Permits::new(1);
        let _first = permits.acquire(within(0)).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| permits.acquire(within(30_000)).map(drop));
            permits.set_most(2);
            assert_eq!(second.join().unwrap(), Ok(()));
        });
        permits.set_most(0);
        assert_eq!((permits.most(), permits.acquire(within(10)).unwrap_err()), (1, NoPermit::Timeout));
    }

    #[test]
    fn closing_sends_those_who_wait_away() {
        let permits = Permits::new(1);
        let _first = permits.acquire(within(0)).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| permits.acquire(within(30_000)).map(drop));
            permits.close();
            assert_eq!(second.join().unwrap(), Err(NoPermit::Closed));
        });
    }
}
