//! The files that TLS needs, read and checked when they are configured, and again when they change.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    crypto::{CryptoProvider, ring},
    sign::{CertifiedKey, SigningKey},
};

use super::{
    content::{self, Certificates},
    rejected,
};
use crate::{env::Rejected, error::Error};

/// What a server's certificate is checked against by default.
pub(in crate::config) const DEFAULT_ROOTS: &str =
    if cfg!(feature = "platform-verifier") { "the certificates this machine trusts" } else { "the bundled roots" };
pub(in crate::config) const NO_IDENTITY: &str = "no client certificate";

/// All certificates that a system trusts take a quarter of a megabyte.
const LARGEST_FILE: u64 = 16 << 20;

/// A file that was changed this shortly before it was read may be changed again without looking any different.
const RECENT: Duration = Duration::from_secs(1);

pub(crate) type Key = Arc<dyn SigningKey>;

/// How TLS is set up (OTLPV-13). Its `Debug` shows where keys come from, never what they are.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// The only certificates trusted, if a file gives them: a server's must be signed by one of them, or be one of
    /// them.
    pub(crate) roots: NamedFile<Certificates>,
    /// The client certificate for servers that ask for one.
    pub(crate) identity: Option<Identity>,
}

impl Tls {
    /// The cryptography of this client. The program may have set another one as the default of its process, which could
    /// refuse a key that is usable here.
    pub(crate) fn provider() -> Arc<CryptoProvider> {
        Arc::new(ring::default_provider())
    }
}

/// The content of a configured file, or the default without one.
#[derive(Clone)]
pub(crate) enum NamedFile<T> {
    Without(&'static str),
    File { path: PathBuf, stamp: Stamp, content: T },
}

impl NamedFile<Certificates> {
    /// The default, with its description.
    pub(in crate::config) fn default_roots() -> Self {
        Self::Without(DEFAULT_ROOTS)
    }
}

impl<T> NamedFile<T> {
    pub(crate) fn content(&self) -> Option<&T> {
        match self {
            Self::Without(_) => None,
            Self::File { content, .. } => Some(content),
        }
    }

    /// The file's name, for messages.
    pub(in crate::config) fn shown(&self) -> String {
        match self {
            Self::Without(what) => (*what).to_owned(),
            Self::File { path, .. } => rejected(path, "").value,
        }
    }
}

impl<T> fmt::Debug for NamedFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A client certificate, followed by those that signed it, and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pair: Arc<CertifiedKey>,
    /// The files of the certificate and of the key.
    pub(super) files: [(PathBuf, Stamp); 2],
    shown: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Which half of a client's pair is wrong, and what it must be.
pub(in crate::config) enum Unpaired {
    Certificate(String),
    Key(String),
}

/// Distinguishes one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// The inode: a new file under the same name has another.
    number: u64,
    /// Whether it was last changed long enough ago: it is not being written.
    is_settled: bool,
}

impl Stamp {
    fn new(metadata: &fs::Metadata) -> Self {
        let modified = metadata.modified().ok();
        let age = modified.map(|modified| match SystemTime::now().duration_since(modified) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        });
        Self {
            modified,
            length: metadata.len(),
            number: number(metadata),
            is_settled: age.is_none_or(|age| age >= RECENT),
        }
    }

    /// Whether the file was completely written when this was taken, as far as can be told.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// The current stamp; `None` if the file does not exist.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::new)
    }
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> u64 {
    0
}

/// Reads the certificates of a file, at least one of which can be trusted.
pub(in crate::config) fn roots(path: &Path) -> Result<NamedFile<Certificates>, Rejected> {
    named(path, content::roots)
}

/// Reads a client certificate and those that signed it, in this order.
pub(in crate::config) fn chain(path: &Path) -> Result<NamedFile<Certificates>, Rejected> {
    named(path, content::certificates)
}

/// Reads the first private key of a file.
pub(in crate::config) fn key(path: &Path) -> Result<NamedFile<Key>, Rejected> {
    named(path, |file| content::private_key(file, &Tls::provider()))
}

/// Combines a certificate and a key, which must match; `None` if both are missing.
pub(in crate::config) fn pair(
    chain: &NamedFile<Certificates>,
    key: &NamedFile<Key>,
) -> Result<Option<Identity>, Unpaired> {
    let (certificates, private, files) = match (chain, key) {
        (NamedFile::Without(_), NamedFile::Without(_)) => return Ok(None),
        (NamedFile::File { .. }, NamedFile::Without(_)) => {
            return Err(Unpaired::Certificate("must come with its key".to_owned()));
        }
        (NamedFile::Without(_), NamedFile::File { .. }) => {
            return Err(Unpaired::Key("must come with its certificate".to_owned()));
        }
        (
            NamedFile::File { path, stamp, content },
            NamedFile::File { path: key_path, stamp: key_stamp, content: key },
        ) => (content, key, [(path.clone(), *stamp), (key_path.clone(), *key_stamp)]),
    };
    let pair = content::pair(certificates, private).map_err(|more| {
        Unpaired::Certificate(format!("must be a certificate that belongs to the key {}{more}", key.shown()))
    })?;
    let shown = format!("{} with the key {}", chain.shown(), key.shown());
    Ok(Some(Identity { pair: Arc::new(pair), files, shown }))
}

/// Returns what was configured in code, or the error for it.
pub(in crate::config) fn in_code<T>(
    knob: &'static str,
    path: Option<&PathBuf>,
    read: impl Fn(&Path) -> Result<T, Rejected>,
) -> Result<Option<T>, Error> {
    path.map(|path| read(path)).transpose().map_err(|why| Error::rejected(knob, why))
}

fn named<T>(path: &Path, understand: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<NamedFile<T>, Rejected> {
    let unreadable =
        |error| rejected(path, format!("must be a PEM or DER file that can be read ({error})")).because(error);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    // Reading a pipe or a device might never end.
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(rejected(path, format!("must be a regular file of at most {LARGEST_FILE} bytes")));
    }
    // Taken before reading: what is written meanwhile counts as a change.
    let stamp = Stamp::new(&metadata);
    let file = fs::read(path).map_err(unreadable)?;
    let content = understand(&file).map_err(|must| rejected(path, must))?;
    Ok(NamedFile::File { path: path.to_owned(), stamp, content })
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
        assert!(matches!(pair(&chain, &NamedFile::Without(NO_IDENTITY)), Err(Unpaired::Certificate(_))));
        assert!(matches!(pair(&NamedFile::Without(NO_IDENTITY), &key), Err(Unpaired::Key(_))));
        assert!(matches!(pair(&NamedFile::Without(NO_IDENTITY), &NamedFile::Without(NO_IDENTITY)), Ok(None)));
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

    /// A temporary file, removed when dropped.
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
        let count = |read: Result<NamedFile<Certificates>, Rejected>| Some(read.ok()?.content()?.len());
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
