//! The way to the receiver: its name resolved, a proxy asked, a socket opened, TLS agreed on.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use ureq::{
    Error, Timeout,
    config::Config,
    unversioned::{
        resolver::Resolver as _,
        transport::{
            ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, Transport, time::Instant as UreqInstant,
        },
    },
};

use super::{
    resolver::CachingResolver,
    socket::{SharedSockets, Sockets},
    tls::TlsConnector,
};
use crate::config::{Endpoint, Tls};

/// Opens connections to one receiver.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) url: Uri,
    pub(super) config: Config,
    pub(super) resolver: CachingResolver,
    pub(super) sockets: Arc<Sockets>,
    proxy: ConnectProxyConnector,
    opener: SharedSockets,
    tls: TlsConnector,
}

impl Route {
    /// `head` is what the settings put into the head of a request, in bytes.
    pub(super) fn new(endpoint: &Endpoint, tls: &Tls, head: usize, config: Config) -> Arc<Self> {
        let sockets = Arc::new(Sockets::new(head));
        Arc::new(Self {
            url: endpoint.url().clone(),
            config,
            resolver: CachingResolver::new(endpoint.zone()),
            opener: SharedSockets(Arc::clone(&sockets)),
            sockets,
            proxy: ConnectProxyConnector::default(),
            tls: TlsConnector::new(tls, head),
        })
    }

    /// What there is to say about it since the last time.
    pub(super) fn take_remarks(&self) -> Vec<String> {
        self.tls.take_remarks()
    }

    /// Opens a connection for a request of ureq's.
    pub(super) fn open(self: &Arc<Self>, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, Error> {
        let route = Arc::clone(self);
        let details = ConnectionDetails {
            request_level: details.request_level,
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            // For the connection to a proxy, which is none that a request could be made over.
            run_connector: Arc::new(move |details| route.open(details)),
            register_shutdown: Arc::clone(&details.register_shutdown),
        };
        let connected = self.connect(&details).and_then(|transport| transport.ok_or(Error::ConnectionFailed));
        connected.map_err(|error| match error {
            // Nothing but the TLS handshake reads so early.
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof && details.needs_tls() => {
                Error::Tls("the connection was closed during the handshake; does it speak plain http there?")
            }
            error => error,
        })
    }

    /// Opens a connection for no request yet, within `timeout`.
    pub(super) fn open_ahead(self: &Arc<Self>, timeout: Duration) -> Result<Box<dyn Transport>, Error> {
        let begun = std::time::Instant::now();
        let within =
            |after: Duration| NextTimeout { after: after.into(), reason: Timeout::Connect, ..NextTimeout::default() };
        // Whoever is behind a proxy is known by name to that alone, as with requests.
        let proxy = self.config.proxy().filter(|proxy| !proxy.is_no_proxy(&self.url) && !proxy.resolve_target());
        let addrs = match proxy {
            Some(_) => self.resolver.empty(),
            None => self.resolver.resolve(&self.url, &self.config, within(timeout))?,
        };
        self.open(&ConnectionDetails {
            uri: &self.url,
            addrs,
            config: &self.config,
            request_level: false,
            resolver: &self.resolver,
            now: UreqInstant::now(),
            timeout: within(timeout.saturating_sub(begun.elapsed())),
            current_time: Arc::new(UreqInstant::now),
            // Replaced by `open`.
            run_connector: Arc::new(|_| Err(Error::ConnectionFailed)),
            // Sockets are known to their own register.
            register_shutdown: Arc::new(|_| Ok(())),
        })
    }

    fn connect(&self, details: &ConnectionDetails<'_>) -> Result<Option<Box<dyn Transport>>, Error> {
        let proxied = self.proxy.connect(details, None::<()>)?;
        let socket = self.opener.connect(details, proxied)?;
        let stream = self.tls.connect(details, socket)?;
        Ok(stream.map(|stream| Box::new(stream) as Box<dyn Transport>))
    }
}
