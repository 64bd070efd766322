//! The replacement for TLS if that is not compiled in: URLs that ask for it fail.

use ureq::{
    Error,
    unversioned::transport::{ConnectionDetails, Connector, Transport},
};

use crate::config::Tls;

/// Passes plain connections on. Settings refuse a receiver with TLS, but a proxy may ask for it.
#[derive(Debug)]
pub(in crate::export) struct TlsConnector;

impl TlsConnector {
    pub(in crate::export) fn new(_: &Tls, _: usize) -> Self {
        Self
    }

    pub(in crate::export) fn take_remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<In>, Error> {
        if details.needs_tls() { Err(Error::TlsRequired) } else { Ok(chained) }
    }
}

pub(in crate::export) fn is_final(error: &Error) -> bool {
    matches!(error, Error::TlsRequired)
}

pub(in crate::export) fn failure(error: &Error) -> Option<String> {
    matches!(error, Error::TlsRequired).then(|| "the proxy wants TLS: needs the cargo feature `tls`".to_owned())
}
