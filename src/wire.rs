//! Protobuf wire primitives: tags, varints, lengths. Nothing else in the crate knows them.
//!
//! Lengths are computed before they are written, so every varint is in its shortest form and the output is
//! byte for byte what a canonical encoder would write for the same field order.

mod storage;

use storage::Storage;

/// Wire type of varint fields.
pub(crate) const VARINT: u32 = 0;
/// Wire type of 8-byte fields.
pub(crate) const FIXED64: u32 = 1;
/// Wire type of length-delimited fields.
pub(crate) const LEN: u32 = 2;
/// Wire type of 4-byte fields.
pub(crate) const FIXED32: u32 = 5;

/// The tag of a field, as it stands on the wire before varint encoding.
pub(crate) const fn tag(field: u32, wire_type: u32) -> u32 {
    field << 3 | wire_type
}

/// Bytes of `value` as a varint: 1 to 10.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // Seven bits a byte: ceil(bits / 7) without a division.
    ((64 - (value | 1).leading_zeros()) as usize * 9 + 64) / 64
}

/// Bytes of a length-delimited field with a one-byte tag and a body of `len` bytes.
#[inline]
pub(crate) const fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Writes `value` as a varint to the front of `to` and answers how many bytes it took.
#[inline]
pub(crate) fn write_varint(to: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        to[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    to[at] = value as u8;
    at + 1
}

/// Bytes of a field's head that is written before the length of its body is known.
pub(crate) const PADDED_HEAD_BYTES: usize = 6;

/// Writes the head of a length-delimited field with a one-byte tag to the front of `to`, the length in five bytes
/// however few it needs: no byte behind it moves when it grows. Every decoder takes that; encoders may be as terse as
/// they like.
pub(crate) fn put_padded_head(to: &mut [u8], field: u32, len: usize) {
    to[0] = tag(field, LEN) as u8;
    for (at, byte) in to[1..PADDED_HEAD_BYTES].iter_mut().enumerate() {
        let more = if at + 2 < PADDED_HEAD_BYTES { 0x80 } else { 0 };
        *byte = (len >> (7 * at)) as u8 & 0x7f | more;
    }
}

/// A growing byte buffer that hands out room to write in. Its storage is always initialised, so that
/// writing is a bounds check and a copy; it keeps its capacity when cleared.
#[derive(Default)]
pub(crate) struct Buffer {
    storage: Storage,
    len: usize,
}

impl Buffer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { storage: Storage::zeroed(capacity), len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.storage.len()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.storage[..self.len]
    }

    /// Appends `n` bytes for the caller to fill; what they hold before is unspecified.
    #[inline]
    pub(crate) fn room(&mut self, n: usize) -> &mut [u8] {
        let at = self.len;
        let end = at + n;
        if end > self.storage.len() {
            self.grow(end);
        }
        self.len = end;
        &mut self.storage[at..end]
    }

    /// The first `N` bytes, whatever of them was written; there are as many from now on.
    #[inline(always)]
    pub(crate) fn front<const N: usize>(&mut self) -> &mut [u8; N] {
        if self.storage.len() < N {
            self.grow(N);
        }
        self.storage.first_chunk_mut().expect("it has grown to as many")
    }

    /// Goes on as if `n` bytes of the [`front`](Self::front) were all that was written.
    #[inline(always)]
    pub(crate) fn begin_at(&mut self, n: usize) {
        self.len = n;
    }

    /// Appends `n` bytes for the caller to fill at the front of the `N` that it gets, if there are as many without
    /// growing.
    #[inline(always)]
    pub(crate) fn window<const N: usize>(&mut self, n: usize) -> Option<&mut [u8; N]> {
        let at = self.len;
        let window = self.storage.get_mut(at..at + N)?.first_chunk_mut();
        self.len = at + n;
        window
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, needed: usize) {
        let larger = Storage::zeroed(needed.next_power_of_two());
        self.go_on_in(larger);
    }

    /// Whether `n` bytes can be appended without growing.
    #[inline]
    pub(crate) fn has_room(&self, n: usize) -> bool {
        n <= self.free()
    }

    /// Bytes that can be appended without growing.
    pub(crate) fn free(&self) -> usize {
        self.storage.len() - self.len
    }

    /// Grows to `capacity` bytes; false if the system gives no memory for them.
    pub(crate) fn try_grow_to(&mut self, capacity: usize) -> bool {
        if capacity <= self.storage.len() {
            return true;
        }
        let larger = Storage::try_zeroed(capacity);
        let has_grown = larger.is_some();
        larger.into_iter().for_each(|larger| self.go_on_in(larger));
        has_grown
    }

    fn go_on_in(&mut self, mut larger: Storage) {
        // All of it: what stands in front may have been written before it counts.
        larger[..self.storage.len()].copy_from_slice(&self.storage);
        self.storage = larger;
    }

    /// Removes the bytes of `range` and closes the gap.
    pub(crate) fn remove(&mut self, range: std::ops::Range<usize>) {
        let removed = range.len();
        self.storage.copy_within(range.end..self.len, range.start);
        self.len -= removed;
    }

    #[inline]
    pub(crate) fn varint(&mut self, value: u64) {
        write_varint(self.room(varint_len(value)), value);
    }

    #[inline]
    pub(crate) fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(tag(field, wire_type).into());
    }

    pub(crate) fn varint_field(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    pub(crate) fn fixed64_field(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn fixed32_field(&mut self, field: u32, value: u32) {
        self.tag(field, FIXED32);
        self.raw(&value.to_le_bytes());
    }

    /// The head of a length-delimited field whose body of `len` bytes the caller writes next.
    #[inline]
    pub(crate) fn len_head(&mut self, field: u32, len: usize) {
        self.tag(field, LEN);
        self.varint(len as u64);
    }

    pub(crate) fn bytes_field(&mut self, field: u32, bytes: &[u8]) {
        self.len_head(field, bytes.len());
        self.raw(bytes);
    }

    /// A length-delimited field with what `write` writes: for messages that are written seldom, since the body is
    /// written elsewhere first.
    pub(crate) fn message_field(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut body = Self::default();
        write(&mut body);
        self.bytes_field(field, body.as_slice());
    }

    #[inline]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }
}

/// The top-level fields of a message, as (tag, range of the whole field, range of the body). It stops at anything it
/// does not understand, groups included: no message of OTLP has any.
pub(crate) struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    /// Nothing is left: so far it was a message.
    pub(crate) fn are_over(&self) -> bool {
        self.at == self.message.len()
    }
}

