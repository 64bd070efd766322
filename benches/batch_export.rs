//! From the first span of a batch to the receiver's answer, by how many spans a batch holds.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use otlp::{BatchConfig, BatchStrategy};
use support::{Inputs, client, deliver, five_attributes};

fn batch_export(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch_export");
    let inputs = Inputs::new();
    for spans in [100, 500, 1000, 2000] {
        let client = client(|builder| {
            let strategy = BatchStrategy::Hybrid;
            builder.with_batch_config(BatchConfig { max_batch_size: spans, strategy, ..BatchConfig::default() })
        });
        let tracer = client.tracer("bench");
        group.throughput(Throughput::Elements(spans as u64));
        group.bench_function(BenchmarkId::from_parameter(spans), |b| {
            b.iter(|| {
                (0..spans as u64).for_each(|number| five_attributes(&tracer, &inputs, number));
                deliver(&client);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batch_export);
criterion_main!(benches);
