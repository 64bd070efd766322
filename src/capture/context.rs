//! Span contexts: what identifies a span across threads and processes, and the stack of spans that are current on a
//! thread.

use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::race::OnceBox;

use super::{
    id::{SpanId, TraceId},
    tracestate::TraceState,
};
use crate::sync::Latest;

/// W3C trace flag: the span is sampled.
pub(crate) const SAMPLED: u8 = 0x01;
/// W3C trace flag (Level 2): the trace id is random.
pub(crate) const RANDOM: u8 = 0x02;

/// The identity of a span: trace id, span id, W3C trace flags and state, and whether it came from another process
/// ([SpanContext](https://opentelemetry.io/docs/specs/otel/trace/api/#spancontext)). It never changes and can be used
/// after its span has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpanContext {
    trace_id: TraceId,
    span_id: SpanId,
    trace_flags: u8,
    is_remote: bool,
    trace_state: TraceState,
}

impl SpanContext {
    /// The context of no span: all ids zero.
    pub const INVALID: Self = Self::new(TraceId::INVALID, SpanId::INVALID, 0, false);

    /// A context from its parts, without trace state. Flag bits that W3C Trace Context Level 2 does not define are
    /// cleared.
    pub const fn new(trace_id: TraceId, span_id: SpanId, trace_flags: u8, is_remote: bool) -> Self {
        let trace_flags = trace_flags & (SAMPLED | RANDOM);
        Self { trace_id, span_id, trace_flags, is_remote, trace_state: TraceState::EMPTY }
    }

    /// Returns this context with another trace state.
    #[inline]
    #[must_use]
    pub fn with_trace_state(self, trace_state: TraceState) -> Self {
        Self { trace_state, ..self }
    }

    /// The context of a child span: same trace, flags and trace state.
    #[inline]
    pub(super) fn child(&self, span_id: SpanId) -> Self {
        let trace_state = self.trace_state.clone();
        Self { trace_id: self.trace_id, span_id, trace_flags: self.trace_flags, is_remote: false, trace_state }
    }

    /// Turns this context into that of a [`child`](Self::child) in place. Both must be local and without trace state.
    #[inline]
    pub(super) fn follow(&mut self, parent: &Self, span_id: SpanId) {
        self.trace_id = parent.trace_id;
        self.span_id = span_id;
        self.trace_flags = parent.trace_flags;
    }

    /// Clears the trace state.
    pub(super) fn clear_trace_state(&mut self) {
        self.trace_state = TraceState::EMPTY;
    }

    /// The id of the trace the span belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The id of the span.
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// The W3C trace flags: bit 0 sampled, bit 1 random trace id.
    pub fn trace_flags(&self) -> u8 {
        self.trace_flags
    }

    /// The W3C trace state: what tracing systems tell each other about the trace. All spans of the trace in this
    /// process share it.
    #[inline]
    pub fn trace_state(&self) -> &TraceState {
        &self.trace_state
    }

    /// Whether the sampled flag is set: the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.trace_flags & SAMPLED != 0
    }

    /// Whether the context came from another process.
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Whether both ids are non-zero.
    pub fn is_valid(&self) -> bool {
        self.trace_id.is_valid() && self.span_id.is_valid()
    }
}

impl AsRef<Self> for SpanContext {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// The process span. The child of a fork may have its own.
static PROCESS: Latest<Process> = Latest::new();

struct Process {
    context: SpanContext,
    has_ended: AtomicBool,
}

/// Makes `context` the parent of spans that have no other parent, until the process span ends.
pub(crate) fn set_process_span(context: SpanContext) {
    PROCESS.replace(Process { context, has_ended: AtomicBool::new(false) });
}

/// Ends the process span's role as default parent. Spans that name it explicitly can still be its children.
pub(crate) fn end_process_span() {
    if let Some(process) = PROCESS.get() {
        process.value.has_ended.store(true, Ordering::Relaxed);
    }
}

/// The context of the process span while it is open. Takes no lock.
#[inline]
fn process_span() -> Option<&'static SpanContext> {
    let process = &PROCESS.get()?.value;
    (!process.has_ended.load(Ordering::Relaxed)).then_some(&process.context)
}

/// The context this process was started with: the parent of spans if there is no process span either.
static INCOMING: OnceBox<SpanContext> = OnceBox::new();

/// Makes `context` the parent of spans that have no current span and no process span. Only the first call counts.
pub(crate) fn set_incoming(context: &SpanContext) {
    if INCOMING.get().is_none() {
        let _ = INCOMING.set(Box::new(context.clone()));
    }
}

/// The parent of spans that are started while no span is current: the process span, else the context this process was
/// started with. Takes no lock.
#[inline]
fn default_parent() -> Option<&'static SpanContext> {
    process_span().or_else(|| INCOMING.get())
}

/// The spans that were made current on one thread and not yet left.
#[derive(Default)]
pub(crate) struct CurrentSpans {
    entered: Vec<EnteredSpan>,
    next: u64,
}

struct EnteredSpan {
    token: u64,
    /// Whether its children are recorded without asking a sampler, and take over nothing from it but its ids.
    is_followed: bool,
    context: SpanContext,
}

impl CurrentSpans {
    pub(crate) const fn new() -> Self {
        Self { entered: Vec::new(), next: 0 }
    }

    #[inline]
    pub(crate) fn current(&self) -> Option<&SpanContext> {
        self.entered.last().map(|entered| &entered.context)
    }

    /// The current span, if it is the usual kind of parent: a recorded span of this process, without trace state.
    #[inline]
    pub(super) fn followed(&self) -> Option<&SpanContext> {
        self.entered.last().filter(|entered| entered.is_followed).map(|entered| &entered.context)
    }

    /// The parent of a span that is not given one explicitly.
    #[inline]
    pub(crate) fn parent(&self) -> Option<&SpanContext> {
        match self.current() {
            Some(current) => Some(current).filter(|current| current.is_valid()),
            None => default_parent(),
        }
    }

    /// Makes `context` current until `leave` is called with the token.
    #[inline]
    pub(crate) fn enter(&mut self, context: SpanContext) -> u64 {
        self.next += 1;
        let is_plain = context.is_sampled() && !context.is_remote() && context.trace_state().is_empty();
        let is_followed = is_plain && context.is_valid();
        self.entered.push(EnteredSpan { token: self.next, is_followed, context });
        self.next
    }

    /// Leaves the span that was entered with `token`, at any depth of the stack. Leaving in the wrong order never makes
    /// a span current again that was left.
    #[inline]
    pub(crate) fn leave(&mut self, token: u64) {
        if let Some(at) = self.entered.iter().rposition(|entered| entered.token == token) {
            self.entered.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(id: u8) -> SpanContext {
        SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), SAMPLED, false)
    }

    #[test]
    fn leaving_in_the_wrong_order_restores_what_is_still_entered() {
        // CTX-02
        let mut spans = CurrentSpans::default();
        let outer = spans.enter(context(1));
        let inner = spans.enter(context(2));
        spans.leave(outer);
        assert_eq!(spans.current(), Some(&context(2)));
        spans.leave(inner);
        spans.leave(inner);
        assert_eq!(spans.current(), None);
    }

    #[test]
    fn undefined_flags_are_cleared_and_a_zero_id_is_invalid() {
        // W3C-04, SPAN-05
        assert_eq!(SpanContext::new(TraceId::INVALID, SpanId::INVALID, 0xff, true).trace_flags(), 0x03);
        assert!(context(1).is_valid());
        assert!(!SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::INVALID, 0, false).is_valid());
    }
}
