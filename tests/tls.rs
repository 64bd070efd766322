//! TLS as configured: whom a client trusts, and how it shows who it is.
#![cfg(all(feature = "testing", feature = "tls"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use faults::{Authority, FaultServer, accept};
use otlp::{Client, ClientBuilder, DropReason, Error, LogLevel, RetryConfig, testing::generate_test_spans};
use support::assert_accounted;

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

fn client_of(server: &FaultServer) -> ClientBuilder {
    Client::builder()
        .with_endpoint(server.endpoint())
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
        .with_request_timeout(Duration::from_secs(20))
        .with_log_level(LogLevel::None)
}

/// What is said about spans that cannot be sent.
#[track_caller]
fn refused(builder: ClientBuilder) -> String {
    let client = builder.build().unwrap();
    let error = client.export_spans(generate_test_spans(2)).unwrap_err();
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Undelivered), 2);
    let Error::Unreachable { message, .. } = error else { panic!("{error:?}") };
    assert!(message.starts_with("TLS failed: "), "{message}");
    message
}

#[track_caller]
fn delivers(builder: ClientBuilder) {
    let client = builder.build().unwrap();
    assert_eq!(client.export_spans(generate_test_spans(2)).unwrap().accepted, 2);
    assert_accounted(&client);
}

#[test]
fn a_private_authority_is_trusted_once_its_certificate_is_named_and_not_before() {
    // OTLPV-06, OTLPV-13
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let message = refused(client_of(&server));
    assert!(message.contains("UnknownIssuer") && message.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{message}");
    assert_eq!(server.requests().len(), 0, "nothing is said to who is not trusted");

    let certificate = authority.file("ca.pem", authority.certificate());
    delivers(client_of(&server).with_certificate(&certificate));
    // Among others, as in a bundle.
    let other = Authority::new();
    let bundle = authority.file("bundle.pem", other.certificate() + "# a comment\n" + &authority.certificate());
    delivers(client_of(&server).with_certificate(bundle));
    // A file replaces what is trusted otherwise.
    refused(client_of(&server).with_certificate(other.file("ca.pem", other.certificate())));
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    // OTLPV-06
    let authority = Authority::new();
    let config = Arc::new(authority.issue(&["elsewhere.example"]).server(None));
    let server = FaultServer::tls(config, [accept()]);
    let message = refused(client_of(&server).with_certificate(authority.file("ca.pem", authority.certificate())));
    assert!(message.contains("not valid for name \"localhost\""), "{message}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_server_that_demands_a_certificate_accepts_the_pair_of_its_authority() {
    // OTLPV-13
    let authority = Authority::new();
    let trusted = authority.file("ca.pem", authority.certificate());
    let server = FaultServer::tls(authority.demanding_server(), [accept()]);
    let client = || client_of(&server).with_certificate(&trusted);
    let message = refused(client());
    assert!(message.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"), "{message}");

    let ours = authority.issue(&["client"]);
    let [certificate, key] = [authority.file("client.pem", &ours.certificate), authority.file("client.key", &ours.key)];
    delivers(client().with_client_certificate(&certificate, &key));
    let theirs = Authority::new().issue(&["client"]);
    let [certificate, key] = [authority.file("b.pem", &theirs.certificate), authority.file("b.key", &theirs.key)];
    refused(client().with_client_certificate(certificate, key));
}

#[test]
fn one_connection_serves_many_requests() {
    // HTTP-04
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let client = client_of(&server).with_certificate(authority.file("ca.pem", authority.certificate()));
    let client = client.build().unwrap();
    for _ in 0..10 {
        assert_eq!(client.export_spans(generate_test_spans(100)).unwrap().accepted, 100);
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 10));
}

#[test]
fn connections_after_the_first_resume_its_session() {
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let trusted = authority.file("ca.pem", authority.certificate());
    let client = client_of(&server).with_certificate(trusted).build().unwrap();
    for connections in 1..=3 {
        assert_eq!(client.export_spans(generate_test_spans(1)).unwrap().accepted, 1);
        assert_eq!(server.connections(), connections);
        server.close_idle();
    }
    assert_eq!(server.resumed(), 2);
}

#[test]
fn files_in_code_that_are_of_no_use_are_errors_that_name_setting_file_and_reason() {
    // OTLPV-13, ERR-02
    let authority = Authority::new();
    let [ours, other] = [authority.issue(&["client"]), authority.issue(&["client"])];
    let [certificate, key] = [authority.file("client.pem", &ours.certificate), authority.file("client.key", &ours.key)];
    let other_key = authority.file("other.key", &other.key);
    let garbled = authority.file("garbled.pem", ours.certificate.replace("M", "!"));
    let missing = authority.missing();
    let builder = Client::builder;
    for (builder, knob, file) in [
        (builder().with_certificate(&missing), "with_certificate", &missing),
        (builder().with_certificate(&garbled), "with_certificate", &garbled),
        (builder().with_certificate(&key), "with_certificate", &key),
        (builder().with_certificate(authority.as_ref()), "with_certificate", &authority.as_ref().to_owned()),
        (builder().with_client_certificate(&missing, &key), "with_client_certificate", &missing),
        (builder().with_client_certificate(&certificate, &missing), "with_client_certificate", &missing),
        (builder().with_client_certificate(&garbled, &key), "with_client_certificate", &garbled),
        (builder().with_client_certificate(&certificate, &garbled), "with_client_certificate", &garbled),
        (builder().with_client_certificate(&certificate, &other_key), "with_client_certificate", &certificate),
    ] {
        let error = builder.build().unwrap_err();
        let Error::Config { knob: named, value, allowed, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*named, knob);
        let shown = file.file_name().unwrap().to_string_lossy();
        assert!(value.contains(&*shown) && allowed.starts_with("must be "), "{error}");
        let secret = ours.key.lines().nth(1).unwrap();
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
}

#[test]
fn no_output_shows_a_key_even_if_it_was_given_in_place_of_its_file() {
    let authority = Authority::new();
    let ours = authority.issue(&["client"]);
    let [certificate, key] = [authority.file("client.pem", &ours.certificate), authority.file("client.key", &ours.key)];
    let secret = ours.key.lines().nth(1).unwrap();
    let builder = Client::builder().with_client_certificate(&certificate, key);
    let shown = format!("{builder:?}");
    let client = builder.build().unwrap();
    let error = Client::builder().with_client_certificate(&certificate, ours.key.as_str()).build().unwrap_err();
    let another = Client::builder().with_client_certificate(&certificate, secret).build().unwrap_err();
    let shown = format!("{shown} {client:?} {error} {error:?} {another} {another:?}");
    assert!(shown.contains("client.pem"), "{shown}");
    assert!(!shown.contains(&secret[..20]), "{shown}");
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    if env::var(ROLE).is_ok() {
        let _otlp = otlp::init().unwrap();
        otlp::tracer("child").start("span").end();
    }
}

fn run(variables: &[(&str, &str)]) -> (Output, Vec<String>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    let output = command.env(ROLE, "job").envs(variables.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (output, said.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect())
}

#[test]
fn the_environment_names_the_files_and_the_variable_of_the_signal_wins() {
    // OTLPV-01, OTLPV-13
    let authority = Authority::new();
    let server = FaultServer::tls(authority.demanding_server(), [accept()]);
    let ours = authority.issue(&["client"]);
    let trusted = authority.file("ca.pem", authority.certificate());
    let other = authority.file("other.pem", Authority::new().certificate());
    let [certificate, key] = [authority.file("client.pem", &ours.certificate), authority.file("client.key", &ours.key)];
    let [trusted, other, certificate, key] = [&trusted, &other, &certificate, &key].map(|path| path.to_str().unwrap());
    let endpoint = server.endpoint();
    let (_, said) = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", other),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", trusted),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", certificate),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key),
    ]);
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(server.arrived().len(), 1);
}

#[test]
fn https_is_tls_whatever_the_environment_says_about_insecure_connections() {
    // OTLPV-14
    let authority = Authority::new();
    let trusted = authority.file("ca.pem", authority.certificate());
    for value in ["true", "maybe"] {
        let server = FaultServer::tls(authority.server(), [accept()]);
        let (_, said) = run(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &server.endpoint()),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", trusted.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_INSECURE", value),
            ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", value),
        ]);
        assert!(server.endpoint().starts_with("https://"));
        assert_eq!((said, server.arrived().len()), (vec![], 1), "{value}");
    }
}

