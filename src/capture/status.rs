//! What is said about a span as a whole: what it does and how it ended.

use std::borrow::Cow;

/// What a span does, seen from the process it runs in
/// ([SpanKind](https://opentelemetry.io/docs/specs/otel/trace/api/#spankind)). The default is `Internal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SpanKind {
    /// An operation inside the process.
    #[default]
    Internal = 1,
    /// The handling of a request from another process.
    Server = 2,
    /// A request to another process.
    Client = 3,
    /// Sending a message that is handled later.
    Producer = 4,
    /// Handling a message that was sent earlier.
    Consumer = 5,
}

/// How an operation ended ([Set Status](https://opentelemetry.io/docs/specs/otel/trace/api/#set-status)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Status {
    /// Nothing was said about it.
    #[default]
    Unset,
    /// The operation succeeded, and nothing said later changes that.
    Ok,
    /// The operation failed; the description says how and may be empty.
    Error(Cow<'static, str>),
}

impl Status {
    /// A failure with this description. Copies a `&'static str` nowhere and a `String` not at all.
    pub fn error(description: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(description.into())
    }
}
