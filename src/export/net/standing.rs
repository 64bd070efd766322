//! What an answer says of the connection it came over, and whether the request goes over another one. Pure: time is an
//! argument.
//!
//! Behind one address there may be many nodes, and a connection stays with the one it was made to. An answer that may be
//! that node's fault casts doubt on the connection: what comes next goes over a trusted one, or over a new one, before
//! it goes over this one. That has an end where new connections bring nothing better: then the answer is the
//! receiver's, and the connections there are do.

use std::time::{Duration, Instant};

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum About {
    /// The request was accepted.
    Success,
    /// The request, which every node would answer so.
    Request,
    /// The node may be at fault, or the way to it, and the next attempt goes elsewhere.
    Node,
    /// The same, and without another node's word it is final.
    NodeForGood,
}

impl About {
    /// By a status of HTTP.
    pub(in crate::export) fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            400 | 408 | 411 | 413 | 414 | 415 | 422 | 431 => Self::Request,
            // Who sends requests elsewhere was set up to, and asking again would bring the same.
            300..=399 | 429 | 502 | 503 | 504 => Self::Node,
            _ => Self::NodeForGood,
        }
    }
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) struct Judgement {
    /// How the connection stands from now on.
    pub(in crate::export) is_doubted: bool,
    /// The same request is worth making over another connection, once.
    pub(in crate::export) elsewhere: bool,
}

/// Judges an answer over a connection that was doubted or not before, from a receiver that is known to answer new
/// connections no better or not.
pub(in crate::export) fn judge(about: About, was_doubted: bool, is_the_receivers: bool) -> Judgement {
    match about {
        About::Success => Judgement { is_doubted: false, elsewhere: false },
        About::Request => Judgement { is_doubted: was_doubted, elsewhere: false },
        About::Node => Judgement { is_doubted: true, elsewhere: false },
        About::NodeForGood => Judgement { is_doubted: true, elsewhere: !is_the_receivers },
    }
}

/// How long the first pause is after a new connection that was no better, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many connections at most are opened instead of others in this time, however well they do: where an answer comes
/// and goes, it is no connection's.
const MOST_INSTEAD: u32 = 8;
const WINDOW: Duration = Duration::from_secs(60);

/// What there is to doubt about a receiver as a whole.
#[derive(Debug, Default)]
pub(in crate::export) struct Doubt {
    /// Nothing was accepted since a node failed.
    is_there: bool,
    /// New connections in a row that were opened instead of a doubted one, and were no better.
    in_vain: u32,
    /// Not before this another one is opened.
    not_before: Option<Instant>,
    /// The window that is counted in, and the connections that were opened in it.
    window: Option<Instant>,
    opened: u32,
}

impl Doubt {
    /// Whether a new connection is opened before a doubted one is used.
    pub(in crate::export) fn allows_new(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now) && !self.has_opened_enough(now)
    }

    /// A connection is opened. True if that happens instead of using one that is doubted.
    pub(in crate::export) fn opens(&mut self, now: Instant) -> bool {
        if !self.is_there {
            return false;
        }
        if self.window.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.window, self.opened) = (Some(now), 0);
        }
        self.opened += 1;
        // Of several that wait for the end of the pause, one tries.
        if self.in_vain > 0 {
            self.not_before = Some(now + pause(self.in_vain));
        }
        true
    }

    /// An answer came; over a connection that was opened instead of another one, or not.
    pub(in crate::export) fn note(&mut self, about: About, is_instead: bool, now: Instant) {
        match about {
            About::Success => (self.is_there, self.in_vain, self.not_before) = (false, 0, None),
            About::Request => {}
            About::Node | About::NodeForGood => {
                self.is_there = true;
                if is_instead {
                    self.in_vain += 1;
                    self.not_before = Some(now + pause(self.in_vain));
                }
            }
        }
    }

    /// Whether what comes is the receiver's answer and no single node's, as far as new connections tell.
    pub(in crate::export) fn is_the_receivers(&self, now: Instant) -> bool {
        self.in_vain > 0 || self.has_opened_enough(now)
    }

    fn has_opened_enough(&self, now: Instant) -> bool {
        self.opened >= MOST_INSTEAD && self.window.is_some_and(|since| now.saturating_duration_since(since) < WINDOW)
    }
}

/// The pause after so many new connections in vain, from 1.
fn pause(in_vain: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << (in_vain - 1).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_an_answer_says_of_a_connection_and_of_another_attempt() {
        let (doubted, elsewhere) = (true, true);
        // The status; doubted before; the receiver's own: doubted from now on; try elsewhere.
        for (status, was_doubted, is_the_receivers, expected) in [
            (200, false, false, (false, false)),
            (200, true, false, (false, false)),
            (204, true, true, (false, false)),
            (400, false, false, (false, false)),
            (400, true, true, (doubted, false)),
            (413, false, false, (false, false)),
            (415, true, false, (doubted, false)),
            (429, false, false, (doubted, false)),
            (502, true, false, (doubted, false)),
            (503, false, true, (doubted, false)),
            (504, false, false, (doubted, false)),
            (401, false, false, (doubted, elsewhere)),
            (403, true, false, (doubted, elsewhere)),
            (404, false, true, (doubted, false)),
            (500, true, true, (doubted, false)),
            (500, false, false, (doubted, elsewhere)),
            (301, false, false, (doubted, false)),
            (408, false, false, (false, false)),
            (101, false, false, (doubted, elsewhere)),
        ] {
            let judgement = judge(About::of(status), was_doubted, is_the_receivers);
            let seen = (judgement.is_doubted, judgement.elsewhere);
            assert_eq!(seen, expected, "{status}, doubted {was_doubted}, the receiver's {is_the_receivers}");
        }
    }

    #[test]
    fn a_new_connection_that_is_no_better_makes_it_the_receivers_answer_and_each_pause_twice_as_long() {
        let (mut doubt, mut now) = (Doubt::default(), Instant::now());
        assert!(!doubt.opens(now), "the first is no other's");
        doubt.note(About::NodeForGood, false, now);
        assert!(doubt.allows_new(now) && !doubt.is_the_receivers(now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(doubt.opens(now));
            doubt.note(About::NodeForGood, true, now);
            assert!(doubt.is_the_receivers(now));
            let millisecond = Duration::from_millis(1);
            assert!(!doubt.allows_new(now + seconds * SECOND - millisecond), "{seconds}");
            now += seconds * SECOND;
            assert!(doubt.allows_new(now), "{seconds}");
        }
        doubt.note(About::Success, false, now);
        assert!(doubt.allows_new(now) && !doubt.is_the_receivers(now) && !doubt.opens(now));
    }

    #[test]
    fn one_of_several_tries_when_the_pause_is_over() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        doubt.note(About::Node, false, now);
        doubt.opens(now);
        doubt.note(About::Node, true, now);
        assert!(doubt.allows_new(now + SECOND) && doubt.opens(now + SECOND));
        assert!(!doubt.allows_new(now + SECOND));
    }

    #[test]
    fn where_answers_come_and_go_few_connections_are_opened_for_them() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        let mut opened = 0;
        for _ in 0..1_000 {
            doubt.note(About::Node, false, now);
            if doubt.allows_new(now) && doubt.opens(now) {
                opened += 1;
                doubt.note(About::Success, true, now);
            }
        }
        assert_eq!(opened, MOST_INSTEAD);
        assert!(doubt.is_the_receivers(now) && !doubt.is_the_receivers(now + WINDOW));
    }
}
