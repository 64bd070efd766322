//! How much of a span arrives.
#![cfg(feature = "testing")]

mod support;

use std::time::SystemTime;

use otlp::{
    Client, Event, KeyValue, Link, OtlpConfig, SpanContext, SpanData, SpanId, SpanLimits, TraceId, Value,
    testing::{
        ReceivedSpan, Receiver,
        proto::common::v1::{self as proto, any_value},
    },
};
use support::{LONG, client_of};

/// One of everything more than `LIMITS` allow.
const LIMITS: SpanLimits = SpanLimits {
    attribute_count_limit: 2,
    attribute_value_length_limit: Some(3),
    attribute_depth_limit: 2,
    event_count_limit: 3,
    link_count_limit: 4,
    event_attribute_count_limit: 5,
    link_attribute_count_limit: 6,
};

/// As many attributes with long values; the second is nested in three arrays.
fn attributes(count: usize) -> Vec<KeyValue<'static>> {
    let nested = |levels: usize| (0..levels).fold(Value::from("a long value"), |inner, _| Value::from(vec![inner]));
    (0..count).map(|at| KeyValue::new(format!("key {at}"), nested(if at == 1 { 3 } else { 0 }))).collect()
}

/// How many arrays are nested in one another in the second attribute, and what the innermost holds.
fn nested(attributes: &[proto::KeyValue]) -> (usize, Option<&any_value::Value>) {
    let entry = attributes.iter().find(|entry| entry.key == "key 1").unwrap();
    let (mut levels, mut value) = (0, entry.value.as_ref());
    while let Some(any_value::Value::ArrayValue(array)) = value.and_then(|value| value.value.as_ref()) {
        (levels, value) = (levels + 1, array.values.first());
    }
    (levels, value.and_then(|value| value.value.as_ref()))
}

fn other() -> SpanContext {
    SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 1, true)
}

fn complete_span() -> SpanData {
    let context = SpanContext::new(TraceId::from_bytes([2; 16]), SpanId::from_bytes([2; 8]), 1, false);
    let mut span = SpanData::new(context, "span").with_attributes(attributes(3));
    span.events = (0..4).map(|_| Event::new("event", SystemTime::now()).with_attributes(attributes(6))).collect();
    span.links = (0..5).map(|_| Link::new(other()).with_attributes(attributes(7))).collect();
    span
}

/// Sends the same span in each way there is.
fn send(client: &Client) {
    let complete = complete_span();
    let mut span = client.tracer("test").start("span");
    span.set_attributes(complete.attributes.clone());
    for event in &complete.events {
        span.add_event(&event.name, &event.attributes);
    }
    for link in &complete.links {
        span.add_link(&link.context, &link.attributes);
    }
    span.end();
    client.export_spans([complete.clone()]).unwrap();
    let mut buffer = client.get_zero_copy_buffer();
    buffer.write_spans(&[complete]).unwrap();
    client.send_buffer(buffer).unwrap();
    assert!(client.flush(LONG).is_complete());
}

/// Attributes, events, links, those of an event and of a link, and the length of a value: what is kept of them, and how
/// many are counted as left out.
fn outline(received: &ReceivedSpan) -> ([usize; 6], [u32; 5]) {
    let span = &received.span;
    let (event, link) = (&span.events[0], &span.links[0]);
    let value = format!("{:?}", received.attribute("key 0").unwrap());
    let kept = [
        span.attributes.len(),
        span.events.len(),
        span.links.len(),
        event.attributes.len(),
        link.attributes.len(),
        value.trim_end_matches([')', '"']).rsplit('"').next().unwrap().len(),
    ];
    let left_out = [
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
        event.dropped_attributes_count,
        link.dropped_attributes_count,
    ];
    (kept, left_out)
}

#[test]
fn each_limit_bounds_recorded_spans_complete_ones_and_those_in_a_buffer() {
    // LIM-03, LIM-04, LIM-06
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).with_span_limits(LIMITS).with_resource_attributes(attributes(4)).build().unwrap();
    send(&client);
    let mut config = OtlpConfig { span_limits: LIMITS, ..OtlpConfig::default() };
    config.transport.endpoint = Some(receiver.endpoint());
    config.resource.attributes = attributes(4);
    send(&Client::with_config(config).unwrap());
    let spans = receiver.spans();
    assert_eq!(spans.len(), 6);
    for span in spans {
        assert_eq!(outline(&span), ([2, 3, 4, 5, 6, 3], [1; 5]));
        let span_of = &span.span;
        for attributes in [&span_of.attributes, &span_of.events[0].attributes, &span_of.links[0].attributes] {
            assert_eq!(nested(attributes), (2, None), "the third array is an empty value");
        }
        for key in ["key 1", "key 3"] {
            let value = format!("{:?}", span.resource_attribute(key));
            assert!(value.contains("a long value"), "the resource is whole: {value}");
        }
    }
}

#[test]
fn by_default_all_of_that_arrives() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    send(&client);
    for span in receiver.spans() {
        assert_eq!(outline(&span), ([3, 4, 5, 6, 7, "a long value".len()], [0; 5]));
        let text = any_value::Value::StringValue("a long value".to_owned());
        assert_eq!(nested(&span.span.attributes), (3, Some(&text)));
    }
}
