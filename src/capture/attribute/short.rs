//! The form of nearly all attributes: every length is a single byte. It is written into a window of fixed size, so that
//! all bounds are known at compile time: nothing is checked at run time, and nothing is called.

use super::{BOOL, DOUBLE, INT, KEY, STRING, VALUE};
use crate::{
    value::Value,
    wire::{FIXED64, LEN, VARINT, read_varint, tag, write_varint},
};

/// Lengths below this are a single byte.
const LONG: usize = 0x80;

/// Bytes of the message heads in this form.
pub(crate) const HEAD: usize = 2;

/// The most bytes of an attribute in this form.
pub(crate) const LONGEST: usize = HEAD + LONG - 1;

/// Room to write one attribute. It is larger than any attribute in this form, because the compiler may assume that two
/// short lengths add up to more.
pub(crate) type Window = [u8; 288];

/// Returns a length that is known to be short, in a way that lets the compiler know it too.
#[inline(always)]
fn short(len: usize) -> usize {
    len & (LONG - 1)
}

/// Bytes of the message of the attribute `key = text`, if it has this form.
#[inline(always)]
pub(crate) fn text_message(key: &str, text: &str) -> Option<usize> {
    let message = key.len() + text.len() + 6;
    (message < LONG).then_some(message)
}

/// Writes the attribute `key = text`, whose message has `message` bytes, to the front of `to`.
#[inline(always)]
pub(crate) fn put_text(to: &mut Window, field: u32, message: usize, key: &str, text: &str) {
    let at = put_key(to, field, message, key);
    let len = text.len() as u32;
    put_at(to, at, heads([tag(VALUE, LEN), len + 2, tag(STRING, LEN), len]));
    copy(to, at + 4, text.as_bytes());
}

/// Bytes of the message of the attribute `key = scalar`, if it has this form.
#[inline(always)]
pub(crate) fn scalar_message(key: &str, scalar: Scalar) -> Option<usize> {
    (key.len() < LONG - Scalar::LONGEST - 2).then_some(key.len() + scalar.len() + 2)
}

/// Writes the attribute `key = scalar`, whose message has `message` bytes, to the front of `to`.
#[inline(always)]
pub(crate) fn put_scalar(to: &mut Window, field: u32, message: usize, key: &str, scalar: Scalar) {
    let at = put_key(to, field, message, key);
    put_at(to, at, scalar.low.to_le_bytes());
    put_at(to, at + 8, scalar.high.to_le_bytes());
}

/// Writes the heads of the attribute and of its key, and the key. Returns where the value goes.
#[inline(always)]
fn put_key(to: &mut Window, field: u32, message: usize, key: &str) -> usize {
    put_at(to, 0, heads([tag(field, LEN), message as u32, tag(KEY, LEN), key.len() as u32]));
    copy(to, 4, key.as_bytes());
    4 + short(key.len())
}

/// Four bytes, each below 128, as one word. Adding them up takes fewer steps than putting them side by side.
#[inline(always)]
fn heads([a, b, c, d]: [u32; 4]) -> [u8; 4] {
    (a.wrapping_add(b << 8).wrapping_add(c << 16).wrapping_add(d << 24)).to_le_bytes()
}

#[inline(always)]
fn put_at<const N: usize, const ROOM: usize>(to: &mut [u8; ROOM], at: usize, bytes: [u8; N]) {
    to[at..at + N].copy_from_slice(&bytes);
}

/// Copies fewer than 128 bytes to `at`, as two overlapping pieces of a fixed length: cheaper than a call.
#[inline(always)]
pub(crate) fn copy<const ROOM: usize>(to: &mut [u8; ROOM], at: usize, from: &[u8]) {
    let len = from.len();
    if len >= 32 {
        if len >= 64 { copy_ends::<64, ROOM>(to, at, from) } else { copy_ends::<32, ROOM>(to, at, from) }
    } else if len >= 16 {
        copy_ends::<16, ROOM>(to, at, from);
    } else if len >= 8 {
        copy_ends::<8, ROOM>(to, at, from);
    } else if len >= 4 {
        copy_ends::<4, ROOM>(to, at, from);
    } else if let [first, .., last] = from {
        // At most three bytes: the first, the middle and the last.
        to[at] = *first;
        to[at + ((len / 2) & 1)] = from[len / 2];
        to[at + ((len - 1) & 3)] = *last;
    } else if let [only] = from {
        to[at] = *only;
    }
}

/// Copies `N` to `2 * N - 1` bytes, as their first and their last `N`.
#[inline(always)]
fn copy_ends<const N: usize, const ROOM: usize>(to: &mut [u8; ROOM], at: usize, from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        put_at(to, at, *first);
        put_at(to, at + ((from.len() - N) & (N - 1)), *last);
    }
}

/// An integer, bool or float as the bytes of an attribute's value: its head and the `AnyValue`, the first byte lowest.
#[derive(Clone, Copy)]
pub(crate) struct Scalar {
    low: u64,
    high: u64,
}

impl Scalar {
    /// The most bytes: head, tag and a varint of ten bytes.
    const LONGEST: usize = 2 + 1 + 10;

    #[inline(always)]
    pub(crate) fn int(value: i64) -> Self {
        let mut body = [0; 16];
        let len = write_varint(&mut body, value as u64);
        let body = u128::from_le_bytes(body);
        Self::of(tag(INT, VARINT), len, body as u64, (body >> 40) as u64)
    }

    #[inline(always)]
    pub(crate) fn bool(value: bool) -> Self {
        Self::of(tag(BOOL, VARINT), 1, value.into(), 0)
    }

    #[inline(always)]
    pub(crate) fn float(value: f64) -> Self {
        let bits = value.to_bits();
        Self::of(tag(DOUBLE, FIXED64), 8, bits, bits >> 40)
    }

    /// Makes a scalar from the bytes `first` of the body, of which five count, and the bytes `rest` behind them.
    #[inline(always)]
    fn of(case: u32, len: usize, first: u64, rest: u64) -> Self {
        Self {
            low: u64::from(tag(VALUE, LEN)) | (len as u64 + 1) << 8 | u64::from(case) << 16 | first << 24,
            high: rest,
        }
    }

    /// The number of bytes.
    #[inline(always)]
    fn len(self) -> usize {
        2 + usize::from(self.low.to_le_bytes()[1])
    }

    /// The value this scalar was made of.
    #[cold]
    pub(crate) fn value(self) -> Value<'static> {
        let body = (u128::from(self.low) | u128::from(self.high) << 64) >> 24;
        let [_, _, case, ..] = self.low.to_le_bytes();
        match u32::from(case) >> 3 {
            INT => Value::I64(read_varint(&body.to_le_bytes()).map_or(0, |(value, _)| value as i64)),
            BOOL => Value::Bool(body as u8 != 0),
            _ => Value::F64(f64::from_bits(body as u64)),
        }
    }
}
