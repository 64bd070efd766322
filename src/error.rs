//! What can go wrong and how it is told: the [`Error`] of fallible calls, the closed list of [`DropReason`]s, and the
//! one door through which the library speaks about itself.

use std::{error, fmt, io, sync::Arc};

mod diagnostics;
mod door;
mod parse;

pub(crate) use diagnostics::{Count, Diagnostics, ErrorHandler, Subject};
pub use diagnostics::{Diagnostic, LogLevel};
pub use parse::ParseError;
pub(crate) use parse::{choice, name_of};

/// What a fallible call of this crate answers. Recording a span never returns one.
///
/// No message, `Debug` output or source contains a header value, a token or the user information of a URL. A message
/// says all there is to say; what the system said is the [source](std::error::Error::source) as well, for who wants to
/// know its kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting given in code makes no sense. Returned by `build()`, never later.
    #[non_exhaustive]
    Config {
        /// The setting as it is named in code.
        knob: &'static str,
        /// The value that was given; hidden where it could hold a secret.
        value: String,
        /// What is allowed instead.
        allowed: String,
        /// What the system said to it, of a file that cannot be read.
        source: Option<Arc<io::Error>>,
    },
    /// [`init`](crate::init) was called a second time: the process-wide client exists already.
    AlreadyInitialized,
    /// The process's signals could not be watched.
    #[non_exhaustive]
    Signals {
        /// What the system said.
        source: io::Error,
    },
    /// A fault in the exporter itself; the spans at hand were dropped and counted.
    Fault,
    /// The client was shut down before the call.
    Shutdown,
    /// A span given to `export_spans` has a trace id or span id of zero. Nothing was sent.
    #[non_exhaustive]
    InvalidSpan {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// Spans did not fit into a [`SpanBuffer`](crate::SpanBuffer), which holds what it held before.
    #[non_exhaustive]
    BufferFull {
        /// The most bytes it takes.
        capacity: usize,
        /// How many of them were left.
        left: usize,
    },
    /// The memory bound left no room for a [`SpanBuffer`](crate::SpanBuffer), or for a request: at once for one that no
    /// client of this bound has room for, else until the time was over.
    #[non_exhaustive]
    NoMemory {
        /// Bytes of the buffer, or of all that is in memory while the request is made.
        needed: usize,
        /// `max_memory_usage`.
        limit: usize,
    },
    /// A span alone is a larger request than `max_request_bytes` allows; it was not sent.
    #[non_exhaustive]
    TooLarge {
        /// Bytes of the request before compression.
        bytes: usize,
        /// `max_request_bytes`.
        limit: usize,
    },
    /// The receiver answered that it does not accept the request.
    #[non_exhaustive]
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
    #[non_exhaustive]
    Unreachable {
        /// Where the request went, without user information and query.
        endpoint: String,
        /// The kind of failure and what to check.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { knob, value, allowed, .. } => write!(f, "{knob} = {value}: {allowed}"),
            Self::AlreadyInitialized => {
                f.write_str("the process-wide client is already initialised; use otlp::client() to reach it")
            }
            Self::Signals { source } => write!(f, "signals cannot be handled: {source}"),
            Self::Fault => f.write_str("a fault in the exporter cost these spans; this is a bug in otlp"),
            Self::Shutdown => f.write_str("the client is shut down"),
            Self::InvalidSpan { index } => {
                write!(f, "span {index} has no valid ids: neither trace id nor span id may be zero")
            }
            Self::BufferFull { capacity, left } => {
                write!(f, "the buffer takes {capacity} bytes, and these spans need more than the {left} that are left")
            }
            Self::NoMemory { needed, limit } => {
                write!(
                    f,
                    "max_memory_usage = {limit} leaves no room for the {needed} bytes that this takes; raise \
                     OTLP_MAX_MEMORY_USAGE, or send less at once"
                )
            }
            Self::TooLarge { bytes, limit } => {
                write!(f, "a request of {bytes} bytes is larger than max_request_bytes = {limit}")
            }
            Self::Refused { endpoint, status, message } => write!(f, "{endpoint} answered {status}: {message}"),
            Self::Unreachable { endpoint, message } => write!(f, "{endpoint} could not be reached: {message}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Config { source, .. } => source.as_ref().map(|source| &**source as _),
            Self::Signals { source } => Some(source),
            Self::AlreadyInitialized
            | Self::Fault
            | Self::Shutdown
            | Self::InvalidSpan { .. }
            | Self::BufferFull { .. }
            | Self::NoMemory { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. } => None,
        }
    }
}

impl Error {
    pub(crate) fn config(knob: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self::Config { knob, value: value.to_string(), allowed: allowed.into(), source: None }
    }

    /// A text given in code that is not what it must be.
    pub(crate) fn rejected(knob: &'static str, why: ParseError) -> Self {
        let ParseError { value, must, cause } = why;
        Self::Config { knob, value, allowed: must, source: cause.map(|cause| cause.0) }
    }
}

/// Why a span processor or a span exporter did not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportError {
    /// There was more to do than fits into the time.
    TimedOut,
    /// The processor or exporter was shut down before the call.
    Shutdown,
    /// The processor or exporter failed.
    #[non_exhaustive]
    Failed {
        /// Why, in one line without secrets: it may be written to stderr.
        message: String,
        /// What it failed for, where that is an error of its own.
        source: Option<Box<dyn error::Error + Send + Sync>>,
    },
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "there was no time to finish",
            Self::Shutdown => "it is shut down",
            Self::Failed { message, .. } => message,
        })
    }
}

impl error::Error for ExportError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Failed { source, .. } => source.as_deref().map(|source| source as _),
            Self::TimedOut | Self::Shutdown => None,
        }
    }
}

impl ExportError {
    /// A failure for this reason.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed { message: why.to_string(), source: None }
    }

    /// A failure for this error, which is its [source](std::error::Error::source); its text is the message.
    pub fn caused_by(error: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        let source = error.into();
        Self::Failed { message: source.to_string(), source: Some(source) }
    }
}

listed! {
    public
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
        /// A request with this span alone is larger than the receiver takes, or than
        /// [`max_request_bytes`](crate::ClientBuilder::with_max_request_bytes), and then it was not sent.
        TooLarge,
        /// Every attempt failed until the time for the batch was over.
        Undelivered,
        /// The client was shut down before the span was ended, or before an answer came: the receiver may have it
        /// all the same.
        Shutdown,
        /// A fault inside the exporter cost this batch; it was caught and the exporter went on.
        Panicked,
        /// The span lay in the spool for longer than [`SpoolConfig::max_age`](crate::SpoolConfig::max_age).
        Expired,
        /// The system gave no memory, although `max_memory_usage` left room for more: the process has a limit of its own, or
        /// the machine has none left.
        NoMemory,
        /// The span was recorded by what recording itself called, on the same thread: an allocator that records spans, or a signal
        /// handler. What was recorded of that would have to be recorded again, and so on for ever.
        Nested,
    }
}

impl DropReason {
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
            Self::NoMemory => "no_memory",
            Self::Nested => "nested",
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
}
