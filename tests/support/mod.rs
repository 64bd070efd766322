//! What several test files need.
#![allow(dead_code)]

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use otlp::{
    Client, ClientBuilder, Snapshot, SpanContext, SpanData,
    processing::{ExportError, SpanExporter},
    testing::Receiver,
};

/// Longer than anything here takes; what runs into it has hung.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Whether something holds before `time` is over. Nothing tells of counters and files when they change: they are looked
/// at again and again.
pub(crate) fn holds_within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The shortest time that `once` answers, of as many tries as it takes to be below `enough`: what else the machine does
/// makes it longer and never shorter, so that one try in time shows that nothing was waited for.
pub(crate) fn shortest(enough: Duration, once: impl FnMut() -> Duration) -> Duration {
    const TRIES: usize = 60;
    let mut shortest = Duration::MAX;
    for took in std::iter::repeat_with(once).take(TRIES) {
        shortest = shortest.min(took);
        if shortest < enough {
            break;
        }
    }
    shortest
}

/// How often this thread has waited for something so far: its own doing, and not that of a busy machine. Linux tells.
pub(crate) fn waits() -> u64 {
    let Ok(status) = fs::read_to_string("/proc/thread-self/status") else { return 0 };
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[track_caller]
pub(crate) fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(LONG, holds), "waited in vain: {what}");
}

/// Waits until so many intervals of the client's performance monitor are over. What is done on the same thread at most
/// as long apart was done as often, but for once.
#[track_caller]
pub(crate) fn wait_for_intervals(client: &Client, intervals: usize) {
    let (mut last, mut over) = (None, HashSet::new());
    wait_for("the intervals of the performance monitor", || {
        // In nanoseconds: no two are alike, and one that is not over yet is longer at each look.
        let interval = client.get_performance_metrics().interval;
        if last.replace(interval) == Some(interval) {
            over.insert(interval);
        }
        over.len() >= intervals
    });
}

/// Where threads wait until its keeper lets them go: all of them once the keeper is dropped, as it is by an assertion
/// that fails too, so that the test fails and does not hang.
pub(crate) struct Gate(Mutex<mpsc::Receiver<()>>);

pub(crate) struct Keeper(mpsc::Sender<()>);

pub(crate) fn gate() -> (Keeper, Gate) {
    let (keeper, gate) = mpsc::channel();
    (Keeper(keeper), Gate(Mutex::new(gate)))
}

impl Gate {
    pub(crate) fn wait(&self) {
        let _ = self.0.lock().unwrap().recv_timeout(LONG);
    }
}

impl Keeper {
    pub(crate) fn let_one_pass(&self) {
        self.0.send(()).unwrap();
    }
}

/// A builder for a client that sends to `receiver`, and is otherwise as users get it.
pub(crate) fn client_of(receiver: &Receiver) -> ClientBuilder {
    Client::builder().with_endpoint(receiver.endpoint()).with_service_name("test")
}

/// Spans have come, and all of them over gRPC.
#[track_caller]
pub(crate) fn assert_called(receiver: &Receiver) {
    const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let requests = receiver.requests();
    assert!(!requests.is_empty(), "nothing was called");
    for request in requests {
        assert_eq!((request.path.as_str(), request.header("content-type")), (TRACES, Some("application/grpc")));
    }
}

/// The accounting identity: every span that was ended is in exactly one place.
#[track_caller]
pub(crate) fn assert_accounted(client: &Client) -> Snapshot {
    let stats = client.stats();
    let is = stats.exported + stats.dropped.total() + stats.queued + stats.spooled;
    assert_eq!(stats.ended + stats.restored, is, "{stats:?}");
    stats
}

pub(crate) type Ids = ([u8; 16], [u8; 8]);

pub(crate) fn ids(context: &SpanContext) -> Ids {
    (context.trace_id().to_bytes(), context.span_id().to_bytes())
}

/// Exactly the spans that were made arrived, each once.
#[track_caller]
pub(crate) fn assert_received(receiver: &Receiver, made: &[Ids]) {
    let received = receiver.span_ids();
    let distinct: HashSet<_> = received.iter().copied().collect();
    assert_eq!(distinct.len(), received.len(), "a span arrived twice");
    let made: HashSet<_> = made.iter().copied().collect();
    let missing = made.difference(&distinct).count();
    let unknown = distinct.difference(&made).count();
    assert_eq!((missing, unknown), (0, 0), "spans missing and unknown, of {}", made.len());
    assert_eq!(receiver.errors(), Vec::<String>::new());
}

/// A directory for a spool, which does not exist yet, and is removed in the end.
pub(crate) struct SpoolDir(PathBuf);

impl SpoolDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(env::temp_dir().join(format!("otlp-spool-{}-{number}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Every file there is with this extension.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = entries(&self.0).flat_map(|lane| entries(&lane).collect::<Vec<_>>()).collect();
        files.retain(|path| path.extension().is_some_and(|found| found == extension));
        files.sort();
        files
    }

    /// The bodies that wait to be sent.
    pub(crate) fn bodies(&self) -> Vec<PathBuf> {
        self.files("otlp")
    }
}

impl Drop for SpoolDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0).or_else(|_| fs::remove_file(&self.0));
    }
}

/// Takes note of what it is given.
#[derive(Default)]
pub(crate) struct Counting(AtomicUsize);

impl Counting {
    pub(crate) fn spans(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl SpanExporter for Counting {
    fn export(&self, batch: &[SpanData]) -> Result<(), ExportError> {
        self.0.fetch_add(batch.len(), Ordering::SeqCst);
        Ok(())
    }
}
