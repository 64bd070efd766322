//! Why an exchange brought no answer.

use ureq::Error;

use super::{
    response::{Head, Unusable},
    tls,
};

/// What went wrong, by place.
#[derive(Debug)]
pub(in crate::export) enum Fault {
    /// Below HTTP: the name, the socket, TLS, or the time limit.
    Line(Error),
    /// The receiver closed the connection before a complete head of an answer.
    Closed,
    /// What came is not a valid answer.
    Unusable(Unusable),
    /// The proxy gives no way through, for this reason.
    Proxy(ProxyFault),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Line(error)
    }
}

impl From<Unusable> for Fault {
    fn from(what: Unusable) -> Self {
        Self::Unusable(what)
    }
}

/// Why there is no way through a proxy.
#[derive(Debug)]
pub(in crate::export) enum ProxyFault {
    /// There is no connection to it, or it broke.
    Line(Error),
    /// It answered with this status, and wants credentials by these schemes.
    Answered {
        status: u16,
        schemes: Option<String>,
    },
    /// It closed the connection without an answer.
    Closed,
    /// What it said is no answer.
    Unusable,
    Socks(SocksFault),
}

/// What a SOCKS proxy did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum SocksFault {
    /// It speaks something else.
    Version,
    /// It takes none of the methods that were offered.
    Method,
    /// It does not accept the credentials.
    Credentials,
    /// It made no connection, for this reason.
    Reply(u8),
    /// The receiver's name is longer than what it can be told.
    LongName,
}

impl ProxyFault {
    pub(in crate::export) fn answered(head: &Head) -> Self {
        Self::Answered { status: head.status, schemes: head.proxy_authenticate.clone() }
    }

    /// Whether the answer to a request that was to be passed on is the proxy's own. Most cannot be told from the receiver's.
    pub(in crate::export) fn is_told_by(head: &Head) -> bool {
        match head.status {
            407 => true,
            // What is too large is halved.
            413 => false,
            400.. => head.is_of_proxy,
            _ => false,
        }
    }

    /// Whether asking again would bring the same.
    pub(in crate::export) fn is_final(&self) -> bool {
        match self {
            Self::Line(error) => tls::is_final(error),
            Self::Answered { status, .. } => !matches!(status, 408 | 425 | 429 | 500 | 502..=599),
            Self::Closed => false,
            Self::Unusable => true,
            Self::Socks(fault) => fault.is_final(),
        }
    }

    /// Whether another address of the receiver may do better.
    pub(in crate::export) fn is_about_the_address(&self) -> bool {
        matches!(self, Self::Socks(SocksFault::Reply(1 | 3..=6 | 8)))
    }
}

impl SocksFault {
    fn is_final(self) -> bool {
        !matches!(self, Self::Reply(1 | 3..=6))
    }
}

impl From<Fault> for ProxyFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Line(error) => Self::Line(error),
            Fault::Closed => Self::Closed,
            Fault::Unusable(_) => Self::Unusable,
            Fault::Proxy(fault) => fault,
        }
    }
}
