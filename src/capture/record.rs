//! One span as the bytes of a protobuf `Span`, written while the span is open.
//!
//! Field order is free in protobuf, so each call appends what it knows; only the status and the dropped
//! counts wait for the end, since appended messages would merge and counts change. The record carries the
//! head of the `ScopeSpans.spans` field it will stand in, so that neighbouring records are valid protobuf
//! as they lie in the ring.

use self::{
    extras::{Extras, TAIL_MARGIN},
    keys::Keys,
    memory::{Lack, Memory},
};
use super::{
    attribute::{Bounds, short},
    context::SpanContext,
    id::{SpanId, TraceId},
    status::SpanKind,
    tracestate::{INLINE_BYTES, TraceState},
};
use crate::{
    config::SpanLimits,
    proto::{
        scope_spans::SPANS,
        span::{self, NAME, PARENT_SPAN_ID, TRACE_STATE},
    },
    wire::{Buffer, FIXED32, FIXED64, Fields, LEN, VARINT, field_len, tag, varint_len, write_varint},
};

mod attributes;
mod entries;
mod extras;
mod keys;
mod memory;

pub(super) use keys::key_bit;
pub(super) use memory::Lender;

/// The most bytes one record takes. What goes beyond is cut at a character boundary, or left out and counted.
pub(crate) const MAX_RECORD_BYTES: usize = 4 << 20;

/// Kept free for what `finish` appends: three counts, and the status with its description.
const TAIL_BYTES: usize = 1024;

/// Bytes a new record has room for before it grows; most spans fit.
pub(super) const INITIAL_BYTES: usize = 1024;

/// Records that grew beyond this give their memory back when they have ended.
const KEPT_BYTES: usize = 16 * 1024;

/// Room for the head of the field around the span: a one-byte tag and a length of at most five bytes.
const PREFIX: usize = 6;

/// The field of the parent's id stands before all others, so that where everything else stands does not depend on
/// whether there is one: without it a record begins behind it.
const PARENT_AT: usize = PREFIX;
const PARENT_BYTES: usize = 10;
const HEAD_AT: usize = PARENT_AT + PARENT_BYTES;

/// The fields every span has, without their values. They stand in a record from the first of its spans to the last;
/// the offsets below say where the values go.
#[rustfmt::skip]
const HEAD: [u8; 54] = [
    0x0a, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // trace_id
    0x12, 8, 0, 0, 0, 0, 0, 0, 0, 0,                         // span_id
    0x85, 0x01, 0, 0, 0, 0,                                  // flags
    0x30, 1,                                                 // kind
    0x39, 0, 0, 0, 0, 0, 0, 0, 0,                            // start_time_unix_nano
    0x41, 0, 0, 0, 0, 0, 0, 0, 0,                            // end_time_unix_nano
];
const TRACE_ID_AT: usize = HEAD_AT + 2;
const SPAN_ID_AT: usize = HEAD_AT + 20;
const FLAGS_AT: usize = HEAD_AT + 30;
pub(super) const KIND_AT: usize = HEAD_AT + 35;
pub(super) const START_AT: usize = HEAD_AT + 37;
pub(super) const END_AT: usize = HEAD_AT + 46;
pub(super) const FIELDS_AT: usize = HEAD_AT + HEAD.len();

// What `HEAD` spells out is what it stands for.
const _: () = {
    assert!(HEAD[0] as u32 == tag(span::TRACE_ID, LEN) && HEAD[18] as u32 == tag(span::SPAN_ID, LEN));
    assert!((HEAD[28] & 0x7f) as u32 | (HEAD[29] as u32) << 7 == tag(span::FLAGS, FIXED32));
    assert!(HEAD[34] as u32 == tag(span::KIND, VARINT));
    assert!(HEAD[36] as u32 == tag(span::START, FIXED64) && HEAD[45] as u32 == tag(span::END, FIXED64));
};