/// One field found by [`Fields`]; ranges are offsets into the message.
pub(crate) struct Field {
    pub(crate) tag: u32,
    pub(crate) whole: std::ops::Range<usize>,
    pub(crate) body: std::ops::Range<usize>,
}

impl Field {
    pub(crate) fn number(&self) -> u32 {
        self.tag >> 3
    }

    /// The value in `message`, where the field was found; none if it is no varint.
    pub(crate) fn varint(&self, message: &[u8]) -> Option<u64> {
        if self.tag & 7 != VARINT {
            return None;
        }
        Some(read_varint(&message[self.body.clone()])?.0)
    }
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let start = self.at;
        let (tag, tag_len) = read_varint(self.message.get(start..)?)?;
        let tag = u32::try_from(tag).ok().filter(|tag| *tag >> 3 != 0)?;
        let body = start + tag_len;
        let (from, len) = match tag & 7 {
            VARINT => (body, read_varint(self.message.get(body..)?)?.1),
            FIXED64 => (body, 8),
            FIXED32 => (body, 4),
            LEN => {
                let (len, len_len) = read_varint(self.message.get(body..)?)?;
                (body + len_len, usize::try_from(len).ok()?)
            }
            _ => return None,
        };
        let end = from.checked_add(len).filter(|end| *end <= self.message.len())?;
        self.at = end;
        Some(Field { tag, whole: start..end, body: from..end })
    }
}

/// The varint at the front of `bytes` and its length.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // The tenth byte has room for one bit.
            return (at < 9 || *byte < 2).then_some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_is_what_prost_writes_and_reads_back(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut buffer = Buffer::default();
            buffer.varint(value);
            let mut expected = Vec::new();
            prost::encoding::encode_varint(value, &mut expected);
            prop_assert_eq!(buffer.as_slice(), &expected[..]);
            prop_assert_eq!(varint_len(value), expected.len());
            prop_assert_eq!(read_varint(&expected), Some((value, expected.len())));
        }

        #[test]
        fn a_padded_length_reads_as_what_it_is(len in 0..1_usize << 26, shift in 0_u32..27) {
            let len = len >> shift;
            let mut head = [0xff; PADDED_HEAD_BYTES];
            put_padded_head(&mut head, 2, len);
            prop_assert_eq!(u32::from(head[0]), tag(2, LEN));
            prop_assert_eq!(read_varint(&head[1..]), Some((len as u64, PADDED_HEAD_BYTES - 1)));
            prop_assert_eq!(prost::encoding::decode_varint(&mut &head[1..]), Ok(len as u64));
        }

        #[test]
        fn reading_fields_of_arbitrary_bytes_ends_and_stays_inside(bytes: Vec<u8>) {
            for field in Fields::new(&bytes, 0) {
                prop_assert!(field.whole.end <= bytes.len() && field.body.start <= field.body.end);
            }
        }
    }

    #[test]
    fn varints_grow_at_the_powers_of_128() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            assert_eq!(varint_len(value), len, "{value}");
        }
    }

    #[test]
    fn removing_a_range_closes_the_gap() {
        let mut buffer = Buffer::default();
        buffer.raw(b"abcdef");
        buffer.remove(1..3);
        assert_eq!(buffer.as_slice(), b"adef");
    }
}
