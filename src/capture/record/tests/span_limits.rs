//! The limits of a span, and the counts of what they leave out.

use super::*;

fn unlimited() -> SpanLimits {
    SpanLimits {
        attribute_count_limit: usize::MAX,
        attribute_value_length_limit: None,
        attribute_depth_limit: usize::MAX,
        event_count_limit: usize::MAX,
        link_count_limit: usize::MAX,
        event_attribute_count_limit: usize::MAX,
        link_attribute_count_limit: usize::MAX,
    }
}

/// The span that `build` makes within `limits`, twice in the same memory.
fn span_within(limits: &SpanLimits, build: impl Fn(&mut Record)) -> proto::Span {
    let mut record = Record::within(RecordLimits::from(limits));
    let mut make = || {
        begin(&mut record, "name");
        build(&mut record);
        let span = decode(record.finish(END));
        assert!(!record.is_truncated(), "the record is not too large");
        span
    };
    let first = make();
    assert_eq!(make(), first, "nothing is left of the span before");
    first
}

fn keys(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> Vec<&str> {
    attributes.iter().map(|entry| entry.key.as_str()).collect()
}

#[test]
fn by_default_128_of_each_are_kept_and_the_others_counted() {
    // LIMV-02, LIMV-04, LIM-04, ENC-05
    let attributes: Vec<_> = (0..130).map(|at| KeyValue::new(format!("key {at}"), at)).collect();
    let span = span_within(&SpanLimits::default(), |record| {
        (0..200).for_each(|at| record.attribute(&format!("key {at}"), &at.into()));
        (0..130).for_each(|at| record.event(&format!("event {at}"), 1, &attributes[..1]));
        (0..130).for_each(|at| record.link(&context(at as u8 + 1, 1, false), &attributes[..1]));
    });
    assert_eq!((span.attributes.len(), span.dropped_attributes_count), (128, 72));
    assert_eq!((span.events.len(), span.dropped_events_count), (128, 2));
    assert_eq!((span.links.len(), span.dropped_links_count), (128, 2));
    assert_eq!((span.events[127].name.as_str(), span.links[127].trace_id[0]), ("event 127", 128));
    let span = span_within(&SpanLimits::default(), |record| {
        record.event("event", 1, &attributes);
        record.link(&context(1, 1, false), &attributes);
    });
    let (event, link) = (&span.events[0], &span.links[0]);
    assert_eq!((event.attributes.len(), event.dropped_attributes_count), (128, 2));
    assert_eq!((link.attributes.len(), link.dropped_attributes_count), (128, 2));
    assert_eq!((event.attributes[127].key.as_str(), link.attributes[127].key.as_str()), ("key 127", "key 127"));
}

#[test]
fn a_limit_of_zero_keeps_nothing() {
    // LIMV-02, LIMV-04
    let none = SpanLimits {
        attribute_count_limit: 0,
        event_attribute_count_limit: 0,
        link_attribute_count_limit: 0,
        ..SpanLimits::default()
    };
    let build = |record: &mut Record| {
        record.attribute("a", &"x".into());
        record.attribute("a", &"y".into());
        record.event("event", 1, &[KeyValue::new("a", 1), KeyValue::new("a", 2)]);
        record.link(&context(1, 1, false), &[KeyValue::new("a", 1), KeyValue::new("", 2)]);
    };
    let span = span_within(&none, build);
    assert_eq!((span.attributes.len(), span.dropped_attributes_count), (0, 2));
    assert_eq!((span.events[0].attributes.len(), span.events[0].dropped_attributes_count), (0, 1));
    assert_eq!((span.links[0].attributes.len(), span.links[0].dropped_attributes_count), (0, 1));
    let span = span_within(&SpanLimits { event_count_limit: 0, link_count_limit: 0, ..none }, build);
    assert_eq!((span.events.len(), span.dropped_events_count), (0, 1));
    assert_eq!((span.links.len(), span.dropped_links_count), (0, 1));
}

#[test]
fn at_the_limit_a_key_that_is_there_is_still_overwritten() {
    // LIM-02
    let span = span_within(&SpanLimits::default(), |record| {
        (0..128).for_each(|at| record.attribute(&format!("key {at}"), &at.into()));
        record.attribute("key 5", &"new".into());
        record.attribute("key 129", &"one too many".into());
    });
    assert_eq!((span.attributes.len(), span.dropped_attributes_count), (128, 1));
    let fifth = span.attributes.iter().find(|entry| entry.key == "key 5").unwrap();
    assert_eq!(text_of(&fifth.value), "new");

    // Entries nested in a value do not count.
    let one = SpanLimits { attribute_count_limit: 1, ..SpanLimits::default() };
    let map = Value::Map((0..5).map(|at| KeyValue::new(format!("nested {at}"), at)).collect());
    let span = span_within(&one, |record| record.attribute("map", &map));
    assert_eq!((span.attributes, span.dropped_attributes_count), (vec![key_value("map", expected(&map))], 0));

    let two = SpanLimits { event_attribute_count_limit: 2, ..SpanLimits::default() };
    let entries = [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("", 5), ("d", 6), ("c", 7)];
    let entries = entries.map(|(key, value)| KeyValue::new(key, value));
    let span = span_within(&two, |record| record.event("event", 1, &entries));
    let event = &span.events[0];
    assert_eq!((keys(&event.attributes), event.dropped_attributes_count), (vec!["b", "a"], 2));
    assert_eq!(event.attributes[1], key_value("a", expected(&Value::I64(4))));
}

#[test]
fn the_length_limit_counts_characters_and_bytes_at_any_depth() {
    // LIM-01, LIMV-01
    let cut = |length, value: Value<'static>| {
        let limits = SpanLimits { attribute_value_length_limit: Some(length), ..SpanLimits::default() };
        let entries = [KeyValue::new("a long key", value.clone())];
        let span = span_within(&limits, |record| {
            record.attribute("a long key", &value);
            record.event("a long event name", 1, &entries);
            record.link(&context(1, 1, false), &entries);
        });
        assert_eq!((span.dropped_attributes_count, span.events[0].name.as_str()), (0, "a long event name"));
        assert_eq!(span.events[0].attributes, span.attributes);
        assert_eq!(span.links[0].attributes, span.attributes);
        assert_eq!(span.attributes[0].key, "a long key");
        span.attributes[0].value.clone().unwrap()
    };
    let map = |text| Value::Map(vec![KeyValue::new("nested key", text)]);
    for (length, value, kept) in [
        (3, Value::from("h\u{e9}llo"), Value::from("h\u{e9}l")),
        (2, Value::from("日本語"), Value::from("日本")),
        (3, Value::from("日本語"), Value::from("日本語")),
        (0, Value::from("text"), Value::from("")),
        (2, Value::from(vec![1_u8, 2, 3]), Value::from(vec![1_u8, 2])),
        (1, Value::from(["aé", "éa", ""]), Value::from(["a", "é", ""])),
        (1, Value::from(vec!["aé".to_owned()]), Value::from(["a"])),
        (2, Value::List(vec![map("日本語"), Value::from(12345)]), Value::List(vec![map("日本"), Value::from(12345)])),
        (1, Value::from(12345), Value::from(12345)),
        (1, Value::from(123.45), Value::from(123.45)),
        (1, Value::from([true, false]), Value::from([true, false])),
        (1, Value::Empty, Value::Empty),
    ] {
        assert_eq!(cut(length, value.clone()), expected(&kept), "{value:?}");
    }
    let long = "x".repeat(1 << 20);
    let span = span_within(&SpanLimits::default(), |record| record.attribute("a", &long.as_str().into()));
    assert_eq!(text_of(&span.attributes[0].value).len(), 1 << 20);
}

