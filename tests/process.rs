//! The process-wide client and the environment: each case is a process of its own, run against a receiver
//! in this one.
#![cfg(feature = "testing")]

mod support;

use std::{
    env,
    process::{Command, Output},
    time::Duration,
};

use otlp::testing::Receiver;
use support::{LONG, shortest};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("job") => job(),
        Ok("late tracer") => late_tracer(),
        Ok("second init") => {
            let _otlp = otlp::init().unwrap();
            assert!(matches!(otlp::init(), Err(otlp::Error::AlreadyInitialized)));
        }
        Ok("exit") => {
            let _otlp = otlp::init().unwrap();
            let tracer = otlp::tracer("exiting");
            let _open = tracer.start("never ended");
            tracer.start("ended").end();
            std::process::exit(7);
        }
        Ok("exit on another thread") => {
            let _otlp = otlp::init().unwrap();
            let tracer = otlp::tracer("exiting");
            tracer.start("ended").end();
            let exiting = std::thread::spawn(move || {
                tracer.start("ended elsewhere").end();
                std::process::exit(7)
            });
            let _: Result<(), _> = exiting.join();
        }
        Ok("forgotten guard") => {
            std::mem::forget(otlp::init().unwrap());
            otlp::tracer("forgotten").start("ended").end();
        }
        Ok("disabled") => {
            let _otlp = otlp::init().unwrap();
            let (client, tracer) = (otlp::client(), otlp::tracer("disabled"));
            let span = tracer.start("nothing");
            assert!(!span.is_recording() && !span.context().is_valid() && !tracer.enabled());
            span.end();
            assert!(client.flush(LONG).is_complete() && client.shutdown(LONG).is_complete());
            assert_eq!(client.stats().started, 0);
            // The main thread and the one that runs this.
            if let Ok(threads) = std::fs::read_dir("/proc/self/task") {
                assert!(threads.count() <= 2, "no thread was started");
            }
        }
        Ok("before init") => {
            let tracer = otlp::tracer("nobody");
            let span = tracer.start("nothing");
            assert!(!span.is_recording() && !span.context().is_valid() && !tracer.enabled());
            let receipt = otlp::client().flush(LONG);
            assert!(!receipt.has_client && !receipt.is_complete(), "{receipt}");
            assert_eq!(receipt.to_string(), "there is no client: nothing was recorded");
        }
        _ => {}
    }
}

/// What a small tool does.
fn job() {
    let _otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("job");
    let rows = tracer.in_span("load", |span| {
        span.set_attribute("file", "a.csv");
        42
    });
    assert_eq!(rows, 42);
}

fn late_tracer() {
    let tracer = otlp::tracer("late");
    tracer.start("before there is a client").end();
    let _otlp = otlp::init().unwrap();
    tracer.start("after").end();
}

