//! Trusted certificates, and the client's own.

use std::path::Path;

use crate::env::Rejected;

#[cfg(feature = "tls")]
mod content;
#[cfg(feature = "tls")]
pub(crate) mod der;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod renewal;

#[cfg(feature = "tls")]
pub(crate) use content::Certificates;
#[cfg(all(feature = "tls", test))]
pub(super) use files::DEFAULT_ROOTS;
#[cfg(feature = "tls")]
pub(crate) use files::NamedFile;
#[cfg(feature = "tls")]
pub(crate) use files::Tls;
#[cfg(feature = "tls")]
pub(super) use files::{NO_IDENTITY, Unpaired, chain, in_code, key, pair, roots};
#[cfg(feature = "tls")]
pub(crate) use renewal::Renewal;

/// Stands for the TLS settings if TLS is not compiled in.
#[cfg(not(feature = "tls"))]
#[derive(Debug, Clone)]
pub(crate) struct Tls;

/// The error for a file that is not what it must be.
pub(super) fn rejected(path: &Path, must: impl Into<String>) -> Rejected {
    let text = path.to_string_lossy();
    if is_content(&text) { Rejected::hidden(must) } else { Rejected::new(&text, must) }
}

/// Whether a text that should be a file name looks like the content of the file: possibly a key.
fn is_content(text: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    text.contains("-----") || text.contains('\n') || text.len() >= 48 && text.chars().all(is_base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_told_from_what_it_holds() {
        assert!(!is_content("/etc/ssl/certs/ca-certificates.crt") && !is_content("C:\\keys\\client.pem"));
        assert!(is_content("-----BEGIN PRIVATE KEY-----") && is_content(&"MIIB".repeat(12)));
    }
}
