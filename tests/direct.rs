//! Spans that are exported directly: what the caller is told, what is counted, what goes over the wire.
#![cfg(feature = "testing")]

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, ClientBuilder, Compression, DropReason, Error, ExportReport, LogLevel, SpanContext, SpanData,
    SpanId, TraceId, TraceState,
    testing::{ReceivedSpan, Receiver, Request, Response, generate_test_spans},
};

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn builder(receiver: &Receiver) -> ClientBuilder {
    Client::builder().with_endpoint(receiver.endpoint()).with_log_level(LogLevel::None)
}

fn answering(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> (Receiver, Client) {
    let receiver = Receiver::builder().respond_with(answer).start().unwrap();
    let client = builder(&receiver).build().unwrap();
    (receiver, client)
}

/// Checks that every span has been counted once, and answers (ended, exported).
fn counts(client: &Client) -> (u64, u64) {
    let stats = client.stats();
    assert_eq!(stats.ended, stats.exported + stats.dropped.total() + stats.queued, "{stats:?}");
    assert_eq!(stats.queued, 0, "nothing is on its way after the call");
    (stats.ended, stats.exported)
}

fn accepted(report: &ExportReport) -> (u64, u64, &str) {
    (report.accepted, report.rejected, report.message.as_str())
}

#[test]
fn every_span_is_accepted_counted_and_received_as_it_was_given() {
    // ENC-06
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    let mut spans = generate_test_spans(1_000);
    for (span, state) in spans.iter_mut().zip(["a=1,b=2", "ot=th:c"].iter().cycle()).step_by(3) {
        span.context = span.context.clone().with_trace_state(TraceState::parse(state).unwrap());
        for link in &mut span.links {
            link.context = link.context.clone().with_trace_state(TraceState::parse("link=1").unwrap());
        }
    }
    let report = client.export_spans(&spans).unwrap();
    assert_eq!(accepted(&report), (1_000, 0, ""));
    assert_eq!(counts(&client), (1_000, 1_000));
    assert!(receiver.errors().is_empty(), "{:?}", receiver.errors());
    assert_eq!(receiver.requests().len(), 1);

    let ids = |span: &SpanData| (span.context.trace_id().to_bytes(), span.context.span_id().to_bytes());
    let (mut sent, mut arrived): (Vec<_>, _) = (spans.iter().map(ids).collect(), receiver.span_ids());
    sent.sort_unstable();
    arrived.sort_unstable();
    assert_eq!(sent, arrived);
    let received = receiver.spans();
    spans.iter().for_each(|span| assert_arrived(span, &received));
}

fn assert_arrived(sent: &SpanData, received: &[ReceivedSpan]) {
    let nanos = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let id = sent.context.span_id();
    let ReceivedSpan { span, scope, .. } =
        received.iter().find(|received| received.span.span_id == id.as_bytes()).unwrap();
    let parent = sent.parent.as_ref().map_or(Vec::new(), |parent| parent.span_id().to_bytes().to_vec());
    assert_eq!((span.name.as_str(), span.kind, &span.parent_span_id), (&*sent.name, sent.kind as i32, &parent));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (nanos(sent.start), nanos(sent.end)));
    let keys = |attributes: &[otlp::KeyValue<'_>]| attributes.iter().map(|a| a.key.to_string()).collect::<Vec<_>>();
    assert_eq!(span.attributes.iter().map(|a| a.key.clone()).collect::<Vec<_>>(), keys(&sent.attributes));
    assert_eq!((span.events.len(), span.links.len()), (sent.events.len(), sent.links.len()));
    assert_eq!(span.trace_state, sent.context.trace_state().header());
    for (link, sent) in span.links.iter().zip(&sent.links) {
        assert_eq!(link.trace_state, sent.context.trace_state().header());
    }
    let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
    assert_eq!(failed, matches!(sent.status, otlp::Status::Error(_)));
    assert!(scope.name.starts_with("shop.") && scope.version == "1.2.0", "{scope:?}");
}

#[test]
fn more_spans_than_a_request_may_hold_become_several_requests() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_batch_size: 400, ..BatchConfig::default() };
    let client = builder(&receiver).with_batch_config(batch).build().unwrap();
    assert_eq!(client.export_spans(generate_test_spans(1_000)).unwrap().accepted, 1_000);
    let sizes: Vec<_> = receiver.requests().iter().map(|request| request.spans).collect();
    assert_eq!(sizes, [400, 400, 200]);
    assert_eq!(counts(&client), (1_000, 1_000));
}

