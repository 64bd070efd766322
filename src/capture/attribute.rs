//! Attributes as protobuf: `KeyValue`, `AnyValue` and what they nest.

use crate::{
    value::{KeyValue, Value},
    wire::{Buffer, LEN, field_len, read_varint, tag, varint_len},
};

/// `KeyValue.key` and `KeyValue.value`.
pub(super) const KEY: u32 = 1;
pub(super) const VALUE: u32 = 2;

/// The cases of `AnyValue`.
pub(super) const STRING: u32 = 1;
pub(super) const BOOL: u32 = 2;
pub(super) const INT: u32 = 3;
pub(super) const DOUBLE: u32 = 4;
pub(super) const ARRAY: u32 = 5;
pub(super) const MAP: u32 = 6;
pub(super) const BYTES: u32 = 7;

/// `ArrayValue.values` and `KeyValueList.values`.
pub(super) const VALUES: u32 = 1;

/// Arrays and maps nested deeper than this become empty values, whatever the caller nests. The specification's
/// 64 levels (LIM-03) would be up to 192 nested protobuf messages, and the decoders in common use refuse a whole
/// request beyond 100: one absurd attribute must not cost its batch.
const MAX_DEPTH: u32 = 30;

/// Whether no later entry has the same key: of equal keys the last wins.
pub(crate) fn is_last_of_its_key(entries: &[KeyValue<'_>], at: usize) -> bool {
    entries[at + 1..].iter().all(|later| later.key != entries[at].key)
}

/// The attributes of `entries` that are recorded: named, and the last of their key.
pub(crate) fn recorded<'e, 'v>(entries: &'e [KeyValue<'v>]) -> impl Iterator<Item = &'e KeyValue<'v>> {
    let named = |(at, entry): &(usize, &KeyValue<'v>)| !entry.key.is_empty() && is_last_of_its_key(entries, *at);
    entries.iter().enumerate().filter(named).map(|(_, entry)| entry)
}

/// Bytes of a `KeyValue` message with this key and a value of `value_len` bytes.
pub(crate) fn key_value_len(key: &str, value_len: usize) -> usize {
    field_len(key.len()) + field_len(value_len)
}

/// Bytes of a repeated `KeyValue` field (one-byte tag) holding `entry`.
pub(crate) fn attribute_field_len(entry: &KeyValue<'_>) -> usize {
    field_len(key_value_len(&entry.key, value_len(&entry.value)))
}

/// Appends `entry` as the repeated `KeyValue` field `field` (at most 15).
pub(crate) fn put_attribute(to: &mut Buffer, field: u32, key: &str, value: &Value<'_>) {
    put_key_value(to, field, key, value, 1);
}

fn put_key_value(to: &mut Buffer, field: u32, key: &str, value: &Value<'_>, depth: u32) {
    let value_len = value_len_at(value, depth);
    to.len_head(field, key_value_len(key, value_len));
    to.bytes_field(KEY, key.as_bytes());
    to.len_head(VALUE, value_len);
    put_value(to, value, depth);
}

/// Bytes of `value` as an `AnyValue` message.
pub(crate) fn value_len(value: &Value<'_>) -> usize {
    value_len_at(value, 1)
}

fn value_len_at(value: &Value<'_>, depth: u32) -> usize {
    match value {
        Value::Empty => 0,
        Value::String(text) => field_len(text.len()),
        Value::Bool(_) => 2,
        Value::I64(value) => 1 + varint_len(*value as u64),
        Value::F64(_) => 9,
        Value::Bytes(bytes) => field_len(bytes.len()),
        _ if depth > MAX_DEPTH => 0,
        nested => field_len(nested_len(nested, depth)),
    }
}

/// Bytes of the `ArrayValue` or `KeyValueList` of a nested value.
fn nested_len(value: &Value<'_>, depth: u32) -> usize {
    let texts = |lens: &mut dyn Iterator<Item = usize>| -> usize { lens.map(|len| field_len(field_len(len))).sum() };
    match value {
        Value::Strs(values) => texts(&mut values.iter().map(|text| text.len())),
        Value::Strings(values) => texts(&mut values.iter().map(String::len)),
        Value::Bools(values) => values.len() * field_len(2),
        Value::I64s(values) => values.iter().map(|value| field_len(1 + varint_len(*value as u64))).sum(),
        Value::F64s(values) => values.len() * field_len(9),
        Value::List(values) => values.iter().map(|value| field_len(value_len_at(value, depth + 1))).sum(),
        Value::Map(entries) => unique(entries)
            .map(|entry| field_len(key_value_len(&entry.key, value_len_at(&entry.value, depth + 1))))
            .sum(),
        _ => 0,
    }
}

fn unique<'e, 'v>(entries: &'e [KeyValue<'v>]) -> impl Iterator<Item = &'e KeyValue<'v>> {
    entries.iter().enumerate().filter(|(at, _)| is_last_of_its_key(entries, *at)).map(|(_, entry)| entry)
}

fn put_value(to: &mut Buffer, value: &Value<'_>, depth: u32) {
    match value {
        Value::Empty => {}
        Value::String(text) => to.bytes_field(STRING, text.as_bytes()),
        Value::Bool(value) => put_bool(to, *value),
        Value::I64(value) => to.varint_field(INT, *value as u64),
        Value::F64(value) => to.fixed64_field(DOUBLE, value.to_bits()),
        Value::Bytes(bytes) => to.bytes_field(BYTES, bytes),
        _ if depth > MAX_DEPTH => {}
        Value::Map(entries) => {
            to.len_head(MAP, nested_len(value, depth));
            unique(entries).for_each(|entry| put_key_value(to, VALUES, &entry.key, &entry.value, depth + 1));
        }
        _ => {
            to.len_head(ARRAY, nested_len(value, depth));
            put_elements(to, value, depth + 1);
        }
    }
}

