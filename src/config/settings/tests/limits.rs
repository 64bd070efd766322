//! The allowed values, and what happens to others.

use super::*;

#[test]
fn the_export_timeout_is_the_shorter_of_the_exporters_and_the_processors() {
    // BSPV-02, OTLPV-09, ENV-06
    for (pairs, expected) in [
        (&[(env::BSP_EXPORT_TIMEOUT, "500")][..], 500 * MS),
        (&[(env::BSP_EXPORT_TIMEOUT, "30000")], Duration::from_secs(10)),
        (&[(env::BSP_EXPORT_TIMEOUT, "500"), (env::TIMEOUT, "300")], 300 * MS),
        (&[(env::BSP_EXPORT_TIMEOUT, "0")], Duration::from_secs(10)),
        (&[(env::TIMEOUT, "0")], env::NO_LIMIT),
        (&[(env::TRACES_TIMEOUT, "0"), (env::TIMEOUT, "300")], env::NO_LIMIT),
        (&[(env::TIMEOUT, "18446744073709551615")], LONGEST),
    ] {
        assert_eq!(from_env(pairs).export_timeout, expected, "{pairs:?}");
    }
    let options = Options { request_timeout: Some(Duration::from_secs(20)), ..Options::default() };
    let (settings, _) = resolve(options, &[(env::BSP_EXPORT_TIMEOUT, "15000")]).unwrap();
    assert_eq!(settings.export_timeout, Duration::from_secs(15));
}

#[test]
fn durations_without_end_are_cut_so_that_no_deadline_overflows() {
    let forever = Some(Duration::MAX);
    let settings = from_code(Options {
        request_timeout: forever,
        connect_timeout: forever,
        batch: Some(BatchConfig { batch_timeout: Duration::MAX, ..BatchConfig::default() }),
        exit_budget: Some(ExitBudget { stall: Duration::MAX, total: Duration::MAX }),
        ..Options::default()
    });
    let ExitBudget { stall, total } = settings.exit_budget;
    for duration in [settings.export_timeout, settings.connections.connect_timeout, stall, total] {
        assert_eq!(duration, LONGEST);
    }
    assert_eq!(settings.batch.batch_timeout, LONGEST);
    assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
}

#[test]
fn a_batch_never_exceeds_the_queue() {
    // BSPV-03, BSPV-04
    let sizes = |settings: &Settings| (settings.batch.max_batch_size, settings.batch.max_queue_size);
    assert_eq!(sizes(&from_env(&[(env::BSP_MAX_QUEUE_SIZE, "2048")])), (2048, 2048));
    let explicit = [(env::BSP_MAX_QUEUE_SIZE, "100"), (env::BSP_MAX_EXPORT_BATCH_SIZE, "1000")];
    let (settings, warning) = with_warning(&explicit);
    assert_eq!(sizes(&settings), (100, 100));
    assert!(warning.starts_with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE=\"1000\": "), "{warning}");
    assert!(warning.ends_with("; using 100"), "{warning}");
    let (settings, warning) = with_warning(&[explicit[0], (env::BSP_MAX_EXPORT_BATCH_SIZE, "many")]);
    assert_eq!(sizes(&settings), (100, 100));
    assert!(warning.ends_with("; using 100"), "{warning}");

    let batch = Some(BatchConfig { max_queue_size: 100, ..BatchConfig::default() });
    assert_eq!(sizes(&from_code(Options { batch, ..Options::default() })), (100, 100));
    // An upper bound of one request that is never reached is no contradiction.
    for max_batch_size in [100, 101, 4095, 4096, usize::MAX] {
        let batch = Some(BatchConfig { max_queue_size: 100, max_batch_size, ..BatchConfig::default() });
        assert_eq!(sizes(&from_code(Options { batch, ..Options::default() })), (100, 100));
    }
    // A size that is set alone is meant exactly.
    let mut options =
        Options { batch: Some(BatchConfig { max_queue_size: 100, ..BatchConfig::default() }), ..Options::default() };
    options.set_worker_pool(crate::config::WorkerPool::new().with_batch_size(101));
    let error = error(options);
    assert_eq!(error, "with_worker_pool.batch_size = 101: must be at most max_queue_size, which is 100");
}

#[test]
fn a_schedule_delay_of_zero_is_as_soon_as_possible_without_spinning() {
    // BSPV-01, ENV-05
    assert_eq!(from_env(&[(env::BSP_SCHEDULE_DELAY, "0")]).batch.batch_timeout, MS);
    assert_eq!(from_env(&[(env::BSP_SCHEDULE_DELAY, "200")]).batch.batch_timeout, 200 * MS);
}

#[test]
fn a_request_larger_than_the_memory_bound_is_capped_with_one_warning() {
    let batch = Some(BatchConfig { max_batch_bytes: 8 * MIB, ..BatchConfig::default() });
    let options = Options { batch, max_memory_usage: Some(2 * MIB), ..Options::default() };
    let (settings, warnings) = resolve(options, &[]).unwrap();
    assert_eq!(settings.batch.max_batch_bytes, MIB / 4);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("with_batch_config.max_batch_bytes = 8388608: "), "{warnings:?}");
}

