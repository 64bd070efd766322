//! The proxy on the way to the receiver, named by the environment. It is chosen by the scheme of the receiver's URL;
//! the variables are read in curl's way (its manual page, ENVIRONMENT), lower case before upper case.

use std::fmt;

use super::{Endpoint, base64, endpoint::redacted};
use crate::env::{self, Environment, Rejected, percent_decode};

mod exempt;

use exempt::is_exempt;

/// SOCKS has a default port of its own (RFC 1928); other proxies have those of their schemes.
const SOCKS_PORT: u16 = 1080;

const MUST: &str = "must be the URL of a proxy, as in http://user:password@host:3128, that begins with http://, https://, \
                    socks5:// or socks5h:// and whose user information is percent-encoded";
const NO_TLS: &str = "must be the URL of a proxy that begins with http://, socks5:// or socks5h://: https needs the cargo \
                      feature `tls`";

/// Upper case is ignored in a process that serves web requests: there the variable holds the request's header `Proxy`,
/// which anyone can set (<https://httpoxy.org>).
const HTTP: [&str; 4] = [env::HTTP_PROXY_LOWER, env::HTTP_PROXY, env::ALL_PROXY_LOWER, env::ALL_PROXY];
const HTTPS: [&str; 4] = [env::HTTPS_PROXY_LOWER, env::HTTPS_PROXY, env::ALL_PROXY_LOWER, env::ALL_PROXY];
const EXEMPT: [&str; 2] = [env::NO_PROXY_LOWER, env::NO_PROXY];

/// Where a proxy is, what it speaks, and its credentials. Neither `Display` nor `Debug` shows the credentials.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) protocol: ProxyProtocol,
    /// Its URL, including the port: https if TLS is spoken with the proxy, else http.
    at: Endpoint,
    pub(crate) credentials: Option<Credentials>,
    /// The text behind the address: it is not sent, and might be a secret.
    query: String,
    /// The variable that named it.
    variable: &'static str,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// HTTP/1.1, over TLS or not.
    Http,
    /// SOCKS 5. With `resolves`, the proxy looks up the receiver's name itself.
    Socks5 { resolves: bool },
}

/// A user and a password, as bytes: they are percent-encoded in URLs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl Proxy {
    /// The proxy on the way to `endpoint`, and what to report about unusable values, which count as unset. A receiver
    /// on this machine is reached without a proxy.
    pub(super) fn on_the_way(endpoint: &Endpoint, environment: &Environment) -> (Option<Self>, Vec<String>) {
        let (host, port) = endpoint.address();
        let text = |name: &str| environment.get(name).and_then(Result::ok);
        if endpoint.is_loopback() || EXEMPT.into_iter().find_map(text).is_some_and(|list| is_exempt(list, host, port)) {
            return (None, Vec::new());
        }
        let serves_the_web = environment.get(env::REQUEST_METHOD).is_some();
        let is_anybodys = |name: &str| {
            let is_of_a_request =
                if cfg!(windows) { name.eq_ignore_ascii_case(env::HTTP_PROXY) } else { name == env::HTTP_PROXY };
            serves_the_web && is_of_a_request
        };
        let names = if endpoint.url().scheme_str() == Some("https") { HTTPS } else { HTTP };
        let (mut found, mut unusable) = (None, Vec::new());
        for name in names.into_iter().filter(|name| !is_anybodys(name)) {
            match environment.get(name).map(|text| Self::read(name, text?)) {
                None => continue,
                Some(Err(why)) => unusable.push(format!("{name}={}: {}", why.value, why.must)),
                Some(Ok(proxy)) => {
                    found = Some(proxy);
                    break;
                }
            }
        }
        let using = found.as_ref().map_or_else(|| "no proxy".to_owned(), |proxy| format!("the proxy {proxy}"));
        (found, unusable.into_iter().map(|why| format!("{why}; using {using}")).collect())
    }

    fn read(variable: &'static str, text: &str) -> Result<Self, Rejected> {
        Self::parse(variable, text.trim()).map_err(|must| Rejected::new(&redacted(text.trim()), must))
    }

    fn parse(variable: &'static str, text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (protocol, scheme) = match &*scheme.to_ascii_lowercase() {
            "http" => (ProxyProtocol::Http, "http"),
            "https" if cfg!(feature = "tls") => (ProxyProtocol::Http, "https"),
            "https" => return Err(NO_TLS),
            "socks5" => (ProxyProtocol::Socks5 { resolves: false }, "http"),
            "socks5h" => (ProxyProtocol::Socks5 { resolves: true }, "http"),
            _ => return Err(MUST),
        };
        // The text after the address is ignored, unless it is the end of a password that contains such a character.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if rest[authority.len()..].contains('@') {
            return Err(MUST);
        }
        let (user_info, address) = match authority.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, authority),
        };
        let at = Endpoint::parse(&format!("{scheme}://{address}")).map_err(|_| MUST)?;
        let port = match protocol {
            ProxyProtocol::Socks5 { .. } => at.url().port_u16().unwrap_or(SOCKS_PORT),
            ProxyProtocol::Http => at.address().1,
        };
        let at = at.with_port(port).ok_or(MUST)?;
        let credentials = user_info.filter(|info| !info.is_empty() && *info != ":").map(Credentials::of);
        if credentials.as_ref().is_some_and(|credentials| !credentials.fit(protocol)) {
            return Err(MUST);
        }
        let query = rest.split_once('?').map_or("", |(_, query)| query).to_owned();
        Ok(Self { protocol, at, credentials, query, variable })
    }

    /// The proxy's URL; its scheme tells whether TLS is spoken.
    pub(crate) fn at(&self) -> &Endpoint {
        &self.at
    }

    /// The query of its URL, which may contain secrets.
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// The values that must never be shown.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Vec<u8>> {
        let all = |credentials: &Credentials| {
            [credentials.basic().into_bytes(), credentials.user.clone(), credentials.password.clone()]
        };
        self.credentials.as_ref().map(all).into_iter().flatten()
    }
}

impl Credentials {
    /// Parses a URL's user information. Text that is not percent-encoded correctly stands for itself.
    fn of(user_info: &str) -> Self {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decoded = |text: &str| percent_decode(text).unwrap_or_else(|| text.as_bytes().to_vec());
        Self { user: decoded(user), password: decoded(password) }
    }

    /// Whether they fit the protocol: SOCKS has one byte for the length of each (RFC 1929).
    fn fit(&self, protocol: ProxyProtocol) -> bool {
        let most = usize::from(u8::MAX);
        protocol == ProxyProtocol::Http || self.user.len() <= most && self.password.len() <= most
    }

    /// The credentials in HTTP's scheme Basic.
    pub(crate) fn basic(&self) -> String {
        base64(&[&self.user[..], b":", &self.password].concat())
    }
}

/// Writes the proxy's address and the variable that names it, for messages.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.at.address();
        write!(f, "{host}:{port} ({})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(super) mod tests;
