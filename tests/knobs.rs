//! Every knob has a test that observes it: docs/knobs.md says which.

#[path = "support/named_tests.rs"]
mod named_tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use named_tests::{assert_exists, code, read};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Structs whose public fields are knobs.
const SECTIONS: [&str; 13] = [
    "OtlpConfig",
    "TransportConfig",
    "ResourceConfig",
    "BatchConfig",
    "ConnectionPoolConfig",
    "PerformanceConfig",
    "MonitoringConfig",
    "RetryConfig",
    "ExitBudget",
    "SpoolConfig",
    "SpanLimits",
    "PerformanceTargets",
    "MemoryThresholds",
];

/// Fields of `OtlpConfig` that are sections themselves.
const NOT_KNOBS: [&str; 11] = [
    "OtlpConfig.transport",
    "OtlpConfig.resource",
    "OtlpConfig.batch",
    "OtlpConfig.connection_pool",
    "OtlpConfig.performance",
    "OtlpConfig.monitoring",
    "OtlpConfig.retry",
    "OtlpConfig.exit_budget",
    "OtlpConfig.spool",
    "OtlpConfig.span_limits",
    // The inverse of a threshold, and no setting.
    "SamplingThreshold.with_probability",
];

/// The braces that begin behind `at`, and what is between them.
fn block(source: &str, at: usize) -> &str {
    let open = at + source[at..].find('{').unwrap();
    let end = source[open..].find("\n}").map_or(source.len(), |end| open + end);
    &source[open..end]
}

/// Public fields of sections and `with_…` setters of companions, as `Type.knob`.
fn knobs() -> BTreeSet<String> {
    let mut knobs = BTreeSet::new();
    for directory in ["src/config", "src/control"] {
        for entry in fs::read_dir(Path::new(ROOT).join(directory)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = fs::read_to_string(path).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap();
            for section in SECTIONS {
                if let Some(at) = source.find(&format!("pub struct {section} {{")) {
                    let fields = block(source, at).lines().filter_map(|line| line.strip_prefix("    pub "));
                    knobs.extend(fields.map(|field| format!("{section}.{}", field.split(':').next().unwrap())));
                }
            }
            for (at, _) in source.match_indices("\nimpl ") {
                let name: String = source[at + 6..].chars().take_while(|c| c.is_alphanumeric()).collect();
                let setters = block(source, at).lines().filter_map(|line| line.trim().strip_prefix("pub fn with_"));
                knobs.extend(setters.map(|setter| format!("{name}.with_{}", setter.split('(').next().unwrap())));
            }
        }
    }
    NOT_KNOBS.iter().for_each(|section| assert!(knobs.remove(*section), "{section} is gone"));
    knobs
}

/// Knobs with their tests, as the table has them.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = read("docs/knobs.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| format!("`{line}"));
    let mut table = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').collect();
        for knob in code(cells[0]) {
            assert!(table.insert(knob.clone(), code(cells[1])).is_none(), "{knob} stands there twice");
        }
    }
    table
}

#[test]
fn every_knob_is_in_the_table_and_nothing_else_is() {
    let (knobs, table) = (knobs(), table());
    let listed: BTreeSet<_> = table.keys().cloned().collect();
    assert!(knobs.len() > 90, "{knobs:?}");
    assert_eq!(knobs.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "without a test");
    assert_eq!(listed.difference(&knobs).collect::<Vec<_>>(), Vec::<&String>::new(), "no knobs");
}

#[test]
fn every_test_in_the_table_exists() {
    for (knob, tests) in table() {
        assert!(!tests.is_empty(), "{knob} has no test");
        tests.iter().for_each(|test| assert_exists(test, &knob));
    }
}
