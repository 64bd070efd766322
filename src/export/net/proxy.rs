//! The proxy on the way. For a receiver of plain http, requests go to the proxy, which passes them on (RFC 9112,
//! 3.2.2). Otherwise the proxy is asked for a connection to the receiver (RFC 9110, 9.3.6), which is then used like any
//! other.

use std::io::IoSlice;

use http::Uri;
use ureq::{
    Error,
    unversioned::transport::{Buffers, NextTimeout, Transport},
};

use super::{
    deadline::Deadline,
    exchange::{AGENT, read_head, send},
    fault::{Fault, ProxyFault},
    line::Line,
    resolver::CachingResolver,
};
use crate::config::{Endpoint, Protocol, Proxy, ProxyProtocol};

/// What connections to one receiver go through.
pub(in crate::export) struct ProxyOnTheWay {
    pub(in crate::export) proxy: Proxy,
    pub(in crate::export) role: Role,
    /// Resolves the proxy's name, which may have another zone than the receiver's.
    pub(in crate::export) resolver: CachingResolver,
    /// Host and port of the receiver.
    target: String,
}

/// The role of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum Role {
    /// It takes requests and passes them on.
    Forwards,
    /// It makes connections, by HTTP's CONNECT.
    Tunnels,
    /// It makes connections, by SOCKS. With `resolves` it is told the receiver's name.
    Socks { resolves: bool },
}

impl ProxyOnTheWay {
    /// `protocol` is what is spoken with the receiver: proxies pass on requests of HTTP/1.1 only.
    pub(in crate::export) fn new(proxy: Proxy, receiver: &Endpoint, protocol: Protocol) -> Self {
        let is_secure = receiver.url().scheme_str() == Some("https");
        let role = match proxy.protocol {
            ProxyProtocol::Socks5 { resolves } => Role::Socks { resolves },
            ProxyProtocol::Http if is_secure || protocol == Protocol::Grpc => Role::Tunnels,
            ProxyProtocol::Http => Role::Forwards,
        };
        let (host, port) = receiver.address();
        let (resolver, target) = (CachingResolver::new(proxy.at().zone()), format!("{host}:{port}"));
        Self { proxy, role, resolver, target }
    }

    /// The proxy's URL.
    pub(in crate::export) fn url(&self) -> &Uri {
        self.proxy.at().url()
    }

    /// Host and port of the receiver, in the form of a request.
    pub(in crate::export) fn target(&self) -> &str {
        &self.target
    }

    /// Whether the proxy passes requests on.
    pub(in crate::export) fn forwards(&self) -> bool {
        self.role == Role::Forwards
    }

    /// The header line with the credentials of its URL, if it has any.
    pub(in crate::export) fn authorization(&self) -> Option<String> {
        // Some proxies know the scheme in this spelling only.
        let credentials = self.proxy.credentials.as_ref()?;
        Some(format!("Proxy-Authorization: Basic {}\r\n", credentials.basic()))
    }

    /// Has the proxy make a connection to the receiver, over one to the proxy.
    pub(in crate::export) fn connect(
        &self,
        mut transport: Box<dyn Line>,
        deadline: Deadline,
    ) -> Result<Box<dyn Line>, Fault> {
        let at_proxy = |fault: Fault| Fault::Proxy(fault.into());
        send(&mut *transport, [&self.request(), &[]], deadline).map_err(at_proxy)?;
        let head = read_head(&mut *transport, deadline).map_err(at_proxy)?;
        match head.status {
            // These answers have no body, whatever the head says.
            200..=299 => Ok(Box::new(Tunnel(transport))),
            _ => Err(Fault::Proxy(ProxyFault::answered(&head))),
        }
    }

    /// The request for a connection to the receiver.
    fn request(&self) -> Vec<u8> {
        let target = &self.target;
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {AGENT}\r\n");
        request += "Proxy-Connection: Keep-Alive\r\n";
        request += &self.authorization().unwrap_or_default();
        request += "\r\n";
        request.into_bytes()
    }
}

/// A connection to the receiver through a proxy. The one to the proxy may use TLS; this one does not, yet.
#[derive(Debug)]
struct Tunnel(Box<dyn Line>);

impl Transport for Tunnel {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }
}

impl Line for Tunnel {
    fn send(&mut self, parts: &[IoSlice<'_>], timeout: NextTimeout) -> Result<usize, Error> {
        self.0.send(parts, timeout)
    }

    fn flush(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        self.0.flush(timeout)
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

impl std::fmt::Debug for ProxyOnTheWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyOnTheWay").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::proxy_for_tests;

    fn asked(receiver: &str, proxy: &str) -> String {
        let receiver = Endpoint::parse(receiver).unwrap();
        let way = ProxyOnTheWay::new(proxy_for_tests(proxy), &receiver, Protocol::HttpProtobuf);
        assert!(!format!("{way:?}").contains("hun"));
        String::from_utf8(way.request()).unwrap()
    }

    #[test]
    fn a_proxy_is_asked_for_host_and_port_and_shown_credentials_where_there_are_some() {
        assert_eq!(
            asked("http://[::1]/x?y", "http://proxy:8080"),
            format!(
                "CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\nUser-Agent: {AGENT}\r\n\
                 Proxy-Connection: Keep-Alive\r\n\r\n"
            )
        );
        let asked = asked("http://collector:4318/", "http://user:hun%40ter2@proxy:8080");
        assert!(asked.starts_with("CONNECT collector:4318 HTTP/1.1\r\nHost: collector:4318\r\n"), "{asked}");
        assert!(asked.ends_with("\r\nProxy-Authorization: Basic dXNlcjpodW5AdGVyMg==\r\n\r\n"), "{asked}");
    }
}
