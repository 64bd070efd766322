//! The samplers of the specification
//! ([Built-in samplers](https://opentelemetry.io/docs/specs/otel/trace/sdk/#built-in-samplers)).

use std::{borrow::Cow, sync::Arc};

use super::{
    VALUES,
    interface::{Sampler, SamplingDecision, SamplingInput, SamplingResult},
    randomness,
};
use crate::capture::{
    context::{RANDOM, SpanContext},
    notice::Notice,
    tracestate::TraceState,
};

/// Significant hex digits of a threshold: `ot=th:` gives a probability to one part in 65,536.
const PRECISION: i32 = 4;

/// Samples every span, whatever the parent's decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlwaysOn;

impl Sampler for AlwaysOn {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        SamplingResult::sample(true, input)
    }

    fn description(&self) -> Cow<'_, str> {
        "AlwaysOnSampler".into()
    }
}

/// Samples no span, whatever the parent's decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlwaysOff;

impl Sampler for AlwaysOff {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        SamplingResult::sample(false, input)
    }

    fn description(&self) -> Cow<'_, str> {
        "AlwaysOffSampler".into()
    }
}

/// Samples a share of all traces by their ids alone, and does not record that in the trace state. The specification
/// deprecates it: [`ProbabilitySampler`] makes the same decisions and records them.
///
/// A trace is sampled if the last 56 bits of its id, as a number, are at least (1 − ratio) · 2⁵⁶, so that a higher
/// ratio samples everything that a lower one does. It ignores the parent: usually it is the root sampler of a
/// [`ParentBased`]. If it is asked about the child of another span, the client logs that once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceIdRatioBased {
    ratio: f64,
}

impl TraceIdRatioBased {
    /// Samples this share of all traces, from 0 to 1; NaN counts as 1.
    pub fn new(ratio: f64) -> Self {
        Self { ratio: if ratio.is_nan() { 1.0 } else { ratio.clamp(0.0, 1.0) } }
    }
}

impl Sampler for TraceIdRatioBased {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        if input.parent().is_some() {
            input.note(Notice::RatioOfAChild);
        }
        let threshold = exact_threshold(self.ratio);
        let is_sampled = randomness(input.trace_id(), &TraceState::EMPTY) >= threshold;
        SamplingResult { untold_threshold: threshold, ..SamplingResult::sample(is_sampled, input) }
    }

    fn description(&self) -> Cow<'_, str> {
        // The shortest digits that parse to the same number.
        format!("TraceIdRatioBased{{{}}}", self.ratio).into()
    }
}

/// Samples a share of all traces by their randomness, and records it in the trace state (`ot=th:…`), so that the
/// original number can be estimated from what arrives
/// ([ProbabilitySampler](https://opentelemetry.io/docs/specs/otel/trace/sdk/#probabilitysampler), in development
/// there).
///
/// The randomness of a trace is `rv` in the `ot` member of its trace state, else the last 56 bits of its id. The trace
/// is sampled if that is at least the threshold, (1 − p) · 2⁵⁶ to four significant hex digits. The parent's decision is
/// ignored: usually this is the root sampler of a [`ParentBased`]. If neither the parent's trace state nor its Random
/// flag says that the id is random, that is assumed, and the client logs it once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbabilitySampler {
    probability: f64,
    threshold: u64,
}

impl ProbabilitySampler {
    /// Samples this share of all traces, from 2⁻⁵⁶ to 1. Less counts as 2⁻⁵⁶; more, or NaN, counts as 1.
    pub fn new(probability: f64) -> Self {
        let probability = if probability.is_nan() { 1.0 } else { probability.clamp(1.0 / VALUES as f64, 1.0) };
        Self { probability, threshold: threshold(probability) }
    }
}

impl Sampler for ProbabilitySampler {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let says_it_is_random =
            |parent: &SpanContext| parent.trace_flags() & RANDOM != 0 || parent.trace_state().random_value().is_some();
        if input.parent().is_some_and(|parent| !says_it_is_random(parent)) {
            input.note(Notice::PresumedRandomness);
        }
        let is_sampled = randomness(input.trace_id(), input.trace_state()) >= self.threshold;
        let mut result = SamplingResult::sample(is_sampled, input);
        result.trace_state = if is_sampled {
            result.trace_state.with_threshold(self.threshold)
        } else {
            result.trace_state.without_threshold()
        };
        result
    }

    fn description(&self) -> Cow<'_, str> {
        format!("ProbabilitySampler{{{}}}", self.probability).into()
    }
}

