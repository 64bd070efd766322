//! Where requests go: a URL that is parsed once and can be shown without its secrets.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use http::{HeaderValue, Uri};

use crate::env::percent_decode;

/// The path appended to base URLs for traces.
const TRACES_PATH: &str = "v1/traces";
const METRICS_PATH: &str = "v1/metrics";

const ABSOLUTE: &str = "must be an absolute URL that begins with http:// or https://";
const ABSOLUTE_OR_ADDRESS: &str = "must be a URL that begins with http:// or https://, or host:port";
const NO_TLS_TO_ADDRESS: &str = "must be a URL that begins with http://: without a scheme it means https (unless \
                                 OTEL_EXPORTER_OTLP_INSECURE says true), which needs the cargo feature `tls`";
const NO_TLS: &str = "must be a URL that begins with http://: https needs the cargo feature `tls`";
const HOST: &str = "must be a URL with a host";
const PORT: &str = "must be a URL with a port from 1 to 65535, or without one";
const BRACKETS: &str = "must be a URL whose IPv6 address stands in brackets, as in http://[::1]:4318";
const ZONE: &str = "must be a URL whose IPv6 zone is the name or the number of a network interface, as in \
                    http://[fe80::1%25eth0]:4318";
const PUNYCODE: &str = "must be a URL of ASCII characters; an international host name is written as xn--…";
const ASCII: &str = "must be a URL of printable ASCII characters; percent-encode others";
const AT_SIGN: &str = "must be a URL whose user information is percent-encoded and that has no other '@'";
const USER_INFO: &str = "must be a URL whose user information is percent-encoded";

/// The longest zone name. Linux allows 15.
const LONGEST_ZONE: usize = 64;

/// The URL of the receiver. Its `Display` and `Debug` show neither user information nor query, so it may appear in
/// every message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host, port, path and query; without user information.
    url: Uri,
    /// The network interface of an IPv6 address, by name or by number. Only this machine understands it, so it is not
    /// part of `Host` or of the name a certificate is checked for.
    zone: Option<String>,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// Parses an absolute URL, or returns what it must be.
    ///
    /// Nothing is changed (OTLPV-04, OTLPV-05) except that a missing path becomes `/`, a fragment, which is
    /// never sent, goes, and user information becomes an `Authorization` header.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(if is_international(text) { PUNYCODE } else { ASCII });
        }
        if has_bare_ipv6(text) {
            return Err(BRACKETS);
        }
        let url: Uri = text.parse().map_err(|_| ABSOLUTE)?;
        let scheme = url.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or(ABSOLUTE)?;
        if scheme == "https" && !cfg!(feature = "tls") {
            return Err(NO_TLS);
        }
        let authority = url.authority().ok_or(ABSOLUTE)?.as_str();
        // A raw '/', '?' or '#' inside a password ends the authority early: the rest would be taken for path or query,
        // and be shown or dropped. Such a URL always has its '@' too late.
        if text.matches('@').count() != authority.matches('@').count() {
            return Err(AT_SIGN);
        }
        let (user_info, address) = match authority.rsplit_once('@') {
            Some((user_info, _)) if user_info.contains('@') => return Err(AT_SIGN),
            Some((user_info, address)) => (user_info, address),
            None => ("", authority),
        };
        let address = valid_address(address, url.host().unwrap_or_default())?;
        let (address, zone) = without_zone(address)?;
        let authorization = if user_info.is_empty() { None } else { Some(basic(user_info)?) };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let url = Uri::builder().scheme(scheme).authority(&*address).path_and_query(path).build();
        Ok(Self { url: url.map_err(|_| ABSOLUTE)?, zone, authorization })
    }

    /// Parses a URL, or host and port alone, which mean one of https, or of http with `is_insecure`. Returns what it must
    /// be otherwise.
    pub(crate) fn parse_address(text: &str, is_insecure: bool) -> Result<Self, &'static str> {
        if text.contains("://") {
            return Self::parse(text).map_err(|must| if must == ABSOLUTE { ABSOLUTE_OR_ADDRESS } else { must });
        }
        let scheme = if is_insecure { "http" } else { "https" };
        Self::parse(&format!("{scheme}://{text}")).map_err(|must| match must {
            ABSOLUTE => ABSOLUTE_OR_ADDRESS,
            NO_TLS => NO_TLS_TO_ADDRESS,
            must => must,
        })
    }

    /// The URL of a request.
    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// The network interface to use, if the address names one.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The `Authorization` header made of the URL's user information.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether the receiver is on this machine, so that no proxy can be in between.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let host = host.strip_suffix('.').unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether this is already the URL for traces and not a base URL.
    pub(crate) fn has_traces_path(&self) -> bool {
        self.url.path().trim_end_matches('/').ends_with("/v1/traces")
    }

    /// This URL without the path for traces at its end; none if it has none.
    pub(crate) fn without_traces_path(&self) -> Option<Self> {
        let base = self.url.path().trim_end_matches('/').strip_suffix(TRACES_PATH)?;
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = base.parse().ok();
        Some(Self { url: Uri::from_parts(parts).ok()?, ..self.clone() })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> (&str, u16) {
        let default = if self.url.scheme_str() == Some("https") { 443 } else { 80 };
        (self.url.host().unwrap_or_default(), self.url.port_u16().unwrap_or(default))
    }

    /// Returns this URL with the given port; `None` if that makes no valid URL.
    pub(super) fn with_port(self, port: u16) -> Option<Self> {
        let mut parts = self.url.clone().into_parts();
        parts.authority = Some(format!("{}:{port}", self.url.host()?).parse().ok()?);
        Some(Self { url: Uri::from_parts(parts).ok()?, ..self })
    }

    /// The URL for metrics, derived from this one for traces; `None` if its path is not the usual one.
    pub(crate) fn for_metrics(&self) -> Option<Self> {
        let base = self.url.path().trim_end_matches('/').strip_suffix(TRACES_PATH)?;
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = format!("{base}{METRICS_PATH}{query}").parse().ok();
        Some(Self { url: Uri::from_parts(parts).ok()?, ..self.clone() })
    }

    /// The usual URL for traces at this receiver, without a query; `None` if this is already it.
    pub(crate) fn usual_url(&self) -> Option<String> {
        let path = self.url.path().trim_end_matches('/');
        let wrong_ends = ["/v1/traces/v1/traces", "/v1/trace", "/v1/metrics", "/v1/logs", "/v1"];
        let base = match wrong_ends.iter().find_map(|end| path.strip_suffix(end)) {
            Some(base) => base,
            None if self.has_traces_path() => return None,
            None => path.strip_suffix("/traces").unwrap_or(path),
        };
        Some(format!("{}{base}/{TRACES_PATH}", self.origin()))
    }

    /// Scheme, host and port, for display.
    fn origin(&self) -> String {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let scheme = self.url.scheme_str().unwrap_or("http");
        match (&self.zone, authority.split_once(']')) {
            (Some(zone), Some((address, port))) => format!("{scheme}://{address}%25{zone}]{port}"),
            _ => format!("{scheme}://{authority}"),
        }
    }

    /// Appends the traces path to this base URL (OTLPV-03).
    pub(crate) fn with_traces_path(self) -> Self {
        let base = self.url.path();
        let slash = if base.ends_with('/') { "" } else { "/" };
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{base}{slash}{TRACES_PATH}{query}");
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        // Only a URL near the 64 KiB limit of `Uri` can fail here.
        let url = Uri::from_parts(parts).unwrap_or(self.url);
        Self { url, ..self }
    }
}

