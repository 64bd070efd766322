//! The exporter and the protocol, by their names in the environment.

use std::fmt;

use super::Protocol;
use crate::env::{self, Rejected};

/// Which exporter gets the spans. Environment: `OTEL_TRACES_EXPORTER`.
///
/// Spans can only be sent over OTLP: `console` and `otlp/stdout` would mix with what the program prints, and other
/// protocols are not supported. If the environment names one of these, that causes a warning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TracesExporter {
    /// Spans are sent over OTLP. The default.
    #[default]
    Otlp,
    /// Nothing is sent, and nothing is recorded except for span [processors](crate::processing), if there are any.
    None,
}

/// Names of the specification, current or former, that this version does not support.
const UNSUPPORTED: [&str; 5] = ["console", "otlp/stdout", "jaeger", "prometheus", "zipkin"];

impl TracesExporter {
    /// Parses a comma-separated list; also returns what to report about it. In a list with unusable names `otlp`
    /// counts; `None` if that is not in it (SDKV-11).
    pub(super) fn parse(text: &str) -> (Option<Self>, Option<Rejected>) {
        let otlp = |name: &str| name.eq_ignore_ascii_case("otlp").then_some(Self::Otlp);
        let (list, rejected) = env::list(text, "must be otlp or none", &UNSUPPORTED, otlp);
        (list.map(|list| list.first().copied().unwrap_or(Self::None)), rejected)
    }
}

/// Writes the value of `OTEL_TRACES_EXPORTER`.
impl fmt::Display for TracesExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Otlp => "otlp",
            Self::None => "none",
        })
    }
}

/// A name of a protocol in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolName {
    Supported(Protocol),
    Unsupported,
    Unknown,
}

impl ProtocolName {
    pub(super) fn read(text: &str) -> Self {
        match text.parse() {
            Ok(protocol) if Protocol::is_compiled_in(protocol) => Self::Supported(protocol),
            Ok(_) => Self::Unsupported,
            Err(_) if text.trim().eq_ignore_ascii_case("http/json") => Self::Unsupported,
            Err(_) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_is_named_in_any_case_alone_or_in_a_list() {
        // SDKV-11, ENV-07
        for (text, exporter) in
            [("otlp", TracesExporter::Otlp), (" OTLP ,otlp,", TracesExporter::Otlp), ("None", TracesExporter::None)]
        {
            assert_eq!(TracesExporter::parse(text), (Some(exporter), None), "{text}");
            assert_eq!(TracesExporter::parse(&exporter.to_string()), (Some(exporter), None));
        }
    }

    #[test]
    fn an_exporter_that_is_not_there_is_told_and_costs_only_itself() {
        // SDKV-11, SDKV-12, ENV-08
        let otlp = Some(TracesExporter::Otlp);
        for (text, exporter, why) in [
            ("console", None, "; \"console\" is not supported"),
            ("CONSOLE", None, "; \"CONSOLE\" is not supported"),
            ("otlp/stdout", None, "; \"otlp/stdout\" is not supported"),
            ("otlp,console", otlp, "; \"console\" is not supported"),
            ("zipkin, otlp ,jaeger", otlp, "; \"zipkin\" is not supported; \"jaeger\" is not supported"),
            ("logging", None, "; \"logging\" is unknown"),
            ("none,otlp", otlp, "; \"none\" is not alone"),
            (",", None, "must be otlp or none"),
        ] {
            let (read, rejected) = TracesExporter::parse(text);
            assert_eq!(read, exporter, "{text}");
            assert!(rejected.as_ref().unwrap().must.ends_with(why), "{rejected:?}");
        }
    }
}
