//! OTLP over HTTP/1.1: one blocking POST per attempt, over connections that are kept alive.

use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::Uri;
use rustls::{AlertDescription, CertificateError};
use ureq::{
    Agent, Error, Proxy, Timeout,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
    unversioned::transport::{ConnectProxyConnector, ConnectionDetails, Connector, RustlsConnector, Transport},
};

use super::{
    Failure, Outcome, classify,
    resolver::CachingResolver,
    socket::{Progress, Sockets},
};
use crate::config::{Compression, Headers, Settings, Tls};
use crate::sync::locks::Mutex;

/// What is shorter is found in any text, and no secret.
const SHORTEST_SECRET: usize = 4;

/// The specification's limit for a response body.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;

pub(crate) struct HttpTransport {
    agent: Agent,
    url: Uri,
    headers: Headers,
    connect_timeout: Duration,
    keep_alive: Duration,
    /// When a connection last broke: what was idle then is not to be trusted either.
    broken: Mutex<Option<Instant>>,
    progress: Arc<Progress>,
    closed: AtomicBool,
}

impl HttpTransport {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls_config(&settings.tls))
            // What is on this machine is not on the other side of a proxy.
            .proxy(Proxy::try_from_env().filter(|_| !settings.endpoint.is_loopback()))
            .timeout_connect(Some(settings.connect_timeout))
            .max_idle_connections(settings.max_idle_connections)
            .max_idle_connections_per_host(settings.max_idle_connections)
            .max_idle_age(settings.keep_alive_timeout)
            .build();
        let progress = Arc::new(Progress::new());
        Self {
            agent: Agent::with_parts(config, Connections::new(Arc::clone(&progress)), CachingResolver::default()),
            progress,
            url: settings.endpoint.url().clone(),
            headers: settings.headers.clone(),
            connect_timeout: settings.connect_timeout,
            keep_alive: settings.keep_alive_timeout,
            broken: Mutex::new(None),
            closed: AtomicBool::new(false),
        }
    }

    /// Posts `body` and waits at most `timeout` for the answer.
    pub(crate) fn send(&self, body: &[u8], compression: Compression, timeout: Duration) -> Outcome {
        self.send_to(&self.url, body, compression, timeout)
    }

    /// The same, to another path of the same receiver.
    pub(crate) fn send_to(&self, url: &Uri, body: &[u8], compression: Compression, timeout: Duration) -> Outcome {
        // A connection that broke was mostly forgotten by something on the way, together with all that were idle.
        let since_broken = self.broken.lock().map_or(Duration::MAX, |broken| broken.elapsed());
        let request = self.agent.post(url).config();
        let request = request.timeout_global(Some(timeout)).max_idle_age(self.keep_alive.min(since_broken)).build();
        let mut request = request.content_type("application/x-protobuf");
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
        let read = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).reader().read_to_end(&mut body);
        match read.map_err(Error::from) {
            // RTY-09: an answer beyond the limit is final, whatever it would have said.
            Err(Error::BodyExceedsLimit(limit)) => {
                Outcome::Refused { status, message: format!("the answer is larger than {limit} bytes") }
            }
            // The status line has decided: a body that breaks off adds nothing and takes nothing back.
            Ok(_) | Err(_) => {
                self.hide_secrets(&mut body);
                classify(status, retry_after.as_deref(), &body, SystemTime::now())
            }
        }
    }

    /// Overwrites what a receiver repeats of the headers it was sent: its words are shown to users. The length stays,
    /// and with it what the words are wrapped in.
    fn hide_secrets(&self, body: &mut [u8]) {
        for (_, value) in &self.headers {
            let value = value.as_bytes();
            // The token behind a scheme, too.
            let token = value.iter().position(|byte| *byte == b' ').map_or(value, |space| &value[space + 1..]);
            for secret in [value, token].into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
                let mut rest = &mut *body;
                while let Some(at) = rest.windows(secret.len()).position(|window| window == secret) {
                    rest[at..at + secret.len()].fill(b'*');
                    rest = &mut rest[at + secret.len()..];
                }
            }
        }
    }

    fn failed(&self, error: &Error, timeout: Duration) -> Outcome {
        let (failure, message) = match error {
            _ if self.closed.load(Ordering::Acquire) => (Failure::Shutdown, "the client was shut down".to_owned()),
            Error::Rustls(error) => (Failure::Tls, tls_message(error)),
            Error::Tls(error) => (Failure::Tls, format!("TLS failed: {error}")),
            Error::Io(error) => match (tls_error(error), error.kind()) {
                (Some(error), _) => (Failure::Tls, tls_message(error)),
                (None, io::ErrorKind::ConnectionRefused) => match self.proxy() {
                    Some(proxy) => (Failure::Refused, format!("connection refused by the proxy {proxy}")),
                    None => (Failure::Refused, "connection refused; is a collector listening there?".to_owned()),
                },
                (None, io::ErrorKind::TimedOut) => (Failure::Timeout, "connecting timed out".to_owned()),
                _ => (Failure::Broken, format!("the connection broke: {error}")),
            },
            Error::Timeout(Timeout::Connect) => {
                (Failure::Timeout, format!("no connection within {:?}", self.connect_timeout.min(timeout)))
            }
            Error::Timeout(phase) => (Failure::Timeout, format!("no answer within {timeout:?} ({phase})")),
            Error::HostNotFound => match self.proxy() {
                Some(proxy) => (Failure::Resolve, format!("the host name of the proxy {proxy} is not known")),
                None => (Failure::Resolve, "the host name is not known".to_owned()),
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
        };
        if failure == Failure::Broken {
            *self.broken.lock() = Some(Instant::now());
        }
        Outcome::Failed { failure, message, retry_after: None }
    }

    /// When a connection last got somewhere: it was made, or bytes of a request were taken.
    pub(crate) fn progress(&self) -> Option<Instant> {
        self.progress.last()
    }

    /// The proxy on the way, which the environment names; without its credentials.
    fn proxy(&self) -> Option<String> {
        let proxy = self.agent.config().proxy().filter(|proxy| !proxy.is_no_proxy(&self.url))?;
        Some(format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Cuts every exchange that is under way and refuses new ones.
    pub(crate) fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        self.agent.clone().shutdown();
    }
}

fn tls_config(tls: &Tls) -> TlsConfig {
    let owned = |certificate: &rustls::pki_types::CertificateDer<'_>| Certificate::from_der(certificate).to_owned();
    let config = TlsConfig::builder().unversioned_rustls_crypto_provider(Tls::provider());
    let config = match tls.roots.content() {
        Some(certificates) => config.root_certs(certificates.iter().map(owned).into()),
        None if cfg!(feature = "platform-verifier") => config.root_certs(RootCerts::PlatformVerifier),
        None => config.root_certs(RootCerts::WebPki),
    };
    let identity = tls.identity.as_ref().and_then(|identity| {
        let chain: Vec<_> = identity.chain.iter().map(owned).collect();
        // It could be read when the settings were checked.
        Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&identity.key).ok()?))
    });
    config.client_cert(identity).build()
}

