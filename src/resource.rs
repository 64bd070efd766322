//! The resource: what every span of this process shares.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use crate::{env::percent_decode, value::KeyValue};

mod detectors;
mod facts;

pub(crate) use detectors::Detectors;
pub use detectors::ResourceDetector;
use facts::Facts;

/// The resource of a client as it is set up: what was given, and what each process finds out by itself.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// Keys are unique and not empty.
    pub(crate) given: Vec<KeyValue<'static>>,
    pub(crate) detectors: Detectors,
    /// The file name of the program.
    pub(crate) executable: Option<String>,
}

impl Resource {
    /// Everything that spans of this process share, and the schema URL it goes by. Each call finds out anew, so that
    /// the child of a fork is told apart from its parent; a client asks once (RES-08).
    pub(crate) fn in_this_process(&self) -> (Vec<KeyValue<'static>>, &'static str) {
        self.of(&Facts::of_this_process(self.detectors.wanted(), self.executable.as_deref()))
    }

    /// What was given wins over what is found out (RES-04, RES-12). Only the latter has a schema URL, so that merging
    /// the two meets no conflict (RES-07).
    fn of(&self, facts: &Facts) -> (Vec<KeyValue<'static>>, &'static str) {
        let (found, schema_url) = self.detectors.detect(facts);
        let is_given = |key: &str| self.given.iter().any(|given| given.key == key);
        let found = found.into_iter().filter(|attribute| !is_given(&attribute.key));
        (self.given.iter().cloned().chain(found).collect(), schema_url)
    }
}

/// Where resource attributes come from, lowest precedence first.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The file name of the program, for the default `service.name`.
    pub(crate) executable: Option<String>,
    /// The pairs of `OTEL_RESOURCE_ATTRIBUTES`.
    pub(crate) environment: Vec<(String, String)>,
    /// `OTEL_SERVICE_NAME`.
    pub(crate) environment_service_name: Option<String>,
    /// Attributes given in code.
    pub(crate) code: Vec<KeyValue<'static>>,
    /// `with_service_name`.
    pub(crate) service_name: Option<String>,
    /// `with_service_version`.
    pub(crate) service_version: Option<String>,
}

/// Merges all sources (RES-01 to RES-04, RES-07, SDKV-03): keys are unique, the later source wins even with an empty
/// value, attributes without a key are left out.
pub(crate) fn resource(sources: Sources) -> Vec<KeyValue<'static>> {
    let default_name = match sources.executable {
        Some(executable) => format!("unknown_service:{executable}"),
        None => "unknown_service".to_owned(),
    };
    let defaults = [
        KeyValue::new("service.name", default_name),
        KeyValue::new("telemetry.sdk.name", "otlp"),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let from_environment = sources.environment.into_iter().map(|(key, value)| KeyValue::new(key, value));
    let named = [("service.name", sources.service_name), ("service.version", sources.service_version)];
    let all = defaults
        .into_iter()
        .chain(from_environment)
        .chain(sources.environment_service_name.map(|name| KeyValue::new("service.name", name)))
        .chain(sources.code)
        .chain(named.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?))));
    let mut attributes: Vec<KeyValue<'static>> = Vec::new();
    let mut places: HashMap<Cow<'static, str>, usize> = HashMap::new();
    for attribute in all.filter(|attribute| !attribute.key.is_empty()) {
        match places.entry(attribute.key.clone()) {
            Entry::Occupied(place) => attributes[*place.get()].value = attribute.value,
            Entry::Vacant(place) => {
                place.insert(attributes.len());
                attributes.push(attribute);
            }
        }
    }
    attributes
}

