//! A span that has ended, read from its record, as processors see it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    context::SpanContext,
    data::{Event, Link, SpanData},
    decode,
    record::Record,
    scope::Scope,
    status::{SpanKind, Status},
};
use crate::value::KeyValue;

/// A recorded span that has just ended ([Readable
/// span](https://opentelemetry.io/docs/specs/otel/trace/sdk/#additional-span-interfaces)); given to
/// [`SpanProcessor::on_end`](super::SpanProcessor::on_end). It is read from the bytes that will be exported: each call
/// looks up its answer there, and nothing is copied in advance.
pub struct EndedSpan<'a> {
    pub(super) record: &'a Record,
    pub(super) context: &'a SpanContext,
    pub(super) parent: Option<&'a SpanContext>,
    pub(super) scope: &'a Scope,
    pub(super) resource: &'a [KeyValue<'static>],
}

impl<'a> EndedSpan<'a> {
    /// The span's context. Its [sampled flag](SpanContext::is_sampled) says whether it is exported.
    pub fn context(&self) -> &'a SpanContext {
        self.context
    }

    /// The span's parent; `None` for the root of a trace.
    pub fn parent(&self) -> Option<&'a SpanContext> {
        self.parent
    }

    /// The span's name.
    pub fn name(&self) -> &'a str {
        decode::name(self.record.as_slice())
    }

    /// The span's kind.
    pub fn kind(&self) -> SpanKind {
        decode::kind(self.record.as_slice())
    }

    /// When the span began.
    pub fn start_time(&self) -> SystemTime {
        time(decode::start(self.record.as_slice()))
    }

    /// When the span ended; never before its start.
    pub fn end_time(&self) -> SystemTime {
        time(decode::end(self.record.as_slice()))
    }

    /// The span's attributes, each key once. Arrays become lists. Allocates the list, but copies no texts.
    pub fn attributes(&self) -> Vec<KeyValue<'a>> {
        decode::attributes(self.record.as_slice())
    }

    /// The span's events, in order. Allocates.
    pub fn events(&self) -> Vec<Event> {
        decode::events(self.record.as_slice())
            .map(|(name, at, attributes)| Event {
                name: name.to_owned().into(),
                time: time(at),
                attributes: owned(attributes),
            })
            .collect()
    }

    /// The span's links, in order. Allocates.
    pub fn links(&self) -> Vec<Link> {
        let links = decode::links(self.record.as_slice()).into_iter();
        links.map(|(context, attributes)| Link { context, attributes: owned(attributes) }).collect()
    }

    /// The span's status. Allocates for the description of an error.
    pub fn status(&self) -> Status {
        decode::status(self.record.as_slice())
    }

    /// How many attributes were left out, because of the limits or for lack of memory.
    pub fn dropped_attributes(&self) -> u32 {
        self.record.dropped()[0]
    }

    /// How many events were left out.
    pub fn dropped_events(&self) -> u32 {
        self.record.dropped()[1]
    }

    /// How many links were left out.
    pub fn dropped_links(&self) -> u32 {
        self.record.dropped()[2]
    }

    /// The component that made the span.
    pub fn scope(&self) -> &'a Scope {
        self.scope
    }

    /// The client's resource, shared by all its spans.
    pub fn resource(&self) -> &'a [KeyValue<'static>] {
        self.resource
    }

    /// Copies the whole span into a value that can be kept. Allocates.
    pub fn to_data(&self) -> SpanData {
        let [dropped_attributes, dropped_events, dropped_links] = self.record.dropped();
        SpanData {
            context: self.context.clone(),
            parent: self.parent.cloned(),
            name: self.name().to_owned().into(),
            kind: self.kind(),
            start: self.start_time(),
            end: self.end_time(),
            attributes: owned(self.attributes()),
            events: self.events(),
            links: self.links(),
            status: self.status(),
            scope: self.scope.clone(),
            dropped_attributes,
            dropped_events,
            dropped_links,
        }
    }
}

impl fmt::Debug for EndedSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndedSpan").field("name", &self.name()).field("context", self.context).finish_non_exhaustive()
    }
}

fn owned(attributes: Vec<KeyValue<'_>>) -> Vec<KeyValue<'static>> {
    attributes.into_iter().map(KeyValue::into_owned).collect()
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}
