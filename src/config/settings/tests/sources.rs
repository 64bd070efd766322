//! The precedence of the sources of a setting.

use super::*;

/// The certificate file by another path.
const OTHER_CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/../tests/data/certificate.pem");

#[test]
fn a_bad_variable_falls_back_to_the_next_source_and_says_so() {
    let pairs = [(env::TRACES_TIMEOUT, "soon"), (env::TIMEOUT, "300")];
    let (settings, warning) = with_warning(&pairs);
    assert_eq!(settings.export_timeout, 300 * MS);
    assert!(warning.ends_with("; using 300ms"), "{warning}");

    let options = Options { request_timeout: Some(700 * MS), ..Options::default() };
    let (settings, warnings) = resolve(options, &pairs).unwrap();
    assert_eq!(settings.export_timeout, 700 * MS);
    assert_eq!(warnings.len(), 1, "told although code wins: {warnings:?}");
    assert!(warnings[0].ends_with("; using 700ms"), "{warnings:?}");
}

#[test]
fn code_beats_the_signal_which_beats_the_general_variable() {
    // OTLPV-01
    type Read = fn(&Settings) -> String;
    let cases: [(_, _, Options, Read); 4] = [
        (
            [(env::ENDPOINT, "http://general:1"), (env::TRACES_ENDPOINT, "http://signal:1/x")],
            ["http://general:1/v1/traces", "http://signal:1/x", "http://code:1/v1/traces"],
            Options { endpoint: Some("http://code:1".to_owned()), ..Options::default() },
            |settings| settings.endpoint.url().to_string(),
        ),
        (
            [(env::TIMEOUT, "100"), (env::TRACES_TIMEOUT, "200")],
            ["100ms", "200ms", "300ms"],
            Options { request_timeout: Some(300 * MS), ..Options::default() },
            |settings| format!("{:?}", settings.export_timeout),
        ),
        (
            [(env::COMPRESSION, "none"), (env::TRACES_COMPRESSION, "gzip")],
            ["None", "Gzip", "None"],
            Options { compression: Some(Compression::None), ..Options::default() },
            |settings| format!("{:?}", settings.compression),
        ),
        (
            [(env::CERTIFICATE, CERTIFICATE), (env::TRACES_CERTIFICATE, OTHER_CERTIFICATE)],
            [CERTIFICATE, OTHER_CERTIFICATE, CERTIFICATE],
            Options { certificate: Some(CERTIFICATE.into()), ..Options::default() },
            |settings| match &settings.tls.roots {
                NamedFile::File { path, .. } => path.to_string_lossy().into_owned(),
                NamedFile::Without(what) => (*what).to_owned(),
            },
        ),
    ];
    for (pairs, [general, signal, code], options, read) in cases {
        assert_eq!(read(&from_env(&pairs[..1])), general);
        assert_eq!(read(&from_env(&pairs)), signal);
        let (settings, warnings) = resolve(options, &pairs).unwrap();
        assert_eq!((read(&settings), warnings), (code.to_owned(), Vec::new()));
    }
}

#[test]
fn a_base_url_gets_the_traces_path_and_the_url_of_the_signal_does_not() {
    // OTLPV-03, OTLPV-04
    for (pair, url) in [
        ((env::ENDPOINT, "http://h:1/a/"), "http://h:1/a/v1/traces"),
        ((env::ENDPOINT, " http://h:1 "), "http://h:1/v1/traces"),
        ((env::TRACES_ENDPOINT, "http://h:1"), "http://h:1/"),
        ((env::TRACES_ENDPOINT, "http://h:1/v1/traces/"), "http://h:1/v1/traces/"),
    ] {
        let settings = from_env(&[pair]);
        assert_eq!(settings.endpoint.url(), url);
        assert!(!settings.endpoint_is_default);
    }
    let both = Options {
        endpoint: Some("http://base:1/v1/traces".to_owned()),
        traces_endpoint: Some("http://whole:1/x".to_owned()),
        ..Options::default()
    };
    assert_eq!(from_code(both).endpoint.url(), "http://whole:1/x");
}