/// The fields that every span has, as they stand at the front of its record. Code that reads records by their layout
/// checks it against this.
pub(crate) const RECORD_HEAD: &[u8] = &HEAD;

/// Room at the front for these and a name that is short, and for what copying it writes beyond that.
const FRONT: usize = 256;

/// Bits 8 and 9 of `flags`: whether the parent is remote is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
pub(super) const IS_REMOTE: u32 = 0x200;

/// What the fixed fields of a span hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) context: &'a SpanContext,
    /// The parent's span id and whether it came from another process; `None` for the root of a trace.
    pub(crate) parent: Option<(SpanId, bool)>,
    pub(crate) kind: SpanKind,
    pub(crate) start: u64,
}

/// The fixed fields of each span of `run`, records that lie side by side.
fn heads(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields::new(run, 0).filter_map(|field| {
        let span = run.get(field.body)?;
        let has_parent = span.first() == Some(&(tag(PARENT_SPAN_ID, LEN) as u8));
        if has_parent { span.get(PARENT_BYTES..) } else { Some(span) }
    })
}

/// The trace of the first span of such records.
pub(crate) fn first_trace_id(run: &[u8]) -> Option<TraceId> {
    let id = heads(run).next()?.get(TRACE_ID_AT - HEAD_AT..TRACE_ID_AT - HEAD_AT + 16)?;
    Some(TraceId::from_bytes(id.try_into().ok()?))
}

/// When the spans of such records ended: UNIX nanoseconds.
pub(crate) fn ends(run: &[u8]) -> impl Iterator<Item = u64> {
    heads(run).filter_map(|head| {
        let end = head.get(END_AT - HEAD_AT..END_AT - HEAD_AT + 8)?;
        Some(u64::from_le_bytes(end.try_into().ok()?))
    })
}

/// The bytes of a span that is open. Its memory is kept when it is used again.
pub(crate) struct Record {
    buffer: Buffer,
    /// Which attributes there are.
    keys: Keys,
    /// What `keys` are of a span without attributes.
    no_keys: Keys,
    limits: RecordLimits,
    has_parent: bool,
    /// Whether anything in `extras` was touched.
    has_extras: bool,
    extras: Extras,
    /// The last field: what was lent goes back when the memory is free.
    memory: Memory,
}

/// How much of each kind a span may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordLimits {
    attributes: u32,
    values: Bounds,
    events: u32,
    links: u32,
    event_attributes: usize,
    link_attributes: usize,
}

impl RecordLimits {
    /// What an attribute's value may be.
    pub(super) fn values(&self) -> Bounds {
        self.values
    }
}

impl From<&SpanLimits> for RecordLimits {
    fn from(limits: &SpanLimits) -> Self {
        let count = |most| u32::try_from(most).unwrap_or(u32::MAX);
        Self {
            attributes: count(limits.attribute_count_limit),
            values: Bounds::new(limits.attribute_value_length_limit, limits.attribute_depth_limit),
            events: count(limits.event_count_limit),
            links: count(limits.link_count_limit),
            event_attributes: limits.event_attribute_count_limit,
            link_attributes: limits.link_attribute_count_limit,
        }
    }
}

