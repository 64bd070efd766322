//! Which certificates count, and that none are usable if TLS is not compiled in.

use std::path::PathBuf;

use super::chooser::Chooser;
#[cfg(feature = "tls")]
use super::chooser::Source;
#[cfg(feature = "tls")]
use crate::config::tls::{NamedFile, Unpaired};
use crate::{
    config::{Tls, tls},
    env,
    error::Error,
};

/// The error for a certificate or key that would never be used.
#[cfg(not(feature = "tls"))]
const NOT_COMPILED_IN: &str = "must be left out: it needs the cargo feature `tls`";

impl Chooser<'_> {
    /// Reads the files for TLS. A client certificate and its key count only together (OTLPV-13).
    #[cfg(feature = "tls")]
    pub(super) fn tls(&mut self, roots: Option<PathBuf>, pair: Option<(PathBuf, PathBuf)>) -> Result<Tls, Error> {
        let knob = "with_client_certificate";
        let (chain, key) = pair.unzip();
        let roots = tls::in_code("with_certificate", roots.as_ref(), tls::roots)?;
        let chain = tls::in_code(knob, chain.as_ref(), tls::chain)?;
        let key = tls::in_code(knob, key.as_ref(), tls::key)?;

        let variables = [env::TRACES_CERTIFICATE, env::CERTIFICATE];
        let roots = self.signal(roots, variables, |text| tls::roots(text.as_ref()), NamedFile::default_roots());
        let variables = [env::TRACES_CLIENT_CERTIFICATE, env::CLIENT_CERTIFICATE];
        let none = NamedFile::Without(tls::NO_IDENTITY);
        let (chain, chain_source) = self.value(chain, &variables, |_, text| tls::chain(text.as_ref()), none);
        let variables = [env::TRACES_CLIENT_KEY, env::CLIENT_KEY];
        let none = NamedFile::Without(tls::NO_IDENTITY);
        let (key, key_source) = self.value(key, &variables, |_, text| tls::key(text.as_ref()), none);

        let (source, shown, must) = match tls::pair(&chain, &key) {
            Ok(identity) => return Ok(Tls { roots, identity }),
            Err(Unpaired::Certificate(must)) => (chain_source, chain.shown(), must),
            Err(Unpaired::Key(must)) => (key_source, key.shown(), must),
        };
        let Source::Variable(name) = source else { return Err(Error::config(knob, shown, must)) };
        self.warnings.push(format!("{name}={shown}: {must}; using {}", tls::NO_IDENTITY));
        Ok(Tls { roots, identity: None })
    }

    /// Fails if a file is named: a user who names certificates expects security that would be missing.
    #[cfg(not(feature = "tls"))]
    pub(super) fn tls(&mut self, roots: Option<PathBuf>, pair: Option<(PathBuf, PathBuf)>) -> Result<Tls, Error> {
        let in_code = [("with_certificate", roots), ("with_client_certificate", pair.map(|(chain, _)| chain))];
        if let Some((knob, path)) = in_code.into_iter().find_map(|(knob, path)| Some((knob, path?))) {
            return Err(Error::config(knob, tls::rejected(&path, "").value, NOT_COMPILED_IN));
        }
        for variables in [
            [env::TRACES_CERTIFICATE, env::CERTIFICATE],
            [env::TRACES_CLIENT_CERTIFICATE, env::CLIENT_CERTIFICATE],
            [env::TRACES_CLIENT_KEY, env::CLIENT_KEY],
        ] {
            self.signal(None, variables, |text| Err(tls::rejected(text.as_ref(), NOT_COMPILED_IN)), Tls);
        }
        Ok(Tls)
    }
}

#[cfg(all(test, not(feature = "tls")))]
mod tests {
    use crate::{
        config::{Options, Settings},
        env::{self, Environment},
    };

    #[test]
    fn without_tls_what_asks_for_it_costs_one_warning_and_is_not_used() {
        // ENV-08, OTLPV-13
        let resolve = |pairs: &[(&str, &str)]| {
            Settings::resolve(Options::default(), Environment::from_pairs(pairs.iter().copied())).unwrap()
        };
        let defaults = format!("{:?}", resolve(&[]).0);
        for (name, value) in [
            (env::ENDPOINT, "https://collector:4318"),
            (env::TRACES_ENDPOINT, "https://collector:4318/v1/traces"),
            (env::CERTIFICATE, "/ca.pem"),
            (env::TRACES_CERTIFICATE, "/ca.pem"),
            (env::CLIENT_CERTIFICATE, "/client.pem"),
            (env::TRACES_CLIENT_CERTIFICATE, "/client.pem"),
            (env::CLIENT_KEY, "/client.key"),
            (env::TRACES_CLIENT_KEY, "/client.key"),
        ] {
            let (settings, warnings) = resolve(&[(name, value)]);
            assert_eq!((format!("{settings:?}"), warnings.len()), (defaults.clone(), 1), "{name}: {warnings:?}");
            let warning = &warnings[0];
            assert!(warning.starts_with(&format!("{name}=\"{value}\": must be ")), "{warning}");
            assert!(warning.contains("needs the cargo feature `tls`; using "), "{warning}");
        }
        let (_, warnings) = resolve(&[(env::CLIENT_KEY, &"MIIB".repeat(20))]);
        assert!(warnings[0].contains("=(hidden): must be "), "{warnings:?}");
    }
}
