//! Attributes as protobuf: `KeyValue`, `AnyValue` and what they nest.

use crate::{
    proto::{
        any_value::{ARRAY, BOOL, BYTES, DOUBLE, INT, MAP, STRING},
        key_value::{KEY, VALUE},
        list::VALUES,
    },
    value::{KeyValue, Value},
    wire::{Buffer, field_len, varint_len},
};

pub(super) mod short;

/// How much of a value is kept, at any depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most characters of a text, or bytes of a byte string (LIM-01).
    length: usize,
    /// The most levels of arrays and maps, counting the value itself: anything nested deeper becomes an empty value
    /// (LIM-03).
    depth: u32,
}

impl Bounds {
    /// The bounds where no limits are set. The specification's 64 levels would be up to 192 nested protobuf messages,
    /// and the decoders in common use refuse a whole request beyond 100: one absurd attribute must not cost its batch.
    pub(super) const WIDEST: Self = Self { length: usize::MAX, depth: 30 };

    /// Bounds of `length` characters and `depth` levels, never wider than `WIDEST`.
    pub(super) fn new(length: Option<usize>, depth: usize) -> Self {
        let Self { length: longest, depth: deepest } = Self::WIDEST;
        Self {
            length: length.unwrap_or(longest),
            depth: u32::try_from(depth).map_or(deepest, |depth| depth.min(deepest)),
        }
    }

    /// The bounds one level deeper.
    fn deeper(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }

    /// Whether a text may have to be cut.
    pub(super) fn is_short(self) -> bool {
        self.length != Self::WIDEST.length
    }

    /// Returns `text`, cut to the allowed number of characters.
    fn cut(self, text: &str) -> &str {
        // A text never has more characters than bytes.
        if text.len() <= self.length {
            return text;
        }
        text.char_indices().nth(self.length).map_or(text, |(end, _)| &text[..end])
    }
}

/// The most entries that are compared pairwise. Longer lists are sorted, which allocates; the default limits do not
/// allow that many.
const FEW: usize = 128;

/// Whether no later entry has the same key: among equal keys, the last wins.
fn is_last_of_its_key(entries: &[KeyValue<'_>], at: usize) -> bool {
    entries[at + 1..].iter().all(|later| later.key != entries[at].key)
}

/// The attributes of `entries` that are recorded: those with a key, and only the last of each key.
pub(crate) fn recorded<'e, 'v>(entries: &'e [KeyValue<'v>]) -> impl Iterator<Item = &'e KeyValue<'v>> + Clone {
    recorded_of(entries, usize::MAX).0
}

/// The attributes of `entries` that are recorded if at most `most` are allowed: those with the first `most` keys, each
/// with its last value (LIM-02). Also returns how many are left out.
pub(super) fn recorded_of<'e, 'v>(
    entries: &'e [KeyValue<'v>],
    most: usize,
) -> (impl Iterator<Item = &'e KeyValue<'v>> + Clone, u32) {
    let mut first = entries;
    let mut left_out = 0;
    let mut chosen = None;
    if entries.len() > FEW {
        (chosen, left_out) = choose(entries, most, |entry| !entry.key.is_empty());
    } else if entries.len() > most {
        let is_first =
            |at: usize| !entries[at].key.is_empty() && entries[..at].iter().all(|e| e.key != entries[at].key);
        let mut names = (0..entries.len()).filter(|at| is_first(*at));
        if let Some(end) = names.by_ref().nth(most) {
            first = &entries[..end];
            left_out = 1 + names.count() as u32;
        }
    }
    let is_kept = move |(at, entry): &(usize, &KeyValue<'v>)| match &chosen {
        Some(chosen) => chosen[*at],
        None => {
            !entry.key.is_empty()
                && is_last_of_its_key(entries, *at)
                && (left_out == 0 || first.iter().any(|early| early.key == entry.key))
        }
    };
    (entries.iter().enumerate().filter(is_kept).map(|(_, entry)| entry), left_out)
}

/// Marks which of many entries are the last of their key, for the first `most` keys, and counts the keys that are left
/// out. Looks only at entries that are `counted`. Sorts, instead of comparing pairwise.
#[cold]
#[inline(never)]
fn choose(entries: &[KeyValue<'_>], most: usize, counted: impl Fn(&KeyValue<'_>) -> bool) -> (Option<Vec<bool>>, u32) {
    let mut sorted: Vec<usize> = (0..entries.len()).filter(|at| counted(&entries[*at])).collect();
    sorted.sort_by_key(|at| &entries[*at].key);
    // The sort is stable, so the first and the last index of each key are known.
    let mut keys: Vec<(usize, usize)> = sorted
        .chunk_by(|one, other| entries[*one].key == entries[*other].key)
        .filter_map(|same| Some((*same.first()?, *same.last()?)))
        .collect();
    keys.sort_unstable();
    let mut chosen = vec![false; entries.len()];
    keys.iter().take(most).for_each(|(_, last)| chosen[*last] = true);
    (Some(chosen), u32::try_from(keys.len().saturating_sub(most)).unwrap_or(u32::MAX))
}

