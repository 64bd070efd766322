//! What each answer of a receiver does to a batch, its spans, and what users are told.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use otlp::{
    Client, Compression, DropReason, Error, ErrorType, RetryConfig,
    testing::{Receiver, ReceiverBuilder, Response},
};
use support::{LONG, assert_accounted, client_of, wait_for};

/// Quick and without jitter, so that pauses can be measured.
fn quick() -> RetryConfig {
    RetryConfig { initial_interval: Duration::from_millis(20), randomization_factor: 0.0, ..RetryConfig::default() }
}

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("outcomes");
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// A receiver that answers request number `n` (from 1) with `answer(n)`.
fn scripted(answer: impl Fn(u64) -> Response + Send + Sync + 'static) -> Receiver {
    ReceiverBuilder::default().respond_with(move |request| answer(request.number)).start().unwrap()
}

#[test]
fn temporary_statuses_are_tried_again_with_the_same_body_and_counted_once() {
    // RTY-02
    for status in [429, 502, 503, 504] {
        let receiver = scripted(move |n| if n == 1 { Response::status(status) } else { Response::ok() });
        let client = client_of(&receiver).with_retry_config(quick()).build().unwrap();
        record(&client, 10);
        let receipt = client.flush(LONG);
        assert!(receipt.is_complete(), "{status}: {receipt:?}");
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2, "{status}");
        assert_eq!(requests[0].message, requests[1].message, "{status}");
        assert_eq!(assert_accounted(&client).exported, 10);
    }
}

#[test]
fn every_other_failure_status_is_final_and_the_next_batch_goes_out() {
    // RTY-03, TPR-06
    for status in [400, 401, 403, 404, 408, 415, 500, 501, 505] {
        // What may be one node's refusal is made sure of once, over another connection.
        let requests = if [400, 408, 415].contains(&status) { 1 } else { 2 };
        let receiver = scripted(move |n| if n <= requests { Response::status(status) } else { Response::ok() });
        let client = client_of(&receiver).with_retry_config(quick()).build().unwrap();
        record(&client, 3);
        let refused = client.flush(LONG);
        assert_eq!(refused.dropped.get(DropReason::Refused), 3, "{status}");
        assert_eq!(receiver.requests().len() as u64, requests, "{status}");
        record(&client, 2);
        assert!(client.flush(LONG).since(&refused).is_complete(), "{status}");
        assert_accounted(&client);
    }
}

#[test]
fn a_delay_the_receiver_asks_for_is_kept() {
    // RTY-04
    let receiver = scripted(|n| match n {
        1 => Response::status(429).header("retry-after", "1"),
        _ => Response::ok(),
    });
    let client = client_of(&receiver).with_retry_config(quick()).build().unwrap();
    record(&client, 1);
    assert!(client.flush(LONG).is_complete());
    let requests = receiver.requests();
    let gap = requests[1].received_at - requests[0].received_at;
    assert!(gap >= Duration::from_millis(990) && gap < Duration::from_secs(3), "{gap:?}");
}

#[test]
fn a_delay_of_nothing_or_in_the_past_does_not_use_the_attempts_up_at_once() {
    // RTY-04
    for delay in ["0", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let receiver = scripted(move |n| match n {
            1..=3 => Response::status(503).header("retry-after", delay),
            _ => Response::ok(),
        });
        let client = client_of(&receiver).with_retry_config(quick()).build().unwrap();
        record(&client, 1);
        let begun = Instant::now();
        assert!(client.flush(LONG).is_complete());
        assert!(begun.elapsed() >= Duration::from_millis(20 + 40 + 80), "{:?}", begun.elapsed());
    }
}

