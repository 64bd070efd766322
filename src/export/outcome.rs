//! What an attempt at delivery came to.

use std::time::Duration;

mod code;
mod status;

pub(crate) use code::Code;
pub(crate) use status::StatusCode;

use crate::config::Protocol;

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The request was accepted, but for so many spans.
    Accepted { rejected: u64, message: Option<String> },
    /// The receiver answered, and must not be asked the same again.
    Refused { code: Code, message: String },
    /// The receiver does not take requests of this size; smaller ones it may.
    TooLarge { code: Code, message: String },
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
    /// A connection that was kept open turned out to be none any more, or to be silent.
    Gone,
    /// The name is not known.
    Resolve,
    /// The encrypted connection could not be set up.
    Tls,
    /// Nor will it be another time: one side does not believe the other, or they have no way in common.
    Untrusted,
    /// The proxy on the way lets nothing through, and would not another time.
    Barred,
    /// What came back is no answer: asking again would bring the same, and may deliver twice.
    Unusable,
    /// No answer in time.
    Timeout,
    /// The receiver asks to slow down, with this code.
    Throttled(Code),
    /// The receiver asks to come back later, with this code.
    Unavailable(Code),
    /// The client was shut down meanwhile.
    Shutdown,
}

impl Outcome {
    /// There was no time to wait for the end of a pause that the receiver had asked for.
    pub(crate) fn paused(left: Duration, protocol: Protocol) -> Self {
        let message = format!("the receiver asked for a pause, of which {left:.1?} are left");
        Self::Failed { failure: Failure::Throttled(Code::throttled(protocol)), message, retry_after: None }
    }

    /// Not sent, since the receiver calls anything of its batch too large.
    pub(crate) fn hopeless(protocol: Protocol) -> Self {
        let message = "even single spans are too large for it, so the rest of the batch was not sent".to_owned();
        Self::TooLarge { code: Code::too_large(protocol), message }
    }

    /// The client was shut down meanwhile.
    pub(crate) fn shut_down() -> Self {
        let message = "the client was shut down".to_owned();
        Self::Failed { failure: Failure::Shutdown, message, retry_after: None }
    }

    /// How much it tells of what is wrong: an answer more than a line that broke, and that more than silence.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::Failed { failure: Failure::Timeout, .. } => 0,
            // More time would not help.
            Self::Failed { failure: Failure::Untrusted | Failure::Barred, .. } => 3,
            // It is what the program asked for.
            Self::Failed { failure: Failure::Shutdown, .. } => 3,
            Self::Failed { failure: Failure::Throttled(_) | Failure::Unavailable(_), .. } => 2,
            Self::Failed { .. } => 1,
            _ => 2,
        }
    }

    /// What went wrong, for a person; nothing where nothing did.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused { code, message } | Self::TooLarge { code, message } if message.is_empty() => {
                format!("answered {code}")
            }
            Self::Refused { code, message } | Self::TooLarge { code, message } => {
                format!("answered {code}: {message}")
            }
            Self::Oversized { bytes, limit } => {
                format!("a request of {bytes} bytes is larger than max_request_bytes = {limit}")
            }
            Self::Failed { message, .. } => message.clone(),
            Self::Accepted { .. } => String::new(),
        }
    }

    /// The value of `error.type`: the code where there is one, else the kind of failure. None for full success.
    pub(crate) fn error_type(&self) -> Option<String> {
        let kind = match self {
            Self::Accepted { rejected: 0, .. } => return None,
            Self::Accepted { .. } => "rejected",
            Self::Refused { code, .. } | Self::TooLarge { code, .. } => return Some(code.error_type()),
            Self::Oversized { .. } => "request_too_large",
            Self::Failed { failure, .. } => match failure {
                Failure::Unavailable(code) | Failure::Throttled(code) => return Some(code.error_type()),
                Failure::Refused => "connection_refused",
                Failure::Broken | Failure::Gone => "connection_broken",
                Failure::Resolve => "name_resolution",
                Failure::Tls | Failure::Untrusted => "tls",
                Failure::Barred => "proxy",
                Failure::Unusable => "invalid_response",
                Failure::Timeout => "timeout",
                Failure::Shutdown => "shutdown",
            },
        };
        Some(kind.to_owned())
    }

    /// The code of the answer, if there was one that could be used.
    pub(crate) fn code(&self, protocol: Protocol) -> Option<Code> {
        match self {
            Self::Accepted { .. } => Some(Code::success(protocol)),
            Self::Refused { code, .. } | Self::TooLarge { code, .. } => Some(*code),
            Self::Failed { failure: Failure::Unavailable(code) | Failure::Throttled(code), .. } => Some(*code),
            Self::Oversized { .. } | Self::Failed { .. } => None,
        }
    }

    /// Whether it is the receiver's answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.code(Protocol::default()).is_some()
    }

    /// The receiver has more than it can take.
    pub(crate) fn asks_to_slow_down(&self) -> bool {
        matches!(self, Self::Failed { failure: Failure::Throttled(_) | Failure::Unavailable(_), .. })
    }
}
