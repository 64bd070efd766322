//! Sampling: which traces are recorded, as decided by the client's sampler. By default a span with a parent follows its
//! parent's decision, and every trace that begins here is kept; while the client is overloaded, only those that
//! consistent probability sampling keeps
//! ([ProbabilitySampler](https://opentelemetry.io/docs/specs/otel/trace/sdk/#probabilitysampler)).
//!
//! A trace has 56 random bits R, and the client a rejection threshold T: it is kept if R is at least T. A receiver that
//! reads T from the trace state knows that each trace that arrives stands for 2⁵⁶ / (2⁵⁶ − T).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    context::{RANDOM, SAMPLED, SpanContext},
    id::{RandomIds, TraceId},
    tracestate::TraceState,
};
use crate::plugin::guarded;

mod builtin;
mod interface;

pub use builtin::{AlwaysOff, AlwaysOn, AlwaysRecord, ParentBased, ProbabilitySampler, TraceIdRatioBased};
pub use interface::{Sampler, SamplingDecision, SamplingInput, SamplingResult};

/// The number of values that a random value or a threshold can have.
const VALUES: u64 = 1 << 56;

/// The sampling of one client, which may change while spans are recorded.
#[derive(Default)]
pub(crate) struct Sampling {
    /// The rejection threshold; 0 keeps every trace.
    threshold: AtomicU64,
    /// The sampler; `None` for the default.
    sampler: Option<Arc<dyn Sampler>>,
}

impl Sampling {
    /// Sampling by `sampler`, or the default if that is `None`.
    pub(super) fn new(sampler: Option<Arc<dyn Sampler>>) -> Self {
        Self { threshold: AtomicU64::new(0), sampler }
    }

    /// Whether the default holds: spans follow their parents, and all roots are kept.
    pub(super) fn is_default(&self) -> bool {
        self.sampler.is_none()
    }

    /// Keeps the traces whose random value is at least `threshold` (below 2⁵⁶; 0 keeps all) from now on. Traces that
    /// began earlier are not affected.
    pub(crate) fn set(&self, threshold: u64) {
        self.threshold.store(threshold.min(VALUES - 1), Ordering::Relaxed);
    }

    /// The context of the first span of a trace. `state` is the trace state it begins with.
    #[inline]
    pub(super) fn root(&self, state: TraceState, ids: &mut RandomIds) -> SpanContext {
        let trace_id = ids.trace_id();
        let root = SpanContext::new(trace_id, ids.span_id(), RANDOM | SAMPLED, false).with_trace_state(state);
        match self.threshold.load(Ordering::Relaxed) {
            0 => root,
            threshold => thin_out(root, threshold),
        }
    }

    /// The decision of the sampler, or of the default if there is none, with fewer traces while the client is
    /// overloaded.
    pub(super) fn decide(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let default = || SamplingResult::sample(input.parent().is_none_or(SpanContext::is_sampled), input);
        let result = match &self.sampler {
            Some(sampler) => guarded(|| sampler.should_sample(input)).unwrap_or_else(default),
            None => default(),
        };
        self.throttled(result, input)
    }

    /// Reduces the traces where they begin: at spans without a parent, or with one that was not sampled. The larger of
    /// both thresholds counts, because it keeps a subset of what the other keeps.
    fn throttled(&self, mut result: SamplingResult, input: &SamplingInput<'_>) -> SamplingResult {
        if result.decision != SamplingDecision::RecordAndSample {
            return result;
        }
        let told = result.trace_state.threshold();
        match input.parent().filter(|parent| parent.is_sampled()) {
            // The threshold by which the trace was kept here holds for the whole trace.
            Some(parent) if !parent.is_remote() => {
                let inherited = parent.trace_state().threshold();
                if let Some(inherited) = inherited.filter(|inherited| told.is_some_and(|told| told < *inherited)) {
                    result.trace_state = result.trace_state.with_threshold(inherited);
                }
            }
            Some(_) => {}
            None => {
                let throttle = self.threshold.load(Ordering::Relaxed);
                if throttle == 0 {
                    return result;
                }
                if randomness(input.trace_id(), &result.trace_state) < throttle {
                    result.decision = SamplingDecision::Drop;
                    result.trace_state = result.trace_state.without_threshold();
                } else {
                    let threshold = throttle.max(told.unwrap_or(0)).max(result.untold_threshold);
                    result.trace_state = result.trace_state.with_threshold(threshold);
                }
            }
        }
        result
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

/// The random value of a trace: the one in its trace state, else the last seven bytes of its id.
fn randomness(trace_id: TraceId, state: &TraceState) -> u64 {
    state.random_value().unwrap_or_else(|| u128::from_be_bytes(trace_id.to_bytes()) as u64 % VALUES)
}

#[cfg(test)]
mod tests;
