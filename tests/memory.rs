//! How memory is pooled and copied, as a program sees it in what the client says about itself.
#![cfg(feature = "testing")]

mod support;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use otlp::{
    BatchConfig, BatchStrategy, Client, ClientBuilder, DropReason, LogLevel, MemoryStats,
    config::{MemoryPool, PerformanceConfig},
    testing::Receiver,
};
use support::{LONG, assert_accounted, client_of};

const KIB: u64 = 1024;

/// Nothing leaves before somebody flushes.
fn patient(receiver: &Receiver) -> ClientBuilder {
    let batch = BatchConfig {
        max_batch_size: usize::MAX,
        max_batch_bytes: 1 << 20,
        strategy: BatchStrategy::Hybrid,
        batch_timeout: Duration::from_secs(3600),
        ..BatchConfig::default()
    };
    client_of(receiver).with_batch_config(batch).with_worker_count(1)
}

/// Ends `count` spans of about 1,100 bytes.
fn record(client: &Client, count: usize) {
    let tracer = client.tracer("memory");
    let text = "x".repeat(1_000);
    for _ in 0..count {
        let mut span = tracer.start("span");
        span.set_attribute("text", text.as_str());
        span.end();
    }
}

/// The memory when `done` holds of it.
#[track_caller]
fn when(client: &Client, done: impl Fn(&MemoryStats) -> bool) -> MemoryStats {
    let begun = Instant::now();
    loop {
        let memory = client.get_memory_stats();
        if done(&memory) {
            return memory;
        }
        assert!(begun.elapsed() < LONG, "never came: {memory:?}");
        thread::yield_now();
    }
}

/// What is told by its parts and what is counted in one are the same once nothing happens any more.
#[track_caller]
fn agree(client: &Client) {
    when(client, |memory| memory.used - memory.set_aside == client.stats().memory_bytes);
}

fn chunks(memory: &MemoryStats) -> u64 {
    memory.chunks_in_use + memory.chunks_idle
}

#[test]
fn a_thread_takes_memory_in_chunks_of_the_size_that_was_chosen() {
    let receiver = Receiver::start().unwrap();
    for (given, taken) in [(None, 16 * KIB), (Some(64 * 1024), 64 * KIB), (Some(5_000), 8 * KIB)] {
        let pool = given.map_or_else(MemoryPool::new, |bytes| MemoryPool::new().with_chunk_size(bytes));
        let client = patient(&receiver).with_memory_pool(pool).build().unwrap();
        assert_eq!(chunks(&client.get_memory_stats()), 0);
        record(&client, 1);
        assert_eq!(client.get_memory_stats().chunks_in_use, taken);
    }
    // Within a small bound even the largest leave room for a few threads.
    let pool = MemoryPool::new().with_chunk_size(1 << 20);
    let builder = patient(&receiver).with_max_memory_usage(1 << 20).with_log_level(LogLevel::None);
    let client = builder.with_memory_pool(pool).build().unwrap();
    record(&client, 1);
    assert_eq!(client.get_memory_stats().chunks_in_use, 128 * KIB);
}

#[test]
fn a_pool_takes_no_more_than_it_may_and_spans_beyond_that_are_dropped() {
    let receiver = Receiver::start().unwrap();
    let dropped = |pool: MemoryPool, bytes: usize| {
        let client = patient(&receiver).with_memory_pool(pool).with_log_level(LogLevel::None).build().unwrap();
        let mut span = client.tracer("memory").start("large");
        span.set_attribute("text", "x".repeat(bytes));
        span.end();
        for _ in 0..20 {
            record(&client, 1_000);
            assert!(chunks(&client.get_memory_stats()) <= 256 * KIB || bytes == 0);
        }
        client.flush(LONG);
        assert_accounted(&client).dropped.get(DropReason::QueueFull)
    };
    let small = || MemoryPool::new().with_max_size(256 * 1024);
    assert!(dropped(small(), 300_000) >= 1, "it never fits");
    assert!(dropped(small(), 100) >= 1, "20 MB at once do not fit either");
    assert_eq!(dropped(MemoryPool::new(), 0), 0);
}

