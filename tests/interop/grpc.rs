//! Against a server of grpcio, which is the C implementation of gRPC that most other languages have as well.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, Compression, DropReason, RetryConfig, SpanContext, SpanData, SpanId, TraceId,
    config::MonitoringConfig, testing::Receiver,
};

use super::{PATIENCE, assert_same, builder, complete_spans, has, line, python, resource};

/// The largest message that a server takes unless it is told otherwise.
const USUAL_LIMIT: usize = 4 * 1024 * 1024;

/// One call that a server was made, as `grpc_server.py` tells it.
struct Call {
    /// Each span that came with it, if those are printed.
    spans: Vec<String>,
    told: String,
}

impl Call {
    /// What is told under a name, as it stands in JSON.
    fn get(&self, name: &str) -> &str {
        let name = format!("\"{name}\":");
        let at = self.told.find(&name).unwrap_or_else(|| panic!("no {name} in {}", self.told)) + name.len();
        let value = &self.told[at..];
        let end = value.find([',', '}']).expect("an end");
        value[..end].trim_matches('"')
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().expect("a number")
    }
}

/// A server of grpcio in a process of its own, which ends with it.
struct Server {
    child: Child,
    endpoint: String,
    calls: mpsc::Receiver<Call>,
}

impl Server {
    fn start(python: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(python)
            .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/grpc_server.py")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an interpreter");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.next().expect("a port");
        let (sender, calls) = mpsc::channel();
        thread::spawn(move || {
            let mut spans = Vec::new();
            for line in lines {
                match line.strip_prefix("call ") {
                    Some(told) => {
                        let _ = sender.send(Call { spans: std::mem::take(&mut spans), told: told.to_owned() });
                    }
                    None => spans.push(line),
                }
            }
        });
        Self { child, endpoint: format!("http://127.0.0.1:{port}"), calls }
    }

    /// The next call.
    #[track_caller]
    fn call(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// Every call that was made, once the server has ended.
    fn calls(mut self) -> Vec<Call> {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "grpc_server.py: {status}");
        let calls = std::mem::replace(&mut self.calls, mpsc::channel().1);
        calls.iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter, if it has what the server needs.
fn python_with_grpc() -> Option<String> {
    let python = python()?;
    has(&python, "import grpc, grpc_status", "serve gRPC").then_some(python)
}

/// Retries soon; every retry is over before a test's patience is.
fn soon() -> RetryConfig {
    let moment = Duration::from_millis(20);
    RetryConfig { initial_interval: moment, max_interval: moment, ..RetryConfig::default() }
}

fn client(server: &Server, compression: Compression) -> Client {
    let builder = builder(&server.endpoint, compression).with_grpc_transport().with_retry_config(soon());
    builder.build().expect("valid settings")
}

/// Complete spans that are told apart by their ids, each with text of so many bytes that hardly compresses.
fn large(count: u8, bytes: usize) -> Vec<SpanData> {
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 33) as u8 % 95)
    };
    let span = |number: u8| {
        let context = SpanContext::new(TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]), 1, false);
        let text: String = (0..bytes).map(|_| letter()).collect();
        SpanData::new(context, "large").with_attribute("text", text)
    };
    (1..=count).map(span).collect()
}

/// The accounting identity.
#[track_caller]
fn assert_accounted(client: &Client) -> otlp::Snapshot {
    let stats = client.stats();
    assert_eq!(stats.ended, stats.exported + stats.dropped.total() + stats.queued + stats.spooled, "{stats:?}");
    stats
}

