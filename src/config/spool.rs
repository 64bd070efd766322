//! Where undelivered bodies are kept on disk, and how many.

use std::{path::PathBuf, time::Duration};

/// Where spans that could not be delivered in time are kept: in files that a later run, another process with the same
/// directory, or this client itself sends as soon as the receiver answers.
///
/// Off unless `dir` is set. The files hold request bodies as they would have been sent, including all attributes.
/// Directories are created for the user only (0700), and so are files (0600). Headers, and so credentials, are not
/// written; a body is sent with the headers of the client that sends it, and only to the URL it was meant for.
///
/// Files are written by the client's threads, and by the thread that shuts down; never by one that records.
///
/// Given in code, the whole struct counts and the environment's `OTLP_SPOOL_*` are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory; created, with its parents, when there is something to write. Default `None`: no spool. Not empty.
    /// Several processes may share it; on a network file system `flock` has to work. Environment: `OTLP_SPOOL_DIR`.
    pub dir: Option<PathBuf>,
    /// The most bytes of all files in the directory. Default 64 MiB; at least 1. Spans that would exceed it are dropped
    /// and counted; existing files stay. Each process checks before it writes, so several that write at the same moment
    /// can exceed it by what they write then. Environment: `OTLP_SPOOL_MAX_BYTES`.
    pub max_bytes: u64,
    /// How long a body may wait to be sent. Default 7 days; zero for no limit. An older one is removed when it is
    /// found, and counted as dropped by the process that finds it. The age of a body that was written while the clock
    /// was not yet set, or was ahead, counts from when it is first found with a correct clock. Environment:
    /// `OTLP_SPOOL_MAX_AGE` in milliseconds.
    pub max_age: Duration,
    /// Whether each file is synced to the disk before it counts as written, and its removal before the next one is
    /// sent. Default false: files survive the end of the process, however it ends, but perhaps not a power failure.
    /// Costs a few milliseconds and more for each file. Environment: `OTLP_SPOOL_FSYNC`.
    pub fsync: bool,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { dir: None, max_bytes: 64 * 1024 * 1024, max_age: Duration::from_secs(7 * 24 * 60 * 60), fsync: false }
    }
}
