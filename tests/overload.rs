//! What becomes of spans for which there is no room, by drop strategy.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::HashSet,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, DropReason, DropStrategy,
    testing::{Keep, Receiver, Response},
};
use support::{Ids, LONG, assert_accounted, assert_received, client_of, ids};

const QUEUE: usize = 1_000;

fn small_queue() -> BatchConfig {
    BatchConfig { max_queue_size: QUEUE, max_batch_size: 100, ..BatchConfig::default() }
}

fn record(client: &Client, count: usize) -> Vec<Ids> {
    let tracer = client.tracer("overload");
    (0..count).map(|_| ids(&tracer.start("span").context())).collect()
}

/// How many of `made` arrived.
fn arrived(receiver: &Receiver, made: &[Ids]) -> usize {
    let received: HashSet<_> = receiver.span_ids().into_iter().collect();
    made.iter().filter(|ids| received.contains(*ids)).count()
}

/// Runs `job`, which is not to hang.
fn in_time(job: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let job = thread::spawn(move || {
        job();
        let _ = done.send(());
    });
    assert_ne!(is_done.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Timeout), "hangs");
    job.join().unwrap();
}

const BLOCK: DropStrategy = DropStrategy::Block(Duration::from_secs(3600));

/// A receiver that asks to come back later until it is told otherwise, and from then on takes everything.
fn closed_for_now(open: &'static std::sync::atomic::AtomicBool) -> Receiver {
    let respond = move |_: &_| match open.load(std::sync::atomic::Ordering::SeqCst) {
        true => Response::ok(),
        false => Response::status(503).header("retry-after", "1"),
    };
    Receiver::builder().keep(Keep::Ids).respond_with(respond).start().unwrap()
}

#[test]
fn the_newest_spans_are_dropped_by_default_and_the_oldest_arrive() {
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let receiver = closed_for_now(&OPEN);
    let client = client_of(&receiver).with_batch_config(small_queue()).build().unwrap();
    let (first, second) = (record(&client, QUEUE), record(&client, QUEUE));
    OPEN.store(true, std::sync::atomic::Ordering::SeqCst);
    let receipt = client.shutdown(LONG);
    assert_eq!(receipt.dropped.get(DropReason::QueueFull), QUEUE as u64, "{receipt:?}");
    assert_eq!((arrived(&receiver, &first), arrived(&receiver, &second)), (QUEUE, 0));
    assert_accounted(&client);
}

#[test]
fn oldest_first_gives_up_what_waits_longest_and_the_newest_arrive() {
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let receiver = closed_for_now(&OPEN);
    let client = client_of(&receiver)
        .with_batch_config(small_queue())
        .with_drop_strategy(DropStrategy::OldestFirst)
        .build()
        .unwrap();
    let made = record(&client, 5 * QUEUE);
    OPEN.store(true, std::sync::atomic::Ordering::SeqCst);
    let receipt = client.shutdown(LONG);
    let stats = assert_accounted(&client);
    let lost = receipt.dropped.get(DropReason::QueueFull);
    assert_eq!((stats.ended, stats.queued, receipt.dropped_total()), (made.len() as u64, 0, lost), "{receipt:?}");
    // What is shed is shed in batches, and what is being sent at the time is not.
    let last = &made[made.len() - QUEUE / 2..];
    assert_eq!(arrived(&receiver, last), last.len(), "{receipt:?}");
    assert!(arrived(&receiver, &made) <= QUEUE, "{receipt:?}");
}

#[test]
fn oldest_first_keeps_to_the_memory_bound_on_every_thread_and_loses_nothing_uncounted() {
    const BOUND: usize = 2 << 20;
    let receiver = Receiver::builder().keep(Keep::Ids).response_delay(Duration::from_millis(20)).start().unwrap();
    let client = client_of(&receiver)
        .with_max_memory_usage(BOUND)
        .with_drop_strategy(DropStrategy::OldestFirst)
        .build()
        .unwrap();
    let most = thread::scope(|scope| {
        let recording: Vec<_> = (0..4).map(|_| scope.spawn(|| record(&client, 50_000))).collect();
        let mut most = 0;
        while !recording.iter().all(|thread| thread.is_finished()) {
            most = most.max(client.stats().memory_bytes);
        }
        most
    });
    // One body for each worker is held while the chunks it came from are still there.
    assert!(most <= (BOUND + BOUND / 4) as u64, "{most} bytes held");
    let receipt = client.shutdown(LONG);
    let stats = assert_accounted(&client);
    assert_eq!((stats.ended, stats.queued), (200_000, 0));
    assert_eq!(stats.exported, receiver.span_count());
    assert!(receipt.dropped.get(DropReason::QueueFull) > 0, "the test was one of overload: {receipt:?}");
}

