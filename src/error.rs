//! Errors and how they are reported: the [`Error`] of fallible calls, the closed list of [`DropReason`]s, and the
//! single place through which the library writes diagnostics.

use std::{error, fmt, io, sync::Arc};

mod diagnostics;
mod door;
mod parse;

pub(crate) use diagnostics::{Count, Diagnostics, ErrorHandler, Subject};
pub use diagnostics::{Diagnostic, LogLevel};
pub use parse::ParseError;
pub(crate) use parse::{choice, name_of};

/// The error of fallible calls of this crate. Recording a span never returns one.
///
/// No message, `Debug` output or source contains a header value, a token or the user information of a URL. The message
/// is complete by itself; an error of the system is also available as the [source](std::error::Error::source), for
/// callers that need its kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting given in code is invalid. Returned by `build()`, never later.
    #[non_exhaustive]
    Config {
        /// The setting as it is named in code.
        knob: &'static str,
        /// The value that was given; hidden if it could hold a secret.
        value: String,
        /// What is allowed instead.
        allowed: String,
        /// The system's error, for a file that cannot be read.
        source: Option<Arc<io::Error>>,
    },
    /// [`init`](crate::init) was called a second time: the process-wide client exists already.
    AlreadyInitialized,
    /// The process's signals could not be watched.
    #[non_exhaustive]
    Signals {
        /// The system's error.
        source: io::Error,
    },
    /// A fault in the exporter itself; the spans of the call were dropped and counted.
    Fault,
    /// The client was shut down before the call.
    Shutdown,
    /// A span given to `export_spans` has a trace id or span id of zero. Nothing was sent.
    #[non_exhaustive]
    InvalidSpan {
        /// The span's index in the list, from 0.
        index: usize,
    },
    /// Spans did not fit into a [`SpanBuffer`](crate::SpanBuffer), whose content is unchanged.
    #[non_exhaustive]
    BufferFull {
        /// The capacity in bytes.
        capacity: usize,
        /// The free bytes.
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
    /// A single span makes a larger request than `max_request_bytes` allows; it was not sent.
    #[non_exhaustive]
    TooLarge {
        /// Bytes of the request before compression.
        bytes: usize,
        /// `max_request_bytes`.
        limit: usize,
    },
    /// The receiver refused the request.
    #[non_exhaustive]
    Refused {
        /// Where the request went, without user information and query.
        endpoint: String,
        /// The HTTP status code; over gRPC, the status code of gRPC, which is below 17.
        status: u16,
        /// The receiver's message, shortened.
        message: String,
    },
    /// There was no usable answer: the receiver could not be reached, the connection broke, time ran out, or the answer
    /// was not HTTP.
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
            Self::Refused { endpoint, status, message } => {
                let of_grpc = if *status < 100 { "gRPC status " } else { "" };
                write!(f, "{endpoint} answered {of_grpc}{status}: {message}")
            }
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

    /// The error for an invalid text given in code.
    pub(crate) fn rejected(knob: &'static str, why: ParseError) -> Self {
        let ParseError { value, must, cause } = why;
        Self::Config { knob, value, allowed: must, source: cause.map(|cause| cause.0) }
    }
}

/// Why a span processor or a span exporter failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportError {
    /// There was not enough time to finish.
    TimedOut,
    /// The processor or exporter was shut down before the call.
    Shutdown,
    /// The processor or exporter failed.
    #[non_exhaustive]
    Failed {
        /// The reason, in one line without secrets: it may be written to stderr.
        message: String,
        /// The underlying error, if there is one.
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
    /// Makes a failure with this reason.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed { message: why.to_string(), source: None }
    }

    /// Makes a failure caused by this error, which becomes its [source](std::error::Error::source); the error's text is
    /// the message.
    pub fn caused_by(error: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        let source = error.into();
        Self::Failed { message: source.to_string(), source: Some(source) }
    }
}

listed! {
    public
    /// Why an ended span did not arrive. Every lost span has exactly one reason.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum DropReason {
        /// The queue was full: `max_queue_size` spans or `max_memory_usage` bytes were waiting.
        QueueFull,
        /// The receiver accepted the request and rejected these spans (partial success).
        Rejected,
        /// The receiver refused the request with a status that must not be retried, or the answer was unusable.
        Refused,
        /// A request with this span alone is larger than the receiver accepts, or than
        /// [`max_request_bytes`](crate::ClientBuilder::with_max_request_bytes) allows; in the latter case it was not
        /// sent.
        TooLarge,
        /// Every attempt failed until the time for the batch was over.
        Undelivered,
        /// The client was shut down before the span was ended, or before an answer came; in the latter case the
        /// receiver may still have it.
        Shutdown,
        /// A fault inside the exporter lost this batch; it was caught and the exporter continued.
        Panicked,
        /// The span stayed in the spool for longer than [`SpoolConfig::max_age`](crate::SpoolConfig::max_age).
        Expired,
        /// The system gave no memory, although `max_memory_usage` left room for more: the process has a limit of its own, or
        /// the machine has none left.
        NoMemory,
        /// The span was recorded while the same thread was recording: by an allocator that records spans, or by a
        /// signal handler. Recording it would cause more such spans, without end.
        Nested,
    }
}

impl DropReason {
    /// Returns the reason's name in receipts, metrics and diagnostics.
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