#[test]
fn in_a_pause_that_the_receiver_asked_for_nothing_is_sent_and_nothing_is_dropped_that_fits() {
    // RTY-04, RTY-12
    for status in [429, 503] {
        let receiver = scripted(move |_| Response::status(status).header("retry-after", "3600"));
        let client = client_of(&receiver).with_request_timeout(Duration::from_secs(1)).build().unwrap();
        record(&client, 4);
        let receipt = client.flush(Duration::from_millis(1_500));
        assert_eq!((receipt.pending, receipt.dropped_total()), (4, 0), "{status}: the batch's own time stands still");
        record(&client, 5_000);
        assert_eq!(client.flush(Duration::from_millis(100)).pending, 5_004);
        // Who waits for an answer gets one in its time.
        let begun = Instant::now();
        let direct = client.export_spans(otlp::testing::generate_test_spans(3)).unwrap_err();
        assert!(direct.to_string().contains("pause"), "{direct}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(receiver.requests().len(), 1, "{status}");
        assert_accounted(&client);
        let receipt = client.shutdown(Duration::from_millis(100));
        assert_eq!((receipt.dropped.get(DropReason::Shutdown), receipt.pending), (5_004, 0));
        assert_eq!(receiver.requests().len(), 1, "{status}");
        assert_accounted(&client);
    }
}

#[test]
fn after_a_pause_everything_that_waited_is_sent() {
    // RTY-04
    let receiver = scripted(|n| match n {
        1..=2 => Response::status(429).header("retry-after", "1"),
        _ => Response::ok(),
    });
    let client = client_of(&receiver).with_request_timeout(Duration::from_millis(900)).build().unwrap();
    record(&client, 20);
    client.flush(Duration::from_millis(50));
    record(&client, 20_000);
    assert!(client.flush(LONG).is_complete());
    let requests = receiver.requests();
    let asked = requests[0].received_at;
    let sooner = requests[1..].iter().filter(|request| request.received_at - asked < Duration::from_millis(950));
    // What was under way already when the first was answered.
    assert!(sooner.count() <= 3);
    assert_eq!(assert_accounted(&client).exported, 20_020);
}

#[test]
fn a_pause_that_ends_within_the_exit_budget_is_waited_for() {
    // RTY-04
    for pause in ["1", "2"] {
        let receiver = scripted(move |n| match n {
            1 => Response::status(429).header("retry-after", pause),
            _ => Response::ok(),
        });
        // Without progress for a second, it would give up.
        let client = client_of(&receiver).build().unwrap();
        record(&client, 20);
        let receipt = client.close();
        assert!(receipt.is_complete(), "{receipt:?}");
        assert_eq!((receiver.span_count(), receiver.requests().len()), (20, 2));
        assert_accounted(&client);
    }
}

#[test]
fn a_pause_beyond_the_exit_budget_is_not_waited_for() {
    let receiver = scripted(|_| Response::status(429).header("retry-after", "60"));
    let client = client_of(&receiver).build().unwrap();
    record(&client, 20);
    let begun = Instant::now();
    assert_eq!(client.close().dropped.get(DropReason::Shutdown), 20);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_accounted(&client);
}

#[test]
fn pauses_grow_and_the_configured_attempts_are_the_most_there_are() {
    // RTY-01
    let receiver = scripted(|_| Response::status(503));
    let client = client_of(&receiver)
        .with_retry_config(RetryConfig { max_attempts: 4, multiplier: 3.0, ..quick() })
        .build()
        .unwrap();
    record(&client, 1);
    assert_eq!(client.flush(LONG).dropped.get(DropReason::Undelivered), 1);
    let at: Vec<_> = receiver.requests().iter().map(|request| request.received_at).collect();
    assert_eq!(at.len(), 4);
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, least) in gaps.iter().zip([20, 60, 180]) {
        assert!(*gap >= Duration::from_millis(least), "{gaps:?}");
    }
}

#[test]
fn a_kind_of_failure_that_is_not_to_be_retried_is_not() {
    let receiver = scripted(|_| Response::status(429));
    let retry = RetryConfig { retryable_errors: vec![ErrorType::Network, ErrorType::Timeout], ..quick() };
    let client = client_of(&receiver).with_retry_config(retry).build().unwrap();
    record(&client, 1);
    assert_eq!(client.flush(LONG).dropped.get(DropReason::Undelivered), 1);
    assert_eq!(receiver.requests().len(), 1);
}

#[test]
fn a_request_that_is_too_large_is_halved_until_the_span_at_fault_is_alone() {
    // RTY-03
    let receiver = ReceiverBuilder::default()
        .respond_with(|request| if request.decoded_len > 20_000 { Response::status(413) } else { Response::ok() })
        .start()
        .unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracers = [client.tracer("one"), client.tracer("other")];
    let huge = "x".repeat(30_000);
    let mut expected = HashSet::new();
    for number in 0..101 {
        let mut span = tracers[number % 2].start("span");
        if number == 40 {
            span.set_attribute("huge", &huge);
        } else {
            span.set_attribute("padding", "y".repeat(500));
            expected.insert(support::ids(&span.context()));
        }
    }
    let receipt = client.flush(LONG);
    assert_eq!((receipt.exported, receipt.dropped.get(DropReason::TooLarge), receipt.pending), (100, 1, 0));
    assert_accounted(&client);
    // Two scopes, each span still in its own.
    let spans = receiver.spans();
    assert!(spans.iter().all(|span| ["one", "other"].contains(&span.scope.name.as_str())));
    let accepted: HashSet<_> = receiver.span_ids().into_iter().collect();
    assert_eq!(accepted, expected);
    // Directly exported spans are halved as well.
    let spans = otlp::testing::generate_test_spans(300);
    let report = client.export_spans(&spans).unwrap();
    assert_eq!(report.accepted, 300);
    assert_accounted(&client);
}

#[test]
fn a_bad_request_that_names_its_size_is_halved_like_one_that_is_too_large() {
    let receiver = ReceiverBuilder::default()
        .respond_with(|request| match request.decoded_len {
            ..20_000 => Response::ok(),
            _ => Response::status(400).body("http: request body too large"),
        })
        .start()
        .unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("large");
    for _ in 0..200 {
        tracer.in_span("span", |span| {
            span.set_attribute("padding", "y".repeat(500));
        });
    }
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(assert_accounted(&client).exported, 200);
}

