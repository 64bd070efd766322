//! The proxy on the way, which the environment names: it is asked for a connection to the receiver (RFC 9110, 9.3.6),
//! and what it connects is a stream like any other.

use http::Uri;
use ureq::{
    Error, Proxy, ProxyProtocol,
    unversioned::transport::{Buffers, NextTimeout, Transport},
};

use super::{
    deadline::Deadline,
    exchange::{read_head, send},
    fault::{Fault, ProxyFault},
    request_head::AGENT,
};
use crate::config::base64;

/// What connections to one receiver go through.
#[derive(Clone)]
pub(in crate::export) struct ProxyOnTheWay {
    proxy: Proxy,
    /// The request for a connection.
    connect: Vec<u8>,
}

impl ProxyOnTheWay {
    /// The proxy that the environment names for `url`, if there is one.
    pub(in crate::export) fn from_env(url: &Uri) -> Option<Self> {
        let proxy = Proxy::try_from_env().filter(|proxy| !proxy.is_no_proxy(url))?;
        let connect = request(url, credentials(&proxy).as_deref());
        Some(Self { proxy, connect })
    }

    /// Where it is; without its credentials.
    pub(in crate::export) fn address(&self) -> String {
        format!("{}:{}", self.proxy.host(), self.proxy.port())
    }

    /// Its URL, for who connects to it.
    pub(in crate::export) fn url(&self) -> &Uri {
        self.proxy.uri()
    }

    /// Whether it is asked for connections. Those of another kind are not: the way is a direct one.
    pub(in crate::export) fn is_asked(&self) -> bool {
        matches!(self.proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
    }

    /// Whether the receiver's name is looked up on this side of it.
    pub(in crate::export) fn resolves_here(&self) -> bool {
        self.proxy.resolve_target()
    }

    /// What it is shown, where that is something: whole, and as user name and password.
    pub(in crate::export) fn secrets(&self) -> impl Iterator<Item = String> {
        let credentials = credentials(&self.proxy).into_iter();
        credentials.chain([self.proxy.username(), self.proxy.password()].into_iter().flatten().map(str::to_owned))
    }

    /// Has it make a connection to the receiver, over one to it.
    pub(in crate::export) fn connect(
        &self,
        mut transport: Box<dyn Transport>,
        deadline: Deadline,
    ) -> Result<Box<dyn Transport>, Fault> {
        send(&mut *transport, [&self.connect, &[]], deadline)?;
        let head = read_head(&mut *transport, deadline).map_err(|fault| match fault {
            Fault::Closed => Fault::Proxy(ProxyFault::Closed),
            Fault::Unusable(what) => Fault::Proxy(ProxyFault::Unusable(what)),
            fault => fault,
        })?;
        match head.status {
            // Behind these there is no body, whatever the head says.
            200..=299 => Ok(Box::new(Tunnel(transport))),
            status => Err(Fault::Proxy(ProxyFault::Refused(status))),
        }
    }
}

/// The Basic credentials of the proxy's URL.
fn credentials(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    let is_given = user.is_some() || password.is_some();
    is_given.then(|| base64(format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default()).as_bytes()))
}

/// Asks for a connection to where `url` points.
fn request(url: &Uri, credentials: Option<&str>) -> Vec<u8> {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let target = format!("{}:{port}", url.host().unwrap_or_default());
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {AGENT}\r\n");
    request += "Proxy-Connection: Keep-Alive\r\n";
    if let Some(credentials) = credentials {
        // Some proxies know the scheme in this spelling only.
        request += &format!("Proxy-Authorization: Basic {credentials}\r\n");
    }
    request += "\r\n";
    request.into_bytes()
}

/// A connection to the receiver through a proxy. That to the proxy may be a TLS one; this one is not, yet.
#[derive(Debug)]
struct Tunnel(Box<dyn Transport>);

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

impl std::fmt::Debug for ProxyOnTheWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyOnTheWay").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_for_host_and_port_and_shown_credentials_where_there_are_some() {
        let url: Uri = "https://[::1]/x?y".parse().unwrap();
        let asked = String::from_utf8(request(&url, None)).unwrap();
        assert_eq!(
            asked,
            format!(
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nUser-Agent: {AGENT}\r\n\
                 Proxy-Connection: Keep-Alive\r\n\r\n"
            )
        );
        let proxy = Proxy::new("http://user:hun%40ter2@proxy:8080").unwrap();
        let url: Uri = "http://collector:4318/".parse().unwrap();
        let asked = String::from_utf8(request(&url, credentials(&proxy).as_deref())).unwrap();
        assert!(asked.starts_with("CONNECT collector:4318 HTTP/1.1\r\nHost: collector:4318\r\n"), "{asked}");
        assert!(asked.ends_with("\r\nProxy-Authorization: Basic dXNlcjpodW5AdGVyMg==\r\n\r\n"), "{asked}");
        assert_eq!(credentials(&Proxy::new("http://proxy:8080").unwrap()), None);
    }

    #[test]
    fn what_goes_through_a_proxy_is_shown_without_its_credentials() {
        let url: Uri = "http://collector:4318/".parse().unwrap();
        let proxy = Proxy::new("http://user:hunter2@proxy:8080").unwrap();
        let way = ProxyOnTheWay { connect: request(&url, credentials(&proxy).as_deref()), proxy };
        assert_eq!(way.address(), "proxy:8080");
        assert!(!format!("{way:?}").contains("hunter2"));
        assert_eq!(way.secrets().collect::<Vec<_>>(), ["dXNlcjpodW50ZXIy", "user", "hunter2"]);
    }
}
