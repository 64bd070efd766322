//! Which traces are recorded: as the client's sampler says. By default a span with a parent does as its parent did, and
//! every trace that begins here is kept, or while the client is overloaded those that consistent probability sampling
//! leaves ([ProbabilitySampler](https://opentelemetry.io/docs/specs/otel/trace/sdk/#probabilitysampler)).
//!
//! A trace has 56 random bits R, and the client a rejection threshold T: it is kept if R is at least T. Who knows T,
//! from the trace state, knows that each trace that arrives stands for 2⁵⁶ / (2⁵⁶ − T).

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

/// How many values a random value or a threshold may have.
const VALUES: u64 = 1 << 56;

/// The sampling of one client, which may change while spans are recorded.
#[derive(Default)]
pub(crate) struct Sampling {
    /// The rejection threshold; 0 keeps every trace.
    threshold: AtomicU64,
    /// Who is asked; nobody by default.
    sampler: Option<Arc<dyn Sampler>>,
}

impl Sampling {
    /// As `sampler` says; as it is by default, if there is none.
    pub(super) fn new(sampler: Option<Arc<dyn Sampler>>) -> Self {
        Self { threshold: AtomicU64::new(0), sampler }
    }

    /// Whether the default holds: a parent is followed, and roots are kept.
    pub(super) fn is_default(&self) -> bool {
        self.sampler.is_none()
    }

    /// Keeps the traces whose random value is at least `threshold` (below 2⁵⁶; 0 for all) from now on. Traces that
    /// began before stay as they are.
    pub(crate) fn set(&self, threshold: u64) {
        self.threshold.store(threshold.min(VALUES - 1), Ordering::Relaxed);
    }

    /// The context of the first span of a trace. `state` is what its trace state says already.
    #[inline]
    pub(super) fn root(&self, state: TraceState, ids: &mut RandomIds) -> SpanContext {
        let trace_id = ids.trace_id();
        let root = SpanContext::new(trace_id, ids.span_id(), RANDOM | SAMPLED, false).with_trace_state(state);
        match self.threshold.load(Ordering::Relaxed) {
            0 => root,
            threshold => thin_out(root, threshold),
        }
    }

    /// What the sampler says, or where there is none the default, with fewer traces while the client is overloaded.
    pub(super) fn decide(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let default = || SamplingResult::sample(input.parent().is_none_or(SpanContext::is_sampled), input);
        let result = match &self.sampler {
            Some(sampler) => guarded(|| sampler.should_sample(input)).unwrap_or_else(default),
            None => default(),
        };
        self.throttled(result, input)
    }

    /// Traces are thinned out where they begin: where there is no parent, or none that was sampled. Of both thresholds
    /// the larger counts, since it keeps a part of what the other one keeps.
    fn throttled(&self, mut result: SamplingResult, input: &SamplingInput<'_>) -> SamplingResult {
        if result.decision != SamplingDecision::RecordAndSample {
            return result;
        }
        let told = result.trace_state.threshold();
        match input.parent().filter(|parent| parent.is_sampled()) {
            // The threshold that it was kept by here is that of the whole trace.
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

/// The random value of a trace: what its trace state says, else the last seven bytes of its id.
fn randomness(trace_id: TraceId, state: &TraceState) -> u64 {
    state.random_value().unwrap_or_else(|| u128::from_be_bytes(trace_id.to_bytes()) as u64 % VALUES)
}

#[cfg(test)]
mod tests;