#[test]
fn where_single_spans_are_too_large_the_rest_of_the_batch_is_not_tried() {
    // RTY-03
    for spans in [100, 20_000] {
        let receiver = scripted(|_| Response::status(413));
        let client = client_of(&receiver).build().unwrap();
        record(&client, spans);
        let receipt = client.flush(LONG);
        assert_eq!(receipt.dropped.get(DropReason::TooLarge), spans as u64);
        let (requests, batches) = (receiver.requests().len(), spans.div_ceil(512));
        // Down to the first single span, and a few more: other workers are at other parts meanwhile.
        assert!(requests <= batches * 40, "{requests} requests for {spans} spans");
        assert_accounted(&client);
    }
}

#[test]
fn a_single_span_that_is_too_large_is_an_error_for_who_exports_it_directly() {
    let receiver = scripted(|_| Response::status(413));
    let client = client_of(&receiver).build().unwrap();
    let error = client.export_spans(otlp::testing::generate_test_spans(1)).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 413, .. }), "{error:?}");
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::TooLarge), 1);
}

#[test]
fn other_workers_go_on_while_a_batch_waits_for_its_next_attempt() {
    let receiver = scripted(|n| match n {
        1 => Response::status(503),
        _ => Response::ok(),
    });
    let slow = RetryConfig { initial_interval: Duration::from_secs(2), ..quick() };
    let client = client_of(&receiver).with_worker_count(2).with_retry_config(slow).build().unwrap();
    record(&client, 5);
    // The first batch is refused for two seconds...
    thread::scope(|scope| {
        let flushing = scope.spawn(|| client.flush(LONG));
        wait_for("the first request", || !receiver.requests().is_empty());
        // ... and a second one arrives meanwhile.
        record(&client, 600);
        assert!(receiver.wait_for_spans(600, LONG));
        assert_eq!(receiver.span_count(), 600, "the first still waits");
        assert!(flushing.join().unwrap().is_complete());
    });
    assert_eq!(receiver.span_count(), 605);
    assert_accounted(&client);
}

#[test]
fn what_is_not_supported_as_gzip_either_is_refused() {
    for compression in [Compression::None, Compression::Gzip] {
        let receiver = Receiver::builder().respond_with(|_| Response::status(415)).start().unwrap();
        let client = client_of(&receiver).with_compression(compression).build().unwrap();
        client.tracer("compression").start("span").end();
        assert_eq!(client.flush(LONG).dropped.get(DropReason::Refused), 1);
        let requests = if compression == Compression::None { 2 } else { 1 };
        assert_eq!(receiver.requests().len(), requests);
        assert_accounted(&client);
    }
}

#[test]
fn gzip_that_was_not_accepted_is_not_stayed_on() {
    let receiver = Receiver::builder()
        .respond_with(|request| Response::status(if request.header("content-encoding").is_some() { 400 } else { 415 }))
        .start()
        .unwrap();
    let client = client_of(&receiver).with_compression(Compression::None).build().unwrap();
    for _ in 0..2 {
        client.tracer("compression").start("span").end();
        client.flush(LONG);
    }
    let requests = receiver.requests();
    let encodings: Vec<_> = requests.iter().map(|request| request.header("content-encoding")).collect();
    assert_eq!(encodings, [None, Some("gzip"), None, Some("gzip")]);
    assert_accounted(&client);
}

#[test]
fn a_receiver_that_repeats_the_headers_it_was_sent_does_not_have_them_shown() {
    let echo = |status: u16| {
        Receiver::builder()
            .respond_with(move |request| {
                let header = |name| request.header(name).unwrap_or_default().to_owned();
                Response::status(status).body(format!("who is {}? and {}?", header("authorization"), header("x-key")))
            })
            .start()
            .unwrap()
    };
    for status in [400, 413] {
        let receiver = echo(status);
        let builder = client_of(&receiver).with_header("authorization", "Bearer s3cr3t").with_header("x-key", "****");
        let client = builder.build().unwrap();
        let span = otlp::SpanData::new(span_context(), "direct");
        let error = client.export_spans([span]).unwrap_err().to_string();
        assert!(error.contains("who is *************? and ****?") && !error.contains("s3cr3t"), "{error}");
        let dropped = assert_accounted(&client).dropped;
        let reason = if status == 413 { DropReason::TooLarge } else { DropReason::Refused };
        assert_eq!((dropped.get(reason), dropped.total()), (1, 1));
    }
}

fn span_context() -> otlp::SpanContext {
    let (trace_id, span_id) = (otlp::TraceId::from_bytes([1; 16]), otlp::SpanId::from_bytes([1; 8]));
    otlp::SpanContext::new(trace_id, span_id, 1, false)
}
