//! What a batch of recorded spans costs the worker, stage by stage, as time per batch and spans per second.

mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otlp::bench::Stages;
use support::{Inputs, five_attributes, sink};

const SPANS: u64 = 2_000;

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    DrainAndFrame,
    Compress,
    Transport,
    All,
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(SPANS));
    let inputs = Inputs::new();
    let mut stages = Stages::new(&sink());
    let tracer = stages.tracer("bench");
    let named = [
        ("drain_and_frame", Stage::DrainAndFrame),
        ("compress", Stage::Compress),
        ("transport", Stage::Transport),
        ("all", Stage::All),
    ];
    for (name, stage) in named {
        group.bench_function(name, |b| {
            b.iter_custom(|batches| {
                let mut spent = Duration::ZERO;
                for _ in 0..batches {
                    (0..SPANS).for_each(|number| five_attributes(&tracer, &inputs, number));
                    spent += one_batch(&mut stages, stage);
                }
                spent
            });
        });
    }
    group.finish();
}

/// Takes one batch to the receiver, and answers how long that stage of it took.
fn one_batch(stages: &mut Stages, stage: Stage) -> Duration {
    let begun = Instant::now();
    let batch = stages.gather().expect("spans were recorded");
    assert!(stages.frame(&batch) > 0);
    let gathered = Instant::now();
    let request = stages.compress(batch);
    let compressed = Instant::now();
    assert!(stages.post(request), "the receiver takes it");
    match stage {
        Stage::DrainAndFrame => gathered - begun,
        Stage::Compress => compressed - gathered,
        Stage::Transport => compressed.elapsed(),
        Stage::All => begun.elapsed(),
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