/// Runs a child in `role` with only the given variables of ours set.
fn run(role: &str, variables: &[(&str, &str)]) -> Output {
    let output = run_to_any_end(role, variables);
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

fn run_to_any_end(role: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command.env(ROLE, role).envs(variables.iter().copied()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The library's own lines.
fn said(output: &Output) -> Vec<String> {
    stderr(output).lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}

#[test]
fn everything_comes_from_the_environment_and_dropping_the_guard_delivers() {
    // OTLPV-03, OTLPV-07, OTLPV-08, SDKV-03, RES-01, RES-05
    let receiver = Receiver::start().unwrap();
    let output = run(
        "job",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20dXNlcjpw%3D%3D,x-tenant=blue"),
            ("OTEL_SERVICE_NAME", "importer"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ignored,deployment.environment.name=a%2Cb"),
        ],
    );
    assert_eq!(said(&output), Vec::<String>::new());
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/v1/traces");
    assert_eq!(requests[0].header("authorization"), Some("Basic dXNlcjpw=="));
    assert_eq!(requests[0].header("x-tenant"), Some("blue"));
    let spans = receiver.spans();
    let resource = |key: &str| format!("{:?}", spans[0].resource_attribute(key).unwrap());
    assert_eq!((spans.len(), spans[0].span.name.as_str()), (1, "load"));
    assert!(resource("service.name").contains("importer"));
    assert!(resource("deployment.environment.name").contains("a,b"));
    assert!(resource("telemetry.sdk.language").contains("rust"));
    assert_eq!(receiver.errors(), Vec::<String>::new());
}

#[test]
fn the_traces_endpoint_is_taken_as_it_is_and_wins() {
    // OTLPV-01, OTLPV-04
    let receiver = Receiver::start().unwrap();
    let url = format!("{}/tenant/v1/traces", receiver.endpoint());
    run(
        "job",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url.as_str())],
    );
    assert_eq!(receiver.requests()[0].path, "/tenant/v1/traces");
}

#[test]
fn compression_none_sends_bodies_as_they_are() {
    // OTLPV-12, ENV-07
    let receiver = Receiver::start().unwrap();
    run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), ("OTEL_EXPORTER_OTLP_COMPRESSION", "NONE")]);
    assert_eq!(receiver.requests()[0].header("content-encoding"), None);
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn a_disabled_sdk_sends_nothing_and_says_nothing() {
    // SDKV-01, SDKV-11, ENV-02
    for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
        let receiver = Receiver::start().unwrap();
        let output = run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), off]);
        assert_eq!((receiver.connections(), said(&output).len()), (0, 0), "{off:?}");
    }
}

#[test]
fn a_disabled_sdk_records_nothing_starts_no_thread_and_has_nothing_to_flush() {
    // SDKV-01, TPR-07
    run("disabled", &[("OTEL_SDK_DISABLED", "true")]);
}

#[test]
fn a_variable_that_makes_no_sense_costs_one_warning_each_and_nothing_else() {
    // ENV-03, ENV-04, ENV-08, OTLPV-08
    let receiver = Receiver::start().unwrap();
    let output = run(
        "job",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "banana"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x=%zzsecret,y=1"),
        ],
    );
    let said = said(&output);
    assert_eq!(said.len(), 4, "{said:?}");
    for name in ["MAX_QUEUE_SIZE", "SCHEDULE_DELAY", "COMPRESSION", "HEADERS"] {
        assert_eq!(said.iter().filter(|line| line.contains(name)).count(), 1, "{name}: {said:?}");
    }
    assert!(said.iter().any(|line| line.contains("banana")));
    assert!(!said.iter().any(|line| line.contains("secret")));
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn what_is_not_supported_is_told_in_one_line_and_spans_go_over_otlp_all_the_same() {
    // ENV-08, OTLPV-10, OTLPV-11, SDKV-11, SDKV-12
    for (name, value, shown) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/JSON", "\"HTTP/JSON\""),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "\"http/json\""),
        ("OTEL_TRACES_EXPORTER", "otlp,console", "\"console\" is not supported"),
        ("OTEL_TRACES_EXPORTER", "otlp/stdout", "\"otlp/stdout\" is not supported"),
        ("OTEL_TRACES_EXPORTER", "logging", "\"logging\" is unknown"),
        ("OTEL_CONFIG_FILE", "/etc/otel.yaml", "\"/etc/otel.yaml\": configuration files are not supported"),
    ] {
        let receiver = Receiver::start().unwrap();
        let output = run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), (name, value)]);
        let said = said(&output);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(name) && said[0].contains(shown), "{said:?}");
        assert_eq!(receiver.span_count(), 1, "{name}");
        assert_eq!(receiver.requests()[0].header("content-type"), Some("application/x-protobuf"));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("load"), "nothing of a span on stdout");
    }
    // What nobody offers is not mentioned either.
    let receiver = Receiver::start().unwrap();
    let entities = ("OTEL_ENTITIES", "service{service.name=a};bad{x");
    let output = run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), entities]);
    assert_eq!((said(&output).len(), receiver.span_count()), (0, 1), "SDKV-13");
}

