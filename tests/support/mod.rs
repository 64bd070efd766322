//! What several test files need.
#![allow(dead_code)]

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use otlp::{Client, ClientBuilder, Snapshot, SpanContext, testing::Receiver};

/// Longer than anything here takes; what runs into it has hung.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A builder for a client that sends to `receiver`, and is otherwise as users get it.
pub(crate) fn client_of(receiver: &Receiver) -> ClientBuilder {
    Client::builder().with_endpoint(receiver.endpoint()).with_service_name("test")
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
