//! What TLS found wrong, in a line that says what helps.

use std::{
    io,
    time::{Duration, SystemTime},
};

use rustls::{
    AlertDescription, CertificateError,
    pki_types::{ServerName, UnixTime},
};
use ureq::Error;

const AUTHORITY: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE names a file with the certificate of a private authority, or \
                         with the receiver's own, and a receiver must send those between";
const CLOCK: &str = "it must be renewed where the receiver runs, unless it is the clock of this machine that is wrong";
const IDENTITY: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name the files of one \
                        that the receiver trusts";
const SUPPORTED: &str = "supported are TLS 1.2 and 1.3, with certificates that have keys of P-256, P-384, Ed25519 or RSA \
                         of at least 2048 bits";

/// What TLS found wrong, where that is what ended the exchange.
pub(in super::super) fn failure(error: &Error) -> Option<String> {
    match error {
        Error::Tls(error) => Some(format!("TLS failed: {error}")),
        Error::Io(error) => within(error).map(message),
        _ => None,
    }
}

/// Whether another handshake would end the same way: what was shown is not believed, or there is no way in common.
pub(in super::super) fn is_final(error: &Error) -> bool {
    let Error::Io(error) = error else { return false };
    match within(error) {
        Some(rustls::Error::AlertReceived(alert)) => !is_passing(*alert),
        Some(error) => matches!(
            error,
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::InvalidMessage(_)
                | rustls::Error::PeerIncompatible(_)
                | rustls::Error::General(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::UnsupportedNameType
        ),
        None => false,
    }
}

/// Whether an alert tells of the receiver's own troubles, or of bytes that were damaged on their way.
fn is_passing(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CloseNotify
            | AlertDescription::InternalError
            | AlertDescription::UserCanceled
            | AlertDescription::BadRecordMac
            | AlertDescription::DecodeError
            | AlertDescription::UnexpectedMessage
    ) || matches!(alert, AlertDescription::Unknown(_))
}

fn within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn message(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::AlertReceived(alert) => received(*alert),
        rustls::Error::InvalidMessage(_) => format!("TLS failed: {error}; does it speak plain http there?"),
        rustls::Error::PeerIncompatible(_) => format!("TLS failed: {error}; {SUPPORTED}"),
        // A line of this crate's own.
        rustls::Error::General(line) => format!("TLS failed: {line}"),
        _ => format!("TLS failed: {error}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "TLS failed: the receiver's certificate expired at {}, and now it is {}; {CLOCK}",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "TLS failed: the receiver's certificate is not valid before {}, and now it is {}; {CLOCK}",
            date(*not_before),
            date(*time)
        ),
        CertificateError::UnknownIssuer => format!("TLS failed: invalid peer certificate: UnknownIssuer; {AUTHORITY}"),
        CertificateError::BadSignature => format!(
            "TLS failed: invalid peer certificate: BadSignature, as where another authority of the same name is trusted; \
             {AUTHORITY}"
        ),
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            let name = expected.to_str();
            let kind = if matches!(expected, ServerName::IpAddress(_)) { "IP" } else { "DNS" };
            format!(
                "TLS failed: certificate not valid for name \"{name}\": it has no subject alternative names, which count \
                 alone; `openssl req -x509 -addext subjectAltName={kind}:{name}` makes one with it"
            )
        }
        // It is told which names there are.
        CertificateError::NotValidForNameContext { .. } => {
            format!("TLS failed: {error}; the endpoint must name the receiver as its certificate does")
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "TLS failed: the receiver's certificate, or one that signed it, is signed in a way that is not supported; \
             {SUPPORTED}"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("TLS failed: {error}; the receiver's certificate must be one for servers")
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "TLS failed: the receiver shows the certificate of an authority (CaUsedAsEndEntity), which is believed only \
             if OTEL_EXPORTER_OTLP_CERTIFICATE names a file with exactly this one"
                .to_owned()
        }
        other => format!("TLS failed: invalid peer certificate: {other}"),
    }
}

fn received(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            format!("TLS failed: the receiver wants a client certificate ({alert:?}); {IDENTITY}")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            format!("TLS failed: the receiver does not accept the client certificate ({alert:?}); {IDENTITY}")
        }
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            format!("TLS failed: receiver and client have no way in common ({alert:?}); {SUPPORTED}")
        }
        // TLS 1.2 has no alert of its own for a certificate that is missing.
        AlertDescription::HandshakeFailure => format!(
            "TLS failed: receiver and client have no way in common ({alert:?}); {SUPPORTED}; where it wants a client \
             certificate, {IDENTITY}"
        ),
        AlertDescription::UnrecognisedName => {
            format!("TLS failed: the receiver does not know itself by the host of the endpoint ({alert:?})")
        }
        _ => format!("TLS failed: the receiver broke off: {alert:?}"),
    }
}

/// As in logs; the year 9999 is the last that has such a form, and certificates end with it.
fn date(time: UnixTime) -> String {
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs().min(LAST)))
        .to_string()
}