#[test]
fn an_authority_that_is_named_beats_the_file_the_machine_trusts() {
    // OTLPV-13
    let (authority, machines) = (Authority::new(), Authority::new());
    let trusted = authority.file("ca.pem", authority.certificate());
    let other = machines.file("machine.pem", machines.certificate());
    for (certificate, machine, arrives) in [(&trusted, &other, 1), (&other, &trusted, 0)] {
        let server = FaultServer::tls(authority.server(), [accept()]);
        let (_, said) = run(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &server.endpoint()),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate.to_str().unwrap()),
            ("SSL_CERT_FILE", machine.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ]);
        assert_eq!((server.arrived().len(), said.is_empty()), (arrives, arrives == 1), "{said:?}");
    }
}

#[test]
fn files_in_the_environment_that_are_of_no_use_cost_one_warning_each() {
    // OTLPV-13, ENV-08
    let authority = Authority::new();
    let server = FaultServer::plain([accept()]);
    let ours = authority.issue(&["client"]);
    let key = authority.file("client.key", &ours.key);
    let endpoint = server.endpoint();
    let missing = authority.missing();
    let (_, said) = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", missing.to_str().unwrap()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.to_str().unwrap()),
    ]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("OTEL_EXPORTER_OTLP_CERTIFICATE=") && said[0].contains("; using the "));
    assert!(said[1].contains("OTEL_EXPORTER_OTLP_CLIENT_KEY=") && said[1].contains("must come with its certificate"));
    assert_eq!(server.arrived().len(), 1, "the program goes on");
}