fn put_elements(to: &mut Buffer, value: &Value<'_>, depth: u32) {
    let text = |to: &mut Buffer, text: &str| {
        to.len_head(VALUES, field_len(text.len()));
        to.bytes_field(STRING, text.as_bytes());
    };
    match value {
        Value::Strs(values) => values.iter().for_each(|value| text(to, value)),
        Value::Strings(values) => values.iter().for_each(|value| text(to, value)),
        Value::Bools(values) => values.iter().for_each(|value| {
            to.len_head(VALUES, 2);
            put_bool(to, *value);
        }),
        Value::I64s(values) => values.iter().for_each(|value| {
            to.len_head(VALUES, 1 + varint_len(*value as u64));
            to.varint_field(INT, *value as u64);
        }),
        Value::F64s(values) => values.iter().for_each(|value| {
            to.len_head(VALUES, 9);
            to.fixed64_field(DOUBLE, value.to_bits());
        }),
        Value::List(values) => values.iter().for_each(|value| {
            to.len_head(VALUES, value_len_at(value, depth));
            put_value(to, value, depth);
        }),
        _ => {}
    }
}

fn put_bool(to: &mut Buffer, value: bool) {
    to.varint_field(BOOL, value.into());
}

/// The attribute `key = text` in one piece, for the lengths that nearly all attributes have: every length a
/// single byte. False, and nothing written, where it does not fit that form.
#[inline]
pub(crate) fn put_short_text(to: &mut Buffer, field: u32, key: &str, text: &str) -> bool {
    let message = key.len() + text.len() + 6;
    if message >= 0x80 {
        return false;
    }
    let value = put_short_key(to.room(message + 2), field, message, key.as_bytes());
    let (head, room) = value.split_at_mut(4);
    let len = text.len() as u8;
    head.copy_from_slice(&[tag(VALUE, LEN) as u8, len + 2, tag(STRING, LEN) as u8, len]);
    copy_short(room, text.as_bytes());
    true
}

/// The attribute `key = value` for a value that is a one-byte tag and a few bytes.
#[inline]
pub(crate) fn put_short_scalar(to: &mut Buffer, field: u32, key: &str, scalar: &[u8]) -> bool {
    let message = key.len() + scalar.len() + 4;
    if message >= 0x80 {
        return false;
    }
    let value = put_short_key(to.room(message + 2), field, message, key.as_bytes());
    let (head, room) = value.split_at_mut(2);
    head.copy_from_slice(&[tag(VALUE, LEN) as u8, scalar.len() as u8]);
    room.copy_from_slice(scalar);
    true
}

/// The heads of the attribute and of its key, and the key; answers the room behind them.
#[inline]
fn put_short_key<'r>(room: &'r mut [u8], field: u32, message: usize, key: &[u8]) -> &'r mut [u8] {
    let (head, room) = room.split_at_mut(4);
    head.copy_from_slice(&[tag(field, LEN) as u8, message as u8, tag(KEY, LEN) as u8, key.len() as u8]);
    let (key_room, room) = room.split_at_mut(key.len());
    copy_short(key_room, key);
    room
}

/// Copies a few bytes: two overlapping pieces of 8 or 16 cost less than a call of `memcpy`, which most keys
/// and values are too short for.
#[inline]
fn copy_short(to: &mut [u8], from: &[u8]) {
    match from.len() {
        16..=32 => copy_ends::<16>(to, from),
        8..16 => copy_ends::<8>(to, from),
        4..8 => copy_ends::<4>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies `N` to twice `N` bytes as their first and their last `N`.
#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        if let Some(to) = to.first_chunk_mut::<N>() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut::<N>() {
            *to = *last;
        }
    }
}

/// An integer, bool or float as the few bytes of its `AnyValue`.
pub(crate) struct Scalar {
    bytes: [u8; 11],
    len: usize,
}

impl Scalar {
    #[inline]
    pub(crate) fn int(value: i64) -> Self {
        let mut bytes = [0; 11];
        bytes[0] = tag(INT, crate::wire::VARINT) as u8;
        let len = 1 + crate::wire::write_varint(&mut bytes[1..], value as u64);
        Self { bytes, len }
    }

    #[inline]
    pub(crate) fn bool(value: bool) -> Self {
        let mut bytes = [0; 11];
        bytes[0] = tag(BOOL, crate::wire::VARINT) as u8;
        bytes[1] = value.into();
        Self { bytes, len: 2 }
    }

    #[inline]
    pub(crate) fn float(value: f64) -> Self {
        let mut bytes = [0; 11];
        bytes[0] = tag(DOUBLE, crate::wire::FIXED64) as u8;
        bytes[1..9].copy_from_slice(&value.to_bits().to_le_bytes());
        Self { bytes, len: 9 }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The value it was made of.
    #[cold]
    pub(crate) fn value(&self) -> Value<'static> {
        let [case, body @ ..] = self.bytes;
        match u32::from(case) >> 3 {
            INT => Value::I64(read_varint(&body).map_or(0, |(value, _)| value as i64)),
            BOOL => Value::Bool(body[0] != 0),
            _ => Value::F64(f64::from_le_bytes(std::array::from_fn(|at| body[at]))),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
