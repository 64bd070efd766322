//! What a contender has to do.

use std::env;

use crate::work::Request;

/// How the contender is set up.
pub struct Setup {
    /// The receiver's base URL.
    pub endpoint: String,
    /// What may wait.
    pub queue: Queue,
}

/// What may wait, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// As it comes.
    Default,
    /// Room for so many spans where there is a setting for it; the rest as it comes.
    Room(usize),
    /// Room for so many spans, and nothing is sent before it is asked for, where there are settings for it: what is
    /// measured is recording alone.
    Hold(usize),
}

impl Setup {
    /// To the receiver that the runner names.
    pub(crate) fn new(queue: Queue) -> Self {
        let endpoint = env::var("PEERS_ENDPOINT").expect("PEERS_ENDPOINT is not set: start this with the runner");
        Self { endpoint, queue }
    }
}

/// A tracing library with an exporter of OTLP over HTTP, gzipped protobuf.
pub trait Contender: Sync + Sized {
    /// Sets everything up as its documentation does, with the service name `peers`.
    fn start(setup: Setup) -> Self;

    /// A root span called `root`, entered, and inside it, for each request, a child called `hot` with five attributes:
    /// `http.request.method` = "GET", `url.path` = the request's, `http.response.status_code` = 200, `retry` = false
    /// and `user.id` = the request's.
    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>);

    /// The same without attributes.
    fn bare(&self, children: usize);

    /// Blocks until what was recorded is sent.
    fn flush(&self);

    /// Ends it the way a program does that is about to end.
    fn shutdown(self);
}
