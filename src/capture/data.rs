//! A complete span as a value: exported directly, or handed by processors to exporters.

use std::{borrow::Cow, time::SystemTime};

use super::{
    attribute::bounded_field_len,
    context::SpanContext,
    record::{Head, MAX_RECORD_BYTES, Record, RecordLimits},
    scope::Scope,
    span::unix_nanos,
    status::{SpanKind, Status},
};
use crate::value::{KeyValue, Value};

/// The fixed fields of a span, its counts and all heads.
const HEADS: usize = 256;
/// The longest trace state that is kept.
const STATE: usize = 512;
/// The fixed fields and the heads of an event or a link.
const MORE: usize = 96;

/// A complete span, made elsewhere, in a test, or read back from one that has ended.
///
/// ```
/// use std::time::SystemTime;
/// # use otlp::{SpanContext, SpanData, SpanId, SpanKind, TraceId};
///
/// let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]), 1, false);
/// let now = SystemTime::now();
/// let span = SpanData::new(context, "GET").with_times(now, now).with_kind(SpanKind::Client).with_attribute("n", 1);
/// # assert_eq!(span.attributes.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpanData {
    /// The span's ids and flags. Both ids must be non-zero.
    pub context: SpanContext,
    /// The parent, if there is one; an invalid context counts as none.
    pub parent: Option<SpanContext>,
    /// The operation's name.
    pub name: Cow<'static, str>,
    /// The span's kind: its role, seen from this process.
    pub kind: SpanKind,
    /// When the span began. Times before 1970 count as 1970.
    pub start: SystemTime,
    /// When the span ended. A time before `start` counts as `start`.
    pub end: SystemTime,
    /// The span's attributes. Among equal keys, the last wins.
    pub attributes: Vec<KeyValue<'static>>,
    /// What happened during the span.
    pub events: Vec<Event>,
    /// Related spans.
    pub links: Vec<Link>,
    /// How the operation ended.
    pub status: Status,
    /// The component that made the span.
    pub scope: Scope,
    /// How many attributes were set but left out.
    pub dropped_attributes: u32,
    /// How many events were added but left out.
    pub dropped_events: u32,
    /// How many links were added but left out.
    pub dropped_links: u32,
}

impl SpanData {
    /// A span of no duration at the UNIX epoch, to be filled in.
    pub fn new(context: SpanContext, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            context,
            parent: None,
            name: name.into(),
            kind: SpanKind::default(),
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            status: Status::default(),
            scope: Scope::default(),
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        }
    }

    /// Sets the span's parent.
    #[must_use]
    pub fn with_parent(mut self, parent: SpanContext) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Sets the span's kind. Default [`SpanKind::Internal`].
    #[must_use]
    pub fn with_kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets when the span began and when it ended. Both default to the UNIX epoch.
    #[must_use]
    pub fn with_times(mut self, start: SystemTime, end: SystemTime) -> Self {
        (self.start, self.end) = (start, end);
        self
    }

    /// Adds an attribute. Among equal keys, the last wins.
    #[must_use]
    pub fn with_attribute(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value<'static>>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds several attributes. Among equal keys, the last wins.
    #[must_use]
    pub fn with_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Adds an event.
    #[must_use]
    pub fn with_event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// Adds a link to another span.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }

    /// Sets how the operation ended. Default [`Status::Unset`].
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Sets the component that made the span.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<Scope>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Bytes that encoding it within `limits` takes, at most.
    pub(crate) fn most_encoded_len(&self, limits: RecordLimits) -> usize {
        let attributes = |entries: &[KeyValue<'_>]| -> usize {
            entries.iter().map(|entry| bounded_field_len(&entry.key, &entry.value, limits.values())).sum()
        };
        let events = self.events.iter().map(|event| MORE + event.name.len() + attributes(&event.attributes));
        let state = |context: &SpanContext| if context.trace_state().is_empty() { 0 } else { STATE };
        let links = self.links.iter().map(|link| MORE + state(&link.context) + attributes(&link.attributes));
        let described = if let Status::Error(description) = &self.status { description.len() } else { 0 };
        let own = HEADS + state(&self.context) + self.name.len() + described + attributes(&self.attributes);
        (own + events.sum::<usize>() + links.sum::<usize>()).min(MAX_RECORD_BYTES)
    }

    /// Encodes the span as it would have been, had it been recorded.
    pub(crate) fn encode<'r>(&self, record: &'r mut Record) -> &'r [u8] {
        // Receivers may refuse a whole request because of one parent id that is all zero.
        let parent = self.parent.as_ref().filter(|parent| parent.is_valid());
        record.begin(&self.name);
        record.set_head(&Head {
            context: &self.context,
            parent: parent.map(|parent| (parent.span_id(), parent.is_remote())),
            kind: self.kind,
            start: unix_nanos(self.start),
        });
        self.attributes.iter().for_each(|entry| record.attribute(&entry.key, &entry.value));
        self.events.iter().for_each(|event| record.event(&event.name, unix_nanos(event.time), &event.attributes));
        self.links.iter().for_each(|link| record.link(&link.context, &link.attributes));
        record.add_dropped([self.dropped_attributes, self.dropped_events, self.dropped_links]);
        record.set_status(&self.status);
        record.finish(unix_nanos(self.end))
    }
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The event's name.
    pub name: Cow<'static, str>,
    /// When the event happened.
    pub time: SystemTime,
    /// The event's attributes.
    pub attributes: Vec<KeyValue<'static>>,
}

/// A link to another span.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// The context of the linked span.
    pub context: SpanContext,
    /// The link's attributes.
    pub attributes: Vec<KeyValue<'static>>,
}

impl Event {
    /// An event without attributes.
    pub fn new(name: impl Into<Cow<'static, str>>, time: SystemTime) -> Self {
        Self { name: name.into(), time, attributes: Vec::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value<'static>>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds several attributes.
    #[must_use]
    pub fn with_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.attributes.extend(attributes);
        self
    }
}

impl Link {
    /// A link without attributes.
    pub fn new(context: SpanContext) -> Self {
        Self { context, attributes: Vec::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value<'static>>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds several attributes.
    #[must_use]
    pub fn with_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.attributes.extend(attributes);
        self
    }
}
