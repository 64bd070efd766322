//! Attributes compared with what prost writes for the same message.

use std::{borrow::Cow, thread};

use opentelemetry_proto::tonic::common::v1::{self as proto, any_value};
use proptest::prelude::*;
use prost::Message as _;

use super::{short::Scalar, *};
use crate::wire::{LEN, VARINT, tag};

fn value_len(value: &Value<'_>) -> usize {
    super::value_len(value, Bounds::WIDEST)
}

/// Lengths around each point where a length takes another byte, and the smallest ones.
pub(in crate::capture) const LENGTHS: [usize; 9] = [0, 1, 2, 126, 127, 128, 16_383, 16_384, 16_385];

/// What a receiver must see for `value`, made without the encoder.
pub(in crate::capture) fn expected(value: &Value<'_>) -> proto::AnyValue {
    expected_at(value, 1)
}

fn expected_at(value: &Value<'_>, depth: usize) -> proto::AnyValue {
    use any_value::Value as Any;
    fn array(values: impl Iterator<Item = Any>) -> Any {
        Any::ArrayValue(proto::ArrayValue { values: values.map(|value| message(Some(value))).collect() })
    }
    let value = match value {
        Value::Empty => return message(None),
        Value::String(text) => Any::StringValue(text.to_string()),
        Value::Bool(value) => Any::BoolValue(*value),
        Value::I64(value) => Any::IntValue(*value),
        Value::F64(value) => Any::DoubleValue(*value),
        Value::Bytes(bytes) => Any::BytesValue(bytes.to_vec()),
        _ if depth > 30 => return message(None),
        Value::Strs(values) => array(values.iter().map(|value| Any::StringValue((*value).to_owned()))),
        Value::Strings(values) => array(values.iter().cloned().map(Any::StringValue)),
        Value::Bools(values) => array(values.iter().copied().map(Any::BoolValue)),
        Value::I64s(values) => array(values.iter().copied().map(Any::IntValue)),
        Value::F64s(values) => array(values.iter().copied().map(Any::DoubleValue)),
        Value::List(values) => Any::ArrayValue(proto::ArrayValue {
            values: values.iter().map(|value| expected_at(value, depth + 1)).collect(),
        }),
        Value::Map(entries) => Any::KvlistValue(proto::KeyValueList { values: last_of_each_key(entries, depth + 1) }),
    };
    message(Some(value))
}

fn message(value: Option<any_value::Value>) -> proto::AnyValue {
    proto::AnyValue { value }
}

fn last_of_each_key(entries: &[KeyValue<'_>], depth: usize) -> Vec<proto::KeyValue> {
    let mut kept: Vec<proto::KeyValue> = Vec::new();
    for entry in entries {
        kept.retain(|earlier| earlier.key != entry.key);
        kept.push(key_value(&entry.key, expected_at(&entry.value, depth)));
    }
    kept
}

/// What a receiver must see for the attributes of an event, a link, a scope or a resource.
pub(in crate::capture) fn expected_attributes(entries: &[KeyValue<'_>]) -> Vec<proto::KeyValue> {
    let mut kept = last_of_each_key(entries, 1);
    kept.retain(|entry| !entry.key.is_empty());
    kept
}

pub(in crate::capture) fn key_value(key: &str, value: proto::AnyValue) -> proto::KeyValue {
    proto::KeyValue { key: key.to_owned(), value: Some(value), key_strindex: 0 }
}

/// Any text: interior NULs, controls, characters of one to four bytes.
pub(in crate::capture) fn text() -> impl Strategy<Value = String> {
    let characters =
        prop_oneof![3 => any::<char>(), 1 => Just('\0'), 1 => Just('💼'), 3 => prop::char::range('a', 'z')];
    prop_oneof![
        6 => prop::collection::vec(characters, 0..12).prop_map(String::from_iter),
        1 => prop::sample::select(&LENGTHS[..]).prop_map(|len| "x".repeat(len)),
    ]
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), prop::sample::select(vec![0, 1, -1, 127, 128, i64::MIN, i64::MAX]), -300_i64..300]
}

/// Every pattern of 64 bits: subnormals, infinities, both zeros, quiet and signalling NaNs with their payloads.
fn float() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 1.5];
    prop_oneof![any::<u64>().prop_map(f64::from_bits), prop::sample::select(special.to_vec())]
}

fn leaf() -> impl Strategy<Value = Value<'static>> {
    const TEXTS: [&str; 4] = ["", "a", "日本語", "with\0nul"];
    fn many<T: std::fmt::Debug>(element: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        prop::collection::vec(element, 0..6)
    }
    prop_oneof![
        Just(Value::Empty),
        text().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        integer().prop_map(Value::from),
        float().prop_map(Value::from),
        many(any::<u8>()).prop_map(Value::from),
        many(prop::sample::select(&TEXTS[..])).prop_map(Value::from),
        many(text()).prop_map(Value::from),
        many(any::<bool>()).prop_map(Value::from),
        many(integer()).prop_map(Value::from),
        many(float()).prop_map(Value::from),
    ]
}

