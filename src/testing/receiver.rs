//! The receiver as its users see it: settings, questions, the end.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use super::{
    exchange::{ReceivedSpan, Request, Response},
    figures::{ConnectionCounts, Keep, Totals},
    protocol,
    shared::{Responder, Shared},
};

/// How long dropping the receiver waits for its threads. Only a scripted answer that does not return takes longer.
const DROP_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// An OTLP receiver for traces inside this process, on a free port of 127.0.0.1: over HTTP, and over gRPC where a
/// connection begins so.
///
/// It serves `POST` to any path that ends in `/v1/traces`, with `application/x-protobuf`, plain or gzip (brotli
/// and zstd with the cargo features of that name), over any number of HTTP/1.1 connections, each on a thread of its
/// own. What it can read it counts and, if the answer is 2xx (the default), keeps; what is malformed it refuses and
/// notes in [`errors`](Self::errors).
///
/// Over gRPC it serves `TraceService/Export` and `MetricsService/Export`, any number of calls at a time on the way in. The
/// answers are those of HTTP in gRPC's words: 400 is INVALID_ARGUMENT, 503 UNAVAILABLE, a `retry-after` in seconds a
/// `RetryInfo`; [`Response::grpc`] gives an exact status.
///
/// Limits: 64 KiB of headers, 64 MiB of body as sent, 256 MiB inflated; what is larger is answered 413.
///
/// Reading methods return copies and wait for nothing, [`wait_for_spans`](Self::wait_for_spans) excepted.
/// A request is recorded before its answer is sent: whoever has the answer finds its spans here.
///
/// Dropping the receiver closes its port and its connections and joins its threads. It waits 5 seconds at most, and
/// that long only for a scripted answer that does not return.
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts a receiver that accepts and keeps everything.
    ///
    /// # Errors
    ///
    /// If the port or the thread cannot be had.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A receiver with other settings.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::default()
    }

    /// Where to send: `http://127.0.0.1:PORT`, without a path.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, also the refused ones, in the order in which their answers were decided.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.records().iter().map(|record| record.request.clone()).collect()
    }

    /// Every span so far whose request was answered 2xx, in the order of arrival; see [`Keep`] for what is left out.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let mut spans = Vec::new();
        for record in self.shared.records() {
            match &record.request.message {
                Some(message) if record.request.accepted() => spans.extend(ReceivedSpan::flatten(message)),
                _ => spans.extend_from_slice(&record.whole),
            }
        }
        spans
    }

    /// How many spans have arrived in requests that were answered 2xx; what arrived twice counts twice.
    #[must_use]
    pub fn span_count(&self) -> u64 {
        self.totals().spans
    }

    /// The trace id and span id of every span counted by [`span_count`](Self::span_count), in the order of arrival.
    /// A span that arrived twice is here twice.
    #[must_use]
    pub fn span_ids(&self) -> Vec<([u8; 16], [u8; 8])> {
        self.shared.records().iter().flat_map(|record| record.ids.iter().copied()).collect()
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections().accepted
    }

    /// What there is of connections now, and what there was at most.
    #[must_use]
    pub fn connection_counts(&self) -> ConnectionCounts {
        self.shared.connections()
    }

    /// The metrics that were posted to a path that ends in `/v1/metrics` or sent to the `MetricsService`, in the order of their arrival. They are
    /// always accepted, and no part of [`requests`](Self::requests) and [`totals`](Self::totals).
    #[must_use]
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.shared.metrics()
    }

    /// Blocks until so many requests for metrics have arrived, or `timeout` is over. True if they have.
    pub fn wait_for_metrics(&self, count: usize, timeout: Duration) -> bool {
        self.shared.wait_for_metrics(count, timeout)
    }

    /// Blocks until `done` holds for the connections, or `timeout` is over. True if it holds.
    pub fn wait_for_connections(&self, done: impl FnMut(&ConnectionCounts) -> bool, timeout: Duration) -> bool {
        self.shared.wait_for_connections(done, timeout)
    }

    /// Closes the connections on which no request is under way, as servers do with those that were idle for too long;
    /// answers how many these were. To have it done to all of them, wait until `idle` is `open` before.
    pub fn close_idle_connections(&self) -> u64 {
        self.shared.close_idle()
    }

    /// Sums over everything received so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// What was wrong with malformed requests, one line for each, and which scripted answers panicked. At most the
    /// first 1,000 are kept.
    ///
    /// A request to another method or path is answered 404, one that is too large 413, one with another
    /// `content-encoding` 415, and every other 400: another `content-type`, gzip that does not inflate, protobuf
    /// that does not decode, an id of the wrong length or all zero, an end before the start, a kind that is
    /// unspecified or unknown, an envelope without spans. One defect is enough to refuse the whole request.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.shared.errors()
    }

    /// Blocks until [`span_count`](Self::span_count) is at least `count`, or `timeout` is over. True if it is.
    pub fn wait_for_spans(&self, count: u64, timeout: Duration) -> bool {
        self.shared.wait_for_spans(count, timeout)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let finished = self.shared.stop(self.address, DROP_TIMEOUT);
        if let Some(acceptor) = self.acceptor.take().filter(|_| finished) {
            let _ = acceptor.join();
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).field("totals", &self.totals()).finish()
    }
}

/// Settings of a [`Receiver`].
#[derive(Default)]
#[must_use]
pub struct ReceiverBuilder {
    response_delay: Duration,
    keep: Keep,
    responder: Option<Responder>,
}

impl ReceiverBuilder {
    /// How long each answer is held back after the request was recorded; default: not at all. Dropping the receiver
    /// ends the delay, without an answer.
    pub fn response_delay(mut self, delay: Duration) -> Self {
        self.response_delay = delay;
        self
    }

    /// How much is kept; default: [`Keep::Everything`].
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Scripts the answers to well-formed requests; default: [`Response::ok`]. Malformed ones never get here.
    ///
    /// The function runs on the connection's thread and may block; several requests may be in it at once. If it
    /// panics, the answer is 500 and [`Receiver::errors`] says so.
    pub fn respond_with(mut self, responder: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        self.responder = Some(Box::new(responder));
        self
    }

    /// Starts the receiver. It listens when this returns.
    ///
    /// # Errors
    ///
    /// If the port or the thread cannot be had.
    pub fn start(self) -> io::Result<Receiver> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(self.keep, self.responder, self.response_delay));
        let acceptor = thread::Builder::new().name("otlp-receiver".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(listener, protocol::serve)
        })?;
        Ok(Receiver { shared, address, acceptor: Some(acceptor) })
    }
}

impl fmt::Debug for ReceiverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { response_delay, keep, .. } = self;
        f.debug_struct("ReceiverBuilder")
            .field("response_delay", response_delay)
            .field("keep", keep)
            .finish_non_exhaustive()
    }
}