#[test]
fn a_server_of_grpc_reads_spans_as_they_were_given() {
    // ENC-01 to ENC-08
    let Some(python) = python_with_grpc() else { return };
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::start(&python, &["--spans"]);
        let client = client(&server, compression);
        let (given, expected) = complete_spans();
        let report = client.export_spans(&given).expect("accepted");
        assert_eq!(report.accepted, given.len() as u64);
        let call = server.call();
        let stats = assert_accounted(&client);
        assert_eq!(stats.uncompressed_bytes, call.number("bytes"));
        assert_eq!(stats.sent_bytes < stats.uncompressed_bytes, compression != Compression::None, "{stats:?}");
        assert!((1..=10_000).contains(&call.number("left_ms")), "the deadline is told: {}", call.told);
        assert_same(call.spans, expected, &format!("over gRPC, {compression}"));
        assert_eq!(server.calls().len(), 0, "one call");
    }
}

#[test]
fn a_partial_success_of_a_grpc_server_is_counted_and_not_sent_again() {
    // GRPC-05, RTY-05, RTY-06
    let Some(python) = python_with_grpc() else { return };
    // Answers are compressed if that makes them smaller.
    let message = "too many attributes; ".repeat(10);
    let answers = format!(r#"[{{"rejected": 2, "message": "{message}"}}]"#);
    for compressed in [&[][..], &["--gzip"]] {
        let arguments = [&["--answers", &answers], compressed].concat();
        let server = Server::start(&python, &arguments);
        let client = client(&server, Compression::Gzip);
        let report = client.export_spans(large(5, 10)).expect("accepted in part");
        assert_eq!((report.accepted, report.rejected), (3, 2), "{compressed:?}");
        assert_eq!(report.message.trim_end(), message.trim_end(), "{compressed:?}");
        // Recorded ones count alike: the server has no more answers of its own.
        client.tracer("test").start("span").end();
        assert_eq!(client.flush(PATIENCE).exported, 4, "of both");
        let stats = assert_accounted(&client);
        assert_eq!((stats.exported, stats.dropped.get(DropReason::Rejected)), (4, 2), "{stats:?}");
        assert_eq!(server.calls().len(), 2, "none is sent again");
    }
}

#[test]
fn a_message_beyond_the_limit_of_a_grpc_server_is_halved_until_it_fits() {
    // GRPC-05
    let Some(python) = python_with_grpc() else { return };
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::start(&python, &["--spans"]);
        // What is packed is smaller unless it may be larger.
        let batch = BatchConfig { max_batch_bytes: 64 * 1024 * 1024, ..BatchConfig::default() };
        let builder = builder(&server.endpoint, compression).with_grpc_transport().with_retry_config(soon());
        let client = builder.with_batch_config(batch).build().expect("valid settings");
        let given = large(10, 1024 * 1024);
        let report = client.export_spans(&given).expect("accepted in parts");
        assert_eq!(report.accepted, 10, "{compression}: {report:?}");
        let stats = assert_accounted(&client);
        assert_eq!((stats.exported, stats.possible_duplicates), (10, 0), "{compression}: {stats:?}");
        let calls = server.calls();
        // Some were refused.
        assert!(calls.len() > 2 && stats.requests > calls.len() as u64, "{} calls: {stats:?}", calls.len());
        assert!(calls.iter().all(|call| call.number("bytes") <= USUAL_LIMIT as u64));
        let arrived: Vec<_> = calls.into_iter().flat_map(|call| call.spans).collect();
        let scope = super::ScopeParts::default();
        let expected = given.iter().map(|span| line(span, &scope, &resource())).collect();
        assert_same(arrived, expected, &format!("in halves, {compression}"));
    }
}

