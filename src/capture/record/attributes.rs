//! The attributes of a span: each key once, with its last value, and no more than the limit.

use std::borrow::Cow;

use super::{FIELDS_AT, Lack, Record, keys::key_bit, prefix};
use crate::{
    capture::attribute::{
        bounded_field_len, put_bounded,
        short::{self, Scalar, Window},
    },
    proto::span::ATTRIBUTES,
    value::Value,
    wire::{Fields, LEN, tag},
};

impl Record {
    /// Whether the key of this bit may be in the span already, or exceed the limit.
    #[inline(always)]
    pub(crate) fn may_stop(&self, bit: u64) -> bool {
        self.keys.may_stop(bit)
    }

    /// Sets `key`, which is not empty and not [stopped](Self::may_stop), to `text`, if that is short and the record has
    /// room. Otherwise does nothing and returns false: use [`attribute_otherwise`](Self::attribute_otherwise) then.
    // Inlined, so that the bit of a key that is known at compile time is computed then.
    #[inline(always)]
    pub(crate) fn try_text(&mut self, key: &str, bit: u64, text: &str) -> bool {
        let Some(message) = short::text_message(key, text) else { return false };
        let Some(window) = self.window(bit, message) else { return false };
        short::put_text(window, ATTRIBUTES, message, key, text);
        true
    }

    /// Sets `key` to a value of a few bytes, under the conditions of `try_text`.
    #[inline(always)]
    pub(crate) fn try_scalar(&mut self, key: &str, bit: u64, scalar: Scalar) -> bool {
        let Some(message) = short::scalar_message(key, scalar) else { return false };
        let Some(window) = self.window(bit, message) else { return false };
        short::put_scalar(window, ATTRIBUTES, message, key, scalar);
        true
    }

    /// The place to write a short attribute whose key was not stopped, if there is room.
    #[inline(always)]
    fn window(&mut self, bit: u64, message: usize) -> Option<&mut Window> {
        if !self.has_room_for_short() {
            return None;
        }
        let window = self.buffer.window(short::HEAD + message);
        if window.is_some() {
            self.keys.admit(bit);
        }
        window
    }

    /// Sets `key` to any value. An empty key is not recorded.
    pub(crate) fn attribute(&mut self, key: &str, value: &Value<'_>) {
        if key.is_empty() {
            return;
        }
        let bit = key_bit(key.as_bytes());
        let is_set = match value {
            _ if self.may_stop(bit) => false,
            Value::String(text) => self.try_text(key, bit, text),
            Value::I64(number) => self.try_scalar(key, bit, Scalar::int(*number)),
            Value::Bool(flag) => self.try_scalar(key, bit, Scalar::bool(*flag)),
            Value::F64(number) => self.try_scalar(key, bit, Scalar::float(*number)),
            _ => false,
        };
        if !is_set {
            self.attribute_otherwise(key, bit, value);
        }
    }

    /// Sets `key`, which is not empty, after `try_text` or `try_scalar` could not.
    #[inline(never)]
    pub(crate) fn attribute_otherwise(&mut self, key: &str, bit: u64, value: &Value<'_>) {
        if self.keys.admit(bit) {
            self.attribute_long(key, value);
        } else {
            self.attribute_looked_at(key, bit, value);
        }
    }

    /// Sets `key`, which the span may have already or which may exceed the limit: an existing value is replaced, and a
    /// new key is only taken while the limit allows it (LIM-02).
    #[cold]
    #[inline(never)]
    fn attribute_looked_at(&mut self, key: &str, bit: u64, value: &Value<'_>) {
        // From here on the gate alone no longer describes the keys.
        self.has_extras = true;
        let is_known = self.keys.may_have(bit) && self.forget(key);
        if is_known || self.keys.add(bit, self.limits.attributes) {
            self.attribute_long(key, value);
        } else {
            self.drop_attribute(Lack::Limit);
        }
    }

    fn drop_attribute(&mut self, lack: Lack) {
        let extras = self.extras();
        extras.lack(lack);
        extras.drop_attribute();
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

    /// Writes a value of any type and length, cut or left out if it does not fit.
    #[inline(never)]
    fn attribute_long(&mut self, key: &str, value: &Value<'_>) {
        let bounds = self.limits.values;
        match self.make_room(bounded_field_len(key, value, bounds)) {
            Ok(()) => return put_bounded(&mut self.buffer, ATTRIBUTES, key, value, bounds),
            Err(Lack::TooLarge) => {}
            // Cut at any place that memory happens to give out at, it would say something else.
            Err(lack) => return self.drop_attribute(lack),
        }
        // The key's own field, the heads of attribute, value and text: at most 6 bytes each.
        let overhead = key.len() + 24;
        self.extras().lack(Lack::TooLarge);
        match value {
            Value::String(text) if overhead < self.left() => {
                let text = prefix(text, self.left() - overhead);
                if !self.has_room(overhead + text.len()) {
                    return self.drop_attribute(Lack::NoMemory);
                }
                put_bounded(&mut self.buffer, ATTRIBUTES, key, &Value::String(Cow::Borrowed(text)), bounds);
            }
            Value::Bytes(bytes) if overhead < self.left() => {
                let bytes = &bytes[..bytes.len().min(self.left() - overhead)];
                if !self.has_room(overhead + bytes.len()) {
                    return self.drop_attribute(Lack::NoMemory);
                }
                put_bounded(&mut self.buffer, ATTRIBUTES, key, &Value::Bytes(Cow::Borrowed(bytes)), bounds);
            }
            _ => self.extras().drop_attribute(),
        }
    }
}
