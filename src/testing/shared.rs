//! What the receiver and its threads have in common: the log of what arrived, and the open connections.

use std::{
    collections::HashMap,
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message as _;

use super::{
    exchange::{ReceivedSpan, Request, Response},
    figures::{ConnectionCounts, Keep, Totals},
    message::Ids,
};
use crate::sync::locks::{Condvar, Mutex, MutexGuard};

/// Whole spans kept with [`Keep::Ids`].
const WHOLE_SPANS: usize = 1_000;
/// Entries of the list of errors.
const ERRORS: usize = 1_000;

pub(super) type Responder = Box<dyn Fn(&Request) -> Response + Send + Sync>;

/// Serves the requests of one connection, which has this number.
pub(super) type Serve = fn(&TcpStream, u64, &Shared);

/// What a connection of HTTP/2 ends with.
pub(super) type Farewell = [u8; 17];

/// What the receiver and its threads have in common.
pub(super) struct Shared {
    pub(super) keep: Keep,
    pub(super) responder: Option<Responder>,
    response_delay: Duration,
    requests: AtomicU64,
    log: Mutex<Log>,
    /// Notified when spans have been added to `log`.
    arrived: Condvar,
    /// The trace whose spans are kept whole with [`Keep::Ids`].
    first_trace: OnceLock<[u8; 16]>,
    /// Whole spans kept so far with [`Keep::Ids`]; may pass `WHOLE_SPANS` by what is refused.
    whole_spans: AtomicUsize,
    sockets: Mutex<Sockets>,
    /// Notified when `sockets` has changed.
    changed: Condvar,
}

/// What has been received. Locked only to append, or to copy the list of references.
#[derive(Default)]
struct Log {
    records: Vec<Arc<Record>>,
    metrics: Vec<ExportMetricsServiceRequest>,
    errors: Vec<String>,
    totals: Totals,
}

pub(super) struct Record {
    pub(super) request: Request,
    /// Empty unless the request was accepted.
    pub(super) ids: Vec<Ids>,
    /// The spans kept whole with [`Keep::Ids`].
    pub(super) whole: Vec<ReceivedSpan>,
}

/// The connections, and how far the receiver's end has come.
#[derive(Default)]
struct Sockets {
    /// By number, to cut off blocked reads.
    open: HashMap<u64, Arc<TcpStream>>,
    /// Of these, those on which no request is under way, with what is said on them before they are closed.
    idle: HashMap<u64, Option<Farewell>>,
    /// The number of the newest connection is `accepted`; `open` and `idle` are left at zero.
    counts: ConnectionCounts,
    stopped: bool,
    finished: bool,
}

impl Sockets {
    fn counts(&self) -> ConnectionCounts {
        ConnectionCounts { open: self.open.len() as u64, idle: self.idle.len() as u64, ..self.counts }
    }

    fn close_idle(&self) {
        for (number, farewell) in &self.idle {
            let Some(socket) = self.open.get(number) else { continue };
            // Its own thread is waiting for a request. Who reads nothing is not waited for.
            if let Some(farewell) = farewell
                && socket.set_nonblocking(true).is_ok()
            {
                let _ = (&**socket).write(farewell);
            }
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Notes how many there are, if they were never more.
    fn note_peaks(&mut self) {
        let now = self.counts();
        self.counts.peak_open = now.peak_open.max(now.open);
        self.counts.peak_requests = now.peak_requests.max(now.open - now.idle);
    }
}

impl Shared {
    pub(super) fn new(keep: Keep, responder: Option<Responder>, response_delay: Duration) -> Self {
        Self {
            keep,
            responder,
            response_delay,
            requests: AtomicU64::new(0),
            log: Mutex::default(),
            arrived: Condvar::new(),
            first_trace: OnceLock::new(),
            whole_spans: AtomicUsize::new(0),
            sockets: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Has connections served until the receiver stops; returns after all of them have ended.
    pub(super) fn run(&self, listener: TcpListener, serve: Serve) {
        self.accept(listener, serve);
        self.sockets.lock().finished = true;
        self.changed.notify_all();
    }

    /// Cuts off every connection, and waits at most `timeout` for their threads. True if `run` is over.
    pub(super) fn stop(&self, address: SocketAddr, timeout: Duration) -> bool {
        let mut sockets = self.sockets.lock();
        sockets.stopped = true;
        sockets.close_idle();
        for socket in sockets.open.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
        drop(sockets);

        // Nothing in std wakes a thread from accept but a connection.
        let _woken = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let mut sockets = self.sockets.lock();
        wait_while(&self.changed, &mut sockets, |sockets| !sockets.finished, timeout);
        sockets.finished
    }

    /// Accepts connections, each on a thread of its own.
    fn accept(&self, listener: TcpListener, serve: Serve) {
        // The scope's body owns the listener: the port closes before the connections' threads are waited for.
        thread::scope(move |scope| {
            loop {
                let accepted = listener.accept();
                let mut sockets = self.sockets.lock();
                if sockets.stopped {
                    return;
                }
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: wait for some to be closed.
                    self.changed.wait_until(&mut sockets, Instant::now() + Duration::from_millis(10));
                    continue;
                };
                let stream = Arc::new(stream);
                sockets.counts.accepted += 1;
                let number = sockets.counts.accepted;
                sockets.open.insert(number, Arc::clone(&stream));
                sockets.idle.insert(number, None);
                sockets.note_peaks();
                drop(sockets);
                self.changed.notify_all();
                let serve_one = move || {
                    // A panic that is not the script's would be a fault in here; it must not take the others down.
                    if catch_unwind(AssertUnwindSafe(|| serve(&stream, number, self))).is_err() {
                        self.add_error(format!("connection {number}: its thread panicked"));
                    }
                    let _ = stream.shutdown(Shutdown::Both);
                    self.forget_connection(number);
                };
                if thread::Builder::new().name(format!("otlp-recv-{number}")).spawn_scoped(scope, serve_one).is_err() {
                    self.forget_connection(number);
                }
            }
        });
    }

    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        self.log.lock().records.clone()
    }

    pub(super) fn totals(&self) -> Totals {
        self.log.lock().totals
    }

    pub(super) fn errors(&self) -> Vec<String> {
        self.log.lock().errors.clone()
    }

    fn forget_connection(&self, number: u64) {
        let mut sockets = self.sockets.lock();
        sockets.open.remove(&number);
        sockets.idle.remove(&number);
        drop(sockets);
        self.changed.notify_all();
    }

    /// A request begins on a connection.
    pub(super) fn set_busy(&self, number: u64) {
        let mut sockets = self.sockets.lock();
        sockets.idle.remove(&number);
        sockets.note_peaks();
        drop(sockets);
        self.changed.notify_all();
    }

    /// No request is under way on a connection, and this is said if it is closed now.
    pub(super) fn set_idle(&self, number: u64, farewell: Option<Farewell>) {
        let mut sockets = self.sockets.lock();
        sockets.idle.insert(number, farewell);
        drop(sockets);
        self.changed.notify_all();
    }

    /// Closes the connections on which no request is under way; answers how many these are.
    pub(super) fn close_idle(&self) -> u64 {
        let sockets = self.sockets.lock();
        sockets.close_idle();
        sockets.idle.len() as u64
    }

    pub(super) fn connections(&self) -> ConnectionCounts {
        self.sockets.lock().counts()
    }

    pub(super) fn wait_for_connections(
        &self,
        mut done: impl FnMut(&ConnectionCounts) -> bool,
        timeout: Duration,
    ) -> bool {
        let mut sockets = self.sockets.lock();
        wait_while(&self.changed, &mut sockets, |sockets| !done(&sockets.counts()), timeout);
        done(&sockets.counts())
    }

    pub(super) fn wait_for_spans(&self, count: u64, timeout: Duration) -> bool {
        let mut log = self.log.lock();
        wait_while(&self.arrived, &mut log, |log| log.totals.spans < count, timeout);
        log.totals.spans >= count
    }

    /// The number of the next request.
    pub(super) fn number_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Remembers a request that has its status, and its spans if it was accepted.
    pub(super) fn record(&self, request: Request, mut ids: Vec<Ids>, body: &[u8]) {
        let mut whole = Vec::new();
        if !request.accepted() {
            ids = Vec::new();
        } else if self.keep == Keep::Ids {
            whole = self.whole_spans(&ids, body);
        }
        // Kept for as long as the receiver lives.
        ids.shrink_to_fit();
        let record = Arc::new(Record { request, ids, whole });
        let mut log = self.log.lock();
        log.totals.requests += 1;
        log.totals.spans += record.ids.len() as u64;
        log.totals.encoded_bytes += record.request.encoded_len;
        log.totals.decoded_bytes += record.request.decoded_len;
        log.totals.header_bytes += record.request.header_len;
        log.records.push(record);
        drop(log);
        self.arrived.notify_all();
    }

    /// The spans of the first trace, as long as there is room for them.
    fn whole_spans(&self, ids: &[Ids], body: &[u8]) -> Vec<ReceivedSpan> {
        let Some((first, _)) = ids.first() else { return Vec::new() };
        let trace_id = self.first_trace.get_or_init(|| *first);
        let count = ids.iter().filter(|(id, _)| id == trace_id).count();
        if count == 0 || self.whole_spans.load(Ordering::Relaxed) >= WHOLE_SPANS {
            return Vec::new();
        }
        let room = WHOLE_SPANS.saturating_sub(self.whole_spans.fetch_add(count, Ordering::Relaxed));
        match ExportTraceServiceRequest::decode(body) {
            Ok(message) => ReceivedSpan::flatten(&message)
                .filter(|received| received.span.trace_id == trace_id)
                .take(room)
                .collect(),
            Err(error) => {
                self.add_error(format!("protobuf does not decode: {error}"));
                Vec::new()
            }
        }
    }

    pub(super) fn add_metrics(&self, metrics: ExportMetricsServiceRequest) {
        self.log.lock().metrics.push(metrics);
        self.arrived.notify_all();
    }

    pub(super) fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.log.lock().metrics.clone()
    }

    pub(super) fn wait_for_metrics(&self, count: usize, timeout: Duration) -> bool {
        let mut log = self.log.lock();
        wait_while(&self.arrived, &mut log, |log| log.metrics.len() < count, timeout);
        log.metrics.len() >= count
    }

    pub(super) fn add_error(&self, error: String) {
        let mut log = self.log.lock();
        if log.errors.len() < ERRORS {
            log.errors.push(error);
        }
    }

    pub(super) fn count_aborted(&self) {
        self.log.lock().totals.aborted += 1;
    }

    /// Holds an answer back as long as configured. False if the receiver has stopped.
    pub(super) fn pause(&self) -> bool {
        if self.response_delay.is_zero() {
            return true;
        }
        let deadline = Instant::now().checked_add(self.response_delay);
        let mut sockets = self.sockets.lock();
        while !sockets.stopped {
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut sockets, deadline).timed_out() => return true,
                Some(_) => {}
                None => self.changed.wait(&mut sockets),
            }
        }
        false
    }
}

/// Waits until `goes_on` is false for what the lock holds, but no longer than `timeout`.
fn wait_while<T>(
    changed: &Condvar,
    held: &mut MutexGuard<'_, T>,
    mut goes_on: impl FnMut(&T) -> bool,
    timeout: Duration,
) {
    let deadline = Instant::now().checked_add(timeout);
    while goes_on(held) {
        match deadline {
            Some(deadline) if changed.wait_until(held, deadline).timed_out() => return,
            Some(_) => {}
            None => changed.wait(held),
        }
    }
}