#[test]
fn a_log_level_of_none_silences_the_library() {
    // SDKV-04
    let output = run(
        "job",
        &[
            ("OTEL_LOG_LEVEL", "none"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("OTLP_EXIT_TIMEOUT", "200"),
        ],
    );
    assert_eq!(said(&output), Vec::<String>::new());
}

#[test]
fn a_collector_that_never_answers_does_not_hold_the_exit_beyond_the_stall_budget() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let output = run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTLP_EXIT_STALL_TIMEOUT", "300")]);
    let took = begun.elapsed();
    // Without the stall budget it would wait for 10 s.
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(7), "{took:?}");
    let said = said(&output);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 span was lost"), "{said:?}");
}

#[test]
fn nobody_listening_at_an_endpoint_that_was_chosen_is_one_line() {
    let output = run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTLP_EXIT_TIMEOUT", "300")]);
    let said = said(&output);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 span was lost") && said[0].contains("refused"), "{said:?}");
}

#[test]
fn a_collector_on_this_machine_that_is_not_there_hardly_delays_the_exit() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("http://127.0.0.1:{port}");
    let took = |variables: &[(&str, &str)]| {
        let begun = std::time::Instant::now();
        run("job", variables);
        begun.elapsed()
    };
    // The quickest of several runs without it.
    let without = (0..5).map(|_| took(&[("OTEL_SDK_DISABLED", "true")])).min().unwrap();
    let added = shortest(Duration::from_millis(50), || {
        took(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &refused)]).saturating_sub(without)
    });
    assert!(added < Duration::from_millis(50), "{added:?} added to {without:?}");
}

#[cfg(unix)]
#[test]
fn process_exit_delivers_what_was_ended_and_keeps_its_exit_code() {
    for (role, spans) in [("exit", &["ended"][..]), ("exit on another thread", &["ended", "ended elsewhere"])] {
        let receiver = Receiver::start().unwrap();
        let output = run_to_any_end(role, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())]);
        assert_eq!(output.status.code(), Some(7), "{role}: {}", stderr(&output));
        let mut names: Vec<_> = receiver.spans().into_iter().map(|span| span.span.name).collect();
        names.sort();
        assert_eq!(names, spans, "{role}");
        assert_eq!(said(&output), Vec::<String>::new(), "{role}");
    }
}

#[cfg(unix)]
#[test]
fn a_forgotten_guard_loses_nothing() {
    let receiver = Receiver::start().unwrap();
    run("forgotten guard", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())]);
    assert_eq!(receiver.span_count(), 1);
}

#[cfg(unix)]
#[test]
fn process_exit_does_not_wait_for_a_collector_that_never_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let stall = ("OTLP_EXIT_STALL_TIMEOUT", "300");
    let output = run_to_any_end("exit", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), stall]);
    // Without the stall budget it would wait for 10 s.
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert_eq!((output.status.code(), said(&output).len()), (Some(7), 1), "{}", stderr(&output));
}

#[test]
fn a_tracer_made_before_init_records_once_there_is_a_client() {
    // TPR-03
    let receiver = Receiver::start().unwrap();
    run("late tracer", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())]);
    let names: Vec<_> = receiver.spans().into_iter().map(|span| span.span.name).collect();
    assert_eq!(names, ["after"]);
}

#[test]
fn without_init_spans_are_not_recorded_and_carry_no_invented_ids() {
    // TPR-07, TPR-09, PKG-01
    run("before init", &[]);
}

#[test]
fn a_second_init_is_an_error_and_leaves_the_first_as_it_is() {
    run("second init", &[]);
}

#[test]
fn nothing_is_ever_written_to_stdout() {
    // ERR-05
    let output = run("job", &[("OTEL_BSP_MAX_QUEUE_SIZE", "x"), ("OTLP_EXIT_TIMEOUT", "100")]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!stdout.contains("otlp"), "{stdout}");
}
