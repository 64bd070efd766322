//! Names in the environment that resemble names of this crate but are not read: most likely typos, which would
//! otherwise go unnoticed.

use super::{CONFIG_FILES, VARIABLES};

/// How many are reported individually.
const TOLD: usize = 8;

/// How many letters may be wrong, missing, added or swapped.
const NEAR: usize = 2;

/// Longer names are not taken for typos.
const LONGEST: usize = 64;

/// Part of every warning that suggests the intended name.
const MEANT: &str = "did you mean ";

const OWN: &str = "OTLP_";
const COMMON: &str = "OTEL_";

/// Prefixes of `OTLP_…` variables that configure this crate's tests.
const OF_TESTS: [&str; 5] = ["OTLP_TEST_", "OTLP_REQUIRE_", "OTLP_SOAK_", "OTLP_FUZZ_", "OTLP_RENEW"];

/// Names of the specification that this crate does not read: those for other signals, exporters and languages. Names
/// that begin with one of these belong to others.
const OF_OTHERS: [&str; 55] = [
    "OTEL_BLRP_",
    "OTEL_CONFIG",
    "OTEL_CPP_",
    "OTEL_CUSTOM_",
    "OTEL_DART_",
    "OTEL_DOTNET_",
    "OTEL_EBPF_",
    "OTEL_ENTITIES",
    "OTEL_ERLANG_",
    "OTEL_EXEMPLAR",
    "OTEL_EXPERIMENTAL_",
    "OTEL_EXPORTER_CONSOLE_",
    "OTEL_EXPORTER_JAEGER_",
    "OTEL_EXPORTER_OTLP_LOGS_",
    "OTEL_EXPORTER_OTLP_METRICS_",
    "OTEL_EXPORTER_OTLP_PROFILES_",
    "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
    "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
    "OTEL_EXPORTER_PROMETHEUS_",
    "OTEL_EXPORTER_ZIPKIN_",
    "OTEL_GO_",
    "OTEL_INJECTOR_",
    "OTEL_INSTRUMENTATION_",
    "OTEL_JAVA_",
    "OTEL_JAVAAGENT_",
    "OTEL_JMX_",
    "OTEL_JS_",
    "OTEL_KOTLIN_",
    "OTEL_LAMBDA_",
    "OTEL_LOGRECORD_",
    "OTEL_LOGS_",
    "OTEL_LOG_LEVEL_",
    "OTEL_METRICS_",
    "OTEL_METRIC_",
    "OTEL_NODE_",
    "OTEL_OPERATOR_",
    "OTEL_PHP_",
    "OTEL_PROFILES_",
    "OTEL_PROFILING_",
    "OTEL_PYTHON_",
    "OTEL_REDIS_",
    "OTEL_RESOURCE_DETECTORS",
    "OTEL_RESOURCE_DISABLED_",
    "OTEL_RESOURCE_ENABLED_",
    "OTEL_RESOURCE_PROVIDERS_",
    "OTEL_RUBY_",
    "OTEL_RUST_",
    "OTEL_SEMCONV_",
    "OTEL_SERVICE_VERSION",
    "OTEL_SPAN_PROCESSORS",
    "OTEL_SWIFT_",
    "OTEL_TRACER_",
    "OTEL_TRACES_PROCESSOR",
    "OTEL_TRACES_SPAN_",
    "OTEL_TRACE_ENABLED",
];

/// One line for each name that is likely a typo of another, or seems meant for this crate, and is not read; the last
/// line counts the rest. Values are not read.
pub(super) fn warnings<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<_> = names.into_iter().filter(|name| is_candidate(&name.to_ascii_uppercase())).collect();
    names.sort_unstable();
    names.retain(|name| !is_service_link(name));
    let mut found: Vec<_> = names.into_iter().filter_map(|name| Some((remark(name)?, name))).collect();
    // Likely typos come first.
    found.sort_by_key(|(remark, name)| (!remark.contains(MEANT), *name));
    let more = found.len().saturating_sub(TOLD);
    let mut warnings: Vec<_> = found.into_iter().take(TOLD).map(|(remark, _)| remark).collect();
    if more > 0 {
        warnings.push(format!("{more} more variables whose names begin with OTLP_ or OTEL_ are not known"));
    }
    warnings
}

