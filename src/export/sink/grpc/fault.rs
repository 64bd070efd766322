//! Why a call brought no answer, for reasons of HTTP/2.

use crate::export::net::fault::Fault;

/// What went wrong, by where it did.
#[derive(Debug)]
pub(super) enum CallFault {
    /// On the way there, or below HTTP/2.
    Way(Fault),
    /// What came is no answer.
    Broken(Broken),
}

impl<F: Into<Fault>> From<F> for CallFault {
    fn from(fault: F) -> Self {
        Self::Way(fault.into())
    }
}

impl From<Broken> for CallFault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Why a connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It speaks something else.
    Foreign(Foreign),
    /// It breaks the rules of HTTP/2, and how.
    Rules(&'static str),
    /// It sends headers that do not end, or are too many.
    Endless,
    /// It sends what is no answer, without end.
    Flood,
}

/// What answers where HTTP/2 was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Http1,
    Tls,
    Unknown,
}

impl Foreign {
    /// What the first bytes of a connection give away.
    pub(super) fn recognised(input: &[u8]) -> Option<Self> {
        match input {
            [b'H', b'T', b'T', b'P', b'/', ..] => Some(Self::Http1),
            // An alert, of any version.
            [0x15, 3, 0..=4, ..] => Some(Self::Tls),
            _ => None,
        }
    }
}

impl Broken {
    /// What is wrong, and what may help.
    pub(super) fn words(self) -> String {
        match self {
            Self::Foreign(Foreign::Http1) => {
                "the answer is HTTP/1.1, and gRPC needs HTTP/2; is it the port for OTLP over HTTP \
                                              (4318 by default, with OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)?"
                    .to_owned()
            }
            Self::Foreign(Foreign::Tls) => "it speaks TLS there; should the URL begin with https?".to_owned(),
            Self::Foreign(Foreign::Unknown) => {
                "the answer is not HTTP/2; does a receiver of gRPC listen there?".to_owned()
            }
            Self::Rules(how) => format!("the answer is not valid HTTP/2: {how}"),
            Self::Endless => "the answer's headers do not end, or are too many".to_owned(),
            Self::Flood => "the receiver sends frames that are no answer, without end".to_owned(),
        }
    }
}
