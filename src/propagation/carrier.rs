//! What context travels in: the headers of a request, or whatever else has names and values.

use std::collections::HashMap;

use crate::plugin::guarded;

/// A carrier that context is written into
/// ([Setter](https://opentelemetry.io/docs/specs/otel/context/api-propagators/#textmap-inject)). Where it panics, that
/// is caught, and nothing is set.
pub trait Injector {
    /// Sets `key`, in place of the value it has. Keys are lowercase, values are ASCII.
    fn set(&mut self, key: &str, value: String);
}

/// A carrier that context is read from
/// ([Getter](https://opentelemetry.io/docs/specs/otel/context/api-propagators/#textmap-extract)). Where names are those
/// of HTTP headers, their case does not matter. Where it panics, that is caught, and there is nothing to read.
pub trait Extractor {
    /// Every value of `key`, in order; those that are not text are left out.
    fn get_all(&self, key: &str) -> Vec<&str>;

    /// The first value of `key`.
    fn get(&self, key: &str) -> Option<&str> {
        self.get_all(key).first().copied()
    }

    /// The names there are.
    fn keys(&self) -> Vec<&str>;
}

/// As `Injector::set`; where it panics, nothing is set.
pub(super) fn set(carrier: &mut (impl Injector + ?Sized), key: &str, value: String) {
    guarded(|| carrier.set(key, value));
}

/// As `Extractor::get_all`; nothing where that panics.
pub(super) fn get_all<'c>(carrier: &'c (impl Extractor + ?Sized), key: &str) -> Vec<&'c str> {
    guarded(|| carrier.get_all(key)).unwrap_or_default()
}

impl Injector for HashMap<String, String> {
    fn set(&mut self, key: &str, value: String) {
        self.retain(|known, _| !known.eq_ignore_ascii_case(key));
        self.insert(key.to_owned(), value);
    }
}

impl Extractor for HashMap<String, String> {
    fn get_all(&self, key: &str) -> Vec<&str> {
        self.iter().filter(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str()).collect()
    }

    fn keys(&self) -> Vec<&str> {
        self.keys().map(String::as_str).collect()
    }
}

/// A list of headers.
impl Injector for Vec<(String, String)> {
    fn set(&mut self, key: &str, value: String) {
        self.retain(|(known, _)| !known.eq_ignore_ascii_case(key));
        self.push((key.to_owned(), value));
    }
}

/// A list of headers.
impl Extractor for Vec<(String, String)> {
    fn get_all(&self, key: &str) -> Vec<&str> {
        self.iter().filter(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str()).collect()
    }

    fn keys(&self) -> Vec<&str> {
        self.iter().map(|(key, _)| key.as_str()).collect()
    }
}

/// The headers of the crates around `http` 1. A name or value that is no header's is left out.
impl Injector for http::HeaderMap {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.insert(name, value);
        }
    }
}

/// The headers of the crates around `http` 1.
impl Extractor for http::HeaderMap {
    fn get_all(&self, key: &str) -> Vec<&str> {
        self.get_all(key).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    fn keys(&self) -> Vec<&str> {
        self.keys().map(http::HeaderName::as_str).collect()
    }
}
