//! The receiver as its users see it, through a socket or through ureq.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;

use super::{Keep, Receiver, Response};

mod calls;
mod hostile;

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn string(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn span(trace: u8, id: u8) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        name: format!("span {id}"),
        kind: 1,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: vec![string("color", "red")],
        ..Span::default()
    }
}

fn body(spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope { name: "shop".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Resource { attributes: vec![string("service.name", "checkout")], ..Resource::default() };
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A connection that sends exactly the bytes it is told to.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(receiver: &Receiver) -> Self {
        let stream = TcpStream::connect(receiver.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn post(&mut self, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.request("POST /v1/traces", &format!("content-type: application/x-protobuf\r\n{headers}"), body)
    }

    fn request(&mut self, line: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n", body.len());
        self.send(head.as_bytes());
        self.send(body);
        self.answer()
    }

    /// The status and body of the next answer.
    fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "closed after {lines:?}");
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        (status, body)
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

#[test]
fn a_plain_request_arrives_whole() {
    let receiver = Receiver::start().unwrap();
    let body = body(vec![span(1, 1), span(1, 2)]);
    let answer = ureq::post(format!("{}/v1/traces", receiver.endpoint()))
        .header("Content-Type", "application/x-protobuf")
        .header("X-Tenant", "blue")
        .send(body.as_slice())
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-protobuf");

    let [request] = receiver.requests().try_into().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!((request.number, request.connection, request.spans), (1, 1, 2));
    assert_eq!((request.encoded_len, request.decoded_len), (body.len() as u64, body.len() as u64));
    assert_eq!((request.header("X-Tenant"), request.status), (Some("blue"), Some(200)));
    assert_eq!(request.message.unwrap().encode_to_vec(), body);

    let [first, second] = receiver.spans().try_into().unwrap();
    assert_eq!((first.scope.name.as_str(), second.span.name.as_str()), ("shop", "span 2"));
    assert_eq!(first.attribute("color"), Some(&Value::StringValue("red".to_owned())));
    assert_eq!(first.resource_attribute("service.name"), Some(&Value::StringValue("checkout".to_owned())));
    assert_eq!(first.attribute("taste"), None);
    assert!(receiver.errors().is_empty());
}

#[test]
fn a_gzip_request_is_inflated_and_counted_in_both_sizes() {
    let receiver = Receiver::start().unwrap();
    let plain = body((1..=100).map(|id| span(1, id)).collect());
    let packed = gzip(&plain);
    assert_eq!(Client::connect(&receiver).post("Content-Encoding: gzip\r\n", &packed), (200, Vec::new()));
    let totals = receiver.totals();
    assert_eq!((totals.requests, totals.spans), (1, 100));
    assert_eq!((totals.encoded_bytes, totals.decoded_bytes), (packed.len() as u64, plain.len() as u64));
    assert_eq!(totals.header_bytes, receiver.requests()[0].header_len);
    assert_eq!(receiver.spans().len(), 100);
}

#[test]
fn one_connection_carries_many_requests() {
    let receiver = Receiver::start().unwrap();
    let mut client = Client::connect(&receiver);
    for id in 1..=3 {
        assert_eq!(client.post("", &body(vec![span(1, id)])).0, 200);
    }
    assert_eq!(receiver.connections(), 1);
    assert_eq!(receiver.span_ids(), [1, 2, 3].map(|id| ([1; 16], [id; 8])));
    assert_eq!(Client::connect(&receiver).post("connection: close\r\n", &body(vec![span(1, 3)])).0, 200);
    assert_eq!(receiver.connections(), 2);
    assert_eq!(receiver.requests()[3].connection, 2);
    assert_eq!(receiver.span_ids().len(), 4, "a duplicate is kept");
}

#[test]
fn a_chunked_body_is_joined() {
    let receiver = Receiver::start().unwrap();
    let body = body(vec![span(1, 1)]);
    let mut client = Client::connect(&receiver);
    client.send(b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\n");
    client.send(b"transfer-encoding: chunked\r\n\r\n");
    for chunk in body.chunks(7) {
        client.send(format!("{:x}\r\n", chunk.len()).as_bytes());
        client.send(chunk);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.answer().0, 200);
    assert_eq!(receiver.requests()[0].encoded_len, body.len() as u64);
    assert_eq!(client.post("", &body).0, 200, "the connection goes on");
}

#[test]
fn a_sender_that_waits_for_the_go_ahead_gets_it() {
    let receiver = Receiver::start().unwrap();
    let body = body(vec![span(1, 1)]);
    let mut client = Client::connect(&receiver);
    client.send(b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\nexpect: 100-continue\r\n");
    client.send(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    assert_eq!(client.answer().0, 100);
    client.send(&body);
    assert_eq!(client.answer().0, 200);
}

#[test]
fn scripted_answers_decide_which_spans_count() {
    let receiver = Receiver::builder()
        .respond_with(|request| match request.number {
            1 => Response::status(503).header("retry-after", "1"),
            _ => Response::ok(),
        })
        .start()
        .unwrap();
    let mut client = Client::connect(&receiver);
    assert_eq!(client.post("", &body(vec![span(1, 1)])).0, 503);
    assert_eq!((receiver.span_count(), receiver.spans().len(), receiver.span_ids().len()), (0, 0, 0));
    assert_eq!(client.post("", &body(vec![span(1, 1)])).0, 200);
    assert_eq!((receiver.span_count(), receiver.spans().len(), receiver.span_ids().len()), (1, 1, 1));
    let statuses: Vec<_> = receiver.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(503), Some(200)]);
    assert!(receiver.errors().is_empty());
}

#[test]
fn a_partial_success_reaches_the_sender() {
    let receiver = Receiver::builder().respond_with(|_| Response::partial_success(2, "too old")).start().unwrap();
    let (status, answer) = Client::connect(&receiver).post("", &body(vec![span(1, 1)]));
    let partial = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!((status, partial.rejected_spans, partial.error_message.as_str()), (200, 2, "too old"));
    assert_eq!(receiver.span_count(), 1);
}

#[test]
fn a_script_that_panics_is_answered_500() {
    let receiver = Receiver::builder().respond_with(|_| panic!("scripted")).start().unwrap();
    let mut client = Client::connect(&receiver);
    assert_eq!(client.post("", &body(vec![span(1, 1)])).0, 500);
    assert_eq!(receiver.errors(), ["the scripted answer to request 1 panicked"]);
    assert_eq!(client.post("", &body(vec![span(1, 1)])).0, 500, "the connection goes on");
}

#[test]
fn malformed_requests_are_refused_and_noted() {
    let receiver = Receiver::start().unwrap();
    let mut client = Client::connect(&receiver);
    let good = body(vec![span(1, 1)]);
    let protobuf = "content-type: application/x-protobuf\r\n";
    let mut cut = gzip(&good);
    cut.truncate(cut.len() - 1);
    for (line, headers, body, status, error) in [
        ("GET /v1/traces", protobuf, &[][..], 404, "only POST"),
        ("POST /v1/logs", protobuf, &good, 404, "only POST"),
        ("POST /v1/traces", "content-type: application/json\r\n", &good, 400, "application/json"),
        ("POST /v1/traces", "", &good, 400, "content-type"),
        ("POST /v1/traces", &format!("{protobuf}content-encoding: lzma\r\n"), &good, 415, "content-encoding lzma"),
        ("POST /v1/traces", &format!("{protobuf}content-encoding: gzip\r\n"), &good, 400, "does not inflate"),
        ("POST /v1/traces", &format!("{protobuf}content-encoding: gzip\r\n"), &cut, 400, "does not inflate"),
        ("POST /v1/traces", &format!("{protobuf}content-encoding: gzip\r\n"), &[], 400, "does not inflate"),
        ("POST /v1/traces", protobuf, &good[1..], 400, "does not decode"),
        ("POST /v1/traces", protobuf, &[], 400, "holds no span"),
        ("POST /v1/traces", protobuf, &body(vec![span(0, 1)]), 400, "span 1 \"span 1\": the trace id is all zero"),
    ] {
        assert_eq!(client.request(line, headers, body).0, status, "{error}");
        let errors = receiver.errors();
        assert!(errors.last().is_some_and(|last| last.contains(error)), "{errors:?}");
    }
    let requests = receiver.requests();
    assert_eq!((receiver.errors().len(), requests.len(), receiver.span_count()), (11, 11, 0));
    assert!(requests[10].message.is_some(), "what decodes can be looked at");
    assert_eq!(client.request("POST /tenant/v1/traces?a=b", protobuf, &good).0, 200, "the connection goes on");
}

#[test]
fn what_is_not_http_or_too_large_ends_the_connection_with_an_answer() {
    let receiver = Receiver::start().unwrap();
    for (bytes, status) in [
        ("\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (format!("POST /v1/traces HTTP/1.1\r\n{}", "x-pad: 0123456789\r\n".repeat(10_000)), 413),
        ("POST /v1/traces HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n".to_owned(), 413),
    ] {
        let mut client = Client::connect(&receiver);
        client.send(bytes.as_bytes());
        assert_eq!(client.answer().0, status);
        assert!(client.is_closed());
    }
    assert_eq!((receiver.errors().len(), receiver.requests().len()), (3, 1));
}

#[test]
fn a_request_that_is_cut_off_is_counted_apart() {
    let receiver = Receiver::start().unwrap();
    let mut client = Client::connect(&receiver);
    client.send(b"POST /v1/traces HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc");
    client.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
    let totals = receiver.totals();
    assert_eq!((totals.aborted, totals.requests, receiver.errors().len()), (1, 0, 0));
}

#[test]
fn waiting_ends_with_the_span_waited_for() {
    let (asked, ask) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let receiver = Receiver::builder()
        .respond_with(move |_| {
            asked.send(()).unwrap();
            gone.lock().unwrap().recv().unwrap();
            Response::ok()
        })
        .start()
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| Client::connect(&receiver).post("", &body(vec![span(1, 1), span(1, 2)])));
        ask.recv().unwrap();
        assert!(!receiver.wait_for_spans(1, Duration::ZERO));
        go.send(()).unwrap();
        assert!(receiver.wait_for_spans(2, PATIENCE));
    });
    assert!(receiver.wait_for_spans(0, Duration::ZERO));
    assert!(!receiver.wait_for_spans(3, Duration::from_millis(1)));
}

#[test]
fn an_answer_can_be_held_back() {
    let delay = Duration::from_millis(50);
    let receiver = Receiver::builder().response_delay(delay).start().unwrap();
    let start = Instant::now();
    assert_eq!(Client::connect(&receiver).post("", &body(vec![span(1, 1)])).0, 200);
    assert!(start.elapsed() >= delay);
}

#[test]
fn dropping_ends_at_once_whatever_the_connections_do() {
    let receiver = Receiver::builder().response_delay(Duration::MAX).start().unwrap();
    let mut idle = Client::connect(&receiver);
    let mut halfway = Client::connect(&receiver);
    halfway.send(b"POST /v1/tr");
    let mut waiting = Client::connect(&receiver);
    let body = body(vec![span(1, 1)]);
    waiting.send(b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\n");
    waiting.send(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    waiting.send(&body);
    assert!(receiver.wait_for_spans(1, PATIENCE));

    let (address, start) = (receiver.address(), Instant::now());
    drop(receiver);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(idle.is_closed() && halfway.is_closed() && waiting.is_closed());
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
}

#[test]
fn dropping_does_not_wait_for_a_script_that_does_not_return() {
    let (asked, ask) = mpsc::channel();
    let (never, until) = mpsc::channel::<()>();
    let until = Mutex::new(until);
    let receiver = Receiver::builder()
        .respond_with(move |_| {
            asked.send(()).unwrap();
            let _ = until.lock().unwrap().recv();
            Response::ok()
        })
        .start()
        .unwrap();
    thread::scope(|scope| {
        let mut client = Client::connect(&receiver);
        scope.spawn(move || {
            client.send(b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\n");
            let body = body(vec![span(1, 1)]);
            client.send(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            client.send(&body);
            assert!(client.is_closed());
        });
        ask.recv().unwrap();
        let address = receiver.address();
        drop(receiver);
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    });
    drop(never);
}

#[test]
fn keeping_ids_only_keeps_whole_what_belongs_to_the_first_trace() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let mut client = Client::connect(&receiver);
    assert_eq!(client.post("", &body(vec![span(7, 1), span(8, 2)])).0, 200);
    assert_eq!(client.post("content-encoding: gzip\r\n", &gzip(&body(vec![span(9, 3), span(7, 4)]))).0, 200);
    assert_eq!(client.post("", &body(vec![span(9, 5)])).0, 200);
    assert_eq!(client.post("", &body(vec![span(9, 0)])).0, 400);
    let ids: Vec<_> = receiver.span_ids().iter().map(|(trace, span)| (trace[0], span[0])).collect();
    assert_eq!(ids, [(7, 1), (8, 2), (9, 3), (7, 4), (9, 5)]);
    let whole: Vec<_> = receiver.spans().into_iter().map(|received| received.span).collect();
    assert_eq!(whole, [span(7, 1), span(7, 4)]);
    assert_eq!(receiver.span_count(), 5);
    assert!(receiver.requests().iter().all(|request| request.message.is_none()));
}

#[test]
fn keeping_ids_only_bounds_the_spans_of_the_first_trace() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let mut client = Client::connect(&receiver);
    for _ in 0..3 {
        assert_eq!(client.post("", &body(vec![span(1, 1); 400])).0, 200);
    }
    assert_eq!((receiver.spans().len(), receiver.span_ids().len()), (1_000, 1_200));
}

#[test]
fn senders_at_the_same_time_lose_nothing() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    thread::scope(|scope| {
        for thread in 1..=8 {
            let receiver = &receiver;
            scope.spawn(move || {
                let mut client = Client::connect(receiver);
                for id in 1..=50 {
                    assert_eq!(client.post("", &body(vec![span(thread, id)])).0, 200);
                }
            });
        }
    });
    let mut ids = receiver.span_ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), receiver.connections()), (400, 8));
    let numbers: Vec<_> = receiver.requests().iter().map(|request| request.number).collect();
    assert!((1..=400).all(|number| numbers.contains(&number)));
}