#[test]
fn the_first_worker_makes_the_chunks_the_pool_begins_with() {
    let receiver = Receiver::start().unwrap();
    let pool = || MemoryPool::new().with_chunk_size(64 * 1024);
    let sizes = [pool(), pool().with_initial_size(1 << 20)].map(|pool| {
        let client = patient(&receiver).with_memory_pool(pool).build().unwrap();
        assert_eq!(chunks(&client.get_memory_stats()), 0, "a client that records nothing takes nothing");
        record(&client, 1);
        assert!(client.flush(LONG).is_complete());
        chunks(&client.get_memory_stats())
    });
    assert_eq!(sizes, [64 * KIB, 1024 * KIB]);
}

#[test]
fn an_exhausted_pool_grows_by_the_factor_that_was_chosen() {
    let receiver = Receiver::start().unwrap();
    for (factor, idle) in [(1.0, 0), (2.0, 3), (4.0, 11)] {
        let pool = MemoryPool::new().with_chunk_size(64 * 1024).with_growth_factor(factor);
        let client = patient(&receiver).with_memory_pool(pool).build().unwrap();
        // 58 spans to a chunk.
        record(&client, 250);
        let memory = client.get_memory_stats();
        assert_eq!(memory.chunks_in_use, 5 * 64 * KIB, "{factor}: {memory:?}");
        assert_eq!(memory.chunks_idle, idle * 64 * KIB, "{factor}: {memory:?}");
    }
}

#[test]
fn when_workers_rest_the_idle_share_beyond_the_threshold_goes_back() {
    let receiver = Receiver::start().unwrap();
    let performance = |gc_threshold| PerformanceConfig { gc_threshold, ..PerformanceConfig::default() };
    let pool = |gc_threshold| MemoryPool::new().with_gc_threshold(gc_threshold);
    let clients: [(ClientBuilder, u64); 4] = [
        (patient(&receiver), 1024 * KIB),
        (patient(&receiver).with_performance_config(performance(0.0)), 0),
        (patient(&receiver).with_memory_pool(pool(0.4)), 512 * KIB),
        (patient(&receiver).with_memory_pool(pool(0.0).with_initial_size(512 * 1024)), 512 * KIB - 16 * KIB),
    ];
    for (builder, kept) in clients {
        let client = builder.build().unwrap();
        record(&client, 10_000);
        let full = client.get_memory_stats();
        assert!(full.chunks_in_use > 8_000 * KIB, "{full:?}");
        assert!(client.flush(LONG).is_complete());
        // What was in use is given back, and counted. The first worker may have made its chunks only meanwhile.
        let is_counted = |memory: &MemoryStats| chunks(memory) + memory.trimmed_bytes >= full.chunks_in_use;
        let is_rested = |memory: &MemoryStats| memory.chunks_idle <= kept && memory.chunks_in_use == 16 * KIB;
        let rested = when(&client, |memory| is_rested(memory) && is_counted(memory));
        assert_eq!((rested.chunks_idle, rested.chunks_in_use), (kept, 16 * KIB), "{rested:?}");
        assert!(rested.trims > 0);
    }
    let client = patient(&receiver).with_memory_pool(pool(1.0)).build().unwrap();
    record(&client, 10_000);
    let full = chunks(&client.get_memory_stats());
    // Two rests at least: between the flushes, and after the second.
    (0..2).for_each(|_| assert!(client.flush(LONG).is_complete()));
    when(&client, |memory| memory.bodies_in_flight == 0);
    record(&client, 1);
    assert!(client.flush(LONG).is_complete());
    let rested = client.get_memory_stats();
    assert_eq!((chunks(&rested), rested.trims), (full, 0), "{rested:?}");
}

#[test]
fn without_a_memory_pool_nothing_is_kept_for_later() {
    for enable_memory_pool in [true, false] {
        let receiver = Receiver::start().unwrap();
        let performance = PerformanceConfig { enable_memory_pool, ..PerformanceConfig::default() };
        let client = patient(&receiver).with_performance_config(performance).build().unwrap();
        record(&client, 1_000);
        assert!(client.flush(LONG).is_complete());
        // What is left in use is the chunk this thread writes to.
        let is_over = |memory: &MemoryStats| memory.bodies_in_flight == 0 && memory.chunks_in_use == 16 * KIB;
        let memory = when(&client, |memory| is_over(memory) && (memory.bodies_spare > 0) == enable_memory_pool);
        let kept = [memory.chunks_idle, memory.bodies_spare, memory.open_spans].map(|bytes| bytes > 0);
        assert_eq!(kept, [enable_memory_pool; 3], "{memory:?}");
        assert_eq!(receiver.span_count(), 1_000);
    }
}

