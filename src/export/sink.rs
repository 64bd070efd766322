//! Where requests go: a request in, a typed outcome out. A sink knows nothing of spans, and retries nothing.

use std::time::{Duration, Instant};

mod answer;
mod classify;
#[cfg(test)]
mod counting;
#[expect(dead_code, reason = "not wired yet")]
mod grpc;
mod http;

#[cfg(test)]
pub(crate) use counting::Counting;
pub(crate) use http::{HttpSink, Reply};

use super::{
    net::{Carried, permits::Permit, pool::Over},
    outcome::Outcome,
    request::Request,
};
use crate::config::Settings;

/// Known when the client is built, and the same for as long as it lives.
pub(crate) enum Sink {
    /// OTLP over HTTP/1.1.
    Http(Box<HttpSink>),
    /// Counts requests, and accepts them.
    #[cfg(test)]
    Counting(Counting),
}

/// What holds for a sink while it is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vitals {
    /// When it last got somewhere: a connection was made, or bytes of a request were taken.
    pub(crate) progress: Option<Instant>,
    /// About a round trip to the receiver; nothing before the first connection.
    pub(crate) round_trip: Duration,
    /// What went over all connections so far.
    pub(crate) carried: Carried,
    /// Connections that are open and serve no request.
    pub(crate) idle_connections: usize,
}

impl Sink {
    pub(super) fn new(settings: &Settings) -> Self {
        Self::Http(Box::new(HttpSink::new(settings)))
    }

    /// Waits until `deadline` for the right to submit a request, which is held until the outcome is there; none where
    /// no right is needed.
    pub(super) fn permit(&self, deadline: Instant) -> Result<Option<Permit<'_>>, Outcome> {
        match self {
            Self::Http(http) => http.permit(deadline).map(Some),
            #[cfg(test)]
            Self::Counting(_) => Ok(None),
        }
    }

    /// Sends a request once, over a connection of this kind where there are any, and waits for its outcome until
    /// `until`. Blocks.
    pub(super) fn submit(&self, request: &Request, until: Instant, over: Over) -> Reply {
        match self {
            Self::Http(http) => {
                let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                http.post(&request.body, request.compression, left, over)
            }
            #[cfg(test)]
            Self::Counting(counting) => counting.submit(request).into(),
        }
    }

    /// From now on what gets no answer for so long is given up: connections that may be dead have less time.
    pub(super) fn hurry(&self, within: Duration) {
        match self {
            Self::Http(http) => http.hurry(within),
            #[cfg(test)]
            Self::Counting(_) => {}
        }
    }

    pub(super) fn vitals(&self) -> Vitals {
        match self {
            Self::Http(http) => Vitals {
                progress: http.progress(),
                round_trip: http.round_trip(),
                carried: http.carried(),
                idle_connections: http.idle_connections(),
            },
            #[cfg(test)]
            Self::Counting(_) => Vitals::default(),
        }
    }

    /// What there is to say about it since the last time.
    pub(super) fn take_remarks(&self) -> Vec<String> {
        match self {
            Self::Http(http) => http.take_remarks(),
            #[cfg(test)]
            Self::Counting(_) => Vec::new(),
        }
    }

    /// A host that the system has not found an address of so far, and is still asked for.
    pub(super) fn unresolved(&self) -> Option<String> {
        match self {
            Self::Http(http) => http.unresolved(),
            #[cfg(test)]
            Self::Counting(_) => None,
        }
    }

    /// When it should be looked after, though nothing else happens.
    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        match self {
            Self::Http(http) => http.next_upkeep(),
            #[cfg(test)]
            Self::Counting(_) => None,
        }
    }

    /// Looks after what is idle; true if something of it was lost.
    pub(super) fn upkeep(&self, now: Instant) -> bool {
        match self {
            Self::Http(http) => http.look_after(now),
            #[cfg(test)]
            Self::Counting(_) => false,
        }
    }

    /// Makes ready, on a thread of its own, what is to be there before it is needed; `done` is told how it went.
    pub(super) fn open_ahead(&self, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        match self {
            Self::Http(http) => http.open_ahead(done),
            #[cfg(test)]
            Self::Counting(_) => drop(done),
        }
    }

    /// Changes how many requests may be under way at once; those that are too many are not cut.
    pub(super) fn limit(&self, requests: usize) {
        match self {
            Self::Http(http) => http.set_max_connections(requests),
            #[cfg(test)]
            Self::Counting(_) => {}
        }
    }

    /// Cuts what is under way and refuses what comes.
    pub(super) fn close(&self) {
        match self {
            Self::Http(http) => http.shutdown(),
            #[cfg(test)]
            Self::Counting(_) => {}
        }
    }
}
