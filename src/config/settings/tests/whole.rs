//! Sections that code gives as a whole, and environment variables for their fields.

use super::*;
use crate::config::{BackpressureController, MonitoringConfig, OtlpConfig, PerformanceConfig, WorkerPool};

/// Variables of sections that count as they stand, and the sections.
const OF_SECTIONS: &[(&str, &str)] = &[
    (env::LOG_LEVEL, "MonitoringConfig"),
    (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "SpanLimits"),
    (env::ATTRIBUTE_COUNT_LIMIT, "SpanLimits"),
    (env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "SpanLimits"),
    (env::ATTRIBUTE_VALUE_LENGTH_LIMIT, "SpanLimits"),
    (env::SPAN_EVENT_COUNT_LIMIT, "SpanLimits"),
    (env::SPAN_LINK_COUNT_LIMIT, "SpanLimits"),
    (env::EVENT_ATTRIBUTE_COUNT_LIMIT, "SpanLimits"),
    (env::LINK_ATTRIBUTE_COUNT_LIMIT, "SpanLimits"),
    (env::BSP_SCHEDULE_DELAY, "BatchConfig"),
    (env::BSP_MAX_QUEUE_SIZE, "BatchConfig"),
    (env::BSP_MAX_EXPORT_BATCH_SIZE, "BatchConfig"),
    (env::EXIT_STALL_TIMEOUT, "ExitBudget"),
    (env::EXIT_TIMEOUT, "ExitBudget"),
    (env::MAX_MEMORY_USAGE, "PerformanceConfig"),
    (env::DROP_STRATEGY, "DropStrategy"),
    (env::SPOOL_DIR, "SpoolConfig"),
    (env::SPOOL_MAX_BYTES, "SpoolConfig"),
    (env::SPOOL_MAX_AGE, "SpoolConfig"),
    (env::SPOOL_FSYNC, "SpoolConfig"),
];

fn whole(config: OtlpConfig) -> Options {
    let mut options = Options::default();
    options.set_all(config);
    options
}

/// The lines about ignored variables.
fn lost(options: Options, pairs: &[(&str, &str)]) -> Vec<String> {
    let (_, warnings) = resolve(options, pairs).unwrap();
    warnings.into_iter().filter(|warning| warning.contains("not count")).collect()
}

#[test]
fn a_variable_that_loses_against_a_whole_configuration_is_named_and_no_other_is() {
    for (variable, example) in EXAMPLES {
        let section = OF_SECTIONS.iter().find(|(name, _)| name == variable).map(|(_, section)| *section);
        let lines = lost(whole(OtlpConfig::default()), &[(*variable, *example)]);
        let (settings, _) = resolve(whole(OtlpConfig::default()), &[(*variable, *example)]).unwrap();
        let is_as_without = format!("{settings:?}") == format!("{:?}", from_env(&[]));
        match section {
            Some(section) => {
                assert!(is_as_without, "{variable} counts");
                assert_eq!(
                    lines,
                    [format!(
                        "{variable}: set, and does not count, since code gives {section} as a whole; \
                         OtlpConfig::from_env() has them as the environment says"
                    )]
                );
            }
            None => assert!(lines.is_empty(), "{variable}: {lines:?}"),
        }
    }
}

#[test]
fn all_of_them_are_one_line() {
    let lines = lost(
        whole(OtlpConfig::default()),
        &[
            (env::BSP_SCHEDULE_DELAY, "1"),
            (env::BSP_MAX_QUEUE_SIZE, "9"),
            (env::EXIT_TIMEOUT, "1"),
            (env::WORKERS, "3"),
        ],
    );
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(
        line.starts_with(
            "OTEL_BSP_SCHEDULE_DELAY, OTEL_BSP_MAX_QUEUE_SIZE, OTLP_EXIT_TIMEOUT: set, and do not count, since code \
             gives BatchConfig, ExitBudget as a whole; "
        ),
        "{line}"
    );
}