/// Bytes of a `KeyValue` message with this key and a value of `value_len` bytes.
pub(crate) fn key_value_len(key: &str, value_len: usize) -> usize {
    field_len(key.len()) + field_len(value_len)
}

/// Bytes of a repeated `KeyValue` field (one-byte tag) holding `entry`.
pub(crate) fn attribute_field_len(entry: &KeyValue<'_>) -> usize {
    bounded_field_len(&entry.key, &entry.value, Bounds::WIDEST)
}

/// Bytes of a repeated `KeyValue` field (one-byte tag) with this value, cut to `bounds`.
pub(super) fn bounded_field_len(key: &str, value: &Value<'_>, bounds: Bounds) -> usize {
    field_len(key_value_len(key, value_len(value, bounds)))
}

/// Appends `key` and `value` as the repeated `KeyValue` field `field` (at most 15).
pub(crate) fn put_attribute(to: &mut Buffer, field: u32, key: &str, value: &Value<'_>) {
    put_bounded(to, field, key, value, Bounds::WIDEST);
}

/// Appends `key` and `value`, cut to `bounds`, as the repeated `KeyValue` field `field` (at most 15).
pub(super) fn put_bounded(to: &mut Buffer, field: u32, key: &str, value: &Value<'_>, bounds: Bounds) {
    let value_len = value_len(value, bounds);
    to.len_head(field, key_value_len(key, value_len));
    to.bytes_field(KEY, key.as_bytes());
    to.len_head(VALUE, value_len);
    put_value(to, value, bounds);
}

fn value_len(value: &Value<'_>, bounds: Bounds) -> usize {
    match value {
        Value::Empty => 0,
        Value::String(text) => field_len(bounds.cut(text).len()),
        Value::Bool(_) => 2,
        Value::I64(value) => 1 + varint_len(*value as u64),
        Value::F64(_) => 9,
        Value::Bytes(bytes) => field_len(bytes.len().min(bounds.length)),
        _ if bounds.depth == 0 => 0,
        nested => field_len(nested_len(nested, bounds)),
    }
}

/// Bytes of the `ArrayValue` or `KeyValueList` of a nested value.
fn nested_len(value: &Value<'_>, bounds: Bounds) -> usize {
    let texts = |lens: &mut dyn Iterator<Item = usize>| -> usize { lens.map(|len| field_len(field_len(len))).sum() };
    match value {
        Value::Strs(values) => texts(&mut values.iter().map(|text| bounds.cut(text).len())),
        Value::Strings(values) => texts(&mut values.iter().map(|text| bounds.cut(text).len())),
        Value::Bools(values) => values.len() * field_len(2),
        Value::I64s(values) => values.iter().map(|value| field_len(1 + varint_len(*value as u64))).sum(),
        Value::F64s(values) => values.len() * field_len(9),
        Value::List(values) => values.iter().map(|value| field_len(value_len(value, bounds.deeper()))).sum(),
        Value::Map(entries) => unique(entries)
            .map(|entry| field_len(key_value_len(&entry.key, value_len(&entry.value, bounds.deeper()))))
            .sum(),
        _ => 0,
    }
}

fn unique<'e, 'v>(entries: &'e [KeyValue<'v>]) -> impl Iterator<Item = &'e KeyValue<'v>> {
    let chosen = if entries.len() > FEW { choose(entries, usize::MAX, |_| true).0 } else { None };
    let is_kept = move |at: usize| chosen.as_ref().map_or_else(|| is_last_of_its_key(entries, at), |chosen| chosen[at]);
    entries.iter().enumerate().filter(move |(at, _)| is_kept(*at)).map(|(_, entry)| entry)
}

fn put_value(to: &mut Buffer, value: &Value<'_>, bounds: Bounds) {
    match value {
        Value::Empty => {}
        Value::String(text) => to.bytes_field(STRING, bounds.cut(text).as_bytes()),
        Value::Bool(value) => put_bool(to, *value),
        Value::I64(value) => to.varint_field(INT, *value as u64),
        Value::F64(value) => to.fixed64_field(DOUBLE, value.to_bits()),
        Value::Bytes(bytes) => to.bytes_field(BYTES, &bytes[..bytes.len().min(bounds.length)]),
        _ if bounds.depth == 0 => {}
        Value::Map(entries) => {
            to.len_head(MAP, nested_len(value, bounds));
            unique(entries).for_each(|entry| put_bounded(to, VALUES, &entry.key, &entry.value, bounds.deeper()));
        }
        _ => {
            to.len_head(ARRAY, nested_len(value, bounds));
            put_elements(to, value, bounds.deeper());
        }
    }
}

fn put_elements(to: &mut Buffer, value: &Value<'_>, bounds: Bounds) {
    let text = |to: &mut Buffer, text: &str| {
        let text = bounds.cut(text);
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
            to.len_head(VALUES, value_len(value, bounds));
            put_value(to, value, bounds);
        }),
        _ => {}
    }
}

fn put_bool(to: &mut Buffer, value: bool) {
    to.varint_field(BOOL, value.into());
}

#[cfg(test)]
pub(super) mod tests;