/// Whether a container platform sets the name for a service whose name begins like this, with its addresses.
fn is_service_link(name: &str) -> bool {
    let is_address = |rest: &str| rest.starts_with("_TCP") || rest.starts_with("_UDP") || rest.starts_with("_SCTP");
    let digits = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.starts_with(OWN) && name != "OTLP_PORT" && name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, port)| is_address(&digits(&name[at + port.len()..])))
}

fn remark(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if !is_candidate(&upper) || known().any(|known| known == name) {
        return None;
    }
    if upper != name {
        // Case does not matter there.
        if cfg!(windows) {
            return None;
        }
        // Others may use such names for something else: only a name that differs in case alone is surely a mistake.
        let meant = known().find(|known| *known == upper)?;
        return Some(format!("{name}: names of variables are case-sensitive; did you mean {meant}?"));
    }
    if let Some(meant) = nearest(name) {
        return Some(format!("{name}: no such variable is read; did you mean {meant}?"));
    }
    name.starts_with(OWN).then(|| format!("{name}: no such variable is read; `otlp::VARIABLES` lists those that are"))
}

fn is_candidate(name: &str) -> bool {
    (name.starts_with(OWN) || name.starts_with(COMMON))
        && name.len() <= LONGEST
        && !OF_TESTS.iter().chain(&OF_OTHERS).any(|others| name.starts_with(others))
}

fn known() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|variable| variable.name).chain(CONFIG_FILES)
}

/// The intended name, if one is near enough.
fn nearest(name: &str) -> Option<&'static str> {
    // Users expect the names common to all exporters here.
    let of_the_exporter = name.strip_prefix(OWN).map(|rest| format!("OTEL_EXPORTER_OTLP_{rest}"));
    let is_meant = |known: &&str| of_the_exporter.as_deref() == Some(*known);
    VARIABLES.iter().map(|variable| variable.name).find(is_meant).or_else(|| {
        let near = VARIABLES.iter().filter_map(|variable| Some((distance(name, variable.name)?, variable.name)));
        near.min().map(|(_, name)| name)
    })
}

