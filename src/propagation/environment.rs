//! Environment variables as a carrier: which names they have.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use super::{Extractor, Injector};
use crate::env;

/// Environment variables as a carrier
/// ([environment variables as carriers](https://opentelemetry.io/docs/specs/otel/context/env-carriers/)): names are
/// [normalised](Self::key), values are taken as they are.
///
/// It is a copy: neither this process's environment nor a child's changes with it. To start a child with what was
/// injected, give it to [`Command::envs`](std::process::Command::envs):
///
/// ```
/// use otlp::propagation::{EnvironmentCarrier, inject};
/// # let context = otlp::SpanContext::INVALID;
/// let mut carrier = EnvironmentCarrier::default();
/// inject(&context, &mut carrier);
/// std::process::Command::new("true").envs(&carrier);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentCarrier {
    variables: BTreeMap<String, OsString>,
}

impl EnvironmentCarrier {
    /// A copy of this process's environment as it is now. Variables whose names are not normalised are left out.
    pub fn from_process() -> Self {
        Self::from_pairs(env::variables())
    }

    /// Of these variables those whose names are normalised; of one name the last counts.
    pub fn from_pairs<N: AsRef<OsStr>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let normalised = |(name, value): (N, V)| {
            let name = name.as_ref().to_str().filter(|name| Self::key(name) == *name)?;
            Some((name.to_owned(), value.into()))
        };
        Self { variables: pairs.into_iter().filter_map(normalised).collect() }
    }

    /// The name of the variable for `key`: ASCII letters in upper case, and `_` for every character that is no letter,
    /// digit or `_`, in front of a digit at the beginning, and for an empty name.
    pub fn key(key: &str) -> String {
        let normal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let needs_prefix = key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit());
        needs_prefix.then_some('_').into_iter().chain(key.chars().map(normal)).collect()
    }
}

impl Injector for EnvironmentCarrier {
    fn set(&mut self, key: &str, value: String) {
        self.variables.insert(Self::key(key), value.into());
    }
}

impl Extractor for EnvironmentCarrier {
    fn get_all(&self, key: &str) -> Vec<&str> {
        self.variables.get(&Self::key(key)).and_then(|value| value.to_str()).into_iter().collect()
    }

    fn keys(&self) -> Vec<&str> {
        self.variables.keys().map(String::as_str).collect()
    }
}

/// The variables, for [`Command::envs`](std::process::Command::envs).
impl<'c> IntoIterator for &'c EnvironmentCarrier {
    type Item = (&'c String, &'c OsString);
    type IntoIter = std::collections::btree_map::Iter<'c, String, OsString>;

    fn into_iter(self) -> Self::IntoIter {
        self.variables.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        // ENVC-01
        for (key, name) in [
            ("traceparent", "TRACEPARENT"),
            ("x-b3-traceid", "X_B3_TRACEID"),
            ("9a", "_9A"),
            ("", "_"),
            ("é.b", "__B"),
            ("_a1", "_A1"),
        ] {
            assert_eq!(EnvironmentCarrier::key(key), name);
        }
    }

    #[test]
    fn only_normalised_names_are_set_read_and_listed() {
        // ENVC-02, CTX-05
        let mut carrier = EnvironmentCarrier::from_pairs([
            ("foo", "1"),
            ("A-B", "2"),
            ("traceparent", "3"),
            ("9", "4"),
            ("GOOD_1", "5"),
        ]);
        assert_eq!(carrier.keys(), ["GOOD_1"]);
        assert_eq!((carrier.get("traceparent"), carrier.get("good-1")), (None, Some("5")));
        carrier.set("x-y", "6".to_owned());
        assert_eq!((carrier.get("X_Y"), carrier.keys()), (Some("6"), vec!["GOOD_1", "X_Y"]));
    }

    #[test]
    fn values_are_carried_as_they_are() {
        // ENVC-03
        let carrier = EnvironmentCarrier::from_pairs([("TRACEPARENT", " garbage\n"), ("BAGGAGE", "")]);
        assert_eq!((carrier.get("traceparent"), carrier.get("baggage")), (Some(" garbage\n"), Some("")));
        assert_eq!(super::super::extract(&carrier), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_no_value() {
        // ENVC-03
        use std::os::unix::ffi::OsStringExt as _;
        let carrier = EnvironmentCarrier::from_pairs([("TRACEPARENT", OsString::from_vec(vec![0xff; 55]))]);
        assert_eq!((carrier.get("traceparent"), super::super::extract(&carrier)), (None, None));
    }

    #[test]
    fn the_process_has_variables_to_read() {
        let carrier = EnvironmentCarrier::from_process();
        assert!(carrier.get("path").is_some());
    }
}
