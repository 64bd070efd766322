//! Why an exchange brought no answer.

use std::{io, time::Duration};

use ureq::{Error, Timeout};

use super::{detour::ProxyFault, dial::Route, response::Unusable, socket, tls};
use crate::{config::Secrets, export::outcome::Failure};

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

/// Additional facts for the messages of some faults.
pub(in crate::export) struct Circumstances<'a> {
    /// The way to the receiver.
    pub(in crate::export) route: &'a Route,
    /// The time limit for a connection.
    pub(in crate::export) connecting: Duration,
    /// The time limit for everything.
    pub(in crate::export) timeout: Duration,
    pub(in crate::export) secrets: &'a Secrets,
}

impl Fault {
    /// The kind of this failure, and its message.
    pub(in crate::export) fn told(&self, circumstances: &Circumstances<'_>) -> (Failure, String) {
        match self {
            Self::Line(error) => match tls::failure(error) {
                // This text may come from the other side's certificate.
                Some(words) => {
                    let failure = if tls::is_final(error) { Failure::Untrusted } else { Failure::Tls };
                    (failure, circumstances.secrets.cleaned(&words))
                }
                None => line(error, circumstances),
            },
            Self::Closed => {
                (Failure::Broken, "the connection broke: it was closed before the answer had come".to_owned())
            }
            Self::Unusable(what) => match circumstances.route.proxy.as_ref().filter(|proxy| proxy.forwards()) {
                // A proxy that passes an answer on does so in HTTP.
                Some(proxy) if *what == Unusable::OtherProtocol => ProxyFault::Unusable.told(proxy, circumstances),
                _ => (Failure::Unusable, unusable(*what)),
            },
            Self::Proxy(fault) => match &circumstances.route.proxy {
                Some(proxy) => fault.told(proxy, circumstances),
                None => (Failure::Refused, "no connection could be made".to_owned()),
            },
        }
    }
}

fn unusable(what: Unusable) -> String {
    match what {
        Unusable::OtherProtocol => {
            "the answer is not HTTP/1.1; is it the port for gRPC, or should the URL be https?".to_owned()
        }
        Unusable::Malformed(how) => format!("the answer is not valid HTTP/1.1: {how}"),
        Unusable::Endless => "the answer's headers do not end, or are too many".to_owned(),
    }
}

/// A failure below HTTP, and not in TLS.
fn line(error: &Error, circumstances: &Circumstances<'_>) -> (Failure, String) {
    let Circumstances { route, connecting, timeout, .. } = *circumstances;
    match error {
        Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (Failure::Refused, socket::refusal(error)),
            // There is no such network interface.
            io::ErrorKind::NotFound => (Failure::Resolve, error.to_string()),
            io::ErrorKind::TimedOut => (Failure::Timeout, "connecting timed out".to_owned()),
            _ => (Failure::Broken, format!("the connection broke: {error}")),
        },
        Error::Timeout(Timeout::Connect) => {
            (Failure::Timeout, format!("no connection within {:?}", shown(connecting.min(timeout))))
        }
        Error::Timeout(_) => (Failure::Timeout, format!("no answer within {:?}", shown(timeout))),
        Error::HostNotFound => {
            (Failure::Resolve, format!("the host name is not known: {}", route.url.host().unwrap_or_default()))
        }
        Error::ConnectionFailed => (Failure::Refused, "no connection could be made".to_owned()),
        other => (Failure::Broken, format!("the exchange failed: {other}")),
    }
}

/// A time in readable precision, without nanoseconds.
pub(in crate::export) fn shown(time: Duration) -> Duration {
    match time.as_micros() {
        short @ 0..1_000 => Duration::from_micros(short as u64),
        micros => Duration::from_millis(u64::try_from((micros + 500) / 1_000).unwrap_or(u64::MAX)),
    }
}
