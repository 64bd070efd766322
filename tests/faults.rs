//! What each way in which an exchange can fail costs: what is counted, what is said, what is tried again.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use faults::{
    After, Answer, Authority, Closed, Extent, FaultServer, Seen, accept, answer, answer_after, close_after,
    reset_after, stall_after,
};
use otlp::{
    Client, ClientBuilder, Compression, DropReason, Error, LogLevel, RetryConfig, Tracer, testing::generate_test_spans,
};
use support::{Ids, LONG, assert_accounted, ids, wait_for};

/// Long enough not to be what ends a test, short enough for one that runs into it.
const PATIENCE: Duration = Duration::from_secs(10);

fn client_at(endpoint: String) -> ClientBuilder {
    Client::builder()
        .with_endpoint(endpoint)
        .with_request_timeout(PATIENCE)
        .with_log_level(LogLevel::None)
        .with_retry_config(attempts(3))
}

/// So many attempts, close together.
fn attempts(max_attempts: u32) -> RetryConfig {
    let initial_interval = Duration::from_millis(10);
    RetryConfig { max_attempts, initial_interval, ..RetryConfig::default() }
}

fn record(tracer: &Tracer, spans: usize) -> Vec<Ids> {
    let one = |_| {
        let span = tracer.start("span");
        ids(&span.context())
    };
    (0..spans).map(one).collect()
}

