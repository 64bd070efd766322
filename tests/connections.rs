//! Connections as the receiver sees them: how many, when they are opened and closed, and which of them a request takes.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use faults::{Answer, Authority, Closed, Extent, FaultServer, accept, answer, header, reset_after, stall_after};
use otlp::{
    BatchConfig, Client, ClientBuilder, Compression, DropReason, Error, LogLevel, RetryConfig, Snapshot,
    config::{ConnectionManager, ConnectionPoolConfig, ReuseStrategy},
    testing::{Receiver, ReceiverBuilder, Response, generate_test_spans},
};
use parking_lot::{Condvar, Mutex};
use support::{LONG, assert_accounted, client_of, ids, wait_for};

const HOUR: Duration = Duration::from_secs(3_600);

/// So short that it is over as soon as it is waited for.
const SHORT: Duration = Duration::from_millis(30);

/// No batch leaves by itself, and nothing gets a second attempt.
fn calm(builder: ClientBuilder) -> ClientBuilder {
    builder
        .with_log_level(LogLevel::None)
        .with_batch_config(BatchConfig { batch_timeout: HOUR, ..BatchConfig::default() })
        .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
}

fn client_at(server: &FaultServer) -> ClientBuilder {
    calm(Client::builder().with_endpoint(server.endpoint()))
}

fn pool(change: impl FnOnce(&mut ConnectionPoolConfig)) -> ConnectionPoolConfig {
    let mut pool = ConnectionPoolConfig::default();
    change(&mut pool);
    pool
}

fn reuse(strategy: ReuseStrategy) -> ConnectionManager {
    ConnectionManager::new().with_reuse_strategy(strategy)
}

#[track_caller]
fn export(client: &Client) {
    assert_eq!(client.export_spans(generate_test_spans(3)).unwrap().accepted, 3);
}

/// Ends one span and has it delivered, by a worker.
#[track_caller]
fn deliver(client: &Client) {
    client.tracer("test").start("span").end();
    let receipt = client.flush(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
}

/// A receiver that answers its first requests only when so many are under way at once.
fn gathering(requests: usize) -> ReceiverBuilder {
    let (arrived, changed) = (Mutex::new(0), Condvar::new());
    Receiver::builder().respond_with(move |_| {
        let mut arrived = arrived.lock();
        *arrived += 1;
        changed.notify_all();
        changed.wait_while_for(&mut arrived, |arrived| *arrived < requests, LONG);
        Response::ok()
    })
}

/// Leaves two connections idle.
fn use_two_at_once(client: &Client) {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| export(client));
        }
    });
}

/// Closes every connection, once no request is under way on any.
#[track_caller]
fn close_all(receiver: &Receiver) -> u64 {
    assert!(receiver.wait_for_connections(|counts| counts.idle == counts.open, LONG));
    receiver.close_idle_connections()
}

#[track_caller]
fn wait_for_open(receiver: &Receiver, connections: u64) {
    let came = receiver.wait_for_connections(|counts| counts.open == connections, LONG);
    assert!(came, "{:?}", receiver.connection_counts());
}

#[test]
fn workers_and_direct_callers_together_use_no_more_connections_than_there_may_be() {
    // HTTP-05
    for by_manager in [false, true] {
        let receiver = gathering(2).response_delay(Duration::from_millis(2)).start().unwrap();
        let builder = calm(client_of(&receiver)).with_worker_count(4);
        let builder = match by_manager {
            false => builder.with_connection_pool_config(pool(|pool| pool.max_connections = 2)),
            true => builder.with_connection_manager(ConnectionManager::new().with_pool_size(2)),
        };
        let client = builder.build().unwrap();
        let tracer = client.tracer("cap");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| export(&client)));
            }
            (0..20_000).for_each(|_| tracer.start("span").end());
            assert!(client.flush(LONG).is_complete());
        });
        let counts = receiver.connection_counts();
        assert_eq!((counts.peak_requests, counts.peak_open), (2, 2), "{counts:?}");
        assert_eq!(assert_accounted(&client).exported, receiver.span_count());
    }
}

#[test]
fn who_finds_every_connection_in_use_waits_for_one_and_has_used_no_attempt_up() {
    let server = FaultServer::plain([answer(Answer::status(200).trickled(Duration::from_millis(1))), accept()]);
    let one = pool(|pool| pool.max_connections = 1);
    let client = client_at(&server).with_connection_pool_config(one).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| export(&client));
        }
    });
    assert_eq!((assert_accounted(&client).requests, server.connections()), (4, 1));
}

