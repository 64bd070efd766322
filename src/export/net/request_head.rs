//! The head of a request. Its constant parts are formatted once.

use std::io::Write as _;

use http::{
    Uri,
    header::{HOST, USER_AGENT},
};

use super::{exchange::AGENT, proxy::ProxyOnTheWay};
use crate::config::{Compression, Headers};

/// The constant parts of requests to one URL.
#[derive(Clone)]
pub(in crate::export) struct RequestHead {
    /// The request line and the headers that come before those of one request.
    beginning: Vec<u8>,
    /// The headers behind them, and the line that ends the head.
    end: Vec<u8>,
}

impl RequestHead {
    /// A POST to `url` with these headers of the user's. Unless the connection is kept, it asks the receiver to close
    /// it. A proxy that passes it on is given the whole URL, and its credentials.
    pub(in crate::export) fn new(url: &Uri, headers: &Headers, is_kept: bool, proxy: Option<&ProxyOnTheWay>) -> Self {
        let is_given = |name| headers.iter().any(|(given, _)| given == name);
        let path = url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let forwarding = proxy.filter(|proxy| proxy.forwards());
        let origin = match (forwarding, url.authority()) {
            (Some(_), Some(authority)) => format!("http://{authority}"),
            _ => String::new(),
        };
        let mut beginning = format!("POST {origin}{path} HTTP/1.1\r\n");
        if !is_given(USER_AGENT) {
            beginning += &format!("user-agent: {AGENT}\r\n");
        }
        if let Some(authority) = url.authority().filter(|_| !is_given(HOST)) {
            beginning += &format!("host: {authority}\r\n");
        }
        beginning += "content-type: application/x-protobuf\r\n";
        beginning += &forwarding.and_then(ProxyOnTheWay::authorization).unwrap_or_default();
        if !is_kept {
            beginning += "connection: close\r\n";
        }
        let mut end = Vec::new();
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                end.extend_from_slice(part);
            }
        }
        end.extend_from_slice(b"\r\n");
        Self { beginning: beginning.into_bytes(), end }
    }

    /// The head of a request with a body of `length` bytes.
    pub(in crate::export) fn of(&self, length: usize, compression: Compression) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.most_bytes());
        head.extend_from_slice(&self.beginning);
        // Writing to memory does not fail.
        let _ = write!(head, "content-length: {length}\r\n");
        if let Some(encoding) = compression.content_encoding() {
            let _ = write!(head, "content-encoding: {encoding}\r\n");
        }
        head.extend_from_slice(&self.end);
        head
    }

    /// An upper bound of the bytes of a head.
    pub(in crate::export) fn most_bytes(&self) -> usize {
        self.beginning.len() + self.end.len() + 80
    }
}
