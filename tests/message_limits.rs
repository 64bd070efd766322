//! The largest request and the largest answer: what is beyond them is not sent, or not read.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use faults::{Answer, FaultServer, accept, answer};
use otlp::{
    Client, ClientBuilder, Compression, DropReason, Error, KeyValue, LogLevel, RetryConfig, SpanContext, SpanData,
    SpanId, SpoolConfig, TraceId,
    config::MonitoringConfig,
    testing::{Receiver, Response},
};
use support::{LONG, SpoolDir, assert_accounted, assert_received, client_of, ids, wait_for};

const KIB: usize = 1024;

/// What a handler was told about one subject, with level `Warn` or a graver one.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn listening_to(&self, subject: &'static str, builder: ClientBuilder) -> ClientBuilder {
        let told = self.clone();
        builder.with_log_level(LogLevel::Warn).with_error_handler(move |said| {
            if said.subject() == subject {
                told.0.lock().unwrap().push(said.message().to_owned());
            }
        })
    }

    /// What was told, which is one line. It may come a moment after the spans are counted.
    #[track_caller]
    fn line(&self) -> String {
        wait_for("a line", || !self.0.lock().unwrap().is_empty());
        let told = self.0.lock().unwrap().clone();
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    }
}

/// A client whose resource is the same each time, and small.
fn plain_client_of(receiver: &Receiver) -> ClientBuilder {
    client_of(receiver).with_resource_detectors([])
}

/// Complete spans of about so many bytes each, which compress well.
fn spans(bytes: &[usize]) -> Vec<SpanData> {
    let span = |(at, bytes): (usize, &usize)| {
        let number = at as u8 + 1;
        let context = SpanContext::new(TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]), 1, false);
        let mut span = SpanData::new(context, "span");
        span.attributes = vec![KeyValue::new("text", "x".repeat(*bytes))];
        span
    };
    bytes.iter().enumerate().map(span).collect()
}

fn record(client: &Client, scope: &str, bytes: usize) -> support::Ids {
    let mut span = client.tracer(scope.to_owned()).start("span");
    span.set_attribute("text", "x".repeat(bytes));
    ids(&span.context())
}

/// The bytes of the largest request that arrived, before compression.
fn largest(receiver: &Receiver) -> usize {
    receiver.requests().iter().map(|request| request.decoded_len).max().unwrap() as usize
}

