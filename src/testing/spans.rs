//! Spans to send where a test or a benchmark needs some: plausible, and the same every time.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use crate::{
    capture::{Event, Link, Scope, SpanContext, SpanData, SpanId, SpanKind, Status, TraceId},
    value::KeyValue,
};

/// When the first trace begins: 2023-11-14 22:13:20 UTC.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// W3C trace flags: sampled, and a random trace id.
const FLAGS: u8 = 0b11;

/// The root of every trace.
const ROOT: Operation = Operation { name: "POST /checkout", kind: SpanKind::Server, scope: "shop.http" };

/// What happens below a root.
const OPERATIONS: [Operation; 8] = [
    Operation { name: "load cart", kind: SpanKind::Internal, scope: "shop.cart" },
    Operation { name: "SELECT items", kind: SpanKind::Client, scope: "shop.database" },
    Operation { name: "price items", kind: SpanKind::Internal, scope: "shop.cart" },
    Operation { name: "GET /stock/{item}", kind: SpanKind::Client, scope: "shop.http" },
    Operation { name: "UPDATE stock", kind: SpanKind::Client, scope: "shop.database" },
    Operation { name: "send order.created", kind: SpanKind::Producer, scope: "shop.events" },
    Operation { name: "receive payment.done", kind: SpanKind::Consumer, scope: "shop.events" },
    Operation { name: "render receipt", kind: SpanKind::Internal, scope: "shop.http" },
];

struct Operation {
    name: &'static str,
    kind: SpanKind,
    scope: &'static str,
}

/// Makes `count` complete spans, for [`Client::export_spans`](crate::Client::export_spans).
///
/// They form traces of 8 to 12 spans, the last one cut off where `count` ends: parents come before their
/// children and last longer. Names, kinds, scopes and the types of attributes vary; some spans have events, links,
/// or the status error.
///
/// Nothing is left to chance: the same `count` gives the same spans, ids and times included, and a smaller one
/// the first of them. All times lie after 2023-11-14 22:13:20 UTC, one trace every 10 ms.
///
/// ```
/// let spans = otlp::testing::generate_test_spans(1000);
/// assert_eq!(spans.len(), 1000);
/// assert_eq!(spans[..10], otlp::testing::generate_test_spans(10));
/// ```
#[must_use]
pub fn generate_test_spans(count: usize) -> Vec<SpanData> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut begin = SystemTime::UNIX_EPOCH + EPOCH;
    let mut spans: Vec<SpanData> = Vec::with_capacity(count);
    while spans.len() < count {
        let trace_id = random.trace_id();
        let first = spans.len();
        for index in 0..8 + random.below(5) as usize {
            let parent = (index > 0).then(|| &spans[first + random.below(index as u64) as usize]);
            let span = match parent {
                Some(parent) => child(&mut random, parent),
                None => root(&mut random, trace_id, begin),
            };
            spans.push(span);
        }
        begin += Duration::from_millis(10);
    }
    spans.truncate(count);
    spans
}

fn root(random: &mut Random, trace_id: TraceId, start: SystemTime) -> SpanData {
    let context = SpanContext::new(trace_id, random.span_id(), FLAGS, false);
    let duration = Duration::from_micros(2_000 + random.below(6_000));
    let mut span = span(context, &ROOT, start, duration);
    span.attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/checkout"),
        KeyValue::new("http.response.status_code", 200),
        KeyValue::new("user.id", format!("user-{}", random.below(10_000))),
        KeyValue::new("cart.total", random.below(100_000) as f64 / 100.0),
        KeyValue::new("cart.items", vec!["book", "lamp"]),
    ];
    span
}

fn child(random: &mut Random, parent: &SpanData) -> SpanData {
    let context = SpanContext::new(parent.context.trace_id(), random.span_id(), FLAGS, false);
    let operation = &OPERATIONS[random.below(OPERATIONS.len() as u64) as usize];
    // Within the parent: it begins in the first half of it and takes at most half as long.
    let half = parent.end.duration_since(parent.start).unwrap_or_default() / 2;
    let start = parent.start + random.part_of(half);
    let duration = random.part_of(half);
    let mut span = span(context, operation, start, duration);
    span.parent = Some(parent.context.clone());
    span.attributes = attributes(random, operation.kind);
    if random.below(5) == 0 {
        span.events.push(Event {
            name: Cow::Borrowed("cache miss"),
            time: start + duration / 2,
            attributes: vec![KeyValue::new("cache.key", format!("item:{}", random.below(500)))],
        });
    }
    if operation.kind == SpanKind::Consumer {
        let sender = SpanContext::new(random.trace_id(), random.span_id(), FLAGS, true);
        span.links.push(Link { context: sender, attributes: vec![KeyValue::new("messaging.operation.type", "send")] });
    }
    if random.below(20) == 0 {
        span.status = Status::error("timed out");
        span.attributes.push(KeyValue::new("error.type", "timeout"));
    }
    span
}

