//! What the client sends, read by implementations that this crate has nothing to do with: the Python classes of
//! `opentelemetry-proto`, and over gRPC a server of `grpcio` too.
//!
//! `OTLP_TEST_PYTHON` names the interpreter (default `python3`). Without the packages the tests are skipped, or
//! fail if `OTLP_REQUIRE_INTEROP=1`.
#![cfg(feature = "testing")]

#[cfg(feature = "grpc")]
#[path = "interop/grpc.rs"]
mod grpc;
#[cfg(feature = "grpc")]
#[path = "interop/peer.rs"]
mod peer;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use otlp::{
    Client, ClientBuilder, Compression, Event, KeyValue, Link, Scope, SpanContext, SpanData, SpanId, SpanKind, Status,
    TraceId, Value,
};

/// Long enough for anything that is not stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// The JSON that `decode.py` prints, in the form it prints it in.
mod json {
    pub(super) fn text(text: &str) -> String {
        let mut json = String::from('"');
        for unit in text.encode_utf16() {
            match u8::try_from(unit).map(char::from) {
                Ok('"') => json.push_str("\\\""),
                Ok('\\') => json.push_str("\\\\"),
                Ok('\n') => json.push_str("\\n"),
                Ok('\r') => json.push_str("\\r"),
                Ok('\t') => json.push_str("\\t"),
                Ok('\u{8}') => json.push_str("\\b"),
                Ok('\u{c}') => json.push_str("\\f"),
                Ok(plain @ ' '..='~') => json.push(plain),
                _ => json.push_str(&format!("\\u{unit:04x}")),
            }
        }
        json.push('"');
        json
    }

    pub(super) fn array(values: impl IntoIterator<Item = String>) -> String {
        format!("[{}]", values.into_iter().collect::<Vec<_>>().join(","))
    }

    pub(super) fn object<const N: usize>(mut members: [(&str, String); N]) -> String {
        members.sort();
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
        format!("{{{}}}", members.join(","))
    }
}

use json::{array, object, text};