#[test]
fn a_failure_in_the_middle_counts_what_was_sent_and_what_was_not_even_tried() {
    let receiver = Receiver::builder()
        .respond_with(|request| if request.number == 2 { Response::status(400) } else { Response::ok() })
        .start()
        .unwrap();
    let batch = BatchConfig { max_batch_size: 300, ..BatchConfig::default() };
    let client = builder(&receiver).with_batch_config(batch).build().unwrap();
    let answer = client.export_spans(generate_test_spans(1_000));
    assert!(matches!(answer, Err(Error::Refused { status: 400, .. })), "{answer:?}");
    assert_eq!(counts(&client), (1_000, 300));
    assert_eq!((receiver.requests().len(), receiver.span_count()), (2, 300));
}

#[test]
fn a_partial_success_is_ok_and_tells_what_was_rejected() {
    // RTY-05, RTY-06
    let (receiver, client) = answering(|_| Response::partial_success(7, "too old"));
    let report = client.export_spans(generate_test_spans(100)).unwrap();
    assert_eq!(accepted(&report), (93, 7, "too old"));
    assert_eq!(counts(&client), (100, 93));
    assert_eq!(client.stats().dropped.get(DropReason::Rejected), 7);
    assert_eq!(receiver.requests().len(), 1, "it is not sent again");
}

#[test]
fn a_hint_without_rejected_spans_is_full_acceptance() {
    // RTY-06
    let (_receiver, client) = answering(|_| Response::partial_success(0, "use gzip"));
    let report = client.export_spans(generate_test_spans(10)).unwrap();
    assert_eq!(accepted(&report), (10, 0, "use gzip"));
    assert_eq!(counts(&client), (10, 10));
}

