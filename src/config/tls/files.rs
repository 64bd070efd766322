//! The PEM files that TLS needs, read and checked once.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::rejected;
use crate::{env::Rejected, error::Error};

/// What a server's certificate is checked against where no file says otherwise.
pub(in crate::config) const DEFAULT_ROOTS: &str =
    if cfg!(feature = "platform-verifier") { "the certificates this machine trusts" } else { "the bundled roots" };
pub(in crate::config) const NO_IDENTITY: &str = "no client certificate";

/// Every certificate a system trusts takes a quarter of a megabyte.
const LARGEST_FILE: u64 = 16 << 20;

pub(crate) type Certificates = Vec<CertificateDer<'static>>;
/// The text of a file, which the HTTP client reads keys from; its first key was found usable.
pub(crate) type Key = Arc<[u8]>;

/// How TLS is set up (OTLPV-13). Its `Debug` shows where keys come from, never what they are.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// The only certificates that a server's may be derived from, where a file names some.
    pub(crate) roots: Pem<Certificates>,
    /// What is shown to a server that asks.
    pub(crate) identity: Option<Identity>,
}

impl Tls {
    /// The cryptography of this client. The host may have made another one the default of its process, which could
    /// refuse a key that was found usable here.
    pub(crate) fn provider() -> Arc<CryptoProvider> {
        Arc::new(ring::default_provider())
    }
}

/// The content of a PEM file, or what holds without one.
#[derive(Clone)]
pub(crate) enum Pem<T> {
    Without(&'static str),
    File { path: PathBuf, content: T },
}

impl Pem<Certificates> {
    /// The default, by its description.
    pub(in crate::config) fn default_roots() -> Self {
        Self::Without(DEFAULT_ROOTS)
    }
}

impl<T> Pem<T> {
    pub(crate) fn content(&self) -> Option<&T> {
        match self {
            Self::Without(_) => None,
            Self::File { content, .. } => Some(content),
        }
    }

    /// The file as messages show it.
    pub(in crate::config) fn shown(&self) -> String {
        match self {
            Self::Without(what) => (*what).to_owned(),
            Self::File { path, .. } => rejected(path, "").value,
        }
    }
}

impl<T> fmt::Debug for Pem<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A client certificate, with those that signed it, and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Certificates,
    pub(crate) key: Key,
    shown: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Which half of a client's pair is at fault, and what it must be.
pub(in crate::config) enum Unpaired {
    Certificate(String),
    Key(String),
}

/// The certificates of a file, of which at least one can be trusted.
pub(in crate::config) fn roots(path: &Path) -> Result<Pem<Certificates>, Rejected> {
    let certificates = certificates(path)?;
    // One that is not understood spoils no bundle: a system's may hold some that are.
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(rejected(path, "must be a PEM file whose certificates can be read"));
    }
    Ok(Pem::File { path: path.to_owned(), content: certificates })
}

/// A client certificate and those that signed it, in this order.
pub(in crate::config) fn chain(path: &Path) -> Result<Pem<Certificates>, Rejected> {
    Ok(Pem::File { path: path.to_owned(), content: certificates(path)? })
}

/// The first private key of a file.
pub(in crate::config) fn key(path: &Path) -> Result<Pem<Key>, Rejected> {
    let must = || rejected(path, "must be a PEM file with a private key that is not encrypted");
    let text = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| must())?;
    Tls::provider().key_provider.load_private_key(key).map_err(|_| must())?;
    Ok(Pem::File { path: path.to_owned(), content: text.into() })
}

/// A certificate and a key, which must belong together; none if there is neither.
pub(in crate::config) fn pair(chain: &Pem<Certificates>, key: &Pem<Key>) -> Result<Option<Identity>, Unpaired> {
    let (certificates, private) = match (chain.content(), key.content()) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(Unpaired::Certificate("must come with its key".to_owned())),
        (None, Some(_)) => return Err(Unpaired::Key("must come with its certificate".to_owned())),
        (Some(certificates), Some(private)) => (certificates, private),
    };
    let belongs = PrivateKeyDer::from_pem_slice(private)
        .is_ok_and(|private| CertifiedKey::from_der(certificates.clone(), private, &Tls::provider()).is_ok());
    if !belongs {
        return Err(Unpaired::Certificate(format!("must be a certificate that belongs to the key {}", key.shown())));
    }
    let shown = format!("{} with the key {}", chain.shown(), key.shown());
    Ok(Some(Identity { chain: certificates.clone(), key: Arc::clone(private), shown }))
}

/// What was named in code, or why it is not usable.
pub(in crate::config) fn in_code<T>(
    knob: &'static str,
    path: Option<&PathBuf>,
    read: impl Fn(&Path) -> Result<T, Rejected>,
) -> Result<Option<T>, Error> {
    path.map(|path| read(path)).transpose().map_err(|why| Error::config(knob, why.value, why.must))
}

