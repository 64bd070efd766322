//! The replacement for TLS if that is not compiled in: URLs that ask for it fail.

use ureq::{
    Error,
    unversioned::transport::{ConnectionDetails, Transport},
};

use super::socket::Socket;
use crate::config::{Protocol, Tls};

/// Opens nothing. Settings refuse a receiver with TLS, but a proxy may ask for it.
#[derive(Debug)]
pub(in crate::export) struct TlsConnector;

/// Who is at the other end.
pub(super) enum Peer {
    Receiver,
    Proxy,
}

impl TlsConnector {
    pub(in crate::export) fn new(_: &Tls, _: usize, _: Protocol) -> Self {
        Self
    }

    pub(in crate::export) fn take_remarks(&self) -> Vec<String> {
        Vec::new()
    }

    pub(super) fn connect(&self, _: &ConnectionDetails<'_>, _: Box<dyn Transport>, _: Peer) -> Result<Socket, Error> {
        Err(Error::TlsRequired)
    }
}

pub(in crate::export) fn is_final(error: &Error) -> bool {
    matches!(error, Error::TlsRequired)
}

pub(in crate::export) fn failure(error: &Error) -> Option<String> {
    matches!(error, Error::TlsRequired).then(|| "the proxy wants TLS: needs the cargo feature `tls`".to_owned())
}