/// Ways for one span to get into a request of its own.
type Way = (&'static str, fn(&Client) -> Result<u64, Error>);
const WAYS: [Way; 3] = [
    ("recorded", |client| {
        record(client, "test", 10 * KIB);
        Ok(client.flush(LONG).exported)
    }),
    ("complete", |client| client.export_spans(spans(&[10 * KIB])).map(|report| report.accepted)),
    ("in a buffer", |client| {
        let mut buffer = client.get_zero_copy_buffer();
        buffer.write_spans(&spans(&[10 * KIB]))?;
        client.send_buffer(buffer).map(|report| report.accepted)
    }),
];

#[test]
fn a_span_beyond_the_largest_request_is_not_sent_however_well_it_compresses() {
    // HTTP-07, OTLPV-15
    for (way, send) in WAYS {
        let receiver = Receiver::start().unwrap();
        let told = Told::default();
        let client = told.listening_to("export", plain_client_of(&receiver)).with_max_request_bytes(4 * KIB);
        let client = client.with_compression(Compression::Gzip).build().unwrap();
        match send(&client) {
            Err(Error::TooLarge { bytes, limit, .. }) => {
                assert!(bytes > 10 * KIB && limit == 4 * KIB, "{bytes}, {limit}")
            }
            other => assert!(way == "recorded" && matches!(other, Ok(0)), "{way}: {other:?}"),
        }
        let stats = assert_accounted(&client);
        assert_eq!((stats.dropped.get(DropReason::TooLarge), stats.dropped.total()), (1, 1), "{way}");
        assert_eq!((stats.requests, stats.connections, receiver.requests().len()), (0, 0, 0), "{way}");
        assert!(told.line().contains("is larger than max_request_bytes = 4096 (not sent)"), "{way}: {}", told.line());
        // The others go out as ever.
        assert_eq!(client.export_spans(spans(&[KIB])).unwrap().accepted, 1, "{way}");
        assert_eq!(receiver.span_count(), 1, "{way}");
    }
}

#[test]
fn a_request_of_exactly_the_largest_size_is_sent_and_one_of_a_byte_more_is_not() {
    // HTTP-07
    for (way, send) in WAYS {
        let receiver = Receiver::start().unwrap();
        assert_eq!(send(&plain_client_of(&receiver).build().unwrap()).unwrap(), 1, "{way}");
        let len = largest(&receiver);
        assert!(len > 10 * KIB, "{way}: {len}");
        for (limit, sent) in [(len, true), (len - 1, false)] {
            let client = plain_client_of(&receiver).with_max_request_bytes(limit).with_log_level(LogLevel::None);
            let client = client.build().unwrap();
            let accepted = send(&client).unwrap_or(0);
            assert_eq!((accepted, client.stats().requests), (u64::from(sent), u64::from(sent)), "{way}, {limit}");
        }
    }
}

#[test]
fn batches_are_cut_so_that_none_exceeds_the_largest_request() {
    // HTTP-07
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_max_request_bytes(4 * KIB).with_compression(Compression::Gzip);
    let client = client.with_worker_count(1).build().unwrap();
    // Of one scope, which is how they mostly come: as many in a request as fit. Then each of another one, whose name
    // takes more than the span.
    let mut made: Vec<_> = (0..100).map(|_| record(&client, "one", 200)).collect();
    assert!(client.flush(LONG).is_complete());
    let requests = receiver.requests().len();
    assert!((3 * KIB..=4 * KIB).contains(&largest(&receiver)), "{}", largest(&receiver));
    assert_eq!(client.get_batch_metrics().batches, requests as u64, "none had to be halved");
    made.extend((0..50).map(|number| record(&client, &format!("{number}{}", "s".repeat(900)), 10)));
    assert!(client.flush(LONG).is_complete());
    assert!(largest(&receiver) <= 4 * KIB, "{}", largest(&receiver));
    assert_received(&receiver, &made);
    assert_accounted(&client);
}

#[test]
fn complete_spans_and_those_in_a_buffer_are_sent_in_as_many_requests_as_it_takes() {
    // HTTP-07
    let receiver = Receiver::start().unwrap();
    let client = plain_client_of(&receiver).with_max_request_bytes(4 * KIB).build().unwrap();
    assert_eq!(client.export_spans(spans(&[KIB; 10])).unwrap().accepted, 10);
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&spans(&[KIB; 10])).unwrap();
    assert_eq!(client.send_buffer(buffer).unwrap().accepted, 10);
    assert!(largest(&receiver) <= 4 * KIB, "{}", largest(&receiver));
    assert_eq!(receiver.span_count(), 20);
    assert_eq!(assert_accounted(&client).exported, 20);
}

#[test]
fn what_waited_in_the_spool_is_cut_or_dropped_as_who_sends_it_was_told() {
    // HTTP-07
    let dir = SpoolDir::new();
    let spool = || SpoolConfig { dir: Some(dir.path().to_owned()), ..SpoolConfig::default() };
    let once = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    let answers = Arc::new(Mutex::new(503));
    let status = Arc::clone(&answers);
    let respond = move |_: &_| match *status.lock().unwrap() {
        200 => Response::ok(),
        status => Response::status(status),
    };
    let receiver = Receiver::builder().respond_with(respond).start().unwrap();
    let first = client_of(&receiver).with_spool_config(spool()).with_retry_config(once.clone());
    let first = first.with_log_level(LogLevel::None).build().unwrap();
    let made: Vec<_> = (0..20).map(|_| record(&first, "many", 500)).collect();
    first.flush(LONG);
    record(&first, "one", 10 * KIB);
    assert_eq!(first.shutdown(LONG).spooled, 21);
    assert!(largest(&receiver) > 10 * KIB);

    *answers.lock().unwrap() = 200;
    let told = Told::default();
    let second = told.listening_to("export", client_of(&receiver)).with_max_request_bytes(4 * KIB);
    let second = second.with_spool_config(spool()).with_retry_config(once).build().unwrap();
    let (before, mut made) = (receiver.requests().len(), made);
    made.push(record(&second, "own", 10));
    let receipt = second.shutdown(LONG);
    assert_eq!((receipt.exported, receipt.dropped.get(DropReason::TooLarge), receipt.spooled), (21, 1, 0));
    assert_accounted(&second);
    let sizes: Vec<_> = receiver.requests()[before..].iter().map(|request| request.decoded_len).collect();
    assert!(sizes.iter().all(|bytes| *bytes <= 4 * KIB as u64), "{sizes:?}");
    assert_received(&receiver, &made);
    assert!(told.line().contains("max_request_bytes = 4096"), "{}", told.line());
    assert_eq!(dir.bodies().len(), 0);
}