/// Returns the address after checking its port; an empty port counts as none.
fn valid_address<'a>(address: &'a str, host: &str) -> Result<&'a str, &'static str> {
    let literal = host.strip_prefix('[').map(|host| host.trim_end_matches(']'));
    if let Some(literal) = literal {
        // After a '%' comes the zone, which only this machine understands.
        let number = literal.split_once('%').map_or(literal, |(number, _)| number);
        number.parse::<Ipv6Addr>().map_err(|_| HOST)?;
    }
    if host.is_empty() {
        return Err(HOST);
    }
    match address.strip_prefix(host) {
        Some("") => Ok(address),
        Some(":") => Ok(&address[..host.len()]),
        Some(port) => {
            let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse::<u16>().ok()) {
                None | Some(0) => Err(PORT),
                Some(_) => Ok(address),
            }
        }
        None => Err(HOST),
    }
}

/// Splits the zone off the address ([RFC 6874](https://www.rfc-editor.org/rfc/rfc6874)). A `%` that is not
/// percent-encoded is accepted, as in many programs.
fn without_zone(address: &str) -> Result<(Cow<'_, str>, Option<String>), &'static str> {
    let Some((literal, port)) = address.split_once(']') else { return Ok((address.into(), None)) };
    let Some((literal, zone)) = literal.split_once('%') else { return Ok((address.into(), None)) };
    let zone = percent_decode(zone.strip_prefix("25").unwrap_or(zone)).and_then(|zone| String::from_utf8(zone).ok());
    let is_name = |zone: &String| (1..=LONGEST_ZONE).contains(&zone.len()) && zone.bytes().all(is_of_zone);
    let zone = zone.filter(is_name).ok_or(ZONE)?;
    Ok((format!("{literal}]{port}").into(), Some(zone)))
}

/// Whether the byte may be part of an interface name. Linux allows nearly anything; bytes that do not fit into a URL or
/// a log line are refused.
fn is_of_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~@+".contains(&byte)
}