/// What TLS found wrong, where that is what ended the connection.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn tls_message(error: &rustls::Error) -> String {
    let advice = match error {
        rustls::Error::InvalidMessage(_) => "; does it speak plain http there?",
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; OTEL_EXPORTER_OTLP_CERTIFICATE names a file with the certificate of a private authority"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "; OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name the files of one"
        }
        _ => "",
    };
    format!("TLS failed: {error}{advice}")
}

/// Makes connections: through a proxy or a socket of ours, and with TLS where the scheme asks for it.
#[derive(Debug)]
struct Connections {
    proxy: ConnectProxyConnector,
    sockets: Sockets,
    tls: RustlsConnector,
}

impl Connections {
    fn new(progress: Arc<Progress>) -> Self {
        Self { proxy: ConnectProxyConnector::default(), sockets: Sockets { progress }, tls: RustlsConnector::default() }
    }

    fn connect_through(&self, details: &ConnectionDetails<'_>) -> Result<Option<Box<dyn Transport>>, Error> {
        let proxied = self.proxy.connect(details, None::<()>)?;
        let socket = self.sockets.connect(details, proxied)?;
        let stream = self.tls.connect(details, socket)?;
        Ok(stream.map(|stream| Box::new(stream) as Box<dyn Transport>))
    }
}

impl Connector for Connections {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        // ureq keeps what it needs for TLS only for requests without settings of their own. A timeout is one, and
        // each connection would have its roots read again and no session to resume.
        let details = ConnectionDetails {
            request_level: false,
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::clone(&details.register_shutdown),
        };
        self.connect_through(&details).map_err(|error| match error {
            // Nothing but the TLS handshake reads so early.
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof && details.needs_tls() => {
                Error::Tls("the connection was closed during the handshake; does it speak plain http there?")
            }
            error => error,
        })
    }
}
