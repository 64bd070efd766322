//! A private certificate authority, made anew for each test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// Signs certificates, and keeps them in a directory of its own until it is dropped.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("otlp-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let issuer = CertifiedIssuer::self_signed(Self::params("root"), KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory }
    }

    /// An authority that this one vouches for, with files in the same place.
    pub(crate) fn deputy(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(Self::params("deputy"), key, &self.issuer).unwrap();
        Self { issuer, directory: self.directory.clone() }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// The authority's own certificate as PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these host names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes a file next to those of no other test.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A file that is not there.
    pub(crate) fn missing(&self) -> PathBuf {
        self.directory.join("missing.pem")
    }

    /// A server with a certificate for `localhost`.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::new(self.issue(&["localhost", "127.0.0.1"]).server(None))
    }

    /// A server that also demands a certificate of this authority from its clients.
    pub(crate) fn demanding_server(&self) -> Arc<ServerConfig> {
        Arc::new(self.issue(&["localhost", "127.0.0.1"]).server(Some(self)))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.directory);
        assert!(removed.is_ok() || removed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}

impl AsRef<Path> for Authority {
    fn as_ref(&self) -> &Path {
        &self.directory
    }
}

impl Identity {
    /// A certificate that nobody but its own key has signed.
    pub(crate) fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    /// What a server with this certificate is configured with.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}