#[test]
fn a_base_url_that_ends_in_the_traces_path_is_taken_as_it_is_in_code_and_appended_to_in_the_environment() {
    let options = Options { endpoint: Some("http://u:secret@h:1/v1/traces".to_owned()), ..Options::default() };
    let (settings, warnings) = resolve(options, &[]).unwrap();
    assert_eq!(settings.endpoint.url(), "http://h:1/v1/traces");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("with_endpoint = http://h:1/v1/traces: "), "{warnings:?}");
    // OTLPV-03 has no exception.
    let (settings, warning) = with_warning(&[(env::ENDPOINT, "http://h:1/v1/traces")]);
    assert_eq!(settings.endpoint.url(), "http://h:1/v1/traces/v1/traces");
    assert!(warning.contains("using http://h:1/v1/traces/v1/traces"), "{warning}");
}

#[test]
fn headers_of_the_signal_replace_the_general_list_and_code_overrides_by_name() {
    // OTLPV-01, OTLPV-07, and the open point "merge or replace"
    let general = (env::HEADERS, "a=general,b=general");
    let settings = from_env(&[general, (env::TRACES_HEADERS, "b=signal,c=signal")]);
    assert_eq!(["a", "b", "c"].map(|name| header(&settings, name)), [None, Some("signal"), Some("signal")]);

    let given = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![given("B", "first"), given("d", "code"), given("b", "code")];
    let (settings, _) = resolve(Options { headers, ..Options::default() }, &[general]).unwrap();
    assert_eq!(["a", "b", "d"].map(|name| header(&settings, name)), [Some("general"), Some("code"), Some("code")]);
}

#[test]
fn a_bad_entry_of_the_headers_costs_one_warning_without_its_text() {
    // OTLPV-08
    let (settings, warning) = with_warning(&[(env::HEADERS, "key=%zz,y=1,topsecret")]);
    assert_eq!(header(&settings, "y"), Some("1"));
    assert!(warning.contains("OTEL_EXPORTER_OTLP_HEADERS: entries 1, 3 are not"), "{warning}");
    assert!(!warning.contains("secret") && !warning.contains("zz"), "{warning}");

    let (settings, _) = with_warning(&[(env::TRACES_HEADERS, "nothing usable"), (env::HEADERS, "authorization=x")]);
    assert_eq!(header(&settings, "authorization"), None, "credentials of the general list are not for this receiver");
}

