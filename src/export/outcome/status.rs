//! The status of a call: its name, and what it means for the request.

use std::fmt;

/// A status code of gRPC, a number that is not known included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StatusCode(pub(crate) u32);

#[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "answers have none of most"))]
impl StatusCode {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const CANCELLED: Self = Self(1);
    pub(crate) const UNKNOWN: Self = Self(2);
    pub(crate) const INVALID_ARGUMENT: Self = Self(3);
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(4);
    pub(crate) const PERMISSION_DENIED: Self = Self(7);
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(8);
    pub(crate) const ABORTED: Self = Self(10);
    pub(crate) const OUT_OF_RANGE: Self = Self(11);
    pub(crate) const UNIMPLEMENTED: Self = Self(12);
    pub(crate) const INTERNAL: Self = Self(13);
    pub(crate) const UNAVAILABLE: Self = Self(14);
    pub(crate) const DATA_LOSS: Self = Self(15);

    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// What it is called; none if it is no code of the protocol.
    pub(crate) fn name(self) -> Option<&'static str> {
        Self::NAMES.get(self.0 as usize).copied()
    }

    /// The status that a stream which was reset with a code of HTTP/2 counts as
    /// ([gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), "Errors").
    pub(crate) fn of_reset(code: u32) -> Self {
        match code {
            0 | 1 | 2 | 3 | 4 | 6 | 9 | 10 => Self::INTERNAL,
            7 => Self::UNAVAILABLE,
            8 => Self::CANCELLED,
            11 => Self::RESOURCE_EXHAUSTED,
            12 => Self::PERMISSION_DENIED,
            _ => Self::UNKNOWN,
        }
    }

    /// Whether another attempt may succeed (GRPC-02). Of [`Self::RESOURCE_EXHAUSTED`] that depends on what comes with it
    /// (GRPC-03).
    pub(crate) fn is_passing(self) -> bool {
        matches!(
            self,
            Self::CANCELLED
                | Self::DEADLINE_EXCEEDED
                | Self::ABORTED
                | Self::OUT_OF_RANGE
                | Self::UNAVAILABLE
                | Self::DATA_LOSS
        )
    }
}

/// The name and the number.
impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "gRPC status {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_retried_or_not_as_the_table_has_it() {
        // GRPC-02
        let passing: Vec<_> = (0..=17).map(StatusCode).filter(|code| code.is_passing()).collect();
        assert_eq!(passing.iter().map(|code| code.0).collect::<Vec<_>>(), [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn a_code_shows_its_name_and_its_number() {
        assert_eq!(StatusCode::UNAVAILABLE.to_string(), "UNAVAILABLE (14)");
        assert_eq!(StatusCode(16).to_string(), "UNAUTHENTICATED (16)");
        assert_eq!(StatusCode(99).to_string(), "gRPC status 99");
    }
}