fn hex(bytes: &[u8]) -> String {
    text(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn value(value: &Value<'_>) -> String {
    fn many<T>(values: &[T], each: impl Fn(&T) -> String) -> String {
        object([("array", array(values.iter().map(each)))])
    }
    let double = |number: &f64| object([("double", hex(&number.to_bits().to_be_bytes()))]);
    let int = |number: &i64| object([("int", text(&number.to_string()))]);
    let bool = |flag: &bool| object([("bool", flag.to_string())]);
    let string = |string: &str| object([("string", text(string))]);
    match value {
        Value::Empty => object([("empty", "true".to_owned())]),
        Value::String(value) => string(value),
        Value::Bool(value) => bool(value),
        Value::I64(value) => int(value),
        Value::F64(value) => double(value),
        Value::Bytes(bytes) => object([("bytes", hex(bytes))]),
        Value::Strs(values) => many(values, |value| string(value)),
        Value::Strings(values) => many(values, |value| string(value)),
        Value::Bools(values) => many(values, bool),
        Value::I64s(values) => many(values, int),
        Value::F64s(values) => many(values, double),
        Value::List(values) => many(values, self::value),
        Value::Map(entries) => object([("map", attributes(entries))]),
        other => panic!("{other:?} is new"),
    }
}

/// In the order of the last occurrence of each key.
fn attributes(entries: &[KeyValue<'_>]) -> String {
    let is_last = |at: usize| entries[at + 1..].iter().all(|later| later.key != entries[at].key);
    let last = entries.iter().enumerate().filter(|(at, _)| is_last(*at)).map(|(_, entry)| entry);
    array(last.map(|entry| array([text(&entry.key), value(&entry.value)])))
}

fn nanos(time: SystemTime) -> String {
    text(&time.duration_since(UNIX_EPOCH).expect("after 1970").as_nanos().to_string())
}

/// What the receiver has to see of `span`, of a client whose resource is `resource`.
fn line(span: &SpanData, scope: &ScopeParts, resource: &[KeyValue<'_>]) -> String {
    let flags = |flags: u8, remote: bool| (u32::from(flags) | if remote { 0x300 } else { 0x100 }).to_string();
    let parent = span.parent.as_ref();
    let event = |event: &Event| {
        object([
            ("time", nanos(event.time)),
            ("name", text(&event.name)),
            ("attributes", attributes(&event.attributes)),
        ])
    };
    let link = |link: &Link| {
        object([
            ("trace_id", hex(link.context.trace_id().as_bytes())),
            ("span_id", hex(link.context.span_id().as_bytes())),
            ("trace_state", text("")),
            ("flags", flags(link.context.trace_flags(), link.context.is_remote())),
            ("attributes", attributes(&link.attributes)),
        ])
    };
    let (code, message) = match &span.status {
        Status::Unset => ("0", ""),
        Status::Ok => ("1", ""),
        Status::Error(message) => ("2", message.as_ref()),
    };
    object([
        ("resource", attributes(resource)),
        ("resource_schema_url", text("")),
        (
            "scope",
            object([
                ("name", text(&scope.name)),
                ("version", text(&scope.version)),
                ("schema_url", text(&scope.schema_url)),
                ("attributes", attributes(&scope.attributes)),
            ]),
        ),
        ("trace_id", hex(span.context.trace_id().as_bytes())),
        ("span_id", hex(span.context.span_id().as_bytes())),
        ("trace_state", text("")),
        ("parent_span_id", parent.map_or_else(|| text(""), |parent| hex(parent.span_id().as_bytes()))),
        ("flags", flags(span.context.trace_flags(), parent.is_some_and(SpanContext::is_remote))),
        ("name", text(&span.name)),
        ("kind", (span.kind as u8).to_string()),
        ("start", nanos(span.start)),
        ("end", nanos(span.end)),
        ("attributes", attributes(&span.attributes)),
        ("events", array(span.events.iter().map(event))),
        ("links", array(span.links.iter().map(link))),
        ("dropped", "[0,0,0]".to_owned()),
        ("status", array([code.to_owned(), text(message)])),
    ])
}

/// A scope, and what it was made of.
#[derive(Clone, Default)]
struct ScopeParts {
    name: String,
    version: String,
    schema_url: String,
    attributes: Vec<KeyValue<'static>>,
}

impl ScopeParts {
    fn scope(&self) -> Scope {
        let scope =
            Scope::new(self.name.clone()).with_version(self.version.clone()).with_schema_url(self.schema_url.clone());
        self.attributes.iter().cloned().fold(scope, Scope::with_attribute)
    }
}

/// Scopes that differ in one thing each.
fn scopes() -> Vec<ScopeParts> {
    let plain = ScopeParts { name: "checkout".to_owned(), ..ScopeParts::default() };
    vec![
        ScopeParts::default(),
        ScopeParts { version: "1.2.3".to_owned(), ..plain.clone() },
        ScopeParts { schema_url: "https://opentelemetry.io/schemas/1.44.0".to_owned(), ..plain.clone() },
        ScopeParts { attributes: vec![KeyValue::new("k", vec![1, 2]), KeyValue::new("日", "本")], ..plain.clone() },
        plain,
    ]
}

fn resource() -> Vec<KeyValue<'static>> {
    vec![
        KeyValue::new("service.name", "interop"),
        KeyValue::new("telemetry.sdk.name", "otlp"),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("host.name", "höst"),
        KeyValue::new("process.command_args", vec!["a", ""]),
    ]
}

fn builder(endpoint: &str, compression: Compression) -> ClientBuilder {
    Client::builder()
        .with_endpoint(endpoint)
        .with_compression(compression)
        .with_service_name("interop")
        .with_resource_detectors([])
        .with_resource_attribute(KeyValue::new("host.name", "höst"))
        .with_resource_attribute(KeyValue::new("process.command_args", vec!["a", ""]))
        .with_worker_count(1)
}

/// Attributes of every type, with the values that are easiest to get wrong.
fn every_type() -> Vec<KeyValue<'static>> {
    let nested = (0..20).fold(Value::from(1), |inner, level| match level % 2 {
        0 => vec![Value::Empty, inner, "beside".into()].into(),
        _ => vec![KeyValue::new("inner", inner), KeyValue::new("empty", Value::Map(Vec::new()))].into(),
    });
    vec![
        KeyValue::new("empty", Value::Empty),
        KeyValue::new("string", "日本語 💼 \0 \" \\ \u{7f} \u{1b}\r\n\t"),
        KeyValue::new("string.empty", ""),
        KeyValue::new("string.127", "x".repeat(127)),
        KeyValue::new("string.128", "x".repeat(128)),
        KeyValue::new("string.16384", "é".repeat(8192)),
        KeyValue::new("bool.true", true),
        KeyValue::new("bool.false", false),
        KeyValue::new("int.min", i64::MIN),
        KeyValue::new("int.max", i64::MAX),
        KeyValue::new("int.zero", 0),
        KeyValue::new("int.minus", -1),
        KeyValue::new("int.large", u64::MAX),
        KeyValue::new("double.nan", f64::NAN),
        KeyValue::new("double.inf", f64::NEG_INFINITY),
        KeyValue::new("double.zero", -0.0),
        KeyValue::new("double.small", f64::MIN_POSITIVE / 2.0),
        KeyValue::new("bytes", b"\0\xff\x80"),
        KeyValue::new("bytes.empty", Vec::<u8>::new()),
        KeyValue::new("strs", ["", "a", "日"]),
        KeyValue::new("strings", vec![String::new(), "x".repeat(200)]),
        KeyValue::new("bools", [true, false]),
        KeyValue::new("ints", [i64::MIN, 0, i64::MAX]),
        KeyValue::new("doubles", [f64::INFINITY, -0.0, 1.5]),
        KeyValue::new("array.empty", Vec::<i64>::new()),
        KeyValue::new("array.mixed", vec![Value::from(1), "a".into(), Value::Empty, vec![1.5].into()]),
        KeyValue::new("map", vec![KeyValue::new("a", 1), KeyValue::new("a", 2), KeyValue::new("b", Value::Empty)]),
        KeyValue::new("map.empty", Value::Map(Vec::new())),
        KeyValue::new("nested", nested),
        KeyValue::new("ключ", "key beyond ASCII"),
        KeyValue::new("k".repeat(128), "long key"),
    ]
}

fn context(id: u8, flags: u8, remote: bool) -> SpanContext {
    SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), flags, remote)
}