#[test]
fn a_connection_serves_again_where_the_answer_says_so_and_ends_there() {
    // HTTP-04
    let raw = |text: &str| answer(Answer::raw(text));
    for (act, connections) in [
        (accept(), 1),
        (answer(Answer::status(200).chunked()), 1),
        (answer(Answer::status(204)), 1),
        (answer(Answer::status(400).body("no")), 1),
        (raw("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"), 1),
        (raw("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"), 2),
        (answer(Answer::status(200).header("connection", "close")), 2),
        // More than was announced, and less.
        (answer(Answer::status(200).announcing(0).body("HTTP/1.1 400 Smuggled\r\n")), 2),
        (answer(Answer::status(200).announcing(9).body("half").then(faults::After::Close)), 2),
    ] {
        let server = FaultServer::plain([act.clone()]);
        let client = client_at(&server).build().unwrap();
        for _ in 0..2 {
            let _ = client.export_spans(generate_test_spans(1));
        }
        assert_eq!((server.requests().len(), server.connections()), (2, connections), "{act:?}");
        assert_accounted(&client);
    }
}

#[test]
fn a_shutdown_sends_those_away_who_wait_for_a_connection() {
    let server = FaultServer::plain([stall_after(Extent::Whole)]);
    let one = pool(|pool| pool.max_connections = 1);
    let client = client_at(&server).with_connection_pool_config(one).with_request_timeout(HOUR).build().unwrap();
    thread::scope(|scope| {
        let exports: Vec<_> = (0..3).map(|_| scope.spawn(|| client.export_spans(generate_test_spans(1)))).collect();
        server.wait_for_stalled(1);
        wait_for("those who wait", || client.stats().ended == 3);
        client.shutdown(Duration::ZERO);
        for export in exports {
            assert!(matches!(export.join().unwrap(), Err(Error::Shutdown)));
        }
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Shutdown), 3);
}

#[test]
fn with_prewarming_connections_are_open_before_there_is_a_request() {
    let warm = |min| {
        pool(|pool| {
            (pool.min_connections, pool.enable_connection_prewarming) = (min, true);
        })
    };
    for (min, workers, opened) in [(3, 4, 3), (5, 2, 2)] {
        let receiver = Receiver::start().unwrap();
        let builder = calm(client_of(&receiver)).with_worker_count(workers);
        let client = builder.with_connection_pool_config(warm(min)).build().unwrap();
        assert_eq!(receiver.connections(), 0, "nothing happens before the first span");
        client.tracer("warm").start("span").end();
        wait_for_open(&receiver, opened);
        assert_eq!(receiver.totals().requests, 0);
        wait_for("the idle connections", || client.stats().idle_connections == opened);
        // They serve what comes.
        deliver(&client);
        assert_eq!(receiver.connections(), opened);
    }
}

