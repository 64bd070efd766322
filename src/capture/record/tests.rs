//! Records against the `Span` messages of opentelemetry-proto.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value},
    trace::v1::{self as proto, ScopeSpans},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::capture::{
    attribute::{
        Scalar,
        tests::{LENGTHS, attributes, expected, expected_attributes, key_value, text, value},
    },
    id::TraceId,
};
use crate::value::{KeyValue, Value};

fn context(id: u8, flags: u8, is_remote: bool) -> SpanContext {
    SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), flags, is_remote)
}

/// Begins a root span that lasts from 10 to `END` and is called `name`.
fn begin(record: &mut Record, name: &str) {
    record.begin(name);
    record.set_head(Head { context: &context(1, 3, false), parent: None, kind: SpanKind::Internal, start: 10 });
}

const END: u64 = 20;

mod span_limits;

/// What a receiver sees of a finished record.
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

/// The same in this record.
fn span_in(mut record: Record, build: impl FnOnce(&mut Record)) -> proto::Span {
    begin(&mut record, "name");
    build(&mut record);
    let finished = record.finish(END);
    let span = decode(finished);
    let canonical = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    // prost leaves an empty name out, which reads the same.
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

/// Of each shape a trace state has.
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

/// The same calls on a message. Attributes are in the order of their last call.
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
        // SPAN-11, SPAN-12, SPAN-13, SPAN-15, ENC-04. The record was used before: nothing of that may show.
        let mut record = Record::new();
        begin(&mut record, "before");
        before.iter().for_each(|call| apply(&mut record, call));
        record.finish(END);
        begin(&mut record, "name");
        calls.iter().for_each(|call| apply(&mut record, call));
        prop_assert!(!record.is_truncated());
        let span = decode(record.finish(END));
        // As bytes, since no NaN equals itself.
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
        record.set_head(Head { context: &context(1, 1, false), parent: None, kind: SpanKind::Internal, start });
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
    let span = span_in(Record::within(Limits::from(&unlimited)), |record| {
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
            record.set_head(Head { context: &context, parent, kind: SpanKind::Internal, start: 10 });
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
    record.set_head(Head { context: &context(1, 3, false), parent, kind: SpanKind::Server, start: 10 });
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
        record.set_head(Head { context: &context(1, 1, false), parent: None, kind, start: 10 });
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
    // An empty description is none, also in place of one.
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
        record.set_head(Head { context: &context, parent: None, kind: SpanKind::Internal, start: 10 });
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
    // SPAN-12, SPAN-14. Compared as messages: prost leaves zeros out, which reads the same.
    let mut record = Record::new();
    begin(&mut record, "name");
    record.event("", 0, &[KeyValue::new("", 1)]);
    record.link(&SpanContext::INVALID, &[KeyValue::new("k", 1), KeyValue::new("k", "last")]);
    let span = decode(record.finish(END));
    assert_eq!(span.events, [proto::span::Event::default()]);
    assert_eq!((&span.links[0].trace_id[..], &span.links[0].span_id[..]), (&[0; 16][..], &[0; 8][..]));
    assert_eq!(span.links[0].attributes, [key_value("k", expected(&"last".into()))]);
}

mod limit {
    //! The bound on one record.

    use super::*;

    /// Finishes, checks the bound, and decodes.
    fn finish(record: &mut Record) -> proto::Span {
        let finished = record.finish(END);
        assert!(finished.len() <= MAX_RECORD_BYTES + PREFIX, "{} bytes", finished.len());
        decode(finished)
    }

    fn begun() -> Record {
        let mut record = Record::new();
        begin(&mut record, "name");
        record
    }

    /// A record with room for `left` bytes more.
    fn filled(left: usize) -> Record {
        let mut record = begun();
        // The heads around so long a value, and the key with its own.
        let overhead = 5 + 3 + 5 + 5;
        let filler = vec![0_u8; record.left() - left - overhead];
        record.attribute("f", &filler.into());
        assert_eq!(record.left(), left);
        assert!(!record.is_truncated());
        record
    }

    /// Characters of four bytes, behind `shift` of one byte.
    fn wide(shift: usize) -> String {
        "a".repeat(shift) + &"💼".repeat(MAX_RECORD_BYTES / 4 + 8)
    }

    #[test]
    fn text_is_cut_at_a_character_boundary() {
        for shift in 0..4 {
            let text = wide(shift);
            let mut record = begun();
            record.attribute("k", &Value::from(&text));
            assert!(record.is_truncated());
            assert!(record.buffer.len() <= MAX_RECORD_BYTES - TAIL_BYTES);
            let span = finish(&mut record);
            let kept = text_of(&span.attributes[0].value);
            assert!(text.starts_with(kept));
            assert!(kept.len() > MAX_RECORD_BYTES - TAIL_BYTES - 256, "{}", kept.len());
            assert_eq!(span.dropped_attributes_count, 0);
        }
    }

    #[test]
    fn bytes_are_cut() {
        let bytes: Vec<u8> = (0..=255).cycle().take(MAX_RECORD_BYTES + 1).collect();
        let mut record = begun();
        record.attribute(&"k".repeat(20_000), &Value::from(&bytes[..]));
        assert!(record.is_truncated());
        assert!(record.buffer.len() <= MAX_RECORD_BYTES - TAIL_BYTES);
        let span = finish(&mut record);
        let Some(any_value::Value::BytesValue(kept)) = span.attributes[0].value.clone().and_then(|any| any.value)
        else {
            panic!("no bytes");
        };
        assert!(bytes.starts_with(&kept));
        assert!(kept.len() > MAX_RECORD_BYTES - TAIL_BYTES - 20_256, "{}", kept.len());
        assert_eq!(span.dropped_attributes_count, 0);
    }

    #[test]
    fn arrays_and_maps_that_do_not_fit_are_left_out_and_counted() {
        // ENC-05
        let text = "x".repeat(MAX_RECORD_BYTES);
        let huge: [Value<'_>; 6] = [
            vec![text.as_str()].into(),
            vec![text.clone()].into(),
            vec![0_i64; MAX_RECORD_BYTES].into(),
            vec![true; MAX_RECORD_BYTES].into(),
            vec![Value::from(text.as_str())].into(),
            vec![KeyValue::new("k", text.as_str())].into(),
        ];
        let mut record = begun();
        record.attribute("before", &1.into());
        huge.iter().enumerate().for_each(|(n, value)| record.attribute(&format!("huge {n}"), value));
        record.attribute("after", &2.into());
        assert!(record.is_truncated());
        let span = finish(&mut record);
        let entries = [("before", 1), ("after", 2)].map(|(key, number)| key_value(key, expected(&number.into())));
        assert_eq!(span.attributes, entries);
        assert_eq!(span.dropped_attributes_count, 6);
    }

    #[test]
    fn an_attribute_whose_key_does_not_fit_is_left_out_and_counted() {
        let key = "k".repeat(MAX_RECORD_BYTES);
        let mut record = begun();
        let values: [Value<'_>; 6] = [1.into(), true.into(), 1.5.into(), "v".into(), b"v".into(), Value::Empty];
        values.iter().for_each(|value| record.attribute(&key, value));
        assert!(record.is_truncated());
        let span = finish(&mut record);
        assert_eq!((span.attributes.len(), span.dropped_attributes_count), (0, 6));
    }

    #[test]
    fn replacing_a_value_that_fills_the_record_makes_room() {
        // SPAN-11
        let mut record = filled(0);
        record.attribute("f", &"small".into());
        record.attribute("k", &"x".repeat(MAX_RECORD_BYTES / 2).into());
        assert!(!record.is_truncated());
        let span = finish(&mut record);
        assert_eq!(span.attributes[0], key_value("f", expected(&"small".into())));
        assert_eq!((span.attributes.len(), span.dropped_attributes_count), (2, 0));
    }

    #[test]
    fn attributes_are_kept_until_the_record_is_full_and_counted_from_there() {
        // ENC-05
        for (length, count) in [(3, 200), (90, 100), (200, 30)] {
            let mut record = filled(2000);
            for n in 0..count {
                record.attribute_text(&format!("text {n}"), &"x".repeat(length));
                record.attribute_scalar(&format!("int {n}"), Scalar::int(n));
            }
            assert!(record.is_truncated());
            let span = finish(&mut record);
            let kept = span.attributes.len() - 1;
            assert_eq!(kept + span.dropped_attributes_count as usize, 2 * count as usize);
            let bytes: usize = span.attributes[1..].iter().map(|entry| field_len(entry.encoded_len())).sum();
            assert!((1900..=2000).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn every_call_on_a_nearly_full_record_keeps_the_bound() {
        let short = Value::from("a value of some length");
        type Call<'a> = (&'a str, &'a dyn Fn(&mut Record));
        let calls: [Call<'_>; 9] = [
            ("text", &|record| record.attribute("key", &short)),
            ("int", &|record| record.attribute("key", &i64::MIN.into())),
            ("float", &|record| record.attribute("key", &0.5.into())),
            ("bytes", &|record| record.attribute("key", &b"some bytes".into())),
            ("array", &|record| record.attribute("key", &["a", "b"].into())),
            ("event", &|record| record.event("event", 1, &[KeyValue::new("key", "value")])),
            ("link", &|record| record.link(&context(2, 1, true), &[KeyValue::new("key", "value")])),
            ("rename", &|record| record.rename("a longer name than it had")),
            ("long rename", &|record| record.rename(&"name ".repeat(100))),
        ];
        let needs = calls.map(|(_, call)| {
            let mut record = begun();
            let before = record.buffer.len();
            call(&mut record);
            record.buffer.len() - before
        });
        for left in [0, 1, 2, 9, 10, 20, 24, 26, 27, 28, 29, 30, 31, 32, 33, 40, 60, 128, 129, 130, 500] {
            let mut record = filled(left);
            let before = record.buffer.as_slice().to_vec();
            for ((what, call), need) in calls.into_iter().zip(needs) {
                // The same record each time, as it was.
                record.buffer.clear();
                record.buffer.raw(&before);
                (record.truncated, record.keys) = (false, record.no_keys);
                (record.dropped_attributes, record.dropped_events, record.dropped_links) = (0, 0, 0);
                call(&mut record);
                // A name that is cut may end up shorter than the one before.
                let taken = record.buffer.len().saturating_sub(before.len());
                let lost = record.dropped_attributes + record.dropped_events + record.dropped_links;
                if need <= left {
                    assert_eq!((taken, lost, record.truncated), (need, 0, false), "{what} with {left} left");
                } else {
                    assert!(taken <= left && record.truncated, "{what} with {left} left");
                    let may_be_cut = ["text", "bytes", "rename", "long rename"].contains(&what);
                    assert!(lost == 1 && taken == 0 || lost == 0 && may_be_cut, "{what} with {left} left");
                }
            }
            decode(record.finish(END));
        }
    }

    #[test]
    fn a_full_record_has_room_for_its_counts_its_status_and_its_parent() {
        // ENC-05
        for left in [0, 100, 895, 896, 897, 1000, 5000] {
            for shift in 0..4 {
                let mut record = filled(left);
                let parent = Some((SpanId::from_bytes([7; 8]), true));
                record.set_head(Head { context: &context(1, 3, false), parent, kind: SpanKind::Server, start: 10 });
                (record.dropped_attributes, record.dropped_events, record.dropped_links) =
                    (u32::MAX, u32::MAX, u32::MAX);
                let description = wide(shift);
                record.set_error(&description);
                let span = finish(&mut record);
                assert!(record.is_truncated());
                let status = span.status.expect("set");
                assert_eq!(status.code, 2);
                assert!(description.starts_with(&status.message));
                assert!(status.message.len() + 32 > left.max(TAIL_BYTES - 128), "{left} and {}", status.message.len());
                let counts = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count];
                assert_eq!(counts, [u32::MAX; 3]);
            }
        }
    }

    #[test]
    fn a_description_takes_no_more_memory_than_a_record() {
        let mut record = begun();
        record.set_error(&"d".repeat(3 * MAX_RECORD_BYTES));
        assert!(record.memory() < 2 * MAX_RECORD_BYTES);
        let span = finish(&mut record);
        assert!(record.is_truncated());
        assert!(span.status.expect("set").message.len() > MAX_RECORD_BYTES - TAIL_BYTES - 256);
    }

    #[test]
    fn a_huge_name_is_cut_and_gives_its_room_back() {
        for shift in 0..4 {
            let name = wide(shift);
            let mut record = Record::new();
            begin(&mut record, &name);
            record.attribute("k", &1.into());
            let span = finish(&mut record);
            assert!(record.is_truncated());
            assert!(name.starts_with(&span.name) && span.name.len() > MAX_RECORD_BYTES - TAIL_BYTES - 256);
            assert_eq!(span.attributes.len() + span.dropped_attributes_count as usize, 1);

            begin(&mut record, &name);
            record.rename("short");
            record.attribute("k", &1.into());
            let span = finish(&mut record);
            assert_eq!((span.name.as_str(), span.attributes.len()), ("short", 1));
        }
        let mut record = filled(0);
        record.rename("longer");
        assert_eq!(finish(&mut record).name, "long", "as much as the old name had");
    }

    #[test]
    fn events_and_links_that_do_not_fit_are_left_out_and_counted() {
        // ENC-05
        let text = "x".repeat(MAX_RECORD_BYTES);
        let mut record = begun();
        record.event("kept", 1, &[]);
        record.event(&text, 2, &[]);
        record.event("attributes", 3, &[KeyValue::new("k", text.as_str())]);
        record.event("kept too", 4, &[]);
        record.link(&context(2, 1, true), &[KeyValue::new("k", text.as_str())]);
        record.link(&context(3, 1, true), &[]);
        assert!(record.is_truncated());
        let span = finish(&mut record);
        let names: Vec<_> = span.events.iter().map(|event| (event.name.as_str(), event.time_unix_nano)).collect();
        assert_eq!(names, [("kept", 1), ("kept too", 4)]);
        assert_eq!(span.links.len(), 1);
        assert_eq!((span.dropped_events_count, span.dropped_links_count), (2, 1));
        assert_eq!(span.dropped_attributes_count, 0);
    }

    #[test]
    fn what_did_not_fit_into_one_span_is_not_counted_by_the_next() {
        // ENC-05. Nothing was written, so the record is used again as it is.
        let text = "x".repeat(MAX_RECORD_BYTES);
        let mut record = begun();
        record.attribute("k", &vec![text.as_str()].into());
        record.event(&text, 1, &[]);
        record.link(&context(2, 1, true), &[KeyValue::new("k", text.as_str())]);
        assert!(record.is_truncated() && record.memory() <= KEPT_BYTES);
        let span = finish(&mut record);
        let counts = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count];
        assert_eq!(counts, [1, 1, 1]);
        begin(&mut record, "name");
        assert!(!record.is_truncated());
        assert_eq!(finish(&mut record), super::span(|_| {}));
    }

    #[test]
    fn a_record_that_was_full_leaves_nothing_to_the_next() {
        let mut record = filled(0);
        record.attribute("k", &1.into());
        record.event("event", 1, &[]);
        record.link(&context(2, 1, true), &[]);
        record.set_error("failed");
        finish(&mut record);
        record.shrink();
        assert!(record.memory() <= KEPT_BYTES);
        begin(&mut record, "name");
        assert!(!record.is_truncated());
        assert_eq!(finish(&mut record), span(|_| {}));
    }
}
