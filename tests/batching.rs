//! When batches leave, how large they are, and whom they keep waiting: observed at the receiver.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, RetryConfig, Tracer,
    testing::{Receiver, Request, Response},
};
use support::{LONG, assert_accounted, client_of, gate, wait_for};

const NEVER: Duration = Duration::from_secs(3600);

fn client(receiver: &Receiver, batch: BatchConfig) -> Client {
    client_of(receiver).with_batch_config(batch).build().unwrap()
}

fn record(tracer: &Tracer, spans: usize) {
    (0..spans).for_each(|_| tracer.start("span").end());
}

/// Spans of each request, in the order of arrival.
fn sizes(receiver: &Receiver) -> Vec<u64> {
    receiver.requests().iter().map(|request| request.spans).collect()
}

#[test]
fn time_first_sends_whatever_is_there_after_the_timeout_and_its_size_only_splits() {
    let receiver = Receiver::start().unwrap();
    let client = client(
        &receiver,
        BatchConfig {
            strategy: BatchStrategy::TimeFirst,
            max_batch_size: 100,
            batch_timeout: Duration::from_millis(500),
            ..BatchConfig::default()
        },
    );
    let begun = Instant::now();
    record(&client.tracer("test"), 250);
    assert!(receiver.wait_for_spans(250, LONG));
    assert!(begun.elapsed() >= Duration::from_millis(400), "full batches did not wait: {:?}", begun.elapsed());
    let mut sizes = sizes(&receiver);
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    assert_accounted(&client);
}

#[test]
fn size_first_sends_full_batches_and_keeps_the_rest() {
    let receiver = Receiver::start().unwrap();
    let client = client(
        &receiver,
        BatchConfig {
            strategy: BatchStrategy::SizeFirst,
            max_batch_size: 100,
            batch_timeout: NEVER,
            ..BatchConfig::default()
        },
    );
    record(&client.tracer("test"), 250);
    assert!(receiver.wait_for_spans(200, LONG));
    assert_eq!(sizes(&receiver), [100, 100]);
    assert_eq!(client.stats().ended, 250);
    assert!(client.flush(LONG).is_complete());
    assert_eq!(sizes(&receiver), [100, 100, 50]);
    assert_accounted(&client);
}

#[test]
fn size_first_lets_only_what_is_overdue_leave() {
    let receiver = Receiver::start().unwrap();
    let batch_timeout = Duration::from_secs(2);
    let client =
        client(&receiver, BatchConfig { strategy: BatchStrategy::SizeFirst, batch_timeout, ..BatchConfig::default() });
    let tracer = client.tracer("test");
    let begun = Instant::now();
    record(&tracer, 30);
    // Not waiting for anything: the age of spans is what this is about.
    thread::sleep(batch_timeout / 2);
    record(&tracer, 10);
    assert!(receiver.wait_for_spans(40, LONG));
    assert_eq!(sizes(&receiver), [30, 10]);
    assert!(begun.elapsed() >= batch_timeout * 5 / 4, "the last ones left early: {:?}", begun.elapsed());
}

#[test]
fn hybrid_sends_all_that_waits_at_its_size_or_its_timeout() {
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig {
        max_batch_size: 1000,
        batch_timeout: NEVER,
        strategy: BatchStrategy::Hybrid,
        ..BatchConfig::default()
    };
    let by_size = client(&receiver, batch.clone());
    record(&by_size.tracer("test"), 1000);
    assert!(receiver.wait_for_spans(1000, LONG));
    assert_eq!(sizes(&receiver), [1000]);

    let by_time = client(&receiver, BatchConfig { batch_timeout: Duration::from_millis(500), ..batch });
    let begun = Instant::now();
    record(&by_time.tracer("test"), 600);
    assert!(receiver.wait_for_spans(1600, LONG));
    assert!(begun.elapsed() >= Duration::from_millis(400), "600 of 1000 did not wait: {:?}", begun.elapsed());
    assert_eq!(sizes(&receiver), [1000, 600]);
}

