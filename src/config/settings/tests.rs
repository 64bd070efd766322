use super::*;
use crate::config::tls::{self, NamedFile};
use crate::{env::VARIABLES, value::KeyValue};

mod defaults;
mod hostile;
mod in_code;
mod limits;
mod memory;
mod properties;
mod sections;
mod sources;
mod whole;
mod words;

const MS: Duration = Duration::from_millis(1);

fn resolve(options: Options, pairs: &[(&str, &str)]) -> Result<(Settings, Vec<String>), Error> {
    Settings::resolve(options, Environment::from_pairs(pairs.iter().copied()))
}

/// Settings from an environment that causes no warning.
fn from_env(pairs: &[(&str, &str)]) -> Settings {
    let (settings, warnings) = resolve(Options::default(), pairs).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    settings
}

/// Settings from an environment that causes one warning.
fn with_warning(pairs: &[(&str, &str)]) -> (Settings, String) {
    let (settings, mut warnings) = resolve(Options::default(), pairs).unwrap();
    assert_eq!(warnings.len(), 1, "{pairs:?}: {warnings:?}");
    (settings, warnings.remove(0))
}

fn from_code(options: Options) -> Settings {
    let (settings, warnings) = resolve(options, &[]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    settings
}

fn error(options: Options) -> String {
    resolve(options, &[]).unwrap_err().to_string()
}

fn header<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    let mut found = settings.headers.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.to_str().unwrap());
    assert!(found.next().is_none(), "{name} occurs twice");
    value
}

