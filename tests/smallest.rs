//! The client without any cargo feature: plain HTTP, and nothing of the message types it is checked with. These tests
//! run with every choice of features, `--no-default-features` included.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::Span,
};
use otlp::{Client, ClientBuilder, DropReason};
use prost::Message as _;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// Answers one request after the other with a status and a body, on one connection, and then gives what it was sent.
fn receiver(answers: Vec<(u16, Vec<u8>)>) -> (String, JoinHandle<Vec<ExportTraceServiceRequest>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        answers.iter().map(|(status, body)| exchange(&mut reader, *status, body)).collect()
    };
    (endpoint, thread::spawn(serve))
}

fn exchange(reader: &mut BufReader<TcpStream>, status: u16, answer: &[u8]) -> ExportTraceServiceRequest {
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let head = format!("HTTP/1.1 {status} as scripted\r\ncontent-length: {}\r\n\r\n", answer.len());
    reader.get_mut().write_all(&[head.as_bytes(), answer].concat()).unwrap();
    let mut request = Vec::new();
    GzDecoder::new(body.as_slice()).read_to_end(&mut request).unwrap();
    ExportTraceServiceRequest::decode(request.as_slice()).unwrap()
}

fn builder(endpoint: &str) -> ClientBuilder {
    Client::builder().with_endpoint(endpoint).with_service_name("smallest")
}

fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
}

fn record(client: &Client, count: i64) {
    let tracer = client.tracer("test");
    for number in 0..count {
        tracer.span("work").attribute("number", number).start().end();
    }
}

#[test]
fn what_is_recorded_arrives() {
    let (endpoint, served) = receiver(vec![(200, Vec::new())]);
    let client = builder(&endpoint).build().unwrap();
    record(&client, 10);
    let receipt = client.shutdown(LONG);
    assert!(receipt.is_complete() && receipt.exported == 10, "{receipt:?}");
    let requests = served.join().unwrap();
    let numbers: Vec<_> = requests.iter().flat_map(spans).map(|span| span.attributes[0].value.clone()).collect();
    assert_eq!(numbers.len(), 10);
    assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn what_the_receiver_says_is_understood() {
    // RTY-03, RTY-06
    let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".to_owned() };
    let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let (endpoint, served) = receiver(vec![(200, partial), (400, b"\x08\x03\x12\x02no".to_vec())]);
    let client = builder(&endpoint).build().unwrap();
    record(&client, 10);
    let receipt = client.flush(LONG);
    assert_eq!((receipt.exported, receipt.rejected, receipt.is_complete()), (7, 3, false), "{receipt:?}");
    record(&client, 2);
    let receipt = client.shutdown(LONG);
    assert_eq!((receipt.exported, receipt.dropped.get(DropReason::Refused)), (7, 2), "{receipt:?}");
    assert_eq!(served.join().unwrap().iter().flat_map(spans).count(), 12);
}

#[cfg(not(feature = "tls"))]
#[test]
fn an_endpoint_or_certificate_for_tls_is_an_error_that_names_the_feature() {
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/certificate.pem");
    for (builder, setting) in [
        (Client::builder().with_endpoint("https://user:secret@collector:4318"), "with_endpoint"),
        (Client::builder().with_traces_endpoint("https://user:secret@collector:4318"), "with_traces_endpoint"),
        (Client::builder().with_certificate(pem), "with_certificate"),
        (Client::builder().with_client_certificate(pem, pem), "with_client_certificate"),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with(setting) && error.contains("needs the cargo feature `tls`"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// A protocol that is not compiled in is refused in code, and in the environment said once and replaced by the
/// default.
#[cfg(not(feature = "grpc"))]
#[test]
fn grpc_that_is_not_compiled_in_is_named_with_its_feature() {
    let name = "grpc_that_is_not_compiled_in_is_named_with_its_feature";
    if let Ok(endpoint) = std::env::var("OTLP_TEST_ENDPOINT") {
        let client = builder(&endpoint).build().unwrap();
        record(&client, 10);
        assert!(client.shutdown(LONG).is_complete());
        return;
    }
    let error = Client::builder().with_grpc_transport().build().unwrap_err().to_string();
    assert!(error.contains("turn on the cargo feature `grpc`"), "{error}");
    let (endpoint, served) = receiver(vec![(200, Vec::new())]);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture"]).env("OTLP_TEST_ENDPOINT", endpoint);
    let output = child.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("cargo feature `grpc`").count(), 1, "{said}");
    assert_eq!(served.join().unwrap().iter().flat_map(spans).count(), 10);
}

/// Kilobytes of this process's memory that are in no file, and the names of our threads.
#[cfg(target_os = "linux")]
fn held() -> (i64, Vec<String>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    (line.split_whitespace().nth(1).unwrap().parse().unwrap(), names.filter(|name| name.starts_with("otlp-")).collect())
}

/// Runs the test `name` once more in a process of its own, in which it answers the receiver's endpoint; 10 spans arrive
/// there.
#[cfg(target_os = "linux")]
fn in_a_process_of_its_own(name: &str) -> Option<String> {
    if let Ok(endpoint) = std::env::var("OTLP_TEST_ENDPOINT") {
        return Some(endpoint);
    }
    let (endpoint, served) = receiver(vec![(200, Vec::new())]);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let status = child.args([name, "--exact"]).env("OTLP_TEST_ENDPOINT", endpoint).status().unwrap();
    assert!(status.success());
    assert_eq!(served.join().unwrap().iter().flat_map(spans).count(), 10);
    None
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_with_a_few_spans_has_one_thread_more_and_a_megabyte_at_most() {
    let name = "a_program_with_a_few_spans_has_one_thread_more_and_a_megabyte_at_most";
    let Some(endpoint) = in_a_process_of_its_own(name) else { return };
    let (before, threads) = held();
    assert_eq!(threads, Vec::<String>::new());
    let client = builder(&endpoint).build().unwrap();
    record(&client, 10);
    assert!(client.flush(LONG).is_complete());
    let (after, threads) = held();
    assert_eq!(threads, ["otlp-worker-0\n"]);
    assert!(after - before <= 1024, "{} KiB", after - before);
    assert!(client.shutdown(LONG).is_complete());
}

/// How often our threads went to sleep so far.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses = tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap());
    let ours = statuses.filter(|status| status.starts_with("Name:\totlp-"));
    let count = |status: String| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    ours.map(count).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_has_nothing_to_do_does_not_wake_up() {
    let Some(endpoint) = in_a_process_of_its_own("a_client_that_has_nothing_to_do_does_not_wake_up") else { return };
    let client = builder(&endpoint).build().unwrap();
    record(&client, 10);
    assert!(client.flush(LONG).is_complete());
    // Until it has put everything away, and for as long as it takes to see that it stays so.
    let rests = || {
        let before = sleeps();
        thread::sleep(Duration::from_secs(1));
        before > 0 && sleeps() == before
    };
    assert!((0..10).any(|_| rests()), "it wakes up every second");
    assert!(client.shutdown(LONG).is_complete());
}