/// Values of every type, nested up to four levels. Keys of maps repeat often.
pub(in crate::capture) fn value() -> impl Strategy<Value = Value<'static>> {
    let key = prop_oneof![2 => "[abc]", 1 => text().prop_filter("a named entry", |key| !key.is_empty())];
    leaf().prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec((key.clone(), inner).prop_map(|(key, value)| KeyValue::new(key, value)), 0..5)
                .prop_map(Value::Map),
        ]
    })
}

/// Attributes as a caller may give them: keys repeat, some are empty.
pub(in crate::capture) fn attributes() -> impl Strategy<Value = Vec<KeyValue<'static>>> {
    let key = prop_oneof![4 => "[ab]{0,2}", 1 => text()];
    prop::collection::vec((key, value()).prop_map(|(key, value)| KeyValue::new(key, value)), 0..5)
}

const FIELD: u32 = 9;

/// A message whose field 9 is a `KeyValue`, as `Span` is.
fn attribute_field(key: &str, value: proto::AnyValue) -> Vec<u8> {
    let message = key_value(key, value).encode_to_vec();
    let mut field = vec![tag(FIELD, LEN) as u8];
    prost::encoding::encode_varint(message.len() as u64, &mut field);
    field.extend(message);
    field
}

fn put(key: &str, value: &Value<'_>) -> Vec<u8> {
    let mut buffer = Buffer::default();
    put_attribute(&mut buffer, FIELD, key, value);
    buffer.as_slice().to_vec()
}

proptest! {
    #[test]
    fn every_value_is_written_byte_for_byte_as_prost_writes_it(key in text(), value in value()) {
        // ATTR-02, ATTR-03, ENC-04, ENC-08
        prop_assume!(!key.is_empty());
        let written = put(&key, &value);
        prop_assert_eq!(&written, &attribute_field(&key, expected(&value)));
        let entry = KeyValue { key: key.into(), value };
        prop_assert_eq!(written.len(), attribute_field_len(&entry));
    }

    #[test]
    fn a_value_decodes_to_what_it_was(value in value()) {
        // Compared as bytes, because a NaN does not equal itself.
        let written = put("k", &value);
        let decoded = proto::KeyValue::decode(&written[written.len() - key_value_len("k", value_len(&value))..]);
        let decoded = decoded.expect("valid protobuf");
        prop_assert_eq!(decoded.value.expect("sent").encode_to_vec(), expected(&value).encode_to_vec());
    }

    #[test]
    fn the_last_of_equal_keys_is_recorded_and_nameless_attributes_are_not(entries in attributes()) {
        // ENC-04, ATTR-01
        let recorded: Vec<_> = recorded(&entries).map(|entry| key_value(&entry.key, expected(&entry.value))).collect();
        let encoded = |entries: &[proto::KeyValue]| entries.iter().map(|entry| entry.encode_to_vec()).collect::<Vec<_>>();
        prop_assert_eq!(encoded(&recorded), encoded(&expected_attributes(&entries)));
    }
}

#[test]
fn lengths_around_every_power_of_128_are_written_as_prost_writes_them() {
    let text = "x".repeat(LENGTHS[LENGTHS.len() - 1]);
    for key_len in LENGTHS.into_iter().filter(|len| *len > 0) {
        for len in LENGTHS {
            let (key, text) = (&text[..key_len], &text[..len]);
            let values = [
                Value::from(text),
                Value::from(text.as_bytes()),
                Value::from(vec![text]),
                Value::from(vec![text.to_owned()]),
                Value::from(vec![true; len]),
                Value::from(vec![i64::MIN; len]),
                Value::from(vec![-0.0; len]),
                Value::from(vec![Value::Empty; len]),
                Value::from(vec![KeyValue::new(text, Value::from(text))]),
            ];
            // prost leaves an empty key out, which decodes to the same message.
            let last = values.len() - usize::from(len == 0);
            for value in &values[..last] {
                assert!(put(key, value) == attribute_field(key, expected(value)), "{key_len} and {len}");
            }
        }
    }
}

#[test]
fn the_short_form_of_text_is_the_long_form_or_refused() {
    let text = "x".repeat(130);
    for key_len in 0..130 {
        for len in 0..130 {
            let (key, text) = (&text[..key_len], &text[..len]);
            let long = put(key, &text.into());
            if let Some(message) = short::text_message(key, text) {
                let mut window = [0; _];
                short::put_text(&mut window, FIELD, message, key, text);
                assert_eq!(&window[..short::HEAD + message], long, "{key_len} and {len}");
            } else {
                assert!(long.len() > 129, "{key_len} and {len}");
            }
        }
    }
}

