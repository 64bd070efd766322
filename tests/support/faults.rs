//! A receiver that misbehaves by script, over real sockets: what the friendly one of `otlp::testing` never does.
//!
//! A script is a sequence of acts, taken one by one: the next one by each connection that is accepted, and by each
//! further request on a connection that was kept alive. The last act repeats. Connections may be made to act otherwise.
//!
//! Nothing here sleeps in place of a handshake: whoever stalls says so in the [`Log`], and [`FaultServer::wait`]
//! waits for what it shows. Dropping the server ends its threads, wherever they are blocked.
// No test file needs all of it.
#![allow(dead_code, unused_imports)]

mod authority;
mod closed;
pub(crate) mod http2;
mod line;
mod script;

pub(crate) use authority::{Authority, Identity};
pub(crate) use closed::Closed;
pub(crate) use script::{
    Act, After, Answer, Extent, accept, answer, answer_after, close_after, reset_after, stall_after,
};

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use line::{Line, cut};
use otlp::testing::proto::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::{Condvar, Mutex, MutexGuard};
use prost::Message as _;
use rustls::ServerConfig;
use script::Then;
use socket2::{SockRef, Socket};

use crate::support::{Ids, LONG};

/// More than any test sends; a larger request is a defect of the test.
const LARGEST_REQUEST: usize = 64 << 20;

/// How much a socket that is not read takes before its peer is blocked: small, so that this happens.
const RECEIVE_BUFFER: usize = 16 * 1024;

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Requests whose head was read, in the order in which that happened.
    pub(crate) requests: Vec<Seen>,
    /// TLS sessions that were resumed.
    pub(crate) resumed: u64,
    /// Connections on which nothing will happen any more.
    pub(crate) stalled: u64,
    /// What went wrong on the way in: TLS handshakes that failed, requests that ended early.
    pub(crate) failures: Vec<String>,
    open: BTreeMap<u64, TcpStream>,
    /// Connections that wait for another request.
    idle: BTreeSet<u64>,
    stopping: bool,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Counted from 1.
    pub(crate) connection: u64,
    /// Request line and headers, in lower case.
    pub(crate) head: String,
    /// When it had been read as far as it was.
    pub(crate) at: Instant,
    /// The spans it brought, if it was read whole.
    pub(crate) ids: Option<Vec<Ids>>,
    /// The status it was answered with, set before the answer is sent.
    pub(crate) status: Option<u16>,
    /// Nothing kept its sender from learning that status, unless it did not wait: the answer's head was sent whole,
    /// and no reset followed.
    pub(crate) is_decided: bool,
}

pub(crate) struct FaultServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// Connections that do the same to every request.
struct Node {
    connections: RangeInclusive<u64>,
    act: Act,
}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    script: Mutex<(usize, Vec<Act>)>,
    /// What connections do that do not act by the script.
    nodes: Mutex<Vec<Node>>,
    log: Mutex<Log>,
    changed: Condvar,
}

impl FaultServer {
    /// Over plain TCP.
    pub(crate) fn plain(script: impl IntoIterator<Item = Act>) -> Self {
        Self::start(None, script)
    }

    /// Over TLS.
    pub(crate) fn tls(config: Arc<ServerConfig>, script: impl IntoIterator<Item = Act>) -> Self {
        Self::start(Some(config), script)
    }

    /// Over plain TCP, at a port where nobody listened before.
    pub(crate) fn opening(port: Closed, script: impl IntoIterator<Item = Act>) -> Self {
        Self::listening(port.into_socket(), None, script)
    }

    fn start(tls: Option<Arc<ServerConfig>>, script: impl IntoIterator<Item = Act>) -> Self {
        Self::listening(closed::bound(), tls, script)
    }

