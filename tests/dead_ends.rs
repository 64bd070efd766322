//! Dead ends: what another attempt would not change is final at once and says what helps; what only looks like an end, or
//! like an arrival, is told as what it is.
#![cfg(all(feature = "testing", feature = "tls", unix))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    env,
    fs::File,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use faults::{Answer, Authority, Extent, FaultServer, Identity, answer, close_after};
use nix::sys::resource::{Resource, setrlimit};
use otlp::{Client, ClientBuilder, DropReason, Error, RetryConfig, testing::generate_test_spans};
use rcgen::{CertificateParams, date_time_ymd};
use support::{LONG, assert_accounted};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("without file numbers") => without_file_numbers(),
        #[cfg(target_os = "linux")]
        Ok("calls itself") => calls_itself(),
        _ => {}
    }
}

/// What a client says.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn of(&self, builder: ClientBuilder) -> ClientBuilder {
        let lines = Arc::clone(&self.0);
        builder.with_error_handler(move |said| lines.lock().unwrap().push(said.message().to_owned()))
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Ends a span, flushes and closes; answers what was said. The span is lost.
#[track_caller]
fn loses(builder: ClientBuilder) -> String {
    let said = Said::default();
    let client = said.of(builder).build().unwrap();
    client.tracer("dead ends").start("span").end();
    client.flush(LONG);
    client.shutdown(LONG);
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Undelivered), 1);
    said.lines().join("\n")
}

fn long_expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 3, 4));
}

fn client_of(server: &FaultServer, certificate: &Path) -> ClientBuilder {
    Client::builder().with_endpoint(server.endpoint()).with_certificate(certificate).with_service_name("test")
}

#[test]
fn a_handshake_that_would_fail_again_is_made_once_and_said_with_what_helps_which_is_not_more_time() {
    let (authority, other) = (Authority::new(), Authority::new());
    let root = authority.file("ca.pem", authority.certificate());
    let expired = Identity::self_signed(&["localhost"], long_expired);
    let named = authority.file("expired.pem", &expired.certificate);
    let untrusted = FaultServer::tls(other.server(), [faults::accept()]);
    let old = FaultServer::tls(expired.server(None).into(), [faults::accept()]);
    let demanding = FaultServer::tls(authority.demanding_server(), [faults::accept()]);
    let elsewhere = FaultServer::tls(authority.issue(&["elsewhere.test"]).server(None).into(), [faults::accept()]);
    let stranger = other.issue(&["client"]);
    let files = (other.file("client.pem", &stranger.certificate), other.file("client.key", &stranger.key));
    for (server, builder, words) in [
        (&untrusted, client_of(&untrusted, &root), "OTEL_EXPORTER_OTLP_CERTIFICATE names"),
        (&old, client_of(&old, &named), "it must be renewed where the receiver runs"),
        (&elsewhere, client_of(&elsewhere, &root), "the endpoint must name the receiver as its certificate does"),
        (&demanding, client_of(&demanding, &root), "the receiver wants a client certificate"),
        (
            &demanding,
            client_of(&demanding, &root).with_client_certificate(&files.0, &files.1),
            "does not accept the client certificate",
        ),
    ] {
        let before = server.connections();
        let said = loses(builder);
        assert!(said.contains(words) && !said.contains("allow more time"), "{said}");
        // One that broke before its reason was heard is replaced once.
        assert!((1..=2).contains(&(server.connections() - before)), "{} {said}", server.connections() - before);
    }
}

#[test]
fn a_handshake_that_breaks_off_is_made_again() {
    let server = FaultServer::plain([close_after(Extent::Nothing)]);
    let retry = RetryConfig { max_attempts: 3, ..RetryConfig::default() };
    let builder = Client::builder().with_endpoint(server.endpoint_by("https", "localhost")).with_retry_config(retry);
    let said = loses(builder);
    assert!(said.contains("closed during the handshake"), "{said}");
    assert!(server.connections() >= 3, "{}", server.connections());
}