#[test]
fn by_default_a_batch_is_ready_at_512_spans_whatever_it_may_grow_to() {
    // BSPV-04
    let default = BatchConfig { batch_timeout: NEVER, ..BatchConfig::default() };
    for max_batch_size in [512, 513, default.max_batch_size - 1, default.max_batch_size, default.max_batch_size + 1] {
        let receiver = Receiver::start().unwrap();
        let client = client(&receiver, BatchConfig { max_batch_size, ..default.clone() });
        record(&client.tracer("test"), 600);
        assert!(receiver.wait_for_spans(512, LONG), "{max_batch_size}");
    }
    let receiver = Receiver::start().unwrap();
    let client = client(&receiver, BatchConfig { max_batch_size: 100, ..default });
    record(&client.tracer("test"), 100);
    assert!(receiver.wait_for_spans(100, LONG), "a smaller one is ready at its size");
}

#[test]
fn by_default_a_backlog_leaves_in_requests_as_large_as_they_may_be() {
    for max_batch_size in [4096, 4095, 700] {
        let ((tell, is_asked), (keeper, gate)) = (mpsc::channel(), gate());
        let respond = move |request: &Request| {
            if request.number == 1 {
                let _ = tell.send(());
                gate.wait();
            }
            Response::ok()
        };
        let receiver = Receiver::builder().respond_with(respond).start().unwrap();
        let batch = BatchConfig { max_batch_size, batch_timeout: NEVER, ..BatchConfig::default() };
        let client = client_of(&receiver).with_worker_count(1).with_batch_config(batch).build().unwrap();
        record(&client.tracer("test"), 512);
        is_asked.recv_timeout(LONG).unwrap();
        // The one worker waits for the answer meanwhile.
        record(&client.tracer("test"), 9000);
        keeper.let_one_pass();
        assert!(client.flush(LONG).is_complete());
        assert_eq!(sizes(&receiver).into_iter().max(), Some(max_batch_size as u64), "{:?}", sizes(&receiver));
    }
}

#[test]
fn beyond_half_of_the_queue_everything_leaves_whatever_the_strategy() {
    for strategy in [BatchStrategy::TimeFirst, BatchStrategy::SizeFirst, BatchStrategy::Hybrid, BatchStrategy::Growing]
    {
        let receiver = Receiver::start().unwrap();
        let batch = BatchConfig { strategy, batch_timeout: NEVER, max_queue_size: 100, ..BatchConfig::default() };
        let client = client(&receiver, batch);
        record(&client.tracer("test"), 51);
        assert!(receiver.wait_for_spans(51, LONG), "{strategy:?}");
    }
}

/// Which of the two threads' spans a request holds.
fn threads_of(request: &Request) -> BTreeSet<String> {
    let scopes =
        request.message.iter().flat_map(|message| &message.resource_spans).flat_map(|spans| &spans.scope_spans);
    scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone()).collect()
}

/// The requests that follow a first one, which was held back while a flood and a trickle were recorded.
fn after_a_flood(load_balancing: bool, workers: usize) -> Vec<BTreeSet<String>> {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let hold_the_first = move |_: &Request| {
        let held = held.lock().unwrap().take();
        if let Some(held) = held {
            let _ = held.recv_timeout(LONG);
        }
        Response::ok()
    };
    let receiver = Receiver::builder().respond_with(hold_the_first).start().unwrap();
    let batch = BatchConfig {
        max_batch_size: 100,
        batch_timeout: Duration::from_millis(1),
        load_balancing,
        ..BatchConfig::default()
    };
    let client = Arc::new(client_of(&receiver).with_worker_count(workers).with_batch_config(batch).build().unwrap());
    let tracer = client.tracer("test");
    let barrier = Arc::new(Barrier::new(3));
    let threads = [("flood", 2000), ("trickle", 5)].map(|(name, spans)| {
        let (tracer, barrier) = (tracer.clone(), Arc::clone(&barrier));
        thread::spawn(move || {
            // So that each has a ring before anything is held back.
            tracer.start(name).end();
            barrier.wait();
            barrier.wait();
            (0..spans).for_each(|_| tracer.start(name).end());
        })
    });
    barrier.wait();
    barrier.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    release.send(()).unwrap();
    assert!(client.flush(LONG).is_complete());
    assert_accounted(&client);
    receiver.requests().iter().map(threads_of).collect()
}

