//! Everything that the environment can set can be set in code.

use super::*;
use crate::config::{Protocol, ResourceDetector};

const BUILDER: &str = include_str!("../../../client/builder.rs");

/// A variable, the setter with the same effect, and a call of the setter with the value of [`EXAMPLES`].
type Counterpart = (&'static str, &'static str, fn(&mut Options));

fn limits(change: impl FnOnce(&mut SpanLimits)) -> Option<SpanLimits> {
    let mut limits = SpanLimits::default();
    change(&mut limits);
    Some(limits)
}

const COUNTERPARTS: &[Counterpart] = &[
    (env::SDK_DISABLED, "with_sdk_disabled", |o| o.sdk_disabled = Some(true)),
    (env::TRACES_EXPORTER, "with_traces_exporter", |o| o.traces_exporter = Some(TracesExporter::None)),
    (env::LOG_LEVEL, "with_log_level", |o| o.log_level = Some(LogLevel::Debug)),
    (env::SERVICE_NAME, "with_service_name", |o| o.service_name = Some("tool".into())),
    (env::RESOURCE_ATTRIBUTES, "with_resource_attribute", |o| o.resource_attributes = vec![KeyValue::new("a", "1")]),
    (env::ENDPOINT, "with_endpoint", |o| o.endpoint = Some("http://h:1".into())),
    (env::TRACES_ENDPOINT, "with_traces_endpoint", |o| o.traces_endpoint = Some("http://h:2/x".into())),
    (env::PROTOCOL, "with_grpc_transport", |o| o.protocol = Some(Protocol::Grpc)),
    (env::TRACES_PROTOCOL, "with_grpc_transport", |o| o.protocol = Some(Protocol::Grpc)),
    (env::INSECURE, "with_insecure", |o| o.insecure = Some(true)),
    (env::TRACES_INSECURE, "with_insecure", |o| o.insecure = Some(true)),
    (env::HEADERS, "with_header", |o| o.headers = vec![("a".into(), "1".into())]),
    (env::TRACES_HEADERS, "with_header", |o| o.headers = vec![("b".into(), "1".into())]),
    (env::TIMEOUT, "with_request_timeout", |o| o.request_timeout = Some(200 * MS)),
    (env::TRACES_TIMEOUT, "with_request_timeout", |o| o.request_timeout = Some(300 * MS)),
    (env::COMPRESSION, "with_compression", |o| o.compression = Some(Compression::None)),
    (env::TRACES_COMPRESSION, "with_compression", |o| o.compression = Some(Compression::None)),
    (env::CERTIFICATE, "with_certificate", |o| o.certificate = Some(CERTIFICATE.into())),
    (env::TRACES_CERTIFICATE, "with_certificate", |o| o.certificate = Some(CERTIFICATE.into())),
    (env::CLIENT_CERTIFICATE, "with_client_certificate", client_certificate),
    (env::TRACES_CLIENT_CERTIFICATE, "with_client_certificate", client_certificate),
    (env::CLIENT_KEY, "with_client_certificate", client_certificate),
    (env::TRACES_CLIENT_KEY, "with_client_certificate", client_certificate),
    (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.attribute_count_limit = 0);
    }),
    (env::ATTRIBUTE_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.attribute_count_limit = 1);
    }),
    (env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.attribute_value_length_limit = Some(2_147_483_647));
    }),
    (env::ATTRIBUTE_VALUE_LENGTH_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.attribute_value_length_limit = Some(0));
    }),
    (env::SPAN_EVENT_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.event_count_limit = 2);
    }),
    (env::SPAN_LINK_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.link_count_limit = 3);
    }),
    (env::EVENT_ATTRIBUTE_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.event_attribute_count_limit = 4);
    }),
    (env::LINK_ATTRIBUTE_COUNT_LIMIT, "with_span_limits", |o| {
        o.span_limits = limits(|limits| limits.link_attribute_count_limit = 5);
    }),
    (env::BSP_SCHEDULE_DELAY, "with_batch_config", |o| {
        o.set_batch(BatchConfig { batch_timeout: 100 * MS, ..BatchConfig::default() });
    }),
    (env::BSP_EXPORT_TIMEOUT, "with_request_timeout", |o| o.request_timeout = Some(400 * MS)),
    (env::BSP_MAX_QUEUE_SIZE, "with_batch_config", |o| {
        o.set_batch(BatchConfig { max_queue_size: 2_147_483_647, ..BatchConfig::default() });
    }),
    (env::BSP_MAX_EXPORT_BATCH_SIZE, "with_batch_config", |o| {
        o.set_batch(BatchConfig { max_batch_size: 512, ..BatchConfig::default() });
    }),
    (env::EXIT_STALL_TIMEOUT, "with_exit_budget", |o| {
        o.exit_budget = Some(ExitBudget { stall: 500 * MS, ..ExitBudget::default() });
    }),
    (env::EXIT_TIMEOUT, "with_exit_budget", |o| {
        o.exit_budget = Some(ExitBudget { total: 5000 * MS, ..ExitBudget::default() });
    }),
    (env::WORKERS, "with_worker_count", |o| o.worker_count = Some(3)),
    (env::MAX_MEMORY_USAGE, "with_max_memory_usage", |o| o.max_memory_usage = Some(MIB)),
    (env::DROP_STRATEGY, "with_drop_strategy", |o| o.drop_strategy = Some(DropStrategy::Block(50 * MS))),
    (env::SPOOL_DIR, "with_spool_config", |o| {
        o.spool = Some(SpoolConfig { dir: Some("/var/spool/otlp".into()), ..SpoolConfig::default() });
    }),
    (env::SPOOL_MAX_BYTES, "with_spool_config", |o| {
        o.spool = Some(SpoolConfig { max_bytes: 1000, ..SpoolConfig::default() });
    }),
    (env::SPOOL_MAX_AGE, "with_spool_config", |o| {
        o.spool = Some(SpoolConfig { max_age: Duration::ZERO, ..SpoolConfig::default() });
    }),
    (env::SPOOL_FSYNC, "with_spool_config", |o| {
        o.spool = Some(SpoolConfig { fsync: true, ..SpoolConfig::default() });
    }),
    (env::RESOURCE_DETECTORS, "with_resource_detectors", |o| {
        o.resource_detectors = Some(vec![ResourceDetector::Host, ResourceDetector::Os]);
    }),
];

