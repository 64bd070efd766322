//! Whatever the socket does, waiting ends in time, and every ending leaves the accounts in order.
#![cfg(feature = "testing")]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use faults::{After, Answer, Authority, Closed, Extent, FaultServer, accept, answer, reset_after, stall_after};
use otlp::{
    BatchConfig, Client, ClientBuilder, Compression, DropReason, ExitBudget, LogLevel, Receipt, RetryConfig,
    testing::{Receiver, generate_test_spans},
};
use support::{LONG, assert_accounted};

/// How long each flush and each shutdown is given.
const TIMEOUT: Duration = Duration::from_millis(100);

/// What they may take beyond that.
const MARGIN: Duration = Duration::from_millis(50);

/// A worker that is connecting cannot be called back: it is waited for as long as all of the margin, then left
/// behind.
const WHILE_CONNECTING: Duration = Duration::from_millis(75);

/// On a machine that is busy with other things one measurement says little; the best of so many says enough. Where it is
/// not busy, the first is good enough.
const TRIES: usize = 60;

fn client_at(endpoint: String) -> ClientBuilder {
    Client::builder()
        .with_endpoint(endpoint)
        .with_request_timeout(Duration::from_secs(3_600))
        .with_connect_timeout(Duration::from_secs(3_600))
        .with_log_level(LogLevel::None)
}