fn at(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_000 + nanos)
}

/// One span of each sort; contexts are those of `export_spans` and replaced where the tracer makes them.
fn spans() -> Vec<SpanData> {
    let mut next = 0;
    let mut span = |name: String| {
        next += 1;
        let data = SpanData::new(context(next, 3, false), name);
        data.with_times(at(next.into()), at(1_000_000_001 + u64::from(next)))
    };
    let mut spans = vec![
        span("plain".to_owned()),
        span("every type of attribute".to_owned()).with_attributes(every_type()),
        span("child of a remote span".to_owned()).with_parent(context(200, 3, true)),
        span("child of a local span".to_owned()).with_parent(context(201, 1, false)),
        span("events in the order of the calls".to_owned())
            .with_event(Event::new("late", at(9)).with_attributes(every_type()))
            .with_event(Event::new("early", at(1)))
            .with_event(Event::new("", at(0)).with_attribute("k", 1).with_attribute("k", "b")),
        span("links".to_owned())
            .with_link(Link::new(context(210, 0, true)).with_attributes(every_type()))
            .with_link(Link::new(context(211, 3, false)))
            .with_link(Link::new(context(212, 1, true)).with_attribute("k", 1).with_attribute("k", 2)),
        span("overwritten".to_owned()).with_attribute("k", 1).with_attribute("k", "b"),
        span("fine".to_owned()).with_status(Status::Ok),
        span("failed silently".to_owned()).with_status(Status::error("")),
        span("failed".to_owned()).with_status(Status::error("because: 日本語\n".repeat(20))),
        span("n".repeat(127)),
        span("n".repeat(128)),
        span("名前 💼\0".to_owned()),
    ];
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    spans.extend([Internal, Server, Client, Producer, Consumer].map(|kind| span(format!("{kind:?}")).with_kind(kind)));
    spans
}

/// A request as it came over the wire.
struct RawRequest {
    encoding: String,
    body: Vec<u8>,
}

