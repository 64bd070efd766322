//! What a sink answers.

use crate::export::outcome::Outcome;

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// It is a refusal that may be one node's: the same request is worth making once over another connection.
    pub(crate) elsewhere: bool,
    /// The whole request was sent, and nothing says whether it arrived: made again, it may arrive twice.
    pub(crate) may_have_arrived: bool,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, elsewhere: false, may_have_arrived: false }
    }
}
