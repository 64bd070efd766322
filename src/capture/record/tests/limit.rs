//! The size limit of one record.

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

/// A record with room for `left` more bytes.
fn filled(left: usize) -> Record {
    let mut record = begun();
    // The heads around a value of this length, and the key with its head.
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
    let Some(any_value::Value::BytesValue(kept)) = span.attributes[0].value.clone().and_then(|any| any.value) else {
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
            record.attribute(&format!("text {n}"), &"x".repeat(length).into());
            record.attribute(&format!("int {n}"), &n.into());
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
            record.keys = record.no_keys;
            record.clear_extras();
            call(&mut record);
            // A name that is cut may end up shorter than the previous one.
            let taken = record.buffer.len().saturating_sub(before.len());
            let lost: u32 = record.dropped().iter().sum();
            if need <= left {
                assert_eq!((taken, lost, record.is_truncated()), (need, 0, false), "{what} with {left} left");
            } else {
                assert!(taken <= left && record.is_truncated(), "{what} with {left} left");
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
            record.set_head(&Head { context: &context(1, 3, false), parent, kind: SpanKind::Server, start: 10 });
            record.add_dropped([u32::MAX; 3]);
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
