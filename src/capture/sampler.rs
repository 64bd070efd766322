//! Which traces are recorded: a span with a parent does as its parent did, and a trace that begins here is kept or not
//! by consistent probability sampling
//! ([ProbabilitySampler](https://opentelemetry.io/docs/specs/otel/trace/sdk/#probabilitysampler)).
//!
//! A trace has 56 random bits R, and the client a rejection threshold T: it is kept if R is at least T. Who knows T, from
//! the trace state, knows that each trace that arrives stands for 2⁵⁶ / (2⁵⁶ − T).

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    context::{RANDOM, SAMPLED, SpanContext},
    id::{IdGenerator, TraceId},
    tracestate::TraceState,
};

/// How many values a random value or a threshold may have.
const VALUES: u64 = 1 << 56;

/// The sampling of one client, which may change while spans are recorded.
#[derive(Default)]
pub(crate) struct Sampling {
    /// The rejection threshold; 0 keeps every trace.
    threshold: AtomicU64,
}

impl Sampling {
    /// Keeps the traces whose random value is at least `threshold` (below 2⁵⁶; 0 for all) from now on. Traces that began
    /// before stay as they are.
    pub(crate) fn set(&self, threshold: u64) {
        self.threshold.store(threshold.min(VALUES - 1), Ordering::Relaxed);
    }

    /// The context of the first span of a trace. `state` is what its trace state says already.
    #[inline]
    pub(super) fn root(&self, state: TraceState, ids: &mut IdGenerator) -> SpanContext {
        let trace_id = ids.trace_id();
        let root = SpanContext::new(trace_id, ids.span_id(), RANDOM | SAMPLED, false).with_trace_state(state);
        match self.threshold.load(Ordering::Relaxed) {
            0 => root,
            threshold => thin_out(root, threshold),
        }
    }
}

#[inline(never)]
fn thin_out(root: SpanContext, threshold: u64) -> SpanContext {
    let state = root.trace_state();
    let (flags, state) = if randomness(root.trace_id(), state) >= threshold {
        (RANDOM | SAMPLED, state.with_threshold(threshold))
    } else {
        (RANDOM, state.clone())
    };
    SpanContext::new(root.trace_id(), root.span_id(), flags, false).with_trace_state(state)
}

/// The random value of a trace: what its trace state says, else the last seven bytes of its id.
fn randomness(trace_id: TraceId, state: &TraceState) -> u64 {
    state.random_value().unwrap_or_else(|| u128::from_be_bytes(trace_id.to_bytes()) as u64 % VALUES)
}

#[cfg(test)]
mod tests;