fn record(client: &Client, spans: usize) {
    let tracer = client.tracer("endings");
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// Bodies larger than what the buffers of two sockets take.
fn record_much(client: &Client) {
    let tracer = client.tracer("endings");
    for _ in 0..6 {
        let mut span = tracer.start("large");
        span.set_attribute("text", "x".repeat(3 << 20));
    }
}

/// Flushes and shuts down, and answers what each of the two took and that `spans` spans are accounted for.
fn end(client: &Client, spans: u64) -> [Duration; 2] {
    let begun = Instant::now();
    let flushed = client.flush(TIMEOUT);
    let flushing = begun.elapsed();
    assert!(!flushed.is_complete(), "{flushed:?}");
    let begun = Instant::now();
    let ended = client.shutdown(TIMEOUT);
    let ending = begun.elapsed();
    assert_eq!((ended.pending, ended.exported + ended.dropped_total()), (0, spans), "{ended:?}");
    let stats = assert_accounted(client);
    assert_eq!((stats.ended, stats.queued), (spans, 0));
    [flushing, ending]
}

/// `end` in time, in the best of a few tries.
#[track_caller]
fn assert_ends_in_time(what: &str, margin: Duration, mut once: impl FnMut() -> [Duration; 2]) {
    let mut best = [Duration::MAX; 2];
    for _ in 0..TRIES {
        let took = once();
        best = [best[0].min(took[0]), best[1].min(took[1])];
        if best.iter().all(|took| *took <= TIMEOUT + margin) {
            return;
        }
    }
    panic!("{what}: flush and shutdown took at least {best:?}, with {TIMEOUT:?} each");
}

#[test]
fn flush_and_shutdown_end_in_time_where_no_connection_comes_about() {
    // PROC-07, RTY-12, TPR-06
    let closed = [("refused", Closed::refusing(), MARGIN), ("backlog full", Closed::full(), WHILE_CONNECTING)];
    for (what, closed, margin) in &closed {
        assert_ends_in_time(what, *margin, || {
            let client = client_at(closed.endpoint()).build().unwrap();
            record(&client, 3);
            end(&client, 3)
        });
    }
}

#[test]
fn flush_and_shutdown_end_in_time_wherever_an_exchange_stalls() {
    // PROC-07, RTY-12, TPR-06
    let pace = Duration::from_millis(30);
    let silent = || answer(Answer::status(200).cut_to(0).then(After::Stall));
    for (what, act) in [
        ("nothing read", stall_after(Extent::Nothing)),
        ("head read", stall_after(Extent::Head)),
        ("part of the body read", stall_after(Extent::Body(50))),
        ("all read", stall_after(Extent::Whole)),
        ("nothing answered", silent()),
        ("half a status line", answer(Answer::status(200).cut_to(11).then(After::Stall))),
        ("half a head", answer(Answer::status(200).cut_to(30).then(After::Stall))),
        ("half a body", answer(Answer::status(503).announcing(100).body("half").then(After::Stall))),
        ("a trickle of a head", answer(Answer::status(200).trickled(pace))),
        ("a trickle of a body", answer(Answer::status(503).endless(b"x", false).announcing(1 << 20).trickled(pace))),
        ("an endless head", answer(Answer::status(200).endless(b"x: y\r\n", true).trickled(pace))),
        ("always unavailable", answer(Answer::status(503))),
        ("always asked to wait", answer(Answer::status(429).header("retry-after", "600"))),
        ("always reset", reset_after(Extent::Whole)),
    ] {
        assert_ends_in_time(what, MARGIN, || {
            let server = FaultServer::plain([act.clone()]);
            let client = client_at(server.endpoint()).build().unwrap();
            record(&client, 3);
            end(&client, 3)
        });
    }
}

#[test]
fn flush_and_shutdown_end_in_time_while_large_bodies_are_not_read() {
    // PROC-07
    for (what, extent) in [("nothing read", Extent::Nothing), ("part of the body read", Extent::Body(50))] {
        assert_ends_in_time(what, MARGIN, || {
            let server = FaultServer::plain([stall_after(extent)]);
            let client = client_at(server.endpoint()).with_compression(Compression::None).build().unwrap();
            record_much(&client);
            end(&client, 6)
        });
    }
}

#[test]
fn flush_and_shutdown_end_in_time_while_tls_stalls() {
    // PROC-07
    let authority = Authority::new();
    let trusted = authority.file("ca.pem", authority.certificate());
    assert_ends_in_time("no greeting", MARGIN, || {
        let server = FaultServer::plain([stall_after(Extent::Nothing)]);
        let client = client_at(server.endpoint_by("https", "localhost")).build().unwrap();
        record(&client, 3);
        end(&client, 3)
    });
    assert_ends_in_time("not trusted, again and again", MARGIN, || {
        let server = FaultServer::tls(authority.server(), [accept()]);
        let client = client_at(server.endpoint()).build().unwrap();
        record(&client, 3);
        end(&client, 3)
    });
    for (what, act) in [
        ("head read", stall_after(Extent::Head)),
        ("all read", stall_after(Extent::Whole)),
        ("half a status line", answer(Answer::status(200).cut_to(11).then(After::Stall))),
        ("a trickle", answer(Answer::status(200).trickled(Duration::from_millis(30)))),
    ] {
        assert_ends_in_time(what, MARGIN, || {
            let server = FaultServer::tls(authority.server(), [act.clone()]);
            let client = client_at(server.endpoint()).with_certificate(&trusted).build().unwrap();
            record(&client, 3);
            end(&client, 3)
        });
    }
}

#[test]
fn closing_gives_up_after_the_budget_without_progress() {
    // PROC-07
    let budget = ExitBudget { stall: TIMEOUT, total: LONG };
    for (what, act) in [
        ("all read", stall_after(Extent::Whole)),
        ("a trickle", answer(Answer::status(200).trickled(Duration::from_millis(30)))),
        ("asked to wait", answer(Answer::status(503).header("retry-after", "600"))),
    ] {
        assert_ends_in_time(what, MARGIN, || {
            let server = FaultServer::plain([act.clone()]);
            let client = client_at(server.endpoint()).with_exit_budget(budget.clone()).build().unwrap();
            record(&client, 3);
            let begun = Instant::now();
            let receipt = client.close();
            let took = begun.elapsed();
            assert_eq!((receipt.dropped.get(DropReason::Shutdown), receipt.pending), (3, 0), "{what}: {receipt:?}");
            assert_accounted(&client);
            [took, Duration::ZERO]
        });
    }
}

/// A client whose eighty spans take a slow receiver eight requests, one after the other, of 0.1 s each.
fn slow_but_steady(server: &FaultServer, budget: ExitBudget) -> Client {
    let batch = BatchConfig { max_batch_size: 10, ..BatchConfig::default() };
    let builder = client_at(server.endpoint()).with_batch_config(batch).with_worker_count(1);
    let client = builder.with_exit_budget(budget).build().unwrap();
    record(&client, 80);
    client
}

#[test]
fn closing_goes_on_while_batches_are_acknowledged_until_its_budget_is_used_up() {
    let slow = || FaultServer::plain([answer(Answer::status(200).trickled(Duration::from_millis(2)))]);
    // Eight times longer than one request takes, so that a busy machine is not taken for a stall.
    let server = slow();
    let client = slow_but_steady(&server, ExitBudget { stall: Duration::from_millis(800), total: LONG });
    assert!(client.close().is_complete());
    assert_eq!(assert_accounted(&client).exported, 80);

    assert_ends_in_time("the total", MARGIN, || {
        let server = slow();
        let client = slow_but_steady(&server, ExitBudget { stall: TIMEOUT, total: TIMEOUT });
        let begun = Instant::now();
        let receipt = client.close();
        let took = begun.elapsed();
        assert!(receipt.exported < 80 && receipt.pending == 0, "{receipt:?}");
        assert_accounted(&client);
        [took, Duration::ZERO]
    });
}

#[test]
fn a_timeout_of_nothing_does_not_wait_at_all() {
    let server = FaultServer::plain([stall_after(Extent::Whole)]);
    let client = client_at(server.endpoint()).build().unwrap();
    record(&client, 3);
    let begun = Instant::now();
    let flushed = client.flush(Duration::ZERO);
    assert_eq!((flushed.exported, flushed.pending), (0, 3));
    let ended = client.shutdown(Duration::ZERO);
    // Generous: what is measured is that nothing is waited for, not how busy the machine is.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((ended.dropped.get(DropReason::Shutdown), ended.pending), (3, 0));
    assert_accounted(&client);
}

#[test]
fn shutting_down_again_and_flushing_afterwards_answer_the_same_counts_at_once() {
    // TPR-05, PROC-08
    let server = FaultServer::plain([accept(), stall_after(Extent::Whole)]);
    let client = client_at(server.endpoint()).build().unwrap();
    record(&client, 5);
    assert!(client.flush(LONG).is_complete());
    record(&client, 2);
    let first = client.shutdown(TIMEOUT);
    assert_eq!((first.exported, first.dropped.get(DropReason::Shutdown), first.pending), (5, 2, 0));
    let begun = Instant::now();
    for again in [client.shutdown(LONG), client.flush(LONG), client.close(), client.shutdown(Duration::ZERO)] {
        assert_eq!(again, first);
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(server.requests().len(), 2);
    assert_accounted(&client);
}

#[test]
fn after_the_shutdown_no_connection_is_left() {
    let server = FaultServer::plain([answer(Answer::status(200).once_requests(2))]);
    let client = client_at(server.endpoint()).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client.export_spans(generate_test_spans(1)).unwrap());
        }
    });
    assert_eq!(server.connections(), 2);
    assert!(client.shutdown(LONG).is_complete());
    server.wait_for_hang_ups();
    assert_accounted(&client);
}

