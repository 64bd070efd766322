//! What is told of an exchange that brought no answer.

use std::io;

use ureq::{Error, Timeout};

use super::{
    circumstances::{Circumstances, shown},
    fault::{Fault, ProxyFault},
    response::Unusable,
    socket, tls,
};
use crate::export::outcome::Failure;

impl Fault {
    /// What kind of failure this is, and the words for it.
    pub(in crate::export) fn told(&self, circumstances: &Circumstances<'_>) -> (Failure, String) {
        match self {
            Self::Line(error) => match tls::failure(error) {
                // These words may come from a certificate of the other side's.
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
                // A proxy that passes an answer on does so in its own words.
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

/// What went wrong below HTTP, and not in TLS.
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