#[test]
fn connections_that_a_grpc_server_ends_by_their_age_lose_nothing() {
    let Some(python) = python_with_grpc() else { return };
    // With an answer that takes its time calls are under way when a connection has reached its age.
    for grace in [&[][..], &["--option", "grpc.max_connection_age_grace_ms", "100"]] {
        let age = ["--spans", "--delay-ms", "5", "--option", "grpc.max_connection_age_ms", "300"];
        let server = Server::start(&python, &[&age, grace].concat());
        let builder = builder(&server.endpoint, Compression::Gzip).with_grpc_transport().with_retry_config(soon());
        let client = builder.with_worker_count(2).build().expect("valid settings");
        let tracer = client.tracer("test");
        let begun = Instant::now();
        let mut made = HashSet::new();
        while begun.elapsed() < Duration::from_secs(3) {
            for _ in 0..20 {
                let span = tracer.start("span");
                assert!(made.insert(super::hex(span.context().span_id().as_bytes())));
                span.end();
            }
            client.flush(PATIENCE);
            // Some are made so that they find a connection that was idle.
            if made.len() % 200 == 0 {
                thread::sleep(Duration::from_millis(50));
            }
        }
        client.flush(PATIENCE);
        let stats = assert_accounted(&client);
        let of = made.len() as u64;
        assert_eq!((stats.ended, stats.exported, stats.dropped.total()), (of, of, 0), "{stats:?}");
        // The client looks for a connection that was ended while it was idle when it needs one.
        assert!(stats.connections > 3, "{stats:?}");
        let calls = server.calls();
        let mut arrived: Vec<_> = calls.iter().flat_map(|call| &call.spans).map(|span| span_id(span)).collect();
        let all = arrived.len() as u64;
        arrived.sort();
        arrived.dedup();
        assert_eq!(arrived.len(), made.len());
        assert!(arrived.iter().all(|id| made.contains(*id)));
        assert!(all - of <= stats.possible_duplicates, "{} arrived twice: {stats:?}", all - of);
        println!("{of} spans over connections of 300 ms, {} arrived twice", all - of);
    }
}

/// The id of a span, as `decode.py` prints it.
fn span_id(span: &str) -> &str {
    let at = span.rfind("\"span_id\":").expect("every span has one") + "\"span_id\":".len();
    &span[at..at + 18]
}

#[cfg(feature = "zstd")]
#[test]
fn a_grpc_server_that_cannot_read_zstd_gets_gzip() {
    let Some(python) = python_with_grpc() else { return };
    let server = Server::start(&python, &["--spans"]);
    let client = client(&server, Compression::Zstd);
    let given = large(20, 1000);
    for _ in 0..2 {
        assert_eq!(client.export_spans(&given).expect("accepted").accepted, 20);
    }
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.dropped.total()), (40, 0), "{stats:?}");
    assert!(stats.sent_bytes < stats.uncompressed_bytes, "compressed all the same: {stats:?}");
    assert_eq!(stats.requests, 3, "it is not tried again: {stats:?}");
    let arrived: Vec<_> = server.calls().into_iter().flat_map(|call| call.spans).collect();
    let scope = super::ScopeParts::default();
    let expected = given.iter().chain(&given).map(|span| line(span, &scope, &resource())).collect();
    assert_same(arrived, expected, "after zstd was refused");
}