fn certificates(path: &Path) -> Result<Certificates, Rejected> {
    let found: Result<Certificates, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| rejected(path, "must be a PEM file with at least one certificate"))
}

fn read(path: &Path) -> Result<Vec<u8>, Rejected> {
    let unreadable = |error| rejected(path, format!("must be a PEM file that can be read ({error})"));
    let metadata = fs::metadata(path).map_err(unreadable)?;
    // Reading a pipe or a device might never end.
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(rejected(path, format!("must be a regular file of at most {LARGEST_FILE} bytes")));
    }
    fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::hostile::{assert_linear_in, mutated};

    const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificate.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/key.pem");

    #[test]
    fn a_file_is_read_by_what_is_looked_for_in_it() {
        // OTLPV-13
        assert_eq!(roots(CERTIFICATE.as_ref()).unwrap().content().unwrap().len(), 1);
        let (chain, key) = (chain(CERTIFICATE.as_ref()).unwrap(), key(KEY.as_ref()).unwrap());
        assert!(matches!(pair(&chain, &key), Ok(Some(_))));
        for rejected in [
            roots(KEY.as_ref()).unwrap_err(),
            super::chain(KEY.as_ref()).unwrap_err(),
            super::key(CERTIFICATE.as_ref()).unwrap_err(),
            roots("/nonexistent/file.pem".as_ref()).unwrap_err(),
            roots("/".as_ref()).unwrap_err(),
            super::key("/dev/zero".as_ref()).unwrap_err(),
        ] {
            assert!(rejected.must.starts_with("must be a "), "{rejected:?}");
        }
    }

    #[test]
    fn half_a_pair_is_told_by_the_half_that_is_there() {
        // OTLPV-13
        let (chain, key) = (chain(CERTIFICATE.as_ref()).unwrap(), key(KEY.as_ref()).unwrap());
        assert!(matches!(pair(&chain, &Pem::Without(NO_IDENTITY)), Err(Unpaired::Certificate(_))));
        assert!(matches!(pair(&Pem::Without(NO_IDENTITY), &key), Err(Unpaired::Key(_))));
        assert!(matches!(pair(&Pem::Without(NO_IDENTITY), &Pem::Without(NO_IDENTITY)), Ok(None)));
    }

    #[test]
    fn a_key_given_in_place_of_its_file_is_not_shown() {
        let pem = fs::read_to_string(KEY).unwrap();
        let line = pem.lines().nth(1).unwrap();
        for text in [pem.as_str(), line] {
            let rejected = key(text.as_ref()).unwrap_err();
            assert!(!format!("{rejected:?}").contains(&line[..20]), "{rejected:?}");
        }
    }

    /// A file that is removed in the end.
    struct Written(PathBuf);

    impl Written {
        fn new(content: &[u8]) -> Self {
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("otlp-pem-{}-{number}", std::process::id()));
            fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// How many certificates there are for a server and for a client, and whether there is a key.
    fn read_all(file: &Written) -> (Option<usize>, Option<usize>, bool) {
        let count = |read: Result<Pem<Certificates>, Rejected>| Some(read.ok()?.content()?.len());
        (count(roots(&file.0)), count(chain(&file.0)), key(&file.0).is_ok())
    }

    #[test]
    fn every_file_is_read_in_time_in_proportion_to_its_length() {
        // ERR-01, OTLPV-13
        type Make = fn(usize) -> String;
        let files: [(&str, Make); 9] = [
            ("beginnings", |bytes| "-----BEGIN CERTIFICATE-----\n".repeat(bytes / 28)),
            ("ends", |bytes| "-----END CERTIFICATE-----\n".repeat(bytes / 26)),
            ("empty certificates", |bytes| {
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".repeat(bytes / 54)
            }),
            ("one long certificate", |bytes| {
                format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", "MIIB\n".repeat(bytes / 5))
            }),
            ("one long line", |bytes| format!("-----BEGIN PRIVATE KEY-----\n{}", "A".repeat(bytes))),
            ("one long key", |bytes| {
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "MIIB".repeat(bytes / 4))
            }),
            ("dashes", |bytes| "-".repeat(bytes)),
            ("empty lines", |bytes| "\r\n".repeat(bytes / 2)),
            ("certificates of others", |bytes| {
                let certificate = fs::read_to_string(CERTIFICATE).unwrap();
                certificate.repeat(bytes / certificate.len())
            }),
        ];
        for (what, make) in files {
            assert_linear_in(what, |bytes| Written::new(make(bytes).as_bytes()), read_all);
        }
    }

    proptest! {
        // Each case writes a file.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_with_errors_in_it_is_read_or_refused(content in prop_oneof![
            mutated(Just(fs::read(CERTIFICATE).unwrap())),
            mutated(Just(fs::read(KEY).unwrap())),
            any::<Vec<u8>>(),
        ]) {
            // ERR-01, OTLPV-13
            let (roots, chain, _) = read_all(&Written::new(&content));
            prop_assert!(roots != Some(0) && chain != Some(0));
        }
    }
}
