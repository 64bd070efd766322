//! Bad settings in code are errors of `build` that name the setting, the value and what is allowed, and no
//! secret shows anywhere.
#![cfg(feature = "testing")]

use std::time::Duration;

use otlp::{
    BatchConfig, Client, ClientBuilder, Error, ExitBudget, KeyValue, SpoolConfig, config::TracesExporter,
    testing::Receiver,
};

fn rejected(builder: ClientBuilder) -> (String, String) {
    match builder.build() {
        Err(Error::Config { knob, value, allowed, .. }) => {
            assert!(!allowed.is_empty());
            (knob.to_owned(), value)
        }
        other => panic!("{other:?}"),
    }
}

fn batch(change: impl FnOnce(&mut BatchConfig)) -> ClientBuilder {
    let mut batch = BatchConfig::default();
    change(&mut batch);
    Client::builder().with_batch_config(batch)
}

#[test]
fn settings_that_make_no_sense_are_errors_that_name_setting_and_value() {
    // ERR-02
    let cases = [
        (Client::builder().with_endpoint("not a url"), "with_endpoint", "not a url"),
        (Client::builder().with_endpoint("ftp://host"), "with_endpoint", "ftp"),
        (Client::builder().with_endpoint(""), "with_endpoint", ""),
        (Client::builder().with_traces_endpoint("http://"), "with_traces_endpoint", "http://"),
        (Client::builder().with_connect_timeout(Duration::ZERO), "with_connect_timeout", "0"),
        (Client::builder().with_request_timeout(Duration::ZERO), "with_request_timeout", "0"),
        (Client::builder().with_worker_count(0), "with_worker_count", "0"),
        (Client::builder().with_worker_count(65), "with_worker_count", "65"),
        (Client::builder().with_max_memory_usage(0), "with_max_memory_usage", "0"),
        (Client::builder().with_service_name(""), "with_service_name", ""),
        (batch(|batch| batch.max_batch_size = 0), "max_batch_size", "0"),
        (batch(|batch| batch.max_batch_bytes = 0), "max_batch_bytes", "0"),
        (batch(|batch| batch.max_queue_size = 0), "max_queue_size", "0"),
        (batch(|batch| batch.batch_timeout = Duration::ZERO), "batch_timeout", "0"),
        (
            batch(|batch| batch.max_queue_size = 100)
                .with_worker_pool(otlp::core::WorkerPool::new().with_batch_size(1000)),
            "with_worker_pool.batch_size",
            "1000",
        ),
        (
            Client::builder().with_exit_budget(ExitBudget { stall: Duration::ZERO, ..ExitBudget::default() }),
            "with_exit_budget",
            "0",
        ),
        (
            Client::builder().with_spool_config(SpoolConfig { max_bytes: 0, ..SpoolConfig::default() }),
            "with_spool_config.max_bytes",
            "0",
        ),
        (
            Client::builder().with_spool_config(SpoolConfig { dir: Some("".into()), ..SpoolConfig::default() }),
            "with_spool_config.dir",
            "",
        ),
    ];
    for (builder, knob, value) in cases {
        let (named, shown) = rejected(builder);
        assert!(named.contains(knob), "{named} for {knob}");
        assert!(shown.contains(value), "{shown:?} for {knob} = {value:?}");
    }
}

#[test]
fn a_client_that_is_off_in_code_connects_to_nobody_and_always_succeeds() {
    // SDKV-01, SDKV-11, ENV-09
    let on = |builder: ClientBuilder| {
        let receiver = Receiver::start().unwrap();
        let client = builder.with_endpoint(receiver.endpoint()).build().unwrap();
        let is_recording = client.tracer("test").start("span").is_recording();
        assert!(client.close().is_complete());
        assert_eq!(receiver.connections() > 0, is_recording);
        is_recording
    };
    assert!(!on(Client::builder().with_sdk_disabled(true)));
    assert!(on(Client::builder().with_sdk_disabled(false)));
    assert!(!on(Client::builder().with_traces_exporter(TracesExporter::None)));
    assert!(on(Client::builder().with_traces_exporter(TracesExporter::Otlp)));
}

#[test]
fn a_header_with_control_characters_is_an_error_that_does_not_repeat_its_value() {
    for (name, value) in [("x-token", "secret\r\ninjected: 1"), ("x-token", "secret\0"), ("bad name", "secret")] {
        let error = Client::builder().with_header(name, value).build().unwrap_err();
        let (display, debug) = (error.to_string(), format!("{error:?}"));
        assert!(display.contains("with_header"), "{display}");
        assert!(!display.contains("secret") && !debug.contains("secret"), "{display} {debug}");
    }
}

#[test]
fn no_secret_shows_in_debug_output_or_errors() {
    let builder = Client::builder()
        .with_endpoint("http://user:hunter2@127.0.0.1:9/?token=hunter3")
        .with_header("authorization", "Bearer hunter4")
        .with_request_timeout(Duration::from_millis(200));
    let shown = format!("{builder:?}");
    let client = builder.build().unwrap();
    let error = client.export_spans(otlp::testing::generate_test_spans(1)).unwrap_err();
    let shown = format!("{shown} {client:?} {error} {error:?} {:?}", client.tracer("t"));
    assert!(shown.contains("127.0.0.1:9"), "{shown}");
    for secret in ["hunter2", "hunter3", "hunter4"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn clients_tracers_spans_and_errors_can_be_shared_between_threads() {
    // TPR-08
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<ClientBuilder>();
    shared::<otlp::Tracer>();
    shared::<otlp::Span>();
    shared::<Error>();
    shared::<KeyValue<'static>>();
}