#[test]
fn the_status_of_a_grpc_server_decides_whether_there_is_another_attempt() {
    // GRPC-02 to GRPC-04
    let Some(python) = python_with_grpc() else { return };
    let pause = 700;
    let with_pause = format!(r#"[{{"code": 8, "pause_ms": {pause}}}]"#);
    let unavailable_with_pause = format!(r#"[{{"code": 14, "pause_ms": {pause}}}]"#);
    // The answers, how many attempts there are, and the least time between them. Another node may know better who asks, and
    // is asked once.
    let cases = [
        (r#"[{"code": 3, "message": "no such thing"}]"#, 1, 0),
        (r#"[{"code": 8, "message": "out of quota"}]"#, 1, 0),
        (&with_pause, 2, pause),
        (r#"[{"code": 14, "message": "restarting"}]"#, 2, 0),
        (r#"[{"code": 14}, {"code": 4}, {"code": 1}, {"code": 10}, {"code": 15}, {"code": 11}]"#, 7, 0),
        (&unavailable_with_pause, 2, pause),
        (r#"[{"code": 16, "message": "who are you?"}, {"code": 16}, {"code": 16}]"#, 2, 0),
        (r#"[{"code": 13}, {"code": 13}, {"code": 13}]"#, 2, 0),
    ];
    for (answers, attempts, least) in cases {
        let arrives = answers.matches("code").count() < attempts;
        for recorded in [false, true] {
            let server = Server::start(&python, &["--answers", answers]);
            let client = client(&server, Compression::Gzip);
            if recorded {
                client.tracer("test").start("span").end();
                client.flush(PATIENCE);
            } else {
                match client.export_spans(large(1, 10)) {
                    Ok(report) => assert!(arrives && report.accepted == 1, "{answers}: {report:?}"),
                    Err(error) => assert!(!arrives, "{answers}: {error}"),
                }
            }
            let stats = assert_accounted(&client);
            let (exported, refused) = if arrives { (1, 0) } else { (0, 1) };
            let refusals = stats.dropped.get(DropReason::Refused);
            assert_eq!((stats.exported, refusals), (exported, refused), "{answers}: {stats:?}");
            let calls = server.calls();
            assert_eq!(calls.len(), attempts, "{answers}");
            let gaps = calls.windows(2).map(|pair| pair[1].number("at") - pair[0].number("at"));
            assert!(gaps.into_iter().all(|gap| gap + 1 >= least), "{answers}: sooner than it was asked for");
        }
    }
}

#[test]
fn the_clients_own_metrics_arrive_at_the_metrics_service_of_a_grpc_server() {
    let Some(python) = python_with_grpc() else { return };
    let server = Server::start(&python, &[]);
    let monitoring = MonitoringConfig {
        enable_metrics: true,
        metrics_interval: Duration::from_millis(50),
        ..MonitoringConfig::default()
    };
    let builder = builder(&server.endpoint, Compression::Gzip).with_grpc_transport().with_monitoring_config(monitoring);
    let client = builder.build().expect("valid settings");
    client.tracer("test").start("span").end();
    client.flush(PATIENCE);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no metrics");
        let call = server.call();
        if call.get("method").ends_with("MetricsService/Export")
            && call.told.contains("otel.sdk.exporter.span.exported")
        {
            break;
        }
    }
    assert_eq!(assert_accounted(&client).exported, 1);
    drop(client);
    let calls = server.calls();
    assert!(calls.iter().all(|call| call.number("code") == 0));
}

#[test]
fn metadata_that_was_configured_arrives_with_each_call() {
    let Some(python) = python_with_grpc() else { return };
    let server = Server::start(&python, &[]);
    let builder = builder(&server.endpoint, Compression::Gzip).with_grpc_transport();
    let client = builder.with_header("X-Tenant", "blue green").build().expect("valid settings");
    for _ in 0..2 {
        client.export_spans(large(1, 10)).expect("accepted");
        let call = server.call();
        assert_eq!(call.get("x-tenant"), "blue green");
        assert!(call.get("user-agent").starts_with("OTel-OTLP-Exporter-Rust/"), "{}", call.told);
    }
}

#[test]
fn a_hundred_calls_at_once_of_a_client_of_grpcio_are_each_received_by_the_receiver_for_tests() {
    let Some(python) = python_with_grpc() else { return };
    // Messages that fit into one frame, and such that take several, whose frames come mixed.
    for bytes in [10, 100_000] {
        let receiver = Receiver::start().expect("a port");
        let output = Command::new(&python)
            .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/grpc_client.py")])
            .args([receiver.address().port().to_string(), "100".to_owned(), bytes.to_string()])
            .output()
            .expect("an interpreter");
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(told.trim(), "100", "{bytes}: {}", String::from_utf8_lossy(&output.stderr));
        let ids: HashSet<_> = receiver.span_ids().into_iter().collect();
        assert_eq!((ids.len(), receiver.span_count(), receiver.connections()), (100, 100, 1), "{bytes}");
        assert_eq!(receiver.errors(), Vec::<String>::new());
        assert_eq!(receiver.totals().aborted, 0);
    }
}
