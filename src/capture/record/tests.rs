//! Records compared with the `Span` messages of opentelemetry-proto.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value},
    trace::v1::{self as proto, ScopeSpans},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::capture::{
    attribute::tests::{LENGTHS, attributes, expected, expected_attributes, key_value, text, value},
    id::TraceId,
};
use crate::{
    Status,
    value::{KeyValue, Value},
};

fn context(id: u8, flags: u8, is_remote: bool) -> SpanContext {
    SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), flags, is_remote)
}

/// Begins a root span that lasts from 10 to `END` and is called `name`.
fn begin(record: &mut Record, name: &str) {
    record.begin(name);
    record.set_head(&Head { context: &context(1, 3, false), parent: None, kind: SpanKind::Internal, start: 10 });
}

const END: u64 = 20;

mod limit;
mod span_limits;

/// Decodes a finished record as a receiver would.
fn decode(record: &[u8]) -> proto::Span {
    let mut message = ScopeSpans::decode(record).expect("valid protobuf");
    assert_eq!(message.spans.len(), 1);
    assert!(message.scope.is_none() && message.schema_url.is_empty());
    message.spans.remove(0)
}

/// The span that `build` makes of a root span called "name".
fn span(build: impl FnOnce(&mut Record)) -> proto::Span {
    span_in(Record::new(), build)
}

/// The span that `build` makes of a root span called "name", in this record.
fn span_in(mut record: Record, build: impl FnOnce(&mut Record)) -> proto::Span {
    begin(&mut record, "name");
    build(&mut record);
    let finished = record.finish(END);
    let span = decode(finished);
    let canonical = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    // prost leaves an empty name out, which decodes to the same message.
    let nameless = if canonical.spans[0].name.is_empty() { 2 } else { 0 };
    assert_eq!(canonical.encoded_len() + nameless, finished.len(), "prost writes as many bytes");
    canonical.spans.into_iter().next().expect("one span")
}

