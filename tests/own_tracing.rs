//! The client's own requests as spans.
#![cfg(feature = "testing")]

mod support;

use std::time::Duration;

use otlp::{
    BatchConfig, Client, DropStrategy,
    config::MonitoringConfig,
    testing::{ReceivedSpan, Receiver, Request, Response, proto::common::v1::any_value::Value},
};
use support::{LONG, assert_accounted, client_of, wait_for};

const TRACED: MonitoringConfig = MonitoringConfig {
    enable_metrics: false,
    metrics_interval: Duration::from_secs(60),
    enable_tracing: true,
    log_level: otlp::LogLevel::None,
};

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("test");
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// The spans of the scope `otlp`.
fn is_own(received: &ReceivedSpan) -> bool {
    received.scope.name == "otlp"
}

fn own(receiver: &Receiver) -> Vec<ReceivedSpan> {
    receiver.spans().into_iter().filter(is_own).collect()
}

/// How many spans of the program have arrived. Own ones may arrive while this looks.
fn others(receiver: &Receiver) -> usize {
    receiver.spans().iter().filter(|received| !is_own(received)).count()
}

#[test]
fn requests_with_the_programs_spans_are_recorded_and_those_with_only_such_spans_are_not() {
    // OBS-01
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { batch_timeout: Duration::from_millis(1), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).with_monitoring_config(TRACED).build().unwrap();
    for round in 1..=3 {
        let before = own(&receiver).len();
        record(&client, 10);
        assert!(client.flush(LONG).is_complete());
        // What the flush left behind follows, and leaves nothing behind itself.
        assert!(client.flush(LONG).is_complete());
        assert!(client.flush(LONG).is_complete());
        assert_eq!(client.stats().queued, 0);
        assert!(own(&receiver).len() > before, "round {round}");
    }
    let (all, own) = (receiver.spans(), own(&receiver));
    assert_eq!(all.len() - own.len(), 30);
    let with_users = |request: &&Request| request.spans > 0;
    let only_own = receiver.totals().requests as usize - own.len();
    assert!(only_own >= 1 && receiver.requests().iter().filter(with_users).count() >= own.len());
    let span = &own[0];
    assert_eq!(span.attribute("http.response.status_code"), Some(&Value::IntValue(200)));
    assert_eq!(span.attribute("server.port"), Some(&Value::IntValue(receiver.address().port().into())));
    assert!(span.span.parent_span_id.is_empty());
    assert_accounted(&client);
}

#[test]
fn without_tracing_there_are_no_own_spans() {
    // OBS-01, PKG-02
    let receiver = Receiver::start().unwrap();
    let off = MonitoringConfig { enable_tracing: false, ..TRACED };
    let client = client_of(&receiver).with_monitoring_config(off).build().unwrap();
    record(&client, 10);
    assert!(client.flush(LONG).is_complete() && client.flush(LONG).is_complete());
    assert_eq!(own(&receiver).len(), 0);
}

#[test]
fn an_attempt_that_fails_has_the_status_error_and_says_why() {
    let fail_once = |request: &Request| if request.number == 1 { Response::status(503) } else { Response::ok() };
    let receiver = Receiver::builder().respond_with(fail_once).start().unwrap();
    let client = client_of(&receiver).with_monitoring_config(TRACED).build().unwrap();
    record(&client, 10);
    assert!(client.flush(LONG).is_complete() && client.flush(LONG).is_complete());
    let own = own(&receiver);
    let failed = own.iter().find(|span| span.attribute("error.type").is_some()).expect("the first attempt");
    assert_eq!(failed.attribute("error.type"), Some(&Value::StringValue("503".to_owned())));
    assert_eq!(failed.span.status.as_ref().map(|status| status.code), Some(2));
    let again = own.iter().find(|span| span.attribute("http.request.resend_count") == Some(&Value::IntValue(1)));
    assert!(again.is_some_and(|span| span.attribute("error.type").is_none()), "{own:?}");
}

#[test]
fn the_clients_own_threads_never_wait_for_room() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig {
        max_queue_size: 10,
        max_batch_size: 10,
        batch_timeout: Duration::from_millis(1),
        ..BatchConfig::default()
    };
    let client = client_of(&receiver)
        .with_batch_config(batch)
        .with_worker_count(1)
        .with_monitoring_config(TRACED)
        .with_drop_strategy(DropStrategy::Block(LONG))
        .build()
        .unwrap();
    let begun = std::time::Instant::now();
    record(&client, 500);
    client.flush(LONG);
    // A worker that waited for itself would take all of it, for one span.
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    assert_eq!(others(&receiver), 500);
    assert_accounted(&client);
}

#[test]
fn a_request_that_is_under_way_when_the_client_is_closed_costs_no_span() {
    let receiver = Receiver::builder().response_delay(Duration::from_millis(200)).start().unwrap();
    let batch = BatchConfig { batch_timeout: Duration::from_millis(1), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).with_monitoring_config(TRACED).build().unwrap();
    record(&client, 1);
    wait_for("the first request", || client.stats().requests > 0);
    let receipt = client.close();
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_accounted(&client);
}

#[test]
fn own_spans_take_no_room_that_is_short_and_are_no_loss() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_queue_size: 50, batch_timeout: Duration::from_millis(1), ..BatchConfig::default() };
    let client = client_of(&receiver)
        .with_batch_config(batch)
        .with_monitoring_config(TRACED)
        .with_drop_strategy(DropStrategy::Block(LONG))
        .build()
        .unwrap();
    record(&client, 3000);
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_eq!(others(&receiver), 3000);
}