fn span(context: SpanContext, operation: &Operation, start: SystemTime, duration: Duration) -> SpanData {
    SpanData {
        kind: operation.kind,
        start,
        end: start + duration,
        scope: Scope::new(operation.scope).with_version("1.2.0"),
        ..SpanData::new(context, operation.name)
    }
}

fn attributes(random: &mut Random, kind: SpanKind) -> Vec<KeyValue<'static>> {
    match kind {
        SpanKind::Client => vec![
            KeyValue::new("server.address", "db-1.internal"),
            KeyValue::new("server.port", 5432),
            KeyValue::new("db.response.returned_rows", random.below(100)),
            KeyValue::new("db.namespace", "shop"),
        ],
        SpanKind::Producer | SpanKind::Consumer => vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.message.id", random.next().to_be_bytes()),
            KeyValue::new("messaging.batch.sizes", vec![1, 2, random.below(9) as i64]),
        ],
        _ => vec![
            KeyValue::new("cache.hit", random.below(2) == 0),
            KeyValue::new("load", random.below(1_000) as f64 / 1_000.0),
            KeyValue::new("thread.id", random.below(8)),
        ],
    }
}

/// Marsaglia's xorshift64, from a fixed seed. It meets each number but 0 once before it repeats itself, so that
/// ids are valid and unlike each other without a check.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number smaller than `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        // The upper bits are the better ones.
        (self.next() >> 32) % bound
    }

    /// Between none and all of `whole`, exclusively.
    fn part_of(&mut self, whole: Duration) -> Duration {
        whole * self.below(1_000) as u32 / 1_000
    }

    fn trace_id(&mut self) -> TraceId {
        let (high, low) = (self.next(), self.next());
        TraceId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    fn span_id(&mut self) -> SpanId {
        SpanId::from_bytes(self.next().to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn as_many_spans_come_as_were_asked_for_and_all_ids_are_valid_and_unique() {
        for count in [0, 1, 9, 10_000] {
            let spans = generate_test_spans(count);
            let ids: HashSet<_> = spans.iter().map(|span| span.context.span_id()).collect();
            assert_eq!((spans.len(), ids.len()), (count, count));
            assert!(spans.iter().all(|span| span.context.is_valid() && span.context.is_sampled()));
        }
    }

    #[test]
    fn the_same_count_gives_the_same_spans_and_a_smaller_one_the_first_of_them() {
        let spans = generate_test_spans(1_000);
        assert_eq!(spans, generate_test_spans(1_000));
        assert_eq!(spans[..123], generate_test_spans(123));
    }

    #[test]
    fn every_parent_is_there_before_its_children_and_lasts_longer() {
        let mut earlier = HashMap::new();
        let (mut roots, mut last_root) = (0, SystemTime::UNIX_EPOCH);
        for span in generate_test_spans(10_000) {
            assert!(span.start <= span.end);
            match &span.parent {
                Some(parent) => {
                    let parent: &SpanData = &earlier[&parent.span_id()];
                    assert_eq!(parent.context.trace_id(), span.context.trace_id());
                    assert!(parent.start <= span.start && span.end <= parent.end);
                }
                None => {
                    assert!(span.start >= last_root);
                    (roots, last_root) = (roots + 1, span.start);
                }
            }
            earlier.insert(span.context.span_id(), span);
        }
        assert!((900..=1_100).contains(&roots), "traces of about ten spans, but {roots} roots");
    }

    #[test]
    fn kinds_scopes_attributes_events_links_and_errors_vary() {
        let spans = generate_test_spans(1_000);
        let kinds: HashSet<_> = spans.iter().map(|span| span.kind as u8).collect();
        let names: HashSet<_> = spans.iter().map(|span| &span.name).collect();
        let types: HashSet<_> = spans
            .iter()
            .flat_map(|span| &span.attributes)
            .map(|attribute| std::mem::discriminant(&attribute.value))
            .collect();
        assert_eq!((kinds.len(), names.len()), (5, 9));
        assert!(types.len() >= 6, "{}", types.len());
        let share = |of: fn(&SpanData) -> bool| spans.iter().filter(|span| of(span)).count();
        assert!((100..400).contains(&share(|span| !span.events.is_empty())));
        assert!((50..300).contains(&share(|span| !span.links.is_empty())));
        assert!((20..100).contains(&share(|span| matches!(span.status, Status::Error(_)))));
    }
}
