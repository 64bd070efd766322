//! OTLP over HTTP/1.1: one blocking POST per attempt, over connections that are kept alive.

use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderName, HeaderValue, Uri};
use memchr::memmem;
use ureq::{Agent, Error, Proxy, Timeout};

use super::{
    Failure, Outcome, classify,
    connections::Connections,
    permits::{NoPermit, Permit, Permits},
    route::Route,
    socket::{self, Carried},
    tls,
};
use crate::config::{Compression, Headers, Settings};

/// What is shorter is found in any text, and no secret.
const SHORTEST_SECRET: usize = 4;

/// What some servers say when they close a connection that was idle for too long. It answers no request.
const REQUEST_TIMEOUT: u16 = 408;

pub(crate) struct HttpTransport {
    agent: Agent,
    url: Uri,
    headers: Headers,
    connect_timeout: Duration,
    max_response_bytes: u64,
    route: Arc<Route>,
    connections: Arc<Connections>,
    permits: Permits,
    closed: AtomicBool,
}

impl HttpTransport {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")))
            // That anything will do needs not be said.
            .accept("")
            // What is on this machine is not on the other side of a proxy.
            .proxy(Proxy::try_from_env().filter(|_| !settings.endpoint.is_loopback()))
            .timeout_connect(Some(settings.connections.connect_timeout))
            // Connections are kept on this side of it.
            .max_idle_connections(0);
        let config = config.build();
        let url = settings.endpoint.url().clone();
        let header = |(name, value): &(HeaderName, HeaderValue)| name.as_str().len() + value.len();
        let head = settings.headers.iter().map(header).sum::<usize>()
            + url.path_and_query().map_or(0, |path| path.as_str().len());
        let route = Route::new(&settings.endpoint, &settings.tls, head, config.clone());
        let connections = Connections::new(Arc::clone(&route), settings.connections.clone());
        Self {
            agent: Agent::with_parts(config, connections.connector(), route.resolver.clone()),
            route,
            connections,
            permits: Permits::new(settings.connections.max_connections),
            url,
            headers: settings.headers.clone(),
            connect_timeout: settings.connections.connect_timeout,
            max_response_bytes: settings.max_response_bytes as u64,
            closed: AtomicBool::new(false),
        }
    }

    /// Waits until `deadline` for the right to use a connection, which whoever sends must hold.
    pub(crate) fn permit(&self, deadline: Instant) -> Result<Permit<'_>, Outcome> {
        self.permits.acquire(deadline).map_err(|why| {
            let (failure, message) = match why {
                NoPermit::Closed => (Failure::Shutdown, "the client was shut down".to_owned()),
                NoPermit::Timeout => {
                    (Failure::Timeout, format!("all connections, {} of them, were in use", self.permits.most()))
                }
            };
            Outcome::Failed { failure, message, retry_after: None }
        })
    }

    /// Changes how many connections may be in use at once; those that are too many are not cut.
    pub(crate) fn set_max_connections(&self, connections: usize) {
        self.permits.set_most(connections);
        self.connections.set_most(connections);
    }

    /// Posts `body` and waits at most `timeout` for the answer.
    pub(crate) fn send(&self, body: &[u8], compression: Compression, timeout: Duration) -> Outcome {
        self.connections.expect_none();
        let request = self.agent.post(&self.url).config().timeout_global(Some(timeout)).build();
        let mut request = request.content_type("application/x-protobuf");
        if !self.connections.are_kept() {
            request = request.header("connection", "close");
        }
        if let Some(encoding) = compression.content_encoding() {
            request = request.header("content-encoding", encoding);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return self.failed(&error, timeout),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.map(str::to_owned);
        let mut body = Vec::new();
        let read = response.body_mut().with_config().limit(self.max_response_bytes).reader().read_to_end(&mut body);
        match read.map_err(Error::from) {
            // RTY-09: an answer beyond the limit is final, whatever it would have said.
            Err(Error::BodyExceedsLimit(limit)) => {
                Outcome::Refused { status, message: format!("the answer is larger than {limit} bytes") }
            }
            // The status line has decided: a body that breaks off adds nothing and takes nothing back.
            Ok(_) | Err(_) => {
                hide_secrets(&self.headers, &mut body);
                if status == REQUEST_TIMEOUT && self.connections.last_was_reused() {
                    return self.gone("a connection that was kept open had been given up by the receiver".to_owned());
                }
                classify(status, retry_after.as_deref(), &body, SystemTime::now())
            }
        }
    }

    fn failed(&self, error: &Error, timeout: Duration) -> Outcome {
        let (failure, message) = if self.closed.load(Ordering::Acquire) {
            (Failure::Shutdown, "the client was shut down".to_owned())
        } else if let Some(message) = tls::failure(error) {
            (Failure::Tls, message)
        } else {
            self.cause(error, timeout)
        };
        if failure == Failure::Broken {
            if self.connections.last_was_reused() {
                return self.gone(message);
            }
            self.connections.distrust();
        }
        Outcome::Failed { failure, message, retry_after: None }
    }

    /// Why there is no answer, where that is neither the client's doing nor TLS's.
    fn cause(&self, error: &Error, timeout: Duration) -> (Failure, String) {
        match error {
            Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => match self.proxy() {
                    Some(proxy) => (Failure::Refused, format!("connection refused by the proxy {proxy}")),
                    None => (Failure::Refused, socket::refusal(error)),
                },
                // There is no such network interface.
                io::ErrorKind::NotFound => (Failure::Resolve, error.to_string()),
                io::ErrorKind::TimedOut => (Failure::Timeout, "connecting timed out".to_owned()),
                _ => (Failure::Broken, format!("the connection broke: {error}")),
            },
            Error::Timeout(Timeout::Connect) => {
                (Failure::Timeout, format!("no connection within {:?}", self.connect_timeout.min(timeout)))
            }
            Error::Timeout(phase) => (Failure::Timeout, format!("no answer within {timeout:?} ({phase})")),
            Error::HostNotFound => match self.proxy() {
                Some(proxy) => (Failure::Resolve, format!("the host name of the proxy {proxy} is not known")),
                None => {
                    (Failure::Resolve, format!("the host name is not known: {}", self.url.host().unwrap_or_default()))
                }
            },
            Error::ConnectProxyFailed(reason) => {
                let proxy = self.proxy().unwrap_or_default();
                (Failure::Refused, format!("the proxy {proxy} made no connection: {reason}"))
            }
            Error::ConnectionFailed => (Failure::Refused, "no connection could be made".to_owned()),
            Error::Protocol(error) => (
                Failure::Unusable,
                format!("the answer is not HTTP/1.1 ({error}); is it the port for gRPC, or should the URL be https?"),
            ),
            Error::LargeResponseHeader(..) => (Failure::Unusable, "the answer's headers do not end".to_owned()),
            other => (Failure::Broken, format!("the exchange failed: {other}")),
        }
    }

    /// A connection that was kept open was none any more; nor are the others.
    fn gone(&self, message: String) -> Outcome {
        self.connections.distrust();
        Outcome::Failed { failure: Failure::Gone, message, retry_after: None }
    }

    /// When a connection last got somewhere: it was made, or bytes of a request were taken.
    pub(crate) fn progress(&self) -> Option<Instant> {
        self.route.sockets.traffic.last()
    }

    /// About a round trip to the receiver; nothing before the first connection.
    pub(crate) fn round_trip(&self) -> Duration {
        self.route.sockets.traffic.round_trip()
    }

    /// What went over all connections so far.
    pub(crate) fn carried(&self) -> Carried {
        self.route.sockets.traffic.carried()
    }

    /// What there is to say about connections since the last time.
    pub(crate) fn take_remarks(&self) -> Vec<String> {
        self.route.take_remarks()
    }

    /// A host that the system has not found an address of so far, and is still asked for.
    pub(crate) fn unresolved(&self) -> Option<String> {
        self.route.resolver.unanswered()
    }

    /// Connections that are open and serve no request.
    pub(crate) fn idle_connections(&self) -> usize {
        self.connections.idle()
    }

    /// When idle connections should be looked after, though nothing else happens.
    pub(crate) fn next_upkeep(&self) -> Option<Instant> {
        self.connections.next_upkeep()
    }

    /// Looks after idle connections; true if the receiver turns out to have closed one.
    pub(crate) fn look_after(&self, now: Instant) -> bool {
        self.connections.look_after(now)
    }

    /// Opens, on a thread of its own, the connections that are to be there before they are needed; `done` is told how
    /// it went.
    pub(crate) fn open_ahead(&self, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        self.connections.open_ahead(move |opened| done(opened.map_err(|error| error.to_string())));
    }

    /// The proxy on the way, which the environment names; without its credentials.
    fn proxy(&self) -> Option<String> {
        let proxy = self.agent.config().proxy().filter(|proxy| !proxy.is_no_proxy(&self.url))?;
        Some(format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Cuts every exchange that is under way and refuses new ones.
    pub(crate) fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        self.connections.close();
        self.route.sockets.cut();
    }
}

