//! Connections to the receiver: resolves its name, asks a proxy, opens a socket, agrees on TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::Uri;
use ureq::{
    Agent, Error,
    config::Config,
    unversioned::{
        resolver::Resolver as _,
        transport::{ConnectionDetails, time::Instant as UreqInstant},
    },
};

use super::{
    deadline::Deadline,
    fault::{Fault, ProxyFault},
    line::Line,
    proxy::{ProxyOnTheWay, Role},
    resolver::CachingResolver,
    socket::Sockets,
    socks::{self, Target},
    tls::{Peer, TlsConnector},
};
use crate::config::{Endpoint, Protocol, Tls};

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
        protocol: Protocol,
    ) -> Arc<Self> {
        let sockets = Arc::new(Sockets::new(head));
        let config = Agent::config_builder().build();
        let (resolver, tls) = (CachingResolver::new(endpoint.zone()), TlsConnector::new(tls, head, protocol));
        Arc::new(Self { url: endpoint.url().clone(), config, resolver, sockets, proxy, tls })
    }

    /// The remarks since the last call.
    pub(in crate::export) fn take_remarks(&self) -> Vec<String> {
        self.tls.take_remarks()
    }

    /// Opens a connection until `deadline`; no more than `connecting` of that, once the name is known.
    pub(in crate::export) fn open(&self, deadline: Deadline, connecting: Duration) -> Result<Box<dyn Line>, Fault> {
        let Some(proxy) = &self.proxy else {
            let (socket, deadline) = self.socket(&self.url, &self.resolver, deadline, connecting)?;
            return self.secure(&self.url, socket, deadline);
        };
        match proxy.role {
            Role::Forwards => Ok(self.to_proxy(proxy, deadline, connecting)?.0),
            Role::Tunnels => {
                let (to_proxy, deadline) = self.to_proxy(proxy, deadline, connecting)?;
                self.secure(&self.url, proxy.connect(to_proxy, deadline)?, deadline)
            }
            Role::Socks { resolves } => self.through_socks(proxy, resolves, deadline, connecting),
        }
    }

    /// A connection to the proxy.
    fn to_proxy(
        &self,
        proxy: &ProxyOnTheWay,
        deadline: Deadline,
        connecting: Duration,
    ) -> Result<(Box<dyn Line>, Deadline), Fault> {
        let at_proxy = |fault: Fault| Fault::Proxy(fault.into());
        let socket = self.socket(proxy.url(), &proxy.resolver, deadline, connecting);
        let (socket, deadline) = socket.map_err(|error| Fault::Proxy(ProxyFault::Line(error)))?;
        Ok((self.secure(proxy.url(), socket, deadline).map_err(at_proxy)?, deadline))
    }

    /// A connection that a SOCKS proxy made, to the first of the receiver's addresses that it reaches.
    fn through_socks(
        &self,
        proxy: &ProxyOnTheWay,
        resolves: bool,
        deadline: Deadline,
        connecting: Duration,
    ) -> Result<Box<dyn Line>, Fault> {
        let (host, port) = proxy.target().rsplit_once(':').unwrap_or_default();
        let port = port.parse().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, port));
        let targets = match address {
            Some(address) => vec![Target::Address(address)],
            None if resolves => vec![Target::Name(host, port)],
            None => {
                let found = self.resolver.resolve(&self.url, &self.config, deadline.timeout())?;
                found.iter().copied().map(Target::Address).collect()
            }
        };
        let deadline = deadline.or_sooner(Deadline::connecting(connecting));
        let mut failed = Fault::Line(Error::HostNotFound);
        for target in targets {
            let (mut line, deadline) = self.to_proxy(proxy, deadline, connecting)?;
            match socks::connect(&mut *line, target, proxy.proxy.credentials.as_ref(), deadline) {
                Ok(()) => return self.secure(&self.url, line, deadline),
                Err(fault) => failed = fault,
            }
            if !matches!(&failed, Fault::Proxy(fault) if fault.is_about_the_address()) {
                break;
            }
        }
        Err(failed)
    }

    /// A socket to where `url` points, and the end of the time for what comes behind it.
    fn socket(
        &self,
        url: &Uri,
        resolver: &CachingResolver,
        deadline: Deadline,
        connecting: Duration,
    ) -> Result<(Box<dyn Line>, Deadline), Error> {
        let addresses = resolver.resolve(url, &self.config, deadline.timeout())?;
        let deadline = deadline.or_sooner(Deadline::connecting(connecting));
        let socket = self.sockets.open(&addresses, deadline, &self.config)?;
        Ok((Box::new(socket), deadline))
    }

    /// A host that the system has not resolved so far, while it is still being asked.
    pub(in crate::export) fn unanswered(&self) -> Option<String> {
        let of_proxy = || self.proxy.as_ref()?.resolver.unanswered();
        self.resolver.unanswered().or_else(of_proxy)
    }

    /// Agrees on TLS over `transport`, if `url` asks for it.
    fn secure(&self, url: &Uri, line: Box<dyn Line>, deadline: Deadline) -> Result<Box<dyn Line>, Fault> {
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
            return Ok(line);
        }
        let peer = if std::ptr::eq(url, &self.url) { Peer::Receiver } else { Peer::Proxy };
        match self.tls.connect(&details, line.into_transport(), peer) {
            Ok(secured) => Ok(Box::new(secured)),
            // Nothing but the handshake reads so early.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::Tls("the connection was closed during the handshake; does it speak plain http there?")
                    .into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