/// Accepts one connection at `listener`, and answers and hands on every request that comes over it.
fn serve(listener: TcpListener) -> mpsc::Receiver<RawRequest> {
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        while let Some(request) = read_request(&mut reader) {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("an open connection");
            sender.send(request).expect("somebody waits");
        }
    });
    requests
}

/// The next request; `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> Option<RawRequest> {
    let (mut length, mut encoding) = (0, "identity".to_owned());
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a number"),
            "content-encoding" => value.clone_into(&mut encoding),
            "content-type" => assert_eq!(value, "application/x-protobuf"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Some(RawRequest { encoding, body })
}

/// The Python interpreter, if it has the package.
fn python() -> Option<String> {
    let python = env::var("OTLP_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    has(&python, "import opentelemetry.proto.collector.trace.v1.trace_service_pb2", "decode OTLP").then_some(python)
}

/// Whether the interpreter has what it needs to `purpose`. Says so if it has not, and fails where it has to.
fn has(python: &str, import: &str, purpose: &str) -> bool {
    let reason = match Command::new(python).args(["-c", import]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let last = reason.lines().last().unwrap_or_default();
    let required = env::var("OTLP_REQUIRE_INTEROP").is_ok_and(|required| required == "1");
    assert!(!required, "{python} cannot {purpose}: {last}");
    eprintln!("skipped: {python} cannot {purpose}: {last}");
    false
}

/// What `decode.py` says about a request.
struct Decoded {
    spans: Vec<String>,
    /// Bytes of the message as it came, and as Python writes it.
    sizes: (usize, usize),
}

fn decode(python: &str, request: &RawRequest) -> Decoded {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/decode.py");
    let mut child = Command::new(python)
        .args([script, &request.encoding])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an interpreter");
    child.stdin.take().expect("piped").write_all(&request.body).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "decode.py failed");
    let mut spans: Vec<_> = String::from_utf8(output.stdout).expect("ASCII").lines().map(str::to_owned).collect();
    let sizes = spans.pop().expect("a last line");
    let (received, written) = sizes.split_once(' ').expect("two sizes");
    Decoded { spans, sizes: (received.parse().expect("a number"), written.parse().expect("a number")) }
}

/// What was sent over `requests` until there were `count` spans, each request in the given encoding.
fn decode_all(python: &str, requests: &mpsc::Receiver<RawRequest>, count: usize, encoding: &str) -> Decoded {
    let mut all = Decoded { spans: Vec::new(), sizes: (0, 0) };
    while all.spans.len() < count {
        let request = requests.recv_timeout(PATIENCE).expect("a request");
        assert_eq!(request.encoding, encoding);
        let decoded = decode(python, &request);
        all.spans.extend(decoded.spans);
        all.sizes = (all.sizes.0 + decoded.sizes.0, all.sizes.1 + decoded.sizes.1);
    }
    all
}

fn assert_same(mut read: Vec<String>, mut expected: Vec<String>, route: &str) {
    read.sort();
    expected.sort();
    assert_eq!(read.len(), expected.len(), "{route}");
    for (read, expected) in read.iter().zip(&expected) {
        let same = read.bytes().zip(expected.bytes()).take_while(|(read, expected)| read == expected).count();
        let around = |text: &str| text[same.saturating_sub(80).min(text.len())..(same + 80).min(text.len())].to_owned();
        assert!(read == expected, "{route}: …{}…\nis not …{}…", around(read), around(expected));
    }
    println!("{route}: {} spans compared", read.len());
}

/// How requests are compressed, and how HTTP calls that.
const ENCODINGS: [(Compression, &str); 2] = [(Compression::None, "identity"), (Compression::Gzip, "gzip")];

/// Those that are compiled in and that this interpreter can read.
fn encodings(python: &str) -> Vec<(Compression, &'static str)> {
    let mut encodings = ENCODINGS.to_vec();
    if cfg!(feature = "zstd") && has(python, "import zstandard", "decode zstd") {
        encodings.push((Compression::Zstd, "zstd"));
    }
    encodings
}

/// A client and the requests it makes.
fn client_and_requests(compression: Compression) -> (Client, mpsc::Receiver<RawRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = builder(&format!("http://{}", listener.local_addr().expect("bound")), compression);
    (client.with_http_transport().build().expect("valid settings"), serve(listener))
}

#[test]
fn another_implementation_reads_recorded_spans_as_they_were_made() {
    // ENC-01 to ENC-08, ATTR-02, ATTR-03, SPAN-04, SPAN-09, SPAN-11 to SPAN-13
    let Some(python) = python() else { return };
    for (compression, encoding) in encodings(&python) {
        let (client, requests) = client_and_requests(compression);
        let mut expected = Vec::new();
        for (number, scope) in scopes().iter().enumerate() {
            let tracer = client.tracer(scope.scope());
            for mut data in spans() {
                let mut builder = tracer.span("renamed later").kind(data.kind).start_time(data.start);
                if let Some(parent) = &data.parent {
                    builder = builder.parent(parent);
                }
                // Half of it is given at the start and half of it later.
                let early = data.attributes.len() / 2;
                builder = builder.attributes(data.attributes[..early].to_vec());
                let mut span = builder.start();
                span.set_attributes(data.attributes[early..].to_vec());
                data.events.iter().for_each(|event| {
                    span.add_event_at(&event.name, event.time, &event.attributes);
                });
                data.links.iter().for_each(|link| {
                    span.add_link(&link.context, &link.attributes);
                });
                data.name = format!("{} {number}", data.name).into();
                span.set_status(data.status.clone()).update_name(&data.name);
                data.context = span.context();
                span.end_at(data.end);
                if let Some(parent) = &data.parent {
                    assert_eq!(data.context.trace_id(), parent.trace_id());
                }
                expected.push(line(&data, scope, &resource()));
            }
        }
        client.flush(PATIENCE);
        let decoded = decode_all(&python, &requests, expected.len(), encoding);
        assert_same(decoded.spans, expected, &format!("recorded, {encoding}"));
    }
}

/// Every span in every scope, and the lines that stand for them.
fn complete_spans() -> (Vec<SpanData>, Vec<String>) {
    let all = scopes().into_iter().flat_map(|parts| spans().into_iter().map(move |span| (span, parts.clone())));
    all.map(|(span, parts)| {
        let line = line(&span, &parts, &resource());
        (span.with_scope(parts.scope()), line)
    })
    .unzip()
}

#[test]
fn another_implementation_reads_complete_spans_as_they_were_given() {
    // ENC-01 to ENC-08
    let Some(python) = python() else { return };
    for (compression, encoding) in encodings(&python) {
        let (client, requests) = client_and_requests(compression);
        let (given, expected) = complete_spans();
        let report = client.export_spans(&given).expect("accepted");
        assert_eq!(report.accepted, given.len() as u64);
        let decoded = decode_all(&python, &requests, given.len(), encoding);
        assert_same(decoded.spans, expected, &format!("exported, {encoding}"));
        // Python leaves the name of an event out if it is empty, which reads the same. Nothing else differs.
        let nameless = given.iter().flat_map(|span| &span.events).filter(|event| event.name.is_empty()).count();
        let (received, written) = decoded.sizes;
        assert_eq!(received, written + 2 * nameless);
    }
}

#[test]
fn another_implementation_reads_a_buffer_as_it_was_written() {
    // ENC-01 to ENC-08
    let Some(python) = python() else { return };
    for (compression, encoding) in encodings(&python) {
        let (client, requests) = client_and_requests(compression);
        let mut buffer = client.get_zero_copy_buffer();
        let mut expected = Vec::new();
        for parts in scopes().iter().chain(&scopes()) {
            let given: Vec<_> = spans().into_iter().map(|span| span.with_scope(parts.scope())).collect();
            expected.extend(given.iter().map(|span| line(span, parts, &resource())));
            buffer.write_spans(&given).expect("there is room");
        }
        assert_eq!(client.send_buffer(buffer).expect("accepted").accepted, expected.len() as u64);
        let decoded = decode_all(&python, &requests, expected.len(), encoding);
        assert_same(decoded.spans, expected, &format!("buffered, {encoding}"));
    }
}
