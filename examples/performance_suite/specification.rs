//! The workload that the specification describes for comparing SDKs
//! ([performance benchmark](https://opentelemetry.io/docs/specs/otel/performance-benchmark/)), with a receiver in a
//! process of its own.

use std::{error::Error, thread, time::Duration};

use otlp::{Client, DropStrategy, KeyValue, Tracer};

use crate::load::{Cost, Pace};

/// How often each measurement is repeated, unless it is told; the median and the extremes are printed.
const REPEATS: usize = 10;

/// Spans per second while CPU and memory are measured, and for how long, unless it is told.
const RATE: u64 = 10_000;
const SECONDS: u64 = 15;

/// Spans of one measurement of throughput.
const SPANS: u64 = 500_000;

/// 20 characters each.
const KEYS: [&str; 10] = [
    "attribute.key.no..00",
    "attribute.key.no..01",
    "attribute.key.no..02",
    "attribute.key.no..03",
    "attribute.key.no..04",
    "attribute.key.no..05",
    "attribute.key.no..06",
    "attribute.key.no..07",
    "attribute.key.no..08",
    "attribute.key.no..09",
];
const VALUE: &str = "value of 20 letters.";

/// Prints a line for each measurement. `arguments` may be the number of repeats, and the seconds of each.
pub(crate) fn compare(endpoint: &str, mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let repeats = arguments.next().map_or(Ok(REPEATS), |repeats| repeats.parse())?;
    let seconds = arguments.next().map_or(Ok(SECONDS), |seconds| seconds.parse())?;
    let mut steady = Vec::new();
    let mut full = Vec::new();
    for _ in 0..repeats {
        steady.push(at_rate(endpoint, Duration::from_secs(seconds))?);
        full.push(throughput(endpoint)?);
    }
    println!("The specification's workload, {repeats} times; the median, the least and the most\n");
    let load = format!("{RATE} spans/s for {seconds} s, 1 integer attribute and 1 event");
    row(&format!("CPU of one core, {load}"), "%", steady.iter().map(|cost| 100.0 * cost.cpu_share).collect());
    row(&format!("memory, {load}"), "MB", steady.iter().map(|cost| cost.peak_megabytes).collect());
    row("throughput, 10 attributes of 20 characters, key and value", "spans/s", full);
    Ok(())
}

fn row(measure: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    if let (Some(least), Some(median), Some(most)) = (values.first(), values.get(values.len() / 2), values.last()) {
        println!("{measure:<84}{median:>12.1} {unit} ({least:.1} to {most:.1})");
    }
}

/// What the process takes while it makes spans at a steady rate.
fn at_rate(endpoint: &str, duration: Duration) -> Result<Cost, Box<dyn Error>> {
    let client = Client::builder().with_endpoint(endpoint).build()?;
    let tracer = client.tracer("specification");
    let cost = Cost::of(|| Pace::new(RATE).keep(duration, |number| with_event(&tracer, number)))?;
    assert!(client.shutdown(Duration::from_secs(10)).is_complete(), "something was lost: {:?}", client.stats());
    Ok(cost)
}

fn with_event(tracer: &Tracer, number: u64) {
    let mut span = tracer.start("span");
    span.set_attribute("number", number as i64);
    span.add_event("event", []);
}

/// Spans per second, from the first until the last is accepted.
fn throughput(endpoint: &str) -> Result<f64, Box<dyn Error>> {
    let client = Client::builder()
        .with_endpoint(endpoint)
        .with_drop_strategy(DropStrategy::Block(Duration::from_secs(60)))
        .build()?;
    let tracer = client.tracer("specification");
    let begun = std::time::Instant::now();
    let make = || {
        (0..SPANS).for_each(|_| drop(tracer.span("span").attributes(KEYS.map(|key| KeyValue::new(key, VALUE))).start()))
    };
    thread::scope(|scope| scope.spawn(make).join()).expect("recording does not panic");
    let receipt = client.shutdown(Duration::from_secs(60));
    assert!(receipt.is_complete(), "something was lost: {receipt:?}");
    Ok(SPANS as f64 / begun.elapsed().as_secs_f64())
}
