//! What a sampler is asked and what it answers.

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
/// It is asked once for each span, on the thread that starts it, before the span has an id. It should be fast and must
/// not block; the thread's current span is what it was. If it panics, the panic ends here and the span is decided upon
/// as the default sampler would.
pub trait Sampler: Send + Sync {
    /// Whether the span is recorded, and what is added to it.
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult;

    /// The sampler's name and settings, for people to read.
    fn description(&self) -> Cow<'_, str>;
}

impl fmt::Debug for dyn Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

/// What becomes of a span ([Decision](https://opentelemetry.io/docs/specs/otel/trace/sdk/#shouldsample)).
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
    /// What becomes of the span.
    pub decision: SamplingDecision,
    /// Attributes to be set on it, beside those it was started with; of equal keys these win.
    pub attributes: Vec<KeyValue<'static>>,
    /// The span's trace state, in place of the one in the input; an empty one clears it.
    pub trace_state: TraceState,
    /// Of a sampler that decides by chance and does not say so in the trace state: it keeps a trace if the last 56 bits
    /// of its id are at least this. 0 for all others. Only where the client itself asks for fewer traces does it
    /// matter.
    pub untold_threshold: u64,
}

impl SamplingResult {
    /// This decision, with no attributes and with the trace state as it is.
    pub fn new(decision: SamplingDecision, input: &SamplingInput<'_>) -> Self {
        Self { decision, attributes: Vec::new(), trace_state: input.trace_state.clone(), untold_threshold: 0 }
    }

    /// Adds attributes that the span is to have, beside those it was started with; of equal keys these win.
    #[must_use]
    pub fn with_attributes(mut self, attributes: impl IntoIterator<Item = KeyValue<'static>>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Sets the span's trace state, in place of the one in the input; an empty one clears it.
    #[must_use]
    pub fn with_trace_state(mut self, trace_state: TraceState) -> Self {
        self.trace_state = trace_state;
        self
    }

    /// Sets the [threshold that the trace state does not tell](Self::untold_threshold).
    #[must_use]
    pub fn with_untold_threshold(mut self, threshold: u64) -> Self {
        self.untold_threshold = threshold;
        self
    }

    /// Exports the span, or drops it.
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

/// Where attributes and links are.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// In the record, where they were written when they were given to the builder.
    Record(&'a Record),
    Lists(&'a [KeyValue<'a>], &'a [(SpanContext, Vec<KeyValue<'a>>)]),
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Given::Record(_)) { "Record" } else { "Lists" })
    }
}

impl<'a> SamplingInput<'a> {
    /// The root of the trace `trace_id`, called `name`: what a sampler is asked in its own tests.
    pub fn new(trace_id: TraceId, name: &'a str) -> Self {
        const NONE: &TraceState = &TraceState::EMPTY;
        let given = Given::Lists(&[], &[]);
        Self { parent: None, trace_id, trace_state: NONE, name, kind: SpanKind::Internal, given, notices: None }
    }

    /// Makes the span a child of `parent`, in its trace; a root with its trace state, if `parent` is invalid.
    #[must_use]
    pub fn with_parent(mut self, parent: &'a SpanContext) -> Self {
        self.parent = Some(parent).filter(|parent| parent.is_valid());
        self.trace_id = self.parent.map_or(self.trace_id, SpanContext::trace_id);
        self.trace_state = parent.trace_state();
        self
    }

    /// Says what the span does. Default [`SpanKind::Internal`].
    #[must_use]
    pub fn with_kind(mut self, kind: SpanKind) -> Self {
        self.kind = kind;
        self
    }

    /// Gives the span these attributes and links.
    #[must_use]
    pub fn with_lists(mut self, attributes: &'a [KeyValue<'a>], links: &'a [(SpanContext, Vec<KeyValue<'a>>)]) -> Self {
        self.given = Given::Lists(attributes, links);
        self
    }

    /// The same with what stands in `record`, if there is one.
    pub(in crate::capture) fn with_record(mut self, record: Option<&'a Record>) -> Self {
        if let Some(record) = record {
            self.name = decode::name(record.as_slice());
            self.given = Given::Record(record);
        }
        self
    }

    /// The same with this trace state.
    pub(in crate::capture) fn with_trace_state(mut self, trace_state: &'a TraceState) -> Self {
        self.trace_state = trace_state;
        self
    }

    /// The same, with a place for what the samplers of this crate notice.
    pub(in crate::capture) fn with_notices(mut self, notices: &'a Notices) -> Self {
        self.notices = Some(notices);
        self
    }

    /// Has a worker say so, if a client asks.
    pub(super) fn note(&self, notice: Notice) {
        if let Some(notices) = self.notices {
            notices.note(notice);
        }
    }

    /// The parent; `None` for the root of a trace.
    pub fn parent(&self) -> Option<&'a SpanContext> {
        self.parent
    }

    /// The trace the span is in: its parent's, or a new one.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The parent's trace state; for a root, the one it begins with.
    pub fn trace_state(&self) -> &'a TraceState {
        self.trace_state
    }

    /// The span's name. Empty where memory was short and the span will be lost anyway, if it is sampled; attributes
    /// and links are missing then too.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The span's kind.
    pub fn kind(&self) -> SpanKind {
        self.kind
    }

    /// The attributes the span was started with, of equal keys the last. Arrays are lists. Allocates the list, but no
    /// texts.
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
