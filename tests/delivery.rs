//! Delivery over real sockets with default settings: every span arrives exactly once, whatever threads do.
#![cfg(feature = "testing")]

mod support;

use std::{
    cell::RefCell,
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, Client, DropReason, Span, Tracer,
    testing::{Keep, Receiver, Response},
};
#[cfg(feature = "grpc")]
use support::assert_called;
use support::{Ids, LONG, assert_accounted, assert_received, client_of, gate, ids, wait_for};

/// Makes `count` small nested spans and answers their ids.
fn record(tracer: &Tracer, count: usize) -> Vec<Ids> {
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        tracer.in_span("outer", |outer| {
            outer.set_attribute("item", made.len());
            made.push(ids(&outer.context()));
            if made.len() < count {
                let inner = tracer.start("inner");
                made.push(ids(&inner.context()));
            }
        });
    }
    made
}

fn record_on_threads(client: &Client, threads: usize, spans_each: usize) -> Vec<Ids> {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let recording: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let tracer = client.tracer("delivery");
                    start.wait();
                    record(&tracer, spans_each)
                })
            })
            .collect();
        recording.into_iter().flat_map(|thread| thread.join().expect("recording never panics")).collect()
    })
}

#[test]
fn spans_of_1_to_16_threads_arrive_exactly_once() {
    for threads in [1, 2, 4, 16] {
        let receiver = Receiver::start().unwrap();
        let client = client_of(&receiver).build().unwrap();
        let made = record_on_threads(&client, threads, 2_000);
        // PROC-06
        let receipt = client.flush(LONG);
        assert!(receipt.is_complete(), "{receipt:?}");
        assert_received(&receiver, &made);
        let stats = assert_accounted(&client);
        assert_eq!((stats.ended, stats.queued), (made.len() as u64, 0));
        assert!(client.shutdown(LONG).is_complete());
    }
}

/// 200,000 spans in a tight loop, against a receiver that takes 5 ms to answer, with default settings.
fn burst(threads: usize) {
    const SPANS: usize = 200_000;
    let receiver = Receiver::builder().keep(Keep::Ids).response_delay(Duration::from_millis(5)).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let made = record_on_threads(&client, threads, SPANS / threads);
    let held = client.stats().memory_bytes;
    let receipt = client.shutdown(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_received(&receiver, &made);
    assert_eq!(assert_accounted(&client).exported, SPANS as u64);
    assert!(held <= 64 << 20, "{held} bytes held");
}

#[test]
fn a_burst_of_200_000_spans_on_one_thread_is_delivered_whole_by_default() {
    burst(1);
}

#[test]
fn a_burst_of_200_000_spans_on_four_threads_is_delivered_whole_by_default() {
    burst(4);
}

#[cfg(feature = "grpc")]
#[test]
fn a_burst_on_eight_threads_is_delivered_whole_over_grpc() {
    const SPANS: usize = 200_000;
    let receiver = Receiver::builder().keep(Keep::Ids).response_delay(Duration::from_millis(5)).start().unwrap();
    let client = client_of(&receiver).with_grpc_transport().build().unwrap();
    let made = record_on_threads(&client, 8, SPANS / 8);
    let receipt = client.shutdown(LONG);
    assert!(receipt.is_complete(), "{receipt:?}");
    assert_received(&receiver, &made);
    assert_called(&receiver);
    assert_eq!(assert_accounted(&client).exported, SPANS as u64);
}

#[test]
fn ten_thousand_threads_of_one_span_each_do_not_grow_memory() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("churn");
    let mut made = Vec::new();
    let mut held = Vec::new();
    for _ in 0..10 {
        for _ in 0..250 {
            thread::scope(|scope| {
                let short: Vec<_> = (0..4).map(|_| scope.spawn(|| ids(&tracer.start("only").context()))).collect();
                made.extend(short.into_iter().map(|thread| thread.join().unwrap()));
            });
        }
        assert!(client.flush(LONG).is_complete());
        held.push(client.stats().memory_bytes);
    }
    assert_received(&receiver, &made);
    assert_eq!(assert_accounted(&client).ended, 10_000);
    let (first, last) = (held[0], held[9]);
    assert!(last <= first + (1 << 20), "held after each thousand threads: {held:?}");
}

#[test]
fn a_span_may_end_on_another_thread_than_it_started_on() {
    // TPR-08
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let (sender, spans) = mpsc::channel::<Span>();
    let ending = thread::spawn(move || spans.into_iter().for_each(Span::end));
    let tracer = client.tracer("moving");
    let mut made = Vec::new();
    for item in 0..5_000 {
        let mut span = tracer.start("handed over");
        span.set_attribute("item", item);
        made.push(ids(&span.context()));
        sender.send(span).unwrap();
    }
    drop(sender);
    ending.join().unwrap();
    assert!(client.flush(LONG).is_complete());
    assert_received(&receiver, &made);
    assert_accounted(&client);
}