#[test]
fn a_section_that_is_given_by_itself_names_its_own_variables_and_leaves_the_others_in_force() {
    let pairs = [(env::BSP_SCHEDULE_DELAY, "100"), (env::MAX_MEMORY_USAGE, "1048576"), (env::LOG_LEVEL, "debug")];
    let with = |set: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        set(&mut options);
        lost(options, &pairs)
    };
    let names = |lines: Vec<String>| match &lines[..] {
        [line] => line.split(": ").next().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(with(&|o| o.set_batch(BatchConfig::default()))), env::BSP_SCHEDULE_DELAY);
    assert_eq!(names(with(&|o| o.set_performance(PerformanceConfig::default()))), env::MAX_MEMORY_USAGE);
    assert_eq!(names(with(&|o| o.set_monitoring(MonitoringConfig::default()))), env::LOG_LEVEL);
    // A setting that is made alone is meant exactly.
    assert!(with(&|o| o.max_memory_usage = Some(2 * MIB)).is_empty());
    assert!(with(&|o| o.log_level = Some(LogLevel::Error)).is_empty());
    let one_by_one = |o: &mut Options| {
        o.set_all(OtlpConfig { worker_count: Some(2), ..OtlpConfig::default() });
        o.set_worker_pool(WorkerPool::new().with_queue_size(10).with_batch_size(5));
        o.set_backpressure(BackpressureController::new().with_drop_strategy(DropStrategy::OldestFirst));
    };
    let mut options = Options::default();
    one_by_one(&mut options);
    let pairs =
        [(env::BSP_MAX_QUEUE_SIZE, "7"), (env::BSP_MAX_EXPORT_BATCH_SIZE, "3"), (env::DROP_STRATEGY, "block:5")];
    assert_eq!(lost(options, &pairs), [""; 0]);
}

#[test]
fn what_says_the_same_loses_nothing_and_who_is_off_is_told_nothing() {
    let same = [(env::BSP_SCHEDULE_DELAY, "5000"), (env::DROP_STRATEGY, "Newest_First"), (env::LOG_LEVEL, "INFO")];
    assert_eq!(lost(whole(OtlpConfig::default()), &same), [""; 0]);
    let off = [(env::SDK_DISABLED, "true"), (env::BSP_SCHEDULE_DELAY, "1")];
    assert_eq!(lost(whole(OtlpConfig::default()), &off), [""; 0]);
}

#[test]
fn a_configuration_that_begins_with_the_environment_loses_nothing_of_it() {
    let two_sizes = [(env::BSP_MAX_QUEUE_SIZE, "100"), (env::BSP_MAX_EXPORT_BATCH_SIZE, "1000")];
    let two_times = [(env::EXIT_STALL_TIMEOUT, "0"), (env::EXIT_TIMEOUT, "300")];
    let one_by_one = EXAMPLES.iter().map(std::slice::from_ref);
    for pairs in one_by_one.chain([&two_sizes[..], &two_times, EXAMPLES]) {
        let environment = Environment::from_pairs(pairs.iter().copied());
        let (settings, _) = resolve(whole(super::super::whole::from_environment(&environment)), pairs).unwrap();
        let (expected, _) = resolve(Options::default(), pairs).unwrap();
        assert_eq!(format!("{settings:?}"), format!("{expected:?}"), "{pairs:?}");
        assert_eq!(lost(whole(super::super::whole::from_environment(&environment)), pairs), [""; 0], "{pairs:?}");
    }
}

#[test]
fn of_a_configuration_and_a_controller_the_last_call_decides_what_is_dropped() {
    let controller = || BackpressureController::new().with_drop_strategy(DropStrategy::OldestFirst);
    let mut options = whole(OtlpConfig::default());
    options.set_backpressure(controller());
    assert_eq!(from_code(options).drop_strategy, DropStrategy::OldestFirst);
    let mut options = Options::default();
    options.set_backpressure(controller());
    options.set_all(OtlpConfig::default());
    assert_eq!(from_code(options).drop_strategy, DropStrategy::NewestFirst);
}