#[test]
fn without_prewarming_the_first_request_opens_the_first_connection() {
    let receiver = Receiver::start().unwrap();
    let cold = pool(|pool| pool.min_connections = 3);
    let client = calm(client_of(&receiver)).with_worker_count(4).with_connection_pool_config(cold).build().unwrap();
    deliver(&client);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn prewarming_agrees_on_tls_and_the_connection_is_trusted_afterwards() {
    // What a server sends of its own accord after the handshake, tickets, is no reason to distrust it.
    for strategy in [ReuseStrategy::Aggressive, ReuseStrategy::Conservative] {
        let authority = Authority::new();
        let server = FaultServer::tls(authority.server(), [accept()]);
        let warm = pool(|pool| pool.enable_connection_prewarming = true);
        let builder = client_at(&server).with_certificate(authority.file("ca.pem", authority.certificate()));
        let builder = builder.with_connection_pool_config(warm).with_connection_manager(reuse(strategy));
        let client = builder.build().unwrap();
        client.tracer("warm").start("span").end();
        wait_for("the idle connections", || client.stats().idle_connections == 1);
        assert_eq!(server.requests().len(), 0, "{strategy:?}");
        deliver(&client);
        deliver(&client);
        assert_eq!((server.connections(), assert_accounted(&client).requests), (1, 2), "{strategy:?}");
    }
}

#[test]
fn a_connection_that_hangs_while_it_is_opened_ahead_delays_neither_delivery_nor_shutdown() {
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [stall_after(Extent::Nothing), accept()]);
    let warm = pool(|pool| (pool.enable_connection_prewarming, pool.connection_timeout) = (true, HOUR));
    let builder = client_at(&server).with_certificate(authority.file("ca.pem", authority.certificate()));
    let client = builder.with_connection_pool_config(warm).build().unwrap();
    client.tracer("hangs").start("span").end();
    server.wait_for_stalled(1);
    let begun = Instant::now();
    assert!(client.shutdown(LONG).is_complete());
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_that_cannot_be_opened_ahead_is_left_for_the_request_to_find_out() {
    let closed = Closed::refusing();
    let warm = pool(|pool| pool.enable_connection_prewarming = true);
    let client = calm(Client::builder().with_endpoint(closed.endpoint())).with_connection_pool_config(warm);
    let client = client.build().unwrap();
    client.tracer("nobody").start("span").end();
    let receipt = client.flush(LONG);
    assert_eq!((receipt.pending, receipt.dropped.get(DropReason::Undelivered)), (0, 1));
    assert_eq!(assert_accounted(&client).connections, 0);
}

#[test]
fn connecting_is_given_up_after_the_connection_timeout() {
    let closed = Closed::full();
    let quick = pool(|pool| pool.connection_timeout = Duration::from_millis(100));
    let client = calm(Client::builder().with_endpoint(closed.endpoint())).with_connection_pool_config(quick);
    let client = client.with_request_timeout(LONG).build().unwrap();
    let error = client.export_spans(generate_test_spans(1)).unwrap_err();
    assert!(error.to_string().contains("no connection within 100ms"), "{error}");
}

#[test]
fn an_idle_connection_is_closed_when_the_shorter_of_both_timeouts_is_over() {
    let timeouts = |idle, keep_alive| {
        pool(|pool| {
            (pool.idle_timeout, pool.keep_alive_timeout) = (idle, keep_alive);
        })
    };
    for config in [timeouts(SHORT, HOUR), timeouts(HOUR, SHORT)] {
        let receiver = Receiver::start().unwrap();
        let client = calm(client_of(&receiver)).with_connection_pool_config(config).build().unwrap();
        deliver(&client);
        wait_for_open(&receiver, 0);
        deliver(&client);
        assert_eq!(receiver.connections(), 2);
    }
}

#[test]
fn a_connection_that_has_reached_its_lifetime_is_closed_however_busy_it_was() {
    let old = pool(|pool| (pool.max_lifetime, pool.keep_alive_timeout) = (SHORT, HOUR));
    let receiver = Receiver::start().unwrap();
    let client = calm(client_of(&receiver)).with_connection_pool_config(old).build().unwrap();
    deliver(&client);
    wait_for_open(&receiver, 0);
    let begun = Instant::now();
    while begun.elapsed() < 3 * SHORT {
        export(&client);
    }
    assert!(receiver.connections() > 2, "{:?}", receiver.connection_counts());
}

#[test]
fn without_keep_alive_each_request_has_a_connection_of_its_own_and_says_so() {
    let builders: [fn(ClientBuilder) -> ClientBuilder; 4] = [
        |builder| builder.with_connection_pool_config(pool(|pool| pool.keep_alive = false)),
        |builder| builder.with_connection_manager(reuse(ReuseStrategy::Never)),
        |builder| builder.with_max_idle_connections(0),
        |builder| builder.with_keep_alive_timeout(Duration::ZERO),
    ];
    for with in builders {
        let receiver = Receiver::start().unwrap();
        let client = with(calm(client_of(&receiver))).build().unwrap();
        (0..3).for_each(|_| export(&client));
        wait_for_open(&receiver, 0);
        assert_eq!(receiver.connections(), 3);
        assert!(receiver.requests().iter().all(|request| request.header("connection") == Some("close")));
    }
    let receiver = Receiver::start().unwrap();
    let client = calm(client_of(&receiver)).build().unwrap();
    (0..3).for_each(|_| export(&client));
    assert_eq!(receiver.connections(), 1);
    assert!(receiver.requests().iter().all(|request| request.header("connection").is_none()));
}

#[test]
fn no_more_connections_are_kept_than_are_to_be_idle() {
    let receiver = gathering(2).start().unwrap();
    let client = calm(client_of(&receiver)).with_max_idle_connections(1).build().unwrap();
    use_two_at_once(&client);
    wait_for_open(&receiver, 1);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn the_connection_that_was_used_last_is_used_next() {
    let receiver = gathering(2).start().unwrap();
    let client = calm(client_of(&receiver)).with_connection_manager(reuse(ReuseStrategy::Aggressive));
    let client = client.build().unwrap();
    use_two_at_once(&client);
    (0..4).for_each(|_| export(&client));
    let used: Vec<_> = receiver.requests()[2..].iter().map(|request| request.connection).collect();
    assert!(used.iter().all(|connection| *connection == used[0]), "{used:?}");
    assert_eq!(receiver.connections(), 2);
}

/// Requests made for the second of two exports, between which the receiver closes the connection.
#[track_caller]
fn requests_over_a_closed_connection(builder: ClientBuilder, receiver: &Receiver, idle: Duration) -> u64 {
    let client = calm(builder).build().unwrap();
    export(&client);
    assert_eq!(close_all(receiver), 1);
    let closed = Instant::now();
    while closed.elapsed() < idle {
        thread::yield_now();
    }
    export(&client);
    assert_eq!((receiver.connections(), receiver.span_count()), (2, 6));
    assert_accounted(&client).requests - 1
}

#[test]
fn only_a_connection_that_is_probed_is_found_dead_before_it_is_used() {
    // HTTP-04
    let validated =
        |interval| pool(|pool| (pool.enable_connection_validation, pool.validation_interval) = (true, interval));
    let checked = |interval| reuse(ReuseStrategy::Aggressive).with_health_check_interval(interval);
    let aggressive = |builder: ClientBuilder| builder.with_connection_manager(reuse(ReuseStrategy::Aggressive));
    type With<'a> = &'a dyn Fn(ClientBuilder) -> ClientBuilder;
    let cases: [(&str, With<'_>, u64); 7] = [
        ("by default", &|builder| builder, 1),
        ("conservative", &|builder| builder.with_connection_manager(reuse(ReuseStrategy::Conservative)), 1),
        ("aggressive", &aggressive, 2),
        ("validated", &|builder| aggressive(builder.with_connection_pool_config(validated(SHORT))), 1),
        ("validated seldom", &|builder| aggressive(builder.with_connection_pool_config(validated(HOUR))), 2),
        ("checked", &|builder| builder.with_connection_manager(checked(SHORT)), 1),
        ("checked seldom", &|builder| builder.with_connection_manager(checked(HOUR)), 2),
    ];
    for (name, with, requests) in cases {
        let receiver = Receiver::start().unwrap();
        let made = requests_over_a_closed_connection(with(client_of(&receiver)), &receiver, 2 * SHORT);
        assert_eq!(made, requests, "{name}");
    }
}

#[test]
fn with_validation_a_connection_the_receiver_closed_is_closed_here_too() {
    let receiver = Receiver::start().unwrap();
    let checked = ConnectionManager::new().with_health_check_interval(SHORT);
    let client = calm(client_of(&receiver)).with_connection_manager(checked).build().unwrap();
    deliver(&client);
    assert_eq!((close_all(&receiver), client.stats().idle_connections), (1, 1));
    wait_for("the idle connections", || client.stats().idle_connections == 0);
    assert_eq!((receiver.connections(), client.stats().requests), (1, 1));
}

#[test]
fn with_prewarming_a_connection_the_receiver_closed_is_replaced_before_it_is_needed() {
    let receiver = Receiver::start().unwrap();
    let config = pool(|pool| {
        (pool.enable_connection_prewarming, pool.enable_connection_validation) = (true, true);
        pool.validation_interval = SHORT;
    });
    let client = calm(client_of(&receiver)).with_connection_pool_config(config).build().unwrap();
    client.tracer("warm").start("span").end();
    wait_for("the idle connections", || client.stats().idle_connections == 1);
    wait_for_open(&receiver, 1);
    assert_eq!(close_all(&receiver), 1);
    assert!(receiver.wait_for_connections(|counts| counts.accepted == 2 && counts.open == 1, LONG));
    assert_eq!(receiver.totals().requests, 0);
    wait_for("the idle connections", || client.stats().idle_connections == 1);
    deliver(&client);
    assert_eq!((receiver.connections(), assert_accounted(&client).requests), (2, 1));
}

#[test]
fn a_dead_connection_found_by_using_it_costs_neither_spans_nor_the_only_attempt() {
    // HTTP-04, RTY-08
    let authority = Authority::new();
    let trusted = authority.file("ca.pem", authority.certificate());
    for is_tls in [false, true] {
        // More than what the buffers of two sockets take, and what fits into one record of TLS.
        for bytes in [8 << 20, 100] {
            let server = match is_tls {
                true => FaultServer::tls(authority.server(), [accept()]),
                false => FaultServer::plain([accept()]),
            };
            let builder = client_at(&server).with_certificate(&trusted).with_compression(Compression::None);
            let client = builder.with_connection_manager(reuse(ReuseStrategy::Aggressive)).build().unwrap();
            let tracer = client.tracer("dead");
            let mut ended = Vec::new();
            for _ in 0..3 {
                let mut span = tracer.start("large");
                span.set_attribute("text", "x".repeat(bytes).get(..bytes.min(3 << 20)).unwrap());
                ended.push(ids(&span.context()));
                span.end();
                let receipt = client.flush(LONG);
                assert!(receipt.is_complete(), "TLS {is_tls}, {bytes} bytes: {receipt:?}");
                server.close_idle();
            }
            assert_eq!(server.arrived(), ended, "TLS {is_tls}, {bytes} bytes");
            assert_eq!((server.connections(), assert_accounted(&client).requests), (3, 5));
        }
    }
}

#[test]
fn a_dead_connection_is_free_each_time() {
    // A connection that is new and breaks is not. After the second 503 new ones are known to be no better.
    let unavailable = || answer(Answer::status(503));
    let broken = || reset_after(Extent::Head);
    let server = FaultServer::plain([accept(), broken(), unavailable(), unavailable(), broken(), accept()]);
    let retry = RetryConfig { max_attempts: 3, initial_interval: SHORT / 10, ..RetryConfig::default() };
    let client = client_at(&server).with_retry_config(retry).build().unwrap();
    export(&client);
    export(&client);
    assert_eq!((server.connections(), assert_accounted(&client).requests), (4, 6));
}

#[test]
fn a_server_that_says_goodbye_with_a_408_is_asked_again_over_a_new_connection() {
    // RTY-03, HTTP-04
    let goodbye = answer(Answer::status(408).then(faults::After::Close));
    let server = FaultServer::plain([accept(), goodbye.clone(), accept(), goodbye]);
    let client = client_at(&server).build().unwrap();
    export(&client);
    export(&client);
    assert_eq!((server.connections(), assert_accounted(&client).exported), (2, 6));
    // In answer to the first request of a connection it is about that request.
    server.close_idle();
    let error = client.export_spans(generate_test_spans(1)).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 408, .. }), "{error:?}");
}