#[test]
fn the_short_form_of_a_scalar_is_the_long_form_or_refused() {
    let mut scalars: Vec<(Scalar, Value<'_>)> = vec![
        (Scalar::bool(false), false.into()),
        (Scalar::bool(true), true.into()),
        (Scalar::float(-0.0), (-0.0).into()),
        (Scalar::float(f64::NAN), f64::NAN.into()),
    ];
    let powers = (0..64).map(|shift| 1_i64 << shift);
    let integers = powers.flat_map(|power| [power, power.wrapping_sub(1), power.wrapping_neg()]);
    scalars.extend(integers.map(|number| (Scalar::int(number), number.into())));
    let text = "x".repeat(130);
    for (scalar, value) in &scalars {
        assert_eq!(format!("{:?}", scalar.value()), format!("{value:?}"));
        for key in (0..130).map(|len| &text[..len]) {
            let long = put(key, value);
            if let Some(message) = short::scalar_message(key, *scalar) {
                let mut window = [0; _];
                short::put_scalar(&mut window, FIELD, message, key, *scalar);
                assert_eq!(&window[..short::HEAD + message], long, "{value:?} under {} bytes", key.len());
            } else {
                // Room is kept for the longest.
                assert!(key.len() > 112, "{value:?} under {} bytes", key.len());
            }
        }
    }
}