#[test]
fn own_metrics_beyond_the_largest_request_are_not_sent() {
    // HTTP-07
    let receiver = Receiver::start().unwrap();
    let told = Told::default();
    let metrics_interval = Duration::from_millis(20);
    let monitoring = MonitoringConfig { enable_metrics: true, metrics_interval, ..MonitoringConfig::default() };
    let client = plain_client_of(&receiver).with_monitoring_config(monitoring).with_max_request_bytes(KIB);
    let client = told.listening_to("metrics", client).build().unwrap();
    record(&client, "test", 10);
    assert_eq!(client.flush(LONG).exported, 1);
    assert!(told.line().contains("is larger than max_request_bytes = 1024 (not sent)"), "{}", told.line());
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!(receiver.metrics().len(), 0);
}

#[test]
fn an_answer_beyond_the_largest_is_final_and_one_of_exactly_that_size_is_read() {
    // RTY-09, OTLPV-15
    let retry = RetryConfig { initial_interval: Duration::from_millis(1), ..RetryConfig::default() };
    for (bytes, requests) in [(KIB, 2), (KIB + 1, 1)] {
        for chunked in [false, true] {
            let unavailable = Answer::status(503).body(vec![b'x'; bytes]);
            let unavailable = if chunked { unavailable.chunked() } else { unavailable };
            let server = FaultServer::plain([answer(unavailable), accept()]);
            let client = Client::builder().with_endpoint(server.endpoint()).with_max_response_bytes(KIB);
            let client = client.with_retry_config(retry.clone()).with_log_level(LogLevel::None).build().unwrap();
            let sent = client.export_spans(spans(&[10]));
            assert_eq!(server.requests().len(), requests, "{bytes}: {sent:?}");
            match sent {
                Ok(report) => assert_eq!((report.accepted, requests), (1, 2)),
                Err(error) => {
                    assert!(matches!(error, Error::Refused { status: 503, .. }), "{error:?}");
                    assert!(error.to_string().contains("larger than 1024 bytes"), "{error}");
                    assert_eq!((client.stats().dropped.get(DropReason::Refused), requests), (1, 1));
                }
            }
            assert_accounted(&client);
        }
    }
}

#[cfg(feature = "grpc")]
#[test]
fn a_call_that_is_too_large_for_the_receiver_is_halved_until_only_what_is_alone_too_large_is_left() {
    // GRPC-05
    let small_enough = |request: &otlp::testing::Request| match request.decoded_len as usize {
        ..=4_096 => Response::ok(),
        _ => Response::status(413),
    };
    let receiver = Receiver::builder().respond_with(small_enough).start().unwrap();
    let client = plain_client_of(&receiver).with_grpc_transport().with_log_level(LogLevel::None);
    let client = client.with_worker_count(1).build().unwrap();
    let sizes = [KIB, KIB, KIB, 8 * KIB, KIB, KIB, KIB, KIB];
    let made: Vec<_> = sizes.iter().map(|bytes| (*bytes, record(&client, "one", *bytes))).collect();
    client.flush(LONG);
    let fitting: Vec<_> = made.iter().filter(|(bytes, _)| *bytes == KIB).map(|(_, ids)| *ids).collect();
    assert_received(&receiver, &fitting);
    let stats = assert_accounted(&client);
    assert_eq!((stats.ended, stats.exported, stats.dropped.total()), (8, 7, 1), "{stats:?}");
}