#[test]
fn block_slows_the_program_down_to_the_receiver_and_loses_nothing() {
    for (queue, memory) in [(QUEUE, 64 << 20), (usize::MAX, 1 << 20)] {
        let receiver = Receiver::builder().keep(Keep::Ids).response_delay(Duration::from_millis(1)).start().unwrap();
        let client = client_of(&receiver)
            .with_batch_config(BatchConfig { max_queue_size: queue, ..BatchConfig::default() })
            .with_max_memory_usage(memory)
            .with_drop_strategy(DropStrategy::Block(LONG))
            .build()
            .unwrap();
        let made = thread::scope(|scope| {
            let recording: Vec<_> = (0..4).map(|_| scope.spawn(|| record(&client, 10_000))).collect();
            recording.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(client.shutdown(LONG).is_complete(), "{:?}", client.stats());
        assert_received(&receiver, &made);
        assert_accounted(&client);
    }
}

#[test]
fn block_waits_no_longer_than_it_may_and_then_drops_the_span() {
    const WAIT: Duration = Duration::from_millis(50);
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let receiver = closed_for_now(&OPEN);
    let client = client_of(&receiver)
        .with_batch_config(small_queue())
        .with_drop_strategy(DropStrategy::Block(WAIT))
        .build()
        .unwrap();
    record(&client, QUEUE);
    let begun = Instant::now();
    record(&client, 2);
    assert!(begun.elapsed() >= 2 * WAIT && begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    let receipt = client.shutdown(Duration::ZERO);
    assert_eq!(receipt.dropped.get(DropReason::QueueFull), 2, "{receipt:?}");
    assert_accounted(&client);
}

#[test]
fn a_shutdown_frees_the_threads_that_wait_for_room() {
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let receiver = closed_for_now(&OPEN);
    let client = client_of(&receiver)
        .with_batch_config(small_queue())
        .with_drop_strategy(DropStrategy::Block(Duration::from_secs(3600)))
        .build()
        .unwrap();
    record(&client, QUEUE);
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| record(&client, 1))).collect();
        client.shutdown(Duration::from_millis(100));
        waiting.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert_eq!(assert_accounted(&client).queued, 0);
}

#[test]
fn a_span_is_rid_at_once_of_what_no_room_would_be_enough_for_and_costs_no_other() {
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    for strategy in [BLOCK, DropStrategy::OldestFirst] {
        in_time(move || {
            let receiver = closed_for_now(&OPEN);
            let batch = BatchConfig { max_batch_size: 10, ..BatchConfig::default() };
            let builder = client_of(&receiver).with_max_memory_usage(1 << 20).with_request_timeout(LONG);
            let client = builder.with_batch_config(batch).with_drop_strategy(strategy).build().unwrap();
            record(&client, 100);
            let mut span = client.tracer("overload").start("large");
            span.set_attribute("text", "x".repeat(2 << 20));
            span.end();
            let stats = assert_accounted(&client);
            assert_eq!((stats.dropped.total(), stats.queued, stats.no_memory), (0, 101, 1), "{strategy:?}: {stats:?}");
            client.shutdown(Duration::ZERO);
        });
    }
}

#[test]
fn block_does_not_wait_where_only_open_spans_stand_in_the_way() {
    in_time(|| {
        let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
        let builder = client_of(&receiver).with_max_memory_usage(1 << 20).with_drop_strategy(BLOCK);
        let client = builder.build().unwrap();
        let tracer = client.tracer("overload");
        let open: Vec<_> = (0..2_000).map(|_| tracer.start("open")).collect();
        let begun = open.iter().filter(|span| span.is_recording()).count();
        assert!(begun > 100 && begun < 2_000, "{begun}");
        drop(open);
        // What began can end: there is room left for that.
        let receipt = client.shutdown(LONG);
        assert_eq!((receipt.exported, receipt.dropped_total()), (begun as u64, 2_000 - begun as u64), "{receipt:?}");
        assert_accounted(&client);
    });
}

#[test]
fn what_idle_threads_keep_for_their_next_spans_leaves_room_for_the_spans_of_others() {
    const THREADS: usize = 8;
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let client = client_of(&receiver).with_max_memory_usage(1 << 20).build().unwrap();
    let (over, turn) = (Barrier::new(THREADS + 1), parking_lot::Mutex::new(()));
    thread::scope(|scope| {
        let (idle, is_idle) = mpsc::channel();
        for _ in 0..THREADS {
            let (idle, turn, client, over) = (idle.clone(), &turn, &client, &over);
            scope.spawn(move || {
                let tracer = client.tracer("idle");
                let one_at_a_time = turn.lock();
                let mut spans: Vec<_> = (0..32).map(|_| tracer.start("nested")).collect();
                for span in &mut spans {
                    span.set_attribute("text", "x".repeat(6_000));
                }
                drop(spans);
                client.flush(LONG);
                drop(one_at_a_time);
                idle.send(()).unwrap();
                over.wait();
            });
        }
        (0..THREADS).for_each(|_| is_idle.recv().unwrap());
        let before = client.stats();
        record(&client, 100);
        let receipt = client.flush(LONG);
        over.wait();
        assert_eq!(receipt.exported - before.exported, 100, "{receipt:?} {before:?}");
    });
}

#[test]
fn a_hundred_idle_threads_leave_room_for_others_even_within_the_smallest_bound() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let client = client_of(&receiver).with_max_memory_usage(1 << 20).build().unwrap();
    let all_recorded = std::sync::Barrier::new(101);
    let made = thread::scope(|scope| {
        let idle: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let made = record(&client, 2);
                    // Alive until every other one has recorded.
                    all_recorded.wait();
                    made
                })
            })
            .collect();
        all_recorded.wait();
        idle.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(client.shutdown(LONG).is_complete(), "{:?}", client.stats());
    assert_received(&receiver, &made);
    assert_accounted(&client);
}