fn efficiency(stats: &Snapshot) -> f64 {
    stats.sent_bytes as f64 / stats.wire_bytes as f64
}

#[test]
fn what_goes_over_the_wire_is_counted_as_the_receiver_counts_it() {
    let receiver = Receiver::start().unwrap();
    let client = calm(client_of(&receiver)).build().unwrap();
    for spans in [1, 100, 512] {
        client.export_spans(generate_test_spans(spans)).unwrap();
    }
    let (stats, totals) = (client.stats(), receiver.totals());
    assert_eq!(stats.wire_bytes, totals.header_bytes + totals.encoded_bytes);
    assert_eq!((stats.sent_bytes, stats.connections), (totals.encoded_bytes, receiver.connections()));
}

#[test]
fn nearly_all_bytes_of_an_ordinary_batch_are_its_body() {
    let receiver = Receiver::start().unwrap();
    let client = calm(client_of(&receiver)).build().unwrap();
    client.export_spans(generate_test_spans(512)).unwrap();
    assert!(efficiency(&client.stats()) > 0.95, "{:?}", client.stats());
    let request = &receiver.requests()[0];
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["accept", "accept-encoding", "connection"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    assert!(request.header_len < 256, "{} bytes: {names:?}", request.header_len);
}

#[test]
fn what_tls_adds_is_counted_too() {
    let authority = Authority::new();
    let server = FaultServer::tls(authority.server(), [accept()]);
    let client = client_at(&server).with_certificate(authority.file("ca.pem", authority.certificate()));
    let client = client.build().unwrap();
    client.export_spans(generate_test_spans(512)).unwrap();
    let stats = client.stats();
    let head = server.requests()[0].head.len() as u64;
    let added = stats.wire_bytes - stats.sent_bytes - head;
    // A handshake of some hundred bytes, and 22 more for each 16 KiB.
    assert!((300..4_000).contains(&added), "{added} of {stats:?}");
    assert!(efficiency(&stats) > 0.8, "{stats:?}");
    assert_eq!(header(&server.requests()[0].head, "accept"), None);
}

#[test]
fn a_setting_that_makes_no_sense_is_an_error_of_build() {
    let inverted = pool(|pool| (pool.min_connections, pool.max_connections) = (2, 1));
    let error = Client::builder().with_connection_pool_config(inverted).build().unwrap_err();
    assert!(error.to_string().starts_with("with_connection_pool_config.min_connections = 2: "), "{error}");
    let error = Client::builder().with_connection_manager(ConnectionManager::new().with_pool_size(0)).build();
    assert!(matches!(error, Err(Error::Config { knob: "with_connection_manager.pool_size", .. })), "{error:?}");
}
