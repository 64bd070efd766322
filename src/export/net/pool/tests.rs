use std::{io::IoSlice, time::Duration};

use ureq::{
    Error,
    unversioned::transport::{Buffers, NextTimeout, Transport},
};

use super::*;

/// A connection over which nothing goes.
#[derive(Debug)]
struct Nothing;

impl Line for Nothing {
    fn send(&mut self, parts: &[IoSlice<'_>], _: NextTimeout) -> Result<usize, Error> {
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn flush(&mut self, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

/// A protocol that keeps nothing.
struct Mute;

impl Talk for Mute {
    fn is_alive(&mut self, _: &mut dyn Line) -> bool {
        true
    }
}

impl Transport for Nothing {
    fn buffers(&mut self) -> &mut dyn Buffers {
        unreachable!("nothing is sent")
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        Ok(false)
    }

    fn is_open(&mut self) -> bool {
        true
    }
}

/// A pool of as many idle connections as there may be, each idle for the given milliseconds, doubted or not.
fn pool(now: Instant, idle: &[(u64, bool)]) -> Pool {
    let doubt = Doubt::default();
    let mut pool = Pool { idle: Vec::new(), doubt, leased: 0, most: idle.len(), is_warming: false, is_closed: false };
    for (millis, is_doubted) in idle {
        let used = now - Duration::from_millis(*millis);
        pool.keep(Kept { used, is_doubted: *is_doubted, ..Kept::new(Box::new(Nothing), Box::new(Mute)) });
    }
    pool
}

/// How long the remaining connections have been idle, the longest first.
fn left(pool: &Pool, now: Instant) -> Vec<u128> {
    pool.idle.iter().map(|kept| (now - kept.used).as_millis()).collect()
}

#[test]
fn a_request_takes_the_trusted_connection_that_was_used_last_or_a_new_one_before_a_doubted_one() {
    let now = Instant::now() + Duration::from_secs(60);
    let chosen = |idle: &[(u64, bool)], over, is_known: bool| {
        let mut pool = pool(now, idle);
        if is_known {
            pool.doubt.note(About::Node, false, now);
            pool.doubt.note(About::Node, true, now);
        }
        pool.choose(now, over).map(|at| (now - pool.idle[at].used).as_millis())
    };
    let (trusted, doubted) = (false, true);
    for is_known in [false, true] {
        assert_eq!(chosen(&[(30, trusted), (20, trusted), (10, doubted)], Over::Any, is_known), Some(20));
        assert_eq!(chosen(&[(5_000, trusted), (10, doubted)], Over::Any, is_known), Some(5_000));
        assert_eq!(chosen(&[(20, trusted), (10, doubted)], Over::Another, is_known), Some(20));
        // What may be forgotten on the way is no other way.
        assert_eq!(chosen(&[(5_000, trusted), (10, doubted)], Over::Another, is_known), None);
        assert_eq!(chosen(&[], Over::Any, is_known), None);
    }
    let all_doubted = [(20, doubted), (10, doubted)];
    assert_eq!(chosen(&all_doubted, Over::Any, false), None, "a new one");
    assert_eq!(chosen(&all_doubted, Over::Any, true), Some(10), "where new ones are no better");
    assert_eq!(chosen(&all_doubted, Over::Another, true), None);
}

#[test]
fn doubted_connections_make_room_first_and_the_oldest_after_them() {
    let now = Instant::now() + Duration::from_secs(60);
    let mut pool = pool(now, &[(40, false), (30, true), (20, false), (10, true)]);
    for expected in [vec![40, 20, 10], vec![40, 20], vec![20], vec![]] {
        let (_, closed) = pool.open(now);
        assert_eq!((closed.len(), left(&pool, now)), (1, expected));
        assert!(pool.idle.len() + pool.leased <= pool.most);
    }
}