/// Whether the host has characters that are not ASCII.
fn is_international(text: &str) -> bool {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = address.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.chars().any(|letter| !letter.is_ascii() && letter.is_alphabetic())
}

/// Whether the host is an IPv6 address without brackets.
fn has_bare_ipv6(text: &str) -> bool {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = address.split(['/', '?', '#']).next().unwrap_or_default();
    host.parse::<Ipv6Addr>().is_ok()
        || host.rsplit_once(':').is_some_and(|(host, port)| {
            host.parse::<Ipv6Addr>().is_ok() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// The Basic credentials of a URL's user information.
fn basic(user_info: &str) -> Result<HeaderValue, &'static str> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut credentials = percent_decode(user).ok_or(USER_INFO)?;
    credentials.push(b':');
    credentials.extend(percent_decode(password).ok_or(USER_INFO)?);
    let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&credentials))).map_err(|_| USER_INFO)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Encodes as padded Base64 with the standard alphabet, for Basic authentication.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

/// Hides what could be user information or a token in the query of a text that was meant to be a URL. For URLs that
/// could not be parsed; an [`Endpoint`] shows itself.
pub(crate) fn redacted(text: &str) -> String {
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(is_of_scheme) => (Some(scheme), rest),
        _ => (None, text),
    };
    let address = match rest.rsplit_once('@') {
        // Either a query with an '@' or a password with a '?': the end of the secret is unknown.
        Some((before, _)) if before.contains(['?', '#']) => return "(hidden)".to_owned(),
        Some((_, address)) => address,
        None => rest,
    };
    let shown = address.split(['?', '#']).next().unwrap_or_default();
    scheme.map_or_else(|| shown.to_owned(), |scheme| format!("{scheme}://{shown}"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.url.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> String {
        Endpoint::parse(text).unwrap().with_traces_path().url().to_string()
    }

    #[test]
    fn a_base_url_has_the_traces_path_appended() {
        // OTLPV-03
        assert_eq!(base("http://h:4318"), "http://h:4318/v1/traces");
        assert_eq!(base("http://h:4318/"), "http://h:4318/v1/traces");
        assert_eq!(base("http://h:4318/a"), "http://h:4318/a/v1/traces");
        assert_eq!(base("http://h:4318/a/"), "http://h:4318/a/v1/traces");
        assert_eq!(base("http://h/a?tenant=1"), "http://h/a/v1/traces?tenant=1");
        assert_eq!(base("http://h?tenant=1"), "http://h/v1/traces?tenant=1");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_url_of_the_signal_is_used_unchanged_except_that_a_missing_path_becomes_a_slash() {
        // OTLPV-04, OTLPV-05, OTLPV-06
        for (text, expected) in [
            ("http://h:1", "http://h:1/"),
            ("http://h:1/x/", "http://h:1/x/"),
            ("http://h", "http://h/"),
            ("https://h/v1/traces?key=1", "https://h/v1/traces?key=1"),
            ("http://[::1]:4318/x", "http://[::1]:4318/x"),
            ("HTTPS://Host/x", "https://Host/x"),
            ("http://h:/x", "http://h/x"),
            ("http://h/x#part", "http://h/x"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().url().to_string(), expected, "{text}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_missing_port_stays_missing_so_that_the_scheme_decides() {
        // OTLPV-05
        assert_eq!(Endpoint::parse("http://127.0.0.1").unwrap().url().port(), None);
        assert_eq!(Endpoint::parse("https://127.0.0.1:8443").unwrap().url().port_u16(), Some(8443));
    }

    #[test]
    fn what_is_not_an_absolute_http_url_is_refused() {
        for text in [
            "",
            "localhost",
            "localhost:4318",
            "/v1/traces",
            "ftp://h",
            "grpc://h:4317",
            "http://",
            "http:///x",
            "http://:4318",
            "http://h:0",
            "http://h:65536",
            "http://h:+80",
            "http://h:x",
            "http://h:1:2",
            "http://[::1",
            "http://[nonsense]:1",
            "http://a b",
            "http://h/ä",
            "http://h/\n",
            "http://@:1/",
            "http://u@",
            "http://u%zz@h",
            "http://u@v@h",
            "http://h/@x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn user_information_becomes_basic_authorization_and_leaves_the_url() {
        let endpoint = Endpoint::parse("https://Aladdin:open%20sesame@h:1/x?key=1").unwrap();
        assert_eq!(endpoint.url().to_string(), "https://h:1/x?key=1");
        let authorization = endpoint.authorization().unwrap();
        assert_eq!(authorization, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(authorization.is_sensitive());
        assert_eq!(Endpoint::parse("http://u@h").unwrap().authorization().unwrap(), "Basic dTo=");
        assert_eq!(Endpoint::parse("http://@h").unwrap().authorization(), None);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_shown_endpoint_has_neither_user_information_nor_query() {
        let endpoint = Endpoint::parse("https://user:secret@h:1/x?token=secret").unwrap();
        assert_eq!(endpoint.to_string(), "https://h:1/x");
        assert_eq!(format!("{endpoint:?}"), "https://h:1/x");
    }

    #[test]
    fn a_url_that_was_not_understood_is_shown_without_what_may_be_secret() {
        for (text, shown) in [
            ("localhost:4318", "localhost:4318"),
            ("ftp://user:secret@h:1/x", "ftp://h:1/x"),
            ("user:secret@h:1", "h:1"),
            ("http://user:sec/ret@h", "http://h"),
            ("http://user:sec@ret@h", "http://h"),
            ("http://user:sec?ret@h", "(hidden)"),
            ("http://user:sec#ret@h", "(hidden)"),
            ("user:secret://x@h", "h"),
            ("us@secret://x", "secret://x"),
            ("grpc://h?token=secret", "grpc://h"),
        ] {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }

    #[test]
    fn a_zone_is_told_apart_from_the_address_and_stays_on_this_machine() {
        for (text, url, zone) in [
            ("http://[::1%25lo]:4318/x", "http://[::1]:4318/x", Some("lo")),
            ("http://[::1%251]:4318", "http://[::1]:4318/", Some("1")),
            ("http://[fe80::1%25eth0]", "http://[fe80::1]/", Some("eth0")),
            ("http://[fe80::1%eth0]:1", "http://[fe80::1]:1/", Some("eth0")),
            ("http://u:p@[fe80::1%25br-1%2E2]:1", "http://[fe80::1]:1/", Some("br-1.2")),
            ("http://[::1]:4318", "http://[::1]:4318/", None),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.url().to_string().as_str(), endpoint.zone()), (url, zone), "{text}");
        }
        let endpoint = Endpoint::parse("http://[::1%25lo]:4318").unwrap().with_traces_path();
        assert_eq!(endpoint.to_string(), "http://[::1%25lo]:4318/v1/traces");
        assert!(endpoint.is_loopback());
        assert_eq!(endpoint.for_metrics().unwrap().to_string(), "http://[::1%25lo]:4318/v1/metrics");
        for text in ["http://[::1%25]:1", "http://[::1%]:1", "http://[::1%25a%20b]:1", "http://[::1%25a%zz]:1"] {
            let must = Endpoint::parse(text).unwrap_err();
            assert!([ZONE, HOST, ABSOLUTE].contains(&must), "{text}: {must}");
        }
        assert_eq!(Endpoint::parse(&format!("http://[::1%25{}]:1", "x".repeat(65))), Err(ZONE));
    }

    #[test]
    fn what_is_wrong_with_a_host_is_told_for_what_it_is() {
        for text in ["http://::1:4318", "http://::1", "http://fe80::1/v1/traces", "http://2001:db8::1:4318"] {
            assert_eq!(Endpoint::parse(text), Err(BRACKETS), "{text}");
        }
        for text in ["http://bücher.example:4318", "http://u:p@日本.example/x"] {
            assert_eq!(Endpoint::parse(text), Err(PUNYCODE), "{text}");
        }
        assert_eq!(Endpoint::parse("http://h/bücher"), Err(ASCII));
        for text in ["http://localhost.:4318", "http://LOCALHOST:4318", "http://127.0.0.2", "http://[::1]"] {
            assert!(Endpoint::parse(text).unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn the_usual_url_is_guessed_from_an_unusual_one() {
        for (text, usual) in [
            ("http://h:4318", "http://h:4318/v1/traces"),
            ("http://h:4318/", "http://h:4318/v1/traces"),
            ("http://h/otlp", "http://h/otlp/v1/traces"),
            ("http://h/otlp/?token=secret", "http://h/otlp/v1/traces"),
            ("http://h/v1", "http://h/v1/traces"),
            ("http://h/v1/trace", "http://h/v1/traces"),
            ("http://h/a/v1/metrics", "http://h/a/v1/traces"),
            ("http://h/a/traces", "http://h/a/v1/traces"),
            ("http://h/v1/traces/v1/traces", "http://h/v1/traces"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().usual_url().as_deref(), Some(usual), "{text}");
        }
        assert_eq!(Endpoint::parse("http://h/a/v1/traces").unwrap().usual_url(), None);
        assert_eq!(Endpoint::parse("http://h/v1/traces/").unwrap().usual_url(), None);
    }

    /// The test vectors of RFC 4648, section 10.
    #[test]
    fn base64_matches_the_vectors_of_its_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xFB, 0xFF]), "+/8=");
    }
}
