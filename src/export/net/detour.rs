//! What is told of a proxy on the way at which something went wrong, and what helps.

use std::io;

use ureq::{Error, Timeout};

use super::{
    circumstances::{Circumstances, shown},
    fault::{ProxyFault, SocksFault},
    proxy::{ProxyOnTheWay, Role},
    tls,
};
use crate::export::outcome::Failure;

impl ProxyFault {
    /// What kind of failure this is, and the words for it.
    pub(in crate::export) fn told(
        &self,
        proxy: &ProxyOnTheWay,
        circumstances: &Circumstances<'_>,
    ) -> (Failure, String) {
        let made_none = |why: String| match proxy.role {
            Role::Forwards => format!("the proxy {} passed nothing on: {why}", proxy.proxy),
            Role::Tunnels | Role::Socks { .. } => format!("the proxy {} made no connection: {why}", proxy.proxy),
        };
        let (failure, words) = match self {
            Self::Line(error) => return self.told_of_line(error, proxy, circumstances),
            Self::Answered { status, schemes } => (Failure::Refused, answer(*status, schemes.as_deref(), proxy)),
            Self::Closed => (
                Failure::Refused,
                "it closed the connection without an answer; does it speak another protocol there, as SOCKS \
                 (socks5h://) or TLS (https://)?"
                    .to_owned(),
            ),
            Self::Unusable => {
                (Failure::Refused, "its answer is not HTTP/1.1; is it a SOCKS proxy (socks5h://)?".to_owned())
            }
            Self::Socks(fault) => (Failure::Refused, fault.words(proxy)),
        };
        let failure = if self.is_final() { Failure::Barred } else { failure };
        (failure, circumstances.secrets.cleaned(&made_none(words)))
    }

    fn told_of_line(
        &self,
        error: &Error,
        proxy: &ProxyOnTheWay,
        circumstances: &Circumstances<'_>,
    ) -> (Failure, String) {
        let name = &proxy.proxy;
        if let Some(words) = tls::failure(error) {
            let failure = if self.is_final() { Failure::Barred } else { Failure::Tls };
            // In TLS errors the other end is called the receiver.
            let words = words.trim_start_matches("TLS failed: ").replace("receiver", "proxy");
            let words = format!("TLS with the proxy {name} failed: {words}");
            return (failure, circumstances.secrets.cleaned(&words));
        }
        match error {
            Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => (
                    Failure::Refused,
                    format!(
                        "connection refused by the proxy {name}; does it run there? (NO_PROXY names hosts without one)"
                    ),
                ),
                io::ErrorKind::TimedOut => (Failure::Timeout, format!("connecting to the proxy {name} timed out")),
                io::ErrorKind::NotFound => (Failure::Resolve, format!("the proxy {name}: {error}")),
                _ => (Failure::Broken, format!("the connection to the proxy {name} broke: {error}")),
            },
            // A server that waits for an HTTP request has not understood a word so far.
            Error::Timeout(_) if matches!(proxy.role, Role::Socks { .. }) => {
                let time = shown(circumstances.connecting.min(circumstances.timeout));
                (
                    Failure::Timeout,
                    format!("no connection through the proxy {name} within {time:?}; does it speak SOCKS 5?"),
                )
            }
            Error::Timeout(Timeout::Connect) => {
                let time = shown(circumstances.connecting.min(circumstances.timeout));
                (Failure::Timeout, format!("no connection through the proxy {name} within {time:?}"))
            }
            Error::Timeout(_) => {
                let time = shown(circumstances.timeout);
                (Failure::Timeout, format!("no answer from the proxy {name} within {time:?}"))
            }
            Error::HostNotFound => (Failure::Resolve, format!("the host name of the proxy {name} is not known")),
            other => (Failure::Refused, format!("the proxy {name} cannot be reached: {other}")),
        }
    }
}

fn answer(status: u16, schemes: Option<&str>, proxy: &ProxyOnTheWay) -> String {
    let target = proxy.target();
    match (status, &proxy.proxy.credentials) {
        (401 | 407, _) if schemes.is_some_and(|schemes| !offers_basic(schemes)) => format!(
            "it answered {status} and asks for credentials by {}; only Basic is supported: have it allow {target} without, or \
             run a proxy of one's own that knows the scheme",
            schemes.unwrap_or_default()
        ),
        (401 | 407, None) => {
            format!("it answered {status}; its URL takes credentials, as in http://user:password@host:port")
        }
        (401 | 407, Some(_)) => {
            format!("it answered {status}; its URL takes credentials, and those that stand there it does not accept")
        }
        (400..=407 | 409..=424 | 501, _) => format!(
            "it answered {status}; it must allow {} to {target}, or NO_PROXY name that host where there is a direct way",
            if proxy.forwards() { "requests" } else { "CONNECT" },
        ),
        _ => format!("it answered {status}; can it reach {target}?"),
    }
}

/// Only the names of schemes are kept of a challenge.
fn offers_basic(schemes: &str) -> bool {
    schemes.split(", ").any(|scheme| scheme.eq_ignore_ascii_case("basic"))
}

impl SocksFault {
    fn words(self, proxy: &ProxyOnTheWay) -> String {
        let target = proxy.target();
        match self {
            Self::Version => "its answer is not SOCKS 5; is it a proxy of HTTP (http://)?".to_owned(),
            Self::Method if proxy.proxy.credentials.is_none() => {
                "it wants credentials; its URL takes them, as in socks5h://user:password@host:port".to_owned()
            }
            Self::Method => {
                "it takes neither a user name and a password nor nobody; other methods are not supported".to_owned()
            }
            Self::Credentials => "it does not accept the user name and the password of its URL".to_owned(),
            Self::Reply(1) => format!("it failed for a reason it does not tell; can it reach {target}?"),
            Self::Reply(2) => format!("its rules do not allow {target}; have them changed, or NO_PROXY name that host"),
            Self::Reply(3) => format!("the network of {target} cannot be reached from there"),
            Self::Reply(4) => format!("{target} cannot be reached from there, or its name is not known there"),
            Self::Reply(5) => format!("{target} refused the connection; is a collector listening there?"),
            Self::Reply(6) => format!("{target} did not answer"),
            Self::Reply(7) => "it makes no connections".to_owned(),
            Self::Reply(8) => match proxy.role {
                Role::Socks { resolves: false } => {
                    "it does not take addresses of that kind; socks5h:// tells it the name instead".to_owned()
                }
                _ => "it looks up no names; socks5:// tells it the address instead".to_owned(),
            },
            Self::Reply(reply) => format!("it answered {reply}, which means nothing in SOCKS 5"),
            Self::LongName => "the receiver's name is longer than the 255 bytes that SOCKS 5 has for it".to_owned(),
        }
    }
}
