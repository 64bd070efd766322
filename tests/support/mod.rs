//! What several test files need.
#![allow(dead_code)]

use std::{collections::HashSet, time::Duration};

use otlp::{Client, ClientBuilder, Snapshot, SpanContext, testing::Receiver};

/// Longer than anything here takes; what runs into it has hung.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A builder for a client that sends to `receiver`, and is otherwise as users get it.
pub(crate) fn client_of(receiver: &Receiver) -> ClientBuilder {
    Client::builder().with_endpoint(receiver.endpoint()).with_service_name("test")
}

/// The accounting identity: every span that was ended is in exactly one place.
#[track_caller]
pub(crate) fn assert_accounted(client: &Client) -> Snapshot {
    let stats = client.stats();
    assert_eq!(stats.ended, stats.exported + stats.dropped.total() + stats.queued, "{stats:?}");
    stats
}

pub(crate) type Ids = ([u8; 16], [u8; 8]);

pub(crate) fn ids(context: &SpanContext) -> Ids {
    (context.trace_id().to_bytes(), context.span_id().to_bytes())
}

/// Exactly the spans that were made arrived, each once.
#[track_caller]
pub(crate) fn assert_received(receiver: &Receiver, made: &[Ids]) {
    let received = receiver.span_ids();
    let distinct: HashSet<_> = received.iter().copied().collect();
    assert_eq!(distinct.len(), received.len(), "a span arrived twice");
    let made: HashSet<_> = made.iter().copied().collect();
    let missing = made.difference(&distinct).count();
    let unknown = distinct.difference(&made).count();
    assert_eq!((missing, unknown), (0, 0), "spans missing and unknown, of {}", made.len());
    assert_eq!(receiver.errors(), Vec::<String>::new());
}