#[test]
fn a_refusal_is_an_error_that_repeats_the_receiver_and_is_counted() {
    // RTY-03, HTTP-09
    let (receiver, client) = answering(|_| Response::status(400).body("no such tenant"));
    let error = client.export_spans(generate_test_spans(10)).unwrap_err();
    let Error::Refused { endpoint, status: 400, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!((endpoint, message.as_str()), (&format!("{}/v1/traces", receiver.endpoint()), "no such tenant"));
    assert_eq!(counts(&client), (10, 0));
    assert_eq!(client.stats().dropped.get(DropReason::Refused), 10);
    assert_eq!(receiver.requests().len(), 1, "it is not sent again");
}

#[test]
fn an_unavailable_receiver_is_asked_again_with_the_same_body_and_spans_count_once() {
    // RTY-02
    for status in [429, 502, 503, 504] {
        let (receiver, client) = answering(move |request| match request.number {
            1 => Response::status(status),
            _ => Response::ok(),
        });
        let report = client.export_spans(generate_test_spans(100)).unwrap();
        assert_eq!((accepted(&report), counts(&client)), ((100, 0, ""), (100, 100)), "{status}");
        let [first, second] = receiver.requests().try_into().unwrap();
        assert_eq!((first.status, second.status), (Some(status), Some(200)));
        assert_eq!((first.encoded_len, first.decoded_len), (second.encoded_len, second.decoded_len));
        assert!(first.message.is_some() && first.message == second.message);
        assert_eq!((client.stats().requests, receiver.span_count()), (2, 100));
    }
}

#[test]
fn nothing_is_sent_for_no_spans() {
    // HTTP-06
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    assert_eq!(client.export_spans(Vec::new()).unwrap(), ExportReport::default());
    assert!(client.shutdown(PATIENCE).is_complete());
    assert_eq!((receiver.connections(), client.stats().requests), (0, 0));
}

#[test]
fn an_invalid_id_is_told_by_its_place_and_nothing_is_sent() {
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    let mut spans = generate_test_spans(10);
    let valid = spans[3].context.clone();
    for context in [
        SpanContext::INVALID,
        SpanContext::new(TraceId::INVALID, valid.span_id(), 1, false),
        SpanContext::new(valid.trace_id(), SpanId::INVALID, 1, false),
    ] {
        spans[3].context = context;
        let answer = client.export_spans(&spans);
        assert!(matches!(answer, Err(Error::InvalidSpan { index: 3, .. })), "{answer:?}");
    }
    assert_eq!((counts(&client), receiver.connections()), ((0, 0), 0));
}

#[test]
fn a_client_that_is_shut_down_says_so_and_sends_nothing() {
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    client.export_spans(generate_test_spans(10)).unwrap();
    assert!(client.shutdown(PATIENCE).is_complete());
    let answer = client.export_spans(generate_test_spans(10));
    assert!(matches!(answer, Err(Error::Shutdown)), "{answer:?}");
    assert_eq!((counts(&client), receiver.requests().len()), ((10, 10), 1));
}

#[test]
fn a_shutdown_ends_the_wait_for_another_attempt() {
    // RTY-12
    let (asked, ask) = mpsc::channel();
    let asked = Mutex::new(asked);
    let (receiver, client) = answering(move |_| {
        asked.lock().unwrap().send(()).unwrap();
        Response::status(503).header("retry-after", "5")
    });
    let begun = Instant::now();
    let answer = thread::scope(|scope| {
        let export = scope.spawn(|| client.export_spans(generate_test_spans(10)));
        ask.recv().unwrap();
        let receipt = client.shutdown(Duration::from_millis(50));
        assert_eq!((receipt.exported, receipt.dropped.get(DropReason::Shutdown)), (0, 10));
        export.join().unwrap()
    });
    assert!(matches!(answer, Err(Error::Shutdown)), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((counts(&client), client.stats().requests, receiver.requests().len()), ((10, 0), 1, 1));
}

#[test]
fn an_unreachable_receiver_is_an_error_within_the_request_timeout() {
    // OTLPV-09, RTY-07, RTY-12
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let client = Client::builder()
        .with_endpoint(format!("http://user:secret@127.0.0.1:{port}"))
        .with_request_timeout(Duration::from_millis(300))
        .with_log_level(LogLevel::None)
        .build()
        .unwrap();
    let begun = Instant::now();
    let error = client.export_spans(generate_test_spans(10)).unwrap_err();
    // What a slow machine takes beyond the timeout is not waiting.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()) && !format!("{error} {error:?}").contains("secret"));
    assert_eq!(counts(&client), (10, 0));
    let stats = client.stats();
    assert_eq!(stats.dropped.get(DropReason::Undelivered), 10);
    assert!(stats.requests > 1, "a connection that is refused is tried again");
}

#[test]
fn a_receiver_that_does_not_answer_is_given_up_after_the_request_timeout() {
    // OTLPV-09
    let timeout = Duration::from_millis(300);
    let receiver = Receiver::builder().response_delay(Duration::MAX).start().unwrap();
    let client = builder(&receiver).with_request_timeout(timeout).build().unwrap();
    let begun = Instant::now();
    let error = client.export_spans(generate_test_spans(10)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!((timeout..Duration::from_secs(3)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(counts(&client), (10, 0));
}

#[test]
fn headers_given_in_code_and_the_user_agent_arrive() {
    // OTLPV-16, HTTP-01, HTTP-02
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).with_header("X-Tenant", "blue").with_header("api-key", "k=1").build().unwrap();
    client.export_spans(generate_test_spans(1)).unwrap();
    let [request] = receiver.requests().try_into().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!((request.header("x-tenant"), request.header("api-key")), (Some("blue"), Some("k=1")));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let user_agent = format!("OTel-OTLP-Exporter-Rust/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.header("user-agent"), Some(user_agent.as_str()));
}

#[test]
fn a_compressed_body_is_announced_and_a_plain_one_is_not() {
    // HTTP-03, OTLPV-12
    for (compression, encoding) in [(Compression::Gzip, Some("gzip")), (Compression::None, None)] {
        let receiver = Receiver::start().unwrap();
        let client = builder(&receiver).with_compression(compression).build().unwrap();
        client.export_spans(generate_test_spans(100)).unwrap();
        let [request] = receiver.requests().try_into().unwrap();
        assert_eq!(request.header("content-encoding"), encoding);
        assert_eq!(request.header("accept-encoding"), None, "a compressed answer would not be understood");
        assert_eq!((request.spans, request.encoded_len < request.decoded_len), (100, encoding.is_some()));
        let stats = client.stats();
        assert_eq!((stats.uncompressed_bytes, stats.sent_bytes), (request.decoded_len, request.encoded_len));
    }
}

#[test]
fn one_connection_serves_twenty_exports() {
    // HTTP-04
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    for _ in 0..20 {
        assert_eq!(client.export_spans(generate_test_spans(10)).unwrap().accepted, 10);
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (20, 1));
    assert_eq!(counts(&client), (200, 200));
}

#[test]
fn spans_exported_directly_take_no_room_in_the_queue_and_leave_none_behind() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_queue_size: 100, ..BatchConfig::default() };
    let client = builder(&receiver).with_batch_config(batch).build().unwrap();
    assert_eq!(client.export_spans(generate_test_spans(1_000)).unwrap().accepted, 1_000);
    client.tracer("queue").start("recorded").end();
    assert!(client.flush(PATIENCE).is_complete(), "{:?}", client.stats());
    assert_eq!(counts(&client), (1_001, 1_001));
}

#[test]
fn exports_from_several_threads_at_once_are_each_answered() {
    let receiver = Receiver::start().unwrap();
    let client = builder(&receiver).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(client.export_spans(generate_test_spans(100)).unwrap().accepted, 100);
                }
            });
        }
    });
    assert_eq!((counts(&client), receiver.span_count()), ((4_000, 4_000), 4_000));
}