fn by_key(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> BTreeMap<String, Vec<u8>> {
    let map: BTreeMap<_, _> = attributes
        .iter()
        .map(|entry| (entry.key.clone(), entry.value.clone().expect("sent").encode_to_vec()))
        .collect();
    assert_eq!(map.len(), attributes.len(), "keys are unique");
    map
}

fn text_of(value: &Option<AnyValue>) -> &str {
    match value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// A trace state of each shape.
fn trace_state() -> impl Strategy<Value = TraceState> {
    let list = "([a-z]{1,3}=[0-9:;]{1,60},){0,4}";
    prop_oneof![
        Just(TraceState::EMPTY),
        (0_u64..1 << 56).prop_map(TraceState::from_threshold),
        list.prop_map(|list| TraceState::parse(&list).expect("valid")),
    ]
}

/// A call on an open span.
#[derive(Debug, Clone)]
enum Call {
    Attribute(String, Value<'static>),
    Event(String, u64, Vec<KeyValue<'static>>),
    Link(SpanContext, Vec<KeyValue<'static>>),
    Rename(String),
    Status(Status),
}

/// Keys that collide in the filter of known keys: few of them, alike at their ends, of every length class.
fn colliding_key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", "a[ab]{2}a[ab]{2}a", "prefixed[ab]{1,3}suffixed"]
}

fn call() -> impl Strategy<Value = Call> {
    let status = prop_oneof![Just(Status::Unset), Just(Status::Ok), text().prop_map(Status::error)];
    let target = (1_u8.., 0_u8..4, any::<bool>(), trace_state())
        .prop_map(|(id, flags, is_remote, state)| context(id, flags, is_remote).with_trace_state(state));
    prop_oneof![
        8 => (colliding_key(), value()).prop_map(|(key, value)| Call::Attribute(key, value)),
        2 => (text(), any::<u64>(), attributes()).prop_map(|(name, time, entries)| Call::Event(name, time, entries)),
        2 => (target, attributes()).prop_map(|(target, entries)| Call::Link(target, entries)),
        1 => text().prop_map(Call::Rename),
        1 => status.prop_map(Call::Status),
    ]
}

fn apply(record: &mut Record, call: &Call) {
    match call {
        Call::Attribute(key, value) => record.attribute(key, value),
        Call::Event(name, time, entries) => record.event(name, *time, entries),
        Call::Link(target, entries) => record.link(target, entries),
        Call::Rename(name) => record.rename(name),
        Call::Status(status) => record.set_status(status),
    }
}

/// What the calls make of a message. Attributes are in the order of their last call.
fn model(calls: &[Call]) -> proto::Span {
    let mut span = proto::Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        flags: 0x103,
        kind: 1,
        start_time_unix_nano: 10,
        end_time_unix_nano: END,
        name: "name".to_owned(),
        ..proto::Span::default()
    };
    for call in calls {
        match call {
            Call::Attribute(key, _) if key.is_empty() => {}
            Call::Attribute(key, value) => {
                span.attributes.retain(|entry| entry.key != *key);
                span.attributes.push(key_value(key, expected(value)));
            }
            Call::Event(name, time, entries) => span.events.push(proto::span::Event {
                time_unix_nano: *time,
                name: name.clone(),
                attributes: expected_attributes(entries),
                dropped_attributes_count: 0,
            }),
            Call::Link(target, entries) => span.links.push(proto::span::Link {
                trace_id: target.trace_id().to_bytes().to_vec(),
                span_id: target.span_id().to_bytes().to_vec(),
                attributes: expected_attributes(entries),
                trace_state: target.trace_state().to_string(),
                flags: u32::from(target.trace_flags()) | if target.is_remote() { 0x300 } else { 0x100 },
                ..proto::span::Link::default()
            }),
            Call::Rename(name) => span.name.clone_from(name),
            Call::Status(status) => {
                let code = span.status.as_ref().map_or(0, |status| status.code);
                let changed = match status {
                    Status::Error(description) if code != 1 => Some((2, description.to_string())),
                    Status::Ok => Some((1, String::new())),
                    _ => None,
                };
                if let Some((code, message)) = changed {
                    span.status = Some(proto::Status { message, code });
                }
            }
        }
    }
    span
}

proptest! {
    #[test]
    fn any_sequence_of_calls_reads_as_the_message_it_describes(
        before in prop::collection::vec(call(), 0..8),
        calls in prop::collection::vec(call(), 0..24),
    ) {
        // SPAN-11, SPAN-12, SPAN-13, SPAN-15, ENC-04. The record was used before, and nothing of that may show.
        let mut record = Record::new();
        begin(&mut record, "before");
        before.iter().for_each(|call| apply(&mut record, call));
        record.finish(END);
        begin(&mut record, "name");
        calls.iter().for_each(|call| apply(&mut record, call));
        prop_assert!(!record.is_truncated());
        let span = decode(record.finish(END));
        // Compared as bytes, because a NaN does not equal itself.
        let model = model(&calls);
        prop_assert!(span.encode_to_vec() == model.encode_to_vec(), "{:?}\nis not\n{:?}", span, model);
    }

    #[test]
    fn the_last_value_of_each_key_wins_under_colliding_keys(
        calls in prop::collection::vec((colliding_key(), value()), 0..64),
    ) {
        // SPAN-11, ENC-04, ATTR-01
        let mut oracle = BTreeMap::new();
        let span = span(|record| for (key, value) in &calls {
            record.attribute(key, value);
            if !key.is_empty() {
                oracle.insert(key.clone(), expected(value).encode_to_vec());
            }
        });
        prop_assert_eq!(by_key(&span.attributes), oracle);
        prop_assert_eq!(span.dropped_attributes_count, 0);
    }

    #[test]
    fn records_stand_next_to_each_other_as_one_message(names in prop::collection::vec(text(), 0..6)) {
        let mut bytes = Vec::new();
        let mut record = Record::new();
        for name in &names {
            begin(&mut record, name);
            record.attribute("name", &name.into());
            bytes.extend_from_slice(record.finish(END));
        }
        let message = ScopeSpans::decode(bytes.as_slice()).expect("valid protobuf");
        let read: Vec<_> = message.spans.iter().map(|span| span.name.clone()).collect();
        prop_assert_eq!(read, names);
    }

    #[test]
    fn a_span_never_ends_before_it_starts(start: u64, end: u64) {
        // ENC-06, SPAN-04
        let mut record = Record::new();
        record.begin("name");
        record.set_head(&Head { context: &context(1, 1, false), parent: None, kind: SpanKind::Internal, start });
        let span = decode(record.finish(end));
        prop_assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (start, end.max(start)));
    }
}

#[test]
fn more_keys_than_the_filter_has_bits_stay_apart() {
    // SPAN-11, ENC-04
    let keys: Vec<_> =
        (0..500).map(|n| format!("{n}")).chain((0..500).map(|n| format!("a.long.key.{n}.end"))).collect();
    let unlimited = SpanLimits { attribute_count_limit: usize::MAX, ..SpanLimits::default() };
    let span = span_in(Record::within(RecordLimits::from(&unlimited)), |record| {
        for round in 0..2 {
            keys.iter().for_each(|key| record.attribute(key, &Value::from(format!("{key} {round}"))));
        }
    });
    let expected: Vec<_> = keys.iter().map(|key| key_value(key, expected(&format!("{key} 1").into()))).collect();
    assert_eq!(span.attributes, expected);
}

#[test]
fn a_value_may_grow_and_shrink_between_its_neighbours() {
    // SPAN-11
    let span = span(|record| {
        record.attribute("first", &1.into());
        for len in LENGTHS.into_iter().chain(LENGTHS.into_iter().rev()) {
            record.attribute("changing", &"x".repeat(len).into());
            record.attribute("changing", &len.into());
            record.attribute("last", &len.into());
        }
    });
    let zero = expected(&0.into());
    let entries = [("first", expected(&1.into())), ("changing", zero.clone()), ("last", zero)];
    assert_eq!(span.attributes, entries.map(|(key, value)| key_value(key, value)));
}

#[test]
fn names_of_every_length_class_are_kept() {
    for len in LENGTHS {
        let name = "n".repeat(len);
        let mut record = Record::new();
        begin(&mut record, &name);
        assert!(decode(record.finish(END)).name == name, "{len}");
        // SPAN-15
        let span = span(|record| {
            record.attribute("between", &1.into());
            record.rename("another");
            record.rename(&name);
        });
        assert!(span.name == name, "{len}");
        assert_eq!(span.attributes.len(), 1);
    }
}

#[test]
fn renaming_a_span_again_and_again_takes_no_more_room() {
    let mut record = Record::new();
    begin(&mut record, "name");
    let (len, memory) = (record.finish(END).len(), record.memory());
    begin(&mut record, "name");
    (0..10_000).for_each(|n| record.rename(&format!("{n:04}")));
    let finished = record.finish(END);
    assert_eq!(decode(finished).name, "9999");
    assert_eq!(finished.len(), len);
    assert_eq!(record.memory(), memory);
}

#[test]
fn flags_say_what_the_trace_and_the_parent_are() {
    // ENC-01, ENC-02
    let parent = SpanId::from_bytes([7; 8]);
    for trace_flags in 0..4 {
        for (parent, bits) in [(None, 0x100), (Some((parent, false)), 0x100), (Some((parent, true)), 0x300)] {
            let mut record = Record::new();
            record.begin("name");
            let context = context(1, trace_flags, false);
            record.set_head(&Head { context: &context, parent, kind: SpanKind::Internal, start: 10 });
            let span = decode(record.finish(END));
            assert_eq!(span.flags, bits | u32::from(trace_flags));
            assert_eq!(span.parent_span_id, parent.map_or(Vec::new(), |(id, _)| id.to_bytes().to_vec()));
            assert_eq!((span.trace_id, span.span_id), (vec![1; 16], vec![1; 8]));
        }
    }
}

#[test]
fn the_head_may_be_filled_in_after_attributes() {
    // A builder is given attributes before the parent is known.
    let mut record = Record::new();
    record.begin("name");
    record.attribute("k", &1.into());
    let parent = Some((SpanId::from_bytes([7; 8]), true));
    record.set_head(&Head { context: &context(1, 3, false), parent, kind: SpanKind::Server, start: 10 });
    record.attribute("k", &2.into());
    let span = decode(record.finish(END));
    assert_eq!(span.parent_span_id, [7; 8]);
    assert_eq!(span.attributes, [key_value("k", expected(&2.into()))]);
}

#[test]
fn every_kind_has_its_number() {
    // ENC-03
    use SpanKind::{Client, Consumer, Internal, Producer, Server};
    let kinds = [Internal, Server, Client, Producer, Consumer];
    assert_eq!(SpanKind::default(), Internal);
    for (kind, number) in kinds.into_iter().zip(1..) {
        let mut record = Record::new();
        record.begin("name");
        record.set_head(&Head { context: &context(1, 1, false), parent: None, kind, start: 10 });
        assert_eq!(decode(record.finish(END)).kind, number, "{kind:?}");
    }
}

#[test]
fn of_two_statuses_ok_is_final_and_unset_changes_nothing() {
    // SPAN-09, SPAN-10, ENC-03
    let (unset, ok) = (|| Status::Unset, || Status::Ok);
    let (first, second) = (|| Status::error("first"), || Status::error("second"));
    for (calls, code, message) in [
        ([unset(), unset()], 0, ""),
        ([unset(), ok()], 1, ""),
        ([unset(), second()], 2, "second"),
        ([ok(), unset()], 1, ""),
        ([ok(), ok()], 1, ""),
        ([ok(), second()], 1, ""),
        ([first(), unset()], 2, "first"),
        ([first(), ok()], 1, ""),
        ([first(), second()], 2, "second"),
    ] {
        let status = span(|record| calls.iter().for_each(|status| record.set_status(status))).status;
        let expected = (code != 0).then(|| proto::Status { code, message: message.to_owned() });
        assert_eq!(status, expected, "{calls:?}");
    }
    // An empty description counts as none, also if it replaces one.
    let status = span(|record| {
        record.set_error("first");
        record.set_error("");
    });
    assert_eq!(status.status, Some(proto::Status { code: 2, message: String::new() }));
}

#[test]
fn descriptions_of_every_length_class_are_kept() {
    for len in LENGTHS {
        let description = "d".repeat(len);
        let status = span(|record| record.set_error(&description)).status.expect("set");
        assert!(status.message == description && status.code == 2, "{len}");
    }
}

#[test]
fn the_trace_state_is_written_as_its_header_and_not_at_all_where_it_is_empty() {
    // ENC-06, SPAN-03
    for header in ["", "ot=th:c", "a=1,b=2"] {
        let context = context(1, 3, false).with_trace_state(TraceState::parse(header).expect("valid"));
        let mut record = Record::new();
        record.begin("name");
        record.set_head(&Head { context: &context, parent: None, kind: SpanKind::Internal, start: 10 });
        let finished = record.finish(END);
        let span = decode(finished);
        assert_eq!(span.trace_state, header);
        let canonical = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        assert_eq!(canonical.encoded_len(), finished.len(), "prost writes as many bytes");
    }
}

#[test]
fn a_link_to_nowhere_is_kept_for_its_trace_state() {
    // SPAN-14
    let span = span(|record| {
        record.link(&SpanContext::INVALID, &[]);
        record.link(&SpanContext::INVALID.with_trace_state(TraceState::parse("a=1").expect("valid")), &[]);
    });
    let states: Vec<_> = span.links.iter().map(|link| link.trace_state.as_str()).collect();
    assert_eq!(states, ["a=1"]);
}

#[test]
fn events_and_links_with_nothing_in_them_are_kept() {
    // SPAN-12, SPAN-14. Compared as messages: prost leaves zeros out, which decodes to the same message.
    let mut record = Record::new();
    begin(&mut record, "name");
    record.event("", 0, &[KeyValue::new("", 1)]);
    record.link(&SpanContext::INVALID, &[KeyValue::new("k", 1), KeyValue::new("k", "last")]);
    let span = decode(record.finish(END));
    assert_eq!(span.events, [proto::span::Event::default()]);
    assert_eq!((&span.links[0].trace_id[..], &span.links[0].span_id[..]), (&[0; 16][..], &[0; 8][..]));
    assert_eq!(span.links[0].attributes, [key_value("k", expected(&"last".into()))]);
}