/// How many letters have to be changed, removed, inserted or swapped with the next one to turn one name into the other;
/// `None` if more than [`NEAR`].
fn distance(one: &str, other: &str) -> Option<usize> {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > NEAR {
        return None;
    }
    // Row by row of the usual table; the two rows above are needed.
    let mut above_both = vec![0; other.len() + 1];
    let mut above: Vec<usize> = (0..=other.len()).collect();
    let mut row = above.clone();
    for at in 1..=one.len() {
        row[0] = at;
        for to in 1..=other.len() {
            let changed = above[to - 1] + usize::from(one[at - 1] != other[to - 1]);
            row[to] = changed.min(above[to] + 1).min(row[to - 1] + 1);
            if at > 1 && to > 1 && one[at - 1] == other[to - 2] && one[at - 2] == other[to - 1] {
                row[to] = row[to].min(above_both[to - 2] + 1);
            }
        }
        if row.iter().all(|least| *least > NEAR) {
            return None;
        }
        std::mem::swap(&mut above_both, &mut above);
        std::mem::swap(&mut above, &mut row);
    }
    Some(above[other.len()]).filter(|distance| *distance <= NEAR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said_of(name: &str) -> Option<String> {
        let mut warnings = warnings([name]);
        assert!(warnings.len() <= 1);
        warnings.pop()
    }

    #[test]
    fn a_typing_error_is_answered_with_the_name_that_was_meant() {
        for (name, meant) in [
            ("OTLP_WORKER", "OTLP_WORKERS"),
            ("OTLP_WROKERS", "OTLP_WORKERS"),
            ("OTLP_MAX_MEMORY_USEAGE", "OTLP_MAX_MEMORY_USAGE"),
            ("OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
            ("OTEL_EXPORTER_OTLP_ENDPIONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("OTEL_EXPORTER_OTLP_HEADER", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("OTEL_EXPORTER_OTLP_TRACE_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            ("OTEL_RESOURCE_ATTRIBUTE", "OTEL_RESOURCE_ATTRIBUTES"),
            ("OTEL_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"),
            ("otel_service_name", "OTEL_SERVICE_NAME"),
            ("Otlp_Workers", "OTLP_WORKERS"),
        ] {
            let said = said_of(name).unwrap_or_else(|| panic!("{name}"));
            assert!(said.starts_with(name) && said.ends_with(&format!("did you mean {meant}?")), "{said}");
        }
        let said = said_of("OTLP_COLOUR_OF_SPANS").unwrap();
        assert!(said.contains("VARIABLES") && !said.contains("did you mean"), "{said}");
    }

    #[test]
    fn names_of_the_specification_and_of_others_are_left_alone() {
        let specified = "
            OTEL_SDK_DISABLED OTEL_ENTITIES OTEL_RESOURCE_ATTRIBUTES OTEL_SERVICE_NAME OTEL_LOG_LEVEL OTEL_PROPAGATORS
            OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG OTEL_BSP_SCHEDULE_DELAY OTEL_BSP_EXPORT_TIMEOUT
            OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_MAX_EXPORT_BATCH_SIZE OTEL_BLRP_SCHEDULE_DELAY OTEL_BLRP_EXPORT_TIMEOUT
            OTEL_BLRP_MAX_QUEUE_SIZE OTEL_BLRP_MAX_EXPORT_BATCH_SIZE OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT
            OTEL_ATTRIBUTE_COUNT_LIMIT OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT
            OTEL_SPAN_EVENT_COUNT_LIMIT OTEL_SPAN_LINK_COUNT_LIMIT OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT
            OTEL_LINK_ATTRIBUTE_COUNT_LIMIT OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT
            OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT OTEL_EXPORTER_OTLP_INSECURE OTEL_EXPORTER_OTLP_TRACES_INSECURE
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_LOGS_ENDPOINT OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT
            OTEL_EXPORTER_OTLP_METRICS_HEADERS OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
            OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION OTEL_EXPORTER_OTLP_SPAN_INSECURE
            OTEL_EXPORTER_OTLP_METRIC_INSECURE OTEL_EXPORTER_ZIPKIN_ENDPOINT OTEL_EXPORTER_ZIPKIN_TIMEOUT
            OTEL_EXPORTER_PROMETHEUS_HOST OTEL_EXPORTER_PROMETHEUS_PORT OTEL_EXPORTER_JAEGER_ENDPOINT
            OTEL_EXPORTER_JAEGER_AGENT_HOST OTEL_TRACES_EXPORTER OTEL_METRICS_EXPORTER OTEL_LOGS_EXPORTER
            OTEL_PROFILES_EXPORTER OTEL_METRICS_EXEMPLAR_FILTER OTEL_METRIC_EXPORT_INTERVAL OTEL_METRIC_EXPORT_TIMEOUT
            OTEL_CONFIG_FILE OTEL_EXPERIMENTAL_CONFIG_FILE OTEL_PYTHON_TRACER_PROVIDER OTEL_PYTHON_LOG_LEVEL
            OTEL_PYTHON_ID_GENERATOR OTEL_JAVAAGENT_ENABLED OTEL_JAVA_GLOBAL_AUTOCONFIGURE_ENABLED
            OTEL_INSTRUMENTATION_COMMON_DEFAULT_ENABLED OTEL_NODE_RESOURCE_DETECTORS
            OTEL_NODE_ENABLED_INSTRUMENTATIONS OTEL_DOTNET_AUTO_HOME OTEL_PHP_AUTOLOAD_ENABLED
            OTEL_GO_AUTO_TARGET_EXE OTEL_GO_X_EXEMPLAR OTEL_RUBY_INSTRUMENTATION_RACK_ENABLED OTEL_SEMCONV_STABILITY_OPT_IN
            OTEL_RESOURCE_DETECTORS OTEL_RESOURCE_PROVIDERS_AWS_ENABLED OTEL_RESOURCE_DISABLED_KEYS
            OTEL_SPAN_PROCESSORS OTEL_COLLECTOR_NAME OTEL_OPERATOR_AUTO OTEL_EBPF_CONFIG_PATH OTEL_SERVICE_VERSION
            OTEL_JMX_TARGET_SYSTEM OTEL_LAMBDA_TRACE_MODE OTEL_PHP_TRACES_PROCESSOR OTEL_EXPORTER OTEL_TAGS OTEL_
        ";
        let others = "PATH TRACEPARENT OTLP OTEL OTELCOL_CONFIG MY_OTLP_WORKER otlp_something otel_x OTLP_TEST_ROLE";
        for name in specified.split_whitespace().chain(others.split_whitespace()) {
            assert_eq!(said_of(name), None, "{name}");
        }
        for variable in VARIABLES {
            assert_eq!(said_of(variable.name), None);
        }
    }

    #[test]
    fn addresses_of_services_that_a_platform_tells_are_left_alone_and_hide_no_typing_error() {
        let links = "
            OTLP_COLLECTOR_SERVICE_HOST OTLP_COLLECTOR_SERVICE_PORT OTLP_COLLECTOR_SERVICE_PORT_OTLP_HTTP
            OTLP_COLLECTOR_PORT OTLP_COLLECTOR_PORT_4318_TCP OTLP_COLLECTOR_PORT_4318_TCP_PROTO
            OTLP_COLLECTOR_PORT_4318_TCP_PORT OTLP_COLLECTOR_PORT_4318_TCP_ADDR OTEL_SERVICE_HOST
        ";
        let names = links.split_whitespace().chain(["OTLP_ENDPOINT"]);
        let said = warnings(names);
        assert!(said.len() == 1 && said[0].starts_with("OTLP_ENDPOINT: "), "{said:?}");
        let unknown: Vec<_> = (0..20).map(|number| format!("OTLP_{number}")).collect();
        let said = warnings(unknown.iter().map(String::as_str).chain(["OTLP_WORKER"]));
        assert!(said[0].starts_with("OTLP_WORKER: "), "{said:?}");
        assert!(said_of("OTLP_PORT").is_some());
    }

    #[test]
    fn a_crowd_of_names_is_counted() {
        let names: Vec<_> = (0..20).map(|number| format!("OTLP_{number}")).collect();
        let warnings = warnings(names.iter().map(String::as_str));
        assert_eq!(warnings.len(), TOLD + 1);
        assert!(warnings[TOLD].starts_with("12 more "), "{warnings:?}");
    }

    #[test]
    fn a_distance_counts_what_fingers_do() {
        for (one, other, distance_is) in [
            ("workers", "workers", Some(0)),
            ("worker", "workers", Some(1)),
            ("wrokers", "workers", Some(1)),
            ("wrkers", "workers", Some(1)),
            ("wxrkexs", "workers", Some(2)),
            ("wxxxers", "workers", None),
            ("", "workers", None),
            ("", "ab", Some(2)),
            ("", "", Some(0)),
        ] {
            assert_eq!(distance(one, other), distance_is, "{one}");
            assert_eq!(distance(other, one), distance_is, "{one}");
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(rest in ".{0,80}") {
            warnings([rest.as_str(), &format!("OTLP_{rest}"), &format!("OTEL_{rest}")]);
        }
    }
}