#[test]
fn without_zero_copy_every_byte_is_copied_and_the_same_spans_arrive() {
    let [with, without] = [true, false].map(|enable_zero_copy| {
        let receiver = Receiver::start().unwrap();
        let performance = PerformanceConfig { enable_zero_copy, ..PerformanceConfig::default() };
        let client = patient(&receiver).with_performance_config(performance).build().unwrap();
        let names = ["a", "b", "a"];
        names.iter().for_each(|scope| (0..500).for_each(|_| client.tracer(*scope).start("span").end()));
        assert!(client.flush(LONG).is_complete());
        assert_eq!(receiver.errors(), Vec::<String>::new());
        let count = |scope| receiver.spans().iter().filter(|span| span.scope.name == scope).count();
        assert_eq!((count("a"), count("b")), (1_000, 500));
        agree(&client);
        client.stats()
    });
    assert_eq!(with.copied_bytes, 0);
    assert_eq!(with.uncompressed_bytes, without.uncompressed_bytes);
    let envelope = without.uncompressed_bytes - without.copied_bytes;
    assert!(without.copied_bytes > 50_000 && envelope < 1_000, "{without:?}");
}

#[test]
fn the_parts_add_up_to_what_is_used_and_that_stays_within_the_limit() {
    let receiver = Receiver::start().unwrap();
    let client = patient(&receiver).with_max_memory_usage(8 << 20).with_log_level(LogLevel::None).build().unwrap();
    let tracer = client.tracer("open");
    let open: Vec<_> = (0..100).map(|_| tracer.start("open")).collect();
    let _buffer = client.get_zero_copy_buffer();
    for _ in 0..20 {
        record(&client, 1_000);
        let memory = client.get_memory_stats();
        let rings = memory.chunks_in_use + memory.chunks_idle + memory.open_spans;
        let bodies = memory.bodies_waiting + memory.bodies_in_flight + memory.bodies_spare;
        let sum = rings + bodies + memory.buffers + memory.buffers_idle + memory.set_aside;
        assert_eq!((memory.used, memory.limit), (sum, 8 << 20), "{memory:?}");
        assert!(memory.used <= memory.limit + (512 << 10), "{memory:?}");
        assert!(memory.buffers == 1 << 20 && memory.open_spans > 100 * KIB && memory.set_aside > 512 * KIB);
    }
    drop(open);
    client.flush(LONG);
    agree(&client);
}

#[test]
fn threads_whose_spans_have_all_left_do_not_stand_in_each_others_way() {
    let receiver = Receiver::start().unwrap();
    // Each of the threads holds one of the chunks there may be.
    let pool = MemoryPool::new().with_chunk_size(64 * 1024).with_max_size(128 * 1024);
    let client = client_of(&receiver).with_memory_pool(pool).build().unwrap();
    let rounds = 20;
    thread::scope(|threads| {
        let recorder = || {
            let (go, rounds) = mpsc::channel::<()>();
            let (over, recorded) = mpsc::channel();
            let tracer = client.tracer("test");
            threads.spawn(move || {
                for () in rounds {
                    (0..300).for_each(|_| tracer.start("span").end());
                    let _ = over.send(());
                }
            });
            (go, recorded)
        };
        let recorders = [recorder(), recorder()];
        for round in 0..rounds {
            // A thread whose chunk is full has it fetched: spans may arrive before the flush.
            let before = receiver.span_count();
            recorders.iter().for_each(|(go, _)| go.send(()).unwrap());
            recorders.iter().for_each(|(_, recorded)| recorded.recv().unwrap());
            client.flush(LONG);
            // Where a chunk ends within a round the rest of that is lost; the next one begins with room.
            assert!(
                receiver.span_count() > before,
                "nothing arrived in round {round}: {:?}",
                client.get_memory_stats()
            );
        }
    });
    assert!(receiver.span_count() > 2 * rounds * 300 / 2);
    assert_accounted(&client);
}