    fn listening(socket: Socket, tls: Option<Arc<ServerConfig>>, script: impl IntoIterator<Item = Act>) -> Self {
        let script: Vec<_> = script.into_iter().collect();
        assert!(!script.is_empty(), "a script has at least one act");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tls,
            script: Mutex::new((0, script)),
            nodes: Mutex::default(),
            log: Mutex::new(Log::default()),
            changed: Condvar::new(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(&listener)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where to send, by the scheme the server speaks.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint_by(if self.shared.tls.is_some() { "https" } else { "http" }, "localhost")
    }

    /// Where to send, by another scheme or name.
    pub(crate) fn endpoint_by(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// Waits until `done` holds, and answers what `done` does; panics if that takes too long.
    #[track_caller]
    pub(crate) fn wait<T>(&self, mut done: impl FnMut(&Log) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        let mut log = self.shared.log();
        loop {
            if let Some(value) = done(&log) {
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came to that: {log:?}");
            self.shared.changed.wait_for(&mut log, left);
        }
    }

    /// Waits until so many connections have stalled.
    #[track_caller]
    pub(crate) fn wait_for_stalled(&self, connections: u64) {
        self.wait(|log| (log.stalled >= connections).then_some(()));
    }

    /// Waits until so many requests have been read whole.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, requests: usize) {
        self.wait(|log| (log.whole() >= requests).then_some(()));
    }

    /// Waits until the other side, or this one, has closed every connection.
    #[track_caller]
    pub(crate) fn wait_for_hang_ups(&self) {
        self.wait(|log| log.open.is_empty().then_some(()));
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.log().connections
    }

    /// TLS sessions that were resumed.
    pub(crate) fn resumed(&self) -> u64 {
        self.shared.log().resumed
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.log().requests.clone()
    }

    /// What went wrong on the way in.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.shared.log().failures.clone()
    }

    /// Every span that arrived whole, whatever its request was answered; twice if it came twice.
    pub(crate) fn arrived(&self) -> Vec<Ids> {
        self.shared.log().requests.iter().flat_map(|request| request.ids.clone().unwrap_or_default()).collect()
    }

    /// Waits until every connection waits for another request, and closes them; they are closed when this returns.
    pub(crate) fn close_idle(&self) {
        self.wait(|log| log.open.keys().eq(&log.idle).then_some(()));
        let log = self.shared.log();
        log.idle.iter().filter_map(|number| log.open.get(number)).for_each(cut);
        drop(log);
        self.wait(|log| log.idle.is_empty().then_some(()));
    }

    /// A connection that will be the one of this number does so to whatever it is sent.
    pub(crate) fn have_sick(&self, connection: u64, act: Act) {
        self.shared.nodes.lock().push(Node { connections: connection..=connection, act });
    }

    /// Every connection there was so far does so to whatever it is sent from now on.
    pub(crate) fn forget_connections(&self, act: Act) {
        let connections = 1..=self.connections();
        // The latest word counts.
        self.shared.nodes.lock().insert(0, Node { connections, act });
    }

    /// Replaces the rest of the script.
    pub(crate) fn go_on_with(&self, script: impl IntoIterator<Item = Act>) {
        *self.shared.script.lock() = (0, script.into_iter().collect());
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        let mut log = self.shared.log();
        log.stopping = true;
        log.open.values().for_each(cut);
        drop(log);
        self.shared.changed.notify_all();
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        let ended = self.acceptor.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the fault server itself failed");
    }
}

impl Seen {
    /// How many spans it brought, if it was read whole.
    pub(crate) fn spans(&self) -> u64 {
        self.ids.as_ref().map_or(0, |ids| ids.len() as u64)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connection, spans, status) = (self.connection, self.spans(), self.status);
        write!(f, "{spans} spans on connection {connection} answered {status:?}")
    }
}

impl Log {
    fn whole(&self) -> usize {
        self.requests.iter().filter(|request| request.ids.is_some()).count()
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let value = change(&mut self.log());
        self.changed.notify_all();
        value
    }

    fn next_act(&self, connection: u64) -> Act {
        if let Some(node) = self.nodes.lock().iter().find(|node| node.connections.contains(&connection)) {
            return node.act.clone();
        }
        let mut script = self.script.lock();
        let (at, acts) = &mut *script;
        let act = acts[(*at).min(acts.len() - 1)].clone();
        *at += 1;
        act
    }