impl Record {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::within(RecordLimits::from(&SpanLimits::default()))
    }

    /// A record of spans within these limits.
    pub(crate) fn within(limits: RecordLimits) -> Self {
        let no_keys = Keys::none(limits.attributes, limits.values.is_short());
        let mut buffer = Buffer::with_capacity(INITIAL_BYTES);
        let front: &mut [u8; FRONT] = buffer.front();
        front[PARENT_AT..PARENT_AT + 2].copy_from_slice(&[tag(PARENT_SPAN_ID, LEN) as u8, 8]);
        front[HEAD_AT..FIELDS_AT].copy_from_slice(&HEAD);
        let (extras, memory) = (Extras::default(), Memory::default());
        Self { buffer, keys: no_keys, no_keys, limits, has_parent: false, has_extras: false, extras, memory }
    }

    /// Bytes of memory it holds.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity() + self.extras.memory()
    }

    /// Whether there is more to be looked after, when the span has ended, than its bytes.
    #[inline]
    pub(crate) fn is_unusual(&self) -> bool {
        self.has_extras || self.buffer.capacity() > KEPT_BYTES
    }

    /// Gives the memory of an unusually large span back.
    pub(crate) fn shrink(&mut self) {
        if self.memory() > KEPT_BYTES {
            self.replace();
        }
    }

    #[cold]
    #[inline(never)]
    fn replace(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        let before = self.memory();
        *self = Self::within(self.limits);
        memory.shrink(before - self.memory());
        self.memory = memory;
    }

    /// What few spans have, from now on this one too.
    fn extras(&mut self) -> &mut Extras {
        self.has_extras = true;
        &mut self.extras
    }

    /// Begins a span called `name`, forgetting the one before.
    #[inline]
    pub(crate) fn begin(&mut self, name: &str) {
        self.keys.forget_admitted(&self.no_keys);
        if self.has_extras {
            self.clear_extras();
        }
        let front: &mut [u8; FRONT] = self.buffer.front();
        if name.len() < 0x80 {
            // Renamed, a span has its name elsewhere.
            front[FIELDS_AT] = tag(NAME, LEN) as u8;
            front[FIELDS_AT + 1] = name.len() as u8;
            short::copy(front, FIELDS_AT + 2, name.as_bytes());
            self.buffer.begin_at(FIELDS_AT + 2 + name.len());
        } else {
            self.buffer.begin_at(FIELDS_AT);
            self.put_name(name);
        }
    }

    #[cold]
    #[inline(never)]
    fn clear_extras(&mut self) {
        self.extras.clear();
        self.keys = self.no_keys;
        self.has_extras = false;
    }

    /// Fills in what is known at the start.
    #[inline]
    pub(crate) fn set_head(&mut self, head: &Head<'_>) {
        self.set_fixed(head);
        if !head.context.trace_state().is_empty() {
            self.put_trace_state(head.context.trace_state());
        }
    }

    /// Fills the fixed fields in; the trace state is none of them.
    #[inline]
    pub(crate) fn set_fixed(&mut self, head: &Head<'_>) {
        let flags = u32::from(head.context.trace_flags())
            | HAS_IS_REMOTE
            | if matches!(head.parent, Some((_, true))) { IS_REMOTE } else { 0 };
        self.has_parent = head.parent.is_some();
        let front: &mut [u8; FRONT] = self.buffer.front();
        if let Some((parent, _)) = head.parent {
            front[PARENT_AT + 2..HEAD_AT].copy_from_slice(&parent.to_bytes());
        }
        front[TRACE_ID_AT..TRACE_ID_AT + 16].copy_from_slice(&head.context.trace_id().to_bytes());
        front[SPAN_ID_AT..SPAN_ID_AT + 8].copy_from_slice(&head.context.span_id().to_bytes());
        front[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&flags.to_le_bytes());
        front[KIND_AT] = head.kind as u8;
        front[START_AT..START_AT + 8].copy_from_slice(&head.start.to_le_bytes());
    }

    #[inline(never)]
    fn put_trace_state(&mut self, state: &TraceState) {
        // Few spans have one, and it must be cleared again when the record is reused.
        self.has_extras = true;
        let mut scratch = [0; INLINE_BYTES];
        let state = state.text(&mut scratch);
        match self.make_room(field_len(state.len())) {
            Ok(()) => self.buffer.bytes_field(TRACE_STATE, state.as_bytes()),
            Err(lack) => self.extras().lack(lack),
        }
    }

    /// The bytes so far; the fields that are not fixed begin at [`FIELDS_AT`].
    pub(super) fn as_slice(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// Nanoseconds since the UNIX epoch at which the span began.
    pub(crate) fn start(&self) -> u64 {
        read_start(self.buffer.as_slice())
    }

    /// Bytes that may still be appended.
    fn left(&self) -> usize {
        (MAX_RECORD_BYTES - TAIL_BYTES).saturating_sub(self.buffer.len())
    }

    /// Whether a field of at most [`short::LONGEST`] bytes fits, whatever is in it.
    #[inline]
    fn has_room_for_short(&self) -> bool {
        self.buffer.len() <= MAX_RECORD_BYTES - TAIL_BYTES - short::LONGEST
    }

    #[cold]
    #[inline(never)]
    fn put_name(&mut self, name: &str) {
        let name = self.cut(name, 1 + varint_len(name.len() as u64));
        if self.buffer.has_room(field_len(name.len())) {
            self.buffer.bytes_field(NAME, name.as_bytes());
        }
    }

    /// Gives the span another name, in place of the one it has: however often it is renamed, it does not grow.
    pub(crate) fn rename(&mut self, name: &str) {
        let old = Fields::new(self.buffer.as_slice(), FIELDS_AT).find(|field| field.tag == tag(NAME, LEN));
        if let Some(old) = old {
            self.buffer.remove(old.whole);
        }
        self.put_name(name);
    }

    /// Returns `text`, cut to what fits beside `overhead` bytes.
    fn cut<'t>(&mut self, text: &'t str, overhead: usize) -> &'t str {
        let cut = prefix(text, self.left().saturating_sub(overhead));
        if cut.len() < text.len() {
            self.extras().lack(Lack::TooLarge);
        }
        if self.has_room(overhead + cut.len()) {
            return cut;
        }
        self.extras().lack(Lack::NoMemory);
        prefix(cut, self.buffer.free().saturating_sub(overhead + TAIL_MARGIN))
    }

    /// Ends the span and answers the finished record. A time before the start counts as the start.
    #[inline]
    pub(crate) fn finish(&mut self, end: u64) -> &[u8] {
        self.close(end);
        self.framed()
    }

    /// Ends the span: nothing may be added from now on.
    #[inline]
    pub(super) fn close(&mut self, end: u64) {
        self.set_end(|start| end.max(start));
    }

    /// Ends the span `nanos` nanoseconds after a start that was read from a clock.
    #[inline]
    pub(super) fn close_after(&mut self, nanos: u64) {
        self.set_end(|start| start.wrapping_add(nanos));
    }

    #[inline(always)]
    fn set_end(&mut self, end: impl FnOnce(u64) -> u64) {
        let front: &mut [u8; FRONT] = self.buffer.front();
        let end = end(read_start(front));
        front[END_AT..END_AT + 8].copy_from_slice(&end.to_le_bytes());
        if self.has_extras {
            self.finish_extras();
        }
    }

    /// The finished record.
    #[inline]
    pub(super) fn framed(&mut self) -> &[u8] {
        if self.has_parent { self.framed_from::<PARENT_AT>() } else { self.framed_from::<HEAD_AT>() }
    }

    #[inline(always)]
    fn framed_from<const FIRST: usize>(&mut self) -> &[u8] {
        let len = self.buffer.len() - FIRST;
        let front: &mut [u8; FRONT] = self.buffer.front();
        let head = if len < 1 << 7 {
            front[FIRST - 2..FIRST].copy_from_slice(&[tag(SPANS, LEN) as u8, len as u8]);
            2
        } else if len < 1 << 14 {
            front[FIRST - 3..FIRST].copy_from_slice(&[tag(SPANS, LEN) as u8, len as u8 | 0x80, (len >> 7) as u8]);
            3
        } else {
            let head = 1 + varint_len(len as u64);
            front[FIRST - head] = tag(SPANS, LEN) as u8;
            write_varint(&mut front[FIRST - head + 1..], len as u64);
            head
        };
        &self.buffer.as_slice()[FIRST - head..]
    }
}

#[inline]
fn read_start(record: &[u8]) -> u64 {
    let start = record.get(START_AT..START_AT + 8);
    start.and_then(|start| start.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The longest prefix of `text` that ends at a character boundary within `len` bytes.
fn prefix(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
