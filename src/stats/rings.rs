//! What is counted in rings: spans as they start, and as they end.

listed! {
    /// Where the parent of a new span is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum ParentOrigin {
        None,
        Local,
        Remote,
    }
}

/// What becomes of a new span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is recorded and exported.
    Exported,
    /// It is recorded for whoever is told of it, and never exported.
    Withheld(Withheld),
    /// It is not recorded.
    Dropped,
}

listed! {
    /// Why a span that is recorded is not exported.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Withheld {
        /// It is sampled, and the client itself exports nothing: only processors are told.
        Sampled,
        /// It is [only recorded](crate::sampling::SamplingDecision::RecordOnly).
        Unsampled,
    }
}

/// Spans started, by where their parents are and by what becomes of them (OBS-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Started(pub(crate) [u64; Started::KINDS]);

impl Started {
    /// Three origins of each fate: to be exported, withheld for one of the reasons, not recorded.
    pub(crate) const KINDS: usize = ParentOrigin::COUNT * (2 + Withheld::COUNT);

    /// The place of such spans in the list.
    #[inline]
    pub(crate) const fn index(origin: ParentOrigin, fate: Fate) -> usize {
        origin as usize
            + match fate {
                Fate::Exported => 0,
                Fate::Withheld(Withheld::Sampled) => 3,
                Fate::Withheld(Withheld::Unsampled) => 6,
                Fate::Dropped => 9,
            }
    }

    /// The values of `otel.span.parent.origin` and `otel.span.sampling_result`, with the spans of that kind.
    pub(crate) fn by_kind(&self) -> [(&'static str, &'static str, u64); 9] {
        let origins = ["none", "local", "remote"];
        let of = |at: usize| self.0[at];
        std::array::from_fn(|at| match at {
            // Sampled is sampled, whoever exports it.
            0..3 => (origins[at], RECORD_AND_SAMPLE, of(at) + of(at + 3)),
            3..6 => (origins[at - 3], RECORD_ONLY, of(at + 3)),
            _ => (origins[at - 6], "DROP", of(at + 3)),
        })
    }

    /// Spans that are not recorded: those that have a parent, and those that begin a trace.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        (self.0[10] + self.0[11], self.0[9])
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn exported(&self) -> u64 {
        self.0[..3].iter().sum()
    }

    pub(super) fn withheld(&self) -> [u64; Withheld::COUNT] {
        [&self.0[3..6], &self.0[6..9]].map(|spans| spans.iter().sum())
    }

    pub(super) fn sampled_out(&self) -> u64 {
        self.0[3..].iter().sum()
    }
}

/// Two values of `otel.span.sampling_result`.
const RECORD_AND_SAMPLE: &str = "RECORD_AND_SAMPLE";
const RECORD_ONLY: &str = "RECORD_ONLY";

/// What all producers of a client counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Records pushed into rings.
    pub(crate) pushed: u64,
    /// Records that found no room.
    pub(crate) refused: u64,
    /// Spans ended that are not exported, by why.
    pub(crate) withheld: [u64; Withheld::COUNT],
    /// Spans started.
    pub(crate) started: Started,
}

/// Spans that are being recorded, by what their samplers decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Live {
    pub(super) sampled: u64,
    pub(super) unsampled: u64,
}

impl Live {
    /// The values of `otel.span.sampling_result`, with the spans that have them.
    pub(crate) fn by_result(&self) -> [(&'static str, u64); 2] {
        [(RECORD_AND_SAMPLE, self.sampled), (RECORD_ONLY, self.unsampled)]
    }

    pub(super) fn total(&self) -> u64 {
        self.sampled + self.unsampled
    }
}