fn client_certificate(options: &mut Options) {
    options.client_certificate = Some((CERTIFICATE.into(), KEY.into()));
}

/// Variables that are not settings of a client, or take the user's code, and where they are set.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (env::PROPAGATORS, "set_global", include_str!("../../../propagation/global.rs")),
    (env::TRACES_SAMPLER, "with_sampler", BUILDER),
    (env::TRACES_SAMPLER_ARG, "with_sampler", BUILDER),
];

#[test]
fn every_variable_has_a_counterpart_in_code_that_does_the_same() {
    // ENV-09
    for (variable, example) in EXAMPLES {
        if let Some((_, setter, source)) = ELSEWHERE.iter().find(|(name, ..)| name == variable) {
            assert!(source.contains(&format!("pub fn {setter}(")), "{variable}: {setter}");
            continue;
        }
        let counterpart = COUNTERPARTS.iter().find(|(name, ..)| name == variable);
        let Some((_, setter, set)) = counterpart else { panic!("{variable} cannot be set in code") };
        assert!(BUILDER.contains(&format!("    pub fn {setter}(")), "{variable}: {setter}");
        if OF_GRPC.contains(variable) && !cfg!(feature = "grpc") {
            continue;
        }
        let mut options = Options::default();
        set(&mut options);
        let mut pairs = vec![(*variable, *example)];
        match *variable {
            env::CLIENT_CERTIFICATE | env::TRACES_CLIENT_CERTIFICATE => pairs.push((env::CLIENT_KEY, KEY)),
            env::CLIENT_KEY | env::TRACES_CLIENT_KEY => pairs.push((env::CLIENT_CERTIFICATE, CERTIFICATE)),
            _ => {}
        }
        assert_eq!(format!("{:?}", from_code(options)), format!("{:?}", from_env(&pairs)), "{variable} and {setter}");
    }
}