/// What a caller of `export_spans` is told, when that is all that comes of the spans.
#[track_caller]
fn said_about(builder: ClientBuilder, reason: DropReason) -> String {
    let client = builder.build().unwrap();
    let error = client.export_spans(generate_test_spans(3)).unwrap_err();
    assert_eq!(assert_accounted(&client).dropped.get(reason), 3, "{error:?}");
    match error {
        Error::Unreachable { message, .. } => message,
        Error::Refused { status, message, .. } => format!("{status}: {message}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    assert!(words.iter().all(|word| message.contains(word)), "{message:?} does not say {words:?}");
}

/// The spans that were ended arrived, each once.
#[track_caller]
fn assert_arrived_once(server: &FaultServer, ended: &[Ids]) {
    let arrived = server.arrived();
    let distinct: HashSet<_> = arrived.iter().copied().collect();
    assert_eq!((arrived.len(), distinct), (ended.len(), ended.iter().copied().collect()));
}

#[test]
fn a_connection_that_cannot_be_made_is_told_by_its_kind_and_counted_as_undelivered() {
    let once = |endpoint: String| client_at(endpoint).with_retry_config(attempts(1));
    let lost = DropReason::Undelivered;
    let refusing = Closed::refusing();
    assert_says(&said_about(once(refusing.endpoint()), lost), &["refused", "is a collector listening there?"]);

    let full = Closed::full();
    let connecting = once(full.endpoint()).with_connect_timeout(Duration::from_millis(100));
    assert_says(&said_about(connecting, lost), &["no connection within 100ms"]);

    // Longer than a label may be: no name server needs to be asked.
    let unknown = format!("http://{}.invalid:4318", "x".repeat(64));
    assert_says(&said_about(once(unknown), lost), &["host name", "not known"]);
}

#[test]
fn a_receiver_that_comes_up_while_it_is_asked_for_gets_every_span() {
    // RTY-07
    let closed = Closed::refusing();
    let client = client_at(closed.endpoint()).with_retry_config(attempts(1_000)).build().unwrap();
    let ended = record(&client.tracer("early"), 5);
    thread::scope(|scope| {
        let flushing = scope.spawn(|| client.flush(LONG));
        wait_for("a second attempt", || client.stats().requests >= 2);
        let server = FaultServer::opening(closed, [accept()]);
        assert!(flushing.join().unwrap().is_complete());
        assert_arrived_once(&server, &ended);
    });
    assert_eq!(assert_accounted(&client).exported, 5);
}

#[test]
fn tls_that_cannot_be_set_up_is_told_as_such() {
    // OTLPV-06
    let lost = DropReason::Undelivered;
    let once = |endpoint: String| client_at(endpoint).with_retry_config(attempts(1));
    let untrusted = FaultServer::tls(Authority::new().server(), [accept()]);
    assert_says(&said_about(once(untrusted.endpoint()), lost), &["TLS", "UnknownIssuer"]);
    assert_eq!((untrusted.connections(), untrusted.requests().len()), (1, 0));

    // One takes the greeting for a request that does not end, the other for one that makes no sense.
    let closing = FaultServer::plain([close_after(Extent::Nothing)]);
    assert_says(&said_about(once(closing.endpoint_by("https", "localhost")), lost), &["TLS", "plain http"]);
    let answering = FaultServer::plain([answer_after(Extent::Nothing, Answer::status(400).then(After::Close))]);
    assert_says(&said_about(once(answering.endpoint_by("https", "localhost")), lost), &["TLS", "plain http"]);

    let silent = FaultServer::plain([stall_after(Extent::Nothing)]);
    let connecting = once(silent.endpoint_by("https", "localhost")).with_connect_timeout(Duration::from_millis(100));
    assert_says(&said_about(connecting, lost), &["no connection within 100ms"]);
}

#[test]
fn a_tls_server_behind_a_plain_url_is_told_as_no_http() {
    let server = FaultServer::tls(Authority::new().server(), [accept()]);
    let message = said_about(client_at(server.endpoint_by("http", "localhost")), DropReason::Refused);
    assert_says(&message, &["not HTTP/1.1"]);
    assert_eq!(server.connections(), 1, "asking again would not help");
}

#[test]
fn a_reset_before_the_body_is_read_costs_another_attempt_and_nothing_else() {
    // RTY-08
    for extent in [Extent::Nothing, Extent::Head, Extent::Body(20)] {
        let server = FaultServer::plain([reset_after(extent), reset_after(extent), accept()]);
        let client = client_at(server.endpoint()).build().unwrap();
        let ended = record(&client.tracer("reset"), 100);
        let receipt = client.flush(LONG);
        assert!(receipt.is_complete(), "{extent:?}: {receipt:?}");
        assert_arrived_once(&server, &ended);
        assert_accounted(&client);
    }
}

#[test]
fn a_receiver_that_always_resets_is_given_up_after_the_configured_attempts() {
    let server = FaultServer::plain([reset_after(Extent::Nothing)]);
    let message = said_about(client_at(server.endpoint()), DropReason::Undelivered);
    assert_says(&message, &["connection broke"]);
    // Three attempts, and the one connection that is replaced at no cost.
    assert_eq!(server.connections(), 4);
}

#[test]
fn a_connection_that_breaks_after_the_body_has_its_spans_sent_again_and_counted_once() {
    // RTY-08
    let half_a_status_line = answer(Answer::status(200).cut_to(11).then(After::Close));
    for broken in [reset_after(Extent::Whole), close_after(Extent::Whole), half_a_status_line] {
        let server = FaultServer::plain([broken.clone(), accept()]);
        let client = client_at(server.endpoint()).build().unwrap();
        let ended = record(&client.tracer("again"), 50);
        assert!(client.flush(LONG).is_complete(), "{broken:?}");
        let requests = server.requests();
        assert_eq!(requests.len(), 2, "{broken:?}");
        assert_eq!(requests[0].ids, requests[1].ids, "{broken:?}: the same request");
        assert_eq!(assert_accounted(&client).exported, ended.len() as u64);
    }
}

#[test]
fn an_answer_that_does_not_come_in_time_costs_the_spans_when_the_time_of_the_batch_is_over() {
    // OTLPV-09, EXP-02
    let timeout = Duration::from_millis(200);
    let half_a_head = answer(Answer::status(200).cut_to(30).then(After::Stall));
    for stalled in [stall_after(Extent::Nothing), stall_after(Extent::Head), stall_after(Extent::Whole), half_a_head] {
        let server = FaultServer::plain([stalled.clone()]);
        let begun = Instant::now();
        let message = said_about(client_at(server.endpoint()).with_request_timeout(timeout), DropReason::Undelivered);
        let took = begun.elapsed();
        assert_says(&message, &["no answer within"]);
        assert!(took >= timeout && took < Duration::from_secs(5), "{stalled:?}: {took:?}");
    }
}

#[test]
fn the_status_line_decides_even_if_the_body_behind_it_breaks_off() {
    // RTY-03, RTY-11
    let broken = |status| {
        [
            answer(Answer::status(status).announcing(1_000).body("half").then(After::Close)),
            answer(Answer::status(status).announcing(1_000).body("half").then(After::Reset)),
            answer(Answer::status(status).body("some chunks, and no end").chunked().cut_to(70).then(After::Close)),
            answer(Answer::raw(format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n"))),
        ]
    };
    for act in broken(200) {
        let server = FaultServer::plain([act.clone()]);
        let client = client_at(server.endpoint()).build().unwrap();
        record(&client.tracer("accepted"), 5);
        assert!(client.flush(LONG).is_complete(), "{act:?}");
        assert_eq!(server.requests().len(), 1, "{act:?}: what was accepted is not sent again");
        assert_accounted(&client);
    }
    for act in broken(400) {
        let server = FaultServer::plain([act.clone()]);
        assert_says(&said_about(client_at(server.endpoint()), DropReason::Refused), &["400"]);
        assert_eq!(server.requests().len(), 1, "{act:?}: a refusal is final");
    }
    for act in broken(503) {
        let server = FaultServer::plain([act.clone(), accept()]);
        let client = client_at(server.endpoint()).build().unwrap();
        record(&client.tracer("unavailable"), 5);
        assert!(client.flush(LONG).is_complete(), "{act:?}");
        assert_eq!(server.requests().len(), 2, "{act:?}");
    }
}

#[test]
fn an_answer_in_chunks_or_behind_interim_answers_is_an_answer() {
    // RTY-10
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    // Interim answers may carry headers, even those of a body.
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 9\r\n\r\n";
    let hinted = format!("HTTP/1.1 100 Continue\r\nx: y\r\n\r\n{hints}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let trailed = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\n\x0a\x00\r\n0\r\nx: y\r\n\r\n";
    let to_the_end = answer(Answer::raw("HTTP/1.1 200 OK\r\n\r\n").then(After::Close));
    for act in [
        answer(Answer::status(200).chunked()),
        answer(Answer::status(204)),
        answer(Answer::raw(interim)),
        answer(Answer::raw(hinted)),
        answer(Answer::raw(trailed)),
        answer(Answer::raw("HTTP/1.0 200 OK\r\n\r\n").then(After::Close)),
        answer(Answer::raw("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n")),
        to_the_end,
    ] {
        let server = FaultServer::plain([act.clone()]);
        let client = client_at(server.endpoint()).build().unwrap();
        let ended = record(&client.tracer("chunks"), 5);
        assert!(client.flush(LONG).is_complete(), "{act:?}");
        assert_arrived_once(&server, &ended);
    }
}

#[test]
fn an_answer_that_breaks_the_rules_of_http_is_told_as_that_and_not_as_another_protocol() {
    // RTY-11
    let many: String = (0..129).map(|number| format!("x-{number}: y\r\n")).collect();
    for (what, bytes, words) in [
        ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_owned(), "a length"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n".to_owned(), "two lengths"),
        ("129 headers", format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "headers"),
    ] {
        let server = FaultServer::plain([answer(Answer::raw(bytes).then(After::Stall))]);
        let message = said_about(client_at(server.endpoint()), DropReason::Refused);
        assert_says(&message, &[words]);
        assert!(!message.contains("gRPC"), "{what}: {message}");
    }
    let settings = &b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"[..];
    let server = FaultServer::plain([answer(Answer::raw(settings).then(After::Stall))]);
    assert_says(&said_about(client_at(server.endpoint()), DropReason::Refused), &["not HTTP/1.1", "gRPC"]);
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_is_heard() {
    for (status, reason) in [(401, DropReason::Refused), (413, DropReason::TooLarge), (503, DropReason::Undelivered)] {
        // Some read the rest of the body, and throw it away. Others have heard enough.
        for after in [After::Close, After::Reset] {
            let server = FaultServer::plain([answer_after(Extent::Head, Answer::status(status).then(after))]);
            let builder = client_at(server.endpoint()).with_retry_config(attempts(1));
            let client = builder.with_compression(Compression::None).build().unwrap();
            // More than what the buffers of two sockets take.
            let mut span = client.tracer("early").start("large");
            span.set_attribute("text", "x".repeat(3 << 20));
            span.end();
            let receipt = client.flush(LONG);
            let said = format!("{status}, then {after:?}: {receipt:?}");
            assert_eq!((receipt.dropped.get(reason), receipt.dropped_total()), (1, 1), "{said}");
            // That the receiver knows nobody here is made sure of over another connection.
            assert_eq!(server.connections(), if status == 401 { 2 } else { 1 }, "{said}");
            assert_accounted(&client);
        }
    }
}

#[test]
fn idle_connections_the_server_closed_are_replaced_without_using_the_only_attempt_up() {
    // HTTP-04
    let server = FaultServer::plain([accept()]);
    let client = client_at(server.endpoint()).with_retry_config(attempts(1)).build().unwrap();
    let tracer = client.tracer("idle");
    let mut ended = Vec::new();
    for round in 1..=5 {
        ended.extend(record(&tracer, 3));
        let receipt = client.flush(LONG);
        assert!(receipt.is_complete(), "round {round}: {receipt:?}");
        assert_eq!(server.connections(), round);
        server.close_idle();
    }
    assert_arrived_once(&server, &ended);
    assert_eq!(assert_accounted(&client).requests, 5);
}

#[test]
fn a_connection_that_turns_out_to_be_dead_is_replaced_without_using_the_only_attempt_up() {
    // HTTP-04
    for dead in [reset_after(Extent::Nothing), close_after(Extent::Head), reset_after(Extent::Whole)] {
        let server = FaultServer::plain([accept(), dead.clone(), accept()]);
        let client = client_at(server.endpoint()).with_retry_config(attempts(1)).build().unwrap();
        let tracer = client.tracer("dead");
        for _ in 0..2 {
            record(&tracer, 3);
            assert!(client.flush(LONG).is_complete(), "{dead:?}");
        }
        assert_eq!(server.connections(), 2, "{dead:?}");
        assert_eq!(assert_accounted(&client).exported, 6);
    }
}

#[test]
fn after_one_dead_connection_the_other_idle_ones_are_not_tried() {
    // What is between here and the receiver forgot them all, as it does after a while without traffic.
    let both = || answer(Answer::status(200).once_requests(2));
    let server = FaultServer::plain([both(), both(), reset_after(Extent::Nothing), accept()]);
    let client = client_at(server.endpoint()).with_retry_config(attempts(1)).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client.export_spans(generate_test_spans(1)).unwrap());
        }
    });
    server.go_on_with([reset_after(Extent::Nothing), accept()]);
    assert_eq!(client.export_spans(generate_test_spans(1)).unwrap().accepted, 1);
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections[2..], [3], "the one that was idle as well is not tried");
    assert_accounted(&client);
}

#[test]
fn other_batches_go_out_while_one_hangs_and_another_backs_off() {
    let backs_off = answer(Answer::status(503));
    let server = FaultServer::plain([stall_after(Extent::Whole), backs_off, accept()]);
    let pause = Duration::from_secs(600);
    let late = RetryConfig { initial_interval: pause, max_interval: pause, ..RetryConfig::default() };
    let client = client_at(server.endpoint())
        .with_request_timeout(Duration::from_secs(3_600))
        .with_retry_config(late)
        .with_worker_count(3)
        .build()
        .unwrap();
    let tracer = client.tracer("others");
    // A backlog that takes several requests, and has a second worker started.
    let ended = record(&tracer, 10_000);
    thread::scope(|scope| {
        let flushing = scope.spawn(|| client.flush(LONG));
        let held = server.wait(|log| {
            let spans: u64 = log.requests.iter().map(Seen::spans).sum();
            let (accepted, held): (Vec<_>, Vec<_>) = log.requests.iter().partition(|seen| seen.status == Some(200));
            let is_decided = held.iter().filter(|seen| seen.status.is_none()).count() == 1 && held.len() == 2;
            let is_all = spans == ended.len() as u64 && !accepted.is_empty();
            (is_decided && is_all).then(|| held.into_iter().map(Seen::spans).sum::<u64>())
        });
        // The server knows of its last answer a moment before the client does.
        wait_for("the answers", || client.stats().exported + held >= ended.len() as u64);
        let receipt = client.shutdown(Duration::from_millis(100));
        assert_eq!((receipt.exported, receipt.dropped.get(DropReason::Shutdown)), (10_000 - held, held));
        // What the flush waited for was decided.
        let receipt = flushing.join().unwrap();
        assert!(receipt.pending == 0 && !receipt.is_complete(), "{receipt:?}");
    });
    assert_accounted(&client);
}

#[test]
fn a_few_spans_go_out_while_the_only_batch_before_them_hangs() {
    let server = FaultServer::plain([stall_after(Extent::Whole), accept()]);
    let client = client_at(server.endpoint()).with_worker_count(2).build().unwrap();
    let tracer = client.tracer("few");
    thread::scope(|scope| {
        record(&tracer, 1);
        scope.spawn(|| client.flush(LONG));
        server.wait_for_stalled(1);
        record(&tracer, 2);
        let receipt = client.flush(PATIENCE / 4);
        assert_eq!((receipt.exported, receipt.pending), (2, 1));
        client.shutdown(Duration::ZERO);
    });
    assert_accounted(&client);
}

#[test]
fn a_redirect_takes_neither_spans_nor_credentials_anywhere() {
    // RTY-10
    let elsewhere = FaultServer::plain([accept()]);
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{}/v1/traces", elsewhere.endpoint());
        for redirect in [Answer::status(status).header("location", &target), Answer::status(status)] {
            let server = FaultServer::plain([answer(redirect.clone())]);
            let builder = client_at(server.endpoint()).with_header("authorization", "Bearer secret");
            let message = said_about(builder, DropReason::Refused);
            assert_says(&message, &[&status.to_string()]);
            assert_eq!(server.requests().len(), 1, "{redirect:?}");
            assert!(!message.contains("secret"));
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}
