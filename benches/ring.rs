//! The ring alone: one record in, and all of them out.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use otlp::bench::RingPair;

/// Records pushed before they are taken out.
const RECORDS: u64 = 10_000;

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(RECORDS));
    for bytes in [80, 213, 1000] {
        let record = vec![7; bytes];
        let mut pair = RingPair::new(64 << 20);
        group.bench_function(format!("push/{bytes}"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let before = std::time::Instant::now();
                    (0..RECORDS).for_each(|_| assert!(pair.push(&record)));
                    spent += before.elapsed();
                    assert_eq!(pair.drain(), RECORDS);
                }
                spent
            });
        });
        group.bench_function(format!("drain/{bytes}"), |b| {
            let fill = || {
                let mut pair = RingPair::new(64 << 20);
                (0..RECORDS).for_each(|_| assert!(pair.push(&record)));
                pair
            };
            b.iter_batched_ref(fill, RingPair::drain, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, ring);
criterion_main!(benches);
