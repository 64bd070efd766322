//! What each compression saves and costs: the same spans under none, gzip, brotli and zstd, sent directly and recorded.
//!
//! ```text
//! cargo run --release --all-features --example compression
//! cargo run --release --example compression                   # without brotli and zstd, says what to turn on
//! ```
//!
//! It needs no collector: a receiver inside the process takes one's place, and decompresses what it gets. Its time is
//! part of what is measured. The exit status is not 0 if it saw other sizes than the client, or if a compression does
//! not halve the bytes. Without `--release` the times say nothing.
//!
//! Left out: the choice of a compression while the program runs (`otlp::core::AdaptiveCompression`), networks that are
//! slow enough for bytes to be time, and repetitions: look at the times of a quiet machine, more than once.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use otlp::{
    Client, Compression, Snapshot, SpanData,
    testing::{Keep, Receiver, Totals, generate_test_spans},
};

const SPANS: usize = 5000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A way to send spans that exist already.
type Way = fn(&Client, &[SpanData]) -> Result<()>;

const WAYS: [(&str, Way); 2] = [("export_spans", export), ("recording", record)];

fn main() -> Result<()> {
    let spans = generate_test_spans(SPANS);
    // What is done for the first time takes longer.
    run(Compression::None, export, &spans)?;
    println!(
        "{:<14}{:<9}{:>12}{:>12}{:>8}{:>13}{:>10}",
        "way", "encoding", "bytes", "sent", "ratio", "bytes/span", "µs/span"
    );
    for (name, way) in WAYS {
        for compression in [Compression::None, Compression::Gzip, Compression::Brotli, Compression::Zstd] {
            let encoding = format!("{compression:?}").to_lowercase();
            match run(compression, way, &spans)? {
                Run::Took(time, stats) => {
                    let (bytes, sent) = (stats.uncompressed_bytes, stats.sent_bytes);
                    let ratio = bytes as f64 / sent as f64;
                    println!(
                        "{name:<14}{encoding:<9}{bytes:>12}{sent:>12}{ratio:>8.2}{:>13.1}{:>10.2}",
                        sent as f64 / SPANS as f64,
                        time.as_secs_f64() * 1e6 / SPANS as f64
                    );
                    let is_right = if compression == Compression::None { bytes == sent } else { ratio > 2.0 };
                    assert!(is_right, "{encoding} gives a ratio of {ratio}");
                }
                Run::Unavailable(why) => println!("{name:<14}{encoding:<9}  {why}"),
            }
        }
    }
    Ok(())
}

/// What came of a run.
enum Run {
    /// How long it took until the last span was accepted, and what the client counted.
    Took(Duration, Box<Snapshot>),
    /// The compression is not compiled in; the client says which feature is missing.
    Unavailable(otlp::Error),
}

/// Sends the spans, to a receiver and from a client of their own.
fn run(compression: Compression, way: Way, spans: &[SpanData]) -> Result<Run> {
    let receiver = Receiver::builder().keep(Keep::Ids).start()?;
    let client = match Client::builder().with_endpoint(receiver.endpoint()).with_compression(compression).build() {
        Ok(client) => client,
        Err(error @ otlp::Error::Config { knob: "with_compression", .. }) => return Ok(Run::Unavailable(error)),
        Err(error) => return Err(error.into()),
    };
    let begun = Instant::now();
    way(&client, spans)?;
    let (time, stats) = (begun.elapsed(), client.stats());
    let Totals { spans: received, encoded_bytes, decoded_bytes, .. } = receiver.totals();
    let seen = (received, encoded_bytes, decoded_bytes);
    assert_eq!(seen, (SPANS as u64, stats.sent_bytes, stats.uncompressed_bytes), "the receiver saw something else");
    Ok(Run::Took(time, Box::new(stats)))
}

/// Complete spans, encoded, compressed and sent on this thread.
fn export(client: &Client, spans: &[SpanData]) -> Result<()> {
    let report = client.export_spans(spans)?;
    if report.rejected == 0 { Ok(()) } else { Err(format!("{report:?}").into()) }
}

/// The same operations, recorded as they happen: encoded on this thread, compressed and sent by workers.
fn record(client: &Client, spans: &[SpanData]) -> Result<()> {
    let tracer = client.tracer("shop");
    for data in spans {
        let attributes = data.attributes.iter().cloned();
        let mut span = tracer.span(&data.name).root().kind(data.kind).attributes(attributes).start();
        for event in &data.events {
            span.add_event(&event.name, &event.attributes);
        }
        span.set_status(data.status.clone());
        span.end();
    }
    let receipt = client.flush(Duration::from_secs(30));
    if receipt.is_complete() { Ok(()) } else { Err(format!("{receipt:?}").into()) }
}