#[test]
fn what_is_nested_deeper_than_the_limit_is_an_empty_value_in_its_place() {
    // LIM-03
    let within = |limit, value: &Value<'static>| {
        let limits = SpanLimits { attribute_depth_limit: limit, ..SpanLimits::default() };
        let entries = [KeyValue::new("k", value.clone()), KeyValue::new("other", "text")];
        let span = span_within(&limits, |record| {
            entries.iter().for_each(|entry| record.attribute(&entry.key, &entry.value));
            record.event("event", 1, &entries);
            record.link(&context(1, 1, false), &entries);
        });
        assert_eq!((&span.events[0].attributes, &span.links[0].attributes), (&span.attributes, &span.attributes));
        assert_eq!((span.dropped_attributes_count, span.attributes.len()), (0, 2));
        span.attributes[0].value.clone().unwrap()
    };
    let list = |values: Vec<Value<'static>>| Value::List(values);
    let map = |value| Value::Map(vec![KeyValue::new("nested", value)]);
    let empty = || list(Vec::new());
    for (limit, value, kept) in [
        (2, list(vec![list(vec![empty()])]), list(vec![list(vec![Value::Empty])])),
        (3, list(vec![list(vec![empty()])]), list(vec![list(vec![empty()])])),
        (1, list(vec![empty(), 7.into(), map(1.into())]), list(vec![Value::Empty, 7.into(), Value::Empty])),
        (2, map(map(map(1.into()))), map(map(Value::Empty))),
        (2, map(list(vec![[1, 2].into(), "text".into()])), map(list(vec![Value::Empty, "text".into()]))),
        (1, [1, 2].into(), [1, 2].into()),
        (0, [1, 2].into(), Value::Empty),
        (0, map(1.into()), Value::Empty),
        (0, "text".into(), "text".into()),
    ] {
        assert_eq!(within(limit, &value), expected(&kept), "{value:?} within {limit}");
    }
    // The comparison with any value ends at the thirtieth level.
    let deep = (0..40).fold(Value::from(7), |inner, _| list(vec![inner]));
    for limit in [30, 31, 64, usize::MAX] {
        assert_eq!(within(limit, &deep), expected(&deep), "{limit}");
    }
    assert_ne!(within(29, &deep), expected(&deep));
}

proptest! {
    /// LIM-02: whatever is set in whatever order, the first keys are kept with their last values, whether or not the
    /// filter of keys can tell them apart.
    #[test]
    fn as_many_keys_as_are_allowed_are_kept_each_with_its_last_value(
        set in prop::collection::vec((0_u16..250, any::<i64>()), 0..400),
        most in prop_oneof![0_usize..5, 60_usize..70, 120_usize..200],
        length in prop_oneof![Just(None), Just(Some(30))],
    ) {
        let limits = SpanLimits { attribute_count_limit: most, attribute_value_length_limit: length, ..unlimited() };
        let span = span_within(&limits, |record| {
            set.iter().for_each(|(key, value)| record.attribute(&key.to_string(), &value.to_string().into()));
        });
        let mut kept: BTreeMap<String, String> = BTreeMap::new();
        let mut left_out = 0;
        for (key, value) in &set {
            if kept.len() < most || kept.contains_key(&key.to_string()) {
                kept.insert(key.to_string(), value.to_string());
            } else {
                left_out += 1;
            }
        }
        let is: BTreeMap<_, _> =
            span.attributes.iter().map(|entry| (entry.key.clone(), text_of(&entry.value).to_owned())).collect();
        prop_assert_eq!(span.attributes.len(), is.len());
        prop_assert_eq!(is, kept);
        prop_assert_eq!(span.dropped_attributes_count, left_out);
    }
}
