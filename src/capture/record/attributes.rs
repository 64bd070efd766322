//! The attributes of a span: each key once, with its last value, and no more than there may be.

use std::borrow::Cow;

use super::{ATTRIBUTES, FIELDS_AT, Lacks, Record, keys::key_bit};
use crate::{
    capture::attribute::{Scalar, bounded_field_len, put_bounded, put_short_scalar, put_short_text},
    value::Value,
    wire::{Fields, LEN, tag},
};

impl Record {
    /// Sets `key` to text.
    // Inlined where the key is known, so that its bit is too when the program is compiled.
    #[inline(always)]
    pub(crate) fn attribute_text(&mut self, key: &str, text: &str) {
        self.put_text(key, key_bit(key.as_bytes()), text);
    }

    fn put_text(&mut self, key: &str, bit: u64, text: &str) {
        if bit == 0 {
            return;
        }
        if !self.keys.admit(bit) {
            self.attribute_looked_at(key, bit, &Value::String(Cow::Borrowed(text)));
        } else if !(self.has_room_for_short() && put_short_text(&mut self.buffer, ATTRIBUTES, key, text)) {
            self.attribute_long(key, &Value::String(Cow::Borrowed(text)));
        }
    }

    /// Sets `key` to a value of a few bytes.
    #[inline(always)]
    pub(crate) fn attribute_scalar(&mut self, key: &str, scalar: Scalar) {
        self.put_scalar(key, key_bit(key.as_bytes()), scalar);
    }

    fn put_scalar(&mut self, key: &str, bit: u64, scalar: Scalar) {
        if bit == 0 {
            return;
        }
        if !self.keys.admit(bit) {
            self.attribute_looked_at(key, bit, &scalar.value());
        } else if !(self.has_room_for_short() && put_short_scalar(&mut self.buffer, ATTRIBUTES, key, scalar.as_slice()))
        {
            self.attribute_long(key, &scalar.value());
        }
    }

    /// Sets `key` to any value.
    #[inline]
    pub(crate) fn attribute(&mut self, key: &str, value: &Value<'_>) {
        match value {
            Value::String(text) => self.attribute_text(key, text),
            Value::I64(number) => self.attribute_scalar(key, Scalar::int(*number)),
            Value::Bool(flag) => self.attribute_scalar(key, Scalar::bool(*flag)),
            Value::F64(number) => self.attribute_scalar(key, Scalar::float(*number)),
            _ => {
                let bit = key_bit(key.as_bytes());
                if bit == 0 {
                    return;
                }
                if self.keys.admit(bit) {
                    self.attribute_long(key, value);
                } else {
                    self.attribute_looked_at(key, bit, value);
                }
            }
        }
    }

    /// Sets `key`, which the span may have already, or which may be one too many: a value it has is replaced, and a new
    /// key is only taken where there is room for another (LIM-02).
    #[cold]
    #[inline(never)]
    fn attribute_looked_at(&mut self, key: &str, bit: u64, value: &Value<'_>) {
        let is_known = self.keys.may_have(bit) && self.forget(key);
        if is_known || self.keys.add(bit, self.limits.attributes) {
            self.attribute_long(key, value);
        } else {
            self.lacks.0 |= Lacks::LIMITED;
            self.dropped_attributes = self.dropped_attributes.saturating_add(1);
        }
    }

    /// Removes the attribute `key`, if there is one.
    fn forget(&mut self, key: &str) -> bool {
        let mut found = None;
        for field in Fields::new(self.buffer.as_slice(), FIELDS_AT) {
            if field.tag == tag(ATTRIBUTES, LEN) {
                // The key is the first field of each attribute this crate writes.
                let key_field = Fields::new(&self.buffer.as_slice()[field.body.clone()], 0).next();
                let body = &self.buffer.as_slice()[field.body];
                if key_field.is_some_and(|found| &body[found.body] == key.as_bytes()) {
                    found = Some(field.whole);
                    break;
                }
            }
        }
        let Some(range) = found else { return false };
        self.buffer.remove(range);
        true
    }

    /// A value of any type and length, cut or left out where it does not fit.
    #[inline(never)]
    fn attribute_long(&mut self, key: &str, value: &Value<'_>) {
        let bounds = self.limits.values;
        if self.fits(bounded_field_len(key, value, bounds)) {
            put_bounded(&mut self.buffer, ATTRIBUTES, key, value, bounds);
            return;
        }
        // The key's own field, the heads of attribute, value and text: at most 6 bytes each.
        let overhead = key.len() + 24;
        self.lacks.0 |= Lacks::TRUNCATED;
        match value {
            Value::String(text) if overhead < self.left() => {
                let text = self.cut(text, overhead);
                put_bounded(&mut self.buffer, ATTRIBUTES, key, &Value::String(Cow::Borrowed(text)), bounds);
            }
            Value::Bytes(bytes) if overhead < self.left() => {
                let bytes = &bytes[..bytes.len().min(self.left() - overhead)];
                put_bounded(&mut self.buffer, ATTRIBUTES, key, &Value::Bytes(Cow::Borrowed(bytes)), bounds);
            }
            _ => self.dropped_attributes = self.dropped_attributes.saturating_add(1),
        }
    }
}
