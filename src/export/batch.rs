//! Gathering: slices from many rings become one batch.

use std::sync::Arc;

use super::ledger::Ledger;
use crate::{
    capture::{Intake, Limit, Ring, Slice},
    sync::Arc as RingArc,
};

/// What one batch may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) spans: usize,
    pub(crate) bytes: usize,
}

/// Records on their way, still in the memory they were recorded into.
pub(crate) struct Batch {
    pub(crate) id: u64,
    pub(crate) slices: Vec<Slice>,
    pub(crate) spans: u64,
}

/// Goes round the rings. One worker at a time gathers, so that batches are as large as they can be.
pub(crate) struct Gatherer {
    intake: Arc<Intake>,
    rings: Vec<RingArc<Ring>>,
    version: usize,
    /// The ring the next batch begins with, so that a busy thread does not shut the others out.
    turn: usize,
}

impl Gatherer {
    pub(crate) fn new(intake: Arc<Intake>) -> Self {
        // No list has this version: the first look fetches one.
        Self { intake, rings: Vec::new(), version: usize::MAX, turn: 0 }
    }

    /// Records waiting in all rings.
    pub(crate) fn waiting(&mut self) -> u64 {
        self.intake.registry.refresh(&mut self.version, &mut self.rings);
        self.rings.iter().map(|ring| ring.waiting()).sum()
    }

    /// A batch of what waits, if anything does.
    pub(crate) fn gather(&mut self, limits: BatchLimits, ledger: &Ledger) -> Option<Batch> {
        self.intake.registry.refresh(&mut self.version, &mut self.rings);
        let mut slices = Vec::new();
        let mut spans = 0;
        let id = ledger.begin(|| {
            let records = u32::try_from(limits.spans).unwrap_or(u32::MAX);
            let mut limit = Limit { records, bytes: limits.bytes };
            self.turn += 1;
            for at in 0..self.rings.len() {
                if limit.records == 0 || limit.bytes == 0 {
                    break;
                }
                self.rings[(self.turn + at) % self.rings.len()].detach(&mut limit, &mut slices);
            }
            spans = u64::from(records - limit.records);
            spans
        })?;
        self.intake.arrivals.take(spans);
        Some(Batch { id, slices, spans })
    }
}
