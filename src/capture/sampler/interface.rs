//! The interface of samplers: their input and their result.

use std::{borrow::Cow, fmt};

use crate::{
    capture::{
        context::SpanContext,
        decode,
        id::TraceId,
        notice::{Notice, Notices},
        record::Record,
        status::SpanKind,
        tracestate::TraceState,
    },
    value::KeyValue,
};

/// Decides which spans are recorded ([Sampler](https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampler)); given to
/// [`ClientBuilder::with_sampler`](crate::ClientBuilder::with_sampler).
///
/// It is called once for each span, on the thread that starts it, before the span has an id. It should be fast and must
/// not block. The thread's current span is still the previous one. If it panics, the panic is caught and the default
/// sampler decides.
pub trait Sampler: Send + Sync {
    /// Decides whether the span is recorded, and what is added to it.
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult;

    /// The sampler's name and settings, in readable form.
    fn description(&self) -> Cow<'_, str>;
}

impl fmt::Debug for dyn Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

/// The fate of a span ([Decision](https://opentelemetry.io/docs/specs/otel/trace/sdk/#shouldsample)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplingDecision {
    /// The span is not recorded, and its children learn that it was not sampled.
    Drop,
    /// The span [is recording](crate::Span::is_recording) but not sampled: nothing of it is exported, and its children learn
    /// that it was not sampled. It counts as sampled out.
    RecordOnly,
    /// The span is recorded and exported, and its children learn that it was sampled.
    RecordAndSample,
}

/// A sampler's answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SamplingResult {
    /// Whether the span is recorded and sampled.
    pub decision: SamplingDecision,
    /// Attributes to set on the span, besides those it was started with; among equal keys, these win.
    pub attributes: Vec<KeyValue<'static>>,
    /// The span's trace state, replacing the one in the input; an empty one clears it.
    pub trace_state: TraceState,
    /// For samplers that decide by probability without recording it in the trace state: the sampler keeps a trace if
    /// the last 56 bits of its id are at least this. 0 for all other samplers. It matters only while the client itself
    /// reduces the number of traces.
    pub untold_threshold: u64,
}

impl SamplingResult {
    /// Makes a result with this decision, no attributes, and the trace state of the input.
    pub fn new(decision: SamplingDecision, input: &SamplingInput<'_>) -> Self {
        Self { decision, attributes: Vec::new(), trace_state: input.trace_state.clone(), untold_threshold: 0 }
    }

    /// Adds attributes to set on the span, besides those it was started with; among equal keys, these win.
    #[must_use]
    pub fn with_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Sets the span's trace state, replacing the one in the input; an empty one clears it.
    #[must_use]
    pub fn with_trace_state(mut self, trace_state: TraceState) -> Self {
        self.trace_state = trace_state;
        self
    }

    /// Sets the [threshold that is missing from the trace state](Self::untold_threshold). Default 0.
    #[must_use]
    pub fn with_untold_threshold(mut self, threshold: u64) -> Self {
        self.untold_threshold = threshold;
        self
    }

    /// The result that exports the span, or drops it.
    pub(super) fn sample(is_sampled: bool, input: &SamplingInput<'_>) -> Self {
        Self::new(if is_sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop }, input)
    }
}

/// What is known of a span when it starts.
#[derive(Debug, Clone, Copy)]
pub struct SamplingInput<'a> {
    parent: Option<&'a SpanContext>,
    trace_id: TraceId,
    trace_state: &'a TraceState,
    name: &'a str,
    kind: SpanKind,
    given: Given<'a>,
    notices: Option<&'a Notices>,
}

/// Where the attributes and links are stored.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// In the record, where the builder wrote them.
    Record(&'a Record),
    Lists(&'a [KeyValue<'a>], &'a [(SpanContext, Vec<KeyValue<'a>>)]),
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Given::Record(_)) { "Record" } else { "Lists" })
    }
}

impl<'a> SamplingInput<'a> {
    /// Makes the input for the root of the trace `trace_id`, called `name`, as tests of a sampler need it.
    pub fn new(trace_id: TraceId, name: &'a str) -> Self {
        const NONE: &TraceState = &TraceState::EMPTY;
        let given = Given::Lists(&[], &[]);
        Self { parent: None, trace_id, trace_state: NONE, name, kind: SpanKind::Internal, given, notices: None }
    }

    /// Makes the span a child of `parent`, in the same trace; if `parent` is invalid, a root with the parent's trace
    /// state.
    #[must_use]
    pub fn with_parent(mut self, parent: &'a SpanContext) -> Self {
        self.parent = Some(parent).filter(|parent| parent.is_valid());
        self.trace_id = self.parent.map_or(self.trace_id, SpanContext::trace_id);
        self.trace_state = parent.trace_state();
        self
    }

    /// Sets the span's kind. Default [`SpanKind::Internal`].
    #[must_use]
    pub fn with_kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the span's attributes and links.
    #[must_use]
    pub fn with_lists(mut self, attributes: &'a [KeyValue<'a>], links: &'a [(SpanContext, Vec<KeyValue<'a>>)]) -> Self {
        self.given = Given::Lists(attributes, links);
        self
    }

    /// Returns this input with the attributes and links in `record`, if there is one.
    pub(in crate::capture) fn with_record(mut self, record: Option<&'a Record>) -> Self {
        if let Some(record) = record {
            self.name = decode::name(record.as_slice());
            self.given = Given::Record(record);
        }
        self
    }

    /// Returns this input with this trace state.
    pub(in crate::capture) fn with_trace_state(mut self, trace_state: &'a TraceState) -> Self {
        self.trace_state = trace_state;
        self
    }

    /// Returns this input with a place for the notices of this crate's samplers.
    pub(in crate::capture) fn with_notices(mut self, notices: &'a Notices) -> Self {
        self.notices = Some(notices);
        self
    }

    /// Leaves a notice for a worker to log, if a client asks the sampler.
    pub(super) fn note(&self, notice: Notice) {
        if let Some(notices) = self.notices {
            notices.note(notice);
        }
    }

    /// The parent; `None` for the root of a trace.
    pub fn parent(&self) -> Option<&'a SpanContext> {
        self.parent
    }

    /// The trace of the span: its parent's, or a new one.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The parent's trace state; for a root, the one it begins with.
    pub fn trace_state(&self) -> &'a TraceState {
        self.trace_state
    }

    /// The span's name. If memory was short and the span will be lost anyway (should it be sampled), the name is empty,
    /// and attributes and links are missing.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The span's kind.
    pub fn kind(&self) -> SpanKind {
        self.kind
    }

    /// The attributes the span was started with; each key once, with its last value. Arrays become lists. Allocates the
    /// list, but copies no texts.
    pub fn attributes(&self) -> Vec<KeyValue<'a>> {
        match self.given {
            Given::Record(record) => decode::attributes(record.as_slice()),
            Given::Lists(attributes, _) => attributes.to_vec(),
        }
    }

    /// The links the span was started with. Allocates the list.
    pub fn links(&self) -> Vec<(SpanContext, Vec<KeyValue<'a>>)> {
        match self.given {
            Given::Record(record) => decode::links(record.as_slice()),
            Given::Lists(_, links) => links.to_vec(),
        }
    }
}
