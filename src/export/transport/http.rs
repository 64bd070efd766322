//! OTLP over HTTP/1.1: one blocking POST per attempt, over connections that are kept alive.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use http::Uri;
use parking_lot::Mutex;
use ureq::{
    Agent, Error,
    config::Config,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{Failure, Outcome, classify};
use crate::config::{Compression, Headers, Settings};

/// The specification's limit for a response body.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

/// How long a resolved name is used before it is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

pub(crate) struct HttpTransport {
    agent: Agent,
    url: Uri,
    headers: Headers,
    closed: AtomicBool,
}

impl HttpTransport {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.connect_timeout))
            .max_idle_connections(settings.max_idle_connections)
            .max_idle_connections_per_host(settings.max_idle_connections)
            .max_idle_age(settings.keep_alive_timeout)
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), CachingResolver::default());
        let headers = settings.headers.clone();
        Self { agent, url: settings.endpoint.url().clone(), headers, closed: AtomicBool::new(false) }
    }

    /// Posts `body` and waits at most `timeout` for the answer.
    pub(crate) fn send(&self, body: &[u8], compression: Compression, timeout: Duration) -> Outcome {
        let request = self.agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        let mut request = request.content_type("application/x-protobuf");
        if compression == Compression::Gzip {
            request = request.header("content-encoding", "gzip");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send(body).and_then(|mut response| {
            let status = response.status().as_u16();
            let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let retry_after = retry_after.map(str::to_owned);
            let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec();
            match body {
                Ok(body) => Ok(classify(status, retry_after.as_deref(), &body, SystemTime::now())),
                // RTY-09: an answer beyond the limit is final, whatever it would have said.
                Err(Error::BodyExceedsLimit(limit)) => {
                    Ok(Outcome::Refused { status, message: format!("the answer is larger than {limit} bytes") })
                }
                Err(error) => Err(error),
            }
        });
        answer.unwrap_or_else(|error| self.failed(&error, timeout))
    }

    fn failed(&self, error: &Error, timeout: Duration) -> Outcome {
        let (failure, message) = match error {
            _ if self.closed.load(Ordering::Acquire) => (Failure::Shutdown, "the client was shut down".to_owned()),
            Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    (Failure::Refused, "connection refused; is a collector listening there?".to_owned())
                }
                io::ErrorKind::TimedOut => (Failure::Timeout, "connecting timed out".to_owned()),
                _ => (Failure::Broken, format!("the connection broke: {error}")),
            },
            Error::Timeout(phase) => (Failure::Timeout, format!("no answer within {timeout:?} ({phase})")),
            Error::HostNotFound => (Failure::Resolve, "the host name is not known".to_owned()),
            Error::Tls(_) | Error::Rustls(_) => (Failure::Tls, format!("TLS failed: {error}")),
            Error::ConnectionFailed => (Failure::Refused, "no connection could be made".to_owned()),
            other => (Failure::Broken, format!("the exchange failed: {other}")),
        };
        Outcome::Failed { failure, message, retry_after: None }
    }

    /// Cuts every exchange that is under way and refuses new ones.
    pub(crate) fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        self.agent.clone().shutdown();
    }
}

/// Resolves on the calling worker and remembers the answer. ureq's own resolver starts a thread per request
/// when a timeout is set, which doubles the CPU a request costs.
#[derive(Debug, Default)]
struct CachingResolver {
    resolved: Mutex<Option<Resolved>>,
}

#[derive(Debug, Clone)]
struct Resolved {
    /// Host and port.
    name: String,
    addresses: Vec<SocketAddr>,
    at: Instant,
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, _timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::HostNotFound);
        };
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let known = self.resolved.lock().clone().filter(|known| known.name == name);
        let addresses = match known {
            Some(known) if known.at.elapsed() < RESOLVED_FOR => known.addresses,
            known => match name.to_socket_addrs() {
                Ok(found) => {
                    let addresses: Vec<_> = found.collect();
                    *self.resolved.lock() = Some(Resolved { name, addresses: addresses.clone(), at: Instant::now() });
                    addresses
                }
                // A name server that is down for a moment does not make a known receiver unknown.
                Err(error) => known.map(|known| known.addresses).ok_or(match error.kind() {
                    io::ErrorKind::Interrupted => Error::Io(error),
                    _ => Error::HostNotFound,
                })?,
            },
        };
        let mut wanted = self.empty();
        let room = 16;
        for address in config.ip_family().keep_wanted(addresses.into_iter()).take(room) {
            wanted.push(address);
        }
        if wanted.is_empty() { Err(Error::HostNotFound) } else { Ok(wanted) }
    }
}
