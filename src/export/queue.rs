//! Gathering: slices from many rings become one batch.

use std::{sync::Arc, time::Instant};

use super::{
    ledger::Ledger,
    pace::{Overdue, Pace},
};
use crate::{
    capture::{Limit, Recorder, Ring, Slice},
    config::Settings,
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

/// Which rings a worker looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// All of them, as every other worker does.
    Whole,
    /// Those that stay with it.
    Part { worker: usize, of: usize },
}

impl Lane {
    fn includes(self, ring: &Ring) -> bool {
        match self {
            Self::Whole => true,
            Self::Part { worker, of } => ring.number() % of.max(1) == worker % of.max(1),
        }
    }

    /// Those of `rings` that it includes.
    fn rings(self, rings: &[RingArc<Ring>]) -> impl Iterator<Item = &RingArc<Ring>> {
        rings.iter().filter(move |ring| self.includes(ring))
    }
}

/// How much of what waits may leave.
pub(crate) enum Extent {
    Everything,
    /// What lies before it, by the number of records that each ring has seen.
    Before(Position),
}

/// A place in every ring: the records that were pushed before it.
#[derive(Clone)]
pub(crate) struct Position(Vec<(RingArc<Ring>, u64)>);

impl Position {
    fn of<'r>(rings: impl Iterator<Item = &'r RingArc<Ring>>) -> Self {
        Self(rings.map(|ring| (RingArc::clone(ring), ring.pushed())).collect())
    }

    fn has_left(&self) -> bool {
        self.0.iter().all(|(ring, pushed)| ring.taken() >= *pushed)
    }
}

/// What a look at the rings of a lane shows.
pub(crate) struct Look {
    /// Records that wait in them.
    pub(crate) waiting: u64,
    /// When to look again at their age, if any wait.
    pub(crate) next: Option<Instant>,
    /// What has waited for too long.
    pub(crate) overdue: Option<Extent>,
}

/// Goes round the rings. One worker at a time gathers, so that batches are as large as they can be.
pub(crate) struct Gatherer {
    recorder: Arc<Recorder>,
    rings: Vec<RingArc<Ring>>,
    version: usize,
    /// The ring the next batch begins with, so that a busy thread does not shut the others out.
    turn: usize,
    /// The age of what waits: one for all workers, or one for each.
    paces: Vec<Pace<Position>>,
    /// Whether no thread may fill a batch while others wait.
    balances: bool,
}

impl Gatherer {
    pub(crate) fn new(recorder: Arc<Recorder>, settings: &Settings) -> Self {
        let config = &settings.batch;
        let balances = config.load_balancing;
        let pace = |_| Pace::new(config.strategy, config.batch_timeout);
        let paces = (0..if balances { 1 } else { settings.worker_count }).map(pace).collect();
        // No list has this version: the first look fetches one.
        Self { recorder, rings: Vec::new(), version: usize::MAX, turn: 0, paces, balances }
    }

    /// Records waiting in the rings of `lane`.
    pub(crate) fn waiting(&mut self, lane: Lane) -> u64 {
        self.recorder.registry.refresh(&mut self.version, &mut self.rings);
        lane.rings(&self.rings).map(|ring| ring.waiting()).sum()
    }

    /// Looks at what waits, and at its age.
    pub(crate) fn look(&mut self, lane: Lane, now: Instant) -> Look {
        let waiting = self.waiting(lane);
        let at = self.pace(lane);
        let pace = &mut self.paces[at];
        pace.look(now, waiting > 0, || Position::of(lane.rings(&self.rings)), Position::has_left);
        let overdue = match pace.overdue(now) {
            Overdue::Nothing => None,
            Overdue::Everything => Some(Extent::Everything),
            Overdue::Before(position) => Some(Extent::Before(position)),
        };
        Look { waiting, next: pace.next(), overdue }
    }

    /// What was seen to wait is gone; what has come since is new.
    pub(crate) fn begin_anew(&mut self, lane: Lane) {
        let at = self.pace(lane);
        self.paces[at].begin_anew();
    }

    /// Which of the paces is that of `lane`.
    fn pace(&self, lane: Lane) -> usize {
        match lane {
            Lane::Part { worker, .. } => worker % self.paces.len(),
            Lane::Whole => 0,
        }
    }

    /// A batch of what waits within `extent`, if anything does.
    pub(crate) fn gather(
        &mut self,
        lane: Lane,
        extent: &Extent,
        limits: BatchLimits,
        ledger: &Ledger,
    ) -> Option<Batch> {
        self.recorder.registry.refresh(&mut self.version, &mut self.rings);
        let mut slices = Vec::new();
        let mut spans = 0;
        let id = ledger.begin(|| {
            let records = u32::try_from(limits.spans).unwrap_or(u32::MAX);
            let mut limit = Limit { records, bytes: limits.bytes };
            self.turn += 1;
            let positions: Vec<_> = match extent {
                Extent::Everything => lane.rings(&self.rings).map(|ring| (ring, u64::MAX)).collect(),
                Extent::Before(position) => position.0.iter().map(|(ring, pushed)| (ring, *pushed)).collect(),
            };
            let busy = positions.iter().filter(|(ring, _)| ring.waiting() > 0).count();
            // An equal share for each first, so that a flood of one thread does not fill the batch; then what is left.
            let shares: &[usize] = if self.balances && busy > 1 { &[busy, 1] } else { &[1] };
            for &share in shares {
                let share = Limit { records: limit.records.div_ceil(share as u32), bytes: limit.bytes.div_ceil(share) };
                for at in 0..positions.len() {
                    if limit.records == 0 || limit.bytes == 0 {
                        break;
                    }
                    let (ring, position) = positions[(self.turn + at) % positions.len()];
                    let due = u32::try_from(position.saturating_sub(ring.taken())).unwrap_or(u32::MAX);
                    let granted = Limit {
                        records: limit.records.min(share.records).min(due),
                        bytes: limit.bytes.min(share.bytes),
                    };
                    let mut left = granted;
                    ring.detach(&mut left, &mut slices);
                    limit.records -= granted.records - left.records;
                    limit.bytes -= granted.bytes - left.bytes;
                }
            }
            spans = u64::from(records - limit.records);
            spans
        })?;
        self.recorder.arrivals.take(spans);
        Some(Batch { id, slices, spans })
    }
}