#[test]
fn a_flood_on_one_thread_does_not_delay_a_trickle_on_another() {
    let requests = after_a_flood(true, 1);
    let last = requests.iter().rposition(|threads| threads.contains("trickle")).unwrap();
    // What left before the request was held back, that one, and the next.
    assert!(last <= 3, "the trickle was in request {last} of {requests:?}");
    assert!(requests.len() > 10, "{requests:?}");
}

#[test]
fn without_load_balancing_each_ring_stays_with_one_worker() {
    let receiver = Receiver::start().unwrap();
    let batch =
        BatchConfig { max_batch_size: 50, batch_timeout: NEVER, load_balancing: false, ..BatchConfig::default() };
    let client = client_of(&receiver).with_worker_count(2).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("test");
    let barrier = Barrier::new(2);
    // Both workers are there once a backlog has called for them.
    thread::scope(|scope| {
        for name in ["one", "other"] {
            let (tracer, barrier) = (&tracer, &barrier);
            scope.spawn(move || {
                (0..20).for_each(|_| {
                    barrier.wait();
                    (0..1000).for_each(|_| tracer.start(name).end());
                });
            });
        }
    });
    assert!(client.flush(LONG).is_complete());
    let requests: Vec<_> = receiver.requests().iter().map(threads_of).collect();
    let mixed = requests.iter().filter(|threads| threads.len() > 1).count();
    // Until the second worker is there the first has both rings, and a flush takes from all.
    assert!(mixed < requests.len() / 4, "{mixed} of {} requests mix rings", requests.len());
    let balanced = after_a_flood(true, 2);
    assert!(balanced.iter().any(|threads| threads.len() > 1), "{balanced:?}");
}

#[test]
fn a_lane_of_its_own_keeps_the_time_of_its_spans() {
    let receiver = Receiver::start().unwrap();
    let batch_timeout = Duration::from_secs(4);
    let batch = BatchConfig { batch_timeout, load_balancing: false, ..BatchConfig::default() };
    let client = client_of(&receiver).with_worker_count(2).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("test");
    // Both workers are there, and each has a ring.
    let first = Barrier::new(3);
    let (keeper, gate) = gate();
    thread::scope(|scope| {
        let keeper = keeper;
        let threads = ["one", "other"].map(|name| {
            let (tracer, first, gate) = (&tracer, &first, &gate);
            scope.spawn(move || {
                (0..3000).for_each(|_| tracer.start("warm").end());
                first.wait();
                gate.wait();
                if name == "other" {
                    // Not waiting for anything: the age of spans is what this is about.
                    thread::sleep(Duration::from_millis(200));
                }
                tracer.start(name).end();
                Instant::now()
            })
        });
        first.wait();
        assert!(client.flush(LONG).is_complete());
        let before = receiver.span_count();
        drop(keeper);
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(receiver.wait_for_spans(before + 2, LONG));
        // Had it waited for the other's next turn, it would be twice that time.
        assert!(ended[1].elapsed() < batch_timeout * 7 / 4, "{:?} after its end", ended[1].elapsed());
    });
}

#[test]
fn spans_do_not_wait_for_older_ones_that_are_to_be_tried_again_later() {
    let fail_twice = |request: &Request| match request.number {
        1 | 2 => Response::status(503),
        _ => Response::ok(),
    };
    let receiver = Receiver::builder().respond_with(fail_twice).start().unwrap();
    let batch = BatchConfig { batch_timeout: Duration::from_millis(20), ..BatchConfig::default() };
    let late = RetryConfig { initial_interval: Duration::from_secs(5), ..RetryConfig::default() };
    let client = client_of(&receiver).with_worker_count(1).with_batch_config(batch).with_retry_config(late);
    let client = client.build().unwrap();
    let tracer = client.tracer("test");
    for requests in [1, 2] {
        tracer.start("unlucky").end();
        wait_for("the request", || receiver.requests().len() >= requests);
    }
    let begun = Instant::now();
    tracer.start("lucky").end();
    assert!(receiver.wait_for_spans(1, LONG));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
