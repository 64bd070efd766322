//! What an answer is numbered with, in the protocol it came by.

use std::fmt;

use super::status::StatusCode;
use crate::{config::Protocol, value::KeyValue};

/// The code of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// A status of HTTP, which a proxy on the way may give where gRPC is spoken, too.
    Http(u16),
    Grpc(StatusCode),
}

impl Code {
    /// The code that says that a request was accepted.
    pub(crate) fn success(protocol: Protocol) -> Self {
        match protocol {
            Protocol::HttpProtobuf => Self::Http(200),
            Protocol::Grpc => Self::Grpc(StatusCode::OK),
        }
    }

    /// The code by which a receiver asks to slow down.
    pub(crate) fn throttled(protocol: Protocol) -> Self {
        match protocol {
            Protocol::HttpProtobuf => Self::Http(429),
            Protocol::Grpc => Self::Grpc(StatusCode::RESOURCE_EXHAUSTED),
        }
    }

    /// The code of a request that is too large.
    pub(crate) fn too_large(protocol: Protocol) -> Self {
        match protocol {
            Protocol::HttpProtobuf => Self::Http(413),
            Protocol::Grpc => Self::Grpc(StatusCode::RESOURCE_EXHAUSTED),
        }
    }

    /// The number alone. Those of gRPC end below 17, those of HTTP begin with 100.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Http(status) => status,
            Self::Grpc(status) => status.0.try_into().unwrap_or(u16::MAX),
        }
    }

    /// The name that says more than the number.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Http(_) => None,
            Self::Grpc(status) => status.name(),
        }
    }

    /// The value of `error.type`.
    pub(crate) fn error_type(self) -> String {
        match self {
            Self::Http(status) => status.to_string(),
            Self::Grpc(status) => status.name().map_or_else(|| status.0.to_string(), str::to_owned),
        }
    }

    /// The code as an attribute (OBS-08).
    pub(crate) fn attribute(self) -> KeyValue<'static> {
        match self {
            Self::Http(status) => KeyValue::new("http.response.status_code", status),
            Self::Grpc(_) => KeyValue::new("rpc.response.status_code", self.error_type()),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => status.fmt(f),
            Self::Grpc(status) => status.fmt(f),
        }
    }
}
