//! What an attempt at delivery came to.

use std::time::Duration;

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The request was accepted, but for so many spans.
    Accepted { rejected: u64, message: Option<String> },
    /// The receiver answered, and must not be asked the same again.
    Refused { status: u16, message: String },
    /// The receiver does not take requests of this size; smaller ones it may.
    TooLarge { status: u16, message: String },
    /// It was not sent: it has more bytes before compression than a request may have.
    Oversized { bytes: usize, limit: usize },
    /// It may succeed another time.
    Failed { failure: Failure, message: String, retry_after: Option<Duration> },
}

/// Why there is no answer that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens there.
    Refused,
    /// The connection broke.
    Broken,
    /// A connection that was kept open turned out to be none any more.
    Gone,
    /// The name is not known.
    Resolve,
    /// The encrypted connection could not be set up.
    Tls,
    /// What came back is no answer: asking again would bring the same, and may deliver twice.
    Unusable,
    /// No answer in time.
    Timeout,
    /// The receiver asks to slow down.
    Throttled,
    /// The receiver asks to come back later, with this status.
    Unavailable(u16),
    /// The client was shut down meanwhile.
    Shutdown,
}

impl Outcome {
    /// The value of `error.type`: the status where there is one, else the kind of failure. None for full success.
    pub(crate) fn error_type(&self) -> Option<String> {
        let kind = match self {
            Self::Accepted { rejected: 0, .. } => return None,
            Self::Accepted { .. } => "rejected",
            Self::Refused { status, .. } | Self::TooLarge { status, .. } => return Some(status.to_string()),
            Self::Oversized { .. } => "request_too_large",
            Self::Failed { failure, .. } => match failure {
                Failure::Unavailable(status) => return Some(status.to_string()),
                Failure::Throttled => return Some("429".to_owned()),
                Failure::Refused => "connection_refused",
                Failure::Broken | Failure::Gone => "connection_broken",
                Failure::Resolve => "name_resolution",
                Failure::Tls => "tls",
                Failure::Unusable => "invalid_response",
                Failure::Timeout => "timeout",
                Failure::Shutdown => "shutdown",
            },
        };
        Some(kind.to_owned())
    }

    /// The status of the answer, if there was one that could be used.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted { .. } => Some(200),
            Self::Refused { status, .. } | Self::TooLarge { status, .. } => Some(*status),
            Self::Failed { failure: Failure::Unavailable(status), .. } => Some(*status),
            Self::Failed { failure: Failure::Throttled, .. } => Some(429),
            Self::Oversized { .. } | Self::Failed { .. } => None,
        }
    }

    /// The receiver has more than it can take.
    pub(crate) fn asks_to_slow_down(&self) -> bool {
        matches!(self, Self::Failed { failure: Failure::Throttled | Failure::Unavailable(_), .. })
    }
}