/// Overwrites what a receiver repeats of the headers it was sent: its words are shown to users. The length stays, and
/// with it what the words are wrapped in.
fn hide_secrets(headers: &Headers, body: &mut [u8]) {
    for (_, value) in headers {
        let value = value.as_bytes();
        // The token behind a scheme, too.
        let token = value.iter().position(|byte| *byte == b' ').map_or(value, |space| &value[space + 1..]);
        for secret in [value, token].into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
            let mut rest = &mut *body;
            while let Some(at) = memmem::find(rest, secret) {
                rest[at..at + secret.len()].fill(b'*');
                rest = &mut rest[at + secret.len()..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::assert_linear_in;

    fn headers(values: &[&str]) -> Headers {
        let header = |value: &&str| (HeaderName::from_static("x-key"), HeaderValue::from_str(value).unwrap());
        values.iter().map(header).collect()
    }

    #[test]
    fn what_is_repeated_of_a_header_is_overwritten_wherever_it_stands() {
        let headers = headers(&["Bearer s3cret", "abc", "aaaa"]);
        for (body, shown) in [
            ("no: Bearer s3cret!", "no: *************!"),
            ("s3crets3cret", "************"),
            ("abc", "abc"),
            ("aaaaaaaaa", "********a"),
            ("", ""),
        ] {
            let mut bytes = body.as_bytes().to_vec();
            hide_secrets(&headers, &mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), shown);
        }
    }

    #[test]
    fn looking_for_secrets_takes_time_in_proportion_to_the_answer() {
        // RTY-11
        let periodic = |bytes: usize| "a".repeat(bytes / 4);
        assert_linear_in(
            "an answer that nearly repeats a header",
            |bytes| (headers(&[&periodic(bytes)]), format!("{}b", &periodic(bytes)[1..]).repeat(4)),
            |(headers, body)| {
                let mut body = body.clone().into_bytes();
                hide_secrets(headers, &mut body);
                body
            },
        );
    }
}
