//! TLS as ureq sets it up: whom it trusts, what it shows, and what it found wrong.

use std::io;

use rustls::{AlertDescription, CertificateError};
use ureq::{
    Error,
    config::ConfigBuilder,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
    typestate::AgentScope,
};

use crate::config::Tls;

/// Makes connections secure where the URL says so.
pub(super) type TlsConnector = ureq::unversioned::transport::RustlsConnector;

pub(super) fn configured(config: ConfigBuilder<AgentScope>, tls: &Tls) -> ConfigBuilder<AgentScope> {
    let owned = |certificate: &rustls::pki_types::CertificateDer<'_>| Certificate::from_der(certificate).to_owned();
    let settings = TlsConfig::builder().unversioned_rustls_crypto_provider(Tls::provider());
    let settings = match tls.roots.content() {
        Some(certificates) => settings.root_certs(certificates.iter().map(owned).into()),
        None if cfg!(feature = "platform-verifier") => settings.root_certs(RootCerts::PlatformVerifier),
        None => settings.root_certs(RootCerts::WebPki),
    };
    let identity = tls.identity.as_ref().and_then(|identity| {
        let chain: Vec<_> = identity.chain.iter().map(owned).collect();
        // It could be read when the settings were checked.
        Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&identity.key).ok()?))
    });
    config.tls_config(settings.client_cert(identity).build())
}

/// What TLS found wrong, where that is what ended the exchange.
pub(super) fn failure(error: &Error) -> Option<String> {
    match error {
        Error::Tls(error) => Some(format!("TLS failed: {error}")),
        Error::Rustls(error) => Some(message(error)),
        Error::Io(error) => within(error).map(message),
        _ => None,
    }
}

fn within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn message(error: &rustls::Error) -> String {
    let advice = match error {
        rustls::Error::InvalidMessage(_) => "; does it speak plain http there?",
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; OTEL_EXPORTER_OTLP_CERTIFICATE names a file with the certificate of a private authority"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "; OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name the files of one"
        }
        _ => "",
    };
    format!("TLS failed: {error}{advice}")
}