    fn run(&self, listener: &TcpListener) {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let number = self.change(|log| {
                    if log.stopping {
                        return None;
                    }
                    log.connections += 1;
                    log.open.insert(log.connections, stream.try_clone().unwrap());
                    Some(log.connections)
                });
                let Some(number) = number else { break };
                // Here and not on its own thread: connections take their acts in the order in which they came.
                let act = self.next_act(number);
                scope.spawn(move || self.serve(number, stream, act));
            }
        });
    }

    fn serve(&self, number: u64, stream: TcpStream, mut act: Act) {
        stream.set_nodelay(true).unwrap();
        let mut line = Line::new(number, stream, self.tls.clone());
        loop {
            let after = match self.perform(&mut line, act) {
                Ok(after) => after,
                Err(error) => {
                    self.change(|log| log.failures.push(error.to_string()));
                    After::Close
                }
            };
            match after {
                After::KeepAlive => {}
                After::Stall => {
                    self.change(|log| log.stalled += 1);
                    self.changed.wait_while(&mut self.log(), |log| !log.stopping);
                    break;
                }
                After::Reset => {
                    SockRef::from(&line.raw).set_linger(Some(Duration::ZERO)).unwrap();
                    break;
                }
                After::Close => {
                    line.finish();
                    break;
                }
            }
            self.change(|log| log.idle.insert(number));
            let more = line.wait_for_more();
            self.change(|log| log.idle.remove(&number));
            if !more {
                break;
            }
            act = self.next_act(number);
        }
        // Both handles of the socket go before it counts as gone.
        self.change(|log| log.open.remove(&number));
        drop(line);
    }

    fn perform(&self, line: &mut Line, act: Act) -> io::Result<After> {
        if !matches!(act.read, Extent::Nothing) {
            self.read(line, act.read)?;
        }
        let answer = match act.then {
            Then::Stall => return Ok(After::Stall),
            Then::Reset => return Ok(After::Reset),
            Then::Close => return Ok(After::Close),
            Then::Answer(answer) => answer,
        };
        self.changed.wait_while(&mut self.log(), |log| !log.stopping && log.whole() < answer.held_until);
        self.change(|log| {
            if let Some(seen) = log.requests.iter_mut().rev().find(|seen| seen.connection == line.number) {
                seen.status = Some(answer.status).filter(|status| *status > 0);
                seen.is_decided = match line.call {
                    Some(call) => answer.is_decided_by(&answer.frames(call.stream)),
                    None => answer.is_decided(),
                };
            }
        });
        // A sender that goes away in the middle of a hostile answer does what it should.
        let sent = self.send(line, &answer);
        Ok(if sent.is_ok() { answer.after } else { After::Close })
    }

    fn read(&self, line: &mut Line, extent: Extent) -> io::Result<()> {
        let head = line.read_head()?;
        let number = line.number;
        let is_first = self.log().requests.iter().all(|seen| seen.connection != number);
        let at = self.change(|log| {
            log.resumed += u64::from(is_first && line.stream.is_resumed());
            let seen = Seen {
                connection: number,
                head: head.clone(),
                at: Instant::now(),
                ids: None,
                status: None,
                is_decided: false,
            };
            log.requests.push(seen);
            log.requests.len() - 1
        });
        if line.call.is_some() {
            return self.read_message(line, extent, at, &head);
        }
        let length = header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
        assert!(length <= LARGEST_REQUEST, "{head}");
        let wanted = match extent {
            Extent::Nothing | Extent::Head => return Ok(()),
            Extent::Body(bytes) => bytes.min(length),
            Extent::Whole => length,
        };
        let body = line.read_body(wanted)?;
        let brings_spans = !head.starts_with("post /v1/metrics ");
        let ids = (wanted == length && brings_spans).then(|| span_ids(&body, header(&head, "content-encoding")));
        self.change(|log| (log.requests[at].ids, log.requests[at].at) = (ids, Instant::now()));
        Ok(())
    }

    /// As much of a call's message as is to be read.
    fn read_message(&self, line: &mut Line, extent: Extent, at: usize, head: &str) -> io::Result<()> {
        let most = match extent {
            Extent::Nothing | Extent::Head => return Ok(()),
            Extent::Body(bytes) => bytes,
            Extent::Whole => usize::MAX,
        };
        let message = line.read_message(most)?;
        let is_whole = line.call.as_ref().is_some_and(|call| call.is_whole);
        let brings_spans = head.starts_with("post /") && head.contains("trace.v1.traceservice/export");
        let ids = (is_whole && message.len() <= most && brings_spans)
            .then(|| span_ids(&message, header(head, "content-encoding")));
        self.change(|log| (log.requests[at].ids, log.requests[at].at) = (ids, Instant::now()));
        Ok(())
    }

    fn send(&self, line: &mut Line, answer: &Answer) -> io::Result<()> {
        let bytes = match &line.call {
            Some(call) => answer.frames(call.stream),
            None => answer.bytes(),
        };
        match answer.pace {
            None => line.send(&bytes)?,
            Some(pace) => {
                for byte in bytes.iter().chain(answer.endless.iter().cycle()) {
                    line.send(&[*byte])?;
                    if !self.changed.wait_while_for(&mut self.log(), |log| !log.stopping, pace).timed_out() {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                }
            }
        }
        while !answer.endless.is_empty() {
            line.send(&answer.endless)?;
        }
        Ok(())
    }
}

/// A header of a head in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim())
}

fn span_ids(body: &[u8], encoding: Option<&str>) -> Vec<Ids> {
    let mut inflated = Vec::new();
    let body = match encoding {
        None => body,
        Some("gzip") => {
            flate2::read::GzDecoder::new(body).read_to_end(&mut inflated).expect("gzip that inflates");
            &inflated
        }
        Some(other) => panic!("{other}"),
    };
    let request = ExportTraceServiceRequest::decode(body).expect("protobuf that decodes");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    spans.map(|span| (span.trace_id.try_into().unwrap(), span.span_id.try_into().unwrap())).collect()
}