#[test]
fn spans_ended_in_destructors_of_thread_locals_are_not_lost() {
    thread_local! {
        static BEFORE: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
        static AFTER: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
    }
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("destructors");
    let made: Vec<Ids> = thread::scope(|scope| {
        let ending = scope.spawn(|| {
            // One is registered before the library's own thread-local and one after it, so that whatever the
            // order of destruction, one of them outlives it.
            BEFORE.with_borrow_mut(|kept| kept.reserve(8));
            let first = tracer.start("kept before");
            AFTER.with_borrow_mut(|kept| kept.push(tracer.start("kept after")));
            let made = vec![ids(&first.context()), AFTER.with_borrow(|kept| ids(&kept[0].context()))];
            BEFORE.with_borrow_mut(|kept| kept.push(first));
            made
        });
        ending.join().unwrap()
    });
    // The scope ends with the closure, the thread a little later: its destructors hand over through the counts.
    wait_for("the end of both spans", || client.stats().ended >= 2);
    assert!(client.flush(LONG).is_complete());
    assert_received(&receiver, &made);
    assert_eq!(assert_accounted(&client).ended, 2);
}

#[test]
fn queued_spans_are_counted_where_they_are_while_the_receiver_keeps_them_waiting() {
    let (keeper, gate) = gate();
    let receiver = Receiver::builder()
        .respond_with(move |_| {
            gate.wait();
            Response::ok()
        })
        .start()
        .unwrap();
    let client = client_of(&receiver).with_worker_count(1).build().unwrap();
    let tracer = client.tracer("queued");
    let first = record(&tracer, 10);
    thread::scope(|scope| {
        let flushing = scope.spawn(|| client.flush(LONG));
        // Until the first batch has left the ring, then record behind it.
        wait_for("the first request", || client.stats().requests > 0);
        record(&tracer, 7);
        let stats = assert_accounted(&client);
        assert_eq!((stats.ended, stats.exported, stats.queued), (17, 0, 17));
        keeper.let_one_pass();
        let receipt = flushing.join().unwrap();
        assert_eq!((receipt.exported, receipt.pending), (first.len() as u64, 0));
        assert_eq!(assert_accounted(&client).queued, 7);
        let ending = scope.spawn(|| client.shutdown(LONG));
        drop(keeper);
        assert!(ending.join().unwrap().is_complete());
    });
    assert_eq!(receiver.span_count(), 17);
}

#[test]
fn max_queue_size_bounds_the_spans_that_wait_and_counts_the_others_as_dropped() {
    // BSPV-03
    const QUEUE: usize = 1_000;
    for threads in [1, 4] {
        let receiver = Receiver::builder().keep(Keep::Ids).response_delay(Duration::from_millis(50)).start().unwrap();
        let batch = BatchConfig { max_queue_size: QUEUE, max_batch_size: 100, ..BatchConfig::default() };
        let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut most = 0;
                while client.stats().ended < 40_000 {
                    most = most.max(client.stats().queued);
                }
                most
            });
            record_on_threads(&client, threads, 40_000 / threads);
            let most = watching.join().unwrap();
            assert!(most <= QUEUE as u64, "{most} spans were queued");
        });
        client.shutdown(LONG);
        let stats = assert_accounted(&client);
        assert!(stats.dropped.get(DropReason::QueueFull) > 0, "{stats:?}");
        assert!(stats.exported >= QUEUE as u64, "{stats:?}");
        assert_eq!((stats.ended, stats.exported), (40_000, receiver.span_count()));
    }
}

#[test]
fn what_the_client_holds_stays_within_the_bound_while_nothing_is_taken() {
    // PERF-01
    const BOUND: usize = 4 << 20;
    let (keeper, gate) = gate();
    let receiver = Receiver::builder()
        .keep(Keep::Ids)
        .respond_with(move |_| {
            gate.wait();
            Response::status(400)
        })
        .start()
        .unwrap();
    let client = client_of(&receiver).with_max_memory_usage(BOUND).with_worker_count(2).build().unwrap();
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while client.stats().ended < 400_000 {
                most = most.max(client.stats().memory_bytes);
            }
            most
        });
        record_on_threads(&client, 4, 100_000);
        watching.join().unwrap()
    });
    let stats = assert_accounted(&client);
    assert!(stats.queued > 20_000 && stats.dropped.get(DropReason::QueueFull) > 0, "{stats:?}");
    // The workers' own buffers are part of the bound; what is missing here is a body that is being written.
    assert!(most <= BOUND as u64, "{most} bytes held");
    let begun = Instant::now();
    let receipt = client.shutdown(Duration::from_millis(100));
    // A request that is under way would be given up after 10 s.
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert_eq!((receipt.pending, receipt.exported + receipt.dropped_total()), (0, 400_000));
    assert_accounted(&client);
    drop(keeper);
}

