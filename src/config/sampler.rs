//! The samplers that `OTEL_TRACES_SAMPLER` names.

use std::fmt;

/// The sampler that decides which spans are recorded.
#[derive(Clone, PartialEq)]
pub(crate) enum SamplerChoice {
    /// A sampler given in code, with its description.
    InCode(String),
    /// Follows the parent if `is_parent_based` and there is one; else decides by `root`.
    Named { is_parent_based: bool, root: RootSampler },
}

/// What decides on spans without a parent.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RootSampler {
    AlwaysOn,
    AlwaysOff,
    /// This share of all traces, from 0 to 1.
    TraceIdRatio(f64),
}

impl SamplerChoice {
    /// The names of samplers. The share of `traceidratio` is in a variable of its own.
    pub(super) const NAMES: [(&str, (bool, RootSampler)); 6] = [
        ("always_on", (false, RootSampler::AlwaysOn)),
        ("always_off", (false, RootSampler::AlwaysOff)),
        ("traceidratio", (false, RootSampler::TraceIdRatio(1.0))),
        ("parentbased_always_on", (true, RootSampler::AlwaysOn)),
        ("parentbased_always_off", (true, RootSampler::AlwaysOff)),
        ("parentbased_traceidratio", (true, RootSampler::TraceIdRatio(1.0))),
    ];

    /// Returns this choice with this share, if it has one.
    pub(super) fn with_ratio(self, ratio: f64) -> Self {
        match self {
            Self::Named { is_parent_based, root: RootSampler::TraceIdRatio(_) } => {
                Self::Named { is_parent_based, root: RootSampler::TraceIdRatio(ratio) }
            }
            other => other,
        }
    }
}

impl Default for SamplerChoice {
    fn default() -> Self {
        Self::Named { is_parent_based: true, root: RootSampler::AlwaysOn }
    }
}

/// Writes the sampler as in the environment.
impl fmt::Debug for SamplerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_parent_based, root) = match self {
            Self::InCode(description) => return f.write_str(description),
            Self::Named { is_parent_based, root } => (*is_parent_based, root),
        };
        f.write_str(if is_parent_based { "parentbased_" } else { "" })?;
        match root {
            RootSampler::AlwaysOn => f.write_str("always_on"),
            RootSampler::AlwaysOff => f.write_str("always_off"),
            RootSampler::TraceIdRatio(ratio) => write!(f, "traceidratio {ratio:?}"),
        }
    }
}
