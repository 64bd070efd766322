//! What a span costs the thread that makes it. Times are CPU time of that thread, and spans are delivered between rounds:
//! only recording is measured.

mod support;

use std::{sync::Barrier, thread, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use otlp::{Client, Tracer};
use support::{Inputs, client, deliver, five_attributes, no_attributes, thread_time};

/// Spans recorded at a time: as many fit into the default bound, whatever the workers do meanwhile.
const ROUND: u64 = 100_000;

/// The CPU time of `spans` calls of `make` on this thread, in rounds between which everything is delivered.
fn record(client: &Client, spans: u64, mut make: impl FnMut(u64)) -> Duration {
    let mut spent = Duration::ZERO;
    for round in 0..spans.div_ceil(ROUND) {
        let count = ROUND.min(spans - round * ROUND);
        let before = thread_time();
        (0..count).for_each(&mut make);
        spent += thread_time() - before;
        deliver(client);
    }
    spent
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot_path");
    let inputs = Inputs::new();
    let client = client(|builder| builder);
    let tracer = client.tracer("bench");
    {
        let root = tracer.start("root");
        let _entered = root.enter();
        group.bench_function("no_attributes", |b| {
            b.iter_custom(|spans| record(&client, spans, |_| no_attributes(&tracer)));
        });
        group.bench_function("five_attributes", |b| {
            b.iter_custom(|spans| record(&client, spans, |number| five_attributes(&tracer, &inputs, number)));
        });
    }
    group.bench_function("root", |b| b.iter_custom(|spans| record(&client, spans, |_| no_attributes(&tracer))));
    group.bench_function("tree_of_four", |b| {
        let tree = |_| {
            tracer
                .in_span("one", |_| tracer.in_span("two", |_| tracer.in_span("three", |_| tracer.start("four").end())))
        };
        b.iter_custom(|trees| record(&client, trees, tree));
    });
    group.finish();
}

fn not_recorded(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot_path");
    let inputs = Inputs::new();
    let unsampled = client(|builder| builder.with_sampler(otlp::sampling::AlwaysOff));
    let disabled = client(|builder| builder.with_sdk_disabled(true));
    for (name, client) in [("unsampled", unsampled), ("disabled", disabled)] {
        let tracer = client.tracer("bench");
        group.bench_function(name, |b| {
            b.iter_custom(|spans| record(&client, spans, |number| five_attributes(&tracer, &inputs, number)));
        });
    }
    group.finish();
}

/// As much work for each of several threads at once; what one span costs does not depend on how many they are.
fn several_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot_path/threads");
    let inputs = Inputs::new();
    let client = client(|builder| builder.with_max_memory_usage(256 << 20));
    for threads in [1, 2, 4] {
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter_custom(|spans| on_threads(&client, threads, spans, &inputs));
        });
    }
    group.finish();
}

/// The mean CPU time of one of `threads` threads that each make `spans` spans.
fn on_threads(client: &Client, threads: u32, spans: u64, inputs: &Inputs) -> Duration {
    let (start, tracer) = (Barrier::new(threads as usize), client.tracer("bench"));
    let run = |tracer: Tracer| {
        let root = tracer.start("root");
        let _entered = root.enter();
        // The thread is registered, and its memory is there.
        (0..1_000).for_each(|number| five_attributes(&tracer, inputs, number));
        start.wait();
        let mut spent = Duration::ZERO;
        for round in 0..spans.div_ceil(ROUND) {
            let before = thread_time();
            (0..ROUND.min(spans - round * ROUND)).for_each(|number| five_attributes(&tracer, inputs, number));
            spent += thread_time() - before;
            deliver(client);
        }
        spent
    };
    let all: Duration = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(tracer.clone()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    all / threads
}

criterion_group!(benches, one_thread, not_recorded, several_threads);
criterion_main!(benches);