#[test]
fn requests_and_answers_are_as_large_as_the_specification_has_it_unless_code_says_otherwise() {
    // OTLPV-15
    let limits = |settings: Settings| (settings.max_request_bytes, settings.max_response_bytes);
    assert_eq!(limits(from_code(Options::default())), (67_108_864, 4_194_304));
    let options = Options { max_request_bytes: Some(1024), max_response_bytes: Some(1024 * MIB), ..Options::default() };
    assert_eq!(limits(from_code(options)), (1024, 1024 * MIB));
}

#[test]
fn the_exit_waits_without_progress_no_longer_than_in_all() {
    let budget = |stall, total| ExitBudget { stall, total };
    assert_eq!(from_env(&[(env::EXIT_TIMEOUT, "500")]).exit_budget, budget(500 * MS, 500 * MS));
    assert_eq!(from_env(&[(env::EXIT_STALL_TIMEOUT, "0")]).exit_budget, budget(10_000 * MS, 10_000 * MS));
    let exit_budget = Some(ExitBudget { total: 200 * MS, ..ExitBudget::default() });
    let options = Options { exit_budget, ..Options::default() };
    assert_eq!(from_code(options).exit_budget, budget(200 * MS, 200 * MS));
}

#[test]
fn a_bad_value_in_code_names_the_setting_the_value_and_what_is_allowed() {
    let zero = Some(Duration::ZERO);
    let url = |text: &str| Some(text.to_owned());
    let batch = |change: fn(&mut BatchConfig)| {
        let mut batch = BatchConfig::default();
        change(&mut batch);
        Options { batch: Some(batch), ..Options::default() }
    };
    let exit = |stall, total| Options { exit_budget: Some(ExitBudget { stall, total }), ..Options::default() };
    let default = Options::default;
    for (options, expected) in [
        (
            Options { endpoint: url("localhost:4318"), ..default() },
            r#"with_endpoint = "localhost:4318": must be an abs"#,
        ),
        (Options { endpoint: url("ftp://u:secret@h"), ..default() }, r#"with_endpoint = "ftp://h": must be an abs"#),
        (Options { endpoint: url(""), ..default() }, r#"with_endpoint = "": must be an absolute"#),
        (
            Options { traces_endpoint: url("http://h:0"), ..default() },
            r#"with_traces_endpoint = "http://h:0": must be a URL with a port"#,
        ),
        (Options { headers: vec![("a".into(), "\n".into())], ..default() }, "with_header = a: (hidden): must have"),
        (Options { connect_timeout: zero, ..default() }, "with_connect_timeout = 0s: must be longer than zero"),
        (Options { request_timeout: zero, ..default() }, "with_request_timeout = 0s: must be longer than zero"),
        (Options { worker_count: Some(0), ..default() }, "with_worker_count = 0: must be a whole number from 1 to 64"),
        (
            Options { worker_count: Some(65), ..default() },
            "with_worker_count = 65: must be a whole number from 1 to 64",
        ),
        (
            Options { max_memory_usage: Some(0), ..default() },
            "with_max_memory_usage = 0: must be a whole number, at least 1048576",
        ),
        (
            Options { max_request_bytes: Some(1023), ..default() },
            "with_max_request_bytes = 1023: must be a whole number from 1024 to 1073741824",
        ),
        (
            Options { max_response_bytes: Some(1024 * MIB + 1), ..default() },
            "with_max_response_bytes = 1073741825: must be a whole number from 1024 to 1073741824",
        ),
        (Options { service_name: url(""), ..default() }, r#"with_service_name = "": must not be empty"#),
        (
            batch(|batch| batch.max_batch_size = 0),
            "with_batch_config.max_batch_size = 0: must be a whole number, at least 1",
        ),
        (
            batch(|batch| batch.max_batch_bytes = 0),
            "with_batch_config.max_batch_bytes = 0: must be a whole number from 1 to 67108864",
        ),
        (batch(|batch| batch.max_batch_bytes = 64 * MIB + 1), "with_batch_config.max_batch_bytes = 67108865: must be"),
        (
            batch(|batch| batch.max_queue_size = 0),
            "with_batch_config.max_queue_size = 0: must be a whole number, at least 1",
        ),
        (batch(|batch| batch.batch_timeout = Duration::ZERO), "with_batch_config.batch_timeout = 0s: must be longer"),
        (exit(Duration::ZERO, MS), "with_exit_budget.stall = 0s: must be longer than zero"),
        (exit(MS, Duration::ZERO), "with_exit_budget.total = 0s: must be longer than zero"),
        (
            Options { drop_strategy: Some(DropStrategy::Block(Duration::ZERO)), ..Options::default() },
            "with_drop_strategy = 0s: must be longer than zero",
        ),
    ] {
        let error = error(options);
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
