//! The way to the receiver: its name resolved, a proxy asked, a socket opened, TLS agreed on.

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use ureq::{
    Agent, Error,
    config::Config,
    unversioned::{
        resolver::Resolver as _,
        transport::{ConnectionDetails, Connector as _, Transport, time::Instant as UreqInstant},
    },
};

use super::{
    deadline::Deadline, fault::Fault, proxy::ProxyOnTheWay, resolver::CachingResolver, socket::Sockets,
    tls::TlsConnector,
};
use crate::config::{Endpoint, Tls};

/// Opens connections to one receiver.
#[derive(Debug)]
pub(in crate::export) struct Route {
    pub(in crate::export) url: Uri,
    /// How sockets and TLS are set up.
    config: Config,
    pub(in crate::export) resolver: CachingResolver,
    pub(in crate::export) sockets: Arc<Sockets>,
    pub(in crate::export) proxy: Option<ProxyOnTheWay>,
    tls: TlsConnector,
}

impl Route {
    /// `head` is the most that the head of a request has, in bytes.
    pub(in crate::export) fn new(
        endpoint: &Endpoint,
        head: usize,
        tls: &Tls,
        proxy: Option<ProxyOnTheWay>,
    ) -> Arc<Self> {
        let sockets = Arc::new(Sockets::new(head));
        let config = Agent::config_builder().build();
        let (resolver, tls) = (CachingResolver::new(endpoint.zone()), TlsConnector::new(tls, head));
        Arc::new(Self { url: endpoint.url().clone(), config, resolver, sockets, proxy, tls })
    }

    /// What there is to say about it since the last time.
    pub(in crate::export) fn take_remarks(&self) -> Vec<String> {
        self.tls.take_remarks()
    }

    /// Opens a connection until `deadline`; no more than `connecting` of that, once the name is known.
    pub(in crate::export) fn open(
        &self,
        deadline: Deadline,
        connecting: Duration,
    ) -> Result<Box<dyn Transport>, Fault> {
        let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.is_asked()) else {
            // What is behind a proxy of another kind may be known by name to that alone.
            let is_known = self.proxy.as_ref().is_none_or(ProxyOnTheWay::resolves_here);
            let resolved = if is_known { Some(&self.url) } else { None };
            let (socket, deadline) = self.socket(resolved, deadline, connecting)?;
            return self.secure(&self.url, socket, deadline);
        };
        let (socket, deadline) = self.socket(Some(proxy.url()), deadline, connecting)?;
        let to_proxy = self.secure(proxy.url(), socket, deadline)?;
        self.secure(&self.url, proxy.connect(to_proxy, deadline)?, deadline)
    }

    /// A socket to where `url` points, and the end of the time for what comes behind it.
    fn socket(
        &self,
        url: Option<&Uri>,
        deadline: Deadline,
        connecting: Duration,
    ) -> Result<(Box<dyn Transport>, Deadline), Error> {
        let addresses = match url {
            Some(url) => self.resolver.resolve(url, &self.config, deadline.timeout())?,
            None => self.resolver.empty(),
        };
        let deadline = deadline.or_sooner(Deadline::connecting(connecting));
        let socket = self.sockets.open(&addresses, deadline, &self.config)?;
        Ok((Box::new(socket), deadline))
    }

    /// Agrees on TLS over `transport`, where `url` wants it.
    fn secure(
        &self,
        url: &Uri,
        transport: Box<dyn Transport>,
        deadline: Deadline,
    ) -> Result<Box<dyn Transport>, Fault> {
        let details = ConnectionDetails {
            uri: url,
            addrs: self.resolver.empty(),
            config: &self.config,
            // ureq keeps what it needs for TLS, its roots and sessions, only for requests without settings of their own.
            request_level: false,
            resolver: &self.resolver,
            now: UreqInstant::now(),
            timeout: deadline.timeout(),
            current_time: Arc::new(UreqInstant::now),
            // TLS opens no connection of its own, and sockets are known to their own register.
            run_connector: Arc::new(|_| Err(Error::ConnectionFailed)),
            register_shutdown: Arc::new(|_| Ok(())),
        };
        if !details.needs_tls() {
            return Ok(transport);
        }
        match self.tls.connect(&details, Some(transport)) {
            Ok(Some(secured)) => Ok(Box::new(secured)),
            Ok(None) => Err(Error::ConnectionFailed.into()),
            // Nothing but the handshake reads so early.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::Tls("the connection was closed during the handshake; does it speak plain http there?")
                    .into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