#[test]
fn meaningful_nothings_are_sent() {
    // ENC-08
    let nested: [Value<'_>; 2] = [vec![Value::Empty].into(), vec![KeyValue::new("k", Value::Empty)].into()];
    let empty: [Value<'_>; 4] =
        [Vec::<&str>::new().into(), Vec::<Value<'_>>::new().into(), Value::Map(vec![]), "".into()];
    for value in empty.iter().chain(&nested).chain(&[0.into(), false.into(), 0.0.into(), Value::Empty]) {
        let written = put("k", value);
        let decoded = proto::KeyValue::decode(&written[2..]).expect("valid protobuf");
        assert_eq!(decoded, key_value("k", expected(value)), "{value:?}");
    }
}

#[test]
fn a_map_keeps_an_entry_without_a_name() {
    let map = Value::from(vec![KeyValue::new("", 1), KeyValue::new("a", 2), KeyValue::new("", 3)]);
    let written = put("k", &map);
    let decoded = proto::KeyValue::decode(&written[2..]).expect("valid protobuf");
    assert_eq!(decoded, key_value("k", expected(&map)));
}

/// `levels` arrays or, with `maps`, arrays and maps in turn, around an integer.
fn nested(levels: usize, maps: bool) -> Value<'static> {
    (0..levels).fold(Value::I64(7), |inner, level| {
        if maps && level % 2 == 0 { Value::Map(vec![KeyValue::new("k", inner)]) } else { Value::List(vec![inner]) }
    })
}

/// How deep the written value is nested, and the bytes of the innermost value.
fn unwrap(mut bytes: &[u8]) -> (usize, &[u8]) {
    let mut levels = 0;
    while let Some(field) = crate::wire::Fields::new(bytes, 0).next() {
        let [array, map] = [tag(ARRAY, LEN), tag(MAP, LEN)];
        if field.tag != array && field.tag != map {
            break;
        }
        let is_map = field.tag == map;
        levels += 1;
        bytes = &bytes[field.body];
        let Some(element) = crate::wire::Fields::new(bytes, 0).next() else { break };
        bytes = &bytes[element.body];
        if is_map {
            let value = crate::wire::Fields::new(bytes, 0).nth(1).expect("a value behind the key");
            bytes = &bytes[value.body];
        }
    }
    (levels, bytes)
}

#[test]
fn what_is_nested_deeper_than_30_levels_becomes_an_empty_value() {
    // LIM-03
    let seven = [tag(INT, VARINT) as u8, 7];
    for maps in [false, true] {
        for (levels, kept, innermost) in [(1, 1, &seven[..]), (29, 29, &seven), (30, 30, &seven), (31, 30, &[])] {
            let value = nested(levels, maps);
            let written = put("k", &value);
            assert_eq!(written, attribute_field("k", expected(&value)), "{levels}");
            let body = &written[written.len() - value_len(&value)..];
            assert_eq!(unwrap(body), (kept, innermost), "{levels}");
        }
    }
    // A scalar is not a level of its own; an array of scalars is.
    let deep: Value<'_> = (0..30).fold([1, 2].into(), |inner, _| Value::List(vec![inner]));
    let written = put("k", &deep);
    assert_eq!(unwrap(&written[written.len() - value_len(&deep)..]), (30, &[][..]));
}

#[test]
fn ten_thousand_levels_are_encoded_on_a_small_stack() {
    // LIM-03. Dropping such a value recurses, so it is made and dropped where there is room for that.
    let with_room = thread::Builder::new().stack_size(256 << 20).spawn(|| {
        for maps in [false, true] {
            let value = nested(10_000, maps);
            thread::scope(|scope| {
                let encode = || put("k", &value);
                let small = thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, encode);
                let written = small.expect("a thread").join().expect("no panic");
                assert_eq!(unwrap(&written[written.len() - value_len(&value)..]), (30, &[][..]));
            });
        }
    });
    with_room.expect("a thread").join().expect("no panic");
}

#[test]
fn borrowed_and_owned_values_are_written_alike() {
    let texts = [String::from("a"), String::from("日")];
    let pairs: [(Value<'_>, Value<'_>); 4] = [
        (Value::String(Cow::Borrowed("a")), Value::String(Cow::Owned("a".to_owned()))),
        (Value::from(&["a", "日"]), Value::from(&texts)),
        (Value::from(&[1_i64, 2]), Value::from(vec![1_i64, 2])),
        (Value::from(&b"\0\xff"[..]), Value::from(vec![0_u8, 0xff])),
    ];
    for (borrowed, owned) in pairs {
        assert_eq!(put("k", &borrowed), put("k", &owned));
    }
}

/// The entries that are recorded if at most `most` are allowed, found by pairwise comparison, and how many keys are
/// left out.
fn compared<'e>(entries: &'e [KeyValue<'static>], most: usize) -> (Vec<&'e KeyValue<'static>>, u32) {
    let mut names: Vec<&str> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.key.is_empty()) {
        if !names.contains(&&*entry.key) {
            names.push(&entry.key);
        }
    }
    let (kept, left_out) = names.split_at(most.min(names.len()));
    let is_kept = |(at, entry): &(usize, &KeyValue<'_>)| {
        kept.contains(&&*entry.key) && entries[at + 1..].iter().all(|later| later.key != entry.key)
    };
    (entries.iter().enumerate().filter(is_kept).map(|(_, entry)| entry).collect(), left_out.len() as u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_many_attributes_the_same_are_recorded_as_of_few(
        keys in prop::collection::vec(0..200_usize, 0..400), most in 0..300_usize,
    ) {
        // LIM-02, ATTR-01
        let key = |key: usize| if key == 0 { String::new() } else { format!("k{key}") };
        let entries: Vec<_> = keys.iter().zip(0_i64..).map(|(number, at)| KeyValue::new(key(*number), at)).collect();
        let (recorded, left_out) = recorded_of(&entries, most);
        prop_assert_eq!((recorded.collect::<Vec<_>>(), left_out), compared(&entries, most));
        prop_assert_eq!(super::recorded(&entries).collect::<Vec<_>>(), compared(&entries, usize::MAX).0);
        // prost leaves an empty key out, which decodes to the same message.
        let map = Value::Map(entries.into_iter().filter(|entry| !entry.key.is_empty()).collect());
        let written = put("k", &map);
        prop_assert_eq!(&written, &attribute_field("k", expected(&map)));
    }
}

#[test]
fn as_many_attributes_as_there_are_take_time_in_proportion_to_their_number() {
    // ERR-01, LIM-02
    type Key = fn(usize) -> String;
    let shapes: [(&str, Key); 4] = [
        ("many keys", |at| format!("k{at}")),
        ("one key", |_| "k".to_owned()),
        ("no keys", |_| String::new()),
        ("keys that are nearly the same", |at| format!("{}{at}", "k".repeat(50))),
    ];
    for (what, key) in shapes {
        let entries = |bytes: usize| (0..bytes / 16).map(|at| KeyValue::new(key(at), 1)).collect::<Vec<_>>();
        crate::hostile::assert_linear_in(what, entries, |entries| {
            let (recorded, left_out) = recorded_of(entries, 128);
            (recorded.clone().count() + recorded.count(), left_out)
        });
        let map = |bytes: usize| Value::Map(entries(bytes));
        crate::hostile::assert_linear_in(what, map, |map| value_len(map));
    }
    let deep = |bytes: usize| (0..bytes / 64).fold(Value::Empty, |inner, _| Value::List(vec![inner]));
    let measure = |value: &Value<'_>| (value_len(value), put("k", value).len());
    let (shallow, deepest) = (deep(64 * 31), deep(64 * 10_000));
    assert_eq!(measure(&shallow), measure(&deepest));
}
