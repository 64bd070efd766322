//! Whom to believe: who shows a certificate that is derived from a trusted one, or one that was itself named as trusted.

use std::{ops::RangeInclusive, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::config::{Certificates, NamedFile, der};

/// The bits of an RSA key whose signatures can be checked.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// What checks the certificates of servers.
pub(super) fn verifier(
    roots: &NamedFile<Certificates>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let Some(named) = roots.content() else { return by_default(provider) };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(named.iter().cloned());
    Ok(Arc::new(Trust { derived: derived(store, provider)?, named: named.clone() }))
}

#[cfg(feature = "platform-verifier")]
fn by_default(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    Ok(Arc::new(rustls_platform_verifier::Verifier::new(provider)?))
}

#[cfg(not(feature = "platform-verifier"))]
fn by_default(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(Arc::new(Trust { derived: derived(store, provider)?, named: Vec::new() }))
}

fn derived(store: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
    built.map_err(|error| Error::General(error.to_string()))
}

/// Believes who shows a certificate that is derived from a trusted one. A server's own certificate that was named as
/// trusted is derived from none that counts: it may say of itself that it is an authority, as those of
/// `openssl req -x509` do, or be signed by who was not named. It is believed as it is, byte for byte, where name and
/// dates are right, as curl does.
#[derive(Debug)]
struct Trust {
    derived: Arc<WebPkiServerVerifier>,
    named: Certificates,
}

impl Trust {
    fn verify_named(&self, shown: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        let validity = der::validity(shown).ok_or(CertificateError::BadEncoding)?;
        let at = |seconds: &u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(*seconds));
        let (not_before, not_after) = (at(validity.start()), at(validity.end()));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(kind) = der::certified_key(shown).filter(|kind| !kind.is_supported(&RSA_BITS)) {
            return Err(Error::General(format!(
                "the receiver's certificate has a key of a kind that is not supported: {kind}; P-256, P-384, Ed25519 and \
                 RSA of at least 2048 bits are"
            )));
        }
        let refused = match self.derived.verify_server_cert(shown, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        // The other refusals are about the certificate itself, not about who vouches for it: somebody of the name of
        // another one that is trusted, perhaps, as where a certificate was made twice.
        let is_about_issuers = matches!(
            refused,
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                    | CertificateError::BadSignature
                    | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                    | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
                    | CertificateError::Other(_)
            )
        );
        if !is_about_issuers || !self.named.iter().any(|named| named == shown) {
            return Err(refused);
        }
        self.verify_named(shown, name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.derived.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.derived.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.derived.supported_verify_schemes()
    }
}
