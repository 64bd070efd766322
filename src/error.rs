//! What can go wrong and how it is told: the [`Error`] of fallible calls, the closed list of
//! [`DropReason`]s, and the one door through which the library speaks about itself.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What a fallible call of this crate answers. Recording a span never returns one.
///
/// No message, `Debug` output or source contains a header value, a token or the user information of a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting given in code makes no sense. Returned by `build()`, never later.
    #[error("{knob} = {value}: {allowed}")]
    Config {
        /// The setting as it is named in code.
        knob: &'static str,
        /// The value that was given; hidden where it could hold a secret.
        value: String,
        /// What is allowed instead.
        allowed: String,
    },
    /// [`init`](crate::init) was called a second time: the process-wide client exists already.
    #[error("the process-wide client is already initialised; use otlp::client() to reach it")]
    AlreadyInitialized,
    /// The process's signals could not be watched.
    #[error("signals cannot be handled: {message}")]
    Signals {
        /// What the system said.
        message: String,
    },
    /// A fault in the exporter itself; the spans at hand were dropped and counted.
    #[error("a fault in the exporter cost these spans; this is a bug in otlp")]
    Fault,
    /// The client was shut down before the call.
    #[error("the client is shut down")]
    Shutdown,
    /// A span given to `export_spans` has a trace id or span id of zero. Nothing was sent.
    #[error("span {index} has no valid ids: neither trace id nor span id may be zero")]
    InvalidSpan {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// Spans did not fit into a [`SpanBuffer`](crate::SpanBuffer), which holds what it held before.
    #[error("the buffer takes {capacity} bytes, and these spans need more than the {left} that are left")]
    BufferFull {
        /// The most bytes it takes.
        capacity: usize,
        /// How many of them were left.
        left: usize,
    },
    /// The memory bound left no room for a [`SpanBuffer`](crate::SpanBuffer).
    #[error("max_memory_usage = {limit} leaves no room for a buffer of {needed} bytes")]
    NoMemory {
        /// Bytes of the buffer.
        needed: usize,
        /// `max_memory_usage`.
        limit: usize,
    },
    /// The receiver answered that it does not accept the request.
    #[error("{endpoint} answered {status}: {message}")]
    Refused {
        /// Where the request went, without user information and query.
        endpoint: String,
        /// The HTTP status code.
        status: u16,
        /// What the receiver said, shortened.
        message: String,
    },
    /// No answer came: the receiver could not be reached, or the connection broke, or time ran out, or what came
    /// was no HTTP.
    #[error("{endpoint} could not be reached: {message}")]
    Unreachable {
        /// Where the request went, without user information and query.
        endpoint: String,
        /// The kind of failure and what to check.
        message: String,
    },
}

impl Error {
    pub(crate) fn config(knob: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self::Config { knob, value: value.to_string(), allowed: allowed.into() }
    }
}

