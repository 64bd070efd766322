//! Exports that are concluded, by how they ended: for the client's own metrics.

use std::{collections::BTreeMap, time::Duration};

use super::outcome::{Code, Failure, Outcome};
use crate::{config::Protocol, sync::locks::Mutex};

/// Exports that ended the same way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    /// What was wrong with the last attempt; none after success.
    pub(crate) error: Option<String>,
    /// The last answer's code, if there was one.
    pub(crate) code: Option<Code>,
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
    operations: BTreeMap<(Option<String>, Option<Code>), Operation>,
    /// Spans by the error that cost them.
    lost: BTreeMap<String, u64>,
}

impl Operations {
    /// An export ended so after `took`.
    pub(crate) fn concluded(&self, outcome: &Outcome, protocol: Protocol, took: Duration) {
        let (error, code) = (outcome.error_type(), outcome.code(protocol));
        let mut concluded = self.0.lock();
        let operation = concluded.operations.entry((error.clone(), code)).or_insert_with(|| Operation {
            error,
            code,
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
        let error = outcome.error_type().unwrap_or_else(|| "_OTHER".to_owned());
        *self.0.lock().lost.entry(error).or_default() += spans;
    }

    pub(crate) fn all(&self) -> Vec<Operation> {
        self.0.lock().operations.values().cloned().collect()
    }

    pub(crate) fn lost(&self) -> Vec<(String, u64)> {
        self.0.lock().lost.iter().map(|(error, spans)| (error.clone(), *spans)).collect()
    }
}
