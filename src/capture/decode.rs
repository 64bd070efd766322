//! Reads a record back: samplers see how a span was started, processors how it ended. Texts and bytes are borrowed.

use std::borrow::Cow;

use super::{
    context::SpanContext,
    id::{SpanId, TraceId},
    record,
    status::{SpanKind, Status},
    tracestate::TraceState,
};
use crate::{
    proto::{
        any_value::{ARRAY, BOOL, BYTES, DOUBLE, INT, MAP, STRING},
        event,
        key_value::{KEY, VALUE},
        link,
        list::VALUES,
        span, status,
    },
    value::{KeyValue, Value},
    wire::{FIXED32, FIXED64, Fields, LEN, VARINT, read_varint, tag},
};

/// The bodies of all fields of `message` with this tag.
fn bodies(message: &[u8], at: usize, wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message, at).filter(move |field| field.tag == wanted).filter_map(|field| message.get(field.body))
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// The name in a record.
pub(super) fn name(record: &[u8]) -> &str {
    bodies(record, record::FIELDS_AT, tag(span::NAME, LEN)).next().map_or("", text)
}

/// The kind in a record.
pub(super) fn kind(record: &[u8]) -> SpanKind {
    let kinds = [SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
    let kind = kinds.into_iter().find(|kind| record.get(record::KIND_AT) == Some(&(*kind as u8)));
    kind.unwrap_or(SpanKind::Internal)
}

/// The start in a record, in UNIX nanoseconds.
pub(super) fn start(record: &[u8]) -> u64 {
    fixed64(record.get(record::START_AT..record::START_AT + 8))
}

/// The end in a record that is closed.
pub(super) fn end(record: &[u8]) -> u64 {
    fixed64(record.get(record::END_AT..record::END_AT + 8))
}

fn fixed64(bytes: Option<&[u8]>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The attributes in a record.
pub(super) fn attributes(record: &[u8]) -> Vec<KeyValue<'_>> {
    bodies(record, record::FIELDS_AT, tag(span::ATTRIBUTES, LEN)).map(key_value).collect()
}

/// The links in a record.
pub(super) fn links(record: &[u8]) -> Vec<(SpanContext, Vec<KeyValue<'_>>)> {
    bodies(record, record::FIELDS_AT, tag(span::LINKS, LEN)).map(read_link).collect()
}

/// The events in a record: names, times, attributes.
pub(super) fn events(record: &[u8]) -> impl Iterator<Item = (&str, u64, Vec<KeyValue<'_>>)> {
    bodies(record, record::FIELDS_AT, tag(span::EVENTS, LEN)).map(|message| {
        let name = bodies(message, 0, tag(event::NAME, LEN)).next().map_or("", text);
        let time = fixed64(bodies(message, 0, tag(event::TIME, FIXED64)).next());
        (name, time, bodies(message, 0, tag(event::ATTRIBUTES, LEN)).map(key_value).collect())
    })
}

/// The status in a record that is closed.
pub(super) fn status(record: &[u8]) -> Status {
    use status::{CODE, ERROR, MESSAGE, OK};
    let Some(message) = bodies(record, record::FIELDS_AT, tag(span::STATUS, LEN)).next() else {
        return Status::Unset;
    };
    let code = bodies(message, 0, tag(CODE, VARINT)).next().and_then(read_varint).map(|(code, _)| code);
    match code {
        Some(code) if code == u64::from(OK) => Status::Ok,
        Some(code) if code == u64::from(ERROR) => {
            Status::error(bodies(message, 0, tag(MESSAGE, LEN)).next().map_or("", text).to_owned())
        }
        _ => Status::Unset,
    }
}

fn read_link(message: &[u8]) -> (SpanContext, Vec<KeyValue<'_>>) {
    let id = |field| bodies(message, 0, tag(field, LEN)).next();
    let trace_id = id(link::TRACE_ID).and_then(|id| id.try_into().ok()).map_or(TraceId::INVALID, TraceId::from_bytes);
    let span_id = id(link::SPAN_ID).and_then(|id| id.try_into().ok()).map_or(SpanId::INVALID, SpanId::from_bytes);
    let state = id(link::TRACE_STATE).and_then(|state| TraceState::parse(text(state))).unwrap_or_default();
    let flags = bodies(message, 0, tag(link::FLAGS, FIXED32)).next();
    let flags = flags.and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_le_bytes);
    let context = SpanContext::new(trace_id, span_id, flags as u8, flags & record::IS_REMOTE != 0);
    let attributes = bodies(message, 0, tag(link::ATTRIBUTES, LEN)).map(key_value).collect();
    (context.with_trace_state(state), attributes)
}

fn key_value(message: &[u8]) -> KeyValue<'_> {
    let key = bodies(message, 0, tag(KEY, LEN)).next().map_or("", text);
    let value = bodies(message, 0, tag(VALUE, LEN)).next().map_or(Value::Empty, value);
    KeyValue { key: Cow::Borrowed(key), value }
}

/// Reads an `AnyValue`. The recursion is bounded, because the encoder bounds how deep values nest.
fn value(message: &[u8]) -> Value<'_> {
    const STRING_TAG: u32 = tag(STRING, LEN);
    const BYTES_TAG: u32 = tag(BYTES, LEN);
    const BOOL_TAG: u32 = tag(BOOL, VARINT);
    const INT_TAG: u32 = tag(INT, VARINT);
    const DOUBLE_TAG: u32 = tag(DOUBLE, FIXED64);
    const ARRAY_TAG: u32 = tag(ARRAY, LEN);
    const MAP_TAG: u32 = tag(MAP, LEN);
    let Some(field) = Fields::new(message, 0).next() else { return Value::Empty };
    let body = &message[field.body];
    let number = || read_varint(body).map_or(0, |(number, _)| number);
    match field.tag {
        STRING_TAG => Value::String(Cow::Borrowed(text(body))),
        BYTES_TAG => Value::Bytes(Cow::Borrowed(body)),
        BOOL_TAG => Value::Bool(number() != 0),
        INT_TAG => Value::I64(number() as i64),
        DOUBLE_TAG => Value::F64(body.try_into().map_or(0.0, f64::from_le_bytes)),
        ARRAY_TAG => Value::List(bodies(body, 0, tag(VALUES, LEN)).map(value).collect()),
        MAP_TAG => Value::Map(bodies(body, 0, tag(VALUES, LEN)).map(key_value).collect()),
        _ => Value::Empty,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::{
        attribute::tests::{attributes as any_attributes, expected_attributes},
        record::Record,
    };

    proptest! {
        #[test]
        fn what_was_written_reads_back_as_the_same(entries in any_attributes(), linked in any_attributes(), flags in 0_u8..4) {
            // SMP-03
            let state = TraceState::parse("a=1").unwrap();
            let to = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), flags, true)
                .with_trace_state(state);
            let mut record = Record::new();
            record.begin("a name");
            entries.iter().for_each(|entry| record.attribute(&entry.key, &entry.value));
            record.link(&to, &linked);
            prop_assert_eq!(name(record.as_slice()), "a name");
            // Shown as text, because a NaN does not equal itself.
            let shown = |entries: &[KeyValue<'_>]| format!("{:?}", expected_attributes(entries));
            prop_assert_eq!(shown(&attributes(record.as_slice())), shown(&entries));
            let links = links(record.as_slice());
            prop_assert_eq!(links.len(), 1);
            prop_assert_eq!(&links[0].0, &to);
            prop_assert_eq!(shown(&links[0].1), shown(&linked));
        }
    }
}
