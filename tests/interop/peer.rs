//! The client that `peers.sh` runs against servers and proxies: configured by its environment.

use std::{env, time::Duration};

use otlp::{BatchConfig, Client, DropReason, RetryConfig, SpanContext, SpanData, SpanId, TraceId};

fn number(name: &str) -> usize {
    env::var(name).map_or(1, |value| value.parse().expect("a number"))
}

/// Not a test of its own: sends a number of rounds of spans, each with text of so many bytes that hardly compresses, and
/// prints what became of them. A round is one message.
#[test]
fn child() {
    if env::var("OTLP_TEST_ROLE").as_deref() != Ok("peer") {
        return;
    }
    let (rounds, spans, bytes) = (number("PEER_ROUNDS"), number("PEER_SPANS"), number("PEER_BYTES"));
    let moment = Duration::from_millis(50);
    let retry =
        RetryConfig { initial_interval: moment, max_interval: moment, max_attempts: 100, ..RetryConfig::default() };
    let batch = BatchConfig { max_batch_bytes: 64 * 1024 * 1024, ..BatchConfig::default() };
    let client = Client::builder().with_retry_config(retry).with_batch_config(batch).build().expect("valid settings");
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 33) as u8 % 95)
    };
    let mut id = 0_u64;
    let mut span = || {
        id += 1;
        let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes(id.to_be_bytes()), 1, false);
        let text: String = (0..bytes).map(|_| letter()).collect();
        SpanData::new(context, "span").with_attribute("text", text)
    };
    for _ in 0..rounds {
        let round: Vec<_> = (0..spans).map(|_| span()).collect();
        if let Err(error) = client.export_spans(&round) {
            println!("{error}");
        }
    }
    let stats = client.stats();
    let lost = |reason| stats.dropped.get(reason);
    println!(
        "peer ended={} exported={} refused={} rejected={} too_large={} undelivered={} requests={} connections={} duplicates={}",
        stats.ended,
        stats.exported,
        lost(DropReason::Refused),
        lost(DropReason::Rejected),
        lost(DropReason::TooLarge),
        lost(DropReason::Undelivered),
        stats.requests,
        stats.connections,
        stats.possible_duplicates,
    );
}