#[test]
fn user_information_of_the_url_authorizes_unless_a_header_does() {
    let url = (env::ENDPOINT, "http://Aladdin:open%20sesame@h");
    assert_eq!(header(&from_env(&[url]), "authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let settings = from_env(&[url, (env::HEADERS, "Authorization=Bearer%20t")]);
    assert_eq!(header(&settings, "authorization"), Some("Bearer t"));
}

#[test]
fn resource_attributes_come_from_all_sources_in_their_order() {
    // SDKV-03, RES-04
    let options = Options {
        service_version: Some("1.0".to_owned()),
        resource_attributes: vec![KeyValue::new("a", 9)],
        ..Options::default()
    };
    let pairs = [(env::RESOURCE_ATTRIBUTES, "a=1,b=2,service.name=listed"), (env::SERVICE_NAME, "named")];
    let (settings, _) = resolve(options, &pairs).unwrap();
    for (key, value) in [("a", "I64(9)"), ("b", "2"), ("service.name", "named"), ("service.version", "1.0")] {
        assert_eq!(attribute(&settings, key).as_deref(), Some(value));
    }
}

#[test]
fn a_batch_config_in_code_counts_as_a_whole() {
    let batch = Some(BatchConfig { batch_timeout: 50 * MS, ..BatchConfig::default() });
    let options = Options { batch: batch.clone(), ..Options::default() };
    let pairs = [(env::BSP_MAX_QUEUE_SIZE, "7"), (env::BSP_SCHEDULE_DELAY, "1")];
    assert_eq!(Some(resolve(options, &pairs).unwrap().0.batch), batch);
}

#[test]
fn half_a_pair_for_tls_or_one_that_does_not_belong_together_is_told_and_not_used() {
    // OTLPV-13
    for ((name, file), must) in [
        ((env::CLIENT_CERTIFICATE, CERTIFICATE), "must come with its key"),
        ((env::TRACES_CLIENT_KEY, KEY), "must come with its certificate"),
    ] {
        let (settings, warning) = with_warning(&[(name, file)]);
        assert!(settings.tls.identity.is_none());
        assert!(warning.starts_with(name) && warning.contains(must), "{warning}");
        assert!(warning.ends_with("; using no client certificate"), "{warning}");
    }
    let pair = Some((CERTIFICATE.into(), KEY.into()));
    let settings = from_code(Options { client_certificate: pair, ..Options::default() });
    assert!(settings.tls.identity.is_some());
}

#[test]
fn a_sampler_is_named_in_any_case_and_its_share_counts_only_beside_a_name_that_has_one() {
    // ENV-07, SDKV-08, SDKV-09, SDKV-10
    let shown = |settings: &Settings| format!("{:?}", settings.sampler);
    for (pairs, expected) in [
        (&[][..], "parentbased_always_on"),
        (&[(env::TRACES_SAMPLER_ARG, "0")], "parentbased_always_on"),
        (&[(env::TRACES_SAMPLER, "ALWAYS_ON")], "always_on"),
        (&[(env::TRACES_SAMPLER, " always_off ")], "always_off"),
        (&[(env::TRACES_SAMPLER, "always_off"), (env::TRACES_SAMPLER_ARG, "0.5")], "always_off"),
        (&[(env::TRACES_SAMPLER, "parentbased_always_off")], "parentbased_always_off"),
        (&[(env::TRACES_SAMPLER, "traceidratio")], "traceidratio 1.0"),
        (&[(env::TRACES_SAMPLER, "TraceIdRatio"), (env::TRACES_SAMPLER_ARG, " 0.25 ")], "traceidratio 0.25"),
        (
            &[(env::TRACES_SAMPLER, "parentbased_traceidratio"), (env::TRACES_SAMPLER_ARG, "0")],
            "parentbased_traceidratio 0.0",
        ),
    ] {
        assert_eq!(shown(&from_env(pairs)), expected, "{pairs:?}");
    }
    for bad in ["1.5", "-0.1", "NaN", "abc", "inf"] {
        let (settings, warning) =
            with_warning(&[(env::TRACES_SAMPLER, "traceidratio"), (env::TRACES_SAMPLER_ARG, bad)]);
        assert_eq!(shown(&settings), "traceidratio 1.0");
        assert_eq!(warning, format!("{}=\"{bad}\": must be a number from 0 to 1; using 1.0", env::TRACES_SAMPLER_ARG));
    }
    let options = Options { sampler: Some("Mine".to_owned()), ..Options::default() };
    let (settings, warnings) = resolve(options, &[(env::TRACES_SAMPLER, "banana")]).unwrap();
    assert_eq!(shown(&settings), "Mine");
    assert!(warnings[0].contains("\"banana\"") && warnings[0].ends_with("; using Mine"), "{warnings:?}");
}

#[test]
fn of_span_limits_the_spans_own_variable_counts_then_the_general_one_then_the_default() {
    // LIMV-01, LIMV-02, LIMV-03, LIMV-04
    let count = |settings: &Settings| settings.span_limits.attribute_count_limit;
    let general = (env::ATTRIBUTE_COUNT_LIMIT, "10");
    assert_eq!(count(&from_env(&[])), 128);
    assert_eq!(count(&from_env(&[general])), 10);
    assert_eq!(count(&from_env(&[general, (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "20")])), 20);
    assert_eq!(count(&from_env(&[general, (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "0")])), 0);
    let (settings, warning) = with_warning(&[general, (env::SPAN_ATTRIBUTE_COUNT_LIMIT, "-1")]);
    assert_eq!(count(&settings), 10);
    assert!(warning.ends_with("; using 10"), "{warning}");
    // The general limit is the span's: events and links have variables of their own.
    assert_eq!(SpanLimits { attribute_count_limit: 128, ..from_env(&[general]).span_limits }, SpanLimits::default());

    let length = |settings: &Settings| settings.span_limits.attribute_value_length_limit;
    let general = (env::ATTRIBUTE_VALUE_LENGTH_LIMIT, "10");
    assert_eq!(length(&from_env(&[])), None);
    assert_eq!(length(&from_env(&[general])), Some(10));
    assert_eq!(length(&from_env(&[general, (env::SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, "0")])), Some(0));

    let in_code = Options { span_limits: Some(SpanLimits::default()), ..Options::default() };
    let (settings, _) = resolve(in_code, &[general, (env::SPAN_EVENT_COUNT_LIMIT, "3")]).unwrap();
    assert_eq!(settings.span_limits, SpanLimits::default());
    assert_eq!(from_env(&[(env::SPAN_EVENT_COUNT_LIMIT, "3")]).span_limits.event_count_limit, 3);
    assert_eq!(from_env(&[(env::SPAN_LINK_COUNT_LIMIT, "3")]).span_limits.link_count_limit, 3);
    assert_eq!(from_env(&[(env::EVENT_ATTRIBUTE_COUNT_LIMIT, "3")]).span_limits.event_attribute_count_limit, 3);
    assert_eq!(from_env(&[(env::LINK_ATTRIBUTE_COUNT_LIMIT, "3")]).span_limits.link_attribute_count_limit, 3);
}

#[test]
fn a_protocol_that_is_not_spoken_is_told_once_and_only_where_it_would_count() {
    // OTLPV-01, OTLPV-10, ENV-07
    let other = if cfg!(feature = "grpc") { "http/json" } else { "grpc" };
    for (general, signal, told) in [
        ("http/protobuf", "HTTP/Protobuf", None),
        (other, "", Some(format!("OTEL_EXPORTER_OTLP_PROTOCOL=\"{other}\": "))),
        ("", " HTTP/Json", Some("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=\" HTTP/Json\": ".to_owned())),
        (other, "http/protobuf", None),
        ("http/protobuf", "http/json", Some("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=\"http/json\": ".to_owned())),
        ("grpc", "http/json", Some("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=\"http/json\": ".to_owned())),
    ] {
        let pairs = [(env::PROTOCOL, general), (env::TRACES_PROTOCOL, signal)];
        let (settings, warnings) = resolve(Options::default(), &pairs).unwrap();
        assert_eq!(warnings.len(), usize::from(told.is_some()), "{pairs:?}: {warnings:?}");
        for (warning, told) in warnings.iter().zip(told) {
            assert!(warning.starts_with(&told) && warning.ends_with("; using http/protobuf"), "{warning}");
        }
        assert_eq!(format!("{settings:?}"), format!("{:?}", from_env(&[])));
    }
    // A choice in code counts; a typo is still reported.
    let options = || Options { protocol: Some(crate::config::Protocol::HttpProtobuf), ..Options::default() };
    let warnings = |value| resolve(options(), &[(env::PROTOCOL, value)]).unwrap().1;
    assert_eq!((warnings("grpc").len(), warnings("http").len()), (0, 1));
}

#[test]
#[cfg(feature = "grpc")]
fn grpc_goes_to_its_own_port_by_address_or_url_and_has_no_path() {
    // GRPC-01, OTLPV-10, OTLPV-14
    let of = |pairs: &[(&str, &str)]| {
        let (settings, warnings) =
            resolve(Options::default(), &[pairs, &[(env::TRACES_PROTOCOL, "GRPC")]].concat()).unwrap();
        (settings.endpoint.url().to_string(), warnings)
    };
    for (endpoint, insecure, url) in [
        ("", "", "http://localhost:4317/"),
        ("http://c:4317", "", "http://c:4317/"),
        ("https://c:4317", "true", "https://c:4317/"),
        ("http://c:4317/prefix/", "", "http://c:4317/prefix/"),
        ("c:4317", "", "https://c:4317/"),
        ("c:4317", "false", "https://c:4317/"),
        ("c:4317", "TRUE", "http://c:4317/"),
        ("[::1]:4317", "true", "http://[::1]:4317/"),
        ("10.0.0.1:4317", "true", "http://10.0.0.1:4317/"),
        ("collector", "true", "http://collector/"),
    ] {
        let of_all = of(&[(env::ENDPOINT, endpoint), (env::INSECURE, insecure)]);
        assert_eq!(of_all, (url.to_owned(), Vec::new()), "{endpoint}");
        let of_traces = of(&[(env::TRACES_ENDPOINT, endpoint), (env::TRACES_INSECURE, insecure)]);
        assert_eq!(of_traces, (url.to_owned(), Vec::new()), "{endpoint}");
    }
    let (used, warnings) = of(&[(env::ENDPOINT, "c:4317"), (env::INSECURE, "maybe"), (env::TRACES_INSECURE, "1")]);
    assert_eq!((used.as_str(), warnings.len()), ("https://c:4317/", 2), "{warnings:?}");
    for (endpoint, url) in [("http://c:4318/v1/traces", "http://c:4318/"), ("http://c/a/v1/traces/", "http://c/a/")] {
        let (used, warnings) = of(&[(env::ENDPOINT, endpoint)]);
        assert_eq!((used.as_str(), warnings.len()), (url, 1));
        assert!(warnings[0].contains("gRPC has no path /v1/traces"), "{warnings:?}");
    }
    for wrong in ["grpc://c:4317", "dns:///c:4317", "unix:c:4317", "c:port", ":4317"] {
        let (used, warnings) = of(&[(env::ENDPOINT, wrong)]);
        assert_eq!((used.as_str(), warnings.len()), ("http://localhost:4317/", 1), "{wrong}");
    }
    let told = of(&[(env::ENDPOINT, "grpc://c:4317")]).1;
    assert!(told[0].contains("must be a URL that begins with http:// or https://, or host:port"), "{told:?}");
}

#[test]
#[cfg(feature = "grpc")]
fn headers_that_servers_of_grpc_refuse_now_and_then_are_told_at_the_beginning() {
    let with = |protocol, bytes| {
        let options = Options {
            protocol: Some(protocol),
            headers: vec![("x-long".into(), "v".repeat(bytes))],
            ..Options::default()
        };
        resolve(options, &[]).unwrap().1
    };
    let told = with(Protocol::Grpc, 9_000);
    assert!(matches!(&told[..], [line] if line.contains("with_header") && line.contains("9038 bytes")), "{told:?}");
    assert_eq!((with(Protocol::Grpc, 8_000).len(), with(Protocol::HttpProtobuf, 9_000).len()), (0, 0));
}

#[test]
fn a_configuration_file_is_said_not_to_be_read_once_and_the_variables_count() {
    let [name, older] = env::CONFIG_FILES;
    for pairs in [
        &[(name, "/etc/otel.yaml"), (env::WORKERS, "3")][..],
        &[(older, "/etc/otel.yaml"), (env::WORKERS, "3"), (name, "")],
        &[(older, "/etc/otel.yaml"), (env::WORKERS, "3"), (name, "/etc/otel.yaml")],
    ] {
        let (settings, warning) = with_warning(pairs);
        assert_eq!(settings.worker_count, 3);
        assert!(
            warning.starts_with("OTEL_") && warning.contains("=\"/etc/otel.yaml\": configuration files"),
            "{warning}"
        );
    }
}

#[test]
fn code_turns_the_client_on_and_off_whatever_the_environment_says() {
    // SDKV-01, SDKV-11, ENV-09
    let is_off = |sdk_disabled, traces_exporter, pairs: &[(&str, &str)]| {
        let (settings, warnings) =
            resolve(Options { sdk_disabled, traces_exporter, ..Options::default() }, pairs).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        settings.disabled.is_some()
    };
    let (disabled, none) = ((env::SDK_DISABLED, "true"), (env::TRACES_EXPORTER, "none"));
    assert!(is_off(None, None, &[disabled]) && is_off(None, None, &[none]));
    assert!(!is_off(Some(false), None, &[disabled]) && !is_off(None, Some(TracesExporter::Otlp), &[none]));
    assert!(is_off(Some(true), None, &[]) && is_off(None, Some(TracesExporter::None), &[]));
    assert!(is_off(Some(false), None, &[disabled, none]), "each by itself");
}

#[test]
fn a_client_that_is_off_does_not_count_cpus() {
    let environment = |pairs: &[(&'static str, &'static str)]| {
        let mut environment = Environment::from_pairs(pairs.iter().copied());
        environment.cpus = || panic!("asked");
        environment
    };
    let off = environment(&[(env::SDK_DISABLED, "true")]);
    assert!(Settings::resolve(Options::default(), off).unwrap().0.disabled.is_some());
    let mut on = environment(&[(env::SDK_DISABLED, "true")]);
    on.cpus = || 2;
    let options = Options { sdk_disabled: Some(false), ..Options::default() };
    assert_eq!(Settings::resolve(options, on).unwrap().0.worker_count, 2);
}