/// The rejection threshold that keeps a trace with this probability, rounded to the significant digits.
pub(super) fn threshold(probability: f64) -> u64 {
    let probability = probability.clamp(1.0 / VALUES as f64, 1.0);
    // Leading digits that are all f, or all 0, are not significant.
    let leading = |share: f64| if share > 0.0 { (-share.log2() / 4.0).floor() as i32 } else { 0 };
    let digits = (PRECISION + leading(probability).max(leading(1.0 - probability))).min(14);
    let unit = 1_u64 << (4 * (14 - digits));
    ((exact_threshold(probability) + unit / 2) / unit * unit).min(VALUES - 1)
}

fn exact_threshold(probability: f64) -> u64 {
    VALUES - (probability * VALUES as f64).round() as u64
}

/// Decides by the parent: one sampler for spans without a parent, and one for each kind of parent.
///
/// By default spans follow their parent's decision, and roots are decided by the sampler given to [`new`](Self::new).
#[derive(Debug, Clone)]
pub struct ParentBased {
    root: Arc<dyn Sampler>,
    remote_sampled: Arc<dyn Sampler>,
    remote_not_sampled: Arc<dyn Sampler>,
    local_sampled: Arc<dyn Sampler>,
    local_not_sampled: Arc<dyn Sampler>,
}

impl ParentBased {
    /// Has `root` decide on spans without a parent.
    pub fn new(root: impl Sampler + 'static) -> Self {
        let (on, off): (Arc<dyn Sampler>, Arc<dyn Sampler>) = (Arc::new(AlwaysOn), Arc::new(AlwaysOff));
        Self {
            root: Arc::new(root),
            remote_sampled: Arc::clone(&on),
            remote_not_sampled: Arc::clone(&off),
            local_sampled: on,
            local_not_sampled: off,
        }
    }

    /// Sets the sampler for spans whose parent is in another process and sampled. Default [`AlwaysOn`].
    #[must_use]
    pub fn with_remote_parent_sampled(mut self, sampler: impl Sampler + 'static) -> Self {
        self.remote_sampled = Arc::new(sampler);
        self
    }

    /// Sets the sampler for spans whose parent is in another process and not sampled. Default [`AlwaysOff`].
    #[must_use]
    pub fn with_remote_parent_not_sampled(mut self, sampler: impl Sampler + 'static) -> Self {
        self.remote_not_sampled = Arc::new(sampler);
        self
    }

    /// Sets the sampler for spans whose parent is in this process and sampled. Default [`AlwaysOn`].
    #[must_use]
    pub fn with_local_parent_sampled(mut self, sampler: impl Sampler + 'static) -> Self {
        self.local_sampled = Arc::new(sampler);
        self
    }

    /// Sets the sampler for spans whose parent is in this process and not sampled. Default [`AlwaysOff`].
    #[must_use]
    pub fn with_local_parent_not_sampled(mut self, sampler: impl Sampler + 'static) -> Self {
        self.local_not_sampled = Arc::new(sampler);
        self
    }
}

impl Sampler for ParentBased {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let chosen = match input.parent().map(|parent| (parent.is_remote(), parent.is_sampled())) {
            None => &self.root,
            Some((true, true)) => &self.remote_sampled,
            Some((true, false)) => &self.remote_not_sampled,
            Some((false, true)) => &self.local_sampled,
            Some((false, false)) => &self.local_not_sampled,
        };
        chosen.should_sample(input)
    }

    fn description(&self) -> Cow<'_, str> {
        format!(
            "ParentBased{{root:{},remoteParentSampled:{},remoteParentNotSampled:{},localParentSampled:{},\
             localParentNotSampled:{}}}",
            self.root.description(),
            self.remote_sampled.description(),
            self.remote_not_sampled.description(),
            self.local_sampled.description(),
            self.local_not_sampled.description()
        )
        .into()
    }
}

/// Records the spans that another sampler drops, without exporting them
/// ([AlwaysRecord](https://opentelemetry.io/docs/specs/otel/trace/sdk/#alwaysrecord)).
#[derive(Debug, Clone)]
pub struct AlwaysRecord(Arc<dyn Sampler>);

impl AlwaysRecord {
    /// Follows `sampler`, but records the spans that it drops.
    pub fn new(sampler: impl Sampler + 'static) -> Self {
        Self(Arc::new(sampler))
    }
}

impl Sampler for AlwaysRecord {
    fn should_sample(&self, input: &SamplingInput<'_>) -> SamplingResult {
        let mut result = self.0.should_sample(input);
        if result.decision == SamplingDecision::Drop {
            result.decision = SamplingDecision::RecordOnly;
        }
        result
    }

    fn description(&self) -> Cow<'_, str> {
        format!("AlwaysRecordSampler{{{}}}", self.0.description()).into()
    }
}