#[test]
fn large_spans_give_their_memory_back_when_they_have_ended() {
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let client = client_of(&receiver).with_max_memory_usage(16 << 20).build().unwrap();
    let text = "x".repeat(10_000_000);
    let ended = Barrier::new(9);
    let (keeper, gate) = gate();
    thread::scope(|scope| {
        let keeper = keeper;
        for _ in 0..8 {
            scope.spawn(|| {
                let tracer = client.tracer("large");
                let mut span = tracer.start("large");
                span.set_attribute("text", &text);
                span.end();
                ended.wait();
                // The thread lives on, and records nothing more for now.
                gate.wait();
            });
        }
        ended.wait();
        client.flush(LONG);
        // A worker gives the memory of a batch back beside another one that sends it already.
        wait_for("the memory of large spans is free", || client.stats().memory_bytes < 4 << 20);
        let before = assert_accounted(&client);
        assert!(before.truncated > 0, "{before:?}");
        record(&client.tracer("small"), 1_000);
        assert!(client.flush(LONG).exported >= before.exported + 1_000);
        drop(keeper);
    });
    assert_accounted(&client);
}

#[test]
fn batches_are_cut_by_spans_and_by_bytes() {
    // BSPV-04, HTTP-07, OTLPV-15
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_batch_size: 100, ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
    record(&client.tracer("by spans"), 1_050);
    assert!(client.shutdown(LONG).is_complete());
    assert!(receiver.requests().iter().all(|request| request.spans <= 100));

    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_batch_bytes: 64 * 1024, ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("by bytes");
    let text = "x".repeat(10_000);
    for _ in 0..100 {
        tracer.in_span("large", |span| {
            span.set_attribute("text", &text);
        });
    }
    assert!(client.shutdown(LONG).is_complete());
    let largest = receiver.requests().iter().map(|request| request.decoded_len).max().unwrap();
    assert!(largest <= 65 * 1024, "{largest}");
    assert_eq!(receiver.span_count(), 100);
}

#[test]
fn a_ready_batch_leaves_at_once_and_a_smaller_one_waits_for_its_time_or_a_flush() {
    // PROC-05
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { max_batch_size: 10, batch_timeout: Duration::from_secs(60), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("ready");
    record(&tracer, 10);
    assert!(receiver.wait_for_spans(10, LONG));
    // The receiver has them a moment before its answer is here.
    wait_for("the answer", || client.stats().exported >= 10);
    record(&tracer, 9);
    assert_eq!(client.stats().queued, 9);
    assert!(client.flush(LONG).is_complete());
    assert_eq!(receiver.span_count(), 19);
}

#[test]
fn a_small_batch_leaves_when_its_time_has_come() {
    // BSPV-01
    let receiver = Receiver::start().unwrap();
    let batch = BatchConfig { batch_timeout: Duration::from_millis(200), ..BatchConfig::default() };
    let client = client_of(&receiver).with_batch_config(batch).build().unwrap();
    let tracer = client.tracer("time");
    for round in 1..=3 {
        let begun = Instant::now();
        record(&tracer, 1);
        assert!(receiver.wait_for_spans(round, LONG));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(5), "round {round}: {took:?}");
    }
}

#[test]
fn a_flush_with_nothing_to_send_makes_no_request_and_starts_no_thread() {
    // HTTP-06
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    assert!(client.flush(LONG).is_complete());
    assert!(client.shutdown(LONG).is_complete());
    assert_eq!((receiver.connections(), client.stats().requests), (0, 0));
}

#[test]
fn what_cannot_be_delivered_in_time_is_pending_for_a_flush_and_dropped_by_a_shutdown() {
    // PROC-07, TPR-06
    let (keeper, gate) = gate();
    let receiver = Receiver::builder()
        .respond_with(move |_| {
            gate.wait();
            Response::ok()
        })
        .start()
        .unwrap();
    let client = client_of(&receiver).build().unwrap();
    record(&client.tracer("stalled"), 5);
    let begun = Instant::now();
    let flushed = client.flush(Duration::from_millis(200));
    assert!(!flushed.is_complete());
    assert_eq!((flushed.exported, flushed.pending), (0, 5));
    let ended = client.shutdown(Duration::from_millis(200));
    let took = begun.elapsed();
    // The request itself would be given up after 10 s.
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!((ended.pending, ended.dropped.get(DropReason::Shutdown)), (0, 5));
    assert!(!ended.is_complete());
    assert_accounted(&client);
    drop(keeper);
}