/// Why a span that was ended did not arrive. Every lost span has exactly one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was full: `max_queue_size` spans or `max_memory_usage` bytes were waiting.
    QueueFull,
    /// The receiver accepted the request and rejected these spans (partial success).
    Rejected,
    /// The receiver refused the request with a status that must not be retried, or the answer was unusable.
    Refused,
    /// The receiver does not take a request as large as this span alone.
    TooLarge,
    /// Every attempt failed until the time for the batch was over.
    Undelivered,
    /// The client was shut down before the span was ended, or before an answer came: the receiver may have it
    /// all the same.
    Shutdown,
    /// A fault inside the exporter cost this batch; it was caught and the exporter went on.
    Panicked,
    /// It lay in the spool for longer than [`SpoolConfig::max_age`](crate::SpoolConfig::max_age).
    Expired,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::Rejected,
        Self::Refused,
        Self::TooLarge,
        Self::Undelivered,
        Self::Shutdown,
        Self::Panicked,
        Self::Expired,
    ];

    /// The reason's name in receipts, metrics and diagnostics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Undelivered => "undelivered",
            Self::Shutdown => "shutdown",
            Self::Panicked => "panicked",
            Self::Expired => "expired",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much the library says about itself on stderr. `OTEL_LOG_LEVEL` sets it; the default is `Info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing at all.
    None,
    /// Only what cost spans or made the configuration unusable.
    Error,
    /// Also what was ignored or replaced by a default.
    Warn,
    /// Also what a user may want to know once.
    #[default]
    Info,
    /// Also each batch that failed and will be tried again.
    Debug,
}

/// What a diagnostic is about. Each subject has its own rate limit, so that a flood of one kind hides no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Config,
    Export,
    Queue,
    Worker,
    Shutdown,
    Spool,
    Memory,
    Tuning,
    Metrics,
}

const SUBJECTS: usize = 9;

/// The only way the library speaks: one line each on stderr, levelled, at most one line per subject in
/// ten seconds except for configuration, which is read once, and for what is said at the end. A closed stderr is not an
/// error.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    level: LogLevel,
    since: Instant,
    /// Milliseconds after `since` before which a subject stays silent.
    silent_until: [AtomicU64; SUBJECTS],
}

/// Without the standard library's lock: in the child of a fork it may be held for ever, by a thread that is gone, and
/// elsewhere by one of the host's for as long as it likes.
#[cfg(unix)]
fn write_to_stderr(mut line: &[u8]) {
    while !line.is_empty() {
        match nix::unistd::write(std::io::stderr(), line) {
            Ok(0) => return,
            Ok(written) => line = &line[written..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(not(unix))]
fn write_to_stderr(line: &[u8]) {
    use std::io::Write as _;
    // `eprintln!` would panic where stderr is closed.
    let _ = std::io::stderr().lock().write_all(line);
}

const QUIET: Duration = Duration::from_secs(10);

impl Diagnostics {
    pub(crate) fn new(level: LogLevel) -> Self {
        Self { level, since: Instant::now(), silent_until: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Says one line, unless the level or the subject's rate limit forbids it.
    pub(crate) fn say(&self, level: LogLevel, subject: Subject, line: fmt::Arguments<'_>) {
        if self.admits(level, subject, self.since.elapsed()) {
            write_to_stderr(format!("otlp: {line}\n").as_bytes());
        }
    }

    fn admits(&self, level: LogLevel, subject: Subject, elapsed: Duration) -> bool {
        if level == LogLevel::None || level > self.level {
            return false;
        }
        if matches!(subject, Subject::Config | Subject::Shutdown) {
            return true;
        }
        let now = elapsed.as_millis() as u64;
        let quiet = QUIET.as_millis() as u64;
        let until = &self.silent_until[subject as usize];
        until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| (now >= until).then_some(now + quiet)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 72, "{}", size_of::<Error>());
    }

    #[test]
    fn every_reason_has_its_own_index_and_name() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }

    #[test]
    fn a_subject_speaks_once_in_ten_seconds_and_hides_no_other() {
        let diagnostics = Diagnostics::new(LogLevel::Info);
        let at = Duration::from_secs;
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Export, at(0)));
        assert!(!diagnostics.admits(LogLevel::Warn, Subject::Export, at(9)));
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Queue, at(9)));
        assert!(diagnostics.admits(LogLevel::Warn, Subject::Export, at(10)));
    }

    #[test]
    fn a_level_admits_itself_and_what_is_graver() {
        let quiet = Diagnostics::new(LogLevel::Error);
        assert!(!quiet.admits(LogLevel::Warn, Subject::Config, Duration::ZERO));
        assert!(quiet.admits(LogLevel::Error, Subject::Config, Duration::ZERO));
        let none = Diagnostics::new(LogLevel::None);
        assert!(!none.admits(LogLevel::Error, Subject::Config, Duration::ZERO));
    }
}
