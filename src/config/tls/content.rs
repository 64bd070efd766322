//! The content of a file: certificates or a private key, as PEM or DER, or something that is often taken for one.

use std::{ops::RangeInclusive, sync::Arc};

use memchr::memmem;
use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject as _},
    },
    sign::{CertifiedKey, SigningKey},
};

use super::der;

pub(crate) type Certificates = Vec<CertificateDer<'static>>;

/// Allowed bits of an RSA key for client signatures.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

const PLAIN_KEY: &str = "`openssl pkey -in OLD -out NEW` writes it without its passphrase";
const FROM_PKCS12: &str = "it is PKCS#12, from which `openssl pkcs12 -in OLD -nodes -out NEW` makes PEM";

/// Reads the certificates of a file, at least one of which can be trusted.
pub(super) fn roots(file: &[u8]) -> Result<Certificates, String> {
    let certificates = certificates(file)?;
    // A certificate that cannot be parsed does not spoil a bundle: a system's bundle may contain some.
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(certificates.iter().cloned());
    match usable {
        0 => Err("must be a PEM or DER file whose certificates can be read".to_owned()),
        _ => Ok(certificates),
    }
}

/// Reads the certificates of a file in their order: at least one, of any kind.
pub(super) fn certificates(file: &[u8]) -> Result<Certificates, String> {
    let must = |why: &str| Err(format!("must be a PEM or DER file with at least one certificate; {why}"));
    let file = text(file);
    if is_der(file) {
        return match der::validity(file) {
            Some(_) => Ok(vec![CertificateDer::from(file.to_vec())]),
            None if der::is_pkcs12(file) => must(FROM_PKCS12),
            None => must("it is DER, but no certificate"),
        };
    }
    let found: Result<Certificates, _> = CertificateDer::pem_slice_iter(file).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if has(file, "-----BEGIN TRUSTED CERTIFICATE-----") => {
            must("`openssl x509 -in OLD -out NEW` makes one of what begins with BEGIN TRUSTED CERTIFICATE")
        }
        Ok(_) if has(file, "-----BEGIN PKCS7-----") => {
            must("it is PKCS#7, from which `openssl pkcs7 -print_certs -in OLD -out NEW` makes them")
        }
        Ok(_) if has(file, "PRIVATE KEY-----") => must("it holds a key and no certificate"),
        Ok(_) if has(file, "-----BEGIN CERTIFICATE REQUEST-----") => must("it is a request for one"),
        Ok(_) => must(nothing_in(file)),
        Err(error) => must(&format!("it is damaged ({error})")),
    }
}

/// Reads the first unencrypted private key of a file.
pub(super) fn private_key(file: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, String> {
    let must = |why: &str| format!("must be a PEM or DER file with a private key that is not encrypted; {why}");
    let file = text(file);
    let key = if is_der(file) {
        match PrivateKeyDer::try_from(file) {
            _ if der::is_pkcs12(file) => return Err(must(FROM_PKCS12)),
            _ if der::is_encrypted_key(file) => return Err(must(&format!("it is; {PLAIN_KEY}"))),
            _ if der::validity(file).is_some() => return Err(must("it is a certificate")),
            Ok(key) => key.clone_key(),
            Err(_) => return Err(must("it is DER, but no key")),
        }
    } else {
        match PrivateKeyDer::from_pem_slice(file) {
            // Encrypted keys in PKCS#1 or SEC 1 have leading lines that are not Base64.
            _ if has(file, "Proc-Type: 4,ENCRYPTED") => return Err(must(&format!("it is; {PLAIN_KEY}"))),
            Ok(key) => key,
            Err(_) if has(file, "-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
                return Err(must(&format!("it is; {PLAIN_KEY}")));
            }
            Err(_) if has(file, "-----BEGIN OPENSSH PRIVATE KEY-----") => {
                return Err(must("it is in the form of OpenSSH, which `ssh-keygen -p -m PKCS8 -f FILE` changes"));
            }
            Err(_) if has(file, "-----BEGIN DSA PRIVATE KEY-----") => return Err(unsupported("DSA")),
            Err(PemError::NoItemsFound) if has(file, "-----BEGIN CERTIFICATE-----") => {
                return Err(must("it holds a certificate and no key"));
            }
            Err(PemError::NoItemsFound) => return Err(must(nothing_in(file))),
            Err(error) => return Err(must(&format!("it is damaged ({error})"))),
        }
    };
    let kind = der::private_key(key.secret_der());
    provider.key_provider.load_private_key(key).map_err(|_| match kind {
        Some(kind) if !kind.is_supported(&RSA_BITS) => unsupported(kind),
        Some(kind) => format!("must be a private key that can be used; this one, {kind}, is damaged"),
        None => unsupported("of another kind"),
    })
}

/// Combines a key and its certificates, or returns what is wrong with them.
pub(super) fn pair(certificates: &Certificates, key: &Arc<dyn SigningKey>) -> Result<CertifiedKey, &'static str> {
    let pair = |chain| CertifiedKey::new(chain, Arc::clone(key));
    // A pair that cannot be compared is accepted.
    let matches = |pair: &CertifiedKey| {
        matches!(pair.keys_match(), Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)))
    };
    let whole = pair(certificates.clone());
    if matches(&whole) {
        return Ok(whole);
    }
    let is_later = certificates.iter().skip(1).any(|one| matches(&pair(vec![one.clone()])));
    Err(if is_later { "; it comes first in its file, before those that signed it" } else { "" })
}

fn unsupported(kind: impl std::fmt::Display) -> String {
    format!(
        "must be a private key of a kind that is supported, which are P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits; \
         this one is {kind} (`openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout NEW` makes one, and \
         a request for its certificate)"
    )
}

/// The file without what editors put in front of it (a byte order mark).
fn text(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file)
}

/// Whether the file is one DER sequence from its first byte to its last; no text is.
fn is_der(file: &[u8]) -> bool {
    match file {
        [0x30, 0x81..=0x84, ..] => true,
        [0x30, length @ 0..=0x7F, rest @ ..] => rest.len() == usize::from(*length),
        _ => false,
    }
}

fn has(file: &[u8], text: &str) -> bool {
    memmem::find(file, text.as_bytes()).is_some()
}

/// Why the file contains nothing usable.
fn nothing_in(file: &[u8]) -> &'static str {
    match file {
        [] => "it is empty",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16, and must be UTF-8",
        _ if has(file, "-----BEGIN ") => "it holds something else",
        _ => "it is neither",
    }
}