#[test]
fn nobody_listening_costs_the_spans_with_a_reason_and_not_the_program() {
    // HTTP-09, ERR-02
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Client::builder()
        .with_endpoint(format!("http://127.0.0.1:{port}"))
        .with_request_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    record(&client.tracer("nobody"), 20);
    let receipt = client.flush(LONG);
    assert_eq!((receipt.exported, receipt.dropped.get(DropReason::Undelivered)), (0, 20));
    assert!(!receipt.is_complete());
    assert!(client.stats().requests > 1, "it was tried more than once");
    assert_accounted(&client);
}

#[test]
fn after_a_shutdown_nothing_is_recorded_and_what_was_open_is_counted_as_dropped() {
    // TPR-05, TPR-07, PROC-08
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("ended");
    let open = tracer.start("open");
    record(&tracer, 3);
    let first = client.shutdown(LONG);
    assert!(first.is_complete());
    open.end();
    let late = tracer.start("late");
    assert!(!late.is_recording() && !tracer.enabled());
    drop(late);
    let second = client.shutdown(LONG);
    assert_eq!((second.exported, second.dropped.get(DropReason::Shutdown)), (3, 1));
    assert!(!second.is_complete());
    assert_eq!(receiver.span_count(), 3);
    assert_accounted(&client);
}

#[test]
fn clients_do_not_mix_their_spans() {
    // TPR-03
    let receivers = [Receiver::start().unwrap(), Receiver::start().unwrap()];
    let clients: Vec<_> = receivers.iter().map(|receiver| client_of(receiver).build().unwrap()).collect();
    let tracers: Vec<_> = clients.iter().map(|client| client.tracer("own")).collect();
    let mut made = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        for (tracer, made) in tracers.iter().zip(&mut made) {
            made.extend(record(tracer, 3));
        }
    }
    for ((client, receiver), made) in clients.iter().zip(&receivers).zip(&made) {
        assert!(client.flush(LONG).is_complete());
        assert_received(receiver, made);
        assert_accounted(client);
    }
}

#[test]
fn a_receiver_that_is_stuck_holds_up_its_own_client_and_no_other() {
    // HTTP-08
    let (keeper, gate) = gate();
    let stuck = Receiver::builder().respond_with(move |_| {
        gate.wait();
        Response::ok()
    });
    let receivers = [stuck.start().unwrap(), Receiver::start().unwrap()];
    let clients = receivers.each_ref().map(|receiver| client_of(receiver).build().unwrap());
    for round in 1..=10 {
        clients.iter().for_each(|client| drop(record(&client.tracer("own"), 10)));
        assert!(clients[1].flush(LONG).is_complete(), "round {round}");
    }
    let [held_up, other] = clients.each_ref().map(assert_accounted);
    assert_eq!((held_up.exported, held_up.queued, held_up.dropped.total()), (0, 100, 0));
    assert_eq!((other.exported, other.queued, receivers[1].span_count()), (100, 0, 100));
    drop(keeper);
    assert!(clients[0].flush(LONG).is_complete());
}

#[test]
fn dropping_the_client_delivers_what_was_recorded() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let made = record(&client.tracer("dropped"), 100);
    drop(client);
    assert_received(&receiver, &made);
}

#[test]
fn a_receipt_since_an_earlier_one_covers_the_time_between() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let tracer = client.tracer("receipts");
    record(&tracer, 3);
    let first = client.flush(LONG);
    record(&tracer, 4);
    let second = client.flush(LONG);
    assert_eq!((first.exported, second.exported, second.since(&first).exported), (3, 7, 4));
}

#[test]
fn flushes_of_many_threads_at_once_each_cover_what_their_thread_ended() {
    // TPR-08, PROC-06
    let receiver = Receiver::builder().keep(Keep::Ids).start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let tracer = client.tracer("flushing");
                for _ in 0..20 {
                    let made = record(&tracer, 5);
                    assert!(client.flush(LONG).is_complete());
                    let received: std::collections::HashSet<_> = receiver.span_ids().into_iter().collect();
                    assert!(made.iter().all(|ids| received.contains(ids)));
                }
            });
        }
    });
    assert_eq!(assert_accounted(&client).exported, 800);
}