/// Reads `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs separated by commas, both percent-decoded (RES-05). One bad pair
/// makes the whole text unusable (RES-06); the error says which it is and why.
///
/// Whitespace around keys and values is dropped, empty pairs, as a trailing comma makes them, mean nothing, and the
/// first `=` ends the key.
pub(crate) fn parse_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    for (pair, at) in text.split(',').zip(1..) {
        if pair.trim().is_empty() {
            continue;
        }
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("must be key=value pairs, but pair {at} has no '='"))?;
        let decode = |text: &str| {
            let decoded = percent_decode(text.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| format!("must be percent-encoded UTF-8, but pair {at} is not"))
        };
        let (key, value) = (decode(key)?, decode(value)?);
        if key.is_empty() {
            return Err(format!("must be key=value pairs, but pair {at} has no key"));
        }
        attributes.push((key, value));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;

    fn value<'a>(attributes: &'a [KeyValue<'static>], key: &str) -> Option<&'a Value<'static>> {
        let mut values = attributes.iter().filter(|attribute| attribute.key == key).map(|attribute| &attribute.value);
        let value = values.next();
        assert!(values.next().is_none(), "{key} occurs twice");
        value
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_bare_resource_names_the_sdk_and_the_program() {
        // RES-01, RES-02, RES-03
        let attributes = resource(Sources { executable: Some("tool".to_owned()), ..Sources::default() });
        assert_eq!(value(&attributes, "service.name"), Some(&"unknown_service:tool".into()));
        assert_eq!(value(&attributes, "telemetry.sdk.name"), Some(&"otlp".into()));
        assert_eq!(value(&attributes, "telemetry.sdk.language"), Some(&"rust".into()));
        assert_eq!(value(&attributes, "telemetry.sdk.version"), Some(&env!("CARGO_PKG_VERSION").into()));
        assert_eq!(attributes.len(), 4);
        assert_eq!(value(&resource(Sources::default()), "service.name"), Some(&"unknown_service".into()));
    }

    #[test]
    fn each_source_of_the_service_name_beats_the_ones_before_it() {
        // SDKV-03, RES-04
        let name = |sources| value(&resource(sources), "service.name").cloned();
        let all = || Sources {
            executable: Some("tool".to_owned()),
            environment: pairs(&[("service.name", "listed")]),
            environment_service_name: Some("variable".to_owned()),
            code: vec![KeyValue::new("service.name", "attribute")],
            service_name: Some("builder".to_owned()),
            ..Sources::default()
        };
        assert_eq!(name(all()), Some("builder".into()));
        let without = Sources { service_name: None, ..all() };
        assert_eq!(name(without), Some("attribute".into()));
        let without = Sources { service_name: None, code: Vec::new(), ..all() };
        assert_eq!(name(without), Some("variable".into()));
        let without = Sources { environment: pairs(&[("service.name", "listed")]), ..Sources::default() };
        assert_eq!(name(without), Some("listed".into()));
    }

    #[test]
    fn code_wins_over_the_environment_and_everything_else_is_kept() {
        // RES-04, RES-07
        let attributes = resource(Sources {
            environment: pairs(&[("a", "1"), ("b", "2"), ("b", "3"), ("c", "4")]),
            code: vec![KeyValue::new("a", 9), KeyValue::new("", 1), KeyValue::new("c", "")],
            service_version: Some("1.0".to_owned()),
            ..Sources::default()
        });
        assert_eq!(value(&attributes, "a"), Some(&9.into()));
        assert_eq!(value(&attributes, "b"), Some(&"3".into()));
        assert_eq!(value(&attributes, "c"), Some(&"".into()));
        assert_eq!(value(&attributes, "service.version"), Some(&"1.0".into()));
        assert_eq!(value(&attributes, ""), None);
    }

    #[test]
    fn what_is_given_wins_over_what_is_found_out_even_with_an_empty_value() {
        // RES-04, RES-07, RES-12
        let facts = Facts { instance: Some("random".to_owned()), os: "linux", arch: "x86_64", ..Facts::default() };
        let given = vec![KeyValue::new("service.instance.id", "mine"), KeyValue::new("host.arch", "")];
        let detectors = Detectors::new(ResourceDetector::ALL.iter().copied());
        let (attributes, _) = Resource { given, detectors, executable: None }.of(&facts);
        assert_eq!(value(&attributes, "service.instance.id"), Some(&"mine".into()));
        assert_eq!(value(&attributes, "host.arch"), Some(&"".into()));
        assert_eq!(value(&attributes, "os.type"), Some(&"linux".into()));
    }

    #[test]
    fn the_list_is_percent_decoded() {
        // RES-05
        for (text, expected) in [
            ("k=v,k2=v2", &[("k", "v"), ("k2", "v2")][..]),
            ("a%2Cb=x%3Dy%20z", &[("a,b", "x=y z")]),
            ("day=%E6%97%A5", &[("day", "日")]),
            (" a = 1 , b\t=2 ", &[("a", "1"), ("b", "2")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a=", &[("a", "")]),
            (",a=1,,", &[("a", "1")]),
            (" ", &[]),
        ] {
            assert_eq!(parse_attributes(text), Ok(pairs(expected)), "{text}");
        }
    }

    #[test]
    fn one_bad_pair_discards_all() {
        // RES-06
        for text in ["good=1,bad", "good=1,bad=%zz", "good=1,=x", "good=1,bad=%FF", "good=1,%=x"] {
            let error = parse_attributes(text).unwrap_err();
            assert!(error.contains("pair 2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_percent_encoded_comes_back(given in prop::collection::vec((".+", ".*"), 0..5)) {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let list: Vec<_> = given.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
            prop_assert_eq!(parse_attributes(&list.join(",")), Ok(given));
        }
    }
}
