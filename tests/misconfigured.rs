//! What somebody meant who wrote something else: names that nobody reads, URLs without a path, headers that are not
//! theirs to set.
#![cfg(all(feature = "testing", feature = "tls"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    process::{Command, Output},
};

use faults::{Answer, FaultServer, answer};
use otlp::{
    Client, Error, LogLevel,
    testing::{Receiver, generate_test_spans},
};
use support::LONG;

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    if let Ok(role) = env::var(ROLE) {
        use otlp::config::OtlpConfig;
        let _otlp = match role.as_str() {
            "whole configuration" => Client::builder().with_config(OtlpConfig::default()).install().unwrap(),
            "from the environment" => Client::builder().with_config(OtlpConfig::from_env()).install().unwrap(),
            _ => otlp::init().unwrap(),
        };
        otlp::tracer("child").start("span").end();
    }
}

fn run(receiver: &Receiver, variables: &[(&str, &str)]) -> Vec<String> {
    run_as("job", receiver, variables)
}

fn run_as(role: &str, receiver: &Receiver, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command.env(ROLE, role).env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    let Output { status, stderr, .. } = command.envs(variables.iter().copied()).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{stderr}");
    stderr.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}

#[test]
fn a_name_that_nobody_reads_is_told_with_the_one_that_was_meant_and_never_with_its_value() {
    let receiver = Receiver::start().unwrap();
    let said = run(
        &receiver,
        &[
            ("OTLP_WORKER", "secret-1"),
            ("OTEL_EXPORTER_OTLP_HEADER", "authorization=secret-2"),
            ("OTLP_SOMETHING_ELSE", "secret-3"),
            ("otel_service_name", "secret-4"),
            // Of other signals and other languages, or of nobody.
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
            ("OTEL_PYTHON_LOG_LEVEL", "debug"),
            ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
            ("OTLP_WORKER_OF_NOBODY", ""),
        ],
    );
    let said: Vec<_> = said.iter().map(|line| line.strip_prefix("otlp: ").unwrap()).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(
        said[0].starts_with("OTEL_EXPORTER_OTLP_HEADER: ")
            && said[0].ends_with("did you mean OTEL_EXPORTER_OTLP_HEADERS?")
    );
    assert!(said[1].starts_with("OTLP_WORKER: ") && said[1].ends_with("did you mean OTLP_WORKERS?"), "{said:?}");
    assert!(
        said[2].starts_with("otel_service_name: ") && said[2].ends_with("did you mean OTEL_SERVICE_NAME?"),
        "{said:?}"
    );
    // What is no typing error of a name that is known comes last.
    assert!(said[3].starts_with("OTLP_SOMETHING_ELSE: no such variable"), "{said:?}");
    assert!(said.iter().all(|line| !line.contains("secret")), "{said:?}");
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn a_client_that_is_off_does_not_look_at_names() {
    let receiver = Receiver::start().unwrap();
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let said = run(&receiver, &[("OTLP_WORKER", "2"), off]);
        assert!(said.iter().all(|line| !line.contains("OTLP_WORKER")), "{said:?}");
    }
    assert_eq!(receiver.span_count(), 0);
}

#[test]
fn headers_that_follow_from_body_and_connection_cannot_be_set() {
    // OTLPV-08
    for name in ["Expect", "TE", "Trailer", "Upgrade", "Accept-Encoding", "Keep-Alive", "Proxy-Connection"] {
        let error = Client::builder().with_header(name, "secret").build().unwrap_err();
        assert!(matches!(&error, Error::Config { knob: "with_header", .. }), "{error:?}");
        assert!(error.to_string().contains(&name.to_lowercase()) && !error.to_string().contains("secret"), "{error}");
    }
    let receiver = Receiver::start().unwrap();
    let said = run(&receiver, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1,Expect=100-continue,accept-encoding=gzip")]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("OTEL_EXPORTER_OTLP_HEADERS: entries 2, 3 are not"), "{said:?}");
    let requests = receiver.requests();
    assert_eq!((requests[0].header("x-key"), requests[0].header("expect")), (Some("1"), None));
    assert_eq!(receiver.span_count(), 1);
}

/// What is said where a receiver answers so to everything.
fn refused_by(status: u16, page: &str, path: &str) -> String {
    let server = FaultServer::plain([answer(Answer::status(status).body(page))]);
    let client = Client::builder()
        .with_traces_endpoint(format!("{}{path}", server.endpoint()))
        .with_request_timeout(LONG)
        .with_log_level(LogLevel::None);
    let error = client.build().unwrap().export_spans(generate_test_spans(1)).unwrap_err();
    let Error::Refused { status: answered, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*answered, status);
    error.to_string().replace(&server.endpoint(), "http://receiver")
}

#[test]
fn a_url_without_the_usual_path_that_is_not_found_is_answered_with_the_one_that_was_meant() {
    // OTLPV-04
    let page = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>";
    for (path, meant) in [
        ("", "http://receiver/v1/traces"),
        ("/", "http://receiver/v1/traces"),
        ("/otlp", "http://receiver/otlp/v1/traces"),
        ("/v1/trace", "http://receiver/v1/traces"),
        ("/v1/metrics?api_key=s3cret", "http://receiver/v1/traces"),
    ] {
        for status in [404, 405] {
            let said = refused_by(status, page, path);
            assert!(said.contains(&format!("taken as it is; did you mean {meant}?")), "{said}");
            assert!(!said.contains("<") && !said.contains("s3cret"), "{said}");
        }
    }
    let said = refused_by(404, "404 page not found\n", "/");
    assert!(said.contains("404 page not found; the URL is taken as it is"), "{said}");
    let said = refused_by(404, page, "/v1/traces");
    assert!(said.contains("take traces at this path?") && !said.contains("did you mean"), "{said}");
    // Any other answer is the receiver's own.
    let said = refused_by(400, "no", "/");
    assert!(said.ends_with("answered 400: no"), "{said}");
}

#[test]
fn variables_that_lose_against_a_whole_configuration_are_told_once_and_one_from_the_environment_loses_none() {
    let variables = [
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTLP_MAX_MEMORY_USAGE", "1048576"),
        ("OTLP_DROP_STRATEGY", "oldest_first"),
        // These are nobody's loss: None in the configuration means the environment.
        ("OTEL_SERVICE_NAME", "tool"),
        ("OTLP_WORKERS", "1"),
    ];
    let receiver = Receiver::start().unwrap();
    let said = run_as("whole configuration", &receiver, &variables);
    let [line] = &said[..] else { panic!("{said:?}") };
    assert_eq!(
        line,
        "otlp: OTLP_MAX_MEMORY_USAGE, OTEL_BSP_SCHEDULE_DELAY, OTLP_DROP_STRATEGY: set, and do not count, since code \
         gives PerformanceConfig, BatchConfig, DropStrategy as a whole; OtlpConfig::from_env() has them as the \
         environment says"
    );
    assert_eq!(run_as("from the environment", &receiver, &variables), [""; 0]);
    assert_eq!(run_as("whole configuration", &receiver, &variables[3..]), [""; 0]);
    assert_eq!(receiver.span_count(), 3);
}