#[test]
fn a_page_in_answer_to_spans_counts_as_their_delivery_and_is_told_as_suspicious_once() {
    let page = Answer::status(200).header("content-type", "text/html; charset=utf-8").body("<html>Log in</html>");
    let server = FaultServer::plain([answer(page)]);
    let said = Said::default();
    let client = said.of(Client::builder().with_endpoint(server.endpoint())).build().unwrap();
    for _ in 0..3 {
        client.export_spans(generate_test_spans(2)).unwrap();
    }
    client.tracer("dead ends").start("span").end();
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(assert_accounted(&client).exported, 7);
    let lines = said.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&server.endpoint()) && lines[0].contains("is it a login page"), "{lines:?}");
}

#[test]
fn a_partial_success_is_read_in_json_too_and_other_answers_are_not_suspicious() {
    for (body, rejected) in [
        (r#"{"partialSuccess":{"rejectedSpans":2,"errorMessage":"too old"}}"#, 2),
        (r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#, 2),
        ("{}", 0),
        ("OK", 0),
    ] {
        let kind = if body == "OK" { "text/plain" } else { "application/json" };
        let server = FaultServer::plain([answer(Answer::status(200).header("content-type", kind).body(body))]);
        let said = Said::default();
        let client = said.of(Client::builder().with_endpoint(server.endpoint())).build().unwrap();
        for _ in 0..3 {
            client.tracer("dead ends").start("span").end();
        }
        client.shutdown(LONG);
        let stats = assert_accounted(&client);
        assert_eq!((stats.exported, stats.dropped.get(DropReason::Rejected)), (3 - rejected, rejected), "{body}");
        let lines = said.lines();
        assert_eq!(lines.iter().any(|line| line.contains("rejected 2 spans: too old")), rejected > 0, "{lines:?}");
        assert!(rejected > 0 || lines.is_empty(), "{lines:?}");
    }
}

/// Runs this test again; answers what it said.
fn run(mut command: Command, role: &str) -> String {
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    for (name, _) in
        env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.to_lowercase().ends_with("_proxy"))
    {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_name_that_cannot_be_looked_up_for_want_of_file_numbers_is_told_as_that() {
    run(Command::new(env::current_exe().unwrap()), "without file numbers");
}

fn without_file_numbers() {
    let retry = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    let builder = Client::builder().with_endpoint("http://collector.invalid:4318").with_retry_config(retry);
    let client = builder.build().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut open = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        open.push(file);
    }
    let message = |client: &Client| match client.export_spans(generate_test_spans(1)).unwrap_err() {
        Error::Unreachable { message, .. } => message,
        error => panic!("{error:?}"),
    };
    let told = message(&client);
    let words = ["collector.invalid could not be looked up", "Too many open files", "ulimit -n"];
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    drop(open);
    let told = message(&client);
    assert!(!told.contains("Too many open files"), "{told}");
    assert_accounted(&client);
}

/// The only port that the system has to give is the one that is asked for.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_to_oneself_is_none_and_takes_nobodys_port() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        assert!(env::var("OTLP_REQUIRE_INTEROP").as_deref() != Ok("1"), "unshare is required here");
        return;
    }
    let mut command = unshare();
    let prepare = "ip link set lo up
        mount -t sysfs none /sys 2>/dev/null || true
        echo 47318 47319 > /proc/sys/net/ipv4/ip_local_port_range
        exec \"$0\" \"$@\"";
    command.args(["sh", "-ec", prepare]).arg(env::current_exe().unwrap());
    run(command, "calls itself");
}

#[cfg(target_os = "linux")]
fn calls_itself() {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 47318));
    let interval = std::time::Duration::from_millis(5);
    let retry =
        RetryConfig { max_attempts: 40, initial_interval: interval, max_interval: interval, ..RetryConfig::default() };
    let builder = Client::builder().with_endpoint(format!("http://{address}")).with_retry_config(retry);
    let said = loses(builder);
    assert!(said.contains("connection refused") && !said.contains("not HTTP/1.1"), "{said}");
    // Not even for the minute that TCP keeps a port for.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(1).unwrap();
    drop(socket);
    // Who does not look does get such a connection.
    let stream = TcpStream::connect(address).unwrap();
    assert_eq!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
}