#[test]
fn receipts_add_up_and_since_gives_the_difference() {
    let partial = Answer::status(200).body(b"\x0a\x07\x08\x02\x12\x03bad".as_slice());
    let server = FaultServer::plain([accept(), answer(partial), answer(Answer::status(400)), accept()]);
    let client = client_at(server.endpoint()).build().unwrap();
    let mut receipts = vec![Receipt::default()];
    for spans in [3, 5, 7, 11] {
        record(&client, spans);
        receipts.push(client.flush(LONG));
    }
    let windows: Vec<_> = receipts.windows(2).map(|pair| pair[1].since(&pair[0])).collect();
    let counts = |receipt: &Receipt| (receipt.exported, receipt.rejected, receipt.dropped_total(), receipt.pending);
    assert_eq!(
        windows.iter().map(counts).collect::<Vec<_>>(),
        [(3, 0, 0, 0), (3, 2, 2, 0), (0, 0, 7, 0), (11, 0, 0, 0)]
    );
    assert_eq!(windows.iter().map(Receipt::is_complete).collect::<Vec<_>>(), [true, false, false, true]);
    let last = receipts[4];
    assert_eq!(counts(&last), (17, 2, 9, 0));
    assert_eq!((last.dropped.get(DropReason::Rejected), last.dropped.get(DropReason::Refused)), (2, 7));
    let stats = assert_accounted(&client);
    assert_eq!((stats.ended, stats.exported), (26, last.exported));
}

#[test]
fn a_shutdown_while_others_record_and_flush_leaves_nothing_uncounted() {
    // PROC-06, TPR-05, TPR-08
    for seed in 0..8 {
        let acts = [accept(), reset_after(Extent::Whole), answer(Answer::status(503)), stall_after(Extent::Whole)];
        let server = FaultServer::plain(acts.into_iter().cycle().skip(seed % 4).take(8));
        let retry = RetryConfig { initial_interval: Duration::from_millis(5), ..RetryConfig::default() };
        let client = client_at(server.endpoint()).with_retry_config(retry).build().unwrap();
        let started = Barrier::new(7);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let tracer = client.tracer("recording");
                    tracer.start("first").end();
                    started.wait();
                    while tracer.enabled() {
                        tracer.start("span").end();
                    }
                });
                scope.spawn(|| {
                    started.wait();
                    for _ in 0..20 {
                        let receipt = client.flush(Duration::from_millis(5));
                        // What is pending at the end of time is not also lost or exported.
                        let stats = client.stats();
                        assert!(receipt.exported + receipt.dropped_total() <= stats.ended, "{receipt:?} {stats:?}");
                    }
                });
            }
            started.wait();
            let receipt = client.shutdown(TIMEOUT);
            assert_eq!(receipt.pending, 0);
        });
        let stats = assert_accounted(&client);
        assert!(stats.queued == 0 && stats.ended >= 3, "{stats:?}");
    }
}