#[cfg(feature = "grpc")]
#[test]
fn what_the_caller_is_told_and_what_is_counted_is_the_same_over_grpc() {
    // GRPC-02, GRPC-05
    let calling = |answer: fn(&Request) -> Response| {
        let receiver = Receiver::builder().respond_with(answer).start().unwrap();
        let client = builder(&receiver).with_grpc_transport().build().unwrap();
        (receiver, client)
    };
    let (receiver, client) = calling(|_| Response::ok());
    assert_eq!(accepted(&client.export_spans(generate_test_spans(1_000)).unwrap()), (1_000, 0, ""));
    assert_eq!((counts(&client), receiver.span_count()), ((1_000, 1_000), 1_000));
    assert!(receiver.requests()[0].path.ends_with("TraceService/Export"));

    let (receiver, client) = calling(|_| Response::partial_success(7, "too old"));
    assert_eq!(accepted(&client.export_spans(generate_test_spans(100)).unwrap()), (93, 7, "too old"));
    assert_eq!((counts(&client), receiver.requests().len()), ((100, 93), 1));
    assert_eq!(client.stats().dropped.get(DropReason::Rejected), 7);

    let (receiver, client) = calling(|_| Response::grpc(3, "no such tenant"));
    let error = client.export_spans(generate_test_spans(10)).unwrap_err().to_string();
    assert!(error.contains("no such tenant"), "{error}");
    assert_eq!((counts(&client), receiver.requests().len()), ((10, 0), 1));

    let (receiver, client) = calling(|request| match request.number {
        1 => Response::grpc(14, "busy"),
        _ => Response::ok(),
    });
    assert_eq!(accepted(&client.export_spans(generate_test_spans(100)).unwrap()), (100, 0, ""));
    assert_eq!((counts(&client), receiver.requests().len(), receiver.span_count()), ((100, 100), 2, 100));
    assert_eq!(receiver.errors(), Vec::<String>::new());
}
