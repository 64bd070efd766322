//! Where requests go: a request in, a typed outcome out. A sink knows nothing of spans, and retries nothing.

use std::time::{Duration, Instant};

mod answer;
mod channel;
mod classify;
#[cfg(test)]
mod counting;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod reply;

pub(crate) use self::{channel::Vitals, http::HttpSink, reply::Reply};
#[cfg(test)]
pub(crate) use counting::Counting;
#[cfg(feature = "grpc")]
pub(crate) use grpc::GrpcSink;

use self::channel::Channel;
use super::{
    net::{permits::Permit, pool::Over},
    outcome::Outcome,
    request::{Request, Signal},
};
#[cfg(feature = "grpc")]
use crate::config::Protocol;
use crate::config::Settings;

/// Known when the client is built, and the same for as long as it lives.
pub(crate) enum Sink {
    /// OTLP over HTTP/1.1.
    Http(Box<HttpSink>),
    /// OTLP over gRPC.
    #[cfg(feature = "grpc")]
    Grpc(Box<GrpcSink>),
    /// Counts requests, and accepts them.
    #[cfg(test)]
    Counting(Counting),
}

impl Sink {
    /// A sink for requests of one signal.
    #[cfg_attr(not(feature = "grpc"), expect(unused_variables, reason = "HTTP has a URL for each signal"))]
    pub(super) fn new(settings: &Settings, signal: Signal) -> Self {
        #[cfg(feature = "grpc")]
        if settings.protocol == Protocol::Grpc {
            return Self::Grpc(Box::new(GrpcSink::new(settings, signal)));
        }
        Self::Http(Box::new(HttpSink::new(settings)))
    }

    /// Its connections, if it has any.
    fn way(&self) -> Option<&Channel> {
        match self {
            Self::Http(http) => Some(http.way()),
            #[cfg(feature = "grpc")]
            Self::Grpc(grpc) => Some(grpc.way()),
            #[cfg(test)]
            Self::Counting(_) => None,
        }
    }

    /// Waits until `deadline` for the right to submit a request, which is held until the outcome is there; none where
    /// no right is needed.
    pub(super) fn permit(&self, deadline: Instant) -> Result<Option<Permit<'_>>, Outcome> {
        self.way().map(|way| way.permit(deadline)).transpose()
    }

    /// Sends a request once, over a connection of this kind where there are any, and waits for its outcome until
    /// `until`. Blocks.
    pub(super) fn submit(&self, request: &Request, until: Instant, over: Over) -> Reply {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self {
            Self::Http(http) => http.post(&request.body, request.compression, left, over),
            #[cfg(feature = "grpc")]
            Self::Grpc(grpc) => grpc.call(&request.body, request.compression, request.uncompressed, left, over),
            #[cfg(test)]
            Self::Counting(counting) => counting.submit(request).into(),
        }
    }

    /// From now on what gets no answer for so long is given up: connections that may be dead have less time.
    pub(super) fn hurry(&self, within: Duration) {
        if let Some(way) = self.way() {
            way.hurry(within);
        }
    }

    pub(super) fn vitals(&self) -> Vitals {
        self.way().map(Channel::vitals).unwrap_or_default()
    }

    /// What there is to say about it since the last time.
    pub(super) fn take_remarks(&self) -> Vec<String> {
        let mut remarks = self.way().map(Channel::take_remarks).unwrap_or_default();
        remarks.extend(match self {
            Self::Http(http) => http.take_remark(),
            #[cfg(feature = "grpc")]
            Self::Grpc(_) => None,
            #[cfg(test)]
            Self::Counting(_) => None,
        });
        remarks
    }

    /// A host that the system has not found an address of so far, and is still asked for.
    pub(super) fn unresolved(&self) -> Option<String> {
        self.way()?.unresolved()
    }

    /// When it should be looked after, though nothing else happens.
    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        self.way()?.next_upkeep()
    }

    /// Looks after what is idle; true if something of it was lost.
    pub(super) fn upkeep(&self, now: Instant) -> bool {
        self.way().is_some_and(|way| way.look_after(now))
    }

    /// Makes ready, on a thread of its own, what is to be there before it is needed; `done` is told how it went.
    pub(super) fn open_ahead(&self, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        if let Some(way) = self.way() {
            way.open_ahead(done);
        }
    }

    /// Changes how many requests may be under way at once; those that are too many are not cut.
    pub(super) fn limit(&self, requests: usize) {
        if let Some(way) = self.way() {
            way.limit(requests);
        }
    }

    /// Cuts what is under way and refuses what comes.
    pub(super) fn close(&self) {
        if let Some(way) = self.way() {
            way.close();
        }
    }
}