#[test]
fn a_span_that_is_ended_during_the_shutdown_is_exported_or_dropped_and_never_left_behind() {
    // TPR-05, PROC-08
    let refusing = Closed::refusing();
    for number in 0..200 {
        let client = client_at(refusing.endpoint()).build().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let tracer = client.tracer("until the end");
                    while tracer.enabled() {
                        tracer.start("span").end();
                    }
                });
            }
            (0..number % 5).for_each(|_| thread::yield_now());
            client.shutdown(Duration::ZERO);
        });
        // Nobody records any more, and nobody sends.
        assert_eq!(assert_accounted(&client).queued, 0, "after {number} others");
    }
}

#[test]
fn shutdowns_of_many_threads_at_once_answer_the_same() {
    // TPR-05
    let server = FaultServer::plain([stall_after(Extent::Whole)]);
    let client = client_at(server.endpoint()).build().unwrap();
    record(&client, 4);
    let begun = Instant::now();
    let receipts: Vec<_> = thread::scope(|scope| {
        let ending: Vec<_> = (0..8).map(|_| scope.spawn(|| client.shutdown(TIMEOUT))).collect();
        ending.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // They wait for one of them, and not one after the other.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0] && receipt.dropped_total() == 4), "{receipts:?}");
    assert_accounted(&client);
}

#[test]
fn a_client_dropped_by_the_destructor_of_a_thread_local_delivers_and_does_not_hang() {
    struct Holder(Option<Client>, Arc<Barrier>);
    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.0.take());
            self.1.wait();
        }
    }
    thread_local!(static HELD: std::cell::RefCell<Option<Holder>> = const { std::cell::RefCell::new(None) });
    for before_recording in [true, false] {
        let server = FaultServer::plain([accept()]);
        let dropped = Arc::new(Barrier::new(2));
        let endpoint = server.endpoint();
        let recording = thread::spawn({
            let dropped = Arc::clone(&dropped);
            move || {
                let client = client_at(endpoint).build().unwrap();
                let tracer = client.tracer("thread-local");
                // Destructors run in the order in which the thread-locals were first used, or in another.
                if !before_recording {
                    tracer.start("first use").end();
                }
                HELD.set(Some(Holder(Some(client), dropped)));
                tracer.start("held").end();
            }
        });
        dropped.wait();
        recording.join().unwrap();
        assert_eq!(server.arrived().len(), if before_recording { 1 } else { 2 });
    }
}

#[test]
fn a_thread_that_only_waits_for_a_signal_can_shut_down_while_others_are_blocked() {
    let server = FaultServer::plain([stall_after(Extent::Whole)]);
    let client = client_at(server.endpoint()).build().unwrap();
    let signal = Barrier::new(2);
    thread::scope(|scope| {
        let ending = scope.spawn(|| {
            signal.wait();
            client.shutdown(TIMEOUT)
        });
        let open = client.tracer("signal").start("open for ever");
        record(&client, 3);
        let flushing = scope.spawn(|| client.flush(LONG));
        server.wait_for_stalled(1);
        signal.wait();
        let ended = ending.join().unwrap();
        assert_eq!((ended.dropped.get(DropReason::Shutdown), ended.pending), (3, 0));
        // Its wait is over too, since nothing is left to wait for.
        let flushed = flushing.join().unwrap();
        assert_eq!((flushed.pending, flushed.is_complete()), (0, false));
        drop(open);
    });
    assert_eq!(assert_accounted(&client).dropped.get(DropReason::Shutdown), 4);
}

#[cfg(feature = "grpc")]
#[test]
fn flush_and_shutdown_end_in_time_while_a_call_is_not_answered() {
    assert_ends_in_time("a call without an answer", MARGIN, || {
        let receiver = Receiver::builder().response_delay(LONG).start().unwrap();
        let client = client_at(receiver.endpoint()).with_grpc_transport().build().unwrap();
        record(&client, 100);
        end(&client, 100)
    });
}
