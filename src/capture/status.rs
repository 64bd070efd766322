//! A span's kind and status.

use std::borrow::Cow;

/// The kind of a span: its role, seen from the process it runs in
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
    /// No status was set. The default.
    #[default]
    Unset,
    /// The operation succeeded. Later calls do not change that.
    Ok,
    /// The operation failed; the description says how and may be empty.
    Error(Cow<'static, str>),
}

impl Status {
    /// An error with this description. Neither a `&'static str` nor a `String` is copied.
    pub fn error(description: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(description.into())
    }
}