fn attribute(settings: &Settings, key: &str) -> Option<String> {
    let found = settings.resource.given.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        crate::value::Value::String(text) => Some(text.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn who_runs_a_released_program_and_configured_nothing_is_left_alone() {
    let released = |endpoint_is_default, level| is_for_the_author(endpoint_is_default, level, false);
    assert!(!released(true, None));
    assert!(!released(true, Some(LogLevel::Error)) && !released(true, Some(LogLevel::Warn)));
    assert!(released(true, Some(LogLevel::Info)) && released(true, Some(LogLevel::Debug)));
    assert!(released(false, None), "a receiver was chosen");
    assert!(is_for_the_author(true, None, true), "with debug assertions");
}

#[test]
fn a_level_is_asked_for_in_the_environment_or_by_its_setter_and_not_by_a_section_as_it_is() {
    let asked = |options: Options, pairs: &[(&str, &str)]| {
        Settings::resolve(options, Environment::from_pairs(pairs.iter().copied())).unwrap().0.log_level_is_asked
    };
    assert!(!asked(Options::default(), &[]));
    assert!(!asked(Options::default(), &[(env::LOG_LEVEL, "loud")]));
    assert!(asked(Options::default(), &[(env::LOG_LEVEL, "info")]));
    assert!(asked(Options { log_level: Some(LogLevel::Info), ..Options::default() }, &[]));
    let section = |log_level| Options {
        monitoring: Some(MonitoringConfig { log_level, ..MonitoringConfig::default() }),
        ..Options::default()
    };
    assert!(!asked(section(LogLevel::Info), &[]));
    assert!(asked(section(LogLevel::Debug), &[]));
}

#[test]
fn without_code_and_environment_everything_has_its_documented_default() {
    // OTLPV-02, OTLPV-09, BSPV-01
    let settings = from_env(&[]);
    assert_eq!(settings.disabled, None);
    assert_eq!(settings.log_level, LogLevel::Info);
    assert_eq!(settings.endpoint.url(), "http://localhost:4318/v1/traces");
    assert!(settings.endpoint_is_default);
    assert!(settings.headers.is_empty());
    assert_eq!(settings.compression, Compression::Gzip);
    assert_eq!(settings.export_timeout, Duration::from_secs(10));
    assert_eq!(settings.connections.connect_timeout, Duration::from_secs(5));
    assert_eq!(settings.connections.idle_timeout, Duration::from_secs(60));
    assert_eq!(settings.connections.max_idle, 16);
    assert_eq!(settings.batch, BatchConfig::default());
    assert_eq!(settings.batch.batch_timeout, Duration::from_secs(5));
    assert_eq!(settings.worker_count, 1);
    assert_eq!(settings.max_memory_usage, 64 * 1024 * 1024);
    assert_eq!(settings.exit_budget, ExitBudget::default());
    assert_eq!(settings.spool, SpoolConfig::default());
    assert_eq!(attribute(&settings, "service.name").unwrap(), "unknown_service");
}

#[test]
fn the_process_gives_the_default_of_workers_and_service_name() {
    // RES-02
    let cases: [(fn() -> usize, _); 5] = [(|| 0, 1), (|| 1, 1), (|| 2, 2), (|| 4, 4), (|| 128, 4)];
    for (cpus, workers) in cases {
        let mut environment = Environment::default();
        environment.cpus = cpus;
        environment.executable = Some("tool".to_owned());
        let (settings, _) = Settings::resolve(Options::default(), environment).unwrap();
        assert_eq!(settings.worker_count, workers);
        assert_eq!(attribute(&settings, "service.name").unwrap(), "unknown_service:tool");
    }
    assert!(Settings::resolve(Options::default(), Environment::from_process()).is_ok());
}

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/key.pem");

/// A usable value, other than the default, for every variable.
const EXAMPLES: &[(&str, &str)] = &[
    (env::SDK_DISABLED, "TRUE"),
    (env::TRACES_EXPORTER, "None"),
    (env::LOG_LEVEL, "Debug"),
    (env::PROPAGATORS, "Baggage"),
    (env::SERVICE_NAME, "tool"),
    (env::RESOURCE_ATTRIBUTES, "a=1"),
    (env::ENDPOINT, "http://h:1"),
    (env::TRACES_ENDPOINT, "http://h:2/x"),
    (env::PROTOCOL, "grpc"),
    (env::TRACES_PROTOCOL, "Grpc"),
    (env::INSECURE, "true"),
    (env::TRACES_INSECURE, "true"),
    (env::HEADERS, "a=1"),
    (env::TRACES_HEADERS, "b=1"),
    (env::TIMEOUT, "200"),
    (env::TRACES_TIMEOUT, "300"),
    (env::COMPRESSION, "NONE"),
    (env::TRACES_COMPRESSION, "none"),
    (env::CERTIFICATE, CERTIFICATE),
    (env::TRACES_CERTIFICATE, CERTIFICATE),
    (env::CLIENT_CERTIFICATE, CERTIFICATE),
    (env::TRACES_CLIENT_CERTIFICATE, CERTIFICATE),
    (env::CLIENT_KEY, KEY),
    (env::TRACES_CLIENT_KEY, KEY),
    (env::TRACES_SAMPLER, "Always_Off"),
    (env::TRACES_SAMPLER_ARG, "0.5"),
    (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "0"),
    (env::ATTRIBUTE_COUNT_LIMIT, "1"),
    (env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "2147483647"),
    (env::ATTRIBUTE_VALUE_LENGTH_LIMIT, "0"),
    (env::SPAN_EVENT_COUNT_LIMIT, "2"),
    (env::SPAN_LINK_COUNT_LIMIT, "3"),
    (env::EVENT_ATTRIBUTE_COUNT_LIMIT, "4"),
    (env::LINK_ATTRIBUTE_COUNT_LIMIT, "5"),
    (env::BSP_SCHEDULE_DELAY, "100"),
    (env::BSP_EXPORT_TIMEOUT, "400"),
    (env::BSP_MAX_QUEUE_SIZE, "2147483647"),
    (env::BSP_MAX_EXPORT_BATCH_SIZE, "512"),
    (env::EXIT_STALL_TIMEOUT, "500"),
    (env::EXIT_TIMEOUT, "5000"),
    (env::WORKERS, "3"),
    (env::MAX_MEMORY_USAGE, "1048576"),
    (env::DROP_STRATEGY, "Block:50"),
    (env::SPOOL_DIR, "/var/spool/otlp"),
    (env::SPOOL_MAX_BYTES, "1000"),
    (env::SPOOL_MAX_AGE, "0"),
    (env::SPOOL_FSYNC, "true"),
    (env::RESOURCE_DETECTORS, "Host,os"),
];

/// Without gRPC these variables have no effect, or cause a warning.
const OF_GRPC: [&str; 4] = [env::PROTOCOL, env::TRACES_PROTOCOL, env::INSECURE, env::TRACES_INSECURE];

#[test]
fn every_documented_variable_has_an_effect_and_none_is_missing() {
    let names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(EXAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    let defaults = format!("{:?}", from_env(&[]));
    let ratio = format!("{:?}", from_env(&[(env::TRACES_SAMPLER, "traceidratio")]));
    for example in EXAMPLES {
        if OF_GRPC.contains(&example.0) {
            if cfg!(feature = "grpc") {
                let address = [(env::PROTOCOL, "grpc"), (env::ENDPOINT, "c:4317")];
                let (of, pairs) = match example.0 {
                    env::PROTOCOL | env::TRACES_PROTOCOL => (&[][..], vec![*example]),
                    _ => (&address[..], [&address[..], &[*example]].concat()),
                };
                assert_ne!(format!("{:?}", from_env(&pairs)), format!("{:?}", from_env(of)), "{example:?}");
            }
            continue;
        }
        // Half a pair is unusable.
        let other = match example.0 {
            env::CLIENT_CERTIFICATE | env::TRACES_CLIENT_CERTIFICATE => Some((env::CLIENT_KEY, KEY)),
            env::CLIENT_KEY | env::TRACES_CLIENT_KEY => Some((env::CLIENT_CERTIFICATE, CERTIFICATE)),
            env::TRACES_SAMPLER_ARG => Some((env::TRACES_SAMPLER, "traceidratio")),
            _ => None,
        };
        let without = if example.0 == env::TRACES_SAMPLER_ARG { &ratio } else { &defaults };
        let pairs: Vec<_> = [*example].into_iter().chain(other).collect();
        assert_ne!(&format!("{:?}", from_env(&pairs)), without, "{example:?}");
    }
}

#[test]
fn a_documented_default_that_is_a_value_is_the_default() {
    // BSPV-01, LIMV-02, LIMV-04, OTLPV-09
    let comparable = |mut settings: Settings| {
        // Only reports and their level depend on whether the endpoint was configured.
        settings.endpoint_is_default = true;
        settings.log_level_is_asked = false;
        format!("{settings:?}")
    };
    for variable in VARIABLES.iter().filter(|variable| !variable.default.starts_with('(')) {
        let written = from_env(&[(variable.name, variable.default)]);
        assert_eq!(comparable(written), comparable(from_env(&[])), "{variable:?}");
    }
}

#[test]
fn an_empty_variable_changes_nothing_and_needs_no_warning() {
    // ENV-01
    let defaults = format!("{:?}", from_env(&[]));
    for variable in VARIABLES {
        assert_eq!(format!("{:?}", from_env(&[(variable.name, "")])), defaults, "{variable:?}");
    }
}

#[test]
fn a_bad_variable_costs_one_warning_and_leaves_the_default() {
    // ENV-02, ENV-03, ENV-04, ENV-05, ENV-08, OTLPV-10, RES-06, SDKV-04, SDKV-10, SDKV-11
    let defaults = format!("{:?}", from_env(&[]));
    for (name, value, used) in [
        (env::SDK_DISABLED, "1", "false"),
        (env::TRACES_EXPORTER, "console", "otlp"),
        (env::TRACES_EXPORTER, "otlp,console", "otlp"),
        (env::LOG_LEVEL, "banana", "Info"),
        (env::PROPAGATORS, "xray", "tracecontext,baggage"),
        (env::PROPAGATORS, "xray,tracecontext,baggage", "tracecontext,baggage"),
        (env::RESOURCE_ATTRIBUTES, "good=1,bad", "nothing of it"),
        (env::ENDPOINT, "localhost:4318", "http://localhost:4318/v1/traces"),
        (env::TRACES_ENDPOINT, "ftp://h", "http://localhost:4318/v1/traces"),
        (env::PROTOCOL, "http/xml", "http/protobuf"),
        (env::TRACES_PROTOCOL, "http/json", "http/protobuf"),
        (env::TIMEOUT, "-1", "10s"),
        (env::TRACES_TIMEOUT, "5s", "10s"),
        (env::COMPRESSION, "lzma", "Gzip"),
        (env::TRACES_COMPRESSION, "0", "Gzip"),
        (env::CERTIFICATE, "/missing.pem", tls::DEFAULT_ROOTS),
        (env::TRACES_CERTIFICATE, "/", tls::DEFAULT_ROOTS),
        (env::CLIENT_CERTIFICATE, "/missing.pem", "no client certificate"),
        (env::TRACES_CLIENT_KEY, "/", "no client certificate"),
        (env::TRACES_SAMPLER, "banana", "parentbased_always_on"),
        (env::TRACES_SAMPLER_ARG, "1.5", "1.0"),
        (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "-1", "128"),
        (env::ATTRIBUTE_COUNT_LIMIT, "many", "128"),
        (env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "1e3", "no limit"),
        (env::ATTRIBUTE_VALUE_LENGTH_LIMIT, "-1", "no limit"),
        (env::SPAN_EVENT_COUNT_LIMIT, "-1", "128"),
        (env::SPAN_LINK_COUNT_LIMIT, "1.5", "128"),
        (env::EVENT_ATTRIBUTE_COUNT_LIMIT, "x", "128"),
        (env::LINK_ATTRIBUTE_COUNT_LIMIT, "99999999999999999999", "128"),
        (env::BSP_SCHEDULE_DELAY, "-5", "5s"),
        (env::BSP_EXPORT_TIMEOUT, "1e3", "10s"),
        (env::BSP_MAX_QUEUE_SIZE, "0", "no limit"),
        (env::BSP_MAX_QUEUE_SIZE, "12.5", "no limit"),
        (env::BSP_MAX_QUEUE_SIZE, "99999999999999999999", "no limit"),
        (env::BSP_MAX_EXPORT_BATCH_SIZE, "-1", "4096"),
        (env::EXIT_STALL_TIMEOUT, "1s", "1s"),
        (env::EXIT_TIMEOUT, "x", "10s"),
        (env::WORKERS, "65", "1"),
        (env::MAX_MEMORY_USAGE, "1048575", "67108864"),
        (env::DROP_STRATEGY, "oldest", "NewestFirst"),
        (env::DROP_STRATEGY, "block:0", "NewestFirst"),
        (env::DROP_STRATEGY, "block:1s", "NewestFirst"),
        (env::SPOOL_MAX_BYTES, "0", "67108864"),
        (env::SPOOL_MAX_AGE, "7d", "604800s"),
        (env::SPOOL_FSYNC, "yes", "false"),
        (env::RESOURCE_DETECTORS, "banana", "serviceinstance,process,host,os"),
    ] {
        let (settings, warning) = with_warning(&[(name, value)]);
        assert_eq!(format!("{settings:?}"), defaults, "{name}");
        assert!(warning.starts_with(&format!("{name}=\"{value}\": must be ")), "{warning}");
        assert!(warning.ends_with(&format!("; using {used}")), "{warning}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_costs_one_warning_and_is_unset() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let defaults = format!("{:?}", from_env(&[]));
    for variable in VARIABLES {
        // Over HTTP nobody looks at these (OTLPV-14).
        if [env::INSECURE, env::TRACES_INSECURE].contains(&variable.name) {
            continue;
        }
        let value = OsString::from_vec(b"a=\xFF".to_vec());
        let environment = Environment::from_pairs([(variable.name, value)]);
        let (settings, warnings) = Settings::resolve(Options::default(), environment).unwrap();
        assert_eq!(format!("{settings:?}"), defaults);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("{}=(hidden): must be UTF-8; using ", variable.name)), "{warnings:?}");
    }
}

#[test]
fn debug_output_shows_no_header_value_and_no_user_information() {
    let secret = || "s3cret".to_owned();
    let options = Options {
        endpoint: Some("https://user:s3cret@h/x?token=s3cret".to_owned()),
        headers: vec![("x-key".to_owned(), secret()), ("s3cret".to_owned(), secret())],
        ..Options::default()
    };
    assert!(!format!("{options:?}").contains("s3cret"));
    let options = Options { headers: vec![("x-key".to_owned(), secret())], ..options };
    let settings = resolve(options, &[(env::HEADERS, "authorization=s3cret")]).unwrap().0;
    assert!(!format!("{settings:?} {settings:#?}").contains("s3cret"), "{settings:?}");
    assert_eq!(header(&settings, "x-key"), Some("s3cret"));
}
