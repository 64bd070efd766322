//! Events and links: what a span may have several of, besides attributes.

use super::{HAS_IS_REMOTE, IS_REMOTE, Lack, Record};
use crate::{
    capture::{
        attribute::{bounded_field_len, put_bounded, recorded_of},
        context::SpanContext,
        tracestate::INLINE_BYTES,
    },
    proto::{
        event, link,
        span::{EVENTS, LINKS},
    },
    value::KeyValue,
    wire::{field_len, varint_len},
};

/// Bytes of a count in a field with a one-byte tag; a count of zero is not written.
fn count_len(count: u32) -> usize {
    if count == 0 { 0 } else { 1 + varint_len(count.into()) }
}

impl Record {
    /// Appends an event; `time` is in UNIX nanoseconds.
    pub(crate) fn event(&mut self, name: &str, time: u64, attributes: &[KeyValue<'_>]) {
        use event::{ATTRIBUTES, DROPPED_ATTRIBUTES, NAME, TIME};
        let bounds = self.limits.values;
        let (attributes, left_out) = recorded_of(attributes, self.limits.event_attributes);
        let attributes_len: usize =
            attributes.clone().map(|entry| bounded_field_len(&entry.key, &entry.value, bounds)).sum();
        let body = 9 + field_len(name.len()) + attributes_len + count_len(left_out);
        let is_allowed = self.extras.events < self.limits.events;
        if let Err(lack) = if is_allowed { self.make_room(field_len(body)) } else { Err(Lack::Limit) } {
            let extras = self.extras();
            extras.lack(lack);
            extras.dropped_events = extras.dropped_events.saturating_add(1);
            return;
        }
        self.extras().events += 1;
        self.buffer.len_head(EVENTS, body);
        self.buffer.fixed64_field(TIME, time);
        self.buffer.bytes_field(NAME, name.as_bytes());
        attributes.for_each(|entry| put_bounded(&mut self.buffer, ATTRIBUTES, &entry.key, &entry.value, bounds));
        if left_out > 0 {
            self.extras().lack(Lack::Limit);
            self.buffer.varint_field(DROPPED_ATTRIBUTES, left_out.into());
        }
    }

    /// Appends a link to another span.
    pub(crate) fn link(&mut self, to: &SpanContext, attributes: &[KeyValue<'_>]) {
        use link::{ATTRIBUTES, DROPPED_ATTRIBUTES, FLAGS, SPAN_ID, TRACE_ID, TRACE_STATE};
        // SPAN-14: a link with an invalid context is kept only if it has attributes or a trace state.
        if !to.is_valid() && attributes.is_empty() && to.trace_state().is_empty() {
            return;
        }
        let bounds = self.limits.values;
        let (attributes, left_out) = recorded_of(attributes, self.limits.link_attributes);
        let attributes_len: usize =
            attributes.clone().map(|entry| bounded_field_len(&entry.key, &entry.value, bounds)).sum();
        let mut scratch = [0; INLINE_BYTES];
        let state = to.trace_state().text(&mut scratch);
        let state_len = if state.is_empty() { 0 } else { field_len(state.len()) };
        let body = 18 + 10 + state_len + 5 + attributes_len + count_len(left_out);
        let is_allowed = self.extras.links < self.limits.links;
        if let Err(lack) = if is_allowed { self.make_room(field_len(body)) } else { Err(Lack::Limit) } {
            let extras = self.extras();
            extras.lack(lack);
            extras.dropped_links = extras.dropped_links.saturating_add(1);
            return;
        }
        self.extras().links += 1;
        let flags = u32::from(to.trace_flags()) | HAS_IS_REMOTE | if to.is_remote() { IS_REMOTE } else { 0 };
        self.buffer.len_head(LINKS, body);
        self.buffer.bytes_field(TRACE_ID, &to.trace_id().to_bytes());
        self.buffer.bytes_field(SPAN_ID, &to.span_id().to_bytes());
        if !state.is_empty() {
            self.buffer.bytes_field(TRACE_STATE, state.as_bytes());
        }
        attributes.for_each(|entry| put_bounded(&mut self.buffer, ATTRIBUTES, &entry.key, &entry.value, bounds));
        if left_out > 0 {
            self.extras().lack(Lack::Limit);
            self.buffer.varint_field(DROPPED_ATTRIBUTES, left_out.into());
        }
        self.buffer.fixed32_field(FLAGS, flags);
    }
}
