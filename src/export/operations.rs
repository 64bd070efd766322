//! Exports that are concluded, by how they ended: for the client's own metrics.

use std::{collections::BTreeMap, time::Duration};

use super::transport::{Failure, Outcome};
use crate::sync::locks::Mutex;

/// Exports that ended the same way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    /// What was wrong with the last attempt; none after success.
    pub(crate) error: Option<String>,
    /// The last answer's status, if there was one.
    pub(crate) status: Option<u16>,
    pub(crate) count: u64,
    pub(crate) total: Duration,
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
}

/// Counts exports, each once, after its last attempt. An export lasts from its first attempt on, pauses included.
#[derive(Default)]
pub(crate) struct Operations(Mutex<Concluded>);

#[derive(Default)]
struct Concluded {
    operations: BTreeMap<(Option<String>, Option<u16>), Operation>,
    /// Spans by the error that cost them.
    lost: BTreeMap<String, u64>,
}

impl Operations {
    /// An export ended so after `took`.
    pub(crate) fn concluded(&self, outcome: &Outcome, took: Duration) {
        let (error, status) = (error_type(outcome), status(outcome));
        let mut concluded = self.0.lock();
        let operation = concluded.operations.entry((error.clone(), status)).or_insert_with(|| Operation {
            error,
            status,
            count: 0,
            total: Duration::ZERO,
            shortest: took,
            longest: took,
        });
        operation.count += 1;
        operation.total += took;
        operation.shortest = operation.shortest.min(took);
        operation.longest = operation.longest.max(took);
    }

    /// So many spans were lost with the last attempt. Those that a shutdown cut off are counted elsewhere.
    pub(crate) fn lose(&self, outcome: &Outcome, spans: u64) {
        if matches!(outcome, Outcome::Failed { failure: Failure::Shutdown, .. }) {
            return;
        }
        let error = error_type(outcome).unwrap_or_else(|| "_OTHER".to_owned());
        *self.0.lock().lost.entry(error).or_default() += spans;
    }

    pub(crate) fn all(&self) -> Vec<Operation> {
        self.0.lock().operations.values().cloned().collect()
    }

    pub(crate) fn lost(&self) -> Vec<(String, u64)> {
        self.0.lock().lost.iter().map(|(error, spans)| (error.clone(), *spans)).collect()
    }
}

/// The value of `error.type`: the status where there is one, else the kind of failure. None for full success.
fn error_type(outcome: &Outcome) -> Option<String> {
    let kind = match outcome {
        Outcome::Accepted { rejected: 0, .. } => return None,
        Outcome::Accepted { .. } => "rejected",
        Outcome::Refused { status, .. } | Outcome::TooLarge { status, .. } => return Some(status.to_string()),
        Outcome::Failed { failure, .. } => match failure {
            Failure::Unavailable(status) => return Some(status.to_string()),
            Failure::Throttled => return Some("429".to_owned()),
            Failure::Refused => "connection_refused",
            Failure::Broken => "connection_broken",
            Failure::Resolve => "name_resolution",
            Failure::Tls => "tls",
            Failure::Unusable => "invalid_response",
            Failure::Timeout => "timeout",
            Failure::Shutdown => "shutdown",
        },
    };
    Some(kind.to_owned())
}

/// The status of the answer, if there was one that could be used.
fn status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Accepted { .. } => Some(200),
        Outcome::Refused { status, .. } | Outcome::TooLarge { status, .. } => Some(*status),
        Outcome::Failed { failure: Failure::Unavailable(status), .. } => Some(*status),
        Outcome::Failed { failure: Failure::Throttled, .. } => Some(429),
        Outcome::Failed { .. } => None,
    }
}
